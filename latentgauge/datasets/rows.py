"""A data set as arrays, and what can be said of its rows without any model.

The arrays are validated numbers: whoever parsed the file, this is the door they come through.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentgauge.errors import NonFiniteInput, UnreadableDataset
from latentgauge.options import Options
from latentgauge.report import Warning

Array = NDArray[Any]
_NAMED = 10  # rows that a message names before it counts the rest
_BLOCK = 1 << 24  # bytes of rows that are looked at together
# Copies of each distinct row, on average; beyond it the rows are draws of a discrete distribution.
_COPIES_AT_MOST = 10


@dataclass(frozen=True)
class Dataset:
    """Rows x [N, ...], and optionally labels as class codes [N], groups [N], factors [N, K].

    `origin` [N] is each row's index in the file, so that messages name rows as the user knows
    them when `keep` left some out.
    """

    x: Array
    origin: NDArray[np.int64]
    codes: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    group: NDArray[np.int64] | None = None
    factors: Array | None = None

    def __len__(self) -> int:
        return len(self.x)


def assemble(arrays: dict[str, Array], classes: tuple[str, ...]) -> Dataset:
    """The data set of parsed arrays `x`, and optionally `y` (codes), `group`, `factors`, `keep`.

    Raises:
        UnreadableDataset: lengths that differ, labels outside their classes, no row kept.
        NonFiniteInput: NaN or infinity in x, with the rows' 0-based indices.
    """
    x = arrays["x"]
    if x.ndim < 2 or x.size == 0:
        raise UnreadableDataset(
            "the data set's x holds no rows",
            expected="an array x of [rows, ...] with at least one row and one column",
            got=f"shape {list(x.shape)}",
            remedy="save rows along the first axis: np.savez('data.npz', x=rows)",
        )
    for name, array in arrays.items():
        if len(array) != len(x):
            raise UnreadableDataset(
                f"the arrays x and {name} have different lengths",
                expected=f"{name} with one entry for each of the {len(x)} rows of x",
                got=f"{len(array)} entries",
                remedy=f"save x and {name} of the same rows",
            )
    dataset = Dataset(
        x=x,
        origin=np.arange(len(x)),
        codes=arrays.get("y"),
        classes=classes,
        group=arrays.get("group"),
        factors=arrays.get("factors"),
    )
    if "keep" in arrays:
        dataset = _kept(dataset, arrays["keep"].astype(bool))
    _check_labels(dataset)
    _check_finite(dataset)
    return dataset


def _kept(dataset: Dataset, keep: NDArray[np.bool_]) -> Dataset:
    if not keep.any():
        raise UnreadableDataset(
            "the array keep leaves no row",
            expected="true for at least one row",
            got=f"{len(keep)} times false",
            remedy="true marks the rows that are used",
        )
    rows = np.flatnonzero(keep)
    return replace(
        dataset,
        x=dataset.x[rows],
        origin=dataset.origin[rows],
        codes=None if dataset.codes is None else dataset.codes[rows],
        group=None if dataset.group is None else dataset.group[rows],
        factors=None if dataset.factors is None else dataset.factors[rows],
    )


def _check_labels(dataset: Dataset) -> None:
    codes = dataset.codes
    if codes is not None and (codes.min() < 0 or codes.max() >= len(dataset.classes)):
        raise UnreadableDataset(
            "the labels name classes that are not there",
            expected=f"codes from 0 to {len(dataset.classes) - 1}",
            got=f"codes from {codes.min()} to {codes.max()}",
            remedy="this is a fault of the reader: report it",
        )


def _check_finite(dataset: Dataset) -> None:
    bad = dataset.origin[~_finite_rows(dataset.x)]
    if len(bad):
        raise NonFiniteInput(
            f"{len(bad)} of {len(dataset)} rows hold NaN or infinity: {name_rows(bad)}",
            expected="finite numbers in every row of x",
            got=f"NaN or infinity in {name_rows(bad)}, counted from 0",
            remedy="leave these rows out: an array keep [N] in the npz, false where a row is "
            "not used, does that",
        )


def name_rows(rows: NDArray[np.int64]) -> str:
    """'rows 17, 40' with the count of those not named."""
    named = ", ".join(map(str, rows[:_NAMED]))
    rest = len(rows) - _NAMED
    return (
        ("row " if len(rows) == 1 else "rows ") + named + (f" and {rest} more" if rest > 0 else "")
    )


def _blocks(x: Array) -> list[slice]:
    rows = max(1, _BLOCK // max(1, x[:1].nbytes))
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


def _finite_rows(x: Array) -> NDArray[np.bool_]:
    if x.dtype.kind != "f":
        return np.ones(len(x), dtype=bool)
    return np.concatenate(
        [np.isfinite(x[block]).reshape(len(x[block]), -1).all(1) for block in _blocks(x)]
    )


def value_range(x: Array) -> tuple[float, float]:
    """The smallest and the largest entry."""
    return (
        float(min(x[block].min() for block in _blocks(x))),
        float(max(x[block].max() for block in _blocks(x))),
    )


def row_units(*tables: Array, group: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Unit [N] of each row: equal rows, and rows of one group, share a number.

    A row is equal to another when its bytes are, in every table. A group and the copies of its
    rows join to one unit.
    """
    seen: dict[bytes, int] = {}
    copies = np.array([seen.setdefault(key, len(seen)) for key in _row_keys(tables)])
    return copies if group is None else _joined(copies, group)


