"""`celery -A worker.main worker --pool=solo -Q cpu`: one process, one job at a time.

Importing this loads no torch: the first job does.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

from jobs.blobs import Blobs
from jobs.job import Job
from jobs.ledger import Ledger
from jobs.queue import QUEUES, TASK, Queue, celery_app
from jobs.settings import settings
from jobs.tables import connect
from latentgauge.memory import give_large_blocks_back
from latentgauge.threads import let_threads_sleep
from worker.recovery import Heartbeat, Lease, Recovery, in_background
from worker.tasks import work

config = settings()
app = celery_app(config)
ledger = Ledger(connect(config.database_url))
lease = Lease()
name = f"{socket.gethostname()}-{os.getpid()}"


def report(job: Job) -> str:
    let_threads_sleep()
    give_large_blocks_back()
    from worker.run import Run

    return Run(Blobs(config.artifacts), config, lease.tick).report(job).to_json()


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def run(job_id: str, attempt: int) -> None:
    work(
        job_id,
        attempt,
        ledger=ledger,
        lease=lease,
        report=report,
        lease_seconds=config.lease_seconds,
        job_seconds=config.job_seconds,
    )


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start_recovery(**_: Any) -> None:
    queue = QUEUES[config.worker_device]
    ledger.report_worker(name, device=config.worker_device, queue=queue)
    loops = (
        Heartbeat(ledger, lease, name, config.worker_device, queue, config.lease_seconds),
        Recovery(ledger, Queue(config), lease, queue, config.stalled_seconds),
    )
    for loop in loops:
        in_background(loop.once, period=config.recovery_seconds, until=lease.shutting_down)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_job(**_: Any) -> None:
    lease.shutting_down.set()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _forget(**_: Any) -> None:
    ledger.forget_worker(name)
