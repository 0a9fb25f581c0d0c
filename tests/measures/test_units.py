"""Copies count once, controls take noise away and never move the mean's target."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from latentgauge.measures.units import (
    adjusted_mean,
    effective_units,
    entropy_of_counts,
    fold_of_rows,
    mean_over_units,
    numbered,
    population_mean,
    residuals,
    student_quantile,
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


def test_one_unit_that_outweighs_the_others_shows_no_error():
    units = torch.cat([torch.zeros(1000).long(), torch.arange(1, 201)])
    assert effective_units(units) == pytest.approx(1200**2 / (1000**2 + 200))
    assert mean_over_units(normal(1200, seed=2), units).standard_error is None


def test_the_error_over_unequal_units_is_that_of_their_means():
    sizes = torch.tensor([12, 6, 3, 3, 2, 1, 1, 1])
    units = torch.arange(8).repeat_interleave(sizes)
    shares = sizes.double() / sizes.sum()
    squares = [
        mean_over_units(normal(8, seed=100 + k)[units], units).standard_error ** 2
        for k in range(2000)
    ]
    # Unit means of variance 1: the mean's variance is the sum of squared shares.
    expected = float(shares.square().sum())
    error = float(torch.tensor(squares).std()) / math.sqrt(2000)
    assert abs(sum(squares) / 2000 - expected) < 4 * error


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
    adjusted = adjusted_mean(
        3.0 + noise + 0.1 * rest, torch.arange(4000), noise[:, None], torch.arange(4000) % 5
    )
    assert adjusted.standard_error == pytest.approx(0.1 / math.sqrt(4000), rel=0.05)
    assert plain.standard_error > 9 * adjusted.standard_error
    assert abs(adjusted.value - 3.0) < 4 * adjusted.standard_error


def test_coefficients_of_a_fold_do_not_see_its_rows():
    values, controls, folds = normal(200, seed=12), normal(200, 2, seed=13), torch.arange(200) % 5
    before = residuals(values, controls, folds)
    moved = values + torch.where(folds == 2, 50.0 * controls[:, 0], 0.0)
    after = residuals(moved, controls, folds)
    assert torch.allclose((after - moved)[folds == 2], (before - values)[folds == 2])
    assert not torch.allclose((after - moved)[folds == 1], (before - values)[folds == 1])


def test_what_is_known_of_all_rows_has_the_error_of_all_rows():
    known, rest = normal(5000, seed=14), 0.1 * normal(5000, seed=15)
    units, folds, none = torch.arange(5000), torch.arange(5000) % 5, torch.zeros(5000, 0).double()
    rows = torch.randperm(5000, generator=generator(16))[:400]
    values = (3.0 + known + rest)[rows]
    some = population_mean(values, none[rows], known[:, None], rows=rows, units=units, folds=folds)
    expected = math.hypot(0.1 / math.sqrt(400), 1.0 / math.sqrt(5000))
    assert some.standard_error == pytest.approx(expected, rel=0.1)
    assert abs(some.value - 3.0) < 4 * expected


def test_too_few_rows_are_not_regressed():
    values, controls = normal(30, seed=5), normal(30, 2, seed=6)
    assert torch.equal(residuals(values, controls, torch.arange(30) % 5), values)
    assert torch.equal(residuals(values, controls, torch.zeros(30).long()), values)


def test_constant_controls_change_nothing():
    values = normal(100, seed=7)
    assert torch.equal(
        residuals(values, torch.zeros(100, 2).double(), torch.arange(100) % 5), values
    )


@pytest.mark.parametrize("confidence", [0.51, 0.95, 0.99999])
@pytest.mark.parametrize("freedom", [1.0, 1.3, 2.0, 7.5, 40.0, 999.0, 1001.0, 1e8])
def test_students_quantile_is_scipys(confidence, freedom):
    expected = stats.t.ppf(0.5 + 0.5 * confidence, freedom)
    assert student_quantile(confidence, freedom) == pytest.approx(expected, rel=3e-5)


def test_the_entropy_of_equal_counts_is_log_k():
    assert entropy_of_counts(torch.tensor([5, 5, 5, 0])) == pytest.approx(math.log(3), abs=1e-15)
    assert math.copysign(1.0, entropy_of_counts(torch.tensor([7]))) == 1.0
