"""A data set as arrays, and what can be said of its rows without any model.

The arrays are validated numbers: whoever parsed the file, this is the door they come through.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentgauge.errors import NonFiniteInput, ShapeMismatch, UnreadableDataset
from latentgauge.options import Options
from latentgauge.report import Warning

Array = NDArray[Any]
_NAMED = 10  # rows that a message names before it counts the rest
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SEEDS = (np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344))
_BLOCK = 1 << 24  # bytes of rows that are looked at together
# At most so many posteriors, each so often in a table, or so often on average where there are no
# others, are a constant or a discrete code.
_FEW_VALUES, _MANY_OF_EACH = 50, 100


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
            "the data set's x is no table of rows",
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


def check_same_rows(base: Dataset, head: Dataset) -> None:
    """What two tables say of their rows must agree; a table may say nothing.

    Raises:
        ShapeMismatch: other numbers of rows, other rows kept, other labels or groups.
    """
    if len(base) != len(head):
        raise _other_rows(f"{len(base)} and {len(head)} rows")
    if not np.array_equal(base.origin, head.origin):
        raise _other_rows("arrays keep that leave out different rows")
    names = [None if x.codes is None else np.array(x.classes)[x.codes] for x in (base, head)]
    for name, one, other in (("labels", *names), ("groups", base.group, head.group)):
        if one is not None and other is not None and not np.array_equal(one, other):
            rows = np.flatnonzero(one != other)
            raise _other_rows(f"other {name} in {name_rows(rows)}, counted from 0")


def _other_rows(got: str) -> ShapeMismatch:
    return ShapeMismatch(
        "the two tables are not of the same rows",
        expected="the same rows in the same order in both tables",
        got=got,
        remedy="encode one data set with both encoders",
    )


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
            expected="finite numbers in every row",
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
    _, first, inverse = np.unique(_row_keys(tables), axis=0, return_index=True, return_inverse=True)
    # Numbered as they first appear, so that folds do not depend on what the keys happen to be.
    copies = first.argsort().argsort()[inverse.reshape(-1)]
    return _with_group(copies, group)


def _row_keys(tables: tuple[Array, ...]) -> NDArray[np.uint64]:
    """128 bits of each row [N, 2]: the sum over its words of a mix of word and position."""
    keys = np.zeros((len(tables[0]), len(_SEEDS)), dtype=np.uint64)
    done = 0
    for table in tables:
        for block in _blocks(table):
            words = _words(table[block])
            position = np.arange(done, done + words.shape[1], dtype=np.uint64)
            for k, seed in enumerate(_SEEDS):
                keys[block, k] += _mixed(words, position * _GOLDEN + seed).sum(axis=1)
        done += words.shape[1]
    return keys


def _words(block: Array) -> NDArray[np.uint64]:
    """The rows' bytes as 8-byte words, the last one filled with zeros."""
    raw = np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint8)
    short = -raw.shape[1] % 8
    return np.ascontiguousarray(np.pad(raw, ((0, 0), (0, short)))).view(np.uint64)


def _mixed(words: NDArray[np.uint64], offset: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele, Lea & Flood 2014): a small change changes every bit."""
    z = words + offset
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


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
    """Which rows are copies of one another, and which are one unit (None: each is its own).

    Copies and rows of one group are one unit. In a posterior table that came without its rows,
    equal posteriors are copies too, unless there are very many of one and few such: a constant
    posterior, of all rows or of one class, or a code of a few values, says nothing of the rows
    behind it.
    """

    of_row: NDArray[np.int64] | None
    copies: NDArray[np.int64]
    repeated: int
    constant: int = 0

    @classmethod
    def of_rows(cls, x: Array, *, group: NDArray[np.int64] | None) -> Units:
        copies = row_units(x)
        return cls(_with_group(copies, group), copies, len(x) - _distinct(copies))

    @classmethod
    def of_posteriors(cls, mu: Array, second: Array, *, group: NDArray[np.int64] | None) -> Units:
        copies = row_units(mu, second)
        distinct = _distinct(copies)
        often = np.bincount(copies) >= _MANY_OF_EACH
        often &= often.sum() <= _FEW_VALUES
        # Of few values altogether, the rare ones are a code's too.
        often |= distinct <= _FEW_VALUES and len(mu) >= _MANY_OF_EACH * distinct
        alone = often[copies]
        units = group
        if not alone.all():
            apart = np.where(alone, distinct + np.arange(len(mu)), copies)
            units = _with_group(apart, group)
        return cls(units, copies, len(mu) - distinct, int(alone.sum()))

    def warnings(self, where: str) -> tuple[Warning, ...]:
        if not self.repeated:
            return ()
        read = "are kept together and count as one"
        if self.constant:
            read = (
                f"{read}, but for {self.constant} rows of a few constant posteriors, which are "
                "read as draws of their own"
            )
        rows = (
            "1 row is a copy of an earlier row"
            if self.repeated == 1
            else (f"{self.repeated} rows are copies of earlier rows")
        )
        message = f"{rows}; copies {read}"
        return (Warning(code="repeated_rows", message=message, where=where),)


def _distinct(copies: NDArray[np.int64]) -> int:
    return int(copies.max()) + 1


def _with_group(copies: NDArray[np.int64], group: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return copies if group is None else _joined(copies, group)


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
