"""Warnings that the numbers themselves call for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from latentgauge.measures.dimensions import named
from latentgauge.measures.rounding import Rounding
from latentgauge.measures.slices import FEWEST_UNITS
from latentgauge.measures.survey import Survey
from latentgauge.measures.units import effective_units
from latentgauge.posterior import Posterior
from latentgauge.report import LabelInformation, Warning

FEW_ROWS = 100
ROWS_PER_DIMENSION = 2
# sigma below this share of a latent's spread of means: training's floor speaks, not the data.
DETERMINISTIC = 1e-4
# Nats that arithmetic may change a figure by before it is worth a word.
ROUNDING = 1e-4


def cautions(posterior: Posterior, found: Survey) -> tuple[Warning, ...]:
    """Every warning that applies, in a fixed order."""
    return (
        *_outputs(posterior),
        *_widths(posterior, found),
        *_rounding(found),
        *_rows(posterior, found),
        *_conflicts(found),
    )


def class_cautions(labels: LabelInformation | None) -> tuple[Warning, ...]:
    """Classes that have no slice, or an empty one."""
    if labels is None:
        return ()
    few = [f"{x.name} ({x.n})" for x in labels.slices if x.kl is None]
    out = []
    if few:
        out.append(
            Warning(
                code="few_rows",
                message=f"fewer than {FEWEST_UNITS:g} independent rows in {len(few)} classes, "
                f"which are not measured alone: {named(few)}",
                where="labels.slices",
            )
        )
    if len(labels.classes) > len(labels.slices):
        out.append(
            Warning(
                code="not_measured",
                message=f"{len(labels.classes)} classes: the biggest {len(labels.slices)} are "
                "measured alone",
                where="labels.slices",
            )
        )
    return tuple(out)


def _outputs(posterior: Posterior) -> Iterator[Warning]:
    mu, logvar = posterior.mu, posterior.logvar
    if bool((mu == logvar).all()) and bool((mu != mu[0, 0]).any()):
        yield Warning(
            code="identical_outputs",
            message="mu and logvar are the same numbers: one output was probably read twice",
            where="posterior",
        )
    constant = [f"z{j}" for j, same in enumerate((logvar == logvar[0]).all(dim=0)) if bool(same)]
    if posterior.n > 1 and constant:
        yield Warning(
            code="constant_logvar",
            message=f"logvar is the same in every row of {len(constant)} dimensions "
            f"({named(constant)}): a fixed sigma, or a second output that was lost",
            where="posterior",
        )


def _widths(posterior: Posterior, found: Survey) -> Iterator[Warning]:
    sigma, spread = (
        (0.5 * posterior.logvar).exp().amin(dim=0),
        posterior.mu.std(dim=0, correction=0),
    )
    narrow = [f"z{j}" for j, is_so in enumerate(sigma < DETERMINISTIC * spread) if bool(is_so)]
    if narrow:
        yield Warning(
            code="near_deterministic",
            message=f"sigma falls below {DETERMINISTIC:g} of the spread of the means in "
            f"{named(narrow)}: the information there is set by the floor under sigma",
            where="dimensions",
        )


def _rounding(found: Survey) -> Iterator[Warning]:
    joint = _rounded(found.rounding)
    if joint:
        rest = "" if found.joint_known else ": joint ones are not given, those of latents are"
        yield Warning(
            code="rounding",
            message=f"float64 rounding may change {', '.join(joint)}{rest}",
            where="rounding",
        )
    latents = {f"z{j}": x for j, x in enumerate(found.rounding.informations) if x > ROUNDING}
    if latents:
        yield Warning(
            code="rounding",
            message="numerical error may change the information of single latents by up to "
            f"{max(latents.values()):.2g} nats: {named(list(latents))}",
            where="dimensions",
        )


def _rounded(bounds: Rounding) -> list[str]:
    """Figures of the whole code whose bound is too large; a sum over latents with its terms.

    The bounds of many latents' grids, each small enough, would have every wide code warned of.
    """
    kl, joint = bounds.kl > ROUNDING, bounds.information > ROUNDING
    latents = max(bounds.informations) > ROUNDING
    each = (
        ("KL", kl, bounds.kl),
        ("the information", joint, bounds.information),
        ("the total correlation", joint or latents, bounds.total_correlation),
        ("the dimension-wise KL", kl or latents, bounds.dimensionwise_kl),
        ("the marginal KL", bounds.marginal_kl > ROUNDING, bounds.marginal_kl),
        ("I(Z;Y)", (bounds.labels or 0.0) > ROUNDING, bounds.labels),
    )
    return [f"{name} by up to {bound:.2g} nats" for name, large, bound in each if large]


def _rows(posterior: Posterior, found: Survey) -> Iterator[Warning]:
    units = effective_units(found.units)
    wanted = max(FEW_ROWS, ROWS_PER_DIMENSION * posterior.d)
    if units < wanted:
        yield Warning(
            code="few_rows",
            message=f"{units:.4g} independent rows for {posterior.d} dimensions; intervals are "
            f"rough below {wanted}",
            where="dataset",
        )
    if found.saturated:
        more = math.exp(found.ceiling + 2.0)
        yield Warning(
            code="saturated",
            message=f"I_N = {found.joint.dataset.value:.4g} is at its ceiling "
            f"{found.ceiling:.4g} (log of the distinct rows): the population's information may "
            f"be far above it. More rows would help (well over {more:.2g}), more samples not",
            where="dataset_information",
        )


def _conflicts(found: Survey) -> Iterator[Warning]:
    crossed = [f"z{j}" for j, interval in enumerate(found.intervals) if interval.conflict]
    if found.information.conflict:
        crossed.insert(0, "the whole code")
    if found.label_information is not None and found.label_information.conflict:
        crossed.append("the labels")
    if crossed:
        yield Warning(
            code="estimator_conflict",
            message=f"a lower bound lies above its upper bound beyond their errors for "
            f"{named(crossed)}: the rows are no independent draws, or an estimator is at fault",
            where="mutual_information",
        )
