"""The report, schema `latentgauge.report/1`: nats, float64, no NaN or infinity anywhere.

The models are the schema; `docs/report/schema.json` is written from them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from latentgauge.options import Options

# Changes whenever the same inputs and options may give other numbers.
ESTIMATOR_VERSION = "2"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Part):
    """A quantity with its interval at the report's `confidence`.

    `value` and `standard_error` are null where only bounds exist; a null bound means that none
    is known on that side. The error is that of the value as an estimate of what the interval
    holds: the population's figure, or in `dataset_...` that of this data set.
    """

    value: FiniteFloat | None = None
    standard_error: FiniteFloat | None = None
    lower: FiniteFloat | None = None
    upper: FiniteFloat | None = None


_NATS = Field(json_schema_extra={"unit": "nats"})
Nats = Annotated[Estimate, _NATS]
NatsNumber = Annotated[FiniteFloat, _NATS]


class EncoderInput(_Part):
    sha256: str
    format: str = Field(description="What the bytes are, by their content: torchscript, ...")
    outputs: list[str] = Field(description="Name and shape of each output, B for the batch.")
    dtype: str
    device: str


class DatasetInput(_Part):
    sha256: str
    n: int = Field(description="Rows used.")
    shape: list[int] = Field(description="Of one row.")
    dtype: str
    range: tuple[FiniteFloat, FiniteFloat] = Field(description="Smallest and largest entry.")
    repeated_rows: int = Field(description="Rows that are a copy of an earlier row.")
    labels: int | None = Field(description="Number of classes in y; null without labels.")


class PosteriorInput(_Part):
    sha256: str
    format: str
    second_output: str = Field(description="The array that came with mu.")
    dtype: str
    repeated_rows: int


class Inputs(_Part):
    encoder: EncoderInput | None = None
    dataset: DatasetInput | None = None
    posterior: PosteriorInput | None = None
    decoder: None = None


class DatasetInformation(_Part):
    """I_N, the information between the index of a row and z: at most its ceiling."""

    value: Annotated[FiniteFloat | None, _NATS]
    standard_error: Annotated[FiniteFloat | None, _NATS]
    lower: Annotated[FiniteFloat | None, _NATS]
    upper: Annotated[FiniteFloat | None, _NATS]
    ceiling: NatsNumber = Field(
        description="Entropy of the empirical distribution over distinct rows; log N without "
        "repeats."
    )
    saturated: bool = Field(
        description="I_N is within 0.5 nats of its ceiling, which is above 0.5 itself."
    )


class DatasetDecomposition(_Part):
    """KL = information + total correlation + dimension-wise KL, for this data set, to 1e-9."""

    kl: Nats
    information: Nats
    total_correlation: Nats
    dimensionwise_kl: Nats
    marginal_kl: Nats


class Rounding(_Part):
    """Bounds on the numerical error of this data set's figures."""

    kl: NatsNumber
    information: NatsNumber
    total_correlation: NatsNumber
    dimensionwise_kl: NatsNumber
    marginal_kl: NatsNumber
    labels: NatsNumber | None = Field(description="Of I_N(Z;Y); null without labels.")


class LucasPoint(_Part):
    epsilon: NatsNumber
    collapsed: int = Field(description="Dimensions with P(KL_j(x) < epsilon) >= 1 - delta.")


class LucasCurve(_Part):
    """The (epsilon, delta)-collapse of Lucas et al. 2019 against epsilon, at one delta."""

    delta: FiniteFloat
    points: list[LucasPoint]


class VariableTypes(_Part):
    """Active, mixed and passive variables of Rolinek et al. 2019, by index."""

    active: list[int]
    mixed: list[int]
    passive: list[int]


class ActiveDimensions(_Part):
    count: int = Field(description="Dimensions whose I_j is above the threshold with confidence.")
    undecided: int = Field(description="Dimensions whose interval contains the threshold.")
    indices: list[int]
    by_variance_of_mean: int = Field(
        description="Active units: Var_x(E[z_j|x]) above variance_threshold (Burda et al. 2016)."
    )
    threshold: NatsNumber
    lucas_curve: LucasCurve
    types: VariableTypes


