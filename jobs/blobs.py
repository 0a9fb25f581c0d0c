"""Uploaded bytes in a folder, addressed by their sha256.

A blob appears under its digest whole or not at all: it is written to a temporary file beside,
hashed on the way, flushed to the disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from latentgauge.errors import DigestMismatch, InvalidRequest, StorageFull

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STALE = 3600.0  # seconds after which a temporary file belongs to a writer that died


class Blobs:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"

    def path(self, sha256: str) -> Path:
        """Where a blob lies, or would lie.

        Raises:
            InvalidRequest: no 64 lower-case hexadecimal digits.
        """
        if not _SHA256.fullmatch(sha256):
            raise InvalidRequest(
                "the address is no sha256",
                expected="64 lower-case hexadecimal digits",
                got=sha256[:80],
                remedy="use the sha256 of the file's bytes (sha256sum FILE)",
            )
        return self._root / sha256[:2] / sha256

    def exists(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def open(self, sha256: str) -> BinaryIO:
        return self.path(sha256).open("rb")

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A blob on its way in; what is not kept by the end of the block is gone."""
        with full_disk_said():
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._sweep()
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            try:
                with open(descriptor, "wb") as file:
                    yield Incoming(self, file, Path(name))
            finally:
                Path(name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what writers left behind that died in the middle."""
        for file in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - _STALE:
                    file.unlink()


@contextlib.contextmanager
def full_disk_said() -> Iterator[None]:
    """Turns a write that finds no room into a `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            "the service's disk is full; nothing of the upload was kept",
            expected="room for the whole file",
            got=os.strerror(error.errno),
            remedy="delete jobs that are no longer needed, or ask the operator for room",
        ) from None


class Incoming:
    """Bytes that are hashed while they are written."""

    def __init__(self, blobs: Blobs, file: BinaryIO, path: Path) -> None:
        self._blobs = blobs
        self._file = file
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._file.write(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def check(self, expected: str) -> None:
        """Hold the bytes against the digest that they should have.

        Raises:
            DigestMismatch: they have another.
        """
        found = self.sha256
        if found != expected:
            raise DigestMismatch(
                "the bytes do not have the digest of their address",
                expected=f"bytes with sha256 {expected}",
                got=f"{self.size} bytes with sha256 {found}",
                remedy="hash the file again and post it whole: it was changed or cut",
            )

    def keep(self) -> str:
        """Put the bytes under their digest, for good."""
        self._file.flush()
        os.fsync(self._file.fileno())
        target = self._blobs.path(self.sha256)
        target.parent.mkdir(exist_ok=True)
        self._path.chmod(0o440)
        self._path.rename(target)
        _sync_folder(target.parent)
        return self.sha256


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
