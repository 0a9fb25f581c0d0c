"""The one door: what comes through is a table of finite Gaussians."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.errors import InvalidOption, NonFiniteOutput, WrongOutput
from latentgauge.posterior import Posterior, named_rows


def test_half_precision_outputs_come_out_as_float64():
    q = Posterior(torch.zeros(3, 2, dtype=torch.float16), torch.zeros(3, 2))
    assert q.mu.dtype == q.logvar.dtype == torch.float64
    assert (q.n, q.d) == (3, 2)


@pytest.mark.parametrize(
    ("second_output", "second"),
    [("logvar", -2.0), ("log_sigma", -1.0), ("sigma", math.exp(-1.0)), ("variance", math.exp(-2))],
)
def test_every_convention_gives_the_same_posterior(second_output, second):
    second = torch.full((4, 3), second, dtype=torch.float64)
    q = Posterior.from_outputs(torch.zeros(4, 3), second, second_output=second_output)
    assert torch.allclose(q.logvar, torch.tensor(-2.0, dtype=torch.float64), atol=1e-15)


def test_an_unknown_convention_is_refused_with_the_known_ones():
    with pytest.raises(InvalidOption, match="one of logvar, log_sigma, sigma, variance"):
        Posterior.from_outputs(torch.zeros(1, 1), torch.zeros(1, 1), second_output="precision")


@pytest.mark.parametrize("second_output", ["sigma", "variance"])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_width_that_is_not_positive_is_refused_naming_its_rows(second_output, low):
    second = torch.ones(5, 2)
    second[3, 1] = low
    with pytest.raises(WrongOutput, match=f"{second_output} is not above 0 in row 3 ") as refused:
        Posterior.from_outputs(torch.zeros(5, 2), second, second_output=second_output)
    assert "logvar or log_sigma" in refused.value.remedy


def test_rows_that_are_not_finite_are_named():
    mu, logvar = torch.zeros(100, 3), torch.zeros(100, 3)
    mu[17, 1], logvar[40, 0] = math.nan, math.inf
    with pytest.raises(NonFiniteOutput, match=r"rows 17, 40 \(counted from 0\) of 100"):
        Posterior(mu, logvar)


def test_a_non_finite_sigma_is_named_as_such_and_not_as_not_positive():
    second = torch.ones(3, 1)
    second[2] = math.nan
    with pytest.raises(NonFiniteOutput, match="row 2 "):
        Posterior.from_outputs(torch.zeros(3, 1), second, second_output="sigma")


def test_at_most_ten_rows_are_named():
    assert named_rows(torch.arange(12)) == "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    ("mu", "logvar", "said"),
    [
        (torch.zeros(4, 1), torch.zeros(4, 3), "differ in shape"),
        (torch.zeros(4), torch.zeros(4), "no table of rows and latents"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "no table of rows and latents"),
        (torch.zeros(2, 0), torch.zeros(2, 0), "no table of rows and latents"),
        (torch.zeros(2, 2, 2), torch.zeros(2, 2, 2), "no table of rows and latents"),
        (torch.zeros(2, 2), torch.zeros(2, 2).int(), "logvar is no floating-point tensor"),
        ([[0.0]], torch.zeros(1, 1), "mu is no floating-point tensor"),
        (torch.zeros(2, 2), torch.full((2, 2), 301.0), "values of no working encoder in rows 0, 1"),
        (
            torch.full((1, 1), 1e61, dtype=torch.float64),
            torch.zeros(1, 1),
            "values of no working encoder",
        ),
    ],
)
def test_what_is_no_posterior_is_refused_in_words(mu, logvar, said):
    with pytest.raises(WrongOutput, match=said):
        Posterior(mu, logvar)
