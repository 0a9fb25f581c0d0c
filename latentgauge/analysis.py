"""From a posterior table, labels and options to a report: the trusted half, no model in sight."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch
from torch import Tensor

from latentgauge import __version__
from latentgauge.cautions import cautions, class_cautions
from latentgauge.errors import ShapeMismatch
from latentgauge.estimates import bounded as _bounds
from latentgauge.estimates import estimated as _estimate
from latentgauge.estimates import exact as _exact
from latentgauge.estimates import of_dataset as _of_dataset
from latentgauge.estimators import check_minibatch, named_results
from latentgauge.forecasts import forecast_section
from latentgauge.label_figures import class_reasons, label_information
from latentgauge.measures import dimensions as used
from latentgauge.measures.intervals import difference
from latentgauge.measures.pairs import silent
from latentgauge.measures.survey import Survey, survey
from latentgauge.measures.units import Mean, mean_over_units
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import (
    ESTIMATOR_VERSION,
    ActiveDimensions,
    Collapse,
    CollapseSigns,
    DatasetDecomposition,
    DatasetInformation,
    Dimension,
    Environment,
    Estimate,
    EstimatorResult,
    Inputs,
    LabelInformation,
    LucasCurve,
    LucasPoint,
    Probe,
    Report,
    Rounding,
    VariableTypes,
    Warning,
)

Progress = Callable[[float], None]

# Of the progress; estimators asked for by name come after.
SURVEY_SHARE = 0.9


@dataclass(frozen=True)
class Labels:
    """A class for each row: codes int64 [N] in 0..len(classes)-1."""

    codes: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """What is analysed.

    Rows with the same number in `units` [N] depend on each other; those with the same number in
    `copies` [N] are one row of the data, and only the ceiling of I_N asks that. `spectrum` [K]
    holds the eigenvalues of the data's covariance, where they are known from the rows.
    """

    posterior: Posterior
    inputs: Inputs
    labels: Labels | None = None
    units: Tensor | None = None
    copies: Tensor | None = None
    spectrum: Tensor | None = None
    preflight: tuple[Probe, ...] = ()
    warnings: tuple[Warning, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ShapeMismatch unless labels, units and copies say something of every row."""
        labels = None if self.labels is None else self.labels.codes
        told = {"units": self.units, "copies": self.copies, "labels": labels}
        for name, codes in told.items():
            if codes is not None and codes.shape != (self.posterior.n,):
                raise ShapeMismatch(
                    f"{name} do not fit the rows",
                    expected=f"one number for each of {self.posterior.n} rows",
                    got=f"shape {list(codes.shape)}",
                    remedy="give every row one, or leave them out",
                )


