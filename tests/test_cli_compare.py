"""`latentgauge compare` from end to end: two tables of the same rows, HEAD less BASE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentgauge.cli import app, run
from latentgauge.cli_compare import USED
from latentgauge.comparison import Comparison
from latentgauge.options import Options
from latentgauge.parameters import flag

ROWS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base; a head with its latents mirrored, in another order and a little sharper; others."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    mu, wide = rng.standard_normal((ROWS, 3)), np.full((ROWS, 3), -1.0)
    head = -mu[:, [2, 0, 1]] + 0.05 * rng.standard_normal((ROWS, 3))
    y = np.arange(ROWS) % 2
    np.savez(folder / "base.npz", mu=mu, logvar=wide, y=y, group=np.arange(ROWS) // 2)
    np.savez(folder / "head.npz", mu=head, sigma=np.full((ROWS, 3), 0.58), y=y)
    np.savez(folder / "short.npz", mu=mu[:-1], logvar=wide[:-1])
    np.savez(folder / "labelled.npz", mu=mu, logvar=wide, y=(y + (np.arange(ROWS) == 7)) % 2)
    np.savez(folder / "grouped.npz", mu=mu, logvar=wide, group=np.arange(ROWS) // 4)
    for name, row in (("first.npz", 0), ("last.npz", ROWS - 1)):
        np.savez(folder / name, mu=mu, logvar=wide, keep=np.arange(ROWS) != row)
    np.savez(folder / "wide.npz", mu=np.hstack([mu, rng.standard_normal((ROWS, 1))]),
             logvar=np.full((ROWS, 4), -1.0))  # fmt: skip
    return folder


class Command:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        files = [str(self._folder / a) if a.endswith(".npz") else a for a in arguments]
        status = run(app, ["compare", *files])
        self.out, self.err = self._capsys.readouterr()
        return status


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(folder, capsys)


def test_json_is_the_comparison(command: Command) -> None:
    assert command("base.npz", "head.npz", "--format", "json", "--seed", "4") == 0
    found = Comparison.model_validate_json(command.out)
    assert (found.n, found.options.seed) == (ROWS, 4)
    assert [(d.base, d.head) for d in found.dimensions] == [(0, 1), (1, 2), (2, 0)]
    assert all(d.correlation is not None and d.correlation < -0.9 for d in found.dimensions)
    assert found.mutual_information.lower_difference.value is not None
    assert found.mutual_information.lower_difference.value > 0.0


def test_groups_make_the_errors_those_of_pairs_of_rows(command: Command, folder: Path) -> None:
    def found(base: str) -> dict[str, Any]:
        assert command(base, "head.npz", "--format", "json") == 0
        return dict(json.loads(command.out))

    grouped = found("base.npz")
    with np.load(folder / "base.npz") as base:
        np.savez(folder / "alone.npz", mu=base["mu"], logvar=base["logvar"])
    alone = found("alone.npz")
    assert grouped["kl"]["value"] == alone["kl"]["value"]
    assert grouped["kl"]["standard_error"] != alone["kl"]["standard_error"]
    assert grouped["digest"] != alone["digest"]


def test_the_table_has_the_whole_the_pairs_and_what_has_no_partner(command: Command) -> None:
    assert command("base.npz", "wide.npz", "--confidence", "0.9") == 0
    text = " ".join(command.out.split())
    assert "200 rows; base 3, head 4 latent dimensions; figures in nats, intervals at 90%" in text
    for words in (" I(X;Z) [", " TC - - [", " I_N ", " KL "):
        assert words in text
    assert "Matched dimensions" in text
    assert " 0 0 1.000 0 [0, 0] 0 0" in text
    assert "only in the head: 3 (I_j [" in text
    assert "estimates, that bound nothing" in text


@pytest.mark.parametrize(
    ("base", "head", "told"),
    [
        ("base.npz", "short.npz", "got: 200 and 199 rows"),
        ("base.npz", "labelled.npz", "got: other labels in row 7, counted from 0"),
        ("base.npz", "grouped.npz", "got: other groups in rows 2, 3"),
        ("first.npz", "last.npz", "got: arrays keep that leave out different rows"),
    ],
)
def test_tables_of_other_rows_are_refused(
    command: Command, base: str, head: str, told: str
) -> None:
    assert command(base, head) == 4
    assert "shape_mismatch" in command.err
    assert told in command.err
    assert "expected: the same rows in the same order in both tables" in command.err
    assert "what to do: encode one data set with both encoders" in command.err
    assert command.out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["base.npz"], "Missing argument 'HEAD'"),
        (["base.npz", "none.npz"], "cannot read"),
        (["base.npz", "head.npz", "--format", "html"], "'html' is not one of"),
        (["base.npz", "head.npz", "--minibatch", "8"], "no option --minibatch"),
    ],
)
def test_misuse_exits_2_with_the_reason(command: Command, arguments: list[str], told: str) -> None:
    assert command(*arguments) == 2
    assert told in command.err


def test_only_options_that_are_used_are_taken(command: Command) -> None:
    assert command("--help") == 0
    for name in Options.model_fields:
        assert (f"{flag(name)} " in command.out) == (name in USED)
