"""A job: what it reads, what was asked for, where it stands."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import RowMapping

from jobs.states import ENDED, State
from latentgauge.options import Options
from latentgauge.report import ESTIMATOR_VERSION

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Inputs:
    """Digests of what a job reads: an encoder and a data set, or a posterior table."""

    encoder: str | None = None
    dataset: str | None = None
    posterior: str | None = None

    def named(self) -> dict[str, str]:
        return {name: sha for name, sha in vars(self).items() if sha is not None}


@dataclass(frozen=True)
class Job:
    id: str
    state: State
    attempt: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    stage: str | None
    fraction: float | None
    queue: str
    inputs: Inputs
    options: dict[str, Any]
    gates: tuple[str, ...]
    tags: dict[str, str]
    digest: str
    error: dict[str, str] | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Submission:
    """What a caller asks for, checked."""

    inputs: Inputs
    options: Options
    gates: tuple[str, ...]
    tags: dict[str, str]
    queue: str

    @property
    def digest(self) -> str:
        """sha256 of all that decides the numbers; reports are shared by it."""
        decides = {
            "estimator_version": ESTIMATOR_VERSION,
            "inputs": self.inputs.named(),
            "options": self.options.model_dump(mode="json"),
            "queue": self.queue,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def job_id_like(text: str) -> bool:
    """Whether a text has the form of a job's id."""
    return _ID.fullmatch(text) is not None


def new_row(submission: Submission, now: float, state: State) -> dict[str, Any]:
    """The row of a job that begins now, in this state."""
    ended = state in ENDED
    return {
        "id": uuid.uuid4().hex,
        "state": state,
        "attempt": 0,
        "lease_until": None,
        "hinted_at": None,
        "created_at": now,
        "started_at": now if ended else None,
        "finished_at": now if ended else None,
        "stage": None,
        "fraction": None,
        "queue": submission.queue,
        "encoder": submission.inputs.encoder,
        "dataset": submission.inputs.dataset,
        "posterior": submission.inputs.posterior,
        "options": submission.options.model_dump(mode="json"),
        "gates": list(submission.gates),
        "tags": submission.tags,
        "digest": submission.digest,
        "error": None,
    }


def job_of(row: Mapping[str, Any] | RowMapping) -> Job:
    """The job that a row tells of."""
    return Job(
        id=row["id"],
        state=State(row["state"]),
        attempt=row["attempt"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        stage=row["stage"],
        fraction=row["fraction"],
        queue=row["queue"],
        inputs=Inputs(row["encoder"], row["dataset"], row["posterior"]),
        options=row["options"],
        gates=tuple(row["gates"]),
        tags=row["tags"],
        digest=row["digest"],
        error=row["error"],
    )
