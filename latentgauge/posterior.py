"""The posterior table N(mu_i, diag(sigma_i^2)): the one door where numbers are checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from latentgauge.errors import InvalidOption, NonFiniteOutput, WrongOutput

# Beyond these, mu^2 / sigma^2 leaves float64's range: no measure could stay finite.
LARGEST_MU = 1e60
LARGEST_LOGVAR = 300.0
NAMED_ROWS = 10


@dataclass(frozen=True)
class Posterior:
    """Means and log variances of N diagonal Gaussians over D latents, both float64 [N, D].

    Raises:
        WrongOutput: no pair of floating [N, D] tensors of one shape, or sizes no encoder means.
        NonFiniteOutput: NaN or infinity; names the rows, counted from 0.
    """

    mu: Tensor
    logvar: Tensor

    def __post_init__(self) -> None:
        for name in ("mu", "logvar"):
            object.__setattr__(self, name, _table(getattr(self, name), name=name))
        if self.mu.shape != self.logvar.shape:
            raise WrongOutput(
                "mu and logvar differ in shape",
                expected="two tables of the same shape [rows, latents]",
                got=f"mu {list(self.mu.shape)}, logvar {list(self.logvar.shape)}",
                remedy="give one mean and one second value for each row and latent",
            )
        _refuse_infinite(self.mu, self.logvar)
        _refuse_absurd(self.mu, self.logvar)

    @property
    def n(self) -> int:
        return int(self.mu.shape[0])

    @property
    def d(self) -> int:
        return int(self.mu.shape[1])

    @classmethod
    def from_outputs(
        cls, mu: Tensor, second: Tensor, *, second_output: str = "logvar"
    ) -> Posterior:
        """The posterior from an encoder's outputs, whatever the second one means.

        Raises:
            InvalidOption: `second_output` is no known convention.
            WrongOutput: also a sigma or variance that is not above 0, with its rows.
        """
        if second_output not in CONVENTIONS:
            raise InvalidOption(
                f"second_output {second_output!r} is no convention",
                expected="one of " + ", ".join(CONVENTIONS),
                got=repr(second_output),
                remedy="say what the encoder's second output is",
            )
        second = _table(second, name=second_output)
        if second_output in ("sigma", "variance"):
            _refuse_not_positive(second, name=second_output)
        return cls(mu, CONVENTIONS[second_output](second))


CONVENTIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "logvar": lambda second: second,
        "log_sigma": lambda second: 2.0 * second,
        "sigma": lambda second: 2.0 * second.log(),
        "variance": torch.log,
    }
)


def named_rows(rows: Tensor) -> str:
    """Row numbers for a sentence: at most ten of them, then how many more."""
    first = ", ".join(str(int(row)) for row in rows[:NAMED_ROWS])
    more = len(rows) - NAMED_ROWS
    word = "row" if len(rows) == 1 else "rows"
    return f"{word} {first}" + (f" and {more} more" if more > 0 else "")


def _table(given: object, *, name: str) -> Tensor:
    if not isinstance(given, Tensor) or not given.is_floating_point():
        kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise WrongOutput(
            f"{name} is no floating-point tensor",
            expected="float16, bfloat16, float32 or float64 values",
            got=str(kind),
            remedy="return (mu, second) as two floating-point tensors",
        )
    if given.ndim != 2 or 0 in given.shape:
        raise WrongOutput(
            f"{name} is no table of rows and latents",
            expected="shape [rows, latents], both at least 1",
            got=str(list(given.shape)),
            remedy="flatten further axes of the code into one",
        )
    return given.detach().to(torch.float64)


def _refuse_infinite(mu: Tensor, logvar: Tensor) -> None:
    finite = mu.isfinite().all(dim=1) & logvar.isfinite().all(dim=1)
    rows = (~finite).nonzero().flatten()
    if len(rows):
        raise NonFiniteOutput(
            f"NaN or infinity in {named_rows(rows)} (counted from 0) of {len(mu)}",
            expected="finite means and log variances in every row",
            got=f"{len(rows)} rows that are not",
            remedy="look at these inputs and at their scale, or leave the rows out",
        )


def _refuse_absurd(mu: Tensor, logvar: Tensor) -> None:
    absurd = (mu.abs() > LARGEST_MU) | (logvar.abs() > LARGEST_LOGVAR)
    rows = absurd.any(dim=1).nonzero().flatten()
    if len(rows):
        largest = f"|mu| {float(mu.abs().max()):.3g}, |logvar| {float(logvar.abs().max()):.3g}"
        raise WrongOutput(
            f"values of no working encoder in {named_rows(rows)} (counted from 0)",
            expected=f"|mu| at most {LARGEST_MU:g}, |logvar| at most {LARGEST_LOGVAR:g}",
            got=f"up to {largest}",
            remedy="check input_scale (pixels in 0..255 fed to an encoder of 0..1?) and "
            "second_output",
        )


def _refuse_not_positive(second: Tensor, *, name: str) -> None:
    rows = (second <= 0).any(dim=1).nonzero().flatten()
    if len(rows):
        raise WrongOutput(
            f"{name} is not above 0 in {named_rows(rows)} (counted from 0)",
            expected=f"a {name} above 0 everywhere",
            got=f"{name} down to {float(second.min()):.6g}",
            remedy="if the second output is a logarithm, say second_output logvar or log_sigma",
        )


assert math.isfinite(LARGEST_MU**2 * math.exp(LARGEST_LOGVAR))
