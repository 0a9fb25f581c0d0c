"""Densities of one latent from the folds that do not hold the row, with labels or without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentgauge.measures.density import fits
from latentgauge.measures.spectrum import Islands, Resolution, Spectra, SplineDensities, grid_points
from latentgauge.measures.uneven import UnevenDensity, window_sum

# For densities that only serve a bound.
COARSE = Resolution(per_sigma=3.5, spacing=0.2)
# Most cells of a grid that the folds share, each with levels of its own; and of one alone.
SHARED_WORK, LONE_WORK = 2**18, 2**17
# Points for the wide components where none serves all.
BESIDE = 2**13


class RestDensity(Protocol):
    """For each fold the mixture of the rows outside it: never more than 1 in integral."""

    def at(self, z: Tensor, fold: Tensor) -> Tensor:
        """Density at z [M] for rows of the folds [M]; 0 where no component reaches."""
        ...


def rest_density(mu: Tensor, var: Tensor, folds: Tensor, *, count: int) -> RestDensity:
    """Of means, variances and folds [N]."""
    sigma = var.sqrt()
    line = Islands.of(mu, sigma)
    if fits(line.length, var, COARSE, SHARED_WORK):
        return _spectra(mu, var, line, folds, count).rest().densities()
    broad = sigma >= line.length * COARSE.per_sigma / BESIDE
    together = None
    if bool(broad.any()):
        line = Islands.of(mu[broad], sigma[broad])
        spectra = _spectra(mu[broad], var[broad], line, folds[broad], count, points=BESIDE)
        together = spectra.rest().densities()
    return UnevenRest(together, mu, sigma, folds, broad, count)


@dataclass(frozen=True)
class UnevenRest:
    """Broad components on a grid that the folds share, the narrow ones summed where they reach."""

    together: SplineDensities | None
    mu: Tensor
    sigma: Tensor
    folds: Tensor
    broad: Tensor
    count: int

    def at(self, z: Tensor, fold: Tensor) -> Tensor:
        out = torch.zeros_like(z)
        broad = out if self.together is None else self.together.at(z, fold)
        for f in range(self.count):
            mine, rest = (fold == f).nonzero().flatten(), self.folds != f
            if len(mine) and bool(rest.any()):
                share = float(self.broad[rest].double().mean())
                x, order = z[mine].sort()
                narrow = rest & ~self.broad
                direct = window_sum(x, self.mu[narrow], self.sigma[narrow])
                out[mine[order]] = direct / int(rest.sum())
                out[mine] += share * broad[mine]
        return out


@dataclass(frozen=True)
class EachRest:
    """Each fold's by itself; None for a fold that holds all rows."""

    apart: tuple[SplineDensities | UnevenDensity | None, ...]

    def at(self, z: Tensor, fold: Tensor) -> Tensor:
        out = torch.zeros_like(z)
        for f, density in enumerate(self.apart):
            mine = (fold == f).nonzero().flatten()
            if density is not None and len(mine):
                out[mine] = density.at(z[mine])
        return out


def widened_densities(
    mu: Tensor, var: Tensor, folds: Tensor, *, count: int, bandwidths: Sequence[float]
) -> tuple[RestDensity, ...]:
    """`rest_density` widened by each bandwidth h > 0, h^2 Var(mu) of the other folds' rows."""
    spread = torch.stack([mu[folds != f].var(correction=0) for f in range(count)])
    # All are at least this wide, so the grid may be as coarse; what is left is added exactly.
    least = min(bandwidths) ** 2 * spread.min()
    reach = max(bandwidths) ** 2 * spread.max()
    line = Islands.of(mu, (var + reach).sqrt())
    if fits(line.length, var + least, COARSE, SHARED_WORK):
        spectra = _spectra(mu, var + least, line, folds, count).rest()
        by = [h * h * spread - least for h in bandwidths]
        return tuple(spectra.widened(b).densities() for b in by)
    return tuple(
        _each_apart(mu, [var + h * h * spread[f] for f in range(count)], folds) for h in bandwidths
    )


def _spectra(
    mu: Tensor,
    var: Tensor,
    line: Islands,
    group: Tensor,
    groups: int,
    points: int | None = None,
) -> Spectra:
    if points is None:
        points = int(grid_points(line.length, math.sqrt(float(var.min())), COARSE.per_sigma))
    return Spectra.of(
        mu, var, line, points=points, spacing=COARSE.spacing, group=group, groups=groups
    )


def _each_apart(mu: Tensor, var: Sequence[Tensor], folds: Tensor) -> EachRest:
    others = [folds != f for f in range(len(var))]
    return EachRest(tuple(_coarse(mu[o], v[o]) for o, v in zip(others, var, strict=True)))


def _coarse(mu: Tensor, var: Tensor) -> SplineDensities | UnevenDensity | None:
    if len(mu) == 0:
        return None
    line = Islands.of(mu, var.sqrt())
    if fits(line.length, var, COARSE, LONE_WORK):
        return _spectra(mu, var, line, torch.zeros(len(mu), dtype=torch.int64), 1).densities()
    return UnevenDensity.of(mu, var, line, resolution=COARSE, points=BESIDE)


def class_log_densities(
    mu: Tensor, logvar: Tensor, z: Tensor, *, classes: Tensor, folds: Tensor, rows: Tensor
) -> Tensor:
    """log q_j(z_i|y = c) of one latent, [M, C], from the rows of class c outside the fold of i.

    mu, logvar, classes (0..C-1) and folds are [N]; z [M] are draws of the `rows` [M]. In nats;
    -inf where there is no such row, and where z lies beyond the reach of all there are. Each
    column integrates to at most 1, so that with class frequencies that have not seen the row
    either, p(y|z) = p(y) q(z|y) / sum_c p(c) q(z|c) serves the bound of Barber & Agakov 2003.
    """
    var, mine = logvar.exp(), folds[rows]
    count = int(folds.max()) + 1
    out = z.new_full((len(z), int(classes.max()) + 1), -math.inf)
    for c in range(out.shape[1]):
        here = (classes == c).nonzero().flatten()
        if len(here):
            density = rest_density(mu[here], var[here], folds[here], count=count)
            out[:, c] = density.at(z, mine).log()
    return out
