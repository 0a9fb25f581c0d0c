"""From two posterior tables to a comparison: the document, its refusals and its warnings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from latentgauge.comparison import Comparison
from latentgauge.errors import ShapeMismatch
from latentgauge.measures.intervals import Interval
from latentgauge.measures.paired import paired as measured
from latentgauge.options import Options
from latentgauge.paired import cautions, paired
from latentgauge.posterior import Posterior
from latentgauge.report import Estimate
from tests.truth import LinearGaussian, independent, normal

BASE = independent(1.0, 2)
HEAD = LinearGaussian(BASE.W + 0.05 * normal(2, 2, seed=9), 0.95 * BASE.variance)


def posterior(code: LinearGaussian, n: int = 200, *, seed: int = 1) -> Posterior:
    return Posterior(*code.sample(n, seed=seed))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return paired(posterior(BASE), posterior(HEAD), options=Options(seed=3))


def test_it_survives_json(comparison: Comparison) -> None:
    assert Comparison.model_validate_json(comparison.to_json()) == comparison
    assert comparison.model_dump()["schema"] == "latentgauge.comparison/1"


def test_it_says_what_was_compared(comparison: Comparison) -> None:
    assert (comparison.n, comparison.base.d, comparison.head.d) == (200, 2, 2)
    assert comparison.options.seed == 3
    assert comparison.base.digest != comparison.head.digest
    assert [len(x.digest) for x in (comparison, comparison.base, comparison.head)] == [64] * 3


def test_widths_add_up_and_values_are_differences(comparison: Comparison) -> None:
    for x in (
        comparison.mutual_information,
        comparison.total_correlation,
        *(d.mutual_information for d in comparison.dimensions),
    ):
        assert None not in (x.lower, x.upper, x.gap, x.sampling)
        assert x.upper - x.lower == pytest.approx(x.gap + x.sampling)  # type: ignore[operator]
    kl = [x.kl.value for x in (comparison.head, comparison.base)]
    assert comparison.kl.value == pytest.approx(kl[0] - kl[1])  # type: ignore[operator]
    noisy = [x.dataset_information.value for x in (comparison.head, comparison.base)]
    mine = comparison.dataset_information
    assert mine.value == pytest.approx(noisy[0] - noisy[1], abs=0.02)  # type: ignore[operator]
    assert None not in (mine.lower, mine.upper)
    assert mine.lower < mine.value < mine.upper  # type: ignore[operator]


def test_the_digest_tells_tables_options_and_units_apart(comparison: Comparison) -> None:
    base, head = posterior(BASE), posterior(HEAD)

    def digest(b: Posterior, h: Posterior, seed: int = 3, units: torch.Tensor | None = None) -> str:
        return paired(b, h, options=Options(seed=seed, samples=50), units=units).digest

    pairs = torch.arange(200) // 2
    found = [digest(base, head), digest(head, base), digest(base, head, 4)]
    found += [digest(base, head, units=pairs), comparison.digest]
    assert len(set(found)) == len(found)
    assert digest(base, head) == found[0]


def test_tables_of_other_row_counts_are_refused() -> None:
    with pytest.raises(ShapeMismatch) as told:
        paired(posterior(BASE, 30), posterior(HEAD, 40), options=Options())
    assert told.value.expected == "as many rows in the head as in the base: 30"
    assert told.value.got == "40 rows"
    assert "encode the same rows" in told.value.remedy


@pytest.mark.parametrize("name", ["units", "copies"])
def test_units_of_other_rows_are_refused(name: str) -> None:
    with pytest.raises(ShapeMismatch) as told:
        paired(posterior(BASE, 30), posterior(HEAD, 30), options=Options(), **{name: ROWS})
    assert name in told.value.detail
    assert told.value.expected == "one number for each of 30 rows"
    assert told.value.got == "shape [29]"
    assert "leave them out" in told.value.remedy


ROWS = torch.arange(29)


def test_saturation_is_warned_of_for_each_code() -> None:
    full = independent(20.0, 4)
    found = paired(posterior(full, 100), posterior(BASE, 100), options=Options())
    assert [(w.code, w.where) for w in found.warnings] == [("saturated", "base")]
    assert f"ceiling {math.log(100):.4g}" in found.warnings[0].message
    assert len(found.base.unmatched) == 2
    assert found.base.unmatched[0].mutual_information.value == pytest.approx(5.0, abs=1.5)
    copies = torch.arange(100) // 100
    none = paired(posterior(full, 100), posterior(BASE, 100), options=Options(), copies=copies)
    assert none.warnings == []


def test_what_rounding_hides_is_null_and_warned_of() -> None:
    mu = 1e4 * torch.where(normal(50, 2, seed=16) > 0, 1.0, -1.0).double()
    narrow = Posterior(mu + 1e-9 * normal(50, 2, seed=17), torch.full_like(mu, -60.0))
    found = paired(Posterior(mu, torch.zeros_like(mu)), narrow, options=Options())
    assert found.mutual_information.lower is None
    assert found.mutual_information.gap is None
    assert found.dataset_information == found.head.dataset_information == Estimate()
    assert [(w.code, w.where) for w in found.warnings] == [("rounding", "head")]
    assert "joint figures" in found.warnings[0].message


def test_bounds_that_crossed_beyond_their_errors_are_warned_of() -> None:
    found = measured(BASE.sample(100, seed=1), HEAD.sample(100, seed=1))
    crossed = replace(found.head, information=Interval(1.0, 2.0, conflict=True))
    told = list(cautions(replace(found, head=crossed), math.log(100)))
    assert [(w.code, w.where) for w in told] == [("estimator_conflict", "head")]
    assert "a lower bound of the head lies above its upper bound" in told[0].message


def _wide(n: int, d: int, *, seed: int) -> Posterior:
    return Posterior(normal(n, d, seed=seed), 20.0 * normal(n, d, seed=seed + 1))


def _still(n: int, d: int, *, seed: int) -> Posterior:
    mu = normal(n, d, seed=seed)
    mu[:, 0] = 2.0
    return Posterior(mu, torch.full((n, d), -1.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("base", "head"),
    [
        (_wide(1, 3, seed=1), _still(1, 2, seed=2)),
        (_wide(2, 2, seed=3), _still(2, 4, seed=4)),
        (_still(5, 1, seed=5), _still(5, 6, seed=6)),
        (_wide(60, 2, seed=7), _still(60, 2, seed=8)),
        (_still(20, 30, seed=9), _still(20, 25, seed=10)),
        (Posterior(torch.full((50, 2), 3.0), torch.zeros(50, 2)), _still(50, 2, seed=11)),
        (_still(50, 1, seed=12), _still(50, 1, seed=13)),
    ],
    ids=["one row", "two rows", "one latent and six", "wild widths", "more latents than rows",
         "equal rows", "two constant means"],
)  # fmt: skip
def test_every_comparison_is_complete_and_ordered(base: Posterior, head: Posterior) -> None:
    """The models themselves refuse what is not finite."""
    found = paired(base, head, options=Options(thorough=base.n <= 50))
    assert len(found.dimensions) == min(base.d, head.d)
    assert len(found.base.unmatched) + len(found.head.unmatched) == abs(base.d - head.d)
    for x in (
        found.mutual_information,
        found.total_correlation,
        *(d.mutual_information for d in found.dimensions),
    ):
        assert (x.lower is None) == (x.upper is None) == (x.sampling is None)
        if x.lower is not None:
            assert x.lower <= x.upper + 1e-12  # type: ignore[operator]


def test_progress_reaches_the_end() -> None:
    seen: list[float] = []
    paired(posterior(BASE, 50), posterior(HEAD, 50), options=Options(), progress=seen.append)
    assert seen[-1] == 1.0
