"""Rows in a file of their own, which is all of a data set that the encoder's child is given."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 24  # bytes that are written at a time


@contextlib.contextmanager
def rows_file(x: NDArray[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """A read-only descriptor of an unnamed file that holds x alone, and how to read it."""
    rows = max(1, _BLOCK // max(1, x[:1].nbytes))
    with tempfile.TemporaryFile() as file:
        for start in range(0, len(x), rows):
            file.write(
                np.ascontiguousarray(x[start : start + rows]).reshape(-1).view(np.uint8).data
            )
        file.flush()
        descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
        try:
            yield descriptor, {"dtype": x.dtype.str, "shape": list(x.shape)}
        finally:
            os.close(descriptor)
