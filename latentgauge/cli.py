"""`latentgauge`: the command line. Commands are doors; what decides is a function below them.

Only what was asked for goes to stdout; progress, messages and reasons go to stderr.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import typer

from latentgauge import __version__
from latentgauge.arguments import (
    Inputs,
    Output,
    asked_format,
    checked_inputs,
    checked_output,
    parsed_tags,
    parsed_target,
)
from latentgauge.cli_compare import compare
from latentgauge.cli_translate import translate
from latentgauge.client import Client
from latentgauge.console import (
    Reporter,
    as_json,
    explained,
    look,
    showing_progress,
    speak_utf8,
    to_stderr,
    to_stdout,
    write_files,
)
from latentgauge.errors import (
    InternalError,
    InvalidOption,
    InvalidRequest,
    LatentgaugeError,
    Misuse,
    NotFinished,
    UnknownOption,
)
from latentgauge.gates import Gate, Verdict, judge, parse_gates
from latentgauge.job import Job, State
from latentgauge.measured import measured
from latentgauge.options import Options
from latentgauge.parameters import (
    Deadline,
    Files,
    First,
    Form,
    Inconclusive,
    OnInconclusive,
    Require,
    Second,
    Server,
    Tags,
    Target,
    takes_options,
)
from latentgauge.render import Format, render, table
from latentgauge.report import Report

SERVER = "http://127.0.0.1:8000"
# A waiting pipeline always ends; a job is given 10 minutes, and may stand in a queue before.
DEADLINE_S = 3600.0
INTERRUPTED = 130

# typer keeps its copy of click private; its public BadParameter leads to the class above it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="latentgauge",
    help="How much information a VAE's latent code really carries, with error bars.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


# ---------------------------------------------------------------- the commands


def _tell_version(asked: bool) -> None:
    if asked:
        to_stdout(f"latentgauge {__version__}\n")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version."),
    ] = False,
) -> None:
    """How much information a VAE's latent code really carries, with error bars."""


@app.command(epilog="Example: latentgauge analyse encoder.pt data.npz -o report.html")
@takes_options
def analyse(
    encoder: First,
    data: Second = None,
    *,
    options: Options,
    require: Require = None,
    on_inconclusive: OnInconclusive = "report",
    form: Form = "table",
    output: Files = None,
) -> int:
    """Measure on this machine, without a service."""
    gates = parse_gates(require or ())
    out = checked_output(form, output or ())
    inputs = checked_inputs(encoder, data)
    with showing_progress() as progress:
        report = measured(inputs, options, progress)
    write_files(report, None, out.files)  # kept also when a gate cannot be answered
    verdict = judged(gates, report)
    publish(report, verdict, out)
    return exit_status(verdict, on_inconclusive)


@app.command(
    epilog="Example: latentgauge submit encoder.pt data.npz --server http://gauge:8000 --wait"
)
@takes_options
def submit(
    encoder: First,
    data: Second = None,
    *,
    options: Options,
    server: Server = SERVER,
    require: Require = None,
    on_inconclusive: OnInconclusive = "report",
    tag: Tags = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end and print the report.")
    ] = False,
    deadline: Deadline = DEADLINE_S,
    form: Form = "table",
    output: Files = None,
) -> int:
    """Post to a service; prints the job's address, or with --wait the report."""
    parse_gates(require or ())
    out = checked_output(form, output or (), has_report=wait)
    inputs = checked_inputs(encoder, data)
    tags = parsed_tags(tag or ())
    with _client(server) as client:
        job = posted(client, inputs, options, gates=require or (), tags=tags)
        if not wait:
            to_stdout(client.address(job.id) + "\n")
            return 0
        to_stderr(client.address(job.id))
        return awaited(client, job.id, deadline, out, on_inconclusive)


