"""What a file is, from its bytes and never from its name.

Only the first bytes and, for a zip, the names in its directory are looked at; nothing is
unpickled and no member is inflated.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import BinaryIO

_HEAD = 4096


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name in reports, what to call it, and the way out of it."""

    name: str
    what: str
    export: str = "export the encoder with torch.jit.script(model.eval()).save('encoder.pt')"


TORCHSCRIPT = Kind("torchscript", "a TorchScript archive")
NPZ = Kind("npz", "an npz archive of arrays")
EMPTY = Kind("empty", "an empty file", "check the path that was uploaded")
HTML = Kind("html", "an HTML page", "the download answered with a web page: fetch the file itself")
LFS = Kind("lfs_pointer", "a Git LFS pointer, not the file", "run git lfs pull, then post again")
TRUNCATED = Kind(
    "damaged_zip", "a zip archive that ends early or is damaged", "copy or download it again"
)
GZIP = Kind("gzip", "gzip-compressed data", "decompress it first")
HDF5 = Kind("hdf5", "an HDF5 file (Keras weights or AnnData)")
EXPORTED = Kind("exported_program", "a torch.export program (.pt2)")
CHECKPOINT = Kind(
    "checkpoint",
    "a torch.save checkpoint (a state_dict: weights without a network; or a pickled module)",
    "load it into its module, then torch.jit.script(model.eval()).save('encoder.pt')",
)
LEGACY_PICKLE = Kind(
    "pickle",
    "a Python pickle (a torch.save checkpoint of the old form): pickles are never loaded",
    "load it into its module, then torch.jit.script(model.eval()).save('encoder.pt')",
)
SAFETENSORS = Kind(
    "safetensors",
    "a safetensors file: weights without a network",
    "load them into their module, then torch.jit.script(model.eval()).save('encoder.pt')",
)
ONNX = Kind("onnx", "an ONNX model")
NPY = Kind("npy", "a single .npy array", "save it with np.savez('data.npz', x=array)")
PARQUET = Kind("parquet", "a parquet table")
IMAGE = Kind("image", "an image")
ZIP = Kind("zip", "a zip archive of other files")
TEXT = Kind("text", "a text file")
UNKNOWN = Kind("unknown", "a file of an unknown kind")

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs", LFS),
    (b"\x1f\x8b", GZIP),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x93NUMPY", NPY),
    (b"PAR1", PARQUET),
    (b"\x89PNG", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
    (b"\x80\x02", LEGACY_PICKLE),
    (b"\x80\x03", LEGACY_PICKLE),
    (b"\x80\x04", LEGACY_PICKLE),
    (b"\x80\x05", LEGACY_PICKLE),
)


def sniff(file: BinaryIO) -> Kind:
    """The kind of a seekable binary file; its position is put back to the start."""
    file.seek(0)
    head = file.read(_HEAD)
    kind = _zip_kind(file) if head.startswith(b"PK\x03\x04") else _flat_kind(head)
    file.seek(0)
    return kind


def _flat_kind(head: bytes) -> Kind:
    if not head:
        return EMPTY
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return HTML
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 2**32:
        return SAFETENSORS
    # A ModelProto begins with ir_version (field 1, varint), then a string field or the graph.
    if len(head) > 4 and head[0] == 0x08 and head[1] < 32 and head[2] in (0x12, 0x1A, 0x3A, 0x42):
        return ONNX
    return TEXT if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    try:
        text = head[:-4].decode() if len(head) == _HEAD else head.decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\r\n\t" for c in text)


def _zip_kind(file: BinaryIO) -> Kind:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError):
        return TRUNCATED
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return TORCHSCRIPT
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return EXPORTED
    if "data.pkl" in inner:
        return CHECKPOINT
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    return ZIP
