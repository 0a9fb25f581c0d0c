"""Each class of the labels as a population of its own: what the code tells of x within it.

A code may be alive for nine classes and dead for the tenth; no figure of the whole shows that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import log_normal
from latentgauge.measures.gaussian import Gaussian, shrunk_covariance
from latentgauge.measures.intervals import (
    SATURATION,
    UNKNOWN,
    Interval,
    information_interval,
)
from latentgauge.measures.joint import Draws, JointSums, Standardised, own_control
from latentgauge.measures.labels import LatentLabels
from latentgauge.measures.marginals import INFLATION
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.units import (
    Mean,
    effective_units,
    entropy_of_counts,
    interval_quantile,
    mean_over_units,
    population_mean,
)
from latentgauge.measures.upper_bound import Components

# The biggest classes, and how many independent rows one must have, to be a slice.
MOST_SLICES = 50
FEWEST_UNITS = 20.0
# A full covariance is learnt from this many rows a latent; below, variances alone.
ROWS_PER_LATENT = 2


@dataclass(frozen=True)
class Slice:
    """One class, in nats: `kl` and the intervals are of the class's own population.

    `information` is that of the whole code, `alone` and `divergences` [D] are the intervals for
    I_j and the data set's KL_j - I_Nj within the class. `quantile` takes the error of `kl` to
    the end of its interval. Near its ceiling, I_N of the class is `saturated`.
    """

    klass: int
    ceiling: float
    saturated: bool
    kl: Mean
    quantile: float
    information: Interval
    alone: tuple[Interval, ...]
    divergences: Tensor


@dataclass(frozen=True)
class Coded:
    """What slices are cut from: the code, its draws and passes, and what rows belong to."""

    table: Standardised
    draws: Draws
    sums: JointSums
    parts: Components
    kl: Tensor
    classes: Tensor
    units: Tensor
    folds: Tensor


def biggest(counts: Sequence[int]) -> list[int]:
    """The classes that slices are made of, in order: the MOST_SLICES with the most rows."""
    return sorted(sorted(range(len(counts)), key=lambda c: -counts[c])[:MOST_SLICES])


def sliced_classes(classes: Tensor, units: Tensor) -> tuple[int, ...]:
    """Those of the biggest classes that have FEWEST_UNITS effective units, in order."""
    return tuple(
        c
        for c in biggest(torch.bincount(classes).tolist())
        if effective_units(units[classes == c]) >= FEWEST_UNITS
    )


def class_slices(
    coded: Coded,
    by_latent: Sequence[LatentLabels],
    chosen: Sequence[int],
    *,
    copies: Tensor | None,
    confidence: float,
    tick: Tick = silent,
) -> tuple[Slice, ...]:
    """A slice of each chosen class; `by_latent` has its figures within these, in their order."""
    out = []
    for k, c in enumerate(chosen):
        within = [latent.within[k] for latent in by_latent]
        mine = coded.classes == c
        t = interval_quantile(confidence, coded.units[mine])
        kl = coded.kl[mine]
        top = _ceiling(copies, mine)
        information, value = _information(coded, c, t=t, confidence=confidence)
        out.append(
            Slice(
                klass=c,
                ceiling=top,
                saturated=value is not None and value > top - SATURATION and top > SATURATION,
                kl=mean_over_units(kl, coded.units[mine]),
                quantile=t,
                information=information,
                alone=tuple(
                    information_interval(w.dataset, w.upper, w.lower_error, w.upper_error, t=t)
                    for w in within
                ),
                divergences=kl.new_tensor([w.kl - w.dataset for w in within]),
            )
        )
        tick((k + 1) / len(chosen))
    return tuple(out)


def _ceiling(copies: Tensor | None, mine: Tensor) -> float:
    """Entropy of the distribution over the class's distinct rows."""
    if copies is None:
        return math.log(int(mine.sum()))
    return entropy_of_counts(torch.unique(copies[mine], return_counts=True)[1])


