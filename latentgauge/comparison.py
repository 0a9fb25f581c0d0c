"""What two codes of the same rows differ by, schema `latentgauge.comparison/1`, in nats."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from latentgauge.options import Options
from latentgauge.report import Estimate, Nats, NatsNumber, Warning


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BoundedDifference(_Part):
    """Head less base of a quantity that each code bounds from both sides.

    `upper` - `lower` = `gap` + `sampling`.
    """

    lower: NatsNumber | None
    upper: NatsNumber | None
    gap: NatsNumber | None = Field(description="Width that the two codes' bounds leave open.")
    sampling: NatsNumber | None = Field(description="Width that more rows would narrow.")
    lower_difference: Nats = Field(
        description="Of the two lower bounds: an estimate, and no bound itself."
    )
    upper_difference: Nats = Field(
        description="Of the two upper bounds: an estimate, and no bound itself."
    )


class DimensionDifference(_Part):
    """A latent of the base and the one of the head that it was matched with."""

    base: int
    head: int
    correlation: FiniteFloat | None = Field(
        description="Of their means over the rows, negative where they are mirrored; null where "
        "a mean is constant."
    )
    kl: Nats
    mutual_information: BoundedDifference = Field(
        description="lower_difference.value is exact for these rows: I_Nj of the head less "
        "that of the base."
    )


class LoneDimension(_Part):
    """A latent that the other code, which has fewer, has no partner for."""

    index: int
    kl: Nats
    mutual_information: Nats


class Side(_Part):
    """One of the two codes by itself, measured with the noise that both share."""

    digest: str = Field(description="sha256 of mu and logvar as float64.")
    d: int
    kl: Nats
    mutual_information: Nats = Field(description="Population I(X;Z), bounds.")
    dataset_information: Nats
    unmatched: list[LoneDimension]


class Comparison(_Part):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    schema_name: Literal["latentgauge.comparison/1"] = Field(
        default="latentgauge.comparison/1", alias="schema"
    )
    latentgauge_version: str
    estimator_version: str
    created_at: datetime
    digest: str = Field(description="sha256 of all that decides the numbers.")
    options: Options
    n: int
    confidence: float
    base: Side
    head: Side
    kl: Nats = Field(description="Head less base; the value is exact for these rows.")
    mutual_information: BoundedDifference
    total_correlation: BoundedDifference
    dataset_information: Nats = Field(
        description="I_N of the head less that of the base; the error is that of the draws."
    )
    dimensions: list[DimensionDifference]
    warnings: list[Warning]

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


NO_ESTIMATE = Estimate()
UNKNOWN_DIFFERENCE = BoundedDifference(
    lower=None,
    upper=None,
    gap=None,
    sampling=None,
    lower_difference=NO_ESTIMATE,
    upper_difference=NO_ESTIMATE,
)
