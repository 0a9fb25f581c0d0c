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
    Interval,
    Joint,
    divergence_from_prior,
    joint_information,
    marginal_divergence,
    marginal_interval,
    population,
)
from latentgauge.measures.joint import Draws, Standardised, joint_sums
from latentgauge.measures.labels import LabelBounds, dataset_information_by_latent, label_bounds
from latentgauge.measures.marginals import Marginal, marginals
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.units import (
    entropy_of_counts,
    fold_of_rows,
    mean_over_units,
    numbered,
)
from latentgauge.measures.upper_bound import components


@dataclass(frozen=True)
class Divergence:
    """KL_j - I_j: the data set's value, its error for the population, and the interval."""

    value: float
    standard_error: float | None
    interval: Interval


@dataclass(frozen=True)
class Survey:
    """What the measures found, in nats. `kl` [N, D] is exact; `seconds` are by stage."""

    units: Tensor
    kl: Tensor
    marginals: tuple[Marginal, ...]
    intervals: tuple[Interval, ...]
    divergences: tuple[Divergence, ...]
    joint: Joint
    information: Interval
    dimensionwise: Interval
    marginal_kl: Interval
    labels: LabelBounds | None
    labels_by_latent: Tensor | None
    ceiling: float
    seconds: Mapping[str, float]


def survey(
    mu: Tensor,
    logvar: Tensor,
    *,
    units: Tensor | None = None,
    classes: Tensor | None = None,
    samples: int = 20_000,
    seed: int = 0,
    z: float = 1.96,
    device: torch.device | str = "cpu",
    tick: Tick = silent,
) -> Survey:
    """All figures; `z` is the normal quantile of the intervals. Only the passes use `device`."""
    clock = _Clock(tick)
    generator = own_stream(seed)
    units = numbered(units, len(mu))
    folds = fold_of_rows(units, generator)
    table = Standardised.of(mu, logvar)
    draws = Draws.of(table, samples=samples, generator=generator)

    stage = clock.stage("marginals", 0.0, 0.3)
    each = marginals(table, draws, units=units, folds=folds, tick=stage)
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
    joint = joint_information(table, draws, sums, parts, each, units=units, folds=folds)
    stage = clock.stage("labels", 0.9, 1.0)
    labels = by_latent = None
    if classes is not None:
        labels = label_bounds(table, draws, sums, parts, classes=classes, units=units, folds=folds)
        by_latent = dataset_information_by_latent(table, classes, tick=stage)

    kl = kl_rows(mu, logvar)
    unit = units[draws.rows]
    return Survey(
        units=units,
        kl=kl,
        marginals=each,
        intervals=tuple(marginal_interval(m, z=z) for m in each),
        divergences=tuple(
            _divergence(kl[:, j], m, draws.rows, unit, z=z) for j, m in enumerate(each)
        ),
        joint=joint,
        information=population(joint, z=z),
        dimensionwise=divergence_from_prior(kl, each, draws.rows, unit, z=z),
        marginal_kl=marginal_divergence(kl, joint, draws.rows, unit, z=z),
        labels=labels,
        labels_by_latent=by_latent,
        ceiling=ceiling(mu, logvar, units),
        seconds=clock.seconds(),
    )


def own_stream(seed: int) -> torch.Generator:
    """A generator of ours alone for the seed.

    A table that somebody drew with the same seed must not come back as our noise: the figures
    would be wrong and look sharp.
    """
    own = hashlib.sha256(f"latentgauge draws {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(own[:7], "big"))


def _divergence(
    kl: Tensor, marginal: Marginal, rows: Tensor, unit: Tensor, *, z: float
) -> Divergence:
    interval = divergence_from_prior(kl[:, None], [marginal], rows, unit, z=z)
    error = mean_over_units(kl[rows] - marginal.lower_rows, unit).standard_error
    return Divergence(float(kl.mean()) - marginal.dataset, error, interval)


def ceiling(mu: Tensor, logvar: Tensor, units: Tensor) -> float:
    """Entropy of the rows' distribution with copies counted as one; log N without copies.

    A copy is a row of the same unit with the same posterior: rows that only belong together
    still differ.
    """
    n = len(units)
    repeated = torch.bincount(units)[units] > 1
    if not bool(repeated.any()):
        return math.log(n)
    rows = torch.cat([units[repeated, None].double(), mu[repeated], logvar[repeated]], dim=1)
    counts = torch.unique(rows, dim=0, return_counts=True)[1]
    alone = torch.ones(n - int(repeated.sum()), dtype=counts.dtype)
    return entropy_of_counts(torch.cat([counts, alone]))


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
