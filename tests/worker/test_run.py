"""What children say is checked at the door of the trusted side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.blobs import Blobs
from jobs.job import Inputs, Job
from jobs.settings import Settings
from jobs.states import State
from latentgauge.errors import EncoderCrashed, NotFound, TooLarge, UnreadableDataset
from worker.run import Run, _dataset, _encoded, _second
from worker.sandbox.frames import Frame

TABLE = np.zeros((5, 2))
META = {
    "format": "torchscript",
    "outputs": ["mu [B, 2]"],
    "dtype": "float32",
    "device": "cpu",
    "probes": [{"probe": "batches", "passed": True, "detail": "5 rows"}],
}


@pytest.mark.parametrize(
    ("arrays", "meta"),
    [
        ({}, {"classes": []}),
        ({"y": np.zeros(5, np.int64)}, {"classes": ["a"]}),
        ({"x": TABLE, "other": TABLE}, {"classes": []}),
        ({"x": TABLE, "y": TABLE}, {"classes": []}),
        ({"x": np.zeros(())}, {"classes": []}),
        ({"x": TABLE}, {}),
        ({"x": TABLE}, {"classes": 3}),
        ({"x": TABLE}, {"classes": ["a" * 500]}),
        ({"x": TABLE}, {"classes": [3]}),
        ({"x": TABLE}, {"classes": ["a"] * 10_001}),
    ],
)
def test_a_data_set_that_cannot_be_is_unreadable(
    arrays: dict[str, Any], meta: dict[str, Any]
) -> None:
    with pytest.raises(UnreadableDataset):
        _dataset(Frame(arrays, meta), max_rows=100)


def test_too_many_rows_are_too_large() -> None:
    with pytest.raises(TooLarge, match="too many rows"):
        _dataset(Frame({"x": TABLE}, {"classes": []}), max_rows=4)


def test_class_names_cannot_steer_a_terminal() -> None:
    frame = Frame({"x": TABLE, "y": np.zeros(5, np.int64)}, {"classes": ["a\x1b[2J"]})
    assert _dataset(frame, max_rows=100).classes == ("a [2J",)


@pytest.mark.parametrize(
    "meta", [{}, {"classes": [], "second": "other"}, {"classes": [], "second": 3}]
)
def test_a_second_array_without_its_name_is_unreadable(meta: dict[str, Any]) -> None:
    with pytest.raises(UnreadableDataset):
        _second(Frame({"x": TABLE, "second": TABLE}, meta))


def test_a_table_without_its_second_array_is_unreadable() -> None:
    with pytest.raises(UnreadableDataset, match="not expected"):
        _second(Frame({"x": TABLE}, {"classes": [], "second": "sigma"}))


@pytest.mark.parametrize(
    ("arrays", "changes"),
    [
        ({}, {}),
        ({"mu": TABLE}, {}),
        ({"mu": TABLE, "second": TABLE[:4]}, {}),
        ({"mu": TABLE[:4], "second": TABLE[:4]}, {}),
        ({"mu": TABLE[:, :0], "second": TABLE[:, :0]}, {}),
        ({"mu": TABLE.astype(int), "second": TABLE}, {}),
        ({"mu": TABLE, "second": TABLE.astype(int)}, {}),
        ({"mu": TABLE, "second": TABLE}, {"probes": {}}),
        ({"mu": TABLE, "second": TABLE}, {"probes": [3]}),
        ({"mu": TABLE, "second": TABLE}, {"outputs": 3}),
        ({"mu": TABLE, "second": TABLE}, {"format": None}),
        ({"mu": TABLE, "second": TABLE}, {"probes": META["probes"] * 33}),  # type: ignore[operator]
    ],
)
def test_outputs_that_cannot_be_are_a_crash(
    arrays: dict[str, Any], changes: dict[str, Any]
) -> None:
    with pytest.raises(EncoderCrashed):
        _encoded(Frame(arrays, {**META, **changes}), 5)


def test_outputs_that_can_be_come_through() -> None:
    found = _encoded(Frame({"mu": TABLE, "second": TABLE}, META), 5)
    assert found.outputs == ("mu [B, 2]",)
    assert found.probes[0].detail == "5 rows"


def test_an_artifact_that_is_gone_is_named(tmp_path: Path) -> None:
    run = Run(Blobs(tmp_path), Settings(), lambda *_: None)
    inputs = Inputs(posterior="a" * 64)
    job = Job("1", State.RUNNING, 1, 0, 0, None, None, None, "cpu", inputs, {}, (), {}, "", None)
    with pytest.raises(NotFound, match="an artifact of the job is gone") as caught:
        run.report(job)
    assert "a" * 64 in caught.value.expected
