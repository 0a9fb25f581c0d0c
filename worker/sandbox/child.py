"""The child: reads one untrusted file and answers with arrays.

Started as `python -I child.py DESCRIPTOR` with an empty environment and few descriptors: its
request, its inputs (read-only), one pipe for the answer, one for what the file's code prints.
It holds no credential, and with a model no label.

The kernel's confinement belongs between `_bound` and the first byte that is read.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from worker.sandbox.frames import write_frame, write_problem

_PR_SET_PDEATHSIG = 1


def main() -> None:
    with open(int(sys.argv[1]), "rb") as asked:
        request = json.loads(asked.read())
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    stage = STAGES[request["stage"]](request)
    _bound(request["memory_bytes"], request.get("device", "cpu"))
    from latentgauge.errors import LatentgaugeError, OutOfMemory

    try:
        stage()
    except LatentgaugeError as error:
        write_problem(request["answer"], error.problem())
    except MemoryError:
        ended = OutOfMemory(
            "reading the file needs more memory than the limit",
            expected=f"at most {request['memory_bytes']} bytes",
            got="memory ended",
            remedy="post fewer rows, or a narrower dtype",
        )
        write_problem(request["answer"], ended.problem())
    sys.stdout.flush()
    os._exit(0)


def _bound(memory_bytes: int, device: str) -> None:
    """No core, no new file, and no more address space than the libraries have plus the limit.

    CUDA reserves address space by the terabyte: there the parent's look at memory is the limit.
    """
    if device == "cpu":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _read_dataset(request: dict[str, Any]) -> Callable[[], None]:
    from latentgauge.datasets.arrays import read_dataset

    def stage() -> None:
        with open(request["inputs"]["dataset"], "rb") as file:
            arrays, classes = read_dataset(file, limit=request["unpacked_bytes"])
        write_frame(request["answer"], arrays, {"classes": list(classes)})

    return stage


def _read_posterior(request: dict[str, Any]) -> Callable[[], None]:
    from latentgauge.datasets.arrays import read_posterior

    def stage() -> None:
        with open(request["inputs"]["posterior"], "rb") as file:
            arrays, classes, second = read_posterior(file, limit=request["unpacked_bytes"])
        write_frame(request["answer"], arrays, {"classes": list(classes), "second": second})

    return stage


def _encode(request: dict[str, Any]) -> Callable[[], None]:
    from latentgauge.threads import let_threads_sleep

    let_threads_sleep()
    import numpy as np
    import torch

    from latentgauge.encoders.torchscript import load_encoder
    from latentgauge.encoding import encode
    from latentgauge.options import parse_options

    torch.set_num_threads(request["threads"])

    def stage() -> None:
        rows = request["rows"]
        x = np.memmap(
            open(request["inputs"]["x"], "rb"),  # noqa: SIM115 (the map owns it)
            dtype=rows["dtype"],
            mode="r",
            shape=tuple(rows["shape"]),
        )
        with open(request["inputs"]["encoder"], "rb") as file:
            model = load_encoder(file, device=request["device"])
        encoded = encode(model, x, options=parse_options(request["options"]))
        write_frame(
            request["answer"],
            {"mu": encoded.mu, "second": encoded.second},
            {
                "format": encoded.format,
                "outputs": list(encoded.outputs),
                "dtype": encoded.dtype,
                "device": encoded.device,
                "probes": [probe.model_dump() for probe in encoded.probes],
            },
        )

    return stage


# Each imports what it needs, which is trusted, and returns what reads the file, which is not.
STAGES: dict[str, Callable[[dict[str, Any]], Callable[[], None]]] = {
    "read_dataset": _read_dataset,
    "read_posterior": _read_posterior,
    "encode": _encode,
}

if __name__ == "__main__":
    main()
