"""What a code tells of labels: two-class truths, meaningless labels, rare ones."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, stats

from latentgauge.measures.intervals import UNKNOWN, label_interval
from latentgauge.measures.joint import Standardised, joint_sums
from latentgauge.measures.labels import LabelBounds, label_bounds
from latentgauge.measures.survey import Survey, survey
from latentgauge.measures.units import fold_of_rows, interval_quantile
from latentgauge.measures.upper_bound import components
from tests.truth import F64, drawn, generator, independent, normal


def _labelled(mu: torch.Tensor, logvar: torch.Tensor, y: torch.Tensor, **given: object) -> Survey:
    return survey(mu, logvar, classes=y, **given)


def _bounds(mu: torch.Tensor, logvar: torch.Tensor, y: torch.Tensor, *, seed: int) -> LabelBounds:
    """The joint figures of labels alone."""
    source, units = generator(seed), torch.arange(len(mu))
    folds = fold_of_rows(units, source)
    table = Standardised.of(mu, logvar)
    draws = drawn(table, generator=source)
    sums = joint_sums(table, draws, units=units, classes=y)
    belong = {"units": units, "folds": folds, "classes": y}
    parts = components(table, draws, sums, generator=source, **belong)
    return label_bounds(table, draws, sums, parts, **belong)


def _two_gaussians(gap: float) -> float:
    """I(Z;Y) for z ~ N(+-gap, 1), y fair."""

    def integrand(z: float) -> float:
        a, b = stats.norm.pdf(z, gap), stats.norm.pdf(z, -gap)
        return 0.5 * a * math.log(2 * a / (a + b)) + 0.5 * b * math.log(2 * b / (a + b))

    return integrate.quad(integrand, -gap - 12, gap + 12)[0]


def test_two_overlapping_classes_have_the_information_of_quadrature():
    y = torch.arange(3000) % 2
    mu = 0.8 * normal(3000, 1, seed=0) + (2.0 * y[:, None] - 1.0)
    found = _labelled(mu, torch.full_like(mu, math.log(0.36)), y)
    truth = _two_gaussians(1.0)
    lower = found.labels.lower
    assert abs(lower.value - truth) < 0.01 + 4 * lower.standard_error
    assert found.labels.entropy == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("information", [5.0, 20.0])
def test_labels_that_mean_nothing_read_zero_however_saturated_the_code(information):
    mu, logvar = independent(information, 10).sample(4000, seed=1)
    y = torch.randint(0, 10, (4000,), generator=generator(2))
    found = _labelled(mu, logvar, y)
    lower = found.labels.lower
    assert lower.value <= 2 * lower.standard_error
    assert lower.value > -0.02
    if information == 20.0:
        assert found.labels.dataset.value == pytest.approx(found.labels.entropy, abs=0.05)


@pytest.mark.parametrize("information", [5.0, 10.0, 20.0])
@pytest.mark.parametrize("shares", [[1.0] * 10, [0.5**k for k in range(10)], [1.0] * 100],
                         ids=["ten", "unbalanced", "hundred"])  # fmt: skip
def test_the_mean_over_seeds_of_meaningless_labels_is_zero(information, shares):
    lower = []
    for seed in range(3):
        mu, logvar = independent(information, 10).sample(1000, seed=seed)
        chances = torch.tensor(shares, dtype=F64)
        y = torch.multinomial(chances, 1000, replacement=True, generator=generator(seed + 50))
        lower.append(_bounds(mu, logvar, y, seed=seed).lower)
    mean = sum(x.value for x in lower) / len(lower)
    error = math.sqrt(sum(x.standard_error**2 for x in lower)) / len(lower)
    # Free weights cost about one row's surprise each: 7 / (2 n) is .0035.
    assert -0.0035 <= mean <= 2 * error


@pytest.mark.parametrize(("n", "classes", "gap"), [(100, 2, 1.0), (100, 10, 1.0)])
def test_frequencies_that_hold_the_row_itself_keep_the_bound_one(n, classes, gap):
    centres = gap * normal(classes, 2, seed=5)
    y = torch.randint(0, classes, (100_000,), generator=generator(9))
    z = centres[y] + math.sqrt(0.72) * normal(100_000, 2, seed=10)
    log_p = (-(z[:, None] - centres).square().sum(dim=2) / 1.44).log_softmax(dim=1)
    truth = float(log_p.gather(1, y[:, None]).mean()) + math.log(classes)
    lower = torch.zeros(40, dtype=F64)
    for seed in range(40):
        y = torch.randint(0, classes, (n,), generator=generator(seed))
        mu = centres[y] + 0.6 * normal(n, 2, seed=1000 + seed)
        logvar = torch.full_like(mu, math.log(0.36))
        lower[seed] = _bounds(mu, logvar, y, seed=seed).lower.value
    # A hundred thousand draws know the truth to .003.
    assert float(lower.mean()) <= truth + 0.003 + 3 * float(lower.std()) / math.sqrt(40)


def test_a_rare_class_that_is_well_apart_reads_all_of_its_entropy():
    mu = torch.full((70_000, 1), -1.0, dtype=F64)
    mu[:50] = 9.0
    y = torch.zeros(70_000).long()
    y[:50] = 1
    found = _labelled(mu, torch.full_like(mu, 2 * math.log(0.1)), y, samples=5000)
    assert found.labels.entropy == pytest.approx(0.005888, abs=5e-7)
    assert found.labels.lower.value == pytest.approx(0.005888, abs=1e-5)
    assert found.labels.dataset.value == pytest.approx(0.005888, abs=1e-6)
    # 50 members of the class say how frequent it is to one part in seven.
    told = found.label_information
    assert 0.7 * 0.005888 < told.lower < 0.005888 < told.upper < 1.3 * 0.005888
    assert found.labels_by_latent[0].dataset == pytest.approx(0.005888, abs=1e-5)


def test_the_interval_holds_the_entropy_of_classes_that_are_well_apart():
    p, n, held = 0.1, 300, 0
    entropy = -p * math.log(p) - (1 - p) * math.log1p(-p)
    t = interval_quantile(0.95, torch.arange(n))
    for seed in range(40):
        y = (torch.rand(n, generator=generator(seed)) < p).long()
        mu = 20.0 * y[:, None] + normal(n, 2, seed=100 + seed)
        bounds = _bounds(mu, torch.full_like(mu, -1.0), y, seed=seed)
        found = label_interval(bounds, UNKNOWN, told=True, t=t)
        held += found.lower - 1e-9 <= entropy <= found.upper + 1e-9
    # 40 intervals at 95%: fewer than 34 would come by chance 3.4 times in a thousand.
    assert held >= 34


@pytest.mark.parametrize("narrow", [1, 100])
def test_a_latent_too_narrow_for_float64_tells_no_more_than_the_entropy(narrow):
    y = torch.arange(100) % 2
    logvar = torch.zeros(100, 2, dtype=F64)
    logvar[:narrow] = -100.0
    for latent in _labelled(normal(100, 2, seed=8), logvar, y).labels_by_latent:
        assert -1e-12 <= latent.dataset <= math.log(2) + 1e-4


def test_each_latent_has_its_own_figure():
    y = torch.arange(2000) % 2
    mu = normal(2000, 3, seed=3)
    mu[:, 1] = 10.0 * y
    mu[:, 2] = 7.0
    found = _labelled(mu, torch.zeros_like(mu), y)
    by_latent = found.labels_by_latent
    assert by_latent[0].dataset < 0.01
    assert by_latent[1].dataset == pytest.approx(math.log(2), abs=1e-4)
    assert by_latent[2].dataset == 0.0
    lower = [latent.lower.value for latent in by_latent]
    assert lower == pytest.approx([0.0, math.log(2), 0.0], abs=0.004)


def test_labels_never_tell_more_than_their_entropy_and_the_order_of_rows_is_free():
    y = torch.arange(1000) % 5
    mu = normal(1000, 2, seed=4) + y[:, None]
    logvar = torch.full_like(mu, -2.0)
    found = _labelled(mu, logvar, y)
    assert found.labels.lower.value <= found.labels.entropy
    order = torch.randperm(1000, generator=generator(5))
    shuffled = _labelled(mu[order], logvar[order], y[order])
    a, b = found.labels.dataset, shuffled.labels.dataset
    assert abs(a.value - b.value) < 4 * math.hypot(a.standard_error, b.standard_error)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_class_of_one_row_or_a_single_class_stays_finite(n):
    y = torch.zeros(n).long()
    y[-1] = 2
    found = _labelled(normal(n, 2, seed=6), torch.zeros(n, 2, dtype=F64), y)
    assert math.isfinite(found.labels.lower.value)
    for latent in found.labels_by_latent:
        assert math.isfinite(latent.dataset)
        assert math.isfinite(latent.lower.value)


def test_labels_follow_their_rows_when_fewer_are_drawn():
    mu, logvar = independent(20.0, 5).sample(2000, seed=7)
    y = (torch.arange(2000) >= 1800).long()
    lower = _labelled(mu, logvar, y, samples=400).labels.lower
    assert lower.value <= 2 * lower.standard_error
    assert lower.value > -0.02