State = Literal["active", "collapsed", "off-prior", "undecided"]


class Dimension(_Part):
    index: int
    name: str
    mean: FiniteFloat
    variance_of_mean: FiniteFloat
    mean_of_variance: FiniteFloat
    kl: Nats
    mutual_information: Nats = Field(
        description="Value: the data set's I_Nj, exact. Error and interval: of the "
        "population's I_j."
    )
    dimensionwise_kl: Nats = Field(
        description="Value: the data set's KL_j - I_Nj, exact. Error and interval: of the "
        "population's."
    )
    rounding: NatsNumber = Field(description="Bound on the numerical error of I_Nj.")
    state: State


class CollapseSigns(_Part):
    """The figures that the verdict and the textbook rule rest on."""

    mean_variance_of_mean: FiniteFloat
    mean_logvar: FiniteFloat
    mutual_information_upper: Annotated[FiniteFloat | None, _NATS]
    active: int
    collapsed: int
    off_prior: int
    undecided: int


class Collapse(_Part):
    verdict: Literal["none", "partial", "full", "undecided"]
    reasons: list[str]
    dimensions: list[int] = Field(description="Collapsed or off-prior dimensions.")
    textbook_rule: bool = Field(
        description="mean Var(mu) < .01 and |mean logvar| < .1: one sign among others."
    )
    signs: CollapseSigns


class Bottleneck(_Part):
    """The point of the information plane: what the code costs, what it tells of y."""

    rate: Nats
    relevance: Nats
    objective: Nats | None = Field(
        description="I(Z;Y) - beta I(X;Z), bounds; null without the option beta."
    )


class LabelDimension(_Part):
    index: int
    mutual_information: Nats = Field(
        description="Population I(z_j;Y), bounds: at most H(Y) and I_j."
    )
    dataset_mutual_information: Nats = Field(description="I_N(z_j;Y), exact for this data set.")


class Slice(_Part):
    """One class as a population of its own: what z tells of x among the rows of this class."""

    index: int = Field(description="Of the class, into `classes`.")
    name: str
    n: int = Field(description="Rows of the class.")
    ceiling: NatsNumber | None = Field(description="Entropy over the class's distinct rows.")
    saturated: bool | None = Field(
        description="I_N of the class is within 0.5 nats of its ceiling; null where unknown."
    )
    kl: Nats | None = Field(description="E KL(q(z|x) || p(z)) over the class.")
    mutual_information: Nats | None = Field(description="Population I(X;Z) within the class.")
    active: int | None = Field(description="Dimensions with I_j in the class above the threshold.")
    undecided: int | None = Field(description="Dimensions whose interval contains it.")
    collapse: Literal["none", "partial", "full", "undecided"] | None
    dimensions: list[int] | None = Field(
        description="Dimensions that are collapsed or off-prior within the class."
    )


class LabelInformation(_Part):
    classes: list[str] = Field(description="Name of each class.")
    counts: list[int]
    entropy: NatsNumber = Field(description="H(Y) of these rows' class frequencies.")
    mutual_information: Nats = Field(description="Population I(Z;Y), bounds.")
    lower_bound: Nats = Field(
        description="What the lower end rests on: below I(Z;Y) in expectation, not floored. "
        "Labels that mean nothing read 0 within its errors."
    )
    dataset_mutual_information: Nats = Field(
        description="I_N(Z;Y) of the data set's own mixture; on a saturated code it reads H(Y) "
        "even for labels that mean nothing."
    )
    fraction: Estimate = Field(description="Population I(Z;Y) / entropy, at most 1.")
    bottleneck: Bottleneck
    per_dimension: list[LabelDimension]
    slices: list[Slice] = Field(
        description="Each class alone, in the order of `classes`; nulls where its rows are too "
        "few. With many classes the biggest 50."
    )


