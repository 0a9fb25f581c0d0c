from __future__ import annotations

from typing import Any

import pytest

from latentgauge.errors import InvalidOption, UnknownOption
from latentgauge.options import Normalisation, Options, parse_options


def test_nothing_given_is_the_defaults() -> None:
    assert parse_options({}) == Options()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (255, 255.0),
        ([-1, 1], (-1.0, 1.0)),
        ({"mean": 0.5, "std": [1, 2]}, Normalisation(mean=0.5, std=[1, 2])),
        (None, None),
    ],
)
def test_input_scale_has_three_forms(given: Any, read: Any) -> None:
    assert parse_options({"input_scale": given}).input_scale == read


def test_options_survive_their_own_json() -> None:
    options = parse_options({"input_scale": [0, 1], "seed": 5})
    assert parse_options(options.model_dump(mode="json")) == options


@pytest.mark.parametrize(
    ("name", "near"),
    [("input_scales", "input_scale"), ("Seed", "seed"), ("second", "second_output")],
)
def test_an_unknown_option_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownOption, match=f"there is no option '{name}'") as caught:
        parse_options({name: 1})
    assert caught.value.remedy == f"the nearest name is {near!r}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_scale", 0),
        ("input_scale", "big"),
        ("input_scale", [1, 2, 3]),
        ("input_scale", {"mean": 0, "std": 0}),
        ("input_scale", {"mean": 0}),
        ("input_scale", float("nan")),
        ("second_output", "std"),
        ("batch_size", 0),
        ("samples", 0),
        ("seed", -1),
        ("confidence", 0.4),
        ("confidence", 1),
        ("beta", -0.1),
        ("beta", float("inf")),
        ("decoder_variance", 0),
        ("decoder_variance", float("nan")),
        ("spectrum", []),
        ("spectrum", [1.0, -1.0]),
        ("spectrum", [1.0] * 4097),
        ("active_threshold", 0),
        ("active_threshold", float("inf")),
        ("estimators", ["nothing"]),
        ("estimators", ["mws", "infonce"]),
        ("minibatch", 1),
        ("minibatch", 8193),
        ("train_size", 1),
        ("train_size", 63),
        ("device", "tpu"),
        ("prior", "mixture"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_said_with_what_it_takes(
    name: str, value: Any
) -> None:
    with pytest.raises(InvalidOption, match=f"option '{name}'") as caught:
        parse_options({name: value})
    assert caught.value.expected == Options.model_fields[name].description
    assert caught.value.got == repr(value)[:200]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"spectrum": [2.0, 1.0]}, "spectrum is given without it"),
        ({"decoder_variance": 1.0, "beta": 0.0}, "a KL without weight bounds no latent"),
    ],
)
def test_a_forecast_needs_a_decoder_variance_and_a_weight(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match="option 'decoder_variance'") as caught:
        parse_options(given)
    assert says in str(caught.value)
    assert "It needs a beta above 0" in caught.value.expected
    both = {"spectrum": [2.0, 1.0], "decoder_variance": 0.5, "beta": 2.0}
    assert parse_options(both).spectrum == [2.0, 1.0]


def test_a_training_set_holds_a_minibatch() -> None:
    assert parse_options({"train_size": 64}).train_size == 64
    assert parse_options({"train_size": 10, "minibatch": 10}).train_size == 10
    with pytest.raises(InvalidOption, match="a training set of 99 rows holds no minibatch of 100"):
        parse_options({"train_size": 99, "minibatch": 100})


def test_every_option_is_described() -> None:
    assert all(field.description for field in Options.model_fields.values())
