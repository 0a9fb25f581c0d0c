"""Model and rows to outputs: batches, layouts, and the probes of an honest encoder's mistakes.

It sees rows x and the model, and nothing else: no label, no measure, no file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from latentgauge.encoded import Encoded
from latentgauge.errors import (
    BatchPinned,
    DevicePinned,
    EncoderCrashed,
    LatentgaugeError,
    NotAPosterior,
    NotDeterministic,
    OutOfMemory,
    RowsNotIndependent,
    ShapeMismatch,
    WrongOutput,
)
from latentgauge.feed import LAYOUTS, Feed, Model, scaling
from latentgauge.options import Options
from latentgauge.report import Probe

Array = NDArray[Any]
Progress = Callable[[float], None]

_LONE_ROWS = 4  # rows that are run alone and compared with their batch
_PIN_SIZES = (1, 2, 4, 8, 16, 32, 64, 100, 128, 256, 512)
# float32 kernels of other batch sizes differ by a few ulp; dropout and batch norm by much more.
_RTOL, _ATOL = 1e-3, 1e-4
_MAX_LATENTS = 65_536
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "bad allocation")


@torch.no_grad()
def encode(
    model: Model, x: Array, *, options: Options, progress: Progress = lambda _: None
) -> Encoded:
    """Outputs mu and second, [N, D], of every row of x [N, ...].

    Raises:
        ShapeMismatch: no layout that was tried fits; shape expected and shape that came.
        BatchPinned, DevicePinned: the trace holds a batch size or a device.
        NotAPosterior, WrongOutput: what came back is no (mu, second).
        NotDeterministic, RowsNotIndependent: outputs are not a function of the row.
        OutOfMemory: one row alone needs more than the limit.
        EncoderCrashed: it raised in the middle of the data.
    """
    try:
        feed, layout_probe = _fitting_feed(model, x, options)
        parts, size = _run_batches(feed, len(x), options.batch_size, progress)
        mu, second = (torch.cat(column) for column in zip(*parts, strict=True))
        probes = (
            layout_probe,
            Probe(probe="batches", passed=True, detail=f"{len(x)} rows in batches of {size}"),
            _determinism(feed, mu, second, size),
            _independence(feed, mu, second),
        )
    except _NoMemory:
        raise _one_row_too_large() from None
    shape = f"[B, {mu.shape[1]}]"
    return Encoded(
        mu=mu.numpy(),
        second=second.numpy(),
        format=model.format,
        outputs=(f"mu {shape}", f"{options.second_output} {shape}"),
        dtype=str(model.dtype).removeprefix("torch."),
        device=model.device,
        probes=probes,
    )


# ---------------------------------------------------------------- what goes in


def _fitting_feed(model: Model, x: Array, options: Options) -> tuple[Feed, Probe]:
    """The first layout whose two first rows the encoder accepts."""
    scale = scaling(x, options)
    asked = options.input_layout
    tried = tuple(LAYOUTS) if asked == "auto" else (asked,)
    refused: dict[str, str] = {}
    wrong: LatentgaugeError | None = None
    for layout in tried:
        feed = Feed(x, scale, layout, model)
        try:
            _pair(_forward(feed, slice(0, 2)), len(x[:2]))
        except _Refused as refusal:
            refused[layout] = refusal.reason
            continue
        except (WrongOutput, NotAPosterior) as error:
            # A convolution reads [B, H, W] as one picture of B channels: another layout may fit.
            wrong = wrong or error
            continue
        shape = list(feed(slice(0, 1)).shape[1:])
        detail = f"rows of shape {list(x.shape[1:])} go in as {shape} ({layout})"
        return feed, Probe(probe="input_layout", passed=True, detail=detail)
    raise wrong or _why_refused(Feed(x, scale, tried[0], model), refused)


def _why_refused(feed: Feed, refused: dict[str, str]) -> LatentgaugeError:
    reasons = "; ".join(f"{layout}: {reason}" for layout, reason in refused.items())
    for layout in refused:
        candidate = Feed(feed.x, feed.scale, layout, feed.model)
        for size in _PIN_SIZES:
            if size <= len(feed.x) and _accepts(candidate, size):
                return BatchPinned(
                    "the encoder takes batches of one size only",
                    expected="any number of rows, the last batch included",
                    got=f"it takes {size} rows, and refuses 2: {reasons}",
                    remedy="trace it with a dynamic batch: x.view(x.shape[0], -1), or "
                    "torch.jit.script instead of trace",
                )
    if any("cuda" in reason.lower() or "same device" in reason for reason in refused.values()):
        return DevicePinned(
            "the encoder holds tensors or constants of another device",
            expected=f"an encoder that runs on {feed.model.device}",
            got=reasons,
            remedy="move the model to the cpu before torch.jit.trace or script, and save it again",
        )
    return ShapeMismatch(
        "the encoder refuses the rows",
        expected="rows as the encoder was built for; tried " + ", ".join(refused),
        got=f"rows of shape {list(feed.x.shape[1:])}: {reasons}",
        remedy="reshape x to what the encoder takes, or set input_layout",
    )


def _accepts(feed: Feed, size: int) -> bool:
    try:
        _forward(feed, slice(0, size))
    except (_Refused, _NoMemory):
        return False
    return True


# ---------------------------------------------------------------- the forward pass


class _Refused(Exception):
    """The encoder raised on a batch; not an error yet."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _NoMemory(Exception):
    """A batch needed more memory than there is."""


