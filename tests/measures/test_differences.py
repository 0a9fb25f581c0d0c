"""The interval of a difference: its ends, and what its width is made of."""

from __future__ import annotations

import pytest
import torch

from latentgauge.measures.differences import Bounds, difference
from latentgauge.measures.intervals import Interval
from latentgauge.measures.units import Mean, mean_over_units
from tests.truth import F64

ROWS = torch.arange(4)


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def over(values: torch.Tensor) -> Mean:
    return mean_over_units(values, ROWS)


BASE = Bounds(rows(0, 1, 2, 3), rows(1, 2, 3, 4))
HEAD = Bounds(rows(2, 3, 4, 5), rows(5, 6, 7, 8))


def test_what_every_row_gains_alike_has_no_sampling_error() -> None:
    found = difference(BASE, HEAD, over, same=False, t=2.0)
    assert found.interval == Interval(1.0, 5.0)
    assert (found.gap, found.sampling) == (4.0, 0.0)
    assert (found.lower, found.upper) == (Mean(2.0, 0.0), Mean(4.0, 0.0))


def test_the_width_is_gap_and_sampling() -> None:
    head = Bounds(HEAD.lower + rows(0, 0, 0, 4), HEAD.upper)
    found = difference(BASE, head, over, same=False, t=2.0)
    error = 1.1 * 1.0  # the spread (0, 0, 0, 4) over four rows
    assert found.interval.lower == pytest.approx(2.0 - 2.0 * error)
    assert found.interval.upper == pytest.approx(5.0)
    assert found.gap == pytest.approx(3.0)
    assert found.sampling == pytest.approx(2.0 * error)
    assert found.lower.standard_error == pytest.approx(error)


def test_means_that_are_known_better_stand_in_for_those_of_the_rows() -> None:
    base, head = Bounds(BASE.lower, BASE.upper, (1.0, 2.0)), HEAD
    head = Bounds(HEAD.lower, HEAD.upper, (7.0, 9.0))
    found = difference(base, head, over, same=False, t=2.0)
    assert found.interval == Interval(5.0, 8.0)
    assert found.lower.value == 6.0


def test_bounds_that_crossed_are_both_held_with_the_larger_error() -> None:
    head = Bounds(HEAD.upper + rows(0, 0, 0, 4), HEAD.lower - 2.0)
    found = difference(BASE, head, over, same=False, t=2.0)
    assert found.gap == pytest.approx(5.0)
    assert found.interval.lower == pytest.approx(0.0 - 2.2)
    assert found.interval.upper == pytest.approx(5.0 + 2.2)
    assert found.interval.upper - found.interval.lower == pytest.approx(found.gap + found.sampling)


def test_one_code_is_no_difference_whatever_its_bounds_leave_open() -> None:
    found = difference(BASE, BASE, over, same=True, t=2.0)
    assert found.interval == Interval(0.0, 0.0)
    assert (found.gap, found.sampling) == (0.0, 0.0)
    assert found.lower == found.upper == Mean(0.0, 0.0)


def test_one_unit_leaves_both_ends_open() -> None:
    found = difference(
        BASE, HEAD, lambda x: mean_over_units(x, torch.zeros(4).long()), same=False, t=2.0
    )
    assert found.interval == Interval(None, None)
    assert found.sampling is None
    assert found.lower == Mean(2.0, None)
