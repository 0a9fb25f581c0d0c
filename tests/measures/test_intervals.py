"""Intervals: what is floored, what is swapped, what is a conflict."""

from __future__ import annotations

import math

import pytest

from latentgauge.measures.intervals import (
    Interval,
    difference,
    information_interval,
    label_interval,
    within_latents,
)
from latentgauge.measures.labels import LabelBounds
from latentgauge.measures.units import Mean


def test_both_ends_move_out_by_z_errors():
    assert information_interval(1.0, 2.0, 0.1, 0.2, t=2.0) == Interval(0.8, 2.4)


def test_the_lower_end_is_floored_at_zero():
    assert information_interval(0.05, 0.1, 0.1, 0.1, t=2.0).lower == 0.0


def test_bounds_that_cross_beyond_errors_are_both_held_and_told():
    interval = information_interval(3.0, 2.0, 0.1, 0.2, t=1.0)
    assert (interval.lower, interval.upper) == pytest.approx((1.8, 3.2))
    assert interval.conflict
    assert information_interval(0.2, -0.5, 0.1, 0.1, t=1.0).lower == 0.0


def test_bounds_that_cross_within_errors_are_held_and_no_conflict():
    interval = information_interval(3.0, 2.9, 0.1, 0.1, t=2.0)
    assert (interval.lower, interval.upper) == pytest.approx((2.7, 3.2))
    assert not interval.conflict


def test_rounding_is_no_conflict():
    assert information_interval(0.0, -1e-12, 0.0, 0.0, t=2.0) == Interval(0.0, 0.0)


def test_without_errors_only_the_floor_is_known():
    assert information_interval(3.0, 5.0, None, None, t=2.0) == Interval(0.0, None)


def test_the_code_tells_at_least_what_a_latent_does():
    alone = [Interval(0.5, 0.7), Interval(0.1, 0.2)]
    assert within_latents(Interval(0.4, 0.8), alone) == Interval(0.5, 0.8)
    assert within_latents(Interval(0.0, None), alone) == Interval(0.5, None)


def test_a_joint_interval_apart_from_the_latents_is_a_conflict():
    alone = [Interval(0.5, 0.7), Interval(0.1, 0.2)]
    assert within_latents(Interval(0.0, 0.1), alone) == Interval(0.5, pytest.approx(0.9), True)
    assert within_latents(Interval(1.0, 1.2), alone) == Interval(pytest.approx(0.9), 1.2, True)


def _label_bounds(lower: float) -> LabelBounds:
    return LabelBounds(
        entropy=0.5,
        entropy_error=0.1,
        entropy_bias=0.01,
        log_classes=math.log(2),
        lower=Mean(lower, 0.01),
        dataset=Mean(0.5, 0.0),
    )


def test_labels_tell_at_most_their_entropy_and_what_the_code_tells():
    told = label_interval(_label_bounds(0.4), Interval(0.0, None), told=True, t=1.0)
    assert (told.lower, told.upper) == pytest.approx((0.4 - 0.011, 0.5 + 0.01 + 0.1))
    assert label_interval(_label_bounds(0.4), Interval(0.0, 0.45), told=True, t=1.0).upper == 0.45
    most = label_interval(_label_bounds(0.4), Interval(0.0, None), told=True, t=9.0)
    assert most.upper == math.log(2)
    assert label_interval(_label_bounds(0.4), Interval(0.0, 0.45), told=False, t=1.0).lower == 0.0


def test_labels_that_tell_more_than_the_code_are_a_conflict():
    told = label_interval(_label_bounds(0.4), Interval(0.0, 0.3), told=True, t=1.0)
    assert told == Interval(0.3, 0.4, True)


def test_differences_take_opposite_ends_and_are_floored():
    a, b = Interval(1.0, 2.0), Interval(0.5, 1.5)
    assert difference([a, a], [b]) == Interval(0.5, 3.5)
    assert difference([b], [a]) == Interval(0.0, 0.5)
    assert difference([a], [Interval(0.0, None)]) == Interval(0.0, 2.0)
    assert difference([Interval(0.0, None)], [a]) == Interval(0.0, None)
