"""Every measure of one posterior table, in order, from one set of draws."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.intervals import (
    SATURATION,
    UNKNOWN,
    Interval,
    Joint,
    divergence_from_prior,
    joint_information,
    joint_interval,
    label_interval,
    marginal_divergence,
    marginal_interval,
    within_latents,
)
from latentgauge.measures.joint import (
    Draws,
    Noise,
    Standardised,
    drawn_rows,
    joint_sums,
    rounding_bound,
)
from latentgauge.measures.labels import LabelBounds, dataset_information_by_latent, label_bounds
from latentgauge.measures.lanes import Lanes, lanes
from latentgauge.measures.marginals import INFLATION, Marginal, marginal
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.units import (
    Mean,
    entropy_of_counts,
    fold_of_rows,
    interval_quantile,
    mean_over_units,
    numbered,
)
from latentgauge.measures.upper_bound import components

# Joint figures that rounding may move by more are not given; nats.
LARGEST_ROUNDING = 1.0


@dataclass(frozen=True)
class Divergence:
    """KL_j - I_j: the data set's value, its error for the population, and the interval.

    The error is inflated as that of I_j is: rows share one mixture.
    """

    value: float
    standard_error: float | None
    interval: Interval


@dataclass(frozen=True)
class Latent:
    """One latent: I_Nj and its error for the population, the intervals, and KL_j."""

    dataset: float
    standard_error: float | None
    interval: Interval
    kl: Mean
    divergence: Divergence


@dataclass(frozen=True)
class _Rows:
    """What each row adds to the bounds on sum_j I_j, and to KL: [N] each."""

    lower: Tensor
    upper: Tensor
    kl: Tensor

    def plus(self, other: _Rows) -> _Rows:
        lower, upper = self.lower + other.lower, self.upper + other.upper
        return _Rows(lower, upper, self.kl + other.kl)


@dataclass(frozen=True)
class _Latents:
    """All latents, the sums over them, and the sums' exact or estimated means."""

    each: tuple[Latent, ...]
    rows: _Rows
    dataset: float
    upper: float


