"""`make demo`: a live code passes its gates, a collapsed one fails them, over HTTP.

Starts the embedded service on a free port, posts the two encoders of this folder, prints what
came back, and stops the service. Exit 0 when both ended as they should.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from embedded import free_port
from latentgauge.client import Client
from latentgauge.console import showing_progress
from latentgauge.job import Job
from latentgauge.render import html, table

HERE = Path(__file__).resolve().parent
GATES = ["mutual_information >= 3", "active_dimensions.count >= 4", "collapse.verdict != full"]
_STARTING_SECONDS = 60.0
_DEADLINE_SECONDS = 300.0


@dataclass(frozen=True)
class Case:
    """An encoder of this folder, and what its gates must say."""

    beta: str
    outcome: str
    file: str


CASES = (Case("1", "pass", "demo-report"), Case("100", "fail", "demo-collapsed"))


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="latentgauge-demo-") as data, service(data) as url:
        print(f"The service runs on {url} ({time.monotonic() - started:.1f} s).\n")
        as_expected = [shown(case, url) for case in CASES]
    files = " ".join(f"{case.file}.json {case.file}.html" for case in CASES)
    print(f"Written: {files}")
    print("The service is stopped. To keep one running: make serve (http://127.0.0.1:8000)")
    if not all(as_expected):
        print("The demo did not end as it should: please report this output.")
    return 0 if all(as_expected) else 1


@contextmanager
def service(data: str) -> Iterator[str]:
    """The address of an embedded service, stopped at the end of the block."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "embedded", "--data", data, "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the service did not start:\n{process.communicate()[1]}")
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {_STARTING_SECONDS:g} s")


def shown(case: Case, url: str) -> bool:
    """Post a case and print its report; whether the verdict is the one that it should be."""
    encoder = HERE / f"digits_beta{case.beta}_encoder.pt"
    print(f"beta = {case.beta}: posting {encoder.name} and digits.npz")
    with Client(url) as client, showing_progress() as progress:
        job = client.submit(
            encoder=client.upload(encoder),
            dataset=client.upload(HERE / "digits.npz"),
            gates=GATES,
            tags={"beta": case.beta},
        )
        job = client.wait(
            job.id,
            deadline_s=_DEADLINE_SECONDS,
            on_progress=lambda seen: progress(*told(seen)),
        )
        if failure := job.failure():
            print(f"{failure.code}: {failure}")
            return False
        report = client.report(job.id)
    print(table.render_report(report, job.verdict))
    Path(f"{case.file}.json").write_text(report.to_json())
    Path(f"{case.file}.html").write_text(html.render_report(report, job.verdict))
    return job.verdict is not None and job.verdict.outcome == case.outcome


def told(job: Job) -> tuple[str, float]:
    if job.progress is None:
        return job.state, 0.0
    return job.progress.stage, job.progress.fraction


if __name__ == "__main__":
    sys.exit(main())
