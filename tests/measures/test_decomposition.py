"""KL is exact, and collapsed codes read zero."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from latentgauge.measures.decomposition import entropy_rows, kl_rows, log_normal
from tests.truth import normal


def test_kl_and_entropy_equal_those_of_torch_distributions():
    mu, logvar = normal(50, 4, seed=0), normal(50, 4, seed=1)
    q = Normal(mu, (0.5 * logvar).exp())
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    assert torch.allclose(kl_rows(mu, logvar), kl_divergence(q, prior), atol=1e-12)
    assert torch.allclose(entropy_rows(logvar), q.entropy(), atol=1e-12)
    expected = Normal(logvar, (0.5 * logvar).exp()).log_prob(mu)
    assert torch.allclose(log_normal(mu, logvar, logvar.exp()), expected, atol=1e-12)


def test_a_constant_posterior_off_the_prior_has_its_closed_form():
    kl = kl_rows(torch.tensor([[1.5]]).double(), torch.tensor([[0.25]]).double().log())
    assert float(kl) == pytest.approx(1.4431, abs=5e-5)


def test_a_code_that_nearly_equals_the_prior_is_not_rounded_away():
    # 1/2 (s^2 - 1 - log s^2) = t^2 / 4 for log s^2 = t small; without expm1 it reads 0 or less.
    kl = kl_rows(torch.zeros(1, 1).double(), torch.full((1, 1), 1e-7).double())
    assert float(kl) == pytest.approx(1e-14 / 4, rel=0.05)
