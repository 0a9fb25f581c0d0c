"""A training log's figures beside the right ones, from a report that measured both."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from latentgauge.options import EstimatorName, Options, parse_options
from latentgauge.report import Estimate, Report

LOGGED: tuple[EstimatorName, ...] = ("mws", "mss", "calc_mi")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(_Part):
    """One quantity in nats: of the population, of this data set, and as logs show it."""

    population: Estimate
    dataset: Estimate
    logged: dict[str, Estimate] = Field(description="By estimator; only those that read it.")


class Translation(_Part):
    """What a log shows for batches of `batch_size` rows of a training set of `train_size`."""

    batch_size: int
    train_size: int
    n: int
    d: int
    confidence: float
    digest: str = Field(description="Of the report that it is taken from.")
    quantities: dict[str, Quantity]
    ceilings: dict[str, float | None]
    reasons: dict[str, str] = Field(description="Why each estimator differs, by name.")


def translating_options(options: Options, *, batch_size: int, train_size: int | None) -> Options:
    """The options whose report holds a translation.

    Raises:
        InvalidOption: the training set holds no such minibatch.
    """
    asked = {
        "estimators": ["aggregate", *LOGGED],
        "minibatch": batch_size,
        "train_size": train_size,
    }
    return parse_options(options.model_dump(exclude_unset=True) | asked)


def translation(report: Report) -> Translation:
    """The translation that a report with the options above holds."""
    here = report.dataset_decomposition
    parts = {
        "mutual_information": (report.mutual_information, here.information),
        "total_correlation": (report.total_correlation, here.total_correlation),
        "dimensionwise_kl": (report.dimensionwise_kl, here.dimensionwise_kl),
        "kl": (report.kl, here.kl),
    }
    named = {name: report.estimators[name] for name in LOGGED}
    return Translation(
        batch_size=report.options.minibatch,
        train_size=report.options.train_size or report.n,
        n=report.n,
        d=report.d,
        confidence=report.confidence,
        digest=report.digest,
        quantities={
            quantity: Quantity(
                population=population,
                dataset=dataset,
                logged={
                    name: result.figures[quantity]
                    for name, result in named.items()
                    if quantity in result.figures
                },
            )
            for quantity, (population, dataset) in parts.items()
        },
        ceilings={name: result.ceiling for name, result in named.items()},
        reasons={name: result.bias for name, result in named.items()},
    )
