"""How far a grid moves a mixture, what that does to its entropy, and the grid that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from latentgauge.measures.spectrum import Resolution, blocks, octaves

# Error of the entropy, in nats, that step and levels are chosen for: with widths all equal, or not.
TOLERANCE_EQUAL, TOLERANCE = 5e-6, 5e-5
# Errors of a component in L1: E|He_4| / 720 by the spline, ||d^6 N / (d log v)^6|| / 720 by levels.
SPLINE_ERROR, LEVEL_ERROR = 2.8006 / 720.0, 15.4271 / 720.0
# |(t + 2)(t + 1) t (t - 1)(t - 2)(t - 3)| at its largest, t = 1/2.
LEVEL_NODES = 3.515625
# Kinks of |error| between grid points, and terms of higher order.
SLACK = 1.05


@dataclass(frozen=True)
class Entropy:
    """-integral of q log q, and a bound on its numerical error, in nats."""

    value: float
    error: float


def exact_resolution(length: float, var: Tensor) -> Resolution:
    """Half the tolerance for the spline, half for the levels.

    The error is at most e log(e M L / e) for densities below M that differ by e in L1 over a
    length L; M <= 0.4 / sigma_min.
    """
    low, high = float(var.min()), float(var.max())
    tolerance = TOLERANCE if high > low * (1.0 + 1e-12) else TOLERANCE_EQUAL
    apart = _apart_for(tolerance, 0.4 * length / math.sqrt(low)) / (2.0 * SLACK)
    spacing = (apart / (LEVEL_ERROR * LEVEL_NODES)) ** (1.0 / 6.0)
    return Resolution(max((SPLINE_ERROR / apart) ** 0.25, 8.0), spacing)


def _apart_for(tolerance: float, mass: float) -> float:
    """The e for which e log(e mass / e) is the tolerance."""
    apart = tolerance
    for _ in range(20):
        apart = tolerance / (1.0 + math.log(mass / apart))
    return apart


def displaced_entropy(apart: float, mass: float) -> float:
    """Most by which entropies of densities differ that are `apart` in L1; `mass` is M L.

    x -> -x log x is subadditive below 1/e and concave, so e log(e M L / e), by Jensen.
    """
    return apart * (1.0 + math.log(max(mass, apart) / apart))


def displacement(var: Tensor, length: float, points: int, spacing: float) -> float:
    """Bound on the L1 distance of the gridded mixture from the mixture.

    The spline keeps three moments of a component and misses the fourth by at most h^4 / 30;
    levels keep five derivatives in log sigma^2.
    """
    low = float(var.min())
    spline = nodes = 0.0
    for some in blocks(len(var)):
        ratio, octave = (var[some] / low).log(), octaves(var[some], low, points).double()
        # Levels are numbered within each octave, from a multiple of the spacing.
        within = (ratio - 2.0 * math.log(2.0) * octave).clamp(min=0.0)
        spline += float((-2.0 * within).exp().sum())
        t = (within / spacing).frac()
        here = (t + 2.0) * (t + 1.0) * t * (1.0 - t) * (2.0 - t) * (3.0 - t)
        nodes += float(here.sum())
    step = length / points / math.sqrt(low)
    apart = SPLINE_ERROR * step**4 * spline + LEVEL_ERROR * spacing**6 * nodes
    return SLACK * apart / len(var)
