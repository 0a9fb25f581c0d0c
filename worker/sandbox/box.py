"""The parent's side of a child process: start it, watch it, take its answer, or say why not.

The child is killed when it outlives its time, takes more memory than its limit, prints or
answers more than allowed, or when `tick` raises because the job is to stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from latentgauge.errors import (
    BY_CODE,
    EncoderCrashed,
    InputFault,
    InvalidOption,
    LatentgaugeError,
    OutOfMemory,
    OutputLimit,
    TimeLimit,
    UnreadableDataset,
    from_problem,
)
from worker.sandbox.frames import BadFrame, Frame, Receiver

CHILD = Path(__file__).with_name("child.py")
_WATCH_SECONDS = 0.02
_READ = 1 << 20
_LOG_TAIL = 2000  # bytes of the child's own output that a message quotes
_MAX_SENTENCE = 1000  # characters of a sentence that a child may say


@dataclass(frozen=True)
class Limits:
    """Of one child: seconds of wall time, bytes of memory, of its answer and of its output."""

    seconds: float
    memory_bytes: int
    answer_bytes: int
    log_bytes: int = 1 << 20


def run_stage(
    stage: str,
    inputs: Mapping[str, int],
    request: Mapping[str, Any],
    *,
    limits: Limits,
    tick: Callable[[], None] = lambda: None,
    child_program: Path = CHILD,
) -> Frame:
    """The answer of a child that runs one stage on the given descriptors.

    Raises:
        InputFault: what the child said of its file, or how it died, with a code for each.
        Exception: whatever `tick` raised; the child is dead by then.
    """
    whole = {**request, "stage": stage, "inputs": dict(inputs), "memory_bytes": limits.memory_bytes}
    with ExitStack() as stack:
        answer, answer_end = _pipe(stack)
        log, log_end = _pipe(stack)
        receiver = stack.enter_context(closing(Receiver(limit=limits.answer_bytes)))
        asked = stack.enter_context(tempfile.TemporaryFile())
        asked.write(json.dumps({**whole, "answer": answer_end.fileno()}).encode())
        asked.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-I", str(child_program), str(asked.fileno())],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log_end,
            stderr=log_end,
            pass_fds=[*inputs.values(), asked.fileno(), answer_end.fileno()],
            start_new_session=True,
        )
        stack.enter_context(_killed_at_the_end(child))
        answer_end.close()
        log_end.close()
        watch = _Watch(stage, child, answer.fileno(), log.fileno(), receiver, limits, tick)
        watch.until_the_end()
        return watch.frame()


def _pipe(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Both ends of a pipe, closed with the stack if not before."""
    reading, writing = os.pipe()
    return (
        stack.enter_context(open(reading, "rb", buffering=0)),
        stack.enter_context(open(writing, "wb", buffering=0)),
    )


