"""What the code tells of labels y: bounds for the population, the data set's own figure beside.

On a code that pins down every row, the data set's I_N(Z;Y) reads H(Y) even for labels that
mean nothing; the population's bounds are the headline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.class_densities import smoothed_log_densities
from latentgauge.measures.decomposition import entropy_rows, log_normal
from latentgauge.measures.density import mixture_density
from latentgauge.measures.folds import class_log_densities
from latentgauge.measures.gaussian import Gaussian, shrunk_covariance
from latentgauge.measures.joint import Draws, JointSums, Standardised
from latentgauge.measures.marginals import (
    INFLATION,
    LEARN_FROM,
    placeable_sigma,
)
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.units import (
    Mean,
    effective_units,
    entropy_of_counts,
    mean_over_rows,
    mean_over_units,
    population_mean,
)
from latentgauge.measures.upper_bound import Components

# Draws times classes: 32 MB for each kind of density.
MOST_FIGURES = 2**22


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


@dataclass(frozen=True)
class Within:
    """One latent within one class, as `Marginal` has it of all rows, and KL_j there; nats."""

    dataset: float
    upper: float
    lower_error: float | None
    upper_error: float | None
    kl: float


@dataclass(frozen=True)
class LatentLabels:
    """What one latent tells of y, in nats.

    `dataset` is I_N(z_j;Y), exact for this data set; `lower` lies below the population's
    I(z_j;Y) in expectation. `within` are its figures within each class that was asked for.
    """

    dataset: float
    lower: Mean
    within: tuple[Within, ...]


def most_draws(classes: Tensor) -> int:
    """Draws of single latents that labels ask for: with the classes they make the memory."""
    return max(MOST_FIGURES // (int(classes.max()) + 1), 1)


def labels_of_latent(
    table: Standardised,
    draws: Draws,
    *,
    dataset: float,
    kl: Tensor,
    classes: Tensor,
    units: Tensor,
    folds: Tensor,
    slices: Sequence[int] = (),
) -> LatentLabels:
    """A latent alone: I_N(z_j;Y), the lower bound on I(z_j;Y), and what `slices` want.

    The table has this latent only; `dataset` is its I_Nj, kl [N] its KL_j of every row.
    I_N(z_j;Y) = I_Nj - sum_c p(c) I_Njc, integrals on a grid without sampling error. The lower
    bound is that of `label_bounds` with densities of z_j alone, over these draws.
    """
    known = _surprise(classes)[:, None]
    share = torch.bincount(classes).double() / len(classes)
    # Weights are learnt from evenly spaced draws: in the rows' order labels may recur as often.
    draws = _by_noise(draws)
    of_rows, y = units[draws.rows], classes[draws.rows]
    within, lower_rows = _within_classes(table, draws, classes)
    log_p, log_q = _cross_fitted_by_class(table, draws, classes, folds)
    log_p_y = cross_fitted(log_p, folds[draws.rows], learn_from=LEARN_FROM)
    log_r = cross_fitted(log_q, folds[draws.rows], learn_from=LEARN_FROM)
    # A class with one posterior tells nothing, exactly: so does `marginal` of a whole table.
    upper_rows = torch.where(_constant(table, classes)[y], 0.0, draws.log_own[:, 0] - log_r)
    ratios = torch.stack([lower_rows, upper_rows], dim=1)
    mean_kl = torch.bincount(classes, kl) / torch.bincount(classes).clamp(min=1)
    return LatentLabels(
        dataset=dataset - float((share * within).sum()),
        lower=population_mean(
            log_p_y + known[draws.rows, 0],
            known.new_zeros(len(draws.rows), 0),
            known,
            rows=draws.rows,
            units=units,
            folds=folds,
        ),
        within=tuple(
            _within(float(within[c]), float(mean_kl[c]), ratios[y == c], of_rows[y == c])
            for c in slices
        ),
    )


def _by_noise(draws: Draws) -> Draws:
    """The draws in the order of their first noise, which knows nothing of rows and labels."""
    k = draws.noise[:, 0].argsort()
    return Draws(draws.rows[k], draws.noise[k], draws.z[k], draws.log_own[k])


def _constant(table: Standardised, classes: Tensor) -> Tensor:
    """[C] bool: classes whose rows all have one posterior of this latent."""
    out = torch.ones(int(classes.max()) + 1, dtype=torch.bool)
    for values in (table.mu[:, 0], table.logvar[:, 0]):
        ends = [
            values.new_zeros(len(out)).scatter_reduce(0, classes, values, how, include_self=False)
            for how in ("amin", "amax")
        ]
        out &= ends[0] == ends[1]
    return out


def _within_classes(table: Standardised, draws: Draws, classes: Tensor) -> tuple[Tensor, Tensor]:
    """I_Njc of the rows of each class [C], and log q_j(z|x) - log q_j(z|y) of each draw [M]."""
    mu, rows = table.mu[:, 0], draws.rows
    sigma = placeable_sigma(mu, table.logvar[:, 0])
    var, z = sigma.square(), mu[rows] + sigma[rows] * draws.noise[:, 0]
    log_own = log_normal(z, mu[rows], var[rows])
    dataset, log_ratio = mu.new_zeros(int(classes.max()) + 1), torch.zeros_like(z)
    varied = (torch.bincount(classes) > 0) & ~_constant(table, classes)
    for c in varied.nonzero().flatten().tolist():
        mine, at = classes == c, classes[rows] == c
        m, v = mu[mine], var[mine]
        density = mixture_density(m, v)
        dataset[c] = density.entropy() - float(entropy_rows(v.log()).mean())
        # The mixture holds the row's own component: no rounding may put it below.
        floor = log_own[at] - math.log(len(m))
        log_ratio[at] = log_own[at] - torch.maximum(density.at(z[at]).log(), floor)
    return dataset, log_ratio


def _within(dataset: float, kl: float, rows: Tensor, units: Tensor) -> Within:
    """The figures of a class, from its log ratios [m, 2] to the bounds' densities."""
    if len(rows) == 0:
        return Within(dataset, dataset, None, None, kl)
    lower, upper = rows.unbind(dim=1)
    errors = (mean_over_units(x, units).standard_error for x in (lower, upper))
    low, high = (None if error is None else INFLATION * error for error in errors)
    return Within(dataset, dataset + float((upper - lower).mean()), low, high, kl)


def _cross_fitted_by_class(
    table: Standardised, draws: Draws, classes: Tensor, folds: Tensor
) -> tuple[Tensor, Tensor]:
    """log p_k(y_i|z_ij) [M, K + 1] and log q_k(z_ij|y_i) [M, K], of the other folds' classes.

    The last p is the class frequency, as in `label_bounds`.
    """
    rows, y = draws.rows, classes[draws.rows, None]
    mu, logvar, z = table.mu[:, 0], table.logvar[:, 0], draws.z[:, 0].contiguous()
    kinds = [
        class_log_densities(mu, logvar, z, classes=classes, folds=folds, rows=rows),
        *smoothed_log_densities(mu, logvar.exp(), z, classes=classes, folds=folds, rows=rows),
    ]
    frequency = _log_frequencies(classes, folds)[folds[rows]]
    log_p = [(log_q + frequency).log_softmax(dim=1).gather(1, y) for log_q in kinds]
    log_p.append(-_surprise(classes)[rows, None])
    log_q = torch.cat([log_q.gather(1, y) for log_q in kinds], dim=1)
    return torch.cat(log_p, dim=1).nan_to_num(nan=-math.inf), log_q
