"""The draws of one fold, and the densities that the rows of the other folds make of the code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from latentgauge.measures.cells import CELL_SHAPES, CellKernels, Cells, Shapes, cell_count
from latentgauge.measures.decomposition import LOG_2PI, log_normal
from latentgauge.measures.gaussian import Gaussian, Moments
from latentgauge.measures.joint import Draws, Standardised
from latentgauge.measures.lanes import Lanes
from latentgauge.measures.local_kernels import local_kernels
from latentgauge.measures.pairs import (
    STRIPE,
    Apart,
    Groups,
    Products,
    Stripe,
    Stripes,
    Tick,
    log_sums,
)

# Kernels of a shape of their own stand on at most so many means.
MOST_CENTRES = 50_000
# Cells whose means are held together while they are shaped.
CELLS_AT_ONCE = 32


@dataclass(frozen=True)
class Centres:
    """Numbers [n] of the rows that kernels stand on; own [m] is a draw's own among them, or -1."""

    rows: Tensor
    own: Tensor

    @classmethod
    def of(cls, rows: Tensor, drawn: Tensor) -> Centres:
        order = rows.argsort()
        place = torch.searchsorted(rows[order], drawn).clamp(max=len(rows) - 1)
        place = order[place]
        return cls(rows, torch.where(rows[place] == drawn, place, -1))

    @property
    def log_count(self) -> Tensor:
        """log of the centres but a draw's own, [m]."""
        return (len(self.rows) - (self.own >= 0).double()).log()


@dataclass(frozen=True)
class FoldRows:
    """One fold: its draws `mine` [m], the rows of the others, and all rows that may be centres.

    Those are the other folds' and, of its own, rows that are units alone.
    """

    mine: Tensor
    drawn: Tensor
    rest: Tensor
    centres: Tensor

    @classmethod
    def of(cls, folds: Tensor, fold: int, alone: Tensor, drawn: Tensor) -> FoldRows:
        mine = (folds[drawn] == fold).nonzero().flatten()
        centres = ((folds != fold) | alone).nonzero().flatten()
        return cls(mine, drawn[mine], (folds != fold).nonzero().flatten(), centres)


