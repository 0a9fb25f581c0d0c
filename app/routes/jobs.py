"""/v1/jobs: post, watch, read, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app import jobs
from app.dependencies import TheService
from app.documents import JobDocument, JobList
from app.problems import RESPONSES
from app.submissions import JobRequest, closing_form, read_request
from jobs.states import State
from latentgauge.report import Report

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses=RESPONSES,
)


@router.post(
    "",
    status_code=202,
    summary="Post a job",
    responses={200: {"model": JobDocument, "description": "The same job succeeded before."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": JobRequest.model_json_schema()},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "encoder": {"type": "string", "format": "binary"},
                            "dataset": {"type": "string", "format": "binary"},
                            "posterior": {"type": "string", "format": "binary"},
                            "options": {"type": "string", "description": "JSON object"},
                            "gates": {"type": "string", "description": "JSON list"},
                            "tags": {"type": "string", "description": "JSON object"},
                        },
                    }
                },
            },
        }
    },
)
async def post_job(
    request: Request, response: Response, background: BackgroundTasks, service: TheService
) -> JobDocument:
    async with closing_form(request):
        posted = await read_request(request)
        accepted = await run_in_threadpool(jobs.post, posted, service)
    background.add_task(jobs.tell_workers, accepted.job, service)
    response.status_code = accepted.status
    response.headers.update(accepted.headers)
    return accepted.document


@router.get("/{job_id}", summary="Watch a job")
async def get_job(
    job_id: str, service: TheService, wait: Annotated[float, Query(ge=0, le=60)] = 0
) -> JobDocument:
    """Its state; with `wait`, when it has ended or after that many seconds."""
    return await jobs.watch(job_id, service, wait=wait)


@router.get("", summary="List jobs, newest first")
def list_jobs(
    request: Request,
    service: TheService,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> JobList:
    """Filtered by `state` and by tags, as `tag.KEY=VALUE`."""
    return jobs.listed(
        service, state=state, tags=jobs.tag_filters(request), limit=limit, cursor=cursor
    )


@router.get(
    "/{job_id}/report",
    summary="Read a report",
    response_model=Report,
)
def get_report(job_id: str, service: TheService) -> Response:
    return jobs.report(job_id, service)


@router.delete("/{job_id}", status_code=204, summary="Delete a job and what only it needs")
def delete_job(job_id: str, service: TheService) -> None:
    jobs.delete(job_id, service)
