"""Which latent of one code is which of another, by what their means say of the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Nearness of two latents' levels decides only between equal correlations.
TIE = 1e-6


@dataclass(frozen=True)
class Pair:
    """Latent `base` of one code and `head` of the other; a negative correlation: mirrored.

    It is that of their means over the rows, and None where either mean is constant.
    """

    base: int
    head: int
    correlation: float | None


@dataclass(frozen=True)
class Order:
    """Latents in the order in which they are measured, and the sign [D] that each one gets."""

    latents: tuple[int, ...]
    signs: Tensor

    def of(self, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
        chosen = list(self.latents)
        return mu[:, chosen] * self.signs, logvar[:, chosen]


@dataclass(frozen=True)
class Matching:
    """The pairs come first in both orders; what only the code with more latents has, after them.

    The orders depend on the codes alone: neither on how their latents are numbered, mirrored or
    scaled, nor on which of the two is called the base.
    """

    pairs: tuple[Pair, ...]
    base: Order
    head: Order


def matched(
    base: tuple[Tensor, Tensor],
    head: tuple[Tensor, Tensor],
) -> Matching:
    """The assignment with the largest sum of |correlation of the means|; (mu, logvar) [N, D] each.

    Latents of constant mean are matched with each other, by the correlation of their log
    variances, and those constant altogether by their values. Where the numbers do not come out
    even, a latent of constant mean may be left for one that is not: as one that died.
    """
    b, h = _Shape.of(*base), _Shape.of(*head)
    similarity = b.similarity(h)
    found = linear_sum_assignment(similarity.numpy(), maximize=True)
    pairs = [(int(j), int(k)) for j, k in zip(*found, strict=True)]
    pairs.sort(key=lambda pair: (-(b.level(pair[0]) + h.level(pair[1])), *pair))
    ends = [_pair(b, h, j, k) for j, k in pairs]
    signs_b = {pair.base: sign for pair, sign, _ in ends}
    signs_h = {pair.head: sign for pair, _, sign in ends}
    return Matching(tuple(pair for pair, _, _ in ends), _order(b, signs_b), _order(h, signs_h))


@dataclass(frozen=True)
class _Shape:
    """A code as matching sees it: rows [D, N] centred and of length 1, or 0 where constant.

    `levels` [D] is log of the variance of mu_j over the mean of sigma_j^2, which no scale moves.
    """

    mu: Tensor
    means: Tensor
    widths: Tensor
    levels: Tensor
    log_widths: Tensor

    @classmethod
    def of(cls, mu: Tensor, logvar: Tensor) -> _Shape:
        # One latent a row: its sums are then the same wherever it stands.
        mu, logvar = mu.T.contiguous(), logvar.T.contiguous()
        means, spread = _direction(mu)
        width = torch.logsumexp(logvar, dim=1)
        levels = 2.0 * spread.log() - width
        return cls(mu, means, _direction(logvar)[0], levels, width - math.log(mu.shape[1]))

    def __len__(self) -> int:
        return len(self.mu)

    @property
    def still(self) -> Tensor:
        """Latents of constant mean, [D]."""
        return (self.means == 0.0).all(dim=1)

    def level(self, j: int) -> float:
        """Where a latent stands in the order; one of constant mean comes after all others."""
        level = float(self.levels[j])
        return level if math.isfinite(level) else -1e6 - float(self.log_widths[j])

    def similarity(self, other: _Shape) -> Tensor:
        """[D, D'], what the assignment adds up."""
        still = torch.outer(self.still, other.still)
        constant = torch.outer(*((x.widths == 0.0).all(dim=1) & x.still for x in (self, other)))
        by_width = (self.widths @ other.widths.T).clamp(min=0.0)
        levels = [torch.tensor([x.level(j) for j in range(len(x))]) for x in (self, other)]
        near = 1.0 / (1.0 + (levels[0].double()[:, None] - levels[1].double()).abs())
        by_mean = (self.means @ other.means.T).abs()
        return by_mean + torch.where(still, by_width + constant, 0.0) + TIE * near


def _direction(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [D, N] less their mean, of length 1, and their lengths; 0 for a constant row."""
    varies = (values != values[:, :1]).any(dim=1)
    centred = torch.where(varies[:, None], values - values.mean(dim=1, keepdim=True), 0.0)
    length = torch.where(varies, centred.square().sum(dim=1).sqrt(), 0.0)
    return centred / torch.where(length > 0.0, length, 1.0)[:, None], length


def _pair(b: _Shape, h: _Shape, j: int, k: int) -> tuple[Pair, float, float]:
    """A pair, and the signs that turn its most distant row to the positive side."""
    if bool(b.still[j] | h.still[k]):
        return Pair(j, k, None), _sign(b, j), _sign(h, k)
    correlation = float((b.means[j] * h.means[k]).sum())
    mirror = -1.0 if correlation < 0.0 else 1.0
    sign = _side(b.means[j] + mirror * h.means[k])
    return Pair(j, k, max(-1.0, min(1.0, correlation))), sign, mirror * sign


def _sign(shape: _Shape, j: int) -> float:
    return _side(shape.mu[j] if bool(shape.still[j]) else shape.means[j])


def _side(values: Tensor) -> float:
    return -1.0 if float(values[values.abs().argmax()]) < 0.0 else 1.0


def _order(shape: _Shape, signs: dict[int, float]) -> Order:
    rest = sorted(set(range(len(shape))) - set(signs), key=lambda j: (-shape.level(j), j))
    every = signs | {j: _sign(shape, j) for j in rest}
    return Order(tuple(every), torch.tensor(list(every.values()), dtype=torch.float64))
