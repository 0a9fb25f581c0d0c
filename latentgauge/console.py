"""What is said to a person and to a pipe: the answer on stdout, all else on stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from latentgauge.arguments import unwritable
from latentgauge.errors import LatentgaugeError
from latentgauge.gates import Verdict
from latentgauge.render import ENDINGS, render, table
from latentgauge.render.words import clean
from latentgauge.report import Report

Reporter = Callable[[str, float], None]


def look() -> dict[str, Any]:
    """Width and color that fit stdout."""
    if not sys.stdout.isatty():
        return {}
    width = max(60, shutil.get_terminal_size((table.WIDTH, 24)).columns)
    return {"width": width, "color": "NO_COLOR" not in os.environ}


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def speak_utf8() -> None:
    """JSON and HTML are UTF-8 whatever the locale says."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def to_stdout(text: str) -> None:
    """A reader that has seen enough changes no exit status."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def to_stderr(text: str) -> None:
    print(text.rstrip("\n"), file=sys.stderr, flush=True)  # noqa: T201


def write_files(report: Report, verdict: Verdict | None, files: Sequence[Path]) -> None:
    for path in files:
        text = render(report, form=ENDINGS[path.suffix.lower()], verdict=verdict)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise unwritable(path, str(error.strerror)) from error


@contextmanager
def showing_progress() -> Iterator[Reporter]:
    """A bar on a terminal, one line a change of stage otherwise."""
    if not sys.stderr.isatty():
        yield progress_lines(to_stderr)
        return
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=clean(stage), completed=fraction)


def progress_lines(write: Callable[[str], None]) -> Reporter:
    """Writes a stage when it is another than the last one."""
    last = ""

    def progress(stage: str, _: float) -> None:
        nonlocal last
        if stage != last:
            last = stage
            write(clean(stage))

    return progress


def explained(fault: LatentgaugeError) -> str:
    """Code, reason and remedy, one a line, for a person."""
    facts = {
        "reason": fault.detail,
        "expected": fault.expected,
        "got": fault.got,
        "what to do": fault.remedy,
    }
    lines = [f"  {name}: {clean(told)}" for name, told in facts.items() if told]
    return "\n".join([f"latentgauge: {fault.code}: {fault.title}", *lines])
