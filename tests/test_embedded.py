"""The embedded service: it starts, survives the death of its parts, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Running, ready, serve, start, stop, wait_for
from tests.models import Hanging, Linear, npz, rows, scripted

QUICK = {"lease_seconds": "2", "recovery_seconds": "0.3"}


def family(running: Running) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def part(running: Running, words: str) -> psutil.Process:
    return next(p for p in family(running) if words in " ".join(p.cmdline()))


def gone(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = start(tmp_path / "data", **QUICK)
    yield found
    if found.process.poll() is None:
        stop(found)


def post(http: httpx.Client, encoder: bytes, **options: object) -> str:
    answer = http.post(
        "/v1/jobs",
        files={"encoder": encoder, "dataset": npz(x=rows(60))},
        data={"options": json.dumps(options)},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def state(http: httpx.Client, address: str) -> str:
    return str(http.get(address).json()["state"])


def stage(http: httpx.Client, address: str) -> str | None:
    progress = http.get(address).json()["progress"]
    return None if progress is None else str(progress["stage"])


def test_every_part_is_a_process_whose_command_line_names_it(running: Running) -> None:
    lines = [" ".join(p.cmdline()) for p in family(running)]
    for words in ("uvicorn app.main:app", "celery -A worker.main worker", "valkey-server"):
        assert sum(words in line for line in lines) == 1, lines
    assert not [line for line in lines if "password" in line or "requirepass" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_the_middle_of_a_job_and_leaves_no_process(
    running: Running, number: int
) -> None:
    with running.client() as http:
        address = post(http, scripted(Hanging()))
        wait_for(lambda: stage(http, address) == "encoding", what="the encoder's child")
    everyone = family(running)
    assert len(everyone) >= 4, "valkey, worker, web, and the child that hangs"
    running.process.send_signal(number)
    said = running.process.communicate(timeout=40)[1]
    assert running.process.returncode == 0
    assert said.rstrip().endswith("stopping")
    assert "post only encoders that you trust" in running.said[1]
    wait_for(lambda: gone(everyone), what="the end of every part")


def test_a_job_that_was_given_back_runs_when_the_service_is_there_again(tmp_path: Path) -> None:
    first = start(tmp_path / "data", **QUICK, encoding_seconds="5")
    with first.client() as http:
        address = post(http, scripted(Hanging()))
        wait_for(lambda: state(http, address) == "running", what="the job")
    stop(first)
    second = start(tmp_path / "data", **QUICK, encoding_seconds="5")
    try:
        with second.client() as http:
            job = http.get(address, params={"wait": 30}).json()
            assert job["error"]["code"] == "time_limit"
            assert job["attempt"] == 1
    finally:
        stop(second)


def test_when_it_is_killed_the_kernel_stops_its_parts(running: Running) -> None:
    everyone = family(running)
    running.process.kill()
    running.process.communicate()
    wait_for(lambda: gone(everyone), what="the end of every part")


def test_a_killed_worker_is_replaced_and_its_job_runs_again(running: Running) -> None:
    with running.client() as http:
        address = post(http, scripted(Hanging()))
        wait_for(lambda: state(http, address) == "running", what="the job")
        children = part(running, "celery").children(recursive=True)
        part(running, "celery").kill()
        wait_for(lambda: gone(children), what="the end of the worker's child")
        wait_for(
            lambda: http.get(address).json()["attempt"] == 2, seconds=30, what="the second attempt"
        )
        http.delete(address)
        again = post(http, scripted(Linear()))
        assert http.get(again, params={"wait": 30}).json()["state"] == "succeeded"


def test_a_job_posted_while_the_broker_is_dead_runs_when_it_is_back(running: Running) -> None:
    part(running, "valkey-server").kill()
    with running.client() as http:
        posted = time.monotonic()
        address = post(http, scripted(Linear()))
        assert time.monotonic() - posted < 5, "POST does not wait for the broker"
        assert http.get(address, params={"wait": 45}).json()["state"] == "succeeded"
        wait_for(lambda: ready(running.url), what="readiness")


def test_a_deleted_job_stops_its_child(running: Running) -> None:
    with running.client() as http:
        address = post(http, scripted(Hanging()))
        wait_for(lambda: stage(http, address) == "encoding", what="the encoder's child")
        children = part(running, "celery").children()
        assert children
        http.delete(address)
        wait_for(lambda: gone(children), seconds=5, what="the end of the child")
        again = post(http, scripted(Linear()))
        assert http.get(again, params={"wait": 30}).json()["state"] == "succeeded"


def test_a_folder_in_use_is_said(running: Running) -> None:
    other = serve(running.data, 0)
    assert "another service uses the folder" in other.communicate(timeout=30)[1]
    assert other.returncode == 1


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = serve(tmp_path / "file" / "data", 0)
    assert "cannot be used (Not a directory)" in process.communicate(timeout=30)[1]
    assert process.returncode == 1


def test_what_a_killed_service_left_goes_when_the_next_one_starts(tmp_path: Path) -> None:
    first = start(tmp_path / "data", **QUICK)
    left = Path((tmp_path / "data" / "run").read_text())
    everyone = family(first)
    first.process.kill()
    first.process.communicate()
    wait_for(lambda: gone(everyone), what="the end of every part")
    assert left.exists()
    stop(start(tmp_path / "data", **QUICK))
    assert not left.exists()
    assert not (tmp_path / "data" / "run").exists()


def test_a_port_in_use_is_said(running: Running, tmp_path: Path) -> None:
    port = int(running.url.rpartition(":")[2])
    other = serve(tmp_path / "other", port)
    assert f"port {port} of 127.0.0.1 cannot be used" in other.communicate(timeout=30)[1]
    assert other.returncode == 1


def test_a_part_that_cannot_start_is_said_with_its_last_words(tmp_path: Path) -> None:
    process = serve(tmp_path / "data", 0, worker_device="tpu")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "ended at its start" in said
    assert "worker_device" in said


def test_the_folder_of_the_broker_is_for_the_owner_alone(running: Running) -> None:
    command = part(running, "valkey-server").cmdline()
    socket = next(word for word in command if "unixsocket:" in word).partition(":")[2]
    assert os.stat(os.path.dirname(socket)).st_mode & 0o077 == 0


def test_make_serve_runs_it() -> None:
    root = Path(__file__).resolve().parents[1]
    shown = subprocess.run(
        ["make", "--dry-run", "serve", "DATA=elsewhere", "PORT=1234"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '-m embedded --data "elsewhere" --port 1234' in shown.stdout
