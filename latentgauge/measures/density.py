"""Mixtures of N one-dimensional Gaussians: their density anywhere, and their entropy.

Components sorted into geometric levels of width, means binned on a grid, each level convolved
by FFT. Widths too far apart for one grid: the narrow ones are summed directly where they reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentgauge.measures.decomposition import LOG_2PI

# Beyond 9 sigma lie 2e-19 of a component.
REACH = 9.0
LARGEST_GRID = 2**22
CHUNK = 2**21


@dataclass(frozen=True)
class Resolution:
    """Grid points to the narrowest sigma, and the ratio of sigma from level to level.

    `work` is the most grid points times levels that one grid may take; beyond it, the wide
    components get a grid of `beside` points and the narrow ones none.
    """

    per_sigma: float
    ratio: float
    work: int
    beside: int


# A second or so at most.
EXACT = Resolution(per_sigma=8.0, ratio=1.05, work=2**25, beside=2**18)
# Any density gives an upper bound: those that only serve one may be coarse.
COARSE = Resolution(per_sigma=4.0, ratio=1.3, work=2**18, beside=2**13)


class Density(Protocol):
    """q(z) = 1/N sum_i N(z; mu_i, sigma_i^2)."""

    def at(self, z: Tensor) -> Tensor:
        """q at each z [M]; 0 where no component reaches."""
        ...

    def entropy(self) -> float:
        """-integral of q log q, in nats."""
        ...


def mixture_density(mu: Tensor, var: Tensor, *, resolution: Resolution = EXACT) -> Density:
    """The density of the mixture with means and variances [N]; by grid where one is enough."""
    islands = Islands.of(mu, var.sqrt())
    if _work(islands.length, var, resolution) <= resolution.work:
        return GridDensity.of(mu, var, islands, resolution)
    return UnevenDensity.of(mu, var, resolution=resolution)


def _work(length: float, var: Tensor, resolution: Resolution) -> float:
    low, high = math.sqrt(float(var.min())), math.sqrt(float(var.max()))
    points = length / low * resolution.per_sigma
    levels = 2.0 + math.log(high / low) / math.log(resolution.ratio)
    return points * levels if points <= LARGEST_GRID else math.inf


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
        k = (torch.searchsorted(self.low, z.contiguous(), right=True) - 1).clamp(min=0)
        reached = (z >= self.low[k]) & (z <= self.high[k])
        return z - self.anchor[k] + self.offset[k], reached


def _extreme(values: Tensor, island: Tensor, which: str) -> Tensor:
    out = values.new_zeros(int(island[-1]) + 1)
    return out.scatter_reduce(0, island, values, which, include_self=False)


@dataclass(frozen=True)
class GridDensity:
    """q [G] on an even grid over the joined islands."""

    islands: Islands
    step: float
    q: Tensor

    @classmethod
    def of(cls, mu: Tensor, var: Tensor, islands: Islands, resolution: Resolution) -> GridDensity:
        finest = math.sqrt(float(var.min())) / resolution.per_sigma
        points = 2 ** max(math.ceil(math.log2(islands.length / finest)), 4)
        step = islands.length / points
        position, _ = islands.place(mu)
        bins = (position / step).floor().clamp(0, points - 1)
        share = position / step - bins
        # Linear binning spreads a component by step^2 t (1 - t): take it off its variance.
        narrowed = var - step**2 * share * (1.0 - share)
        q = _convolved(bins.long(), share, narrowed, points, step, resolution.ratio)
        return cls(islands, step, q.clamp(min=0.0) / (len(mu) * step))

    def at(self, z: Tensor) -> Tensor:
        """By the cubic through four grid points, never below 0."""
        position, reached = self.islands.place(z)
        points = len(self.q)
        x = position.clamp(0.0, self.islands.length) / self.step
        i = x.floor().clamp(0, points - 1)
        t, i = x - i, i.long()
        weights = (
            -t * (t - 1.0) * (t - 2.0) / 6.0,
            (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0,
            -(t + 1.0) * t * (t - 2.0) / 2.0,
            (t + 1.0) * t * (t - 1.0) / 6.0,
        )
        q = torch.zeros_like(z)
        for k, weight in enumerate(weights, start=-1):
            q += weight * self.q[(i + k) % points]
        return torch.where(reached, q.clamp(min=0.0), 0.0)

    def entropy(self) -> float:
        return -self.step * float(torch.xlogy(self.q, self.q).sum())


def _convolved(
    bins: Tensor, share: Tensor, var: Tensor, points: int, step: float, ratio: float
) -> Tensor:
    """Sum over components of their Gaussians, times step, on a circular grid of `points`.

    A component goes to the two neighbouring levels of variance in the shares that keep its own.
    """
    level_var, level, upper = _levels(var, ratio)
    frequency = torch.fft.rfftfreq(points, d=step, dtype=torch.float64) * (2.0 * math.pi)
    decay = -0.5 * frequency.square()
    right = (bins + 1) % points
    spectrum = torch.zeros(len(frequency), dtype=torch.complex128)
    some = max(CHUNK // points, 1)
    for first in range(0, len(level_var), some):
        chosen = level_var[first : first + some]
        counts = torch.zeros(len(chosen) * points, dtype=torch.float64)
        for k, weight in ((level, 1.0 - upper), (level + 1, upper)):
            here = (k >= first) & (k < first + len(chosen)) & (weight > 0)
            row, w, t = (k[here] - first) * points, weight[here], share[here]
            counts += torch.bincount(row + bins[here], w * (1.0 - t), len(counts))
            counts += torch.bincount(row + right[here], w * t, len(counts))
        gauss = (decay * chosen[:, None]).clamp_(min=-700.0).exp_()
        spectrum += (torch.fft.rfft(counts.view(-1, points)) * gauss).sum(dim=0)
    out: Tensor = torch.fft.irfft(spectrum, points)
    return out


def _levels(var: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Variance of each level; each component's lower level; its share in the level above."""
    low, high = float(var.min()), float(var.max())
    span = math.log(high / low)
    if span < 1e-12:
        zero = torch.zeros_like(var)
        return var[:1], zero.long(), zero
    count = 2 + int(span / (2.0 * math.log(ratio)))
    grid = low * torch.linspace(0.0, span, count, dtype=torch.float64).exp()
    level = ((var / low).log() / span * (count - 1)).floor().clamp(0, count - 2).long()
    upper = (var - grid[level]) / (grid[level + 1] - grid[level])
    return grid, level, upper.clamp(0.0, 1.0)


