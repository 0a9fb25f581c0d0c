"""Rates against Gaussians: closed forms, bounds, and which way each leans."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from latentgauge.measures.gaussian import Gaussian
from latentgauge.measures.joint import Standardised
from latentgauge.measures.rate import gaussian_rate, held_out_rate, moment_matched_rates
from latentgauge.measures.survey import survey
from tests.truth import F64, LinearGaussian, clusters, independent, normal

CORRELATED = LinearGaussian(normal(4, 4, seed=1), torch.full((4,), 0.5, dtype=F64))


def means(mu: Tensor, logvar: Tensor) -> tuple[float, float]:
    diagonal, full = moment_matched_rates(Standardised.of(mu, logvar))
    return float(diagonal.mean()), float(full.mean())


def folds_of(n: int) -> Tensor:
    return torch.arange(n) % 5


def test_the_rate_of_a_row_is_the_divergence_of_two_gaussians():
    mu, logvar = normal(20, 3, seed=2), normal(20, 3, seed=3)
    mean, root = normal(3, seed=4), normal(3, 3, seed=5)
    covariance = root @ root.T + torch.eye(3, dtype=F64)
    rows = MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
    expected = kl_divergence(rows, MultivariateNormal(mean, covariance))
    found = gaussian_rate(mu, logvar, Gaussian.of(mean, covariance))
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-11)


def test_moment_matched_means_are_entropies_of_the_moments_less_that_of_the_noise():
    mu, logvar = normal(50, 3, seed=6) @ normal(3, 3, seed=7), normal(50, 3, seed=8)
    covariance = torch.cov(mu.T, correction=0) + torch.diag(logvar.exp().mean(dim=0))
    noise = float(logvar.sum(dim=1).mean())
    diagonal, full = means(mu, logvar)
    assert full == pytest.approx(0.5 * (float(torch.logdet(covariance)) - noise), abs=1e-11)
    alone = float(covariance.diagonal().log().sum())
    assert diagonal == pytest.approx(0.5 * (alone - noise), abs=1e-11)


def test_a_gaussian_code_reads_its_information_and_the_diagonal_adds_what_latents_share():
    mu, logvar = CORRELATED.sample(20_000, seed=9)
    diagonal, full = moment_matched_rates(Standardised.of(mu, logvar))
    # In-sample moments lower the full figure by D (D + 3) / 4N = .0004 at most.
    error = 4 * float(full.std()) / math.sqrt(20_000) + 0.0004
    assert float(full.mean()) == pytest.approx(CORRELATED.information, abs=error)
    shared = float((diagonal - full).mean())
    assert shared == pytest.approx(CORRELATED.total_correlation, abs=error)
    assert CORRELATED.total_correlation > 10 * error


@pytest.mark.parametrize(
    "code",
    [clusters(8, 50, 3), independent(3.0, 2).sample(300, seed=10), CORRELATED.sample(15, seed=11)],
)
def test_the_full_gaussian_is_never_under_the_dataset_nor_the_diagonal_under_it(
    code: tuple[Tensor, Tensor],
):
    diagonal, full = means(*code)
    stated = survey(*code).joint.dataset
    assert full >= stated.value - 4 * stated.standard_error - 1e-9
    assert diagonal >= full - 1e-9


def test_moments_of_few_rows_read_below_the_information_and_held_out_ones_above():
    truth = independent(20.0, 10)
    in_sample, held_out = [], []
    for seed in range(20):
        code = Standardised.of(*truth.sample(60, seed=seed))
        rate = held_out_rate(code, folds_of(60))
        assert rate is not None
        in_sample.append(float(moment_matched_rates(code)[1].mean()))
        held_out.append(float(rate.mean()))
    for read, sign in ((in_sample, -1.0), (held_out, 1.0)):
        found = torch.tensor(read, dtype=F64)
        error = float(found.std()) / math.sqrt(20)
        assert sign * (float(found.mean()) - truth.information) > 3 * error


def test_the_held_out_rate_of_a_gaussian_code_is_close_above_its_information():
    code = Standardised.of(*CORRELATED.sample(5000, seed=12))
    rate = held_out_rate(code, folds_of(5000))
    assert rate is not None
    error = float(rate.std()) / math.sqrt(5000)
    # D (D + 3) / 4n for n = 4000 rows of the other folds: .0018.
    assert float(rate.mean()) == pytest.approx(CORRELATED.information + 0.0018, abs=4 * error)


def test_a_row_is_not_seen_by_the_gaussian_that_rates_it():
    mu, logvar = normal(50, 2, seed=13), torch.zeros(50, 2, dtype=F64)
    code = Standardised(mu, logvar, torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64))
    far = mu.clone()
    far[0] = 100.0
    moved = Standardised(far, logvar, code.centre, code.scale)
    before, after = (held_out_rate(x, folds_of(50)) for x in (code, moved))
    assert before is not None
    assert after is not None
    same_fold = folds_of(50) == 0
    same_fold[0] = False
    assert after[same_fold].equal(before[same_fold])
    assert after[0] > before[0] + 1000


def test_one_fold_has_nothing_to_learn_from():
    code = Standardised.of(*CORRELATED.sample(20, seed=14))
    assert held_out_rate(code, torch.zeros(20, dtype=torch.int64)) is None


def test_shift_and_scale_change_no_rate_and_a_dead_code_has_none():
    mu, logvar = CORRELATED.sample(500, seed=15)
    scale = torch.tensor([1e-3, 1.0, 1e3, 7.0], dtype=F64)
    moved = 1e3 + scale * mu, logvar + 2 * scale.log()
    assert means(*moved) == pytest.approx(means(mu, logvar), abs=1e-8)
    assert means(torch.ones(100, 4, dtype=F64), torch.zeros(100, 4, dtype=F64)) == pytest.approx(
        (0.0, 0.0), abs=1e-12
    )
