"""Densities of one latent within each class of labels, learnt on other folds than they serve."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentgauge.measures.decomposition import log_normal

# Kernels on the means of one class, in standard deviations of these.
CLASS_BANDWIDTHS = (0.1, 0.4)
# Standard deviations of a kernel that its grid holds, steps to one, most points of a class.
KERNEL_REACH, PER_KERNEL, MOST_POINTS = 8.0, 3.0, 2**12
# Rows of all classes that stand beside those of one, where its moments are taken.
PRIOR_ROWS = 2.0


def smoothed_log_densities(
    mu: Tensor, var: Tensor, z: Tensor, *, classes: Tensor, folds: Tensor, rows: Tensor
) -> list[Tensor]:
    """Of every class, from the other folds: kernel mixtures and a Gaussian, [M, C] each.

    Kernels have h^2 of the class's variance of mu beside its mean of sigma^2, on means pulled
    to the class's by sqrt(1 - h^2), which keeps its variance (West 1993).
    """
    count = int(classes.max()) + 1
    out = [z.new_empty(len(z), count) for _ in range(len(CLASS_BANDWIDTHS) + 1)]
    for fold in range(int(folds.max()) + 1):
        mine, rest = folds[rows] == fold, folds != fold
        rest = rest if bool(rest.any()) else ~rest
        m, y = mu[rest], classes[rest]
        mean, spread, noise = _class_moments(m, var[rest], y, count)
        for k, h in enumerate(CLASS_BANDWIDTHS):
            pulled = mean[y] + math.sqrt(1.0 - h * h) * (m - mean[y])
            out[k][mine] = _kernel_mixtures(pulled, h * h * spread + noise, z[mine], y)
        out[-1][mine] = log_normal(z[mine, None], mean, spread + noise)
    return out


def _kernel_mixtures(centres: Tensor, var: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """log density at z [m] of each class's kernels, of one variance [C] for a class; [m, C].

    On a grid: bins and interpolation are linear, so what is read off is a density whatever
    the step, and kernels are never narrower than that.
    """
    extent = float(centres.max() - centres.min())
    reach = KERNEL_REACH * max(math.sqrt(float(var.max())), 2.0 * extent / MOST_POINTS)
    low, length = float(centres.min()) - reach, extent + 2.0 * reach
    finest = math.sqrt(float(var.min())) / PER_KERNEL
    points = min(2 ** math.ceil(math.log2(length / finest)), MOST_POINTS)
    step = length / points
    position = (centres - low) / step
    left = position.floor()
    counts = torch.zeros(points * len(var), dtype=torch.float64)
    for side, weight in ((left, left + 1.0 - position), (left + 1.0, position - left)):
        at = (side.long() % points) + y * points
        counts += torch.bincount(at, weight, minlength=len(counts))
    frequency = 2.0 * math.pi * torch.fft.rfftfreq(points, d=step, dtype=torch.float64)
    gauss = (-0.5 * var.clamp(min=step**2)[:, None] * frequency.square()).exp()
    mixed = torch.fft.irfft(torch.fft.rfft(counts.view(-1, points)) * gauss, points)
    mixed = mixed.clamp(min=0.0)
    # What is clamped away would leave more than the mass 1.
    mass = mixed.sum(dim=1, keepdim=True).clamp(min=1.0) * step
    q = (mixed / mass).T.contiguous()
    x = (z - low) / step
    i = x.floor().clamp(0.0, points - 2.0)
    inside, share = (x >= 0.0) & (x <= points - 1.0), (x - i)[:, None]
    below = i.long()
    return torch.where(inside[:, None], q[below].lerp(q[below + 1], share), 0.0).log()


def _class_moments(mu: Tensor, var: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of mu, and mean of sigma^2, of each class [C]; drawn to those of all
    rows by PRIOR_ROWS rows, so that a class of none or one has them too."""
    n = torch.bincount(y, minlength=count).double() + PRIOR_ROWS

    def averaged(x: Tensor) -> Tensor:
        return (torch.bincount(y, x, minlength=count) + PRIOR_ROWS * x.mean()) / n

    mean = averaged(mu)
    return mean, averaged((mu - mean[y]).square()), averaged(var)
