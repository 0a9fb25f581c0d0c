from __future__ import annotations

import io
import zipfile

import pytest
import torch
from torch import nn

from latentgauge.encoders.torchscript import load_encoder
from latentgauge.errors import UnreadableEncoder, UnsupportedEncoder
from tests.models import Linear, npz, rows, scripted


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def with_other_code(data: bytes) -> bytes:
    """The archive with its code replaced by words."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            code = info.filename.endswith(".py")
            new.writestr(info.filename, b"these are words" if code else old.read(info))
    return file.getvalue()


def test_a_scripted_module_runs_as_the_module_does() -> None:
    model = load_encoder(io.BytesIO(scripted(Linear())))
    x = torch.from_numpy(rows(5))
    assert torch.equal(model.run(x)[0], Linear()(x)[0])
    assert (model.format, model.dtype, model.device) == ("torchscript", torch.float32, "cpu")


def test_the_dtype_is_that_of_the_parameters() -> None:
    assert load_encoder(io.BytesIO(scripted(Linear().double()))).dtype == torch.float64


def test_a_module_without_parameters_computes_in_float32() -> None:
    assert load_encoder(io.BytesIO(scripted(nn.Identity()))).dtype == torch.float32


def test_dropout_is_off_in_a_module_that_was_saved_in_training_mode() -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Dropout(0.5).train()), file)
    model = load_encoder(file)
    x = torch.ones(10, 10)
    assert torch.equal(model.run(x), x)


@pytest.mark.parametrize(
    ("data", "kind", "remedy"),
    [
        (saved({"w": torch.ones(2)}), UnsupportedEncoder, "torch.jit.script"),
        (b"\x89HDF\r\n\x1a\n", UnsupportedEncoder, "torch.jit.script"),
        (npz(x=rows(2)), UnreadableEncoder, "look swapped"),
        (b"hello", UnreadableEncoder, "torch.jit.script"),
        (b"version https://git-lfs.github.com/spec/v1", UnreadableEncoder, "git lfs pull"),
    ],
)
def test_another_file_is_refused_with_the_way_out(
    data: bytes, kind: type[Exception], remedy: str
) -> None:
    with pytest.raises(kind, match="the encoder is ") as caught:
        load_encoder(io.BytesIO(data))
    assert remedy in str(caught.value)


def test_an_archive_that_torch_refuses_is_said() -> None:
    broken = with_other_code(scripted(Linear()))
    with pytest.raises(UnreadableEncoder, match="torch cannot read this TorchScript archive"):
        load_encoder(io.BytesIO(broken))
