from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentgauge.datasets.rows import (
    Units,
    assemble,
    name_rows,
    row_units,
    value_range,
    warnings_of,
)
from latentgauge.errors import NonFiniteInput, UnreadableDataset
from latentgauge.options import Options
from tests.models import rows


def test_keep_leaves_rows_out_everywhere_and_remembers_their_numbers() -> None:
    x = rows(6)
    dataset = assemble(
        {
            "x": x,
            "y": np.array([0, 1, 0, 1, 0, 1]),
            "group": np.array([0, 0, 1, 1, 2, 2]),
            "factors": np.arange(12).reshape(6, 2),
            "keep": np.array([0, 1, 0, 1, 1, 1], dtype=np.uint8),
        },
        ("a", "b"),
    )
    np.testing.assert_array_equal(dataset.x, x[[1, 3, 4, 5]])
    assert dataset.origin.tolist() == [1, 3, 4, 5]
    assert dataset.codes is not None
    assert dataset.group is not None
    assert dataset.factors is not None
    assert dataset.codes.tolist() == [1, 1, 0, 1]
    assert dataset.group.tolist() == [0, 1, 2, 2]
    assert dataset.factors[:, 0].tolist() == [2, 6, 8, 10]


def test_rows_that_are_not_finite_are_named_by_their_number_in_the_file() -> None:
    x = rows(100)
    x[17, 1], x[40, 0] = np.nan, -np.inf
    with pytest.raises(NonFiniteInput, match="2 of 100 rows hold NaN or infinity: rows 17, 40"):
        assemble({"x": x}, ())
    keep = np.ones(100, dtype=np.uint8)
    keep[[3, 17]] = 0
    with pytest.raises(NonFiniteInput, match="1 of 98 rows hold NaN or infinity: row 40"):
        assemble({"x": x, "keep": keep}, ())
    keep[40] = 0
    assert len(assemble({"x": x, "keep": keep}, ())) == 97


def test_many_rows_are_named_and_the_rest_counted() -> None:
    assert name_rows(np.arange(13)) == "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.ones(3)}, "no table of rows"),
        ({"x": np.ones((0, 3))}, "no table of rows"),
        ({"x": np.ones((3, 0))}, "no table of rows"),
        ({"x": np.ones((3, 1)), "y": np.zeros(2, int)}, "x and y have different lengths"),
        ({"x": np.ones((3, 1)), "keep": np.zeros(3, np.uint8)}, "the array keep leaves no row"),
        ({"x": np.ones((3, 1)), "y": np.full(3, 2)}, "classes that are not there"),
        ({"x": np.ones((3, 1)), "y": np.full(3, -1)}, "classes that are not there"),
    ],
)
def test_arrays_that_do_not_go_together_are_said(arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(UnreadableDataset) as caught:
        assemble(arrays, ("a", "b"))
    assert says in str(caught.value)


def test_the_range_is_over_all_blocks() -> None:
    x = np.zeros((5000, 1000), dtype=np.float64)
    x[4999, 999], x[17, 3] = 7, -3
    assert value_range(x) == (-3, 7)


def test_copies_share_a_unit_and_other_rows_do_not() -> None:
    x = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]])
    units = row_units(x)
    assert units[0] == units[2]
    assert units[1] == units[4]
    assert len(set(units.tolist())) == 3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
def test_units_are_the_connected_components_of_copies_and_groups(
    pairs: list[tuple[int, int]],
) -> None:
    x = np.array([[value] for value, _ in pairs])
    group = np.array([g for _, g in pairs])
    units = row_units(x, group=group)
    # An independent reference: union-find over the rows.
    parent = list(range(len(pairs)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, (a, g) in enumerate(pairs):
        for j, (b, h) in enumerate(pairs):
            if a == b or g == h:
                parent[root(i)] = root(j)
    for i in range(len(pairs)):
        for j in range(len(pairs)):
            assert (units[i] == units[j]) == (root(i) == root(j))


@pytest.mark.parametrize(
    ("x", "options", "codes"),
    [
        (np.full((3, 2), 9, np.uint8), Options(), ["input_range"]),
        (np.full((3, 2), 9, np.uint8), Options(input_scale=255), []),
        (np.full((3, 2), 1, np.uint8), Options(), []),
        (np.full((3, 2), 9.0), Options(), []),
    ],
)
def test_integers_that_go_in_unscaled_are_warned_about(
    x: Any, options: Options, codes: list[str]
) -> None:
    found = warnings_of(assemble({"x": x}, ()), options)
    assert [w.code for w in found] == codes


def test_factors_are_said_to_be_left_alone() -> None:
    dataset = assemble({"x": rows(4), "factors": np.ones((4, 1))}, ())
    assert [w.code for w in warnings_of(dataset, Options())] == ["not_measured"]


def test_copies_of_data_rows_are_one_unit_and_that_is_said() -> None:
    units = Units.of_rows(np.array([[1], [2], [1], [3]]), group=None)
    assert units.of_row is not None
    assert units.of_row[0] == units.of_row[2]
    assert len(set(units.of_row.tolist())) == 3
    (warning,) = units.warnings("dataset.x")
    assert warning.message == (
        "1 row is a copy of an earlier row; copies are kept together and count as one"
    )


@pytest.mark.parametrize(
    ("distinct", "times", "together"), [(50, 100, False), (50, 99, True), (51, 200, True)]
)
def test_a_table_of_few_posteriors_is_a_discrete_code(
    distinct: int, times: int, together: bool
) -> None:
    mu = np.tile(np.arange(float(distinct))[:, None], (times, 1))
    units = Units.of_posteriors(mu, np.ones_like(mu), group=None)
    assert (units.of_row is not None) == together
    assert units.repeated == distinct * (times - 1)
    assert len(set(units.copies.tolist())) == distinct
    said = units.warnings("posterior")[0].message
    assert "are kept together" in said
    assert ("read as draws of their own" in said) == (not together)


def test_a_posterior_that_is_constant_for_one_class_is_no_copy_there() -> None:
    mu = np.concatenate([np.zeros(120), np.arange(1.0, 41.0), np.arange(1.0, 41.0)])[:, None]
    units = Units.of_posteriors(mu, np.ones_like(mu), group=None)
    assert units.of_row is not None
    assert len(set(units.of_row[:120].tolist())) == 120
    assert units.of_row[120:160].tolist() == units.of_row[160:].tolist()
    assert len(set(units.of_row.tolist())) == 160
    assert (units.repeated, units.constant) == (159, 120)
    assert "but for 120 rows of a few constant posteriors" in units.warnings("posterior")[0].message
    group = np.arange(200) // 2
    joined = Units.of_posteriors(mu, np.ones_like(mu), group=group).of_row
    assert joined is not None
    assert len(set(joined[:120].tolist())) == 60


def test_a_discrete_code_keeps_its_groups() -> None:
    group = np.arange(200) // 2
    constant = np.zeros((200, 1))
    assert Units.of_posteriors(constant, constant, group=group).of_row is group


def test_rows_without_copies_are_not_warned_about() -> None:
    assert Units.of_rows(rows(5), group=None).warnings("dataset.x") == ()


@pytest.mark.parametrize("dtype", ["u1", "<f2", "<f4", "<f8", "?"])
@pytest.mark.parametrize("width", [1, 3, 8, 13])
def test_rows_that_differ_in_one_entry_are_no_copies(dtype: str, width: int) -> None:
    x = np.zeros((width + 1, width), dtype=dtype)
    x[np.arange(width), np.arange(width)] = 1
    assert len(set(row_units(x).tolist())) == width + 1
