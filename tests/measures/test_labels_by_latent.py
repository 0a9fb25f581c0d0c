"""What single latents tell of labels: quadrature, densities against their definition, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from latentgauge.measures import class_densities as classed
from latentgauge.measures import labels as measure
from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.intervals import marginal_interval
from latentgauge.measures.joint import Draws, Noise, Standardised, drawn_rows
from latentgauge.measures.labels import LatentLabels, labels_of_latent
from latentgauge.measures.marginals import Marginal, marginal
from latentgauge.measures.units import fold_of_rows
from tests.truth import F64, generator, independent, normal


def _by_latent(
    mu: Tensor,
    logvar: Tensor,
    y: Tensor,
    *,
    seed: int = 0,
    slices: tuple[int, ...] = (),
    samples: int = 10_000,
) -> tuple[tuple[LatentLabels, ...], tuple[Marginal, ...]]:
    source, units = generator(seed), torch.arange(len(mu))
    folds = fold_of_rows(units, source)
    table, noise = Standardised.of(mu, logvar), Noise.of(*mu.shape, generator=source)
    rows = drawn_rows(len(mu), samples=samples, generator=source)
    found, each = [], []
    for j in range(mu.shape[1]):
        alone = table.latent(j)
        marginal_j = marginal(alone, Draws.of_latent(alone, noise, j), 0, units=units, folds=folds)
        each.append(marginal_j)
        found.append(
            labels_of_latent(
                alone,
                Draws.at(alone, noise.latent(j)[rows, None], rows),
                dataset=marginal_j.dataset,
                kl=kl_rows(mu[:, j], logvar[:, j]),
                classes=y,
                units=units,
                folds=folds,
                slices=slices,
            )
        )
    return tuple(found), tuple(each)


def _information(means: list[float], sigma: float) -> float:
    """I(z;Y) of equally frequent classes N(m, sigma^2), by quadrature."""

    def integrand(z: float) -> float:
        p = [stats.norm.pdf(z, m, sigma) / len(means) for m in means]
        return sum(x * math.log(len(means) * x / sum(p)) for x in p if x > 0)

    return integrate.quad(integrand, min(means) - 12 * sigma, max(means) + 12 * sigma)[0]


@pytest.mark.parametrize("n", [150, 4000])
def test_a_latents_bounds_hold_the_information_of_quadrature(n):
    means = [-1.0, 0.0, 2.0]
    y = torch.arange(n) % 3
    mu = torch.tensor(means, dtype=F64)[y, None] + 0.8 * normal(n, 1, seed=1)
    (latent,), (marginal,) = _by_latent(mu, torch.full_like(mu, math.log(0.36)), y)
    truth, lower = _information(means, 1.0), latent.lower
    assert abs(lower.value - truth) <= 4 * lower.standard_error
    assert truth <= marginal_interval(marginal, t=4.0).upper
    assert latent.dataset == pytest.approx(truth, abs=5 / math.sqrt(n))


@pytest.mark.parametrize("sigma", [1e-5, 0.05, 1.0])
@pytest.mark.parametrize("classes", [2, 40])
def test_labels_that_mean_nothing_read_zero_in_every_latent(sigma, classes):
    mu = normal(2000, 2, seed=2)
    y = torch.randint(0, classes, (2000,), generator=generator(3))
    found, _ = _by_latent(mu, torch.full_like(mu, 2 * math.log(sigma)), y)
    for latent in found:
        assert -0.0035 <= latent.lower.value <= 2 * latent.lower.standard_error


def test_class_frequencies_are_those_of_the_other_folds():
    y, folds = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 0])
    expected = [[1.5, 1.5, 0.5], [2.5, 1.5, 1.5]]
    for fold, counts in enumerate(expected):
        share = torch.tensor(counts, dtype=F64) / sum(counts)
        found = measure._log_frequencies(y, folds)[fold].exp()
        assert found.tolist() == pytest.approx(share.tolist(), abs=1e-12)


def test_smoothed_densities_are_those_of_the_other_folds():
    n, extra = 400, classed.PRIOR_ROWS
    mu, logvar, y = 3.0 * normal(n, seed=12), 0.5 * normal(n, seed=13), torch.arange(n) % 2
    mu += 10.0 * y
    folds, z = torch.arange(n) // 2 % 5, mu + normal(n, seed=14)
    found = classed.smoothed_log_densities(
        mu, logvar.exp(), z, classes=y, folds=folds, rows=torch.arange(n)
    )
    for fold in range(5):
        mine, all_rest = folds == fold, folds != fold
        for c in range(2):
            rest, count = all_rest & (y == c), int((all_rest & (y == c)).sum())

            def averaged(x: Tensor, rest=rest, everyone=all_rest, count=count) -> float:
                return float((x[rest].sum() + extra * x[everyone].mean()) / (count + extra))

            mean, noise = averaged(mu), averaged(logvar.exp())
            means = [averaged(mu, all_rest & (y == k), all_rest, int((all_rest & (y == k)).sum()))
                     for k in range(2)]  # fmt: skip
            spread = averaged((mu - torch.tensor(means, dtype=F64)[y]).square())
            gaussian = stats.norm.pdf(z[mine], mean, math.sqrt(spread + noise))
            assert found[-1][mine, c].exp().tolist() == pytest.approx(gaussian, rel=1e-9, abs=0)
            for k, h in enumerate(classed.CLASS_BANDWIDTHS):
                centres = mean + math.sqrt(1 - h * h) * (mu[rest] - mean)
                width = math.sqrt(h * h * spread + noise)
                mixture = stats.norm.pdf(z[mine, None], centres, width).mean(axis=1)
                # Linear bins and interpolation at three steps to a kernel: a few per cent.
                assert found[k][mine, c].exp().tolist() == pytest.approx(
                    mixture, abs=0.03 * mixture.max()
                )


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_kernel_mixtures_are_densities(scale):
    centres, y = scale * normal(500, seed=9), torch.arange(500) % 2
    centres[0] *= 50
    z = torch.linspace(-400 * scale, 400 * scale, 200_001, dtype=F64)
    variance = torch.tensor([0.04, 0.25], dtype=F64)
    q = classed._kernel_mixtures(centres, variance, z, y).exp()
    # The trapezoidal rule on a polygon: a kink between two points may cost a little.
    assert torch.trapezoid(q, z, dim=0).tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_the_upper_bound_within_a_class_lies_above_its_information():
    upper, lower = torch.zeros(2, 30, dtype=F64)
    for seed in range(30):
        mu, y = normal(300, 1, seed=seed), torch.arange(300) % 6
        (latent,), _ = _by_latent(
            mu + 3.0 * y[:, None], torch.full_like(mu, -2.0), y, seed=seed, slices=(4,)
        )
        (within,) = latent.within
        upper[seed], lower[seed] = within.upper, within.dataset
    truth = 0.5 * math.log1p(math.exp(2.0))
    error = float(upper.std()) / math.sqrt(30)
    assert truth - 2 * error <= float(upper.mean()) <= truth + 0.2
    assert float(lower.mean()) < truth


def test_more_draws_are_not_made_than_memory_holds_for_the_classes():
    few, many = torch.arange(4000) % 4, torch.arange(50_000)
    assert measure.most_draws(few) == measure.MOST_FIGURES // 4
    assert 1 <= measure.most_draws(many) * 50_000 <= measure.MOST_FIGURES


def test_fewer_draws_than_rows_give_the_same_within_errors():
    mu, y = normal(3000, 1, seed=10), torch.arange(3000) % 3
    mu += 2.0 * y[:, None]
    (whole,), _ = _by_latent(mu, torch.zeros_like(mu), y)
    (part,), _ = _by_latent(mu, torch.zeros_like(mu), y, samples=1000)
    assert part.dataset == pytest.approx(whole.dataset, abs=1e-12)
    assert part.lower.standard_error > whole.lower.standard_error
    assert abs(part.lower.value - whole.lower.value) < 4 * part.lower.standard_error


def test_a_latent_tells_no_more_than_it_carries():
    mu, logvar = independent(0.2, 2).sample(2000, seed=11)
    y = (mu[:, 0] > 0).long()
    found, each = _by_latent(mu, logvar, y)
    for latent, alone in zip(found, each, strict=True):
        assert latent.lower.value <= alone.upper + 2 * alone.upper_error
    assert found[0].lower.value > 0.05


def test_labels_that_recur_as_often_as_rows_are_learnt_from_are_all_learnt(monkeypatch):
    # Of the three, class 0 is a Gaussian and the others are combs that no Gaussian tells apart:
    # weights learnt from every third row would see class 0 alone.
    monkeypatch.setattr(measure, "LEARN_FROM", 1000)
    y, teeth = torch.arange(3000) % 3, torch.randint(-6, 7, (3000,), generator=generator(15))
    mu = torch.where(y == 0, 40.0 + normal(3000, seed=16), 2.0 * teeth + (y == 1))[:, None]
    (latent,), _ = _by_latent(mu, torch.full_like(mu, 2 * math.log(0.1)), y)
    assert latent.lower.value > 0.99 * math.log(3)
