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


class Heartbeat(threading.Thread):
    """Once a period: report alive and renew the lease. It never waits for the broker."""

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        *,
        name: str,
        device: str,
        serves: str,
        period: float,
        lease_seconds: float,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._ledger = ledger
        self._lease = lease
        self._worker = name
        self._device = device
        self._serves = serves
        self._period = period
        self._lease_seconds = lease_seconds

    def run(self) -> None:
        repeat(self.once, self._period, self._lease.shutting_down)

    def once(self) -> None:
        self._ledger.report_worker(self._worker, device=self._device, queue=self._serves)
        self._lease.renew(self._ledger, lease=self._lease_seconds)


class Recovery(threading.Thread):
    """Once a period: expire the leases of the dead, re-send hints, watch for a deaf worker."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        lease: Lease,
        *,
        serves: str,
        period: float,
        stalled_seconds: float,
        give_up: Callable[[], object] = lambda: os._exit(1),
    ) -> None:
        super().__init__(name="recovery", daemon=True)
        self._ledger = ledger
        self._queue = queue
        self._lease = lease
        self._serves = serves
        self._period = period
        self._stalled_seconds = stalled_seconds
        self._give_up = give_up

    def run(self) -> None:
        repeat(self.once, self._period, self._lease.shutting_down)

    def once(self) -> None:
        self._ledger.expire_leases()
        if self._lease.free_for > 0:
            self._send_hints()
        waited = self._ledger.longest_wait(self._serves)
        if min(waited, self._lease.free_for) > self._stalled_seconds:
            # Celery does not reliably come back from a lost broker; a new process does.
            log.error("jobs wait, this worker is free and hears nothing: it exits to start anew")
            self._give_up()

    def _send_hints(self) -> None:
        """Hint at the oldest jobs of this worker's queue, until the broker does not answer.

        A busy worker sends none: hints that nobody can follow would only pile up.
        """
        for job in self._ledger.due_hints(self._serves, silent=_HINT_SECONDS, limit=_HINTS):
            if not self._queue.hint(job.id, job.attempt, queue=job.queue):
                return
            self._ledger.hinted([job.id])


def repeat(once: Callable[[], None], period: float, until: threading.Event) -> None:
    """Call again and again; a database that is away for a while does not end it."""
    while not until.wait(period):
        try:
            once()
        except Exception:
            log.exception("a round of %s failed; it goes on", threading.current_thread().name)
