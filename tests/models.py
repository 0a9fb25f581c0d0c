"""Small encoders and data sets that the tests post, made on the spot."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

D_IN, D = 6, 3


class Linear(nn.Module):
    """x -> (x W, logvar): the truth is known in closed form."""

    def __init__(self, weight: Tensor | None = None, logvar: float = -2.0) -> None:
        super().__init__()
        fixed = torch.Generator().manual_seed(1)
        start = torch.randn(D_IN, D, generator=fixed) / 2 if weight is None else weight
        self.weight = nn.Parameter(start)
        self.logvar = logvar

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x @ self.weight
        return mu, torch.full_like(mu, self.logvar)


class OneTensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3]


class ThreeOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x[:, :3], x[:, :3]


class ADict(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"mu": x[:, :3], "logvar": x[:, :3]}


class WrongRows(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:1, :3], x[:1, :3]


class Integers(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :3].long(), x[:, :3].long()


class NonFinite(nn.Module):
    """Infinity for the rows whose first entry is above 2."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.where(x[:, :1] > 2, torch.full_like(x[:, :3], float("inf")), x[:, :3])
        return mu, torch.zeros_like(mu)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x[:, :3] + torch.randn_like(x[:, :3])
        return mu, torch.zeros_like(mu)


class BatchStatistics(nn.Module):
    """Batch norm that was left in training mode."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x[:, :3] - x[:, :3].mean(dim=0, keepdim=True)
        return mu, torch.zeros_like(mu)


class Squeezed(nn.Module):
    """Loses the batch axis of a single row."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x[:, :3].squeeze(0)
        return mu, torch.zeros_like(mu)


class OfFour(nn.Module):
    """A trace of batches of 4."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x.view(4, 6)[:, :3]
        return mu, torch.zeros_like(mu)


class Hanging(nn.Module):
    """Never returns, at about no use of memory."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = x.sum()
        while bool(s == s):
            s = s * 0.5
        return x[:, :3] + s, x[:, :3]


class Greedy(nn.Module):
    """Takes memory without end."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = [x]
        for _ in range(1_000_000):
            kept.append(torch.ones(1_000_000) * x.sum())  # noqa: PERF401 (TorchScript)
        return x[:, :3] + kept[-1].sum(), x[:, :3]


class Wide(nn.Module):
    """Needs 64 MB a row: a batch of many rows does not fit, a small one does."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        big = x[:, :1].expand(x.shape[0], 16_000_000).contiguous()
        mu = x[:, :3] + 0.0 * big[:, :3]
        return mu, torch.zeros_like(mu)


class Chatty(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(100_000):
            print("a line that says nothing and is printed again and again")
        return x[:, :3], x[:, :3]


class Picture(nn.Module):
    """A convolution over one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(2 * 6 * 6, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.head(self.conv(x).flatten(1))
        return h[:, :2], h[:, 2:]


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.head(x)
        return h[:, :2], h[:, 2:]


def scripted(module: nn.Module) -> bytes:
    """The module as a TorchScript file."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), file)
    return file.getvalue()


def traced(module: nn.Module, example: Tensor) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module.eval(), example, check_trace=False), file)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def rows(n: int = 300, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(n, D_IN)).astype(np.float32)
