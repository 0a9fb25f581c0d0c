"""Arrays from an npz archive: bounded, and never a pickle.

Runs where the file may be hostile (the box) or is the user's own (the command line).
"""

from __future__ import annotations

import lzma
import math
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from latentgauge.errors import TooLarge, UnreadableDataset
from latentgauge.sniff import CHECKPOINT, NPZ, TORCHSCRIPT, Kind, sniff

Array = NDArray[Any]
ROWS = ("x", "X", "data", "images")
LABELS = ("y", "labels", "targets")
SECOND = ("logvar", "log_sigma", "sigma", "variance")

_MAX_MEMBERS = 64
_MAX_HEADER = 4096  # characters of an .npy header
_MAX_CLASSES = 10_000
_MAX_NAME = 200  # characters of a class name that are kept
_NUMBERS = "buif"
_CHUNK = 1 << 20
# What zipfile, its decompressors and numpy raise on bytes that are none of theirs.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


def read_dataset(file: BinaryIO, *, limit: int) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The arrays x [N, ...], y [N] (class codes), factors, keep, group; and the class names.

    Raises:
        UnreadableDataset: not an npz, no array that could be x, labels that are no classes.
        TooLarge: more than `limit` bytes when unpacked.
    """
    members = _read_npz(file, limit=limit)
    name = _find(members, ROWS) or (next(iter(members)) if len(members) == 1 else None)
    if name is None:
        raise UnreadableDataset(
            "the npz archive has no array that could be x",
            expected="an array named x (or X, data, images), or one array alone",
            got="arrays " + ", ".join(sorted(members)) if members else "no array",
            remedy="save it with np.savez('data.npz', x=rows, y=labels)",
        )
    arrays = {"x": _numbers(name, members[name])}
    classes: tuple[str, ...] = ()
    if labels := _find(members, LABELS):
        arrays["y"], classes = _classes(labels, members[labels])
    return arrays | _row_arrays(members), classes


def read_posterior(file: BinaryIO, *, limit: int) -> tuple[dict[str, Array], tuple[str, ...], str]:
    """The arrays x = mu [N, D] and second [N, D], labels as above, and the second's name.

    Raises:
        UnreadableDataset: not an npz, or without mu and one of logvar, sigma, log_sigma, variance.
        TooLarge: more than `limit` bytes when unpacked.
    """
    if (kind := sniff(file)) in (TORCHSCRIPT, CHECKPOINT):
        raise UnreadableDataset(
            f"the posterior table is {kind.what}",
            expected="an npz archive with mu and logvar; or an encoder and, beside it, a data set",
            got=kind.what,
            remedy="give the encoder's data set too",
        )
    members = _read_npz(file, limit=limit)
    second = [name for name in SECOND if name in members]
    if "mu" not in members or len(second) != 1:
        raise UnreadableDataset(
            "the npz archive is no posterior table",
            expected="arrays mu and exactly one of " + ", ".join(SECOND) + ", all [N, D]",
            got="arrays " + ", ".join(sorted(members)) if members else "no array",
            remedy="save it with np.savez('posterior.npz', mu=mu, logvar=logvar)",
        )
    arrays = {
        "x": _numbers("mu", members["mu"]),
        "second": _numbers(second[0], members[second[0]]),
    }
    classes: tuple[str, ...] = ()
    if labels := _find(members, LABELS):
        arrays["y"], classes = _classes(labels, members[labels])
    return arrays | _row_arrays(members), classes, second[0]


def _row_arrays(members: Mapping[str, Array]) -> dict[str, Array]:
    found = {}
    if "keep" in members:
        found["keep"] = _mask(_column("keep", _numbers("keep", members["keep"])))
    if "group" in members:
        codes = np.unique(_column("group", members["group"]), return_inverse=True)[1]
        found["group"] = codes.astype(np.int64)
    if "factors" in members:
        found["factors"] = _numbers("factors", members["factors"])
    return found


def _mask(values: Array) -> Array:
    if not np.isin(values, (0, 1)).all():
        raise UnreadableDataset(
            "the array keep holds other values than true and false",
            expected="a mask: one boolean a row, true where the row is used",
            got=f"values from {values.min():g} to {values.max():g}",
            remedy="from indices of rows: keep = np.isin(np.arange(len(x)), indices)",
        )
    return values.astype(bool)


def _column(name: str, array: Array) -> Array:
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return array.reshape(-1)
    raise UnreadableDataset(
        f"the array {name} has shape {list(array.shape)}",
        expected="one value a row: [N]",
        got=f"shape {list(array.shape)}",
        remedy=f"save {name} with one entry for each row of x",
    )


def _find(members: Mapping[str, Array], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in members), None)


# ---------------------------------------------------------------- the archive


def _read_npz(file: BinaryIO, *, limit: int) -> dict[str, Array]:
    kind = sniff(file)
    if kind is not NPZ:
        raise UnreadableDataset(
            f"the data set is {kind.what}",
            expected="an npz archive with an array x",
            got=kind.what,
            remedy=_way_out(kind),
        )
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(archive.infolist(), limit)
            return {
                info.filename.removesuffix(".npy"): _read_npy(archive, info)
                for info in archive.infolist()
            }
    except _DAMAGED as error:
        raise UnreadableDataset(
            "the npz archive is damaged",
            expected="an archive as np.savez writes it",
            got=str(error)[:200],
            remedy="save or copy it again",
        ) from None


def _way_out(kind: Kind) -> str:
    if kind in (TORCHSCRIPT, CHECKPOINT):
        return "encoder and data set look swapped: post the npz as the data set"
    return kind.export if "np." in kind.export else "save it with np.savez('data.npz', x=rows)"


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    if len(members) > _MAX_MEMBERS:
        raise UnreadableDataset(
            "the npz archive has too many members",
            expected=f"at most {_MAX_MEMBERS} arrays",
            got=f"{len(members)}",
            remedy="save only the arrays that are needed",
        )
    if len({info.filename for info in members}) != len(members):
        raise UnreadableDataset(
            "the npz archive holds two members of one name",
            expected="one member an array",
            got="a repeated name",
            remedy="save it again with np.savez",
        )
    size = sum(info.file_size for info in members)
    if size > limit:
        raise TooLarge(
            "the npz archive is too large when unpacked",
            expected=f"at most {limit} bytes in all arrays",
            got=f"{size} bytes",
            remedy="post fewer rows, or a narrower dtype",
        )


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One member, its size checked against its header before anything is allocated."""
    with archive.open(info) as member:
        shape, fortran, dtype = _header(cast(BinaryIO, member))
        count = math.prod(shape)
        if dtype.hasobject or dtype.kind not in _NUMBERS + "US" or dtype.itemsize == 0:
            raise UnreadableDataset(
                f"the array {info.filename!r} has dtype {dtype}"[:200],
                expected="numbers, booleans, or strings for labels; objects would need a pickle, "
                "and pickles are never loaded",
                got=str(dtype)[:100],
                remedy="convert it: np.asarray(array, dtype='float32'), or labels to str",
            )
        if any(side < 0 for side in shape) or count * dtype.itemsize > info.file_size:
            raise ValueError(f"{info.filename!r} holds fewer bytes than its header claims")
        flat = np.empty(count, dtype=dtype)
        raw, filled = flat.view(np.uint8), 0
        while filled < len(raw) and (chunk := member.read(min(_CHUNK, len(raw) - filled))):
            raw[filled : filled + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
            filled += len(chunk)
        if filled != len(raw):
            raise EOFError(f"{info.filename!r} ends early")
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(member: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"unknown .npy version {version}")
    return read(member, max_header_size=_MAX_HEADER)


# ---------------------------------------------------------------- the arrays


def _numbers(name: str, array: Array) -> Array:
    if array.dtype.kind not in _NUMBERS:
        raise UnreadableDataset(
            f"the array {name} holds no numbers",
            expected="a numeric or boolean dtype",
            got=str(array.dtype),
            remedy="only labels may be strings",
        )
    if array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array


def _classes(name: str, array: Array) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class codes [N] and names of labels that are integers, floats, strings or one-hot."""
    values = _flat_labels(name, array)
    if values.dtype.kind == "U" and (_code_points(values) > sys.maxunicode).any():
        raise UnreadableDataset(
            f"the labels {name} hold code points that are no characters",
            expected="strings as np.array(names) makes them",
            got="a code point above U+10FFFF",
            remedy="save them again with np.savez",
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values))
        raise UnreadableDataset(
            f"the labels {name} are missing in {len(rows)} rows, the first is row {rows[0]}",
            expected="a class for every row",
            got="NaN or infinity",
            remedy="leave these rows out with an array keep, or post without labels",
        )
    kinds, codes = np.unique(values, return_inverse=True)
    if len(kinds) > min(_MAX_CLASSES, max(2, len(values) // 2)):
        raise UnreadableDataset(
            f"the labels {name} have {len(kinds)} different values in {len(values)} rows",
            expected="classes that repeat",
            got="more than half as many values as rows",
            remedy="put a continuous target into bins, or leave the labels out",
        )
    return codes.astype(np.int64), tuple(_class_name(kind) for kind in kinds)


def _code_points(strings: Array) -> NDArray[np.uint32]:
    return np.ascontiguousarray(strings).view(np.uint32)


def _flat_labels(name: str, array: Array) -> Array:
    if array.ndim == 1:
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    one_hot = array.ndim == 2 and array.dtype.kind in _NUMBERS
    if one_hot and np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all():
        return np.asarray(array.argmax(1))
    raise UnreadableDataset(
        f"the labels {name} have shape {list(array.shape)}",
        expected="one class a row: [N], [N, 1], or one-hot [N, K]",
        got=f"shape {list(array.shape)}",
        remedy="several targets are factors [N, K]: save them under that name",
    )


def _class_name(kind: Any) -> str:
    if isinstance(kind, bytes):
        kind = kind.decode("utf-8", "replace")
    if isinstance(kind, float) and kind.is_integer():
        kind = int(kind)
    name = str(kind)[:_MAX_NAME].encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in name)
