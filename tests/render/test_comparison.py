"""A comparison in a terminal: what is not known is said, what is long is cut and said."""

from __future__ import annotations

from datetime import UTC, datetime

from latentgauge.comparison import (
    BoundedDifference,
    Comparison,
    DimensionDifference,
    LoneDimension,
    Side,
)
from latentgauge.options import Options
from latentgauge.render.table import render_comparison
from latentgauge.report import Estimate, Warning

EXACT = Estimate(value=0.5, standard_error=0.1, lower=0.3, upper=0.7)
NOTHING = BoundedDifference(
    lower=None,
    upper=None,
    gap=None,
    sampling=None,
    lower_difference=Estimate(),
    upper_difference=Estimate(),
)
KNOWN = BoundedDifference(
    lower=-0.2,
    upper=0.1,
    gap=0.25,
    sampling=0.05,
    lower_difference=EXACT,
    upper_difference=EXACT,
)


def comparison(whole: BoundedDifference, *, latents: int) -> Comparison:
    side = Side(
        digest="5f" * 32,
        d=latents,
        kl=EXACT,
        mutual_information=Estimate(lower=1.0, upper=2.0),
        dataset_information=Estimate() if whole is NOTHING else EXACT,
        unmatched=[],
    )
    lone = LoneDimension(index=7, kl=EXACT, mutual_information=Estimate(lower=0.0))
    return Comparison(
        latentgauge_version="0",
        estimator_version="0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="5f" * 32,
        options=Options(),
        n=1200,
        confidence=0.95,
        base=side,
        head=side.model_copy(update={"unmatched": [lone]}),
        kl=EXACT,
        mutual_information=whole,
        total_correlation=whole,
        dataset_information=side.dataset_information,
        dimensions=[
            DimensionDifference(
                base=j, head=j, correlation=None, kl=EXACT, mutual_information=KNOWN
            )
            for j in range(latents)
        ],
        warnings=[Warning(code="saturated", message="it is", where="head")],
    )


def flat(text: str) -> str:
    return " ".join(text.split())


def test_known_figures_stand_with_what_their_width_is_made_of() -> None:
    text = flat(render_comparison(comparison(KNOWN, latents=1)))
    assert "1,200 rows; base 1, head 1 latent dimensions; figures in nats, intervals at 95%" in text
    assert "KL 0.50 0.50 0.5 [0.3, 0.7] - -" in text
    assert "I(X;Z) [1, 2] [1, 2] [-0.2, 0.1] 0.25 0.05" in text
    assert "TC - - [-0.2, 0.1] 0.25 0.05" in text
    assert "differ by 0.5 [0.3, 0.7] (lower) and 0.5 [0.3, 0.7] (upper)" in text
    assert " 0 0 - 0.50 [-0.2, 0.1] 0.25 0.05" in text
    assert "only in the head: 7 (I_j [0, inf))" in text
    assert "saturated (head): it is" in text


def test_what_is_not_known_is_said() -> None:
    text = flat(render_comparison(comparison(NOTHING, latents=1)))
    assert "I_N not known not known not known - -" in text
    assert "I(X;Z) [1, 2] [1, 2] no bound is known not known not known" in text
    assert "themselves differ" not in text


def test_many_latents_are_cut_and_counted() -> None:
    text = flat(render_comparison(comparison(KNOWN, latents=40)))
    assert " 31 31 - " in text
    assert " 32 32 - " not in text
    assert "and 8 more: see --format json" in text
