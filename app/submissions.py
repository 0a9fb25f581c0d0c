"""From a request's body, JSON or a form, to a checked submission."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from app.dependencies import Service
from app.doors import FORM, media_type
from app.uploads import store
from jobs.blobs import full_disk_said
from jobs.job import Inputs, Submission
from jobs.queue import QUEUES
from latentgauge.errors import (
    DeviceUnavailable,
    InvalidRequest,
    NotFound,
    UploadIncomplete,
)
from latentgauge.gates import parse_gates
from latentgauge.options import Options, parse_options

_FILES = ("encoder", "dataset", "posterior")
_FIELDS = ("options", "gates", "tags")
_SHA256 = Field(default=None, pattern="^[0-9a-f]{64}$", description="Digest of an artifact.")
TAG_KEY = re.compile(r"[\w.-]{1,100}")
_TAG_LENGTH = 500
# What UTF-8 cannot carry, and the one character that PostgreSQL cannot store.
_UNSTORABLE = re.compile("[\ud800-\udfff\x00]")


class JobRequest(BaseModel):
    """An encoder and a data set, or a posterior table; what to measure; what to require."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "encoder": "0" * 64,
                    "dataset": "1" * 64,
                    "options": {"input_scale": 255},
                    "gates": ["mutual_information >= 3 bits", "collapse.verdict != full"],
                    "tags": {"branch": "main"},
                }
            ]
        },
    )

    encoder: str | None = _SHA256
    dataset: str | None = _SHA256
    posterior: str | None = _SHA256
    options: dict[str, Any] = Field(default={}, description="See the report's `options`.")
    gates: list[str] = Field(default=[], max_length=100)
    tags: dict[str, str] = Field(default={}, max_length=50)


@dataclass(frozen=True)
class Posted:
    """What a request said: its fields, and files of a form that are not stored yet."""

    fields: dict[str, Any]
    files: Mapping[str, UploadFile]


@asynccontextmanager
async def closing_form(request: Request) -> AsyncIterator[None]:
    """Lets the files of the request's form go at the end of the block."""
    try:
        yield
    finally:
        await request.close()


async def read_request(request: Request) -> Posted:
    """The fields and files of a POST, read whole.

    Raises:
        InvalidRequest: no JSON and no form.
        UploadIncomplete: the connection ended before the body did.
        StorageFull: no room for a form's files.
    """
    try:
        if media_type(request.headers.get("content-type", "")) == FORM:
            return _posted(await _form(request))
        return Posted(_object(_parsed(await request.body(), "the body")), {})
    except ClientDisconnect:
        raise UploadIncomplete(
            "the request ended early; nothing of it was kept",
            expected="a whole body",
            got="a part of it",
            remedy="send it again",
        ) from None


def checked_submission(posted: Posted, service: Service) -> Submission:
    """What a POST asks for. Files are stored once everything beside them is right.

    Raises:
        InvalidRequest: fields that are not known or do not go together.
        UnknownOption, InvalidOption, InvalidGate: see there.
        NotFound: an artifact that was never uploaded.
        DeviceUnavailable: no live worker has the device that is asked for.
    """
    asked = _checked(posted.fields)
    options = parse_options(asked.options)
    parse_gates(asked.gates)
    _check_tags(asked.tags)
    queue = _queue(options, service)
    named = {name: getattr(asked, name) for name in _FILES if getattr(asked, name) is not None}
    _check_together({*named, *posted.files})
    for name, sha in named.items():
        _check_uploaded(name, sha, service)
    stored = {name: store(file, service) for name, file in posted.files.items()}
    return Submission(
        inputs=Inputs(**named, **stored),
        options=options,
        gates=tuple(asked.gates),
        tags=asked.tags,
        queue=queue,
    )


async def _form(request: Request) -> FormData:
    # The files themselves are bounded by the door; max_part_size bounds the other fields.
    try:
        with full_disk_said():
            return await request.form(max_files=8, max_fields=16, max_part_size=1 << 20)
    except HTTPException as error:
        raise InvalidRequest(
            f"the form cannot be read: {error.detail}"[:300],
            expected="multipart/form-data with files " + ", ".join(_FILES),
            got="a body of another form",
            remedy="curl -F encoder=@encoder.pt -F dataset=@data.npz",
        ) from None


