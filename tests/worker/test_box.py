"""Children that answer, fail, hang, grow, print and die; the parent outlives them all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from latentgauge.errors import (
    EncoderCrashed,
    LatentgaugeError,
    NotDeterministic,
    OutOfMemory,
    OutputLimit,
    TimeLimit,
    UnreadableDataset,
)
from latentgauge.options import Options
from tests.conftest import wait_for
from tests.models import (
    Chatty,
    Greedy,
    Hanging,
    Linear,
    Noisy,
    Wide,
    npz,
    rows,
    scripted,
)
from worker.rows_file import rows_file
from worker.sandbox.box import CHILD, Limits, run_stage
from worker.sandbox.frames import Frame

LIMITS = Limits(seconds=30, memory_bytes=1 << 30, answer_bytes=1 << 28)


def read_dataset(data: bytes, *, limits: Limits = LIMITS, program: Path = CHILD) -> Frame:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return run_stage(
            "read_dataset",
            {"dataset": file.fileno()},
            {"unpacked_bytes": 1 << 28},
            limits=limits,
            child_program=program,
        )


def encode(
    model: bytes,
    x: np.ndarray[Any, Any],
    *,
    limits: Limits = LIMITS,
    tick: Any = lambda: None,
    **options: Any,
) -> Frame:
    with tempfile.TemporaryFile() as file, rows_file(x) as (descriptor, shape):
        file.write(model)
        file.flush()
        request: Mapping[str, Any] = {
            "rows": shape,
            "options": Options(**options).model_dump(mode="json"),
            "device": "cpu",
            "threads": 1,
        }
        inputs = {"encoder": file.fileno(), "x": descriptor}
        return run_stage("encode", inputs, request, limits=limits, tick=tick)


def children() -> list[int]:
    """The live children of this process that run the box's program."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if str(CHILD) in child.cmdline():
                found.append(child.pid)
    return found


def test_a_data_set_comes_back_as_raw_arrays() -> None:
    x = rows(50)
    frame = read_dataset(npz(x=x, y=np.array(["b", "a"] * 25)))
    np.testing.assert_array_equal(frame.arrays["x"], x)
    np.testing.assert_array_equal(frame.arrays["y"], [1, 0] * 25)
    assert frame.meta["classes"] == ["a", "b"]


def test_the_numbers_are_those_of_the_encoder_run_here() -> None:
    x, model = rows(1000), Linear()
    frame = encode(scripted(model), x, batch_size=300)
    expected = x @ model.weight.detach().numpy()
    np.testing.assert_allclose(frame.arrays["mu"], expected, rtol=1e-5, atol=1e-6)
    assert frame.arrays["mu"].shape == frame.arrays["second"].shape == (1000, 3)


def test_what_a_child_says_of_its_file_is_raised() -> None:
    with pytest.raises(NotDeterministic, match="the same rows give different outputs"):
        encode(scripted(Noisy()), rows())


def test_a_hanging_encoder_ends_at_its_time_and_says_where() -> None:
    limits = Limits(seconds=6, memory_bytes=1 << 30, answer_bytes=1 << 20)
    with pytest.raises(TimeLimit, match="time limit of 6 s reached in encode"):
        encode(scripted(Hanging()), rows(), limits=limits)


def test_an_encoder_without_end_of_memory_is_stopped_at_the_limit() -> None:
    limits = Limits(seconds=60, memory_bytes=600 << 20, answer_bytes=1 << 20)
    with pytest.raises(OutOfMemory, match=r"memory limit of 600 MiB|single row"):
        encode(scripted(Greedy()), rows(), limits=limits)


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    limits = Limits(seconds=100, memory_bytes=900 << 20, answer_bytes=1 << 20)
    x = rows(40)
    frame = encode(scripted(Wide()), x, limits=limits, batch_size=32)
    np.testing.assert_array_equal(frame.arrays["mu"], x[:, :3])
    batches = next(p for p in frame.meta["probes"] if p["probe"] == "batches")
    size = int(re.findall(r"batches of (\d+)", batches["detail"])[0])
    assert size < 32


def test_an_encoder_that_prints_without_end_is_stopped() -> None:
    limits = Limits(seconds=60, memory_bytes=1 << 30, answer_bytes=1 << 20, log_bytes=10_000)
    with pytest.raises(OutputLimit, match="the encoder prints too much"):
        encode(scripted(Chatty()), rows(), limits=limits)


def test_an_answer_above_the_limit_is_refused() -> None:
    limits = Limits(seconds=30, memory_bytes=1 << 30, answer_bytes=100)
    with pytest.raises(OutputLimit, match="larger than the limit"):
        read_dataset(npz(x=rows()), limits=limits)


