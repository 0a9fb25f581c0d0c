"""npz files as people write them, and as nobody should."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from latentgauge.datasets.arrays import read_dataset, read_posterior
from latentgauge.errors import TooLarge, UnreadableDataset
from tests.models import Linear, npz, rows, scripted

LIMIT = 1 << 20


def read(
    data: bytes, limit: int = LIMIT
) -> tuple[dict[str, np.ndarray[Any, Any]], tuple[str, ...]]:
    return read_dataset(io.BytesIO(data), limit=limit)


@pytest.mark.parametrize("name", ["x", "X", "data", "images", "whatever"])
def test_x_has_many_names_or_is_the_only_array(name: str) -> None:
    arrays, classes = read(npz(**{name: rows(5)}))
    np.testing.assert_array_equal(arrays["x"], rows(5))
    assert classes == ()


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">i4", "<i8", "?", "<f2", "<f4", ">f8"])
def test_numbers_of_every_dtype_come_back_equal(dtype: str) -> None:
    x = (np.arange(12).reshape(4, 3) % 2).astype(dtype)
    arrays, _ = read(npz(x=x))
    np.testing.assert_array_equal(arrays["x"], x)


def test_column_order_and_compression_change_nothing() -> None:
    x = np.asfortranarray(rows(20))
    file = io.BytesIO()
    np.savez_compressed(file, x=x)
    np.testing.assert_array_equal(read(file.getvalue())[0]["x"], x)
    np.testing.assert_array_equal(read(npz(x=x))[0]["x"], x)


def test_an_empty_array_is_read() -> None:
    assert read(npz(x=np.empty((0, 3))))[0]["x"].shape == (0, 3)


@pytest.mark.parametrize(
    ("y", "codes", "classes"),
    [
        ([3, 1, 3, 1], [1, 0, 1, 0], ("1", "3")),
        ([1.0, 2.0, 2.0, 1.0], [0, 1, 1, 0], ("1", "2")),
        ([0.5, 2.0, 2.0, 0.5], [0, 1, 1, 0], ("0.5", "2")),
        (["dog", "cat", "dog", "cat"], [1, 0, 1, 0], ("cat", "dog")),
        ([b"dog", b"cat", b"dog", b"cat"], [1, 0, 1, 0], ("cat", "dog")),
        ([True, False, True, False], [1, 0, 1, 0], ("False", "True")),
        ([[1], [2], [2], [1]], [0, 1, 1, 0], ("1", "2")),
        ([[0, 1], [1, 0], [0, 1], [0, 1]], [1, 0, 1, 1], ("0", "1")),
    ],
)
def test_labels_become_class_codes(y: Any, codes: list[int], classes: tuple[str, ...]) -> None:
    arrays, found = read(npz(x=rows(4), labels=np.array(y)))
    assert arrays["y"].tolist() == codes
    assert found == classes


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.array([0.0, np.nan, 1.0, 1.0]), "missing in 1 rows, the first is row 1"),
        (np.arange(4) / 7, "4 different values in 4 rows"),
        (np.ones((4, 2)), "shape [4, 2]"),
        (np.ones((4, 1, 1)), "shape [4, 1, 1]"),
    ],
)
def test_labels_that_are_no_classes_are_said(y: Any, says: str) -> None:
    with pytest.raises(UnreadableDataset) as caught:
        read(npz(x=rows(4), y=y))
    assert says in str(caught.value)
    assert caught.value.remedy


def test_keep_group_and_factors_come_along() -> None:
    arrays, _ = read(
        npz(
            x=rows(4),
            keep=np.array([True, False, True, True]),
            group=np.array(["p2", "p1", "p1", "p2"]),
            factors=np.ones((4, 2)),
        )
    )
    assert arrays["keep"].tolist() == [True, False, True, True]
    assert arrays["group"].tolist() == [1, 0, 0, 1]
    assert arrays["factors"].shape == (4, 2)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": rows(2), "b": rows(2)}, "no array that could be x"),
        ({"x": np.array(["a", "b"])}, "the array x holds no numbers"),
        ({"x": rows(2).astype(complex)}, "has dtype complex128"),
        ({"x": rows(2), "y": np.array([object(), 1])}, "has dtype object"),
        ({"x": rows(2), "factors": np.array(["a", "b"])}, "the array factors holds no numbers"),
        ({"x": rows(2), "keep": np.ones((2, 2))}, "the array keep has shape [2, 2]"),
        ({"x": rows(2), "group": np.array(3)}, "the array group has shape []"),
    ],
)
def test_arrays_of_another_kind_are_said(arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(UnreadableDataset) as caught:
        read(npz(**arrays))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (scripted(Linear()), "look swapped"),
        (b"\x93NUMPY\x01\x00", "np.savez"),
        (b"x,y\n", "np.savez"),
        (b"", "np.savez"),
    ],
)
def test_another_file_is_said_with_the_way_out(data: bytes, remedy: str) -> None:
    with pytest.raises(UnreadableDataset, match="the data set is ") as caught:
        read(data)
    assert remedy in caught.value.remedy


def member(header: str, body: bytes) -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def archive(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members:
            made.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        member("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2)}", bytes(64)),
        member("{'descr': '<f8', 'fortran_order': False, 'shape': (-4, -2)}", bytes(64)),
        member("{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,)}", b""),
        member("{'descr': '<f8', 'fortran_order': False, 'shape': (8,)}", bytes(60)),
        member("{'descr': '<f8', 'shape': (8,)}", bytes(64)),
        member("__import__('os').getcwd()", bytes(64)),
        b"\x93NUMPY\x09\x00" + bytes(64),
        b"no npy at all",
        b"",
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_allocated(data: bytes) -> None:
    with pytest.raises(UnreadableDataset):
        read(archive(("x.npy", data)))


def test_a_damaged_archive_is_said() -> None:
    data = bytearray(npz(x=rows(2000)))
    data[2000:2100] = bytes(100)
    with pytest.raises(UnreadableDataset, match="the npz archive is damaged"):
        read(bytes(data))


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    bomb = archive(("x.npy", npz_member(np.zeros((1000, 1000)))))
    assert len(bomb) < 50_000
    with pytest.raises(TooLarge, match="too large when unpacked"):
        read(bomb)


def npz_member(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_too_many_or_repeated_members_are_refused() -> None:
    one = npz_member(np.ones((2, 2)))
    with pytest.raises(UnreadableDataset, match="too many members"):
        read(archive(*((f"a{i}.npy", one) for i in range(65))))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(("x.npy", one), ("x.npy", one))
    with pytest.raises(UnreadableDataset, match="two members of one name"):
        read(twice)


def test_a_posterior_table_has_mu_and_one_second_array() -> None:
    mu = np.ones((4, 2))
    arrays, classes, second = read_posterior(
        io.BytesIO(npz(mu=mu, sigma=mu, y=np.array([0, 1, 0, 1]))), limit=LIMIT
    )
    assert second == "sigma"
    assert classes == ("0", "1")
    assert set(arrays) == {"x", "second", "y"}


@pytest.mark.parametrize("names", [("mu",), ("logvar",), ("mu", "sigma", "logvar"), ("x", "y")])
def test_a_table_without_its_pair_is_said(names: tuple[str, ...]) -> None:
    data = npz(**{name: np.ones((4, 2)) for name in names})
    with pytest.raises(UnreadableDataset, match="no posterior table"):
        read_posterior(io.BytesIO(data), limit=LIMIT)


@pytest.mark.parametrize("keep", [[0, 1, 1, 0], [False, True, True, False], [0.0, 1.0, 1.0, 0.0]])
def test_keep_is_a_mask(keep: list[Any]) -> None:
    arrays, _ = read(npz(x=rows(4), keep=np.array(keep)))
    assert arrays["keep"].tolist() == [False, True, True, False]


@pytest.mark.parametrize("keep", [[0, 1, 2, 3], [0, 0.5, 1, 1], [0, 256, 1, 1], [0, np.nan, 1, 1]])
def test_a_keep_that_is_no_mask_is_said(keep: list[Any]) -> None:
    with pytest.raises(UnreadableDataset, match="other values than true and false"):
        read(npz(x=rows(4), keep=np.array(keep)))


def test_an_encoder_alone_is_asked_for_its_data_set() -> None:
    with pytest.raises(UnreadableDataset) as caught:
        read_posterior(io.BytesIO(scripted(Linear())), limit=LIMIT)
    assert caught.value.remedy == "give the encoder's data set too"


def test_a_broken_compression_is_a_damaged_file() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=rows(500))
    data = bytearray(file.getvalue())
    data[200:260] = bytes(60)
    with pytest.raises(UnreadableDataset, match="the npz archive is damaged"):
        read(bytes(data))


def test_an_encrypted_archive_is_a_damaged_file() -> None:
    data = npz(x=rows(5)).replace(b"PK\x01\x02-\x03-\x00\x00\x00", b"PK\x01\x02-\x03-\x00\x01\x00")
    with pytest.raises(UnreadableDataset, match="the npz archive is damaged"):
        read(data)


def test_labels_of_impossible_characters_are_said() -> None:
    labels = np.array(["a", "b", "a", "b"])
    labels.view(np.uint32)[0] = 0x7FFFFFFF
    with pytest.raises(UnreadableDataset, match="code points that are no characters"):
        read(npz(x=rows(4), y=labels))


def test_class_names_are_printable() -> None:
    labels = np.array(["a\x1b[2J", "b", "a\x1b[2J", "b"])
    assert read(npz(x=rows(4), y=labels))[1] == ("a [2J", "b")
