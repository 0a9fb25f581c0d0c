"""The blocked pass equals the sum written out, whatever the reference and the range."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures import pairs
from latentgauge.measures.joint import (
    Draws,
    JointSums,
    Standardised,
    joint_sums,
    rounds_badly,
)
from latentgauge.measures.lanes import Lanes, lanes
from latentgauge.measures.pairs import STRIPE, Groups, Products, log_sums
from tests.truth import brute_log_q, drawn, generator, normal


def _table(n: int, d: int, *, seed: int = 0) -> tuple[Standardised, Draws]:
    table = Standardised.of(normal(n, d, seed=seed), normal(n, d, seed=seed + 1) - 1.0)
    return table, _draws(table, seed=seed)


def _draws(table: Standardised, *, seed: int = 0, samples: int | None = None) -> Draws:
    return drawn(table, generator=generator(seed), samples=samples)


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
    left, right = 10.0 * normal(300, 3, seed=6), normal(2, 700, seed=7)
    right = torch.cat([right, torch.ones(1, 700).double()])
    none, groups = left.new_zeros(300, 0), Groups.single(300, 700)
    columns = right, right[:0], right[:0]
    products = Products.of(left, none, columns, groups=groups, device=torch.device("cpu"))
    out = log_sums(lambda: iter([products]), torch.full((300,), offset, dtype=torch.float64))
    expected = torch.logsumexp(left[:, :2] @ right[:2], dim=1)
    assert torch.allclose(out[:, 0], expected, atol=1e-8)


def test_neighbours_far_below_the_floor_are_still_told_apart():
    mu = torch.tensor([[0.0], [1e3], [3e3]]).double()
    table = Standardised.of(mu, torch.zeros(3, 1).double())
    draws = _draws(table)
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
    draws = _draws(table)
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


def test_sums_of_shards_join_to_the_whole():
    table, draws = _table(900, 3)
    units, y = torch.arange(900) // 2, torch.arange(900) % 3
    whole = joint_sums(table, draws, units=units, classes=y)
    shards = torch.randperm(900, generator=generator(9)).split([100, 500, 300])
    parts = [joint_sums(table, draws, units=units, classes=y, columns=c) for c in shards]
    joined = parts[0].joined(parts[1]).joined(parts[2])
    _assert_equal(joined, whole, atol=1e-12)


def test_fewer_draws_than_rows_are_summed_over_all_rows():
    table, _ = _table(900, 2)
    draws = _draws(table, seed=3, samples=300)
    assert len(draws.rows) == 300
    y = torch.arange(900) % 2
    others = joint_sums(table, draws, units=torch.arange(900), classes=y).others
    keep = draws.rows[:, None] != torch.arange(900)
    assert torch.allclose(others[:, 0], _brute(table, draws, keep), atol=1e-8)
    same = keep & (y[draws.rows][:, None] == y)
    assert torch.allclose(others[:, 1], _brute(table, draws, same), atol=1e-8)


def test_columns_made_a_stripe_at_a_time_give_the_same():
    n = STRIPE + 500
    table = Standardised.of(normal(n, 2, seed=13), normal(n, 2, seed=14) - 1.0)
    draws = _draws(table, samples=20)
    y = torch.arange(n) % 2
    others = joint_sums(table, draws, units=torch.arange(n), classes=y).others
    keep = draws.rows[:, None] != torch.arange(n)
    assert torch.allclose(others[:, 0], _brute(table, draws, keep), atol=1e-8)
    same = keep & (y[draws.rows][:, None] == y)
    assert torch.allclose(others[:, 1], _brute(table, draws, same), atol=1e-8)


def test_the_number_of_lanes_changes_no_bit():
    table, draws = _table(1500, 3)
    threads, found = torch.get_num_threads(), []
    for count in (1, 3):
        torch.set_num_threads(count)
        with lanes() as some:
            assert torch.get_num_threads() == 1
            found.append(joint_sums(table, draws, units=torch.arange(1500), lanes=some))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    _assert_equal(*found, atol=0.0)


def test_products_in_float32_leave_to_float64_what_they_would_round():
    mu = 3.0 * normal(400, 2, seed=12)
    table = Standardised.of(mu, torch.tensor([0.0, -12.0]).double().expand(400, 2).contiguous())
    draws, single = _draws(table), torch.finfo(torch.float32).eps / 2.0
    assert rounds_badly(table, draws.z, roundoff=single)[1]
    found = joint_sums(table, draws, units=torch.arange(400), dtype=torch.float32)
    expected = _brute(table, draws, ~torch.eye(400).bool())
    assert torch.allclose(found.others[:, 0], expected, atol=1e-4)


def _assert_equal(a: JointSums, b: JointSums, *, atol: float) -> None:
    for mine, theirs in ((a.others, b.others), (a.mates, b.mates)):
        assert torch.allclose(mine, theirs, rtol=0.0, atol=atol)


def test_lanes_keep_the_order_and_bring_errors_back():
    with lanes() as some:
        assert list(some.each(lambda x: x * x, range(20))) == [x * x for x in range(20)]
        with pytest.raises(ZeroDivisionError):
            list(some.each(lambda x: 1 // x, [1, 0, 1]))
    assert list(Lanes(1).each(abs, [-1])) == [1]
