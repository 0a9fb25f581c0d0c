"""The most memory that a survey holds, in a process of its own.

`python -m benchmarks.memory N D SAMPLES` measures one and prints two numbers of bytes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, Goal
from latentgauge.memory import give_large_blocks_back

MB = 1e6
# Rows, latents, draws, and the most in MB.
SIZES = ((60_000, 32, 20_000, 600.0), (1_000_000, 32, 10_000, 2_000.0))


def figures() -> Iterator[Figure]:
    for n, d, samples, most in SIZES:
        before, peak = peak_in_child(n, d, samples)
        yield Figure(
            f"memory of a survey, {n} x {d}, {samples} draws",
            peak / MB,
            "MB",
            before / MB,
            "torch and the table alone",
            Goal("figure", at_most=most),
        )


def peak_in_child(n: int, d: int, samples: int) -> tuple[int, int]:
    """Bytes resident before the survey and at its peak."""
    command = [sys.executable, "-m", "benchmarks.memory", str(n), str(d), str(samples)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak = done.stdout.split()
    return int(before), int(peak)


def resident(which: str) -> int:
    """Bytes of this process by Linux' count: VmRSS now, VmHWM at most since it was started.

    getrusage's figure would hold the parent's from before exec.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{which}:"))
    return 1024 * int(line.split()[1])


def measure(n: int, d: int, samples: int) -> None:
    give_large_blocks_back()
    import torch

    from latentgauge.measures.survey import survey

    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(n, d, dtype=torch.float64, generator=generator)
    logvar = torch.randn(n, d, dtype=torch.float64, generator=generator).mul_(0.3).sub_(2.0)
    before = resident("VmRSS")
    survey(mu, logvar, samples=samples)
    print(before, resident("VmHWM"))


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:]))
