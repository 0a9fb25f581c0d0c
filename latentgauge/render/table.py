"""Reports and jobs as plain text for a terminal or a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from latentgauge.comparison import BoundedDifference, Comparison
from latentgauge.gates import Verdict
from latentgauge.render.words import (
    OUTCOMES,
    ROUNDING,
    SLICE_COLUMNS,
    UNIT,
    Line,
    class_counts,
    clean,
    estimate,
    estimator_lines,
    estimator_reason,
    fold,
    has_names,
    headline,
    interval,
    label_lines,
    logged,
    named_estimators,
    negative,
    number,
    percent,
    slice_rows,
    subject,
    telling,
)
from latentgauge.report import Dimension, Estimate, LabelInformation, Report
from latentgauge.translation import LOGGED, Quantity, Translation

if TYPE_CHECKING:
    from latentgauge.job import Job

WIDTH = 100
_MOST_ROWS = 32
_MOST_CLASSES = 12
_MOST_TELLING = 3
_WORDS = ("id", "outcome", "state", "verdict")  # columns of single words, never broken
_STYLES = {
    "active": "green",
    "collapsed": "red",
    "off-prior": "yellow",
    "undecided": "cyan",
    "pass": "bold green",
    "fail": "bold red",
    "inconclusive": "bold yellow",
    "succeeded": "green",
    "failed": "red",
    "canceled": "yellow",
    "none": "green",
    "partial": "yellow",
    "full": "red",
}


def render_report(
    report: Report, verdict: Verdict | None = None, *, width: int = WIDTH, color: bool = False
) -> str:
    """The answers first, then the dimensions, labels, warnings and the verdict."""
    return _text(_report(report, verdict), width=width, color=color)


def render_verdict(verdict: Verdict, *, width: int = WIDTH, color: bool = False) -> str:
    """Every gate with what was observed, what was wanted, and what would decide it."""
    return _text(_verdict(verdict), width=width, color=color)


def render_translation(told: Translation, *, width: int = WIDTH, color: bool = False) -> str:
    """One row a quantity: the right figure, this data set's, the log's; then why they differ."""
    return _text(_translation(told), width=width, color=color)


def render_comparison(found: Comparison, *, width: int = WIDTH, color: bool = False) -> str:
    """Head less base: the whole code's differences, the matched latents, warnings."""
    return _text(_comparison(found), width=width, color=color)


def render_job(
    job: Job,
    *,
    address: str,
    report: Report | None = None,
    width: int = WIDTH,
    color: bool = False,
) -> str:
    """Where a job stands; its report and verdict when it has them."""
    parts = [*_job(job, address), *([] if report is None else _report(report, job.verdict))]
    return _text(parts, width=width, color=color)


def render_jobs(jobs: Sequence[Job], *, width: int = WIDTH, color: bool = False) -> str:
    """One row a job, in the order given."""
    table = _table("id", "state", "verdict", "created", "tags")
    for job in jobs:
        table.add_row(
            Text(clean(job.id)),
            _styled(job.state),
            _styled(job.verdict.outcome if job.verdict else ""),
            _moment(job.created_at),
            _tags(job.tags),
        )
    return _text([table if jobs else Text("no jobs")], width=width, color=color)


