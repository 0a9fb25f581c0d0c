"""One job from its row to its report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from jobs.blobs import Blobs
from jobs.job import Job
from jobs.settings import Settings
from latentgauge.analysis import Subject, analyse
from latentgauge.datasets.rows import Dataset, assemble
from latentgauge.encoded import Encoded
from latentgauge.errors import EncoderCrashed, InputFault, NotFound, TooLarge, UnreadableDataset
from latentgauge.options import Options, parse_options
from latentgauge.report import Probe, Report
from latentgauge.subject import encoded_subject, environment, table_subject
from worker.rows_file import rows_file
from worker.sandbox.box import Limits, run_stage
from worker.sandbox.frames import Frame

Array = NDArray[Any]
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
        if job.inputs.posterior:
            return self._of_table(job.inputs.posterior, options)
        return self._of_encoder(str(job.inputs.encoder), str(job.inputs.dataset), options)

    def _measured(self, subject: Subject, options: Options, *, sandbox: str) -> Report:
        device = self.settings.worker_device
        return analyse(
            subject,
            options=options,
            environment=environment(device, sandbox),
            device=device,
            progress=lambda fraction: self.tick("measuring", fraction),
        )

    def _of_encoder(self, encoder: str, rows: str, options: Options) -> Report:
        with _Timed(self.timings, "read_dataset"):
            frame = self._stage("read_dataset", {"dataset": rows}, {}, "reading the data set")
            dataset = _dataset(frame, max_rows=self.settings.max_rows)
        with _Timed(self.timings, "encode"):
            encoded = self._encode(encoder, dataset, options)
        subject = encoded_subject(
            dataset,
            encoded,
            encoder_sha256=encoder,
            dataset_sha256=rows,
            options=options,
            timings=self.timings,
        )
        return self._measured(subject, options, sandbox="off")

    def _of_table(self, sha: str, options: Options) -> Report:
        with _Timed(self.timings, "read_posterior"):
            frame = self._stage("read_posterior", {"posterior": sha}, {}, "reading the table")
            table = _dataset(frame, max_rows=self.settings.max_rows)
        second, second_output = _second(frame)
        subject = table_subject(
            table,
            second,
            second_output=second_output,
            sha256=sha,
            options=options,
            timings=self.timings,
        )
        used = options.model_copy(update={"second_output": second_output})
        return self._measured(subject, used, sandbox="none")

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


def _dataset(frame: Frame, *, max_rows: int) -> Dataset:
    """The arrays of a child that parsed a file, at the door of the trusted side."""
    for name, array in frame.arrays.items():
        if array.dtype.kind not in _KINDS.get(name, "") or array.ndim < 1:
            raise _unexpected(f"{name[:40]!r} of dtype {array.dtype}, {array.ndim} axes")
    if "x" not in frame.arrays:
        raise _unexpected("no x")
    if len(frame.arrays["x"]) > max_rows:
        raise TooLarge(
            "the data set has too many rows",
            expected=f"at most {max_rows} rows",
            got=f"{len(frame.arrays['x'])} rows",
            remedy="post a sample of the rows, or ask the operator for a higher limit",
        )
    return assemble(frame.arrays, tuple(_said(DatasetMeta, frame.meta, _unexpected).classes))


def _second(frame: Frame) -> tuple[Array, str]:
    """The second array of a posterior table, and what it is."""
    meta = _said(PosteriorMeta, frame.meta, _unexpected)
    if "second" not in frame.arrays:
        raise _unexpected("no second array")
    return frame.arrays["second"], meta.second


def _encoded(frame: Frame, n: int) -> Encoded:
    """The arrays of a child that ran the encoder: two tables of n rows, or it is at fault."""
    mu, second = (frame.arrays.get(name, np.empty(0)) for name in ("mu", "second"))
    tables = mu.ndim == 2 and mu.shape == second.shape and mu.shape[1] > 0
    if not tables or len(mu) != n or mu.dtype.kind != "f" or second.dtype.kind != "f":
        raise _no_table(f"mu {mu.dtype} {list(mu.shape)}, second {list(second.shape)}")
    meta = _said(EncodedMeta, frame.meta, _no_table)
    return Encoded(
        mu=np.asarray(mu),
        second=np.asarray(second),
        format=meta.format,
        outputs=tuple(meta.outputs),
        dtype=meta.dtype,
        device=meta.device,
        probes=tuple(
            Probe(probe=probe.probe, passed=probe.passed, detail=probe.detail)
            for probe in meta.probes
        ),
    )


_KINDS = {"x": "biuf", "y": "i", "keep": "b", "group": "i", "factors": "biuf", "second": "f"}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


Word = Annotated[str, Field(max_length=400), AfterValidator(_printable)]


class DatasetMeta(BaseModel):
    """What a child may say beside the arrays of a data set."""

    classes: list[Word] = Field(max_length=10_000)


class PosteriorMeta(DatasetMeta):
    second: Literal["logvar", "log_sigma", "sigma", "variance"]


class _Seen(BaseModel):
    probe: Word
    passed: bool
    detail: Word


class EncodedMeta(BaseModel):
    """What a child may say beside the outputs of an encoder."""

    format: Word
    outputs: list[Word] = Field(max_length=8)
    dtype: Word
    device: Word
    probes: list[_Seen] = Field(max_length=32)


Meta = TypeVar("Meta", bound=BaseModel)


def _said(kind: type[Meta], meta: dict[str, Any], fault: Callable[[str], InputFault]) -> Meta:
    try:
        return kind.model_validate(meta)
    except ValidationError as error:
        first = error.errors()[0]
        raise fault(f"facts that cannot be: {first['loc']} {first['msg']}"[:300]) from None


def _unexpected(got: str) -> UnreadableDataset:
    return UnreadableDataset(
        "the process that read the file gave back what is not expected",
        expected="arrays " + ", ".join(_KINDS),
        got=got,
        remedy="post a file that np.savez wrote",
    )


def _no_table(got: str) -> EncoderCrashed:
    return EncoderCrashed(
        "the process that ran the encoder gave back no table of the data set's rows",
        expected="mu and second, floating point, one row of latents for each row",
        got=got,
        remedy="post an encoder that returns one row of latents for each row",
    )
