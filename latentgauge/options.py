"""What may be asked of an analysis. Every option with the value used is in the report."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from latentgauge.errors import InvalidOption, UnknownOption

# Ratios of weights and variances within these stay in float64's range.
_LEAST, _MOST = 1e-100, 1e100
Variance = Annotated[FiniteFloat, Field(ge=0, le=_MOST)]
# Beyond it two passes over a minibatch of 32 latents take minutes.
LARGEST_MINIBATCH = 8192

EstimatorName = Literal["aggregate", "gaussian", "mws", "mss", "calc_mi", "variational"]
Channels = FiniteFloat | Annotated[list[FiniteFloat], Field(max_length=4096)]


class Normalisation(BaseModel):
    """Pixels to [0, 1], then (x - mean) / std, a number or one a channel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: Channels
    std: Channels

    @model_validator(mode="after")
    def _std_is_positive(self) -> Normalisation:
        spread = self.std if isinstance(self.std, list) else [self.std]
        if not spread or min(spread) <= 0:
            raise ValueError("std must be above 0")
        return self


class Options(BaseModel):
    """How the encoder is fed, how its output is read, and what is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_scale: (
        Annotated[FiniteFloat, Field(gt=0)] | tuple[FiniteFloat, FiniteFloat] | Normalisation | None
    ) = Field(
        default=None,
        description="How rows become what the encoder was trained on. A number: divided by it "
        "(255 takes uint8 pixels to [0, 1]). [low, high]: pixels from their full range "
        "(0..255 for uint8, 0..1 for floats) to low..high. {mean, std}: pixels to [0, 1], then "
        "(x - mean) / std. null: rows go in as they are.",
    )
    input_layout: Literal["auto", "as_is", "flat", "channel"] = Field(
        default="auto",
        description="Shape of a row on its way in. as_is: unchanged; flat: one axis; channel: a "
        "leading channel axis of 1; auto: the first of these three that the encoder accepts.",
    )
    second_output: Literal["logvar", "log_sigma", "sigma", "variance"] = Field(
        default="logvar", description="What the encoder's second output is."
    )
    prior: Literal["standard"] = Field(
        default="standard", description="The prior p(z): N(0, I), the standard normal."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Which kind of worker runs the job."
    )
    batch_size: int = Field(
        default=256, ge=1, le=65536, description="Rows a forward pass; halved when memory ends."
    )
    samples: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Most draws z that the joint information uses; never more than there are rows.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of every random draw.")
    thorough: bool = Field(
        default=False,
        description="Gives every row a kernel of its own shape in the upper bound on I(X;Z): "
        "tighter on curved codes, and slower.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="Two-sided level of every interval."
    )
    active_threshold: float = Field(
        default=0.01,
        gt=0,
        allow_inf_nan=False,
        description="Nats above which a dimension is active, and at most which it is collapsed.",
    )
    variance_threshold: float = Field(
        default=0.01,
        gt=0,
        allow_inf_nan=False,
        description="Variance of the mean above which a unit is active (Burda et al. 2016).",
    )
    beta: float | None = Field(
        default=None,
        ge=0,
        le=_MOST,
        allow_inf_nan=False,
        description="Weight of what the code carries: the report then has I(Z;Y) - beta I(X;Z), "
        "and the forecast is of an objective that weighs its KL by beta. null: the first is left "
        "out, the second takes 1.",
    )
    spectrum: list[Variance] | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Eigenvalues of the data's covariance, for the forecast. null: those of the "
        "rows, where they have at most 1024 columns.",
    )
    decoder_variance: float | None = Field(
        default=None,
        ge=_LEAST,
        le=_MOST,
        allow_inf_nan=False,
        validate_default=True,
        description="Variance s^2 of a Gaussian decoder, above 0: the report then forecasts which "
        "latents a linear VAE would keep. It needs a beta above 0, and spectrum needs it. null: "
        "no forecast.",
    )
    estimators: list[EstimatorName] = Field(
        default=["aggregate"],
        max_length=8,
        description="Estimators to run, by name; aggregate, the report's own, always runs.",
    )
    minibatch: int = Field(
        default=64,
        ge=2,
        le=LARGEST_MINIBATCH,
        description="Rows of the minibatches of mws, mss and calc_mi: the batch size of the "
        "training log.",
    )
    train_size: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Rows of the training set as mws and mss count them, at least minibatch. "
        "null: the rows here.",
    )

    @field_validator("train_size")
    @classmethod
    def _holds_a_minibatch(cls, train_size: int | None, info: ValidationInfo) -> int | None:
        batch = info.data.get("minibatch")
        if train_size is not None and batch is not None and train_size < batch:
            raise ValueError(f"a training set of {train_size} rows holds no minibatch of {batch}")
        return train_size

    @field_validator("decoder_variance")
    @classmethod
    def _has_what_it_needs(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None and info.data.get("spectrum") is not None:
            raise ValueError("spectrum is given without it, and is of no use then")
        beta = info.data.get("beta")
        if value is not None and beta is not None and beta < _LEAST:
            raise ValueError("beta is 0 or next to it, and a KL without weight bounds no latent")
        return value


def parse_options(given: Mapping[str, Any]) -> Options:
    """The options that a caller gave, checked.

    Raises:
        UnknownOption: names the option and the nearest one that exists.
        InvalidOption: names the option, what it takes, and what came.
    """
    for name in given:
        if name not in Options.model_fields:
            raise _unknown(str(name))
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "options"
        raise InvalidOption(
            f"option {name!r}: {first['msg']}",
            expected=Options.model_fields[name].description or "",
            got=repr(given.get(name))[:200],
            remedy=f"give {name} another value, or leave it out",
        ) from None


def _unknown(name: str) -> UnknownOption:
    near = get_close_matches(name, Options.model_fields, n=1, cutoff=0.0)[0]
    return UnknownOption(
        f"there is no option {name[:100]!r}",
        expected="one of " + ", ".join(Options.model_fields),
        got=name[:100],
        remedy=f"the nearest name is {near!r}",
    )
