"""How often the 95% intervals hold the truth, over 200 data sets of each of four sources."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.figure import Figure, Goal
from benchmarks.processes import over
from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.intervals import Interval, difference
from latentgauge.measures.marginals import INFLATION
from latentgauge.measures.survey import Survey, survey
from latentgauge.measures.units import mean_over_units
from tests.truth import F64, LinearGaussian, Mixture, independent, normal

SEEDS, CONFIDENCE = 200, 0.95
FEWEST_HELD, WIDEST = 0.93, 5.0
# The lower bound stands a few e^I / 2N below I, whoever computes it: from log N = I + 4 on, that
# is some hundredths and within s.
UNSATURATED = 4.0
TRUTH_DRAWS = 2_000_000

SOURCES: dict[str, LinearGaussian | Mixture] = {
    "linear Gaussian, 2 latents": independent(1.0, 2),
    "linear Gaussian, 3 latents": LinearGaussian(
        normal(3, 3, seed=4), torch.full((3,), 0.4, dtype=F64)
    ),
    "linear Gaussian, 6 latents": LinearGaussian(
        0.6 * normal(6, 4, seed=5), torch.linspace(0.3, 1.5, 6, dtype=F64)
    ),
    "six clusters, 4 latents": Mixture(
        2.0 * normal(6, 4, seed=6), 0.6 * normal(6, 4, 4, seed=7), normal(6, 4, seed=8) + 0.5
    ),
}
ROWS = dict(zip(SOURCES, (300, 600, 1000, 1000), strict=True))


@dataclass(frozen=True)
class Ends:
    """What one survey says: intervals, and the standard error behind that of I."""

    information: Interval
    latents: tuple[Interval, ...]
    total_correlation: Interval
    kl: Interval
    lower: float
    upper: float
    standard_error: float


def figures() -> Iterator[Figure]:
    cases = [(name, seed) for name in SOURCES for seed in range(SEEDS)]
    ends = over(ends_of, cases)
    for number, (name, source) in enumerate(SOURCES.items()):
        mine = ends[number * SEEDS : (number + 1) * SEEDS]
        yield from source_figures(f"{name}, N = {ROWS[name]}", source, ROWS[name], mine)


def ends_of(case: tuple[str, int]) -> Ends:
    name, seed = case
    mu, logvar = SOURCES[name].sample(ROWS[name], seed=10_000 + seed)
    found = survey(mu, logvar, seed=seed, confidence=CONFIDENCE)
    kl = mean_over_units(kl_rows(mu, logvar).sum(dim=1), found.units)
    assert kl.standard_error is not None
    reach = found.quantile * kl.standard_error
    return Ends(
        found.information,
        found.intervals,
        difference(found.intervals, [found.information]),
        Interval(kl.value - reach, kl.value + reach),
        found.joint.lower.value,
        found.joint.upper.value,
        standard_error(found),
    )


def standard_error(found: Survey) -> float:
    """s of the interval for I: the mean of that of its two ends."""
    errors = found.joint.lower.standard_error, found.joint.upper.standard_error
    return INFLATION * math.fsum(s for s in errors if s is not None) / 2.0


def source_figures(
    name: str, source: LinearGaussian | Mixture, n: int, ends: list[Ends]
) -> Iterator[Figure]:
    information, alone, kl = truths(source)
    held = share([end.information for end in ends], information)
    yield coverage(f"{name}: I = {information:.3f}", held, Goal("figure", at_least=FEWEST_HELD))
    each = [share([end.latents[j] for end in ends], x) for j, x in enumerate(alone)]
    yield coverage(f"{name}: I_j, the least of all", min(each))
    apart = [end.total_correlation for end in ends]
    yield coverage(f"{name}: TC", share(apart, math.fsum(alone) - information))
    yield coverage(f"{name}: KL", share([end.kl for end in ends], kl))
    yield from gaps(name, information, ends)
    yield width_figure(name, math.log(n) >= information + UNSATURATED, ends)


def gaps(name: str, truth: float, ends: list[Ends]) -> Iterator[Figure]:
    for which in ("lower", "upper"):
        gap = math.fsum(getattr(end, which) for end in ends) / len(ends) - truth
        work = f"{name}: {which} bound - truth, mean"
        yield Figure(work, gap, "nats", typical_error(ends), "the standard error, median")


def width_figure(name: str, free: bool, ends: list[Ends]) -> Figure:
    """The interval's width in standard errors; a goal for the sources that are unsaturated."""
    work = f"{name}: width of I's interval" + ("" if free else ", near saturation")
    found, s = median([width(end.information) for end in ends]), typical_error(ends)
    goal = Goal(at_most=WIDEST) if free else None
    return Figure(work, found, "nats", s, "the standard error, medians", goal)


def typical_error(ends: list[Ends]) -> float:
    return median([end.standard_error for end in ends])


def coverage(work: str, held: float, goal: Goal | None = None) -> Figure:
    return Figure(work, held, "", CONFIDENCE, f"nominal; {SEEDS} seeds", goal)


def truths(source: LinearGaussian | Mixture) -> tuple[float, list[float], float]:
    """I, I_j and KL of the source."""
    if isinstance(source, Mixture):
        found, error = source.information(draws=TRUTH_DRAWS, seed=0)
        assert error < 2e-3
        return found, source.informations.tolist(), source.kl
    return (
        source.information,
        source.informations.tolist(),
        source.information + source.marginal_kl,
    )


def share(intervals: list[Interval], truth: float) -> float:
    return sum(holds(interval, truth) for interval in intervals) / len(intervals)


def holds(interval: Interval, truth: float) -> bool:
    high = math.inf if interval.upper is None else interval.upper
    return (interval.lower or 0.0) <= truth <= high


def width(interval: Interval) -> float:
    return math.inf if interval.upper is None else interval.upper - (interval.lower or 0.0)
