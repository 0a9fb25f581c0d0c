"""`latentgauge translate` from end to end: what a log shows beside the right figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentgauge.cli import app, run
from latentgauge.options import Options
from latentgauge.parameters import flag
from latentgauge.report import Report
from latentgauge.translation import Translation

ROWS = 1000


class Encoder(torch.nn.Module):
    """Keeps the first latents of x."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[:, :4], torch.full_like(x[:, :4], -1.386)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dead table, a live encoder with its data, and the table that it makes of them."""
    folder = tmp_path_factory.mktemp("inputs")
    np.savez(folder / "dead.npz", mu=np.zeros((ROWS, 10)), logvar=np.zeros((ROWS, 10)))
    torch.jit.save(torch.jit.script(Encoder()), folder / "encoder.pt")
    x = np.random.default_rng(0).standard_normal((ROWS, 6)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    np.savez(folder / "live.npz", mu=x[:, :4], logvar=np.full((ROWS, 4), -1.386, np.float32))
    return folder


class Command:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        files = [str(self._folder / a) if a.endswith((".pt", ".npz")) else a for a in arguments]
        status = run(app, files)
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self, *arguments: str) -> dict[str, Any]:
        assert self(*arguments, "--format", "json") == 0
        return dict(json.loads(self.out))


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(folder, capsys)


def row(text: str, name: str) -> list[str]:
    """The cells of one row of the table."""
    line = next(line for line in text.splitlines() if line.startswith(f" {name} "))
    return [cell.strip() for cell in line[len(name) + 1 :].split("   ") if cell.strip()]


def test_a_dead_encoder_is_shown_as_its_log_shows_it_beside_zero(command: Command) -> None:
    assert command("translate", "dead.npz", "--batch-size", "64", "--train-size", "60000") == 0
    assert "batches of 64 out of 60,000 rows" in command.out
    assert row(command.out, "mutual information")[:4] == ["[0, 0]", "0", "11.00", "0"]
    assert row(command.out, "total correlation") == ["[0, 0]", "0", "99.02", "0", "-"]
    assert row(command.out, "dimension-wise KL") == ["[0, 0]", "0", "-110.02", "0", "-"]
    assert row(command.out, "KL") == ["0", "0", "0", "0", "-"]


def test_every_estimator_says_why_it_differs(command: Command) -> None:
    assert command("translate", "dead.npz", "--batch-size=64", "--train-size=60000") == 0
    text = " ".join(command.out.split("Why they differ")[1].split())
    assert "mws: high whatever the code: mutual information is log N = 11.00 plus" in text
    assert "mss: high against I_N" in text
    assert "calc_mi: low: it asks which of the 64 rows of a minibatch, so it stops at" in text
    assert "log B = 4.16" in text


def test_json_has_the_right_figures_and_the_logged_ones(command: Command) -> None:
    told = Translation.model_validate(
        command.json("translate", "live.npz", "--batch-size", "32", "--seed", "3")
    )
    report = Report.model_validate(command.json("analyse", "live.npz", "--seed", "3"))
    assert (told.batch_size, told.train_size, told.n, told.d) == (32, ROWS, ROWS, 4)
    assert told.quantities["mutual_information"].population == report.mutual_information
    assert told.quantities["kl"].population == report.kl
    parts = report.dataset_decomposition
    assert told.quantities["total_correlation"].dataset == parts.total_correlation
    assert told.quantities["dimensionwise_kl"].dataset == parts.dimensionwise_kl
    assert list(told.quantities["mutual_information"].logged) == ["mws", "mss", "calc_mi"]
    assert list(told.quantities["kl"].logged) == ["mws", "mss"]
    assert told.ceilings["calc_mi"] == math.log(32)
    mws = told.quantities["mutual_information"].logged["mws"].value
    assert mws is not None
    assert mws > math.log(ROWS)


def test_the_figures_are_those_of_a_report_that_asks_for_the_estimators(command: Command) -> None:
    asked = ["--estimators", "mws,mss,calc_mi", "--minibatch", "50", "--train-size", "5000"]
    report = Report.model_validate(command.json("analyse", "live.npz", *asked))
    told = Translation.model_validate(
        command.json("translate", "live.npz", "--batch-size", "50", "--train-size", "5000")
    )
    for quantity, found in told.quantities.items():
        for name, figure in found.logged.items():
            assert report.estimators[name].figures[quantity] == figure


def test_an_encoder_and_its_data_read_as_their_table(command: Command) -> None:
    size = ["--batch-size", "64"]
    encoded = command.json("translate", "encoder.pt", "data.npz", *size)
    table = command.json("translate", "live.npz", *size)
    assert encoded["quantities"] == table["quantities"]
    assert encoded["digest"] != table["digest"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dead.npz"], "Missing option '--batch-size'"),
        (["dead.npz", "--batch-size", "1"], "'--batch-size'"),
        (["dead.npz", "--batch-size", "9000"], "'--batch-size'"),
        (["dead.npz", "--batch-size", "many"], "'--batch-size'"),
        (["dead.npz", "--batch-size", "64", "--train-size", "63"], "holds no minibatch of 64"),
        (["dead.npz", "--batch-size", "1001"], "1001 rows cannot be drawn from 1000"),
        (["none.npz", "--batch-size", "64"], "cannot read"),
        (["dead.npz", "--batch-size", "64", "--estimators", "mws"], "no option --estimators"),
        (["dead.npz", "--batch-size", "64", "--minibatch", "8"], "no option --minibatch"),
        (["dead.npz", "--batch-size", "64", "--format", "html"], "'html' is not one of"),
    ],
)
def test_misuse_exits_2_with_the_reason(command: Command, arguments: list[str], told: str) -> None:
    assert command("translate", *arguments) == 2
    assert told in command.err
    assert command.out == ""


def test_an_encoder_alone_is_at_fault(command: Command) -> None:
    assert command("translate", "encoder.pt", "--batch-size", "64") == 4


def test_options_of_an_analysis_are_taken_where_they_apply(command: Command) -> None:
    assert command("translate", "--help") == 0
    own = {"batch_size", "train_size"}
    for name in set(Options.model_fields) - {"estimators", "minibatch"} - own:
        assert f"{flag(name)} " in command.out
    assert "Rows of a minibatch of the log" in command.out
    assert "forward pass" not in command.out
