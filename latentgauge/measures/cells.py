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
CELL_SHAPES = ((40, 0.8), (100, 0.8), (200, 0.8), (100, 0.6))
# Nats that expanding a kernel may cost; at most 8 roundings of what is added up.
TOLERANCE, ROUNDOFF = 1e-6, 8.0 * 2.0**-53
LLOYD_STEPS = 6
# Distances that are held at a time.
DISTANCES = 2**21
# Means to a cell that the cells' places are learnt from.
TAUGHT = 10
# A block's numbers: larger than a core's cache, for each block also costs ten small steps.
BLOCK = 2**19
# Means of one cell that a block takes together.
WIDEST = 512


@dataclass(frozen=True)
class Cells:
    """k-means cells: the q means `near` [C, q] to each centre, and the `members` of each."""

    near: Tensor
    members: Sequence[Tensor]

    @classmethod
    def of(cls, x: Tensor, start: Tensor, *, members: Tensor, q: int) -> Cells:
        """Lloyd's algorithm on x [n, D] from the means numbered in `start` [C].

        Any other means may be the `members` [m, D]. Centres are learnt from some of x, which
        may be float32: cells choose shapes, no number rests on them.
        """
        some = x[:: max(len(x) // (TAUGHT * len(start)), 1)]
        centres = x[start]
        for _ in range(LLOYD_STEPS):
            cell = _nearest(some, centres)
            n = torch.bincount(cell, minlength=len(centres))[:, None]
            sums = torch.zeros_like(centres).index_add_(0, cell, some)
            # An empty cell stays where it is.
            centres = torch.where(n > 0, sums / n.clamp(min=1), centres)
        cell = _nearest(members, centres)
        sizes = torch.bincount(cell, minlength=len(centres)).tolist()
        held = torch.split(cell.argsort(stable=True), sizes)
        return cls(nearest(centres, x, q), held)


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
    """One kernel for each cell: mean [C, D], whitening [C, D, D], log normalisation [C].

    h is the bandwidth in standard deviations of the means near the cell.
    """

    mean: Tensor
    whiten: Tensor
    log_scale: Tensor
    h: float

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
        factor = _cholesky(covariance)
        eye = torch.eye(d, dtype=x.dtype).expand_as(factor)
        whiten = torch.linalg.solve_triangular(factor, eye, upper=False) / s[:, None]
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1) + s.log().sum(dim=1)
        return cls(mean, whiten, -log_det - 0.5 * d * LOG_2PI, h)

    @classmethod
    def joined(cls, parts: Sequence[Shapes]) -> Shapes:
        """Those of all cells, from those of some at a time."""
        mean, whiten = torch.cat([x.mean for x in parts]), torch.cat([x.whiten for x in parts])
        return cls(mean, whiten, torch.cat([x.log_scale for x in parts]), parts[0].h)


def _cholesky(covariance: Tensor) -> Tensor:
    """Factors [C, D, D]; where rounding swallowed the noise, of a covariance widened by it.

    A wider kernel is a density too. Eigenvalues are at least 1, and may reach 2^53.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not bool(failed.any()):
        return factor
    rounding = covariance.shape[1] * 2.0**-50 * covariance.diagonal(dim1=1, dim2=2).sum(dim=1)
    wider = covariance.clone()
    wider.diagonal(dim1=1, dim2=2).add_((rounding * (failed != 0))[:, None])
    factor = torch.linalg.cholesky(wider)
    return factor


@dataclass(frozen=True)
class Expanded:
    """Kernels of c cells times w places, where (y - b_j)^2 / 2 may be multiplied out.

    square [T + D + 1, c] takes the monomials of z to -|y|^2 / 2, y = W_k (z - m_k); linear
    [D + 1, c w] takes (z, 1) to y . b_j + constant_j.
    """

    square: Tensor
    linear: Tensor

    def log_k(self, monomials: Tensor, reference: Tensor) -> Tensor:
        """[r, c w], less the reference."""
        r, c = len(monomials), self.square.shape[1]
        square = torch.mm(monomials, self.square).sub_(reference[:, None])
        z = monomials[:, -self.linear.shape[0] :]
        out = torch.mm(z, self.linear)
        out.view(r, c, -1).add_(square[:, :, None])
        return out


@dataclass(frozen=True)
class Whitened:
    """The same where multiplying out would round badly: y first, then its distance to b_j.

    whiten [D + 1, c D] takes (z, 1) to all y; centres [c, D, w] are b_j.
    """

    whiten: Tensor
    centres: Tensor
    constant: Tensor

    def log_k(self, monomials: Tensor, reference: Tensor) -> Tensor:
        """[r, c w], less the reference."""
        r, (c, d, _) = len(monomials), self.centres.shape
        y = torch.mm(monomials[:, -d - 1 :], self.whiten).view(r, c, d).transpose(0, 1)
        square = y.square().sum(dim=2).mul_(-0.5).sub_(reference)
        out = torch.bmm(y, self.centres) + self.constant[:, None] + square[:, :, None]
        return out.transpose(0, 1).reshape(r, -1).contiguous()


def monomials(z: Tensor) -> Tensor:
    """[M, D (D + 1) / 2 + D + 1]: z_a z_b for a <= b, z_a, and 1."""
    a, b = torch.triu_indices(z.shape[1], z.shape[1]).to(z.device)
    return torch.cat([z[:, a] * z[:, b], z, torch.ones_like(z[:, :1])], dim=1)


@dataclass(frozen=True)
class CellBlock:
    """Kernels of some cells; `whose` are the rows whose own means stand in it, sorted, at `at`."""

    kernels: Expanded | Whitened
    whose: Tensor
    at: Tensor

    @classmethod
    def of(
        cls,
        x: Tensor,
        shapes: Shapes,
        cells: Tensor,
        places: Tensor,
        *,
        rows: Tensor,
        reach: Tensor,
        device: torch.device,
    ) -> CellBlock:
        """Of the means x [n, D] at `places` [c, w] of the `cells` [c]; -1 is no mean.

        `rows` [c, w] are whose draws the means are, or -1; reach [D] is the largest |z|.
        """
        mean, whiten = shapes.mean[cells], shapes.whiten[cells]
        b = math.sqrt(1.0 - shapes.h**2) * ((x[places] - mean[:, None]) @ whiten.transpose(1, 2))
        constant = shapes.log_scale[cells, None] - 0.5 * b.square().sum(dim=2)
        constant.masked_fill_(places < 0, -math.inf)
        offset = -(whiten @ mean[:, :, None])[:, :, 0]
        square, linear = _multiplied_out(whiten, offset, b, constant)
        largest = monomials(reach[None]).squeeze(0)
        linear_size = largest[-len(linear) :] @ linear.nan_to_num(neginf=0.0).abs()
        size = max(float((largest @ square.abs()).max()), float(linear_size.max()))
        kernels: Expanded | Whitened = Expanded(square.to(device), linear.to(device))
        if size * ROUNDOFF > TOLERANCE:
            d = x.shape[1]
            left = torch.cat([whiten.reshape(-1, d).T, offset.reshape(1, -1)]).to(device)
            kernels = Whitened(left, b.transpose(1, 2).to(device), constant.to(device))
        at = (rows.flatten() >= 0).nonzero().flatten()
        at = at[rows.flatten()[at].argsort()]
        return cls(kernels, rows.flatten()[at].to(device), at.to(device))

    def log_k(self, z: Tensor, rows: Tensor, first: int | None, reference: Tensor) -> Tensor:
        """log k less the reference of the monomials z of these rows in order, [r, c w].

        Each draw's own mean is taken out. `first` is the first row of a whole range.
        """
        out = self.kernels.log_k(z, reference)
        if first is None:
            here = torch.searchsorted(rows, self.whose).clamp(max=len(rows) - 1)
            mine = rows[here] == self.whose
            flat = here[mine] * out.shape[1] + self.at[mine]
        else:
            ends = self.whose.new_tensor([first, first + len(rows)])
            low, high = torch.searchsorted(self.whose, ends).tolist()
            flat = (self.whose[low:high] - first) * out.shape[1] + self.at[low:high]
        out.view(-1).index_fill_(0, flat, -math.inf)
        return out


def _multiplied_out(
    whiten: Tensor, offset: Tensor, b: Tensor, constant: Tensor
) -> tuple[Tensor, Tensor]:
    """-|y|^2 / 2 as [T + D + 1, c] of monomials, y . b_j + constant_j as [D + 1, c w] of (z, 1).

    y = W z + offset, W [c, D, D], offset [c, D], b [c, w, D].
    """
    d = whiten.shape[1]
    precision = whiten.transpose(1, 2) @ whiten
    i, j = torch.triu_indices(d, d)
    twice = torch.where(i == j, 0.5, 1.0).double()
    first = (offset[:, None] @ whiten)[:, 0]
    rest = 0.5 * offset.square().sum(dim=1, keepdim=True)
    square = -torch.cat([precision[:, i, j] * twice, first, rest], dim=1).T.contiguous()
    shift = (constant + (offset[:, None] * b).sum(dim=2)).reshape(1, -1)
    return square, torch.cat([(b @ whiten).reshape(-1, d).T, shift])


@dataclass(frozen=True)
class CellKernels:
    """sum_j N(z; a x_j + (1 - a) m_k, h^2 C_k + S_k) over the means x_j of all cells k.

    m_k, C_k and S_k are mean and covariance of the means near the cell's centre, and their mean
    sigma^2; a = sqrt(1 - h^2) keeps the mixture's covariance. At z [M, D]; a draw's own row is
    left out of its sum.
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
        reach, row_of = z.abs().amax(dim=0), own.new_full((len(x) + 1,), -1)
        row_of[own] = torch.arange(len(own))
        row_of[-1] = -1
        pieces = [(k, part) for k, each in enumerate(members) for part in torch.split(each, WIDEST)]
        pieces = sorted((x for x in pieces if len(x[1])), key=lambda x: -len(x[1]))
        blocks = []
        for some in _blocks_of(pieces):
            cells = torch.tensor([cell for cell, _ in some])
            places = pad_sequence([part for _, part in some], True, padding_value=-1)
            of = x, shapes, cells, places
            rows = row_of[places]
            blocks.append(CellBlock.of(*of, rows=rows, reach=reach, device=device))
        return cls(z.to(device), blocks)

    def stripes(self) -> Stripes:
        def made() -> Iterator[Stripe]:
            yield self

        return made

    def sums(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = torch.zeros_like(reference)
        for log_k in self._blocks(rows, reference):
            out += log_k.clamp_(FLOOR, -FLOOR).exp_().sum(dim=1)
        return out[:, None].expand(-1, 2)

    def peaks(self, rows: Tensor, reference: Tensor) -> Tensor:
        out = torch.full_like(reference, -math.inf)
        for log_k in self._blocks(rows, reference):
            out = torch.maximum(out, log_k.amax(dim=1))
        return out

    def _blocks(self, rows: Tensor, reference: Tensor) -> Iterator[Tensor]:
        z, first = monomials(self.z[rows]), int(rows[0])
        whole = first + len(rows) == int(rows[-1]) + 1
        for block in self.blocks:
            yield block.log_k(z, rows, first if whole else None, reference)


def _blocks_of(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    """Pieces of nearly one size together, as many as a block of rows has room for."""
    first = 0
    while first < len(pieces):
        some = max(BLOCK // (ROWS * len(pieces[first][1])), 1)
        yield pieces[first : first + some]
        first += some
