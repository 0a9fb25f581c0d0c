"""The files of examples/ are what its README says, and train.py makes such files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

EXAMPLES = Path(__file__).parents[2] / "examples"
BETAS = ("0.1", "1", "10", "100")
LATENTS = 8


def data(folder: Path = EXAMPLES) -> tuple[Tensor, Tensor]:
    with np.load(folder / "digits.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"x", "y"}
        return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])


def network(part: str, beta: str, folder: Path = EXAMPLES) -> torch.jit.ScriptModule:
    return torch.jit.load(folder / f"digits_beta{beta}_{part}.pt", map_location="cpu")


@torch.no_grad()
def code(beta: str, rows: Tensor, folder: Path = EXAMPLES) -> tuple[Tensor, Tensor]:
    mu, logvar = network("encoder", beta, folder)(rows)
    return mu.double(), logvar.double()


def mean_kl(mu: Tensor, logvar: Tensor) -> float:
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    posterior = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    return torch.distributions.kl_divergence(posterior, prior).sum(dim=1).mean().item()


def test_the_data_are_the_digits_in_black_and_white() -> None:
    x, y = data()
    assert x.shape == (1797, 8, 8)
    assert x.dtype == torch.float32
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert y.shape == (1797,)
    assert y.unique().tolist() == list(range(10))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("rows", [1, 1797])
def test_an_encoder_takes_any_number_of_rows(beta: str, rows: int) -> None:
    x, _ = data()
    for tensor in code(beta, x[:rows]):
        assert tensor.shape == (rows, LATENTS)
        assert tensor.isfinite().all()


@pytest.mark.parametrize("beta", BETAS)
def test_an_encoder_treats_each_row_by_itself_and_twice_alike(beta: str) -> None:
    x, _ = data()
    mu, logvar = code(beta, x)
    again = code(beta, x)
    assert torch.equal(mu, again[0])
    assert torch.equal(logvar, again[1])
    alone = code(beta, x[5:6])
    # float32 sums in another order: a few units in the last place of numbers near 1
    assert torch.allclose(mu[5:6], alone[0], atol=1e-5)
    assert torch.allclose(logvar[5:6], alone[1], atol=1e-5)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("rows", [1, 1797])
def test_a_decoder_gives_a_logit_for_each_pixel(beta: str, rows: int) -> None:
    with torch.no_grad():
        logits = network("decoder", beta)(torch.zeros(rows, LATENTS))
    assert logits.shape == (rows, 8, 8)
    assert logits.isfinite().all()


def test_beta_1_is_a_live_code() -> None:
    mu, logvar = code("1", data()[0])
    assert mean_kl(mu, logvar) > 5
    assert (mu.var(dim=0) > 0.01).sum() >= 4


@pytest.mark.parametrize("beta", ["10", "100"])
def test_a_large_beta_collapses_every_latent(beta: str) -> None:
    mu, logvar = code(beta, data()[0])
    # the information is at most the KL, and full collapse needs at most 0.02 nats of it
    assert mean_kl(mu, logvar) < 0.01
    assert (mu.var(dim=0) < 1e-4).all()
    assert (logvar.abs() < 0.1).all()


def test_a_larger_beta_never_means_a_larger_kl() -> None:
    rates = [mean_kl(*code(beta, data()[0])) for beta in BETAS]
    assert rates == sorted(rates, reverse=True)


def test_a_trained_decoder_uses_the_live_code() -> None:
    x, _ = data()
    mu, _ = code("1", x)

    def loss(z: Tensor) -> float:
        with torch.no_grad():
            logits = network("decoder", "1")(z.float())
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, x).item()

    assert loss(mu) < 0.6 * loss(mu.roll(1, dims=0))


def test_the_readme_states_the_kl_of_the_shipped_files() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    stated = dict(re.findall(r"^\| ([\d.]+) \| `\S+` \| ([\d.]+) \|", readme, re.MULTILINE))
    assert set(stated) == set(BETAS)
    for beta, figure in stated.items():
        # three figures are printed; a collapsed KL is float32 rounding, other on each machine
        assert mean_kl(*code(beta, data()[0])) == pytest.approx(float(figure), rel=0.01, abs=1e-5)


def test_the_files_are_small_and_carry_no_path_of_the_machine_that_made_them() -> None:
    files = [*EXAMPLES.glob("*.pt"), *EXAMPLES.glob("*.npz")]
    assert len(files) == 2 * len(BETAS) + 1
    assert max(file.stat().st_size for file in files) < 200_000
    assert sum(file.stat().st_size for file in files) < 3_000_000
    for file in files:
        assert b"site-packages" not in file.read_bytes()
        assert b"debug_pkl" not in file.read_bytes()


def test_one_short_epoch_of_train_py_makes_files_of_the_same_interface(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "train.py", "--epochs", "1", "--out", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 1 + len(BETAS)
    shipped = {file.name for pattern in ("*.pt", "*.npz") for file in EXAMPLES.glob(pattern)}
    assert {file.name for file in tmp_path.iterdir()} == shipped
    assert (tmp_path / "digits.npz").read_bytes() == (EXAMPLES / "digits.npz").read_bytes()
    x, _ = data(tmp_path)
    for beta in BETAS:
        mu, logvar = code(beta, x, tmp_path)
        assert mu.shape == logvar.shape == (1797, LATENTS)
        with torch.no_grad():
            assert network("decoder", beta, tmp_path)(mu.float()).shape == (1797, 8, 8)
