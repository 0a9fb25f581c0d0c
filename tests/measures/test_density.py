"""One-dimensional mixtures: the grid, its fall-back and quadrature agree within their bound."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentgauge.measures import uneven
from latentgauge.measures.density import GridDensity, mixture_density
from latentgauge.measures.spectrum import Islands
from latentgauge.measures.uneven import UnevenDensity
from tests.mixtures import brute_density, entropy_by_quadrature
from tests.truth import F64, generator, normal


def _reference_error(mu: torch.Tensor, var: torch.Tensor) -> float:
    """What quadrature itself may be off by: its tolerance, and nodes rounded beside means."""
    return 2e-9 + 2e-15 * float(mu.abs().max() / var.sqrt().min())


def _directly(mu: torch.Tensor, var: torch.Tensor) -> UnevenDensity:
    return UnevenDensity.of(mu, var, Islands.of(mu, var.sqrt()))


def _pair(mu: list[float], sigma: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(mu, dtype=F64), torch.tensor(sigma, dtype=F64).square()


means = st.one_of(st.sampled_from([0.0, 1.0, 3.0, 6.0]), st.floats(-10.0, 10.0))
# Powers of ten of sigma: near each other, or as far apart as encoders have them.
near, far = st.floats(-0.5, 0.5), st.floats(-8.0, 0.0)
rows = st.one_of(*(st.lists(st.tuples(means, s), min_size=1, max_size=5) for s in (near, far)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows)
@example([(0.0, 0.0), (1e6, 0.0)])
@example([(0.0, -8.0), (0.3, 0.0)])
@example([(2.0, -8.0), (2.0, 0.0), (2.0, -4.0)])
def test_the_entropy_of_any_mixture_is_within_its_bound(found):
    mu, var = _pair([m for m, _ in found], [10.0**s for _, s in found])
    entropy = mixture_density(mu, var).bounded_entropy()
    expected, blur = entropy_by_quadrature(mu, var), _reference_error(mu, var)
    assert abs(entropy.value - expected) <= entropy.error + blur
    assert entropy.error <= 1e-4


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(means, min_size=1, max_size=6), st.floats(-3.0, 1.0))
@example([0.0, 0.0, 0.0], -1.0)
@example([0.0, 1e6], 0.0)
@example([0.0, 8.9], 0.0)
def test_the_entropy_of_equal_widths_is_known_to_a_hundred_thousandth(mu, power):
    mu, var = _pair(mu, [10.0**power] * len(mu))
    entropy = mixture_density(mu, var).bounded_entropy()
    expected, blur = entropy_by_quadrature(mu, var), _reference_error(mu, var)
    assert abs(entropy.value - expected) <= entropy.error + blur
    assert entropy.error <= 1e-5


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5, 1.5, 3.0])
def test_both_roads_give_the_entropy_of_forty_rows(spread):
    mu, var = normal(40, seed=0), (spread * normal(40, seed=1) - 2.0).exp()
    expected = entropy_by_quadrature(mu, var)
    for density in (mixture_density(mu, var), _directly(mu, var)):
        entropy = density.bounded_entropy()
        assert abs(entropy.value - expected) <= entropy.error <= 1e-4
        assert density.entropy() == entropy.value


@pytest.mark.parametrize("n", [1, 10_000])
def test_the_bound_holds_for_one_row_and_for_many(n):
    mu, var = normal(n, seed=12), torch.full((n,), 0.02, dtype=F64)
    entropy = mixture_density(mu, var).bounded_entropy()
    # By the definition, on 40 points to a sigma: beyond e^-1000 by the trapezoidal rule.
    step = math.sqrt(0.02) / 40.0
    x = torch.arange(float(mu.min()) - 1.5, float(mu.max()) + 1.5, step, dtype=F64)
    q = torch.cat([brute_density(some, mu, var) for some in x.split(200)])
    expected = -step * float(torch.xlogy(q, q).sum())
    assert abs(entropy.value - expected) <= entropy.error <= 1e-5


def test_one_gaussian_has_its_closed_form():
    var = torch.tensor([0.3], dtype=F64)
    expected = 0.5 * math.log(2 * math.pi * math.e * 0.3)
    entropy = mixture_density(torch.zeros(1, dtype=F64), var).bounded_entropy()
    assert abs(entropy.value - expected) <= min(entropy.error, 1e-7)


def test_the_density_is_the_mean_of_its_components():
    mu, var = normal(300, seed=2), (0.5 * normal(300, seed=3) - 3.0).exp()
    z = mu + var.sqrt() * normal(300, seed=4)
    for density in (mixture_density(mu, var), _directly(mu, var)):
        # Levels are good for 1% of a component five of its sigma out, where nothing else is.
        assert torch.allclose(density.at(z), brute_density(z, mu, var), rtol=2e-4, atol=1e-6)


def test_no_density_where_no_component_reaches():
    density = mixture_density(torch.tensor([0.0, 100.0], dtype=F64), torch.ones(2, dtype=F64))
    assert density.at(torch.tensor([50.0, -20.0, 120.0], dtype=F64)).tolist() == [0.0, 0.0, 0.0]


def test_far_islands_cost_no_grid_and_lose_no_digits():
    mu = torch.tensor([-1e9, 0.0, 3e-6, 1e9], dtype=F64)
    var = torch.full((4,), 1e-12, dtype=F64)
    density = mixture_density(mu, var)
    assert isinstance(density, GridDensity)
    assert density.length == pytest.approx(3 * 18e-6 + 3e-6, rel=1e-4)
    two = mixture_density(mu[1:3], var[1:3]).entropy()
    alone = 0.5 * math.log(2 * math.pi * math.e * 1e-12)
    expected = 1.5 * math.log(2) + 0.5 * alone + 0.5 * two
    assert density.entropy() == pytest.approx(expected, abs=1e-6)


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
    assert torch.allclose(density.at(z), brute_density(z, mu, var), rtol=1e-4)
    # The narrow half are spikes of mass 1/n on a smooth density: they share next to nothing.
    share = float(narrow.double().mean())
    wide = mixture_density(mu[~narrow], var[~narrow]).entropy() - math.log(1.0 - share)
    spike = 0.5 * math.log(2 * math.pi * math.e * 1e-17) + math.log(n)
    expected = (1.0 - share) * wide + share * spike
    entropy = density.bounded_entropy()
    assert abs(entropy.value - expected) <= 1e-4
    assert entropy.error <= 1e-4


def test_three_widths_by_two_roads():
    mu, logvar = normal(500, seed=10), 2.0 * normal(500, seed=11) - 6.0
    grid = mixture_density(mu, logvar.exp())
    assert isinstance(grid, GridDensity)
    one, other = (d.bounded_entropy() for d in (grid, _directly(mu, logvar.exp())))
    assert abs(one.value - other.value) <= one.error + other.error


def test_the_bound_of_the_panels_grows_with_their_error(monkeypatch):
    mu, var = normal(6, seed=15), torch.full((6,), 1e-3, dtype=F64)
    var[:2] = 1e-15
    monkeypatch.setattr(uneven, "PANEL", 9.0)
    entropy = _directly(mu, var).bounded_entropy()
    error = abs(entropy.value - entropy_by_quadrature(mu, var))
    assert 1e-5 < error <= entropy.error


@pytest.mark.parametrize("factor", [1e-6, 1e5])
def test_scaling_a_mixture_adds_the_log_of_the_scale(factor):
    mu, var = normal(60, seed=13), (0.7 * normal(60, seed=14) - 2.0).exp()
    one = mixture_density(mu, var).bounded_entropy()
    other = mixture_density(factor * mu, factor**2 * var).bounded_entropy()
    assert other.value - one.value == pytest.approx(math.log(factor), abs=1e-8)
    assert other.error == pytest.approx(one.error, rel=1e-3)


@pytest.mark.parametrize("narrowest", [1.0, 1e-9])
def test_a_density_asked_for_nowhere_says_nothing(narrowest):
    mu, sigma = normal(50, seed=90), torch.ones(50, dtype=F64)
    sigma[0] = narrowest
    assert mixture_density(mu, sigma.square()).at(torch.empty(0, dtype=F64)).shape == (0,)
