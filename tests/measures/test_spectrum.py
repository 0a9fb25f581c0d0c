"""Spectra of mixtures: what the grid and the levels do to a component, and the laws they keep."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures.displacement import (
    LEVEL_ERROR,
    LEVEL_NODES,
    SLACK,
    SPLINE_ERROR,
    displacement,
)
from latentgauge.measures.spectrum import Islands, Spectra, SplineDensities
from tests.mixtures import brute_density
from tests.truth import F64, generator, normal

LENGTH = 40.0


def _line(length: float = LENGTH) -> Islands:
    return Islands.of(torch.zeros(1, dtype=F64), torch.tensor([length / 18.0], dtype=F64))


def _spectra(mu, var, *, points=512, spacing=0.1, **groups) -> Spectra:
    return Spectra.of(mu, var, _line(), points=points, spacing=spacing, **groups)


@pytest.mark.parametrize("per_sigma", [8.0, 11.0, 15.9])
def test_a_spline_moves_a_component_by_at_most_its_bound(per_sigma):
    points = 512
    sigma = torch.full((1,), per_sigma * LENGTH / points, dtype=F64)
    x = torch.arange(8 * points, dtype=F64) * LENGTH / (8 * points) - LENGTH / 2
    worst = 0.0
    for t in torch.linspace(0.0, 1.0, 21, dtype=F64):
        mu = (t * LENGTH / points)[None]
        q = _spectra(mu, sigma.square()).values_at_points(8 * points)[0]
        apart = (q - brute_density(x, mu, sigma.square())).abs().sum() * (x[1] - x[0])
        worst = max(worst, float(apart))
    assert worst <= SLACK * SPLINE_ERROR * per_sigma**-4
    # The bound is of the right size: half of it is reached.
    assert worst >= 0.5 * SPLINE_ERROR * per_sigma**-4


@pytest.mark.parametrize("spacing", [0.05, 0.15, 0.3])
def test_levels_move_a_component_by_at_most_their_bound(spacing):
    points = 4096
    x = torch.arange(points, dtype=F64) * LENGTH / points - LENGTH / 2
    apart = []
    for t in torch.linspace(0.0, 1.0, 21, dtype=F64):
        # The narrowest of two that share an octave sets the levels; the other is in between.
        var = 0.25 * torch.tensor([0.0, float(t)], dtype=F64).mul(spacing).exp()
        mu = torch.zeros(2, dtype=F64)
        q = _spectra(mu, var, points=points, spacing=spacing).values_at_points(points)[0]
        apart.append(float((q - brute_density(x, mu, var)).abs().sum() * (x[1] - x[0])))
    bound = 0.5 * LEVEL_ERROR * LEVEL_NODES * spacing**6
    assert max(apart) <= SLACK * bound + 1e-9
    if spacing > 0.1:
        assert max(apart) >= 0.5 * bound


def test_the_displacement_of_a_mixture_is_below_its_bound():
    mu, var = normal(30, seed=0), (0.8 * normal(30, seed=1) - 2.0).exp()
    points = 1024
    x = torch.arange(4 * points, dtype=F64) * LENGTH / (4 * points) - LENGTH / 2
    for spacing in (0.1, 0.3):
        q = _spectra(mu, var, points=points, spacing=spacing).values_at_points(4 * points)[0]
        apart = float((q - brute_density(x, mu, var)).abs().sum() * (x[1] - x[0]))
        bound = displacement(var, LENGTH, points, spacing)
        assert 0.01 * bound < apart <= bound


def test_spectra_of_groups_add_and_leave_out():
    mu, var = normal(200, seed=2), (0.5 * normal(200, seed=3) - 1.0).exp()
    group = torch.arange(200) % 3
    each = _spectra(mu, var, group=group, groups=3)
    # Levels start at the narrowest of all rows, so those of a part differ by the levels' error.
    part = _spectra(mu[group != 1], var[group != 1])
    assert each.rest().rows.tolist() == [133, 133, 134]
    assert torch.allclose(each.rest().values[1], part.values[0], atol=1e-4)
    assert torch.allclose(each.values.sum(dim=0), _spectra(mu, var).values[0], atol=1e-10)


def test_widening_adds_to_each_variance():
    mu, var = normal(50, seed=4), torch.full((50,), 0.04, dtype=F64)
    wide = _spectra(mu, var).widened(torch.tensor([0.5], dtype=F64)).densities()
    z = torch.linspace(-4.0, 4.0, 101, dtype=F64)
    assert torch.allclose(wide.at(z), brute_density(z, mu, var + 0.5), atol=1e-5)


@pytest.mark.parametrize("points", [16, 32, 64, 1024])
def test_a_spline_density_holds_exactly_the_mass_one(points):
    mu, var = normal(40, seed=5), (normal(40, seed=6) - 3.0).exp()
    density = _spectra(mu, var, points=points, spacing=0.5).densities()
    assert float(density.shares.min()) >= 0.0
    z = (torch.arange(16 * points, dtype=F64) + 0.5) * LENGTH / (16 * points) - LENGTH / 2
    # Sixteen midpoints to a piece of a cubic: exact to 1e-3 of its second differences.
    assert float(density.at(z).sum()) * LENGTH / (16 * points) == pytest.approx(1.0, abs=1e-6)


def test_groups_without_rows_have_no_density():
    some = torch.zeros(5, dtype=torch.int64)
    density = _spectra(normal(5, seed=7), torch.ones(5, dtype=F64), group=some, groups=2)
    z = torch.zeros(2, dtype=F64)
    empty, full = density.densities().at(z, torch.tensor([1, 0])).tolist()
    assert empty == 0.0
    assert full > 0.1


def test_points_outside_the_line_have_no_density():
    shares = torch.full((1, 16), 1.0 / 16, dtype=F64)
    z = torch.tensor([-20.1, -19.9, 19.9, 20.1], dtype=F64)
    q = SplineDensities(_line(), shares).at(z)
    assert q.tolist() == pytest.approx([0.0, 1.0 / LENGTH, 1.0 / LENGTH, 0.0])


def test_rows_in_any_order_give_the_same_spectrum():
    mu, var = normal(100, seed=8), normal(100, seed=9).exp()
    order = torch.randperm(100, generator=generator(10))
    one, other = _spectra(mu, var), _spectra(mu[order], var[order])
    assert torch.allclose(one.values, other.values, atol=1e-10 * math.sqrt(100))
