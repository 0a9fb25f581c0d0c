"""What others compute from a posterior table, written from the equations of their papers.

Each gives a data set's figures from a table mu, logvar [N, D] with one draw z_i a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

LOG_2PI = math.log(2.0 * math.pi)
# Draws at a time: the [draws, N, D] log densities of a few are what memory holds.
DRAWS_AT_A_TIME = 16


@dataclass(frozen=True)
class Decomposition:
    """I, TC and I_j in nats; None for what a method does not give."""

    information: float
    total_correlation: float | None = None
    informations: Tensor | None = None


def decomposition_by_sampling(
    mu: Tensor, logvar: Tensor, *, draws: int, generator: Generator
) -> Decomposition:
    """The index-code MI, TC and I_j of Chen et al. 2018, arXiv:1802.04942, section 3 and app. C.

    Every E_q(z) log q is a mean over draws, q(z) = 1/N sum_n q(z|x_n) and its marginals
    q(z_j) = 1/N sum_n q(z_j|x_n) summed over the full data set for each draw, as their evaluation
    does: log densities of every draw, row and latent, then log-sum-exps over rows.
    """
    n, d = mu.shape
    rows = torch.randperm(n, generator=generator)[:draws]
    eps = torch.randn(len(rows), d, dtype=mu.dtype, generator=generator)
    z = mu[rows] + eps * (0.5 * logvar[rows]).exp()
    joint, alone = z.new_empty(len(rows)), torch.empty_like(z)
    precision = (-logvar).exp()
    for start in range(0, len(rows), DRAWS_AT_A_TIME):
        part = slice(start, start + DRAWS_AT_A_TIME)
        log_q = -0.5 * ((z[part, None] - mu).square() * precision + logvar + LOG_2PI)
        joint[part] = torch.logsumexp(log_q.sum(dim=2), dim=1) - math.log(n)
        alone[part] = torch.logsumexp(log_q, dim=1) - math.log(n)
    own = -0.5 * (eps.square() + logvar[rows] + LOG_2PI)
    return Decomposition(
        float((own.sum(dim=1) - joint).mean()),
        float((joint - alone.sum(dim=1)).mean()),
        (own - alone).mean(dim=0),
    )


def batch_information(
    mu: Tensor, logvar: Tensor, *, batch: int, generator: Generator
) -> Decomposition:
    """`calc_mi` of He et al. 2019, arXiv:1901.05534, section 4.2: the mean over minibatches.

    -H(z|x) in closed form less the mean of log 1/B sum_b q(z|x_b) over the batch: <= log B.
    """
    order = torch.randperm(len(mu), generator=generator)
    found = []
    for rows in order[: len(mu) // batch * batch].split(batch):
        m, log_s2 = mu[rows], logvar[rows]
        z = m + (0.5 * log_s2).exp() * torch.randn(m.shape, dtype=m.dtype, generator=generator)
        t = (z[:, None] - m).square() * (-log_s2).exp()
        log_q = -0.5 * (t + log_s2 + LOG_2PI).sum(dim=2)
        surprise = math.log(batch) - torch.logsumexp(log_q, dim=1).mean()
        found.append(float(surprise - conditional_entropy(log_s2)))
    return Decomposition(math.fsum(found) / len(found))


def diagonal_gaussian(mu: Tensor, logvar: Tensor) -> Decomposition:
    """H of a diagonal Gaussian with the code's moments less H(Z|X): it counts TC as information."""
    variance = mu.var(dim=0) + logvar.exp().mean(dim=0)
    alone = 0.5 * (variance.log() - logvar.mean(dim=0))
    return Decomposition(float(alone.sum()), 0.0, alone)


def conditional_entropy(logvar: Tensor) -> Tensor:
    """H(Z|X) = E sum_j 1/2 log(2 pi e sigma_j^2)."""
    return 0.5 * (logvar + 1.0 + LOG_2PI).sum(dim=1).mean()
