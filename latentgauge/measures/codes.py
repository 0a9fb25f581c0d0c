"""Two codes of the same rows, each measured with the noise that both share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Generator, Tensor

from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.intervals import (
    UNKNOWN,
    Interval,
    Joint,
    joint_information,
    joint_interval,
    marginal_interval,
    within_latents,
)
from latentgauge.measures.joint import (
    Draws,
    Noise,
    Standardised,
    drawn_rows,
    joint_sums,
    own_control,
)
from latentgauge.measures.lanes import Lanes
from latentgauge.measures.marginals import Marginal, marginal
from latentgauge.measures.pairs import Tick
from latentgauge.measures.rounding import placement_error
from latentgauge.measures.survey import LARGEST_ROUNDING, own_stream
from latentgauge.measures.units import Mean, fold_of_rows, interval_quantile, mean_over_units
from latentgauge.measures.upper_bound import components

X = TypeVar("X")
Two = tuple[X, X]
Table = Two[Tensor]


@dataclass(frozen=True)
class Alone:
    """One latent of one code: I_Nj, its error for the population, the interval for I_j, KL_j."""

    index: int
    dataset: Mean
    interval: Interval
    kl: Mean


@dataclass(frozen=True)
class Code:
    """One of the two codes, its figures those of a survey with the noise that both share."""

    joint: Joint
    information: Interval
    latents: tuple[Alone, ...]
    kl: Mean
    rounding: float

    @property
    def joint_known(self) -> bool:
        return self.rounding <= LARGEST_ROUNDING


class Shared(NamedTuple):
    """What both codes are measured with."""

    units: Tensor
    folds: Tensor
    noise: Noise
    rows: Tensor
    generator: Generator
    t: float
    t_drawn: float

    @classmethod
    def of(
        cls, n: int, d: int, *, units: Tensor, samples: int, seed: int, confidence: float
    ) -> Shared:
        generator = own_stream(seed)
        folds = fold_of_rows(units, generator)
        noise = Noise.of(n, d, generator=generator)
        rows = drawn_rows(n, samples=samples, generator=generator)
        t, t_drawn = (interval_quantile(confidence, u) for u in (units, units[rows]))
        return cls(units, folds, noise, rows, generator, t, t_drawn)

    def same_generator(self) -> Generator:
        """A copy: the second code meets the numbers that the first one met."""
        return torch.Generator().set_state(self.generator.get_state())


@dataclass(frozen=True)
class Latent:
    """A latent, and per row its KL [N] and controls of mean 0 [N, C]."""

    marginal: Marginal
    kl: Tensor
    controls: Tensor


@dataclass(frozen=True)
class Sums:
    """Sums over latents of their bounds' rows and of KL, [N] each, and the exact sum of I_Nj."""

    lower: Tensor
    upper: Tensor
    kl: Tensor
    dataset: float

    @classmethod
    def none(cls, n: int) -> Sums:
        zero = torch.zeros(n, dtype=torch.float64)
        return cls(zero, zero, zero, 0.0)

    def plus(self, latent: Latent) -> Sums:
        m = latent.marginal
        return Sums(
            self.lower + m.lower_rows,
            self.upper + m.upper_rows,
            self.kl + latent.kl,
            self.dataset + m.dataset,
        )


def scaled(tick: Tick, low: float, high: float) -> Tick:
    """A stage's progress as its share of the whole."""
    return lambda fraction: tick(low + (high - low) * fraction)


def same(base: Table, head: Table) -> bool:
    return all(torch.equal(b, h) for b, h in zip(base, head, strict=True))


Both = tuple[Latent | None, Latent | None]


def latent_of_both(
    tables: Two[Table], standard: Two[Standardised], shared: Shared
) -> Callable[[int], Both]:
    """Latent j of both codes; one object where their numbers are the same."""

    def one(side: int, j: int) -> Latent | None:
        mu, logvar = tables[side]
        if j >= mu.shape[1]:
            return None
        table = standard[side].latent(j)
        draws = Draws.of_latent(table, shared.noise, j)
        found = marginal(table, draws, 0, units=shared.units, folds=shared.folds)
        return Latent(found, kl_rows(mu[:, j], logvar[:, j]), _controls(table, draws))

    def both(j: int) -> Both:
        base = one(0, j)
        if base is not None and j < tables[1][0].shape[1]:
            columns = [(mu[:, j], logvar[:, j]) for mu, logvar in tables]
            if same(*columns):
                return base, base
        return base, one(1, j)

    return both


def _controls(table: Standardised, draws: Draws) -> Tensor:
    """[N, 2] of mean 0 given x: log q_j(z|x) + H, and z^2 less its mean."""
    own = own_control(draws, table.logvar)
    mu = table.mu - table.mu.mean(dim=0)
    sigma = (0.5 * table.logvar).exp()
    square = 2.0 * mu * sigma * draws.noise + sigma.square() * (draws.noise.square() - 1.0)
    return torch.cat([own, square], dim=1)


def joints_of_both(
    standard: Two[Standardised],
    sums: Two[Sums],
    shared: Shared,
    *,
    equal: bool,
    thorough: bool,
    device: torch.device | str,
    lanes: Lanes,
    tick: Tick,
) -> Two[Joint]:
    """Both codes' joint information; one object where their numbers are the same."""

    def one(side: int) -> Joint:
        table, stage = standard[side], scaled(tick, 0.5 * side, 0.5 * side + 0.5)
        noise = replace(shared.noise, seeds=shared.noise.seeds[: table.mu.shape[1]])
        draws = Draws.of(table, noise, rows=shared.rows)
        passed = joint_sums(
            table,
            draws,
            units=shared.units,
            device=device,
            lanes=lanes,
            tick=scaled(stage, 0.0, 0.3),
        )
        parts = components(
            table,
            draws,
            passed,
            units=shared.units,
            folds=shared.folds,
            generator=shared.same_generator(),
            thorough=thorough,
            device=device,
            lanes=lanes,
            tick=scaled(stage, 0.3, 1.0),
        )
        return joint_information(
            table,
            draws,
            passed,
            parts,
            sums[side].lower,
            alone_mean=sums[side].dataset,
            units=shared.units,
            folds=shared.folds,
        )

    base = one(0)
    return base, base if equal else one(1)


def alone(latent: Latent, index: int, shared: Shared) -> Alone:
    return Alone(
        index,
        Mean(latent.marginal.dataset, latent.marginal.lower_error),
        marginal_interval(latent.marginal, t=shared.t),
        mean_over_units(latent.kl, shared.units),
    )


def code(table: Table, joint: Joint, latents: Sequence[Alone], sums: Sums, shared: Shared) -> Code:
    rounding = placement_error(*table)
    between = joint_interval(joint, t=shared.t_drawn) if rounding <= LARGEST_ROUNDING else UNKNOWN
    return Code(
        joint=joint,
        information=within_latents(between, [latent.interval for latent in latents]),
        latents=tuple(sorted(latents, key=lambda latent: latent.index)),
        kl=mean_over_units(sums.kl, shared.units),
        rounding=rounding,
    )
