"""The ledger on SQLite and PostgreSQL: who may change a job, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from jobs.job import Inputs, Job, Submission
from jobs.ledger import Ledger
from jobs.states import State
from latentgauge.errors import NotFound, TimeLimit
from latentgauge.options import Options

A, B, C = "a" * 64, "b" * 64, "c" * 64


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    """A ledger that knows the artifacts A, B and C."""
    found = Ledger(engine, clock=clock)
    for sha in (A, B, C):
        found.add_artifact(sha, 1)
    return found


def submission(**changes: object) -> Submission:
    first = Submission(Inputs(encoder=A, dataset=B), Options(), (), {}, "cpu")
    return replace(first, **changes)  # type: ignore[arg-type]


def removed(ledger: Ledger, job_id: str) -> list[str]:
    gone: list[str] = []
    ledger.delete(job_id, remove=gone.append)
    return sorted(gone)


def claimed(ledger: Ledger, job: Job, *, lease: float = 10) -> Job:
    taken = ledger.claim(job.id, job.attempt, lease=lease)
    assert taken is not None
    return taken


def test_a_submitted_job_is_queued_and_reads_back_as_it_was_posted(ledger: Ledger) -> None:
    posted, new = ledger.submit(submission(gates=("n >= 3",), tags={"branch": "main"}))
    assert new
    assert ledger.job(posted.id) == posted
    assert posted.state is State.QUEUED
    assert posted.gates == ("n >= 3",)
    assert posted.tags == {"branch": "main"}
    assert posted.options == Options().model_dump(mode="json")


def test_a_job_is_claimed_once_however_many_try(ledger: Ledger) -> None:
    job, _ = ledger.submit(submission())
    won: list[Job | None] = []
    tries = [
        threading.Thread(target=lambda: won.append(ledger.claim(job.id, 0, lease=10)))
        for _ in range(8)
    ]
    for one in tries:
        one.start()
    for one in tries:
        one.join()
    assert sum(job is not None for job in won) == 1
    assert ledger.job(job.id).attempt == 1


def test_an_old_hint_claims_nothing(ledger: Ledger) -> None:
    job, _ = ledger.submit(submission())
    ledger.give_back(claimed(ledger, job))
    assert ledger.claim(job.id, 3, lease=10) is None


def test_a_report_is_stored_with_the_job_that_succeeded(ledger: Ledger) -> None:
    job, _ = ledger.submit(submission())
    assert ledger.succeed(claimed(ledger, job), '{"n": 1}')
    assert ledger.job(job.id).state is State.SUCCEEDED
    assert ledger.report(job.digest) == '{"n": 1}'


def test_the_same_submission_after_success_is_the_same_job(ledger: Ledger) -> None:
    job, _ = ledger.submit(submission())
    ledger.succeed(claimed(ledger, job), "{}")
    again, new = ledger.submit(submission())
    assert (again.id, new) == (job.id, False)


@pytest.mark.parametrize("changes", [{"gates": ("n > 1",)}, {"tags": {"a": "b"}}])
def test_other_gates_or_tags_are_a_new_job_that_shares_the_report(
    ledger: Ledger, changes: dict[str, object]
) -> None:
    job, _ = ledger.submit(submission())
    ledger.succeed(claimed(ledger, job), "{}")
    other, new = ledger.submit(submission(**changes))
    assert new
    assert other.id != job.id
    assert other.state is State.SUCCEEDED
    assert ledger.report(other.digest) == "{}"


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": Inputs(encoder=A, dataset=C)},
        {"inputs": Inputs(posterior=A)},
        {"options": Options(seed=1)},
        {"queue": "gpu"},
    ],
)
def test_whatever_decides_the_numbers_is_in_the_digest(changes: dict[str, object]) -> None:
    assert submission(**changes).digest != submission().digest


def test_a_worker_that_lost_its_lease_writes_nothing(ledger: Ledger, clock: Clock) -> None:
    job, _ = ledger.submit(submission())
    first = claimed(ledger, job, lease=5)
    clock.now += 6
    assert ledger.expire_leases() == 1
    second = claimed(ledger, ledger.job(job.id))
    assert not ledger.renew(first, lease=5, stage="x", fraction=0.5)
    assert not ledger.succeed(first, "from the first")
    assert not ledger.fail(first, TimeLimit("late").problem())
    assert not ledger.give_back(first)
    assert ledger.succeed(second, "from the second")
    assert ledger.report(job.digest) == "from the second"


def test_a_renewed_lease_does_not_expire(ledger: Ledger, clock: Clock) -> None:
    job, _ = ledger.submit(submission())
    taken = claimed(ledger, job, lease=5)
    clock.now += 4
    assert ledger.renew(taken, lease=5, stage="measuring", fraction=0.25)
    clock.now += 4
    assert ledger.expire_leases() == 0
    assert (ledger.job(job.id).stage, ledger.job(job.id).fraction) == ("measuring", 0.25)


def test_three_lost_leases_fail_the_job_as_worker_lost(ledger: Ledger, clock: Clock) -> None:
    job, _ = ledger.submit(submission())
    for _ in range(3):
        claimed(ledger, ledger.job(job.id), lease=5)
        clock.now += 6
        ledger.expire_leases()
    lost = ledger.job(job.id)
    assert lost.state is State.FAILED
    assert lost.error is not None
    assert lost.error["code"] == "worker_lost"
    assert "3 lost leases" in lost.error["got"]


def test_a_job_that_was_given_back_has_all_its_attempts(ledger: Ledger, clock: Clock) -> None:
    job, _ = ledger.submit(submission())
    for _ in range(5):
        ledger.give_back(claimed(ledger, ledger.job(job.id)))
    assert ledger.job(job.id).state is State.QUEUED
    assert ledger.job(job.id).attempt == 0


def test_hints_are_due_until_they_were_sent_and_again_after_a_silence(
    ledger: Ledger, clock: Clock
) -> None:
    job, _ = ledger.submit(submission())
    assert [due.id for due in ledger.due_hints("cpu", silent=5, limit=9)] == [job.id]
    ledger.hinted([job.id])
    assert ledger.due_hints("cpu", silent=5, limit=9) == []
    clock.now += 6
    assert [due.id for due in ledger.due_hints("cpu", silent=5, limit=9)] == [job.id]


def test_the_longest_wait_is_that_of_the_oldest_queued_job(ledger: Ledger, clock: Clock) -> None:
    assert ledger.longest_wait("cpu") == 0
    job, _ = ledger.submit(submission())
    clock.now += 30
    assert 30 <= ledger.longest_wait("cpu") < 31
    assert ledger.longest_wait("gpu") == 0
    claimed(ledger, job)
    assert ledger.longest_wait("cpu") == 0


def test_pages_are_newest_first_and_filtered_by_state_and_tag(ledger: Ledger) -> None:
    one, _ = ledger.submit(submission(tags={"branch": "main"}))
    two, _ = ledger.submit(submission(tags={"branch": "it's"}, options=Options(seed=2)))
    ids = lambda jobs: [job.id for job in jobs]  # noqa: E731
    assert ids(ledger.page()) == [two.id, one.id]
    assert ids(ledger.page(limit=1)) == [two.id]
    assert ids(ledger.page(before=(two.created_at, two.id))) == [one.id]
    assert ids(ledger.page(tags={"branch": "it's"})) == [two.id]
    assert ids(ledger.page(tags={"branch": "other"})) == []
    claimed(ledger, one)
    assert ids(ledger.page(state=State.RUNNING)) == [one.id]


def test_deleting_a_job_frees_the_artifacts_that_no_other_job_names(ledger: Ledger) -> None:
    one, _ = ledger.submit(submission())
    two, _ = ledger.submit(submission(inputs=Inputs(encoder=A, dataset=C)))
    ledger.succeed(claimed(ledger, one), "{}")
    assert removed(ledger, one.id) == [B]
    assert ledger.report(one.digest) is None
    assert ledger.knows_artifact(A)
    assert not ledger.knows_artifact(B)
    assert removed(ledger, two.id) == [A, C]


def test_a_report_stays_while_another_job_shares_it(ledger: Ledger) -> None:
    one, _ = ledger.submit(submission())
    ledger.succeed(claimed(ledger, one), "{}")
    two, _ = ledger.submit(submission(gates=("n > 1",)))
    assert removed(ledger, one.id) == []
    assert ledger.report(two.digest) == "{}"


def test_a_deleted_running_job_is_no_longer_its_workers(ledger: Ledger) -> None:
    job, _ = ledger.submit(submission())
    taken = claimed(ledger, job)
    removed(ledger, job.id)
    assert not ledger.renew(taken, lease=5, stage="x", fraction=0)


def test_an_unknown_job_is_not_found(ledger: Ledger) -> None:
    for name in ("nope", "0" * 32, "\x00"):
        with pytest.raises(NotFound, match="there is no job"):
            ledger.job(name)
        with pytest.raises(NotFound, match="there is no job"):
            removed(ledger, name)


def test_an_artifact_is_new_once(ledger: Ledger) -> None:
    assert ledger.add_artifact("d" * 64, 5_000_000_000)
    assert not ledger.add_artifact("d" * 64, 5_000_000_000)


def test_a_silent_worker_no_longer_counts(ledger: Ledger, clock: Clock) -> None:
    ledger.report_worker("one", device="cpu", queue="cpu")
    ledger.report_worker("two", device="cuda", queue="gpu")
    ledger.report_worker("two", device="cuda", queue="gpu")
    assert ledger.devices() == {"cpu": 1, "cuda": 1}
    clock.now += 61
    ledger.report_worker("one", device="cpu", queue="cpu")
    assert ledger.devices() == {"cpu": 1}
    ledger.forget_worker("one")
    assert ledger.devices() == {}


def test_a_job_on_an_artifact_that_is_gone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="the posterior was not uploaded"):
        ledger.submit(submission(inputs=Inputs(posterior="d" * 64)))


def test_only_the_oldest_jobs_of_a_queue_are_due(ledger: Ledger) -> None:
    posted = [ledger.submit(submission(options=Options(seed=s)))[0].id for s in range(4)]
    other, _ = ledger.submit(submission(queue="gpu"))
    assert {job.id for job in ledger.due_hints("cpu", silent=5, limit=2)} == set(posted[:2])
    assert [job.id for job in ledger.due_hints("gpu", silent=5, limit=2)] == [other.id]
    ledger.hinted(posted[:2])
    assert ledger.due_hints("cpu", silent=5, limit=2) == [], "the oldest come first"


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What calls return or raise that begin together, each in a thread of its own."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        start.wait()
        try:
            return call()
        except NotFound as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_two_workers_that_measured_the_same_both_succeed(ledger: Ledger) -> None:
    for seed in range(10):
        pair = [
            claimed(ledger, ledger.submit(submission(options=Options(seed=seed)))[0])
            for _ in range(2)
        ]
        ended = at_once(*(partial(ledger.succeed, job, "{}") for job in pair))
        assert ended == [True, True]


def test_a_job_that_succeeded_has_its_report_however_a_deletion_falls(ledger: Ledger) -> None:
    for seed in range(20):
        asked = submission(options=Options(seed=seed))
        first, _ = ledger.submit(asked)
        ledger.succeed(claimed(ledger, first), "{}")
        other = replace(asked, gates=("n > 1",))
        _, posted = at_once(partial(removed, ledger, first.id), partial(ledger.submit, other))
        for sha in (A, B):
            ledger.add_artifact(sha, 1)
        if not isinstance(posted, NotFound):
            job = ledger.job(posted[0].id)  # type: ignore[index]
            assert (job.state is State.SUCCEEDED) == (ledger.report(job.digest) is not None)


def test_stored_bytes_are_there_while_their_row_is(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "blob"
    for seed in range(20):
        ledger.add_artifact(B, 1, store=lambda: file.write_text("x"))
        job, _ = ledger.submit(submission(options=Options(seed=seed)))
        at_once(
            lambda job=job: ledger.delete(job.id, remove=lambda _: file.unlink(missing_ok=True)),
            lambda: ledger.add_artifact(B, 1, store=lambda: file.write_text("x")),
        )
        assert file.exists() == ledger.knows_artifact(B)
        ledger.add_artifact(A, 1)
