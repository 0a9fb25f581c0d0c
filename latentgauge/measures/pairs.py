"""log sum_j k(z_i, j) over all pairs, in blocks of float64 that fit the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

ROWS, COLUMNS = 512, 2048
# exp of arguments that underflow is 30 to 80 times slower; e^-700 is nothing beside 1.
FLOOR = -700.0
TRUSTED = FLOOR + 40.0

Tick = Callable[[float], None]
# Row numbers [r] and a range of columns -> pairs to leave out [r, c], or None.
Excluded = Callable[[Tensor, slice], Tensor | None]


def silent(_: float) -> None:
    """Progress that nobody listens to."""


def part(tick: Tick, done: int, total: int) -> Tick:
    """Progress of the next of `total` equal parts."""
    return lambda fraction: tick((done + fraction) / total)


def nothing(_rows: Tensor, _columns: slice) -> None:
    """No pair is left out."""


@dataclass(frozen=True)
class LogKernel:
    """log k(z_i, j) = left_i . right_j - 1/2 sum_b ((z_ib - m_bj) w_bj)^2.

    left [M, k], right [k, N]; z [M, b], m and w [b, N] hold the dimensions whose expanded
    square would round badly.
    """

    left: Tensor
    right: Tensor
    z: Tensor
    m: Tensor
    w: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    def rows(self, chosen: Tensor) -> LogKernel:
        return LogKernel(self.left[chosen], self.right, self.z[chosen], self.m, self.w)

    def columns(self, order: Tensor) -> LogKernel:
        return LogKernel(
            self.left, self.right[:, order], self.z, self.m[:, order], self.w[:, order]
        )

    def less(self, reference: Tensor) -> LogKernel:
        """The kernel divided by exp(reference_i): one more column of the same product."""
        left = torch.cat([self.left, -reference[:, None]], dim=1)
        right = torch.cat([self.right, torch.ones_like(self.right[:1])])
        return LogKernel(left, right.contiguous(), self.z, self.m, self.w)

    def block(self, rows: slice, columns: slice) -> Tensor:
        """log k of these rows and columns."""
        log_k = self.left[rows] @ self.right[:, columns]
        for b in range(self.z.shape[1]):
            t = (self.z[rows, b, None] - self.m[None, b, columns]).mul_(self.w[None, b, columns])
            log_k.addcmul_(t, t, value=-0.5)
        return log_k


@dataclass(frozen=True)
class Groups:
    """Class of each row [M] and of each column [N], 0..count-1; one class means no classes."""

    rows: Tensor
    columns: Tensor
    count: int

    @classmethod
    def single(cls, m: int, n: int) -> Groups:
        return cls(torch.zeros(m, dtype=torch.int64), torch.zeros(n, dtype=torch.int64), 1)

    def cuts(self) -> list[int]:
        """Where each class ends in the sorted columns."""
        ends: list[int] = torch.bincount(self.columns, minlength=self.count).cumsum(0).tolist()
        return ends


@dataclass(frozen=True)
class _Pass:
    """What the blocked loop needs: kernel, class cuts, row numbers, pairs left out, progress."""

    kernel: LogKernel
    groups: Groups
    numbers: Tensor
    excluded: Excluded
    tick: Tick

    def rows(self, chosen: Tensor) -> _Pass:
        numbers = self.numbers[chosen]
        return _Pass(self.kernel.rows(chosen), self.groups, numbers, self.excluded, self.tick)

    def sums(self, reference: Tensor) -> Tensor:
        """[M, 2]: sums of k / exp(reference), over all columns and the row's own class."""
        kernel, own = self.kernel.less(reference), self.groups.rows.to(reference.device)
        cuts = self.groups.cuts()
        out = reference.new_zeros(len(reference), 2)
        for rows, columns in blocks(*kernel.shape, self.tick):
            k = kernel.block(rows, columns).clamp_(FLOOR, -FLOOR).exp_()
            mask = self.excluded(self.numbers[rows], columns)
            if mask is not None:
                k.masked_fill_(mask, 0.0)
            out[rows] += _by_class(k, own[self.numbers[rows]], columns, cuts)
        return out

    def peaks(self, reference: Tensor) -> Tensor:
        """[M]: largest log k of each row; -inf where every pair is left out."""
        kernel = self.kernel.less(reference)
        out = torch.full_like(reference, -math.inf)
        for rows, columns in blocks(*kernel.shape, self.tick):
            log_k = kernel.block(rows, columns)
            mask = self.excluded(self.numbers[rows], columns)
            if mask is not None:
                log_k.masked_fill_(mask, -math.inf)
            out[rows] = torch.maximum(out[rows], log_k.amax(dim=1))
        return out + reference


def log_sums(
    kernel: LogKernel,
    reference: Tensor,
    groups: Groups,
    *,
    excluded: Excluded = nothing,
    tick: Tick = silent,
) -> Tensor:
    """[M, 2]: log sum over all columns, and over the columns of the row's own class.

    `reference` [M] is any guess of the answer, folded into the product in place of a running
    maximum; rows for which it was no good guess are done again with their maximum. The second
    column is exact down to e^-660 of the first. Columns must be sorted by class.
    """
    numbers = torch.arange(len(reference), device=reference.device)
    whole = _Pass(kernel, groups, numbers, excluded, tick)
    sums = whole.sums(reference)
    out = sums.log() + reference[:, None]
    total = sums[:, 0].log()
    again = (~(total.abs() < -TRUSTED)).nonzero().flatten()
    if len(again):
        out[again] = _again(whole.rows(again), reference[again])
    return out


def _again(part: _Pass, reference: Tensor) -> Tensor:
    peak = part.peaks(reference)
    alone = ~peak.isfinite()
    peak = torch.where(alone, reference, peak)
    sums = part.sums(peak)
    sums[alone] = 0.0
    return sums.log() + peak[:, None]


def blocks(m: int, n: int, tick: Tick) -> Iterator[tuple[slice, slice]]:
    """Row and column ranges of every block, row by row."""
    done, total = 0, math.ceil(m / ROWS) * math.ceil(n / COLUMNS)
    for i in range(0, m, ROWS):
        for j in range(0, n, COLUMNS):
            yield slice(i, min(i + ROWS, m)), slice(j, min(j + COLUMNS, n))
            done += 1
            tick(done / total)


def _by_class(k: Tensor, own: Tensor, columns: slice, cuts: list[int]) -> Tensor:
    if len(cuts) == 1:
        return k.sum(dim=1, keepdim=True).expand(-1, 2)
    total, same = k.new_zeros(len(k)), k.new_zeros(len(k))
    for c, (low, high) in enumerate(pairwise([0, *cuts])):
        first, last = max(low, columns.start), min(high, columns.stop)
        if first < last:
            part = k[:, first - columns.start : last - columns.start].sum(dim=1)
            total += part
            same += torch.where(own == c, part, 0.0)
    return torch.stack([total, same], dim=1)
