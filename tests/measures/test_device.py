"""The passes on any device and in any type of product: `--device cuda --dtype float32`."""

from __future__ import annotations

import pytest
import torch

from latentgauge.measures.joint import Standardised, joint_sums
from latentgauge.measures.survey import survey
from latentgauge.measures.units import fold_of_rows
from latentgauge.measures.upper_bound import components
from tests.truth import F64, brute_log_q, drawn, generator, normal


@pytest.fixture
def table() -> Standardised:
    return Standardised.of(normal(700, 3, seed=0), 0.5 * normal(700, 3, seed=1) - 2.0)


def test_sums_equal_brute_force(table, device, dtype):
    draws, units = drawn(table, generator=generator(2)), torch.arange(700) // 2
    found = joint_sums(table, draws, units=units, device=device, dtype=dtype)
    log_q = brute_log_q(draws.z, table.mu, table.logvar)
    apart = units[:, None] != units
    expected = torch.logsumexp(log_q.masked_fill(~apart, -torch.inf), dim=1)
    # Dimensions that a type would round by more than 1e-5 in all are evaluated apart, exactly;
    # float32 keeps seven digits of what is left.
    atol = 1e-8 if dtype == torch.float64 else 1e-4
    assert torch.allclose(found.others[:, 0], expected, rtol=0.0, atol=atol)


def test_densities_of_the_upper_bound_are_those_of_the_cpu(table, device):
    units = torch.arange(700)
    folds, draws = fold_of_rows(units, generator(3)), drawn(table, generator=generator(2))
    sums = joint_sums(table, draws, units=units)
    on = [
        components(
            table, draws, sums, units=units, folds=folds, generator=generator(4), device=where
        ).log_r
        for where in ("cpu", device)
    ]
    assert torch.allclose(*on, rtol=0.0, atol=1e-8)


def test_a_survey_reads_what_it_reads_on_the_cpu(device):
    mu, logvar = normal(500, 2, seed=5), torch.full((500, 2), -3.0, dtype=F64)
    y = torch.arange(500) % 3
    here, there = survey(mu, logvar, classes=y), survey(mu, logvar, classes=y, device=device)
    assert there.joint.dataset.value == pytest.approx(here.joint.dataset.value, abs=1e-8)
    assert there.joint.upper.value == pytest.approx(here.joint.upper.value, abs=1e-6)
    assert there.labels.lower.value == pytest.approx(here.labels.lower.value, abs=1e-6)
