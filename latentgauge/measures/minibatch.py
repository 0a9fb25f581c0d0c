"""What a training log shows: figures of single minibatches, averaged.

None of them estimates the population's information; each says what a log would have said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Generator, Tensor

from latentgauge.measures.decomposition import LOG_2PI, entropy_rows
from latentgauge.measures.joint import Standardised
from latentgauge.measures.pairs import FLOOR, Tick, part, silent
from latentgauge.measures.units import Mean, mean_over_units

# Batches averaged: as many as these densities allow, half a second, within the two counts.
DENSITIES = 2**25
FEWEST_BATCHES, MOST_BATCHES = 4, 1000
# Entries [latents, rows, batch] of one piece of a batch: 1 MiB, which a cache holds.
PIECE = 2**17


@dataclass(frozen=True)
class Decomposition:
    """KL = MI + TC + DWKL as a log shows them: means over batches, errors over batches, in nats."""

    kl: Mean
    mutual_information: Mean
    total_correlation: Mean
    dimensionwise_kl: Mean


@dataclass(frozen=True)
class Weights:
    """Weights of the posteriors of a batch in q(z_i): the row's own, the next row's, the others'.

    The next row is the one after i in the batch, and the first one after the last.
    """

    own: float
    following: float
    others: float

    @classmethod
    def weighted(cls, batch: int, train: int) -> Weights:
        """1 / (N B) each: Chen et al. 2018, arXiv:1802.04942, appendix C.1."""
        each = 1.0 / (train * batch)
        return cls(each, each, each)

    @classmethod
    def stratified(cls, batch: int, train: int) -> Weights:
        """1 / N own, (N - M) / (N M) for one other row, 1 / M for the rest, M = B - 1.

        Chen et al. 2018, appendix C.2: q(z) without bias over batches that hold i.
        """
        m = batch - 1
        return cls(1.0 / train, (train - m) / (train * m), 1.0 / m)

    @classmethod
    def even(cls, batch: int) -> Weights:
        """1 / B each: the mixture of the batch itself."""
        return cls(1.0 / batch, 1.0 / batch, 1.0 / batch)

    def log_table(self, rows: Tensor, batch: int) -> Tensor:
        """log weights [r, B] for these rows of the batch."""
        step = (torch.arange(batch) - rows[:, None]) % batch
        each = torch.tensor([self.own, self.following, self.others], dtype=torch.float64)
        return each.log()[step.clamp(max=2)]


@dataclass(frozen=True)
class Batches:
    """G minibatches of B rows with one draw each: mu, logvar, z and log_own, all [G, B, D].

    log_own is log q(z_ij|x_i), from the noise and never from a difference.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor
    log_own: Tensor

    @classmethod
    def of(cls, table: Standardised, rows: Tensor, *, generator: Generator) -> Batches:
        """Of rows [G, B] of a table."""
        mu, logvar = table.mu[rows], table.logvar[rows]
        noise = torch.randn(mu.shape, dtype=torch.float64, generator=generator)
        z = mu + noise * (0.5 * logvar).exp()
        return cls(mu, logvar, z, -0.5 * (noise.square() + logvar + LOG_2PI))

    def log_densities(self, tick: Tick = silent) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers [r] of rows i and log q(z_ij|x_k) [D, G, r, B], piece by piece."""
        count, size, d = self.mu.shape
        mu, logvar, z, own = (
            x.permute(2, 0, 1) for x in (self.mu, self.logvar, self.z, self.log_own)
        )
        narrow, constant = (-0.5 * logvar).exp(), logvar + LOG_2PI
        for rows in torch.split(torch.arange(size), max(PIECE // (count * size * d), 1)):
            t = (z[:, :, rows, None] - mu[:, :, None]).mul_(narrow[:, :, None])
            log_q = t.square_().add_(constant[:, :, None]).mul_(-0.5)
            log_q[:, :, torch.arange(len(rows)), rows] = own[:, :, rows]
            yield rows, log_q
            tick((int(rows[-1]) + 1) / size)


def minibatch_weighted(
    table: Standardised,
    *,
    batch: int,
    train: int,
    generator: Generator,
    tick: Tick = silent,
) -> Decomposition:
    """Minibatch-weighted sampling for batches of B of a training set of N rows, in nats.

    MI is log N + the batch's own, TC (D - 1) log N above the batch's, DWKL D log N below: in
    expectation MI is never under log N, whatever the code. Never above log N B. KL is right.
    """
    weights = Weights.weighted(batch, train)
    return _decomposition(table, weights, batch=batch, generator=generator, tick=tick)


def minibatch_stratified(
    table: Standardised,
    *,
    batch: int,
    train: int,
    generator: Generator,
    tick: Tick = silent,
) -> Decomposition:
    """Minibatch-stratified sampling for batches of B of a training set of N rows, in nats.

    Its q(z) is unbiased, so log q(z) is low on average: MI lies above I_N in expectation, and
    never above log N; DWKL lies below the data set's.
    """
    weights = Weights.stratified(batch, train)
    return _decomposition(table, weights, batch=batch, generator=generator, tick=tick)


def batch_information(
    table: Standardised, *, batch: int, generator: Generator, tick: Tick = silent
) -> Mean:
    """`calc_mi`: the mean over minibatches of -H(Z|X) - log q_B(z), in nats.

    He et al. 2019, arXiv:1901.05534. The information about which row of the batch: below I_N
    in expectation, at most log B.
    """
    weights = Weights.even(batch)
    values = [
        -entropy_rows(drawn.logvar).sum(dim=2).mean(dim=1)
        - _log_joint(drawn, weights, step).mean(dim=1)
        for drawn, step in _drawn(table, batch, generator=generator, tick=tick)
    ]
    return _means(torch.cat(values)[:, None])[0]


def batch_count(batch: int, d: int) -> int:
    """How many minibatches of B rows of D latents are averaged."""
    return min(max(DENSITIES // (batch**2 * d), FEWEST_BATCHES), MOST_BATCHES)


def minibatches(n: int, batch: int, *, generator: Generator) -> Iterator[Tensor]:
    """Rows of one minibatch after another, without end: epochs in new orders, rests left out."""
    while True:
        order = torch.randperm(n, generator=generator)
        yield from torch.split(order[: n - n % batch], batch)


def named_stream(name: str, seed: int) -> Generator:
    """A generator for the seed that nothing of another name shares."""
    own = hashlib.sha256(f"latentgauge {name} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(own[:7], "big"))


def _drawn(
    table: Standardised, batch: int, *, generator: Generator, tick: Tick
) -> Iterator[tuple[Batches, Tick]]:
    """All minibatches, as many at a time as one piece holds, with the progress of each part."""
    d = table.mu.shape[1]
    count, at_once = batch_count(batch, d), max(PIECE // (batch**2 * d), 1)
    rows = minibatches(len(table.mu), batch, generator=generator)
    starts = range(0, count, at_once)
    for k, start in enumerate(starts):
        some = list(islice(rows, min(at_once, count - start)))
        drawn = Batches.of(table, torch.stack(some), generator=generator)
        yield drawn, part(tick, k, len(starts))


def _decomposition(
    table: Standardised, weights: Weights, *, batch: int, generator: Generator, tick: Tick
) -> Decomposition:
    figures = [
        batch_figures(table, drawn, weights, tick=step)
        for drawn, step in _drawn(table, batch, generator=generator, tick=tick)
    ]
    return Decomposition(*_means(torch.cat(figures)))


def batch_figures(
    table: Standardised, drawn: Batches, weights: Weights, *, tick: Tick = silent
) -> Tensor:
    """KL, MI, TC and DWKL of each of G batches of the table in nats, [G, 4].

    E log q(z|x)/p(z), E log q(z|x)/q(z), E log q(z)/prod_j q(z_j), E log prod_j q(z_j)/p(z).
    """
    count, size, d = drawn.z.shape
    log_joint, log_alone = torch.empty(2, count, size, dtype=torch.float64)
    for rows, log_q in drawn.log_densities(tick):
        w = weights.log_table(rows, size)
        log_joint[:, rows] = _log_sum(log_q.sum(dim=0).add_(w))
        log_alone[:, rows] = _log_sum(log_q.add_(w)).sum(dim=0)
    own = drawn.log_own.sum(dim=2)
    log_prior = table.log_prior(drawn.z.reshape(-1, d)).view(count, size)
    each = own - log_prior, own - log_joint, log_joint - log_alone, log_alone - log_prior
    return torch.stack(each, dim=2).mean(dim=1)


def _log_joint(drawn: Batches, weights: Weights, tick: Tick) -> Tensor:
    """log q(z_i) [G, B] of the weighted mixture of each batch."""
    pieces = [
        _log_sum(log_q.sum(dim=0).add_(weights.log_table(rows, drawn.z.shape[1])))
        for rows, log_q in drawn.log_densities(tick)
    ]
    return torch.cat(pieces, dim=1)


def _log_sum(x: Tensor) -> Tensor:
    """log sum exp over the last axis; x is used up."""
    peak = x.amax(dim=-1, keepdim=True)
    total = x.sub_(peak).clamp_(min=FLOOR).exp_().sum(dim=-1)
    return total.log_().add_(peak.squeeze(-1))


def _means(values: Tensor) -> list[Mean]:
    """Mean of each column of [K, F] figures of K batches."""
    batches = torch.arange(len(values))
    return [mean_over_units(column, batches) for column in values.T]
