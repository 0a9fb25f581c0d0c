from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from latentgauge import sniff as kinds
from latentgauge.sniff import Kind, sniff
from tests.models import Linear, npz, scripted


def saved(value: object, *, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (scripted(Linear()), kinds.TORCHSCRIPT),
        (npz(x=np.ones(3)), kinds.NPZ),
        (npy(), kinds.NPY),
        (b"", kinds.EMPTY),
        (b"\n <!doctype HTML><p>", kinds.HTML),
        (b"<html>", kinds.HTML),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", kinds.LFS),
        (scripted(Linear())[:400], kinds.TRUNCATED),
        (gzip.compress(b"x"), kinds.GZIP),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), kinds.HDF5),
        (saved({"weight": torch.ones(2)}), kinds.CHECKPOINT),
        (saved({"weight": torch.ones(2)}, old=True), kinds.LEGACY_PICKLE),
        (pickle.dumps({"a": 1}), kinds.LEGACY_PICKLE),
        ((20).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}', kinds.SAFETENSORS),
        (b"\x08\x0a\x12\x07pytorch" + bytes(30), kinds.ONNX),
        (b"PAR1" + bytes(20), kinds.PARQUET),
        (b"\x89PNG\r\n", kinds.IMAGE),
        (zipped("m/models/model.json", "m/version"), kinds.EXPORTED),
        (zipped("a.png", "b.png"), kinds.ZIP),
        (
            zipped("a.npy").replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xff"),
            kinds.TRUNCATED,
        ),
        ("größe, x\n1, 2\n".encode(), kinds.TEXT),
        (b"word " * 3000, kinds.TEXT),
        (bytes(range(200, 256)), kinds.UNKNOWN),
    ],
)
def test_a_file_is_known_by_its_bytes(data: bytes, kind: Kind) -> None:
    file = io.BytesIO(data)
    assert sniff(file) is kind
    assert file.tell() == 0
