"""Thresholds on a report: pass, fail, or inconclusive.

    'mutual_information >= 3 bits'        left a path into the report, right a number or a word
    'dimensions[3].kl < 0.5'
    'collapse.verdict != full'

An estimate is compared by its *interval*, so that a gate never passes on a figure whose error
bars cross the threshold. What is wrong with a gate for every report (an unknown field, an
operator that the field does not take) is an error of the caller, not an outcome.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from statistics import NormalDist
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from latentgauge.errors import InvalidGate
from latentgauge.report import Estimate, Report

Outcome = Literal["pass", "fail", "inconclusive"]
Kind = Literal["estimate", "count", "number", "word", "boolean"]

_EXPRESSION = re.compile(
    r"\s*(?P<path>[A-Za-z_]\w*(?:\.\w+|\[\d+\])*)\s*(?P<operator>>=|<=|==|!=|>|<)\s*(?P<wanted>[^\s=<>!](?:.*\S)?)\s*"
)
_NUMBER = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z]*)")
_STEP = re.compile(r"\.?(\w+)|\[(\d+)\]")
_COUNT = re.compile(r"active_dimensions\.count|labels\.slices\.\d+\.active")
_MAX_LENGTH = 200
_OPERATORS: dict[Kind, frozenset[str]] = {
    "estimate": frozenset({">=", ">", "<=", "<"}),
    "count": frozenset({">=", ">", "<=", "<", "==", "!="}),
    "number": frozenset({">=", ">", "<=", "<", "==", "!="}),
    "word": frozenset({"==", "!="}),
    "boolean": frozenset({"==", "!="}),
}


@dataclass(frozen=True)
class Gate:
    """One requirement, checked against the report's schema."""

    expression: str
    steps: tuple[str | int, ...]
    kind: Kind
    operator: str
    threshold: float
    word: str
    unit: str


