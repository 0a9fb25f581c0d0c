"""The loops beside the work: keep the lease, wake what is due, notice what died.

Both threads run in every worker, so that no single process must stay alive for jobs to be
recovered. They write only to the ledger; they tell the main thread to stop by an event.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.job import Job
from jobs.ledger import Ledger
from jobs.queue import Queue
from latentgauge.errors import TimeLimit

log = logging.getLogger("latentgauge.worker")

# Hints of one job are at least this far apart: a lost hint costs so much, a wake-up nothing.
_HINT_SECONDS = 5.0
_HINTS = 4  # of the oldest jobs, a round


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


def job_time_limit(stage: str) -> TimeLimit:
    return TimeLimit(
        f"the job's time ended in {stage}",
        expected="a report within the job's time limit",
        got="none when it ended",
        remedy="post fewer rows, or ask the operator for a higher limit",
    )


@dataclass(frozen=True)
class Heartbeat:
    """Report alive and renew the lease. It never waits for the broker."""

    ledger: Ledger
    lease: Lease
    worker: str
    device: str
    serves: str
    lease_seconds: float

    def once(self) -> None:
        self.ledger.report_worker(self.worker, device=self.device, queue=self.serves)
        self.lease.renew(self.ledger, lease=self.lease_seconds)


@dataclass(frozen=True)
class Recovery:
    """Expire the leases of the dead, re-send hints, watch for a deaf worker."""

    ledger: Ledger
    queue: Queue
    lease: Lease
    serves: str
    stalled_seconds: float
    give_up: Callable[[], object] = lambda: os._exit(1)

    def once(self) -> None:
        self.ledger.expire_leases()
        if self.lease.free_for > 0:
            self._send_hints()
        waited = self.ledger.longest_wait(self.serves)
        if min(waited, self.lease.free_for) > self.stalled_seconds:
            # Celery does not reliably come back from a lost broker; a new process does.
            log.error("jobs wait, this worker is free and hears nothing: it exits to start anew")
            self.give_up()

    def _send_hints(self) -> None:
        """Hint at the oldest jobs of this worker's queue, until the broker does not answer.

        A busy worker sends none: hints that nobody can follow would only pile up.
        """
        for job in self.ledger.due_hints(self.serves, silent=_HINT_SECONDS, limit=_HINTS):
            if not self.queue.hint(job.id, job.attempt, queue=job.queue):
                return
            self.ledger.hinted([job.id])


def in_background(once: Callable[[], None], *, period: float, until: threading.Event) -> None:
    """Call again and again in a thread; a database that is away for a while does not end it."""

    def rounds() -> None:
        while not until.wait(period):
            try:
                once()
            except Exception:
                log.exception("a round of %s failed; it goes on", once)

    threading.Thread(target=rounds, daemon=True).start()