@dataclass(frozen=True)
class HeldOut:
    """The draws `mine` of one fold, and what other rows say of the code.

    `moments` and `shaping`, at most MOST_CENTRES rows, are of the other folds; `few` are at most
    as many of the centres; `reference` [m] is near the density at the draws.
    """

    table: Standardised
    mine: Tensor
    z: Tensor
    centres: Centres
    few: Centres
    shaping: Tensor
    moments: Moments
    covariance: Tensor
    lam: Tensor
    u: Tensor
    groups: Groups
    apart: Apart
    reference: Tensor
    device: torch.device

    def some(self, position: Tensor) -> HeldOut:
        """At those draws alone whose `position` [M] among the draws in question is not -1."""
        here = (position[self.mine] >= 0).nonzero().flatten()
        groups = Groups(self.groups.rows[here], self.groups.columns, self.groups.count)
        centres, few = (Centres(c.rows, c.own[here]) for c in (self.centres, self.few))
        apart = Apart(centres.own, self.apart.columns, centres.own, self.apart.column_ids)
        return replace(
            self,
            mine=position[self.mine[here]],
            z=self.z[here],
            centres=centres,
            few=few,
            groups=groups,
            apart=apart,
            reference=self.reference[here],
        )

    @classmethod
    def of(
        cls,
        table: Standardised,
        draws: Draws,
        fold: FoldRows,
        moments: Moments,
        classes: Tensor | None,
        posteriors: Tensor,
        device: torch.device,
    ) -> HeldOut:
        mine, rows = fold.mine, fold.centres
        if classes is not None:
            # Sorted alike, draws and centres meet in few blocks.
            mine = mine[classes[draws.rows[mine]].argsort(stable=True)]
            rows = rows[classes[rows].argsort(stable=True)]
        groups = Groups.single(len(mine), len(rows))
        if classes is not None:
            groups = Groups(classes[draws.rows[mine]], classes[rows], int(classes.max()) + 1)
        centres = Centres.of(rows, draws.rows[mine])
        few = Centres.of(_few(fold.centres), draws.rows[mine])
        place = torch.arange(len(rows))
        apart = Apart(centres.own, place, centres.own, place)
        covariance = moments.shrunk_covariance()
        gaussian = Gaussian.of(moments.mean, covariance + torch.diag(moments.noise))
        z, s = draws.z[mine], moments.noise.sqrt()
        lam, u = torch.linalg.eigh(covariance / torch.outer(s, s))
        reference = torch.maximum(posteriors[mine], gaussian.log_density(z)).to(device)
        return cls(
            table,
            mine,
            z,
            centres,
            few,
            _few(fold.rest),
            moments,
            covariance,
            lam,
            u,
            groups,
            apart,
            reference,
            device,
        )

    def share(self) -> Tensor:
        """[m]: of the centres but a draw's own, the part that is of its class."""
        same = torch.bincount(self.groups.columns, minlength=self.groups.count)[self.groups.rows]
        return (same.double() - (self.centres.own >= 0).double()) / self.centres.log_count.exp()

    def gaussians(self) -> Tensor:
        """[m, 2]: log density of the Gaussian with these moments, and with independent latents."""
        total = self.covariance + torch.diag(self.moments.noise)
        full = Gaussian.of(self.moments.mean, total).log_density(self.z)
        alone = log_normal(self.z, self.moments.mean, total.diagonal()).sum(dim=1)
        return torch.stack([full, alone], dim=1)

    def kernels(self, h: float, *, lanes: Lanes, tick: Tick) -> Tensor:
        """[m, 2]: log of the mean over centres c of N(z; a c + (1 - a) mean, h^2 C + S).

        a = sqrt(1 - h^2) keeps the mixture's covariance C + S whatever h (West 1993). The
        second column counts only centres of the row's own class.
        """
        s = self.moments.noise.sqrt()
        v = h * h * self.lam.clamp(min=0.0) + 1.0
        whiten = self.u / s[:, None] / v.sqrt()
        y = (self.z - self.moments.mean) @ whiten
        log_scale = 0.5 * float(v.log().sum()) + float(s.log().sum())
        constant = log_scale + 0.5 * len(s) * LOG_2PI + self.centres.log_count.to(self.device)
        # exp(-|y|^2 / 2) is the row's alone: it joins the reference.
        shift = constant + 0.5 * y.square().sum(dim=1).to(self.device)
        stripes = self._products(y, math.sqrt(1.0 - h * h) * whiten)
        sums = log_sums(stripes, self.reference + shift, lanes=lanes, tick=tick)
        return (sums - shift[:, None]).cpu()

    def _products(self, y: Tensor, whiten: Tensor) -> Stripes:
        left = torch.cat([y, torch.ones_like(y[:, :1]), torch.zeros_like(y[:, :1])], dim=1)
        none = y.new_zeros(len(y), 0)

        def made() -> Iterator[Stripe]:
            for first in range(0, len(self.centres.rows), STRIPE):
                some = slice(first, first + STRIPE)
                x = (self.table.mu[self.centres.rows[some]] - self.moments.mean) @ whiten
                square = -0.5 * x.square().sum(dim=1)[None]
                right = torch.cat([x.T, square, torch.ones_like(square)])
                columns = right, right[:0], right[:0]
                yield Products.of(
                    left,
                    none,
                    columns,
                    groups=self.groups.some(some),
                    apart=self.apart.some(some),
                    device=self.device,
                )

        return made

    def start(self, generator: Generator) -> Tensor:
        """Which of the shaping means the cells start from."""
        n, d = len(self.shaping), self.z.shape[1]
        return torch.randperm(n, generator=generator)[: cell_count(n, d)]

    def cells(self, start: Tensor) -> Cells:
        """Of the shaping means, with the few centres as members; in units of the mean noise."""
        most, s = max(q for q, _ in CELL_SHAPES), self.moments.noise.sqrt()
        x, few = (self.table.mu[rows] / s for rows in (self.shaping, self.few.rows))
        q = min(max(2, len(x) // 8), most, len(x))
        return Cells.of(x.float(), start, members=few.float(), q=q)

    def by_cells(self, cells: Cells, q: int, h: float) -> CellKernels:
        """The kernels of the few centres, shaped by q means near their cell's centre."""
        mu, logvar = self.table.mu, self.table.logvar
        near = torch.split(self.shaping[cells.near[:, :q]], CELLS_AT_ONCE)
        shapes = [Shapes.of(mu[some], logvar[some].exp().mean(dim=1), h=h) for some in near]
        of = self.z, mu[self.few.rows], cells.members, Shapes.joined(shapes)
        return CellKernels.of(*of, own=self.few.own, device=self.device)

    def local(self) -> Tensor:
        """[m, 2]: log of the mean of `local_kernels`."""
        rows = self.few.rows
        found = local_kernels(
            self.z,
            self.table.mu[rows],
            self.table.logvar[rows].exp(),
            own=self.few.own,
            shaping=torch.isin(rows, self.shaping).nonzero().flatten(),
            scale=self.moments.noise.sqrt(),
        )
        return found - self.few.log_count[:, None]


def _few(rows: Tensor) -> Tensor:
    return rows[:: math.ceil(len(rows) / MOST_CENTRES)]
