"""`latentgauge analyse` from end to end: a TorchScript encoder and its data, no service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latentgauge.cli import app, run
from latentgauge.report import Report

ROOT = Path(__file__).parent.parent
ROWS, LATENTS = 200, 3


class Encoder(torch.nn.Module):
    """Keeps the first latents of x, with a noise of half a unit."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[:, :3], torch.full_like(x[:, :3], -1.386)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, its data, the same data with a hole in it, and a posterior table."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.jit.save(torch.jit.script(Encoder()), folder / "encoder.pt")
    x = np.random.default_rng(0).standard_normal((ROWS, 5)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    np.savez(folder / "table.npz", mu=x[:, :3], logvar=np.full((ROWS, 3), -1.386, np.float32))
    x[17, 2] = np.nan
    np.savez(folder / "hole.npz", x=x)
    return folder


class Analyse:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        files = [str(self._folder / a) if a.endswith((".pt", ".npz")) else a for a in arguments]
        status = run(app, ["analyse", *files])
        self.out, self.err = self._capsys.readouterr()
        return status


@pytest.fixture
def analyse(folder: Path, capsys: pytest.CaptureFixture[str]) -> Analyse:
    return Analyse(folder, capsys)


def test_an_encoder_and_its_data_give_a_table(analyse: Analyse) -> None:
    assert analyse("encoder.pt", "data.npz") == 0
    assert "200 rows, 3 latent dimensions; figures in nats" in analyse.out
    assert "Active dimensions" in analyse.out
    stages = analyse.err.splitlines()
    assert len(stages) == len(set(stages)) > 0


def test_json_is_the_report_with_the_options_that_were_given(analyse: Analyse) -> None:
    given = ["--seed", "7", "--confidence", "0.9", "--batch-size=64", "--input-layout", "as_is"]
    assert analyse("encoder.pt", "data.npz", "--format", "json", *given) == 0
    report = Report.model_validate_json(analyse.out)
    options = report.options
    assert (options.seed, options.batch_size, options.input_layout) == (7, 64, "as_is")
    assert (report.confidence, report.n, report.d) == (0.9, ROWS, LATENTS)


def test_a_posterior_table_gives_the_figures_of_its_encoder(analyse: Analyse) -> None:
    assert analyse("table.npz", "--format", "json") == 0
    table = Report.model_validate_json(analyse.out)
    assert analyse("encoder.pt", "data.npz", "--format", "json") == 0
    encoder = Report.model_validate_json(analyse.out)
    assert table.kl == encoder.kl
    assert table.inputs.encoder is None


def test_every_file_gets_the_report(analyse: Analyse, tmp_path: Path) -> None:
    outputs = [tmp_path / f"report.{ending}" for ending in ("json", "html", "txt")]
    flags = [flag for path in outputs for flag in ("-o", str(path))]
    assert analyse("table.npz", "--require", "n >= 2", *flags) == 0
    made, page, table = (path.read_text() for path in outputs)
    assert Report.model_validate_json(made).n == ROWS
    assert 'class="badge pass"' in page
    assert "Verdict: PASS" in table
    assert table == analyse.out


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        ("mutual_information >= 0.1", 0),
        ("mutual_information >= 50", 1),
        ("labels.entropy >= 1", 3),
        ("dimensions[99].kl >= 1", 2),
    ],
)
def test_gates_decide_the_exit_status(analyse: Analyse, gate: str, status: int) -> None:
    assert analyse("table.npz", "--require", gate) == status


def test_json_with_gates_is_the_report_alone(analyse: Analyse) -> None:
    assert analyse("table.npz", "--require", "n >= 1000", "--format", "json") == 1
    assert Report.model_validate_json(analyse.out).n == ROWS
    assert "Verdict: FAIL" in analyse.err


def test_data_with_a_hole_are_at_fault_and_the_row_is_named(
    analyse: Analyse, tmp_path: Path
) -> None:
    output = tmp_path / "report.json"
    asked = ["--format", "json", "-o", str(output)]
    assert analyse("encoder.pt", "hole.npz", *asked) == 4
    problem = json.loads(analyse.out)
    assert set(problem) >= {"code", "title", "detail", "expected", "got", "remedy"}
    assert problem["code"] == "non_finite_input"
    assert "17" in problem["detail"] + problem["got"]
    assert "non_finite_input" in analyse.err
    assert not output.exists()


def test_files_in_the_wrong_order_are_at_fault(analyse: Analyse) -> None:
    assert analyse("data.npz", "encoder.pt") == 4
    assert analyse.out == ""


def test_an_encoder_alone_is_no_posterior_table(analyse: Analyse) -> None:
    assert analyse("encoder.pt") == 4


@pytest.mark.parametrize("missing", ["torch", "numpy"])
def test_without_torch_the_extra_to_install_is_named(folder: Path, missing: str) -> None:
    ran = _analyse_without(missing, folder)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"needs {missing}, which is not installed" in ran.stderr
    assert "pip install 'latentgauge[torch]'" in ran.stderr


def test_without_a_module_of_our_own_the_fault_is_ours(folder: Path) -> None:
    ran = _analyse_without("latentgauge.posterior", folder)
    assert (ran.returncode, ran.stdout) == (5, "")
    assert "internal_error" in ran.stderr


def _analyse_without(module: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys; sys.modules[{module!r}] = None; from latentgauge.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "analyse", str(folder / "table.npz")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_a_report_is_kept_when_a_gate_asks_for_a_latent_that_is_not_there(
    analyse: Analyse, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    assert analyse("table.npz", "--require", "dimensions[3].kl >= 0", "-o", str(out)) == 2
    assert "an index below 3" in analyse.err
    assert Report.model_validate_json(out.read_text()).d == 3
