"""Kernel mixtures in which every mean has a kernel of its own shape: slow, and the tightest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.cells import LARGEST as CHUNK
from latentgauge.measures.cells import kernel_shapes, nearest

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


def local_kernels(z: Tensor, x: Tensor, var: Tensor, *, scale: Tensor) -> Tensor:
    """[M, 2] log densities at z [M, D], one for each of SHAPES.

    1/n sum_j N(z; c_j, h^2 C_j + diag(var_j)) over the means x [n, D] with variances [n, D]
    that lie nearest to z, in units of scale [D]; C_j is the covariance of the means nearest to
    x_j. All must be other rows than those of z: kernels that have seen the row are no bound.
    """
    n, most = len(x), max(shape.k for shape in SHAPES)
    pairs = _Pairs.of(nearest(z / scale, x / scale, min(SUMMED, n)))
    used = pairs.centres
    near = nearest(x[used] / scale, x / scale, min(most, max(2, n // 8), n))
    out = z.new_empty(len(z), len(SHAPES))
    for s, shape in enumerate(SHAPES):
        log_k = z.new_empty(len(pairs.rows))
        for first, last in pairs.chunks(z.shape[1]):
            j = used[first:last]
            kernels = _Kernels.of(x, var[j], j, near[first:last, : shape.k], shape)
            own = pairs.of_centres(first, last)
            at = pairs.place[own] - first
            log_k[own] = kernels.log_density(z[pairs.rows[own]], at)
        out[:, s] = pairs.log_sums(log_k) - math.log(n)
    return out


@dataclass(frozen=True)
class _Pairs:
    """Pairs (row, centre) sorted by centre; `place` numbers the `centres` that occur."""

    m: int
    rows: Tensor
    place: Tensor
    centres: Tensor

    @classmethod
    def of(cls, near: Tensor) -> _Pairs:
        centres, place = torch.unique(near.flatten(), return_inverse=True)
        order = place.argsort(stable=True)
        return cls(len(near), order // near.shape[1], place[order], centres)

    def chunks(self, d: int) -> list[tuple[int, int]]:
        """Ranges of centres whose matrices fit a chunk."""
        some = max(CHUNK // (d * d), 1)
        ends = range(0, len(self.centres), some)
        return [(first, min(first + some, len(self.centres))) for first in ends]

    def of_centres(self, first: int, last: int) -> slice:
        low, high = torch.searchsorted(self.place, torch.tensor([first, last])).tolist()
        return slice(low, high)

    def log_sums(self, log_k: Tensor) -> Tensor:
        """[M]: log sum over the pairs of each row."""
        by_row = self.rows.argsort(stable=True)
        return torch.logsumexp(log_k[by_row].view(self.m, -1), dim=1)


@dataclass(frozen=True)
class _Kernels:
    """Centres [c, D], whitening [c, D, D] and log normalisation [c]."""

    centres: Tensor
    whiten: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, x: Tensor, var: Tensor, j: Tensor, near: Tensor, shape: Shape) -> _Kernels:
        """Of the means x[j], each with its own noise var [c, D]."""
        mean, whiten, log_scale = kernel_shapes(x[near], var, h=shape.h)
        a = math.sqrt(1.0 - shape.h**2)
        centres = mean + a * (x[j] - mean) if shape.pulled else x[j]
        return cls(centres, whiten, log_scale)

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
