"""Kernel mixtures of a shape of their own equal the mixtures that they are said to be."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from latentgauge.measures.cells import (
    LARGEST,
    CellKernels,
    Cells,
    Expanded,
    Shapes,
    Whitened,
    cell_count,
    nearest,
)
from latentgauge.measures.local_kernels import SHAPES, SUMMED, _Pairs, local_kernels
from latentgauge.measures.pairs import log_sums
from latentgauge.measures.survey import survey
from tests.truth import F64, generator, normal

CPU, BANDWIDTH = torch.device("cpu"), 0.8


def _curve(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means along a curve in the plane, widths that differ."""
    u = normal(n, 1, seed=seed)
    return torch.cat([u, u.square()], dim=1), 0.01 * (1.0 + normal(n, 2, seed=seed + 1).square())


def _cells(n: int, q: int) -> Cells:
    x, _ = _curve(n, seed=0)
    return Cells.of(
        x, torch.randperm(n, generator=generator(1))[: cell_count(n, 2)], members=x, q=q
    )


def _log_density(
    z: torch.Tensor, *, n: int, q: int, own: torch.Tensor | None = None
) -> torch.Tensor:
    (x, var), cells = _curve(n, seed=0), _cells(n, q)
    shapes = Shapes.of(x[cells.near], var[cells.near].mean(dim=1), h=BANDWIDTH)
    own = torch.full((len(z),), -1) if own is None else own
    kernels = CellKernels.of(z, x, cells.members, shapes, own=own, device=CPU)
    return log_sums(kernels.stripes(), torch.zeros(len(z), dtype=F64))[:, 0] - math.log(n)


def _kernel_by_kernel(z: torch.Tensor, *, n: int, q: int) -> torch.Tensor:
    """[m, n]: log of each mean's kernel at z, by torch's own normal."""
    (x, var), cells = _curve(n, seed=0), _cells(n, q)
    out = torch.full((len(z), n), math.nan, dtype=F64)
    for k, members in enumerate(cells.members):
        around = x[cells.near[k]]
        mean, noise = around.mean(dim=0), var[cells.near[k]].mean(dim=0)
        covariance = BANDWIDTH**2 * torch.cov(around.T) + torch.diag(noise)
        for j in members:
            centre = mean + math.sqrt(1 - BANDWIDTH**2) * (x[j] - mean)
            out[:, j] = MultivariateNormal(centre, covariance).log_prob(z)
    return out


def test_a_mean_sits_in_one_cell_and_a_cell_knows_its_neighbours():
    x, _ = _curve(300, seed=0)
    cells = _cells(300, 40)
    assert cells.near.shape == (30, 40)
    assert torch.cat(cells.members).sort().values.tolist() == list(range(300))
    assert sum(len(members) > 0 for members in cells.members) > 15
    brute = torch.cdist(x, x).topk(5, largest=False).indices
    assert torch.equal(nearest(x, x, 5).sort(dim=1).values, brute.sort(dim=1).values)


def test_cells_give_the_mixture_of_their_kernels():
    z = 0.5 * normal(50, 2, seed=3)
    mixture = torch.logsumexp(_kernel_by_kernel(z, n=300, q=40), dim=1) - math.log(300)
    assert torch.allclose(_log_density(z, n=300, q=40), mixture, atol=1e-9)


def test_a_draw_is_not_told_by_its_own_row():
    own = torch.arange(200)
    own[50:60] = -1
    z = _curve(300, seed=0)[0][:200] + 0.01
    each = _kernel_by_kernel(z, n=300, q=40)
    each[torch.arange(200)[own >= 0], own[own >= 0]] = -math.inf
    mixture = torch.logsumexp(each, dim=1) - math.log(300)
    assert torch.allclose(_log_density(z, n=300, q=40, own=own), mixture, atol=1e-9)


@pytest.mark.parametrize("n", [12, 300])
def test_the_mixture_of_cells_is_a_density(n):
    side = torch.linspace(-9.0, 18.0, 300, dtype=F64)
    z = torch.cartesian_prod(side, side)
    total = _log_density(z, n=n, q=min(40, n)).exp().sum() * (side[1] - side[0]).square()
    # Even points far closer than a kernel is wide: the sum is the integral.
    assert float(total) == pytest.approx(1.0, abs=1e-4)


def test_a_cell_of_many_means_is_cut_into_pieces():
    x = torch.cat([normal(2000, 2, seed=4), 1e3 + normal(20, 2, seed=5)])
    var, z = torch.full_like(x, 0.1), normal(10, 2, seed=6)
    cells = Cells.of(x, torch.tensor([0, 2000]), members=x, q=20)
    members = cells.members
    assert [len(each) for each in members] == [2000, 20]
    shapes = Shapes.of(x[cells.near], var[cells.near].mean(dim=1), h=BANDWIDTH)
    nobody = torch.full((10,), -1)
    kernels = CellKernels.of(z, x, members, shapes, own=nobody, device=CPU)
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


