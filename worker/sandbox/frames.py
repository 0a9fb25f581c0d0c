"""What a child process answers with: a JSON header, then raw arrays. Never a pickle.

    u32 length | header | padding | array | padding | array ...

Every array begins on a multiple of 64 bytes after the header. The header names each array's
dtype and shape, so the whole length is known once it is read: anything else than exactly that
many bytes is refused. Nothing that a child says is believed beyond its numbers.
"""

from __future__ import annotations

import json
import math
import os
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from latentgauge.errors import OutputLimit

Array = NDArray[Any]
_ALIGNMENT = 64
_MAX_HEADER = 4 << 20
_MAX_AXES = 8
_MAX_ARRAYS = 8
_DTYPES = frozenset(
    ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
)


class BadFrame(Exception):
    """A child answered with something else than a frame."""


@dataclass(frozen=True)
class Frame:
    """Arrays by name, in memory that nobody else can write, and the facts beside them."""

    arrays: dict[str, Array]
    meta: dict[str, Any]
    problem: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Slot:
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_frame(descriptor: int, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Answer with arrays."""
    whole = {name: _plain(array) for name, array in arrays.items()}
    header = {
        "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in whole.items()],
        "meta": dict(meta),
    }
    _send(descriptor, _packed(header))
    position = 0
    for array in whole.values():
        gap = _aligned(position) - position
        _send(descriptor, bytes(gap))
        _send(descriptor, array.reshape(-1).view(np.uint8).data)
        position += gap + array.nbytes


def write_problem(descriptor: int, problem: Mapping[str, Any]) -> None:
    """Answer with what went wrong."""
    _send(descriptor, _packed({"arrays": [], "meta": {}, "problem": dict(problem)}))


def _plain(array: Array) -> Array:
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=little)


def _packed(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text


def _send(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[: 1 << 20]) :]


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


class Receiver:
    """Takes a child's bytes as they come, to an unnamed file; `frame` at the end."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._head = bytearray()
        self._header: dict[str, Any] | None = None
        self._slots: list[_Slot] = []
        self._body: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._received = 0

    def feed(self, data: bytes) -> None:
        """More bytes.

        Raises:
            BadFrame: the header is none, or there are more bytes than it announced.
            OutputLimit: the header announces more than the limit.
        """
        if self._header is None:
            data = self._feed_header(data)
        if self._header is not None and data:
            self._received += len(data)
            if self._received > self._announced:
                raise BadFrame(f"more than the {self._announced} bytes that were announced")
            self._body.write(data)

    def _feed_header(self, data: bytes) -> bytes:
        self._head += data
        if len(self._head) < 4:
            return b""
        (length,) = struct.unpack_from("<I", self._head)
        if length > _MAX_HEADER:
            raise BadFrame(f"a header of {length} bytes")
        if len(self._head) < 4 + length:
            return b""
        self._header = _parsed(bytes(self._head[4 : 4 + length]))
        self._slots = _slots(self._header)
        if self._announced > self._limit:
            raise OutputLimit(
                "the result is larger than the limit",
                expected=f"at most {self._limit} bytes",
                got=f"{self._announced} bytes announced",
                remedy="post fewer rows, or ask the operator for a higher limit",
            )
        return bytes(self._head[4 + length :])

    @property
    def _announced(self) -> int:
        return self._slots[-1].offset + self._slots[-1].size if self._slots else 0

    def frame(self) -> Frame:
        """The whole answer.

        Raises:
            BadFrame: fewer bytes than announced.
        """
        if self._header is None or self._received != self._announced:
            raise BadFrame(f"it ended after {self._received} bytes of its result")
        self._body.flush()
        arrays = {slot.name: self._map(slot) for slot in self._slots}
        return Frame(arrays, self._header["meta"], self._header.get("problem"))

    def close(self) -> None:
        """Let the file go; arrays of a frame keep their own hold of it."""
        self._body.close()

    def _map(self, slot: _Slot) -> Array:
        if slot.size == 0:
            return np.empty(slot.shape, slot.dtype)
        return np.memmap(
            self._body, dtype=slot.dtype, mode="r", offset=slot.offset, shape=slot.shape
        )


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"a header that is no JSON: {str(error)[:100]}") from None
    if (
        not isinstance(header, dict)
        or not isinstance(header.get("arrays"), list)
        or not isinstance(header.get("meta"), dict)
        or not isinstance(header.get("problem", {}), dict)
    ):
        raise BadFrame("a header of another form")
    return header


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _slots(header: dict[str, Any]) -> list[_Slot]:
    slots: list[_Slot] = []
    position = 0
    if len(header["arrays"]) > _MAX_ARRAYS:
        raise BadFrame(f"{len(header['arrays'])} arrays")
    for entry in header["arrays"]:
        name, dtype, shape = _entry(entry)
        slot = _Slot(name, np.dtype(dtype), shape, _aligned(position))
        slots.append(slot)
        position = slot.offset + slot.size
    if len({slot.name for slot in slots}) != len(slots):
        raise BadFrame("two arrays of one name")
    return slots


def _entry(entry: Any) -> tuple[str, str, tuple[int, ...]]:
    if isinstance(entry, list) and len(entry) == 3:
        name, dtype, shape = entry
        named = isinstance(name, str) and dtype in _DTYPES
        sided = isinstance(shape, list) and len(shape) <= _MAX_AXES
        if named and sided and all(type(side) is int and 0 <= side < 2**48 for side in shape):
            return name, dtype, tuple(shape)
    raise BadFrame("an array of a form that is not accepted")
