"""Every figure is within its stated bound of the same figure in 80-bit arithmetic.

The references have 11 bits more than float64 (u = 2^-64) and follow the definitions: no expanded
square, no grid, no standardised table.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentgauge.analysis import Labels, Subject, analyse
from latentgauge.measures.decomposition import kl_rows
from latentgauge.measures.joint import Draws, Noise, Standardised, joint_sums
from latentgauge.measures.marginals import marginal
from latentgauge.measures.rounding import (
    additions,
    gamma,
    information_error,
    kl_error,
    latent_error,
    placement_error,
)
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import Environment, Inputs, Report
from tests.truth import F64, drawn, generator, normal

Table = tuple[Tensor, Tensor]
LD = np.longdouble
pytestmark = pytest.mark.skipif(
    np.finfo(LD).eps > 2.0**-60, reason="long double is no longer than double here"
)


def width(sigma: float, *shape: int) -> Tensor:
    return torch.full(shape, 2.0 * math.log(sigma), dtype=F64)


def _signs(n: int, d: int) -> Tensor:
    return 1e3 * normal(n, d, seed=3).sign()


def _constant_column() -> Table:
    mu, logvar = normal(100, 3, seed=8), 0.5 * normal(100, 3, seed=9) - 1.0
    mu[:, 1], logvar[:, 1] = 7.0, -1.0
    return mu, logvar


def _ratios() -> Table:
    narrow = torch.arange(100)[:, None] % 2 == 0
    logvar = torch.where(narrow, 2.0 * math.log(1e-8), 0.0).to(F64).expand(100, 2).clone()
    return normal(100, 2, seed=5), logvar


TABLES: dict[str, Table] = {
    "plain": (normal(200, 3, seed=1), 0.5 * normal(200, 3, seed=2) - 1.0),
    "duplicates": (_signs(100, 3), width(1e-6, 100, 3)),
    "nearly duplicates": (_signs(100, 3) + 1e-6 * normal(100, 3, seed=4), width(1e-6, 100, 3)),
    "offset": (1e4 + 2e-3 * normal(100, 3, seed=4), width(1e-3, 100, 3)),
    "sigma ratios": _ratios(),
    "two rows": (normal(2, 2, seed=6), normal(2, 2, seed=7)),
    "two far rows": (torch.tensor([[-1e8], [1e8]], dtype=F64), width(1.0, 2, 1)),
    "one row": (normal(1, 3, seed=6), normal(1, 3, seed=7)),
    "one latent": (2.0 * normal(150, 1, seed=6), 0.3 * normal(150, 1, seed=7)),
    "wide": (0.03 * normal(30, 1024, seed=6), 0.1 * normal(30, 1024, seed=7)),
    "a constant column": _constant_column(),
    "all rows equal": (normal(1, 3, seed=6).expand(50, 3), normal(1, 3, seed=7).expand(50, 3)),
    "below the digits": (1e3 * normal(100, 2, seed=1) // 100, width(1e-11, 100, 2)),
}
each = pytest.mark.parametrize("name", TABLES)


def _long(x: Tensor) -> Any:
    return x.numpy().astype(LD)


def _log_mixture(z: Any, mu: Any, logvar: Any) -> Any:
    """log q_N(z) for z [M, D], by the definition, a component at a time."""
    out = np.full(len(z), -np.inf, dtype=LD)
    for m, v in zip(mu, logvar, strict=True):
        square = (z - m) ** 2 / np.exp(v) + v + np.log(2 * LD(np.pi))
        out = np.logaddexp(out, -square.sum(axis=1) / 2)
    return out - np.log(LD(len(mu)))


def _information(mu: Tensor, logvar: Tensor, noise: Tensor) -> Any:
    """log q(z|x) - log q_N(z) of one draw of each row, [N]."""
    m, v, eps = _long(mu), _long(logvar), _long(noise)
    own = -((eps**2 + v + np.log(2 * LD(np.pi))).sum(axis=1)) / 2
    return own - _log_mixture(m + np.exp(v / 2) * eps, m, v)


def _alone(mu: Tensor, logvar: Tensor) -> float:
    """I_Nj by 8 Gauss-Legendre nodes between any two of mu_i + k sigma_i, k = -9 .. 9."""
    m, v = _long(mu)[:, None], _long(logvar)[:, None]
    ends = np.unique(m + np.exp(v / 2) * np.arange(LD(-9), LD(10)))
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = (ends[1:] - ends[:-1])[:, None] / 2
    z = (ends[:-1, None] + half * (1 + nodes.astype(LD))).ravel()[:, None]
    log_q = _log_mixture(z, m, v).reshape(len(half), 8)
    entropy = -((np.exp(log_q) * log_q) * half * weights).sum()
    return float(entropy - (v + 1 + np.log(2 * LD(np.pi))).mean() / 2)


def _rows(mu: Tensor, logvar: Tensor) -> tuple[Tensor, float]:
    """What each draw's term of I_N errs by, [N], and the bound on its mean."""
    table = Standardised.of(mu, logvar)
    draws = drawn(table, generator=generator(0))
    sums = joint_sums(table, draws, units=torch.arange(len(mu)))
    found = sums.own - (sums.log_all()[:, 0] - math.log(len(mu)))
    truth = torch.from_numpy(_information(mu, logvar, draws.noise).astype(float))
    return found - truth, information_error(table, draws)


