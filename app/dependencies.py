"""What routes are handed: made once when the app starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from jobs.blobs import Blobs
from jobs.ledger import Ledger
from jobs.queue import Queue
from jobs.settings import Settings


@dataclass(frozen=True)
class Service:
    """The parts that the web process works with."""

    settings: Settings
    ledger: Ledger
    blobs: Blobs
    queue: Queue

    def holds(self, sha256: str) -> bool:
        """Whether an artifact was uploaded and its bytes are there.

        Raises:
            InvalidRequest: no sha256.
        """
        return self.blobs.exists(sha256) and self.ledger.knows_artifact(sha256)


def service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


TheService = Annotated[Service, Depends(service)]