def _information(
    coded: Coded, c: int, *, t: float, confidence: float
) -> tuple[Interval, float | None]:
    """The interval for I(X;Z) within class c, and I_N of the class.

    Below E[log q(z|x) - log q_N(z|y)] (Poole et al. 2019), above E[log q(z|x) - log r(z)] for
    densities that have not seen the row's unit (Barber & Agakov 2003), both over its draws. `t`
    takes an error over all its rows to the end of an interval.
    """
    draws = coded.draws
    members = (coded.classes == c).nonzero().flatten()
    at = (coded.classes[draws.rows] == c).nonzero().flatten()
    units, folds = coded.units[members], coded.folds[members]
    rows = torch.searchsorted(members, draws.rows[at])
    if len(at) == 0 or effective_units(units[rows]) < FEWEST_UNITS:
        return UNKNOWN, None
    own = coded.sums.own[at]
    lower = own - (coded.sums.log_all()[at, 1] - math.log(len(members)))
    upper = own - cross_fitted(_log_densities(coded, c, at), folds[rows])
    noise = own_control(draws, coded.table.logvar).sum(dim=1)[at]
    controls = torch.stack([noise, coded.parts.control[at]], dim=1)
    known = coded.kl[members, None]
    placed = {"rows": rows, "units": units, "folds": folds}
    means = [population_mean(x, controls, known, **placed) for x in (lower, upper)]
    errors = [None if m.standard_error is None else INFLATION * m.standard_error for m in means]
    if len(at) < len(members):
        t = interval_quantile(confidence, units[rows])
    return information_interval(means[0].value, means[1].value, *errors, t=t), means[0].value


def _log_densities(coded: Coded, c: int, at: Tensor) -> Tensor:
    """[m, K] log r_k(z_i) of the draws `at` of class c, none of which has seen the unit of i.

    The class's other units, its kernel mixtures, the prior, and its Gaussians.
    """
    rows, parts = coded.draws.rows[at], coded.parts
    others = coded.sums.others[at, 1:] - _others(coded, c)[rows, None].log()
    # Of all centres' mean, the class's own: divided by its share of them.
    kernels = parts.kernels_same[at] - parts.share[at, None].log()
    prior = parts.log_r[at, parts.names.index("prior")]
    gaussians = _gaussians(coded, coded.classes == c, at)
    return torch.cat([others, kernels, prior[:, None], gaussians], dim=1).nan_to_num(nan=-math.inf)


def _others(coded: Coded, c: int) -> Tensor:
    """Rows of class c outside the unit of each row, [N]."""
    mine = (coded.classes == c).double()
    of_unit = torch.bincount(coded.units, mine)[coded.units]
    return (mine.sum() - of_unit).clamp(min=1.0)


def _gaussians(coded: Coded, mine: Tensor, at: Tensor) -> Tensor:
    """[m, 2] log densities of Gaussians of the class, from its rows in the other folds.

    One with shrunk covariance where the rows are enough, and one with independent latents.
    """
    table, fold_of = coded.table, coded.folds[coded.draws.rows[at]]
    z = coded.draws.z[at]
    out = z.new_full((len(z), 2), -math.inf)
    for fold in range(int(coded.folds.max()) + 1):
        here, rest = fold_of == fold, mine & (coded.folds != fold)
        count = int(rest.sum())
        if count < 2:
            continue
        mu, noise = table.mu[rest], table.logvar[rest].exp().mean(dim=0)
        mean, variance = mu.mean(dim=0), mu.var(dim=0) + noise
        out[here, 1] = log_normal(z[here], mean, variance).sum(dim=1)
        if count >= ROWS_PER_LATENT * mu.shape[1]:
            covariance = shrunk_covariance(mu) + torch.diag(noise)
            out[here, 0] = Gaussian.of(mean, covariance).log_density(z[here])
    return out