@each
def test_the_kl_is_within_its_bound(name: str) -> None:
    mu, logvar = TABLES[name]
    m, v = _long(mu), _long(logvar)
    truth = (m**2 + np.expm1(v) - v).sum(axis=1).mean() / 2
    rows = torch.zeros(len(mu), dtype=F64)
    for column in kl_rows(mu, logvar).unbind(dim=1):
        rows += column
    found, bound = rows.mean(), kl_error(mu, logvar)
    assert abs(float(LD(float(found)) - truth)) <= bound
    # One rounding in a hundred or so of what was added, and D of the sum over latents.
    added = float((m**2 + abs(np.expm1(v)) + abs(v)).sum(axis=1).mean()) / 2
    assert bound <= (100 + mu.shape[1]) * 2.0**-53 * added * (1 + 1e-9)


@each
def test_the_joint_information_is_within_its_bound(name: str) -> None:
    errors, bound = _rows(*TABLES[name])
    # The references are rounded to float64 when they are taken off: of the size of log N.
    assert abs(float(errors.mean())) <= bound + 2.0**-50


@pytest.mark.parametrize("sigma", [1e-8, 1e-10, 1e-12])
def test_the_bound_is_of_the_size_of_a_draws_error(sigma: float) -> None:
    # Pairs whose members lie a sigma apart: each draw tells how far it is from both.
    mu = normal(50, 2, seed=1).repeat(2, 1) + sigma * normal(100, 2, seed=2)
    errors, bound = _rows(mu, width(sigma, 100, 2))
    mean = float(errors.abs().mean())
    assert mean <= bound <= 100 * mean


@pytest.mark.parametrize("name", [name for name in TABLES if name != "wide"])
def test_each_latents_information_is_within_its_bound(name: str) -> None:
    mu, logvar = TABLES[name]
    table, units = Standardised.of(mu, logvar), torch.arange(len(mu))
    noise = Noise.of(*mu.shape, generator=generator(0))
    for j in range(mu.shape[1]):
        alone = table.latent(j)
        draws = Draws.of_latent(alone, noise, j)
        found = marginal(alone, draws, 0, units=units, folds=units % 2)
        error = found.dataset - _alone(mu[:, j], logvar[:, j])
        # 1e-9: the reference's own nodes.
        assert abs(error) <= found.numerical_error + latent_error(alone) + 1e-9


