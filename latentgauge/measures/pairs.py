"""log sum_j k(z_i, j) over all pairs, in blocks of float64 that fit the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from latentgauge.measures.lanes import ONE, Lanes

# A block of a core's own cache; on a device, enough to fill it.
ROWS, COLUMNS = 256, 512
DEVICE_ROWS, DEVICE_COLUMNS = 4096, 8192
# Columns prepared at a time.
STRIPE = 2**14
# exp of arguments that underflow is 30 to 200 times slower; e^-700 is nothing beside 1.
FLOOR = -700.0
TRUSTED = FLOOR + 40.0

Tick = Callable[[float], None]


def silent(_: float) -> None:
    """Progress that nobody listens to."""


def part(tick: Tick, done: int, total: int) -> Tick:
    """Progress of the next of `total` equal parts."""
    return lambda fraction: tick((done + fraction) / total)


class Stripe(Protocol):
    """k(z_i, j) of some columns j, a block of rows i at a time."""

    def sums(self, rows: Tensor, reference: Tensor) -> Tensor:
        """[r, 2]: sums of k / exp(reference_i), over the columns and those of i's own class."""
        ...

    def peaks(self, rows: Tensor, reference: Tensor) -> Tensor:
        """[r]: the largest log k less reference; -inf where no column counts."""
        ...


# All columns, a stripe at a time, made anew whenever they are asked for.
Stripes = Callable[[], Iterator[Stripe]]


def log_sums(
    stripes: Stripes, reference: Tensor, *, lanes: Lanes = ONE, tick: Tick = silent
) -> Tensor:
    """[M, 2]: log sum over all columns, and over the columns of the row's own class.

    `reference` [M] is any guess of the answer, which saves a pass for the maximum; rows for
    which it was no good guess are done again with their maximum. The second column is exact
    down to e^-660 of the first.
    """
    everything = torch.arange(len(reference), device=reference.device)
    sums = _sums(stripes, everything, reference, lanes, tick)
    again = (~(sums[:, 0].log().abs() < -TRUSTED)).nonzero().flatten()
    reference = reference.clone()
    if len(again):
        peak = reference[again] + _peaks(stripes, again, reference[again], lanes)
        alone = ~peak.isfinite()
        reference[again] = torch.where(alone, reference[again], peak)
        redone = _sums(stripes, again, reference[again], lanes, silent)
        sums[again] = torch.where(alone[:, None], 0.0, redone)
    return sums.log() + reference[:, None]


def _sums(stripes: Stripes, rows: Tensor, reference: Tensor, lanes: Lanes, tick: Tick) -> Tensor:
    out = reference.new_zeros(len(rows), 2)
    for stripe in stripes():
        out += _by_rows(stripe.sums, rows, reference, lanes, tick)
    return out


def _peaks(stripes: Stripes, rows: Tensor, reference: Tensor, lanes: Lanes) -> Tensor:
    out = torch.full_like(reference, -math.inf)
    for stripe in stripes():
        out = torch.maximum(out, _by_rows(stripe.peaks, rows, reference, lanes, silent))
    return out


def _by_rows(
    work: Callable[[Tensor, Tensor], Tensor],
    rows: Tensor,
    reference: Tensor,
    lanes: Lanes,
    tick: Tick,
) -> Tensor:
    size = block_size(rows.device)[0]
    parts = list(zip(torch.split(rows, size), torch.split(reference, size), strict=True))
    done = []
    for result in lanes.each(lambda some: work(*some), parts):
        done.append(result)
        tick(len(done) / len(parts))
    return torch.cat(done)


def block_size(device: torch.device) -> tuple[int, int]:
    """Rows and columns of a block: what a core's own cache holds, or what fills a device."""
    return (ROWS, COLUMNS) if device.type == "cpu" else (DEVICE_ROWS, DEVICE_COLUMNS)


@dataclass(frozen=True)
class Apart:
    """Units of rows [M] and columns [N]: pairs within one unit are left out.

    With `mates` only those count, but none of a row with itself: `row_ids` [M] and `column_ids`
    [N] say who is who.
    """

    rows: Tensor
    columns: Tensor
    row_ids: Tensor
    column_ids: Tensor
    mates: bool = False

    def some(self, columns: slice) -> Apart:
        of = self.columns[columns], self.row_ids, self.column_ids[columns]
        return Apart(self.rows, *of, self.mates)

    def to(self, device: torch.device) -> Apart:
        rows, columns = self.rows.to(device), self.columns.to(device)
        of = self.row_ids.to(device), self.column_ids.to(device)
        return Apart(rows, columns, *of, self.mates)

    def spans(self, width: int) -> list[tuple[int, int]]:
        """Least and largest unit of each block of columns."""
        parts = torch.split(self.columns, width)
        return [(int(part.amin()), int(part.amax())) for part in parts]

    def span(self, rows: Tensor) -> tuple[int, int]:
        """Least and largest unit of a block of rows that may leave pairs out."""
        mine = self.rows[rows]
        return (0, 2**62) if self.mates else (int(mine.amin()), int(mine.amax()))

    def left_out(self, rows: Tensor, columns: slice) -> Tensor:
        """[r, c] bool."""
        apart = self.rows[rows, None] == self.columns[None, columns]
        if not self.mates:
            return apart
        return ~apart | (self.row_ids[rows, None] == self.column_ids[None, columns])