def _posted(form: FormData) -> Posted:
    _check_form(form)
    parts = dict(form)
    files = {name: part for name, part in parts.items() if isinstance(part, UploadFile)}
    fields = {
        name: _parsed(part.encode("utf-8", "surrogatepass"), f"the field {name}")
        for name, part in parts.items()
        if isinstance(part, str)
    }
    return Posted(fields, files)


def _check_form(form: FormData) -> None:
    seen = set()
    for name, value in form.multi_items():
        of_its_kind = (name in _FILES) == isinstance(value, UploadFile)
        if not of_its_kind or name not in _FILES + _FIELDS or name in seen:
            raise InvalidRequest(
                f"the form's part {name[:40]!r} is not expected, is of another kind, or comes "
                "twice",
                expected=f"files {', '.join(_FILES)}; fields {', '.join(_FIELDS)}, as JSON",
                got="a file" if isinstance(value, UploadFile) else "a field",
                remedy="curl -F encoder=@FILE sends a file, -F gates='[]' a field",
            )
        seen.add(name)


def _parsed(text: bytes, what: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{what} is not JSON",
            expected="JSON",
            got=f"{text[:60].decode('utf-8', 'replace')!r}: {str(error)[:100]}",
            remedy="send JSON with Content-Type: application/json, or multipart/form-data",
        ) from None
    if any(map(_UNSTORABLE.search, _texts(value))):
        raise InvalidRequest(
            f"{what} holds text that cannot be stored",
            expected="text without NUL and without halves of a surrogate pair",
            got="one of them",
            remedy="remove it",
        )
    return value


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            left += part


def _object(fields: Any) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise InvalidRequest(
            "the body is no JSON object",
            expected="an object with " + ", ".join(JobRequest.model_fields),
            got=f"a {type(fields).__name__}",
            remedy="see /docs for the fields of a job",
        )
    return fields


def _checked(fields: dict[str, Any]) -> JobRequest:
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise InvalidRequest(
            f"{where[:100]}: {first['msg']}"[:300],
            expected="an object with " + ", ".join(JobRequest.model_fields),
            got=repr(first["input"])[:200],
            remedy="see /docs for the fields of a job",
        ) from None


def _check_together(named: set[str]) -> None:
    if named not in ({"encoder", "dataset"}, {"posterior"}):
        raise InvalidRequest(
            "the inputs do not go together",
            expected="an encoder and a dataset, or a posterior alone",
            got=" and ".join(sorted(named)) if named else "none of them",
            remedy="name both encoder and dataset, or only posterior",
        )


def _check_uploaded(name: str, sha256: str, service: Service) -> None:
    if not service.holds(sha256):
        raise NotFound(
            f"the {name} was not uploaded",
            expected="the digest of an artifact of this service",
            got=sha256,
            remedy=f"PUT its bytes to /v1/artifacts/{sha256} first",
        )


def _check_tags(tags: dict[str, str]) -> None:
    for key, value in tags.items():
        check_tag(key, value)


def check_tag(key: str, value: str) -> None:
    """Raises InvalidRequest when this can be no tag."""
    if not TAG_KEY.fullmatch(key) or len(value) > _TAG_LENGTH or _UNSTORABLE.search(value):
        raise InvalidRequest(
            f"the tag {key[:40]!r} cannot be used",
            expected="a key of 1 to 100 letters, digits, '_', '.' and '-'; a value of at most "
            f"{_TAG_LENGTH} characters",
            got=f"a key of {len(key)} characters, a value of {len(value)}",
            remedy="rename or shorten it",
        )


def _queue(options: Options, service: Service) -> str:
    devices = service.ledger.devices()
    wanted = {"auto": "cuda" if "cuda" in devices else "cpu"}.get(options.device, options.device)
    if options.device == "cuda" and "cuda" not in devices:
        raise DeviceUnavailable(
            "no worker with a cuda device has reported in the last minute",
            expected="a live worker with cuda",
            got="devices " + (", ".join(sorted(devices)) or "none"),
            remedy="post with device auto or cpu, or start a worker on the queue gpu",
        )
    return QUEUES[wanted]
