"""KL(q(z|x) || p(z)), exact, and what the data set's figures add up to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


def kl_rows(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z_j|x_i) || N(0, 1)) in nats, [N, D].

    1/2 (mu^2 + sigma^2 - 1 - log sigma^2), with expm1 where sigma is near 1 so that a collapsed
    code reads 0 and not rounding.
    """
    return 0.5 * (mu.square() + torch.expm1(logvar) - logvar)


def entropy_rows(logvar: Tensor) -> Tensor:
    """Differential entropy of q(z_j|x_i) in nats, [N, D]: 1/2 log(2 pi e sigma^2)."""
    return 0.5 * (logvar + 1.0 + LOG_2PI)


def log_normal(z: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """log N(z; mean, var), entry by entry."""
    return -0.5 * ((z - mean).square() / var + var.log() + LOG_2PI)
