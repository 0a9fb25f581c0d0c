"""Who may load what, seen from inside a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(code: str) -> set[str]:
    """The modules in a new interpreter after it ran this code."""
    probe = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import latentgauge", {"torch", "numpy", "pydantic", "httpx"}),
        ("import latentgauge.client", {"torch", "numpy", "app", "worker", "jobs"}),
        ("import latentgauge.cli", {"torch", "numpy", "app", "worker", "jobs"}),
        ("import latentgauge.report, latentgauge.gates", {"torch", "numpy"}),
        ("import app.main", {"torch", "numpy", "worker", "latentgauge.encoding"}),
        ("import worker.main", {"torch", "numpy", "app", "latentgauge.encoding"}),
        (
            "import worker.run, worker.tasks, worker.sandbox.box",
            {"latentgauge.datasets.arrays", "latentgauge.encoders.torchscript", "app"},
        ),
        ("import latentgauge.encoding", {"app", "worker", "jobs", "sqlalchemy", "celery"}),
        ("import latentgauge.analysis", {"app", "worker", "jobs", "sqlalchemy", "celery"}),
    ],
)
def test_no_process_loads_what_it_must_not(code: str, forbidden: set[str]) -> None:
    assert loaded_by(code) & forbidden == set()


@pytest.mark.parametrize("module", ["app.main", "worker.main"])
def test_importing_a_process_touches_no_disk(module: str, tmp_path: Path) -> None:
    code = f"import sys, os; sys.path.insert(0, {str(ROOT)!r}); import {module}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_probe_itself_can_fail() -> None:
    assert {"torch", "numpy"} <= loaded_by("import torch, numpy")


def test_a_worker_that_ran_a_whole_job_imported_no_reader_of_uploads(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.models import Linear, npz, rows, scripted
for name in [n for n in sys.modules if n.startswith("latentgauge")]:
    del sys.modules[name]
from jobs.blobs import Blobs
from jobs.job import Inputs, Job
from jobs.settings import Settings
from jobs.states import State
from worker.run import Run
blobs = Blobs(Path({str(tmp_path)!r}))
shas = []
for data in (scripted(Linear()), npz(x=rows(50))):
    with blobs.incoming() as incoming:
        incoming.write(data)
        shas.append(incoming.keep())
inputs = Inputs(*shas)
job = Job("1", State.RUNNING, 1, 0, 0, None, None, None, "cpu", inputs, {{}}, (), {{}}, "", None)
report = Run(blobs, Settings(), lambda stage, fraction: None).report(job)
assert report.n == 50
"""
    modules = loaded_by(code)
    assert "latentgauge.analysis" in modules
    readers = {"latentgauge.datasets.arrays", "latentgauge.encoders.torchscript"}
    assert modules & (readers | {"latentgauge.encoding", "latentgauge.sniff"}) == set()


def test_the_installed_package_is_latentgauge_alone() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["latentgauge"]
