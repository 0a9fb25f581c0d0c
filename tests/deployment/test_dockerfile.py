"""The Dockerfile: two targets, no root, no secret, and just the files that each process needs."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
SOURCES = {"web": ("latentgauge", "jobs", "app"), "worker": ("latentgauge", "jobs", "worker")}

Step = tuple[str, str]


def stages() -> dict[str, list[Step]]:
    """Instructions and their values by stage, the base's own first."""
    parser = DockerfileParser(fileobj=io.BytesIO(DOCKERFILE.read_bytes()))
    found: dict[str, list[Step]] = {}
    name = ""
    for step in parser.structure:
        instruction, value = step["instruction"], step["value"]
        if instruction == "FROM":
            parent, _, name = value.split()
            found[name] = list(found.get(parent, []))
        elif name:
            found[name].append((instruction, value))
    return found


def values(stage: str, instruction: str) -> list[str]:
    return [value for kind, value in stages()[stage] if kind == instruction]


def copied(stage: str) -> list[str]:
    return [source for value in values(stage, "COPY") for source in value.split()[:-1]]


def argument(name: str) -> str:
    return re.findall(rf"^ARG {name}=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)[0]


def test_there_are_a_web_and_a_worker_target_from_one_slim_base() -> None:
    assert set(stages()) == {"base", "web", "worker"}
    assert argument("PYTHON_VERSION") == "3.11-slim"


@pytest.mark.parametrize("target", SOURCES)
def test_an_image_gets_its_own_packages_and_lock_and_nothing_else(target: str) -> None:
    assert sorted(copied(target)) == sorted([*SOURCES[target], f"requirements-{target}.lock"])
    for source in copied(target):
        assert (ROOT / source).exists(), source


@pytest.mark.parametrize("target", SOURCES)
def test_the_build_context_holds_what_is_copied_and_nothing_else(target: str) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    patterns = [line for line in lines if not line.startswith("#")]
    assert patterns[0] == "*"
    let_in = {line[1:] for line in patterns if line.startswith("!")}
    assert set(copied(target)) <= let_in
    assert let_in == {source for each in SOURCES for source in copied(each)}


@pytest.mark.parametrize("target", SOURCES)
def test_an_image_runs_as_an_ordinary_user_of_a_fixed_number(target: str) -> None:
    steps = stages()[target]
    last_user = max(i for i, (kind, _) in enumerate(steps) if kind == "USER")
    assert steps[last_user][1] == "10001:10001"
    # nothing is copied or installed after that, so the user owns none of the code
    assert not {"COPY", "ADD", "RUN"} & {kind for kind, _ in steps[last_user:]}


@pytest.mark.parametrize("target", SOURCES)
def test_an_image_says_how_to_start_it_and_how_to_ask_for_its_health(target: str) -> None:
    (command,) = values(target, "CMD")
    assert json.loads(command)[0] == {"web": "uvicorn", "worker": "celery"}[target]
    (health,) = values(target, "HEALTHCHECK")
    probe = json.loads(health[health.index("CMD ") + 4 :])
    assert probe[:2] == ["python", "-c"]
    compile(probe[2], "healthcheck", "exec")


def test_no_image_holds_a_secret_or_publishes_a_port() -> None:
    for target in stages():
        assert not values(target, "EXPOSE")
        assert not values(target, "ADD")
        for value in values(target, "ENV") + values(target, "ARG"):
            assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY|://", value, re.IGNORECASE)


def test_the_web_image_installs_no_torch() -> None:
    assert not any("torch" in value for value in values("web", "RUN"))
    assert any("torch==${TORCH_VERSION}" in value for value in values("worker", "RUN"))


@pytest.mark.parametrize(
    ("target", "refused"), [("web", "numpy"), ("web", "torch"), ("worker", "torch")]
)
def test_a_lock_leaves_out(target: str, refused: str) -> None:
    lock = (ROOT / f"requirements-{target}.lock").read_text()
    assert re.search(r"^sqlalchemy==", lock, re.MULTILINE)
    assert not re.search(rf"^{refused}\b", lock, re.MULTILINE)


def test_the_makefile_and_the_dockerfile_name_the_same_torch() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^TORCH_VERSION *[:?]?= *(\S+)$", makefile, re.MULTILINE)
    assert argument("TORCH_VERSION") == version


@pytest.mark.parametrize(
    ("index", "asked"), [("", []), ("file:///x", ["--index-url", "file:///x"])]
)
def test_torch_comes_from_the_index_that_is_asked_for(index: str, asked: list[str]) -> None:
    (install,) = [value for value in values("worker", "RUN") if "torch==" in value]
    words = install[install.index("pip install") :].replace("pip install", "printf '%s\\n'", 1)
    script = f"TORCH_VERSION=1.2\nTORCH_INDEX={index}\n{words}"
    run = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["torch==1.2", *asked]


# The broker's transport is loaded by the first connection, not at import.
PROBE = """
import importlib, json, sys
from importlib.metadata import packages_distributions
REFUSED = {refused!r}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
importlib.import_module({module!r})
from jobs.queue import celery_app
from jobs.settings import settings
celery_app(settings()).connection_for_write().transport
homes = packages_distributions()
foreign = sorted({{d for n in sys.modules if "." not in n for d in homes.get(n, [])}})
ours = [m for n, m in sys.modules.items() if n.partition(".")[0] in {ours!r}]
files = [m.__file__ for m in ours if m.__file__]
print(json.dumps({{"files": files, "foreign": foreign}}))
"""


def loaded_from_the_copied_files(target: str, module: str, folder: Path) -> dict[str, list[str]]:
    """What a process loads that has the image's files: files of ours, and packages of others."""
    for source in SOURCES[target]:
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, folder / source, ignore=leave)
    missing = {"web": ("torch", "numpy", "worker"), "worker": ("torch", "app")}[target]
    probe = PROBE.format(
        refused=missing, module=module, ours=("latentgauge", "jobs", "app", "worker")
    )
    run = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=folder,
        env={
            "PYTHONPATH": str(folder),
            "LATENTGAUGE_DATABASE_URL": f"sqlite:///{folder}/data/db",
            "LATENTGAUGE_ARTIFACTS": str(folder / "data" / "artifacts"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("target", "module"),
    [("web", "app.main"), ("web", "jobs.migrations"), ("worker", "worker.main")],
)
def test_the_copied_files_are_all_that_a_process_imports(
    target: str, module: str, tmp_path: Path
) -> None:
    files = loaded_from_the_copied_files(target, module, tmp_path)["files"]
    assert files
    assert all(Path(file).is_relative_to(tmp_path) for file in files)


@pytest.mark.parametrize(("target", "module"), [("web", "app.main"), ("worker", "worker.main")])
def test_a_lock_holds_every_package_that_its_process_loads(
    target: str, module: str, tmp_path: Path
) -> None:
    lock = (ROOT / f"requirements-{target}.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))
    loaded = loaded_from_the_copied_files(target, module, tmp_path)["foreign"]
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in loaded}
    assert {"sqlalchemy", "kombu", "redis"} <= names
    # kombu offers YAML where it finds it; setuptools comes by a .pth file of this environment
    assert names - locked - {"pyyaml", "setuptools", "latentgauge"} == set()


def test_the_import_probe_can_fail(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        loaded_from_the_copied_files("web", "latentgauge.posterior", tmp_path)


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed here")
    run = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")
