"""Point figures and errors of the joint information, and the intervals that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.joint import Draws, JointSums, Standardised, own_control
from latentgauge.measures.labels import LabelBounds
from latentgauge.measures.marginals import INFLATION, Marginal
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.units import Mean, mean_over_rows, mean_over_units, population_mean
from latentgauge.measures.upper_bound import Components

# I_N this near to its ceiling says that the data set, not the code, sets the figure; nats.
SATURATION = 0.5
# Bounds that cross by less cross by rounding; nats.
CONFLICT = 1e-6


@dataclass(frozen=True)
class Joint:
    """I_N, and the two bounds on I that surround it, each a mean over draws with its error.

    `dataset` uses every control variate, and its error speaks of this data set alone; the
    errors of `lower` and `upper` speak of the population. The rows [M] are what was averaged,
    `controls` [M, 2] have mean 0 given x; `alone` [N] is the latents' own log ratio, of every row.
    """

    dataset: Mean
    lower: Mean
    upper: Mean
    lower_rows: Tensor
    upper_rows: Tensor
    controls: Tensor
    alone: Tensor


def joint_information(
    table: Standardised,
    draws: Draws,
    sums: JointSums,
    parts: Components,
    alone: Tensor,
    *,
    alone_mean: float,
    units: Tensor,
    folds: Tensor,
) -> Joint:
    """I_N = E[log q(z|x) - log q_N(z)], a lower bound on I in expectation; and an upper one.

    Poole et al. 2019, https://arxiv.org/abs/1905.06922, section 2; the upper bound as in
    `upper_bound`. `alone` [N] is sum_j log q_j(z|x) - log q_j(z) of all rows, drawn for the joint
    figures or not, and `alone_mean` its exact mean over this data set, sum_j I_Nj.
    """
    lower = sums.own - (sums.log_all()[:, 0] - math.log(len(units)))
    upper = sums.own - cross_fitted(parts.log_r, folds[draws.rows])
    own = own_control(draws, table.logvar).sum(dim=1)
    controls = torch.stack([own, parts.control], dim=1)
    # sum_j I_Nj is known without sampling error, but for this data set only.
    exact = alone[draws.rows] - alone_mean
    of_draws = {"rows": draws.rows, "units": units, "folds": folds}
    return Joint(
        dataset=mean_over_rows(lower, torch.cat([controls, exact[:, None]], dim=1)),
        lower=population_mean(lower, controls, alone[:, None], **of_draws),
        upper=population_mean(upper, controls, alone[:, None], **of_draws),
        lower_rows=lower,
        upper_rows=upper,
        controls=controls,
        alone=alone,
    )


@dataclass(frozen=True)
class Interval:
    """An interval in nats; an end that is None is not known. `conflict`: the ends crossed."""

    lower: float | None
    upper: float | None
    conflict: bool = False


UNKNOWN = Interval(0.0, None)


def information_interval(
    lower: float,
    upper: float,
    lower_error: float | None,
    upper_error: float | None,
    *,
    t: float,
) -> Interval:
    """[lower - t s, upper + t s], the lower end floored at 0: I >= 0 is a fact.

    Without errors only the floor is left. Bounds in the wrong order hold between them nothing
    that either vouches for: then the interval holds both with their larger error. Wrong beyond
    t s and 1e-6 nats is a `conflict`.
    """
    if lower_error is None or upper_error is None:
        return UNKNOWN
    low, high = lower - t * lower_error, upper + t * upper_error
    conflict = low - high > CONFLICT
    if lower > upper:
        reach = t * max(lower_error, upper_error)
        low, high = upper - reach, lower + reach
    return Interval(max(low, 0.0), max(high, 0.0), conflict)


def joint_interval(joint: Joint, *, t: float) -> Interval:
    """The interval for I(X;Z): [I_N - t s, U + t s], s inflated by 1.1."""
    return _between(joint.lower, joint.upper, t=t)


def within_latents(joint: Interval, alone: Sequence[Interval]) -> Interval:
    """The interval for I(X;Z) with I >= I_j for each latent, whose intervals are `alone`.

    max_j I_j <= I <= sum_j I_j: an interval beyond either by the latents' own is a conflict.
    """
    least = max(x.lower or 0.0 for x in alone)
    if joint.lower is None or joint.upper is None:
        return Interval(least, None)
    most = math.fsum(math.inf if x.upper is None else x.upper for x in alone)
    apart = max(least - joint.upper, joint.lower - most) > CONFLICT
    upper = most if apart and most < math.inf else joint.upper
    upper = max(upper, joint.upper, least)
    return Interval(max(min(joint.lower, most), least), upper, joint.conflict or apart)


def _between(lower: Mean, upper: Mean, *, t: float) -> Interval:
    """`information_interval` of two bounds whose rows share one mixture."""
    errors = [
        None if x.standard_error is None else INFLATION * x.standard_error for x in (lower, upper)
    ]
    return information_interval(lower.value, upper.value, *errors, t=t)


def marginal_interval(marginal: Marginal, *, t: float) -> Interval:
    """The interval for I_j: [I_Nj - t s, U_j + t s]."""
    errors = marginal.lower_error, marginal.upper_error
    return information_interval(marginal.dataset, marginal.upper, *errors, t=t)


def divergence_from_prior(
    kl: Tensor, lower: tuple[float, Tensor], upper: tuple[float, Tensor], units: Tensor, *, t: float
) -> Interval:
    """The interval for KL_j - I_j of a latent, or of a sum of latents, errors paired by row.

    kl [N]; the bounds on I_j as a mean and the rows [N] that its error is taken from.
    """
    total = float(kl.mean())
    ends = (
        Mean(total - value, mean_over_units(kl - rows, units).standard_error)
        for value, rows in (upper, lower)
    )
    return _between(*ends, t=t)


def marginal_divergence(
    kl: Tensor, joint: Joint, *, rows: Tensor, units: Tensor, folds: Tensor, t: float
) -> Interval:
    """The interval for KL(q(z) || p(z)) = KL - I: means of row by row differences; kl [N]."""
    mine, known = kl[rows], torch.stack([kl, joint.alone], dim=1)
    lower, upper = (
        population_mean(mine - seen, joint.controls, known, rows=rows, units=units, folds=folds)
        for seen in (joint.upper_rows, joint.lower_rows)
    )
    return _between(lower, upper, t=t)


def label_interval(bounds: LabelBounds, rate: Interval, *, told: bool, t: float) -> Interval:
    """The interval for I(Z;Y): the lower bound less t s; at most H(Y) of the population and I.

    H(Y) is at most its estimate here plus t s, and log K. A lower end above the upper one is a
    conflict, and then the interval reaches the lower bound. Not `told`: no lower bound is known.
    """
    low, entropy = 0.0, bounds.log_classes
    if bounds.entropy_error is not None:
        entropy = min(entropy, bounds.entropy + bounds.entropy_bias + t * bounds.entropy_error)
    if told and bounds.lower.standard_error is not None:
        low = max(bounds.lower.value - t * INFLATION * bounds.lower.standard_error, 0.0)
    high = entropy if rate.upper is None else min(entropy, rate.upper)
    if low <= high:
        return Interval(low, high)
    return Interval(high, min(bounds.lower.value, entropy), low - high > CONFLICT)


def difference(a: Sequence[Interval], b: Sequence[Interval]) -> Interval:
    """sum a - sum b by the intervals' ends, floored at 0: for divergences, which cannot be less."""
    low = _sum([x.lower for x in a], [x.upper for x in b])
    high = _sum([x.upper for x in a], [x.lower for x in b])
    return Interval(max(low or 0.0, 0.0), None if high is None else max(high, 0.0))


def _sum(plus: Sequence[float | None], minus: Sequence[float | None]) -> float | None:
    terms = [*plus, *minus]
    if any(term is None for term in terms):
        return None
    return math.fsum(x for x in plus if x is not None) - math.fsum(
        x for x in minus if x is not None
    )
