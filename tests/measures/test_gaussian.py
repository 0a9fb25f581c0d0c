"""The fitted Gaussian is a density, its covariance is shrunk, its control has mean zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from latentgauge.measures.gaussian import (
    Gaussian,
    Moments,
    moments_elsewhere,
    shrunk_covariance,
)
from tests.truth import F64, generator, normal


def _covariance(d: int, *, seed: int) -> torch.Tensor:
    a = normal(d, d, seed=seed)
    return a @ a.T / d + 0.1 * torch.eye(d, dtype=F64)


def test_the_density_is_scipys():
    mean, C, z = normal(5, seed=0), _covariance(5, seed=1), normal(20, 5, seed=2)
    expected = stats.multivariate_normal(mean.numpy(), C.numpy()).logpdf(z.numpy())
    assert np.allclose(Gaussian.of(mean, C).log_density(z).numpy(), expected, atol=1e-10)


def test_the_control_is_the_log_density_less_its_conditional_mean():
    C, mu, var = _covariance(3, seed=3), normal(4, 3, seed=4), normal(4, 3, seed=5).exp()
    g = Gaussian.of(normal(3, seed=6), C)
    delta = normal(200_000, 4, 3, seed=7) * var.sqrt()
    mean = torch.stack([g.log_density(mu[i] + delta[:, i]).mean() for i in range(4)])
    control = g.conditional_control(mu, delta[0], var)
    exact = g.log_density(mu + delta[0]) - mean
    sd = torch.stack([g.log_density(mu[i] + delta[:, i]).std() for i in range(4)])
    assert ((control - exact).abs() < 4.0 * sd / math.sqrt(200_000)).all()


@pytest.mark.parametrize(("n", "p"), [(400, 100), (60, 200)])
def test_shrinkage_comes_closer_to_the_truth_than_the_sample(n, p):
    C = torch.diag(torch.linspace(0.5, 3.0, p, dtype=F64))
    x = normal(n, p, seed=8) @ C.sqrt()
    sample = torch.cov(x.T)
    shrunk = shrunk_covariance(x)
    assert float((shrunk - C).norm()) < 0.6 * float((sample - C).norm())
    assert float(torch.linalg.eigvalsh(shrunk)[0]) > 0.1


def test_many_rows_leave_the_sample_covariance_nearly_alone():
    x = normal(20_000, 4, seed=9) @ normal(4, 4, seed=10)
    assert torch.allclose(shrunk_covariance(x), torch.cov(x.T), rtol=0.02, atol=0.02)


def test_constant_columns_keep_variance_zero():
    x = normal(100, 3, seed=11)
    x[:, 1] = 1e4
    C = shrunk_covariance(x)
    assert (C[1] == 0).all()
    assert (C.diagonal()[[0, 2]] > 0.5).all()


def test_a_copied_column_stays_a_copy():
    x = normal(100, 2, seed=12)
    C = shrunk_covariance(torch.cat([x, x[:, :1]], dim=1))
    assert torch.allclose(C[0, 2], C[0, 0], rtol=1e-8)


@pytest.mark.parametrize("n", [1, 2, 11])
def test_few_rows_give_variances_alone(n):
    x = normal(n, 3, seed=13)
    C = shrunk_covariance(x)
    expected = torch.diag(x.var(dim=0)) if n > 1 else torch.zeros(3, 3, dtype=F64)
    assert torch.allclose(C, expected)


def test_moments_of_parts_join_to_those_of_the_whole():
    mu, logvar = 1e3 + normal(500, 3, seed=20), normal(500, 3, seed=21)
    whole = Moments.of(mu, logvar.exp())
    for joined in (
        Moments.of(mu[:100], logvar[:100].exp()).joined(Moments.of(mu[100:], logvar[100:].exp())),
        Moments.of_rows(mu, logvar, torch.randperm(500, generator=generator(22))),
    ):
        assert joined.n == 500
        for name in ("mean", "scatter", "noise", "reach"):
            assert torch.allclose(getattr(joined, name), getattr(whole, name), rtol=1e-10)


def test_moments_elsewhere_have_not_seen_the_fold():
    mu, logvar = normal(60, 2, seed=23), normal(60, 2, seed=24)
    folds = torch.arange(60) % 3
    for fold, moments in enumerate(moments_elsewhere(mu, logvar, folds)):
        rest = folds != fold
        assert torch.allclose(moments.mean, mu[rest].mean(dim=0), atol=1e-12)
        assert torch.allclose(moments.noise, logvar[rest].exp().mean(dim=0), atol=1e-12)
