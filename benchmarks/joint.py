"""The pass over all pairs on its own, as this package does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentgauge.measures.joint import Draws, JointSums, Standardised, joint_sums
from latentgauge.measures.units import numbered
from tests.truth import generator


@dataclass(frozen=True)
class Pass:
    """A table in its own units, draws from it, and the pass over both, ready to be timed."""

    table: Standardised
    draws: Draws
    run: Callable[[], JointSums]

    @classmethod
    def of(cls, mu: Tensor, logvar: Tensor, *, samples: int, seed: int) -> Pass:
        table, units = Standardised.of(mu, logvar), numbered(None, len(mu))
        draws = Draws.of(table, samples=samples, generator=generator(seed))
        return cls(table, draws, lambda: joint_sums(table, draws, units=units))
