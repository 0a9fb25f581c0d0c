"""Reports made by hand, with numbers that fit each other, for the tests of what shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from math import log
from typing import Any

from latentgauge.gates import GateResult, Verdict
from latentgauge.options import Options
from latentgauge.report import ESTIMATOR_VERSION, Estimate, Report, Slice

HOSTILE = "<script>alert(1)</script>"
MARKUP = "[red]x[/red]"
CONTROL = "bell\x07 escape\x1b[31m right-to-left\u202e"

STATED = {"active": 1.0, "collapsed": 0.0, "off-prior": 0.0, "undecided": 0.01}


def bounds(lower: float | None, upper: float | None) -> Estimate:
    return Estimate(lower=lower, upper=upper)


def measured(value: float, error: float = 0.0) -> Estimate:
    low, high = value - 1.96 * error, value + 1.96 * error
    return Estimate(value=value, standard_error=error, lower=low, upper=high)


def dimension(index: int, *, state: str, name: str | None = None) -> dict[str, Any]:
    """I_j around the state's figure; an off-prior dimension has KL and no information."""
    information = STATED[state]
    shift = 1.4431 if state == "off-prior" else 0.0
    width = {"active": 0.02, "undecided": 0.005}.get(state, 0.001)
    return {
        "index": index,
        "name": f"z{index}" if name is None else name,
        "mean": 1.5 if shift else 0.0,
        "variance_of_mean": information,
        "mean_of_variance": 0.25 if shift else 1.0 if information == 0 else 0.157,
        "kl": measured(information + shift, 0.001),
        "mutual_information": bounds(max(information - width, 0.0), information + width),
        "dimensionwise_kl": bounds(shift, shift + width),
        "rounding": 1e-5,
        "state": state,
    }


def report(
    states: list[str],
    *,
    n: int = 4096,
    information_n: float = 0.0,
    saturated: bool = False,
    verdict: str = "none",
    reasons: tuple[str, ...] = (),
    **other: Any,
) -> Report:
    """A report whose dimensions are independent, so that every figure is a sum over them."""
    d = len(states)
    dimensions = [dimension(index, state=state) for index, state in enumerate(states)]
    count = {state: states.count(state) for state in STATED}
    information = sum(STATED[state] for state in states)
    shift = 1.4431 * count["off-prior"]
    kl = measured(information + shift, 0.02)
    given: dict[str, Any] = {
        "latentgauge_version": "0.1.0",
        "estimator_version": ESTIMATOR_VERSION,
        "created_at": datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
        "digest": "5f" * 32,
        "inputs": {
            "encoder": {
                "sha256": "ab" * 32,
                "format": "torchscript",
                "outputs": [f"mu [B, {d}]", f"logvar [B, {d}]"],
                "dtype": "float32",
                "device": "cpu",
            },
            "dataset": {
                "sha256": "cd" * 32,
                "n": n,
                "shape": [28, 28],
                "dtype": "uint8",
                "range": (0.0, 255.0),
                "repeated_rows": 0,
                "labels": None,
            },
        },
        "options": Options(),
        "n": n,
        "d": d,
        "log_n": log(n),
        "confidence": 0.95,
        "kl": kl,
        "kl_per_dimension_mean": (information + shift) / d,
        "mutual_information": bounds(max(information - 0.4, 0.0), information + 0.001),
        "total_correlation": bounds(0.0, 0.3 if information else 0.001),
        "dimensionwise_kl": bounds(shift, shift + 0.01),
        "marginal_kl": bounds(shift, shift + 0.3),
        "dataset_information": {
            "value": information_n,
            "standard_error": 0.01,
            "lower": information_n - 0.0196,
            "upper": information_n + 0.0196,
            "ceiling": log(n),
            "saturated": saturated,
        },
        "dataset_decomposition": {
            "kl": kl,
            "information": measured(information_n, 0.01),
            "total_correlation": measured(information - information_n, 0.02),
            "dimensionwise_kl": measured(shift),
            "marginal_kl": measured(information - information_n + shift, 0.02),
        },
        "rounding": {
            "kl": 1e-13,
            "information": 1e-11,
            "total_correlation": 1e-5 * d,
            "dimensionwise_kl": 1e-5 * d,
            "marginal_kl": 1e-11,
            "labels": None,
        },
        "active_dimensions": {
            "count": count["active"],
            "undecided": count["undecided"],
            "indices": [i for i, state in enumerate(states) if state == "active"],
            "by_variance_of_mean": count["active"],
            "threshold": 0.01,
            "lucas_curve": {"delta": 0.01, "points": [{"epsilon": 0.01, "collapsed": d}]},
            "types": {"active": [], "mixed": [], "passive": []},
        },
        "dimensions": dimensions,
        "collapse": {
            "verdict": verdict,
            "reasons": reasons,
            "dimensions": [],
            "textbook_rule": verdict == "full",
            "signs": {
                "mean_variance_of_mean": information / d,
                "mean_logvar": 0.0,
                "mutual_information_upper": information + 0.001,
                "active": count["active"],
                "collapsed": count["collapsed"],
                "off_prior": count["off-prior"],
                "undecided": count["undecided"],
            },
        },
        "labels": None,
        "forecast": None,
        "estimators": {"aggregate": {"kind": "bounds", "bias": "none known", "ceiling": None}},
        "warnings": [],
        "preflight": [{"probe": "deterministic", "passed": True, "detail": "3 runs are equal"}],
        "timings": {"encode": 1.25, "measure": 3.5},
        "environment": {
            "device": "cpu",
            "sandbox": "in_process",
            "torch": "2.13.0",
            "python": "3.11.9",
            "platform": "linux",
            "threads": 2,
        },
    }
    return Report.model_validate(given | other)


