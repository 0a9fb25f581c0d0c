"""Estimators by name: what each reads on this table, which way it leans, and its ceiling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from latentgauge.errors import InvalidOption
from latentgauge.estimates import estimated
from latentgauge.measures.joint import Standardised
from latentgauge.measures.marginals import INFLATION
from latentgauge.measures.minibatch import (
    Decomposition,
    batch_count,
    batch_information,
    minibatch_stratified,
    minibatch_weighted,
    named_stream,
)
from latentgauge.measures.pairs import Tick, part, silent
from latentgauge.measures.rate import held_out_rate, moment_matched_rates
from latentgauge.measures.survey import Survey
from latentgauge.measures.units import (
    Mean,
    effective_units,
    fold_of_rows,
    interval_quantile,
    mean_over_units,
    student_quantile,
)
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import Estimate, EstimatorResult

MINIBATCH = ("mws", "mss", "calc_mi")


def named_results(
    posterior: Posterior, found: Survey, *, options: Options, tick: Tick = silent
) -> dict[str, EstimatorResult]:
    """The aggregate and the estimators that were asked for, by name, in a fixed order.

    Each has a random stream of its own: what else runs changes no figure.
    """
    asked = [name for name in _MEASURED if name in options.estimators]
    results = {"aggregate": _aggregate(found)}
    if asked:
        table = Standardised.of(posterior.mu.cpu(), posterior.logvar.cpu())
        for k, name in enumerate(asked):
            what = _Asked(posterior, table, found, options, part(tick, k, len(asked)))
            results[name] = _MEASURED[name](what)
    return results


def check_minibatch(options: Options, n: int) -> None:
    """Raises InvalidOption when an estimator that is asked for draws minibatches of over n rows."""
    asked = [name for name in MINIBATCH if name in options.estimators]
    if asked and options.minibatch > n:
        raise InvalidOption(
            f"option 'minibatch': {options.minibatch} rows cannot be drawn from {n}, "
            f"as {' and '.join(asked)} would",
            expected=f"a minibatch of at most {n} rows",
            got=str(options.minibatch),
            remedy="give a smaller minibatch, or more rows",
        )


@dataclass(frozen=True)
class _Asked:
    """What an estimator may look at."""

    posterior: Posterior
    table: Standardised
    found: Survey
    options: Options
    tick: Tick

    @property
    def train(self) -> int:
        return self.options.train_size or self.posterior.n

    def stream(self, name: str) -> torch.Generator:
        return named_stream(name, self.options.seed)


def _aggregate(found: Survey) -> EstimatorResult:
    return EstimatorResult(
        kind="bounds",
        bias="I_N lies below I in expectation, the upper bound above it",
        ceiling=found.ceiling,
    )


def _gaussian(asked: _Asked) -> EstimatorResult:
    found = asked.found
    diagonal, full = moment_matched_rates(asked.table)
    return EstimatorResult(
        kind="approximation",
        bias="high with many rows: no density of these moments has more entropy than the "
        "Gaussian, so full is at least I_N; fitted to few rows it can still read below I; "
        "diagonal also counts what the latents share as information",
        ceiling=None,
        figures={
            "diagonal": estimated(mean_over_units(diagonal, found.units), found.quantile),
            "full": estimated(mean_over_units(full, found.units), found.quantile),
        },
    )


def _mws(asked: _Asked) -> EstimatorResult:
    batch, train, d = asked.options.minibatch, asked.train, asked.posterior.d
    found = minibatch_weighted(
        asked.table, batch=batch, train=train, generator=asked.stream("mws"), tick=asked.tick
    )
    log_n, ceiling = math.log(train), math.log(train * batch)
    return EstimatorResult(
        kind="approximation",
        bias=f"high whatever the code: mutual information is log N = {log_n:.2f} plus that of "
        f"the minibatch, so a dead code reads {log_n:.2f}; total correlation is (D - 1) log N = "
        f"{(d - 1) * log_n:.2f} above the minibatch's, dimension-wise KL D log N = "
        f"{d * log_n:.2f} below; KL is right, since these offsets cancel",
        ceiling=ceiling,
        figures=_decomposed(found, _batch_quantile(asked), ceiling=ceiling),
    )


def _mss(asked: _Asked) -> EstimatorResult:
    batch, train = asked.options.minibatch, asked.train
    ceiling = math.log(train)
    found = minibatch_stratified(
        asked.table, batch=batch, train=train, generator=asked.stream("mss"), tick=asked.tick
    )
    return EstimatorResult(
        kind="approximation",
        bias="high against I_N, the figure of the N rows: q(z) is right on average, so log q(z) "
        f"is low; mutual information lies between I_N and log N = {ceiling:.2f}, nearer to I_N "
        "the larger the minibatch, and cannot see what a code carries beyond log N; "
        "dimension-wise KL is low, total correlation leans either way",
        ceiling=ceiling,
        figures=_decomposed(found, _batch_quantile(asked), ceiling=ceiling),
    )


def _calc_mi(asked: _Asked) -> EstimatorResult:
    batch = asked.options.minibatch
    t, ceiling = _batch_quantile(asked), math.log(batch)
    found = batch_information(
        asked.table, batch=batch, generator=asked.stream("calc_mi"), tick=asked.tick
    )
    return EstimatorResult(
        kind="lower_bound",
        bias=f"low: it asks which of the {batch} rows of a minibatch, so it stops at log B = "
        f"{ceiling:.2f} whatever the code carries",
        ceiling=ceiling,
        figures={"mutual_information": estimated(found, t, floor=0.0, ceiling=ceiling)},
    )


def _variational(asked: _Asked) -> EstimatorResult:
    found, upper = asked.found, asked.found.joint.upper
    folds = fold_of_rows(found.units, asked.stream("variational"))
    held_out = held_out_rate(asked.table, folds)
    gaussian = mixture = Estimate()
    if held_out is not None:
        gaussian = estimated(_inflated(mean_over_units(held_out, found.units)), found.quantile)
    if found.joint_known:
        mixture = estimated(_inflated(upper), _draws_quantile(found, asked.options))
    prior = mean_over_units(found.kl, found.units)
    return EstimatorResult(
        kind="upper_bound",
        bias="high: E KL(q(z|x) || r) is I + KL(q(z) || r) for any r that has not seen the row, "
        "so each figure is an upper bound on I in expectation, the tighter the nearer r is to "
        "q(z); with the prior as r it is KL",
        ceiling=None,
        figures={
            "prior": estimated(prior, found.quantile, floor=0.0),
            "gaussian": gaussian,
            "mixture": mixture,
        },
    )


_MEASURED: Mapping[str, Callable[[_Asked], EstimatorResult]] = {
    "gaussian": _gaussian,
    "mws": _mws,
    "mss": _mss,
    "calc_mi": _calc_mi,
    "variational": _variational,
}


def _decomposed(found: Decomposition, t: float, *, ceiling: float) -> dict[str, Estimate]:
    return {
        "kl": estimated(found.kl, t),
        "mutual_information": estimated(found.mutual_information, t, ceiling=ceiling),
        "total_correlation": estimated(found.total_correlation, t),
        "dimensionwise_kl": estimated(found.dimensionwise_kl, t),
    }


def _batch_quantile(asked: _Asked) -> float:
    count = batch_count(asked.options.minibatch, asked.posterior.d)
    return interval_quantile(asked.options.confidence, torch.arange(count))


def _draws_quantile(found: Survey, options: Options) -> float:
    """Of a mean over the draws: no more of them count than there are units."""
    count = min(effective_units(found.units), float(len(found.joint.upper_rows)))
    return student_quantile(options.confidence, max(count - 1.0, 1.0))


def _inflated(mean: Mean) -> Mean:
    """Rows share the fitted density, which the plain error does not see."""
    if mean.standard_error is None:
        return mean
    return Mean(mean.value, INFLATION * mean.standard_error)
