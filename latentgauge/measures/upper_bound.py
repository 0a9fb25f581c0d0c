"""An upper bound on the population's I(X;Z): E[log q(z|x) - log r(z)] for a density r.

Barber & Agakov 2003; the rate of Alemi et al. 2018, https://arxiv.org/abs/1711.00464. It holds
in expectation for any r chosen without the row's unit; the closer r is to q(z), the tighter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latentgauge.measures.cells import (
    BANDWIDTH,
    NEIGHBOURS,
    CellKernels,
    Cells,
    Shapes,
    cell_count,
)
from latentgauge.measures.decomposition import LOG_2PI, log_normal
from latentgauge.measures.gaussian import Gaussian, Moments, moments_elsewhere
from latentgauge.measures.joint import Draws, JointSums, Standardised
from latentgauge.measures.lanes import ONE, Lanes
from latentgauge.measures.local_kernels import SHAPES, local_kernels
from latentgauge.measures.pairs import (
    STRIPE,
    Apart,
    Groups,
    Products,
    Stripe,
    Stripes,
    Tick,
    log_sums,
    part,
    silent,
)

# Bandwidths of the kernel mixtures, in standard deviations of the means.
BANDWIDTHS = (0.1, 0.2, 0.4, 0.7)
# Kernels of a shape of their own stand on at most so many means.
MOST_CENTRES = 50_000


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
    device: torch.device | str = "cpu",
    lanes: Lanes = ONE,
    tick: Tick = silent,
) -> Components:
    """The densities that r may be mixed from.

    The other units' posteriors, the prior, a Gaussian with shrunk covariance and one with
    independent latents, kernel mixtures on the means, the same by overlapping cells and, if
    `thorough`, with a shape for every mean. What is learnt is learnt on the folds that do not
    hold the row; kernels stand on all rows outside its unit, as far as those are units alone.
    """
    posteriors = sums.others[:, 0] - _others(units)[draws.rows].log()
    known = torch.stack([posteriors, table.log_prior(draws.z)], dim=1)
    kernels = known.new_full((len(draws.rows), len(BANDWIDTHS), 2), -math.inf)
    control = _control(table, draws)
    count = int(folds.max()) + 1
    if count == 1:
        share = torch.ones_like(posteriors)
        return Components(NAMES[:2], known, kernels[:, :0, 0], kernels[:, :0, 1], share, control)
    parts = _parts(table, draws, units, folds, classes, posteriors, torch.device(device))
    names = NAMES if thorough else NAMES[: -len(SHAPES)]
    learnt = known.new_empty(len(draws.rows), len(names) - 2)
    share = torch.empty_like(posteriors)
    for f, fold in enumerate(parts):
        step = part(tick, f, 2 * len(parts))
        learnt[fold.mine, :2] = fold.gaussians()
        kernels[fold.mine] = fold.kernels(lanes=lanes, tick=step)
        share[fold.mine] = fold.share()
    learnt[:, 2 : 2 + len(BANDWIDTHS)] = kernels[:, :, 0]
    first = 2 + len(BANDWIDTHS)
    starts = [fold.start(generator) for fold in parts]
    pairs = zip(parts, starts, strict=True)
    cells = lanes.each(lambda both: both[0].cells(both[1]), pairs, ahead=1)
    for f, (fold, each) in enumerate(zip(parts, cells, strict=True)):
        for k, kernel in enumerate(each):
            found = log_sums(kernel.stripes(), fold.reference, lanes=lanes)[:, 0].cpu()
            learnt[fold.mine, first + k] = found - fold.few.log_count
        tick(0.5 + 0.5 * (f + 1) / len(parts))
    if thorough:
        own = lanes.each(lambda fold: fold.local(), parts, ahead=lanes.count)
        for fold, found in zip(parts, own, strict=True):
            learnt[fold.mine, first + len(NEIGHBOURS) :] = found
    log_r = torch.cat([known, learnt], dim=1)
    return Components(names, log_r, kernels[:, :, 0], kernels[:, :, 1], share, control)


NAMES = (
    "posteriors",
    "prior",
    "gaussian",
    "diagonal",
    *(f"kernel {h}" for h in BANDWIDTHS),
    *(f"cells {q}" for q in NEIGHBOURS),
    *(f"local {shape.k}" for shape in SHAPES),
)


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
) -> list[_Part]:
    elsewhere = moments_elsewhere(table.mu, table.logvar, folds)
    alone = torch.bincount(units)[units] == 1
    rows = [_Rows.of(folds, f, alone, draws.rows) for f in range(len(elsewhere))]
    return [
        _Part.of(table, draws, fold, moments, classes, posteriors, device)
        for fold, moments in zip(rows, elsewhere, strict=True)
        if len(fold.mine)
    ]


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
class _Rows:
    """One fold: its draws `mine` [m], the rows of the others, and all rows that may be centres.

    Those are the other folds' and, of its own, rows that are units alone.
    """

    mine: Tensor
    drawn: Tensor
    rest: Tensor
    centres: Tensor

    @classmethod
    def of(cls, folds: Tensor, fold: int, alone: Tensor, drawn: Tensor) -> _Rows:
        mine = (folds[drawn] == fold).nonzero().flatten()
        centres = ((folds != fold) | alone).nonzero().flatten()
        return cls(mine, drawn[mine], (folds != fold).nonzero().flatten(), centres)


@dataclass(frozen=True)
class _Part:
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
    groups: Groups
    apart: Apart
    reference: Tensor
    device: torch.device

    @classmethod
    def of(
        cls,
        table: Standardised,
        draws: Draws,
        fold: _Rows,
        moments: Moments,
        classes: Tensor | None,
        posteriors: Tensor,
        device: torch.device,
    ) -> _Part:
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
        z = draws.z[mine]
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

    def kernels(self, *, lanes: Lanes, tick: Tick) -> Tensor:
        """[m, H, 2]: log of the mean over centres c of N(z; a c + (1 - a) mean, h^2 C + S).

        a = sqrt(1 - h^2) keeps the mixture's covariance C + S whatever h (West 1993). The
        second column counts only centres of the row's own class.
        """
        s = self.moments.noise.sqrt()
        lam, u = torch.linalg.eigh(self.covariance / torch.outer(s, s))
        out = self.z.new_empty(len(self.z), len(BANDWIDTHS), 2)
        for k, h in enumerate(BANDWIDTHS):
            v = h * h * lam.clamp(min=0.0) + 1.0
            whiten = u / s[:, None] / v.sqrt()
            y = (self.z - self.moments.mean) @ whiten
            log_scale = 0.5 * float(v.log().sum()) + float(s.log().sum())
            constant = log_scale + 0.5 * len(s) * LOG_2PI + self.centres.log_count.to(self.device)
            # exp(-|y|^2 / 2) is the row's alone: it joins the reference.
            shift = constant + 0.5 * y.square().sum(dim=1).to(self.device)
            sums = log_sums(
                self._products(y, math.sqrt(1.0 - h * h) * whiten),
                self.reference + shift,
                lanes=lanes,
                tick=part(tick, k, len(BANDWIDTHS)),
            )
            out[:, k] = (sums - shift[:, None]).cpu()
        return out

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

    def cells(self, start: Tensor) -> Sequence[CellKernels]:
        """A kernel mixture for each of NEIGHBOURS; distances are in units of the mean noise."""
        x, var = self.table.mu[self.shaping], self.table.logvar[self.shaping].exp()
        few, scale = self.table.mu[self.few.rows], self.moments.noise.sqrt()
        most = min(max(2, len(x) // 8), max(NEIGHBOURS), len(x))
        cells = Cells.of((x / scale).float(), start, q=most)
        members, out = cells.members((few / scale).float()), []
        for q in NEIGHBOURS:
            near = cells.near[:, :q]
            shapes = Shapes.of(x[near], var[near].mean(dim=1), h=BANDWIDTH)
            of = self.z, few, members, shapes
            out.append(CellKernels.of(*of, own=self.few.own, device=self.device))
        return out

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
