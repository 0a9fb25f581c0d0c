"""Which mixtures take part in the upper bound, and that leaving one out costs next to nothing."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures.cells import CELL_SHAPES
from latentgauge.measures.joint import Standardised, joint_sums
from latentgauge.measures.mixing import cross_fitted
from latentgauge.measures.units import fold_of_rows
from latentgauge.measures.upper_bound import BANDWIDTHS, NAMES, Components, components
from tests.truth import brute_log_q, drawn, generator, normal


def _components(
    mu: torch.Tensor, logvar: torch.Tensor, *, trial_from: int, y: torch.Tensor | None = None
) -> tuple[Components, torch.Tensor]:
    """The components, and own log density less log r of each draw."""
    table, units = Standardised.of(mu, logvar), torch.arange(len(mu))
    folds = fold_of_rows(units, generator(1))
    draws = drawn(table, generator=generator(2))
    sums = joint_sums(table, draws, units=units, classes=y)
    parts = components(
        table,
        draws,
        sums,
        units=units,
        folds=folds,
        classes=y,
        generator=generator(3),
        trial_from=trial_from,
    )
    return parts, sums.own - cross_fitted(parts.log_r, folds)


def _sheet(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    mu = 2.0 * torch.tanh(normal(n, 2, seed=4) @ normal(2, 5, seed=5))
    return mu, torch.full_like(mu, 2.0 * math.log(0.2))


def test_mixtures_that_do_not_pay_are_left_out_and_cost_nothing():
    mu, logvar = _sheet(1500)
    some, few_rows = _components(mu, logvar, trial_from=1000)
    everything, all_rows = _components(mu, logvar, trial_from=10_000)
    dropped = torch.isneginf(some.log_r).all(dim=0)
    assert 2 <= int(dropped.sum()) < len(BANDWIDTHS) + len(CELL_SHAPES)
    assert not torch.isneginf(everything.log_r).any()
    kept = ~dropped
    assert torch.equal(some.log_r[:, kept], everything.log_r[:, kept])
    # What .003 of the weight may be worth: log(1 / (1 - .003)) for each of a few mixtures.
    assert float((few_rows - all_rows).mean()) == pytest.approx(0.0, abs=0.01)


def test_kernels_that_tell_of_labels_are_kept():
    mu, _ = _sheet(1500)
    # So narrow that no other row's posterior reaches a draw.
    narrow, y = torch.full_like(mu, -16.0), (mu[:, 0] > 0).long()
    without, _ = _components(mu, narrow, trial_from=1000)
    parts, _ = _components(mu, narrow, trial_from=1000, y=y)
    kept = [~torch.isneginf(x.kernels).all(dim=0) for x in (without, parts)]
    assert bool((kept[0] <= kept[1]).all())
    assert int(kept[1].sum()) > int(kept[0].sum())


def test_kernels_are_the_mean_over_all_rows_but_the_draws_own():
    mu, logvar = normal(300, 2, seed=6), torch.full((300, 2), -2.0).double()
    parts, _ = _components(mu, logvar, trial_from=10_000)
    table = Standardised.of(mu, logvar)
    draws, folds = (
        drawn(table, generator=generator(2)),
        fold_of_rows(torch.arange(300), generator(1)),
    )
    h, k = BANDWIDTHS[2], NAMES.index(f"kernel {BANDWIDTHS[2]}")
    rest = folds != folds[7]
    # By the definition, with the covariance of the other folds; shrinking it moves it a little.
    mean, noise = table.mu[rest].mean(dim=0), table.logvar[rest].exp().mean(dim=0)
    covariance = h * h * torch.cov(table.mu[rest].T) + torch.diag(noise)
    centres = mean + math.sqrt(1 - h * h) * (table.mu - mean)
    kernel = torch.distributions.MultivariateNormal(centres, covariance)
    each = kernel.log_prob(draws.z[7])
    each[7] = -math.inf
    expected = torch.logsumexp(each, dim=0) - math.log(299)
    assert float(parts.log_r[7, k]) == pytest.approx(float(expected), abs=0.02)
    own = brute_log_q(draws.z[7:8], table.mu, table.logvar)[0]
    own[7] = -math.inf
    assert float(parts.log_r[7, 0]) == pytest.approx(
        float(torch.logsumexp(own, dim=0)) - math.log(299), abs=1e-9
    )


def test_a_class_has_its_share_of_the_centres():
    mu, logvar = _sheet(200)
    y = (torch.arange(200) % 4 == 0).long()
    parts, _ = _components(mu, logvar, trial_from=10_000, y=y)
    expected = torch.where(y == 1, 49.0 / 199.0, 149.0 / 199.0)
    assert torch.allclose(parts.share, expected.double(), atol=1e-12)
