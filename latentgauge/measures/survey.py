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
from latentgauge.measures.joint import Draws, Standardised, joint_sums, rounding_bound
from latentgauge.measures.labels import (
    LabelBounds,
    LatentLabels,
    label_bounds,
    labels_by_latent,
    most_draws,
)
from latentgauge.measures.marginals import INFLATION, Marginal, marginals
from latentgauge.measures.pairs import Tick, part, silent
from latentgauge.measures.slices import Coded, Slice, class_slices, sliced_classes
from latentgauge.measures.units import (
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
class Survey:
    """What the measures found, in nats. `kl` [N, D] is exact; `seconds` are by stage.

    `quantile` takes a standard error over all units to the end of an interval, `noise_quantile`
    one over draws. `rounding` bounds what float64 does to the joint figures.
    """

    units: Tensor
    quantile: float
    noise_quantile: float
    rounding: float
    kl: Tensor
    marginals: tuple[Marginal, ...]
    intervals: tuple[Interval, ...]
    divergences: tuple[Divergence, ...]
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
    confidence: float = 0.95,
    device: torch.device | str = "cpu",
    tick: Tick = silent,
) -> Survey:
    """All figures. Rows of one number in `copies` are one row; only the passes use `device`."""
    clock = _Clock(tick)
    generator = own_stream(seed)
    units = numbered(units, len(mu))
    folds = fold_of_rows(units, generator)
    table = Standardised.of(mu, logvar)
    every = Draws.of(table, samples=len(mu), generator=generator)
    draws = every.some(samples, generator=generator)

    stage = clock.stage("marginals", 0.0, 0.3)
    each = marginals(table, every, units=units, folds=folds, tick=stage)
    stage = clock.stage("pairs", 0.3, 0.5)
    sums = joint_sums(table, draws, units=units, classes=classes, device=device, tick=stage)
    stage = clock.stage("upper_bound", 0.5, 0.9)
    parts = components(
        table,
        draws,
        sums,
        units=units,
        folds=folds,
        classes=classes,
        device=device,
        tick=stage,
    )
    kl = kl_rows(mu, logvar)
    joint = joint_information(table, draws, sums, parts, each, units=units, folds=folds)
    stage = clock.stage("labels", 0.9, 1.0)
    labels: LabelBounds | None = None
    by_latent: tuple[LatentLabels, ...] = ()
    slices: tuple[Slice, ...] = ()
    if classes is not None:
        belong = {"classes": classes, "units": units, "folds": folds}
        labels = label_bounds(table, draws, sums, parts, **belong)
        some = every.some(most_draws(classes), generator=generator)
        chosen = sliced_classes(classes, units)
        by_latent = labels_by_latent(
            table,
            some,
            each,
            classes=classes,
            units=units,
            folds=folds,
            slices=chosen,
            tick=part(stage, 0, 2),
        )
        coded = Coded(table, draws, sums, parts, kl, **belong)
        slices = class_slices(
            coded,
            by_latent,
            chosen,
            copies=copies,
            confidence=confidence,
            tick=part(stage, 1, 2),
        )

    t, t_drawn = (interval_quantile(confidence, u) for u in (units, units[draws.rows]))
    rounding = rounding_bound(mu, logvar)
    intervals = tuple(marginal_interval(m, t=t) for m in each)
    known = rounding <= LARGEST_ROUNDING
    between = joint_interval(joint, t=t_drawn) if known else UNKNOWN
    information = within_latents(between, intervals)
    apart = marginal_divergence(kl, joint, rows=draws.rows, units=units, folds=folds, t=t_drawn)
    told = None
    if labels is not None:
        told = label_interval(labels, information, told=known, t=t_drawn)
    return Survey(
        units=units,
        quantile=t,
        noise_quantile=interval_quantile(confidence, draws.rows),
        rounding=rounding,
        kl=kl,
        marginals=each,
        intervals=intervals,
        divergences=tuple(_divergence(kl[:, j], m, units, t=t) for j, m in enumerate(each)),
        joint=joint,
        information=information,
        dimensionwise=divergence_from_prior(kl, each, units, t=t),
        marginal_kl=apart if known else UNKNOWN,
        labels=labels,
        label_information=told,
        labels_by_latent=by_latent,
        slices=slices,
        ceiling=ceiling(copies, len(mu)),
        seconds=clock.seconds(),
    )


def own_stream(seed: int) -> torch.Generator:
    """A generator of ours alone for the seed.

    A table that somebody drew with the same seed must not come back as our noise: the figures
    would be wrong and look sharp.
    """
    own = hashlib.sha256(f"latentgauge draws {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(own[:7], "big"))


def _divergence(kl: Tensor, marginal: Marginal, units: Tensor, *, t: float) -> Divergence:
    interval = divergence_from_prior(kl[:, None], [marginal], units, t=t)
    error = mean_over_units(kl - marginal.lower_rows, units).standard_error
    inflated = None if error is None else INFLATION * error
    return Divergence(float(kl.mean()) - marginal.dataset, inflated, interval)


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
