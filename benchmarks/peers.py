"""Error and time of this package and of others, side by side, on codes whose truth is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.figure import Figure, Goal
from benchmarks.joint import Pass
from benchmarks.sampling import (
    Decomposition,
    batch_information,
    decomposition_by_sampling,
    diagonal_gaussian,
)
from latentgauge.measures.decomposition import entropy_rows
from latentgauge.measures.density import mixture_density
from latentgauge.measures.intervals import difference
from latentgauge.measures.lanes import lanes
from latentgauge.measures.survey import Survey, survey
from tests.truth import clusters, equicorrelated, generator, normal, scaled

ROWS, BATCH, NEIGHBOURS = 5_000, 32, 3
# The table for the data set's figures; estimates of them, and how many of ours make the reference.
TABLE, REPEATS, REFERENCES = (10_000, 16), 3, 30
FASTER = 50.0
# Noise of its own: the same seed would draw what a table's rows were drawn from.
NOISE = 50_000
Found = TypeVar("Found")
ABSENT = {
    "torch-mist": "needs numpy < 2",
    "benchmark-mi": "needs numpy < 2 and pydantic < 2",
}


@dataclass(frozen=True)
class Code:
    """A posterior table, samples of what it tells of, and the source's I and TC in nats."""

    name: str
    mu: Tensor
    logvar: Tensor
    information: float
    total_correlation: float


Method = Callable[[Code], Decomposition]
FIELDS = {"I_N": "information", "TC": "total_correlation", "I_j": "informations"}


def figures() -> Iterator[Figure]:
    yield from against_sampling()
    for code in codes():
        yield from side_by_side(code)
    for name, why in ABSENT.items():
        yield Figure(name, None, "nats", None, f"not installed: {why}")


