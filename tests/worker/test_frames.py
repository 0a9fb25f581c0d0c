"""The only thing that a child can say, byte by byte."""

from __future__ import annotations

import json
import os
import struct
import threading
from contextlib import closing

import numpy as np
import pytest

from latentgauge.errors import OutputLimit
from worker.sandbox.frames import BadFrame, Frame, Receiver, write_frame, write_problem


def through_a_pipe(write: object, *args: object) -> bytes:
    reading, writing = os.pipe()

    def send() -> None:
        write(writing, *args)  # type: ignore[operator]
        os.close(writing)

    sender = threading.Thread(target=send)
    sender.start()
    with open(reading, "rb") as file:
        data = file.read()
    sender.join()
    return data


def received(data: bytes, *, limit: int = 1 << 20, step: int = 7) -> Frame:
    with closing(Receiver(limit=limit)) as receiver:
        for start in range(0, len(data), step):
            receiver.feed(data[start : start + step])
        return receiver.frame()


def packed(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + body


def test_arrays_come_back_as_they_were_sent() -> None:
    arrays = {
        "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "flags": np.array([True, False, True]),
        "none": np.empty((0, 5)),
        "big_endian": np.arange(3, dtype=">i8"),
    }
    frame = received(through_a_pipe(write_frame, arrays, {"classes": ["a", "b"]}))
    assert frame.meta == {"classes": ["a", "b"]}
    assert frame.problem is None
    assert list(frame.arrays) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(frame.arrays[name], array)
        assert frame.arrays[name].shape == array.shape


def test_received_arrays_cannot_be_written() -> None:
    frame = received(through_a_pipe(write_frame, {"x": np.ones(3)}, {}))
    with pytest.raises(ValueError, match="read-only"):
        frame.arrays["x"][0] = 2


def test_a_problem_comes_back() -> None:
    frame = received(through_a_pipe(write_problem, {"code": "wrong_output", "got": "one"}))
    assert frame.problem == {"code": "wrong_output", "got": "one"}


ONE = {"arrays": [["x", "<f8", [2]]], "meta": {}}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ended after 0 bytes"),
        (b"\x00\x00", "ended after 0 bytes"),
        (packed(ONE, bytes(15)), "ended after 15 bytes"),
        (packed(ONE, bytes(17)), "more than the 16 bytes"),
        (struct.pack("<I", 1 << 30), "a header of 1073741824 bytes"),
        (packed(b"not json"), "no JSON"),
        (packed(b"[" * 100_000), "no JSON"),
        (packed(b'{"arrays": [], "meta": {"a": NaN}}'), "NaN is no number of JSON"),
        (packed([]), "another form"),
        (packed({"arrays": {}, "meta": {}}), "another form"),
        (packed({"arrays": [], "meta": []}), "another form"),
        (packed({"arrays": [], "meta": {}, "problem": "x"}), "another form"),
        (packed({"arrays": [["x", "<f8"]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "|O", [1]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<U4", [1]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<f8", [-1]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<f8", [1.0]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<f8", [True]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<f8", [1 << 60]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<f8", [1] * 9]], "meta": {}}), "not accepted"),
        (packed({"arrays": [[1, "<f8", [1]]], "meta": {}}), "not accepted"),
        (packed({"arrays": [["x", "<f8", [0]], ["x", "<f8", [0]]], "meta": {}}), "one name"),
        (packed({"arrays": [[str(i), "|u1", [0]] for i in range(9)], "meta": {}}), "9 arrays"),
    ],
)
def test_anything_else_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadFrame, match=why):
        received(data, step=4096)


def test_more_than_the_limit_is_refused_before_it_is_received() -> None:
    header = packed({"arrays": [["x", "<f8", [1 << 20]]], "meta": {}})
    with pytest.raises(OutputLimit, match="8388608 bytes announced"):
        received(header, limit=1 << 20)
