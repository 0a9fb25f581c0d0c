"""Rows as an encoder takes them: scaled, in its dtype, in one layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentgauge.errors import InvalidOption
from latentgauge.options import Normalisation, Options

Array = NDArray[Any]


@dataclass(frozen=True)
class Model:
    """Something that maps a batch [B, ...] to its outputs, in evaluation mode."""

    run: Callable[[Tensor], Any]
    format: str
    dtype: torch.dtype
    device: str


@dataclass(frozen=True)
class Feed:
    """Rows as the encoder takes them: scaled, in its dtype, one layout."""

    x: Array
    scale: Callable[[Tensor], Tensor]
    layout: str
    model: Model

    def __call__(self, rows: slice | list[int]) -> Tensor:
        batch = torch.from_numpy(np.array(self.x[rows], order="C"))
        batch = self.scale(batch.to(self.model.dtype))
        return LAYOUTS[self.layout](batch).to(self.model.device)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as_is": lambda batch: batch,
    "channel": lambda batch: batch.unsqueeze(1),
    "flat": lambda batch: batch.flatten(1),
}


def scaling(x: Array, options: Options) -> Callable[[Tensor], Tensor]:
    """The map from stored rows to what the encoder was trained on (option `input_scale`).

    Raises:
        InvalidOption: a full range is asked for that the rows do not have.
    """
    asked = options.input_scale
    if asked is None:
        return lambda batch: batch
    if isinstance(asked, float | int):
        return lambda batch: batch / asked
    full = _full_range(x)
    if isinstance(asked, Normalisation):
        mean, std = _channels(asked.mean, x), _channels(asked.std, x)
        return lambda batch: (batch / full - mean.to(batch.dtype)) / std.to(batch.dtype)
    low, high = asked
    return lambda batch: batch / full * (high - low) + low


def _full_range(x: Array) -> float:
    """The largest value that a pixel of this dtype can have: 255 for uint8, 1 for floats."""
    if x.dtype.kind == "u":
        return float(np.iinfo(x.dtype).max)
    if x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1:
        return 1.0
    raise InvalidOption(
        "input_scale asks for pixels of a full range, and these rows have none",
        expected="unsigned integers, or floats from 0 to 1",
        got=f"{x.dtype} from {x.min():g} to {x.max():g}",
        remedy="give input_scale as one number to divide by, or scale the rows before posting",
    )


def _channels(values: float | list[float], x: Array) -> Tensor:
    if not isinstance(values, list):
        return torch.tensor(values, dtype=torch.float64)
    if x.ndim < 3 or x.shape[1] != len(values):
        raise InvalidOption(
            f"input_scale gives {len(values)} channels, and the rows do not have them",
            expected=f"rows of shape [{len(values)}, ...]: channels first",
            got=f"rows of shape {list(x.shape[1:])}",
            remedy="give one mean and one std, or one for each channel",
        )
    return torch.tensor(values, dtype=torch.float64).view(-1, *[1] * (x.ndim - 2))
