"""What the routes of /v1/jobs do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from app.dependencies import Service
from app.documents import JobDocument, JobList, cursor_of, document, judged, read_cursor
from app.problems import answer
from app.submissions import Posted, check_tag, checked_submission
from jobs.job import Job, Submission
from jobs.states import State
from latentgauge.errors import (
    LatentgaugeError,
    NotFinished,
    NotFound,
    ServiceUnavailable,
    from_problem,
)

_FIRST_POLL, _SLOWEST_POLL = 0.05, 0.5  # seconds between looks at a job that is waited for


@dataclass(frozen=True)
class Accepted:
    """The job of a submission, how to answer, and whether the workers are to be told."""

    job: Job
    document: JobDocument
    status: int
    headers: dict[str, str]


def post(posted: Posted, service: Service) -> Accepted:
    """The job of what was posted."""
    submission = checked_submission(posted, service)
    _check_answerable(submission, service)
    job, new = service.ledger.submit(submission)
    headers = {"Location": f"/v1/jobs/{job.id}"} | ({} if job.ended else {"Retry-After": "1"})
    return Accepted(job, document(job, service.ledger), 202 if new else 200, headers)


def tell_workers(job: Job, service: Service) -> None:
    """Hint at a new job; when the broker is away, a worker's recovery loop will."""
    if not job.ended and service.queue.hint(job.id, job.attempt, queue=job.queue):
        service.ledger.hinted([job.id])


def _check_answerable(submission: Submission, service: Service) -> None:
    """What is measured needs no room in the queue; its gates are checked against the report."""
    if service.ledger.measured(submission.digest):
        judged(submission.gates, submission.digest, service.ledger)
        return
    waiting = service.ledger.queued()
    if waiting >= service.settings.max_queued:
        raise ServiceUnavailable(
            "the queue is full",
            expected=f"fewer than {service.settings.max_queued} waiting jobs",
            got=f"{waiting} waiting jobs",
            remedy="post again after the time in Retry-After",
        )


async def watch(job_id: str, service: Service, *, wait: float) -> JobDocument:
    """The job as soon as it has ended, at the latest after `wait` seconds."""
    until = time.monotonic() + wait
    pause = _FIRST_POLL
    while True:
        job = await run_in_threadpool(service.ledger.job, job_id)
        left = until - time.monotonic()
        if job.ended or left <= 0:
            return await run_in_threadpool(document, job, service.ledger)
        try:
            await asyncio.sleep(min(pause, left))
        except asyncio.CancelledError:  # the process shuts down: answer with what is known
            return await run_in_threadpool(document, job, service.ledger)
        pause = min(2 * pause, _SLOWEST_POLL)


def listed(
    service: Service,
    *,
    state: State | None,
    tags: dict[str, str],
    limit: int,
    cursor: str | None,
) -> JobList:
    found = service.ledger.page(state=state, tags=tags, before=read_cursor(cursor), limit=limit + 1)
    page = found[:limit]
    return JobList(
        jobs=[document(job, service.ledger) for job in page],
        next=cursor_of(page[-1]) if len(found) > limit else None,
    )


def tag_filters(request: Request) -> dict[str, str]:
    """The parameters tag.KEY=VALUE."""
    found = {
        name.removeprefix("tag."): value
        for name, value in request.query_params.items()
        if name.startswith("tag.")
    }
    for key, value in found.items():
        check_tag(key, value)
    return found


def report(job_id: str, service: Service) -> Response:
    """The report as it was stored; 409 with the reason when there is none."""
    job = service.ledger.job(job_id)
    stored = service.ledger.report(job.digest) if job.state == State.SUCCEEDED else None
    if stored is None:
        return answer(_no_report(job), status=409)
    return Response(stored, media_type="application/json")


def _no_report(job: Job) -> LatentgaugeError:
    if job.error is not None:
        return from_problem(job.error)
    if job.state == State.SUCCEEDED:
        return NotFound(
            "the report was deleted a moment ago",
            expected="a report that is kept",
            got="none",
            remedy="submit the inputs again",
        )
    return NotFinished(
        f"the job is {job.state}",
        expected="a job that succeeded",
        got=job.state.value,
        remedy=f"wait for it: GET /v1/jobs/{job.id}?wait=30",
    )


def delete(job_id: str, service: Service) -> None:
    service.ledger.delete(job_id, remove=service.blobs.remove)
