"""The pass over pairs and the whole survey, in units of the pass at the machine's own rate."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.clock import best_of_both
from benchmarks.figure import Figure, Goal
from benchmarks.joint import Pass
from benchmarks.limit import at_limit
from latentgauge.measures.survey import survey
from tests.truth import F64, normal

SLOWEST_PASS = 1.25
# The whole survey: so many passes at the limit, and seconds for what grows with N D alone.
PASSES, ALLOWED = 12.0, 2.0
ONE_PASS = "one pass at the limit"


def figures() -> Iterator[Figure]:
    yield pass_figure(10_000, 10_000, 16)
    yield pass_figure(20_000, 60_000, 32)
    yield from survey_figures(20_000, 32)
    mu, logvar = digit_like(10_000)
    taken, limit = best_of_both(lambda: survey(mu, logvar), at_limit(10_000, 10_000, 16))
    work = "survey of a code like that of digits, 10000 x 16"
    yield Figure(work, taken, "s", limit, ONE_PASS)


def pass_figure(m: int, n: int, d: int) -> Figure:
    one = Pass.of(*code(n, d), samples=m, seed=2)
    taken, limit = best_of_both(one.run, at_limit(m, n, d))
    goal = Goal(at_most=SLOWEST_PASS)
    return Figure(f"pass {m} x {n} x {d}", taken, "s", limit, "its product and exponentials", goal)


def survey_figures(n: int, d: int) -> Iterator[Figure]:
    """The whole survey against what is allowed, and in passes at the limit."""
    mu, logvar = code(n, d)
    taken, limit = best_of_both(lambda: survey(mu, logvar), at_limit(n, n, d), times=2)
    allowed, which = PASSES * limit + ALLOWED, f"{PASSES:g} passes at the limit + {ALLOWED:g} s"
    yield Figure(f"survey {n} x {d}", taken, "s", allowed, which, Goal(at_most=1.0))
    yield Figure(f"survey {n} x {d}", taken, "s", limit, ONE_PASS)


def code(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Means of one Gaussian, and a sigma for each row and latent: nothing that is equal by row."""
    return normal(n, d, seed=0), 0.3 * normal(n, d, seed=1) - 2.0


def digit_like(n: int) -> tuple[Tensor, Tensor]:
    """Ten classes of 5-D sheets in 12 latents, sigma .1 to .3, and four latents that collapsed."""
    k = torch.randint(10, (n,), generator=torch.Generator().manual_seed(2))
    u = normal(n, 5, seed=3)
    mu = normal(10, 12, seed=4)[k] + 0.8 * torch.tanh(
        torch.einsum("ni,nij->nj", u, normal(10, 5, 12, seed=5)[k])
    )
    logvar = -3.5 + torch.tanh(u @ normal(5, 12, seed=6))
    dead = torch.zeros(n, 4, dtype=F64)
    return torch.cat([mu, dead + 0.01 * normal(n, 4, seed=7)], 1), torch.cat([logvar, dead], 1)
