"""A job as the service tells of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from latentgauge.errors import Canceled, LatentgaugeError, from_problem
from latentgauge.gates import Verdict

State = Literal["queued", "running", "succeeded", "failed", "canceled"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "canceled"})


class Document(BaseModel):
    """What the service says; a newer one may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Progress(Document):
    stage: str
    fraction: float


class JobInputs(Document):
    """The sha256 of each artifact."""

    encoder: str | None = None
    dataset: str | None = None
    posterior: str | None = None


class Job(Document):
    id: str
    state: State
    progress: Progress | None = None
    attempt: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    inputs: JobInputs = JobInputs()
    options: dict[str, Any] = {}
    gates: list[str] = []
    tags: dict[str, str] = {}
    error: dict[str, Any] | None = None
    verdict: Verdict | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def failure(self) -> LatentgaugeError | None:
        """Why the job has no report, or its gates no verdict; None when nothing is wrong."""
        if self.state == "failed" or self.error is not None:
            return from_problem(self.error or {})
        if self.state == "canceled":
            return Canceled(f"job {self.id} was canceled", remedy="submit it again")
        return None
