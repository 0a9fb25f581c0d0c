"""The information in each latent alone: I_Nj exactly, and an interval for the population's I_j."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import entropy_rows, log_normal
from latentgauge.measures.density import mixture_density
from latentgauge.measures.displacement import Entropy
from latentgauge.measures.folds import RestDensity, rest_density, widened_densities
from latentgauge.measures.joint import Draws, Standardised
from latentgauge.measures.mixing import log_mixture, mixture_weights
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.spectrum import blocks
from latentgauge.measures.units import adjusted_mean, mean_over_units

# Extra smoothing of the densities behind the upper bound, in standard deviations of mu_j.
BANDWIDTHS = (0.03, 0.1, 0.3, 1.0)
# Five free weights are known to 0.001 nats from this many rows.
LEARN_FROM = 4000
# Narrowest sigma, as a share of the largest coordinate, that float64 places points within.
NARROWEST = 2.0**-44
ROWS_AT_ONCE = 2**17
# Share of a Cauchy density in the Gaussian: a row beyond all others costs its log, not z^2.
TAIL = 2e-4
# Rows share one mixture, which the plain standard error does not see: 5 to 8% small.
INFLATION = 1.1


@dataclass(frozen=True)
class Marginal:
    """One latent: I_Nj of the data set, U_j above I_j in expectation, their errors, in nats.

    `lower_rows` and `upper_rows` [M] are log q_j(z|x) - log q_j(z) and the same with the density
    of the bound. Errors are None where all rows are one unit, and then U_j is no bound.
    `numerical_error` bounds what grid, levels and rounding do to `dataset`.
    """

    dataset: float
    upper: float
    lower_error: float | None
    upper_error: float | None
    lower_rows: Tensor
    upper_rows: Tensor
    numerical_error: float


def marginal(
    table: Standardised,
    draws: Draws,
    j: int,
    *,
    units: Tensor,
    folds: Tensor,
    tick: Tick = silent,
) -> Marginal:
    """I(X; z_j) for the data set and bounds for its population.

    I_Nj = H(q_j) - E H(q_j|x) lies below I_j in expectation; U_j is the bound of Barber &
    Agakov 2003, E[log q(z|x) - log r(z)], for a density r that has not seen the row's unit.
    """
    mu, logvar = table.mu[:, j].contiguous(), table.logvar[:, j].contiguous()
    if _constant(mu) and _constant(logvar):
        return _without_information(draws, units)
    rows = draws.rows
    dataset, lower_rows = _lower(mu, logvar, rows, draws.noise[:, j])
    tick(0.3)
    upper_rows = _upper_rows(table, draws, j, folds, tick)
    controls = _controls(table, draws, j)
    return Marginal(
        dataset=dataset.value,
        upper=dataset.value + float((upper_rows - lower_rows).mean()),
        lower_error=_error(lower_rows, controls, units[rows], folds[rows]),
        upper_error=_error(upper_rows, controls, units[rows], folds[rows]),
        lower_rows=lower_rows,
        upper_rows=upper_rows,
        numerical_error=dataset.error,
    )


def _lower(mu: Tensor, logvar: Tensor, rows: Tensor, noise: Tensor) -> tuple[Entropy, Tensor]:
    """I_Nj and log q_j(z|x) - log q_j(z) of each draw.

    Where sigma is too narrow to be placed, the figure is below I_Nj, so still below I_j.
    """
    sigma = placeable_sigma(mu, logvar)
    var = sigma.square()
    density = mixture_density(mu, var)
    z = mu[rows] + sigma[rows] * noise
    log_own = log_normal(z, mu[rows], var[rows])
    # The mixture holds the row's own component: no rounding may put it below.
    floor = log_own - math.log(len(mu))
    lower_rows = log_own - torch.maximum(density.at(z).log(), floor)
    entropy = density.bounded_entropy()
    given = float(entropy_rows(var.log()).mean())
    return Entropy(entropy.value - given, entropy.error), lower_rows


def placeable_sigma(mu: Tensor, logvar: Tensor) -> Tensor:
    """sigma [N] of one latent, where too narrow for float64 to place a point within it, wider.

    That is noise added to z: it can only take information away (data processing).
    """
    sigma = (0.5 * logvar).exp()
    return sigma.clamp(min=float((mu.abs() + sigma).max()) * NARROWEST)


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())


def _without_information(draws: Draws, units: Tensor) -> Marginal:
    zeros = torch.zeros(len(draws.rows), dtype=torch.float64)
    error = mean_over_units(zeros, units[draws.rows]).standard_error
    return Marginal(0.0, 0.0, error, error, zeros, zeros, 0.0)


def _error(values: Tensor, controls: Tensor, units: Tensor, folds: Tensor) -> float | None:
    error = adjusted_mean(values, units, controls, folds).standard_error
    return None if error is None else INFLATION * error


def _upper_rows(table: Standardised, draws: Draws, j: int, folds: Tensor, tick: Tick) -> Tensor:
    """log q_j(z|x) - log r(z) of each draw, r and its weights from the folds that lack the row.

    r mixes the other rows' posteriors, the same widened by each bandwidth, and one Gaussian with
    a little of a Cauchy density. With a single fold there is nothing to learn from: the Gaussian
    of the whole table.
    """
    z, mine, own = draws.z[:, j].contiguous(), folds[draws.rows], draws.log_own[:, j]
    parts = _Parts.of(table.mu[:, j].contiguous(), table.logvar[:, j].exp(), folds)
    tick(0.7)
    step = max(math.ceil(len(z) / LEARN_FROM), 1)
    w = _weights(parts.log_densities(z[::step], mine[::step]), mine[::step], len(parts.mean))
    tick(0.9)
    log_r = [
        log_mixture(parts.log_densities(z[some], mine[some]), w[mine[some]])
        for some in blocks(len(z), ROWS_AT_ONCE)
    ]
    return own - torch.cat(log_r)


def _weights(log_r: Tensor, folds: Tensor, count: int) -> Tensor:
    """w [F, K] of each fold, learnt from log_r [M, K] of the rows of all others."""
    elsewhere = (torch.arange(count)[:, None] != folds).double()
    rows = elsewhere.sum(dim=1, keepdim=True)
    if not bool((rows > 0).all()):
        return log_r.new_full((count, log_r.shape[1]), 1.0 / log_r.shape[1])
    return mixture_weights(log_r, elsewhere / rows)


@dataclass(frozen=True)
class _Parts:
    """What r is mixed from: for each of F folds mixtures and a Gaussian with a heavy tail [F]."""

    mixtures: tuple[RestDensity, ...]
    median: Tensor
    mean: Tensor
    var: Tensor

    @classmethod
    def of(cls, mu: Tensor, var: Tensor, folds: Tensor) -> _Parts:
        count, mixtures = int(folds.max()) + 1, []
        if count > 1:
            mixtures = [rest_density(mu, var, folds, count=count)]
            mixtures += widened_densities(mu, var, folds, count=count, bandwidths=BANDWIDTHS)
        others = [folds != f if count > 1 else folds == f for f in range(count)]
        return cls(
            tuple(mixtures),
            torch.stack([mu[o].median() for o in others]),
            torch.stack([mu[o].mean() for o in others]),
            torch.stack([mu[o].var(correction=0) + var[o].mean() for o in others]),
        )

    def log_densities(self, z: Tensor, fold: Tensor) -> Tensor:
        """[M, K] at z [M] for rows of the folds [M]."""
        log_r = [mixture.at(z, fold).log() for mixture in self.mixtures]
        var, away = self.var[fold], z - self.median[fold]
        gaussian = log_normal(z, self.mean[fold], var) + math.log1p(-TAIL)
        cauchy = math.log(TAIL / math.pi) - torch.log1p(away.square() / var) - 0.5 * var.log()
        return torch.stack([*log_r, torch.logaddexp(gaussian, cauchy)], dim=1)


def _controls(table: Standardised, draws: Draws, j: int) -> Tensor:
    """[M, 2] of mean 0 given x: log q_j(z|x) + H, and log g(z) - E[log g|x] of a Gaussian g."""
    rows, eps = draws.rows, draws.noise[:, j]
    sigma = (0.5 * table.logvar[rows, j]).exp()
    mu = table.mu[rows, j] - table.mu[:, j].mean()
    own = draws.log_own[:, j] + entropy_rows(table.logvar[rows, j])
    gaussian = mu * sigma * eps + 0.5 * sigma.square() * (eps.square() - 1.0)
    return torch.stack([own, gaussian], dim=1)
