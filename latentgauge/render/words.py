"""The figures of a report in words: what every format says alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from latentgauge.gates import Outcome
from latentgauge.report import (
    DatasetInformation,
    Dimension,
    Estimate,
    EstimatorResult,
    LabelDimension,
    LabelInformation,
    Report,
    Slice,
)

UNIT = "nats"
# A code that carries nothing reads this much by rounding.
ROUNDING = 1e-9
OUTCOMES: dict[Outcome, str] = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}


@dataclass(frozen=True)
class Line:
    """One answer of the report: its name, its figures, and how to read them."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Folded:
    """The dimensions that are shown, and one sentence about those that are not."""

    shown: list[Dimension]
    rest: str


def clean(text: str) -> str:
    """Text of a stranger without what a terminal or a browser would act on."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def number(x: float) -> str:
    """Four significant digits; from 10,000 to a billion all digits before the point."""
    return f"{x:,.0f}" if 10_000 <= abs(x) < 1e9 else f"{x + 0.0:.4g}"


def bounds(e: Estimate | DatasetInformation) -> str:
    """The interval as a promise: what the quantity is at least, and at most."""
    if e.lower is None and e.upper is None:
        return "no bound is known"
    if e.upper is None:
        return f"at least {number(e.lower or 0.0)}"
    if e.lower is None:
        return f"at most {number(e.upper)}"
    return f"at least {number(e.lower)}, at most {number(e.upper)}"


def interval(e: Estimate | DatasetInformation) -> str:
    """The interval in brackets; a side without a bound is left open."""
    if e.lower is None and e.upper is None:
        return "no bound is known"
    lower = "(-inf" if e.lower is None else f"[{number(e.lower)}"
    upper = "inf)" if e.upper is None else f"{number(e.upper)}]"
    return f"{lower}, {upper}"


def estimate(e: Estimate | DatasetInformation) -> str:
    """The value with its interval; bounds where there is no value, the value where it is exact."""
    if e.value is None:
        return bounds(e)
    exact = e.lower == e.value == e.upper
    return number(e.value) if exact else f"{number(e.value)} {interval(e)}"


def logged(x: float) -> str:
    """A figure as a log prints it: two digits after the point, more where that would be 0."""
    shown = 0.0 if abs(x) < ROUNDING else x
    return number(shown) if abs(shown) < 0.1 else f"{shown:,.2f}"


def percent(confidence: float) -> str:
    return f"{100 * confidence:.4g}%"


def subject(report: Report) -> str:
    return (
        f"{report.n:,} rows, {report.d} latent dimension{'s' * (report.d != 1)}; "
        f"figures in {UNIT}, intervals at {percent(report.confidence)}"
    )


def answer(report: Report) -> str:
    """The one sentence that the report exists for."""
    told = bounds(report.mutual_information).replace(", at most", " and at most")
    return f"The code carries {told} {UNIT} about its input."


def headline(report: Report) -> list[Line]:
    """The answers, the most asked-for first."""
    return [
        Line(
            "Information I(X;Z)",
            bounds(report.mutual_information),
            "what the code tells about an input, over all inputs like these",
        ),
        Line(
            "KL",
            estimate(report.kl),
            f"mean over the rows; {number(report.kl_per_dimension_mean)} a dimension",
        ),
        Line("I_N, this data set", estimate(report.dataset_information), _ceiling(report)),
        Line(
            "Total correlation",
            bounds(report.total_correlation),
            "what the dimensions share; 0 when they are independent",
        ),
        Line("Active dimensions", _active(report), _active_note(report)),
        Line("Collapse", report.collapse.verdict, _states(report)),
        *_forecast(report),
    ]


def _forecast(report: Report) -> Iterator[Line]:
    told = report.forecast
    if told is not None:
        value = f"{told.alive} alive, {number(told.total)} {UNIT}"
        yield Line("Linear forecast", value, told.held_against)


def _ceiling(report: Report) -> str:
    found = report.dataset_information
    state = "saturated: close to" if found.saturated else "never above"
    return f"which of the rows, not I(X;Z); {state} its ceiling {number(found.ceiling)}"


def _active(report: Report) -> str:
    units = report.active_dimensions
    undecided = f", {units.undecided} undecided" if units.undecided else ""
    return f"{units.count} of {report.d}{undecided}"


def _active_note(report: Report) -> str:
    units = report.active_dimensions
    return (
        f"I_j above {number(units.threshold)} {UNIT}; "
        f"{units.by_variance_of_mean} by the variance of the mean"
    )


def _states(report: Report) -> str:
    signs = report.collapse.signs
    counts = {
        "active": signs.active,
        "collapsed": signs.collapsed,
        "off-prior": signs.off_prior,
        "undecided": signs.undecided,
    }
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def negative(report: Report) -> str:
    """Why a figure below zero is shown for what cannot be negative; empty when none is."""
    parts = report.dataset_decomposition
    seen: list[Estimate | DatasetInformation] = [
        report.dataset_information,
        report.mutual_information,
        report.total_correlation,
        report.dimensionwise_kl,
        parts.total_correlation,
        parts.dimensionwise_kl,
    ]
    if not any(x is not None and x < 0 for e in seen for x in (e.value, e.lower)):
        return ""
    return (
        "A figure below 0 is the estimate's sampling error, shown as it is: "
        "the quantity itself is 0 or more."
    )


def fold(dimensions: Sequence[Dimension], *, limit: int) -> Folded:
    """At most `limit` dimensions in their order: those with the most information."""
    best = sorted(dimensions, key=_weight, reverse=True)
    kept = {dimension.index for dimension in best[:limit]}
    rest = best[limit:]
    return Folded([d for d in dimensions if d.index in kept], _rest(rest))


def has_names(dimensions: Sequence[Dimension]) -> bool:
    """Whether the dimensions are called anything else than z0, z1, ..."""
    return any(dimension.name != f"z{dimension.index}" for dimension in dimensions)


def _weight(dimension: Dimension) -> tuple[float, float]:
    found = dimension.mutual_information
    upper = inf if found.upper is None else found.upper
    return (upper if found.lower is None else found.lower, upper)


def _rest(rest: Sequence[Dimension]) -> str:
    if not rest:
        return ""
    states = Counter(dimension.state for dimension in rest)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"and {len(rest)} more with less information ({told}): see the JSON report"


def label_lines(labels: LabelInformation) -> Iterator[Line]:
    """What the code tells about the labels."""
    yield Line("Entropy H(Y)", number(labels.entropy), f"{len(labels.classes)} classes")
    yield Line(
        "Information I(Z;Y)",
        bounds(labels.mutual_information),
        "what the code tells about the label of a new input",
    )
    yield Line("Share of H(Y)", bounds(labels.fraction), "I(Z;Y) / H(Y), between 0 and 1")
    yield Line(
        "I_N(Z;Y), this data set",
        estimate(labels.dataset_mutual_information),
        "not I(Z;Y): on a saturated code it reads H(Y) whatever the labels mean",
    )
    if labels.bottleneck.objective is not None:
        yield Line(
            "I(Z;Y) - beta I(X;Z)",
            bounds(labels.bottleneck.objective),
            "what it tells less what it costs, at the option's beta",
        )


def telling(labels: LabelInformation, *, most: int) -> str:
    """The dimensions that tell most of the label, each with its bounds on I(z_j;Y)."""

    def weight(d: LabelDimension) -> tuple[float, float]:
        found = d.mutual_information
        return (-(found.lower or 0.0), -(inf if found.upper is None else found.upper))

    best = sorted(labels.per_dimension, key=weight)[:most]
    return "; ".join(f"{d.index}: {interval(d.mutual_information)}" for d in best)


SLICE_COLUMNS = ("class", "rows", "KL", "I(X;Z) within", "active", "collapse", "gone")


def slice_rows(labels: LabelInformation, *, limit: int) -> list[tuple[str, ...]]:
    """Cells of the classes measured alone, those with a collapse first where there are too many."""
    order = sorted(labels.slices, key=lambda x: (x.collapse not in ("full", "partial"), -x.n))
    kept = {x.index for x in order[:limit]}
    return [_cells(x) for x in labels.slices if x.index in kept]


def _cells(x: Slice) -> tuple[str, ...]:
    if x.kl is None or x.mutual_information is None:
        return (clean(x.name), f"{x.n:,}", "too few rows", "", "", "", "")
    undecided = f", {x.undecided} undecided" if x.undecided else ""
    return (
        clean(x.name),
        f"{x.n:,}",
        number(x.kl.value or 0.0),
        interval(x.mutual_information) + (" saturated" if x.saturated else ""),
        f"{x.active}{undecided}",
        x.collapse or "",
        f"{len(x.dimensions or ())}",
    )


def named_estimators(report: Report) -> dict[str, EstimatorResult]:
    """Those that were asked for beside the report's own."""
    return {name: e for name, e in report.estimators.items() if name != "aggregate"}


KINDS = {
    "bounds": "bounds",
    "lower_bound": "a lower bound",
    "upper_bound": "an upper bound",
    "approximation": "an approximation",
}


def estimator_lines(estimators: Mapping[str, EstimatorResult]) -> Iterator[tuple[str, str, str]]:
    """Estimator, figure, and what it reads, a line each."""
    for name, result in estimators.items():
        for figure, found in result.figures.items():
            told = "not known" if found.value is None else estimate(found)
            yield name, figure.replace("_", " "), told


def estimator_reason(name: str, result: EstimatorResult) -> str:
    """What an estimator is and why its figures lean as they do."""
    limit = "" if result.ceiling is None else f", at most {result.ceiling:.4g}"
    return f"{name}: {KINDS[result.kind]}{limit}; {result.bias}"


def class_counts(labels: LabelInformation, *, limit: int) -> str:
    """Names and sizes of the largest classes."""
    pairs = sorted(zip(labels.counts, labels.classes, strict=True), key=lambda p: -p[0])
    told = ", ".join(f"{clean(name)} ({count:,})" for count, name in pairs[:limit])
    more = len(pairs) - limit
    return told + (f", and {more} more" if more > 0 else "")
