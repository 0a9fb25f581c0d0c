"""One-dimensional Gaussian mixtures by definition and by adaptive quadrature."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from scipy import integrate
from torch import Tensor


def brute_density(z: Tensor, mu: Tensor, var: Tensor) -> Tensor:
    """1/N sum_i N(z; mu_i, var_i), [M]."""
    each = -0.5 * ((z[:, None] - mu).square() / var + var.log() + math.log(2 * math.pi))
    return each.exp().mean(dim=1)


def entropy_by_quadrature(mu: Tensor, var: Tensor) -> float:
    """-integral of q log q to about 1e-9, by pieces that no component is narrower than."""
    m, s = mu.numpy(), var.sqrt().numpy()

    def integrand(x: float) -> float:
        q = float(np.mean(np.exp(-0.5 * ((x - m) / s) ** 2) / s)) / math.sqrt(2.0 * math.pi)
        return -q * math.log(q) if q > 0.0 else 0.0

    places = np.concatenate([[-10.0], np.arange(-8.0, 9.0, 2.0), [10.0]])
    edges = np.unique(m[:, None] + s[:, None] * places)
    pieces = (
        integrate.quad(integrand, a, b, epsabs=1e-12, epsrel=1e-10)[0] for a, b in pairwise(edges)
    )
    return math.fsum(pieces)


def quadrature_nodes(mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights that resolve each of the given Gaussians out to 12 sigma."""
    edges = torch.unique((mu[:, None] + sigma[:, None] * torch.arange(-12.0, 12.1, 0.25)).flatten())
    x, w = np.polynomial.legendre.leggauss(8)
    half = 0.5 * edges.diff()[:, None]
    nodes = edges[:-1, None] + half * (1.0 + torch.from_numpy(x))
    return nodes.flatten(), (half * torch.from_numpy(w)).flatten()