def analyse(
    subject: Subject,
    *,
    options: Options,
    environment: Environment,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Report:
    """The whole report. `progress` gets the fraction done and may raise to stop the work."""
    check_minibatch(options, subject.posterior.n)
    start = time.perf_counter()
    found = survey(
        subject.posterior.mu.cpu(),
        subject.posterior.logvar.cpu(),
        units=subject.units,
        copies=None if subject.copies is None else subject.copies.cpu(),
        classes=None if subject.labels is None else subject.labels.codes.cpu(),
        samples=options.samples,
        thorough=options.thorough,
        seed=options.seed,
        confidence=options.confidence,
        device=device,
        tick=lambda fraction: progress(SURVEY_SHARE * fraction),
    )
    surveyed = time.perf_counter()
    named = named_results(
        subject.posterior,
        found,
        options=options,
        tick=lambda fraction: progress(SURVEY_SHARE + (1.0 - SURVEY_SHARE) * fraction),
    )
    report = _report(subject, found, named, options, environment, torch.device(device))
    stages = {f"measures.{name}": seconds for name, seconds in found.seconds.items()}
    stages["measures.estimators"] = time.perf_counter() - surveyed
    timings = {**subject.timings, "measures": time.perf_counter() - start, **stages}
    progress(1.0)
    return report.model_copy(update={"timings": timings})


def digest(subject: Subject, options: Options, device: torch.device) -> str:
    """sha256 over the canonical JSON of all that decides the numbers."""
    parts: dict[str, object] = {
        "estimator_version": ESTIMATOR_VERSION,
        "inputs": subject.inputs.model_dump(mode="json"),
        "options": options.model_dump(mode="json"),
        "device": device.type,
    }
    if subject.labels is not None:
        parts["labels"] = [_sha256(subject.labels.codes), list(subject.labels.classes)]
    for name, codes in (("units", subject.units), ("copies", subject.copies)):
        if codes is not None:
            parts[name] = _sha256(codes)
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(codes: Tensor) -> str:
    return hashlib.sha256(codes.to("cpu", torch.int64).contiguous().numpy().tobytes()).hexdigest()


def _report(
    subject: Subject,
    found: Survey,
    named: dict[str, EstimatorResult],
    options: Options,
    environment: Environment,
    device: torch.device,
) -> Report:
    posterior = subject.posterior
    dimensions = _dimensions(posterior, found, options.active_threshold)
    kl = mean_over_units(found.kl, found.units)
    information = _bounds(found.information)
    labels = _labels(subject.labels, found, options)
    active = _active_dimensions(posterior, dimensions, options)
    return Report(
        latentgauge_version=__version__,
        estimator_version=ESTIMATOR_VERSION,
        created_at=datetime.now(UTC),
        digest=digest(subject, options, device),
        inputs=subject.inputs,
        options=options,
        n=posterior.n,
        d=posterior.d,
        log_n=math.log(posterior.n),
        confidence=options.confidence,
        kl=_estimate(kl, found.quantile, floor=0.0),
        kl_per_dimension_mean=kl.value / posterior.d,
        mutual_information=information,
        total_correlation=_bounds(difference(found.intervals, [found.information])),
        dimensionwise_kl=_bounds(found.dimensionwise),
        marginal_kl=_bounds(found.marginal_kl),
        dataset_information=_dataset_information(found),
        dataset_decomposition=_decomposition(found),
        rounding=_rounding(found),
        active_dimensions=active,
        dimensions=dimensions,
        collapse=_collapse(posterior, found, dimensions, options.active_threshold, labels),
        labels=labels,
        forecast=forecast_section(subject.spectrum, options, active=active, d=posterior.d),
        estimators=named,
        warnings=[*subject.warnings, *cautions(posterior, found), *class_cautions(labels)],
        preflight=list(subject.preflight),
        timings={},
        environment=environment,
    )


def _dataset_information(found: Survey) -> DatasetInformation:
    estimate = _of_dataset(found.joint.dataset, found, ceiling=found.ceiling)
    return DatasetInformation(
        **estimate.model_dump(), ceiling=found.ceiling, saturated=found.saturated
    )


def _decomposition(found: Survey) -> DatasetDecomposition:
    """Its first line is exact, so that the parts add up: KL = I_N + TC + DWKL."""
    information, error = found.joint.dataset, found.joint.dataset.standard_error
    total = math.fsum(latent.kl.value for latent in found.latents)
    correlation = Mean(math.fsum(x.dataset for x in found.latents) - information.value, error)
    return DatasetDecomposition(
        kl=_exact(total),
        information=_of_dataset(information, found, ceiling=found.ceiling),
        total_correlation=_of_dataset(correlation, found),
        dimensionwise_kl=_exact(math.fsum(x.kl.value - x.dataset for x in found.latents)),
        marginal_kl=_of_dataset(Mean(total - information.value, error), found),
    )


def _rounding(found: Survey) -> Rounding:
    return Rounding(**{name: getattr(found.rounding, name) for name in Rounding.model_fields})


def _dimensions(posterior: Posterior, found: Survey, threshold: float) -> list[Dimension]:
    mean, moved = posterior.mu.mean(dim=0), used.variance_of_mean(posterior.mu)
    width = posterior.logvar.exp().mean(dim=0)
    out = []
    for j in range(posterior.d):
        latent = found.latents[j]
        interval, apart = latent.interval, latent.divergence
        lower = 0.0 if interval.lower is None else interval.lower
        out.append(
            Dimension(
                index=j,
                name=f"z{j}",
                mean=float(mean[j]),
                variance_of_mean=float(moved[j]),
                mean_of_variance=float(width[j]),
                kl=_estimate(latent.kl, found.quantile, floor=0.0),
                mutual_information=Estimate(
                    value=latent.dataset,
                    standard_error=latent.lower_error,
                    lower=interval.lower,
                    upper=interval.upper,
                ),
                dimensionwise_kl=Estimate(
                    value=apart.value,
                    standard_error=apart.standard_error,
                    lower=apart.interval.lower,
                    upper=apart.interval.upper,
                ),
                rounding=found.rounding.informations[j],
                state=used.state(lower, interval.upper, apart.value, threshold=threshold),
            )
        )
    return out


def _active_dimensions(
    posterior: Posterior, dimensions: list[Dimension], options: Options
) -> ActiveDimensions:
    active = [x.index for x in dimensions if x.state == "active"]
    by_variance = used.active_units(posterior.mu, threshold=options.variance_threshold)
    types = used.variable_types(posterior.logvar)
    counts = used.lucas_counts(posterior.mu, posterior.logvar)
    points = zip(used.LUCAS_EPSILONS, counts, strict=True)
    return ActiveDimensions(
        count=len(active),
        undecided=sum(x.state == "undecided" for x in dimensions),
        indices=active,
        by_variance_of_mean=int(by_variance.sum()),
        threshold=options.active_threshold,
        lucas_curve=LucasCurve(
            delta=used.LUCAS_DELTA, points=[LucasPoint(epsilon=e, collapsed=c) for e, c in points]
        ),
        types=VariableTypes(
            active=list(types.active), mixed=list(types.mixed), passive=list(types.passive)
        ),
    )


def _collapse(
    posterior: Posterior,
    found: Survey,
    dimensions: list[Dimension],
    threshold: float,
    labels: LabelInformation | None,
) -> Collapse:
    states = [x.state for x in dimensions]
    upper = found.information.upper
    return Collapse(
        verdict=used.collapse_verdict(states, upper),
        reasons=[
            *used.collapse_reasons(states, upper, threshold=threshold),
            *class_reasons(labels),
        ],
        dimensions=[x.index for x in dimensions if x.state in ("collapsed", "off-prior")],
        textbook_rule=used.textbook_collapse(posterior.mu, posterior.logvar),
        signs=CollapseSigns(
            mean_variance_of_mean=float(used.variance_of_mean(posterior.mu).mean()),
            mean_logvar=float(posterior.logvar.mean()),
            mutual_information_upper=upper,
            active=states.count("active"),
            collapsed=states.count("collapsed"),
            off_prior=states.count("off-prior"),
            undecided=states.count("undecided"),
        ),
    )


def _labels(labels: Labels | None, found: Survey, options: Options) -> LabelInformation | None:
    if labels is None:
        return None
    counts = torch.bincount(labels.codes.cpu(), minlength=len(labels.classes))
    return label_information(labels.classes, counts.tolist(), found, options)
