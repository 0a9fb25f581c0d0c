"""docker-compose.yml: Compose itself reads it, and it says what docs/operations promises."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.queue import QUEUES
from jobs.settings import Settings

ROOT = Path(__file__).parents[2]
OURS = ("web", "worker", "worker-gpu")
PREFIX = "LATENTGAUGE_"


def compose_program() -> str:
    """Docker Compose, which reads a file without a Docker engine."""
    beside = Path(sys.executable).with_name("docker-compose")
    found = str(beside) if beside.exists() else shutil.which("docker-compose")
    if found is None:
        pytest.skip("docker-compose is not installed here")
    return found


def compose(folder: Path, env: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "env").write_text(env)
    command = [compose_program(), "--project-directory", ROOT, "--env-file", folder / "env"]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file as Compose understands it, with the profile gpu."""
    folder = tmp_path_factory.mktemp("compose")
    env = "POSTGRES_PASSWORD=one\nREDIS_PASSWORD=two\nLATENTGAUGE_JOB_SECONDS=77\n"
    run = compose(folder, env, "--profile", "gpu", "config", "--format", "json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def written() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def settings_named_in(text: str) -> set[str]:
    return {name.lower() for name in re.findall(rf"\b{PREFIX}([A-Z_]+)\b", text)}


def defaults_of_the_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [re.fullmatch(rf"#{PREFIX}([A-Z_]+)=(.*)", line) for line in lines]
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


def test_compose_warns_of_nothing(tmp_path: Path) -> None:
    run = compose(tmp_path, "POSTGRES_PASSWORD=one\nREDIS_PASSWORD=two\n", "config", "--quiet")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "REDIS_PASSWORD"])
def test_compose_refuses_to_start_without_a_password_and_names_it(
    tmp_path: Path, missing: str
) -> None:
    env = (ROOT / ".env.example").read_text()
    for name in {"POSTGRES_PASSWORD", "REDIS_PASSWORD"} - {missing}:
        env = env.replace(f"{name}=", f"{name}=secret")
    run = compose(tmp_path, env, "config", "--quiet")
    assert run.returncode != 0
    assert f"required variable {missing} is missing" in run.stderr


def test_the_gpu_worker_starts_only_with_its_profile(resolved: dict[str, Any]) -> None:
    assert resolved["services"]["worker-gpu"]["profiles"] == ["gpu"]
    plain = {name for name, service in written()["services"].items() if "profiles" not in service}
    assert plain == {"web", "worker", "migrate", "redis", "postgres"}


def test_only_the_web_service_is_published_and_only_on_loopback(resolved: dict[str, Any]) -> None:
    ports = {name: s["ports"] for name, s in resolved["services"].items() if "ports" in s}
    assert set(ports) == {"web"}
    assert [(p["host_ip"], p["published"], p["target"]) for p in ports["web"]] == [
        ("127.0.0.1", "8000", 8000)
    ]


def test_a_worker_reaches_no_network_but_the_inner_one(resolved: dict[str, Any]) -> None:
    assert resolved["networks"]["inside"]["internal"] is True
    for name, service in resolved["services"].items():
        wanted = {"inside", "outside"} if name == "web" else {"inside"}
        assert set(service["networks"]) == wanted, name


