"""The report's section on labels: what the code tells of them, whole and latent by latent."""

from __future__ import annotations

from dataclasses import replace

from latentgauge.estimates import bounded, estimated, exact, of_dataset
from latentgauge.measures import slices as measured
from latentgauge.measures.dimensions import collapse_verdict, named, state
from latentgauge.measures.intervals import UNKNOWN, Interval, label_interval, within_latents
from latentgauge.measures.labels import LabelBounds
from latentgauge.measures.marginals import INFLATION
from latentgauge.measures.slices import biggest
from latentgauge.measures.survey import Survey
from latentgauge.measures.units import Mean
from latentgauge.options import Options
from latentgauge.report import Bottleneck, Estimate, LabelDimension, LabelInformation, Slice


def label_information(
    classes: tuple[str, ...], counts: list[int], found: Survey, options: Options
) -> LabelInformation | None:
    """The section; None where the rows came without labels."""
    told, bounds = found.label_information, found.labels
    if told is None or bounds is None:
        return None
    relevance = bounded(told)
    return LabelInformation(
        classes=list(classes),
        counts=counts,
        entropy=bounds.entropy,
        mutual_information=relevance,
        lower_bound=_lower_bound(bounds.lower, found),
        dataset_mutual_information=of_dataset(bounds.dataset, found, ceiling=bounds.entropy),
        fraction=_fraction(told, bounds.entropy),
        bottleneck=Bottleneck(
            rate=bounded(found.information),
            relevance=relevance,
            objective=_objective(told, found.information, options.beta),
        ),
        per_dimension=_per_dimension(bounds, found),
        slices=_slices(classes, counts, found, options.active_threshold),
    )


def _lower_bound(lower: Mean, found: Survey) -> Estimate:
    """The bound itself, below 0 where chance puts it there; its error as the interval has it."""
    if not found.joint_known:
        return Estimate()
    error = lower.standard_error
    return estimated(
        Mean(lower.value, None if error is None else INFLATION * error), found.drawn_quantile
    )


def _objective(relevance: Interval, rate: Interval, beta: float | None) -> Estimate | None:
    """I(Z;Y) - beta I(X;Z), the Lagrangian of the information bottleneck (Tishby et al. 1999).

    Ends against ends, so it holds what both intervals hold.
    """
    if beta is None:
        return None
    if beta == 0.0:
        return bounded(relevance)
    low = high = None
    if relevance.lower is not None and rate.upper is not None:
        low = relevance.lower - beta * rate.upper
    if relevance.upper is not None and rate.lower is not None:
        high = relevance.upper - beta * rate.lower
    return Estimate(lower=low, upper=high)


def _per_dimension(bounds: LabelBounds, found: Survey) -> list[LabelDimension]:
    """I(z_j;Y) of the population is at most H(Y) and at most I_j."""
    out = []
    for j, latent in enumerate(found.labels_by_latent):
        mine = replace(bounds, lower=latent.lower)
        told = label_interval(mine, found.intervals[j], told=True, t=found.quantile)
        out.append(
            LabelDimension(
                index=j,
                mutual_information=bounded(told),
                dataset_mutual_information=exact(latent.dataset),
            )
        )
    return out


def _slices(
    classes: tuple[str, ...], counts: list[int], found: Survey, threshold: float
) -> list[Slice]:
    """The classes that are shown: all, or the biggest; those with too few rows have nulls."""
    done = {x.klass: x for x in found.slices}
    return [
        _slice(done[c], classes[c], counts[c], found, threshold)
        if c in done
        else _unmeasured(c, classes[c], counts[c])
        for c in biggest(counts)
    ]


def _unmeasured(index: int, name: str, n: int) -> Slice:
    nulls = dict.fromkeys(Slice.model_fields.keys() - {"index", "name", "n"})
    return Slice.model_validate({"index": index, "name": name, "n": n, **nulls})


def _slice(part: measured.Slice, name: str, n: int, found: Survey, threshold: float) -> Slice:
    information = within_latents(part.information if found.joint_known else UNKNOWN, part.alone)
    states = [
        state(interval.lower or 0.0, interval.upper, divergence, threshold=threshold)
        for interval, divergence in zip(part.alone, part.divergences.tolist(), strict=True)
    ]
    return Slice(
        index=part.klass,
        name=name,
        n=n,
        ceiling=part.ceiling,
        saturated=part.saturated if found.joint_known else None,
        kl=estimated(part.kl, part.quantile, floor=0.0),
        mutual_information=bounded(information),
        active=states.count("active"),
        undecided=states.count("undecided"),
        collapse=collapse_verdict(states, information.upper),
        dimensions=[j for j, s in enumerate(states) if s in ("collapsed", "off-prior")],
    )


def class_reasons(labels: LabelInformation | None) -> list[str]:
    """Classes within which the whole code is collapsed, in a sentence."""
    done = [] if labels is None else [x for x in labels.slices if x.collapse is not None]
    dead = [x.name for x in done if x.collapse == "full"]
    if not dead:
        return []
    told = f"within {len(dead)} of {len(done)} classes the code tells one row from another in no"
    return [f"{told} dimension: {named(dead)}"]


def _fraction(information: Interval, entropy: float) -> Estimate:
    """I(Z;Y) / H(Y), at most 1."""
    if entropy == 0.0 or information.lower is None or information.upper is None:
        return Estimate()
    return Estimate(
        lower=min(information.lower / entropy, 1.0), upper=min(information.upper / entropy, 1.0)
    )
