"""Which of the parts that a job needs are there."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from app.dependencies import Service
from app.documents import Readiness


def readiness(service: Service) -> Readiness:
    try:
        devices, queued, database = service.ledger.devices(), service.ledger.queued(), True
    except SQLAlchemyError:
        devices, queued, database = {}, 0, False
    broker = service.queue.reachable()
    return Readiness(
        ready=database and broker and bool(devices),
        database=database,
        broker=broker,
        workers=devices,
        queued=queued,
        sandbox="off",
    )
