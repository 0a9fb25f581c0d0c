"""Two codes of the same rows, measured with the same noise: differences with their own errors.

What both codes share, the rows and the noise, cancels in row by row differences. What the bounds
leave open, the gap between them, does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.codes import (
    Alone,
    Code,
    Latent,
    Shared,
    Sums,
    Table,
    Two,
    alone,
    code,
    joints_of_both,
    latent_of_both,
    same,
    scaled,
)
from latentgauge.measures.differences import Bounds, Difference, difference
from latentgauge.measures.intervals import Joint
from latentgauge.measures.joint import Standardised
from latentgauge.measures.lanes import Lanes, lanes
from latentgauge.measures.matching import Matching, Pair, matched
from latentgauge.measures.pairs import Tick, silent
from latentgauge.measures.units import (
    Mean,
    adjusted_mean,
    interval_quantile,
    mean_over_rows,
    mean_over_units,
    numbered,
    population_mean,
)

MARGINALS_SHARE = 0.3


@dataclass(frozen=True)
class LatentDifference:
    """A matched pair: its differences of I_j and, exact for these rows, of KL_j."""

    pair: Pair
    information: Difference
    kl: Mean


@dataclass(frozen=True)
class Paired:
    """What the two codes differ by, in nats; joint figures are None where rounding hides them.

    `dataset` is I_N of these rows, its error that of the noise alone. `latents` are in the
    order of the base. `quantile` takes an error over all units to the end of an interval,
    `drawn_quantile` one over drawn rows' units, `noise_quantile` one over draws.
    """

    base: Code
    head: Code
    kl: Mean
    dataset: Mean | None
    information: Difference | None
    correlation: Difference | None
    latents: tuple[LatentDifference, ...]
    unmatched_base: tuple[Alone, ...]
    unmatched_head: tuple[Alone, ...]
    quantile: float
    drawn_quantile: float
    noise_quantile: float


def paired(
    base: Table,
    head: Table,
    *,
    units: Tensor | None = None,
    samples: int = 20_000,
    seed: int = 0,
    thorough: bool = False,
    confidence: float = 0.95,
    device: torch.device | str = "cpu",
    tick: Tick = silent,
) -> Paired:
    """Differences head - base of tables (mu, logvar) [N, D_b] and [N, D_h] of the same N rows."""
    n, d = len(base[0]), max(base[0].shape[1], head[0].shape[1])
    with lanes() as pool:
        found = matched(base, head)
        tables = found.base.of(*base), found.head.of(*head)
        shared = Shared.of(
            n, d, units=numbered(units, n), samples=samples, seed=seed, confidence=confidence
        )
        standard = Standardised.of(*tables[0]), Standardised.of(*tables[1])
        latents = _latents(
            tables, standard, found, shared, lanes=pool, tick=scaled(tick, 0.0, MARGINALS_SHARE)
        )
        joints = joints_of_both(
            standard,
            latents.sums,
            shared,
            equal=same(*tables),
            thorough=thorough,
            device=device,
            lanes=pool,
            tick=scaled(tick, MARGINALS_SHARE, 1.0),
        )
        codes = [
            code(*each, shared)
            for each in zip(tables, joints, latents.alone, latents.sums, strict=True)
        ]
        known, pairs = all(code.joint_known for code in codes), len(found.pairs)
        return Paired(
            base=codes[0],
            head=codes[1],
            kl=mean_over_units(latents.sums[1].kl - latents.sums[0].kl, shared.units),
            dataset=_dataset(joints, latents.sums, shared) if known else None,
            information=_information(joints, shared) if known else None,
            correlation=_correlation(joints, latents.sums, shared) if known else None,
            latents=tuple(sorted(latents.differences, key=lambda latent: latent.pair.base)),
            unmatched_base=tuple(latents.alone[0][pairs:]),
            unmatched_head=tuple(latents.alone[1][pairs:]),
            quantile=shared.t,
            drawn_quantile=shared.t_drawn,
            noise_quantile=interval_quantile(confidence, shared.rows),
        )


@dataclass(frozen=True)
class _Latents:
    """The pairs' differences, and each code's latents and sums over them."""

    differences: list[LatentDifference]
    alone: Two[list[Alone]]
    sums: Two[Sums]


def _latents(
    tables: Two[Table],
    standard: Two[Standardised],
    found: Matching,
    shared: Shared,
    *,
    lanes: Lanes,
    tick: Tick,
) -> _Latents:
    """Each matched pair in a lane of its own; only sums over latents are kept of the rows."""
    n, orders = len(shared.units), (found.base, found.head)
    d = max(len(order.latents) for order in orders)
    differences: list[LatentDifference] = []
    each: Two[list[Alone]] = ([], [])
    sums = [Sums.none(n), Sums.none(n)]
    for j, both in enumerate(lanes.each(latent_of_both(tables, standard, shared), range(d))):
        for side, latent in enumerate(both):
            if latent is not None:
                each[side].append(alone(latent, orders[side].latents[j], shared))
                sums[side] = sums[side].plus(latent)
        base, head = both
        if base is not None and head is not None:
            differences.append(_latent_difference(base, head, found.pairs[j], shared))
        tick((j + 1) / d)
    return _Latents(differences, each, (sums[0], sums[1]))


# ---------------------------------------------------------------- differences, row by row


def _latent_difference(base: Latent, head: Latent, pair: Pair, shared: Shared) -> LatentDifference:
    controls = torch.cat([base.controls, head.controls], dim=1)
    b, h = (
        Bounds(m.lower_rows, m.upper_rows, (m.dataset, m.upper))
        for m in (base.marginal, head.marginal)
    )
    return LatentDifference(
        pair,
        difference(
            b,
            h,
            lambda rows: adjusted_mean(rows, shared.units, controls, shared.folds),
            same=base is head,
            t=shared.t,
        ),
        mean_over_units(head.kl - base.kl, shared.units),
    )


def _dataset(joints: Two[Joint], sums: Two[Sums], shared: Shared) -> Mean:
    """I_N of the head less that of the base, for these rows: only the noise is random."""
    base, head = joints
    exact = [(total.lower[shared.rows] - total.dataset)[:, None] for total in sums]
    controls = torch.cat([base.controls, head.controls, *exact], dim=1)
    return mean_over_rows(head.lower_rows - base.lower_rows, controls)


def _information(joints: Two[Joint], shared: Shared) -> Difference:
    base, head = joints
    known = torch.stack([base.alone, head.alone], dim=1)
    b, h = (Bounds(joint.lower_rows, joint.upper_rows) for joint in joints)
    over = _population(joints, known, shared)
    return difference(b, h, over, same=base is head, t=shared.t_drawn)


def _correlation(joints: Two[Joint], sums: Two[Sums], shared: Shared) -> Difference:
    """TC = sum_j I_j - I, whose lower bound is that of the sum less the upper one of I.

    Row by row, the latents' noise cancels against the whole code's: their exact means would not.
    """
    base, head = joints
    known = torch.stack([rows for total in sums for rows in (total.lower, total.upper)], dim=1)
    b, h = (
        Bounds(
            total.lower[shared.rows] - joint.upper_rows,
            total.upper[shared.rows] - joint.lower_rows,
        )
        for joint, total in zip(joints, sums, strict=True)
    )
    over = _population(joints, known, shared)
    return difference(b, h, over, same=base is head, t=shared.t_drawn)


def _population(joints: Two[Joint], known: Tensor, shared: Shared) -> Callable[[Tensor], Mean]:
    controls = torch.cat([joint.controls for joint in joints], dim=1)
    return lambda values: population_mean(
        values, controls, known, rows=shared.rows, units=shared.units, folds=shared.folds
    )
