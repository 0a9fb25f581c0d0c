"""Kernel mixtures by overlapping cells: means near each other share one kernel's shape.

A density for the upper bound on I(X;Z); any density gives a bound, this one follows a code that
lies along a curved sheet or in clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from latentgauge.measures.decomposition import LOG_2PI
from latentgauge.measures.pairs import FLOOR, ROWS, Stripe, Stripes

# Cells, at most; and rows to a cell, at least.
MOST_CELLS, ROWS_PER_CELL = 400, 10
# Numbers that all cells' matrices may hold together.
LARGEST = 2**23
# Means that a cell's shape is taken from, and the bandwidth in their standard deviations.
NEIGHBOURS = (40, 100)
BANDWIDTH = 0.8
LLOYD_STEPS = 6
# Distances that are held at a time.
DISTANCES = 2**21
# Means to a cell that the cells' places are learnt from.
TAUGHT = 10
# A block's numbers: what a core's own cache holds.
BLOCK = 2**17
# Means of one cell that a block takes together.
WIDEST = 512


@dataclass(frozen=True)
class Cells:
    """k-means cells of n means: their `centres` [C, D], and the q means `near` [C, q] to each."""

    centres: Tensor
    near: Tensor

    @classmethod
    def of(cls, x: Tensor, start: Tensor, *, q: int) -> Cells:
        """Lloyd's algorithm on x [n, D] from the means numbered in `start` [C].

        On some of the means; x may be float32: cells choose shapes, no number rests on them.
        """
        some = x[:: max(len(x) // (TAUGHT * len(start)), 1)]
        centres = x[start]
        for _ in range(LLOYD_STEPS):
            cell = _nearest(some, centres)
            n = torch.bincount(cell, minlength=len(centres))[:, None]
            sums = torch.zeros_like(centres).index_add_(0, cell, some)
            # An empty cell stays where it is.
            centres = torch.where(n > 0, sums / n.clamp(min=1), centres)
        return cls(centres, nearest(centres, x, q))

    def members(self, x: Tensor) -> list[Tensor]:
        """Which of any means x [m, D] each cell has."""
        cell = _nearest(x, self.centres)
        sizes = torch.bincount(cell, minlength=len(self.centres)).tolist()
        return list(torch.split(cell.argsort(stable=True), sizes))


def nearest(a: Tensor, b: Tensor, k: int) -> Tensor:
    """[m, k]: numbers of the k points of b [n, D] nearest to each of a [m, D], nearest first."""
    half = 0.5 * b.square().sum(dim=1)
    parts = torch.split(a, max(DISTANCES // len(b), 1))
    return torch.cat([(half - p @ b.T).topk(k, dim=1, largest=False).indices for p in parts])


def _nearest(x: Tensor, centres: Tensor) -> Tensor:
    half = 0.5 * centres.square().sum(dim=1)
    return torch.cat([(half - p @ centres.T).argmin(dim=1) for p in torch.split(x, 1024)])


def cell_count(n: int, d: int) -> int:
    return max(min(MOST_CELLS, n // ROWS_PER_CELL, LARGEST // d**2), 1)


# A cell's number, and the numbers of some of its means.
Piece = tuple[int, Tensor]


@dataclass(frozen=True)
class Shapes:
    """One kernel for each cell: mean [C, D], whitening [C, D, D], log normalisation [C]."""

    mean: Tensor
    whiten: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, x: Tensor, noise: Tensor, *, h: float) -> Shapes:
        """From the means x [C, q, D] near each cell: covariance h^2 Cov(x) + noise [C, D].

        Taken in units of the noise, its eigenvalues are at least 1.
        """
        q, d = x.shape[1:]
        mean, s = x.mean(dim=1), noise.sqrt()
        t = (x - mean[:, None]) / s[:, None]
        covariance = h**2 / max(q - 1, 1) * (t.transpose(1, 2) @ t)
        covariance.diagonal(dim1=1, dim2=2).add_(1.0)
        factor = torch.linalg.cholesky(covariance)
        eye = torch.eye(d, dtype=x.dtype).expand_as(factor)
        whiten = torch.linalg.solve_triangular(factor, eye, upper=False) / s[:, None]
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1) + s.log().sum(dim=1)
        return cls(mean, whiten, -log_det - 0.5 * d * LOG_2PI)


@dataclass(frozen=True)
class CellBlock:
    """Some cells: `whiten` [c, D + 1, D + 2] takes (z, 1) to (y, 1, 0), right [c, D + 2, w].

    `own` is where the means of the draws' own rows stand in it: pairs (row, c, w), sorted by row.
    """

    whiten: Tensor
    right: Tensor
    own: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class CellKernels:
    """sum_j N(z; a x_j + (1 - a) m_k, h^2 C_k + S_k) over the means x_j of all cells k.

    m_k, C_k and S_k are mean and covariance of the means near the cell's centre, and their mean
    sigma^2; a = sqrt(1 - h^2) keeps the mixture's covariance. `z` [M, D + 1] ends in ones; a
    draw's own row is left out of its sum.
    """

    z: Tensor
    blocks: Sequence[CellBlock]

    @classmethod
    def of(
        cls,
        z: Tensor,
        x: Tensor,
        members: Sequence[Tensor],
        shapes: Shapes,
        *,
        own: Tensor,
        device: torch.device,
    ) -> CellKernels:
        """At z [M, D] of the means x [n, D]; own [M] is where z's row is in x, or -1."""
        row_of = own.new_full((len(x) + 1,), -1)
        row_of[own] = torch.arange(len(own))
        row_of[-1] = -1
        pieces = [(k, part) for k, each in enumerate(members) for part in torch.split(each, WIDEST)]
        pieces = sorted((x for x in pieces if len(x[1])), key=lambda x: -len(x[1]))
        blocks = []
        for some in _blocks_of(pieces):
            k = torch.tensor([cell for cell, _ in some])
            places = pad_sequence([part for _, part in some], True, padding_value=-1)
            right = _right(x[places] - shapes.mean[k, None], shapes.whiten[k], shapes.log_scale[k])
            right[:, -2].masked_fill_(places < 0, -math.inf)
            rows = row_of[places]
            at = (rows >= 0).nonzero()
            at = at[rows[at[:, 0], at[:, 1]].argsort()]
            whiten = _augmented(shapes.mean[k], shapes.whiten[k])
            mine = rows[at[:, 0], at[:, 1]].to(device), at[:, 0].to(device), at[:, 1].to(device)
            blocks.append(CellBlock(whiten.to(device), right.to(device), mine))
        return cls(torch.cat([z, torch.ones_like(z[:, :1])], dim=1).to(device), blocks)

    def stripes(self) -> Stripes:
        def made() -> Iterator[Stripe]:
            yield self

        return made

    def sums(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = torch.zeros_like(reference)
        for log_k in self._blocks(rows, reference):
            out += log_k.clamp_(FLOOR, -FLOOR).exp_().sum(dim=(0, 2))
        return out[:, None].expand(-1, 2)

    def peaks(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = torch.full_like(reference, -math.inf)
        for log_k in self._blocks(rows, reference):
            out = torch.maximum(out, log_k.amax(dim=(0, 2)))
        return out

    def _blocks(self, rows: Tensor, reference: Tensor) -> Iterator[Tensor]:
        """log k less the reference, [c, r, w] of each block of cells; rows in order."""
        z = self.z[rows]
        for block in self.blocks:
            y = torch.matmul(z, block.whiten)
            y[:, :, -1] = -0.5 * y[:, :, :-2].square().sum(dim=2) - reference
            log_k = torch.bmm(y, block.right)
            whose, cell, place = block.own
            at = torch.searchsorted(rows, whose).clamp(max=len(rows) - 1)
            mine = rows[at] == whose
            log_k[cell[mine], at[mine], place[mine]] = -math.inf
            yield log_k


def _blocks_of(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    """Pieces of nearly one size together, as many as a block of rows has room for."""
    first = 0
    while first < len(pieces):
        some = max(BLOCK // (ROWS * len(pieces[first][1])), 1)
        yield pieces[first : first + some]
        first += some


def _right(x: Tensor, whiten: Tensor, log_scale: Tensor) -> Tensor:
    """[c, D + 2, w]: whitened and pulled centres, their constants, ones; x is about the mean."""
    centres = math.sqrt(1.0 - BANDWIDTH**2) * (x @ whiten.transpose(1, 2))
    constant = log_scale[:, None] - 0.5 * centres.square().sum(dim=2)
    rest = torch.stack([constant, torch.ones_like(constant)], dim=2)
    return torch.cat([centres, rest], dim=2).transpose(1, 2).contiguous()


def _augmented(mean: Tensor, whiten: Tensor) -> Tensor:
    c, d = mean.shape
    out = mean.new_zeros(c, d + 1, d + 2)
    out[:, :d, :d] = whiten.transpose(1, 2)
    out[:, d, :d] = -(whiten @ mean[:, :, None])[:, :, 0]
    out[:, d, d] = 1.0
    return out
