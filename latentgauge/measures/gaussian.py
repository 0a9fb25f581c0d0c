"""A Gaussian fitted to the code: moments of mu, shrunk, plus the mean of sigma^2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from latentgauge.measures.decomposition import LOG_2PI

# Rows that are read at a time.
STRIPE = 2**14
# Below this many rows the kernel estimate behind the shrinkage means nothing (Ledoit & Wolf).
FEWEST_ROWS = 12
CONSTANT = 1e-12
SMALLEST_EIGENVALUE = 1e-13
# A control's largest standard deviation given x, in medians over rows.
WIDEST = 10.0


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag(s) U diag(lam) U^T diag(s)): mean, s, lam [D] and U [D, D]."""

    mean: Tensor
    s: Tensor
    lam: Tensor
    u: Tensor

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> Gaussian:
        """Eigenvalues of the correlation matrix are kept above 1e-13 of the largest."""
        s = covariance.diagonal().sqrt()
        lam, u = torch.linalg.eigh(covariance / s[:, None] / s[None, :])
        return cls(mean, s, lam.clamp(min=float(lam[-1]) * SMALLEST_EIGENVALUE), u)

    def log_density(self, z: Tensor) -> Tensor:
        """log N(z_i) in nats, [M]."""
        y = self._whitened(z - self.mean)
        log_det = self.lam.log().sum() + 2.0 * self.s.log().sum()
        return -0.5 * (y.square().sum(dim=1) + log_det + len(self.s) * LOG_2PI)

    def conditional_control(self, mu: Tensor, delta: Tensor, var: Tensor) -> Tensor:
        """log g(z_i) - E[log g(z)|x_i] for z = mu + delta, delta ~ N(0, var): mean 0; [M].

        Rows where x makes it far wider than usual are scaled down, which keeps their mean: one
        distant row would outweigh all others wherever this is a regressor.
        """
        y_mu, y_delta = self._whitened(mu - self.mean), self._whitened(delta)
        precision = (self.u.square() / self.lam).sum(dim=1) / self.s.square()
        expected = (var * precision).sum(dim=1)
        control = -(y_mu * y_delta).sum(dim=1) - 0.5 * (y_delta.square().sum(dim=1) - expected)
        slope = ((y_mu / self.lam.sqrt()) @ self.u.T) / self.s
        width = (slope.square() * var + 0.5 * (var * precision).square()).sum(dim=1).sqrt()
        return control * (WIDEST * width.median() / width).clamp(max=1.0)

    def _whitened(self, x: Tensor) -> Tensor:
        return ((x / self.s) @ self.u) / self.lam.sqrt()


@dataclass(frozen=True)
class Moments:
    """Of n rows of a posterior table: mean [D] and scatter [D, D] of mu, mean sigma^2 [D].

    `reach` [D] is the largest |mu|. Moments of disjoint rows join to those of both (Chan,
    Golub & LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115).
    """

    n: int
    mean: Tensor
    scatter: Tensor
    noise: Tensor
    reach: Tensor

    @classmethod
    def of(cls, mu: Tensor, var: Tensor) -> Moments:
        mean = mu.mean(dim=0)
        centred = mu - mean
        noise, reach = var.mean(dim=0), mu.abs().amax(dim=0)
        return cls(len(mu), mean, centred.T @ centred, noise, reach)

    @classmethod
    def of_rows(cls, mu: Tensor, logvar: Tensor, rows: Tensor) -> Moments:
        """Of these rows of a table, a stripe at a time."""
        parts = (cls.of(mu[some], logvar[some].exp()) for some in torch.split(rows, STRIPE))
        return reduce(cls.joined, parts)

    def joined(self, other: Moments) -> Moments:
        n = self.n + other.n
        share, apart = other.n / n, other.mean - self.mean
        between = torch.outer(apart, apart) * (self.n * share)
        return Moments(
            n,
            self.mean + share * apart,
            self.scatter + other.scatter + between,
            self.noise + share * (other.noise - self.noise),
            torch.maximum(self.reach, other.reach),
        )

    def shrunk_covariance(self) -> Tensor:
        """Covariance of mu [D, D] with analytically shrunk eigenvalues.

        Ledoit & Wolf 2020, Analytical nonlinear shrinkage of large-dimensional covariance
        matrices, Annals of Statistics 48(5), https://doi.org/10.1214/19-AOS1921. On columns of
        unit variance; constant columns keep variance 0. Fewer than 12 rows: variances alone.
        """
        n, d = self.n, len(self.mean)
        if n < 2:
            return self.scatter.new_zeros(d, d)
        sd = (self.scatter.diagonal() / (n - 1)).sqrt()
        live = sd > CONSTANT * (1.0 + self.reach)
        if n < FEWEST_ROWS or not bool(live.any()):
            return torch.diag(torch.where(live, sd.square(), 0.0))
        index = live.nonzero().flatten()
        scale = torch.outer(sd[live], sd[live])
        lam, u = torch.linalg.eigh(self.scatter[index][:, index] / scale / (n - 1))
        correlation = (u * shrunk_eigenvalues(lam, n - 1)) @ u.T
        out = self.scatter.new_zeros(d, d)
        out[index[:, None], index[None, :]] = correlation * scale
        return out


