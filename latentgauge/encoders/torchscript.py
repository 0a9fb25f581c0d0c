"""TorchScript archives. Loading one runs code of its author: do it in the box, or on your own."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import torch
from torch import Tensor

from latentgauge.encoding import is_out_of_memory, reason
from latentgauge.errors import UnreadableEncoder, UnsupportedEncoder
from latentgauge.feed import Model
from latentgauge.sniff import (
    CHECKPOINT,
    EXPORTED,
    HDF5,
    LEGACY_PICKLE,
    NPZ,
    ONNX,
    SAFETENSORS,
    TORCHSCRIPT,
    Kind,
    sniff,
)

# Files that hold a model or its weights, but no TorchScript.
_NOT_READ = (EXPORTED, ONNX, SAFETENSORS, HDF5, CHECKPOINT, LEGACY_PICKLE)


def load_encoder(file: BinaryIO, *, device: str = "cpu") -> Model:
    """The encoder in evaluation mode, on `device`.

    Raises:
        UnsupportedEncoder: a model or weights of a kind that is not read, and how to export it.
        UnreadableEncoder: any other file, or a TorchScript archive that torch refuses.
        MemoryError: its weights do not fit.
    """
    kind = sniff(file)
    if kind is not TORCHSCRIPT:
        raise _refusal(kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError from None
        raise UnreadableEncoder(
            "torch cannot read this TorchScript archive",
            expected="an archive that this version of torch loads",
            got=reason(str(error)),
            remedy=f"save it again with torch {torch.__version__.partition('+')[0]} or an older "
            "one, and compare the file's sha256",
        ) from None
    module = module.eval().to(device)
    return Model(
        run=module,
        format=kind.name,
        dtype=_dtype(module.parameters()),
        device=device,
    )


def _dtype(parameters: object) -> torch.dtype:
    """Of the first floating parameter: what the encoder computes in."""
    found = [p.dtype for p in parameters if isinstance(p, Tensor) and p.is_floating_point()]  # type: ignore[attr-defined]
    return found[0] if found else torch.float32


def _refusal(kind: Kind) -> UnreadableEncoder | UnsupportedEncoder:
    refusal = UnsupportedEncoder if kind in _NOT_READ else UnreadableEncoder
    return refusal(
        f"the encoder is {kind.what}",
        expected="a TorchScript archive that returns (mu, logvar)",
        got=kind.what,
        remedy="encoder and data set look swapped: post the TorchScript file as the encoder. A "
        "posterior table goes alone, without a data set"
        if kind is NPZ
        else kind.export,
    )
