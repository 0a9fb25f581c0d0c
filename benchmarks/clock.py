"""Seconds of a piece of work, undisturbed: the least of several runs."""

from __future__ import annotations

import time
from collections.abc import Callable

Work = Callable[[], object]


def seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best(work: Work, *, times: int = 3) -> float:
    return min(seconds(work) for _ in range(times))


def best_of_both(work: Work, limit: Work, *, times: int = 3) -> tuple[float, float]:
    """Seconds of each, run in turn: what else the machine does then slows both."""
    runs = [(seconds(work), seconds(limit)) for _ in range(times)]
    return min(a for a, _ in runs), min(b for _, b in runs)
