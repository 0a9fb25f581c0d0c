"""How figures become the report's estimates: values, their errors, and ends within what can be."""

from __future__ import annotations

import math

from latentgauge.measures.intervals import Interval
from latentgauge.measures.survey import Survey
from latentgauge.measures.units import Mean
from latentgauge.report import Estimate


def estimated(
    mean: Mean, t: float, *, floor: float = -math.inf, ceiling: float = math.inf
) -> Estimate:
    """value +- t standard errors, ends kept within what is possible unless the value is not."""
    error = mean.standard_error
    if error is None:
        return Estimate(value=mean.value)
    return Estimate(
        value=mean.value,
        standard_error=error,
        lower=min(max(mean.value - t * error, floor), mean.value),
        upper=max(min(mean.value + t * error, ceiling), mean.value),
    )


def exact(value: float) -> Estimate:
    """A figure of this data set that nothing is left to chance in."""
    return Estimate(value=value, standard_error=0.0, lower=value, upper=value)


def bounded(interval: Interval) -> Estimate:
    """An interval without a value."""
    return Estimate(lower=interval.lower, upper=interval.upper)


def of_dataset(
    mean: Mean, found: Survey, *, floor: float = 0.0, ceiling: float = math.inf
) -> Estimate:
    """A joint figure of the data set's own mixture; a single row has nothing left to chance."""
    if not found.joint_known:
        return Estimate()
    if len(found.units) == 1:
        mean = Mean(mean.value, 0.0)
    return estimated(mean, found.noise_quantile, floor=floor, ceiling=ceiling)