def _forward(feed: Feed, rows: slice | list[int]) -> Any:
    try:
        return feed.model.run(feed(rows))
    except (RuntimeError, MemoryError, torch.jit.Error, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise _NoMemory from None
        raise _Refused(reason(str(error))) from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: torch says so in words, not by a type."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def reason(text: str) -> str:
    """The line of a torch error that names the cause, printable and bounded."""
    lines = text[-4000:].split("Exception raised from")[0].strip().splitlines()
    named = [line for line in lines if line.startswith("RuntimeError:")] or lines[-1:]
    line = named[-1] if named else "it raised without a message"
    return "".join(c if c.isprintable() else " " for c in line).removeprefix("RuntimeError: ")[:300]


def _run_batches(
    feed: Feed, n: int, size: int, progress: Progress
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Outputs of all rows in order; the batch is halved whenever memory ends."""
    parts: list[tuple[Tensor, Tensor]] = []
    start = 0
    while start < n:
        rows = slice(start, min(start + size, n))
        try:
            parts.append(_pair(_forward(feed, rows), rows.stop - start, parts))
        except _NoMemory:
            if size == 1:
                raise
            size //= 2
            continue
        except _Refused as refusal:
            raise _raised_midway(refusal, rows) from None
        start = rows.stop
        progress(start / n)
    return parts, size


def _one_row_too_large() -> OutOfMemory:
    return OutOfMemory(
        "a single row needs more memory than the limit",
        expected="a forward pass of one row within the memory limit",
        got="memory ended at the smallest batch",
        remedy="post a smaller encoder, or raise the limit of the service",
    )


def _raised_midway(refusal: _Refused, rows: slice) -> LatentgaugeError:
    size = rows.stop - rows.start
    if rows.start and "shape" in refusal.reason:
        return BatchPinned(
            "the encoder refuses a batch of another size",
            expected="any number of rows, the last batch included",
            got=f"it refused the {size} rows from row {rows.start}: {refusal.reason}",
            remedy="trace it with a dynamic batch: x.view(x.shape[0], -1)",
        )
    return EncoderCrashed(
        f"the encoder raised on the {size} rows from row {rows.start}",
        expected="outputs for every row",
        got=refusal.reason,
        remedy="run these rows through the encoder on your own machine",
    )


# ---------------------------------------------------------------- what comes out


def _pair(
    outputs: Any, size: int, before: list[tuple[Tensor, Tensor]] | None = None
) -> tuple[Tensor, Tensor]:
    """(mu, second) [B, D] on the CPU, from what the encoder returned."""
    if isinstance(outputs, Tensor):
        raise NotAPosterior(
            "the encoder returns one tensor, which describes no distribution",
            expected="a pair (mu, logvar), each [rows, latents]",
            got=f"one tensor of shape {list(outputs.shape)}",
            remedy="export a wrapper whose forward returns (mu, logvar): no sample, no "
            "concatenation",
        )
    if not isinstance(outputs, tuple | list) or len(outputs) != 2:
        raise WrongOutput(
            "the encoder does not return two outputs",
            expected="a pair (mu, logvar), each [rows, latents]",
            got=_described(outputs),
            remedy="export a wrapper whose forward returns (mu, logvar)",
        )
    mu, second = outputs
    shape = (size, before[0][0].shape[1]) if before else (size, _latents(mu))
    for name, output in (("mu", mu), ("the second output", second)):
        if not _is_table(output, shape):
            raise WrongOutput(
                f"{name} is no table of one row of latents for each row",
                expected=f"floating point numbers of shape [{size}, latents]",
                got=_described(output),
                remedy="flatten spatial latents to [rows, latents] and return (mu, logvar)",
            )
    return mu.detach().cpu(), second.detach().cpu()


def _latents(mu: Any) -> int:
    return mu.shape[1] if isinstance(mu, Tensor) and mu.dim() == 2 else 0


def _is_table(output: Any, shape: tuple[int, int]) -> bool:
    return (
        isinstance(output, Tensor)
        and output.layout == torch.strided
        and output.is_floating_point()
        and tuple(output.shape) == shape
        and 1 <= shape[1] <= _MAX_LATENTS
    )


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')} of shape {list(output.shape)}"
    if isinstance(output, tuple | list):
        inner = ", ".join(_described(entry) for entry in output[:6])
        return f"{len(output)} outputs: {inner}"
    if isinstance(output, dict):
        return "a dict with keys " + ", ".join(str(key)[:40] for key in list(output)[:12])
    return f"a {type(output).__name__}"


# ---------------------------------------------------------------- probes


def _determinism(feed: Feed, mu: Tensor, second: Tensor, size: int) -> Probe:
    """The first rows again, in the same batch: a trace that kept dropout differs."""
    n = min(len(mu), size)
    try:
        again = _pair(_forward(feed, slice(0, n)), n)
    except _Refused as refusal:
        raise _raised_midway(refusal, slice(0, n)) from None
    gap = _largest_gap((mu[:n], second[:n]), again)
    if gap is not None:
        raise NotDeterministic(
            "the same rows give different outputs",
            expected="outputs that are a function of the row",
            got=f"outputs that differ by up to {gap:.3g} between two runs of {n} rows",
            remedy="call model.eval() before torch.jit.trace, and return mu and logvar, not a "
            "sample",
        )
    return Probe(probe="determinism", passed=True, detail=f"{n} rows run twice agree")


def _independence(feed: Feed, mu: Tensor, second: Tensor) -> Probe:
    """A few rows alone: batch norm in training mode, or a batch dimension that was squeezed."""
    rows = sorted({math.floor(i * len(mu) / _LONE_ROWS) for i in range(_LONE_ROWS)})
    for row in rows:
        try:
            alone = _pair(_forward(feed, [row]), 1)
        except (_Refused, WrongOutput) as refusal:
            raise BatchPinned(
                "the encoder fails on one row alone",
                expected="any number of rows, one included",
                got=str(refusal)[:500],
                remedy="call model.eval() before export, and keep the batch axis "
                "(squeeze(1) in place of squeeze())",
            ) from None
        gap = _largest_gap((mu[row, None], second[row, None]), alone)
        if gap is not None:
            raise RowsNotIndependent(
                "a row's output depends on the rows beside it",
                expected="the same output for a row alone and in its batch",
                got=f"row {row} differs by {gap:.3g}",
                remedy="call model.eval() before torch.jit.trace: batch norm must use its "
                "running statistics",
            )
    return Probe(probe="row_independence", passed=True, detail=f"{len(rows)} rows alone agree")


def _largest_gap(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float | None:
    """The largest difference beyond the tolerance, or None."""
    beyond = [
        (a - b).abs()[(a - b).abs() > _ATOL + _RTOL * a.abs().max()]
        for a, b in zip(one, other, strict=True)
    ]
    largest = max((float(gap.max()) for gap in beyond if len(gap)), default=0.0)
    return largest or None
