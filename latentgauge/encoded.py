"""What an encoder put out for a data set: numbers, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from latentgauge.report import Probe

Array = NDArray[Any]


@dataclass(frozen=True)
class Encoded:
    """Outputs mu and second, [N, D] in the encoder's own dtype, and the facts beside them."""

    mu: Array
    second: Array
    format: str
    outputs: tuple[str, ...]
    dtype: str
    device: str
    probes: tuple[Probe, ...]
