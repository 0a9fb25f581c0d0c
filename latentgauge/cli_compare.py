"""`latentgauge compare`: what two encoders of the same rows differ by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from latentgauge.arguments import checked_inputs
from latentgauge.console import look, showing_progress, to_stdout
from latentgauge.measured import compared
from latentgauge.options import Options
from latentgauge.parameters import takes_options_but
from latentgauge.render import table

USED = ("device", "samples", "seed", "thorough", "confidence")

Base = Annotated[Path, typer.Argument(metavar="BASE", help="A posterior table.")]
Head = Annotated[
    Path, typer.Argument(metavar="HEAD", help="Another encoder's table of the same rows.")
]


@takes_options_but(*(name for name in Options.model_fields if name not in USED))
def compare(
    base: Base,
    head: Head,
    *,
    options: Options,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="What goes to stdout.")
    ] = "table",
) -> int:
    """Print what two posterior tables of the same rows differ by, HEAD less BASE."""
    checked_inputs(base, head)
    with showing_progress() as progress:
        found = compared(base, head, options, progress)
    to_stdout(found.to_json() if form == "json" else table.render_comparison(found, **look()))
    return 0
