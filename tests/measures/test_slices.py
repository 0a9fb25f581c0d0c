"""Each class as its own population: alive for nine and dead for one, bounds, ceilings."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.gaussian import shrunk_covariance
from latentgauge.measures.joint import Standardised, joint_sums
from latentgauge.measures.slices import (
    FEWEST_UNITS,
    MOST_SLICES,
    Coded,
    Slice,
    _log_densities,
    biggest,
    sliced_classes,
)
from latentgauge.measures.survey import Survey, survey
from latentgauge.measures.units import fold_of_rows
from latentgauge.measures.upper_bound import BANDWIDTHS, components
from tests.truth import F64, brute_log_q, drawn, generator, independent, normal

DEAD = 7


def _alive_for_nine(n: int, *, d: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Ten classes; in nine of them mu ~ N(m_c, 1), sigma = .5, in the other the prior."""
    y = torch.randint(0, 10, (n,), generator=generator(seed))
    mu = normal(n, d, seed=seed + 1) + 0.5 * normal(10, d, seed=seed + 2)[y]
    logvar = torch.full_like(mu, 2.0 * math.log(0.5))
    mu[y == DEAD], logvar[y == DEAD] = 0.0, 0.0
    return mu, logvar, y


@pytest.fixture(scope="module")
def found() -> Survey:
    mu, logvar, y = _alive_for_nine(3000, d=2, seed=1)
    return survey(mu, logvar, classes=y)


def test_a_class_that_is_dead_is_seen_among_nine_that_are_not(found: Survey):
    assert [x.klass for x in found.slices] == list(range(10))
    truth = 0.5 * math.log1p(4.0)
    for x in found.slices:
        if x.klass == DEAD:
            assert x.information.upper < 0.01
            assert all(interval.upper < 0.01 for interval in x.alone)
            assert x.divergences.tolist() == [0.0, 0.0]
            assert x.kl.value == 0.0
        else:
            assert x.information.lower > 0.9 * truth
            assert all(interval.lower > 0.7 * truth for interval in x.alone)


def test_the_intervals_within_the_classes_hold_their_truth(found: Survey):
    truth = 0.5 * math.log1p(4.0)
    alive = [x for x in found.slices if x.klass != DEAD]
    joint = sum(x.information.lower <= 2 * truth <= x.information.upper for x in alive)
    alone = sum(i.lower <= truth <= i.upper for x in alive for i in x.alone)
    # 9 and 18 intervals at 95%: as many misses come by chance less than once in a thousand.
    assert joint >= 6
    assert alone >= 14
    assert not any(x.information.conflict or x.saturated for x in alive)


def test_a_saturated_class_says_so_and_its_upper_bound_still_holds():
    held = 0
    for seed in range(3):
        mu, logvar = independent(12.0, 4).sample(1200, seed=seed)
        y = torch.arange(1200) % 4
        slices = survey(mu + 3.0 * y[:, None], logvar, classes=y, seed=seed).slices
        assert all(x.saturated for x in slices)
        assert all(x.ceiling == pytest.approx(math.log(300)) for x in slices)
        held += sum(x.information.lower <= 12.0 <= x.information.upper for x in slices)
        # Loose by what 300 rows leave open, not by nats.
        assert all(x.information.upper < 14.0 for x in slices)
    # 12 intervals at 95%: more than 3 misses come by chance twice in a thousand.
    assert held >= 9


def test_the_upper_bound_of_a_class_lies_above_its_information_in_the_mean():
    above = []
    for seed in range(6):
        mu, logvar = independent(4.0, 2).sample(600, seed=seed)
        y = torch.arange(600) % 3
        kwargs = {"classes": y, "seed": seed, "confidence": 0.5000001}
        above += [x.information.upper for x in survey(mu, logvar, **kwargs).slices]
    upper = torch.tensor(above, dtype=F64)
    error = float(upper.std()) / math.sqrt(len(upper))
    # At this confidence the end lies .67 errors above the bound itself.
    assert float(upper.mean()) >= 4.0 - 2.0 * error


