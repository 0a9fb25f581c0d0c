"""Many Gaussian mixtures on one grid, by their Fourier coefficients.

    S_g(w) = sum_{i in g} exp(-i w mu_i - 1/2 w^2 sigma_i^2)

Spectra of disjoint groups of rows add, and a component widened by b is exp(-1/2 w^2 b) times as
large: leaving rows out and smoothing cost no second pass over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Beyond 9 sigma lie 2e-19 of a component.
REACH = 9.0
# Numbers of one block, and rows of one.
CHUNK, ROWS = 2**19, 2**14
FEWEST_POINTS = 16
# What transforms leave where nothing is, as a share of the most, is below this.
NOISE = 2.0**-49
# Levels of width that share a component: three on either side.
BELOW, SHARING = 2, 6


@dataclass(frozen=True)
class Resolution:
    """Grid points to the narrowest sigma, and the spacing of levels in log sigma^2."""

    per_sigma: float
    spacing: float


@dataclass(frozen=True)
class Islands:
    """Stretches that components reach, moved together so that no empty grid lies between.

    Moving whole stretches leaves the entropy alone. Positions inside one are measured from its
    first mean, so that means a few sigma apart stay apart however far they are from 0.
    """

    low: Tensor
    high: Tensor
    anchor: Tensor
    offset: Tensor
    length: float

    @classmethod
    def of(cls, mu: Tensor, sigma: Tensor) -> Islands:
        order = (mu - REACH * sigma).argsort()
        mu, reach = mu[order], REACH * sigma[order]
        furthest = (mu + reach).cummax(dim=0).values
        starts = torch.ones(len(mu), dtype=torch.bool)
        starts[1:] = (mu - reach)[1:] > furthest[:-1]
        island = starts.cumsum(dim=0) - 1
        anchor = mu[starts]
        low = _extreme(mu - anchor[island] - reach, island, "amin")
        high = _extreme(mu - anchor[island] + reach, island, "amax")
        ends = (high - low).cumsum(dim=0)
        return cls(anchor + low, anchor + high, anchor, ends - high, float(ends[-1]))

    def place(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Position of each z on the joined line, and whether any component reaches it."""
        if len(self.low) == 1:
            reached = (z >= self.low) & (z <= self.high)
            return z - self.anchor + self.offset, reached
        k = (torch.searchsorted(self.low, z.contiguous(), right=True) - 1).clamp(min=0)
        reached = (z >= self.low[k]) & (z <= self.high[k])
        return z - self.anchor[k] + self.offset[k], reached


def _extreme(values: Tensor, island: Tensor, which: str) -> Tensor:
    out = values.new_zeros(int(island[-1]) + 1)
    return out.scatter_reduce(0, island, values, which, include_self=False)


def blocks(n: int, size: int = ROWS) -> Iterator[slice]:
    """Slices of at most `size` that cover n rows."""
    return (slice(first, first + size) for first in range(0, n, size))


def grid_points(length: float, narrowest: float, per_sigma: float) -> float:
    """The power of two that puts `per_sigma` points on the narrowest sigma, or more."""
    wanted = length / narrowest * per_sigma
    return 2.0 ** max(math.ceil(math.log2(wanted)), int(math.log2(FEWEST_POINTS)))


