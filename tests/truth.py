"""Encoders whose information is known in closed form, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import integrate, optimize
from torch import Tensor

from latentgauge.measures.joint import Draws, Noise, Standardised, drawn_rows

F64 = torch.float64


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=generator(seed))


def drawn(table: Standardised, *, generator: torch.Generator, samples: int | None = None) -> Draws:
    """Draws of a table's rows, all of them or `samples`."""
    n, d = table.mu.shape
    noise = Noise.of(n, d, generator=generator)
    rows = drawn_rows(n, samples=samples or n, generator=generator)
    return Draws.of(table, noise, rows=rows)


@dataclass(frozen=True)
class LinearGaussian:
    """z = W x + sigma eps for x ~ N(0, I): mu = W x, C = W W^T + diag(sigma^2) over the data."""

    W: Tensor
    variance: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.W @ self.W.T + torch.diag(self.variance)

    @property
    def information(self) -> float:
        """I(X;Z) = 1/2 log det C - 1/2 sum log sigma_j^2."""
        return 0.5 * float(torch.logdet(self.covariance) - self.variance.log().sum())

    @property
    def informations(self) -> Tensor:
        """I(X;z_j) = 1/2 log(C_jj / sigma_j^2)."""
        return 0.5 * (self.covariance.diagonal() / self.variance).log()

    @property
    def total_correlation(self) -> float:
        return float(self.informations.sum()) - self.information

    @property
    def marginal_kl(self) -> float:
        """KL(N(0, C) || N(0, I))."""
        C = self.covariance
        return 0.5 * float(C.trace() - len(C) - torch.logdet(C))

    def sample(self, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
        x = normal(n, self.W.shape[1], seed=seed)
        return x @ self.W.T, self.variance.log().expand(n, -1).clone()


def independent(information: float, d: int) -> LinearGaussian:
    """mu ~ N(0, 1), one sigma: each of d latents carries information / d."""
    variance = 1.0 / (math.exp(2.0 * information / d) - 1.0)
    return LinearGaussian(torch.eye(d, dtype=F64), torch.full((d,), variance, dtype=F64))


def probabilistic_pca(eigenvalues: list[float], noise: float) -> LinearGaussian:
    """A linear VAE at its optimum: q(z) = N(0, I), I_j = KL_j = 1/2 log(lambda_j / s^2)."""
    variance = torch.tensor([min(noise / x, 1.0) for x in eigenvalues], dtype=F64)
    return LinearGaussian(torch.diag((1.0 - variance).sqrt()), variance)


def correlated(rho: float, d: int) -> LinearGaussian:
    """d pairs of correlation rho (Poole et al. 2019): I = -d/2 log(1 - rho^2)."""
    eye = torch.eye(d, dtype=F64)
    return LinearGaussian(rho * eye, torch.full((d,), 1.0 - rho**2, dtype=F64))


def two_widths(n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """mu ~ N(0, 1); log sigma^2 is -6 or 0 by a coin: rows differ in both KL and log ratio."""
    narrow = torch.rand(n, 1, generator=generator(seed + 1_000_000)) < 0.5
    return normal(n, 1, seed=seed), torch.where(narrow, -6.0, 0.0).to(F64)


def two_widths_information() -> tuple[float, float]:
    """KL(q(z|x) || p) in the mean, and I(X;Z), of `two_widths`: q(z) is a mixture of two."""
    width = (math.sqrt(1.0 + math.exp(-6.0)), math.sqrt(2.0))

    def integrand(z: float) -> float:
        q = 0.5 * sum(math.exp(-0.5 * (z / s) ** 2) / s for s in width) / math.sqrt(2.0 * math.pi)
        return -q * math.log(q)

    entropy = integrate.quad(integrand, -15.0, 15.0, epsabs=1e-10)[0]
    kl = 0.25 * (7.0 + math.exp(-6.0))
    return kl, entropy - 0.5 * (1.0 + math.log(2.0 * math.pi) - 3.0)


def clusters(k: int, per: int, d: int) -> tuple[Tensor, Tensor]:
    """k far-apart posteriors on a diagonal line: I = log k, TC = (d - 1) log k for this data."""
    centre = 100.0 * torch.arange(k, dtype=F64).repeat_interleave(per)
    return centre[:, None].expand(-1, d).clone(), torch.zeros(k * per, d, dtype=F64)


def brute_log_q(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log q(z_i|x_j), [M, N], by the definition of a Gaussian."""
    t = (z[:, None] - mu) / (0.5 * logvar).exp()
    return -0.5 * (t.square() + logvar + math.log(2.0 * math.pi)).sum(dim=2)


def equicorrelated(information: float, total_correlation: float, d: int) -> LinearGaussian:
    """sigma = 1 and Cov(mu) = v ((1 - r) I + r 1 1^T) with just this I and this TC.

    v from sum_j I_j = d/2 log(1 + v) = I + TC; r in (0, 1) from
    I = 1/2 [(d - 1) log(1 + v (1 - r)) + log(1 + v (1 + (d - 1) r))], which falls in r.
    """
    v = math.expm1(2.0 * (information + total_correlation) / d)

    def excess(r: float) -> float:
        rest, common = math.log1p(v * (1.0 - r)), math.log1p(v * (1.0 + (d - 1) * r))
        return 0.5 * ((d - 1) * rest + common) - information

    r = optimize.brentq(excess, 0.0, 1.0, xtol=1e-14)
    covariance = v * ((1.0 - r) * torch.eye(d, dtype=F64) + r * torch.ones(d, d, dtype=F64))
    return LinearGaussian(torch.linalg.cholesky(covariance), torch.ones(d, dtype=F64))


def scaled(W: Tensor, information: float) -> LinearGaussian:
    """W times the factor with which sigma = 1 carries just this information."""
    squares = torch.linalg.svdvals(W).square()

    def excess(log_factor: float) -> float:
        return 0.5 * float((math.exp(2.0 * log_factor) * squares).log1p().sum()) - information

    factor = math.exp(optimize.brentq(excess, -30.0, 30.0, xtol=1e-14))
    return LinearGaussian(factor * W, torch.ones(len(W), dtype=F64))


@dataclass(frozen=True)
class Mixture:
    """Component k has mu = c_k + A_k u, u ~ N(0, I), and its own sigma_k; all equally likely.

    centres [K, D], factors [K, D, R], logvars [K, D]. q(z) is the mixture of
    N(c_k, A_k A_k^T + diag(sigma_k^2)): neither its entropy nor I has a closed form.
    """

    centres: Tensor
    factors: Tensor
    logvars: Tensor

    @property
    def covariances(self) -> Tensor:
        return self.factors @ self.factors.mT + torch.diag_embed(self.logvars.exp())

    @property
    def conditional_entropies(self) -> Tensor:
        """H(z_j|X), [D]."""
        return 0.5 * (self.logvars.mean(dim=0) + 1.0 + math.log(2.0 * math.pi))

    def sample(self, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
        k = torch.randint(len(self.centres), (n,), generator=generator(seed + 1_000_000))
        u = normal(n, self.factors.shape[2], 1, seed=seed)
        return self.centres[k] + (self.factors[k] @ u).squeeze(2), self.logvars[k]

    def information(self, *, draws: int, seed: int) -> tuple[float, float]:
        """I(X;Z) = H(q) - H(Z|X) by Monte Carlo of the known density, and its standard error."""
        mu, logvar = self.sample(draws, seed=seed)
        z = mu + (0.5 * logvar).exp() * normal(*mu.shape, seed=seed + 1)
        each = torch.distributions.MultivariateNormal(self.centres, self.covariances)
        surprise = -(
            torch.logsumexp(each.log_prob(z[:, None]), dim=1) - math.log(len(self.logvars))
        )
        found = float(surprise.mean() - self.conditional_entropies.sum())
        return found, float(surprise.std()) / math.sqrt(draws)

    @property
    def informations(self) -> Tensor:
        """I(X;z_j), [D]: one-dimensional entropies by the trapezoidal rule."""
        sd = self.covariances.diagonal(dim1=1, dim2=2).sqrt()
        low, high = (self.centres - 12 * sd).amin(dim=0), (self.centres + 12 * sd).amax(dim=0)
        z = low + (high - low) * torch.linspace(0.0, 1.0, 100_001, dtype=F64)[:, None]
        t = (z[:, None] - self.centres) / sd
        q = (-0.5 * t.square()).exp().div(sd * math.sqrt(2.0 * math.pi)).mean(dim=1)
        return torch.trapezoid(-torch.special.xlogy(q, q), z, dim=0) - self.conditional_entropies

    @property
    def kl(self) -> float:
        """E KL(q(z|x) || N(0, I))."""
        square = self.centres.square() + self.covariances.diagonal(dim1=1, dim2=2)
        return 0.5 * float((square - 1.0 - self.logvars).mean(dim=0).sum())
