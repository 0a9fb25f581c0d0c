"""States, verdicts and the rules of papers."""

from __future__ import annotations

import pytest
import torch

from latentgauge.measures import dimensions as used
from tests.truth import F64, normal


@pytest.mark.parametrize(
    ("lower", "upper", "divergence", "expected"),
    [
        (0.02, 0.03, 0.0, "active"),
        (0.0, 0.01, 0.01, "collapsed"),
        (0.0, 0.01, 1.44, "off-prior"),
        (0.01, 0.02, 0.0, "undecided"),
        (0.0, None, 0.0, "undecided"),
    ],
)
def test_a_state_follows_from_the_interval(lower, upper, divergence, expected):
    assert used.state(lower, upper, divergence, threshold=0.01) == expected


@pytest.mark.parametrize(
    ("states", "upper", "expected"),
    [
        (["active", "active"], 9.0, "none"),
        (["active", "off-prior", "undecided"], 9.0, "partial"),
        (["active", "undecided"], 9.0, "undecided"),
        (["collapsed", "off-prior"], 0.02, "full"),
        (["collapsed", "collapsed"], 0.03, "undecided"),
        (["collapsed", "undecided"], 0.01, "undecided"),
        (["collapsed"], None, "undecided"),
    ],
)
def test_the_verdict_follows_the_rule(states, upper, expected):
    assert used.collapse_verdict(states, upper) == expected


def test_reasons_name_the_dimensions():
    states = ["active", "collapsed", "active", "off-prior", "undecided"]
    reasons = used.collapse_reasons(states, 3.0, threshold=0.01)
    assert reasons[0].startswith("2 of 5 dimensions carry more than 0.01 nats")
    assert reasons[0].endswith(": z0, z2")
    assert reasons[1].endswith(": z1")
    assert "not the prior: z3" in reasons[2]
    assert "contains 0.01 nats: z4" in reasons[3]
    assert "at most 3 nats" in reasons[4]
    assert "no known upper end" in used.collapse_reasons(states, None, threshold=0.01)[-1]


def test_long_lists_of_names_are_cut():
    assert used.named([f"z{j}" for j in range(14)]).endswith("z11 and 2 more")


def test_active_units_go_by_the_unbiased_variance_of_the_means():
    mu = torch.tensor([[0.0, 0.0], [0.14, 0.15]], dtype=F64)
    assert used.active_units(mu, threshold=0.01).tolist() == [False, True]
    assert used.active_units(mu[:1], threshold=0.01).tolist() == [False, False]


def test_the_lucas_curve_counts_dimensions_whose_kl_is_nearly_always_small():
    mu = torch.zeros(1000, 3, dtype=F64)
    mu[:5, 0] = 9.0
    mu[:20, 1] = 9.0
    mu[:, 2] = 2.0
    counts = used.lucas_counts(mu, torch.zeros_like(mu))
    assert len(counts) == len(used.LUCAS_EPSILONS) == 20
    assert used.LUCAS_EPSILONS[0] == pytest.approx(1e-3)
    assert used.LUCAS_EPSILONS[-1] == pytest.approx(10.0)
    assert counts[0] == 1
    assert next(c for e, c in zip(used.LUCAS_EPSILONS, counts, strict=True) if e > 2.0) == 2
    assert list(counts) == sorted(counts)


def test_variable_types_go_by_the_nearer_pole_in_nearly_all_rows():
    variance = torch.full((100, 3), 0.1, dtype=F64)
    variance[:, 1] = 0.9
    variance[:50, 2] = 0.9
    assert used.variable_types(variance.log()) == used.Types((0,), (2,), (1,))


def test_the_textbook_rule_misses_a_posterior_off_the_prior():
    assert used.textbook_collapse(torch.zeros(50, 2).double(), torch.zeros(50, 2).double())
    off = torch.full((50, 2), 1.5, dtype=F64)
    assert not used.textbook_collapse(off, torch.full_like(off, -1.386))
    assert not used.textbook_collapse(normal(50, 2, seed=0), torch.zeros(50, 2).double())
