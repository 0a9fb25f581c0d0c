"""One-dimensional mixtures: the grid, its fall-back and quadrature agree."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from latentgauge.measures.density import (
    COARSE,
    EXACT,
    GridDensity,
    Islands,
    UnevenDensity,
    mixture_density,
)
from tests.truth import F64, generator, normal


def _brute(z: torch.Tensor, mu: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    each = -0.5 * ((z[:, None] - mu).square() / var + var.log() + math.log(2 * math.pi))
    return each.exp().mean(dim=1)


def _entropy_by_quadrature(mu: torch.Tensor, var: torch.Tensor) -> float:
    sd = var.sqrt()

    def integrand(x: float) -> float:
        q = float(np.mean(stats.norm.pdf(x, mu.numpy(), sd.numpy())))
        return -q * math.log(q) if q > 0 else 0.0

    edges = np.linspace(float((mu - 9 * sd).min()), float((mu + 9 * sd).max()), 60)
    return math.fsum(integrate.quad(integrand, a, b, epsabs=1e-9)[0] for a, b in pairwise(edges))


@pytest.mark.parametrize(("spread", "tolerance"), [(0.0, 1e-5), (0.5, 3e-5), (1.5, 1e-4)])
def test_entropy_equals_quadrature(spread, tolerance):
    mu, var = normal(40, seed=0), (spread * normal(40, seed=1) - 2.0).exp()
    expected = _entropy_by_quadrature(mu, var)
    assert mixture_density(mu, var).entropy() == pytest.approx(expected, abs=tolerance)
    assert UnevenDensity.of(mu, var).entropy() == pytest.approx(expected, abs=tolerance)


def test_one_gaussian_has_its_closed_form():
    var = torch.tensor([0.3], dtype=F64)
    expected = 0.5 * math.log(2 * math.pi * math.e * 0.3)
    density = mixture_density(torch.zeros(1, dtype=F64), var)
    assert density.entropy() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("resolution", [EXACT, COARSE])
def test_the_density_is_the_mean_of_its_components(resolution):
    mu, var = normal(300, seed=2), (0.5 * normal(300, seed=3) - 3.0).exp()
    z = mu + var.sqrt() * normal(300, seed=4)
    q = mixture_density(mu, var, resolution=resolution).at(z)
    tolerance = 2e-3 if resolution is EXACT else 3e-2
    assert torch.allclose(q, _brute(z, mu, var), rtol=tolerance, atol=tolerance / 10)


def test_a_coarse_density_still_holds_all_the_mass():
    mu, var = normal(100, seed=5), (normal(100, seed=6) - 3.0).exp()
    z = torch.linspace(-12.0, 12.0, 200_001, dtype=F64)
    q = mixture_density(mu, var, resolution=COARSE).at(z)
    assert float(torch.trapezoid(q, z)) == pytest.approx(1.0, abs=1e-4)


def test_no_density_where_no_component_reaches():
    density = mixture_density(torch.tensor([0.0, 100.0], dtype=F64), torch.ones(2, dtype=F64))
    assert density.at(torch.tensor([50.0, -20.0, 120.0], dtype=F64)).tolist() == [0.0, 0.0, 0.0]


def test_far_islands_cost_no_grid_and_lose_no_digits():
    mu = torch.tensor([-1e9, 0.0, 3e-6, 1e9], dtype=F64)
    var = torch.full((4,), 1e-12, dtype=F64)
    density = mixture_density(mu, var)
    assert isinstance(density, GridDensity)
    assert density.islands.length == pytest.approx(3 * 18e-6 + 3e-6, rel=1e-4)
    two = mixture_density(mu[1:3], var[1:3]).entropy()
    alone = 0.5 * math.log(2 * math.pi * math.e * 1e-12)
    expected = 1.5 * math.log(2) + 0.5 * alone + 0.5 * two
    assert density.entropy() == pytest.approx(expected, abs=2e-5)


def test_islands_split_only_where_nothing_reaches():
    islands = Islands.of(torch.tensor([0.0, 17.0, 40.0], dtype=F64), torch.ones(3, dtype=F64))
    assert islands.low.tolist() == [-9.0, 31.0]
    assert islands.length == pytest.approx(18.0 + 17.0 + 18.0)


def test_widths_too_far_apart_for_a_grid_are_summed_directly():
    n = 2000
    narrow = torch.rand(n, generator=generator(7)) < 0.5
    mu, var = normal(n, seed=8), torch.where(narrow, 1e-17, 1.0).double()
    density = mixture_density(mu, var)
    assert isinstance(density, UnevenDensity)
    z = mu + var.sqrt() * normal(n, seed=9)
    assert torch.allclose(density.at(z), _brute(z, mu, var), rtol=1e-4)
    # The narrow half are spikes of mass 1/n on a smooth density: they share nothing.
    share = float(narrow.double().mean())
    wide = mixture_density(mu[~narrow], var[~narrow]).entropy() - math.log(1.0 - share)
    spike = 0.5 * math.log(2 * math.pi * math.e * 1e-17) + math.log(n)
    expected = (1.0 - share) * wide + share * spike
    assert density.entropy() == pytest.approx(expected, abs=1e-4)


def test_three_widths_by_two_roads():
    mu, logvar = normal(500, seed=10), 2.0 * normal(500, seed=11) - 6.0
    grid = mixture_density(mu, logvar.exp())
    assert isinstance(grid, GridDensity)
    uneven = UnevenDensity.of(mu, logvar.exp())
    assert uneven.entropy() == pytest.approx(grid.entropy(), abs=1e-4)