# Panels of the uneven rule: at most 2 sigma of anything inside, 8 Gauss-Legendre nodes.
PANEL = 2.0
NODES = (0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363)
NODE_WEIGHTS = (0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763)
PAIRS = 2**22


@dataclass(frozen=True)
class UnevenDensity:
    """Components wide enough for a grid on it, the narrow ones summed where they reach."""

    mu: Tensor
    sigma: Tensor
    wide: GridDensity | None
    wide_share: float
    narrow_mu: Tensor
    narrow_sigma: Tensor

    @classmethod
    def of(cls, mu: Tensor, var: Tensor, *, resolution: Resolution = EXACT) -> UnevenDensity:
        sigma = var.sqrt()
        length = float((mu + REACH * sigma).max() - (mu - REACH * sigma).min())
        broad = sigma >= length * resolution.per_sigma / resolution.beside
        wide = None
        if bool(broad.any()):
            islands = Islands.of(mu[broad], sigma[broad])
            wide = GridDensity.of(mu[broad], var[broad], islands, resolution)
        share = float(broad.double().mean())
        return cls(mu, sigma, wide, share, mu[~broad], sigma[~broad])

    def at(self, z: Tensor) -> Tensor:
        x, order = z.sort()
        q = torch.zeros_like(z)
        q[order] = self._narrow_sum(x) / len(self.mu)
        if self.wide is not None:
            q += self.wide_share * self.wide.at(z)
        return q

    def entropy(self) -> float:
        left, width = _panels(self.mu, self.sigma)
        nodes = torch.tensor([-x for x in reversed(NODES)] + list(NODES), dtype=torch.float64)
        half = torch.tensor(NODE_WEIGHTS, dtype=torch.float64)
        weights = torch.cat([half.flip(0), half])
        x = left[:, None] + 0.5 * width[:, None] * (1.0 + nodes)
        q = self.at(x.flatten()).view(x.shape)
        return -float((0.5 * width[:, None] * weights * torch.xlogy(q, q)).sum())

    def _narrow_sum(self, x: Tensor) -> Tensor:
        """Sum of the narrow components' densities at sorted x."""
        reach = REACH * self.narrow_sigma
        first = torch.searchsorted(x, self.narrow_mu - reach)
        counts = torch.searchsorted(x, self.narrow_mu + reach, right=True) - first
        out = torch.zeros_like(x)
        ends = counts.cumsum(dim=0)
        done = 0
        while done < len(counts):
            limit = (int(ends[done - 1]) if done else 0) + PAIRS
            stop = max(int(torch.searchsorted(ends, limit, right=True)), done + 1)
            out += self._pairs(x, first[done:stop], counts[done:stop], slice(done, stop))
            done = stop
        return out

    def _pairs(self, x: Tensor, first: Tensor, counts: Tensor, some: slice) -> Tensor:
        start = (counts.cumsum(dim=0) - counts).repeat_interleave(counts)
        at = torch.arange(len(start)) - start + first.repeat_interleave(counts)
        mu = self.narrow_mu[some].repeat_interleave(counts)
        sigma = self.narrow_sigma[some].repeat_interleave(counts)
        log_q = -0.5 * ((x[at] - mu) / sigma).square() - sigma.log() - 0.5 * LOG_2PI
        return torch.bincount(at, log_q.exp(), len(x))


def _panels(mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Left ends and widths of panels that cover all components, halved where narrow ones are.

    Halving a common first panel keeps neighbours flush however far the widths are apart.
    """
    order = sigma.argsort()
    mu, sigma = mu[order], sigma[order]
    low, high = mu - REACH * sigma, mu + REACH * sigma
    left, width = low.min()[None], float(high.max() - low.min())
    lefts, widths = [], []
    while len(left):
        narrow = int(torch.searchsorted(sigma, width / PANEL))
        used = _touched(left, width, low, high)
        split = _touched(left, width, low[:narrow], high[:narrow])
        done = left[used & ~split]
        lefts.append(done)
        widths.append(torch.full_like(done, width))
        width *= 0.5
        left = torch.stack([left[split], left[split] + width], dim=1).flatten()
    return torch.cat(lefts), torch.cat(widths)


def _touched(left: Tensor, width: float, low: Tensor, high: Tensor) -> Tensor:
    """Which of the sorted panels some interval [low, high] overlaps."""
    first = torch.searchsorted(left + width, low, right=True)
    last = torch.searchsorted(left, high)
    some = last > first
    change = torch.bincount(first[some], minlength=len(left) + 1)
    change -= torch.bincount(last[some], minlength=len(left) + 1)
    return change.cumsum(dim=0)[:-1] > 0
