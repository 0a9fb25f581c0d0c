"""Every query on the jobs and every change of their state.

The row is the truth. A change is a compare-and-set on (id, state, attempt): the attempt is the
fencing token, so that a worker which lost its lease can no longer write. Each call is one
transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult

from jobs.job import Inputs, Job, Submission, job_id_like, job_of, new_row
from jobs.states import MAX_ATTEMPTS, State
from jobs.tables import artifacts, jobs, reports, workers
from latentgauge.errors import NotFound, WorkerLost

WORKER_SILENT = 60.0  # seconds after which a worker no longer counts as there


class Ledger:
    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._writing = engine.execution_options(writes=True)
        self._clock = clock

    # ------------------------------------------------------------ callers

    def submit(self, submission: Submission) -> tuple[Job, bool]:
        """The job for a submission, and whether it is new.

        The same inputs, options, gates and tags that succeeded before are that job. Other gates
        or tags on a measured input are a new job that has succeeded already.

        Raises:
            NotFound: an artifact is not there, or no longer.
        """
        now = self._clock()
        with self._writing.begin() as c:
            _lock_artifacts(c, submission.inputs)
            # Locked, so that a deletion beside it either sees the new job or comes first.
            measured = c.scalar(
                select(reports.c.digest)
                .where(reports.c.digest == submission.digest)
                .with_for_update()
            )
            if measured:
                for row in c.execute(
                    select(jobs).where(
                        jobs.c.digest == submission.digest, jobs.c.state == State.SUCCEEDED
                    )
                ).mappings():
                    old = job_of(row)
                    if old.gates == submission.gates and old.tags == submission.tags:
                        return old, False
            new = new_row(submission, now, State.SUCCEEDED if measured else State.QUEUED)
            c.execute(insert(jobs).values(new))
            return job_of(new), True

    def job(self, job_id: str) -> Job:
        with self._engine.connect() as c:
            row = c.execute(select(jobs).where(jobs.c.id == _checked(job_id))).mappings().first()
        if row is None:
            raise _no_job(job_id)
        return job_of(row)

    def page(
        self,
        *,
        state: State | None = None,
        tags: Mapping[str, str] | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Jobs, newest first, older than `before` (created_at, id)."""
        query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(jobs.c.state == state)
        for key, value in (tags or {}).items():
            query = query.where(jobs.c.tags[key].as_string() == value)
        if before is not None:
            created_at, job_id = before
            query = query.where(
                or_(
                    jobs.c.created_at < created_at,
                    and_(jobs.c.created_at == created_at, jobs.c.id < job_id),
                )
            )
        with self._engine.connect() as c:
            return [job_of(row) for row in c.execute(query).mappings()]

    def report(self, digest: str) -> str | None:
        """The report's JSON text, if these inputs were measured."""
        with self._engine.connect() as c:
            return c.scalar(select(reports.c.report).where(reports.c.digest == digest))

    def delete(self, job_id: str, *, remove: Callable[[str], None]) -> None:
        """Forget a job, its report, and the artifacts that no other job names.

        `remove` is called with each artifact's digest while nobody else can store it. A running
        job's worker finds its row gone and stops.
        """
        with self._writing.begin() as c:
            row = c.execute(select(jobs).where(jobs.c.id == _checked(job_id))).mappings().first()
            if row is None:
                raise _no_job(job_id)
            job = job_of(row)
            shas = list(job.inputs.named().values())
            held = select(artifacts).where(artifacts.c.sha256.in_(shas))
            c.execute(held.order_by(artifacts.c.sha256).with_for_update())
            c.execute(select(reports).where(reports.c.digest == job.digest).with_for_update())
            c.execute(delete(jobs).where(jobs.c.id == job_id))
            if not _count(c, jobs.c.digest == job.digest):
                c.execute(delete(reports).where(reports.c.digest == job.digest))
            for sha in shas:
                if not _count(c, _names(sha)):
                    c.execute(delete(artifacts).where(artifacts.c.sha256 == sha))
                    remove(sha)

    def measured(self, digest: str) -> bool:
        """Whether a report is stored for these inputs."""
        with self._engine.connect() as c:
            return c.scalar(select(reports.c.digest).where(reports.c.digest == digest)) is not None

    def queued(self) -> int:
        with self._engine.connect() as c:
            return c.scalar(select(func.count()).where(jobs.c.state == State.QUEUED)) or 0

    # ------------------------------------------------------------ artifacts

    def knows_artifact(self, sha256: str) -> bool:
        with self._engine.connect() as c:
            found = select(artifacts.c.sha256).where(artifacts.c.sha256 == sha256)
            return c.scalar(found) is not None

    def add_artifact(
        self, sha256: str, size: int, *, store: Callable[[], object] = lambda: None
    ) -> bool:
        """Record bytes; whether they are new. `store` puts them in place meanwhile."""
        row = {"sha256": sha256, "size": size, "created_at": self._clock()}
        with self._writing.begin() as c:
            known = c.scalar(select(artifacts.c.sha256).where(artifacts.c.sha256 == sha256))
            # An update where the row is there: it waits for a deletion beside it, and holds the
            # row until the bytes are in place.
            c.execute(
                _insert(c, artifacts)
                .values(row)
                .on_conflict_do_update(index_elements=["sha256"], set_={"size": size})
            )
            store()
            return known is None

    # ------------------------------------------------------------ workers

    def claim(self, job_id: str, attempt: int, *, lease: float) -> Job | None:
        """Take a queued job for this attempt's successor; None when someone else has it."""
        now = self._clock()
        with self._writing.begin() as c:
            taken = c.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.state == State.QUEUED)
                .where(jobs.c.attempt == attempt)
                .values(
                    state=State.RUNNING,
                    attempt=attempt + 1,
                    started_at=now,
                    lease_until=now + lease,
                    stage=None,
                    fraction=None,
                )
            )
            if not _changed(taken):
                return None
            return job_of(c.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one())

    def renew(self, job: Job, *, lease: float, stage: str, fraction: float) -> bool:
        """Keep a job and show how far it is; False when it is no longer this worker's."""
        return self._write(job, lease_until=self._clock() + lease, stage=stage, fraction=fraction)

    def succeed(self, job: Job, report: str) -> bool:
        """Store the report and end the job; False when it is no longer this worker's."""
        now = self._clock()
        with self._writing.begin() as c:
            ended = c.execute(
                update(jobs)
                .where(*_mine(job))
                .values(state=State.SUCCEEDED, finished_at=now, lease_until=None)
            )
            if not _changed(ended):
                return False
            row = {"digest": job.digest, "report": report, "created_at": now}
            _insert_if_new(c, reports, row)
        return True

    def fail(self, job: Job, problem: Mapping[str, str]) -> bool:
        return self._write(
            job,
            state=State.FAILED,
            finished_at=self._clock(),
            lease_until=None,
            error=dict(problem),
        )

    def give_back(self, job: Job) -> bool:
        """Queue a running job again, its attempt not counted against it."""
        return self._write(
            job,
            state=State.QUEUED,
            attempt=job.attempt - 1,
            lease_until=None,
            hinted_at=None,
        )

    def report_worker(self, name: str, *, device: str, queue: str) -> None:
        """Note that a worker is alive."""
        now = self._clock()
        with self._writing.begin() as c:
            seen = c.execute(
                update(workers)
                .where(workers.c.name == name)
                .values(device=device, queue=queue, seen_at=now)
            )
            if not _changed(seen):
                row = {"name": name, "device": device, "queue": queue, "seen_at": now}
                _insert_if_new(c, workers, row)
            c.execute(delete(workers).where(workers.c.seen_at < now - 60 * WORKER_SILENT))

    def forget_worker(self, name: str) -> None:
        with self._writing.begin() as c:
            c.execute(delete(workers).where(workers.c.name == name))

    def devices(self) -> dict[str, int]:
        """Number of live workers by device."""
        with self._engine.connect() as c:
            alive = c.execute(
                select(workers.c.device, func.count())
                .where(workers.c.seen_at > self._clock() - WORKER_SILENT)
                .group_by(workers.c.device)
            )
            return dict(tuple(row) for row in alive)

    # ------------------------------------------------------------ recovery

    def expire_leases(self) -> int:
        """Queue or fail the running jobs whose worker fell silent; how many."""
        now = self._clock()
        lost = and_(jobs.c.state == State.RUNNING, jobs.c.lease_until < now)
        again = {"state": State.QUEUED, "lease_until": None, "hinted_at": None}
        ended = {
            "state": State.FAILED,
            "lease_until": None,
            "finished_at": now,
            "error": _lost().problem(),
        }
        tries_left = jobs.c.attempt < MAX_ATTEMPTS
        with self._writing.begin() as c:
            return _changed(c.execute(update(jobs).where(lost, tries_left).values(again))) + (
                _changed(c.execute(update(jobs).where(lost, ~tries_left).values(ended)))
            )

    def due_hints(self, queue: str, *, silent: float, limit: int) -> list[Job]:
        """The oldest queued jobs of a queue, without those hinted at in the last `silent` s."""
        due = or_(jobs.c.hinted_at.is_(None), jobs.c.hinted_at < self._clock() - silent)
        oldest = (
            select(jobs.c.id)
            .where(jobs.c.state == State.QUEUED, jobs.c.queue == queue)
            .order_by(jobs.c.created_at)
            .limit(limit)
        )
        with self._engine.connect() as c:
            rows = c.execute(select(jobs).where(jobs.c.id.in_(oldest.scalar_subquery()), due))
            return [job_of(row) for row in rows.mappings()]

    def hinted(self, job_ids: Sequence[str]) -> None:
        with self._writing.begin() as c:
            c.execute(update(jobs).where(jobs.c.id.in_(job_ids)).values(hinted_at=self._clock()))

    def longest_wait(self, queue: str) -> float:
        """Seconds that the oldest job of a queue has been waiting; 0 when none waits."""
        with self._engine.connect() as c:
            oldest = c.scalar(
                select(func.min(func.coalesce(jobs.c.started_at, jobs.c.created_at))).where(
                    jobs.c.state == State.QUEUED, jobs.c.queue == queue
                )
            )
        return 0.0 if oldest is None else self._clock() - oldest

    def _write(self, job: Job, **values: Any) -> bool:
        with self._writing.begin() as c:
            return bool(_changed(c.execute(update(jobs).where(*_mine(job)).values(**values))))


