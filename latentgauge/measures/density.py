"""Mixtures of N one-dimensional Gaussians: their density anywhere, and their entropy.

One even grid where it can resolve every component; where widths lie too far apart for that,
`uneven` takes over. Step and levels follow from a bound on the error of the entropy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentgauge.measures.displacement import (
    Entropy,
    displaced_entropy,
    displacement,
    exact_resolution,
)
from latentgauge.measures.spectrum import (
    Islands,
    Resolution,
    Spectra,
    SplineDensities,
    grid_points,
)
from latentgauge.measures.uneven import UnevenDensity

# Most grid points times levels of the finest octave.
LARGEST_WORK = 2**21
# Components further than 8 sigma away are not followed off the real line.
FOLLOWED = 8.0
STRIP = math.pi / (2.0 * FOLLOWED)


class Density(Protocol):
    """q(z) = 1/N sum_i N(z; mu_i, sigma_i^2)."""

    def at(self, z: Tensor) -> Tensor:
        """q at each z [M]; 0 where no component reaches."""
        ...

    def bounded_entropy(self) -> Entropy:
        """The entropy and its error."""
        ...

    def entropy(self) -> float:
        """-integral of q log q, in nats."""
        ...


def mixture_density(mu: Tensor, var: Tensor) -> Density:
    """The density of the mixture with means and variances [N]; by grid where one is enough."""
    islands = Islands.of(mu, var.sqrt())
    if fits(islands.length, var, exact_resolution(islands.length, var), LARGEST_WORK):
        return GridDensity.of(mu, var, islands)
    return UnevenDensity.of(mu, var, islands)


def fits(length: float, var: Tensor, resolution: Resolution, work: int) -> bool:
    """Whether a grid that resolves the narrowest component has at most `work` cells.

    A cell is a point of one level; later octaves have half as many each.
    """
    low, high = float(var.min()), float(var.max())
    points = grid_points(length, math.sqrt(low), resolution.per_sigma)
    levels = 1.0 if high == low else 6.0 + min(math.log(high / low), 1.4) / resolution.spacing
    return points * levels <= work


@dataclass(frozen=True)
class GridDensity:
    """q [2 G] on an even grid over the joined islands, and as B-splines on half the points.

    `apart` bounds the L1 distance of q from the mixture, `inverse_sigma` is the mean 1/sigma.
    """

    q: Tensor
    spline: SplineDensities
    narrowest: float
    inverse_sigma: float
    apart: float

    @classmethod
    def of(cls, mu: Tensor, var: Tensor, islands: Islands) -> GridDensity:
        resolution = exact_resolution(islands.length, var)
        narrowest = math.sqrt(float(var.min()))
        points = int(grid_points(islands.length, narrowest, resolution.per_sigma))
        spectra = Spectra.of(mu, var, islands, points=points, spacing=resolution.spacing)
        q = spectra.values_at_points(2 * points)[0]
        apart = displacement(var, islands.length, points, resolution.spacing)
        inverse = float(var.rsqrt().mean())
        return cls(q.clamp(min=0.0), spectra.densities(), narrowest, inverse, apart)

    @property
    def length(self) -> float:
        return self.spline.line.length

    def at(self, z: Tensor) -> Tensor:
        return self.spline.at(z)

    def entropy(self) -> float:
        return self.bounded_entropy().value

    def bounded_entropy(self) -> Entropy:
        """By the trapezoidal rule; the error as derived in docs/estimators.md."""
        step, highest = self.length / len(self.q), float(self.q.max())
        # The mass is 1: what the grid makes of it must not count as entropy of another unit.
        top = 1.0 + math.log(highest)
        value = -step * float((torch.xlogy(self.q, self.q) - top * self.q).sum()) - top
        spread = step * float((torch.xlogy(self.q, self.q) + value * self.q).abs().sum())
        apart = self.apart + _rounding(highest * self.length, len(self.q))
        error = displaced_entropy(apart, highest * self.length)
        return Entropy(value, error + self._off_the_line(step, spread, highest))

    def _off_the_line(self, step: float, spread: float, highest: float) -> float:
        """Error of the trapezoidal rule for a mixture free of zeros within a of the real line.

        2 M / (exp(2 pi a / step) - 1) for an integrand of integral M at distance a (Trefethen &
        Weideman 2014, doi:10.1137/130932132, theorem 5.1). `floor` outweighs far components.
        """
        grown = math.exp(0.5 * STRIP**2)
        floor = 2.0 * math.exp(-0.5 * FOLLOWED**2) * grown * 0.4 * self.inverse_sigma
        integral = grown * (spread + 0.5 * math.pi + 1.0)
        rule = 2.0 * integral / math.expm1(2.0 * math.pi * STRIP * self.narrowest / step)
        return rule + 2.0 * displaced_entropy(floor * self.length, highest * self.length)


def _rounding(mass: float, points: int) -> float:
    """L1 error that the transforms' rounding makes: at most u log2(points) ||q||_2 sqrt(L)."""
    return 2.0**-51 * math.log2(points) * math.sqrt(max(mass, 1.0))
