"""/healthz and /readyz: is it alive, and can it do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.dependencies import TheService
from app.documents import Liveness, Readiness
from app.readiness import readiness

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process is alive")
def healthz() -> Liveness:
    return Liveness(status="ok")


@router.get(
    "/readyz",
    summary="Every part that a job needs is there",
    responses={503: {"model": Readiness, "description": "A part is missing."}},
)
def readyz(response: Response, service: TheService) -> Readiness:
    found = readiness(service)
    response.status_code = 200 if found.ready else 503
    return found