@dataclass(frozen=True)
class Spectra:
    """S_g at w = 2 pi k / length, [G, points / 2 + 1], and the rows [G] of each group."""

    line: Islands
    points: int
    values: Tensor
    rows: Tensor

    @classmethod
    def of(
        cls,
        mu: Tensor,
        var: Tensor,
        line: Islands,
        *,
        points: int,
        spacing: float,
        group: Tensor | None = None,
        groups: int = 1,
    ) -> Spectra:
        """Of means and variances [N], in `groups` numbered by `group` [N]."""
        group = torch.zeros(len(mu), dtype=torch.int64) if group is None else group
        position = line.place(mu)[0] / line.length
        values = torch.zeros(groups, points // 2 + 1, dtype=torch.complex128)
        low = float(var.min())
        octave = octaves(var, low, points)
        for k in range(int(octave.max()) + 1):
            here = (octave == k).nonzero().flatten()
            if len(here) == 0:
                continue
            some = points >> k
            levels = Levels.of(var[here], low * 4.0**k, spacing)
            counts = _counts(position[here], var[here], group[here], levels, (groups, some))
            values[:, : some // 2 + 1] += _smoothed(counts, levels.var, line.length)
        return cls(line, points, values, torch.bincount(group, minlength=groups))

    def rest(self) -> Spectra:
        """Of all groups but each one, added up: a difference would keep the group's rounding."""
        others = 1.0 - torch.eye(len(self.rows), dtype=torch.float64)
        values = others.to(torch.complex128) @ self.values
        return Spectra(self.line, self.points, values, self.rows.sum() - self.rows)

    def widened(self, by: Tensor) -> Spectra:
        """With variances larger by `by` [G]."""
        decay = (-0.5 * _frequency(self.points, self.line.length).square()) * by[:, None]
        values = self.values * decay.clamp(min=-700.0).exp()
        return Spectra(self.line, self.points, values, self.rows)

    def values_at_points(self, points: int) -> Tensor:
        """The densities [G, points] on an even grid."""
        scale = points / self.line.length / self.rows.clamp(min=1).double()
        out: Tensor = torch.fft.irfft(self.values, points) * scale[:, None]
        return out

    def densities(self) -> SplineDensities:
        """Divided by the transform of the B-spline, the values become shares of B-splines.

        What is below 0 or lost in rounding is set to 0 and the rest divided by its sum, which
        leaves a density.
        """
        shares = torch.fft.irfft(self.values / _spline_transform(self.points), self.points)
        shares *= shares > NOISE * shares.amax(dim=1, keepdim=True)
        shares /= shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        shares *= (self.rows > 0)[:, None]
        return SplineDensities(self.line, shares)


@dataclass(frozen=True)
class SplineDensities:
    """Densities sum_k c_gk B((z - k h) / h) / h, B the cubic B-spline and c >= 0 with sum 1.

    Each integrates to 1 along the joined line, however coarse the grid; to 0 without rows.
    """

    line: Islands
    shares: Tensor

    def at(self, z: Tensor, group: Tensor | None = None) -> Tensor:
        """Density of each z [M] in its group [M]; 0 where no component reaches."""
        group = torch.zeros(len(z), dtype=torch.int64) if group is None else group
        if len(z) == 0:
            return torch.zeros_like(z)
        return torch.cat([self._at(z[some], group[some]) for some in blocks(len(z), 8 * ROWS)])

    def _at(self, z: Tensor, group: Tensor) -> Tensor:
        position, reached = self.line.place(z)
        points = self.shares.shape[1]
        x = (position / self.line.length).clamp(0.0, 1.0) * points
        first, weights = spline_weights(x)
        start = group * points
        flat, out = self.shares.flatten(), torch.zeros_like(z)
        for k, weight in enumerate(weights):
            out += weight * flat[start + (first + k) % points]
        return out.mul_(points / self.line.length) * reached


def spline_weights(x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """First of the four grid points around each x, and the cubic B-spline's weights there."""
    i = x.floor()
    t = x - i
    u, square = 1.0 - t, t * t
    weights = (
        u * u * u / 6.0,
        2.0 / 3.0 + square * (0.5 * t - 1.0),
        (1.0 + 3.0 * (t + square - square * t)) / 6.0,
        square * t / 6.0,
    )
    return i.long() - 1, weights


def octaves(var: Tensor, low: float, points: int) -> Tensor:
    """How often the grid may be halved for each component's variance against the least."""
    most = int(math.log2(points // FEWEST_POINTS))
    return (0.5 * (var / low).log2()).floor().long().clamp(0, most)


@dataclass(frozen=True)
class Levels:
    """Variances [L] low exp((k + first) spacing), or the only one there is.

    exp(-1/2 w^2 v) is interpolated in log v by the polynomial through its six neighbours.
    """

    var: Tensor
    low: float
    spacing: float
    first: int

    @classmethod
    def of(cls, var: Tensor, low: float, spacing: float) -> Levels:
        least, most = float(var.min()), float(var.max())
        if most <= least * (1.0 + 1e-12):
            return cls(var[:1], low, spacing, 0)
        below, above = (math.floor(math.log(v / low) / spacing) for v in (least, most))
        number = torch.arange(below - BELOW - 1, above + SHARING - BELOW + 1, dtype=torch.float64)
        return cls(low * (number * spacing).exp(), low, spacing, below - BELOW - 1)

    def place(self, var: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Of each component the first of its levels, and its shares of six from there."""
        if len(self.var) == 1:
            return torch.zeros(len(var), dtype=torch.int64), (torch.ones_like(var),)
        x = (var / self.low).log() / self.spacing
        i = x.floor()
        return i.long() - BELOW - self.first, lagrange_weights(x - i)


def lagrange_weights(t: Tensor) -> tuple[Tensor, ...]:
    """Of the polynomial through -2 -1 0 1 2 3, at each t in [0, 1]."""
    a, b, c, d, e, f = (t + 2.0), (t + 1.0), t, (t - 1.0), (t - 2.0), (t - 3.0)
    ab, cd, ef = a * b, c * d, e * f
    return (
        b * cd * ef / -120.0,
        a * cd * ef / 24.0,
        ab * d * ef / -12.0,
        ab * c * ef / 12.0,
        ab * cd * f / -24.0,
        ab * cd * e / 120.0,
    )


def _counts(
    position: Tensor, var: Tensor, group: Tensor, levels: Levels, shape: tuple[int, int]
) -> Tensor:
    """Rows by group, level and grid point, [G, L, points], each spread as a B-spline."""
    (groups, points), many = shape, len(levels.var)
    counts = torch.zeros(groups * many * points, dtype=torch.float64)
    for part in blocks(len(position)):
        first, weights = spline_weights(position[part] * points)
        at = [(first + k) % points for k in range(len(weights))]
        level, shares = levels.place(var[part])
        start = (group[part] * many + level) * points
        for k, share in enumerate(shares):
            for i, weight in zip(at, weights, strict=True):
                counts.index_add_(0, start + (k * points + i), weight * share)
    return counts.view(groups, many, points)


def _smoothed(counts: Tensor, var: Tensor, length: float) -> Tensor:
    """Sum over levels of their transforms, each level smoothed by its variance."""
    groups, levels, points = counts.shape
    decay = -0.5 * _frequency(points, length).square()
    out = torch.zeros(groups, points // 2 + 1, dtype=torch.complex128)
    some = max(CHUNK // (groups * points), 1)
    for first in range(0, levels, some):
        chosen = slice(first, first + some)
        gauss = (decay * var[chosen, None]).clamp_(min=-700.0).exp_()
        out += (torch.fft.rfft(counts[:, chosen]) * gauss).sum(dim=1)
    return out / _spline_transform(points)


def _frequency(points: int, length: float) -> Tensor:
    return torch.arange(points // 2 + 1, dtype=torch.float64) * (2.0 * math.pi / length)


def _spline_transform(points: int) -> Tensor:
    """sinc(w h / 2)^4: the Fourier transform of the cubic B-spline."""
    return torch.sinc(torch.arange(points // 2 + 1, dtype=torch.float64) / points).square().square()
