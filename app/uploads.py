"""Bytes on their way in: streamed to the disk while they are hashed."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from app.dependencies import Service
from jobs.blobs import Incoming
from latentgauge.errors import UploadIncomplete

_BLOCK = 1 << 20


async def receive(request: Request, sha256: str, service: Service) -> bool:
    """Store a raw body under the digest it came with; whether it is new.

    Raises:
        DigestMismatch, UploadIncomplete, TooLarge, StorageFull: nothing of it is kept.
    """
    service.blobs.path(sha256)
    with service.blobs.incoming() as incoming:
        block = bytearray()
        try:
            async for chunk in request.stream():
                block += chunk
                if len(block) >= _BLOCK:
                    await run_in_threadpool(incoming.write, bytes(block))
                    block.clear()
        except ClientDisconnect:
            raise UploadIncomplete(
                "the upload ended before the whole file was there; nothing of it was kept",
                expected=f"{request.headers.get('content-length', 'all')} bytes",
                got=f"{incoming.size + len(block)} bytes",
                remedy="send it again",
            ) from None
        await run_in_threadpool(incoming.write, bytes(block))
        incoming.check(sha256)
        return await run_in_threadpool(_keep, incoming, service)


def store(file: UploadFile, service: Service) -> str:
    """Store a file of a form; its digest."""
    with service.blobs.incoming() as incoming:
        while block := file.file.read(_BLOCK):
            incoming.write(block)
        _keep(incoming, service)
        return incoming.sha256


def _keep(incoming: Incoming, service: Service) -> bool:
    """Store what came in, with its row; whether it is new."""
    return service.ledger.add_artifact(incoming.sha256, incoming.size, store=incoming.keep)
