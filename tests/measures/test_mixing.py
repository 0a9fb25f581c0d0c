"""Mixture weights are those that EM would reach, and never learnt on the rows they serve."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures.mixing import cross_fitted, log_mixture, mixture_weights
from tests.truth import generator, normal


def test_weights_reach_the_likelihood_that_em_reaches():
    z = normal(2000, seed=0)
    width = torch.tensor([0.2, 0.7, 1.0, 3.0]).double()
    log_r = -0.5 * (z[:, None] / width).square() - width.log()
    p, em = log_r.exp(), torch.full((4,), 0.25).double()
    for _ in range(5000):
        em = (p * em / (p @ em)[:, None]).mean(dim=0)
    w = mixture_weights(log_r, torch.full((1, 2000), 1 / 2000).double())[0]
    assert float(w.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(log_mixture(log_r, w).mean()) >= float(log_mixture(log_r, em).mean()) - 1e-7


def test_a_component_that_is_right_on_a_rare_class_takes_all_the_weight():
    log_r = torch.zeros(70_000, 2).double()
    log_r[:50, 1], log_r[50:, 1] = math.log(50 / 70_000), math.log1p(-50 / 70_000)
    w = mixture_weights(log_r, torch.full((1, 70_000), 1 / 70_000).double())[0]
    assert float(w[0]) > 0.9999


def test_impossible_components_get_no_say():
    log_r = torch.stack([torch.full((50,), -math.inf).double(), normal(50, seed=1)], dim=1)
    folds = torch.arange(50) % 5
    assert torch.allclose(cross_fitted(log_r, folds), log_r[:, 1], atol=1e-6)


def test_weights_of_a_fold_do_not_see_its_rows():
    log_r = normal(100, 3, seed=2)
    folds = torch.arange(100) % 5
    base = cross_fitted(log_r, folds)
    changed = log_r.clone()
    changed[folds == 2] = torch.tensor([9.0, 0.0, -9.0]).double()
    again = cross_fitted(changed, folds)
    same = log_mixture(changed[folds == 2], _implied(log_r, folds, 2))
    assert torch.allclose(again[folds == 2], same, atol=1e-6)
    before = log_mixture(log_r[folds == 2], _implied(log_r, folds, 2))
    assert torch.allclose(base[folds == 2], before, atol=1e-6)
    assert not torch.allclose(again[folds == 1], base[folds == 1], atol=1e-3)


def _implied(log_r: torch.Tensor, folds: torch.Tensor, fold: int) -> torch.Tensor:
    rest = (folds != fold).double()
    return mixture_weights(log_r, (rest / rest.sum())[None])[0]


def test_a_fold_that_is_alone_weighs_equally():
    log_r = normal(10, 2, seed=3)
    expected = torch.logsumexp(log_r, dim=1) - math.log(2)
    assert torch.allclose(cross_fitted(log_r, torch.zeros(10).long()), expected)


def test_learning_from_fewer_rows_changes_little():
    z = normal(20_000, seed=4) * (0.3 + torch.rand(20_000, generator=generator(5)).double())
    width = torch.tensor([0.3, 1.0, 2.0]).double()
    log_r = -0.5 * (z[:, None] / width).square() - width.log()
    folds = torch.randint(0, 5, (20_000,), generator=generator(6))
    full, few = cross_fitted(log_r, folds), cross_fitted(log_r, folds, learn_from=2000)
    assert abs(float((full - few).mean())) < 2e-3
