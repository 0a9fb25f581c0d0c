"""The three-valued rule, by the type of the field."""

from __future__ import annotations

import math

import pytest

from latentgauge.errors import InvalidGate
from latentgauge.gates import GateResult, Outcome, judge, parse_gates
from latentgauge.report import Estimate, Report
from tests.render.reports import hostile, live

BITS = math.log(2)


def report(**changes: object) -> Report:
    return live().model_copy(update=changes)


def result(expression: str, on: Report) -> GateResult:
    return judge(parse_gates([expression]), on).gates[0]


def outcome(expression: str, on: Report) -> Outcome:
    return result(expression, on).outcome


def between(lower: float | None, upper: float | None) -> Estimate:
    return Estimate(lower=lower, upper=upper)


@pytest.mark.parametrize(
    ("gate", "lower", "upper", "expected"),
    [
        (">= 3", 3, 4, "pass"),
        (">= 3", 2.9, 4, "inconclusive"),
        (">= 3", 2.9, 3, "inconclusive"),
        (">= 3", 1, 2.9, "fail"),
        ("> 3", 3.1, 4, "pass"),
        ("> 3", 3, 4, "inconclusive"),
        ("> 3", 2, 3, "fail"),
        ("<= 3", 2, 3, "pass"),
        ("<= 3", 2, 3.1, "inconclusive"),
        ("<= 3", 3.1, 4, "fail"),
        ("< 3", 2, 2.9, "pass"),
        ("< 3", 2, 3, "inconclusive"),
        ("< 3", 3, 4, "fail"),
        (">= 3", 3, None, "pass"),
        (">= 3", 2, None, "inconclusive"),
        ("<= 3", 2, None, "inconclusive"),
        ("<= 3", None, 2, "pass"),
        (">= 3", None, None, "inconclusive"),
        (">= 1 bits", BITS, 2, "pass"),
        (">= 1 bits", 0.69, 2, "inconclusive"),
        (">= 1 nats", 1, 2, "pass"),
        (">= 1 bit", 0.69, 2, "inconclusive"),
    ],
)
def test_the_interval_of_an_estimate_is_compared(
    gate: str, lower: float | None, upper: float | None, expected: Outcome
) -> None:
    on = report(mutual_information=between(lower, upper))
    assert outcome(f"mutual_information {gate}", on) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (">= 3", "pass"),
        (">= 4", "inconclusive"),
        (">= 6", "fail"),
        ("< 6", "pass"),
        ("== 3", "inconclusive"),
        ("== 6", "fail"),
        ("!= 4", "inconclusive"),
        ("!= 6", "pass"),
    ],
)
def test_a_count_is_the_interval_of_decided_and_undecided(gate: str, expected: Outcome) -> None:
    dimensions = live().active_dimensions.model_copy(update={"count": 3, "undecided": 2})
    assert outcome(f"active_dimensions.count {gate}", report(active_dimensions=dimensions)) == (
        expected
    )


def test_a_count_without_undecided_dimensions_is_a_number() -> None:
    dimensions = live().active_dimensions.model_copy(update={"count": 3, "undecided": 0})
    assert outcome("active_dimensions.count == 3", report(active_dimensions=dimensions)) == "pass"


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("labels.slices[0].active >= 18", "pass"),
        ("labels.slices[0].active >= 19", "inconclusive"),
        ("labels.slices[0].active >= 20", "fail"),
        ("labels.slices[1].active == 0", "pass"),
        ("labels.slices[1].collapse == full", "pass"),
        ("labels.slices[0].collapse != full", "pass"),
        ("labels.slices[0].saturated == false", "fail"),
        ("labels.slices[2].active >= 1", "inconclusive"),
        ("labels.per_dimension[3].mutual_information >= 0.25", "pass"),
        ("labels.lower_bound >= 0.6 nats", "pass"),
        ("labels.bottleneck.objective <= 0", "pass"),
        ("forecast.alive == 1", "pass"),
        ("forecast.latents[0].information < 0.9 bits", "fail"),
    ],
)
def test_classes_latents_and_the_forecast_can_be_required(gate: str, expected: Outcome) -> None:
    assert outcome(gate, hostile()) == expected


def test_what_decides_a_gate_on_a_class_goes_by_its_own_rows() -> None:
    found = result("labels.slices[0].mutual_information >= 12", hostile())
    assert found.outcome == "inconclusive"
    # The class's ceiling is log 1366 = 7.2, the whole's log 4096 = 8.3.
    assert found.decide.startswith("at least 1.6e+05 rows")
    assert "1.6e+05" not in result("labels.slices[0].mutual_information >= 7.21", hostile()).decide
    kl = result("labels.slices[0].kl >= 25.1", hostile())
    assert kl.decide.startswith("about 5.2e+03 rows")


@pytest.mark.parametrize(
    ("gate", "expected"),
    [("n == 500", "pass"), ("n != 500", "fail"), ("n > 500", "fail"), ("n >= 500", "pass")],
)
def test_a_plain_number_is_compared_as_it_is(gate: str, expected: Outcome) -> None:
    assert outcome(gate, report(n=500)) == expected


def test_an_end_of_an_interval_is_a_plain_number() -> None:
    on = report(mutual_information=between(2, 4))
    assert outcome("mutual_information.upper <= 4", on) == "pass"
    assert outcome("mutual_information.lower == 2", on) == "pass"
    assert outcome("mutual_information.upper >= 6 bits", on) == "fail"