@app.command(epilog="Example: latentgauge show http://gauge:8000/v1/jobs/ID --format json")
def show(
    job: Target,
    server: Server = SERVER,
    on_inconclusive: OnInconclusive = "report",
    form: Form = "table",
    output: Files = None,
) -> int:
    """Print where a job stands, with its report and verdict when it has them."""
    out = checked_output(form, output or ())
    at, job_id = parsed_target(job, server)
    with _client(at) as client:
        found = client.job(job_id)
        report = client.report(job_id) if found.state == "succeeded" else None
        shown(found, report, address=client.address(job_id), output=out)
    return told_apart(found, on_inconclusive)


@app.command(epilog="Example: latentgauge wait http://gauge:8000/v1/jobs/ID --deadline 600")
def wait(
    job: Target,
    server: Server = SERVER,
    deadline: Deadline = DEADLINE_S,
    on_inconclusive: OnInconclusive = "report",
    form: Form = "table",
    output: Files = None,
) -> int:
    """Wait for a job's end and print its report."""
    out = checked_output(form, output or ())
    at, job_id = parsed_target(job, server)
    with _client(at) as client:
        return awaited(client, job_id, deadline, out, on_inconclusive)


@app.command("list", epilog="Example: latentgauge list --state failed --tag branch=main")
def list_jobs(
    server: Server = SERVER,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    tag: Tags = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most jobs to list.")] = 20,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="What goes to stdout.")
    ] = "table",
) -> int:
    """List jobs of a service, the newest first."""
    tags = parsed_tags(tag or ())
    with _client(server) as client:
        found = client.jobs(state=state, tags=tags, limit=limit)
    to_stdout(listed(found, form))
    return 0


app.command(
    epilog="Example: latentgauge translate encoder.pt data.npz --batch-size 64 --train-size 60000"
)(translate)
app.command(epilog="Example: latentgauge compare epoch60.npz epoch62.npz")(compare)


# ---------------------------------------------------------------- what they do


def posted(
    client: Client,
    inputs: Inputs,
    options: Options,
    *,
    gates: Sequence[str],
    tags: Mapping[str, str],
) -> Job:
    """The job, after its files are with the service."""
    digests = {}
    with showing_progress() as progress:
        for name, path in vars(inputs).items():
            if path is not None:
                stage = f"uploading {path.name}"
                progress(stage, 0.0)
                digests[name] = client.upload(path, on_progress=_stage(progress, stage))
    given = options.model_dump(mode="json", exclude_unset=True)
    return client.submit(**digests, options=given, gates=gates, tags=tags)


def _stage(progress: Reporter, stage: str) -> Callable[[float], None]:
    return lambda fraction: progress(stage, fraction)


def awaited(
    client: Client, job_id: str, deadline_s: float, output: Output, policy: Inconclusive
) -> int:
    """The exit status of a job that has ended, after its report is published."""
    with showing_progress() as progress:
        job = client.wait(
            job_id, deadline_s=deadline_s, on_progress=lambda job: progress(*told(job))
        )
    if job.state == "succeeded":
        report = client.report(job_id)
        write_files(report, job.verdict, output.files)
        settled(job, policy)
        publish(report, job.verdict, output)
    return settled(job, policy)


def told(job: Job) -> tuple[str, float]:
    """A job's stage in words, and how far it is."""
    if job.state != "running":
        return job.state, float(job.ended)
    again = f" (attempt {job.attempt})" if job.attempt > 1 else ""
    if job.progress is None:
        return f"running{again}", 0.0
    return f"running{again}: {job.progress.stage}", job.progress.fraction


def shown(job: Job, report: Report | None, *, address: str, output: Output) -> None:
    if report is None and (output.form == "html" or output.files):
        raise job.failure() or NotFinished(
            f"job {job.id} has no report yet: it is {job.state}",
            expected="a job that has succeeded",
            got=job.state,
            remedy="wait for it: latentgauge wait " + address,
        )
    if report is not None:
        write_files(report, job.verdict, output.files)
    to_stdout(described(job, report, address=address, form=output.form))


