"""log sum_j k(z_i, j) over all pairs, in blocks of float64 that fit the cache."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

    def alone(self) -> bool:
        """Whether every column is a unit of its own, numbered by its place."""
        places = torch.arange(len(self.columns), device=self.columns.device)
        return not self.mates and torch.equal(self.columns - self.columns[:1], places)

    def leave_out(self, k: Tensor, rows: Tensor, columns: Columns, value: float) -> None:
        """Sets the pairs [r, c] of some rows and a block of columns that do not count."""
        mine = self.rows[rows]
        if columns.alone:
            at = mine - columns.low
            hit = ((at >= 0) & (at < k.shape[1])).nonzero().flatten()
            k[hit, at[hit]] = value
            return
        some = slice(columns.start, columns.start + k.shape[1])
        apart = mine[:, None] == self.columns[None, some]
        if self.mates:
            apart = ~apart | (self.row_ids[rows, None] == self.column_ids[None, some])
        k.masked_fill_(apart, value)


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

    `start` is its first column, `low` and `high` are the least and the largest unit in it;
    `alone` says that its units are single columns, numbered in order.
    """

    right: Tensor
    m: Tensor
    w: Tensor
    start: int
    low: int
    high: int
    alone: bool

    @classmethod
    def of(cls, parts: Sequence[Tensor], start: int, units: Tensor | None, alone: bool) -> Columns:
        low, high = (0, -1) if units is None else (int(units.amin()), int(units.amax()))
        right, m, w = (x.contiguous() for x in parts)
        return cls(right, m, w, start, low, high, alone)


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
        width, n = block_size(device)[1], columns[0].shape[1]
        units = None if apart is None else apart.columns
        alone = apart is not None and apart.alone()
        blocks = []
        for start in range(0, n, width):
            some = slice(start, start + width)
            parts = [x[:, some].to(device) for x in columns]
            blocks.append(Columns.of(parts, start, None if units is None else units[some], alone))
        apart = None if apart is None else apart.to(device)
        own = groups.rows.to(device)
        return cls(left.to(device), z.to(device), blocks, own, groups.cuts(), apart)

    def sums(self, rows: Tensor, reference: Tensor) -> Tensor:
        own, total, same = self.own[rows], torch.zeros_like(reference), torch.zeros_like(reference)
        ones = reference.new_ones(self.blocks[0].right.shape[1])
        for log_k, block, meets in self._blocks(rows, reference):
            k = log_k.clamp_(FLOOR, -FLOOR).exp_()
            if meets and self.apart is not None:
                self.apart.leave_out(k, rows, block, 0.0)
            if len(self.cuts) == 1:
                total.addmv_(k, ones[: k.shape[1]])
                continue
            for c, some in _classes_in(block.start, k.shape[1], self.cuts):
                part = k[:, some].sum(dim=1)
                total.add_(part)
                same.add_(torch.where(own == c, part, 0.0))
        return torch.stack([total, same if len(self.cuts) > 1 else total], dim=1)

    def peaks(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = torch.full_like(reference, -math.inf)
        for log_k, block, meets in self._blocks(rows, reference):
            if meets and self.apart is not None:
                self.apart.leave_out(log_k, rows, block, -math.inf)
            out = torch.maximum(out, log_k.amax(dim=1))
        return out

    def _blocks(self, rows: Tensor, reference: Tensor) -> Iterator[tuple[Tensor, Columns, bool]]:
        """log k less the reference [r, c] of each block; whether any pair of it is left out.

        One buffer serves all.
        """
        left, z = self.left[rows], self.z[rows]
        exact = left.dtype == torch.float64
        left[:, -1] = -reference if exact else 0.0
        whole = left.new_empty(len(rows), self.blocks[0].right.shape[1])
        low, high = self._span(rows)
        for block in self.blocks:
            log_k, c = whole, block.right.shape[1]
            if c < whole.shape[1]:
                log_k = whole.flatten()[: len(rows) * c].view(len(rows), c)
            torch.mm(left, block.right, out=log_k)
            if not exact:
                log_k = log_k.double() - reference[:, None]
            for b in range(z.shape[1]):
                t = (z[:, b, None] - block.m[None, b]).mul_(block.w[None, b])
                log_k.sub_(t.square_(), alpha=0.5)
            yield log_k, block, block.low <= high and block.high >= low

    def _span(self, rows: Tensor) -> tuple[int, int]:
        """Least and largest unit of a block of rows that may leave pairs out."""
        if self.apart is None:
            return 0, -1
        mine = self.apart.rows[rows]
        return (0, 2**62) if self.apart.mates else (int(mine.amin()), int(mine.amax()))


def _classes_in(start: int, width: int, cuts: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Each class in a block of columns, and where it lies in the block."""
    for c in range(bisect_right(cuts, start), len(cuts)):
        first = max(cuts[c - 1] if c else 0, start)
        if first >= start + width:
            return
        yield c, slice(first - start, min(cuts[c], start + width) - start)
