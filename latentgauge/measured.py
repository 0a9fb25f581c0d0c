"""A report or a comparison made on this machine, by whichever command asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentgauge.arguments import Inputs
from latentgauge.comparison import Comparison
from latentgauge.console import Reporter
from latentgauge.errors import MissingExtra
from latentgauge.memory import give_large_blocks_back
from latentgauge.options import Options
from latentgauge.report import Report
from latentgauge.threads import let_threads_sleep


def measured(inputs: Inputs, options: Options, progress: Reporter) -> Report:
    """The report, made in this process. Only here and below torch is needed."""
    let_threads_sleep()
    give_large_blocks_back()
    with _torch():
        from latentgauge.local import analyse_files, analyse_table
    if inputs.posterior is not None:
        return analyse_table(inputs.posterior, options=options, progress=progress)
    assert inputs.encoder is not None
    assert inputs.dataset is not None
    return analyse_files(inputs.encoder, inputs.dataset, options=options, progress=progress)


def compared(base: Path, head: Path, options: Options, progress: Reporter) -> Comparison:
    """The comparison of two posterior tables, made in this process."""
    let_threads_sleep()
    give_large_blocks_back()
    with _torch():
        from latentgauge.local import compare_tables
    return compare_tables(base, head, options=options, progress=progress)


@contextmanager
def _torch() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name not in ("torch", "numpy"):
            raise
        raise MissingExtra(
            f"analysing on this machine needs {missing.name}, which is not installed",
            expected="torch and numpy",
            got=f"no {missing.name}",
            remedy="pip install 'latentgauge[torch]', or submit the files to a service",
        ) from missing
