"""A report as one plain page: no script, nothing fetched, every text escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from html import escape
from math import ceil, floor, log10

from latentgauge.gates import Verdict
from latentgauge.render.words import (
    OUTCOMES,
    SLICE_COLUMNS,
    UNIT,
    Line,
    answer,
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
    named_estimators,
    negative,
    number,
    slice_rows,
    subject,
    telling,
)
from latentgauge.report import Dimension, LabelInformation, Report

_MOST_ROWS = 256
# A chart of nothing looks like nothing: its axis reaches this many nats at least.
_LEAST_TOP = 0.1
_MOST_CLASSES = 40
_MOST_TELLING = 12
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CHART_WIDTH, _CHART_HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 260, 52, 34, 10

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1b1f24; --soft: #5a6472;
  --line: #d9dee5; --card: #f5f7fa; --active: #2563a8; --collapsed: #c2410c;
  --off-prior: #a16207; --undecided: #7c8694; --pass: #166534; --fail: #b91c1c;
  --inconclusive: #92600a; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --ink: #e6e9ee;
  --soft: #9aa5b3; --line: #2f353d; --card: #1d2127; --active: #6aa9ee; --collapsed: #f08a55;
  --off-prior: #d9b04a; --undecided: #8a95a3; --pass: #5cc98a; --fail: #f47c7c;
  --inconclusive: #e3b04b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 2rem 1.25rem 4rem; background: var(--back);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.3; margin: .25rem 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
p { margin: .4rem 0; }
.soft, .soft * { color: var(--soft); }
.badge { display: inline-block; font-weight: 700; padding: .1rem .6rem; border-radius: .3rem;
  border: 2px solid currentColor; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr));
  gap: .75rem; margin: 1.25rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem .9rem; }
.card b { display: block; font-size: 1.1rem; overflow-wrap: anywhere; }
.card small, .card > span { color: var(--soft); }
.card > span { font-size: .8rem; text-transform: uppercase; letter-spacing: .03em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
.active { color: var(--active); } .collapsed, .full { color: var(--collapsed); }
.off-prior, .partial { color: var(--off-prior); } .undecided { color: var(--undecided); }
.pass, .none { color: var(--pass); } .fail { color: var(--fail); }
.inconclusive { color: var(--inconclusive); }
.warning { border-left: 3px solid var(--inconclusive); padding-left: .7rem; margin: .5rem 0; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg .grid { stroke: var(--line); }
svg .sure { fill: currentColor; } svg .maybe { fill: currentColor; fill-opacity: .3; }
svg .whisker { stroke: currentColor; stroke-width: 1.5; }
details { margin-top: 1rem; } summary { cursor: pointer; font-weight: 600; }
code { font-size: .88em; } ul { margin: .2rem 0; padding-left: 1.4rem; }
h1, p, li { overflow-wrap: anywhere; }
.legend span { margin-right: 1.1rem; } .legend span::before { content: "\\25A0\\00A0"; }
"""


