"""Weights of a mixture of given densities, always learnt on other folds than they serve."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEPS = 40
FIRST_BARRIER, LAST_BARRIER = 1e-2, 1e-9
SETTLED = 1e-7


def mixture_weights(log_r: Tensor, shares: Tensor) -> Tensor:
    """Weights w [F, K] >= 0 that maximise sum_i shares_fi log sum_k w_fk r_ik, for each f.

    log_r [M, K]; shares [F, M], each row summing to 1. The fixed point of EM, found by Newton
    steps with a log barrier: EM all but stands still where two components agree on most rows,
    as with a rare class.
    """
    p = (log_r - log_r.amax(dim=1, keepdim=True)).exp()
    w = p.new_full((len(shares), p.shape[1]), 1.0 / p.shape[1])
    barrier = FIRST_BARRIER
    for _ in range(STEPS):
        before, w = w, _newton(p, shares, w, barrier)
        if barrier == LAST_BARRIER and float((w - before).abs().max()) < SETTLED:
            break
        barrier = max(0.2 * barrier, LAST_BARRIER)
    return w / w.sum(dim=1, keepdim=True)


def _newton(p: Tensor, shares: Tensor, w: Tensor, barrier: float) -> Tensor:
    """One damped step on mean log(p w) - sum w + barrier sum log w, whose optimum sums to 1."""
    mix = w @ p.T
    ratio = shares / mix
    gradient = ratio @ p - 1.0 + barrier / w
    # A fold at a time: the largest table is [K, M].
    curvature = torch.stack([(p.T * each) @ p for each in ratio / mix])
    curvature += torch.diag_embed(barrier / w.square())
    step: Tensor = torch.linalg.solve(curvature, gradient)
    # At most nine tenths of the way to the nearest weight that would reach 0.
    longest = 0.9 / (-step / w).amax(dim=1, keepdim=True).clamp(min=0.9)
    return w + longest * step


def log_mixture(log_r: Tensor, w: Tensor) -> Tensor:
    """log sum_k w_ik r_ik of [M, K] log densities and weights; [M]."""
    return torch.logsumexp(log_r + w.log(), dim=1)


def cross_fitted(log_r: Tensor, folds: Tensor, *, learn_from: int | None = None) -> Tensor:
    """log r of each row with weights from the other folds; [M].

    `learn_from` bounds the rows that weights are learnt from: evenly spaced ones. A fold that
    is alone has nothing to learn from: equal weights.
    """
    step = 1 if learn_from is None else max(math.ceil(len(folds) / learn_from), 1)
    numbers = torch.arange(int(folds.max()) + 1)
    elsewhere = (numbers[:, None] != folds[None, ::step]).to(log_r.dtype)
    count = elsewhere.sum(dim=1, keepdim=True)
    w = torch.full((len(numbers), log_r.shape[1]), 1.0 / log_r.shape[1], dtype=log_r.dtype)
    taught = count.squeeze(1) > 0
    if bool(taught.any()):
        w[taught] = mixture_weights(log_r[::step], (elsewhere / count)[taught])
    return log_mixture(log_r, w[folds])
