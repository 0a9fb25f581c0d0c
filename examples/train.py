"""Train the VAEs of this folder: `python examples/train.py` (under a minute).

Four encoders of one family see the same digits and differ only in beta, the weight of the KL
in what is minimised, summed over pixels and latents and averaged over rows:

    reconstruction + beta * KL(q(z|x) || N(0, I))        https://openreview.net/forum?id=Sy2fzU9gl

At beta = 1 the code is alive; at beta = 100 it has collapsed onto the prior. Same seeds, same
networks; other processors and other versions of torch may differ in the last bits.
"""

from __future__ import annotations

import argparse
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

HERE = Path(__file__).parent
BETAS = (0.1, 1.0, 10.0, 100.0)
SIDE, HIDDEN, LATENTS = 8, 128, 8
EPOCHS, BATCH, LEARNING_RATE = 400, 128, 2e-3
DRAWS = 32
ACTIVE = 0.01  # variance of mu; Burda et al. 2016, https://arxiv.org/abs/1509.00519
FIXED_DATE = (1980, 1, 1, 0, 0, 0)


class Encoder(nn.Module):
    """x [B, 8, 8] of 0 and 1 -> mu, logvar, each [B, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(SIDE * SIDE, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
        )
        self.mu = nn.Linear(HIDDEN, LATENTS)
        self.logvar = nn.Linear(HIDDEN, LATENTS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    """z [B, 8] -> Bernoulli logits of the pixels, [B, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(LATENTS, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, SIDE * SIDE),
            nn.Unflatten(1, (SIDE, SIDE)),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) of every row, in nats."""
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(dim=1)


def reconstruction(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x|z) of every row, in nats: each pixel is a Bernoulli variable."""
    losses = binary_cross_entropy_with_logits(logits, x, reduction="none")
    return losses.flatten(1).sum(dim=1)


def drawn(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def batches(x: Tensor) -> Iterator[Tensor]:
    """The rows in a random order, without the short batch at the end."""
    order = torch.randperm(len(x))
    for start in range(0, len(x) - BATCH + 1, BATCH):
        yield x[order[start : start + BATCH]]


def trained(x: Tensor, *, beta: float, epochs: int, seed: int = 0) -> tuple[Encoder, Decoder]:
    """An encoder and its decoder, in evaluation mode."""
    *_, (encoder, decoder) = training(x, beta=beta, epochs=epochs, seed=seed)
    return encoder.eval(), decoder.eval()


def training(
    x: Tensor, *, beta: float, epochs: int, seed: int = 0
) -> Iterator[tuple[Encoder, Decoder]]:
    """The two networks after each epoch, the same objects every time."""
    torch.manual_seed(seed)
    encoder, decoder = Encoder(), Decoder()
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], LEARNING_RATE)
    # To zero: at a fixed rate the steps themselves would keep a collapsed code off the prior.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in batches(x):
            mu, logvar = encoder(batch)
            rows = reconstruction(decoder(drawn(mu, logvar)), batch) + beta * kl(mu, logvar)
            optimiser.zero_grad()
            rows.mean().backward()
            optimiser.step()
        schedule.step()
        yield encoder, decoder


@torch.no_grad()
def figures(encoder: Encoder, decoder: Decoder, x: Tensor) -> dict[str, float]:
    """KL and ELBO in nats a row, and active units, over all rows."""
    mu, logvar = encoder(x)
    rate = kl(mu.double(), logvar.double()).mean().item()
    distortions = [reconstruction(decoder(drawn(mu, logvar)), x).mean() for _ in range(DRAWS)]
    return {
        "kl": rate,
        "active": int((mu.var(dim=0) > ACTIVE).sum()),
        "elbo": -torch.stack(distortions).mean().item() - rate,
    }


def export(network: nn.Module, example: Tensor, path: Path) -> None:
    """TorchScript without its debug records and their checksum: they hold this machine's paths."""
    with warnings.catch_warnings():
        # torch.jit is deprecated without a removal date.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, example).save(path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            if not name.endswith((".debug_pkl", "/serialization_id")):
                archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), content)


def save_data(path: Path) -> Tensor:
    """`x` float32 [1797, 8, 8] and the digit `y` int64 [1797].

    A pixel is 1 where at least half of the ink there (0 to 16) is, so that Bernoulli is the
    likelihood of the data and the ELBO a bound.
    """
    digits = load_digits()
    x = (digits.images >= 8).astype(np.float32)
    np.savez_compressed(path, x=x, y=digits.target.astype(np.int64))
    return torch.from_numpy(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the files")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the data")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the fastest for networks this small, and the same everywhere
    x = save_data(asked.out / "digits.npz")
    print("  beta        KL   active        ELBO   seconds")
    for beta in BETAS:
        began = time.monotonic()
        encoder, decoder = trained(x, beta=beta, epochs=asked.epochs)
        seconds = time.monotonic() - began
        reached = figures(encoder, decoder, x)
        export(encoder, x[:2], asked.out / f"digits_beta{beta:g}_encoder.pt")
        export(decoder, torch.zeros(2, LATENTS), asked.out / f"digits_beta{beta:g}_decoder.pt")
        print(
            f"{beta:6g} {reached['kl']:9.3g} {reached['active']:4.0f} / {LATENTS}"
            f" {reached['elbo']:11.3f} {seconds:9.1f}"
        )


if __name__ == "__main__":
    main()