def codes() -> Iterator[Code]:
    ten = equicorrelated(5.0, 1.87, 10)
    yield Code("10 latents", *ten.sample(ROWS, seed=1), ten.information, ten.total_correlation)
    many = scaled(normal(64, 8, seed=1), 7.0)
    yield Code("64 latents", *many.sample(ROWS, seed=2), many.information, many.total_correlation)
    eight = math.log(8.0)
    yield Code("8 clusters", *clusters(8, ROWS // 8, 2), eight, eight)


# One table, two ways to its data set's figures


def against_sampling() -> Iterator[Figure]:
    """I_N, TC_N and I_Nj of one correlated table, against sampling all of them."""
    source = equicorrelated(5.0, 1.87, TABLE[1])
    name = f"{TABLE[0]} x {TABLE[1]}"
    code = Code(name, *source.sample(TABLE[0], seed=0), source.information, 1.87)
    right = reference(code)
    # In turn: what else the machine does then slows both.
    ours, theirs = [], []
    for seed in range(REPEATS):
        ours.append(timed(partial(dataset_figures, seed=seed), code))
        theirs.append(timed(partial(sampled, seed=seed), code))
    seconds, slower = (min(taken for _, taken in runs) for runs in (ours, theirs))
    work, peer = f"{name}: I_N, TC and I_j by sampling", "latentgauge"
    yield Figure(work, slower, "s", seconds, peer, Goal(at_least=FASTER))
    for what, field in FIELDS.items():
        error, other = (root_mean_square(runs, right, field) for runs in (ours, theirs))
        work = f"{name}: {what} by sampling: error"
        yield Figure(work, other, "nats", error, peer, Goal(at_least=1.0))


def dataset_figures(code: Code, *, seed: int) -> Decomposition:
    """I_N by the pass, I_Nj by integration, TC_N as their difference.

    The draws' log ratios less their regression on what has a known mean, as the survey has them:
    the latents' own log ratios, log q(z|x), and log g(z) of a Gaussian g given x.
    """
    one = Pass.of(code.mu, code.logvar, samples=len(code.mu), seed=NOISE + seed)
    ratio = one.log_ratio()
    alone, known = latents_alone(one)
    controls = torch.cat([known[:, None], one.controls()], dim=1)
    centred = controls - controls.mean(dim=0)
    b = torch.linalg.lstsq(centred, (ratio - ratio.mean())[:, None]).solution.squeeze(1)
    information = float((ratio - controls @ b).mean())
    return Decomposition(information, float(alone.sum()) - information, alone)


def latents_alone(one: Pass) -> tuple[Tensor, Tensor]:
    """I_Nj [D], and sum_j log q(z_ij|x_i) / q_j(z_ij) - I_Nj of the draws, of mean 0."""
    table, draws = one.table, one.draws

    def latent(j: int) -> tuple[float, Tensor]:
        mu, logvar = table.mu[:, j].contiguous(), table.logvar[:, j].contiguous()
        q = mixture_density(mu, logvar.exp())
        log_q = q.at(draws.z[:, j].contiguous()).log()
        return q.entropy() - float(entropy_rows(logvar).mean()), draws.log_own[:, j] - log_q

    with lanes() as pool:
        found = list(pool.each(latent, range(table.mu.shape[1])))
    alone = torch.tensor([information for information, _ in found], dtype=torch.float64)
    ratios = torch.stack([ratio for _, ratio in found], dim=1)
    return alone, (ratios - alone).sum(dim=1)


def sampled(code: Code, *, seed: int) -> Decomposition:
    return decomposition_by_sampling(
        code.mu.float(), code.logvar.float(), draws=len(code.mu), generator=generator(NOISE + seed)
    )


def reference(code: Code) -> Decomposition:
    """The data set's own values: I_N the mean over many draws of each row, I_Nj by a fine sum."""
    found = [dataset_figures(code, seed=1_000 + seed).information for seed in range(REFERENCES)]
    information = math.fsum(found) / len(found)
    alone = torch.stack([fine(m, v) for m, v in zip(code.mu.T, code.logvar.T, strict=True)])
    return Decomposition(information, float(alone.sum()) - information, alone)


def fine(mu: Tensor, logvar: Tensor) -> Tensor:
    """I_Nj of one latent: its entropy by the trapezoidal rule over the mixture written out."""
    sd = (0.5 * logvar).exp()
    z = torch.linspace(float((mu - 9 * sd).min()), float((mu + 9 * sd).max()), 2_001).double()
    t = (z[:, None] - mu) / sd
    q = (-0.5 * t.square()).exp().div(sd * math.sqrt(2.0 * math.pi)).mean(dim=1)
    return torch.trapezoid(-torch.special.xlogy(q, q), z) - entropy_rows(logvar).mean()


def root_mean_square(
    runs: list[tuple[Decomposition, float]], right: Decomposition, what: str
) -> float:
    """Over runs and, for I_j, latents."""
    errors = [torch.as_tensor(getattr(found, what) - getattr(right, what)) for found, _ in runs]
    return float(torch.stack(errors).double().square().mean().sqrt())


# The source's figures, by every method


def side_by_side(code: Code) -> Iterator[Figure]:
    """Errors against the source's I and TC, beside the half width of our interval, and times."""
    found, seconds = timed(lambda c: survey(c.mu, c.logvar), code)
    yield from own_figures(code, found)
    reach = half_width(found.information.lower, found.information.upper)
    for name, method in methods().items():
        other, taken = timed(method, code)
        error = abs(other.information - code.information)
        yield Figure(f"{code.name}, I by {name}: error", error, "nats", reach, "half our interval")
        if other.total_correlation is not None:
            apart = difference(found.intervals, [found.information])
            error = abs(other.total_correlation - code.total_correlation)
            wide = half_width(apart.lower, apart.upper)
            yield Figure(
                f"{code.name}, TC by {name}: error", error, "nats", wide, "half our interval"
            )
        yield Figure(f"{code.name}, {name}", taken, "s", seconds, "latentgauge, whole survey")
    if find_spec("npeet_plus") is None:
        why = "npeet-plus is not installed"
        yield Figure(f"{code.name}, I by k-NN (KSG): error", None, "nats", None, why)


def own_figures(code: Code, found: Survey) -> Iterator[Figure]:
    for which, bound in (("lower", found.joint.lower), ("upper", found.joint.upper)):
        work = f"{code.name}, I by latentgauge: {which} bound"
        yield Figure(work, bound.value, "nats", code.information, "the truth")


def methods() -> dict[str, Method]:
    known: dict[str, Method] = {
        "sampling": lambda code: sampled(code, seed=0),
        f"calc_mi, batches of {BATCH}": lambda code: batch_information(
            code.mu, code.logvar, batch=BATCH, generator=generator(NOISE)
        ),
        "a diagonal Gaussian": lambda code: diagonal_gaussian(code.mu, code.logvar),
    }
    if find_spec("npeet_plus") is not None:
        known["k-NN (KSG)"] = nearest_neighbours
    return known


def nearest_neighbours(code: Code) -> Decomposition:
    """Kraskov et al. 2004 between mu and z, by npeet-plus: it knows no density, only samples."""
    from npeet_plus import mi

    # npeet-plus breaks ties with numpy's global generator.
    np.random.seed(0)
    z = code.mu + (0.5 * code.logvar).exp() * normal(*code.mu.shape, seed=NOISE)
    return Decomposition(float(mi(code.mu.numpy(), z.numpy(), k=NEIGHBOURS, base=math.e)))


def timed(method: Callable[[Code], Found], code: Code) -> tuple[Found, float]:
    started = time.perf_counter()
    found = method(code)
    return found, time.perf_counter() - started


def half_width(lower: float | None, upper: float | None) -> float:
    return 0.5 * ((math.inf if upper is None else upper) - (lower or 0.0))