def test_a_latent_whose_sigma_was_widened_says_what_that_may_hide() -> None:
    mu = torch.cat([torch.arange(99.0), torch.tensor([1e18])]).to(F64)[:, None]
    logvar = width(1e-3, 100, 1)
    table = Standardised.of(mu, logvar)
    draws = drawn(table, generator=generator(0))
    units = torch.arange(100)
    found = marginal(table, draws, 0, units=units, folds=units % 2)
    hidden = math.log(100) - found.dataset
    assert hidden > 4.0
    assert hidden <= found.numerical_error + latent_error(table)
    assert latent_error(Standardised.of(mu[:99], logvar[:99])) < 1e-9


def test_one_row_and_constant_latents_have_no_error() -> None:
    for name in ("one row", "all rows equal"):
        table = Standardised.of(*TABLES[name])
        assert latent_error(table.latent(0)) == 0.0
    one = Standardised.of(*TABLES["one row"])
    assert information_error(one, drawn(one, generator=generator(0))) == 0.0


def test_rounding_errors_add_up_as_lemma_3_1_says() -> None:
    assert gamma(10) == pytest.approx(10 * 2.0**-53, rel=1e-14)
    assert [additions(n) for n in (1, 2**16, 2**20)] == [3 * 16 + 1 + 16, 80, 3 * 32 + 32 + 16]


def test_the_placement_grows_with_the_distance_in_sigmas() -> None:
    mu = torch.tensor([[-1.0], [1.0]], dtype=F64)
    assert placement_error(mu, torch.zeros(2, 1, dtype=F64)) == pytest.approx(8 * 2.0**-53)
    assert placement_error(mu, torch.full((2, 1), -60.0, dtype=F64)) > 1e-4


def _report(mu: Tensor, logvar: Tensor, y: Tensor | None = None) -> Report:
    labels = None if y is None else Labels(y, ("a", "b"))
    subject = Subject(Posterior(mu, logvar), Inputs(), labels=labels)
    environment = Environment(
        device="cpu", sandbox="none", torch="-", python="-", platform="-", threads=1
    )
    return analyse(subject, options=Options(), environment=environment)


def _said(report: Report) -> dict[str, str]:
    return {x.where: x.message for x in report.warnings if x.code == "rounding"}


def test_the_report_gives_every_bound() -> None:
    mu, logvar = TABLES["plain"]
    report = _report(mu, logvar, torch.arange(200) % 2)
    bounds, latents = report.rounding, [x.rounding for x in report.dimensions]
    assert bounds.total_correlation == pytest.approx(bounds.information + sum(latents))
    assert bounds.dimensionwise_kl == pytest.approx(bounds.kl + sum(latents))
    assert bounds.marginal_kl == bounds.kl + bounds.information
    assert bounds.labels == 2.0 * bounds.information
    assert _said(report) == {}
    assert _report(mu, logvar).rounding.labels is None


def test_figures_whose_bound_is_too_large_are_named() -> None:
    said = _said(_report(1e9 * normal(50, 2, seed=1), width(1e-8, 50, 2)))
    for name in ("KL by", "the information by", "the total correlation by", "not given"):
        assert name in said["rounding"]
    assert said["dimensions"].endswith("nats: z0, z1")


def test_a_single_latent_is_named_alone_and_with_the_sums_that_hold_it() -> None:
    mu, logvar = normal(60, 2, seed=1), width(1.0, 60, 2)
    mu[0, 1] = 1e17
    logvar[:, 1] = -10.0
    said = _said(_report(mu, logvar))
    assert said["dimensions"].endswith("nats: z1")
    assert "the total correlation by" in said["rounding"]


def test_the_grids_of_many_latents_are_not_warned_of() -> None:
    mu, logvar = normal(60, 12, seed=1), 0.5 * normal(60, 12, seed=2) - 1.0
    report = _report(mu, logvar)
    assert report.rounding.total_correlation > 1e-4
    assert max(x.rounding for x in report.dimensions) < 1e-4
    assert _said(report) == {}
