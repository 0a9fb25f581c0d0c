"""The report: its identities, its verdicts, its warnings, and that it never breaks."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from scipy import integrate, stats

from latentgauge.analysis import Labels, Subject, analyse
from latentgauge.cautions import cautions
from latentgauge.errors import ShapeMismatch
from latentgauge.gates import judge, parse_gates
from latentgauge.measures.intervals import Interval
from latentgauge.measures.survey import survey
from latentgauge.options import Options
from latentgauge.posterior import Posterior
from latentgauge.report import Environment, Inputs, PosteriorInput, Probe, Report, Warning
from tests.truth import F64, independent, normal

ENVIRONMENT = Environment(
    device="cpu", sandbox="none", torch="-", python="-", platform="-", threads=1
)


def _report(mu: torch.Tensor, logvar: torch.Tensor, **given: object) -> Report:
    y, units, copies = (given.pop(name, None) for name in ("y", "units", "copies"))
    options = Options(**given)
    labels = None
    if y is not None:
        labels = Labels(y.long(), tuple(f"class {k}" for k in range(int(y.max()) + 1)))
    subject = Subject(Posterior(mu, logvar), Inputs(), labels=labels, units=units, copies=copies)
    return analyse(subject, options=options, environment=ENVIRONMENT)


def _codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def _adds_up(report: Report) -> None:
    parts = report.dataset_decomposition
    total = parts.information.value + parts.total_correlation.value + parts.dimensionwise_kl.value
    assert abs(parts.kl.value - total) <= 1e-9 * max(1.0, parts.kl.value)
    assert parts.kl.value == pytest.approx(report.kl.value, rel=1e-12)
    rest = parts.kl.value - parts.information.value
    assert abs(parts.marginal_kl.value - rest) <= 1e-9 * max(1.0, parts.kl.value)
    _ordered(report.model_dump())


def _ordered(node: object) -> None:
    """Every interval anywhere in the report has its ends in order, around its value."""
    if isinstance(node, dict):
        low, high, value = node.get("lower"), node.get("upper"), node.get("value")
        if low is not None and high is not None:
            assert low <= high
            assert value is None or low - 1e-9 <= value <= high + 1e-9
        for child in node.values():
            _ordered(child)
    elif isinstance(node, list | tuple):
        for child in node:
            _ordered(child)


def test_a_dead_encoder_is_fully_collapsed():
    report = _report(torch.zeros(1000, 10), torch.zeros(1000, 10))
    assert report.kl.value == 0.0
    assert abs(report.dataset_information.value) <= 1e-9
    assert report.mutual_information.upper <= 1e-6
    assert report.total_correlation.upper <= 1e-6
    assert report.collapse.verdict == "full"
    assert report.collapse.textbook_rule
    assert report.collapse.dimensions == list(range(10))
    assert _codes(report) == {"constant_logvar"}
    _adds_up(report)


def test_a_nearly_collapsed_code_has_a_narrow_interval():
    report = _report(0.01 * normal(1024, 32, seed=0), torch.zeros(1024, 32))
    low, high = report.mutual_information.lower, report.mutual_information.upper
    assert low <= 0.0016 <= high
    assert high - low < 0.02
    assert all(x.mutual_information.upper <= 0.01 for x in report.dimensions)
    assert (report.active_dimensions.count, report.collapse.verdict) == (0, "full")
    _adds_up(report)


def test_ten_nats_are_within_the_interval_where_the_dataset_reads_less():
    report = _report(*independent(10.0, 10).sample(4096, seed=1))
    assert report.mutual_information.lower <= 10.0 <= report.mutual_information.upper
    assert report.kl.value == pytest.approx(10.06, abs=4 * report.kl.standard_error)
    assert report.dataset_information.value == pytest.approx(7.83, abs=0.12)
    assert report.total_correlation.lower == 0.0
    assert report.collapse.verdict == "none"
    _adds_up(report)


def test_kl_without_information_is_off_prior():
    mu = torch.full((1000, 3), 1.5)
    report = _report(mu, torch.full((1000, 3), 2.0 * math.log(0.5)))
    for dimension in report.dimensions:
        assert dimension.kl.value == pytest.approx(1.4431, abs=5e-5)
        assert dimension.dimensionwise_kl.value == pytest.approx(1.4431, abs=5e-5)
        assert dimension.mutual_information.value == 0.0
        assert dimension.state == "off-prior"
    assert report.collapse.verdict == "full"
    assert not report.collapse.textbook_rule
    assert any("not the prior" in reason for reason in report.collapse.reasons)


def test_a_quiet_latent_is_active_where_its_variance_says_that_it_is_not():
    mu = math.sqrt(0.005) * normal(2000, 2, seed=44)
    mu[:, 1] = 0.0
    logvar = torch.tensor([2 * math.log(1e-3), 0.0], dtype=F64).expand(2000, 2)
    report = _report(mu, logvar)
    quiet, dead = report.dimensions
    assert (quiet.state, dead.state) == ("active", "collapsed")
    assert quiet.mutual_information.lower <= 4.2588 <= quiet.mutual_information.upper
    assert quiet.variance_of_mean < 0.01
    assert report.active_dimensions.by_variance_of_mean == 0
    assert report.collapse.verdict == "partial"


def test_an_encoder_that_speaks_through_sigma_alone_is_active():
    wide = torch.arange(2000) % 2 == 0
    logvar = torch.where(wide, 0.0, 2 * math.log(0.1))[:, None].double()
    report = _report(torch.zeros(2000, 1), logvar)
    (latent,) = report.dimensions

    def integrand(z: float) -> float:
        q = 0.5 * (stats.norm.pdf(z) + stats.norm.pdf(z, scale=0.1))
        return -q * math.log(q)

    entropy = 2 * integrate.quad(integrand, 0, 12, points=[0.5])[0]
    truth = entropy - 0.5 * (1 + math.log(2 * math.pi)) - 0.5 * math.log(0.1)
    assert truth == pytest.approx(0.433, abs=5e-4)
    assert latent.mutual_information.value == pytest.approx(truth, abs=1e-4)
    assert latent.mutual_information.lower <= truth <= latent.mutual_information.upper
    assert latent.state == "active"
    assert report.active_dimensions.by_variance_of_mean == 0
    assert report.active_dimensions.types.mixed == [0]
    assert report.collapse.verdict == "none"


def test_the_textbook_rule_and_the_curve_stand_beside_the_states():
    # Six of ten latents are the prior; the mean variance is far from .01.
    mu, logvar = normal(1000, 10, seed=45), torch.full((1000, 10), -1.0, dtype=F64)
    mu[:, 4:], logvar[:, 4:] = 0.0, 0.0
    report = _report(mu, logvar)
    assert report.collapse.verdict == "partial"
    assert not report.collapse.textbook_rule
    assert report.collapse.dimensions == [4, 5, 6, 7, 8, 9]
    curve = report.active_dimensions.lucas_curve
    assert curve.delta == 0.01
    assert [p.collapsed for p in curve.points if p.epsilon < 0.1] == [6] * 10
    assert report.collapse.signs.mean_variance_of_mean == pytest.approx(0.4, abs=0.05)
    assert any(reason.startswith("6 of 10 dimensions") for reason in report.collapse.reasons)


def test_a_latent_near_the_threshold_is_undecided_and_so_is_its_code():
    # I_j = 1/2 log(1 + .02) = .0099.
    report = _report(math.sqrt(0.02) * normal(300, 1, seed=46), torch.zeros(300, 1))
    assert report.dimensions[0].state == "undecided"
    assert report.active_dimensions.undecided == 1
    assert report.collapse.verdict == "undecided"


def test_a_lost_second_half_is_warned_of():
    report = _report(3.0 * normal(4000, 4, seed=2), torch.zeros(4000, 4))
    assert "constant_logvar" in _codes(report)
    for dimension in report.dimensions:
        assert dimension.kl.value == pytest.approx(4.5, abs=4 * dimension.kl.standard_error)
        assert dimension.mutual_information.lower <= 1.1513 <= dimension.mutual_information.upper
    _adds_up(report)


def test_one_output_read_twice_is_warned_of():
    mu = normal(200, 2, seed=3)
    assert "identical_outputs" in _codes(_report(mu, mu))


def test_a_near_deterministic_image_code_reads_its_ceiling_and_says_so():
    report = _report(5.5 * normal(512, 48, seed=4), torch.full((512, 48), -30.0))
    assert report.dataset_information.value == pytest.approx(math.log(512), abs=1e-6)
    assert report.dataset_information.saturated
    assert {"near_deterministic", "saturated"} <= _codes(report)
    assert report.mutual_information.upper > 48 * 16
    kl = torch.tensor([x.kl.value for x in report.dimensions])
    assert float(kl.mean()) == pytest.approx(29.625, abs=1.0)
    _adds_up(report)


def test_sums_and_means_over_dimensions_stand_side_by_side():
    variance = 0.5
    mean_square = 1.0 + 1.0 - variance + math.log(variance)
    mu = torch.full((50, 20), math.sqrt(mean_square), dtype=F64)
    report = _report(mu, torch.full_like(mu, math.log(variance)))
    assert report.kl.value == pytest.approx(10.0, abs=1e-9)
    assert report.kl_per_dimension_mean == pytest.approx(0.5, abs=1e-10)


def test_every_row_twice_keeps_the_interval_honest():
    mu, logvar = independent(20.0, 10).sample(2000, seed=5)
    units = torch.arange(2000).repeat(2)
    report = _report(mu.repeat(2, 1), logvar.repeat(2, 1), units=units, copies=units)
    assert report.mutual_information.lower <= 20.0 <= report.mutual_information.upper
    assert report.dataset_information.ceiling == pytest.approx(math.log(2000), abs=1e-12)
    assert report.dataset_information.saturated
    assert report.log_n == pytest.approx(math.log(4000))
    _adds_up(report)


def test_partial_collapse_names_its_dimensions():
    mu = normal(3000, 3, seed=6)
    mu[:, 1] = 0.0
    logvar = torch.full((3000, 3), -2.0, dtype=F64)
    logvar[:, 1] = 0.0
    report = _report(mu, logvar)
    assert report.collapse.verdict == "partial"
    assert report.collapse.dimensions == [1]
    assert report.active_dimensions.indices == [0, 2]
    assert report.active_dimensions.by_variance_of_mean == 2
    assert report.active_dimensions.types.passive == [1]
    assert [x.name for x in report.dimensions] == ["z0", "z1", "z2"]
    assert report.dimensions[1].state == "collapsed"


def test_labels_are_reported_with_their_classes_and_only_when_given():
    y = torch.arange(1500) % 3
    mu = normal(1500, 2, seed=7)
    mu[:, 0] += 8.0 * y
    report = _report(mu, torch.zeros(1500, 2), y=y)
    labels = report.labels
    assert labels.classes == ["class 0", "class 1", "class 2"]
    assert labels.counts == [500, 500, 500]
    assert labels.entropy == pytest.approx(math.log(3), abs=1e-12)
    assert labels.mutual_information.lower > 0.98 * math.log(3)
    assert labels.mutual_information.upper == pytest.approx(labels.entropy, abs=1e-12)
    assert labels.fraction.upper == 1.0
    assert labels.bottleneck.rate == report.mutual_information
    assert labels.bottleneck.relevance == labels.mutual_information
    assert labels.per_dimension[1].dataset_mutual_information.value < 0.02
    assert _report(mu, torch.zeros(1500, 2)).labels is None
    _adds_up(report)


def test_the_bottleneck_weighs_what_is_told_against_what_it_costs():
    y = torch.arange(600) % 2
    mu = normal(600, 1, seed=43) + 3.0 * y[:, None]
    report, free, none = (
        _report(mu, torch.zeros_like(mu), y=y, beta=beta) for beta in (0.25, 0.0, None)
    )
    point = report.labels.bottleneck
    assert point.objective.lower == pytest.approx(point.relevance.lower - 0.25 * point.rate.upper)
    assert point.objective.upper == pytest.approx(point.relevance.upper - 0.25 * point.rate.lower)
    assert free.labels.bottleneck.objective == free.labels.bottleneck.relevance
    assert none.labels.bottleneck.objective is None
    (gate,) = judge(parse_gates(["labels.bottleneck.objective >= -10 nats"]), report).gates
    assert gate.outcome == "pass"
    alone = _report(mu, torch.zeros_like(mu), y=y, beta=1.0, units=torch.zeros(600).long())
    assert alone.labels.bottleneck.objective.lower is None
    assert alone.labels.bottleneck.objective.upper <= math.log(2)


def test_meaningless_labels_read_zero_in_the_population():
    mu, logvar = independent(20.0, 10).sample(3000, seed=8)
    y = torch.randint(0, 10, (3000,), generator=torch.Generator().manual_seed(9))
    labels = _report(mu, logvar, y=y).labels
    assert labels.mutual_information.lower == 0.0
    assert labels.dataset_mutual_information.value > 2.2


def test_a_single_class_has_no_fraction():
    labels = _report(normal(50, 2, seed=10), torch.zeros(50, 2), y=torch.zeros(50)).labels
    assert (labels.entropy, labels.mutual_information.upper) == (0.0, 0.0)
    assert labels.fraction.lower is None


def test_a_report_says_which_class_alone_is_dead():
    y = torch.arange(1200) % 4
    mu = normal(1200, 2, seed=40) + y[:, None]
    logvar = torch.full_like(mu, -2.0)
    mu[y == 2], logvar[y == 2] = 0.0, 0.0
    report = _report(mu, logvar, y=y)
    assert report.collapse.verdict == "none"
    assert report.collapse.reasons[-1] == (
        "within 1 of 4 classes the code tells one row from another in no dimension: class 2"
    )
    slices = report.labels.slices
    assert [x.collapse for x in slices] == ["none", "none", "full", "none"]
    assert [x.active for x in slices] == [2, 2, 0, 2]
    assert slices[2].dimensions == [0, 1]
    assert (slices[2].index, slices[2].name, slices[2].n) == (2, "class 2", 300)
    assert slices[2].ceiling == pytest.approx(math.log(300))
    gates = parse_gates(["labels.slices[2].collapse != full", "labels.slices[0].active >= 2"])
    assert [gate.outcome for gate in judge(gates, report).gates] == ["fail", "pass"]
    few = parse_gates(["labels.slices[1].mutual_information <= 0.5 bits"])
    assert judge(few, report).outcome == "fail"
    _adds_up(report)


def test_a_class_that_is_one_point_off_the_prior_counts_as_collapsed_within():
    y = torch.arange(300) % 3
    mu = 5.0 * y[:, None].double()
    report = _report(mu, torch.zeros_like(mu), y=y)
    assert [x.collapse for x in report.labels.slices] == ["full"] * 3
    assert report.collapse.verdict == "none"
    assert "within 3 of 3 classes" in report.collapse.reasons[-1]


def test_classes_of_few_rows_and_beyond_fifty_are_said():
    y = torch.cat([torch.arange(60).repeat_interleave(21), torch.full((5,), 60.0)])
    report = _report(normal(1265, 1, seed=41), torch.zeros(1265, 1), y=y)
    assert len(report.labels.slices) == 50
    assert "not_measured" in _codes(report)
    y = torch.cat([torch.zeros(200), torch.ones(7)])
    report = _report(normal(207, 1, seed=42), torch.zeros(207, 1), y=y)
    assert report.labels.slices[1].kl is None
    assert report.labels.slices[1].n == 7
    said = [x for x in report.warnings if x.where == "labels.slices"]
    assert [x.code for x in said] == ["few_rows"]
    assert "class 1 (7)" in said[0].message
    (gate,) = judge(parse_gates(["labels.slices[1].kl >= 0"]), report).gates
    assert gate.outcome == "inconclusive"
    assert "gives no figure here" in gate.reason


def test_rounding_leaves_a_class_what_its_latents_know():
    report = _report(normal(100, 2, seed=27), torch.full((100, 2), -80.0), y=torch.arange(100) % 2)
    within = report.labels.slices[0]
    assert within.mutual_information.upper is None
    assert within.mutual_information.lower > 2.0
    assert within.saturated is None
    assert report.labels.lower_bound.value is None


def _duplicates() -> tuple[torch.Tensor, torch.Tensor]:
    sign = torch.where(normal(300, 3, seed=11) > 0, 1e3, -1e3).double()
    near = sign + 1e-6 * normal(300, 3, seed=12)
    return near, torch.full((300, 3), math.log(1e-12)).double()


def _with_constant_column() -> tuple[torch.Tensor, torch.Tensor]:
    mu = normal(200, 3, seed=13)
    mu[:, 1] = 2.0
    return mu, torch.full((200, 3), -1.0, dtype=F64)


@pytest.mark.parametrize(
    ("mu", "logvar"),
    [
        (normal(1, 3, seed=14), normal(1, 3, seed=15)),
        (normal(2, 3, seed=16), normal(2, 3, seed=17)),
        (normal(300, 1, seed=18), normal(300, 1, seed=19)),
        (torch.full((100, 2), 3.0), torch.zeros(100, 2)),
        _with_constant_column(),
        (normal(64, 128, seed=20), 0.1 * normal(64, 128, seed=21) - 1.0),
        _duplicates(),
        (normal(200, 4, seed=22), torch.full((200, 4), -30.0)),
        (normal(200, 4, seed=22), torch.full((200, 4), -200.0)),
        (1e4 + 1e-3 * normal(300, 4, seed=23), torch.full((300, 4), 2 * math.log(1e-3))),
        (normal(100, 2, seed=24), 40.0 * normal(100, 2, seed=25)),
    ],
    ids=["one row", "two rows", "one latent", "equal rows", "constant column", "more latents "
         "than rows", "near-duplicates", "logvar -30", "logvar -200", "offset", "wild widths"],
)  # fmt: skip
@pytest.mark.parametrize("labelled", [False, True])
def test_every_report_is_complete_and_finite(mu, logvar, labelled):
    y = torch.arange(len(mu)) % 2 if labelled else None
    report = _report(mu, logvar, y=y)
    text = report.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the report"))
    _ordered(report.model_dump())


def test_one_unit_leaves_the_upper_ends_open():
    report = _report(normal(30, 2, seed=26), torch.zeros(30, 2), units=torch.zeros(30).long())
    assert report.mutual_information.lower == 0.0
    assert report.mutual_information.upper is None
    assert report.total_correlation.lower == 0.0
    assert report.collapse.verdict == "undecided"
    assert "few_rows" in _codes(report)


def test_one_unit_still_knows_the_noise_of_its_data_set():
    mu, y = normal(300, 2, seed=32), torch.arange(300) % 2
    together = _report(mu, torch.zeros(300, 2), y=y, units=torch.zeros(300).long())
    apart = _report(mu, torch.zeros(300, 2), y=y, units=torch.arange(300))
    for a, b in (
        (together.dataset_information, apart.dataset_information),
        (together.labels.dataset_mutual_information, apart.labels.dataset_mutual_information),
    ):
        assert a.standard_error == pytest.approx(b.standard_error, rel=0.4)
        assert abs(a.value - b.value) < 4 * math.hypot(a.standard_error, b.standard_error)


def test_a_unit_that_outweighs_the_others_is_few_rows():
    units = torch.cat([torch.zeros(1000).long(), torch.arange(1, 201)])
    report = _report(normal(1200, 2, seed=33), torch.zeros(1200, 2), units=units)
    assert "few_rows" in _codes(report)
    assert report.mutual_information.upper is None
    assert report.kl.lower is None


def test_equal_rows_are_not_called_saturated():
    report = _report(torch.zeros(50, 2), torch.zeros(50, 2), copies=torch.zeros(50).long())
    assert report.dataset_information.ceiling == 0.0
    assert not report.dataset_information.saturated
    assert "saturated" not in _codes(report)


def test_ends_are_kept_within_what_is_possible():
    mu = 0.05 * normal(100, 2, seed=34)
    report = _report(mu, torch.zeros(100, 2), y=torch.arange(100) % 2)
    told = report.labels.dataset_mutual_information
    parts = report.dataset_decomposition
    for estimate in (told, parts.total_correlation, parts.information, parts.marginal_kl):
        assert estimate.lower >= min(0.0, estimate.value)
    assert told.upper <= report.labels.entropy
    assert report.labels.fraction.upper <= 1.0


def test_a_latents_errors_are_of_one_kind():
    mu = normal(400, 1, seed=35)
    mu[:, 0] = torch.where(mu[:, 0] > 0, 50.0, -50.0)
    (dimension,) = _report(mu, torch.zeros(400, 1)).dimensions
    # I_j is constant over rows up to the classes' sizes, so KL's error is that of DWKL, inflated.
    assert dimension.dimensionwise_kl.standard_error == pytest.approx(
        1.1 * dimension.kl.standard_error, abs=0.02
    )


def test_joint_figures_that_rounding_has_eaten_are_not_given():
    report = _report(normal(100, 2, seed=27), torch.full((100, 2), -80.0), y=torch.arange(100) % 2)
    assert report.dataset_information.value is None
    assert report.dataset_decomposition.total_correlation.lower is None
    assert report.labels.dataset_mutual_information.value is None
    assert (report.mutual_information.upper, report.marginal_kl.upper) == (None, None)
    alone = report.dimensions[0].mutual_information
    assert report.mutual_information.lower >= alone.lower > 4.0
    assert any("not given" in x.message for x in report.warnings if x.code == "rounding")


def test_a_conflict_of_the_labels_is_warned_of():
    # Rows that depend on each other and do not say so: pairs with one label, drawn apart.
    y = torch.randint(0, 2, (400,), generator=torch.Generator().manual_seed(36)).repeat(2)
    found = survey(normal(800, 1, seed=37), torch.zeros(800, 1, dtype=F64), classes=y)
    crossed = replace(found, label_information=Interval(0.1, 0.2, conflict=True))
    posterior = Posterior(normal(800, 1, seed=37), torch.zeros(800, 1))
    said = [x.message for x in cautions(posterior, crossed) if x.code == "estimator_conflict"]
    assert len(said) == 1
    assert "the labels" in said[0]


def test_rounding_is_warned_of_when_sigma_is_below_the_digits_of_mu():
    report = _report(normal(100, 2, seed=27), torch.full((100, 2), -80.0))
    assert "rounding" in _codes(report)
    assert "rounding" not in _codes(_report(normal(100, 2, seed=27), torch.zeros(100, 2)))


def test_the_same_input_gives_the_same_bytes():
    mu, logvar = normal(700, 3, seed=28), normal(700, 3, seed=29) - 1.0
    y = torch.arange(700) % 3
    first, second = (
        _report(mu, logvar, y=y).model_dump_json(exclude={"created_at", "timings", "environment"})
        for _ in range(2)
    )
    assert first == second
    other = _report(mu, logvar, y=y, seed=1)
    assert other.dataset_information.value != json.loads(first)["dataset_information"]["value"]


def _with_input(sha256: str) -> Subject:
    inputs = Inputs(
        posterior=PosteriorInput(
            sha256=sha256, format="npz", second_output="logvar", dtype="float64", repeated_rows=0
        )
    )
    return Subject(Posterior(torch.zeros(5, 1), torch.zeros(5, 1)), inputs)


def test_the_digest_follows_all_that_decides_the_numbers():
    def digest(subject: Subject, **options: object) -> str:
        return analyse(subject, options=Options(**options), environment=ENVIRONMENT).digest

    base = _with_input("a")
    labelled = Subject(base.posterior, base.inputs, labels=Labels(torch.arange(5) % 2, ("a", "b")))
    together = Subject(base.posterior, base.inputs, units=torch.zeros(5).long())
    copied = Subject(base.posterior, base.inputs, copies=torch.zeros(5).long())
    subjects = (base, _with_input("b"), labelled, together, copied)
    assert len({*map(digest, subjects), digest(base, seed=1)}) == 6
    assert digest(base) == digest(_with_input("a"))


def test_what_came_before_is_carried_into_the_report():
    probe = Probe(probe="batch independence", passed=True, detail="-")
    warning = Warning(code="input_range", message="-", where="dataset")
    subject = Subject(
        Posterior(torch.zeros(5, 1), torch.zeros(5, 1)),
        Inputs(),
        preflight=(probe,),
        warnings=(warning,),
        timings={"encoding": 1.5},
    )
    report = analyse(subject, options=Options(), environment=ENVIRONMENT)
    assert report.preflight == [probe]
    assert report.warnings[0] == warning
    assert report.timings["encoding"] == 1.5
    assert {"measures", "measures.pairs", "measures.upper_bound"} <= set(report.timings)


@pytest.mark.parametrize("given", ["labels", "units", "copies"])
def test_labels_units_or_copies_of_other_rows_are_refused(given):
    codes = torch.zeros(4).long()
    told = {"labels": Labels(codes, ("a",)), "units": codes, "copies": codes}[given]
    with pytest.raises(ShapeMismatch, match=f"{given} do not fit the rows.*each of 5 rows"):
        Subject(Posterior(torch.zeros(5, 1), torch.zeros(5, 1)), Inputs(), **{given: told})


def test_confidence_widens_every_interval():
    mu, logvar = normal(500, 2, seed=30), torch.full((500, 2), -1.0)
    narrow, wide = _report(mu, logvar, confidence=0.6), _report(mu, logvar, confidence=0.99)
    assert wide.mutual_information.upper > narrow.mutual_information.upper
    assert wide.mutual_information.lower < narrow.mutual_information.lower
    assert wide.kl.upper > narrow.kl.upper


def test_progress_rises_to_one_and_may_stop_the_work():
    mu, logvar = normal(1500, 3, seed=31), torch.zeros(1500, 3)
    subject = Subject(Posterior(mu, logvar), Inputs())
    seen: list[float] = []
    analyse(subject, options=Options(), environment=ENVIRONMENT, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def stop(done: float) -> None:
        if done > 0.4:
            raise InterruptedError("canceled")

    with pytest.raises(InterruptedError, match="canceled"):
        analyse(subject, options=Options(), environment=ENVIRONMENT, progress=stop)
