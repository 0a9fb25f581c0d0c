"""From a request's body, JSON or a form, to a checked submission."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from app.dependencies import Service
from app.uploads import store
from jobs.ledger import Inputs, Submission
from jobs.queue import QUEUES
from latentgauge.errors import (
    DeviceUnavailable,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    UploadIncomplete,
)
from latentgauge.gates import parse_gates
from latentgauge.options import Options, parse_options

_FILES = ("encoder", "dataset", "posterior")
_FIELDS = ("options", "gates", "tags")
_SHA256 = Field(default=None, pattern="^[0-9a-f]{64}$", description="Digest of an artifact.")


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


async def read_submission(request: Request, service: Service) -> Submission:
    """What a POST asks for.

    Raises:
        InvalidRequest: no JSON and no form, or fields that do not go together.
        UnknownOption, InvalidOption, InvalidGate: see there.
        NotFound: an artifact that was never uploaded.
        DeviceUnavailable: no live worker has the device that is asked for.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        asked = await _from_form(request, service)
    else:
        asked = _checked(_parsed(await _body(request), "the body"))
    options = parse_options(asked.options)
    parse_gates(asked.gates)
    _check_tags(asked.tags)
    return Submission(
        inputs=_inputs(asked, service),
        options=options,
        gates=tuple(asked.gates),
        tags=asked.tags,
        queue=_queue(options, service),
    )


def check_room(service: Service) -> None:
    """Raises ServiceUnavailable when too many jobs wait already."""
    waiting = service.ledger.queued()
    if waiting >= service.settings.max_queued:
        raise ServiceUnavailable(
            "the queue is full",
            expected=f"fewer than {service.settings.max_queued} waiting jobs",
            got=f"{waiting} waiting jobs",
            remedy="post again after the time in Retry-After",
        )


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        raise UploadIncomplete(
            "the request ended early",
            expected="a whole body",
            got="a part of it",
            remedy="send it again",
        ) from None


async def _from_form(request: Request, service: Service) -> JobRequest:
    # The files themselves are bounded by the door; max_part_size bounds the other fields.
    try:
        form = await request.form(max_files=len(_FILES), max_fields=16, max_part_size=1 << 20)
    except HTTPException as error:
        raise InvalidRequest(
            f"the form cannot be read: {error.detail}"[:300],
            expected="multipart/form-data with files " + ", ".join(_FILES),
            got="a body of another form",
            remedy="curl -F encoder=@encoder.pt -F dataset=@data.npz",
        ) from None
    try:
        _check_form(form)
        fields: dict[str, Any] = {
            name: _parsed(str(form[name]).encode(), f"the field {name}")
            for name in _FIELDS
            if name in form
        }
        for name in _FILES:
            file = form.get(name)
            if isinstance(file, UploadFile):
                fields[name] = await store(file, service)
        return _checked(fields)
    finally:
        await form.close()


def _check_form(form: FormData) -> None:
    for name, value in form.multi_items():
        if (name in _FILES) != isinstance(value, UploadFile) or name not in _FILES + _FIELDS:
            raise InvalidRequest(
                f"the form's part {name[:40]!r} is not expected, or of another kind",
                expected=f"files {', '.join(_FILES)}; fields {', '.join(_FIELDS)}, as JSON",
                got="a file" if isinstance(value, UploadFile) else "a field",
                remedy=f"curl -F {name[:40]}=@FILE sends a file, -F {name[:40]}=TEXT a field",
            )


def _parsed(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{what} is not JSON",
            expected="JSON",
            got=f"{text[:60].decode('utf-8', 'replace')!r}: {str(error)[:100]}",
            remedy="send JSON with Content-Type: application/json, or multipart/form-data",
        ) from None


def _checked(fields: Any) -> JobRequest:
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


def _inputs(asked: JobRequest, service: Service) -> Inputs:
    pair = asked.encoder is not None and asked.dataset is not None and asked.posterior is None
    table = asked.posterior is not None and asked.encoder is None and asked.dataset is None
    named = [name for name in _FILES if getattr(asked, name) is not None]
    if not (pair or table):
        raise InvalidRequest(
            "the inputs do not go together",
            expected="an encoder and a dataset, or a posterior alone",
            got=" and ".join(named) if named else "none of them",
            remedy="name both encoder and dataset, or only posterior",
        )
    inputs = Inputs(asked.encoder, asked.dataset, asked.posterior)
    for name, sha in inputs.named().items():
        if not service.holds(sha):
            raise NotFound(
                f"the {name} was not uploaded",
                expected="the digest of an artifact of this service",
                got=sha,
                remedy=f"PUT its bytes to /v1/artifacts/{sha} first",
            )
    return inputs


def _check_tags(tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if not 1 <= len(key) <= 100 or len(value) > 500:
            raise InvalidRequest(
                "a tag is too long",
                expected="keys of 1 to 100 characters, values of at most 500",
                got=f"{key[:40]!r} of {len(key)}, value of {len(value)}",
                remedy="shorten it",
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