class GateResult(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    expression: str
    outcome: Outcome
    observed: str
    wanted: str
    reason: str
    decide: str


class Verdict(BaseModel):
    """The outcome over all gates: fail when one fails, else inconclusive when one is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Outcome
    gates: list[GateResult]


def parse_gates(expressions: Sequence[str]) -> tuple[Gate, ...]:
    """Gates from their texts.

    Raises:
        InvalidGate: no report could ever satisfy the grammar or the schema with this text.
    """
    return tuple(parse_gate(expression) for expression in expressions)


def parse_gate(expression: str) -> Gate:
    found = _EXPRESSION.fullmatch(expression[: _MAX_LENGTH + 1])
    if found is None or len(expression) > _MAX_LENGTH:
        raise InvalidGate(
            f"the gate {expression[:_MAX_LENGTH]!r} cannot be read",
            expected="PATH OPERATOR VALUE, such as 'mutual_information >= 3' or "
            "'collapse.verdict != full'",
            got=expression[:_MAX_LENGTH],
            remedy="write a field of the report, one of >= > <= < == !=, and a number or a word",
        )
    steps = tuple(int(index) if index else name for name, index in _STEP.findall(found["path"]))
    kind, unit, words = _field(expression, steps)
    _check_operator(expression, kind, found["operator"])
    threshold, word = _wanted(expression, kind, unit, words, found["wanted"])
    return Gate(expression, steps, kind, found["operator"], threshold, word, unit)


def judge(gates: Sequence[Gate], report: Report) -> Verdict:
    """Every gate on one report.

    Raises:
        InvalidGate: an index beyond the report's dimensions.
    """
    results = [_judge_one(gate, report) for gate in gates]
    outcomes = {result.outcome for result in results}
    overall: Outcome = (
        "fail" if "fail" in outcomes else "inconclusive" if "inconclusive" in outcomes else "pass"
    )
    return Verdict(outcome=overall, gates=results)


# ---------------------------------------------------------------- the schema's side


def _field(expression: str, steps: tuple[str | int, ...]) -> tuple[Kind, str, tuple[str, ...]]:
    """What kind of field the path leads to, its unit, and the words that it can hold."""
    annotation: Any = Report
    unit = ""
    for step in steps:
        if isinstance(step, int):
            if get_origin(annotation) is not list:
                raise _unknown_field(expression, f"[{step}]", [])
            annotation, extra = _unwrap(get_args(annotation)[0])
        else:
            fields = _fields(annotation)
            if step not in fields:
                raise _unknown_field(expression, step, list(fields))
            annotation, extra = _unwrap(fields[step].annotation, fields[step])
        unit = extra or (unit if step in {"value", "lower", "upper", "standard_error"} else "")
    return _kind(expression, steps, annotation), unit, _words(annotation)


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in annotation.model_fields.items()}


def _unwrap(annotation: Any, field: FieldInfo | None = None) -> tuple[Any, str]:
    """The type inside Optional and Annotated, and the unit noted on the way."""
    unit = _unit(field)
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *notes = get_args(annotation)
            unit = unit or next((u for u in map(_unit, notes) if u), "")
        elif origin in (Union, UnionType):
            inner = [a for a in get_args(annotation) if a is not NoneType]
            if len(inner) != 1:
                return None, unit
            annotation = inner[0]
        else:
            return annotation, unit


def _unit(note: Any) -> str:
    extra = getattr(note, "json_schema_extra", None)
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def _kind(expression: str, steps: tuple[str | int, ...], annotation: Any) -> Kind:
    if _COUNT.fullmatch(".".join(map(str, steps))):  # undecided dimensions may raise it
        return "count"
    if {"lower", "upper"} <= _fields(annotation).keys():
        return "estimate"
    if annotation is bool:
        return "boolean"
    if annotation in (int, float):
        return "number"
    if annotation is str or get_origin(annotation) is Literal:
        return "word"
    raise InvalidGate(
        f"the gate {expression!r} names a part of the report that cannot be compared",
        expected="an estimate, a number, a word or a boolean",
        got=".".join(map(str, steps)),
        remedy="name a field inside it: " + ", ".join(_fields(annotation))
        if _fields(annotation)
        else "see docs/report for its fields",
    )


def _words(annotation: Any) -> tuple[str, ...]:
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


def _unknown_field(expression: str, step: str, known: list[str]) -> InvalidGate:
    near = get_close_matches(step, known, n=1, cutoff=0.5)
    return InvalidGate(
        f"the gate {expression!r} names {step!r}, which no report has there",
        expected="one of " + ", ".join(known) if known else "a path that ends before it",
        got=step,
        remedy=f"the nearest name is {near[0]!r}" if near else "see docs/report for its fields",
    )


def _check_operator(expression: str, kind: Kind, operator: str) -> None:
    if operator not in _OPERATORS[kind]:
        raise InvalidGate(
            f"the gate {expression!r} uses {operator} on a field that does not take it",
            expected=f"for {_ARTICLE[kind]} one of " + " ".join(sorted(_OPERATORS[kind])),
            got=operator,
            remedy="an interval is never equal to a number: compare it from one side, or name "
            "its value, lower or upper"
            if kind == "estimate"
            else "use an operator that the field takes",
        )


_UNITS = {"": 1.0, "nat": 1.0, "nats": 1.0, "bit": math.log(2), "bits": math.log(2)}
_ARTICLE: dict[Kind, str] = {
    "estimate": "an estimate",
    "count": "a count",
    "number": "a number",
    "word": "a word",
    "boolean": "a boolean",
}


def _wanted(
    expression: str, kind: Kind, unit: str, words: tuple[str, ...], wanted: str
) -> tuple[float, str]:
    if kind in ("word", "boolean"):
        allowed = ("true", "false") if kind == "boolean" else words
        if allowed and wanted not in allowed:
            raise InvalidGate(
                f"the gate {expression!r} wants a word that the field never holds",
                expected="one of " + ", ".join(allowed),
                got=wanted,
                remedy="the nearest is "
                + repr(get_close_matches(wanted, allowed, n=1, cutoff=0.0)[0]),
            )
        return 0.0, wanted
    return _number(expression, unit, wanted), ""


def _number(expression: str, unit: str, wanted: str) -> float:
    found = _NUMBER.fullmatch(wanted)
    value = float(found["number"]) if found else math.nan
    if found is None or not math.isfinite(value):
        raise InvalidGate(
            f"the gate {expression!r} compares a number with {wanted!r}",
            expected="a finite number" + (", such as 3 or '3 bits'" if unit else ""),
            got=wanted,
            remedy="baselines are not evaluated by this version: write the number"
            if wanted.startswith("baseline")
            else "write a finite number",
        )
    scale = _UNITS if unit == "nats" else {"": 1.0}
    if found["unit"] not in scale:
        raise InvalidGate(
            f"the gate {expression!r} gives a unit that the field does not have",
            expected="nats or bits, or no unit (nats)" if unit else "a number alone",
            got=found["unit"],
            remedy="write nats or bits" if unit else "write the number without it",
        )
    return value * scale[found["unit"]]


# ---------------------------------------------------------------- the report's side


def _judge_one(gate: Gate, report: Report) -> GateResult:
    seen = _lookup(gate, report)
    unit = f" {gate.unit}" if gate.unit else ""
    wanted = f"{gate.operator} {gate.word or _figure(gate.threshold) + unit}"
    if seen is None:
        return GateResult(
            expression=gate.expression,
            outcome="inconclusive",
            observed="null",
            wanted=wanted,
            reason=_missing(gate, report),
            decide="post what it is measured from",
        )
    if gate.kind in ("word", "boolean"):
        return _judge_word(gate, seen, wanted)
    lower, upper = _ends(gate, seen, report)
    outcome = _compare(gate.operator, lower, upper, gate.threshold)
    return GateResult(
        expression=gate.expression,
        outcome=outcome,
        observed=_interval(lower, upper) + unit,
        wanted=wanted,
        reason=_REASON[outcome] if lower < upper else "",
        decide=_decide(gate, seen, report) if outcome == "inconclusive" else "",
    )


_REASON: dict[Outcome, str] = {
    "pass": "all of the interval satisfies it",
    "fail": "none of the interval satisfies it",
    "inconclusive": "the interval lies on both sides of the threshold",
}


def _lookup(gate: Gate, report: Report) -> Any:
    seen: Any = report
    for step in gate.steps:
        if seen is None:
            return None
        if isinstance(step, int):
            if step >= len(seen):
                raise InvalidGate(
                    f"the gate {gate.expression!r} asks for entry {step}",
                    expected=f"an index below {len(seen)}",
                    got=str(step),
                    remedy="count from 0",
                )
            seen = seen[step]
        else:
            seen = getattr(seen, "schema_name" if step == "schema" else step)
    return seen


def _missing(gate: Gate, report: Report) -> str:
    if gate.steps[0] == "labels" and report.labels is None:
        return "the data set came without labels y"
    return "the report gives no figure here: it knows bounds only, or was not given the input"


def _judge_word(gate: Gate, seen: Any, wanted: str) -> GateResult:
    observed = str(seen).lower() if isinstance(seen, bool) else str(seen)
    holds = (observed == gate.word) == (gate.operator == "==")
    outcome: Outcome = "inconclusive" if observed == "undecided" else "pass" if holds else "fail"
    return GateResult(
        expression=gate.expression,
        outcome=outcome,
        observed=observed,
        wanted=wanted,
        reason="the report is undecided here" if observed == "undecided" else "",
        decide="more rows narrow the intervals it rests on" if observed == "undecided" else "",
    )


def _ends(gate: Gate, seen: Any, report: Report) -> tuple[float, float]:
    if gate.kind == "estimate":
        lower = -math.inf if seen.lower is None else seen.lower
        upper = math.inf if seen.upper is None else seen.upper
        return lower, upper
    if gate.kind == "count":
        return float(seen), float(seen + _behind(gate, report)[2])
    return float(seen), float(seen)


def _behind(gate: Gate, report: Report) -> tuple[int, float, int]:
    """Rows, ceiling of a lower bound, undecided dimensions: of the whole or the gate's class."""
    if gate.steps[:2] == ("labels", "slices") and report.labels is not None:
        part = report.labels.slices[int(gate.steps[2])]
        return part.n, part.ceiling or math.inf, part.undecided or 0
    return report.n, report.dataset_information.ceiling, report.active_dimensions.undecided


def _compare(operator: str, lower: float, upper: float, threshold: float) -> Outcome:
    """Pass when every point of [lower, upper] satisfies, fail when none does."""
    all_of, any_of = {
        ">=": (lower >= threshold, upper >= threshold),
        ">": (lower > threshold, upper > threshold),
        "<=": (upper <= threshold, lower <= threshold),
        "<": (upper < threshold, lower < threshold),
        "==": (lower == upper == threshold, lower <= threshold <= upper),
        "!=": (not lower <= threshold <= upper, not lower == upper == threshold),
    }[operator]
    return "pass" if all_of else "inconclusive" if any_of else "fail"


def _interval(lower: float, upper: float) -> str:
    return _figure(lower) if lower == upper else f"{_figure(lower)} to {_figure(upper)}"


def _figure(x: float) -> str:
    return f"{x:.6g}"


def _decide(gate: Gate, seen: Any, report: Report) -> str:
    """What would decide an inconclusive gate, by its cause."""
    if gate.kind == "count":
        return "more rows narrow the intervals of the undecided dimensions"
    n, ceiling, _ = _behind(gate, report)
    if isinstance(seen, Estimate) and seen.value is not None and seen.standard_error:
        z = NormalDist().inv_cdf(0.5 + report.confidence / 2)
        margin = abs(seen.value - gate.threshold)
        if margin > 0:
            rows = n * max(1.0, (z * seen.standard_error / margin) ** 2)
            return f"about {rows:.2g} rows, if the value stays where it is"
        return "the value is the threshold itself: no number of rows decides"
    if gate.operator in (">=", ">") and gate.threshold > ceiling:
        if gate.threshold > 40:  # e^40 rows are more than any data set has
            return "no data set is large enough for a lower bound this high"
        return f"at least {math.exp(gate.threshold):.2g} rows: no lower bound exceeds log N"
    return "more rows need not help: the upper bound may be loose"
