"""Errors as application/problem+json (RFC 9457): one table from code to status."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from latentgauge.errors import BY_CODE, InternalError, InvalidRequest, LatentgaugeError, NotFound

# An InputFault answers the request that it belongs to with 422; inside a failed job it is the
# job's `error`, and the job is fetched with 200.
STATUS: dict[str, int] = {
    "unknown_option": 422,
    "invalid_option": 422,
    "invalid_gate": 422,
    "invalid_request": 422,
    "not_found": 404,
    "not_finished": 409,
    "foreign_origin": 403,
    "missing_extra": 500,
    "digest_mismatch": 422,
    "upload_incomplete": 400,
    "too_large": 413,
    "unreadable_encoder": 422,
    "unsupported_encoder": 422,
    "not_a_posterior": 422,
    "wrong_output": 422,
    "non_finite_output": 422,
    "not_deterministic": 422,
    "rows_not_independent": 422,
    "device_pinned": 422,
    "batch_pinned": 422,
    "shape_mismatch": 422,
    "unreadable_dataset": 422,
    "non_finite_input": 422,
    "out_of_memory": 422,
    "time_limit": 422,
    "encoder_crashed": 422,
    "output_limit": 422,
    "service_unavailable": 503,
    "deadline_passed": 504,
    "device_unavailable": 503,
    "storage_full": 507,
    "worker_lost": 500,
    "canceled": 409,
    "internal_error": 500,
}
RETRY_AFTER = {"service_unavailable": "5", "device_unavailable": "60"}
MEDIA_TYPE = "application/problem+json"


# What every operation may answer, for OpenAPI.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457).",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


class Problem(BaseModel):
    """What went wrong, what was expected, what came, and what to do."""

    type: str = Field(description="A page about this code.", examples=["about:blank"])
    title: str
    status: int
    code: str = Field(json_schema_extra={"enum": list(BY_CODE)})
    detail: str
    expected: str
    got: str
    remedy: str


def problem_of(error: LatentgaugeError) -> dict[str, Any]:
    """The problem object of an error, whether it is answered or kept in a job."""
    return {"type": "about:blank", "status": STATUS[error.code], **error.problem()}


def answer(error: LatentgaugeError, *, status: int | None = None) -> JSONResponse:
    problem: dict[str, Any] = {
        name: text.encode("utf-8", "replace").decode() if isinstance(text, str) else text
        for name, text in problem_of(error).items()
    } | ({"status": status} if status else {})
    retry = RETRY_AFTER.get(error.code)
    return JSONResponse(
        problem,
        status_code=problem["status"],
        media_type=MEDIA_TYPE,
        headers={"Retry-After": retry} if retry else None,
    )


def install(app: FastAPI) -> None:
    """Make every error of the app a problem object."""
    app.add_exception_handler(LatentgaugeError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LatentgaugeError)
    return answer(error)


async def _validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    return answer(
        InvalidRequest(
            f"the request's {where} cannot be used: {first['msg']}"[:500],
            expected=str(first["msg"])[:200],
            got=repr(first.get("input"))[:200],
            remedy="see /docs for what the request takes",
        )
    )


async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    """The answer to a fault of our own; the server logs the error itself."""
    return answer(
        InternalError(
            "latentgauge failed on this request",
            expected="an answer",
            got=type(error).__name__,
            remedy="report it; the web process's log has the details",
        )
    )


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = NotFound if error.status_code == 404 else InvalidRequest
    refusal = kind(
        f"{request.method} {request.url.path[:200]}: {error.detail}"[:500],
        expected="a method and an address of this service",
        got=f"{request.method} {request.url.path[:200]}",
        remedy="see /docs for what there is",
    )
    reply = answer(refusal, status=error.status_code)
    reply.headers.update(error.headers or {})
    return reply
