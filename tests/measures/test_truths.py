"""The survey against sources whose information is known: closed forms and quadrature.

Estimates may miss the truth by four of their standard errors, once in 16,000. Beyond that an
upper bound may stand .03 nats above a Gaussian source, which is the looseness that is allowed;
a lower bound is below the truth and below log N.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate
from torch import Tensor

from latentgauge.measures.intervals import Interval, difference
from latentgauge.measures.latents import Latent
from latentgauge.measures.survey import Survey, survey
from latentgauge.measures.units import Mean
from latentgauge.posterior import Posterior
from tests.truth import (
    F64,
    Mixture,
    correlated,
    equicorrelated,
    independent,
    normal,
    probabilistic_pca,
    scaled,
)

LOOSE = 0.03
# What an encoder makes of a last layer's -2 that must be positive.
SOFTPLUS = math.log1p(math.exp(-2.0))


def _within(upper: Mean, truth: float) -> bool:
    return abs(upper.value - truth) <= LOOSE + 4 * upper.standard_error


def _below(lower: Mean, truth: float, n: int) -> bool:
    return lower.value <= min(math.log(n) + 1e-9, truth + 4 * lower.standard_error)


def _latent_holds(m: Latent, truth: float) -> bool:
    above = abs(m.upper - truth) <= 0.01 + 4 * m.upper_error
    return above and m.dataset <= truth + 4 * m.lower_error


def _holds(interval: Interval, truth: float, error: float) -> bool:
    """A 95% interval ends two standard errors out: two more make four."""
    return interval.lower - 2 * error <= truth <= interval.upper + 2 * error


def _total_correlation(found: Survey) -> tuple[float, float]:
    apart = difference(found.intervals, [found.information])
    return apart.lower, apart.upper


@pytest.mark.parametrize(
    ("rho", "information"),
    [(0.4258, 2), (0.5742, 4), (0.6717, 6), (0.7421, 8), (0.7951, 10)],
)
def test_the_closed_form_gives_the_table_of_poole_et_al(rho, information):
    # rho is rounded to four digits: d I / d rho = 20 rho / (1 - rho^2) times half of the last one.
    rounding = 20 * rho / (1 - rho**2) * 5e-5
    assert correlated(rho, 20).information == pytest.approx(information, abs=rounding)


def test_one_normal_latent_of_czyz_et_al():
    truth = correlated(0.75, 1)
    assert truth.information == pytest.approx(0.4133, abs=5e-5)
    found = survey(*truth.sample(4000, seed=1))
    assert _within(found.joint.upper, 0.4133)
    assert _below(found.joint.lower, 0.4133, 4000)
    assert _latent_holds(found.latents[0], 0.4133)
    # In one dimension the code is its latent.
    assert abs(found.joint.dataset.value - found.latents[0].dataset) <= 1e-4


def test_a_correlated_code_has_its_information_and_its_total_correlation():
    truth = equicorrelated(5.0, 1.87, 10)
    found = survey(*truth.sample(1500, seed=2))
    assert _within(found.joint.upper, 5.0)
    assert _below(found.joint.lower, 5.0, 1500)
    assert all(_latent_holds(m, 0.687) for m in found.latents)
    low, high = _total_correlation(found)
    assert low <= 1.87 <= high
    # The error of KL - I is about that of KL.
    error = float(found.kl.std()) / math.sqrt(1500)
    assert _holds(found.marginal_kl, truth.marginal_kl, error)


def test_a_linear_vae_at_its_optimum_wastes_nothing():
    truth = probabilistic_pca([4.0, 2.0, 1.5], 1.0)
    found = survey(*truth.sample(3000, seed=3))
    for m, information in zip(found.latents, (0.6931, 0.3466, 0.2027), strict=True):
        assert _latent_holds(m, information)
    assert _within(found.joint.upper, 1.2424)
    kl = found.kl
    assert abs(float(kl.mean()) - 1.2424) <= 4 * float(kl.std()) / math.sqrt(3000)
    # The code is the prior: no total correlation, no divergence from it.
    assert _total_correlation(found)[0] == 0.0
    assert found.marginal_kl.lower == 0.0
    assert found.marginal_kl.upper < 0.1


def test_sixteen_channels_of_a_noisy_copy():
    truth = correlated(0.5, 16)
    assert truth.information == pytest.approx(2.3015, abs=5e-5)
    found = survey(*truth.sample(1500, seed=4))
    assert _within(found.joint.upper, 2.3015)
    assert _below(found.joint.lower, 2.3015, 1500)
    assert _total_correlation(found)[0] == 0.0


@pytest.mark.parametrize(
    ("second_output", "second", "information"),
    [("logvar", -2.0, 1.0635), ("log_sigma", -2.0, 2.0091),
     ("sigma", SOFTPLUS, 2.0721), ("variance", SOFTPLUS, 1.0918)],
)  # fmt: skip
def test_what_the_second_output_means_decides_the_information(second_output, second, information):
    mu = normal(3000, 1, seed=5)
    q = Posterior.from_outputs(mu, torch.full_like(mu, second), second_output=second_output)
    found = survey(q.mu, q.logvar)
    assert _within(found.joint.upper, information)
    assert _latent_holds(found.latents[0], information)


def test_a_near_deterministic_code_has_its_divergences_in_expectation():
    mu = 5.5 * normal(512, 6, seed=6)
    found = survey(mu, torch.full_like(mu, -30.0))
    for latent in found.latents:
        assert abs(latent.kl.value - 29.625) <= 4 * latent.kl.standard_error
    assert found.joint.dataset.value == pytest.approx(math.log(512), abs=1e-9)
    assert found.saturated
    for latent in found.latents:
        interval, divergence = latent.interval, latent.divergence
        # 512 rows show a density of one latent to about .1 nats.
        assert interval.lower <= 16.705 <= interval.upper + 0.1
        assert divergence.interval.lower - 0.1 <= 12.920 <= divergence.interval.upper


def test_a_code_that_speaks_through_sigma_alone_is_heard_by_the_pass_too():
    sigma = torch.tensor([0.1, 1.0], dtype=F64)
    truth = _two_posteriors(torch.zeros(2, dtype=F64), sigma)
    assert truth == pytest.approx(0.433, abs=5e-4)
    joint = survey(torch.zeros(2000, 1, dtype=F64), 2.0 * sigma.repeat(1000)[:, None].log()).joint
    assert abs(joint.dataset.value - truth) <= 1e-6 + 4 * joint.dataset.standard_error
    assert _within(joint.upper, truth)


def test_six_clusters_have_the_information_of_their_known_density():
    source = Mixture(
        2.0 * normal(6, 3, seed=7), 0.6 * normal(6, 3, 3, seed=8), normal(6, 3, seed=9)
    )
    information, error = source.information(draws=50_000, seed=0)
    found = survey(*source.sample(1200, seed=10))
    error = max(found.joint.lower.standard_error, found.joint.upper.standard_error) + 2 * error
    assert _holds(found.information, information, error)
    for m, interval, alone in zip(
        found.latents, found.intervals, source.informations.tolist(), strict=True
    ):
        assert _holds(interval, alone, max(m.lower_error, m.upper_error))
    low, high = _total_correlation(found)
    assert low <= float(source.informations.sum()) - information <= high


@pytest.mark.parametrize("apart", [0.0, 0.5, 2.0, 8.0])
def test_two_posteriors_have_the_information_of_quadrature(apart):
    mu, sigma = torch.tensor([0.0, apart], dtype=F64), torch.tensor([1.0, 0.5], dtype=F64)
    units = torch.arange(2).repeat(1000)
    found = survey(mu[units][:, None], 2.0 * sigma[units][:, None].log(), units=units)
    truth = _two_posteriors(mu, sigma)
    # The integral of a mixture of two widths is good to 1e-4.
    assert found.latents[0].dataset == pytest.approx(truth, abs=1e-4)
    value = found.joint.dataset
    assert abs(value.value - truth) <= 1e-4 + 4 * value.standard_error


def _two_posteriors(mu: Tensor, sigma: Tensor) -> float:
    """I(X;Z) of two equally likely Gaussians, by quadrature of the mixture's entropy."""
    pairs = list(zip(mu.tolist(), sigma.tolist(), strict=True))

    def integrand(z: float) -> float:
        q = math.fsum(math.exp(-0.5 * ((z - m) / s) ** 2) / s for m, s in pairs)
        q /= 2.0 * math.sqrt(2.0 * math.pi)
        return -q * math.log(q) if q > 0.0 else 0.0

    inside = [m for m, _ in pairs]
    entropy = integrate.quad(integrand, -12.0, 22.0, points=inside, epsabs=1e-10, limit=200)[0]
    return entropy - 0.5 * (math.log(2.0 * math.pi * math.e) + float(sigma.log().sum()))


@pytest.mark.parametrize("information", [20.0, 40.0])
def test_far_above_log_n_the_upper_bound_still_finds_a_gaussian_code(information):
    truth = scaled(normal(8, 8, seed=11), information)
    found = survey(*truth.sample(1200, seed=12))
    assert found.saturated
    assert _within(found.joint.upper, information)
    assert _below(found.joint.lower, information, 1200)


def test_many_latents_that_share_little_add_up():
    truth = independent(3.0, 24)
    found = survey(*truth.sample(1000, seed=13))
    assert _within(found.joint.upper, 3.0)
    total = math.fsum(m.upper for m in found.latents)
    error = math.sqrt(math.fsum(m.upper_error**2 for m in found.latents))
    assert abs(total - 3.0) <= 0.03 + 4 * error
