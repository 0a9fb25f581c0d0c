"""Bounds on what arithmetic does to each figure, in nats.

Higham 2002, Accuracy and Stability of Numerical Algorithms: n roundings in a row leave at most
gamma_n = n u / (1 - n u) of the terms' magnitudes (lemma 3.1), and so does a sum whose terms each
meet n additions at most (section 4.2). The references are exact arithmetic on the same float64
table and noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentgauge.measures.decomposition import LOG_2PI
from latentgauge.measures.joint import UNIT_ROUNDOFF, Draws, Standardised, square_errors
from latentgauge.measures.marginals import placeable_sigma


@dataclass(frozen=True)
class Rounding:
    """Bounds in nats on the numerical error of each figure of the data set.

    `information` is that of I_N, `informations` those of each I_Nj, which include its grid's.
    `labels`, of I_N(Z;Y), is None without labels.
    """

    kl: float
    information: float
    informations: tuple[float, ...]
    labels: float | None

    @classmethod
    def of(
        cls,
        mu: Tensor,
        logvar: Tensor,
        table: Standardised,
        draws: Draws,
        *,
        grids: Sequence[float],
        labelled: bool,
    ) -> Rounding:
        """Of a table [N, D], as it came and standardised; `grids` [D] are errors of integrals."""
        information = information_error(table, draws)
        return cls(
            kl=kl_error(mu, logvar),
            information=information,
            informations=tuple(
                grid + latent_error(table.latent(j)) for j, grid in enumerate(grids)
            ),
            # log q_N(z|y) and log q_N(z) are two sums of the same terms, each as log q_N(z) is.
            labels=2.0 * information if labelled else None,
        )

    @property
    def total_correlation(self) -> float:
        """Of sum_j I_Nj - I_N."""
        return math.fsum([self.information, *self.informations])

    @property
    def dimensionwise_kl(self) -> float:
        """Of sum_j KL_j - I_Nj."""
        return math.fsum([self.kl, *self.informations])

    @property
    def marginal_kl(self) -> float:
        """Of KL - I_N."""
        return self.kl + self.information


def gamma(n: int) -> float:
    """n u / (1 - n u), Higham 2002, lemma 3.1."""
    return n * UNIT_ROUNDOFF / (1.0 - n * UNIT_ROUNDOFF)


def additions(n: int) -> int:
    """Most additions that a term of torch's sum of n numbers meets.

    A cascade of four levels of 2^p partial sums, p = max(4, log2(n) / 4), the last of what is
    left, over at most 16 accumulators (ATen/native/cpu/SumKernel.cpp).
    """
    bits = math.ceil(math.log2(max(n, 2)))
    power = max(4, bits // 4)
    return int(3 * 2**power + 2 ** max(bits - 3 * power, 0) + 16)


def kl_error(mu: Tensor, logvar: Tensor) -> float:
    """Of the mean over rows of sum_j 1/2 (mu^2 + expm1(logvar) - logvar).

    A term meets six roundings (expm1 counts as two), D additions and those of the mean.
    """
    n, d = mu.shape
    columns = zip(mu.unbind(dim=1), logvar.unbind(dim=1), strict=True)
    terms = (0.5 * float((m.square() + v.expm1().abs() + v.abs()).mean()) for m, v in columns)
    return gamma(6 + d + additions(n)) * math.fsum(terms)


def placement_error(mu: Tensor, logvar: Tensor) -> float:
    """Of I_N, by the rounding of z - mu: 8 u sum_j |mu_j - median| / sigma_j, mean over rows.

    Moving every z and mu_i by at most delta_i changes E log q_N(z), to first order, by at most
    the mean of E|t| delta_i / sigma_i = .8 delta_i / sigma_i: the integral of |q'| is at most the
    mean of those of its components, so a row's own sigma is the scale on which its neighbours
    tell. delta is at most 3 u |mu - median|: subtraction, division, z; 8 leaves room for the
    chance of the draws. A row's term of I_N lies in [0, log N] but for noise, so a single distant
    row cannot spoil the mean of many.
    """
    reach = mu.new_zeros(len(mu))
    for m, v in zip(mu.unbind(dim=1), logvar.unbind(dim=1), strict=True):
        reach += (m - m.median()).abs() * (-0.5 * v).exp()
    return float((8.0 * UNIT_ROUNDOFF * reach).clamp(max=math.log(len(mu))).mean())


def information_error(table: Standardised, draws: Draws) -> float:
    """Of I_N: placement, expanded squares, sums of N exponentials, and sums of logarithms."""
    n = len(table.mu)
    if n == 1:
        return 0.0
    # Positive terms in any order: gamma_{N-1} of the sum (section 4.2), so of its log too.
    exponentials = gamma(n + 4)
    placed = placement_error(table.mu, table.logvar)
    return placed + _squares_error(table, draws.z) + exponentials + _logs_error(table, draws)


def _squares_error(table: Standardised, z: Tensor) -> float:
    """Of the expanded squares that the pass takes: those of latents that stay in their share.

    8 u serves products of few latents; the 2 D + 2 roundings of a longer one add up like 4 times
    the root of their number, but for 1 entry in 1000 (Higham & Mary 2019, doi:10.1137/18M1226312).
    """
    errors, allowed = square_errors(table, z)
    taken = errors[errors <= allowed]
    return float(taken.sum()) * max(1.0, math.sqrt(2.0 * len(taken) + 2.0) / 4.0)


def _logs_error(table: Standardised, draws: Draws) -> float:
    """Of log q(z|x) and log q_N(z), sums over D of 1/2 (t^2 + logvar + log 2 pi), and the mean.

    To the roundings of sums come t's and sigma's, of which logvar's is |logvar| / 2 roundings.
    Neighbours have, weighed by their share of q_N(z), the rows' own magnitudes in the mean.
    """
    m, d = draws.noise.shape
    logvar = table.logvar[draws.rows].abs()
    square = draws.noise.square()
    terms = 0.5 * (square * (1.0 + logvar) + logvar + LOG_2PI)
    return 2.0 * gamma(d + 16 + additions(m)) * float(terms.sum(dim=1).mean())


def latent_error(alone: Standardised) -> float:
    """Of I_Nj, but for its integral: placement, sigma that had to be widened, and rounded logvar.

    Widening the share p of the rows hides at most which rows they are and what tells them apart,
    h(p) + p log(p N) <= p (1 + log N). I_Nj is in [0, log N]. A constant latent reads 0, exactly.
    """
    mu, logvar = alone.mu[:, 0], alone.logvar[:, 0]
    if bool((mu == mu[0]).all() and (logvar == logvar[0]).all()):
        return 0.0
    log_n = math.log(len(mu))
    widened = placeable_sigma(mu, logvar) > (0.5 * logvar).exp()
    hidden = float(widened.double().mean()) * (1.0 + log_n)
    logs = gamma(6 + additions(len(mu))) * float(1.0 + logvar.abs().mean())
    return min(placement_error(alone.mu, alone.logvar) + hidden, log_n) + logs
