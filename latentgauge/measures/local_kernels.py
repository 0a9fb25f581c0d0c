"""Kernel mixtures in which every mean has a kernel of its own shape: slow, and the tightest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.cells import LARGEST as CHUNK
from latentgauge.measures.cells import Shapes, nearest

# Kernels nearest to a draw that are summed; leaving some out keeps the bound.
SUMMED = 50


@dataclass(frozen=True)
class Shape:
    """Kernels from the covariance of the k nearest means, h standard deviations wide.

    `pulled` moves the kernel's centre to the mean of those by a = sqrt(1 - h^2), which keeps
    the mixture's covariance.
    """

    k: int
    h: float
    pulled: bool


SHAPES = (Shape(30, 0.8, pulled=False), Shape(100, 0.8, pulled=True))


def local_kernels(
    z: Tensor, x: Tensor, var: Tensor, *, own: Tensor, shaping: Tensor, scale: Tensor
) -> Tensor:
    """[M, 2] log sums at z [M, D], one for each of SHAPES.

    sum_j N(z; c_j, h^2 C_j + diag(var_j)) over the means x [n, D] with variances [n, D] that lie
    nearest to z, in units of scale [D], but z's own row own_i, or -1. C_j is the covariance of
    the means nearest to x_j among those numbered in `shaping`, which must hold no row of z's
    fold: a kernel that the row has shaped is no bound.
    """
    x_scaled, shapers = x / scale, x[shaping]
    pairs = _Pairs.of(nearest(z / scale, x_scaled, min(SUMMED + 1, len(x))), own)
    most = min(max(shape.k for shape in SHAPES), max(2, len(shapers) // 8), len(shapers))
    near = nearest(x_scaled[pairs.centres], shapers / scale, most)
    out = z.new_empty(len(z), len(SHAPES))
    for s, shape in enumerate(SHAPES):
        log_k = z.new_empty(len(pairs.rows))
        for first, last in pairs.chunks(z.shape[1]):
            j = pairs.centres[first:last]
            around = shapers[near[first:last, : shape.k]]
            kernels = _Kernels.of(x[j], var[j], around, shape)
            mine = pairs.of_centres(first, last)
            log_k[mine] = kernels.log_density(z[pairs.rows[mine]], pairs.place[mine] - first)
        out[:, s] = pairs.log_sums(log_k)
    return out


@dataclass(frozen=True)
class _Pairs:
    """Pairs (row, centre) sorted by centre; `place` numbers the `centres` that occur.

    `own` says which pairs are those of a row with itself.
    """

    m: int
    rows: Tensor
    place: Tensor
    centres: Tensor
    own: Tensor

    @classmethod
    def of(cls, near: Tensor, own: Tensor) -> _Pairs:
        centres, place = torch.unique(near.flatten(), return_inverse=True)
        order = place.argsort(stable=True)
        self_pairs = (near == own[:, None]).flatten()[order]
        return cls(len(near), order // near.shape[1], place[order], centres, self_pairs)

    def chunks(self, d: int) -> list[tuple[int, int]]:
        """Ranges of centres whose matrices fit a chunk."""
        some = max(CHUNK // (d * max(d, *(shape.k for shape in SHAPES))), 1)
        ends = range(0, len(self.centres), some)
        return [(first, min(first + some, len(self.centres))) for first in ends]

    def of_centres(self, first: int, last: int) -> slice:
        low, high = torch.searchsorted(self.place, torch.tensor([first, last])).tolist()
        return slice(low, high)

    def log_sums(self, log_k: Tensor) -> Tensor:
        """[M]: log sum over the pairs of each row but that with itself."""
        log_k = log_k.masked_fill(self.own, -math.inf)
        by_row = self.rows.argsort(stable=True)
        return torch.logsumexp(log_k[by_row].view(self.m, -1), dim=1)


@dataclass(frozen=True)
class _Kernels:
    """Centres [c, D], whitening [c, D, D] and log normalisation [c]."""

    centres: Tensor
    whiten: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, x: Tensor, var: Tensor, around: Tensor, shape: Shape) -> _Kernels:
        """Of the means x [c, D] with noise var [c, D], shaped by the means around [c, k, D]."""
        shapes, a = Shapes.of(around, var, h=shape.h), math.sqrt(1.0 - shape.h**2)
        centres = shapes.mean + a * (x - shapes.mean) if shape.pulled else x
        return cls(centres, shapes.whiten, shapes.log_scale)

    def log_density(self, z: Tensor, at: Tensor) -> Tensor:
        """[p]: log density of kernel at_i at z_i, [p, D]."""
        out = z.new_empty(len(z))
        size = max(CHUNK // z.shape[1] ** 2, 1)
        for first in range(0, len(z), size):
            some = slice(first, first + size)
            k = at[some]
            y = self.whiten[k] @ (z[some] - self.centres[k])[:, :, None]
            out[some] = self.log_scale[k] - 0.5 * y.square().sum(dim=(1, 2))
        return out
