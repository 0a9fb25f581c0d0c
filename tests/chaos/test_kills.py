"""The long form of what test_embedded shows once: parts are killed again and again."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.conftest import Running, start, stop, wait_for
from tests.models import npz

pytestmark = pytest.mark.chaos
JOBS, BROKER_KILLS, WORKER_KILLS = 30, 20, 10
TABLE = npz(mu=np.random.default_rng(0).normal(size=(300, 2)), logvar=np.full((300, 2), -2.0))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = start(
        tmp_path / "data", lease_seconds="2", recovery_seconds="0.3", stalled_seconds="10"
    )
    yield found
    stop(found)


def kill(running: Running, words: str) -> None:
    """Kill a part, once it is there."""

    def found() -> list[psutil.Process]:
        parts = []
        for process in psutil.Process(running.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # a zombie has no command line
                if words in " ".join(process.cmdline()):
                    parts.append(process)
        return parts

    wait_for(lambda: bool(found()), what=words)
    found()[0].kill()


def posted(http: httpx.Client, seed: int) -> str:
    answer = http.post(
        "/v1/jobs", files={"posterior": TABLE}, data={"options": json.dumps({"seed": seed})}
    )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def states(http: httpx.Client, addresses: list[str]) -> list[str]:
    return [http.get(address).json()["state"] for address in addresses]


def test_no_job_is_lost_however_often_the_broker_is_killed(running: Running) -> None:
    pause = random.Random(1)
    with running.client() as http:
        addresses = []
        for turn in range(BROKER_KILLS):
            addresses += [posted(http, seed=turn * 100 + k) for k in range(JOBS // 10)]
            time.sleep(pause.uniform(0.1, 1.5))
            kill(running, "valkey-server")
        wait_for(
            lambda: set(states(http, addresses)) == {"succeeded"}, seconds=300, what="every job"
        )
        assert {http.get(address).json()["attempt"] for address in addresses} == {1}


def test_no_job_is_lost_when_workers_are_killed(running: Running) -> None:
    """At most two deaths a job, so that none runs out of attempts."""
    with running.client() as http:
        addresses = [posted(http, seed) for seed in range(JOBS)]
        deaths: dict[str, int] = {}
        killed = 0
        while killed < WORKER_KILLS and "queued" in states(http, addresses):
            at_work = [a for a, s in zip(addresses, states(http, addresses), strict=True)
                       if s == "running"]  # fmt: skip
            if at_work and deaths.get(at_work[0], 0) < 2:
                deaths[at_work[0]] = deaths.get(at_work[0], 0) + 1
                kill(running, "celery")
                killed += 1
            time.sleep(0.05)
        wait_for(
            lambda: set(states(http, addresses)) == {"succeeded"}, seconds=300, what="every job"
        )
        assert killed > 0
        for address in addresses:
            assert http.get(address).json()["attempt"] <= 1 + deaths.get(address, 0)