def test_one_class_has_the_figures_of_the_whole():
    mu, logvar = independent(3.0, 2).sample(800, seed=3)
    whole = survey(mu, logvar, classes=torch.zeros(800).long())
    (only,) = whole.slices
    assert only.kl.value == pytest.approx(float(whole.kl.mean()))
    assert only.ceiling == whole.ceiling
    assert only.information.lower == pytest.approx(whole.information.lower, abs=0.02)
    assert only.information.upper == pytest.approx(whole.information.upper, abs=0.1)


def test_copies_and_units_are_kept_together_within_a_class():
    mu, logvar = independent(20.0, 4).sample(300, seed=4)
    twice = torch.arange(300).repeat(2)
    y = twice % 3
    slices = survey(
        mu.repeat(2, 1), logvar.repeat(2, 1), classes=y, units=twice, copies=twice
    ).slices
    for x in slices:
        assert x.ceiling == pytest.approx(math.log(100))
        assert x.saturated
        # Had the copies seen each other, this would read log 200.
        assert x.information.upper > 15.0


def test_densities_of_a_class_are_of_its_rows_that_have_not_seen_the_unit():
    n, c = 200, 1
    units, y = torch.arange(n) // 2, torch.arange(n) // 4 % 2
    mu, logvar = normal(n, 2, seed=6) + 4.0 * y[:, None], 0.3 * normal(n, 2, seed=7)
    source = generator(8)
    folds = fold_of_rows(units, source)
    table = Standardised.of(mu, logvar)
    draws = drawn(table, generator=source, samples=150)
    belong = {"units": units, "classes": y}
    sums = joint_sums(table, draws, **belong)
    parts = components(table, draws, sums, folds=folds, generator=source, **belong)
    coded = Coded(table, draws, sums, parts, kl_rows(mu, logvar).sum(dim=1), y, units, folds)
    at = (y[draws.rows] == c).nonzero().flatten()
    found = _log_densities(coded, c, at)
    assert found.shape == (len(at), 4 + len(BANDWIDTHS))
    log_q = brute_log_q(draws.z[at], table.mu, table.logvar)
    for k, i in enumerate(draws.rows[at].tolist()):
        others = (y == c) & (units != units[i])
        expected = torch.logsumexp(log_q[k, others], dim=0) - math.log(int(others.sum()))
        assert float(found[k, 0]) == pytest.approx(float(expected), abs=1e-9)
        rest = (y == c) & (folds != folds[i])
        mean, noise = table.mu[rest].mean(dim=0), table.logvar[rest].exp().mean(dim=0)
        scale = (table.mu[rest].var(dim=0) + noise).sqrt()
        gaussian = torch.distributions.Normal(mean, scale).log_prob(draws.z[at[k]]).sum()
        assert float(found[k, -1]) == pytest.approx(float(gaussian), abs=1e-9)
        full = shrunk_covariance(table.mu[rest]) + torch.diag(noise)
        joint = torch.distributions.MultivariateNormal(mean, full).log_prob(draws.z[at[k]])
        assert float(found[k, -2]) == pytest.approx(float(joint), abs=1e-9)


def test_classes_of_few_independent_rows_are_left_out():
    y = torch.cat([torch.zeros(40), torch.ones(19), torch.full((60,), 2.0)]).long()
    units = torch.arange(119)
    assert sliced_classes(y, units) == (0, 2)
    units[y == 2] = 60
    assert sliced_classes(y, units) == (0,)
    assert FEWEST_UNITS == 20.0


def test_the_biggest_classes_are_sliced_in_order():
    counts = [k % 60 for k in range(1, 101)]
    chosen = biggest(counts)
    assert len(chosen) == MOST_SLICES
    assert chosen == sorted(chosen)
    assert min(counts[c] for c in chosen) >= max(
        count for c, count in enumerate(counts) if c not in chosen
    )


def test_too_few_draws_of_a_class_leave_its_joint_information_open():
    mu, logvar = independent(3.0, 2).sample(2000, seed=5)
    y = (torch.arange(2000) >= 1950).long()
    rare: Slice = survey(mu, logvar, classes=y, samples=100).slices[1]
    assert (rare.information.lower, rare.information.upper) == (0.0, None)
    assert not rare.saturated
    assert all(interval.upper is not None for interval in rare.alone)