@contextlib.contextmanager
def _killed_at_the_end(child: subprocess.Popen[bytes]) -> Any:
    """Kills the child's whole group before the child is reaped, while its id is still its own."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


class _Watch:
    def __init__(
        self,
        stage: str,
        child: subprocess.Popen[bytes],
        answer: int,
        log: int,
        receiver: Receiver,
        limits: Limits,
        tick: Callable[[], None],
    ) -> None:
        self._stage = stage
        self._child = child
        self._limits = limits
        self._tick = tick
        self._answer = answer
        self._log = log
        self._receiver = receiver
        self._tail = b""
        self._printed = 0
        self._started = time.monotonic()
        self._peak = 0

    def until_the_end(self) -> None:
        """Read both pipes until they close, looking at the child every 20 ms."""
        with selectors.DefaultSelector() as pipes:
            pipes.register(self._answer, selectors.EVENT_READ)
            pipes.register(self._log, selectors.EVENT_READ)
            while pipes.get_map():
                for key, _ in pipes.select(_WATCH_SECONDS):
                    data = os.read(key.fd, _READ)
                    if not data:
                        pipes.unregister(key.fd)
                    elif key.fd == self._answer:
                        self._take(data)
                    else:
                        self._hear(data)
                self._look()
                if self._ended():  # whatever it started keeps no pipe open
                    os.killpg(self._child.pid, signal.SIGKILL)
        while not self._ended():
            self._look()
            time.sleep(_WATCH_SECONDS)

    def _ended(self) -> bool:
        """Whether the child itself has ended; it is not reaped yet."""
        ended = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None

    def frame(self) -> Frame:
        """The child's answer, or the error that it stands for."""
        if self._child.wait():
            raise self._death()
        try:
            frame = self._receiver.frame()
        except BadFrame as error:
            raise self._crash(f"its answer is broken: {error}") from None
        if frame.problem is not None:
            raise self._said(frame.problem)
        return frame

    def _take(self, data: bytes) -> None:
        try:
            self._receiver.feed(data)
        except BadFrame as error:
            raise self._crash(f"its answer is broken: {error}") from None

    def _hear(self, data: bytes) -> None:
        self._printed += len(data)
        self._tail = (self._tail + data)[-_LOG_TAIL:]
        if self._printed > self._limits.log_bytes:
            raise OutputLimit(
                f"the {_FILE[self._stage]} prints too much",
                expected=f"at most {self._limits.log_bytes} bytes on stdout and stderr",
                got=f"{self._printed} bytes after {self._elapsed:.1f} s in {self._stage}",
                remedy="remove print statements from forward before the export",
            )

    def _look(self) -> None:
        self._tick()
        if self._elapsed > self._limits.seconds:
            raise TimeLimit(
                f"time limit of {self._limits.seconds:g} s reached in {self._stage}",
                expected=f"an answer within {self._limits.seconds:g} s",
                got=f"none after {self._elapsed:.1f} s, with {_size(self._peak)} of memory used",
                remedy="post fewer rows or a smaller encoder, or ask the operator for more time",
            )
        used = _private_bytes(self._child.pid)
        self._peak = max(self._peak, used)
        if used > self._limits.memory_bytes:
            raise self._memory()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _memory(self) -> OutOfMemory:
        return OutOfMemory(
            f"memory limit of {_size(self._limits.memory_bytes)} reached after "
            f"{self._elapsed:.1f} s in {self._stage}",
            expected=f"at most {_size(self._limits.memory_bytes)}",
            got=f"{_size(self._peak)} in use",
            remedy="post fewer rows, set a smaller batch_size, or ask the operator for more",
        )

    def _death(self) -> LatentgaugeError:
        code = self._child.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return self._crash(f"it died with {how} after {self._elapsed:.1f} s")

    def _crash(self, how: str) -> LatentgaugeError:
        said = _printable(self._tail.decode("utf-8", "replace"))
        kind = EncoderCrashed if self._stage == "encode" else UnreadableDataset
        return kind(
            f"the process that read the {_FILE[self._stage]} gave no answer: {how}",
            expected="a file that the reader survives",
            got=how + (f"; its last output: {said[-500:]}" if said else ""),
            remedy=f"try the {_FILE[self._stage]} on your own machine with latentgauge analyse",
        )

    def _said(self, problem: Mapping[str, Any]) -> LatentgaugeError:
        """What a child says of its own file; only faults of inputs are its to claim."""
        kind = BY_CODE.get(str(problem.get("code")))
        if kind is None or not issubclass(kind, InputFault | InvalidOption):
            return self._crash("it answered with a problem that is not its to claim")
        return from_problem(
            {key: _printable(str(value))[:_MAX_SENTENCE] for key, value in problem.items()}
        )


_FILE = {"read_dataset": "data set", "read_posterior": "posterior table", "encode": "encoder"}


def _private_bytes(pid: int) -> int:
    """Anonymous and shared memory of a process: what it took, without mapped libraries."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    kilobytes = [
        int(line.split()[1])
        for line in status.splitlines()
        if line.startswith(("RssAnon:", "RssShmem:"))
    ]
    return 1024 * sum(kilobytes)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _size(count: int) -> str:
    return f"{count / 2**30:.2g} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
