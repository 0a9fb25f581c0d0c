from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.blobs import Blobs
from latentgauge.errors import DigestMismatch, InvalidRequest, StorageFull

TEXT = b"some bytes"
SHA = hashlib.sha256(TEXT).hexdigest()


def files(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file())


def test_bytes_are_found_under_their_digest(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with blobs.incoming() as incoming:
        incoming.write(TEXT[:4])
        incoming.write(TEXT[4:])
        assert not blobs.exists(SHA)
        incoming.check(SHA)
        assert incoming.keep() == SHA
    with blobs.open(SHA) as file:
        assert file.read() == TEXT
    assert files(tmp_path) == [SHA]


def test_bytes_of_another_digest_are_refused_and_gone(tmp_path: Path) -> None:
    with Blobs(tmp_path).incoming() as incoming:
        incoming.write(TEXT)
        with pytest.raises(DigestMismatch, match="10 bytes with sha256") as caught:
            incoming.check("0" * 64)
    assert "0" * 64 in caught.value.expected
    assert files(tmp_path) == []


def test_what_is_not_kept_is_gone(tmp_path: Path) -> None:
    with Blobs(tmp_path).incoming() as incoming:
        incoming.write(TEXT)
    assert files(tmp_path) == []


def test_the_same_bytes_twice_are_one_blob(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for _ in range(2):
        with blobs.incoming() as incoming:
            incoming.write(TEXT)
            incoming.keep()
    assert files(tmp_path) == [SHA]


def test_a_removed_blob_is_gone_and_removing_it_again_is_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with blobs.incoming() as incoming:
        incoming.write(TEXT)
        incoming.keep()
    blobs.remove(SHA)
    blobs.remove(SHA)
    assert not blobs.exists(SHA)


@pytest.mark.parametrize("address", ["", "A" * 64, "../" + "a" * 61, "a" * 63, "a" * 65])
def test_only_a_sha256_is_an_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidRequest, match="64 lower-case hexadecimal digits"):
        Blobs(tmp_path).path(address)


@contextlib.contextmanager
def full_disk(root: Path) -> Iterator[None]:
    """A write that the disk has no room for, with a part of the upload written before."""
    with Blobs(root).incoming() as incoming:
        incoming.write(TEXT)
        yield
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="the service's disk is full"), full_disk(tmp_path):
        pass
    assert files(tmp_path) == []


def test_another_fault_of_the_disk_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), Blobs(tmp_path).incoming():
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_the_next_upload_removes_what_a_dead_writer_left(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    old, new = tmp_path / "incoming" / "old", tmp_path / "incoming" / "new"
    old.parent.mkdir()
    for file in (old, new):
        file.write_bytes(TEXT)
    os.utime(old, (time.time() - 7200,) * 2)
    with blobs.incoming():
        assert "old" not in files(tmp_path)
    assert files(tmp_path) == ["new"]
