"""Tables without any encoder: the cases that people meet, and their right answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from latentgauge.errors import InvalidOption, NonFiniteOutput, WrongOutput
from latentgauge.local import analyse_files, analyse_table
from latentgauge.options import Options
from latentgauge.report import Estimate, Report
from tests.models import Linear, NonFinite, npz, rows, scripted


def analysed(tmp_path: Path, data: bytes, **options: Any) -> Report:
    file = tmp_path / "table"
    file.write_bytes(data)
    return analyse_table(file, options=Options(**options), progress=lambda *_: None)


def holds(interval: Estimate, truth: float) -> bool:
    assert interval.lower is not None
    assert interval.upper is not None
    return interval.lower <= truth <= interval.upper


def test_a_dead_encoder_reads_zero_and_full_collapse(tmp_path: Path) -> None:
    report = analysed(tmp_path, npz(mu=np.zeros((1000, 10)), logvar=np.zeros((1000, 10))))
    assert report.kl.value == 0
    assert report.mutual_information.upper is not None
    assert report.mutual_information.upper <= 1e-9
    assert report.collapse.verdict == "full"
    assert report.inputs.posterior is not None
    assert report.inputs.posterior.repeated_rows == 999


def test_a_rare_label_reads_all_of_its_entropy(tmp_path: Path) -> None:
    n, positives = 70_000, 50
    y = np.arange(n) < positives
    mu = np.where(y, 9.0, -1.0)[:, None]
    report = analysed(tmp_path, npz(mu=mu, sigma=np.full((n, 1), 0.1), y=y))
    assert report.labels is not None
    p = positives / n
    entropy = -p * np.log(p) - (1 - p) * np.log1p(-p)
    assert report.labels.entropy == pytest.approx(entropy, abs=1e-12)
    # The data set's own figure is exact; the population's H(Y) is known to a seventh from 50
    # positives, and the interval says so.
    dataset = report.labels.dataset_mutual_information
    assert dataset.value == pytest.approx(entropy, rel=1e-6)
    assert holds(report.labels.mutual_information, entropy)
    assert report.labels.mutual_information.lower is not None
    assert report.labels.mutual_information.lower >= 0.7 * entropy
    # I(Z;Y) <= min(H(Y), I(X;Z)), and the same of the one latent.
    (latent,) = report.labels.per_dimension
    assert holds(latent.mutual_information, entropy)
    for told in (report.labels.mutual_information, latent.mutual_information):
        assert told.upper is not None
        assert report.mutual_information.upper is not None
        assert told.upper <= report.mutual_information.upper
    assert [x.n for x in report.labels.slices] == [n - positives, positives]


def test_a_table_that_is_dead_for_one_class_says_which(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    y = np.arange(1500) % 10
    mu, sigma = rng.normal(size=(1500, 2)) + y[:, None], np.full((1500, 2), 0.5)
    mu[y == 7], sigma[y == 7] = 0, 1
    report = analysed(tmp_path, npz(mu=mu, sigma=sigma, y=y))
    assert report.labels is not None
    assert [x.collapse for x in report.labels.slices] == ["none"] * 7 + ["full"] + ["none"] * 2
    assert report.collapse.reasons[-1].endswith("no dimension: 7")
    assert report.collapse.verdict == "none"


def test_every_row_twice_still_holds_the_truth_and_is_said(tmp_path: Path) -> None:
    # D = 10 latents of 2 nats each: sigma^2 = 1 / (e^4 - 1).
    rng = np.random.default_rng(5)
    mu = rng.normal(size=(2000, 10))
    sigma = np.full_like(mu, (np.exp(4) - 1) ** -0.5)
    report = analysed(tmp_path, npz(mu=np.tile(mu, (2, 1)), sigma=np.tile(sigma, (2, 1))))
    assert report.inputs.posterior is not None
    assert report.inputs.posterior.repeated_rows == 2000
    assert holds(report.mutual_information, 20)
    assert report.dataset_information.ceiling == pytest.approx(np.log(2000))
    assert "repeated_rows" in {w.code for w in report.warnings}


@pytest.mark.parametrize(
    ("second_output", "information"), [("logvar", 1.0635), ("log_sigma", 2.0091)]
)
def test_the_second_output_is_read_as_it_is_named(
    tmp_path: Path, second_output: str, information: float
) -> None:
    mu = np.random.default_rng(1).normal(size=(4000, 1))
    report = analysed(tmp_path, npz(mu=mu, **{second_output: np.full_like(mu, -2)}))
    assert holds(report.dimensions[0].mutual_information, information)


def test_a_sigma_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongOutput, match="sigma is not above 0 in rows 0, 1"):
        analysed(tmp_path, npz(mu=np.ones((2, 1)), sigma=np.full((2, 1), -2.0)))


def test_rows_of_one_group_are_one_unit(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 10)
    mu = rng.normal(size=(40, 2))[patients] + 0.01 * rng.normal(size=(400, 2))
    data = {"mu": mu, "sigma": np.full_like(mu, 0.1)}
    alone = analysed(tmp_path, npz(**data))
    grouped = analysed(tmp_path, npz(**data, group=patients))
    assert grouped.kl.standard_error is not None
    assert alone.kl.standard_error is not None
    # Ten rows a patient that agree: the error over patients is near sqrt(10) times as large.
    assert grouped.kl.standard_error > 2 * alone.kl.standard_error


def test_an_encoder_here_gives_the_numbers_of_its_table(tmp_path: Path) -> None:
    encoder, data = tmp_path / "e", tmp_path / "d"
    x = rows(300)
    encoder.write_bytes(scripted(Linear()))
    data.write_bytes(npz(x=x))
    stages: list[str] = []
    report = analyse_files(
        encoder, data, options=Options(), progress=lambda stage, _: stages.append(stage)
    )
    mu = x @ Linear().weight.detach().numpy()
    table = analysed(tmp_path, npz(mu=mu, logvar=np.full_like(mu, -2)))
    assert report.kl.value == pytest.approx(table.kl.value, rel=1e-5)
    assert report.mutual_information.upper == pytest.approx(
        table.mutual_information.upper, rel=1e-4
    )
    assert set(stages) == {"encoding", "measuring"}
    assert report.environment.sandbox == "in_process"


def test_a_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a cuda device")
    with pytest.raises(InvalidOption, match="no cuda device"):
        analysed(tmp_path, npz(mu=np.ones((2, 1)), sigma=np.ones((2, 1))), device="cuda")


def test_keep_leaves_rows_of_a_table_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    mu = rng.normal(size=(200, 2))
    mu[7] = np.nan
    sigma = np.full_like(mu, 0.5)
    keep = np.arange(200) != 7
    report = analysed(tmp_path, npz(mu=mu, sigma=sigma, keep=keep))
    assert report.n == 199


class Loud(nn.Module):
    """Trained on [0, 1]: on 0..255 its logvar is far beyond any that works."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :2], 10 * x[:, :2]


