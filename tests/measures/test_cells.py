"""Kernel mixtures of a shape of their own equal the mixtures that they are said to be."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from latentgauge.measures.cells import BANDWIDTH, CellKernels, Cells, cell_count, nearest
from latentgauge.measures.local_kernels import SHAPES, SUMMED, local_kernels
from latentgauge.measures.pairs import log_sums
from tests.truth import F64, generator, normal

CPU = torch.device("cpu")


def _curve(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means along a curve in the plane, widths that differ."""
    u = normal(n, 1, seed=seed)
    return torch.cat([u, u.square()], dim=1), 0.01 * (1.0 + normal(n, 2, seed=seed + 1).square())


def _kernels(z: torch.Tensor, *, n: int, q: int) -> tuple[CellKernels, Cells]:
    x, var = _curve(n, seed=0)
    cells = Cells.of(x, torch.randperm(n, generator=generator(1))[: cell_count(n, 2)], q=q)
    return CellKernels.of(z, x, var, cells, q=q, device=CPU), cells


def _log_density(z: torch.Tensor, *, n: int, q: int) -> torch.Tensor:
    kernels, _ = _kernels(z, n=n, q=q)
    reference = torch.zeros(len(z), dtype=F64)
    return log_sums(kernels.stripes(), reference)[:, 0] - math.log(n)


def test_a_mean_sits_in_its_nearest_cell_and_a_cell_knows_its_neighbours():
    x, _ = _curve(300, seed=0)
    _, cells = _kernels(x, n=300, q=40)
    assert cells.near.shape == (30, 40)
    assert len(torch.unique(cells.cell)) > 15
    d = torch.cdist(x, x)
    assert torch.equal(
        nearest(x, x, 5).sort(dim=1).values, d.topk(5, largest=False).indices.sort().values
    )


def test_cells_give_the_mixture_of_their_kernels():
    z, (x, var) = 0.5 * normal(50, 2, seed=3), _curve(300, seed=0)
    _, cells = _kernels(z, n=300, q=40)
    expected = []
    for k in range(len(cells.near)):
        around = x[cells.near[k]]
        mean, noise = around.mean(dim=0), var[cells.near[k]].mean(dim=0)
        covariance = BANDWIDTH**2 * torch.cov(around.T) + torch.diag(noise)
        for j in (cells.cell == k).nonzero().flatten():
            centre = mean + math.sqrt(1 - BANDWIDTH**2) * (x[j] - mean)
            expected.append(MultivariateNormal(centre, covariance).log_prob(z))
    assert len(expected) == 300
    mixture = torch.logsumexp(torch.stack(expected), dim=0) - math.log(300)
    assert torch.allclose(_log_density(z, n=300, q=40), mixture, atol=1e-9)


@pytest.mark.parametrize("n", [12, 300])
def test_the_mixture_of_cells_is_a_density(n):
    side = torch.linspace(-9.0, 18.0, 700, dtype=F64)
    z = torch.cartesian_prod(side, side)
    total = _log_density(z, n=n, q=min(40, n)).exp().sum() * (side[1] - side[0]).square()
    # Even points far closer than a kernel is wide: the sum is the integral.
    assert float(total) == pytest.approx(1.0, abs=1e-4)


def test_a_cell_of_many_means_is_cut_into_pieces():
    x = torch.cat([normal(2000, 2, seed=4), 1e3 + normal(20, 2, seed=5)])
    var, z = torch.full_like(x, 0.1), normal(10, 2, seed=6)
    cells = Cells.of(x, torch.tensor([0, 2000]), q=20)
    assert torch.bincount(cells.cell).tolist() == [2000, 20]
    kernels = CellKernels.of(z, x, var, cells, q=20, device=CPU)
    whole = log_sums(kernels.stripes(), torch.zeros(10, dtype=F64))[:, 0]
    mean, noise = x[cells.near[0]].mean(dim=0), torch.full((2,), 0.1, dtype=F64)
    covariance = BANDWIDTH**2 * torch.cov(x[cells.near[0]].T) + torch.diag(noise)
    centres = mean + math.sqrt(1 - BANDWIDTH**2) * (x[:2000] - mean)
    each = MultivariateNormal(centres, covariance).log_prob(z[:, None])
    assert torch.allclose(whole, torch.logsumexp(each, dim=1), atol=1e-9)


def test_a_draw_far_from_every_cell_is_summed_with_its_maximum():
    z = torch.tensor([[1e4, -1e4]], dtype=F64)
    far = _log_density(z, n=100, q=30)
    assert bool(far.isfinite().all())
    assert float(far) < -1e6


def test_cells_are_as_many_as_rows_and_memory_allow():
    assert (cell_count(5, 2), cell_count(1000, 2), cell_count(10**6, 16)) == (1, 100, 400)
    assert cell_count(10**6, 1024) == 8


def test_local_kernels_give_the_mixture_of_all_kernels_when_all_are_summed():
    n = SUMMED
    z, (x, var) = normal(20, 2, seed=7), _curve(n, seed=8)
    found = local_kernels(z, x, var, scale=torch.ones(2, dtype=F64))
    for s, shape in enumerate(SHAPES):
        expected = []
        for j in range(n):
            around = x[
                torch.cdist(x[j, None], x)[0].topk(min(shape.k, n // 8), largest=False).indices
            ]
            covariance = shape.h**2 * torch.cov(around.T) + torch.diag(var[j])
            a = math.sqrt(1 - shape.h**2) if shape.pulled else 1.0
            centre = (1 - a) * around.mean(dim=0) + a * x[j]
            expected.append(MultivariateNormal(centre, covariance).log_prob(z))
        mixture = torch.logsumexp(torch.stack(expected), dim=0) - math.log(n)
        assert torch.allclose(found[:, s], mixture, atol=1e-9)


def test_kernels_left_out_only_take_away():
    z, (x, var) = normal(50, 2, seed=9), _curve(400, seed=10)
    scale = torch.ones(2, dtype=F64)
    some = local_kernels(z, x, var, scale=scale)
    side = torch.linspace(-9.0, 18.0, 500, dtype=F64)
    grid = torch.cartesian_prod(side, side)
    total = local_kernels(grid, x, var, scale=scale).exp().sum(dim=0) * (side[1] - side[0]).square()
    assert bool((total <= 1.0 + 1e-4).all())
    assert bool((total > 0.7).all())
    assert bool(some.isfinite().all())
