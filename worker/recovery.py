"""The loop beside the work: keep the lease, wake what is due, notice what died.

It runs in a thread of every worker, so that no single process must stay alive for jobs to be
recovered. The thread writes only to the ledger; it tells the main thread to stop by an event.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from jobs.ledger import Job, Ledger
from jobs.queue import Queue

log = logging.getLogger("latentgauge.worker")

# Hints of one job are at least this far apart: a lost hint costs so much, a wake-up nothing.
_HINT_SECONDS = 5.0


class Stop(BaseException):
    """The job is to end now: its lease is lost, it was deleted, or the worker shuts down.

    A BaseException, so that no handler of errors takes it for a fault of the job.
    """


class Lease:
    """The job that this worker holds, how far it is, and whether it still may go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._deadline = 0.0
        self._stage = "starting"
        self._fraction = 0.0
        self._lost = threading.Event()
        self.shutting_down = threading.Event()
        self.free_since = time.monotonic()

    def hold(self, job: Job, *, seconds: float) -> None:
        with self._lock:
            self._job = job
            self._deadline = time.monotonic() + seconds
            self._stage, self._fraction = "starting", 0.0
            self._lost.clear()

    def drop(self) -> None:
        with self._lock:
            self._job = None
            self.free_since = time.monotonic()

    def tick(self, stage: str, fraction: float) -> None:
        """Note progress.

        Raises:
            Stop: the job is no longer this worker's, or the worker shuts down.
            TimeLimit: the job has used its time.
        """
        self._stage, self._fraction = stage, fraction
        if self._lost.is_set() or self.shutting_down.is_set():
            raise Stop
        if time.monotonic() > self._deadline:
            raise job_time_limit(stage)

    def renew(self, ledger: Ledger, *, lease: float) -> None:
        with self._lock:
            job = self._job
        if job is None:
            return
        kept = ledger.renew(job, lease=lease, stage=self._stage, fraction=self._fraction)
        if not kept:
            with self._lock:
                if self._job is job:
                    self._lost.set()

    @property
    def free_for(self) -> float:
        """Seconds since the last job; 0 while one is held."""
        with self._lock:
            return 0.0 if self._job is not None else time.monotonic() - self.free_since


def job_time_limit(stage: str) -> Exception:
    from latentgauge.errors import TimeLimit

    return TimeLimit(
        f"the job's time ended in {stage}",
        expected="a report within the job's time limit",
        got="none when it ended",
        remedy="post fewer rows, or ask the operator for a higher limit",
    )


class Recovery(threading.Thread):
    """Once a period: report alive, renew, expire, re-send hints, and watch for a deaf worker."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        lease: Lease,
        *,
        name: str,
        device: str,
        serves: str,
        period: float,
        lease_seconds: float,
        stalled_seconds: float,
        give_up: Callable[[], object] = lambda: os._exit(1),
    ) -> None:
        super().__init__(name="recovery", daemon=True)
        self._ledger = ledger
        self._queue = queue
        self._lease = lease
        self._worker = name
        self._device = device
        self._serves = serves
        self._period = period
        self._lease_seconds = lease_seconds
        self._stalled_seconds = stalled_seconds
        self._give_up = give_up

    def run(self) -> None:
        while not self._lease.shutting_down.wait(self._period):
            try:
                self.once()
            except Exception:
                # The database may be away for a while; the loop must outlive that.
                log.exception("recovery failed; it goes on")

    def once(self) -> None:
        self._ledger.report_worker(self._worker, device=self._device, queue=self._serves)
        self._lease.renew(self._ledger, lease=self._lease_seconds)
        self._ledger.expire_leases()
        due = self._ledger.due_hints(silent=_HINT_SECONDS)
        sent = [job.id for job in due if self._queue.hint(job.id, job.attempt, queue=job.queue)]
        self._ledger.hinted(sent)
        waited = self._ledger.longest_wait(self._serves)
        if min(waited, self._lease.free_for) > self._stalled_seconds:
            # Celery does not reliably come back from a lost broker; a new process does.
            log.error("jobs wait, this worker is free and hears nothing: it exits to start anew")
            self._give_up()