@pytest.mark.parametrize(
    ("verdict", "gate", "expected"),
    [
        ("none", "!= full", "pass"),
        ("full", "!= full", "fail"),
        ("full", "== full", "pass"),
        ("undecided", "!= full", "inconclusive"),
        ("undecided", "== full", "inconclusive"),
    ],
)
def test_a_word_is_equal_or_not_and_undecided_is_inconclusive(
    verdict: str, gate: str, expected: Outcome
) -> None:
    collapse = live().collapse.model_copy(update={"verdict": verdict})
    assert outcome(f"collapse.verdict {gate}", report(collapse=collapse)) == expected


def test_a_boolean_is_true_or_false() -> None:
    on = live()
    word = str(on.dataset_information.saturated).lower()
    assert outcome(f"dataset_information.saturated == {word}", on) == "pass"
    assert outcome(f"dataset_information.saturated != {word}", on) == "fail"


def test_what_is_known_but_null_here_is_inconclusive_with_the_reason() -> None:
    found = result("labels.mutual_information >= 1", report(labels=None))
    assert found.outcome == "inconclusive"
    assert "without labels" in found.reason
    found = result("mutual_information.value >= 1", report(mutual_information=between(2, 4)))
    assert found.outcome == "inconclusive"
    assert "bounds only" in found.reason


def test_one_failure_fails_and_one_doubt_is_inconclusive() -> None:
    on = report(mutual_information=between(2, 4))
    good, doubt, bad = (f"mutual_information >= {t}" for t in (1, 3, 5))
    assert judge(parse_gates([good]), on).outcome == "pass"
    assert judge(parse_gates([good, doubt]), on).outcome == "inconclusive"
    assert judge(parse_gates([good, doubt, bad]), on).outcome == "fail"
    assert judge((), on).outcome == "pass"


def test_more_rows_decide_when_the_sampling_error_dominates() -> None:
    kl = Estimate(value=3.1, standard_error=0.1, lower=2.904, upper=3.296)
    found = result("kl >= 3", report(kl=kl, n=1000))
    # (1.96 * 0.1 / 0.1)^2 times as many rows.
    assert found.decide == "about 3.8e+03 rows, if the value stays where it is"


def test_nothing_decides_a_threshold_that_is_the_value_itself() -> None:
    kl = Estimate(value=3.0, standard_error=0.1, lower=2.8, upper=3.2)
    assert "no number of rows" in result("kl >= 3", report(kl=kl)).decide


def test_a_threshold_above_the_ceiling_says_how_many_rows_it_takes() -> None:
    ceiling = live().dataset_information.model_copy(update={"ceiling": 6.0})
    on = report(mutual_information=between(5.9, 20), dataset_information=ceiling)
    assert "at least 2.2e+04 rows" in result("mutual_information >= 10", on).decide
    on = report(mutual_information=between(5.9, 60), dataset_information=ceiling)
    assert "no data set is large enough" in result("mutual_information >= 50", on).decide


def test_a_loose_upper_bound_is_named_when_it_is_what_is_in_the_way() -> None:
    ceiling = live().dataset_information.model_copy(update={"ceiling": 6.0})
    on = report(mutual_information=between(3, 5), dataset_information=ceiling)
    assert "the upper bound may be loose" in result("mutual_information <= 4", on).decide


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "cannot be read"),
        ("mutual_information", "cannot be read"),
        ("mutual_information >= ", "cannot be read"),
        ("mutual_information => 3", "cannot be read"),
        ("kl >= " + "1" * 300, "cannot be read"),
        ("mutual_informatio >= 3", "the nearest name is 'mutual_information'"),
        ("zzz >= 3", "see docs/report"),
        ("kl.val >= 3", "the nearest name is 'value'"),
        ("kl[0] >= 3", "names '[0]'"),
        ("kl.value.x >= 3", "names 'x'"),
        ("decoder.distortion >= 3", "names 'distortion'"),
        ("options.input_scale.mean >= 3", "names 'mean'"),
        ("options.input_scale[0] >= 3", "names '[0]'"),
        ("dimensions >= 3", "cannot be compared"),
        ("collapse == full", "cannot be compared"),
        ("kl == 3", "an interval is never equal to a number"),
        ("collapse.verdict >= full", "use an operator that the field takes"),
        ("collapse.verdict != ful", "the nearest is 'full'"),
        ("dataset_information.saturated == yes", "one of true, false"),
        ("kl >= three", "compares a number with 'three'"),
        ("kl >= nan", "compares a number with 'nan'"),
        ("kl >= inf", "compares a number with 'inf'"),
        ("kl >= 1e999", "compares a number with '1e999'"),
        ("kl >= 3 bytes", "write nats or bits"),
        ("n >= 3 bits", "a unit that the field does not have"),
        ("kl >= baseline - 0.1", "baselines are not evaluated"),
    ],
)
def test_what_no_report_could_satisfy_is_misuse(expression: str, says: str) -> None:
    with pytest.raises(InvalidGate) as caught:
        parse_gates([expression])
    assert says in str(caught.value)
    assert caught.value.remedy


def test_an_index_beyond_the_dimensions_is_misuse() -> None:
    gates = parse_gates([f"dimensions[{live().d}].kl >= 0"])
    with pytest.raises(InvalidGate, match=f"an index below {live().d}"):
        judge(gates, live())
