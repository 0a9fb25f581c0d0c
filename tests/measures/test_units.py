"""Copies count once, controls take noise away and never move the mean's target."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from latentgauge.measures.units import (
    adjusted_mean,
    entropy_of_counts,
    fold_of_rows,
    mean_over_units,
    normal_quantile,
    numbered,
    residuals,
)
from tests.truth import generator, normal


def test_the_error_of_rows_on_their_own_is_the_usual_one():
    values = normal(200, seed=0)
    mean = mean_over_units(values, torch.arange(200))
    assert mean.standard_error == pytest.approx(stats.sem(values.numpy()), rel=1e-12)


def test_copies_of_every_row_leave_mean_and_error_alone():
    values = normal(200, seed=1)
    once = mean_over_units(values, torch.arange(200))
    twice = mean_over_units(values.repeat(2), torch.arange(200).repeat(2))
    assert twice.value == pytest.approx(once.value, abs=1e-15)
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-12)


def test_a_single_unit_has_no_error():
    assert mean_over_units(normal(9, seed=2), torch.zeros(9).long()).standard_error is None


def test_rows_of_one_unit_share_a_fold_and_all_folds_are_used():
    units = numbered(torch.tensor([70, 3, 3, 70, 9, 11, 12, 15]), 8)
    fold = fold_of_rows(units, generator(0))
    assert fold[0] == fold[3]
    assert fold[1] == fold[2]
    assert set(fold.tolist()) == {0, 1, 2, 3, 4}


def test_two_units_make_two_folds():
    assert set(fold_of_rows(torch.tensor([0, 0, 1]), generator(0)).tolist()) == {0, 1}


def test_controls_shrink_the_error_and_keep_the_mean_within_it():
    noise, rest = normal(4000, seed=3), normal(4000, seed=4)
    plain = mean_over_units(3.0 + noise + 0.1 * rest, torch.arange(4000))
    adjusted = adjusted_mean(3.0 + noise + 0.1 * rest, torch.arange(4000), noise[:, None])
    assert adjusted.standard_error == pytest.approx(0.1 / math.sqrt(4000), rel=0.05)
    assert plain.standard_error > 9 * adjusted.standard_error
    assert abs(adjusted.value - 3.0) < 4 * adjusted.standard_error


def test_too_few_rows_are_not_regressed():
    values, controls = normal(15, seed=5), normal(15, 2, seed=6)
    assert torch.equal(residuals(values, controls), values)


def test_constant_controls_change_nothing():
    values = normal(100, seed=7)
    assert torch.equal(residuals(values, torch.zeros(100, 2).double()), values)


def test_the_normal_quantile_is_scipys():
    assert normal_quantile(0.95) == pytest.approx(stats.norm.ppf(0.975), abs=1e-12)


def test_the_entropy_of_equal_counts_is_log_k():
    assert entropy_of_counts(torch.tensor([5, 5, 5, 0])) == pytest.approx(math.log(3), abs=1e-15)
    assert math.copysign(1.0, entropy_of_counts(torch.tensor([7]))) == 1.0
