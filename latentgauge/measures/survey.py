"""Every measure of one posterior table, in order, from one set of draws."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
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
    within_latents,
)
from latentgauge.measures.joint import (
    Draws,
    Noise,
    Standardised,
    drawn_rows,
    joint_sums,
)
from latentgauge.measures.labels import (
    LabelBounds,
    LatentLabels,
    label_bounds,
    labels_of_latent,
    most_draws,
)
from latentgauge.measures.lanes import Lanes, lanes
from latentgauge.measures.latents import Latent, Latents, all_latents
from latentgauge.measures.pairs import Tick, part, silent
from latentgauge.measures.rounding import Rounding
from latentgauge.measures.slices import Coded, Slice, class_slices, sliced_classes
from latentgauge.measures.units import (
    entropy_of_counts,
    fold_of_rows,
    interval_quantile,
    numbered,
)
from latentgauge.measures.upper_bound import components

# Joint figures that rounding may move by more are not given; nats.
LARGEST_ROUNDING = 1.0


@dataclass(frozen=True)
class Survey:
    """What the measures found, in nats. `kl` [N] is exact; `seconds` are by stage.

    `quantile` takes a standard error over all units to the end of an interval, `drawn_quantile`
    one over the units that were drawn, `noise_quantile` one over draws. `rounding` bounds what
    arithmetic does to each figure.
    """

    units: Tensor
    quantile: float
    drawn_quantile: float
    noise_quantile: float
    rounding: Rounding
    kl: Tensor
    latents: tuple[Latent, ...]
    joint: Joint
    information: Interval
    dimensionwise: Interval
    marginal_kl: Interval
    labels: LabelBounds | None
    label_information: Interval | None
    labels_by_latent: tuple[LatentLabels, ...]
    slices: tuple[Slice, ...]
    ceiling: float
    seconds: Mapping[str, float]

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The interval for each I_j."""
        return tuple(latent.interval for latent in self.latents)

    @property
    def joint_known(self) -> bool:
        """Whether rounding leaves the joint figures a meaning."""
        return self.rounding.information <= LARGEST_ROUNDING

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
    latents = all_latents(
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
    found = _Labelled()
    if classes is not None:
        found = _labelled(
            Coded(table, draws, sums, parts, alone.kl, classes, units, folds),
            latents,
            kl=lambda j: kl_rows(mu[:, j], logvar[:, j]),
            noise=noise,
            rows=drawn_rows(len(mu), samples=most_draws(classes), generator=generator),
            copies=copies,
            confidence=confidence,
            lanes=lanes,
            tick=stage,
        )

    rounding = Rounding.of(
        mu,
        logvar,
        table,
        draws,
        grids=[latent.numerical_error for latent in latents.each],
        labelled=classes is not None,
    )
    known = rounding.information <= LARGEST_ROUNDING
    between = joint_interval(joint, t=t_drawn) if known else UNKNOWN
    information = within_latents(between, [latent.interval for latent in latents.each])
    apart = marginal_divergence(alone.kl, joint, rows=rows, units=units, folds=folds, t=t_drawn)
    told = None
    if found.bounds is not None:
        told = label_interval(found.bounds, information, told=known, t=t_drawn)
    return Survey(
        units=units,
        quantile=t,
        drawn_quantile=t_drawn,
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
        labels=found.bounds,
        label_information=told,
        labels_by_latent=found.by_latent,
        slices=found.slices,
        ceiling=ceiling(copies, len(mu)),
        seconds=clock.seconds(),
    )


@dataclass(frozen=True)
class _Labelled:
    """What was found of the labels, if there are any."""

    bounds: LabelBounds | None = None
    by_latent: tuple[LatentLabels, ...] = ()
    slices: tuple[Slice, ...] = ()


def _labelled(
    coded: Coded,
    latents: Latents,
    *,
    kl: Callable[[int], Tensor],
    noise: Noise,
    rows: Tensor,
    copies: Tensor | None,
    confidence: float,
    lanes: Lanes,
    tick: Tick,
) -> _Labelled:
    """Bounds of the whole code; of each latent, with draws of these rows; and each class alone."""
    belong = {"classes": coded.classes, "units": coded.units, "folds": coded.folds}
    bounds = label_bounds(coded.table, coded.draws, coded.sums, coded.parts, **belong)
    chosen = sliced_classes(coded.classes, coded.units)

    def of_latent(j: int) -> LatentLabels:
        alone = coded.table.latent(j)
        draws = Draws.at(alone, noise.latent(j)[rows, None], rows)
        dataset = latents.each[j].dataset
        return labels_of_latent(alone, draws, dataset=dataset, kl=kl(j), slices=chosen, **belong)

    by_latent = []
    for found in lanes.each(of_latent, range(len(latents.each)), ahead=lanes.count):
        by_latent.append(found)
        tick(0.7 * len(by_latent) / len(latents.each))
    slices = class_slices(
        coded, by_latent, chosen, copies=copies, confidence=confidence, tick=part(tick, 7, 10)
    )
    return _Labelled(bounds, tuple(by_latent), slices)


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