def test_every_container_is_read_only_and_without_privileges(resolved: dict[str, Any]) -> None:
    for name, service in resolved["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert not any(volume["type"] == "bind" for volume in service.get("volumes", [])), name


def test_what_runs_is_restarted_checked_and_bounded(resolved: dict[str, Any]) -> None:
    for name, service in resolved["services"].items():
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert "stop_grace_period" in service, name
        assert "mem_limit" in service, name
        assert name in OURS or "test" in service["healthcheck"], name


def test_web_and_workers_share_the_uploaded_bytes(resolved: dict[str, Any]) -> None:
    for name in OURS:
        service = resolved["services"][name]
        folder = service["environment"]["LATENTGAUGE_ARTIFACTS"]
        mounted = {v["target"]: v["source"] for v in service["volumes"]}
        assert mounted[folder] == "artifacts", name


def test_what_must_last_lies_on_named_volumes(resolved: dict[str, Any]) -> None:
    assert set(resolved["volumes"]) == {"artifacts", "spool", "scratch", "redis", "postgres"}
    mounts = {name: s.get("volumes", []) for name, s in resolved["services"].items()}
    assert [v["target"] for v in mounts["postgres"]] == ["/var/lib/postgresql"]
    assert [v["target"] for v in mounts["redis"]] == ["/data"]


def test_each_worker_listens_on_the_queue_of_its_device(resolved: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    celery = json.loads(re.findall(r'^CMD (\["celery".*\])$', dockerfile, re.MULTILINE)[0])
    for name in ("worker", "worker-gpu"):
        service = resolved["services"][name]
        command = service["command"] or celery
        assert command[:-1] == celery[:-1]
        device = service["environment"]["LATENTGAUGE_WORKER_DEVICE"]
        assert command[-1] == QUEUES[device], name
    used = {
        resolved["services"][name]["environment"]["LATENTGAUGE_WORKER_DEVICE"] for name in OURS[1:]
    }
    assert used == set(QUEUES)


def test_a_worker_is_not_the_first_process_of_its_container(resolved: dict[str, Any]) -> None:
    # it collects what a killed child leaves behind
    assert all(resolved["services"][name]["init"] is True for name in ("worker", "worker-gpu"))


def test_the_gpu_worker_reserves_one_gpu_and_may_have_its_own_torch(
    resolved: dict[str, Any],
) -> None:
    worker = resolved["services"]["worker-gpu"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    text = (ROOT / "docker-compose.yml").read_text()
    assert "TORCH_INDEX: ${TORCH_INDEX:-}" in text
    assert "TORCH_INDEX: ${TORCH_INDEX_GPU:-}" in text


def test_the_database_is_migrated_before_anything_uses_it(resolved: dict[str, Any]) -> None:
    migrate = resolved["services"]["migrate"]
    assert migrate["command"] == ["python", "-m", "jobs.migrations"]
    assert migrate["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in OURS:
        waits = resolved["services"][name]["depends_on"]["migrate"]
        assert waits["condition"] == "service_completed_successfully", name


def test_compose_and_the_example_name_only_settings_that_exist() -> None:
    known = set(Settings.model_fields)
    assert settings_named_in((ROOT / "docker-compose.yml").read_text()) <= known
    assert settings_named_in((ROOT / ".env.example").read_text()) <= known


def test_every_setting_can_be_set_for_the_containers(resolved: dict[str, Any]) -> None:
    given = {
        name.removeprefix(PREFIX).lower()
        for service in OURS
        for name in resolved["services"][service]["environment"]
    }
    assert given == set(Settings.model_fields)


def test_a_line_of_env_reaches_web_and_workers(resolved: dict[str, Any]) -> None:
    for name in OURS:
        environment = resolved["services"][name]["environment"]
        assert environment["LATENTGAUGE_JOB_SECONDS"] == "77"
        # null: the container does not get the variable, the default holds
        assert environment["LATENTGAUGE_ENCODING_SECONDS"] is None


def test_the_example_states_the_default_of_every_setting() -> None:
    stated = defaults_of_the_example()
    assert set(stated) == set(Settings.model_fields)
    # compose narrows the hosts, as long as there are no keys
    assert stated.pop("allowed_hosts") == "localhost,127.0.0.1"
    for name, text in stated.items():
        default = Settings.model_fields[name].default
        assert text == (f"{default:g}" if isinstance(default, float) else str(default)), name


def test_the_settings_that_compose_writes_are_accepted(
    resolved: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OURS:
        environment = resolved["services"][name]["environment"]
        with monkeypatch.context() as patch:
            for key, value in environment.items():
                if value is not None:
                    patch.setenv(key, value)
            settings = Settings()
        assert settings.database_url == "postgresql+psycopg://latentgauge:one@postgres/latentgauge"
        assert settings.broker_url == "redis://:two@redis:6379/0"
        assert settings.job_seconds == 77


def test_no_password_is_written_into_the_files() -> None:
    for name in ("docker-compose.yml", ".env.example", "Dockerfile"):
        text = (ROOT / name).read_text()
        assert not re.search(r"PASSWORD[=:] *[A-Za-z0-9]", text), name
