"""Intervals: what is floored, what is swapped, what is a conflict."""

from __future__ import annotations

import pytest

from latentgauge.measures.intervals import Interval, difference, information_interval


def test_both_ends_move_out_by_z_errors():
    assert information_interval(1.0, 2.0, 0.1, 0.2, z=2.0) == Interval(0.8, 2.4)


def test_the_lower_end_is_floored_at_zero():
    assert information_interval(0.05, 0.1, 0.1, 0.1, z=2.0).lower == 0.0


def test_ends_that_cross_beyond_errors_are_swapped_and_told():
    interval = information_interval(3.0, 2.0, 0.1, 0.1, z=1.0)
    assert (interval.lower, interval.upper) == pytest.approx((2.1, 2.9))
    assert interval.conflict


def test_rounding_is_no_conflict():
    assert information_interval(0.0, -1e-12, 0.0, 0.0, z=2.0) == Interval(0.0, 0.0)


def test_without_errors_only_the_floor_is_known():
    assert information_interval(3.0, 5.0, None, None, z=2.0) == Interval(0.0, None)


def test_differences_take_opposite_ends_and_are_floored():
    a, b = Interval(1.0, 2.0), Interval(0.5, 1.5)
    assert difference([a, a], [b]) == Interval(0.5, 3.5)
    assert difference([b], [a]) == Interval(0.0, 0.5)
    assert difference([a], [Interval(0.0, None)]) == Interval(0.0, 2.0)
    assert difference([Interval(0.0, None)], [a]) == Interval(0.0, None)