@dataclass(frozen=True)
class Survey:
    """What the measures found, in nats. `kl` [N] is exact; `seconds` are by stage.

    `quantile` takes a standard error over all units to the end of an interval, `noise_quantile`
    one over draws. `rounding` bounds what float64 does to the joint figures.
    """

    units: Tensor
    quantile: float
    noise_quantile: float
    rounding: float
    kl: Tensor
    latents: tuple[Latent, ...]
    joint: Joint
    information: Interval
    dimensionwise: Interval
    marginal_kl: Interval
    labels: LabelBounds | None
    label_information: Interval | None
    labels_by_latent: Tensor | None
    ceiling: float
    seconds: Mapping[str, float]

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The interval for each I_j."""
        return tuple(latent.interval for latent in self.latents)

    @property
    def joint_known(self) -> bool:
        """Whether rounding leaves the joint figures a meaning."""
        return self.rounding <= LARGEST_ROUNDING

    @property
    def saturated(self) -> bool:
        """Whether I_N is near a ceiling that a code of one point would not reach too."""
        near = self.joint.dataset.value > self.ceiling - SATURATION
        return self.joint_known and near and self.ceiling > SATURATION


def survey(
    mu: Tensor,
    logvar: Tensor,
    *,
    units: Tensor | None = None,
    copies: Tensor | None = None,
    classes: Tensor | None = None,
    samples: int = 20_000,
    seed: int = 0,
    thorough: bool = False,
    confidence: float = 0.95,
    device: torch.device | str = "cpu",
    tick: Tick = silent,
) -> Survey:
    """All figures. Rows of one number in `copies` are one row; only the passes use `device`."""
    with lanes() as pool:
        return _survey(
            mu,
            logvar,
            units=numbered(units, len(mu)),
            copies=copies,
            classes=classes,
            samples=samples,
            thorough=thorough,
            generator=own_stream(seed),
            confidence=confidence,
            device=device,
            lanes=pool,
            tick=tick,
        )


def _survey(
    mu: Tensor,
    logvar: Tensor,
    *,
    units: Tensor,
    copies: Tensor | None,
    classes: Tensor | None,
    samples: int,
    thorough: bool,
    generator: torch.Generator,
    confidence: float,
    device: torch.device | str,
    lanes: Lanes,
    tick: Tick,
) -> Survey:
    clock = _Clock(tick)
    folds = fold_of_rows(units, generator)
    noise = Noise.of(*mu.shape, generator=generator)
    rows = drawn_rows(len(mu), samples=samples, generator=generator)
    table = Standardised.of(mu, logvar)
    draws = Draws.of(table, noise, rows=rows)
    t, t_drawn = (interval_quantile(confidence, u) for u in (units, units[rows]))

    stage = clock.stage("marginals", 0.0, 0.3)
    latents = _latents(
        mu, logvar, table, noise, units=units, folds=folds, t=t, lanes=lanes, tick=stage
    )
    stage = clock.stage("pairs", 0.3, 0.5)
    sums = joint_sums(
        table, draws, units=units, classes=classes, device=device, lanes=lanes, tick=stage
    )
    stage = clock.stage("upper_bound", 0.5, 0.9)
    parts = components(
        table,
        draws,
        sums,
        units=units,
        folds=folds,
        generator=generator,
        classes=classes,
        thorough=thorough,
        device=device,
        lanes=lanes,
        tick=stage,
    )
    alone = latents.rows
    joint = joint_information(
        table,
        draws,
        sums,
        parts,
        alone.lower,
        alone_mean=latents.dataset,
        units=units,
        folds=folds,
    )
    stage = clock.stage("labels", 0.9, 1.0)
    labels = by_latent = None
    if classes is not None:
        labels = label_bounds(table, draws, sums, parts, classes=classes, units=units, folds=folds)
        by_latent = dataset_information_by_latent(table, classes, tick=stage)

    rounding = rounding_bound(mu, logvar)
    known = rounding <= LARGEST_ROUNDING
    between = joint_interval(joint, t=t_drawn) if known else UNKNOWN
    information = within_latents(between, [latent.interval for latent in latents.each])
    apart = marginal_divergence(alone.kl, joint, rows=rows, units=units, folds=folds, t=t_drawn)
    told = None
    if labels is not None:
        told = label_interval(labels, information, told=known, t=t_drawn)
    return Survey(
        units=units,
        quantile=t,
        noise_quantile=interval_quantile(confidence, rows),
        rounding=rounding,
        kl=alone.kl,
        latents=latents.each,
        joint=joint,
        information=information,
        dimensionwise=divergence_from_prior(
            alone.kl, (latents.dataset, alone.lower), (latents.upper, alone.upper), units, t=t
        ),
        marginal_kl=apart if known else UNKNOWN,
        labels=labels,
        label_information=told,
        labels_by_latent=by_latent,
        ceiling=ceiling(copies, len(mu)),
        seconds=clock.seconds(),
    )


def _latents(
    mu: Tensor,
    logvar: Tensor,
    table: Standardised,
    noise: Noise,
    *,
    units: Tensor,
    folds: Tensor,
    t: float,
    lanes: Lanes,
    tick: Tick,
) -> _Latents:
    """Each latent in a lane of its own; only sums over latents are kept of the rows."""

    def found(j: int) -> tuple[Marginal, Tensor]:
        alone = table.latent(j)
        draws = Draws.of_latent(alone, noise, j)
        kl = kl_rows(mu[:, j], logvar[:, j])
        return marginal(alone, draws, 0, units=units, folds=folds), kl

    each, datasets, uppers = [], [], []
    zero = torch.zeros(len(mu), dtype=torch.float64)
    rows = _Rows(zero, zero, zero)
    for marginal_j, kl in lanes.each(found, range(mu.shape[1])):
        each.append(_latent(marginal_j, kl, units, t=t))
        rows = rows.plus(_Rows(marginal_j.lower_rows, marginal_j.upper_rows, kl))
        datasets.append(marginal_j.dataset)
        uppers.append(marginal_j.upper)
        tick(len(each) / mu.shape[1])
    return _Latents(tuple(each), rows, math.fsum(datasets), math.fsum(uppers))


def _latent(marginal: Marginal, kl: Tensor, units: Tensor, *, t: float) -> Latent:
    lower, upper = (marginal.dataset, marginal.lower_rows), (marginal.upper, marginal.upper_rows)
    error = mean_over_units(kl - marginal.lower_rows, units).standard_error
    return Latent(
        dataset=marginal.dataset,
        standard_error=marginal.lower_error,
        interval=marginal_interval(marginal, t=t),
        kl=mean_over_units(kl, units),
        divergence=Divergence(
            float(kl.mean()) - marginal.dataset,
            None if error is None else INFLATION * error,
            divergence_from_prior(kl, lower, upper, units, t=t),
        ),
    )


def own_stream(seed: int) -> torch.Generator:
    """A generator of ours alone for the seed.

    A table that somebody drew with the same seed must not come back as our noise: the figures
    would be wrong and look sharp.
    """
    own = hashlib.sha256(f"latentgauge draws {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(own[:7], "big"))


def ceiling(copies: Tensor | None, n: int) -> float:
    """Entropy of the empirical distribution over distinct rows; log N where all are."""
    if copies is None:
        return math.log(n)
    return entropy_of_counts(torch.unique(copies, return_counts=True)[1])


class _Clock:
    """Names and times the stages, and maps each one's progress onto the whole."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._starts: list[tuple[str, float]] = []

    def stage(self, name: str, low: float, high: float) -> Tick:
        self._starts.append((name, time.perf_counter()))
        self._tick(low)
        return lambda fraction: self._tick(low + (high - low) * fraction)

    def seconds(self) -> dict[str, float]:
        ends = [start for _, start in self._starts[1:]] + [time.perf_counter()]
        pairs = zip(self._starts, ends, strict=True)
        return {name: end - start for (name, start), end in pairs}
