"""What a small job costs from POST to report, beside starting such a child process alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks.clock import best
from benchmarks.figure import Figure, Goal
from examples.demo import HERE, service
from latentgauge.client import Client
from worker.sandbox.box import CHILD

POSTS = 20


def figures() -> Iterator[Figure]:
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
    child, alone = bare_child(), "starting such a child"
    started, median = float(np.percentile(started_after, 95)), float(np.median(ended_after))
    yield Figure("POST to child running, p95", started, "s", child, alone, Goal(at_most=0.5))
    yield Figure("POST to report, 50 rows, median", median, "s", child, alone, Goal(at_most=3.0))
    yield Figure("GET a job", polls, "s", bare, "GET /healthz", Goal(at_most=5.0))


def bare_child() -> float:
    """Seconds to start an interpreter that loads what an encoder's child loads."""
    code = "import torch, numpy, latentgauge.encoders.torchscript"
    return best(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def running_child() -> bool:
    """Whether a child of the box is at work anywhere on this machine."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(CHILD).encode() in process.read_bytes():
                return True
        except OSError:
            continue
    return False
