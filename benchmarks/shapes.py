"""Three codes that are not Gaussian: curved sheets and clusters, and what they carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Parameters of the sources come from one seed, rows from another.
PARAMETERS = 99
REFERENCE, POINTS, BLOCK = 400_000, 2_500, 8_192

Array = np.ndarray[Any, np.dtype[np.float64]]
Shape = Callable[[int, np.random.Generator], tuple[Array, Array]]


def sheet(n: int, rows: np.random.Generator) -> tuple[Array, Array]:
    """A 3-D sheet in 16: mu = 2 tanh(.6 u W), u ~ N(0, I), sigma = .15."""
    W = np.random.default_rng(PARAMETERS).normal(size=(3, 16))
    u = rows.normal(size=(n, 3))
    return 2.0 * np.tanh(0.6 * (u @ W)), np.full((n, 16), 2.0 * math.log(0.15))


def clusters(n: int, rows: np.random.Generator) -> tuple[Array, Array]:
    """50 clusters in 16: mu = c_k + A_k u, c ~ N(0, 1.5^2), A ~ N(0, .4^2) [16, 4], sigma = .4."""
    parameters = np.random.default_rng(PARAMETERS)
    c = 1.5 * parameters.normal(size=(50, 16))
    A = 0.4 * parameters.normal(size=(50, 16, 4))
    k = rows.integers(50, size=n)
    u = rows.normal(size=(n, 4))
    return c[k] + np.einsum("nij,nj->ni", A[k], u), np.full((n, 16), 2.0 * math.log(0.4))


def varying(n: int, rows: np.random.Generator) -> tuple[Array, Array]:
    """A 6-D sheet in 24: mu = 1.5 sin(.5 u W), log sigma^2 = 2 log .4 + .6 tanh(u V)."""
    parameters = np.random.default_rng(PARAMETERS)
    W = parameters.normal(size=(6, 24))
    u = rows.normal(size=(n, 6))
    V = parameters.normal(size=(6, 24))
    return 1.5 * np.sin(0.5 * (u @ W)), 2.0 * math.log(0.4) + 0.6 * np.tanh(u @ V)


def table(shape: Shape, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    mu, logvar = shape(n, np.random.default_rng(seed))
    return torch.from_numpy(mu), torch.from_numpy(logvar)


@dataclass(frozen=True)
class Truth:
    """Both sides of I(X;Z), and the standard error of each, in nats."""

    lower: float
    upper: float
    standard_error: float


def truth(shape: Shape) -> Truth:
    """I of the source between the two bounds of Poole et al. 2019 from a reference population.

    With B = 400,000 posteriors, E[log q(z|x) - log q_B(z)] is at most I with the row's own term
    in the mixture, at least I without. Points are the first rows; their own log density less
    its mean serves as control variate with the coefficient that least squares gives it.
    """
    mu, logvar = table(shape, REFERENCE, seed=1)
    eps = torch.from_numpy(np.random.default_rng(2).standard_normal((POINTS, mu.shape[1])))
    z = mu[:POINTS] + eps * (0.5 * logvar[:POINTS]).exp()
    own = -0.5 * (eps.square() + logvar[:POINTS] + math.log(2.0 * math.pi)).sum(dim=1)
    others = log_sums(z, mu, logvar)
    control = -0.5 * (eps.square() - 1.0).sum(dim=1)
    low, error = regressed(own - torch.logaddexp(others, own) + math.log(REFERENCE), control)
    high, other_error = regressed(own - others + math.log(REFERENCE - 1), control)
    return Truth(low, high, max(error, other_error))


def log_sums(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log of the sum over j != i of q(z_i|x_j), [M], for draws of the first M rows."""
    total = torch.full((len(z),), -math.inf, dtype=z.dtype)
    basis = torch.cat([z.square(), z, torch.ones_like(z[:, :1])], dim=1)
    for start in range(0, len(mu), BLOCK):
        m, log_s2 = mu[start : start + BLOCK], logvar[start : start + BLOCK]
        p = (-log_s2).exp()
        constant = -0.5 * (m.square() * p + log_s2 + math.log(2.0 * math.pi)).sum(dim=1)
        log_q = basis @ torch.cat([-0.5 * p, m * p, constant[:, None]], dim=1).T
        if start < len(z):
            log_q.diagonal(offset=-start).fill_(-math.inf)
        peak = log_q.amax(dim=1)
        # exp is many times slower where it underflows; e^-700 is nothing beside 1.
        part = log_q.sub_(peak[:, None]).clamp_(min=-700.0).exp_().sum(dim=1)
        total = torch.logaddexp(total, part.log() + peak)
    return total


def regressed(values: Tensor, control: Tensor) -> tuple[float, float]:
    """Mean and standard error of values less their regression on a control of mean 0."""
    centred = control - control.mean()
    b = (centred @ values) / (centred @ centred)
    rest = values - b * control
    return float(rest.mean()), float(rest.std()) / math.sqrt(len(rest))
