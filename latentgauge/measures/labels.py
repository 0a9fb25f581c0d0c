"""What the code tells of labels y: bounds for the population, the data set's own figure beside.

On a code that pins down every row, the data set's I_N(Z;Y) reads H(Y) even for labels that
mean nothing; the population's bounds are the headline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import LOG_2PI
from latentgauge.measures.density import mixture_density
from latentgauge.measures.gaussian import Gaussian, shrunk_covariance
from latentgauge.measures.joint import Draws, JointSums, Standardised
from latentgauge.measures.marginals import placeable_sigma
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.units import (
    Mean,
    effective_units,
    entropy_of_counts,
    mean_over_rows,
    mean_over_units,
    population_mean,
)
from latentgauge.measures.upper_bound import Components


@dataclass(frozen=True)
class LabelBounds:
    """H(Y), a lower bound on I(Z;Y) in expectation, and the data set's I_N(Z;Y), in nats.

    `entropy` is that of these rows' class frequencies; as an estimate of the population's it
    has the `entropy_error`, and is about `entropy_bias` too low. log K is the most H(Y) can be.
    """

    entropy: float
    entropy_error: float | None
    entropy_bias: float
    log_classes: float
    lower: Mean
    dataset: Mean


def label_bounds(
    table: Standardised,
    draws: Draws,
    sums: JointSums,
    parts: Components,
    *,
    classes: Tensor,
    units: Tensor,
    folds: Tensor,
) -> LabelBounds:
    """I(Z;Y) >= H(Y) + E[log p(y|z)] for any p(y|z) that has not seen the row's unit.

    Barber & Agakov 2003. p mixes the class shares of the other units' posteriors at z, the same
    of the kernel mixtures, a linear discriminant, and the class frequencies. H(Y) is estimated
    by these rows' -log frequency, which lies below it in expectation; its bias is (K - 1) / 2n
    for n independent rows (Miller 1955).

    The frequencies are those of all rows, the row itself among them. At a weight w they gain
    w (K - 1) / n by that, and cost w^2 (K - 1) / 2n; with the bias of H(Y) the bound still lies
    (1 - w)^2 (K - 1) / 2n below what it bounds, to first order. So labels that mean nothing
    read 0 however many classes there are.
    """
    rows = draws.rows
    surprise = _surprise(classes)
    shares = [(sums.others[:, 1] - sums.others[:, 0])[:, None]]
    shares += [parts.kernels_same - parts.kernels]
    shares += [_discriminated(table, draws, classes, folds)[:, None], -surprise[rows, None]]
    log_p = torch.cat(shares, dim=1).nan_to_num(nan=-math.inf)
    log_p_y = cross_fitted(log_p, folds[rows])
    counts = torch.bincount(classes)
    entropy, present = entropy_of_counts(counts), int((counts > 0).sum())
    log_all = sums.log_all()
    dataset = log_all[:, 1] - log_all[:, 0] + surprise[rows]
    nothing = surprise.new_zeros(len(rows), 0)
    return LabelBounds(
        entropy=entropy,
        entropy_error=mean_over_units(surprise, units).standard_error,
        entropy_bias=(present - 1) / (2.0 * effective_units(units)),
        log_classes=math.log(present),
        lower=population_mean(
            log_p_y + surprise[rows],
            nothing,
            surprise[:, None],
            rows=rows,
            units=units,
            folds=folds,
        ),
        # Known over all rows, so the draws' share of each class adds no error.
        dataset=mean_over_rows(dataset, surprise[rows, None] - entropy),
    )


def _surprise(classes: Tensor) -> Tensor:
    """-log of the frequency of each row's class, [N]."""
    return -(torch.bincount(classes).double() / len(classes)).log()[classes]


def _log_frequencies(classes: Tensor, folds: Tensor) -> Tensor:
    """[F, C] log class frequencies in the rows of the other folds.

    Half a row more in each class: one that is rare may be missing from the other folds.
    """
    fold_counts = _fold_counts(classes, folds)
    counts = (fold_counts.sum(dim=0) - fold_counts).double() + 0.5
    return (counts / counts.sum(dim=1, keepdim=True)).log()


def _fold_counts(classes: Tensor, folds: Tensor) -> Tensor:
    count, parts = int(classes.max()) + 1, int(folds.max()) + 1
    return torch.bincount(folds * count + classes, minlength=parts * count).view(parts, count)


def _discriminated(table: Standardised, draws: Draws, classes: Tensor, folds: Tensor) -> Tensor:
    """[M] log p(y_i|z_i) by a linear discriminant, learnt on the other folds."""
    frequencies = _log_frequencies(classes, folds)
    y = classes[draws.rows]
    out = frequencies[folds[draws.rows], y]
    for fold, log_frequency in enumerate(frequencies):
        mine, rest = folds[draws.rows] == fold, folds != fold
        if int(rest.sum()) > 1:
            scores = _discriminant(table, draws.z[mine], classes, rest) + log_frequency
            out[mine] = scores.log_softmax(dim=1).gather(1, y[mine, None]).squeeze(1)
    return out


def _discriminant(table: Standardised, z: Tensor, classes: Tensor, rest: Tensor) -> Tensor:
    """[m, C] log N(z; m_y, W + S), W the shrunk covariance within classes; up to a constant."""
    mu, y = table.mu[rest], classes[rest]
    count = int(classes.max()) + 1
    sums = mu.new_zeros(count, mu.shape[1]).index_add_(0, y, mu)
    n = torch.bincount(y, minlength=count)[:, None].clamp(min=1)
    means = sums / n
    within = shrunk_covariance(mu - means[y])
    noise = table.logvar[rest].exp().mean(dim=0)
    gaussian = Gaussian.of(torch.zeros_like(noise), within + torch.diag(noise))
    return torch.stack([gaussian.log_density(z - mean) for mean in means], dim=1)


def dataset_information_by_latent(
    table: Standardised, classes: Tensor, *, tick: Tick = silent
) -> Tensor:
    """I_N(z_j; Y) [D] of the data set's own mixture: H(q_j) - sum_y p(y) H(q_j|y).

    Integrals on a grid, so no sampling error; and no statement about a population.
    """
    counts = torch.bincount(classes)
    d = table.mu.shape[1]
    out = torch.zeros(d, dtype=torch.float64)
    present = counts.nonzero().flatten().tolist()
    for j in range(d):
        mu = table.mu[:, j].contiguous()
        var = placeable_sigma(mu, table.logvar[:, j]).square()
        if not bool((mu == mu[0]).all() and (var == var[0]).all()) and len(present) > 1:
            out[j] = mixture_density(mu, var).entropy()
            for k, y in enumerate(present):
                mine = classes == y
                share = float(counts[y]) / len(classes)
                out[j] -= share * _entropy(mu[mine], var[mine])
                tick((j + (k + 1) / len(present)) / d)
    return out


def _entropy(mu: Tensor, var: Tensor) -> float:
    if len(mu) == 1:
        return 0.5 * (float(var.log()) + 1.0 + LOG_2PI)
    return mixture_density(mu, var).entropy()
