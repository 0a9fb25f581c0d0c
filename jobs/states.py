"""The states of a job and what may follow which; pure.

queued -> running(attempt n, lease until t) -> succeeded | failed(code) | canceled
   ^------- lease expired, n < 3 ----|        n = 3 -> failed(worker_lost)
"""

from __future__ import annotations

from enum import StrEnum

MAX_ATTEMPTS = 3


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})
