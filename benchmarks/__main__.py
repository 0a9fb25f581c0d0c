"""`make bench`: what the service and the joint pass cost, each against a limit measured beside it.

Exits 1 when a goal is missed. Ratios, not seconds: machines differ, and are shared.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from latentgauge.threads import let_threads_sleep

let_threads_sleep()

import httpx
import numpy as np
import torch

from examples.demo import HERE, service
from latentgauge.client import Client
from latentgauge.measures.joint import Draws, Standardised, joint_sums
from latentgauge.measures.units import numbered
from worker.sandbox.box import CHILD

ROWS, LATENTS = 10_000, 16
POSTS = 20


@dataclass(frozen=True)
class Result:
    """A figure, the limit it is held against, and the ratio that is the goal."""

    name: str
    seconds: float
    limit: float
    limit_is: str
    goal: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.limit

    def line(self) -> str:
        word = "met" if self.ratio <= self.goal else "MISSED"
        return (
            f"{self.name}: {self.seconds:.3f} s, {self.ratio:.2f} x {self.limit_is} "
            f"({self.limit:.3f} s); goal {self.goal:g} x: {word}"
        )


def best(work: Callable[[], object], *, times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def joint_pass() -> Result:
    """The pass over all pairs, against one float64 product of its size and one exp a pair."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(ROWS, LATENTS, dtype=torch.float64, generator=generator)
    table = Standardised.of(mu, torch.full_like(mu, math.log(0.1)))
    draws = Draws.of(table, samples=ROWS, generator=generator)
    units = numbered(None, ROWS)
    left = torch.randn(ROWS, 2 * LATENTS + 1, dtype=torch.float64, generator=generator)
    right, block = left.T.contiguous(), torch.empty(512, 2048, dtype=torch.float64)

    def limit() -> None:
        for i in range(0, ROWS, 512):
            for j in range(0, ROWS, 2048):
                rows, columns = left[i : i + 512], right[:, j : j + 2048]
                out = block[: len(rows), : columns.shape[1]]
                torch.mm(rows, columns, out=out)
                out.clamp_(-1.0, 0.0).exp_()

    return Result(
        f"joint pass {ROWS} x {ROWS} x {LATENTS}",
        best(lambda: joint_sums(table, draws, units=units)),
        best(limit),
        "its product and exponentials",
        goal=2.0,
    )


def bare_child() -> float:
    """Seconds to start an interpreter that loads what an encoder's child loads."""
    code = "import torch, numpy, latentgauge.encoders.torchscript"
    return best(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def first_report() -> list[Result]:
    """A small job from POST to its end, and from POST to its first child, as a warm worker does."""
    with tempfile.TemporaryDirectory() as data, service(data) as url, Client(url) as client:
        encoder = client.upload(HERE / "digits_beta100_encoder.pt")
        table = Path(data) / "small.npz"
        started_after, ended_after = [], []
        for turn in range(POSTS + 1):
            x = np.random.default_rng(turn).random((50, 8, 8), dtype=np.float32)
            np.savez(table, x=x)
            dataset = client.upload(table)
            posted = time.perf_counter()
            job = client.submit(encoder=encoder, dataset=dataset)
            while not running_child():
                pass
            started = time.perf_counter() - posted
            client.wait(job.id, deadline_s=60)
            if turn:  # the first job loads torch into the worker
                started_after.append(started)
                ended_after.append(time.perf_counter() - posted)
        with httpx.Client(base_url=url) as http:
            polls = best(lambda: http.get(f"/v1/jobs/{job.id}"), times=200)
            bare = best(lambda: http.get("/healthz"), times=200)
    child = bare_child()
    median = float(np.median(ended_after))
    started = float(np.percentile(started_after, 95))
    return [
        Result("POST to child running, p95", started, child, "starting such a child", goal=0.5),
        Result("POST to report, 50 rows, median", median, child, "starting such a child", goal=3.0),
        Result("GET a job", polls, bare, "GET /healthz", goal=5.0),
    ]


def running_child() -> bool:
    """Whether a child of the box is at work anywhere on this machine."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(CHILD).encode() in process.read_bytes():
                return True
        except OSError:
            continue
    return False


def main() -> int:
    results = [joint_pass(), *first_report()]
    print("\n".join(result.line() for result in results))
    return 0 if all(result.ratio <= result.goal for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
