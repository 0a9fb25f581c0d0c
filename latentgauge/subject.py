"""From arrays to the subject of an analysis: what the box and the command line share."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentgauge.analysis import Labels, Subject
from latentgauge.datasets.rows import Dataset, Units, name_rows, value_range, warnings_of
from latentgauge.datasets.spectrum import MOST_COLUMNS, row_spectrum
from latentgauge.encoded import Encoded
from latentgauge.errors import NonFiniteOutput, WrongOutput
from latentgauge.feed import scaling
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import (
    DatasetInput,
    EncoderInput,
    Environment,
    Inputs,
    PosteriorInput,
    Probe,
    Warning,
)

Array = NDArray[Any]


def encoded_subject(
    dataset: Dataset,
    encoded: Encoded,
    *,
    encoder_sha256: str,
    dataset_sha256: str,
    options: Options,
    timings: Mapping[str, float],
) -> Subject:
    """A data set and what an encoder made of it.

    Raises:
        WrongOutput, NonFiniteOutput: the outputs are no posterior of these rows.
    """
    units = Units.of_rows(dataset.x, group=dataset.group)
    warnings = (*warnings_of(dataset, options), *units.warnings("dataset.x"))
    spectrum = None
    if options.decoder_variance is not None and options.spectrum is None:
        spectrum = row_spectrum(dataset.x, scaling(dataset.x, options), seed=options.seed)
    return Subject(
        posterior=_posterior_of_rows(dataset, encoded, options, warnings),
        inputs=Inputs(
            encoder=EncoderInput(
                sha256=encoder_sha256,
                format=encoded.format,
                outputs=list(encoded.outputs),
                dtype=encoded.dtype,
                device=encoded.device,
            ),
            dataset=DatasetInput(
                sha256=dataset_sha256,
                n=len(dataset),
                shape=list(dataset.x.shape[1:]),
                dtype=str(dataset.x.dtype),
                range=value_range(dataset.x),
                repeated_rows=units.repeated,
                labels=None if dataset.codes is None else len(dataset.classes),
            ),
        ),
        labels=_labels(dataset),
        units=None if units.of_row is None else torch.from_numpy(units.of_row),
        copies=torch.from_numpy(units.copies),
        spectrum=spectrum,
        preflight=encoded.probes,
        warnings=(*warnings, *_without_spectrum(options, spectrum)),
        timings=dict(timings),
    )


def table_subject(
    table: Dataset,
    second: Array,
    *,
    second_output: str,
    sha256: str,
    options: Options,
    timings: Mapping[str, float],
) -> Subject:
    """A ready-made posterior table: mu stands where a data set has its rows.

    Raises:
        WrongOutput, NonFiniteOutput: the two arrays are no posterior.
    """
    mu = np.asarray(table.x)
    second = second[table.origin]
    units = Units.of_posteriors(mu, second, group=table.group)
    probe = Probe(probe="second_output", passed=True, detail=f"the array {second_output}")
    return Subject(
        posterior=_posterior(mu, second, second_output),
        inputs=Inputs(
            posterior=PosteriorInput(
                sha256=sha256,
                format="npz",
                second_output=second_output,
                dtype=str(mu.dtype),
                repeated_rows=units.repeated,
            )
        ),
        labels=_labels(table),
        units=None if units.of_row is None else torch.from_numpy(units.of_row),
        copies=torch.from_numpy(units.copies),
        preflight=(probe,),
        warnings=(*units.warnings("posterior"), *_without_spectrum(options, None)),
        timings=dict(timings),
    )


def _without_spectrum(options: Options, spectrum: Tensor | None) -> tuple[Warning, ...]:
    """A decoder variance that forecasts nothing."""
    if options.decoder_variance is None or options.spectrum is not None or spectrum is not None:
        return ()
    return (
        Warning(
            code="not_measured",
            message="no forecast: the spectrum is known from 2 rows of at most "
            f"{MOST_COLUMNS} columns on; give the option spectrum",
            where="forecast",
        ),
    )


def environment(device: str, sandbox: str) -> Environment:
    """Where the measures run, and how the encoder was confined."""
    return Environment(
        device=device,
        sandbox=sandbox,
        torch=torch.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        threads=torch.get_num_threads(),
    )


def _posterior_of_rows(
    dataset: Dataset, encoded: Encoded, options: Options, warnings: tuple[Warning, ...]
) -> Posterior:
    """The posterior; what is wrong with it most often comes from the rows' scale, so say that."""
    try:
        _check_finite(encoded, dataset)
        return _posterior(encoded.mu, encoded.second, options.second_output)
    except (WrongOutput, NonFiniteOutput) as fault:
        scale = [warning.message for warning in warnings if warning.code == "input_range"]
        raise type(fault)(
            fault.detail,
            expected=fault.expected,
            got="; ".join([fault.got, *scale]),
            remedy=fault.remedy,
        ) from None


def _check_finite(encoded: Encoded, dataset: Dataset) -> None:
    finite = np.isfinite(encoded.mu).all(1) & np.isfinite(encoded.second).all(1)
    rows = dataset.origin[~finite]
    if len(rows):
        raise NonFiniteOutput(
            f"the encoder puts out NaN or infinity for {len(rows)} of {len(dataset)} rows",
            expected="finite mu and second output in every row",
            got=f"NaN or infinity in {name_rows(rows)}, counted from 0",
            remedy="check the scale of the rows (input_scale) and, in half precision, for overflow",
        )


def _posterior(mu: Array, second: Array, second_output: str) -> Posterior:
    return Posterior.from_outputs(
        torch.from_numpy(np.array(mu)),
        torch.from_numpy(np.array(second)),
        second_output=second_output,
    )


def _labels(dataset: Dataset) -> Labels | None:
    if dataset.codes is None:
        return None
    return Labels(torch.from_numpy(np.array(dataset.codes)), dataset.classes)
