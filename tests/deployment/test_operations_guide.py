"""docs/operations names each setting with its default, and each service and health address."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from app.documents import Readiness
from app.main import create_app
from jobs.settings import Settings
from latentgauge.errors import BY_CODE

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations" / "README.md").read_text()
SETTINGS = list(Settings.model_fields)


def documented_defaults() -> dict[str, str]:
    rows = re.findall(r"^\| `LATENTGAUGE_([A-Z_]+)` \| ([^|]+) \|", GUIDE, re.MULTILINE)
    return {name.lower(): default.strip("` ") for name, default in rows}


def test_every_setting_is_in_the_guide_with_its_default() -> None:
    documented = documented_defaults()
    assert set(documented) == set(SETTINGS)
    for name, text in documented.items():
        default = Settings.model_fields[name].default
        plain = f"{default:g}" if isinstance(default, float) else str(default)
        assert text == (plain or "empty"), name


def test_every_variable_of_the_guide_and_the_example_exists() -> None:
    named = set(re.findall(r"\bLATENTGAUGE_([A-Z_]+)\b", GUIDE))
    assert {name.lower() for name in named} == set(SETTINGS)
    example = (ROOT / ".env.example").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()
    for name in re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE):
        assert name in GUIDE, name
        assert name in compose, name


def test_every_service_is_in_the_guide() -> None:
    for name in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]:
        assert re.search(rf"^\| `{name}` \|", GUIDE, re.MULTILINE), name


def test_the_health_addresses_and_the_answer_of_readyz_are_as_the_guide_says(
    tmp_path: Path,
) -> None:
    config = Settings(database_url=f"sqlite:///{tmp_path}/db", artifacts=tmp_path / "artifacts")
    paths = create_app(config).openapi()["paths"]
    for address in ("/healthz", "/readyz"):
        assert address in paths
        assert f"| `{address}` |" in GUIDE
    (example,) = re.findall(r'^    (\{"ready".*\})$', GUIDE, re.MULTILINE)
    assert Readiness.model_validate_json(example).model_dump_json() == example.replace(
        ": ", ":"
    ).replace(", ", ",")


def test_the_error_codes_of_the_guide_exist() -> None:
    for code in (
        "device_unavailable",
        "worker_lost",
        "foreign_origin",
        "storage_full",
        "time_limit",
    ):
        assert f"`{code}`" in GUIDE
        assert code in BY_CODE