def _mine(job: Job) -> tuple[Any, ...]:
    """The row, as long as this attempt still holds it."""
    return (
        jobs.c.id == job.id,
        jobs.c.state == State.RUNNING,
        jobs.c.attempt == job.attempt,
    )


def _checked(job_id: str) -> str:
    """An id that may be one; another names no job, and is not shown to the database."""
    if not job_id_like(job_id):
        raise _no_job(job_id)
    return job_id


def _names(sha: str) -> ColumnElement[bool]:
    return or_(jobs.c.encoder == sha, jobs.c.dataset == sha, jobs.c.posterior == sha)


def _count(c: Connection, which: ColumnElement[bool]) -> int:
    return c.scalar(select(func.count()).where(which)) or 0


def _lock_artifacts(c: Connection, inputs: Inputs) -> None:
    # In the order of a deletion, so that the two never wait for each other.
    for name, sha in sorted(inputs.named().items(), key=lambda named: named[1]):
        row = select(artifacts.c.sha256).where(artifacts.c.sha256 == sha).with_for_update()
        if c.scalar(row) is None:
            raise NotFound(
                f"the {name} was not uploaded",
                expected="the digest of an artifact of this service",
                got=sha,
                remedy=f"PUT its bytes to /v1/artifacts/{sha} first",
            )


def _insert(c: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of the database's own dialect, which knows conflicts."""
    return sqlite.insert(table) if c.dialect.name == "sqlite" else postgresql.insert(table)


def _insert_if_new(c: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert a row unless its key is there already."""
    c.execute(_insert(c, table).values(row).on_conflict_do_nothing())


def _changed(result: Any) -> int:
    return cast("CursorResult[Any]", result).rowcount


def _no_job(job_id: str) -> NotFound:
    return NotFound(
        f"there is no job {job_id[:64]!r}",
        expected="the id of a job of this service",
        got=repr(job_id[:64]),
        remedy="list the jobs: latentgauge list, or GET /v1/jobs",
    )


def _lost() -> WorkerLost:
    return WorkerLost(
        f"the worker fell silent on each of {MAX_ATTEMPTS} attempts",
        expected="a worker that lives until the job's end",
        got=f"{MAX_ATTEMPTS} lost leases",
        remedy="see the workers' logs: most often the machine ran out of memory",
    )
