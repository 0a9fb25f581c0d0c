"""Minibatch estimators against known values, brute force in numpy, and their directions of bias."""

from __future__ import annotations

import math
from itertools import islice, permutations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from latentgauge.measures.joint import Standardised
from latentgauge.measures.minibatch import (
    DENSITIES,
    FEWEST_BATCHES,
    MOST_BATCHES,
    PIECE,
    Batches,
    Decomposition,
    Weights,
    batch_count,
    batch_figures,
    batch_information,
    minibatch_stratified,
    minibatch_weighted,
    minibatches,
    named_stream,
)
from latentgauge.measures.survey import Survey, own_stream, survey
from tests.truth import F64, clusters, correlated, generator, independent, normal

LIVE = independent(10.0, 10).sample(1000, seed=1)


def table(mu: Tensor, logvar: Tensor) -> Standardised:
    return Standardised.of(mu, logvar)


def dead(n: int, d: int) -> Standardised:
    return table(torch.zeros(n, d, dtype=F64), torch.zeros(n, d, dtype=F64))


def uneven(n: int, d: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Means and widths that differ from row to row and from latent to latent."""
    return normal(n, d, seed=seed) + 0.5, normal(n, d, seed=seed + 1) - 1.0


def values(found: Decomposition) -> tuple[float, float, float]:
    parts = found.mutual_information, found.total_correlation, found.dimensionwise_kl
    return parts[0].value, parts[1].value, parts[2].value


def one_batch(code: Standardised, rows: Tensor, *, seed: int) -> Batches:
    return Batches.of(code, rows[None], generator=generator(seed))


def figures_of(code: Standardised, part: Batches, weights: Weights) -> Tensor:
    """KL, MI, TC, DWKL of the one batch."""
    return batch_figures(code, part, weights)[0]


# ---------------------------------------------------------------- known values


def test_weighted_sampling_reads_log_n_for_a_dead_encoder():
    found = minibatch_weighted(dead(1000, 10), batch=64, train=60_000, generator=generator(0))
    log_n = math.log(60_000)
    # Every draw reads the same: what is left is rounding.
    assert values(found) == pytest.approx((log_n, 9 * log_n, -10 * log_n), rel=1e-12)
    assert [round(x, 2) for x in values(found)] == [11.00, 99.02, -110.02]
    assert abs(found.kl.value) < 1e-12


def test_stratified_sampling_reads_nothing_for_a_dead_encoder():
    found = minibatch_stratified(dead(1000, 10), batch=64, train=60_000, generator=generator(0))
    assert values(found) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_calc_mi_stops_at_the_log_of_its_batch():
    code = table(*independent(10.0, 10).sample(4096, seed=1))
    found = batch_information(code, batch=32, generator=generator(0))
    assert found.value == pytest.approx(3.46, abs=0.04)
    # sd .4 of a batch: half of the sum of 10 squares over 32 rows; 1000 batches.
    assert found.standard_error == pytest.approx(0.4 / math.sqrt(1000), rel=0.15)
    assert abs(found.value - math.log(32)) < 4 * found.standard_error


def test_eight_clusters_are_all_seen_by_large_batches():
    code = table(*clusters(8, 50, 3))
    found = batch_information(code, batch=400, generator=generator(0))
    assert found.value == pytest.approx(math.log(8), abs=4 * found.standard_error)


# ---------------------------------------------------------------- reference


def brute(mu: Tensor, logvar: Tensor, z: Tensor, w: np.ndarray) -> list[float]:
    """KL, MI, TC, DWKL of one batch, each density from scipy, weights w [B, B]."""
    m, s, x = mu.numpy(), (0.5 * logvar).exp().numpy(), z.numpy()
    rows = []
    for i in range(len(m)):
        each = stats.norm.pdf(x[i], loc=m, scale=s)  # [B, D]
        own = np.log(each[i]).sum()
        joint = np.log((w[i] * each.prod(axis=1)).sum())
        alone = np.log((w[i][:, None] * each).sum(axis=0)).sum()
        prior = stats.norm.logpdf(x[i]).sum()
        rows.append((own - prior, own - joint, joint - alone, alone - prior))
    return list(np.mean(rows, axis=0))


def written_out(kind: str, size: int, train: int) -> np.ndarray:
    """Weights [B, B] by the appendix, entry by entry."""
    m = size - 1
    w = np.full((size, size), 1.0 / m)
    for i in range(size):
        w[i, i] = 1.0 / train
        w[i, (i + 1) % size] = (train - m) / (train * m)
    return w if kind == "stratified" else np.full_like(w, 1.0 / (train * size))


@pytest.mark.parametrize("kind", ["weighted", "stratified"])
@pytest.mark.parametrize("size", [2, 3, 9])
def test_figures_of_a_batch_are_those_of_the_definition(kind: str, size: int):
    mu, logvar = uneven(20, 4, seed=3)
    code = table(mu, logvar)
    rows = torch.randperm(20, generator=generator(5))[:size]
    part = one_batch(code, rows, seed=6)
    weights = getattr(Weights, kind)(size, 50)
    z = code.centre + code.scale * part.z[0]
    expected = brute(mu[rows], logvar[rows], z, written_out(kind, size, 50))
    assert figures_of(code, part, weights).tolist() == pytest.approx(expected, abs=1e-11)


def test_a_batch_that_comes_in_pieces_gives_the_same_figures():
    mu, logvar = uneven(200, 4, seed=7)
    code = table(mu, logvar)
    part = one_batch(code, torch.arange(200), seed=8)
    pieces = [rows for rows, _ in part.log_densities()]
    assert PIECE < 200 * 200 * 4
    assert len(pieces) > 1
    assert torch.cat(pieces).equal(torch.arange(200))
    assert all(len(rows) * 200 * 4 <= PIECE for rows in pieces)
    z = code.centre + code.scale * part.z[0]
    expected = brute(mu, logvar, z, written_out("stratified", 200, 300))
    found = figures_of(code, part, Weights.stratified(200, 300))
    assert found.tolist() == pytest.approx(expected, abs=1e-11)


def test_calc_mi_is_the_mean_over_batches_of_its_definition():
    code = table(*uneven(5, 3, seed=9))
    found = batch_information(code, batch=2, generator=generator(1))
    stream, each = generator(1), []
    rows = torch.stack(list(islice(minibatches(5, 2, generator=stream), MOST_BATCHES)))
    part = Batches.of(code, rows, generator=stream)
    for mu, logvar, z in zip(part.mu.numpy(), part.logvar.numpy(), part.z.numpy(), strict=True):
        s = np.exp(0.5 * logvar)
        q = [stats.norm.pdf(x, loc=mu, scale=s).prod(axis=1).mean() for x in z]
        each.append(-stats.norm.entropy(scale=s).sum(axis=1).mean() - np.log(q).mean())
    assert found.value == pytest.approx(np.mean(each), abs=1e-11)
    assert found.standard_error == pytest.approx(stats.sem(each), rel=1e-9)


def test_batches_taken_together_read_as_each_alone():
    code = table(*uneven(60, 3, seed=21))
    rows = torch.stack(list(islice(minibatches(60, 8, generator=generator(2)), 5)))
    part = Batches.of(code, rows, generator=generator(3))
    together = batch_figures(code, part, Weights.stratified(8, 60))
    for k in range(5):
        alone = Batches(*(x[k : k + 1] for x in vars(part).values()))
        assert together[k].numpy() == pytest.approx(
            figures_of(code, alone, Weights.stratified(8, 60)).numpy(), abs=1e-12
        )


def test_densities_that_underflow_are_left_out_and_not_wrong():
    mu, logvar = independent(400.0, 8).sample(64, seed=2)
    code = table(mu, logvar)
    found = minibatch_weighted(code, batch=64, train=64, generator=generator(0))
    # Every row is alone: the batch tells which, so log N + log B.
    assert found.mutual_information.value == pytest.approx(2 * math.log(64), abs=1e-9)


def test_the_rows_own_density_comes_from_its_noise():
    """64 means a unit apart, sigma 1e-13: float64 places a draw no nearer than two sigma."""
    mu = torch.arange(64, dtype=F64)[:, None] + 1000.0
    code = table(mu, torch.full_like(mu, 2 * math.log(1e-13)))
    found = minibatch_weighted(code, batch=64, train=64, generator=generator(0))
    assert found.mutual_information.value == pytest.approx(2 * math.log(64), abs=1e-9)


# ---------------------------------------------------------------- laws


def test_stratified_weights_make_q_right_on_average_over_all_batches():
    mu, logvar = uneven(5, 2, seed=11)
    z = normal(1, 2, seed=12)[0]
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp()).log_prob(z).sum(dim=1).exp()
    for size in (2, 3, 4, 5):
        w = Weights.stratified(size, 5).log_table(torch.tensor([0]), size)[0].exp()
        each = [(w * q[[0, *others]]).sum() for others in permutations(range(1, 5), size - 1)]
        assert torch.stack(each).mean() == pytest.approx(float(q.mean()), rel=1e-12)


@pytest.mark.parametrize(("size", "train"), [(2, 2), (2, 9), (7, 7), (64, 60_000)])
def test_stratified_weights_sum_to_one(size: int, train: int):
    w = Weights.stratified(size, train).log_table(torch.arange(size), size).exp()
    assert w.sum(dim=1).numpy() == pytest.approx(np.ones(size), rel=1e-12)


def test_weighted_sampling_is_the_batch_and_offsets_of_log_n():
    code = table(*uneven(40, 3, seed=13))
    part = one_batch(code, torch.arange(16), seed=14)
    log_n = math.log(500)
    offsets = torch.tensor([0.0, log_n, 2 * log_n, -3 * log_n], dtype=F64)
    own = figures_of(code, part, Weights.even(16))
    found = figures_of(code, part, Weights.weighted(16, 500))
    assert (found - own).numpy() == pytest.approx(offsets.numpy(), abs=1e-10)


@pytest.mark.parametrize("weights", [Weights.weighted(16, 500), Weights.stratified(16, 500)])
def test_the_three_parts_add_up_to_the_kl(weights: Weights):
    code = table(*uneven(40, 3, seed=15))
    part = one_batch(code, torch.arange(16), seed=16)
    kl, *parts = figures_of(code, part, weights).tolist()
    assert math.fsum(parts) == pytest.approx(kl, abs=1e-10)


def test_no_figure_exceeds_its_ceiling_in_any_batch():
    code = table(*independent(60.0, 6).sample(100, seed=17))
    for rows in islice(minibatches(100, 8, generator=generator(18)), 50):
        part = one_batch(code, rows, seed=19)
        weighted = figures_of(code, part, Weights.weighted(8, 100))
        stratified = figures_of(code, part, Weights.stratified(8, 100))
        assert weighted[1] <= math.log(100 * 8) + 1e-12
        assert stratified[1] <= math.log(100) + 1e-12


def test_shifting_and_scaling_latents_changes_no_information():
    mu, logvar = uneven(100, 3, seed=20)
    moved = 1e4 + 1e-3 * mu, logvar + 2 * math.log(1e-3)
    a, b = (
        minibatch_stratified(table(*code), batch=20, train=100, generator=generator(0))
        for code in ((mu, logvar), moved)
    )
    # 1e4 in means of 1e-3: the means themselves keep 9 digits.
    assert values(a)[:2] == pytest.approx(values(b)[:2], abs=1e-6)


def test_batches_hold_no_row_twice_and_epochs_all_of_them():
    drawn = list(islice(minibatches(10, 4, generator=generator(0)), 4))
    for first, second in (drawn[:2], drawn[2:]):
        assert len(set(first.tolist() + second.tolist())) == 8
    assert [x.tolist() for x in drawn[:2]] != [x.tolist() for x in drawn[2:]]
    whole = next(minibatches(10, 10, generator=generator(0)))
    assert sorted(whole.tolist()) == list(range(10))


def test_fewer_batches_are_averaged_where_they_cost_more():
    assert batch_count(32, 10) == MOST_BATCHES
    assert batch_count(8192, 64) == FEWEST_BATCHES
    assert FEWEST_BATCHES < batch_count(256, 32) == DENSITIES // (256**2 * 32) < MOST_BATCHES


def test_streams_of_two_names_and_of_the_survey_are_different():
    streams = [named_stream("mws", 0), named_stream("mss", 0), named_stream("mws", 1)]
    drawn = [float(torch.randn(1, generator=g)) for g in (*streams, own_stream(0), generator(0))]
    assert len(set(drawn)) == len(drawn)
    assert float(torch.randn(1, generator=named_stream("mws", 0))) == drawn[0]


# ---------------------------------------------------------------- directions of bias


@pytest.fixture(scope="module")
def measured() -> Survey:
    return survey(*LIVE)


def dataset(found: Survey) -> tuple[float, float]:
    """I_N and the dimension-wise KL of the data set's own mixture."""
    alone = math.fsum(m.dataset for m in found.latents)
    return found.joint.dataset.value, float(found.kl.mean()) - alone


def test_stratified_sampling_reads_above_the_dataset_and_less_so_in_large_batches(
    measured: Survey,
):
    information, divergence = dataset(measured)
    last = math.log(1000)
    for size in (8, 64, 400):
        found = minibatch_stratified(
            table(*LIVE), batch=size, train=1000, generator=generator(size)
        )
        mi, dwkl = found.mutual_information, found.dimensionwise_kl
        # I_N is known to .016, the figures to less: 4 of their joint errors.
        assert mi.value > information + 4 * math.hypot(0.016, mi.standard_error) * (size < 400)
        assert dwkl.value < divergence - 4 * dwkl.standard_error * (size < 400)
        assert mi.value < last
        last = mi.value


def test_weighted_sampling_is_never_under_log_n_and_never_under_the_dataset(measured: Survey):
    found = minibatch_weighted(table(*LIVE), batch=64, train=1000, generator=generator(1))
    assert found.mutual_information.value > math.log(1000) > dataset(measured)[0]


def test_calc_mi_grows_with_its_batch_and_stays_under_the_dataset(measured: Survey):
    read = [
        batch_information(table(*LIVE), batch=size, generator=generator(size)).value
        for size in (2, 16, 128, 512)
    ]
    assert read == sorted(read)
    assert read[-1] < dataset(measured)[0]


def test_a_batch_of_all_rows_is_the_dataset(measured: Survey):
    code = table(*LIVE)
    stated = measured.joint.dataset
    found = batch_information(code, batch=1000, generator=generator(2))
    error = math.hypot(found.standard_error, stated.standard_error)
    assert abs(found.value - stated.value) < 4 * error
    mss = minibatch_stratified(code, batch=1000, train=1000, generator=generator(3))
    error = math.hypot(mss.mutual_information.standard_error, stated.standard_error)
    assert abs(mss.mutual_information.value - stated.value) < 4 * error + 4 / 1000


@pytest.mark.parametrize("code", [LIVE, correlated(0.8, 4).sample(500, seed=2)])
def test_stratified_weights_of_all_rows_differ_from_even_ones_by_a_row(
    code: tuple[Tensor, Tensor],
):
    """At B = N the appendix gives the next row 1 / (N (N - 1)) and the others 1 / (N - 1).

    Over all orders each has 1 / N. In one order log q(z) moves by the next row's share of it, whose
    mean over rows is at most 1 / (N - 1), against 1 / N: 4 / N leaves room for chance.
    """
    standardised, n = table(*code), len(code[0])
    part = one_batch(standardised, torch.arange(n), seed=4)
    exact = figures_of(standardised, part, Weights.even(n))
    found = figures_of(standardised, part, Weights.stratified(n, n))
    assert (found - exact)[1].abs() < 4 / n
    w = Weights.stratified(n, n)
    over_orders = (w.following + (n - 2) * w.others) / (n - 1)
    assert over_orders == pytest.approx(1 / n, rel=1e-12)
    assert w.own == 1 / n
