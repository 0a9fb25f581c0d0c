"""Units: rows that are copies of each other or belong together. Folds and errors go by unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

FOLDS = 5
# Residual spread is no estimate of noise where the regression has nearly as many coefficients.
ROWS_PER_CONTROL = 10
# Rows that all but are one unit show no error of a population.
FEWEST_UNITS = 2.0
# Steps of Student's quantile.
ANGLES, HALVINGS = 2**13, 60
NEARLY_NORMAL = 1000.0


@dataclass(frozen=True)
class Mean:
    """A mean over rows with its standard error over units; None with too few of them."""

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


def effective_units(units: Tensor) -> float:
    """How many units of one size would average as well: (sum_u n_u)^2 / sum_u n_u^2 (Kish 1965)."""
    n = torch.bincount(units).double()
    return float(n.sum().square() / n.square().sum())


def mean_over_units(values: Tensor, units: Tensor) -> Mean:
    """Mean of [M] values; its error lets the values of one unit depend on each other.

    s^2 = c sum_u (sum_{i in u} (f_i - mean))^2 / M^2, where c makes s^2 unbiased for unit means
    of one variance: with shares w_u it is sum w^2 / sum w^2 (1 - 2 w + sum w^2), and U / (U - 1)
    for U units of one size. The error is None below FEWEST_UNITS effective units.
    """
    mean, m = values.mean(), len(values)
    _, inverse = torch.unique(units, return_inverse=True)
    if effective_units(inverse) < FEWEST_UNITS:
        return Mean(float(mean), None)
    square = torch.bincount(inverse, weights=values - mean).square().sum()
    w = torch.bincount(inverse).double() / m
    total = w.square().sum()
    c = total / (w.square() * (1.0 - 2.0 * w + total)).sum()
    return Mean(float(mean), float((c * square).sqrt()) / m)


def mean_over_rows(values: Tensor, controls: Tensor) -> Mean:
    """Mean of [M] values of which only independent noise is random: the error of one data set.

    Adjusted where that makes the error smaller, which a distant row can prevent. None where a
    single row was drawn: it shows no spread.
    """
    rows = torch.arange(len(values))
    plain, adjusted = (
        mean_over_units(values, rows),
        adjusted_mean(values, rows, controls, rows % FOLDS),
    )
    if plain.standard_error is None or adjusted.standard_error is None:
        return plain
    return min(adjusted, plain, key=lambda mean: mean.standard_error or 0.0)


def adjusted_mean(values: Tensor, units: Tensor, controls: Tensor, folds: Tensor) -> Mean:
    """Mean of [M] values less their regression on controls [M, C] of known mean 0.

    The coefficients are always regressed: the fixed 0 or 1 is badly wrong somewhere.
    """
    return mean_over_units(residuals(values, controls, folds), units)


def population_mean(
    values: Tensor,
    controls: Tensor,
    known: Tensor,
    *,
    rows: Tensor,
    units: Tensor,
    folds: Tensor,
) -> Mean:
    """`adjusted_mean` of values [M] and controls [M, C] of the drawn `rows` [M].

    known [N, R] are figures of all N rows: what they explain of the values has the mean and the
    error of N rows, only the rest those of M. Double sampling for regression, Cochran 1977,
    Sampling Techniques, section 12.6.
    """
    if len(rows) == len(units):
        return adjusted_mean(values, units[rows], controls, folds[rows])
    centred = known - known.mean(dim=0)
    everything = torch.cat([controls, centred[rows]], dim=1)
    b = coefficients(values, everything, folds[rows])
    rest = mean_over_units(values - (everything * b[folds[rows]]).sum(dim=1), units[rows])
    explained = mean_over_units((centred * b[folds, controls.shape[1] :]).sum(dim=1), units)
    if rest.standard_error is None or explained.standard_error is None:
        return Mean(rest.value, None)
    return Mean(rest.value, math.hypot(rest.standard_error, explained.standard_error))


def residuals(values: Tensor, controls: Tensor, folds: Tensor) -> Tensor:
    """values - controls b, b of each fold from the other folds; [M].

    Coefficients that have seen the row would move the mean: a bound would be none.
    """
    b = coefficients(values, controls, folds)
    return values - (controls * b[folds]).sum(dim=1)


def coefficients(values: Tensor, controls: Tensor, folds: Tensor) -> Tensor:
    """[F, C] for each fold of [M]: least squares with an intercept on the other folds' rows."""
    count = max(int(folds.max()) + 1, FOLDS)
    return torch.stack([_least_squares(values, controls, folds != f) for f in range(count)])


def _least_squares(values: Tensor, controls: Tensor, chosen: Tensor) -> Tensor:
    """b [C]; 0 for a control that is constant, and for all where the rows are too few."""
    x, y = controls[chosen], values[chosen]
    b = controls.new_zeros(controls.shape[1])
    if len(b) == 0 or len(x) < ROWS_PER_CONTROL * (len(b) + 1):
        return b
    spread = x.std(dim=0)
    live = spread > 1e-12
    if bool(live.any()):
        x = (x[:, live] - x[:, live].mean(dim=0)) / spread[live]
        y = (y - y.mean())[:, None]
        solved = torch.linalg.lstsq(x, y, rcond=1e-10, driver="gelsd").solution
        b[live] = solved.squeeze(1) / spread[live]
    return b


def entropy_of_counts(counts: Tensor) -> float:
    """Entropy in nats of the frequencies of [K] counts."""
    p = counts[counts > 0].double() / counts.sum()
    return max(0.0, float(-(p * p.log()).sum()))


def student_quantile(confidence: float, freedom: float) -> float:
    """t with P(|T| <= t) = confidence for Student's T; freedom is real and at least 1.

    With t = sqrt(freedom) / tan b, P(|T| > t) is the integral of sin^(freedom - 1) over [0, b]
    divided by that over [0, pi / 2]; by the midpoint rule in the root of the angle. Beyond a
    thousand, Abramowitz & Stegun 26.7.5. Good for five digits.
    """
    if freedom > NEARLY_NORMAL:
        z = math.sqrt(2.0) * float(torch.erfinv(torch.tensor(confidence, dtype=torch.float64)))
        return z + (z**3 + z) / (4.0 * freedom)
    half = 0.5 * freedom
    scale = 2.0 * math.exp(math.lgamma(half + 0.5) - math.lgamma(half)) / math.sqrt(math.pi)
    s = (torch.arange(ANGLES, dtype=torch.float64) + 0.5) / ANGLES
    low, high = 0.0, 0.5 * math.pi
    for _ in range(HALVINGS):
        b = 0.5 * (low + high)
        beyond = scale * 2.0 * b * float((s * (b * s.square()).sin().pow(freedom - 1.0)).mean())
        low, high = (b, high) if beyond < 1.0 - confidence else (low, b)
    return math.sqrt(freedom) / math.tan(0.5 * (low + high))


def interval_quantile(confidence: float, units: Tensor) -> float:
    """Standard errors from a mean over units to the ends of its interval.

    Student's, with the effective units less one as degrees of freedom (Carter et al. 2017,
    doi:10.1162/REST_a_00639).
    """
    return student_quantile(confidence, max(effective_units(units) - 1.0, 1.0))