def described(job: Job, report: Report | None, *, address: str, form: Format) -> str:
    """A job with its report. In JSON: the job's document with one more member, `report`."""
    if form == "json":
        made = None if report is None else report.model_dump(mode="json")
        return as_json(job.model_dump(mode="json") | {"report": made})
    if form == "html" and report is not None:
        return render(report, form=form, verdict=job.verdict)
    return table.render_job(job, address=address, report=report, **look())


def listed(jobs: Sequence[Job], form: Literal["table", "json"]) -> str:
    if form == "json":
        return as_json({"jobs": [job.model_dump(mode="json") for job in jobs]})
    return table.render_jobs(jobs, **look())


def settled(job: Job, policy: Inconclusive) -> int:
    """The exit status that a job stands for; one that still runs stands for none of the bad."""
    failure = job.failure()
    if failure is not None:
        raise failure
    return exit_status(job.verdict, policy)


def told_apart(job: Job, policy: Inconclusive) -> int:
    """The same where the job's document, with its error, is on stdout already."""
    failure = job.failure()
    if failure is None:
        return exit_status(job.verdict, policy)
    to_stderr(explained(failure))
    return failure.exit_status


def judged(gates: Sequence[Gate], report: Report) -> Verdict | None:
    return judge(gates, report) if gates else None


def exit_status(verdict: Verdict | None, policy: Inconclusive) -> int:
    if verdict is None or verdict.outcome == "pass":
        return 0
    if verdict.outcome == "fail":
        return 1
    return {"fail": 1, "pass": 0, "report": 3}[policy]


def publish(report: Report, verdict: Verdict | None, output: Output) -> None:
    """The report to its files and to stdout; beside JSON the verdict goes to stderr."""
    write_files(report, verdict, output.files)
    to_stdout(render(report, form=output.form, verdict=verdict, **look()))
    if verdict is not None and output.form == "json":
        to_stderr(table.render_verdict(verdict))


def _client(server: str) -> Client:
    return Client(server, os.environ.get("LATENTGAUGE_TOKEN"))


# ---------------------------------------------------------------- the outer edge


def main() -> None:
    speak_utf8()
    sys.exit(run(app, sys.argv[1:]))


def run(commands: typer.Typer, arguments: Sequence[str]) -> int:
    """The exit status of a command line; whatever goes wrong is told here and nowhere else."""
    try:
        return _invoke(commands, arguments)
    except typer.Abort:
        return INTERRUPTED
    except LatentgaugeError as fault:
        to_stderr(explained(fault))
        if asked_format(arguments) == "json":
            to_stdout(as_json(fault.problem()))
        return fault.exit_status


def _invoke(commands: typer.Typer, arguments: Sequence[str]) -> int:
    try:
        status = commands(list(arguments), prog_name="latentgauge", standalone_mode=False)
        return int(status or 0)
    except (LatentgaugeError, typer.Abort):
        raise
    except _UsageError as error:
        raise usage_fault(error) from None
    except Exception as error:
        traceback.print_exc()
        raise InternalError(
            f"latentgauge itself failed: {type(error).__name__}: {error}",
            expected="a report or a reason",
            got="the traceback above",
            remedy="report it with the traceback",
        ) from error


def usage_fault(error: Any) -> Misuse:
    """typer's complaint about a command line as an error of ours."""
    context = error.ctx
    told = str(error.format_message()) or "no command was given"
    if type(error).__name__ == "NoSuchOption":
        flags = [o for p in context.command.params for o in p.opts if o.startswith("--")]
        near = get_close_matches(error.option_name, [*flags, "--help"], n=1, cutoff=0.0)[0]
        return UnknownOption(
            f"there is no option {error.option_name}",
            expected="one of " + ", ".join(sorted(flags)),
            got=error.option_name,
            remedy=f"the nearest name is {near}",
        )
    path = context.command_path if context else "latentgauge"
    remedy = f"see {path} --help"
    if isinstance(error, typer.BadParameter) and error.message:
        return InvalidOption(told, remedy=remedy)
    return InvalidRequest(told, remedy=remedy)


if __name__ == "__main__":
    main()
