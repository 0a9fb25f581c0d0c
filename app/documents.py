"""What the service tells of a job."""

from __future__ import annotations

import base64
import binascii
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.problems import Problem, problem_of
from jobs.job import Job, job_id_like
from jobs.ledger import Ledger
from jobs.states import State
from latentgauge.errors import InvalidGate, InvalidRequest, NotFound, from_problem
from latentgauge.gates import Verdict, judge, parse_gates
from latentgauge.report import Report


class Progress(BaseModel):
    stage: str
    fraction: float


class JobInputs(BaseModel):
    encoder: str | None
    dataset: str | None
    posterior: str | None


class JobDocument(BaseModel):
    id: str
    state: Literal["queued", "running", "succeeded", "failed", "canceled"]
    progress: Progress | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inputs: JobInputs
    options: dict[str, Any]
    gates: list[str]
    tags: dict[str, str]
    error: Problem | None = Field(description="Why it failed, or why its gates have no verdict.")
    verdict: Verdict | None


class JobList(BaseModel):
    jobs: list[JobDocument]
    next: str | None = Field(description="The cursor of the next page.")


class Liveness(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    ready: bool
    database: bool
    broker: bool
    workers: dict[str, int] = Field(description="Live workers by device.")
    queued: int
    sandbox: str = Field(description="off: child processes with limits, not confined.")


def document(job: Job, ledger: Ledger) -> JobDocument:
    verdict, error = _verdict(job, ledger)
    return JobDocument(
        id=job.id,
        state=job.state.value,
        progress=Progress(stage=job.stage, fraction=job.fraction or 0.0)
        if job.stage and job.state == State.RUNNING
        else None,
        attempt=job.attempt,
        created_at=_time(job.created_at),
        started_at=_time(job.started_at) if job.started_at else None,
        finished_at=_time(job.finished_at) if job.finished_at else None,
        inputs=JobInputs(**vars(job.inputs)),
        options=job.options,
        gates=list(job.gates),
        tags=job.tags,
        error=error,
        verdict=verdict,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _verdict(job: Job, ledger: Ledger) -> tuple[Verdict | None, Problem | None]:
    if job.error is not None:
        return None, Problem(**problem_of(from_problem(job.error)))
    if not job.gates or job.state != State.SUCCEEDED:
        return None, None
    try:
        return judged(job.gates, job.digest, ledger), None
    except (InvalidGate, NotFound) as error:
        # An index beyond the latents that the encoder turned out to have; a report just deleted.
        return None, Problem(**problem_of(error))


@lru_cache(maxsize=4096)
def judged(gates: tuple[str, ...], digest: str, ledger: Ledger) -> Verdict:
    """The verdict on a stored report.

    Raises:
        InvalidGate: an index beyond the report's dimensions.
        NotFound: the report is gone.
    """
    report = ledger.report(digest)
    if report is None:
        raise NotFound(
            "the report is gone",
            expected="a report that is kept",
            got="none",
            remedy="submit the inputs again",
        )
    return judge(parse_gates(gates), Report.model_validate_json(report))


def cursor_of(job: Job) -> str:
    """Where the page ends after this job, opaque to callers."""
    return base64.urlsafe_b64encode(f"{job.created_at!r}:{job.id}".encode()).decode()


def read_cursor(cursor: str | None) -> tuple[float, str] | None:
    """The job that a page begins after.

    Raises:
        InvalidRequest: not a cursor that `cursor_of` made.
    """
    if cursor is None:
        return None
    try:
        created_at, _, job_id = base64.urlsafe_b64decode(cursor).decode().partition(":")
        before = float(created_at), job_id
    except (ValueError, binascii.Error):
        before = math.nan, ""
    if not math.isfinite(before[0]) or not job_id_like(before[1]):
        raise InvalidRequest(
            "the cursor is none of this service's",
            expected="the `next` of an earlier page",
            got=repr(cursor[:80]),
            remedy="begin without a cursor",
        )
    return before