@dataclass(frozen=True)
class Groups:
    """Class of each row [M] and of each column [N], 0..count-1; columns sorted by class."""

    rows: Tensor
    columns: Tensor
    count: int

    @classmethod
    def single(cls, m: int, n: int) -> Groups:
        return cls(torch.zeros(m, dtype=torch.int64), torch.zeros(n, dtype=torch.int64), 1)

    def some(self, columns: slice) -> Groups:
        return Groups(self.rows, self.columns[columns], self.count)

    def cuts(self) -> list[int]:
        """Where each class ends in the columns."""
        ends: list[int] = torch.bincount(self.columns, minlength=self.count).cumsum(0).tolist()
        return ends


@dataclass(frozen=True)
class Columns:
    """A block of columns: right [k, c], and of the dimensions apart m and w [b, c].

    `low` and `high` are the least and the largest unit in it.
    """

    right: Tensor
    m: Tensor
    w: Tensor
    low: int
    high: int


@dataclass(frozen=True)
class Products:
    """log k(z_i, j) = left_i . right_j - 1/2 sum_b ((z_ib - m_bj) w_bj)^2, a stripe.

    left [M, k]; z [M, b] holds the dimensions whose expanded square would round badly; own [M]
    is the class of each row, `cuts` where each class ends in the columns. The last
    entry of left_i is the place of the reference, so that of right_j is 1. Products in float32
    take it in float64, after the product.
    """

    left: Tensor
    z: Tensor
    blocks: Sequence[Columns]
    own: Tensor
    cuts: Sequence[int]
    apart: Apart | None = None

    @classmethod
    def of(
        cls,
        left: Tensor,
        z: Tensor,
        columns: tuple[Tensor, Tensor, Tensor],
        *,
        groups: Groups,
        apart: Apart | None = None,
        device: torch.device,
    ) -> Products:
        """On a device; `columns` are right [k, c], m and w [b, c]."""
        width = block_size(device)[1]
        parts = (torch.split(x, width, dim=1) for x in columns)
        spans = apart.spans(width) if apart else [(0, -1)] * math.ceil(columns[0].shape[1] / width)
        blocks = [
            Columns(*(x.to(device).contiguous() for x in part), *span)
            for *part, span in zip(*parts, spans, strict=True)
        ]
        apart = None if apart is None else apart.to(device)
        own = groups.rows.to(device)
        return cls(left.to(device), z.to(device), blocks, own, groups.cuts(), apart)

    def sums(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = reference.new_zeros(len(rows), 2)
        own = self.own[rows]
        for log_k, columns, mask in self._blocks(rows, reference):
            k = log_k.clamp_(FLOOR, -FLOOR).exp_()
            if mask is not None:
                k.masked_fill_(mask, 0.0)
            _add_by_class(out, k, own, columns, self.cuts)
        return out

    def peaks(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = torch.full_like(reference, -math.inf)
        for log_k, _, mask in self._blocks(rows, reference):
            if mask is not None:
                log_k.masked_fill_(mask, -math.inf)
            out = torch.maximum(out, log_k.amax(dim=1))
        return out

    def _blocks(
        self, rows: Tensor, reference: Tensor
    ) -> Iterator[tuple[Tensor, slice, Tensor | None]]:
        """log k less the reference [r, c], its columns, the pairs left out; one buffer for all."""
        left, z = self.left[rows], self.z[rows]
        exact = left.dtype == torch.float64
        left[:, -1] = -reference if exact else 0.0
        buffer = left.new_empty(len(rows) * self.blocks[0].right.shape[1])
        low, high = (0, -1) if self.apart is None else self.apart.span(rows)
        done = 0
        for block in self.blocks:
            columns = slice(done, done + block.right.shape[1])
            log_k = buffer[: len(rows) * block.right.shape[1]].view(len(rows), -1)
            torch.mm(left, block.right, out=log_k)
            if not exact:
                log_k = log_k.double() - reference[:, None]
            for b in range(z.shape[1]):
                t = (z[:, b, None] - block.m[None, b]).mul_(block.w[None, b])
                log_k.sub_(t.square_(), alpha=0.5)
            mask = None
            if self.apart is not None and block.low <= high and block.high >= low:
                mask = self.apart.left_out(rows, columns)
            yield log_k, columns, mask
            done = columns.stop


def _add_by_class(out: Tensor, k: Tensor, own: Tensor, columns: slice, cuts: Sequence[int]) -> None:
    if len(cuts) == 1:
        out += k.sum(dim=1, keepdim=True)
        return
    for c, (low, high) in enumerate(pairwise([0, *cuts])):
        first, last = max(low, columns.start), min(high, columns.stop)
        if first < last:
            part = k[:, first - columns.start : last - columns.start].sum(dim=1)
            out[:, 0] += part
            out[:, 1] += torch.where(own == c, part, 0.0)
