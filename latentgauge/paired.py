"""Two encoders on the same rows: head less base, measured with the same noise."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import torch
from torch import Tensor

from latentgauge import __version__
from latentgauge.cautions import ROUNDING
from latentgauge.comparison import (
    UNKNOWN_DIFFERENCE,
    BoundedDifference,
    Comparison,
    DimensionDifference,
    LoneDimension,
    Side,
)
from latentgauge.errors import ShapeMismatch
from latentgauge.estimates import estimated
from latentgauge.measures.codes import Alone, Code
from latentgauge.measures.differences import Difference
from latentgauge.measures.intervals import SATURATION
from latentgauge.measures.paired import Paired
from latentgauge.measures.paired import paired as _measured
from latentgauge.measures.pairs import silent
from latentgauge.measures.survey import ceiling
from latentgauge.measures.units import Mean
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import ESTIMATOR_VERSION, Estimate, Warning


def paired(
    base: Posterior,
    head: Posterior,
    *,
    options: Options,
    units: Tensor | None = None,
    copies: Tensor | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = silent,
) -> Comparison:
    """Differences head - base of two posterior tables of the same N rows, in nats.

    Latents are matched by the correlation of their means, whatever their order, sign and scale.
    Of the options `samples`, `seed`, `thorough` and `confidence` are used. Rows of one number in
    `units` [N] depend on each other, those of one number in `copies` [N] are one row.

    Raises:
        ShapeMismatch: the tables, units or copies are not of the same number of rows.
    """
    _check_rows(base, head, units, copies)
    found = _measured(
        *((x.mu.cpu(), x.logvar.cpu()) for x in (base, head)),
        units=units,
        samples=options.samples,
        seed=options.seed,
        thorough=options.thorough,
        confidence=options.confidence,
        device=device,
        tick=progress,
    )
    digests = _digest(base), _digest(head)
    limit = ceiling(None if copies is None else copies.cpu(), base.n)
    comparison = Comparison(
        latentgauge_version=__version__,
        estimator_version=ESTIMATOR_VERSION,
        created_at=datetime.now(UTC),
        digest=_whole_digest(digests, options, units, copies, torch.device(device)),
        options=options,
        n=base.n,
        confidence=options.confidence,
        base=_side(base, found.base, found.unmatched_base, digests[0], found, limit),
        head=_side(head, found.head, found.unmatched_head, digests[1], found, limit),
        kl=estimated(found.kl, found.quantile),
        mutual_information=_bounded(found.information, found.drawn_quantile),
        total_correlation=_bounded(found.correlation, found.drawn_quantile),
        dataset_information=_of_draws(found.dataset, found),
        dimensions=[
            DimensionDifference(
                base=x.pair.base,
                head=x.pair.head,
                correlation=x.pair.correlation,
                kl=estimated(x.kl, found.quantile),
                mutual_information=_bounded(x.information, found.quantile),
            )
            for x in found.latents
        ],
        warnings=list(cautions(found, limit)),
    )
    progress(1.0)
    return comparison


def _check_rows(
    base: Posterior, head: Posterior, units: Tensor | None, copies: Tensor | None
) -> None:
    if base.n != head.n:
        raise ShapeMismatch(
            "the two tables are not of the same rows",
            expected=f"as many rows in the head as in the base: {base.n}",
            got=f"{head.n} rows",
            remedy="encode the same rows, in the same order, with both encoders",
        )
    for name, numbers in (("units", units), ("copies", copies)):
        if numbers is not None and numbers.shape != (base.n,):
            raise ShapeMismatch(
                f"{name} do not fit the rows",
                expected=f"one number for each of {base.n} rows",
                got=f"shape {list(numbers.shape)}",
                remedy="give every row one, or leave them out",
            )


def _side(
    posterior: Posterior,
    code: Code,
    unmatched: tuple[Alone, ...],
    digest: str,
    found: Paired,
    limit: float,
) -> Side:
    known = code.joint.dataset if code.joint_known else None
    return Side(
        digest=digest,
        d=posterior.d,
        kl=estimated(code.kl, found.quantile, floor=0.0),
        mutual_information=Estimate(lower=code.information.lower, upper=code.information.upper),
        dataset_information=_of_draws(known, found, floor=0.0, ceiling=limit),
        unmatched=[
            LoneDimension(
                index=x.index,
                kl=estimated(x.kl, found.quantile, floor=0.0),
                mutual_information=Estimate(
                    value=x.dataset.value,
                    standard_error=x.dataset.standard_error,
                    lower=x.interval.lower,
                    upper=x.interval.upper,
                ),
            )
            for x in unmatched
        ],
    )


def _of_draws(
    mean: Mean | None, found: Paired, *, floor: float = -math.inf, ceiling: float = math.inf
) -> Estimate:
    """A figure of these rows, of which only the noise is random."""
    if mean is None:
        return Estimate()
    return estimated(mean, found.noise_quantile, floor=floor, ceiling=ceiling)


def _bounded(found: Difference | None, t: float) -> BoundedDifference:
    if found is None:
        return UNKNOWN_DIFFERENCE
    return BoundedDifference(
        lower=found.interval.lower,
        upper=found.interval.upper,
        gap=found.gap,
        sampling=found.sampling,
        lower_difference=estimated(found.lower, t),
        upper_difference=estimated(found.upper, t),
    )


def _digest(posterior: Posterior) -> str:
    digest = hashlib.sha256()
    for table in (posterior.mu, posterior.logvar):
        digest.update(json.dumps(list(table.shape)).encode())
        digest.update(table.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _whole_digest(
    digests: tuple[str, str],
    options: Options,
    units: Tensor | None,
    copies: Tensor | None,
    device: torch.device,
) -> str:
    numbers = [
        None if codes is None else hashlib.sha256(codes.cpu().long().numpy().tobytes()).hexdigest()
        for codes in (units, copies)
    ]
    parts = {
        "estimator_version": ESTIMATOR_VERSION,
        "tables": digests,
        "options": options.model_dump(mode="json"),
        "units and copies": numbers,
        "device": device.type,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def cautions(found: Paired, limit: float) -> Iterator[Warning]:
    """Warnings that the numbers call for; `limit` is the ceiling of I_N."""
    for name, code in (("base", found.base), ("head", found.head)):
        if code.rounding > ROUNDING:
            rest = "" if code.joint_known else ": they are not given"
            yield Warning(
                code="rounding",
                message=f"float64 rounding may change the {name}'s joint figures by up to "
                f"{code.rounding:.2g} nats{rest}",
                where=name,
            )
        if (
            code.joint_known
            and code.joint.dataset.value > limit - SATURATION
            and limit > SATURATION
        ):
            yield Warning(
                code="saturated",
                message=f"I_N = {code.joint.dataset.value:.4g} of the {name} is at its ceiling "
                f"{limit:.4g}: differences of I_N and of lower bounds count rows, not information",
                where=name,
            )
        if code.information.conflict:
            yield Warning(
                code="estimator_conflict",
                message=f"a lower bound of the {name} lies above its upper bound beyond their "
                "errors: the rows are no independent draws, or an estimator is at fault",
                where=name,
            )
