"""One job's edge and the loop beside it, on a real ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.job import Inputs, Job, Submission
from jobs.ledger import Ledger
from jobs.migrations import upgrade
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import connect
from latentgauge.errors import TimeLimit, WrongOutput
from latentgauge.options import Options
from tests.conftest import wait_for
from worker.recovery import Heartbeat, Lease, Recovery, Stop, in_background
from worker.tasks import work


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    upgrade(engine)
    yield Ledger(engine)
    engine.dispose()


def posted(ledger: Ledger) -> Job:
    inputs = Inputs(posterior="a" * 64)
    ledger.add_artifact("a" * 64, 1)
    return ledger.submit(Submission(inputs, Options(), (), {}, "cpu"))[0]


def run(ledger: Ledger, job: Job, report: object, lease: Lease | None = None) -> Job:
    work(
        job.id,
        job.attempt,
        ledger=ledger,
        lease=lease or Lease(),
        report=report,  # type: ignore[arg-type]
        lease_seconds=10,
        job_seconds=10,
    )
    return ledger.job(job.id)


def test_a_job_that_gives_a_report_succeeds(ledger: Ledger) -> None:
    job = run(ledger, posted(ledger), lambda job: '{"of": "' + job.id + '"}')
    assert job.state is State.SUCCEEDED
    assert ledger.report(job.digest) == '{"of": "' + job.id + '"}'


def test_an_error_of_ours_is_the_jobs_error(ledger: Ledger) -> None:
    def report(_: Job) -> str:
        raise WrongOutput("no pair", expected="two", got="one", remedy="return two")

    job = run(ledger, posted(ledger), report)
    assert job.state is State.FAILED
    assert (
        job.error
        == WrongOutput("no pair", expected="two", got="one", remedy="return two").problem()
    )


def test_a_fault_of_our_own_is_recorded_and_raised(ledger: Ledger) -> None:
    def report(_: Job) -> str:
        raise ZeroDivisionError("secret detail")

    first = posted(ledger)
    with pytest.raises(ZeroDivisionError):
        run(ledger, first, report)
    job = ledger.job(first.id)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "internal_error"
    assert job.error["got"] == "ZeroDivisionError"
    assert "secret" not in str(job.error)


def test_a_stopped_job_is_given_back(ledger: Ledger) -> None:
    lease = Lease()
    lease.shutting_down.set()

    def report(_: Job) -> str:
        lease.tick("encoding", 0.5)
        return ""

    job = run(ledger, posted(ledger), report, lease)
    assert (job.state, job.attempt) == (State.QUEUED, 0)


def test_a_job_that_is_not_to_be_had_is_left_alone(ledger: Ledger) -> None:
    job = posted(ledger)
    ledger.claim(job.id, 0, lease=10)
    called = []
    assert run(ledger, job, called.append).state is State.RUNNING
    assert called == []


def test_a_job_beyond_its_time_is_a_time_limit() -> None:
    lease = Lease()
    lease.hold(_job(), seconds=0)
    time.sleep(0.01)
    with pytest.raises(TimeLimit, match="the job's time ended in measuring"):
        lease.tick("measuring", 0.1)


def _job() -> Job:
    inputs = Inputs(posterior="a" * 64)
    return Job("1", State.RUNNING, 1, 0, 0, None, None, None, "cpu", inputs, {}, (), {}, "", None)


def recovery(ledger: Ledger, lease: Lease, **changes: object) -> Recovery:
    dead_broker = Queue(Settings(broker_url="redis+socket:///nowhere/valkey.sock"))
    return replace(Recovery(ledger, dead_broker, lease, "cpu", 60), **changes)  # type: ignore[arg-type]


def heartbeat(ledger: Ledger, lease: Lease) -> Heartbeat:
    return Heartbeat(ledger, lease, "w1", "cpu", "cpu", lease_seconds=10)


def test_the_loop_shows_progress_and_keeps_the_lease(ledger: Ledger) -> None:
    lease = Lease()
    job = ledger.claim(posted(ledger).id, 0, lease=0.01)
    assert job is not None
    lease.hold(job, seconds=100)
    lease.tick("measuring", 0.25)
    heartbeat(ledger, lease).once()
    seen = ledger.job(job.id)
    assert (seen.state, seen.stage, seen.fraction) == (State.RUNNING, "measuring", 0.25)
    assert ledger.devices() == {"cpu": 1}
    lease.tick("measuring", 0.5)


def test_a_job_whose_row_is_gone_stops_at_the_next_tick(ledger: Ledger) -> None:
    lease = Lease()
    job = ledger.claim(posted(ledger).id, 0, lease=10)
    assert job is not None
    lease.hold(job, seconds=100)
    ledger.delete(job.id, remove=lambda _: None)
    heartbeat(ledger, lease).once()
    with pytest.raises(Stop):
        lease.tick("measuring", 0.5)


def test_a_new_job_is_not_stopped_by_the_loss_of_the_last(ledger: Ledger) -> None:
    lease = Lease()
    job = ledger.claim(posted(ledger).id, 0, lease=10)
    assert job is not None
    lease.hold(job, seconds=100)
    ledger.delete(job.id, remove=lambda _: None)
    heartbeat(ledger, lease).once()
    lease.drop()
    lease.hold(_job(), seconds=100)
    lease.tick("measuring", 0.5)


def test_hints_that_cannot_be_sent_stay_due(ledger: Ledger) -> None:
    job = posted(ledger)
    recovery(ledger, Lease()).once()
    assert [due.id for due in ledger.due_hints("cpu", silent=60, limit=9)] == [job.id]


def test_a_free_worker_that_hears_nothing_while_jobs_wait_gives_up(ledger: Ledger) -> None:
    gave_up: list[bool] = []
    lease = Lease()
    loop = recovery(ledger, lease, stalled_seconds=0.05, give_up=lambda: gave_up.append(True))
    loop.once()
    assert not gave_up, "nothing waits"
    job = posted(ledger)
    time.sleep(0.1)
    lease.hold(_job(), seconds=100)
    loop.once()
    assert not gave_up, "it is not free"
    lease.drop()
    loop.once()
    assert not gave_up, "it became free a moment ago"
    time.sleep(0.1)
    loop.once()
    assert gave_up
    ledger.claim(job.id, 0, lease=10)


def test_the_loop_outlives_a_database_that_is_away(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    lease = Lease()
    before = threading.active_count()
    loop = heartbeat(Ledger(engine), lease)
    in_background(loop.once, period=0.05, until=lease.shutting_down)
    time.sleep(0.2)
    assert threading.active_count() == before + 1, "no table is there yet"
    upgrade(engine)
    wait_for(lambda: Ledger(engine).devices() == {"cpu": 1}, what="a report")
    lease.shutting_down.set()
    wait_for(lambda: threading.active_count() == before, what="the thread's end")
    engine.dispose()
