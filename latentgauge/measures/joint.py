"""The joint information: one pass over all pairs (z_i, x_j) of draws and posteriors.

log q(z_i|x_j) is a quadratic in z_i, so a block of pairs is one float64 matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from latentgauge.measures.decomposition import LOG_2PI, entropy_rows
from latentgauge.measures.lanes import ONE, Lanes
from latentgauge.measures.pairs import (
    STRIPE,
    Apart,
    Groups,
    Products,
    Stripe,
    Stripes,
    Tick,
    log_sums,
    silent,
)

UNIT_ROUNDOFF = 2.0**-53
# Largest rounding error of log q(z|x), in nats, that the expanded square may add.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Standardised:
    """The posterior table with each dimension centred and scaled: mu and logvar [N, D].

    Differences of log densities do not change; `scale` [D] is the mean sigma and `centre` [D]
    the median of mu, which no distant row moves, both of the table as it came. mu is centred
    before any noise is added.
    """

    mu: Tensor
    logvar: Tensor
    centre: Tensor
    scale: Tensor

    @classmethod
    def of(cls, mu: Tensor, logvar: Tensor) -> Standardised:
        centre = torch.stack([column.median() for column in mu.unbind(dim=1)])
        scale = torch.stack([(0.5 * column).exp().mean() for column in logvar.unbind(dim=1)])
        return cls((mu - centre).div_(scale), logvar - 2.0 * scale.log(), centre, scale)

    def latent(self, j: int) -> Standardised:
        """The table of latent j alone, [N, 1]."""
        mu, logvar = (x[:, j, None].contiguous() for x in (self.mu, self.logvar))
        return Standardised(mu, logvar, self.centre[j, None], self.scale[j, None])

    def log_prior(self, z: Tensor) -> Tensor:
        """log N(0, I) of the original code, as a density of the standardised z; [M]."""
        original = self.centre + self.scale * z
        return (-0.5 * (original.square() + LOG_2PI) + self.scale.log()).sum(dim=1)


@dataclass(frozen=True)
class Noise:
    """Standard normal numbers [N, D], made a latent at a time: none is kept.

    Each latent has a stream of its own, so its numbers depend on no other and on no order.
    """

    n: int
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, n: int, d: int, *, generator: Generator) -> Noise:
        seeds = torch.randint(2**62, (d,), generator=generator).tolist()
        return cls(n, tuple(seeds))

    def latent(self, j: int) -> Tensor:
        """[N] numbers of latent j."""
        generator = torch.Generator().manual_seed(self.seeds[j])
        return torch.randn(self.n, dtype=torch.float64, generator=generator)


@dataclass(frozen=True)
class Draws:
    """One draw z_i = mu_i + sigma_i eps_i for each of M rows, in standardised units.

    `rows` [M] says which; `log_own` [M, D] is log q(z_ij|x_i), from eps and never from a pass.
    """

    rows: Tensor
    noise: Tensor
    z: Tensor
    log_own: Tensor

    @classmethod
    def of(cls, table: Standardised, noise: Noise, *, rows: Tensor | None = None) -> Draws:
        """Of the given rows [M], or of all; `noise` is that of the whole table."""
        rows = torch.arange(len(table.mu)) if rows is None else rows
        # In place: what was kept of each latent would pin its [N] numbers' memory.
        eps = table.mu.new_empty(len(rows), len(noise.seeds))
        for j in range(len(noise.seeds)):
            eps[:, j] = noise.latent(j)[rows]
        return cls.at(table, eps, rows)

    @classmethod
    def of_latent(cls, table: Standardised, noise: Noise, j: int) -> Draws:
        """Of every row, for `table.latent(j)`: the same numbers as in the whole."""
        return cls.at(table, noise.latent(j)[:, None], torch.arange(len(table.mu)))

    @classmethod
    def at(cls, table: Standardised, noise: Tensor, rows: Tensor) -> Draws:
        """The draws that noise [M, D] makes of these rows."""
        logvar = table.logvar[rows]
        z = table.mu[rows] + noise * (0.5 * logvar).exp()
        return cls(rows, noise, z, -0.5 * (noise.square() + logvar + LOG_2PI))


def drawn_rows(n: int, *, samples: int, generator: Generator) -> Tensor:
    """At most `samples` of n rows, chosen at random, in order."""
    if samples >= n:
        return torch.arange(n)
    return torch.randperm(n, generator=generator)[:samples].sort().values


@dataclass(frozen=True)
class JointSums:
    """Log sums of q(z_i|x_j) over j, [M, 2] each: all rows, and rows of the class of i.

    `others` leaves out the unit of i, `mates` is the rest of that unit without i itself.
    """

    others: Tensor
    mates: Tensor
    own: Tensor

    def log_all(self) -> Tensor:
        """[M, 2]: log of the sum over every j, i included."""
        return torch.logaddexp(torch.logaddexp(self.others, self.mates), self.own[:, None])

    def joined(self, shard: JointSums) -> JointSums:
        """The sums over two disjoint sets of rows j, for the same draws.

        Logarithms are (reference, sum) pairs in one number: parts of a table that lie on
        different machines add up to the whole.
        """
        others = torch.logaddexp(self.others, shard.others)
        return JointSums(others, torch.logaddexp(self.mates, shard.mates), self.own)


def square_errors(
    table: Standardised, z: Tensor, *, roundoff: float = UNIT_ROUNDOFF
) -> tuple[Tensor, float]:
    """8 u (max|z| + max|mu|)^2 / sigma_min^2 of each latent [D], and the share it is allowed."""
    reach = z.abs().amax(dim=0) + table.mu.abs().amax(dim=0)
    errors = 8.0 * roundoff * reach.square() * (-table.logvar.amin(dim=0)).exp()
    return errors, TOLERANCE / z.shape[1]


def rounds_badly(table: Standardised, z: Tensor, *, roundoff: float = UNIT_ROUNDOFF) -> Tensor:
    """[D] bool: latents whose expanded square may err by more than its share."""
    errors, allowed = square_errors(table, z, roundoff=roundoff)
    return errors > allowed


def joint_sums(
    table: Standardised,
    draws: Draws,
    *,
    units: Tensor,
    classes: Tensor | None = None,
    columns: Tensor | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    lanes: Lanes = ONE,
    tick: Tick = silent,
) -> JointSums:
    """The pass. units [N] and classes [N] are numbered from 0; results come back on the CPU.

    `columns` are the rows j of a shard, all by default. `dtype` is that of the products: a
    dimension that would round badly in it is evaluated in float64, apart.
    """
    classes = torch.zeros_like(units) if classes is None else classes
    columns = torch.arange(len(units)) if columns is None else columns
    columns = columns[classes[columns].argsort(stable=True)]
    own = draws.log_own.sum(dim=1)
    # Rows in the order of the columns: a block then meets its own units in few places.
    order = _place(classes, columns)[draws.rows].argsort(stable=True)
    rows = draws.rows[order]
    units = _renumbered(units, columns)
    apart = Apart(units[rows], units[columns], rows, columns)
    passed = _Pass(table, draws.z[order], rows, columns, classes, torch.device(device), dtype)
    others = log_sums(passed.stripes(apart), own[order].to(device), lanes=lanes, tick=tick)
    back = order.argsort()
    others = others.cpu()[back]
    mates = torch.full_like(others, -math.inf)
    repeated = torch.bincount(units)[units] > 1
    if bool(repeated.any()):
        some = repeated[rows].nonzero().flatten()
        passed = passed.some(some, columns[repeated[columns]])
        apart = Apart(units[passed.rows], units[passed.columns], passed.rows, passed.columns, True)
        found = log_sums(passed.stripes(apart), own[order][some].to(device), lanes=lanes)
        mates[order[some]] = found.cpu()
    return JointSums(others, mates, own)


def _place(classes: Tensor, columns: Tensor) -> Tensor:
    """Where each row stands in the order of the columns, or after those of its class; [N]."""
    key = classes.double() + 0.5
    key[columns] = classes[columns].double()
    return key.argsort(stable=True).argsort()


def _renumbered(units: Tensor, columns: Tensor) -> Tensor:
    """The same units [N], numbered in the order in which the columns meet them."""
    first = torch.full((int(units.max()) + 1,), len(units))
    first.scatter_reduce_(0, units[columns], torch.arange(len(columns)), "amin")
    return first.argsort(stable=True).argsort()[units]


@dataclass(frozen=True)
class _Pass:
    """log q(z_i|x_j) of draws z [M, D] of `rows` and posteriors of `columns`, sorted by class."""

    table: Standardised
    z: Tensor
    rows: Tensor
    columns: Tensor
    classes: Tensor
    device: torch.device
    dtype: torch.dtype

    def some(self, chosen: Tensor, columns: Tensor) -> _Pass:
        return replace(self, z=self.z[chosen], rows=self.rows[chosen], columns=columns)

    def stripes(self, apart: Apart) -> Stripes:
        """The kernel's products, a stripe of columns at a time, on the device."""
        bad = rounds_badly(self.table, self.z, roundoff=torch.finfo(self.dtype).eps / 2.0)
        good, z = ~bad, self.z
        one, zero = torch.ones_like(z[:, :1]), torch.zeros_like(z[:, :1])
        left = torch.cat([z[:, good].square(), z[:, good], one, zero], dim=1)
        left, z = left.to(self.dtype), z[:, bad]
        groups = Groups(
            self.classes[self.rows], self.classes[self.columns], int(self.classes.max()) + 1
        )

        def made() -> Iterator[Stripe]:
            for first in range(0, len(self.columns), STRIPE):
                some = slice(first, first + STRIPE)
                yield Products.of(
                    left,
                    z,
                    self._right(self.columns[some], bad),
                    groups=groups.some(some),
                    apart=apart.some(some),
                    device=self.device,
                )

        return made

    def _right(self, columns: Tensor, bad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.table.mu[columns], self.table.logvar[columns]
        p, m = (-logvar[:, ~bad]).exp(), mu[:, ~bad]
        constant = -0.5 * ((m.square() * p).sum(dim=1) + (logvar + LOG_2PI).sum(dim=1))
        right = torch.cat([-0.5 * p.T, (m * p).T, constant[None], torch.ones_like(constant)[None]])
        w = (-0.5 * logvar[:, bad]).exp().T.contiguous()
        return right.to(self.dtype), mu[:, bad].T, w


def own_control(draws: Draws, logvar: Tensor) -> Tensor:
    """log q(z_i|x_i) + H(q(z|x_i)) of each draw: a control whose mean is 0; [M, D]."""
    return draws.log_own + entropy_rows(logvar[draws.rows])
