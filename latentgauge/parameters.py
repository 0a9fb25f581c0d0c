"""What the commands take: parameters that they share, and one for every option of an analysis."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.markup import escape

from latentgauge.arguments import given_options
from latentgauge.options import Options
from latentgauge.render import Format

Inconclusive = Literal["fail", "pass", "report"]

First = Annotated[
    Path,
    typer.Argument(
        metavar="ENCODER|POSTERIOR", help="An encoder, or a posterior table without DATA."
    ),
]
Second = Annotated[
    Path | None, typer.Argument(metavar="DATA", help="The data set for the encoder.")
]
Target = Annotated[str, typer.Argument(metavar="JOB", help="A job's address, or its id.")]
Require = Annotated[
    list[str] | None,
    typer.Option(metavar="EXPR", help="A gate, such as 'mutual_information >= 3'. Repeatable."),
]
OnInconclusive = Annotated[
    Inconclusive,
    typer.Option(help="What an inconclusive verdict exits with: 1, 0, or its own status 3."),
]
Form = Annotated[Format, typer.Option("--format", help="What goes to stdout.")]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Also a file: .json, .html or .txt. Repeatable."
    ),
]
Server = Annotated[
    str, typer.Option(envvar="LATENTGAUGE_SERVER", metavar="URL", help="The service's address.")
]
Deadline = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.0, help="How long to wait for the job's end.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag. Repeatable.")
]


def takes_options(command: Callable[..., int]) -> Callable[..., int]:
    """The command with a parameter for every field of `Options`, gathered into `options`."""
    return takes_options_but()(command)


def takes_options_but(*own_names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """`takes_options` for a command that says itself what these options are."""
    names = [name for name in Options.model_fields if name not in own_names]

    def taking(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def gathering(**arguments: Any) -> int:
            given = {name: arguments.pop(name) for name in names}
            return command(**arguments, options=given_options(given))

        signature = inspect.signature(command, eval_str=True)
        own = [p for name, p in signature.parameters.items() if name != "options"]
        parameters = [*own, *(_parameter(name) for name in names)]
        replaced = signature.replace(parameters=parameters)
        gathering.__signature__ = replaced  # type: ignore[attr-defined]
        gathering.__annotations__ = {p.name: p.annotation for p in parameters}
        return gathering

    return taking


def _parameter(name: str) -> inspect.Parameter:
    field = Options.model_fields[name]
    told = f"{field.description} Default: {json.dumps(field.default)}."
    switch = field.annotation is bool
    option = typer.Option(
        flag(name),
        metavar=None if switch else _metavar(field.annotation),
        help=escape(told),
        rich_help_panel="Analysis",
        show_default=False,
    )
    kind = inspect.Parameter.KEYWORD_ONLY
    taken = bool | None if switch else str | None
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[taken, option])


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is list:
        return _metavar(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return {int: "INTEGER", float: "NUMBER"}.get(annotation, "VALUE")
