"""Units: rows that are copies of each other or belong together. Folds and errors go by unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

FOLDS = 5
# Residual spread is no estimate of noise where the regression has nearly as many coefficients.
ROWS_PER_CONTROL = 10


@dataclass(frozen=True)
class Mean:
    """A mean over rows with its standard error over units; None with a single unit."""

    value: float
    standard_error: float | None


def numbered(units: Tensor | None, n: int) -> Tensor:
    """Unit of each row as 0..U-1, int64 [n]; every row its own without `units`."""
    if units is None:
        return torch.arange(n)
    number: Tensor = torch.unique(units.cpu(), return_inverse=True)[1]
    return number


def fold_of_rows(units: Tensor, generator: Generator, *, folds: int = FOLDS) -> Tensor:
    """Fold of each row, int64 [N]: whole units, dealt out at random."""
    count = int(units.max()) + 1
    place = torch.randperm(count, generator=generator)
    return (place % min(folds, count))[units]


def mean_over_units(values: Tensor, units: Tensor) -> Mean:
    """Mean of [M] values; its error lets the values of one unit depend on each other.

    s^2 = U / (U - 1) sum_u (sum_{i in u} (f_i - mean))^2 / M^2.
    """
    mean = values.mean()
    _, inverse = torch.unique(units, return_inverse=True)
    sums = torch.bincount(inverse, weights=values - mean)
    u, m = len(sums), len(values)
    if u < 2:
        return Mean(float(mean), None)
    return Mean(float(mean), float((sums.square().sum() * u / (u - 1)).sqrt()) / m)


def adjusted_mean(values: Tensor, units: Tensor, controls: Tensor) -> Mean:
    """Mean of [M] values less their regression on controls [M, C] of known mean 0.

    The coefficients are always regressed: the fixed 0 or 1 is badly wrong somewhere.
    """
    return mean_over_units(residuals(values, controls), units)


def residuals(values: Tensor, controls: Tensor) -> Tensor:
    """values - controls b, b by least squares with an intercept; [M]."""
    spread = controls.std(dim=0) if len(controls) > 1 else controls.new_zeros(controls.shape[1])
    x = controls[:, spread > 1e-12] / spread[spread > 1e-12]
    if x.shape[1] == 0 or len(x) < ROWS_PER_CONTROL * (x.shape[1] + 1):
        return values
    b: Tensor = torch.linalg.lstsq(
        x - x.mean(dim=0), (values - values.mean())[:, None], rcond=1e-10, driver="gelsd"
    ).solution
    return values - (x @ b).squeeze(1)


def entropy_of_counts(counts: Tensor) -> float:
    """Entropy in nats of the frequencies of [K] counts."""
    p = counts[counts > 0].double() / counts.sum()
    return max(0.0, float(-(p * p.log()).sum()))


def normal_quantile(confidence: float) -> float:
    """z with P(|N(0, 1)| <= z) = confidence."""
    return math.sqrt(2.0) * float(torch.erfinv(torch.tensor(confidence, dtype=torch.float64)))
