"""A linear VAE's optimum, against its objective maximised numerically and against its table."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import optimize

from latentgauge.measures.forecast import forecast, largest
from latentgauge.measures.survey import survey
from tests.truth import F64, probabilistic_pca


def _optimum(eigenvalue: float, decoder_variance: float, beta: float) -> float:
    """I(x;z) where E log p(x|z) - beta KL is largest, for x ~ N(0, lambda) and one latent.

    q(z|x) = N(v x, t), p(x|z) = N(w z, s^2): the objective is a polynomial and a logarithm.
    """

    def loss(parameters: tuple[float, float, float]) -> float:
        w, v, log_t = parameters
        t = math.exp(log_t)
        distortion = (eigenvalue * (1.0 - w * v) ** 2 + w * w * t) / (2.0 * decoder_variance)
        return distortion + beta * 0.5 * (v * v * eigenvalue + t - 1.0 - log_t)

    starts = [(1.0, 0.5, -1.0), (0.1, 0.1, 0.0)]
    found = min((optimize.minimize(loss, x, tol=1e-12) for x in starts), key=lambda r: r.fun)
    _, v, log_t = found.x
    return 0.5 * math.log1p(v * v * eigenvalue / math.exp(log_t))


@pytest.mark.parametrize("eigenvalue", [0.3, 0.9, 1.6, 5.0])
@pytest.mark.parametrize(("variance", "beta"), [(1.0, 1.0), (0.5, 1.0), (0.5, 2.5), (0.2, 4.0)])
def test_the_forecast_is_the_optimum_of_the_objective(eigenvalue, variance, beta):
    told = forecast(torch.tensor([eigenvalue], dtype=F64), variance, beta=beta)
    # The optimiser stops at a slope of about 1e-6, where the objective is flat.
    assert told.total == pytest.approx(_optimum(eigenvalue, variance, beta), abs=2e-3)
    assert bool(told.alive) == (eigenvalue > beta * variance)


def test_the_values_of_the_textbook_spectrum():
    told = forecast(torch.tensor([4.0, 2.0, 1.5, 1.0, 0.5, 0.0], dtype=F64), 1.0)
    assert told.information.tolist() == pytest.approx([0.6931, 0.3466, 0.2027, 0, 0, 0], abs=5e-5)
    assert told.alive.tolist() == [True, True, True, False, False, False]
    assert told.total == pytest.approx(0.5 * math.log(12.0), abs=1e-12)


def test_the_limits_are_where_a_direction_dies_and_revives():
    spectrum = torch.tensor([4.0, 0.5], dtype=F64)
    told = forecast(spectrum, 1.0, beta=2.0)
    assert told.alive.tolist() == [True, False]
    for share, expected in ((0.999, True), (1.001, False)):
        for j in range(2):
            beta = share * float(told.beta_limit[j])
            assert bool(forecast(spectrum, 1.0, beta=beta).alive[j]) == expected
            variance = share * float(told.variance_limit[j])
            assert bool(forecast(spectrum, variance, beta=2.0).alive[j]) == expected


def test_a_table_of_the_optimum_measures_what_was_forecast():
    eigenvalues = [4.0, 2.0, 1.5, 0.8]
    mu, logvar = probabilistic_pca(eigenvalues, 1.0).sample(4000, seed=1)
    told = forecast(torch.tensor(eigenvalues, dtype=F64), 1.0)
    found = survey(mu, logvar)
    for interval, expected in zip(found.intervals, told.information.tolist(), strict=True):
        assert interval.lower - 1e-9 <= expected <= interval.upper + 1e-9
    assert found.information.lower <= told.total <= found.information.upper
    assert float(found.kl.mean()) == pytest.approx(told.total, abs=0.05)


def test_latents_take_the_largest_eigenvalues_wherever_they_stand():
    assert largest(torch.tensor([0.5, 3.0, 0.1, 2.0]), 3).tolist() == [1, 3, 0]
    assert largest(torch.tensor([1.0]), 5).tolist() == [0]
