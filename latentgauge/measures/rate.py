"""The rate E[KL(q(z|x) || r)] against a Gaussian r, row by row and without sampling.

For any r that has not seen the row it is an upper bound on I(X;Z) in expectation: Barber & Agakov
2003; Alemi et al. 2018, arXiv:1711.00464.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentgauge.measures.decomposition import entropy_rows
from latentgauge.measures.gaussian import Gaussian, shrunk_covariance
from latentgauge.measures.joint import Standardised


def gaussian_rate(mu: Tensor, logvar: Tensor, r: Gaussian) -> Tensor:
    """KL(q(z|x_i) || r) in nats, [N]: -log r(mu_i) + 1/2 tr(C^-1 Sigma_i) - H(q(z|x_i))."""
    precision = (r.u.square() / r.lam).sum(dim=1) / r.s.square()
    spread = 0.5 * (logvar.exp() * precision).sum(dim=1)
    return spread - r.log_density(mu) - entropy_rows(logvar).sum(dim=1)


def moment_matched_rates(table: Standardised) -> tuple[Tensor, Tensor]:
    """Rates [N] against the Gaussians with the code's own moments: diagonal, and full.

    Their means are H(N(m, C)) - H(Z|X), C = Cov(mu) + mean Sigma being the mixture's own
    covariance. The Gaussian has the most entropy at given covariance, so the full one is at
    least I_N, and I once the moments are the population's; fitted to few rows it lies lower.
    The diagonal one adds what the latents share.
    """
    mean = table.mu.mean(dim=0)
    x = table.mu - mean
    covariance = x.T @ x / len(x) + torch.diag(table.logvar.exp().mean(dim=0))
    diagonal = Gaussian.of(mean, torch.diag(covariance.diagonal()))
    full = Gaussian.of(mean, covariance)
    return gaussian_rate(table.mu, table.logvar, diagonal), gaussian_rate(
        table.mu, table.logvar, full
    )


def held_out_rate(table: Standardised, folds: Tensor) -> Tensor | None:
    """Rate [N] against the Gaussian of the folds that do not hold the row; None for one fold.

    Its covariance of the means is shrunk, so that few rows do not make it too sure.
    """
    count = int(folds.max()) + 1
    if count == 1:
        return None
    out = table.mu.new_empty(len(table.mu))
    for fold in range(count):
        mine, rest = folds == fold, folds != fold
        mu, noise = table.mu[rest], table.logvar[rest].exp().mean(dim=0)
        r = Gaussian.of(mu.mean(dim=0), shrunk_covariance(mu) + torch.diag(noise))
        out[mine] = gaussian_rate(table.mu[mine], table.logvar[mine], r)
    return out
