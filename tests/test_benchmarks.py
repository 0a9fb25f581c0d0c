"""What the benchmarks hold figures against is right, and a goal that is missed is said."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.__main__ import NAMES, main
from benchmarks.figure import Figure, Goal
from benchmarks.limit import operands, threads_inside, threads_over
from benchmarks.shapes import clusters, log_sums, sheet, table, varying
from tests.truth import F64, brute_log_q, normal


def _figure(figure: float | None, goal: Goal | None) -> Figure:
    return Figure("work", figure, "s", 2.0, "the limit", goal)


def test_a_goal_is_met_at_its_bound_and_missed_beyond_it():
    assert _figure(2.5, Goal(at_most=1.25)).met is True
    assert _figure(2.6, Goal(at_most=1.25)).met is False
    assert _figure(0.93, Goal("figure", at_least=0.93)).met is True
    assert _figure(0.92, Goal("figure", at_least=0.93)).met is False
    assert _figure(1.0, None).met is None


@pytest.mark.parametrize("figure", [None, math.nan])
def test_what_was_not_measured_meets_no_goal(figure):
    found = _figure(figure, Goal(at_most=1.25))
    assert found.met is False
    assert "MISSED" in found.line()


def test_a_peer_that_is_not_there_is_named():
    line = Figure("k-NN", None, "nats", None, "not installed").line()
    assert "not done" in line
    assert "not installed" in line


def test_a_benchmark_that_is_none_is_refused_by_name(capsys):
    assert main(["speeed"]) == 2
    said = capsys.readouterr().err
    assert "speeed" in said
    assert all(name in said for name in NAMES)


def test_no_exponential_of_the_limit_is_slow_and_every_size_of_block_fits():
    left, right = operands(300, 700, 2)
    assert -5.0 <= float((left @ right).min()) <= float((left @ right).max()) <= 0.0
    threads = torch.get_num_threads()
    for way in (threads_inside, threads_over):
        way(left, right, block=(128, 256))
    assert torch.get_num_threads() == threads


def test_the_reference_of_the_shapes_sums_over_the_others():
    mu, logvar = normal(500, 3, seed=3), 0.3 * normal(500, 3, seed=4)
    z = (mu + (0.5 * logvar).exp() * normal(500, 3, seed=5))[:200]
    log_q = brute_log_q(z, mu, logvar)
    log_q.fill_diagonal_(-math.inf)
    assert torch.allclose(log_sums(z, mu, logvar), torch.logsumexp(log_q, dim=1), atol=1e-10)


@pytest.mark.parametrize(("shape", "d"), [(sheet, 16), (clusters, 16), (varying, 24)])
def test_a_shape_is_the_same_population_whoever_draws_from_it(shape, d):
    (mu, logvar), (other, _) = (table(shape, 4000, seed=seed) for seed in (0, 1))
    assert mu.shape == logvar.shape == (4000, d)
    assert mu.dtype == F64
    error = (mu.var(dim=0) + other.var(dim=0)).sqrt() / math.sqrt(4000)
    assert float(((mu.mean(dim=0) - other.mean(dim=0)) / error).abs().max()) < 4.5
