"""Densities from the folds that do not hold a row: proper, and near the mixtures they mean."""

from __future__ import annotations

import math

import pytest
import torch

from latentgauge.measures.folds import (
    EachRest,
    RestDensity,
    class_log_densities,
    rest_density,
    widened_densities,
)
from tests.mixtures import brute_density, quadrature_nodes
from tests.truth import F64, generator, normal

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
    nodes, weights = quadrature_nodes(mu, var.sqrt())
    for fold in range(FOLDS):
        mass = _mass(rest_density(mu, var, folds, count=FOLDS), fold, nodes, weights)
        assert mass == pytest.approx(1.0, abs=1e-8)
    wide = widened_densities(mu, var, folds, count=FOLDS, bandwidths=BANDWIDTHS)
    for h, density in zip(BANDWIDTHS, wide, strict=True):
        for fold in range(FOLDS):
            own = mu[folds != fold].var(correction=0)
            nodes, weights = quadrature_nodes(mu, (var + h * h * own).sqrt())
            assert _mass(density, fold, nodes, weights) == pytest.approx(1.0, abs=1e-8)


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


@pytest.mark.parametrize("kind", ["equal", "spread", "narrow"])
def test_class_densities_are_those_of_the_other_folds_rows_of_the_class(kind):
    mu, var, folds = _case(kind, n=120)
    classes = torch.randint(0, 3, (120,), generator=generator(4))
    rows = torch.arange(0, 120, 2)
    z = (mu + var.sqrt() * normal(120, seed=5))[rows]
    found = class_log_densities(mu, var.log(), z, classes=classes, folds=folds, rows=rows)
    assert found.shape == (60, 3)
    for i, row in enumerate(rows.tolist()):
        for c in range(3):
            rest = (folds != folds[row]) & (classes == c)
            expected = float(brute_density(z[i : i + 1], mu[rest], var[rest]))
            if expected > 1e-3:
                assert float(found[i, c]) == pytest.approx(math.log(expected), abs=0.02)


def test_a_class_of_one_fold_has_no_density_there():
    mu, logvar = normal(40, seed=6), torch.zeros(40, dtype=F64)
    folds = torch.arange(40) % 4
    # Class 1 lies in fold 2 alone, and class 2 has no row at all.
    classes = torch.where(folds == 2, 1, 0)
    classes[0] = 3
    found = class_log_densities(mu, logvar, mu, classes=classes, folds=folds, rows=torch.arange(40))
    assert bool((found[:, 2] == -math.inf).all())
    assert bool(((found[:, 1] == -math.inf) == (folds == 2)).all())
    assert bool(((found[:, 3] == -math.inf) == (folds == 0)).all())


def test_a_row_changes_no_class_density_of_its_own_fold():
    mu, logvar, _ = _case("equal")
    folds, classes = torch.arange(90) % FOLDS, torch.arange(90) % 2
    rows = (folds == 0).nonzero().flatten()
    z = mu[rows]
    setting = {"classes": classes, "folds": folds, "rows": rows}
    before = class_log_densities(mu, logvar.log(), z, **setting)
    # The outermost rows of a class stay, so that its grid does.
    edge = torch.zeros(90, dtype=torch.bool)
    for c in range(2):
        mine = (classes == c).nonzero().flatten()
        edge[mine[mu[mine].argmin()]] = edge[mine[mu[mine].argmax()]] = True
    moved = torch.where((folds == 0) & ~edge, 0.1, mu)
    after = class_log_densities(moved, logvar.log(), z, **setting)
    assert torch.allclose(before.exp(), after.exp(), rtol=0.0, atol=1e-12)