@pytest.mark.parametrize(
    ("signal_number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (6, "SIGABRT")]
)
def test_a_child_that_dies_fails_the_stage_and_not_the_parent(
    signal_number: int, name: str
) -> None:
    def kill() -> None:
        for pid in children():
            os.kill(pid, signal_number)

    with pytest.raises(EncoderCrashed, match=f"it died with signal {name}"):
        encode(scripted(Hanging()), rows(), tick=kill)


def test_a_child_that_answers_rubbish_is_refused(tmp_path: Path) -> None:
    impostor = tmp_path / "child.py"
    impostor.write_text(
        "import json, os, sys\nr = json.load(open(int(sys.argv[1])))\n"
        "os.write(r['answer'], b'\\x80\\x04rubbish that is a pickle')\n"
    )
    with pytest.raises(UnreadableDataset, match="its answer is broken"):
        read_dataset(b"", program=impostor)


def test_when_the_tick_raises_the_child_is_dead() -> None:
    class Over(Exception):
        pass

    started = time.monotonic()

    def tick() -> None:
        if time.monotonic() - started > 4:
            raise Over

    with pytest.raises(Over):
        encode(scripted(Hanging()), rows(), tick=tick)
    assert children() == []


def test_the_child_has_an_empty_environment_and_no_other_file() -> None:
    seen: dict[str, Any] = {}

    def look() -> None:
        for pid in children():
            if not seen and psutil.Process(pid).cpu_times().user > 4:
                seen["environment"] = Path(f"/proc/{pid}/environ").read_bytes()
                seen["files"] = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}

    os.environ["SECRET_OF_THE_WORKER"] = "hush"
    limits = Limits(seconds=10, memory_bytes=1 << 30, answer_bytes=1 << 20)
    try:
        with pytest.raises(TimeLimit):
            encode(scripted(Hanging()), rows(), limits=limits, tick=look)
    finally:
        del os.environ["SECRET_OF_THE_WORKER"]
    assert seen["environment"] == b""
    named = {file for file in seen["files"] if not file.startswith(("pipe:", "/dev/null"))}
    assert all(file.endswith("(deleted)") for file in named), named
    assert len(named) == 1, "the rows; the encoder's file is closed once it is read"


def memory_of(pid: int) -> bytes:
    """All readable private memory of a process."""
    found = []
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *rest = line.split()
            if not mode.startswith("r") or "[v" in line or (len(rest) > 3 and ".so" in rest[3]):
                continue
            start, end = (int(side, 16) for side in span.split("-"))
            if end - start > 1 << 28:
                continue
            try:
                memory.seek(start)
                found.append(memory.read(end - start))
            except (OSError, ValueError, OverflowError):
                continue
    return b"".join(found)


def test_the_encoders_child_holds_x_and_not_y() -> None:
    """The whole path of a worker: the file has both, the second child is given one."""
    from worker.run import _dataset

    mark_x, mark_y = 0.123456789, 987654321.25
    x = np.full((64, 6), mark_x)
    y_like = np.full((64, 4), mark_y)  # factors: numbers that no library holds by chance
    frame = read_dataset(npz(x=x, factors=y_like, y=np.arange(64) % 2))
    dataset = _dataset(frame, max_rows=1000)
    assert dataset.factors is not None
    seen: list[bytes] = []

    def look() -> None:
        for pid in children():
            if not seen and psutil.Process(pid).cpu_times().user > 4:
                seen.append(memory_of(pid))

    limits = Limits(seconds=12, memory_bytes=1 << 30, answer_bytes=1 << 20)
    with pytest.raises(TimeLimit):
        encode(scripted(Hanging()), dataset.x, limits=limits, tick=look)
    x_bytes = np.full(4, mark_x, dtype=np.float64).tobytes()
    y_bytes = np.full(4, mark_y, dtype=np.float64).tobytes()
    codes = (np.arange(16) % 2).astype(np.int64).tobytes()
    assert x_bytes in seen[0], "the search itself finds what is there"
    assert y_bytes not in seen[0]
    assert codes not in seen[0]


def test_a_child_that_claims_another_kind_of_fault_is_a_crash(tmp_path: Path) -> None:
    impostor = tmp_path / "child.py"
    header = b'{"arrays": [], "meta": {}, "problem": {"code": "worker_lost"}}'
    impostor.write_text(
        "import json, os, struct, sys\nr = json.load(open(int(sys.argv[1])))\n"
        f"h = {header!r}\nos.write(r['answer'], struct.pack('<I', len(h)) + h)\n"
    )
    with pytest.raises(LatentgaugeError, match="not its to claim"):
        read_dataset(b"", program=impostor)


def test_threads_do_not_keep_the_watch_from_seeing_the_end() -> None:
    before = threading.active_count()
    read_dataset(npz(x=rows(10)))
    assert threading.active_count() == before


class Heavy(nn.Module):
    """Weights of 400 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(100_000_000))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.weight[:1], x


def test_weights_that_do_not_fit_are_out_of_memory() -> None:
    limits = Limits(seconds=60, memory_bytes=200 << 20, answer_bytes=1 << 20)
    with pytest.raises(OutOfMemory, match=r"reading the file needs more|memory limit of 200 MiB"):
        encode(scripted(Heavy()), rows(), limits=limits)


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    impostor, note = tmp_path / "child.py", tmp_path / "pid"
    impostor.write_text(
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    open({str(note)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        f"while not os.path.exists({str(note)!r}): time.sleep(0.01)\n"
    )
    started = time.monotonic()
    with pytest.raises(UnreadableDataset, match="its answer is broken"):
        read_dataset(b"", program=impostor)
    assert time.monotonic() - started < 20, "it held the pipes, and was not waited for"
    wait_for(lambda: not psutil.pid_exists(int(note.read_text())), what="the grandchild's end")


def test_a_stage_leaves_no_descriptor_behind() -> None:
    read_dataset(npz(x=rows(10)))
    before = len(os.listdir("/proc/self/fd"))
    read_dataset(npz(x=rows(10)))
    with pytest.raises(UnreadableDataset):
        read_dataset(b"")
    assert len(os.listdir("/proc/self/fd")) == before
