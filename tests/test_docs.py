"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.problems import STATUS
from latentgauge.comparison import Comparison
from latentgauge.errors import leaves
from latentgauge.options import Options
from latentgauge.report import Report
from latentgauge.schema import schema
from tests.render.reports import live

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_the_published_schema_is_current() -> None:
    published = (DOCS / "report" / "schema.json").read_text()
    assert published == schema(), "python -m latentgauge.schema > docs/report/schema.json"


def test_a_report_satisfies_the_published_schema() -> None:
    found = json.loads((DOCS / "report" / "schema.json").read_text())
    Draft202012Validator.check_schema(found)
    report = json.loads(live().to_json())
    Draft202012Validator(found).validate(report)
    assert report["schema"] == "latentgauge.report/1"
    assert Report.model_validate(report) == live()


def test_every_code_is_documented_with_its_exit_and_status() -> None:
    sections = re.split(r"## Exit (\d)", (DOCS / "errors.md").read_text())
    by_exit = dict(zip(sections[1::2], sections[2::2], strict=True))
    documented = {}
    for status, text in by_exit.items():
        for code, http in re.findall(r"^\| `(\w+)` \|\s*(\d*)\s*\|", text, flags=re.MULTILINE):
            documented[code] = (int(status), int(http) if http else 500)
    assert documented == {kind.code: (kind.exit_status, STATUS[kind.code]) for kind in leaves()}


def fields(model: Any, seen: set[str]) -> set[str]:
    """Names of all fields of the report, at any depth."""
    for definition in model.get("$defs", {}).values():
        seen |= set(definition.get("properties", {}))
    return seen | set(model["properties"])


def test_every_field_of_the_report_is_documented() -> None:
    text = (DOCS / "report" / "README.md").read_text()
    documented = set(re.findall(r"`(?:[\w\[\]]+\.)*(\w+)`", text))
    assert fields(json.loads(schema()), set()) - documented == set()


def test_every_field_of_a_comparison_is_documented() -> None:
    text = (DOCS / "guide" / "comparing.md").read_text() + (DOCS / "report/README.md").read_text()
    documented = set(re.findall(r"`(?:[\w\[\]]+\.)*(\w+)`", text))
    found = fields(Comparison.model_json_schema(by_alias=True), set())
    assert found - documented == set()
    guide = (DOCS / "guide" / "comparing.md").read_text()
    own = {name for name in Comparison.model_fields if name != "schema_name"}
    assert {name for name in own if f"`{name}" not in guide} == set()


def test_every_option_is_documented() -> None:
    text = (DOCS / "report" / "README.md").read_text()
    guide = (DOCS / "guide" / "command-line.md").read_text()
    assert {name for name in Options.model_fields if f"`{name}`" not in text} == set()
    flags = ["--" + name.replace("_", "-") for name in Options.model_fields]
    assert [flag for flag in flags if flag not in guide] == []


def test_every_warning_that_the_code_gives_is_documented() -> None:
    text = (DOCS / "report" / "README.md").read_text()
    given = set()
    for file in (ROOT / "latentgauge").rglob("*.py"):
        given |= set(re.findall(r'Warning\(\s*code="(\w+)"', file.read_text()))
        given |= set(re.findall(r'_warning\(\s*"(\w+)"', file.read_text()))
    assert given, "the search itself finds warnings"
    assert {code for code in given if f"`{code}`" not in text} == set()


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").glob("*.md")], ids=str
)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
