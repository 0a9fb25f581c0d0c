from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from latentgauge import __version__
from latentgauge.arguments import asked_format, option_value
from latentgauge.cli import app, exit_status, run
from latentgauge.console import progress_lines, write_files
from latentgauge.errors import InvalidRequest, leaves
from latentgauge.gates import Verdict
from latentgauge.job import Job
from latentgauge.options import Options
from latentgauge.parameters import flag
from latentgauge.report import Report
from tests.protocol import Service, document, problem, serving
from tests.render.reports import live

ROOT = Path(__file__).parent.parent
LATENTGAUGE = [sys.executable, "-m", "latentgauge.cli"]
COMMANDS = ["analyse", "submit", "show", "wait", "list", "translate", "compare"]


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    def problem(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert set(found) >= {"code", "title", "detail", "expected", "got", "remedy"}
        return dict(found)


Command = Callable[..., Done]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Runs a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTGAUGE_SERVER", raising=False)
    monkeypatch.delenv("LATENTGAUGE_TOKEN", raising=False)

    def done(*arguments: object) -> Done:
        status = run(app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return done


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files that exist; the service of these tests does not look into them."""
    paths = [tmp_path / "encoder.pt", tmp_path / "data.npz"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def judged(outcome: str, state: str = "succeeded", **members: Any) -> dict[str, Any]:
    given = {"outcome": outcome, "gates": []}
    return document("a", state, verdict=given, **members)


# ---------------------------------------------------------------- misuse, before any work


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no command was given"),
        (("analyze",), "No such command 'analyze'"),
        (("analyse",), "Missing argument"),
        (("analyse", "a", "b", "c"), "unexpected extra argument"),
        (("analyse", "no-such.pt", "data.npz"), "cannot read no-such.pt"),
        (("analyse", "encoder.pt", "no-such.npz"), "cannot read no-such.npz"),
        (("analyse", ".", "data.npz"), "got: a folder"),
        (("analyse", "encoder.pt", "--format", "xml"), "'xml' is not one of"),
        (("analyse", "encoder.pt", "-o", "report.pdf"), "expected: one of .json, .html, .txt"),
        (("analyse", "encoder.pt", "-o", "report"), "got: no ending"),
        (("analyse", "encoder.pt", "-o", "no/such/report.json"), "cannot write no/such/report"),
        (("analyse", "encoder.pt", "--require", "informaton >= 1"), "the nearest name is"),
        (("analyse", "encoder.pt", "--require", "kl == 1"), "invalid_gate"),
        (("analyse", "encoder.pt", "--sead", "1"), "the nearest name is --seed"),
        (("analyse", "encoder.pt", "--seed", "one"), "option 'seed'"),
        (("analyse", "encoder.pt", "--confidence", "2"), "option 'confidence'"),
        (("analyse", "encoder.pt", "--device", "tpu"), "option 'device'"),
        (("submit", "encoder.pt", "-o", "a.json"), "submit does not wait for one"),
        (("submit", "encoder.pt", "--tag", "main"), "the tag 'main' cannot be used"),
        (("submit", "encoder.pt", "--tag", "a=1", "--tag", "a=2"), "got: 'a' again"),
        (("submit", "encoder.pt", "--server", "nowhere"), "is no address of a service"),
        (("submit", "encoder.pt", "--require", "kl >= inf"), "invalid_gate"),
        (("show", "a/b"), "names no job"),
        (("wait", "a", "--deadline", "-1"), "--deadline"),
        (("list", "--limit", "0"), "--limit"),
        (("list", "--state", "done"), "--state"),
    ],
)
def test_misuse_exits_2_with_the_reason_and_nothing_on_stdout(
    command: Command, files: list[Path], arguments: tuple[str, ...], told: str
) -> None:
    done = command(*arguments)
    assert done.status == 2
    assert told in done.err
    assert arguments == () or done.out == ""


def test_misuse_is_a_problem_on_stdout_where_json_was_asked_for(command: Command) -> None:
    done = command("analyse", "no-such.npz", "--format", "json")
    assert done.problem()["code"] == "invalid_request"
    assert "cannot read no-such.npz" in done.err
    assert command("list", "--format=json", "--sead").problem()["code"] == "unknown_option"


def test_a_folder_cannot_be_an_output(command: Command, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    done = command("analyse", "encoder.pt", "-o", "out.json")
    assert (done.status, "got: a folder" in done.err) == (2, True)


def test_a_file_that_can_no_longer_be_written_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "report.json"
    with pytest.raises(InvalidRequest, match=r"cannot write .*No such file or directory"):
        write_files(live(), None, [gone])


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["list"], ""),
        (["list", "--format", "json"], "json"),
        (["list", "--format=json", "--format", "html"], "html"),
        (["list", "--formats", "json"], ""),
        (["list", "--format"], ""),
    ],
)
def test_the_format_is_read_off_a_command_line_that_is_wrong(
    arguments: list[str], form: str
) -> None:
    assert asked_format(arguments) == form


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["analyse", "submit"])
def test_every_option_of_an_analysis_is_an_option_of_the_command(
    command: Command, name: str
) -> None:
    done = command(name, "--help")
    assert done.status == 0
    for option in Options.model_fields:
        assert f"{flag(option)} " in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(command: Command, name: str) -> None:
    assert f"Example: latentgauge {name} " in " ".join(command(name, "--help").out.split())


def test_help_shows_brackets_as_brackets(command: Command) -> None:
    assert "[low, high]" in " ".join(command("analyse", "--help").out.replace("│", "").split())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("input_scale", "255", 255),
        ("input_scale", "[-1,1]", [-1, 1]),
        ("input_scale", '{"mean": 0.5, "std": 0.5}', {"mean": 0.5, "std": 0.5}),
        ("input_scale", "null", None),
        ("input_layout", "flat", "flat"),
        ("estimators", "aggregate", ["aggregate"]),
        ("spectrum", "4, 2,.5", ["4", "2", ".5"]),
        ("spectrum", "[4, .5]", ["4", ".5"]),
        ("spectrum", "[4, 0.5]", [4, 0.5]),
        ("estimators", '["aggregate"]', ["aggregate"]),
        ("estimators", "mws, calc_mi", ["mws", "calc_mi"]),
        ("samples", "1000", 1000),
    ],
)
def test_an_option_is_json_or_a_word(name: str, text: str, value: object) -> None:
    assert option_value(name, text) == value


def test_options_are_posted_as_given_and_no_others(
    command: Command, service: Service, files: list[Path]
) -> None:
    given = ["--input-scale", "[-1,1]", "--seed", "7", "--device", "cpu"]
    command("submit", *files, "--server", service.address, *given)
    options = service.posted[0]["options"]
    assert options == {"input_scale": [-1.0, 1.0], "seed": 7, "device": "cpu"}


# ---------------------------------------------------------------- submit


def test_submit_prints_the_address_and_nothing_else(
    command: Command, service: Service, files: list[Path]
) -> None:
    done = command(
        "submit", *files, "--server", service.address, "--require", "n >= 1", "--tag", "a=b=c"
    )
    assert (done.status, done.out) == (0, f"{service.address}/v1/jobs/job1\n")
    assert done.err.splitlines() == ["uploading encoder.pt", "uploading data.npz"]
    posted = service.posted[0]
    assert set(service.artifacts) == {posted["encoder"], posted["dataset"]}
    assert (posted["gates"], posted["tags"]) == (["n >= 1"], {"a": "b=c"})


def test_one_file_is_submitted_as_a_posterior_table(
    command: Command, service: Service, files: list[Path]
) -> None:
    assert command("submit", files[1], "--server", service.address).status == 0
    assert set(service.posted[0]) == {"posterior", "options", "gates", "tags"}


def test_submit_and_wait_prints_the_report_and_tells_each_state_once(
    command: Command, service: Service, files: list[Path], tmp_path: Path
) -> None:
    stages = [{"stage": "encoding", "fraction": f} for f in (0.2, 0.4)]
    running = [document("a", "running", progress=progress) for progress in stages]
    service.next_job = [document("a"), document("a"), *running, judged("pass")]
    service.reports["a"] = live()
    options = ["--wait", "--format", "json", "-o", "r.json", "-o", "r.html", "-o", "r.txt"]
    done = command("submit", *files, "--server", service.address, *options)
    assert done.status == 0
    assert Report.model_validate_json(done.out) == live()
    assert (tmp_path / "r.json").read_text() == live().to_json()
    assert "PASS" in (tmp_path / "r.html").read_text()
    assert "Verdict: PASS" in (tmp_path / "r.txt").read_text()
    told = done.err.splitlines()
    assert told[2:6] == [f"{service.address}/v1/jobs/a", "queued", "running: encoding", "succeeded"]


# ---------------------------------------------------------------- wait and show


@pytest.mark.parametrize(
    ("outcome", "policy", "status"),
    [
        ("pass", "report", 0),
        ("fail", "report", 1),
        ("fail", "pass", 1),
        ("inconclusive", "report", 3),
        ("inconclusive", "fail", 1),
        ("inconclusive", "pass", 0),
    ],
)
@pytest.mark.parametrize("name", ["wait", "show"])
def test_the_verdict_decides_the_exit_status(
    command: Command, service: Service, name: str, outcome: str, policy: str, status: int
) -> None:
    service.holds(judged(outcome), report=live())
    done = command(name, f"{service.address}/v1/jobs/a", "--on-inconclusive", policy)
    assert done.status == status
    assert f"Verdict: {outcome.upper()}" in done.out
    assert "Information I(X;Z)" in done.out


def test_a_report_without_gates_is_a_success() -> None:
    assert exit_status(None, "fail") == 0
    assert exit_status(Verdict(outcome="pass", gates=[]), "fail") == 0


def test_a_job_is_found_by_its_id_and_the_server(
    command: Command, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.holds(document("a"))
    assert command("show", "a", "--server", service.address).status == 0
    monkeypatch.setenv("LATENTGAUGE_SERVER", service.address)
    monkeypatch.setenv("LATENTGAUGE_TOKEN", "lg_secret")
    assert command("show", "a").status == 0
    assert service.tokens == [None, "Bearer lg_secret"]


def test_json_of_a_wait_is_the_report_and_the_verdict_goes_to_stderr(
    command: Command, service: Service
) -> None:
    service.holds(judged("fail"), report=live())
    done = command("wait", "a", "--server", service.address, "--format", "json")
    assert done.out == live().to_json()
    assert "Verdict: FAIL" in done.err


def test_html_of_a_wait_holds_report_and_verdict(command: Command, service: Service) -> None:
    service.holds(judged("fail"), report=live())
    done = command("wait", "a", "--server", service.address, "--format", "html")
    assert done.out.startswith("<!doctype html>")
    assert "FAIL" in done.out


def test_json_of_a_show_is_the_job_with_its_report(command: Command, service: Service) -> None:
    service.holds(judged("pass"), report=live())
    shown = json.loads(command("show", "a", "--server", service.address, "--format", "json").out)
    assert shown["state"] == "succeeded"
    assert Report.model_validate(shown["report"]) == live()
    service.holds(document("b"))
    shown = json.loads(command("show", "b", "--server", service.address, "--format", "json").out)
    assert (shown["state"], shown["report"]) == ("queued", None)


@pytest.mark.parametrize("wanted", [["--format", "html"], ["-o", "report.json"]])
def test_a_report_that_there_is_not_yet_cannot_be_shown(
    command: Command, service: Service, tmp_path: Path, wanted: list[str]
) -> None:
    service.holds(document("a"))
    done = command("show", "a", "--server", service.address, *wanted)
    assert (done.status, done.out) == (2, "")
    assert "job a has no report yet: it is queued" in done.err
    assert not (tmp_path / "report.json").exists()


def test_show_writes_files_and_html(command: Command, service: Service, tmp_path: Path) -> None:
    service.holds(judged("pass"), report=live())
    done = command(
        "show", "a", "--server", service.address, "--format", "html", "-o", "report.json"
    )
    assert done.out.startswith("<!doctype html>")
    assert (tmp_path / "report.json").read_text() == live().to_json()


@pytest.mark.parametrize(
    ("error", "status"),
    [(kind, kind.exit_status) for kind in leaves() if kind.exit_status in (4, 5)],
)
def test_a_failed_job_exits_by_its_code(
    command: Command, service: Service, error: Any, status: int
) -> None:
    told = {"code": error.code, "detail": "rows 17 and 40", "expected": "numbers", "got": "NaN"}
    service.holds(document("a", "failed", error={**told, "remedy": "drop them", "status": 422}))
    done = command("wait", "a", "--server", service.address, "--format", "json")
    assert done.status == status
    assert done.problem() | told == done.problem()
    for word in (error.code, "rows 17 and 40", "numbers", "NaN", "drop them"):
        assert word in done.err


def test_a_failed_job_leaves_stdout_empty_unless_json_was_asked_for(
    command: Command, service: Service, tmp_path: Path
) -> None:
    service.holds(document("a", "failed", error={"code": "time_limit", "detail": "60 s"}))
    done = command("wait", "a", "--server", service.address, "-o", "report.json")
    assert (done.status, done.out) == (4, "")
    assert not (tmp_path / "report.json").exists()


def test_a_shown_failure_is_shown_and_exits_by_its_code(command: Command, service: Service) -> None:
    service.holds(document("a", "failed", error={"code": "time_limit", "detail": "60 s"}))
    done = command("show", "a", "--server", service.address)
    assert done.status == 4
    assert "time_limit" in done.out
    assert "60 s" in done.err


def test_a_canceled_job_is_no_answer(command: Command, service: Service) -> None:
    service.holds(document("a", "canceled"))
    done = command("wait", "a", "--server", service.address)
    assert done.status == 5
    assert "job a was canceled" in done.err


def test_a_deadline_that_passes_exits_5(command: Command, service: Service) -> None:
    service.holds(document("a", "running"))
    done = command(
        "wait", "a", "--server", service.address, "--deadline", "0.2", "--format", "json"
    )
    assert (done.status, done.problem()["code"]) == (5, "deadline_passed")


def test_a_job_that_is_not_there_is_misuse(command: Command, service: Service) -> None:
    done = command("show", "a", "--server", service.address)
    assert done.status == 2
    assert "not_found" in done.err


def test_nobody_listening_exits_5_after_some_tries(command: Command) -> None:
    started = time.monotonic()
    done = command("list", "--server", "http://127.0.0.1:9")
    assert done.status == 5
    assert "service_unavailable" in done.err
    assert time.monotonic() - started > 5


def test_control_characters_of_a_service_do_not_reach_the_terminal(
    command: Command, service: Service
) -> None:
    service.refusals.append(problem(404, "not_found", detail="a\x1b[31mb\x07"))
    done = command("show", "a", "--server", service.address)
    assert "a\N{REPLACEMENT CHARACTER}[31mb" in done.err


# ---------------------------------------------------------------- list


def test_list_prints_a_table_or_json(command: Command, service: Service) -> None:
    service.holds(judged("fail", tags={"branch": "main"}))
    service.holds(document("b"))
    table = command("list", "--server", service.address)
    assert table.status == 0
    assert [line.split()[0] for line in table.out.splitlines() if " UTC" in line] == ["a", "b"]
    found = json.loads(command("list", "--server", service.address, "--format", "json").out)
    assert [Job.model_validate(job).id for job in found["jobs"]] == ["a", "b"]


def test_list_filters(command: Command, service: Service) -> None:
    service.holds(judged("fail", tags={"branch": "main"}))
    service.holds(document("b"))
    at = ["--server", service.address, "--format", "json"]
    queued = json.loads(command("list", *at, "--state", "queued").out)
    assert [job["id"] for job in queued["jobs"]] == ["b"]
    tagged = json.loads(command("list", *at, "--tag", "branch=main", "--limit", "1").out)
    assert [job["id"] for job in tagged["jobs"]] == ["a"]


# ---------------------------------------------------------------- the outer edge


def test_a_fault_of_our_own_is_not_mistaken_for_a_failed_gate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    faulty = typer.Typer()

    @faulty.command()
    def fail() -> None:
        raise ZeroDivisionError("of our own making")

    assert run(faulty, []) == 5
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "internal_error" in told
    assert "of our own making" in told


def test_progress_is_one_line_a_change_of_stage() -> None:
    lines: list[str] = []
    progress = progress_lines(lines.append)
    for stage, fraction in [("a", 0.0), ("a", 0.5), ("b\x1b", 0.1), ("b\x1b", 1.0), ("a", 0.0)]:
        progress(stage, fraction)
    assert lines == ["a", "b\N{REPLACEMENT CHARACTER}", "a"]


def test_a_terminal_gets_a_bar_on_stderr_and_the_address_on_stdout(
    service: Service, files: list[Path]
) -> None:
    near, far = pty.openpty()
    with subprocess.Popen(
        [*LATENTGAUGE, "submit", *map(str, files), "--server", service.address],
        stdout=subprocess.PIPE,
        stderr=far,
        text=True,
        cwd=ROOT,
    ) as process:
        out, _ = process.communicate(timeout=30)
    os.close(far)
    drawn = os.read(near, 65536).decode()
    os.close(near)
    assert out == f"{service.address}/v1/jobs/job1\n"
    assert "uploading data.npz" in drawn
    assert "100%" in drawn


def test_an_interrupt_exits_130_without_a_traceback(service: Service) -> None:
    service.holds(document("a", "running"))
    command = [*LATENTGAUGE, "wait", "a", "--server", service.address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_leaves_does_not_change_the_exit_status(service: Service) -> None:
    service.holds(judged("inconclusive"), report=live())
    show = [*LATENTGAUGE, "show", "a", "--server", service.address]
    with subprocess.Popen(
        show, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=30) == 3
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_stdout_is_utf_8_whatever_the_locale(service: Service) -> None:
    service.holds(document("a", tags={"name": "gr\u00fcn"}))
    ran = subprocess.run(
        [*LATENTGAUGE, "show", "a", "--server", service.address, "--format", "json"],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert json.loads(ran.stdout)["tags"] == {"name": "gr\u00fcn"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_guide(name: str) -> None:
    found = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    guide = (ROOT / "docs" / "guide" / "command-line.md").read_text()
    assert f"latentgauge {name}" in guide
    for parameter in found.params:
        for option in parameter.opts:
            assert not option.startswith("--") or f"`{option}" in guide


@pytest.mark.parametrize("flag", ["--verison", "--x", "-v"])
def test_an_option_that_no_command_has_is_misuse(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, [flag]) == 2
    assert "what to do" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["--version"]) == 0
    assert capsys.readouterr().out == f"latentgauge {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_told(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, [flag]) == 0
    assert "submit" in capsys.readouterr().out
