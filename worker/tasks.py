"""The task's body: claim, run, write. The one outer edge where any exception ends a job."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobs.job import Job
from jobs.ledger import Ledger
from latentgauge.errors import InternalError, LatentgaugeError
from worker.recovery import Lease, Stop

log = logging.getLogger("latentgauge.worker")


def work(
    job_id: str,
    attempt: int,
    *,
    ledger: Ledger,
    lease: Lease,
    report: Callable[[Job], str],
    lease_seconds: float,
    job_seconds: float,
) -> None:
    """Run a job if it is still to be had; its end is in the ledger afterwards."""
    job = ledger.claim(job_id, attempt, lease=lease_seconds)
    if job is None:
        return
    lease.hold(job, seconds=job_seconds)
    try:
        ledger.succeed(job, report(job))
    except Stop:
        ledger.give_back(job)
    except LatentgaugeError as error:
        ledger.fail(job, error.problem())
    except Exception as error:
        log.exception("job %s failed by a fault of latentgauge", job.id)
        ledger.fail(job, _internal(error).problem())
        raise
    finally:
        lease.drop()


def _internal(error: Exception) -> InternalError:
    return InternalError(
        "latentgauge failed on this job",
        expected="a report",
        got=type(error).__name__,
        remedy="report it with the job's id; the worker's log has the details",
    )
