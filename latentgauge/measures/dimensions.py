"""Which latents are used: by information, and by the rules of papers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentgauge.measures.decomposition import kl_rows

State = Literal["active", "collapsed", "off-prior", "undecided"]
Verdict = Literal["none", "partial", "full", "undecided"]

LUCAS_DELTA = 0.01
LUCAS_EPSILONS = tuple(10.0 ** (-3.0 + 4.0 * k / 19.0) for k in range(20))
# A row's variance nearer to 1 than to 0 reads as passive; a latent is of one type when nearly
# all rows agree.
PASSIVE_VARIANCE = 0.5
TYPE_SHARE = 0.95
# The textbook rule for a collapsed code.
TEXTBOOK_VARIANCE = 0.01
TEXTBOOK_LOGVAR = 0.1
# I(X;Z) at most this, with confidence, for a code to be called fully collapsed; nats.
FULL_COLLAPSE = 0.02


def state(lower: float, upper: float | None, dimensionwise_kl: float, *, threshold: float) -> State:
    """What a latent is, from the interval for I_j and the value of DWKL_j, in nats."""
    if lower > threshold:
        return "active"
    if upper is None or upper > threshold:
        return "undecided"
    return "collapsed" if dimensionwise_kl <= threshold else "off-prior"


def variance_of_mean(mu: Tensor) -> Tensor:
    """Var_x(E[z_j|x]) [D], the unbiased one; 0 for a single row."""
    return mu.var(dim=0) if len(mu) > 1 else torch.zeros_like(mu[0])


def active_units(mu: Tensor, *, threshold: float) -> Tensor:
    """Var_x(E[z_j|x]) above the threshold, bool [D].

    Statistic A_u of Burda et al. 2016, https://arxiv.org/abs/1509.00519, with 0.01 there. It
    goes by squared latent units, so it knows neither a code's scale nor its sigma.
    """
    return variance_of_mean(mu) > threshold


def lucas_counts(mu: Tensor, logvar: Tensor) -> tuple[int, ...]:
    """Latents with P_x(KL_j(x) < epsilon) >= 1 - delta, for each of LUCAS_EPSILONS.

    The (epsilon, delta)-collapse of Lucas et al. 2019, https://arxiv.org/abs/1911.02469.
    """
    kl = kl_rows(mu, logvar)
    shares = [(kl < epsilon).double().mean(dim=0) for epsilon in LUCAS_EPSILONS]
    return tuple(int((share >= 1.0 - LUCAS_DELTA).sum()) for share in shares)


@dataclass(frozen=True)
class Types:
    """Indices of active, mixed and passive latents."""

    active: tuple[int, ...]
    mixed: tuple[int, ...]
    passive: tuple[int, ...]


def variable_types(logvar: Tensor) -> Types:
    """Active where sigma^2 is near 0 in nearly all rows, passive where near 1, mixed between.

    Rolinek et al. 2019, https://arxiv.org/abs/1812.06775, and Bonheure & Grzes 2021,
    https://arxiv.org/abs/2109.12679. Their "near" is ours to fix: the nearer of 0 and 1.
    """
    passive = (logvar.exp() > PASSIVE_VARIANCE).double().mean(dim=0)
    names = ["passive" if p >= TYPE_SHARE else "active" if p <= 1.0 - TYPE_SHARE else "mixed"
             for p in passive.tolist()]  # fmt: skip
    index = {kind: tuple(j for j, name in enumerate(names) if name == kind) for kind in set(names)}
    return Types(index.get("active", ()), index.get("mixed", ()), index.get("passive", ()))


def textbook_collapse(mu: Tensor, logvar: Tensor) -> bool:
    """mean_j Var(mu_j) < .01 and |mean logvar| < .1.

    It misses a constant posterior off the prior, and any partial collapse.
    """
    quiet = float(variance_of_mean(mu).mean()) < TEXTBOOK_VARIANCE
    return quiet and abs(float(logvar.mean())) < TEXTBOOK_LOGVAR


def collapse_verdict(states: Sequence[State], information_upper: float | None) -> Verdict:
    """Collapse of the whole code, from its latents' states and the upper end for I(X;Z)."""
    kinds = set(states)
    gone = kinds & {"collapsed", "off-prior"}
    if kinds == {"active"}:
        return "none"
    if kinds <= {"collapsed", "off-prior"}:
        small = information_upper is not None and information_upper <= FULL_COLLAPSE
        return "full" if small else "undecided"
    return "partial" if "active" in kinds and gone else "undecided"


def collapse_reasons(
    states: Sequence[State], information_upper: float | None, *, threshold: float
) -> list[str]:
    """The verdict's grounds in sentences, the latents named."""
    told: dict[State, str] = {
        "active": f"carry more than {threshold:g} nats of the input, with confidence",
        "collapsed": f"carry at most {threshold:g} nats and equal the prior",
        "off-prior": f"carry at most {threshold:g} nats, at a posterior that is not the prior",
        "undecided": f"have an interval for I_j that contains {threshold:g} nats",
    }
    out = []
    for kind, sentence in told.items():
        names = [f"z{j}" for j, each in enumerate(states) if each == kind]
        if names:
            count = f"{len(names)} of {len(states)} dimensions"
            out.append(f"{count} {sentence}: {named(names)}")
    if information_upper is None:
        out.append("the whole code's information has no known upper end")
    else:
        out.append(f"the whole code carries at most {information_upper:.4g} nats, with confidence")
    return out


def named(names: Sequence[str], *, most: int = 12) -> str:
    """Names for a sentence, the first dozen."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