def _row_keys(tables: tuple[Array, ...]) -> list[bytes]:
    contiguous = [np.ascontiguousarray(table) for table in tables]
    return [
        hashlib.blake2b(b"".join(t[i].tobytes() for t in contiguous), digest_size=16).digest()
        for i in range(len(tables[0]))
    ]


def _joined(copies: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components of 'is a copy of' and 'is in one group with'."""
    unit = np.unique(group, return_inverse=True)[1].astype(np.int64)
    while True:
        lowest = unit.copy()
        for key in (copies, group):
            _, inverse = np.unique(key, return_inverse=True)
            least = np.full(inverse.max() + 1, len(unit))
            np.minimum.at(least, inverse, lowest)
            lowest = least[inverse]
        if (lowest == unit).all():
            return unit
        unit = lowest


@dataclass(frozen=True)
class Units:
    """Which rows are one unit [N], None when each is its own; how many copy an earlier row.

    A few rows twice are copies, and kept together. Where distinct rows are few against all (a
    constant posterior, two values), equal rows are draws from a discrete distribution, and each
    stands for itself.
    """

    of_row: NDArray[np.int64] | None
    repeated: int
    together: bool

    @classmethod
    def of(cls, *tables: Array, group: NDArray[np.int64] | None) -> Units:
        n, distinct = len(tables[0]), len(np.unique(row_units(*tables)))
        together = n <= _COPIES_AT_MOST * distinct
        return cls(row_units(*tables, group=group) if together else group, n - distinct, together)

    def warnings(self, where: str) -> tuple[Warning, ...]:
        if not self.repeated:
            return ()
        read = (
            "are kept together and count as one"
            if self.together
            else (
                "stand for themselves: so few distinct rows are read as draws of a discrete "
                "distribution"
            )
        )
        message = f"{self.repeated} rows are copies of earlier rows; copies {read}"
        return (Warning(code="repeated_rows", message=message, where=where),)


def warnings_of(dataset: Dataset, options: Options) -> tuple[Warning, ...]:
    """What a person should know of the rows before they read the figures."""
    found = []
    low, high = value_range(dataset.x)
    if dataset.x.dtype.kind in "ui" and options.input_scale is None and high > 1:
        found.append(
            Warning(
                code="input_range",
                message=f"the rows are {dataset.x.dtype} from {low:g} to {high:g} and go in "
                "unscaled; an encoder that was trained on [0, 1] needs input_scale 255",
                where="dataset.x",
            )
        )
    if dataset.factors is not None:
        found.append(
            Warning(
                code="not_measured",
                message="the data set brings factors; this version does not measure them",
                where="dataset.factors",
            )
        )
    return tuple(found)
