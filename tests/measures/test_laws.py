"""What holds for every code: laws on random tables, and tables at the edge of float64.

KL, I_Nj and their sums do not depend on the draws, so their laws hold but for rounding and the
grid (1e-5). I_N is a mean over draws, and other rows or latents get other noise: its laws hold
within four of its standard errors, unless the table keeps its shape and order.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentgauge.analysis import Subject, analyse
from latentgauge.measures.joint import Standardised, joint_sums
from latentgauge.measures.survey import Survey, survey
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import Environment, Inputs
from tests.truth import F64, brute_log_q, clusters, drawn, generator, normal

ENVIRONMENT = Environment(
    device="cpu", sandbox="none", torch="-", python="-", platform="-", threads=1
)
GRID = 1e-5
ROWS = 150

# The same examples every time: a law within errors is broken now and then by chance.
few = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
seeds = st.integers(0, 2**20)
latents = st.integers(1, 4)


def _table(seed: int, d: int, *, n: int = ROWS) -> tuple[Tensor, Tensor]:
    """Correlated means, and widths that differ by row: 0 to about 3 nats a latent."""
    mu = normal(n, d, seed=seed) @ normal(d, d, seed=seed + 1)
    return mu, 0.5 * normal(n, d, seed=seed + 2) + 2.0 * normal(d, seed=seed + 3) - 1.0


def _alone(found: Survey) -> list[float]:
    return [m.dataset for m in found.latents]


def _differ_by_noise(a: Survey, b: Survey) -> bool:
    error = math.hypot(a.joint.dataset.standard_error, b.joint.dataset.standard_error)
    return abs(a.joint.dataset.value - b.joint.dataset.value) <= 1e-9 + 4 * error


@few
@given(seeds, latents)
def test_the_order_of_rows_is_free(seed, d):
    mu, logvar = _table(seed, d)
    order = torch.randperm(ROWS, generator=generator(seed))
    base, other = survey(mu, logvar), survey(mu[order], logvar[order])
    assert _alone(other) == pytest.approx(_alone(base), abs=1e-9)
    assert torch.allclose(other.kl, base.kl[order], rtol=1e-14)
    assert _differ_by_noise(base, other)


@few
@given(seeds, st.integers(2, 4))
def test_the_order_of_latents_is_free(seed, d):
    mu, logvar = _table(seed, d)
    order = torch.randperm(d, generator=generator(seed))
    base, other = survey(mu, logvar), survey(mu[:, order], logvar[:, order])
    assert _alone(other) == pytest.approx([_alone(base)[j] for j in order], abs=1e-9)
    assert torch.allclose(other.kl, base.kl, rtol=1e-14)
    moved = [base.latents[j].kl.value for j in order]
    assert [x.kl.value for x in other.latents] == pytest.approx(moved, rel=1e-14)
    assert _differ_by_noise(base, other)


@few
@given(seeds, latents, st.floats(-6.0, 6.0), st.floats(-1e4, 1e4))
def test_moving_and_stretching_a_latent_with_its_sigma_keeps_all_but_the_kl(seed, d, power, shift):
    mu, logvar = _table(seed, d)
    base = survey(mu, logvar)
    a = 10.0**power
    # The shift is in the latent's new units: more would cost digits that the table cannot hold.
    moved, widened = mu.clone(), logvar.clone()
    moved[:, 0], widened[:, 0] = a * (mu[:, 0] + shift), logvar[:, 0] + 2.0 * math.log(a)
    other = survey(moved, widened)
    assert _alone(other) == pytest.approx(_alone(base), abs=GRID)
    # The same noise on a table of the same shape: only rounding is left.
    assert other.joint.dataset.value == pytest.approx(base.joint.dataset.value, abs=GRID)


@few
@given(seeds, latents, st.integers(2, 3))
def test_repeating_the_data_keeps_what_is_said_of_it(seed, d, times):
    mu, logvar = _table(seed, d)
    units = torch.arange(ROWS).repeat(times)
    once = survey(mu, logvar)
    more = survey(mu.repeat(times, 1), logvar.repeat(times, 1), units=units, copies=units)
    assert _alone(more) == pytest.approx(_alone(once), abs=1e-9)
    assert float(more.kl.mean()) == pytest.approx(float(once.kl.mean()), rel=1e-12)
    assert more.ceiling == pytest.approx(once.ceiling, abs=1e-12)
    assert _differ_by_noise(once, more)


@few
@given(st.integers(2, 7), st.integers(1, 4))
def test_each_copy_of_a_latent_adds_its_information_to_the_total_correlation(k, d):
    # Far-apart clusters: one look at the latent says all, so I stays log k whatever the copies.
    found = survey(*clusters(k, 120 // k, d))
    information = found.joint.dataset.value
    assert information == pytest.approx(math.log(k), abs=1e-9)
    assert math.fsum(_alone(found)) - information == pytest.approx((d - 1) * math.log(k), abs=GRID)


@few
@given(seeds, st.integers(2, 4), st.floats(-3.0, 1.0))
def test_turning_a_code_of_equal_sigmas_keeps_its_information(seed, d, log_variance):
    mu, _ = _table(seed, d)
    logvar = torch.full_like(mu, log_variance)
    turn = torch.linalg.qr(normal(d, d, seed=seed + 9)).Q
    assert _differ_by_noise(survey(mu, logvar), survey(mu @ turn, logvar))


@few
@given(seeds, latents, st.floats(0.1, 3.0))
def test_added_noise_takes_information_away(seed, d, sigma):
    mu, logvar = _table(seed, d)
    clear, blurred = survey(mu, logvar), survey(mu, (logvar.exp() + sigma**2).log())
    for before, after in zip(_alone(clear), _alone(blurred), strict=True):
        assert after <= before + GRID
    error = math.hypot(clear.joint.dataset.standard_error, blurred.joint.dataset.standard_error)
    assert blurred.joint.dataset.value <= clear.joint.dataset.value + 4 * error


@few
@given(seeds, st.integers(2, 4))
def test_a_part_of_the_code_tells_no_more_than_the_code(seed, d):
    mu, logvar = _table(seed, d)
    whole, part = survey(mu, logvar), survey(mu[:, 1:], logvar[:, 1:])
    error = math.hypot(whole.joint.dataset.standard_error, part.joint.dataset.standard_error)
    assert part.joint.dataset.value <= whole.joint.dataset.value + 4 * error
    for alone in _alone(whole):
        assert alone <= whole.joint.dataset.value + GRID + 4 * whole.joint.dataset.standard_error


@few
@given(seeds, latents, st.integers(2, 5))
def test_the_code_tells_no_more_of_labels_than_their_entropy_and_its_own_information(seed, d, k):
    mu, logvar = _table(seed, d)
    y = torch.randint(k, (ROWS,), generator=generator(seed))
    assume(int(torch.bincount(y, minlength=k).min()) > 0)
    found = survey(mu, logvar, classes=y)
    told, labels = found.label_information, found.labels
    assert 0.0 <= told.lower <= told.upper <= math.log(k)
    assert told.upper <= found.information.upper
    assert all(x.dataset <= labels.entropy + GRID for x in found.labels_by_latent)
    spread = 4 * labels.dataset.standard_error
    assert labels.dataset.value <= min(labels.entropy, found.joint.dataset.value) + GRID + spread


@few
@given(seeds, latents, st.sampled_from([1e-6, 1e-3, 1.0, 1e3]), st.floats(-1e4, 1e4))
def test_the_parts_of_the_kl_add_up(seed, d, scale, offset):
    mu, logvar = _table(seed, d, n=60)
    posterior = Posterior(scale * mu + offset, logvar + 2.0 * math.log(scale))
    report = analyse(Subject(posterior, Inputs()), options=Options(), environment=ENVIRONMENT)
    parts = report.dataset_decomposition
    kl = parts.kl.value
    total = parts.information.value + parts.total_correlation.value + parts.dimensionwise_kl.value
    assert abs(kl - total) <= 1e-9 * max(1.0, kl)
    assert kl == pytest.approx(math.fsum(x.kl.value for x in report.dimensions), rel=1e-12)
    for x in report.dimensions:
        apart = x.mutual_information.value + x.dimensionwise_kl.value
        assert abs(x.kl.value - apart) <= 1e-9 * max(1.0, x.kl.value)


# At the edge of float64. The data set's figures, against the definition: the differences of
# means are taken before any noise is added, so nothing is lost however far out the code lies.

REPEATS = 60


def _direct(mu: Tensor, logvar: Tensor, *, seed: int = 77) -> tuple[float, float]:
    """I_N from the definition in float64 with fresh noise, and its standard error."""
    sigma = (0.5 * logvar).exp()
    apart, found = mu[:, None] - mu, []
    for turn in range(REPEATS):
        eps = normal(*mu.shape, seed=seed + turn)
        t = (apart + (sigma * eps)[:, None]) / sigma
        log_ratio = -0.5 * (t.square() + logvar - eps.square()[:, None] - logvar[:, None]).sum(2)
        found.append(math.log(len(mu)) - torch.logsumexp(log_ratio, dim=1).mean())
    means = torch.stack(found)
    return float(means.mean()), float(means.std()) / math.sqrt(REPEATS)


def _near_duplicates() -> tuple[Tensor, Tensor]:
    sign = torch.where(normal(200, 2, seed=1) > 0, 1e3, -1e3).double()
    return sign + 1e-6 * normal(200, 2, seed=2), torch.full((200, 2), math.log(1e-12), dtype=F64)


def _far_out() -> tuple[Tensor, Tensor]:
    return 1e4 + 1e-3 * normal(200, 3, seed=3), torch.full((200, 3), math.log(1e-6), dtype=F64)


def _wild_widths() -> tuple[Tensor, Tensor]:
    """sigma from 1e-4 to 1e4 by row, the same in each latent."""
    power = 8.0 * torch.rand(200, 1, generator=generator(4), dtype=F64) - 4.0
    return normal(200, 2, seed=5), (2.0 * math.log(10.0) * power).expand(-1, 2).clone()


def _wild_latents() -> tuple[Tensor, Tensor]:
    """One latent a hundred million times as wide as the other."""
    sigma = torch.tensor([1e-4, 1e4], dtype=F64)
    return sigma * normal(200, 2, seed=6), (2.0 * sigma.log()).expand(200, 2).clone()


def _one_latent() -> tuple[Tensor, Tensor]:
    return normal(200, 1, seed=7), 0.5 * normal(200, 1, seed=8)


STRESS = {
    "near-duplicates": _near_duplicates,
    "offset": _far_out,
    "widths by row": _wild_widths,
    "widths by latent": _wild_latents,
    "one latent": _one_latent,
}


@pytest.mark.parametrize("case", STRESS)
def test_an_odd_code_has_its_information_by_the_definition(case):
    mu, logvar = STRESS[case]()
    found = survey(mu, logvar)
    assert found.joint_known
    right, error = _direct(mu, logvar)
    value = found.joint.dataset
    assert abs(value.value - right) <= GRID + 4 * math.hypot(error, value.standard_error)
    for j, alone in enumerate(_alone(found)):
        right, error = _direct(mu[:, j : j + 1], logvar[:, j : j + 1])
        assert abs(alone - right) <= 1e-4 + 4 * error


def test_one_row_tells_nothing():
    found = survey(normal(1, 3, seed=9), normal(1, 3, seed=10))
    assert (found.joint.dataset.value, _alone(found)) == (0.0, [0.0, 0.0, 0.0])
    assert (found.information.lower, found.information.upper) == (0.0, None)


@pytest.mark.parametrize("apart", [0.0, 1.0, 1e6])
def test_two_rows_tell_at_most_log_two(apart):
    mu = torch.tensor([[0.0], [apart]], dtype=F64)
    found = survey(mu, torch.zeros_like(mu))
    right, error = _direct(mu, torch.zeros_like(mu))
    (alone,) = _alone(found)
    assert abs(alone - right) <= GRID + 4 * error
    assert 0.0 <= alone <= math.log(2) + 1e-12
    assert found.joint.dataset.value <= math.log(2) + 1e-12


def test_equal_rows_tell_nothing():
    mu, logvar = normal(1, 3, seed=11).expand(100, 3), normal(1, 3, seed=12).expand(100, 3)
    found = survey(mu.clone(), logvar.clone())
    assert abs(found.joint.dataset.value) <= 1e-9
    assert _alone(found) == [0.0, 0.0, 0.0]
    assert found.information.upper <= 1e-8


def test_a_constant_latent_adds_nothing():
    mu, logvar = _table(13, 2)
    more = torch.cat([mu, torch.full((ROWS, 1), 1e6, dtype=F64)], dim=1)
    widths = torch.cat([logvar, torch.full((ROWS, 1), -20.0, dtype=F64)], dim=1)
    base, other = survey(mu, logvar), survey(more, widths)
    assert _alone(other) == pytest.approx([*_alone(base), 0.0], abs=1e-9)
    assert _differ_by_noise(base, other)


def test_a_thousand_latents_keep_their_digits():
    mu, logvar = normal(60, 1024, seed=14), 0.2 * normal(60, 1024, seed=15)
    mu, logvar = 0.05 * mu, 0.05 * logvar
    table = Standardised.of(mu, logvar)
    draws = drawn(table, generator=generator(16), samples=60)
    others = joint_sums(table, draws, units=torch.arange(60)).others[:, 0]
    log_q = brute_log_q(draws.z, table.mu, table.logvar)
    log_q.fill_diagonal_(-math.inf)
    assert torch.allclose(others, torch.logsumexp(log_q, dim=1), rtol=0.0, atol=1e-8)
