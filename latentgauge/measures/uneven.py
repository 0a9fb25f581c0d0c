"""Mixtures whose widths lie too far apart for one grid: the narrow components summed directly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import LOG_2PI
from latentgauge.measures.displacement import Entropy, displaced_entropy, displacement
from latentgauge.measures.spectrum import (
    REACH,
    Islands,
    Resolution,
    Spectra,
    SplineDensities,
    blocks,
)

# Panels of the rule: at most so many sigma of anything inside. Gauss-Kronrod, 7 and 15 nodes,
# Piessens et al. 1983, QUADPACK, section 3.
PANEL = 2.5
NODES = (
    0.9914553711208126,
    0.9491079123427585,
    0.8648644233597691,
    0.7415311855993944,
    0.5860872354676911,
    0.4058451513773972,
    0.2077849550078985,
    0.0,
)
KRONROD = (
    0.0229353220105292,
    0.0630920926299786,
    0.1047900103222502,
    0.1406532597155259,
    0.1690047266392679,
    0.1903505780647854,
    0.2044329400752989,
    0.2094821410847278,
)
GAUSS = (
    0.0,
    0.1294849661688697,
    0.0,
    0.2797053914892767,
    0.0,
    0.3818300505051189,
    0.0,
    0.4179591836734694,
)
PAIRS = 2**19
# Windows of the direct sum are filled up to the longest of their block.
FILLED = 0.75
FINE = Resolution(per_sigma=10.0, spacing=0.13)
FINE_GRID = 2**16


@dataclass(frozen=True)
class UnevenDensity:
    """Components wide enough for a grid on it, the narrow ones summed where they reach."""

    mu: Tensor
    sigma: Tensor
    wide: SplineDensities | None
    wide_share: float
    narrow_mu: Tensor
    narrow_sigma: Tensor
    apart: float

    @classmethod
    def of(
        cls,
        mu: Tensor,
        var: Tensor,
        islands: Islands,
        *,
        resolution: Resolution = FINE,
        points: int = FINE_GRID,
    ) -> UnevenDensity:
        """With a grid of `points` for the components that it resolves."""
        sigma = var.sqrt()
        broad = sigma >= islands.length * resolution.per_sigma / points
        wide, apart, share = None, 0.0, float(broad.double().mean())
        if bool(broad.any()):
            islands = Islands.of(mu[broad], sigma[broad])
            spacing = resolution.spacing
            spectra = Spectra.of(mu[broad], var[broad], islands, points=points, spacing=spacing)
            wide = spectra.densities()
            # Once on to the grid, once off it.
            apart = 2.0 * share * displacement(var[broad], islands.length, points, spacing)
        return cls(mu, sigma, wide, share, mu[~broad], sigma[~broad], apart)

    def at(self, z: Tensor) -> Tensor:
        x, order = z.sort()
        q = torch.empty_like(z)
        q[order] = self._at_sorted(x)
        return q

    def _at_sorted(self, x: Tensor) -> Tensor:
        q = window_sum(x, self.narrow_mu, self.narrow_sigma).div_(len(self.mu))
        return q if self.wide is None else q.add_(self.wide.at(x), alpha=self.wide_share)

    def entropy(self) -> float:
        return self.bounded_entropy().value

    def bounded_entropy(self) -> Entropy:
        """By panels; the error of the rule is that of 7 nodes against 15, panel by panel."""
        left, width = _panels(self.mu, self.sigma)
        nodes, kronrod, gauss = _rule()
        total = mass = rule_error = highest = 0.0
        for some in blocks(len(left)):
            half = 0.5 * width[some]
            x = left[some, None] + half[:, None] * (1.0 + nodes)
            q = self._at_sorted(x.flatten()).view(x.shape)
            f = torch.xlogy(q, q)
            total += float(((f @ kronrod) * half).sum())
            mass += float(((q @ kronrod) * half).sum())
            rule_error += float(((f @ (kronrod - gauss)) * half).abs().sum())
            highest = max(highest, float(q.max()))
        # As on a grid, the mass is 1.
        top = 1.0 + math.log(highest)
        apart = displaced_entropy(self.apart, highest * float(width.sum())) if self.apart else 0.0
        return Entropy(top * (mass - 1.0) - total, rule_error + apart + self._misplaced(highest))

    def _misplaced(self, highest: float) -> float:
        """What rounding of the nodes does: u max|x| times the integral of |q'| log(e M / q)."""
        furthest = float((self.mu.abs() + REACH * self.sigma).max())
        # q is at least a component's own share.
        log_ratio = (highest * len(self.mu) * math.sqrt(2.0 * math.pi) * self.sigma).log()
        each = (2.5 + log_ratio.clamp(min=0.0)) / self.sigma
        return 2.0**-53 * furthest * float(each.mean())


def window_sum(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """sum_i N(x; mu_i, sigma_i^2) at sorted x, each component where it reaches."""
    first = torch.searchsorted(x, mu - REACH * sigma)
    counts = torch.searchsorted(x, mu + REACH * sigma, right=True) - first
    counts, order = counts.sort(descending=True)
    ascending = -counts
    out, done, used = torch.zeros_like(x), 0, int((counts > 0).sum())
    while done < used:
        width = int(counts[done])
        alike = int(torch.searchsorted(ascending, -FILLED * width, right=True))
        stop = min(max(alike, done + 1), done + max(PAIRS // width, 1))
        some = order[done:stop]
        at = first[some, None] + torch.arange(width)
        _add_windows(out, x, at, mu[some, None], sigma[some, None])
        done = stop
    return out


def _add_windows(out: Tensor, x: Tensor, at: Tensor, mu: Tensor, sigma: Tensor) -> None:
    # Beyond its reach a component adds next to nothing, past the last x nothing at all.
    past = at >= len(x)
    at.clamp_(max=len(x) - 1)
    t = (x[at] - mu).div_(sigma).square_().mul_(-0.5)
    q = t.clamp_(min=-700.0).exp_().mul_(math.exp(-0.5 * LOG_2PI) / sigma)
    out.index_add_(0, at.flatten(), q.masked_fill_(past, 0.0).flatten())


def _rule() -> tuple[Tensor, Tensor, Tensor]:
    """Nodes in [-1, 1] and the two sets of weights."""
    positive, kronrod, gauss = torch.tensor([NODES, KRONROD, GAUSS], dtype=torch.float64)
    nodes = torch.cat([-positive, positive[:-1].flip(0)])
    both = [torch.cat([w, w[:-1].flip(0)]) for w in (kronrod, gauss)]
    return nodes, both[0], both[1]


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
    left, order = torch.cat(lefts).sort()
    return left, torch.cat(widths)[order]


def _touched(left: Tensor, width: float, low: Tensor, high: Tensor) -> Tensor:
    """Which of the sorted panels some interval [low, high] overlaps."""
    first = torch.searchsorted(left + width, low, right=True)
    last = torch.searchsorted(left, high)
    some = last > first
    change = torch.bincount(first[some], minlength=len(left) + 1)
    change -= torch.bincount(last[some], minlength=len(left) + 1)
    return change.cumsum(dim=0)[:-1] > 0
