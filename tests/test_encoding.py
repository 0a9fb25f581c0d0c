"""Rows into models: layouts, scales, batches, and honest encoders' mistakes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latentgauge.encoded import Encoded
from latentgauge.encoders.torchscript import load_encoder
from latentgauge.encoding import encode, reason
from latentgauge.errors import (
    BatchPinned,
    DevicePinned,
    EncoderCrashed,
    InvalidOption,
    NotAPosterior,
    NotDeterministic,
    OutOfMemory,
    RowsNotIndependent,
    ShapeMismatch,
    WrongOutput,
)
from latentgauge.feed import Model, scaling
from latentgauge.options import Options, parse_options
from tests.models import (
    BatchStatistics,
    Flat,
    Integers,
    Linear,
    Noisy,
    OfFour,
    OneTensor,
    Picture,
    Squeezed,
    ThreeOutputs,
    WrongRows,
    rows,
    scripted,
    traced,
)


def encoded(module: nn.Module | bytes, x: np.ndarray[Any, Any], **options: Any) -> Encoded:
    data = scripted(module) if isinstance(module, nn.Module) else module
    return encode(load_encoder(io.BytesIO(data)), x, options=parse_options(options))


def in_python(run: Any) -> Model:
    return Model(run=run, format="test", dtype=torch.float32, device="cpu")


def probe(result: Encoded, name: str) -> str:
    return next(p.detail for p in result.probes if p.probe == name)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 40), size=st.integers(1, 50))
def test_the_batch_size_changes_nothing(n: int, size: int) -> None:
    result = encoded(Linear(), rows(n), batch_size=size)
    expected = rows(n) @ Linear().weight.detach().numpy()
    np.testing.assert_allclose(result.mu, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "shape", "goes_in_as"),
    [
        (Picture(), (8, 8), "[1, 8, 8] (channel)"),
        (Picture(), (1, 8, 8), "[1, 8, 8] (as_is)"),
        (Flat(), (8, 8), "[64] (flat)"),
        (Flat(), (1, 8, 8), "[64] (flat)"),
        (Flat(), (64,), "[64] (as_is)"),
    ],
)
def test_the_layout_is_the_first_that_the_encoder_accepts(
    module: nn.Module, shape: tuple[int, ...], goes_in_as: str
) -> None:
    x = np.random.default_rng(0).normal(size=(10, *shape)).astype(np.float32)
    result = encoded(module, x)
    assert goes_in_as in probe(result, "input_layout")
    assert result.mu.shape == (10, 2)


def test_one_row_of_a_picture_is_not_taken_for_a_channel() -> None:
    x = np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)
    assert encoded(Picture(), x).mu.shape == (1, 2)


def test_a_layout_that_is_asked_for_is_the_only_one_tried() -> None:
    x = np.zeros((3, 8, 8), dtype=np.float32)
    with pytest.raises(ShapeMismatch, match="the encoder refuses the rows") as caught:
        encoded(Flat(), x, input_layout="as_is")
    assert "rows of shape [8, 8]" in caught.value.got


@pytest.mark.parametrize(
    ("x", "scale", "expected"),
    [
        (np.array([[0, 51, 255]], np.uint8), 255, [0, 0.2, 1]),
        (np.array([[0, 51, 255]], np.uint8), [-1, 1], [-1, -0.6, 1]),
        (np.array([[0, 0.25, 1]], np.float32), [-1, 1], [-1, -0.5, 1]),
        (np.array([[0, 51, 255]], np.uint8), {"mean": 0.2, "std": 0.5}, [-0.4, 0, 1.6]),
        (np.array([[3.0, 6.0]], np.float32), None, [3, 6]),
        (np.array([[3.0, 6.0]], np.float32), 3, [1, 2]),
    ],
)
def test_rows_are_scaled_as_asked(x: Any, scale: Any, expected: list[float]) -> None:
    options = parse_options({"input_scale": scale})
    found = scaling(x, options)(torch.from_numpy(x).float())
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-6)


def test_mean_and_std_may_be_one_a_channel() -> None:
    x = np.full((2, 3, 4, 4), 255, np.uint8)
    options = parse_options({"input_scale": {"mean": [0, 0.5, 1], "std": [1, 0.5, 2]}})
    found = scaling(x, options)(torch.from_numpy(x).float())
    np.testing.assert_allclose(found[0, :, 0, 0].numpy(), [1, 1, 0])


@pytest.mark.parametrize(
    ("x", "scale", "says"),
    [
        (np.array([[-3.0, 5.0]]), [-1, 1], "float64 from -3 to 5"),
        (np.array([[-3, 5]]), {"mean": 0, "std": 1}, "int64 from -3 to 5"),
        (np.zeros((2, 4), np.uint8), {"mean": [0, 1], "std": 1}, "rows of shape [4]"),
        (np.zeros((2, 3, 4), np.uint8), {"mean": [0, 1], "std": 1}, "gives 2 channels"),
    ],
)
def test_a_scale_that_does_not_fit_the_rows_is_said(x: Any, scale: Any, says: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        scaling(x, parse_options({"input_scale": scale}))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("module", "error", "says"),
    [
        (OneTensor(), NotAPosterior, "one tensor of shape [2, 3]"),
        (ThreeOutputs(), WrongOutput, "3 outputs"),
        (WrongRows(), WrongOutput, "float32 of shape [1, 3]"),
        (Integers(), WrongOutput, "int64 of shape [2, 3]"),
        (Noisy(), NotDeterministic, "between two runs"),
        (BatchStatistics(), RowsNotIndependent, "row 0 differs by"),
        (Squeezed(), BatchPinned, "fails on one row alone"),
    ],
)
def test_an_honest_mistake_has_its_own_code(
    module: nn.Module, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        encoded(module, rows(30))
    assert says in str(caught.value)


def test_a_trace_of_one_batch_size_is_pinned() -> None:
    with pytest.raises(BatchPinned, match="batches of one size only") as caught:
        encoded(traced(OfFour(), torch.zeros(4, 6)), rows(30))
    assert "it takes 4 rows" in caught.value.got


def test_a_last_batch_that_is_refused_is_a_pinned_batch() -> None:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        if len(x) not in (2, 8):
            raise RuntimeError("shape '[8, 6]' is invalid for input of size 24")
        return x[:, :3], x[:, :3]

    with pytest.raises(BatchPinned, match="a batch of another size") as caught:
        encode(in_python(run), rows(20), options=Options(batch_size=8))
    assert "the 4 rows from row 16" in caught.value.got


def test_a_device_that_is_not_here_is_named() -> None:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("Expected all tensors to be on the same device, but found cuda:0")

    with pytest.raises(DevicePinned, match="another device"):
        encode(in_python(run), rows(20), options=Options())


def test_an_encoder_that_raises_midway_is_said_with_its_rows() -> None:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        if bool((x > 2).any()):
            raise RuntimeError("no value above 2\nException raised from somewhere")
        return x[:, :3], x[:, :3]

    x = np.zeros((20, 6), np.float32)
    x[13] = 3
    with pytest.raises(EncoderCrashed, match="raised on the 5 rows from row 10") as caught:
        encode(in_python(run), x, options=Options(batch_size=5))
    assert caught.value.got == "no value above 2"


def test_memory_that_ends_halves_the_batch() -> None:
    sizes: list[int] = []

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(x))
        if len(x) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return x[:, :3], x[:, :3]

    result = encode(in_python(run), rows(21), options=Options(batch_size=16))
    np.testing.assert_array_equal(result.mu, rows(21)[:, :3])
    assert probe(result, "batches") == "21 rows in batches of 4"


def test_one_row_that_does_not_fit_is_out_of_memory() -> None:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        raise MemoryError

    with pytest.raises(OutOfMemory, match="a single row"):
        encode(in_python(run), rows(9), options=Options())

    def later(x: Tensor) -> tuple[Tensor, Tensor]:
        if float(x.sum()) > 1e6:
            raise RuntimeError("CUDA out of memory")
        return x[:, :3], x[:, :3]

    x = np.zeros((20, 6), np.float32)
    x[13] = 1e6
    with pytest.raises(OutOfMemory, match="a single row"):
        encode(in_python(later), x, options=Options())


def test_an_encoder_that_writes_into_its_input_does_not_change_the_rows() -> None:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x[:, :3].clone()
        x.zero_()
        return mu, mu

    x = rows(20)
    np.testing.assert_array_equal(
        encode(in_python(run), x, options=Options(batch_size=6)).mu, rows(20)[:, :3]
    )
    np.testing.assert_array_equal(x, rows(20))


def test_progress_reaches_the_end() -> None:
    seen: list[float] = []
    encode(
        in_python(lambda x: (x, x)), rows(20), options=Options(batch_size=6), progress=seen.append
    )
    assert seen == [0.3, 0.6, 0.9, 1.0]


def test_what_an_encoder_says_is_one_printable_line() -> None:
    text = "Traceback\n  in forward\nRuntimeError: mat1 and\x1b[31m mat2\nException raised from X"
    assert reason(text) == "mat1 and [31m mat2"
    assert reason("") == "it raised without a message"
    assert len(reason("x" * 5000)) == 300


def test_an_encoder_that_raises_when_it_runs_again_is_said() -> None:
    calls = []

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        if len(calls) > 2:
            raise RuntimeError("only twice")
        return x[:, :3], x[:, :3]

    with pytest.raises(EncoderCrashed, match="raised on the 9 rows from row 0"):
        encode(in_python(run), rows(9), options=Options())
