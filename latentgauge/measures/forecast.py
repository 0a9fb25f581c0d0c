"""Which latents could be alive: a linear VAE on data of a known spectrum, in closed form.

It collapses for no fault of the training: a direction of the data that varies less than the
decoder's noise is not worth its KL. Real encoders are held against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Forecast:
    """A linear VAE at its optimum, direction by direction of the data, in the spectrum's order.

    `information` [K] is I_j = KL_j in nats, 0 where `alive` [K] is false. A direction is alive
    for any beta below `beta_limit` [K] with this decoder variance, and for any decoder variance
    below `variance_limit` [K] with this beta: what would revive a dead one.
    """

    alive: Tensor
    information: Tensor
    beta_limit: Tensor
    variance_limit: Tensor

    @property
    def total(self) -> float:
        """I(X;Z) in nats of as many latents as directions."""
        return float(self.information.sum())


def forecast(spectrum: Tensor, decoder_variance: float, *, beta: float = 1.0) -> Forecast:
    """Latents of eigenvalue lambda_j > beta s^2 live, with I_j = 1/2 log(lambda_j / (beta s^2)).

    For the decoder N(W z + b, s^2 I) and the objective E log p(x|z) - beta KL. Divided by beta
    it is, up to a constant, the evidence bound of a decoder of variance beta s^2, whose optimum
    is probabilistic PCA (Lucas et al. 2019, https://arxiv.org/abs/1911.02469; Dai et al. 2020,
    https://arxiv.org/abs/1912.10702): W_j = (lambda_j - beta s^2)^(1/2) u_j, q(z) = N(0, I) and
    Var(z_j|x) = beta s^2 / lambda_j. Exact for that model, a forecast for any other.

    spectrum [K] holds eigenvalues of the data's covariance, at least 0; decoder_variance s^2 and
    beta are above 0.
    """
    noise = beta * decoder_variance
    alive = spectrum > noise
    information = torch.where(alive, 0.5 * (spectrum / noise).log(), 0.0)
    return Forecast(alive, information, spectrum / decoder_variance, spectrum / beta)


def largest(spectrum: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest eigenvalues, descending: those that latents would take."""
    return spectrum.argsort(descending=True, stable=True)[:count]
