"""What the benchmarks hold figures against is right, and a goal that is missed is said."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.__main__ import NAMES, main
from benchmarks.figure import Figure, Goal
from benchmarks.limit import operands, threads_inside, threads_over
from benchmarks.peers import Code, dataset_figures, fine
from benchmarks.sampling import batch_information, decomposition_by_sampling, diagonal_gaussian
from benchmarks.shapes import clusters, log_sums, sheet, table, varying
from latentgauge.measures.survey import survey
from tests.truth import F64, brute_log_q, equicorrelated, generator, independent, normal


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


def test_sampling_finds_the_figures_that_the_papers_mean():
    source = equicorrelated(1.0, 0.5, 3)
    mu, logvar = source.sample(2000, seed=0)
    found = decomposition_by_sampling(mu, logvar, draws=2000, generator=generator(1))
    # The data set's values lie below the source's by a few e^I / 2N; draws err by 1 / sqrt(2000).
    assert found.information == pytest.approx(1.0, abs=0.1)
    assert found.total_correlation == pytest.approx(0.5, abs=0.1)
    assert found.informations.tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.1)
    gaussian = diagonal_gaussian(mu, logvar)
    assert gaussian.information == pytest.approx(1.5, abs=0.1)


def test_a_minibatch_shows_what_a_training_log_shows():
    mu, logvar = independent(10.0, 10).sample(4096, seed=1)
    found = batch_information(mu, logvar, batch=32, generator=generator(2))
    # 10 nats read log 32 less little; log q(z|x), whose sd is sqrt(d / 2), is not cancelled.
    assert found.information == pytest.approx(3.46, abs=4 * math.sqrt(5 / 4096))


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


def test_the_data_sets_figures_are_those_that_a_fine_sum_and_the_survey_give():
    source = equicorrelated(2.0, 1.0, 3)
    code = Code("three latents", *source.sample(600, seed=6), 2.0, 1.0)
    found = dataset_figures(code, seed=0)
    alone = [float(fine(m, v)) for m, v in zip(code.mu.T, code.logvar.T, strict=True)]
    assert found.informations.tolist() == pytest.approx(alone, abs=1e-5)
    joint = survey(code.mu, code.logvar).joint.dataset
    # Two sets of draws of about the same error.
    assert abs(found.information - joint.value) <= 4 * math.sqrt(2) * joint.standard_error
