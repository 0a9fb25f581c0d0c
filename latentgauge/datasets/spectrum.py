"""The spectrum of the rows: eigenvalues of their covariance, in the units the encoder sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A second or two at these sizes; beyond, somebody who wants the forecast gives the spectrum.
MOST_COLUMNS = 1024
MOST_ROWS = 10_000
LARGEST_VARIANCE = 1e90
_BLOCK = 1024


def row_spectrum(x: NDArray[Any], scale: Callable[[Tensor], Tensor], *, seed: int) -> Tensor | None:
    """Eigenvalues [D] of the covariance of rows x [N, ...], descending; None where nobody
    can say: too many columns, one row, or numbers whose squares leave float64.

    In squared units of the scaled rows, over at most MOST_ROWS of them chosen at random. The
    largest eigenvalues of few rows are too large: an estimate with no interval.
    """
    columns = int(np.prod(x.shape[1:]))
    if columns > MOST_COLUMNS or len(x) < 2:
        return None
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:MOST_ROWS])
    centre = _scaled(x[chosen[:_BLOCK]], scale).mean(dim=0)
    total, square = torch.zeros_like(centre), centre.new_zeros(columns, columns)
    for start in range(0, len(chosen), _BLOCK):
        rows = _scaled(x[chosen[start : start + _BLOCK]], scale) - centre
        total += rows.sum(dim=0)
        square += rows.T @ rows
    n = len(chosen)
    covariance = (square - torch.outer(total, total) / n) / (n - 1)
    if not bool((covariance.diagonal() <= LARGEST_VARIANCE).all()):
        return None
    # Rounding puts the eigenvalues of constant columns a little below 0.
    eigenvalues: Tensor = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0.0)
    return eigenvalues


def _scaled(rows: NDArray[Any], scale: Callable[[Tensor], Tensor]) -> Tensor:
    return scale(torch.from_numpy(np.array(rows)).to(torch.float64)).flatten(1)
