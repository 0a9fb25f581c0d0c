"""Point figures and errors of the joint information, and the intervals that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.joint import Draws, JointSums, Standardised, own_control
from latentgauge.measures.marginals import INFLATION, Marginal
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.units import Mean, adjusted_mean, mean_over_units
from latentgauge.measures.upper_bound import Components

# I_N this near to its ceiling says that the data set, not the code, sets the figure; nats.
SATURATION = 0.5


@dataclass(frozen=True)
class Joint:
    """I_N, and the two bounds on I that surround it, each a mean over draws with its error.

    `dataset` uses every control variate, and its error speaks of this data set alone; the
    errors of `lower` and `upper` speak of the population. The rows [M] are what was averaged.
    """

    dataset: Mean
    lower: Mean
    upper: Mean
    lower_rows: Tensor
    upper_rows: Tensor
    controls: Tensor


def joint_information(
    table: Standardised,
    draws: Draws,
    sums: JointSums,
    parts: Components,
    each: Sequence[Marginal],
    *,
    units: Tensor,
    folds: Tensor,
) -> Joint:
    """I_N = E[log q(z|x) - log q_N(z)], a lower bound on I in expectation; and an upper one.

    Poole et al. 2019, https://arxiv.org/abs/1905.06922, section 2; the upper bound as in
    `upper_bound`.
    """
    unit = units[draws.rows]
    lower = sums.own - (sums.log_all()[:, 0] - math.log(len(units)))
    upper = sums.own - cross_fitted(parts.log_r, folds[draws.rows])
    own = own_control(draws, table.logvar).sum(dim=1)
    controls = torch.stack([own, parts.control], dim=1)
    # sum_j I_Nj is known without sampling error, but for this data set only.
    known = sum(m.lower_rows for m in each) - sum(m.dataset for m in each)
    everything = torch.cat([controls, torch.as_tensor(known)[:, None]], dim=1)
    return Joint(
        dataset=adjusted_mean(lower, unit, everything),
        lower=adjusted_mean(lower, unit, controls),
        upper=adjusted_mean(upper, unit, controls),
        lower_rows=lower,
        upper_rows=upper,
        controls=controls,
    )


@dataclass(frozen=True)
class Interval:
    """An interval in nats; an end that is None is not known. `conflict`: the ends crossed."""

    lower: float | None
    upper: float | None
    conflict: bool = False


def information_interval(
    lower: float,
    upper: float,
    lower_error: float | None,
    upper_error: float | None,
    *,
    z: float,
) -> Interval:
    """[lower - z s, upper + z s], the lower end floored at 0: I >= 0 is a fact.

    Without errors (one unit) only the floor is left. Ends that cross by noise are swapped, which
    widens; beyond 1e-6 nats that is a `conflict`, for the two bounds then disagree.
    """
    if lower_error is None or upper_error is None:
        return Interval(0.0, None)
    low, high = max(lower - z * lower_error, 0.0), upper + z * upper_error
    crossed = low > high
    return Interval(min(low, max(high, 0.0)), max(low, high), crossed and low - high > 1e-6)


def population(joint: Joint, *, z: float) -> Interval:
    """The interval for I(X;Z): [I_N - z s, U + z s], s inflated by 1.1."""
    errors = joint.lower.standard_error, joint.upper.standard_error
    inflated = [None if error is None else INFLATION * error for error in errors]
    return information_interval(joint.lower.value, joint.upper.value, *inflated, z=z)


def marginal_interval(marginal: Marginal, *, z: float) -> Interval:
    """The interval for I_j: [I_Nj - z s, U_j + z s]; never above U_j when that fell below I_Nj."""
    upper = max(marginal.upper, marginal.dataset)
    errors = marginal.lower_error, marginal.upper_error
    return information_interval(marginal.dataset, upper, *errors, z=z)


def divergence_from_prior(
    kl: Tensor, each: Sequence[Marginal], rows: Tensor, unit: Tensor, *, z: float
) -> Interval:
    """The interval for sum_j KL(q(z_j) || p(z_j)) = sum_j KL_j - I_j, errors paired by row.

    kl [N, D] holds the latents of `each`, rows [M] the draws' rows and unit [M] their units.
    """
    total, mine = float(kl.mean(dim=0).sum()), kl[rows].sum(dim=1)
    lower = total - sum(max(m.upper, m.dataset) for m in each)
    upper = total - sum(m.dataset for m in each)
    errors = [
        mean_over_units(mine - torch.stack(list(seen)).sum(dim=0), unit).standard_error
        for seen in ([m.upper_rows for m in each], [m.lower_rows for m in each])
    ]
    inflated = [None if error is None else INFLATION * error for error in errors]
    return information_interval(lower, upper, *inflated, z=z)


def marginal_divergence(
    kl: Tensor, joint: Joint, rows: Tensor, unit: Tensor, *, z: float
) -> Interval:
    """The interval for KL(q(z) || p(z)) = KL - I, errors paired by row."""
    total, mine = float(kl.mean(dim=0).sum()), kl[rows].sum(dim=1)
    errors = [
        adjusted_mean(mine - seen, unit, joint.controls).standard_error
        for seen in (joint.upper_rows, joint.lower_rows)
    ]
    inflated = [None if error is None else INFLATION * error for error in errors]
    lower, upper = total - joint.upper.value, total - joint.lower.value
    return information_interval(lower, upper, *inflated, z=z)


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
