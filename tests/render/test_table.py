from __future__ import annotations

import pytest
from rich.text import Text

from latentgauge.job import Job
from latentgauge.render import render
from latentgauge.render.table import (
    render_job,
    render_jobs,
    render_report,
    render_translation,
    render_verdict,
)
from latentgauge.render.words import logged
from latentgauge.report import Estimate
from latentgauge.translation import Quantity, Translation
from tests.protocol import document
from tests.render.reports import (
    CONTROL,
    collapsed,
    dimension,
    hostile,
    live,
    report,
    verdict,
    with_estimators,
)


def flat(text: str) -> str:
    """The text as if lines had no end."""
    return " ".join(text.split())


def test_the_answers_come_first_with_their_units_and_what_they_are_not() -> None:
    text = flat(render_report(live()).split("Dimensions, in nats")[0])
    assert "figures in nats, intervals at 95%" in text
    assert "Information I(X;Z) at least 9.6, at most 10 " in text
    assert "7.83 [7.81, 7.85]" in text
    assert "not I(X;Z); saturated: close to its ceiling 8.318" in text
    assert "Active dimensions 10 of 10" in text
    assert "Collapse none" in text


def test_a_collapsed_code_says_so_with_its_reasons() -> None:
    text = flat(render_report(collapsed()))
    assert "Collapse full 10 collapsed - no dimension is active or undecided - I is at most" in text
    assert "never above its ceiling 6.908" in text


def test_a_negative_figure_is_shown_and_explained() -> None:
    text = flat(render_report(report(["active"], information_n=-0.01)))
    assert "-0.01 [-0.0296, 0.0096]" in text
    assert "A figure below 0 is the estimate's sampling error" in text
    assert "A figure below 0" not in render_report(report(["active"], information_n=0.9))


def test_few_dimensions_are_all_shown_and_many_are_folded() -> None:
    assert "more with less information" not in render_report(report(["active"] * 32))
    text = render_report(hostile())
    shown = [line.split()[0] for line in text.splitlines() if line.endswith(("   1", " 0", "0.01"))]
    assert len(shown) == 32
    assert "and 32 more with less information (32 collapsed): see the JSON report" in text


def test_the_dimensions_that_are_shown_are_those_that_carry_most() -> None:
    states = ["collapsed"] * 40 + ["active"] * 30 + ["undecided"] * 2
    rows = render_report(report(states)).split("Dimensions, in nats")[1].splitlines()
    shown = [int(row.split()[0]) for row in rows if row[:3].strip().isdigit()]
    assert shown == list(range(40, 72))


def test_dimensions_have_a_name_column_only_when_they_have_names() -> None:
    assert " name " not in render_report(live())
    named = [dimension(0, state="active", name="hair colour")]
    assert "hair colour" in render_report(report(["active"], dimensions=named))


def test_an_unknown_bound_is_told_as_unknown() -> None:
    one_sided = report(
        ["active"],
        mutual_information={"lower": 0.5},
        total_correlation={},
        dimensionwise_kl={"upper": 12345.6},
    )
    text = flat(render_report(one_sided))
    assert "Information I(X;Z) at least 0.5 what" in text
    assert "Total correlation no bound is known" in text


def test_a_strangers_text_is_shown_as_text() -> None:
    text = render_report(hostile(), verdict())
    assert "[red]x[/red]" in text
    assert "<script>" in text
    assert not {"\x07", "\x1b", "\u202e"} & set(text)


