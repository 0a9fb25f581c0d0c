"""Every latent alone, each in a lane of its own; of the rows only sums over latents are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.intervals import Interval, divergence_from_prior, marginal_interval
from latentgauge.measures.joint import Draws, Noise, Standardised
from latentgauge.measures.lanes import Lanes
from latentgauge.measures.marginals import INFLATION, Marginal, marginal
from latentgauge.measures.pairs import Tick
from latentgauge.measures.units import Mean, mean_over_units


@dataclass(frozen=True)
class Divergence:
    """KL_j - I_j: the data set's value, its error for the population, and the interval.

    The error is inflated as that of I_j is: rows share one mixture.
    """

    value: float
    standard_error: float | None
    interval: Interval


@dataclass(frozen=True)
class Latent:
    """One latent: I_Nj, U_j and their errors for the population, the intervals, and KL_j, in nats.

    `numerical_error` bounds what arithmetic does to I_Nj.
    """

    dataset: float
    upper: float
    lower_error: float | None
    upper_error: float | None
    interval: Interval
    kl: Mean
    divergence: Divergence
    numerical_error: float


@dataclass(frozen=True)
class Rows:
    """What each row adds to the bounds on sum_j I_j, and to KL: [N] each."""

    lower: Tensor
    upper: Tensor
    kl: Tensor

    def plus(self, other: Rows) -> Rows:
        lower, upper = self.lower + other.lower, self.upper + other.upper
        return Rows(lower, upper, self.kl + other.kl)


@dataclass(frozen=True)
class Latents:
    """All latents, the sums over them, and the sums' exact or estimated means."""

    each: tuple[Latent, ...]
    rows: Rows
    dataset: float
    upper: float


def all_latents(
    mu: Tensor,
    logvar: Tensor,
    table: Standardised,
    noise: Noise,
    *,
    units: Tensor,
    folds: Tensor,
    t: float,
    lanes: Lanes,
    tick: Tick,
) -> Latents:
    """Each latent in a lane of its own; only sums over latents are kept of the rows."""

    def found(j: int) -> tuple[Marginal, Tensor]:
        alone = table.latent(j)
        draws = Draws.of_latent(alone, noise, j)
        kl = kl_rows(mu[:, j], logvar[:, j])
        return marginal(alone, draws, 0, units=units, folds=folds), kl

    each, datasets, uppers = [], [], []
    zero = torch.zeros(len(mu), dtype=torch.float64)
    rows = Rows(zero, zero, zero)
    for marginal_j, kl in lanes.each(found, range(mu.shape[1]), ahead=lanes.count):
        each.append(_latent(marginal_j, kl, units, t=t))
        rows = rows.plus(Rows(marginal_j.lower_rows, marginal_j.upper_rows, kl))
        datasets.append(marginal_j.dataset)
        uppers.append(marginal_j.upper)
        tick(len(each) / mu.shape[1])
    return Latents(tuple(each), rows, math.fsum(datasets), math.fsum(uppers))


def _latent(marginal: Marginal, kl: Tensor, units: Tensor, *, t: float) -> Latent:
    lower, upper = (marginal.dataset, marginal.lower_rows), (marginal.upper, marginal.upper_rows)
    error = mean_over_units(kl - marginal.lower_rows, units).standard_error
    return Latent(
        dataset=marginal.dataset,
        upper=marginal.upper,
        lower_error=marginal.lower_error,
        upper_error=marginal.upper_error,
        interval=marginal_interval(marginal, t=t),
        kl=mean_over_units(kl, units),
        divergence=Divergence(
            float(kl.mean()) - marginal.dataset,
            None if error is None else INFLATION * error,
            divergence_from_prior(kl, lower, upper, units, t=t),
        ),
        numerical_error=marginal.numerical_error,
    )
