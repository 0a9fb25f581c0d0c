"""Two codes of the same rows: closed forms, and what must not change the differences."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures.differences import Difference
from latentgauge.measures.paired import Paired, paired
from tests.truth import F64, LinearGaussian, independent, normal

Table = tuple[torch.Tensor, torch.Tensor]
BASE = independent(1.0, 2)
HEAD = LinearGaussian(BASE.W + 0.05 * normal(2, 2, seed=9), 0.95 * BASE.variance)
SEEDS = 40


def found_at(seed: int, n: int = 300) -> Paired:
    return paired(BASE.sample(n, seed=seed), HEAD.sample(n, seed=seed), seed=seed)


def information(found: Paired) -> Difference:
    assert found.information is not None
    return found.information


def figures(found: Paired) -> list[float | None]:
    """Every end and estimate of a comparison, latents by their number in the base."""
    out: list[float | None] = [found.kl.value, found.dataset and found.dataset.value]
    bounded = [found.information, found.correlation, *(x.information for x in found.latents)]
    for x in bounded:
        assert x is not None
        out += [x.interval.lower, x.interval.upper, x.lower.value, x.upper.value, x.gap]
    return out + [x.kl.value for x in found.latents]


def test_intervals_hold_the_true_differences() -> None:
    """Of 40 intervals at 95%, 34 or more hold the truth with probability .997 at nominal level.

    The ends of dI and dTC reach over the gap as well, so they hold it more often than that.
    """
    truth = HEAD.information - BASE.information
    apart = HEAD.total_correlation - BASE.total_correlation
    kl = HEAD.marginal_kl + HEAD.information - BASE.marginal_kl - BASE.information
    alone = HEAD.informations - BASE.informations
    held = dict.fromkeys(("dI", "dTC", "dKL", "dI_0", "dI_1"), 0)
    for seed in range(SEEDS):
        found = found_at(1000 + seed)
        assert found.correlation is not None
        assert found.kl.standard_error is not None
        inside = {
            "dI": (information(found).interval, truth),
            "dTC": (found.correlation.interval, apart),
            **{f"dI_{x.pair.base}": (x.information.interval, alone[x.pair.base])
               for x in found.latents},
        }  # fmt: skip
        for name, (interval, x) in inside.items():
            assert interval.lower is not None
            assert interval.upper is not None
            held[name] += interval.lower <= x <= interval.upper
        held["dKL"] += abs(found.kl.value - kl) <= found.quantile * found.kl.standard_error
    assert min(held.values()) >= 34, held


def test_a_large_difference_is_held_too() -> None:
    base = LinearGaussian(normal(3, 3, seed=4), torch.full((3,), 0.4, dtype=F64))
    head = LinearGaussian(normal(3, 3, seed=15), torch.full((3,), 0.38, dtype=F64))
    found = paired(base.sample(600, seed=1), head.sample(600, seed=1))
    interval = information(found).interval
    assert interval.lower is not None
    assert interval.upper is not None
    assert interval.lower < head.information - base.information < interval.upper < 0.0


def test_the_difference_of_kl_is_exact() -> None:
    base, head = BASE.sample(300, seed=1), HEAD.sample(300, seed=1)
    kl = [0.5 * (mu**2 + v.exp() - 1 - v).sum(dim=1) for mu, v in (base, head)]
    found = paired(base, head)
    each = kl[1] - kl[0]
    assert found.kl.value == pytest.approx(float(each.mean()), abs=1e-12)
    assert found.kl.standard_error == pytest.approx(float(each.std()) / math.sqrt(300), rel=1e-9)


def test_pairing_cancels_what_both_codes_share() -> None:
    """Row by row the two differ by a tenth of what each varies by itself."""
    found = found_at(3, n=1000)
    base, head = found.base.joint, found.head.joint
    for mine, b, h in (
        (information(found).lower, base.lower, head.lower),
        (information(found).upper, base.upper, head.upper),
        (found.dataset, base.dataset, head.dataset),
    ):
        assert mine is not None
        assert None not in (mine.standard_error, b.standard_error, h.standard_error)
        assert 5.0 * mine.standard_error < math.hypot(b.standard_error, h.standard_error)  # type: ignore[operator,arg-type]


def test_the_width_is_the_gap_of_both_codes_and_sampling() -> None:
    found = found_at(4)
    gap = sum(x.joint.upper.value - x.joint.lower.value for x in (found.base, found.head))
    i = information(found)
    assert i.gap == pytest.approx(gap, abs=0.01)  # other control variates
    assert None not in (i.interval.lower, i.interval.upper, i.sampling)
    assert i.interval.upper - i.interval.lower == pytest.approx(i.gap + i.sampling)  # type: ignore[operator]


def test_total_correlation_leaves_open_what_its_parts_do() -> None:
    """TC = sum_j I_j - I: its bounds take the opposite bound of I, so gaps add up."""
    found = found_at(4)
    i, tc = information(found), found.correlation
    assert tc is not None
    each = [x.information for x in found.latents]
    # Row by row beside exact means: apart by the noise of the draws, a few .001 here.
    assert tc.gap == pytest.approx(i.gap + sum(x.gap for x in each), abs=0.01)
    assert tc.lower.value == pytest.approx(
        sum(x.lower.value for x in each) - i.upper.value, abs=0.01
    )
    assert tc.upper.value == pytest.approx(
        sum(x.upper.value for x in each) - i.lower.value, abs=0.01
    )


def test_one_code_twice_differs_by_nothing() -> None:
    table = HEAD.sample(300, seed=5)
    found = paired(table, tuple(x.clone() for x in table))  # type: ignore[arg-type]
    assert set(figures(found)) == {0.0}
    assert found.kl.standard_error == 0.0
    assert found.dataset is not None
    assert found.dataset.standard_error == 0.0
    for x in (found.information, found.correlation, *(y.information for y in found.latents)):
        assert x is not None
        assert x.sampling == 0.0
        assert x.lower.standard_error == x.upper.standard_error == 0.0


def test_a_latent_left_as_it_was_differs_by_nothing_beside_one_that_changed() -> None:
    mu, logvar = HEAD.sample(300, seed=6)
    other = mu.clone()
    other[:, 1] += 0.3 * normal(300, seed=7)
    same, changed = paired((mu, logvar), (other, logvar)).latents
    assert (same.information.gap, same.information.sampling, same.kl.value) == (0.0, 0.0, 0.0)
    assert changed.information.gap > 0.0
    assert changed.information.sampling != 0.0


def test_swapped_codes_have_mirrored_differences() -> None:
    base, head = BASE.sample(300, seed=8), HEAD.sample(300, seed=8)
    forth, back = paired(base, head), paired(head, base)
    for mine, theirs in (
        (forth.information, back.information),
        (forth.correlation, back.correlation),
        *((x.information, y.information)
          for x, y in zip(forth.latents, back.latents, strict=True)),
    ):  # fmt: skip
        assert mine is not None
        assert theirs is not None
        assert None not in (theirs.interval.lower, theirs.interval.upper)
        assert mine.interval.lower == pytest.approx(-theirs.interval.upper, abs=1e-10)  # type: ignore[operator]
        assert mine.interval.upper == pytest.approx(-theirs.interval.lower, abs=1e-10)  # type: ignore[operator]
        assert mine.lower.value == pytest.approx(-theirs.lower.value, abs=1e-10)
        assert mine.sampling == pytest.approx(theirs.sampling, abs=1e-10)
    assert forth.kl.value == -back.kl.value
    assert forth.dataset is not None
    assert back.dataset is not None
    assert forth.dataset.value == pytest.approx(-back.dataset.value, abs=1e-10)


def test_order_and_sign_of_the_heads_latents_change_nothing() -> None:
    base, (mu, logvar) = (x.sample(300, seed=10) for x in (BASE, HEAD))
    mirrored = -mu[:, [1, 0]], logvar[:, [1, 0]]
    plain, other = paired(base, (mu, logvar)), paired(base, mirrored)
    assert figures(other) == pytest.approx(figures(plain), abs=1e-12)
    assert [x.pair.head for x in other.latents] == [1, 0]
    assert all(x.pair.correlation < -0.9 for x in other.latents)  # type: ignore[operator]


def test_the_scale_of_a_latent_is_no_information() -> None:
    """All but KL, and the prior among the densities of the upper bound, which knows a scale."""
    base, (mu, logvar) = (x.sample(300, seed=11) for x in (BASE, HEAD))
    scaled = torch.tensor([3.0, 1.0], dtype=F64)
    plain, other = (
        paired(base, (mu, logvar)),
        paired(base, (mu * scaled, logvar + 2 * scaled.log())),
    )
    assert other.dataset is not None
    assert plain.dataset is not None
    assert other.dataset.value == pytest.approx(plain.dataset.value, abs=1e-9)
    assert information(other).lower.value == pytest.approx(information(plain).lower.value, abs=1e-9)
    assert information(other).upper.value == pytest.approx(information(plain).upper.value, abs=2e-3)
    for mine, theirs in zip(other.latents, plain.latents, strict=True):
        for a, b in ((mine.information.lower, theirs.information.lower),
                     (mine.information.upper, theirs.information.upper)):  # fmt: skip
            assert a.value == pytest.approx(b.value, abs=1e-6)  # the grid's own accuracy
    assert other.kl.value > plain.kl.value + 1.0


def test_an_added_latent_is_listed_and_counted_in_the_whole() -> None:
    head = independent(2.0, 4)
    x = head.sample(500, seed=12)
    found = paired(tuple(t[:, :2] for t in x), x)  # type: ignore[arg-type]
    assert sorted(lone.index for lone in found.unmatched_head) == [2, 3]
    assert found.unmatched_base == ()
    interval = information(found).interval
    assert interval.lower is not None
    assert interval.upper is not None
    assert interval.lower < 1.0 < interval.upper
    assert [x.information.interval.upper for x in found.latents] == [0.0, 0.0]
    back = paired(x, tuple(t[:, :2] for t in x))  # type: ignore[arg-type]
    assert sorted(lone.index for lone in back.unmatched_base) == [2, 3]
    assert information(back).interval.upper == pytest.approx(-interval.lower, abs=1e-10)


def test_few_draws_are_paired_too() -> None:
    base, head = (x.sample(600, seed=13) for x in (BASE, HEAD))
    found = paired(base, head, samples=200)
    whole = paired(base, head)
    i, truth = information(found), HEAD.information - BASE.information
    assert None not in (i.interval.lower, i.interval.upper, i.sampling, information(whole).sampling)
    assert i.interval.lower < truth < i.interval.upper  # type: ignore[operator]
    assert i.sampling > information(whole).sampling  # type: ignore[operator]
    errors = found.base.joint.lower.standard_error, i.lower.standard_error
    assert errors[1] < errors[0] / 3.0  # type: ignore[operator]


def test_rows_of_one_unit_leave_population_figures_unknown() -> None:
    base, head = (x.sample(60, seed=14) for x in (BASE, HEAD))
    found = paired(base, head, units=torch.zeros(60).long())
    assert information(found).interval.lower is None
    assert information(found).sampling is None
    assert found.kl.standard_error is None
    assert found.dataset is not None
    assert found.dataset.standard_error is not None


def test_every_row_twice_is_half_as_many_rows() -> None:
    base, head = (x.sample(300, seed=15) for x in (BASE, HEAD))
    twice = [tuple(t.repeat(2, 1) for t in table) for table in (base, head)]
    found = paired(*twice, units=torch.arange(300).repeat(2))  # type: ignore[arg-type]
    once = paired(base, head)
    assert found.kl.standard_error == pytest.approx(once.kl.standard_error, rel=1e-9)
    assert information(found).gap == pytest.approx(information(once).gap, rel=0.5)


def test_joint_figures_that_rounding_hides_are_not_given() -> None:
    mu = 1e4 * torch.where(normal(50, 2, seed=16) > 0, 1.0, -1.0).double()
    wide = torch.zeros(50, 2, dtype=F64)
    found = paired((mu, wide), (mu + 1e-9 * normal(50, 2, seed=17), wide - 60.0))
    assert (found.information, found.correlation, found.dataset) == (None, None, None)
    assert found.base.joint_known
    assert not found.head.joint_known
    assert len(found.latents) == 2


def test_progress_rises_to_the_end() -> None:
    seen: list[float] = []
    base, head = (x.sample(100, seed=18) for x in (BASE, HEAD))
    paired(base, head, tick=seen.append)
    assert seen == sorted(seen)
    assert 0.9 < seen[-1] <= 1.0


def test_the_same_bytes_whatever_the_thread_count() -> None:
    base, head = (x.sample(200, seed=19) for x in (BASE, HEAD))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = figures(paired(base, head))
        torch.set_num_threads(2)
        assert figures(paired(base, head)) == one
    finally:
        torch.set_num_threads(threads)
