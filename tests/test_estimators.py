"""Estimators by name in the report: kinds, ceilings, and that they disturb nothing."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from latentgauge.analysis import Subject, analyse
from latentgauge.errors import InvalidOption
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import Environment, EstimatorResult, Inputs, Report
from tests.truth import F64, clusters, correlated, independent, normal

ENVIRONMENT = Environment(
    device="cpu", sandbox="none", torch="-", python="-", platform="-", threads=1
)
NAMES = ["gaussian", "mws", "mss", "calc_mi", "variational"]
CODE = correlated(0.8, 3).sample(300, seed=1)


def report(
    code: tuple[Tensor, Tensor], *names: str, units: Tensor | None = None, **options: object
) -> Report:
    subject = Subject(Posterior(*code), Inputs(), units=units)
    given = Options(estimators=list(names) or ["aggregate"], **options)
    return analyse(subject, options=given, environment=ENVIRONMENT)


def named(code: tuple[Tensor, Tensor], name: str, **options: object) -> EstimatorResult:
    return report(code, name, **options).estimators[name]


@pytest.fixture(scope="module")
def everything() -> Report:
    return report(CODE, *NAMES, train_size=60_000)


def test_all_that_were_asked_for_come_in_one_order_after_the_aggregate(everything: Report):
    assert list(everything.estimators) == ["aggregate", *NAMES]
    assert list(report(CODE, "mss", "gaussian").estimators) == ["aggregate", "gaussian", "mss"]
    assert list(report(CODE).estimators) == ["aggregate"]


def test_each_says_what_it_is_and_its_ceiling(everything: Report):
    found = everything.estimators
    assert {name: e.kind for name, e in found.items()} == {
        "aggregate": "bounds",
        "gaussian": "approximation",
        "mws": "approximation",
        "mss": "approximation",
        "calc_mi": "lower_bound",
        "variational": "upper_bound",
    }
    ceilings = {name: e.ceiling for name, e in found.items()}
    assert ceilings["gaussian"] is None
    assert ceilings["variational"] is None
    assert ceilings["aggregate"] == math.log(300)
    assert ceilings["mws"] == math.log(60_000 * 64)
    assert ceilings["mss"] == math.log(60_000)
    assert ceilings["calc_mi"] == math.log(64)
    for name, told in (("mws", "11.00"), ("mss", "11.00"), ("calc_mi", "4.16")):
        assert told in found[name].bias


def test_each_has_its_figures(everything: Report):
    parts = ["kl", "mutual_information", "total_correlation", "dimensionwise_kl"]
    assert {name: list(e.figures) for name, e in everything.estimators.items()} == {
        "aggregate": [],
        "gaussian": ["diagonal", "full"],
        "mws": parts,
        "mss": parts,
        "calc_mi": ["mutual_information"],
        "variational": ["prior", "gaussian", "mixture"],
    }
    for result in everything.estimators.values():
        for figure in result.figures.values():
            assert figure.lower <= figure.value <= figure.upper
            assert figure.standard_error > 0
        if result.ceiling is not None and "mutual_information" in result.figures:
            assert result.figures["mutual_information"].upper <= result.ceiling + 1e-12


def test_intervals_of_minibatch_figures_go_over_their_batches(everything: Report):
    for name in ("mws", "mss"):
        figure = everything.estimators[name].figures["kl"]
        t = (figure.upper - figure.value) / figure.standard_error
        assert t == pytest.approx(1.9623, abs=1e-3)  # Student's .975 at 999 degrees


def test_asking_changes_no_other_figure_of_the_report(everything: Report):
    apart = {"options", "digest", "estimators", "created_at", "timings"}
    plain = report(CODE)
    assert everything.model_dump(exclude=apart) == plain.model_dump(exclude=apart)
    assert everything.digest != plain.digest


def test_what_else_is_asked_for_changes_no_estimator(everything: Report):
    for name in NAMES:
        assert named(CODE, name, train_size=60_000) == everything.estimators[name]


def test_a_seed_gives_the_same_bytes_and_another_seed_others(everything: Report):
    again = report(CODE, *NAMES, train_size=60_000)
    first, second = (
        json.dumps(x.model_dump(mode="json")["estimators"]) for x in (everything, again)
    )
    assert first == second
    other = report(CODE, *NAMES, train_size=60_000, seed=1).estimators
    drawn = [*NAMES]
    drawn.remove("gaussian")  # which draws nothing
    for name in drawn:
        assert other[name].figures != everything.estimators[name].figures
    assert other["gaussian"] == everything.estimators["gaussian"]


def test_a_dead_encoder_reads_as_in_its_training_log():
    dead = torch.zeros(1000, 10), torch.zeros(1000, 10)
    found = report(dead, "mws", "mss", "calc_mi", train_size=60_000).estimators
    read = {name: e.value for name, e in found["mws"].figures.items()}
    assert read["mutual_information"] == pytest.approx(11.00, abs=0.005)
    assert read["total_correlation"] == pytest.approx(99.02, abs=0.005)
    assert read["dimensionwise_kl"] == pytest.approx(-110.02, abs=0.005)
    assert read["kl"] == pytest.approx(0.0, abs=1e-12)
    assert found["mss"].figures["mutual_information"].value == pytest.approx(0.0, abs=1e-12)
    calc_mi = found["calc_mi"].figures["mutual_information"]
    assert abs(calc_mi.value) < 4 * calc_mi.standard_error


def test_information_stuck_at_the_log_of_the_batch():
    code = independent(10.0, 10).sample(4096, seed=1)
    found = named(code, "calc_mi", minibatch=32).figures["mutual_information"]
    assert found.value == pytest.approx(3.46, abs=0.04)
    assert found.upper <= max(math.log(32), found.value)


def test_without_a_training_size_the_rows_here_are_the_training_set():
    assert named(CODE, "mss").ceiling == math.log(300)
    assert named(CODE, "mss", train_size=300) == named(CODE, "mss")


def test_the_rate_against_the_prior_is_the_kl_and_the_mixture_is_the_upper_end(everything: Report):
    figures = everything.estimators["variational"].figures
    assert figures["prior"] == everything.kl
    assert figures["mixture"].upper == pytest.approx(everything.mutual_information.upper, abs=1e-12)


def test_every_rate_is_above_the_information_and_the_mixture_is_tightest_on_clusters():
    mu, logvar = clusters(8, 60, 2)
    spread = mu + normal(480, 2, seed=4), logvar
    found = named(spread, "variational").figures
    truth = math.log(8) + 0.5 * math.log(2.0) * 2
    for figure in found.values():
        assert figure.upper >= truth
    assert found["mixture"].value < found["gaussian"].value - 1.0
    assert found["gaussian"].value < found["prior"].value


def test_one_unit_can_hold_nothing_out():
    units = torch.zeros(100, dtype=torch.int64)
    found = report((normal(100, 2, seed=5), torch.zeros(100, 2)), "variational", units=units)
    figures = found.estimators["variational"].figures
    assert figures["gaussian"].model_dump() == dict.fromkeys(
        ("value", "standard_error", "lower", "upper")
    )
    assert figures["prior"].value == found.kl.value
    assert figures["prior"].upper is None


def test_joint_figures_that_rounding_spoils_are_not_given():
    mu = 1e9 * normal(50, 3, seed=6)
    found = report((mu, torch.full((50, 3), -60.0)), "variational")
    assert found.mutual_information.upper is None or "rounding" in {
        warning.code for warning in found.warnings
    }
    assert found.dataset_information.value is None
    assert found.estimators["variational"].figures["mixture"].value is None


def test_few_draws_widen_the_mixture_by_their_own_quantile():
    few = named(CODE, "variational", samples=5).figures["mixture"]
    many = named(CODE, "variational").figures["mixture"]
    for figure, t in ((few, 2.776), (many, 1.968)):  # Student's .975 at 4 and 299 degrees
        assert (figure.upper - figure.value) / figure.standard_error == pytest.approx(t, abs=1e-3)


@pytest.mark.parametrize("name", ["mws", "mss", "calc_mi"])
def test_a_minibatch_of_more_rows_than_there_are_is_refused_before_any_work(name: str):
    began: list[float] = []
    subject = Subject(Posterior(*CODE), Inputs())
    options = Options(estimators=["gaussian", name], minibatch=301)
    with pytest.raises(InvalidOption, match=f"301 rows cannot be drawn from 300, as {name}") as e:
        analyse(subject, options=options, environment=ENVIRONMENT, progress=began.append)
    assert e.value.expected == "a minibatch of at most 300 rows"
    assert e.value.remedy == "give a smaller minibatch, or more rows"
    assert began == []


def test_estimators_without_minibatches_run_on_fewer_rows_than_one():
    few = CODE[0][:10], CODE[1][:10]
    assert set(report(few, "gaussian", "variational").estimators["gaussian"].figures) == {
        "diagonal",
        "full",
    }


def test_progress_goes_on_to_the_end_and_can_stop_the_work():
    seen: list[float] = []
    subject = Subject(Posterior(*CODE), Inputs())
    options = Options(estimators=NAMES)
    made = analyse(subject, options=options, environment=ENVIRONMENT, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert sum(0.9 < fraction < 1.0 for fraction in seen) > 100
    assert made.timings["measures.estimators"] > 0

    class Stopped(Exception):
        pass

    def stop(fraction: float) -> None:
        if fraction > 0.95:
            raise Stopped

    with pytest.raises(Stopped):
        analyse(subject, options=options, environment=ENVIRONMENT, progress=stop)


def test_a_large_minibatch_tells_its_progress_from_within():
    seen: list[float] = []
    subject = Subject(Posterior(*correlated(0.8, 3).sample(1000, seed=1)), Inputs())
    options = Options(estimators=["calc_mi"], minibatch=1000)
    analyse(subject, options=options, environment=ENVIRONMENT, progress=seen.append)
    told = [fraction for fraction in seen if 0.9 < fraction < 1.0]
    # 11 batches of 3 million densities, in pieces of at most 2^17.
    assert len(told) > 11 * 20


def test_rows_given_in_float32_and_float64_read_alike():
    mu, logvar = (x.float() for x in CODE)
    a, b = report((mu, logvar), "mws"), report((mu.double(), logvar.double()), "mws")
    assert a.estimators == b.estimators
    assert mu.dtype != F64