def render_report(report: Report, verdict: Verdict | None = None) -> str:
    """The page, the answer first. A report of 64 dimensions stays far under 500 kB."""
    parts = [
        *_opening(report, verdict),
        *_cards(headline(report)),
        *_reasons(report),
        *_verdict(verdict),
        *_warnings(report),
        *_dimensions(report.dimensions),
        *_labels(report.labels),
        *_decomposition(report),
        *_estimators(report),
        *_particulars(report),
    ]
    title = _text(f"latentgauge report {report.digest[:12]}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    return escape(clean(str(text)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already."""
    kinds = [' class="right"' if at in right else "" for at in range(len(head))]
    top = "".join(f"<th{kind}>{cell}</th>" for kind, cell in zip(kinds, head, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table>\n<tr>{top}</tr>\n{body}\n</table></div>'


def _marked(word: str) -> str:
    return f'<span class="{_text(word)}">{_text(word)}</span>'


def _opening(report: Report, verdict: Verdict | None) -> Iterator[str]:
    if verdict is not None:
        told = OUTCOMES[verdict.outcome]
        yield f'<p><span class="badge {verdict.outcome}">{told}</span></p>'
    yield f"<h1>{_text(answer(report))}</h1>"
    yield f'<p class="soft">{_text(subject(report))}</p>'


def _cards(lines: Iterable[Line]) -> Iterator[str]:
    yield '<div class="cards">'
    for line in lines:
        value = _marked(line.value) if line.value.isalpha() else _text(line.value)
        yield (
            f'<div class="card"><span>{_text(line.name)}</span><b>{value}</b>'
            f"<small>{_text(line.note)}</small></div>"
        )
    yield "</div>"


def _reasons(report: Report) -> Iterator[str]:
    if report.collapse.reasons:
        told = "".join(f"<li>{_text(reason)}</li>" for reason in report.collapse.reasons)
        yield f"<p>Why collapse is {_marked(report.collapse.verdict)}:</p><ul>{told}</ul>"


def _verdict(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        return
    yield "<h2>Verdict</h2>"
    yield _table(
        ("gate", "outcome", "observed", "wanted", "why, and what would decide it"),
        (
            (
                f"<code>{_text(gate.expression)}</code>",
                _marked(gate.outcome),
                _text(gate.observed),
                _text(gate.wanted),
                _text("; ".join(part for part in (gate.reason, gate.decide) if part)),
            )
            for gate in verdict.gates
        ),
    )


def _warnings(report: Report) -> Iterator[str]:
    if remark := negative(report):
        yield f'<p class="soft">{_text(remark)}</p>'
    if report.warnings:
        yield "<h2>Warnings</h2>"
    for warning in report.warnings:
        where = f" <code>{_text(warning.where)}</code>" if warning.where else ""
        yield (
            f'<p class="warning"><b>{_text(warning.code)}</b>{where}: {_text(warning.message)}</p>'
        )


def _dimensions(dimensions: Sequence[Dimension]) -> Iterator[str]:
    folded = fold(dimensions, limit=_MOST_ROWS)
    yield f"<h2>Information I_j of each dimension, in {UNIT}</h2>"
    yield _chart(folded.shown)
    states = dict.fromkeys(d.state for d in folded.shown)
    legend = " ".join(_marked(state) for state in states)
    yield (
        f'<p class="soft">Solid: at least this much. Pale: up to the upper bound.</p>'
        f'<p class="legend">{legend}</p>'
    )
    named = has_names(dimensions)
    yield _table(
        ("j", *["name"] * named, "state", "KL_j", "I_j", "mean", "Var mu", "mean sigma²"),
        (
            (
                str(d.index),
                *[_text(d.name)] * named,
                _marked(d.state),
                _text(estimate(d.kl)),
                _text(interval(d.mutual_information)),
                number(d.mean),
                number(d.variance_of_mean),
                number(d.mean_of_variance),
            )
            for d in folded.shown
        ),
        right=(0, 4 + named, 5 + named, 6 + named),
    )
    if folded.rest:
        yield f"<p>{_text(folded.rest)}</p>"


def _chart(dimensions: Sequence[Dimension]) -> str:
    """One bar a dimension: solid to the lower bound of I_j, pale to the upper one."""
    ends = [end for d in dimensions for end in _ends(d) if end is not None]
    ticks = _ticks(max([*ends, _LEAST_TOP]))
    step = (_CHART_WIDTH - _LEFT) / max(len(dimensions), 8)
    parts = [_gridline(tick, ticks[-1]) for tick in ticks]
    parts += [_bar(d, _LEFT + at * step, step, ticks[-1]) for at, d in enumerate(dimensions)]
    every = ceil(30 / step)
    parts += [
        f'<text x="{_LEFT + (at + 0.5) * step:.1f}" y="{_CHART_HEIGHT - 16}" '
        f'text-anchor="middle">{d.index}</text>'
        for at, d in enumerate(dimensions)
        if at % every == 0
    ]
    return (
        f'<svg viewBox="0 0 {_CHART_WIDTH} {_CHART_HEIGHT}" role="img" '
        f'aria-label="Intervals of I_j, in {UNIT}, by dimension">\n' + "\n".join(parts) + "\n"
        f'<text x="{_CHART_WIDTH}" y="{_CHART_HEIGHT - 2}" text-anchor="end">dimension j</text>'
        "\n</svg>"
    )


def _ends(dimension: Dimension) -> tuple[float | None, float | None]:
    return dimension.mutual_information.lower, dimension.mutual_information.upper


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 to the first that is not below `top`."""
    unit: float = 10.0 ** floor(log10(top))
    step = next(s * unit for s in (0.2, 0.25, 0.5, 1, 2, 2.5) if s * unit * 5 >= top)
    return [step * at for at in range(ceil(top / step - 1e-9) + 1)]


def _height(value: float, top: float) -> float:
    share = min(max(value / top, 0.0), 1.0)
    return _TOP + (_CHART_HEIGHT - _BOTTOM - _TOP) * (1 - share)


def _gridline(tick: float, top: float) -> str:
    y = _height(tick, top)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_CHART_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>'
    )


def _bar(dimension: Dimension, x: float, step: float, top: float) -> str:
    lower, upper = _ends(dimension)
    floor_y = _height(0.0, top)
    sure, most = _height(lower or 0.0, top), _height(top if upper is None else upper, top)
    left, width, middle = x + 0.15 * step, 0.7 * step, x + 0.5 * step
    told = _text(
        f"{dimension.index} {dimension.name}, {dimension.state}: "
        f"{interval(dimension.mutual_information)}"
    )
    return (
        f'<g class="{dimension.state}"><title>{told}</title>'
        f'<rect class="sure" x="{left:.1f}" y="{sure:.1f}" width="{width:.1f}" '
        f'height="{floor_y - sure:.1f}"/>'
        f'<rect class="maybe" x="{left:.1f}" y="{most:.1f}" width="{width:.1f}" '
        f'height="{max(sure - most, 0):.1f}"/>'
        f'<line class="whisker" x1="{middle:.1f}" x2="{middle:.1f}" y1="{sure:.1f}" '
        f'y2="{most:.1f}"/></g>'
    )


def _labels(labels: LabelInformation | None) -> Iterator[str]:
    if labels is None:
        return
    yield f"<h2>Labels, in {UNIT}</h2>"
    yield _table(
        ("", "", ""),
        ((_text(x.name), _text(x.value), _text(x.note)) for x in label_lines(labels)),
    )
    yield f'<p class="soft">Classes: {_text(class_counts(labels, limit=_MOST_CLASSES))}</p>'
    if labels.per_dimension:
        told = _text(telling(labels, most=_MOST_TELLING))
        yield f'<p class="soft">Dimensions that tell most, I(z_j;Y): {told}</p>'
    if labels.slices:
        yield "<h2>Each class alone</h2>"
        yield _table(
            SLICE_COLUMNS,
            (
                (*map(_text, cells[:5]), _marked(cells[5]), *map(_text, cells[6:]))
                for cells in slice_rows(labels, limit=_MOST_CLASSES)
            ),
            right=(1, 2, 6),
        )


def _decomposition(report: Report) -> Iterator[str]:
    here = report.dataset_decomposition
    parts = [
        ("KL", here.kl, report.kl),
        ("information", here.information, report.mutual_information),
        ("total correlation", here.total_correlation, report.total_correlation),
        ("dimension-wise KL", here.dimensionwise_kl, report.dimensionwise_kl),
        ("marginal KL", here.marginal_kl, report.marginal_kl),
    ]
    yield f"<h2>KL of this data set in three parts, in {UNIT}</h2>"
    yield '<p class="soft">KL = information I_N + total correlation + dimension-wise KL</p>'
    yield _table(
        ("part", "this data set", "population"),
        ((name, _text(estimate(own)), _text(estimate(all_))) for name, own, all_ in parts),
    )


def _estimators(report: Report) -> Iterator[str]:
    named = named_estimators(report)
    if not named:
        return
    yield f"<h2>Estimators by name, in {UNIT}</h2>"
    yield _table(
        ("estimator", "figure", "reads"),
        (tuple(_text(cell) for cell in line) for line in estimator_lines(named)),
    )
    told = "".join(f"<li>{_text(estimator_reason(*each))}</li>" for each in named.items())
    yield f"<ul>{told}</ul>"


def _particulars(report: Report) -> Iterator[str]:
    """What was measured, how, and where: closed until somebody asks."""
    created = report.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield "<details><summary>Inputs, options, probes, environment</summary>"
    facts = [("created", created), ("digest", report.digest), ("schema", report.schema_name)]
    facts += [("latentgauge", report.latentgauge_version)]
    facts += [("estimator version", report.estimator_version)]
    for name, part in (("", report.inputs), ("option ", report.options)):
        given = part.model_dump(mode="json", exclude_none=True)
        facts += [(name + key, json.dumps(value)) for key, value in given.items()]
    facts += [(f"probe {p.probe}", f"{_passed(p.passed)}: {p.detail}") for p in report.preflight]
    facts += [(key, str(value)) for key, value in report.environment]
    facts += [(f"seconds, {stage}", number(spent)) for stage, spent in report.timings.items()]
    yield _table(("", ""), ((_text(key), f"<code>{_text(value)}</code>") for key, value in facts))
    yield "</details>"


def _passed(passed: bool) -> str:
    return "passed" if passed else "not passed"