def test_colors_appear_only_when_asked_for() -> None:
    plain, colored = render_report(live()), render_report(live(), color=True)
    assert "\x1b[" not in plain
    assert "\x1b[" in colored
    assert flat(Text.from_ansi(colored).plain) == flat(plain)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_no_line_is_wider_than_asked_for(width: int) -> None:
    text = render_report(hostile(), verdict(), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_labels_are_told_with_the_caveat_of_a_saturated_code() -> None:
    text = flat(render_report(hostile()))
    assert "Information I(Z;Y) at least 0.7, at most 0.9" in text
    assert "on a saturated code it reads H(Y) whatever the labels mean" in text
    assert "[red]x[/red] (1,365)" in text
    assert "I(Z;Y) - beta I(X;Z) at least -2, at most -1.5" in text
    assert "dimensions that tell most: 3: [0.3, 0.35]; 2: [0.2, 0.25]; 1: " in text


def test_a_forecast_stands_beside_the_collapse() -> None:
    text = flat(render_report(hostile(), width=200))
    assert "Linear forecast 1 alive, 0.6931 nats a linear VAE would keep 1 of 64" in text
    assert "Linear forecast" not in render_report(live())


def test_each_class_alone_has_a_line() -> None:
    text = flat(render_report(hostile(), width=200))
    assert "1,366 25 [7.2, 12.5] saturated 18, 1 undecided partial 40" in text
    assert "[red]x[/red] 1,365 0.001 [0, 0.002] 0 full 64" in text
    assert "7 too few rows" in text


def test_of_many_classes_the_collapsed_are_shown() -> None:
    labels = hostile().labels
    assert labels is not None
    dead = labels.slices[1]
    alive = [
        labels.slices[0].model_copy(update={"index": k, "name": f"class {k}", "collapse": "none"})
        for k in range(30)
    ]
    many = labels.model_copy(
        update={
            "classes": [f"class {k}" for k in range(31)],
            "counts": [100] * 31,
            "slices": [*alive, dead.model_copy(update={"index": 30, "name": "class 30"})],
        }
    )
    text = flat(render_report(report(["active"], labels=many), width=200))
    assert "class 30 1,365 0.001 [0, 0.002] 0 full 64" in text
    assert "and 19 more classes" in text


def test_more_classes_than_fit_are_counted() -> None:
    labels = hostile().labels
    assert labels is not None
    many = labels.model_copy(
        update={"classes": [f"class {i}" for i in range(20)], "counts": list(range(20, 0, -1))}
    )
    text = flat(render_report(report(["active"], labels=many)))
    assert "class 11 (9), and 8 more" in text


def test_every_gate_is_in_the_verdict_with_what_would_decide_it() -> None:
    text = flat(render_verdict(verdict(), width=220))
    assert "Verdict: FAIL" in text
    for gate in verdict().gates:
        assert gate.expression in text
        assert gate.decide in text


def test_a_long_gate_is_broken_and_never_cut() -> None:
    text = render_verdict(verdict(), width=60)
    assert "…" not in text
    assert "inconclusive" in text


def test_a_warning_is_shown_with_its_place() -> None:
    assert "saturated ([red]x[/red]): <script>" in render_report(hostile())


def test_a_running_job_says_how_far_it_is() -> None:
    progress = {"stage": "encoding", "fraction": 0.5}
    job = Job.model_validate(document("a", "running", attempt=2, progress=progress))
    text = flat(render_job(job, address="http://host/v1/jobs/a"))
    assert "job http://host/v1/jobs/a" in text
    assert "state running, attempt 2 stage encoding, 50%" in text
    assert "created 2026-11-20 12:00:00 UTC" in text


def test_a_job_shows_its_tags_gates_and_error_as_text() -> None:
    job = Job.model_validate(
        document(
            "a",
            "failed",
            tags={"branch": "[red]main\x1b[0m"},
            gates=["n >= 1"],
            error={"code": "time_limit"},
        )
    )
    text = flat(render_job(job, address="a"))
    assert "gates n >= 1 tags branch=[red]main\N{REPLACEMENT CHARACTER}[0m error time_limit" in text


def test_a_job_that_succeeded_is_shown_with_its_report_and_verdict() -> None:
    given = verdict().model_dump(mode="json")
    job = Job.model_validate(document("a", "succeeded", verdict=given))
    text = render_job(job, address="a", report=live())
    assert "Information I(X;Z)" in text
    assert "Verdict: FAIL" in text


def test_a_list_of_jobs_has_a_row_for_each() -> None:
    jobs = [
        Job.model_validate(document("a", "succeeded", verdict=verdict().model_dump(mode="json"))),
        Job.model_validate(document("b", tags={"branch": "main", "a": "b"})),
    ]
    text = flat(render_jobs(jobs))
    assert "a succeeded fail 2026-11-20 12:00:00 UTC" in text
    assert "b queued 2026-11-20 12:00:00 UTC a=b branch=main" in text
    assert render_jobs([]) == "no jobs\n"


def test_every_format_has_its_own_rendering() -> None:
    assert render(live(), form="json", verdict=verdict()) == live().to_json()
    assert render(live(), form="html", verdict=verdict()).startswith("<!doctype html>")
    assert "Verdict: FAIL" in render(live(), form="table", verdict=verdict())


def test_estimators_by_name_are_shown_when_they_were_asked_for() -> None:
    assert "Estimators by name" not in render_report(live())
    shown = render_report(with_estimators())
    text = flat(shown)
    assert "Estimators by name, in nats" in text
    assert "mws total correlation 80.43 [80.39, 80.47]" in text
    assert "variational prior 10.06 variational gaussian not known" in text
    assert "mws: an approximation, at most 12.48; high by log N" in text
    assert "variational: an upper bound; high" in text
    assert not any(c in shown for c in CONTROL if not c.isprintable())


@pytest.mark.parametrize(
    ("x", "told"),
    [(11.0021, "11.00"), (-110.021, "-110.02"), (0.0016, "0.0016"), (-4e-16, "0"), (0.5, "0.50")],
)
def test_a_logged_figure_is_told_as_a_log_tells_it(x: float, told: str) -> None:
    assert logged(x) == told


def test_an_information_below_0_is_explained_and_one_by_rounding_is_0() -> None:
    for value, explained in ((-0.003, True), (-4e-16, False), (0.003, False)):
        quantity = Quantity(
            population=Estimate(lower=0.0, upper=0.0),
            dataset=Estimate(value=0.0),
            logged={"calc_mi": Estimate(value=value)},
        )
        shown = render_translation(translated(quantity))
        assert ("An information below 0 is sampling error" in shown) == explained
        assert "e-16" not in shown


def translated(quantity: Quantity) -> Translation:
    return Translation(
        batch_size=64,
        train_size=60_000,
        n=100,
        d=1,
        confidence=0.95,
        digest="5f" * 32,
        quantities={"mutual_information": quantity},
        ceilings={},
        reasons={"mws": f"because {CONTROL}"},
    )


def test_a_translation_without_joint_figures_says_so() -> None:
    unknown = Quantity(population=Estimate(lower=0.0), dataset=Estimate(), logged={})
    shown = render_translation(translated(unknown))
    assert "mutual information [0, inf) not known - - -" in flat(shown)
    assert "100 rows, 1 latent dimension; figures in nats" in shown
    assert not any(c in shown for c in CONTROL if not c.isprintable())
