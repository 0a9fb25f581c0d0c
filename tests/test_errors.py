from __future__ import annotations

import re

import pytest

import latentgauge.errors
from app.problems import STATUS, Problem
from latentgauge.errors import (
    BY_CODE,
    InputFault,
    InternalError,
    LatentgaugeError,
    Misuse,
    NoAnswer,
    WrongOutput,
    from_problem,
    leaves,
)


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)\s+(\w+)\n", (latentgauge.errors.__doc__ or "") + "\n")
    tree = [(kind.__name__, kind.code) for kind in leaves()]
    assert [leaf for leaf in drawn if leaf[0] in dict(tree)] == tree


def test_every_leaf_has_a_status_and_every_status_a_leaf() -> None:
    assert list(STATUS) == [kind.code for kind in leaves()]


def test_codes_are_their_own() -> None:
    assert len(BY_CODE) == len(list(leaves()))


@pytest.mark.parametrize(("root", "status"), [(Misuse, 2), (InputFault, 4), (NoAnswer, 5)])
def test_every_branch_has_its_exit_status(root: type[LatentgaugeError], status: int) -> None:
    assert {kind.exit_status for kind in leaves(root)} == {status}


def test_a_problem_is_the_error_again() -> None:
    error = WrongOutput("no pair", expected="two", got="one", remedy="return two")
    again = from_problem(error.problem())
    assert type(again) is WrongOutput
    assert str(again) == str(error)
    assert str(error) == "no pair; expected: two; got: one; what to do: return two"


def test_an_unknown_code_is_an_internal_error() -> None:
    error = from_problem({"code": "from_the_future", "title": "New", "got": None})
    assert type(error) is InternalError
    assert (error.detail, error.got) == ("New", "")


def test_the_problem_schema_lists_every_code() -> None:
    assert Problem.model_json_schema()["properties"]["code"]["enum"] == list(BY_CODE)
