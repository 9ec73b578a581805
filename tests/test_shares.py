"""The ratio of a mixed model, as it is typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import catalogue, with_mixes
from hypothesis import given
from hypothesis import strategies as st

from engines.entries import Merged, Parent
from engines.errors import InvalidRequest
from tui import draft as drafting
from tui import shares
from tui.draft import Draft

KNOWN = with_mixes(catalogue(Path("/nowhere")))


@pytest.mark.parametrize(
    ("id", "text", "weights"),
    [
        ("sum", "", ()),
        ("sum", "  ", ()),
        ("mini", "", ()),
        ("sum", "0.7", (0.3, 0.7)),
        ("sum", " .25 ", (0.75, 0.25)),
        ("sum", "0", (1.0, 0.0)),
        ("sum", "1", (0.0, 1.0)),
        ("sum", "3, 7", (3.0, 7.0)),
        ("sum", "0,1", (0.0, 1.0)),
        ("three", "0.5,0.3,0.2", (0.5, 0.3, 0.2)),
        ("three", "0,0,4", (0.0, 0.0, 4.0)),
        ("difference", "0.7", (1.0, 0.7, 1.0)),
        ("difference", "-2", (1.0, -2.0, 1.0)),
        ("difference", "1,1.5,0", (1.0, 1.5, 0.0)),
    ],
)
def test_a_text_is_weights_of_the_parents(id: str, text: str, weights: tuple[float, ...]) -> None:
    model = KNOWN.model(id)
    assert shares.read(text, model) == weights
    (request,) = drafting.read(Draft("x", model=id, mix=text, seed="1"), KNOWN, look=False).requests
    assert request.mix == weights
    again = Draft.from_request(request)
    assert drafting.read(again, KNOWN, look=False).requests == (request,)


@pytest.mark.parametrize(
    ("id", "text", "says"),
    [
        ("mini", "0.5", "mini is not mixed of models"),
        ("quick", "0.5,0.5", "quick is not mixed of models"),
        ("sum", "half", "mix must be a number, not 'half'"),
        ("sum", "1.5", "mix must be 0 to 1, not 1.5"),
        ("sum", "-0.1", "mix must be 0 to 1, not -0.1"),
        ("sum", "nan", "mix must be 0 to 1, not nan"),
        ("sum", "inf", "mix must be 0 to 1"),
        ("sum", ",", "2 models have 0 weights"),
        ("sum", "0.5,0.3,0.2", "2 models have 3 weights"),
        ("sum", "-1,2", "a weight is -1"),
        ("sum", "0,0", "the weights are all zero"),
        ("sum", "1e9,1", "mix must be"),
        ("three", "0.5", "3 models have 1 weight$"),
        ("three", "0.5,,0.5", "3 models have 2 weights"),
        ("difference", "2.5", "mix must be -2 to 2, not 2.5"),
        ("difference", "1,3,1", "the difference's share is 3"),
        ("difference", "nan,1,1", "mix must be"),
    ],
)
def test_what_makes_no_mix_is_refused_in_one_line(id: str, text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        drafting.read(Draft("x", model=id, mix=text), KNOWN, look=False)
    error = told.value
    assert (error.field, error.exit_code) == ("mix", 2)
    assert error.hint and "\n" not in error.message + error.hint


def test_a_blocks_own_share_has_to_have_room_beside_the_third() -> None:
    three = KNOWN.model("three")
    assert isinstance(three.source, Merged)
    model = replace(three, source=replace(three.source, blocks=(("in4", 0.7),)))
    assert shares.read("0.4,0.3,0.3", model) == (0.4, 0.3, 0.3)
    with pytest.raises(InvalidRequest, match="in4 would be") as told:
        shares.read("0.3,0.3,0.4", model)
    assert told.value.field == "mix"


@given(st.floats(0, 1))
def test_a_share_is_told_as_it_is_read(share: float) -> None:
    weights = shares.weights("mix", repr(share), "weighted-sum", 2)
    assert shares.weights("mix", shares.text(weights), "weighted-sum", 2) == weights


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=3).map(tuple))
def test_weights_are_told_as_they_are_read(weights: tuple[float, ...]) -> None:
    assert shares.weights("mix", shares.text(weights), "weighted-sum", len(weights)) == weights


def test_only_the_parents_weights_change() -> None:
    model = KNOWN.model("sum")
    assert model.mixed(()) is model
    mixed = model.mixed((0.1, 0.9))
    assert mixed.source == Merged((Parent("mini", 0.1), Parent("quick", 0.9)))
    assert replace(mixed, source=model.source) == model
