"""Head less base of a quantity that two bounds enclose, from rows that both codes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentgauge.measures.intervals import Interval
from latentgauge.measures.marginals import INFLATION
from latentgauge.measures.units import Mean


@dataclass(frozen=True)
class Bounds:
    """Rows [M] of a lower and an upper bound on one code's figure.

    `means` are those of the two where they are known better than from the rows.
    """

    lower: Tensor
    upper: Tensor
    means: tuple[float, float] | None = None

    def mean(self, upper: bool) -> float | None:
        return None if self.means is None else self.means[upper]


@dataclass(frozen=True)
class Difference:
    """Head less base, in nats: the interval, its width as `gap` + `sampling`, and two estimates.

    `gap` is what the bounds leave open, which no pairing closes; `sampling` is None with the
    interval's ends where a single unit shows no error. `lower` and `upper` are the differences
    of the two lower and of the two upper bounds. They are estimates and bound nothing.
    """

    interval: Interval
    gap: float
    sampling: float | None
    lower: Mean
    upper: Mean


def difference(
    base: Bounds, head: Bounds, over: Callable[[Tensor], Mean], *, same: bool, t: float
) -> Difference:
    """[low_h - up_b - t s, up_h - low_b + t s'], s by `over` of the rows' own differences.

    s is inflated as that of the bounds is. Codes of the `same` numbers do not differ, whatever
    their bounds leave open. Ends in the wrong order hold between them nothing that either
    vouches for: then the interval holds both, each with the larger error.
    """

    def mean(of_head: bool, of_base: bool) -> Mean:
        rows = (head.upper if of_head else head.lower) - (base.upper if of_base else base.lower)
        h, b, found = head.mean(of_head), base.mean(of_base), over(rows)
        value = found.value if h is None or b is None else h - b
        error = found.standard_error
        return Mean(value, None if error is None else INFLATION * error)

    lower, upper = mean(False, False), mean(True, True)
    if same:
        return Difference(Interval(0.0, 0.0), 0.0, 0.0, lower, upper)
    low, high = mean(False, True), mean(True, False)
    gap = abs(high.value - low.value)
    if low.standard_error is None or high.standard_error is None:
        return Difference(Interval(None, None), gap, None, lower, upper)
    below, above = t * low.standard_error, t * high.standard_error
    ends = low.value, high.value
    if low.value > high.value:
        ends, below = ends[::-1], max(below, above)
        above = below
    return Difference(Interval(ends[0] - below, ends[1] + above), gap, below + above, lower, upper)
