"""One job from its row to its report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.blobs import Blobs
from jobs.ledger import Job
from jobs.settings import Settings
from latentgauge.analysis import Subject, analyse
from latentgauge.datasets.rows import Dataset, assemble
from latentgauge.encoded import Encoded
from latentgauge.errors import EncoderCrashed, NotFound, UnreadableDataset
from latentgauge.options import Options, parse_options
from latentgauge.report import Probe, Report
from latentgauge.subject import encoded_subject, environment, table_subject
from worker.rows_file import rows_file
from worker.sandbox.box import Limits, run_stage
from worker.sandbox.frames import Frame

# Stage and fraction done; raises when the job is to stop.
Tick = Callable[[str, float], None]


@dataclass
class Run:
    """The means of one job: where bytes lie, how much each child may take, whom to tell."""

    blobs: Blobs
    settings: Settings
    tick: Tick
    timings: dict[str, float] = field(default_factory=dict)

    def report(self, job: Job) -> Report:
        """The report of a job.

        Raises:
            LatentgaugeError: the job fails with this code.
        """
        options = parse_options(job.options)
        subject = self._table(job, options) if job.inputs.posterior else self._encoded(job, options)
        device = self.settings.worker_device
        return analyse(
            subject,
            options=options,
            environment=environment(device, "none" if job.inputs.posterior else "off"),
            device=device,
            progress=lambda fraction: self.tick("measuring", fraction),
        )

    def _encoded(self, job: Job, options: Options) -> Subject:
        encoder, rows = str(job.inputs.encoder), str(job.inputs.dataset)
        with _Timed(self.timings, "read_dataset"):
            frame = self._stage("read_dataset", {"dataset": rows}, {}, "reading the data set")
            dataset = _dataset(frame)
        with _Timed(self.timings, "encode"):
            encoded = self._encode(encoder, dataset, options)
        return encoded_subject(
            dataset,
            encoded,
            encoder_sha256=encoder,
            dataset_sha256=rows,
            options=options,
            timings=self.timings,
        )

    def _table(self, job: Job, options: Options) -> Subject:
        sha = str(job.inputs.posterior)
        with _Timed(self.timings, "read_posterior"):
            frame = self._stage("read_posterior", {"posterior": sha}, {}, "reading the table")
            table = _dataset(frame)
        return table_subject(
            table,
            frame.arrays["second"],
            second_output=str(frame.meta.get("second")),
            sha256=sha,
            options=options,
            timings=self.timings,
        )

    def _encode(self, encoder: str, dataset: Dataset, options: Options) -> Encoded:
        with rows_file(dataset.x) as (x, rows):
            frame = self._stage(
                "encode",
                {"encoder": encoder},
                {
                    "rows": rows,
                    "options": options.model_dump(mode="json"),
                    "device": self.settings.worker_device,
                    "threads": os.cpu_count() or 1,
                },
                "encoding",
                x=x,
            )
        return _encoded(frame, len(dataset))

    def _stage(
        self, stage: str, blobs: dict[str, str], request: dict[str, Any], shown: str, **files: int
    ) -> Frame:
        opened = {name: _open(self.blobs, sha) for name, sha in blobs.items()}
        try:
            return run_stage(
                stage,
                {**opened, **files},
                {"unpacked_bytes": self.settings.max_unpacked_bytes, **request},
                limits=Limits(
                    seconds=self.settings.encoding_seconds,
                    memory_bytes=self.settings.encoding_memory_bytes,
                    answer_bytes=self.settings.max_unpacked_bytes,
                ),
                tick=lambda: self.tick(shown, 0.0),
            )
        finally:
            for descriptor in opened.values():
                os.close(descriptor)


class _Timed:
    """Seconds of a block, noted under its name."""

    def __init__(self, timings: dict[str, float], name: str) -> None:
        self._timings = timings
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings[self._name] = time.perf_counter() - self._started


def _open(blobs: Blobs, sha256: str) -> int:
    try:
        return os.open(blobs.path(sha256), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise NotFound(
            "an artifact of the job is gone",
            expected=f"the bytes with sha256 {sha256}",
            got="no such file in the artifact store",
            remedy="upload it and submit again",
        ) from None


def _dataset(frame: Frame) -> Dataset:
    """The arrays of a child that parsed a file, at the door of the trusted side."""
    expected = {"x": "biuf", "y": "i", "keep": "u", "group": "i", "factors": "biuf", "second": "f"}
    for name, array in frame.arrays.items():
        if array.dtype.kind not in expected.get(name, "") or array.ndim < 1:
            raise UnreadableDataset(
                "the process that read the file gave back an array that is not expected",
                expected="arrays " + ", ".join(expected),
                got=f"{name[:40]!r} of dtype {array.dtype} and shape {list(array.shape)}",
                remedy="post a file that np.savez wrote",
            )
    classes = tuple(str(name)[:200] for name in frame.meta.get("classes", ()))
    return assemble(frame.arrays, classes)


def _encoded(frame: Frame, n: int) -> Encoded:
    """The arrays of a child that ran the encoder: two tables of n rows, or it is at fault."""
    mu, second = frame.arrays.get("mu"), frame.arrays.get("second")
    if mu is None or second is None or mu.ndim != 2 or mu.shape != second.shape or len(mu) != n:
        raise EncoderCrashed(
            "the process that ran the encoder gave back no table of the data set's rows",
            expected=f"mu and second of shape [{n}, latents]",
            got=", ".join(f"{k[:20]} {list(a.shape)}" for k, a in frame.arrays.items()),
            remedy="post an encoder that returns one row of latents for each row",
        )
    meta = frame.meta
    return Encoded(
        mu=np.asarray(mu),
        second=np.asarray(second),
        format=str(meta.get("format"))[:40],
        outputs=tuple(str(o)[:80] for o in meta.get("outputs", ())[:8]),
        dtype=str(mu.dtype),
        device=str(meta.get("device"))[:20],
        probes=tuple(Probe.model_validate(probe) for probe in meta.get("probes", ())[:32]),
    )