def _text(parts: Iterable[RenderableType], *, width: int, color: bool) -> str:
    """Markup, emoji codes and highlighting are off: all text here may be a stranger's."""
    console = Console(
        file=StringIO(),
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _report(report: Report, verdict: Verdict | None) -> Iterator[RenderableType]:
    yield Text(f"latentgauge: {subject(report)}", style="bold")
    yield ""
    yield _lines(headline(report))
    for reason in report.collapse.reasons:
        yield Padding(Text(f"- {clean(reason)}"), (0, 0, 0, 2))
    if remark := negative(report):
        yield Text(remark, style="italic")
    yield ""
    yield from _dimensions(report.dimensions)
    if report.labels is not None:
        yield from _labels(report.labels)
    yield from _estimators(report)
    yield from _warnings(report)
    if verdict is not None:
        yield from _verdict(verdict)


def _lines(lines: Iterable[Line]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(min_width=24)
    grid.add_column(style="dim")
    for line in lines:
        value = Text(clean(line.value), style=_STYLES.get(line.value, "bold"))
        grid.add_row(Text(clean(line.name)), value, Text(clean(line.note)))
    return grid


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in names:
        side: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=side, overflow="fold", no_wrap=name in _WORDS)
    return table


def _styled(word: str) -> Text:
    return Text(clean(word), style=_STYLES.get(word, ""))


def _dimensions(dimensions: Sequence[Dimension]) -> Iterator[RenderableType]:
    folded = fold(dimensions, limit=_MOST_ROWS)
    named = has_names(dimensions)
    yield Text(f"Dimensions, in {UNIT}", style="bold")
    columns = ["j", *["name"] * named, "state", "KL_j", "I_j", "Var mu"]
    table = _table(*columns, right=("j", "KL_j", "Var mu"))
    for d in folded.shown:
        table.add_row(
            str(d.index),
            *[Text(clean(d.name))] * named,
            _styled(d.state),
            interval(d.kl) if d.kl.value is None else number(d.kl.value),
            interval(d.mutual_information),
            number(d.variance_of_mean),
        )
    yield table
    if folded.rest:
        yield Text(folded.rest)
        yield ""


def _labels(labels: LabelInformation) -> Iterator[RenderableType]:
    yield Text(f"Labels, in {UNIT}", style="bold")
    yield ""
    yield _lines(label_lines(labels))
    yield Text(f"classes: {class_counts(labels, limit=_MOST_CLASSES)}")
    if labels.per_dimension:
        yield Text(f"dimensions that tell most: {telling(labels, most=_MOST_TELLING)}")
    if labels.slices:
        yield from _slices(labels)
    yield ""


def _slices(labels: LabelInformation) -> Iterator[RenderableType]:
    yield ""
    yield Text(f"Each class alone, in {UNIT}", style="bold")
    table = _table(*SLICE_COLUMNS, right=("rows", "KL", "gone"))
    for cells in slice_rows(labels, limit=_MOST_CLASSES):
        table.add_row(*[_styled(cell) if cell in _STYLES else Text(cell) for cell in cells])
    yield table
    more = len(labels.classes) - _MOST_CLASSES
    if more > 0:
        yield Text(f"and {more} more classes: see the JSON report")


def _warnings(report: Report | Comparison) -> Iterator[RenderableType]:
    if not report.warnings:
        return
    yield Text("Warnings", style="bold")
    for warning in report.warnings:
        where = f" ({clean(warning.where)})" if warning.where else ""
        text = Text(f"{clean(warning.code)}{where}: {clean(warning.message)}", style="yellow")
        yield Padding(text, (0, 0, 0, 2))
    yield ""


def _estimators(report: Report) -> Iterator[RenderableType]:
    named = named_estimators(report)
    if not named:
        return
    yield Text(f"Estimators by name, in {UNIT}", style="bold")
    table = _table("estimator", "figure", "reads")
    for line in estimator_lines(named):
        table.add_row(*(Text(clean(cell)) for cell in line))
    yield table
    for name, result in named.items():
        yield Padding(Text(clean(estimator_reason(name, result))), (0, 0, 0, 2))
    yield ""


def _translation(told: Translation) -> Iterator[RenderableType]:
    yield Text(
        f"latentgauge: what a log shows for batches of {told.batch_size:,} out of "
        f"{told.train_size:,} rows",
        style="bold",
    )
    yield Text(
        f"{told.n:,} rows, {told.d} latent dimension{'s' * (told.d != 1)}; figures in {UNIT}, "
        f"intervals at {percent(told.confidence)}"
    )
    table = _table("", "right", "this data set", *LOGGED, right=LOGGED)
    for name, quantity in told.quantities.items():
        table.add_row(_QUANTITIES[name], *_figures(quantity))
    yield table
    information = told.quantities["mutual_information"]
    if any(
        (e.value or 0.0) < -ROUNDING for e in (information.dataset, *information.logged.values())
    ):
        yield Text("An information below 0 is sampling error, shown as it is.", style="italic")
    yield Text("Why they differ from the right figure:")
    for name, reason in told.reasons.items():
        yield Padding(Text(f"{name}: {clean(reason)}"), (0, 0, 0, 2))


_QUANTITIES = {
    "mutual_information": "mutual information",
    "total_correlation": "total correlation",
    "dimensionwise_kl": "dimension-wise KL",
    "kl": "KL",
}


def _figures(quantity: Quantity) -> Iterator[str]:
    right = quantity.population
    yield interval(right) if right.value is None else estimate(right)
    yield _logged(quantity.dataset, "not known")
    for name in LOGGED:
        yield _logged(quantity.logged.get(name, Estimate()), "-")


def _logged(e: Estimate, otherwise: str) -> str:
    return otherwise if e.value is None else logged(e.value)


def _comparison(found: Comparison) -> Iterator[RenderableType]:
    yield Text("latentgauge: head less base", style="bold")
    yield Text(
        f"{found.n:,} rows; base {found.base.d}, head {found.head.d} latent dimensions; figures "
        f"in {UNIT}, intervals at {percent(found.confidence)}"
    )
    yield _table_of_codes(found)
    yield Text(
        "An interval without a value is as wide as gap, which the bounds of both codes leave "
        "open, and sampling."
    )
    told = found.mutual_information
    if told.lower_difference.value is not None:
        yield Text(
            f"The bounds on I(X;Z) themselves differ by {estimate(told.lower_difference)} (lower) "
            f"and {estimate(told.upper_difference)} (upper): estimates, that bound nothing."
        )
    yield ""
    yield from _pairs(found)
    yield from _warnings(found)


def _table_of_codes(found: Comparison) -> Table:
    table, b, h = (
        _table("", "base", "head", "head less base", "gap", "sampling"),
        found.base,
        found.head,
    )
    for name, base, head, both in (
        ("KL", b.kl, h.kl, found.kl),
        ("I_N", b.dataset_information, h.dataset_information, found.dataset_information),
    ):
        cells = _logged(base, "not known"), _logged(head, "not known"), _told(both)
        table.add_row(name, *cells, "-", "-")
    mine = (interval(x.mutual_information) for x in (b, h))
    table.add_row("I(X;Z)", *mine, *_bounded(found.mutual_information))
    table.add_row("TC", "-", "-", *_bounded(found.total_correlation))
    return table


def _pairs(found: Comparison) -> Iterator[RenderableType]:
    yield Text("Matched dimensions", style="bold")
    table = _table("base", "head", "correlation", "KL_j", "I_j", "gap", "sampling")
    for d in found.dimensions[:_MOST_ROWS]:
        correlation = "-" if d.correlation is None else f"{d.correlation:.3f}"
        row = _logged(d.kl, "not known"), *_bounded(d.mutual_information)
        table.add_row(str(d.base), str(d.head), correlation, *row)
    yield table
    if len(found.dimensions) > _MOST_ROWS:
        yield Text(f"and {len(found.dimensions) - _MOST_ROWS} more: see --format json")
    for name, side in (("base", found.base), ("head", found.head)):
        lone = ", ".join(
            f"{x.index} (I_j {interval(x.mutual_information)})" for x in side.unmatched
        )
        if lone:
            yield Text(f"only in the {name}: {lone}")


def _told(e: Estimate) -> str:
    return "not known" if e.value is None else estimate(e)


def _bounded(d: BoundedDifference) -> tuple[str, str, str]:
    width = ("not known" if x is None else number(x) for x in (d.gap, d.sampling))
    gap, sampling = width
    return interval(Estimate(lower=d.lower, upper=d.upper)), gap, sampling


def _verdict(verdict: Verdict) -> Iterator[RenderableType]:
    yield Text("Verdict: ", style="bold") + Text(
        OUTCOMES[verdict.outcome], style=_STYLES[verdict.outcome]
    )
    table = _table("gate", "outcome", "observed", "wanted", "why, and what would decide it")
    for gate in verdict.gates:
        why = "; ".join(part for part in (gate.reason, gate.decide) if part)
        table.add_row(
            Text(clean(gate.expression)),
            _styled(gate.outcome),
            Text(clean(gate.observed)),
            Text(clean(gate.wanted)),
            Text(clean(why)),
        )
    yield table


def _job(job: Job, address: str) -> Iterator[RenderableType]:
    yield Text("job ", style="bold") + Text(clean(address), no_wrap=True)
    moments = {"created": job.created_at, "started": job.started_at, "finished": job.finished_at}
    facts = [
        ("state", job.state + (f", attempt {job.attempt}" if job.attempt > 1 else "")),
        *((name, _moment(at)) for name, at in moments.items() if at is not None),
        *((name, digest) for name, digest in job.inputs if digest),
        ("gates", "; ".join(job.gates)),
        ("tags", _tags(job.tags).plain),
        ("verdict", job.verdict.outcome if job.verdict else ""),
        ("error", "" if job.error is None else str(job.error.get("code", "unknown"))),
    ]
    if job.progress is not None and job.state == "running":
        at = f"{job.progress.stage}, {100 * job.progress.fraction:.0f}%"
        facts.insert(1, ("stage", at))
    yield _lines(Line(name, value, "") for name, value in facts if value)
    yield ""


def _tags(tags: dict[str, str]) -> Text:
    return Text(" ".join(f"{clean(key)}={clean(value)}" for key, value in sorted(tags.items())))


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
