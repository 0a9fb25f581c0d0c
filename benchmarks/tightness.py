"""How far above the truth the upper bound stands: closed forms, and three that have none."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from benchmarks.figure import Figure, Goal
from benchmarks.processes import over
from benchmarks.shapes import Shape, clusters, sheet, table, truth, varying
from latentgauge.measures.survey import survey
from tests.truth import F64, LinearGaussian, independent, normal, scaled

SEEDS, FEW_SEEDS = 20, 2
ROWS, WIDE_ROWS = 5_000, 10_000
LOOSEST, LOOSEST_WIDE = 0.03, 0.15


def spread(d: int) -> LinearGaussian:
    """A spectrum from 100 to .01 of sigma^2, evenly in the logarithm, in a random orientation."""
    turn = torch.linalg.qr(normal(d, d, seed=3)).Q
    eigenvalues = torch.logspace(2.0, -2.0, d, dtype=F64)
    return LinearGaussian(turn * eigenvalues.sqrt(), torch.ones(d, dtype=F64))


# Correlated latents, so that no latent alone tells the code's density.
LINEAR = {
    f"linear Gaussian, {d} latents": scaled(normal(d, d, seed=1), information)
    for information, d in ((5.0, 10), (10.0, 11), (20.0, 12), (40.0, 14), (60.0, 16))
}
WIDE = {
    "128 latents, flat spectrum": independent(40.0, 128),
    "128 latents, spread spectrum": spread(128),
}
# Names of the shapes, and the upper bound that a mixture with cells reached on these rows.
SHAPES: dict[str, tuple[Shape, float]] = {
    "3-D sheet in 16": (sheet, 8.47),
    "50 clusters in 16": (clusters, 9.51),
    "6-D sheet in 24, sigma varies": (varying, 12.45),
}


def figures() -> Iterator[Figure]:
    yield from gaps(LINEAR, SEEDS, LOOSEST)
    yield from gaps(WIDE, FEW_SEEDS, LOOSEST_WIDE)
    for name, (shape, goal) in SHAPES.items():
        yield from shape_figures(name, shape, goal)


def gaps(sources: dict[str, LinearGaussian], seeds: int, loosest: float) -> Iterator[Figure]:
    """The mean over data sets of the upper bound's estimate less the truth."""
    cases = [(name, seed) for name in sources for seed in range(seeds)]
    uppers = torch.tensor(over(upper_of, cases), dtype=F64).reshape(len(sources), seeds)
    for (name, source), found in zip(sources.items(), uppers, strict=True):
        gap = found - source.information
        error = float(gap.std()) / math.sqrt(seeds)
        yield Figure(
            f"{name}, I = {source.information:.1f}: upper - truth",
            float(gap.mean()),
            "nats",
            error,
            f"its own error, {seeds} seeds",
            Goal("figure", at_most=loosest),
        )


def upper_of(case: tuple[str, int]) -> float:
    name, seed = case
    source = LINEAR[name] if name in LINEAR else WIDE[name]
    rows = ROWS if name in LINEAR else WIDE_ROWS
    return survey(*source.sample(rows, seed=20_000 + seed), seed=seed).joint.upper.value


def shape_figures(name: str, shape: Shape, goal: float) -> Iterator[Figure]:
    """Lower and upper bound from 5,000 rows, beside the truth from 400,000."""
    right = truth(shape)
    found = survey(*table(shape, ROWS, seed=7), seed=0).joint
    low = f"truth at least, +- {right.standard_error:.3f}"
    high = f"truth at most, +- {right.standard_error:.3f}"
    yield Figure(f"{name}: lower", found.lower.value, "nats", right.lower, low)
    bound = Goal("figure", at_most=goal)
    error = 0.0 if found.upper.standard_error is None else found.upper.standard_error
    work = f"{name}: upper, +- {error:.3f}"
    yield Figure(work, found.upper.value, "nats", right.upper, high, bound)
