"""Densities from the folds that do not hold a row: proper, and near the mixtures they mean."""

from __future__ import annotations

import pytest
import torch

from latentgauge.measures.folds import (
    EachRest,
    RestDensity,
    rest_density,
    widened_densities,
)
from tests.mixtures import brute_density, quadrature_nodes
from tests.truth import F64, normal

FOLDS = 3
BANDWIDTHS = (0.03, 0.3, 1.0)


def _case(kind: str, n: int = 90) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mu, spread = normal(n, seed=0), normal(n, seed=1)
    var = {
        "equal": torch.full((n,), 0.05, dtype=F64),
        "spread": (spread - 3.0).exp(),
        # Too far apart for one grid, and then for the widened mixtures' grid too.
        "narrow": torch.where(torch.arange(n) % 4 == 0, 1e-14, 0.2).double(),
        "far apart": (6.0 * spread - 12.0).exp(),
    }[kind]
    if kind == "far apart":
        mu[0] = 1e7
    return mu, var, torch.arange(n) % FOLDS


KINDS = ["equal", "spread", "narrow", "far apart"]


def _mass(density: RestDensity, fold: int, nodes: torch.Tensor, weights: torch.Tensor) -> float:
    return float((density.at(nodes, torch.full((len(nodes),), fold)) * weights).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_each_density_behind_a_bound_holds_at_most_the_mass_one(kind):
    mu, var, folds = _case(kind)
    spread = float(mu.var(correction=0))
    nodes, weights = quadrature_nodes(mu, var.sqrt())
    for fold in range(FOLDS):
        mass = _mass(rest_density(mu, var, folds, count=FOLDS), fold, nodes, weights)
        assert mass == pytest.approx(1.0, abs=2e-5)
    wide = widened_densities(mu, var, folds, count=FOLDS, bandwidths=BANDWIDTHS)
    for h, density in zip(BANDWIDTHS, wide, strict=True):
        # Every fold's spread is within these factors of the whole's, or the row at 1e7 is held out.
        for fold in range(FOLDS):
            own = mu[folds != fold].var(correction=0)
            nodes, weights = quadrature_nodes(mu, (var + h * h * own).sqrt())
            assert _mass(density, fold, nodes, weights) == pytest.approx(1.0, abs=2e-5), (h, spread)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rest_density_is_the_mixture_of_the_other_folds(kind):
    mu, var, folds = _case(kind)
    z = mu + var.sqrt() * normal(len(mu), seed=2)
    found = rest_density(mu, var, folds, count=FOLDS).at(z, folds)
    wide = widened_densities(mu, var, folds, count=FOLDS, bandwidths=BANDWIDTHS)
    for fold in range(FOLDS):
        mine, rest = folds == fold, folds != fold
        expected = brute_density(z[mine], mu[rest], var[rest])
        # Coarse: a thousandth of what is there, and of a typical density.
        small = 1e-3 * float(expected.median())
        assert torch.allclose(found[mine], expected, rtol=2e-3, atol=small)
        for h, density in zip(BANDWIDTHS, wide, strict=True):
            added = h * h * mu[rest].var(correction=0)
            expected = brute_density(z[mine], mu[rest], var[rest] + added)
            small = 1e-3 * float(expected.median())
            assert torch.allclose(density.at(z, folds)[mine], expected, rtol=2e-3, atol=small)


@pytest.mark.parametrize("kind", ["equal", "spread", "narrow"])
def test_a_row_leaves_no_trace_where_only_it_reaches(kind):
    """A trace of 1e-17 would read 39 nats above nothing: less than a distant row may cost."""
    mu, var, folds = _case(kind)
    mu[0] = 200.0
    z, fold = mu[:1], folds[:1]
    assert rest_density(mu, var, folds, count=FOLDS).at(z, fold).tolist() == [0.0]
    for density in widened_densities(mu, var, folds, count=FOLDS, bandwidths=BANDWIDTHS):
        assert density.at(z, fold).tolist() == [0.0]


def test_many_rows_leave_no_trace_where_a_few_others_do_not_reach():
    mu = torch.cat([torch.full((100_000,), 50.0, dtype=F64), normal(4, seed=7)])
    folds = torch.cat([torch.zeros(100_000), torch.ones(4)]).long()
    density = rest_density(mu, torch.full_like(mu, 0.05), folds, count=2)
    assert density.at(mu[:1], folds[:1]).tolist() == [0.0]


def test_a_fold_that_holds_every_row_leaves_no_density():
    mu, var, folds = normal(10, seed=3), torch.ones(10, dtype=F64), torch.zeros(10).long()
    density = rest_density(mu, var, folds, count=2)
    assert density.at(torch.zeros(2, dtype=F64), torch.tensor([0, 1])).tolist()[0] == 0.0
    apart = EachRest((None, None))
    assert apart.at(torch.zeros(2, dtype=F64), torch.tensor([0, 0])).tolist() == [0.0, 0.0]
