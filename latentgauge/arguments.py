"""What a command line says, checked before any work is done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_origin

from latentgauge.errors import InvalidRequest
from latentgauge.options import Options, parse_options
from latentgauge.render import ENDINGS, Format


@dataclass(frozen=True)
class Output:
    """Where a report goes: a format for stdout, and files."""

    form: Format
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Inputs:
    """An encoder and its data, or a posterior table."""

    encoder: Path | None = None
    dataset: Path | None = None
    posterior: Path | None = None


def given_options(given: Mapping[str, str | bool | None]) -> Options:
    """The options whose text was given or switch was set, checked; the others have defaults."""
    return parse_options(
        {
            name: option_value(name, text) if isinstance(text, str) else text
            for name, text in given.items()
            if text is not None
        }
    )


def option_value(name: str, text: str) -> object:
    """JSON where it is JSON, else a word, or words between commas where the option is a list.

    Brackets around these may be left out, as may the 0 before a point.
    """
    try:
        return json.loads(text)
    except ValueError:
        annotation = Options.model_fields[name].annotation
        is_list = any(get_origin(a) is list for a in (annotation, *get_args(annotation)))
        return [word.strip() for word in text.strip("[] ").split(",")] if is_list else text


def checked_inputs(first: Path, second: Path | None) -> Inputs:
    """The files, which exist and can be read."""
    for path in (first, second):
        if path is not None:
            _check_readable(path)
    if second is None:
        return Inputs(posterior=first)
    return Inputs(encoder=first, dataset=second)


def _check_readable(path: Path) -> None:
    if path.is_file() and os.access(path, os.R_OK):
        return
    found = "a folder" if path.is_dir() else "no file that can be read"
    raise InvalidRequest(
        f"cannot read {path}", expected="a file", got=found, remedy="check the path"
    )


def checked_output(form: Format, files: Sequence[Path], *, has_report: bool = True) -> Output:
    """Where the report goes; what could not be written is refused before there is one."""
    if files and not has_report:
        raise InvalidRequest(
            "-o needs a report, and submit does not wait for one",
            expected="--wait beside -o",
            got="-o without --wait",
            remedy="add --wait, or fetch the report later with latentgauge wait",
        )
    for path in files:
        _check_writable(path)
    return Output(form, tuple(files))


def _check_writable(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise InvalidRequest(
            f"the ending of {path} names no format",
            expected="one of " + ", ".join(ENDINGS),
            got=path.suffix or "no ending",
            remedy="rename the file",
        )
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(_existing(path), os.W_OK):
        raise unwritable(path, "a folder" if path.is_dir() else f"cannot write in {folder}")


def _existing(path: Path) -> Path:
    return path if path.exists() else path.parent


def unwritable(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot write {path}",
        expected="a file in a folder that exists and can be written",
        got=reason,
        remedy="create the folder, or name another file",
    )


def parsed_tags(pairs: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals) or key in tags:
            raise InvalidRequest(
                f"the tag {pair!r} cannot be used",
                expected="KEY=VALUE, each key once",
                got=f"{key!r} again" if key in tags else pair,
                remedy="write it as branch=main",
            )
        tags[key] = value
    return tags


def parsed_target(target: str, server: str) -> tuple[str, str]:
    """The service and the id of a job given as an address or as an id."""
    address = re.fullmatch(r"(https?://.+)/v1/jobs/([^/?#]+)", target)
    if address:
        return address[1], address[2]
    if re.fullmatch(r"[\w.-]+", target):
        return server, target
    raise InvalidRequest(
        f"{target!r} names no job",
        expected="an id, or an address such as http://HOST:PORT/v1/jobs/ID",
        got=target,
        remedy="give what submit printed",
    )


def asked_format(arguments: Sequence[str]) -> str:
    """The --format of a command line that may be wrong elsewhere; empty without one."""
    found = re.findall(r"(?:^|\0)--format[=\0]([^\0]*)", "\0".join(arguments))
    return str(found[-1]) if found else ""
