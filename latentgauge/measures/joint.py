"""The joint information: one pass over all pairs (z_i, x_j) of draws and posteriors.

log q(z_i|x_j) is a quadratic in z_i, so a block of pairs is one float64 matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latentgauge.measures.decomposition import LOG_2PI, entropy_rows
from latentgauge.measures.pairs import Excluded, Groups, LogKernel, Tick, log_sums, silent

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
        centre, scale = mu.median(dim=0).values, (0.5 * logvar).exp().mean(dim=0)
        return cls((mu - centre) / scale, logvar - 2.0 * scale.log(), centre, scale)

    def log_prior(self, z: Tensor) -> Tensor:
        """log N(0, I) of the original code, as a density of the standardised z; [M]."""
        original = self.centre + self.scale * z
        return (-0.5 * (original.square() + LOG_2PI) + self.scale.log()).sum(dim=1)


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
    def of(cls, table: Standardised, *, samples: int, generator: Generator) -> Draws:
        noise = torch.randn(table.mu.shape, dtype=torch.float64, generator=generator)
        z = table.mu + noise * (0.5 * table.logvar).exp()
        log_own = -0.5 * (noise.square() + table.logvar + LOG_2PI)
        return cls(torch.arange(len(z)), noise, z, log_own).some(samples, generator=generator)

    def some(self, samples: int, *, generator: Generator) -> Draws:
        """At most `samples` of the draws, chosen at random, in order."""
        if samples >= len(self.rows):
            return self
        k = torch.randperm(len(self.rows), generator=generator)[:samples].sort().values
        return Draws(self.rows[k], self.noise[k], self.z[k], self.log_own[k])


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


def log_q_given(table: Standardised, z: Tensor) -> LogKernel:
    """log q(z_i|x_j) as a kernel over pairs, dimensions that would round badly apart."""
    bad = rounds_badly(table, z)
    good = ~bad
    p, m = (-table.logvar[:, good]).exp(), table.mu[:, good]
    constant = -0.5 * ((m.square() * p).sum(dim=1) + (table.logvar + LOG_2PI).sum(dim=1))
    left = torch.cat([z[:, good].square(), z[:, good], torch.ones_like(z[:, :1])], dim=1)
    right = torch.cat([-0.5 * p.T, (m * p).T, constant[None]])
    w = (-0.5 * table.logvar[:, bad]).exp().T.contiguous()
    return LogKernel(left, right, z[:, bad], table.mu[:, bad].T.contiguous(), w)


def rounds_badly(table: Standardised, z: Tensor) -> Tensor:
    """[D] bool: 8 2^-53 (max|z| + max|mu|)^2 / sigma_min^2 above its share of the tolerance."""
    reach = z.abs().amax(dim=0) + table.mu.abs().amax(dim=0)
    bound = 8.0 * UNIT_ROUNDOFF * reach.square() * (-table.logvar.amin(dim=0)).exp()
    return bound > TOLERANCE / z.shape[1]


def rounding_bound(mu: Tensor, logvar: Tensor) -> float:
    """Bound in nats on what rounding of z - mu can do to I_N.

    A row's own sigma is the scale on which its neighbours tell; its term of I_N lies in
    [0, log N] but for noise, so a single distant row cannot spoil the mean of many.
    """
    reach = (mu - mu.median(dim=0).values).abs() * (-0.5 * logvar).exp()
    return float((8.0 * UNIT_ROUNDOFF * reach.sum(dim=1)).clamp(max=math.log(len(mu))).mean())


def joint_sums(
    table: Standardised,
    draws: Draws,
    *,
    units: Tensor,
    classes: Tensor | None = None,
    device: torch.device | str = "cpu",
    tick: Tick = silent,
) -> JointSums:
    """The pass. units [N] and classes [N] are numbered from 0; results come back on the CPU."""
    if classes is None:
        classes = torch.zeros_like(units)
    order = classes.argsort(stable=True)
    kernel = _on(log_q_given(table, draws.z).columns(order), device)
    groups = Groups(classes[draws.rows], classes[order], int(classes.max()) + 1)
    own = draws.log_own.sum(dim=1)
    apart = _unit_of_row(units[draws.rows].to(device), units[order].to(device))
    others = log_sums(kernel, own.to(device), groups, excluded=apart, tick=tick).cpu()
    mates = torch.full_like(others, -math.inf)
    repeated = torch.bincount(units)[units] > 1
    if bool(repeated.any()):
        mates = _mates(kernel, own.to(device), groups, (draws.rows, order, units)).cpu()
    return JointSums(others, mates, own)


def _unit_of_row(of_rows: Tensor, of_columns: Tensor) -> Excluded:
    """Leaves out the pairs within one unit."""

    def excluded(rows: Tensor, columns: slice) -> Tensor | None:
        mine, theirs = of_rows[rows], of_columns[columns]
        if bool((mine.max() < theirs.min()) | (mine.min() > theirs.max())):
            return None
        return mine[:, None] == theirs[None, :]

    return excluded


def _mates(
    kernel: LogKernel, own: Tensor, groups: Groups, placed: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Log sums over the rest of each row's unit, [M, 2]; -inf for a row that is alone."""
    rows, order, units = placed
    repeated = torch.bincount(units)[units] > 1
    i, j = repeated[rows].nonzero().flatten(), repeated[order].nonzero().flatten()
    mine, theirs = rows[i].to(own.device), order[j].to(own.device)
    units = units.to(own.device)

    def excluded(numbers: Tensor, columns: slice) -> Tensor:
        a, b = mine[numbers][:, None], theirs[columns][None, :]
        return (units[a] != units[b]) | (a == b)

    part = Groups(groups.rows[i], groups.columns[j], groups.count)
    out = own.new_full((len(own), 2), -math.inf)
    i, j = i.to(own.device), j.to(own.device)
    out[i] = log_sums(kernel.rows(i).columns(j), own[i], part, excluded=excluded)
    return out


def _on(kernel: LogKernel, device: torch.device | str) -> LogKernel:
    left, right, z = kernel.left.to(device), kernel.right.to(device), kernel.z.to(device)
    return LogKernel(left, right, z, kernel.m.to(device), kernel.w.to(device))


def own_control(draws: Draws, logvar: Tensor) -> Tensor:
    """log q(z_i|x_i) + H(q(z|x_i)) of each draw: a control whose mean is 0; [M, D]."""
    return draws.log_own + entropy_rows(logvar[draws.rows])
