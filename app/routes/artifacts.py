"""/v1/artifacts: uploaded bytes by their digest."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.dependencies import TheService
from app.problems import RESPONSES
from app.uploads import receive

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"], responses=RESPONSES)


@router.put(
    "/{sha256}",
    status_code=201,
    summary="Upload bytes",
    responses={
        200: {"description": "These bytes were known."},
        201: {"description": "Stored."},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
        }
    },
)
async def put_artifact(sha256: str, request: Request, service: TheService) -> Response:
    new = await receive(request, sha256, service)
    return Response(status_code=201 if new else 200)


@router.head(
    "/{sha256}",
    summary="Whether bytes are known",
    responses={200: {"description": "They are."}},
)
def head_artifact(sha256: str, service: TheService) -> Response:
    return Response(status_code=200 if service.holds(sha256) else 404)
