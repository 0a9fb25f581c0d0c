"""A report in the format that somebody asked for, and the format that a file's ending asks for."""

from __future__ import annotations

from typing import Literal

from latentgauge.gates import Verdict
from latentgauge.render import html, table
from latentgauge.report import Report

Format = Literal["table", "json", "html"]

ENDINGS: dict[str, Format] = {".json": "json", ".html": "html", ".txt": "table"}


def render(
    report: Report,
    *,
    form: Format,
    verdict: Verdict | None = None,
    width: int = table.WIDTH,
    color: bool = False,
) -> str:
    """The report as text. JSON is the report alone: a verdict is never part of it."""
    if form == "json":
        return report.to_json()
    if form == "html":
        return html.render_report(report, verdict)
    return table.render_report(report, verdict, width=width, color=color)


__all__ = ["ENDINGS", "Format", "render"]
