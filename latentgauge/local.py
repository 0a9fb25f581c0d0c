"""Files to a report in this process: one's own encoder on one's own machine. Needs torch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentgauge.analysis import analyse
from latentgauge.comparison import Comparison
from latentgauge.datasets.arrays import read_dataset, read_posterior
from latentgauge.datasets.rows import Dataset, Units, assemble, check_same_rows
from latentgauge.encoders.torchscript import load_encoder
from latentgauge.encoding import encode
from latentgauge.errors import InvalidOption
from latentgauge.options import Options
from latentgauge.paired import paired
from latentgauge.posterior import Posterior
from latentgauge.report import Report
from latentgauge.subject import encoded_subject, environment, table_subject

Array = NDArray[Any]
# Stage and fraction done.
Progress = Callable[[str, float], None]

_UNPACKED_BYTES = 1 << 40  # of one's own data: memory is the limit
_HASH_BLOCK = 1 << 20


def analyse_files(encoder: Path, data: Path, *, options: Options, progress: Progress) -> Report:
    """The report of an encoder file on a data file. The encoder's code runs in this process.

    Raises:
        InputFault: the encoder or the data is at fault, with a code for each way.
        InvalidOption: a device that this machine does not have.
    """
    device = _device(options)
    timings = {}
    started = time.perf_counter()
    with data.open("rb") as file:
        arrays, classes = read_dataset(file, limit=_UNPACKED_BYTES)
    dataset = assemble(arrays, classes)
    timings["read_dataset"] = time.perf_counter() - started
    started = time.perf_counter()
    with encoder.open("rb") as file:
        model = load_encoder(file, device=device)
    encoded = encode(
        model, dataset.x, options=options, progress=lambda done: progress("encoding", done)
    )
    timings["encode"] = time.perf_counter() - started
    subject = encoded_subject(
        dataset,
        encoded,
        encoder_sha256=_sha256(encoder),
        dataset_sha256=_sha256(data),
        options=options,
        timings=timings,
    )
    return analyse(
        subject,
        options=options,
        environment=environment(device, "in_process"),
        device=device,
        progress=lambda done: progress("measuring", done),
    )


def analyse_table(posterior: Path, *, options: Options, progress: Progress) -> Report:
    """The report of a ready-made posterior table; no code but ours runs.

    Raises:
        InputFault: the table is none, or not finite.
        InvalidOption: a device that this machine does not have.
    """
    device = _device(options)
    started = time.perf_counter()
    with posterior.open("rb") as file:
        arrays, classes, second = read_posterior(file, limit=_UNPACKED_BYTES)
    table = assemble(arrays, classes)
    subject = table_subject(
        table,
        arrays["second"],
        second_output=second,
        sha256=_sha256(posterior),
        options=options,
        timings={"read_posterior": time.perf_counter() - started},
    )
    return analyse(
        subject,
        options=options.model_copy(update={"second_output": second}),
        environment=environment(device, "none"),
        device=device,
        progress=lambda done: progress("measuring", done),
    )


def compare_tables(base: Path, head: Path, *, options: Options, progress: Progress) -> Comparison:
    """Head less base of two ready-made posterior tables of the same rows.

    Rows that are copies in both tables, and rows of one group, are one unit.

    Raises:
        InputFault: a table is none, is not finite, or is of other rows.
        InvalidOption: a device that this machine does not have.
    """
    device = _device(options)
    (rows, mu_b, second_b, b), (others, mu_h, second_h, h) = _read_table(base), _read_table(head)
    check_same_rows(rows, others)
    units = Units.of_posteriors(
        np.concatenate([mu_b, mu_h], axis=1),
        np.concatenate([second_b, second_h], axis=1),
        group=others.group if rows.group is None else rows.group,
    )
    return paired(
        b,
        h,
        options=options,
        units=None if units.of_row is None else torch.from_numpy(units.of_row),
        copies=torch.from_numpy(units.copies),
        device=device,
        progress=lambda done: progress("measuring", done),
    )


def _read_table(path: Path) -> tuple[Dataset, Array, Array, Posterior]:
    """The rows, mu and the second array of those kept, and the posterior that they are."""
    with path.open("rb") as file:
        arrays, classes, name = read_posterior(file, limit=_UNPACKED_BYTES)
    table = assemble(arrays, classes)
    mu, second = np.asarray(table.x), arrays["second"][table.origin]
    tables = (torch.from_numpy(np.array(x)) for x in (mu, second))
    return table, mu, second, Posterior.from_outputs(*tables, second_output=name)


def _device(options: Options) -> str:
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        raise InvalidOption(
            "option 'device': this machine has no cuda device that torch can use",
            expected="auto or cpu here",
            got="cuda",
            remedy="leave device out, or install a torch build with cuda",
        )
    return "cuda" if there and options.device != "cpu" else "cpu"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