def test_absurd_outputs_of_unscaled_bytes_name_the_range_that_was_seen(tmp_path: Path) -> None:
    encoder, data = tmp_path / "e", tmp_path / "d"
    encoder.write_bytes(scripted(Loud()))
    data.write_bytes(npz(x=np.random.default_rng(0).integers(0, 256, (50, 6), dtype=np.uint8)))
    with pytest.raises(WrongOutput, match="values of no working encoder") as caught:
        analyse_files(encoder, data, options=Options(), progress=lambda *_: None)
    assert "the rows are uint8 from 0 to 255 and go in unscaled" in caught.value.got
    report = analyse_files(
        encoder, data, options=Options(input_scale=255), progress=lambda *_: None
    )
    assert report.n == 50


def test_a_forecast_takes_the_spectrum_of_the_rows_as_they_go_in(tmp_path: Path) -> None:
    encoder, data = tmp_path / "e", tmp_path / "d"
    scales = np.array([4.0, 2.0, 1.5, 0.5, 0.2, 0.1], np.float32) ** 0.5
    encoder.write_bytes(scripted(Linear()))
    data.write_bytes(npz(x=10 * scales * rows(2000)))
    report = analyse_files(
        encoder,
        data,
        options=Options(input_scale=10, decoder_variance=1.0, beta=1.2),
        progress=lambda *_: None,
    )
    told = report.forecast
    assert told is not None
    assert (told.spectrum, told.beta, told.above, told.alive) == ("rows", 1.2, 3, 3)
    assert told.indices == [0, 1, 2]
    assert [x.eigenvalue for x in told.latents] == pytest.approx(
        (scales**2)[: report.d].tolist(), rel=0.15
    )
    assert told.total == pytest.approx(0.5 * np.log(12.0 / 1.2**3), abs=0.1)
    assert told.held_against.startswith(f"a linear VAE would keep 3 of {report.d} latents")


def test_a_table_has_a_forecast_where_the_spectrum_is_given(tmp_path: Path) -> None:
    # The optimum for these eigenvalues: Var(z|x) = s^2 / lambda, q(z) = N(0, 1).
    eigenvalues = np.array([0.5, 4.0, 2.0])
    variance = np.minimum(1 / eigenvalues, 1)
    mu = np.random.default_rng(3).normal(size=(3000, 3)) * np.sqrt(1 - variance)
    table = npz(mu=mu, variance=np.tile(variance, (3000, 1)))
    report = analysed(tmp_path, table, spectrum=[0.5, 4.0, 2.0, 0.1], decoder_variance=1.0)
    told = report.forecast
    assert told is not None
    assert (told.spectrum, told.indices, told.above) == ("option", [1, 2], 2)
    assert [x.index for x in told.latents] == [1, 2, 0]
    dead = told.latents[-1]
    assert (dead.alive, dead.information) == (False, 0.0)
    assert (dead.beta_limit, dead.variance_limit) == (0.5, 0.5)
    assert told.held_against.endswith("2 are active: as many as the data would bear")
    assert holds(report.mutual_information, told.total)
    more = analysed(tmp_path, table, spectrum=[4.0, 2.0, 1.5], decoder_variance=1.0).forecast
    less = analysed(tmp_path, table, spectrum=[4.0], decoder_variance=1.0).forecast
    assert more is not None
    assert more.held_against.endswith("the data would bear more")
    assert less is not None
    assert less.held_against.endswith("makes more of the data than its linear part")


def test_a_forecast_without_a_spectrum_is_said_to_be_missing(tmp_path: Path) -> None:
    table = npz(mu=np.zeros((50, 2)), logvar=np.zeros((50, 2)))
    report = analysed(tmp_path, table, decoder_variance=1.0)
    assert report.forecast is None
    said = [w.message for w in report.warnings if w.where == "forecast"]
    assert len(said) == 1
    assert "give the option spectrum" in said[0]
    assert analysed(tmp_path, table).forecast is None


def test_infinite_outputs_are_named_by_their_row_in_the_file(tmp_path: Path) -> None:
    encoder, data = tmp_path / "e", tmp_path / "d"
    encoder.write_bytes(scripted(NonFinite()))
    x = np.zeros((20, 6), np.float32)
    x[[4, 11], 0] = 3
    data.write_bytes(npz(x=x, keep=np.arange(20) > 2))
    with pytest.raises(NonFiniteOutput, match="for 2 of 17 rows") as caught:
        analyse_files(encoder, data, options=Options(), progress=lambda *_: None)
    assert "rows 4, 11, counted from 0" in caught.value.got
