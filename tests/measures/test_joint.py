"""I_N and the interval for I against closed forms, and the laws that they obey."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import special

from latentgauge.measures.intervals import Interval
from latentgauge.measures.joint import Draws, Noise, Standardised
from latentgauge.measures.survey import Survey, ceiling, own_stream, survey
from tests.truth import (
    F64,
    LinearGaussian,
    clusters,
    correlated,
    generator,
    independent,
    normal,
    two_widths,
    two_widths_information,
)


def _survey(mu: torch.Tensor, logvar: torch.Tensor, **given: object) -> Survey:
    return survey(mu, logvar, **given)


@pytest.mark.parametrize("rho", [0.4258, 0.5742, 0.6717, 0.7421, 0.7951])
def test_the_gaussian_table_of_poole_et_al(rho):
    truth = correlated(rho, 20)
    found = _survey(*truth.sample(2000, seed=1))
    joint = found.joint
    assert found.information.lower <= truth.information <= found.information.upper
    assert abs(joint.upper.value - truth.information) <= 0.03 + 4 * joint.upper.standard_error
    most = min(math.log(2000), truth.information + 4 * joint.lower.standard_error)
    assert joint.lower.value <= most


def test_a_code_of_ten_nats_reads_its_dataset_information():
    truth = independent(10.0, 10)
    found = _survey(*truth.sample(4096, seed=0))
    # 7.83 with sd .03 over data sets, from a long run: four of them.
    assert found.joint.dataset.value == pytest.approx(7.83, abs=0.12)
    assert found.information.lower < 10.0 < found.information.upper


def test_correlated_latents_have_their_total_correlation():
    truth = LinearGaussian(0.4 * normal(4, 3, seed=2), torch.full((4,), 0.5, dtype=F64))
    found = _survey(*truth.sample(3000, seed=3))
    low = sum(i.lower for i in found.intervals) - found.information.upper
    high = sum(i.upper for i in found.intervals) - found.information.lower
    assert low <= truth.total_correlation <= high
    assert found.information.lower <= truth.information <= found.information.upper
    assert found.marginal_kl.lower <= truth.marginal_kl <= found.marginal_kl.upper


def test_separated_clusters_carry_log_k():
    mu, logvar = clusters(8, 50, 2)
    found = _survey(mu, logvar)
    assert found.joint.dataset.value == pytest.approx(math.log(8), abs=1e-6)
    assert sum(m.dataset for m in found.latents) == pytest.approx(2 * math.log(8), abs=1e-5)
    assert math.log(8) - 1e-6 <= found.joint.upper.value <= math.log(8) + 0.03


def test_a_constant_posterior_carries_nothing():
    found = _survey(torch.full((500, 3), 1.5, dtype=F64), torch.full((500, 3), -1.4, dtype=F64))
    assert abs(found.joint.dataset.value) <= 1e-9
    assert found.information.upper <= 1e-8


def test_the_interval_holds_the_truth_as_often_as_it_says():
    truth = LinearGaussian(normal(3, 3, seed=4), torch.full((3,), 0.4, dtype=F64))
    held = 0
    for seed in range(40):
        interval = _survey(*truth.sample(300, seed=100 + seed), seed=seed).information
        held += interval.lower <= truth.information <= interval.upper
    # 40 intervals at 95%: fewer than 34 would come by chance 3.4 times in a thousand.
    assert held >= 34


def test_intervals_of_fewer_draws_than_rows_hold_the_truth():
    kl, information = two_widths_information()
    held = torch.zeros(3)
    for seed in range(40):
        found = _survey(*two_widths(1500, seed=seed), seed=seed, samples=100)
        held[0] += _holds(found.information, information)
        held[1] += _holds(found.marginal_kl, kl - information)
        held[2] += _holds(found.dimensionwise, kl - information)
    assert (held >= 34).all(), held


def test_three_groups_are_few_and_their_intervals_hold_the_truth():
    truth = LinearGaussian(normal(3, 3, seed=4), torch.full((3,), 0.4, dtype=F64))
    units = torch.arange(3).repeat_interleave(20)
    logvar, held, alone = truth.variance.log().expand(60, 3).clone(), torch.zeros(2), 0
    for seed in range(40):
        x = 0.9**0.5 * normal(3, 3, seed=seed)[units] + 0.1**0.5 * normal(60, 3, seed=500 + seed)
        found = _survey(x @ truth.W.T, logvar, units=units, seed=seed)
        held[0] += _holds(found.information, truth.information)
        held[1] += _holds(found.marginal_kl, truth.marginal_kl)
        pairs = zip(found.intervals, truth.informations.tolist(), strict=True)
        alone += sum(_holds(interval, each) for interval, each in pairs)
    assert (held >= 34).all()
    assert alone >= 3 * 34


def test_what_a_latent_alone_tells_is_told_by_the_code():
    held, p = 0, 0.004
    entropy = -p * math.log(p) - (1 - p) * math.log1p(-p)
    for seed in range(20):
        rare = torch.rand(10_000, 1, generator=generator(seed)) < p
        mu = torch.where(rare, 9.0, 0.0).to(F64)
        found = _survey(mu, torch.zeros_like(mu), samples=150, seed=seed)
        assert found.information.lower >= found.intervals[0].lower
        held += _holds(found.information, entropy)
    # Fewer than 16 of 20 would come by chance 2.6 times in a thousand.
    assert held >= 16


def test_the_upper_bound_of_few_rows_is_one_on_average():
    information, gaps = 0.5 * math.log1p(math.exp(8.0)), []
    for seed in range(1000, 1250):
        mu = normal(30, 1, seed=seed)
        upper = _survey(mu, torch.full_like(mu, -8.0), seed=seed - 1000).joint.upper.value
        # 1/2 log of the means' square sum, less its mean: noise that the bound follows.
        spread = 0.5 * (math.log(float(mu.square().sum())) - special.digamma(15.0) - math.log(2.0))
        gaps.append(upper - information - spread)
    gap = torch.tensor(gaps)
    assert float(gap.mean()) > -3.0 * float(gap.std()) / math.sqrt(250)


def test_one_distant_row_leaves_the_figures_of_the_others():
    mu = normal(100, 2, seed=12)
    mu[0] = 1e16
    found = _survey(mu, torch.zeros_like(mu))
    rest = _survey(mu[1:], torch.zeros_like(mu[1:])).joint.dataset
    far = math.log(100) - 0.99 * math.log(99)
    assert found.joint_known
    expected = 0.99 * rest.value + far
    error = math.hypot(rest.standard_error, found.joint.dataset.standard_error)
    assert abs(found.joint.dataset.value - expected) < 0.05 + 4 * error
    assert found.information.lower <= 0.99 * rest.value + far + 4 * error


def test_a_control_of_a_distant_row_does_not_outweigh_the_others():
    mu = normal(100, 1, seed=13)
    mu[0] = 1e6
    found = _survey(mu, torch.zeros_like(mu))
    assert abs(found.joint.lower.value - float(found.joint.lower_rows.mean())) < 0.5


def test_the_upper_bound_is_one_on_average():
    truth = LinearGaussian(torch.eye(4, dtype=F64), torch.full((4,), 0.3, dtype=F64))
    gaps = []
    for seed in range(30):
        found = _survey(*truth.sample(200, seed=seed), seed=seed)
        gaps.append(found.joint.upper.value - truth.information)
    gap = torch.tensor(gaps)
    assert float(gap.mean()) > -3.0 * float(gap.std()) / math.sqrt(30)


def _holds(interval: Interval, truth: float) -> bool:
    return interval.lower - 1e-9 <= truth <= interval.upper + 1e-9


def _figures(found: Survey) -> torch.Tensor:
    return torch.tensor(
        [found.joint.dataset.value, found.joint.upper.value, *(m.dataset for m in found.latents)]
    )


def _case(n: int = 1500) -> tuple[torch.Tensor, torch.Tensor]:
    mu = normal(n, 3, seed=5) @ normal(3, 3, seed=6)
    return mu, 0.3 * normal(n, 3, seed=7) - 1.0


def test_shifting_and_scaling_a_latent_changes_nothing():
    mu, logvar = _case()
    a = torch.tensor([2.0, 0.01, 30.0], dtype=F64)
    moved = _survey(mu * a + torch.tensor([5.0, -300.0, 1e4]).double(), logvar + 2.0 * a.log())
    # Same noise, so only rounding and the marginals' grids differ; and the upper bound's use of
    # the prior, which stays where it was.
    difference = (_figures(moved) - _figures(_survey(mu, logvar))).abs()
    assert float(difference[[0, 2, 3, 4]].max()) < 1e-5
    assert float(difference[1]) < 2e-3


def test_permuting_dimensions_or_rows_changes_nothing_beyond_noise():
    mu, logvar = _case()
    base = _survey(mu, logvar)
    order = [2, 0, 1]
    turned = _survey(mu[:, order], logvar[:, order])
    for j, k in enumerate(order):
        assert turned.latents[j].dataset == pytest.approx(base.latents[k].dataset, abs=1e-9)
    rows = torch.randperm(len(mu), generator=generator(8))
    shuffled = _survey(mu[rows], logvar[rows])
    error = 4 * math.hypot(base.joint.dataset.standard_error, shuffled.joint.dataset.standard_error)
    for other in (turned, shuffled):
        assert abs(other.joint.dataset.value - base.joint.dataset.value) < error
    assert shuffled.latents[0].dataset == pytest.approx(base.latents[0].dataset, abs=1e-9)


def test_doubling_the_data_changes_no_dataset_figure_and_units_keep_the_bound():
    mu, logvar = _case(800)
    once = _survey(mu, logvar)
    units = torch.arange(800).repeat(2)
    twice = _survey(mu.repeat(2, 1), logvar.repeat(2, 1), units=units)
    for a, b in zip(once.latents, twice.latents, strict=True):
        assert b.dataset == pytest.approx(a.dataset, abs=1e-9)
    assert twice.ceiling == math.log(1600)
    copied = _survey(mu.repeat(2, 1), logvar.repeat(2, 1), units=units, copies=units)
    assert copied.ceiling == pytest.approx(math.log(800), abs=1e-12)
    error = 4 * math.hypot(once.joint.dataset.standard_error, twice.joint.dataset.standard_error)
    assert abs(twice.joint.dataset.value - once.joint.dataset.value) < error


def test_copies_without_units_would_cap_the_bound_and_with_units_do_not():
    truth = independent(20.0, 10)
    mu, logvar = truth.sample(1000, seed=9)
    units = torch.arange(1000).repeat(2)
    found = _survey(mu.repeat(2, 1), logvar.repeat(2, 1), units=units)
    assert found.information.upper > 20.0
    blind = _survey(mu.repeat(2, 1), logvar.repeat(2, 1))
    assert blind.information.upper < math.log(2000) + 0.1


def test_a_copied_latent_adds_its_information_to_the_total_correlation():
    mu, logvar = _case()
    narrow = logvar - 4.0
    base = _survey(mu, narrow)
    more = _survey(torch.cat([mu, mu[:, :1]], 1), torch.cat([narrow, narrow[:, :1]], 1))
    added = sum(m.dataset for m in more.latents) - sum(m.dataset for m in base.latents)
    assert added == pytest.approx(base.latents[0].dataset, abs=1e-9)
    # Two looks at one mean carry at most 1/2 log 2 more, nothing once saturated.
    gain = more.joint.dataset.value - base.joint.dataset.value
    assert -0.05 <= gain <= 0.5 * math.log(2) + 0.05


def test_rotating_a_code_of_equal_sigmas_leaves_its_information():
    mu, _ = _case()
    logvar = torch.full_like(mu, -1.5)
    turn = torch.linalg.qr(normal(3, 3, seed=10)).Q
    base, turned = _survey(mu, logvar), _survey(mu @ turn, logvar)
    error = 4 * math.hypot(base.joint.dataset.standard_error, turned.joint.dataset.standard_error)
    assert abs(base.joint.dataset.value - turned.joint.dataset.value) < error


def test_fewer_samples_than_rows_still_mix_over_all_rows():
    mu, logvar = independent(6.0, 3).sample(3000, seed=11)
    found = _survey(mu, logvar, samples=500)
    full = _survey(mu, logvar)
    error = 4 * math.hypot(found.joint.dataset.standard_error, full.joint.dataset.standard_error)
    assert abs(found.joint.dataset.value - full.joint.dataset.value) < error
    assert len(found.joint.lower_rows) == 500


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_folds_without_a_draw_are_passed_over(samples):
    mu, logvar = _case(200)
    found = _survey(mu, logvar, samples=samples, thorough=True)
    assert math.isfinite(found.joint.upper.value)
    assert len(found.joint.upper_rows) == samples


def test_draws_are_the_posteriors_own():
    mu, logvar = _case(50)
    table = Standardised.of(mu, logvar)
    draws = Draws.of(table, Noise.of(50, 3, generator=generator(0)))
    assert torch.allclose(
        (draws.z - table.mu) * (-0.5 * table.logvar).exp(), draws.noise, atol=1e-9
    )
    prior = -0.5 * (mu.square() + math.log(2 * math.pi)).sum(dim=1)
    jacobian = table.scale.log().sum()
    assert torch.allclose(table.log_prior(table.mu), prior + jacobian, atol=1e-9)


def test_a_table_drawn_with_the_seed_of_the_analysis_is_not_taken_for_its_noise():
    mu = torch.randn(2000, 1, dtype=F64, generator=generator(0))
    noise = Noise.of(2000, 1, generator=own_stream(0)).latent(0)
    assert abs(float((noise * mu[:, 0]).mean())) < 4 / math.sqrt(2000)


def test_the_ceiling_counts_copies_once():
    assert ceiling(torch.tensor([7, 7, 1, 2]), 4) == pytest.approx(1.5 * math.log(2), abs=1e-12)
    assert ceiling(torch.arange(4), 4) == pytest.approx(math.log(4), abs=1e-15)
    assert ceiling(None, 4) == math.log(4)


def test_the_number_of_threads_changes_no_bit():
    mu, logvar = _case(700)
    y, threads, found = torch.arange(700) % 3, torch.get_num_threads(), []
    for count in (1, 3):
        torch.set_num_threads(count)
        found.append(_survey(mu, logvar, classes=y, thorough=True))
    torch.set_num_threads(threads)
    one, three = found
    assert torch.equal(_figures(one), _figures(three))
    assert (one.information, one.intervals) == (three.information, three.intervals)
    assert (one.label_information, one.marginal_kl) == (three.label_information, three.marginal_kl)
