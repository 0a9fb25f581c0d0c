"""An upper bound on the population's I(X;Z): E[log q(z|x) - log r(z)] for a density r.

Barber & Agakov 2003; the rate of Alemi et al. 2018, https://arxiv.org/abs/1711.00464. It holds
in expectation for any r chosen without the row's unit; the closer r is to q(z), the tighter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latentgauge.measures.cells import CELL_SHAPES, Cells
from latentgauge.measures.gaussian import Gaussian, Moments, moments_elsewhere
from latentgauge.measures.held_out import FoldRows, HeldOut
from latentgauge.measures.joint import Draws, JointSums, Standardised
from latentgauge.measures.lanes import ONE, Lanes
from latentgauge.measures.local_kernels import SHAPES
from latentgauge.measures.mixing import mixture_weights
from latentgauge.measures.pairs import Tick, log_sums, part, silent

# Bandwidths of the kernel mixtures, in standard deviations of the means.
BANDWIDTHS = (0.1, 0.2, 0.4, 0.7)
# Draws of one fold that say which mixtures are worth a pass over all draws, where there are so
# many; and the least weight on those, with which one is.
TRIAL, FEWEST_FOR_TRIAL = 600, 6_000
LEAST_WEIGHT = 0.003
# log p(y|z) of what is told by nothing at all.
LEAST_TOLD = -100.0


@dataclass(frozen=True)
class Components:
    """log r_k(z_i) [M, K] of densities that have not seen the unit of i, with their names.

    `kernels` [M, H] are log means over the kernel mixtures' centres, `kernels_same` what those
    of the class of i add to it, which are a `share` [M] of them; `control` [M] is
    log g(z_i) - E[log g(z)|x_i] of a Gaussian g, of mean 0.
    """

    names: tuple[str, ...]
    log_r: Tensor
    kernels: Tensor
    kernels_same: Tensor
    share: Tensor
    control: Tensor


def components(
    table: Standardised,
    draws: Draws,
    sums: JointSums,
    *,
    units: Tensor,
    folds: Tensor,
    generator: Generator,
    classes: Tensor | None = None,
    thorough: bool = False,
    trial_from: int = FEWEST_FOR_TRIAL,
    device: torch.device | str = "cpu",
    lanes: Lanes = ONE,
    tick: Tick = silent,
) -> Components:
    """The densities that r may be mixed from.

    The other units' posteriors, the prior, a Gaussian with shrunk covariance and one with
    independent latents, kernel mixtures on the means, the same by overlapping cells and, if
    `thorough`, with a shape for every mean. What is learnt is learnt on the folds that do not
    hold the row; kernels stand on all rows outside its unit, as far as those are units alone.
    From `trial_from` draws on, mixtures that do not pay on some of them are left out: -inf.
    """
    posteriors = sums.others[:, 0] - _others(units)[draws.rows].log()
    known = torch.stack([posteriors, table.log_prior(draws.z)], dim=1)
    control, share = _control(table, draws), torch.ones_like(posteriors)
    if int(folds.max()) == 0:
        none = known[:, :0]
        return Components(NAMES[:2], known, none, none, share, control)
    parts = _parts(table, draws, units, folds, classes, posteriors, torch.device(device))
    starts = [fold.start(generator) for fold in parts]
    cells = list(lanes.each(lambda both: both[0].cells(both[1]), zip(parts, starts, strict=True)))
    gaussians = torch.empty_like(known)
    for fold in parts:
        gaussians[fold.mine] = fold.gaussians()
        share[fold.mine] = fold.share()
    log_r = torch.cat([known, gaussians], dim=1)
    told = None if classes is None else sums.others[:, 1] - sums.others[:, 0]
    chosen = tuple(range(len(BANDWIDTHS) + len(CELL_SHAPES)))
    if len(draws.rows) >= trial_from:
        chosen = _chosen(parts[0], cells[0], log_r, told, lanes=lanes)
    kernels, same = _mixtures(parts, cells, chosen, len(draws.rows), lanes=lanes, tick=tick)
    log_r = torch.cat([log_r, kernels], dim=1)
    if thorough:
        own = kernels.new_empty(len(draws.rows), len(SHAPES))
        found = lanes.each(lambda fold: fold.local(), parts, ahead=lanes.count)
        for fold, each in zip(parts, found, strict=True):
            own[fold.mine] = each
        log_r = torch.cat([log_r, own], dim=1)
    global_kernels = kernels[:, : len(BANDWIDTHS)]
    return Components(NAMES[: log_r.shape[1]], log_r, global_kernels, same, share, control)


NAMES = (
    "posteriors",
    "prior",
    "gaussian",
    "diagonal",
    *(f"kernel {h}" for h in BANDWIDTHS),
    *(f"cells {q} {h}" for q, h in CELL_SHAPES),
    *(f"local {shape.k}" for shape in SHAPES),
)


def _mixtures(
    parts: Sequence[HeldOut],
    cells: Sequence[Cells],
    chosen: Sequence[int],
    m: int,
    *,
    lanes: Lanes,
    tick: Tick = silent,
) -> tuple[Tensor, Tensor]:
    """Log densities [M, H + S] of kernels on the means and by cells, and [M, H] by class.

    -inf where a mixture is not among the `chosen`.
    """
    h = len(BANDWIDTHS)
    out = torch.full((m, h + len(CELL_SHAPES)), -math.inf, dtype=torch.float64)
    same = out[:, :h].clone()
    pairs = [(f, k) for f in range(len(parts)) for k in chosen]
    # A cell's kernels are shaped in one lane while those before are summed in all.
    by_cells = [(f, CELL_SHAPES[k - h]) for f, k in pairs if k >= h]
    shaped = lanes.each(lambda x: parts[x[0]].by_cells(cells[x[0]], *x[1]), by_cells, ahead=1)
    for done, (f, k) in enumerate(pairs):
        fold, step = parts[f], part(tick, done, len(pairs))
        if k < h:
            both = fold.kernels(BANDWIDTHS[k], lanes=lanes, tick=step)
            out[fold.mine, k], same[fold.mine, k] = both.unbind(dim=1)
        else:
            stripes = next(shaped).stripes()
            sums = log_sums(stripes, fold.reference, lanes=lanes, tick=step)[:, 0].cpu()
            out[fold.mine, k] = sums - fold.few.log_count
    return out, same


def _chosen(
    fold: HeldOut, cells: Cells, log_r: Tensor, told: Tensor | None, *, lanes: Lanes
) -> tuple[int, ...]:
    """The mixtures worth evaluating at every draw: those with a weight on some of one fold's.

    On real codes what is dropped at this weight would tighten the bound by less than .001 nats;
    half of the mixtures are. `told` [M] is log p(y|z) by the posteriors, where there are labels:
    kernels that tell of them are kept too.
    """
    everything = range(len(BANDWIDTHS) + len(CELL_SHAPES))
    trial = fold.mine[:: max(len(fold.mine) // TRIAL, 1)]
    position = torch.full((len(log_r),), -1)
    position[trial] = torch.arange(len(trial))
    found, same = _mixtures([fold.some(position)], [cells], everything, len(trial), lanes=lanes)
    weights = _weights(torch.cat([log_r[trial], found], dim=1))
    keep = weights[log_r.shape[1] :] >= LEAST_WEIGHT
    if told is not None:
        of_labels = same - found[:, : len(BANDWIDTHS)]
        log_p = torch.cat([told[trial, None], of_labels], dim=1).nan_to_num(nan=-math.inf)
        # A draw that no kernel tells anything of has no weight to give.
        log_p = torch.cat([log_p, torch.full_like(log_p[:, :1], LEAST_TOLD)], dim=1)
        keep[: len(BANDWIDTHS)] |= _weights(log_p)[1:-1] >= LEAST_WEIGHT
    return tuple(keep.nonzero().flatten().tolist())


def _weights(log_r: Tensor) -> Tensor:
    """[K] mixture weights on these rows."""
    return mixture_weights(log_r, log_r.new_full((1, len(log_r)), 1.0 / len(log_r))).squeeze(0)


def _others(units: Tensor) -> Tensor:
    """Rows outside the unit of each row, [N]."""
    return (len(units) - torch.bincount(units)[units]).clamp(min=1).double()


def _control(table: Standardised, draws: Draws) -> Tensor:
    """Of the whole table's Gaussian: it knows no noise, so the mean given every x is still 0."""
    moments = Moments.of_rows(table.mu, table.logvar, torch.arange(len(table.mu)))
    covariance = moments.shrunk_covariance() + torch.diag(moments.noise)
    gaussian = Gaussian.of(moments.mean, covariance)
    sigma = (0.5 * table.logvar[draws.rows]).exp()
    return gaussian.conditional_control(table.mu[draws.rows], draws.noise * sigma, sigma.square())


def _parts(
    table: Standardised,
    draws: Draws,
    units: Tensor,
    folds: Tensor,
    classes: Tensor | None,
    posteriors: Tensor,
    device: torch.device,
) -> list[HeldOut]:
    elsewhere = moments_elsewhere(table.mu, table.logvar, folds)
    alone = torch.bincount(units)[units] == 1
    rows = [FoldRows.of(folds, f, alone, draws.rows) for f in range(len(elsewhere))]
    return [
        HeldOut.of(table, draws, fold, moments, classes, posteriors, device)
        for fold, moments in zip(rows, elsewhere, strict=True)
        if len(fold.mine)
    ]
