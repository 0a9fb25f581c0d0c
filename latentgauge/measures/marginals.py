"""The information in each latent alone: I_Nj exactly, and an interval for the population's I_j."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import entropy_rows, log_normal
from latentgauge.measures.density import COARSE, mixture_density
from latentgauge.measures.joint import Draws, Standardised
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.units import adjusted_mean, mean_over_units

# Extra smoothing of the densities behind the upper bound, in standard deviations of mu_j.
BANDWIDTHS = (0.0, 0.03, 0.1, 0.3, 1.0)
# Five free weights are known to 0.001 nats from this many rows.
LEARN_FROM = 4000
# Narrowest sigma, as a share of the largest coordinate, that float64 places points within.
NARROWEST = 2.0**-44
# Direct evaluation is quicker up to here.
FEW_PAIRS = 2**15
# Rows share one mixture, which the plain standard error does not see: 5 to 8% small.
INFLATION = 1.1


@dataclass(frozen=True)
class Marginal:
    """One latent: I_Nj of the data set, U_j above I_j in expectation, their errors, in nats.

    `lower_rows` and `upper_rows` [M] are log q_j(z|x) - log q_j(z) and the same with the density
    of the bound. Errors are None where all rows are one unit, and then U_j is no bound.
    """

    dataset: float
    upper: float
    lower_error: float | None
    upper_error: float | None
    lower_rows: Tensor
    upper_rows: Tensor


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
    mu, logvar = table.mu[:, j], table.logvar[:, j]
    if _constant(mu) and _constant(logvar):
        return _without_information(draws, units)
    rows = draws.rows
    dataset, lower_rows = _lower(mu, logvar, rows, draws.noise[:, j])
    log_r = _log_densities(table, draws, j, folds, tick)
    upper_rows = draws.log_own[:, j] - cross_fitted(log_r, folds[rows], learn_from=LEARN_FROM)
    controls = _controls(table, draws, j)
    return Marginal(
        dataset=dataset,
        upper=dataset + float((upper_rows - lower_rows).mean()),
        lower_error=_error(lower_rows, controls, units[rows], folds[rows]),
        upper_error=_error(upper_rows, controls, units[rows], folds[rows]),
        lower_rows=lower_rows,
        upper_rows=upper_rows,
    )


def _lower(mu: Tensor, logvar: Tensor, rows: Tensor, noise: Tensor) -> tuple[float, Tensor]:
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
    return density.entropy() - float(entropy_rows(var.log()).mean()), lower_rows


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
    return Marginal(0.0, 0.0, error, error, zeros, zeros)


def _error(values: Tensor, controls: Tensor, units: Tensor, folds: Tensor) -> float | None:
    error = adjusted_mean(values, units, controls, folds).standard_error
    return None if error is None else INFLATION * error


def _log_densities(table: Standardised, draws: Draws, j: int, folds: Tensor, tick: Tick) -> Tensor:
    """[M, K] log densities at z_ij, each from the folds that do not hold row i.

    The other rows' mixture, widened by each bandwidth, and one Gaussian. With a single fold
    there is nothing to learn from: the Gaussian of the whole table.
    """
    z = draws.z[:, j]
    out = z.new_empty(len(z), len(BANDWIDTHS) + 1)
    count = int(folds.max()) + 1
    for fold in range(count):
        mine, rest = folds[draws.rows] == fold, folds != fold
        rest = rest if bool(rest.any()) else ~rest
        mu, var = table.mu[rest, j], table.logvar[rest, j].exp()
        spread = mu.var(correction=0)
        for k, h in enumerate(BANDWIDTHS):
            out[mine, k] = _log_mixture_at(z[mine], mu, var + h * h * spread)
        tick((fold + 1) / count)
        out[mine, -1] = log_normal(z[mine], mu.mean(), spread + var.mean())
    return out


def _log_mixture_at(z: Tensor, mu: Tensor, var: Tensor) -> Tensor:
    """log of the mixture's density at z [m]; by a grid where pairs would be many."""
    if len(z) * len(mu) <= FEW_PAIRS:
        each = log_normal(z[:, None], mu, var)
        return torch.logsumexp(each, dim=1) - math.log(len(mu))
    return mixture_density(mu, var, resolution=COARSE).at(z).log()


def _controls(table: Standardised, draws: Draws, j: int) -> Tensor:
    """[M, 2] of mean 0 given x: log q_j(z|x) + H, and log g(z) - E[log g|x] of a Gaussian g."""
    rows, eps = draws.rows, draws.noise[:, j]
    sigma = (0.5 * table.logvar[rows, j]).exp()
    mu = table.mu[rows, j] - table.mu[:, j].mean()
    own = draws.log_own[:, j] + entropy_rows(table.logvar[rows, j])
    gaussian = mu * sigma * eps + 0.5 * sigma.square() * (eps.square() - 1.0)
    return torch.stack([own, gaussian], dim=1)
