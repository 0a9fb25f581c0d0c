"""The pass over all pairs on its own, and what takes the noise from its mean.

The only place of the benchmarks that knows how the package calls its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.gaussian import Gaussian, shrunk_covariance
from latentgauge.measures.joint import Draws, JointSums, Standardised, joint_sums, own_control
from latentgauge.measures.lanes import lanes
from latentgauge.measures.units import numbered
from tests.truth import drawn, generator


@dataclass(frozen=True)
class Pass:
    """A table in its own units, draws from it, and the pass over both, ready to be timed."""

    table: Standardised
    draws: Draws
    run: Callable[[], JointSums]

    @classmethod
    def of(cls, mu: Tensor, logvar: Tensor, *, samples: int, seed: int) -> Pass:
        table, units = Standardised.of(mu, logvar), numbered(None, len(mu))
        draws = drawn(table, generator=generator(seed), samples=samples)

        def run() -> JointSums:
            with lanes() as pool:
                return joint_sums(table, draws, units=units, lanes=pool)

        return cls(table, draws, run)

    def log_ratio(self) -> Tensor:
        """log q(z_i|x_i) - log q_N(z_i), [M]: its mean is I_N in expectation."""
        sums = self.run()
        return sums.own - sums.log_all()[:, 0] + math.log(len(self.table.mu))

    def controls(self) -> Tensor:
        """[M, 2] of mean 0 given x: log q(z_i|x_i), and log g(z_i) of the table's Gaussian g."""
        table, draws = self.table, self.draws
        covariance = shrunk_covariance(table.mu) + torch.diag(table.logvar.exp().mean(dim=0))
        sigma = (0.5 * table.logvar[draws.rows]).exp()
        g = Gaussian.of(table.mu.mean(dim=0), covariance)
        known = g.conditional_control(table.mu[draws.rows], draws.noise * sigma, sigma.square())
        return torch.stack([own_control(draws, table.logvar).sum(dim=1), known], dim=1)