def moments_elsewhere(mu: Tensor, logvar: Tensor, folds: Tensor) -> list[Moments]:
    """For each of two or more folds the moments of the other folds' rows."""
    rows = [(folds == fold).nonzero().flatten() for fold in range(int(folds.max()) + 1)]
    each = [Moments.of_rows(mu, logvar, r) for r in rows]
    return [reduce(Moments.joined, each[:f] + each[f + 1 :]) for f in range(len(each))]


def shrunk_covariance(x: Tensor) -> Tensor:
    """`Moments.shrunk_covariance` of the rows of x [n, D]."""
    return Moments.of(x, torch.zeros_like(x)).shrunk_covariance()


def shrunk_eigenvalues(lam: Tensor, n: int) -> Tensor:
    """The shrunk [p] eigenvalues, ascending as they came, for n degrees of freedom."""
    p = len(lam)
    positive = lam > 1e-10 * float(lam[-1])
    r = int(positive.sum())
    short_of_rows = p > n and r == n
    seen = lam[positive]
    density, hilbert = _epanechnikov(seen, n)
    out = torch.zeros_like(lam)
    if short_of_rows:
        out[positive] = seen / (math.pi * seen).square() / (density.square() + hilbert.square())
        out[~positive] = _null_eigenvalue(seen, n, p)
        return out
    c = r / n
    a = math.pi * c * seen
    out[positive] = seen / ((a * density).square() + (1.0 - c - a * hilbert).square())
    return out


def _epanechnikov(lam: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The spectral density at each eigenvalue and its Hilbert transform, Epanechnikov kernel."""
    width = n ** (-1.0 / 3.0) * lam[None, :]
    x = (lam[:, None] - lam[None, :]) / width
    root = math.sqrt(5.0)
    density = 0.75 / root * ((1.0 - x.square() / 5.0).clamp(min=0.0) / width).mean(dim=1)
    edge = ((root - x) / (root + x)).abs().log() * (1.0 - x.square() / 5.0)
    edge = torch.where(edge.isfinite(), edge, 0.0)
    hilbert = (-0.3 / math.pi * x + 0.75 / root / math.pi * edge) / width
    return density, hilbert.mean(dim=1)


def _null_eigenvalue(lam: Tensor, n: int, p: int) -> float:
    """What the null eigenvalues become when there are fewer rows than columns."""
    h, root = n ** (-1.0 / 3.0), math.sqrt(5.0)
    tail = 0.75 / root / h * (1.0 - 0.2 / h**2) * math.log((1.0 + root * h) / abs(1.0 - root * h))
    hilbert = (0.3 / h**2 + tail) / math.pi * float((1.0 / lam).mean())
    return float(1.0 / (math.pi * (p - n) / n * hilbert))