def live() -> Report:
    """Ten dimensions of one nat each; the 4096 rows are fewer than e^10, so I_N saturates."""
    return report(["active"] * 10, information_n=7.83, saturated=True)


def collapsed() -> Report:
    """An encoder that ignores its input."""
    return report(
        ["collapsed"] * 10,
        n=1000,
        verdict="full",
        reasons=("no dimension is active or undecided", "I is at most 0.001 nats"),
    )


def hostile() -> Report:
    """64 dimensions, labels and a warning, all named by somebody who tries it on."""
    states = ["active"] * 20 + ["off-prior"] * 4 + ["undecided"] * 4 + ["collapsed"] * 36
    dimensions = [
        dimension(index, state=state, name=f"{HOSTILE if index % 2 else MARKUP} {index}")
        for index, state in enumerate(states)
    ]
    return report(
        states,
        information_n=8.2,
        saturated=True,
        verdict="partial",
        reasons=("20 of 64 dimensions are active",),
        dimensions=dimensions,
        warnings=[{"code": "saturated", "message": f"{HOSTILE} {CONTROL}", "where": MARKUP}],
        labels=labels(),
        forecast=forecast(),
    )


def forecast() -> dict[str, Any]:
    return {
        "decoder_variance": 1.0,
        "beta": 1.0,
        "spectrum": "option",
        "above": 1,
        "alive": 1,
        "indices": [0],
        "total": 0.6931,
        "latents": [
            {
                "index": 0,
                "eigenvalue": 4.0,
                "alive": True,
                "information": 0.6931,
                "beta_limit": 4.0,
                "variance_limit": 4.0,
            }
        ],
        "held_against": "a linear VAE would keep 1 of 64 latents; 20 to 24 are active",
    }


def labels() -> dict[str, Any]:
    entropy = log(3)
    return {
        "classes": [HOSTILE, MARKUP, CONTROL],
        "counts": [1366, 1365, 1365],
        "entropy": entropy,
        "mutual_information": bounds(0.7, 0.9),
        "lower_bound": measured(0.72, 0.01),
        "dataset_mutual_information": measured(entropy - 0.001, 0.0005),
        "fraction": bounds(0.7 / entropy, 0.9 / entropy),
        "bottleneck": {
            "rate": measured(25.8, 0.02),
            "relevance": bounds(0.7, 0.9),
            "objective": bounds(-2.0, -1.5),
        },
        "per_dimension": [
            {
                "index": index,
                "mutual_information": bounds(0.1 * index, 0.1 * index + 0.05),
                "dataset_mutual_information": measured(0.1 * index + 0.07),
            }
            for index in range(4)
        ],
        "slices": [
            {
                "index": 0,
                "name": HOSTILE,
                "n": 1366,
                "ceiling": log(1366),
                "saturated": True,
                "kl": measured(25.0, 0.1),
                "mutual_information": bounds(7.2, 12.5),
                "active": 18,
                "undecided": 1,
                "collapse": "partial",
                "dimensions": list(range(24, 64)),
            },
            {
                "index": 1,
                "name": MARKUP,
                "n": 1365,
                "ceiling": log(1365),
                "saturated": False,
                "kl": measured(0.001),
                "mutual_information": bounds(0.0, 0.002),
                "active": 0,
                "undecided": 0,
                "collapse": "full",
                "dimensions": list(range(64)),
            },
            {"index": 2, "name": CONTROL, "n": 7}
            | dict.fromkeys(Slice.model_fields.keys() - {"index", "name", "n"}),
        ],
    }


def with_estimators() -> Report:
    """The live report with estimators asked for by name, one of which a stranger wrote about."""
    own = {"kind": "bounds", "bias": "none known", "ceiling": log(4096)}
    mws = {
        "kind": "approximation",
        "bias": f"high by log N {HOSTILE} {CONTROL}",
        "ceiling": 12.48,
        "figures": {"total_correlation": measured(80.43, 0.02), "kl": measured(10.06, 0.03)},
    }
    rate = {
        "kind": "upper_bound",
        "bias": "high",
        "ceiling": None,
        "figures": {"prior": measured(10.06), "gaussian": Estimate()},
    }
    estimators = {"aggregate": own, "mws": mws, "variational": rate}
    return report(["active"] * 10, information_n=7.83, saturated=True, estimators=estimators)


def verdict() -> Verdict:
    """One gate of each outcome."""
    gates = [
        GateResult(
            expression="mutual_information >= 3",
            outcome="pass",
            observed="9.6 to 10.001 nats",
            wanted=">= 3 nats",
            reason="all of the interval satisfies it",
            decide="",
        ),
        GateResult(
            expression="total_correlation <= 0.1",
            outcome="inconclusive",
            observed="0 to 0.3 nats",
            wanted="<= 0.1 nats",
            reason="the interval lies on both sides of the threshold",
            decide="more rows need not help: the upper bound may be loose",
        ),
        GateResult(
            expression=f"collapse.verdict == {HOSTILE}",
            outcome="fail",
            observed="none",
            wanted=f"== {MARKUP}",
            reason="",
            decide="",
        ),
    ]
    return Verdict(outcome="fail", gates=gates)
