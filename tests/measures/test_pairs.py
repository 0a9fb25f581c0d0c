"""The blocked pass equals the sum written out, whatever the reference and the range."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures import pairs
from latentgauge.measures.joint import Draws, Standardised, joint_sums, log_q_given, rounds_badly
from latentgauge.measures.pairs import Groups, log_sums
from tests.truth import brute_log_q, generator, normal


def _table(n: int, d: int, *, seed: int = 0) -> tuple[Standardised, Draws]:
    table = Standardised.of(normal(n, d, seed=seed), normal(n, d, seed=seed + 1) - 1.0)
    return table, Draws.of(table, samples=n, generator=generator(seed))


def _brute(table: Standardised, draws: Draws, keep: torch.Tensor) -> torch.Tensor:
    log_q = brute_log_q(draws.z, table.mu, table.logvar)
    return torch.logsumexp(log_q.masked_fill(~keep, -math.inf), dim=1)


def test_sums_over_several_blocks_equal_brute_force():
    table, draws = _table(2500, 3)
    sums = joint_sums(table, draws, units=torch.arange(2500))
    assert torch.allclose(
        sums.others[:, 0], _brute(table, draws, ~torch.eye(2500).bool()), atol=1e-8
    )
    everything = _brute(table, draws, torch.ones(2500, 2500).bool())
    assert torch.allclose(sums.log_all()[:, 0], everything, atol=1e-8)
    assert torch.isneginf(sums.mates).all()


def test_classes_are_summed_apart():
    table, draws = _table(700, 2)
    y = torch.randint(0, 4, (700,), generator=generator(5))
    sums = joint_sums(table, draws, units=torch.arange(700), classes=y)
    same = (y[:, None] == y) & ~torch.eye(700).bool()
    assert torch.allclose(sums.others[:, 1], _brute(table, draws, same), atol=1e-8)
    assert torch.allclose(
        sums.others[:, 0], _brute(table, draws, ~torch.eye(700).bool()), atol=1e-8
    )


def test_units_are_left_out_together_and_counted_as_mates():
    table, draws = _table(600, 2)
    units = torch.arange(600) // 3
    units[:300] = torch.arange(300) + 1000
    units = torch.unique(units, return_inverse=True)[1]
    y = torch.arange(600) % 2
    sums = joint_sums(table, draws, units=units, classes=y)
    together = units[:, None] == units
    assert torch.allclose(sums.others[:, 0], _brute(table, draws, ~together), atol=1e-8)
    mates = together & ~torch.eye(600).bool()
    expected = _brute(table, draws, mates)
    assert torch.allclose(sums.mates[300:, 0], expected[300:], atol=1e-8)
    assert torch.isneginf(sums.mates[:300]).all()
    same = _brute(table, draws, mates & (y[:, None] == y))
    assert torch.allclose(sums.mates[300:, 1], same[300:], atol=1e-8)


@pytest.mark.parametrize("offset", [0.0, 500.0, 5000.0, -500.0, -5000.0])
def test_a_bad_reference_is_mended(offset):
    table, draws = _table(300, 2)
    kernel = log_q_given(table, draws.z)
    reference = torch.full((300,), offset, dtype=torch.float64)
    out = log_sums(kernel, reference, Groups.single(300, 300))
    everything = torch.ones(300, 300).bool()
    assert torch.allclose(out[:, 0], _brute(table, draws, everything), atol=1e-8)


def test_neighbours_far_below_the_floor_are_still_told_apart():
    mu = torch.tensor([[0.0], [1e3], [3e3]]).double()
    table = Standardised.of(mu, torch.zeros(3, 1).double())
    draws = Draws.of(table, samples=3, generator=generator(0))
    others = joint_sums(table, draws, units=torch.arange(3)).others[:, 0]
    assert torch.allclose(others, _brute(table, draws, ~torch.eye(3).bool()), rtol=1e-12)


def test_a_row_without_others_has_an_empty_sum():
    table, draws = _table(4, 2)
    sums = joint_sums(table, draws, units=torch.zeros(4).long())
    assert torch.isneginf(sums.others).all()
    assert torch.allclose(sums.log_all()[:, 0], _brute(table, draws, torch.ones(4, 4).bool()))


def test_narrow_codes_far_from_each_other_keep_their_digits():
    n = 400
    sign = torch.where(normal(n, 2, seed=3) > 0, 1e3, -1e3).double()
    logvar = torch.full((n, 2), math.log(1e-12)).double()
    table = Standardised.of(sign + 1e-6 * normal(n, 2, seed=4), logvar)
    draws = Draws.of(table, samples=n, generator=generator(0))
    assert rounds_badly(table, draws.z).all()
    others = joint_sums(table, draws, units=torch.arange(n)).others[:, 0]
    assert torch.allclose(others, _brute(table, draws, ~torch.eye(n).bool()), atol=1e-5)


def test_progress_ends_at_one_and_an_exception_comes_through():
    table, draws = _table(600, 2)
    seen: list[float] = []
    joint_sums(table, draws, units=torch.arange(600), tick=seen.append)
    assert seen[-1] == 1.0
    assert len(seen) == math.ceil(600 / pairs.ROWS)

    def stop(_: float) -> None:
        raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"):
        joint_sums(table, draws, units=torch.arange(600), tick=stop)