class ForecastLatent(_Part):
    """One direction of the data as a latent of a linear VAE."""

    index: int = Field(description="Of the eigenvalue, in the spectrum's order.")
    eigenvalue: FiniteFloat
    alive: bool
    information: NatsNumber = Field(description="I_j = KL_j; 0 where it is not alive.")
    beta_limit: FiniteFloat = Field(
        description="Alive for any beta below this, at this decoder variance."
    )
    variance_limit: FiniteFloat = Field(
        description="Alive for any decoder variance below this, at this beta."
    )


class Forecast(_Part):
    """What a linear VAE at its optimum would keep: exact for it, a yardstick for others."""

    decoder_variance: FiniteFloat
    beta: FiniteFloat
    spectrum: Literal["option", "rows"] = Field(description="Where the eigenvalues come from.")
    above: int = Field(description="Eigenvalues above beta times the decoder variance.")
    alive: int = Field(description="Of these, as many as there are latents.")
    indices: list[int] = Field(description="Theirs, in the spectrum's order.")
    total: NatsNumber = Field(description="I(X;Z) of the linear VAE.")
    latents: list[ForecastLatent] = Field(
        description="The largest eigenvalues, one for each latent, descending."
    )
    held_against: str = Field(description="The measured active dimensions beside it, in words.")


class EstimatorResult(_Part):
    """What an estimator by another name reads; its intervals hold what it would read on average.

    Only where `kind` is a bound does that say something of I(X;Z).
    """

    kind: Literal["bounds", "lower_bound", "upper_bound", "approximation"]
    bias: str = Field(description="Which way its figures lean, and why.")
    ceiling: NatsNumber | None = Field(
        description="What its information, or for bounds their lower one, cannot exceed in "
        "expectation; null where nothing limits it."
    )
    figures: dict[str, Nats] = Field(
        default={}, description="By name; none for aggregate, whose figures are the report's own."
    )


class Warning(_Part):
    code: str
    message: str
    where: str


class Probe(_Part):
    probe: str
    passed: bool
    detail: str


class Environment(_Part):
    device: str = Field(description="Where the measures ran.")
    sandbox: str = Field(
        description="How the encoder was confined: off (a child process with limits, or this "
        "process), in_process, none (no code ran)."
    )
    torch: str
    python: str
    platform: str
    threads: int


class Report(_Part):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    schema_name: Literal["latentgauge.report/1"] = Field(
        default="latentgauge.report/1", alias="schema"
    )
    latentgauge_version: str
    estimator_version: str
    created_at: datetime
    digest: str = Field(description="sha256 of all that decides the numbers.")
    inputs: Inputs
    options: Options
    n: int
    d: int
    log_n: NatsNumber
    confidence: float
    kl: Nats = Field(description="E_x KL(q(z|x) || p(z)).")
    kl_per_dimension_mean: NatsNumber
    mutual_information: Nats = Field(description="Population I(X;Z).")
    total_correlation: Nats = Field(description="Population KL(q(z) || prod q(z_j)).")
    dimensionwise_kl: Nats = Field(description="Population sum_j KL(q(z_j) || p(z_j)).")
    marginal_kl: Nats = Field(description="Population KL(q(z) || p(z)).")
    dataset_information: Annotated[DatasetInformation, _NATS]
    dataset_decomposition: DatasetDecomposition
    rounding: Rounding
    active_dimensions: ActiveDimensions
    dimensions: list[Dimension]
    collapse: Collapse
    groups: list[None] = Field(default=[], description="Named latent groups: none yet.")
    labels: LabelInformation | None
    forecast: Forecast | None = Field(description="Null without the option decoder_variance.")
    factors: None = None
    decoder: None = None
    estimators: dict[str, EstimatorResult] = Field(description="Those that ran, by name.")
    warnings: list[Warning]
    preflight: list[Probe]
    timings: dict[str, FiniteFloat] = Field(description="Seconds by stage.")
    environment: Environment

    def to_json(self) -> str:
        """The report as JSON text, one value a line where it is deep."""
        return self.model_dump_json(indent=2) + "\n"