def _local(z: torch.Tensor, n: int, **given: torch.Tensor) -> torch.Tensor:
    x, var = _curve(n, seed=8)
    own, shaping = torch.full((len(z),), -1), torch.arange(n)
    given = {"own": own, "shaping": shaping, "scale": torch.ones(2, dtype=F64), **given}
    return local_kernels(z, x, var, **given)


def test_local_kernels_give_the_mixture_of_all_kernels_when_all_are_summed():
    n = SUMMED
    z, (x, var) = normal(20, 2, seed=7), _curve(n, seed=8)
    own = torch.arange(20) - 1
    shaping = torch.arange(10, n)
    found = _local(z, n, own=own, shaping=shaping)
    for s, shape in enumerate(SHAPES):
        expected = torch.empty(20, n, dtype=F64)
        for j in range(n):
            near = torch.cdist(x[j, None], x[shaping])[0].topk(
                min(shape.k, len(shaping) // 8), largest=False
            )
            around = x[shaping][near.indices]
            covariance = shape.h**2 * torch.cov(around.T) + torch.diag(var[j])
            a = math.sqrt(1 - shape.h**2) if shape.pulled else 1.0
            centre = (1 - a) * around.mean(dim=0) + a * x[j]
            expected[:, j] = MultivariateNormal(centre, covariance).log_prob(z)
        expected[torch.arange(1, 20), own[1:]] = -math.inf
        assert torch.allclose(found[:, s], torch.logsumexp(expected, dim=1), atol=1e-9)


def test_kernels_left_out_only_take_away():
    side = torch.linspace(-9.0, 18.0, 300, dtype=F64)
    grid = torch.cartesian_prod(side, side)
    total = _local(grid, 400).exp().sum(dim=0) * (side[1] - side[0]).square() / 400
    assert bool((total <= 1.0 + 1e-4).all())
    assert bool((total > 0.7).all())


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("sigma", [1e-3, 1e-7])
def test_narrow_kernels_keep_their_digits_however_they_are_multiplied_out(sigma, count):
    x = torch.rand(60, 2, dtype=F64, generator=generator(11))
    var = torch.full_like(x, sigma**2)
    cells = Cells.of(x, torch.arange(count), members=x, q=1)
    shapes = Shapes.of(x[cells.near], var[cells.near].mean(dim=1), h=BANDWIDTH)
    z = x[:20] * math.sqrt(1 - BANDWIDTH**2) + sigma * normal(20, 2, seed=12)
    nobody = torch.full((20,), -1)
    kernels = CellKernels.of(z, x, cells.members, shapes, own=nobody, device=CPU)
    kinds = {type(block.kernels) for block in kernels.blocks}
    assert kinds == {Expanded if sigma > 1e-5 else Whitened}
    found = log_sums(kernels.stripes(), torch.zeros(20, dtype=F64))[:, 0]
    each = torch.empty(20, 60, dtype=F64)
    for k, members in enumerate(cells.members):
        mean = x[cells.near[k, 0]]
        centres = mean + math.sqrt(1 - BANDWIDTH**2) * (x[members] - mean)
        t = (z[:, None] - centres) / sigma
        each[:, members] = -0.5 * t.square().sum(dim=2) - 2 * math.log(sigma * 2.5066282746310002)
    # Far kernels have log densities of up to 1e14 here: their last digits are what is left.
    assert torch.allclose(found, torch.logsumexp(each, dim=1), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("case", ["narrow", "one far row", "the farthest"])
def test_a_shape_that_rounding_leaves_indefinite_is_widened(case, thorough):
    mu, logvar = normal(300, 40, seed=13), torch.full((300, 40), -38.0, dtype=F64)
    if case != "narrow":
        mu, logvar = mu[:, :3].clone(), torch.full((300, 3), 2 * math.log(0.1), dtype=F64)
        mu[7] = 2e8 if case == "one far row" else 1e60
    found = survey(mu, logvar, thorough=thorough)
    assert math.isfinite(found.joint.upper.value)
    assert found.joint.upper.value >= found.joint.dataset.value


def test_chunks_hold_the_neighbours_too():
    pairs = _Pairs.of(torch.arange(20_000)[:, None], torch.full((20_000,), -1))
    most = max(last - first for first, last in pairs.chunks(8))
    assert most * 8 * 100 <= LARGEST
