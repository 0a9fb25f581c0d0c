"""`latentgauge translate`: what a training log would show, beside the right figures."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from latentgauge.arguments import checked_inputs
from latentgauge.console import as_json, look, showing_progress, to_stdout
from latentgauge.measured import measured
from latentgauge.options import LARGEST_MINIBATCH, Options
from latentgauge.parameters import First, Second, takes_options_but
from latentgauge.render import table
from latentgauge.translation import translating_options, translation

BatchSize = Annotated[
    int,
    typer.Option(metavar="B", min=2, max=LARGEST_MINIBATCH, help="Rows of a minibatch of the log."),
]
TrainSize = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=2, help="Rows of the training set of the log; those here without it."
    ),
]


@takes_options_but("batch_size", "estimators", "minibatch", "train_size")
def translate(
    encoder: First,
    data: Second = None,
    *,
    options: Options,
    batch_size: BatchSize,
    train_size: TrainSize = None,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="What goes to stdout.")
    ] = "table",
) -> int:
    """Print what a training log would show beside the right figures."""
    asked = translating_options(options, batch_size=batch_size, train_size=train_size)
    inputs = checked_inputs(encoder, data)
    with showing_progress() as progress:
        told = translation(measured(inputs, asked, progress))
    if form == "json":
        to_stdout(as_json(told.model_dump(mode="json")))
    else:
        to_stdout(table.render_translation(told, **look()))
    return 0
