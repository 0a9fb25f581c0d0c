"""The information of a latent alone: exact for the data set, bounded for the population."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from latentgauge.measures.decomposition import entropy_rows, kl_rows
from latentgauge.measures.intervals import marginal_interval
from latentgauge.measures.joint import Draws, Noise, Standardised
from latentgauge.measures.marginals import Marginal, marginal
from latentgauge.measures.survey import own_stream
from latentgauge.measures.units import fold_of_rows
from tests.mixtures import brute_density, entropy_by_quadrature, quadrature_nodes
from tests.truth import F64, generator, normal, probabilistic_pca


def _marginals(mu: torch.Tensor, logvar: torch.Tensor, seed: int = 0) -> tuple[Marginal, ...]:
    table, units = Standardised.of(mu, logvar), torch.arange(len(mu))
    folds = fold_of_rows(units, own_stream(seed))
    draws = Draws.of(table, Noise.of(*mu.shape, generator=own_stream(seed)))
    latents = range(mu.shape[1])
    return tuple(marginal(table, draws, j, units=units, folds=folds) for j in latents)


def test_a_linear_vae_reads_its_spectrum_and_is_collapsed_below_the_noise():
    truth = probabilistic_pca([4.0, 2.0, 1.5, 0.8], 1.0)
    assert truth.informations.tolist() == pytest.approx([0.6931, 0.3466, 0.2027, 0.0], abs=5e-5)
    for j, m in enumerate(_marginals(*truth.sample(4000, seed=0))):
        interval = marginal_interval(m, t=1.96)
        assert interval.lower - 1e-9 <= truth.informations[j] <= interval.upper + 1e-9


def test_a_wide_spread_of_means_has_its_closed_form():
    mu = 3.0 * normal(5000, 1, seed=1)
    (m,) = _marginals(mu, torch.zeros_like(mu))
    assert m.dataset <= 1.1513 + 0.02
    assert abs(m.upper - 1.1513) <= 0.01 + 4 * m.upper_error


def test_equal_means_with_two_widths_speak_through_sigma():
    mu = torch.zeros(2000, 1, dtype=F64)
    logvar = 2.0 * torch.tensor([0.1, 1.0], dtype=F64).log().repeat(1000)[:, None]
    (m,) = _marginals(mu, logvar)
    assert m.dataset == pytest.approx(0.433, abs=5e-4)


def test_a_small_variance_of_means_may_carry_much():
    mu = math.sqrt(0.005) * normal(5000, 1, seed=2)
    (m,) = _marginals(mu, torch.full_like(mu, 2.0 * math.log(0.001)))
    interval = marginal_interval(m, t=1.96)
    assert interval.lower <= 0.5 * math.log(1.0 + 0.005 / 1e-6) <= interval.upper


def test_the_interval_of_an_informative_latent_holds_the_truth():
    sigma = 1.0 / math.sqrt(math.exp(2 * 5.625) - 1.0)
    mu = normal(5000, 1, seed=3)
    (m,) = _marginals(mu, torch.full_like(mu, 2.0 * math.log(sigma)))
    interval = marginal_interval(m, t=1.96)
    assert interval.lower <= 5.625 <= interval.upper
    assert interval.upper - interval.lower < 0.25


def test_the_upper_bound_is_one_on_average():
    gaps = []
    for seed in range(40):
        mu = normal(150, 1, seed=50 + seed)
        (m,) = _marginals(mu, torch.full_like(mu, -2.0), seed=seed)
        gaps.append(m.upper - 0.5 * math.log(1.0 + math.exp(2.0)))
    gap = torch.tensor(gaps)
    assert float(gap.mean()) > -3.0 * float(gap.std()) / math.sqrt(40)


def test_a_near_deterministic_latent_reads_log_n_below_and_the_density_above():
    mu = 5.5 * normal(512, 1, seed=4)
    (m,) = _marginals(mu, torch.full_like(mu, -30.0))
    assert m.dataset == pytest.approx(math.log(512), abs=1e-5)
    assert m.upper == pytest.approx(16.705, abs=0.15)


def test_widths_beyond_float64_stay_finite_and_below_log_n():
    for m in _marginals(normal(100, 2, seed=5), 40.0 * normal(100, 2, seed=6)):
        assert 0.0 <= m.dataset <= math.log(100)
        assert math.isfinite(m.upper)


def test_a_constant_latent_reads_exactly_nothing():
    mu = torch.cat([torch.full((50, 1), 2.0, dtype=F64), normal(50, 1, seed=7)], dim=1)
    first, second = _marginals(mu, torch.full_like(mu, -1.0))
    assert (first.dataset, first.upper, first.lower_error) == (0.0, 0.0, 0.0)
    assert second.dataset > 0.1


def test_one_unit_bounds_nothing():
    table = Standardised.of(normal(5, 1, seed=8), torch.zeros(5, 1, dtype=F64))
    zeros = torch.zeros(5).long()
    draws = Draws.of(table, Noise.of(5, 1, generator=generator(0)))
    m = marginal(table, draws, 0, units=zeros, folds=zeros)
    interval = marginal_interval(m, t=1.96)
    assert (interval.lower, interval.upper) == (0.0, None)


def test_a_row_beyond_all_others_costs_its_log():
    mu = normal(2000, 1, seed=13)
    near = _marginals(mu, torch.full_like(mu, -2.0))[0].upper
    mu[0] = 1e6
    (m,) = _marginals(mu, torch.full_like(mu, -2.0))
    # Of 2000 rows one costs about log(1e6^2 / 2e-4) = 36 nats, where a Gaussian asks 5e11; the
    # folds that hold it lose the bandwidths, which go by the spread.
    assert m.upper - near < 0.1
    assert m.upper > m.dataset


WIDTHS = {"equal": 0.0, "spread": 0.5, "wide": 1.5, "extreme": 5.0}


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_data_sets_figures_are_quadrature_within_their_numerical_error(widths):
    mu = 1.0 + 2.0 * normal(30, 1, seed=9)
    logvar = WIDTHS[widths] * normal(30, 1, seed=10) - 2.0
    (m,) = _marginals(mu, logvar)
    entropy = entropy_by_quadrature(mu[:, 0], logvar[:, 0].exp())
    information = entropy - float(entropy_rows(logvar).mean())
    assert abs(m.dataset - information) <= m.numerical_error + 2e-9
    assert m.numerical_error <= (1e-5 if widths == "equal" else 1e-4)


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_divergence_from_the_prior_is_quadrature(widths):
    """DWKL_j = KL_j - I_Nj = KL(q_j || p_j) = integral of q log q / p."""
    mu = 1.0 + 2.0 * normal(30, 1, seed=9)
    logvar = WIDTHS[widths] * normal(30, 1, seed=10) - 2.0
    (m,) = _marginals(mu, logvar)
    z, weight = quadrature_nodes(mu[:, 0], (0.5 * logvar[:, 0]).exp())
    q = brute_density(z, mu[:, 0], logvar[:, 0].exp())
    log_prior = -0.5 * (z.square() + math.log(2.0 * math.pi))
    divergence = float((weight * (torch.xlogy(q, q) - q * log_prior)).sum())
    found = float(kl_rows(mu, logvar).mean()) - m.dataset
    assert found == pytest.approx(divergence, abs=m.numerical_error + 1e-8)


def test_a_coarse_upper_bound_is_as_tight_as_the_truth_for_many_rows():
    gaps = []
    for seed in range(5):
        mu = normal(4000, 1, seed=100 + seed)
        (m,) = _marginals(mu, torch.full_like(mu, -4.0), seed=seed)
        gaps.append(m.upper - 0.5 * math.log(1.0 + math.exp(4.0)))
    gap = torch.tensor(gaps)
    # The truth and 0.002 above it: what is learnt of five weights and a shape from 4000 rows.
    assert abs(float(gap.mean()) - 0.002) <= 3.0 * float(gap.std()) / math.sqrt(5)


def test_latents_measured_side_by_side_read_the_same_bytes():
    mu, logvar = normal(1500, 6, seed=11), normal(1500, 6, seed=12) - 2.0
    table, units = Standardised.of(mu, logvar), torch.arange(1500)
    folds = fold_of_rows(units, own_stream(0))
    draws = Draws.of(table, Noise.of(1500, 6, generator=own_stream(0)))

    def one(j: int) -> Marginal:
        return marginal(table, draws, j, units=units, folds=folds)

    alone = [one(j) for j in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(6)))
    for a, b in zip(alone, together, strict=True):
        assert (a.dataset, a.upper, a.numerical_error) == (b.dataset, b.upper, b.numerical_error)
        assert torch.equal(a.upper_rows, b.upper_rows)
        assert torch.equal(a.lower_rows, b.lower_rows)
