"""The report's section on labels: what the code tells of them, whole and latent by latent."""

from __future__ import annotations

from dataclasses import replace

from latentgauge.estimates import bounded, estimated, exact, of_dataset
from latentgauge.measures.intervals import Interval, label_interval
from latentgauge.measures.labels import LabelBounds
from latentgauge.measures.marginals import INFLATION
from latentgauge.measures.survey import Survey
from latentgauge.measures.units import Mean
from latentgauge.report import Bottleneck, Estimate, LabelDimension, LabelInformation


def label_information(
    classes: tuple[str, ...], counts: list[int], found: Survey
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
        bottleneck=Bottleneck(rate=bounded(found.information), relevance=relevance),
        per_dimension=_per_dimension(bounds, found),
    )


def _lower_bound(lower: Mean, found: Survey) -> Estimate:
    """The bound itself, below 0 where chance puts it there; its error as the interval has it."""
    if not found.joint_known:
        return Estimate()
    error = lower.standard_error
    return estimated(
        Mean(lower.value, None if error is None else INFLATION * error), found.quantile
    )


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


def _fraction(information: Interval, entropy: float) -> Estimate:
    """I(Z;Y) / H(Y), at most 1."""
    if entropy == 0.0 or information.lower is None or information.upper is None:
        return Estimate()
    return Estimate(
        lower=min(information.lower / entropy, 1.0), upper=min(information.upper / entropy, 1.0)
    )
