from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from subprocess import run

import pytest

from latentgauge.render.html import render_report
from latentgauge.report import Report
from tests.render.reports import collapsed, hostile, live, report, verdict, with_estimators

_VOID = {"meta", "line", "rect"}
_CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")


class Outline(HTMLParser):
    """The tags of a page, which must nest, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("made", [live(), collapsed(), hostile()], ids=["live", "dead", "hostile"])
def test_a_page_is_well_formed_and_fetches_nothing(made: Report) -> None:
    page = render_report(made, verdict())
    outline = Outline(page)
    assert outline.open == []
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(outline.seen)
    assert not {"src", "href", "onload", "onclick", "style"} & set(outline.attributes)
    assert "url(" not in page
    assert "@import" not in page


def test_a_page_forbids_all_but_its_own_style() -> None:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    page = render_report(live())
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.index("Content-Security-Policy") < page.index("<title>")


def test_the_answer_is_the_first_thing_on_the_page() -> None:
    text = Outline(render_report(live(), verdict())).text
    body = text[text.index("}\n\n") :] if "}\n\n" in text else text
    assert body.index("FAIL") < body.index("The code carries at least 9.6 and at most 10 nats")
    assert body.index("The code carries") < body.index("Information I(X;Z)")
    assert "not I(X;Z); saturated: close to its ceiling 8.318" in body


def test_a_strangers_text_is_escaped() -> None:
    page = render_report(hostile(), verdict())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not {"\x07", "\x1b", "\u202e"} & set(page)


def test_64_dimensions_stay_under_500_kb() -> None:
    assert len(render_report(hostile(), verdict()).encode()) < 500_000


def test_thousands_of_dimensions_are_folded() -> None:
    page = render_report(report(["active"] * 10 + ["collapsed"] * 4990))
    assert len(page.encode()) < 500_000
    assert "and 4744 more with less information (4744 collapsed)" in page


def test_every_dimension_has_a_bar_in_the_color_of_its_state() -> None:
    page = render_report(hostile())
    assert len(re.findall(r'<g class="active">', page)) == 20
    assert len(re.findall(r'<g class="(?:off-prior|undecided|collapsed)">', page)) == 44


def test_a_bar_ends_at_its_bounds() -> None:
    """One dimension of [0.98, 1.02] under an axis that ends at 1.25: 216 px are 1.25 nats."""
    page = render_report(report(["active"]))
    found = re.search(
        r'class="sure" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', page
    )
    assert found is not None
    assert float(found[2]) == pytest.approx(216 * 0.98 / 1.25, abs=0.1)
    pale = re.search(r'class="maybe"[^>]*height="([\d.]+)"', page)
    assert pale is not None
    assert float(pale[1]) == pytest.approx(216 * 0.04 / 1.25, abs=0.1)


def test_a_dead_code_has_small_bars() -> None:
    page = render_report(collapsed())
    heights = [float(h) for h in re.findall(r'class="(?:sure|maybe)"[^>]*height="([\d.]+)"', page)]
    assert max(heights) < 5


def test_the_reasons_for_a_collapse_are_listed() -> None:
    page = render_report(collapsed())
    assert 'Why collapse is <span class="full">full</span>' in page
    assert "<li>no dimension is active or undecided</li>" in page


def test_a_page_without_gates_has_no_verdict() -> None:
    page = render_report(live())
    assert "<h2>Verdict</h2>" not in page
    assert 'class="badge' not in page


def test_labels_and_warnings_are_on_the_page_when_there_are_any() -> None:
    text = Outline(render_report(hostile())).text
    assert "on a saturated code it reads H(Y) whatever the labels mean" in text
    assert "Each class alone" in text
    assert "[7.2, 12.5] saturated" in text
    assert "Dimensions that tell most, I(z_j;Y): 3: [0.3, 0.35]" in text
    assert "Warnings" in text
    assert "Warnings" not in Outline(render_report(live())).text


def test_estimators_by_name_are_on_the_page_when_they_were_asked_for() -> None:
    assert "Estimators by name" not in render_report(live())
    page = render_report(with_estimators())
    shown = Outline(page)
    assert shown.open == []
    assert "script" not in shown.seen
    assert "Estimators by name, in nats" in shown.text
    for told in (
        "total correlation",
        "80.43 [80.39, 80.47]",
        "not known",
        "mws: an approximation, at most 12.48; high by log N",
        "variational: an upper bound; high",
    ):
        assert told in shown.text
    assert "aggregate:" not in shown.text


def test_options_and_inputs_are_on_the_page() -> None:
    text = Outline(render_report(live())).text
    assert "option seed" in text
    assert "ab" * 32 in text
    assert "probe deterministic" in text


@pytest.mark.skipif(_CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_shows_the_page_without_complaint(tmp_path: Path) -> None:
    assert _CHROMIUM is not None
    page = tmp_path / "report.html"
    page.write_text(render_report(hostile(), verdict()), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    logged = ["--enable-logging=stderr", "--v=0", "--dump-dom"]
    shown = run(
        [_CHROMIUM, *flags, *logged, page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "The code carries" in shown.stdout
    assert "CONSOLE" not in shown.stderr
