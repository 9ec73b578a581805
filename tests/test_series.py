"""One picture at several strengths of its guidance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines import catalogue
from engines.entries import Recipe
from engines.errors import InvalidRequest
from tui import series
from tui.draft import Draft, read

KNOWN = catalogue.load()
APPLE = Draft(prompt="a red apple", model="mini", seed="7", count="3", batch="2")


def recipe(id: str) -> Recipe:
    return KNOWN.model(id).recipe


def test_a_series_is_one_picture_a_value_and_differs_in_nothing_else() -> None:
    drafts = series.spread(APPLE, "guidance", (1.5, 4.0, 7.25))
    requests = [one for draft in drafts for one in read(draft, KNOWN).requests]
    assert [r.guidance_scale for r in requests] == [1.5, 4.0, 7.25]
    assert {replace(r, guidance_scale=0.0) for r in requests} == {replace(requests[0], guidance_scale=0.0)}
    assert (requests[0].seed, requests[0].batch_size) == (7, 1)
    rescales = [read(draft, KNOWN).requests[0] for draft in series.spread(APPLE, "rescale", series.RESCALES)]
    assert [r.guidance_rescale for r in rescales] == [0.0, 0.25, 0.5, 0.7, 1.0]
    assert {replace(r, guidance_rescale=0.0) for r in rescales} == {rescales[0]}
    assert series.spread(APPLE, "guidance", ()) == ()


def test_a_series_needs_a_seed_and_gets_the_one_that_was_drawn() -> None:
    draft = replace(APPLE, seed=" ", variation_strength="0.2")
    with pytest.raises(InvalidRequest, match="of one seed") as told:
        series.spread(draft, "guidance", (2.0,))
    assert told.value.field == "seed"
    asked = read(draft, KNOWN)
    drafts = series.spread(series.seeded(draft, asked), "guidance", (2.0, 3.0))
    for one in drafts:
        (request,) = read(one, KNOWN).requests
        assert request.seed == asked.requests[0].seed
        assert request.variation_seed == asked.requests[0].variation_seed is not None
    assert series.seeded(APPLE, read(APPLE, KNOWN)) == APPLE


@pytest.mark.parametrize(
    ("id", "guidance", "expected"),
    [
        ("sdxl-base", "", (5.0, 5.62, 6.25, 6.88, 7.5)),
        ("juggernaut-xl", "", (3.0, 4.0, 5.0, 6.0, 7.0)),
        ("juggernaut-xl", "11", (3.0, 5.0, 7.0, 9.0, 11.0)),
        ("juggernaut-xl", "0", (3.0, 4.0, 5.0, 6.0, 7.0)),
        ("realvisxl-lightning", "", (1.0, 1.25, 1.5, 1.75, 2.0)),
        ("mini", "", (2.25, 3.38, 4.5, 5.62, 6.75)),
        ("mini", "100", (50.0, 62.5, 75.0, 87.5, 100.0)),
        ("mini", "0", (2.25, 3.38, 4.5, 5.62, 6.75)),
        ("sdxl-turbo", "2", (1.0, 1.5, 2.0, 2.5, 3.0)),
    ],
)
def test_the_guidances_are_those_that_the_makers_name(id: str, guidance: str, expected: tuple[float, ...]) -> None:
    draft = replace(APPLE, guidance=guidance)
    assert series.default_values(draft, recipe(id), "guidance") == pytest.approx(expected)


@pytest.mark.parametrize("id", [m.id for m in KNOWN.models.values() if m.recipe.guidance_scale > 1])
def test_every_guided_model_has_five_guidances_that_act(id: str) -> None:
    found = series.default_values(APPLE, recipe(id), "guidance")
    assert len(set(found)) == 5 and found == tuple(sorted(found)) and found[0] >= 1 and found[-1] <= 100


def test_a_range_of_one_number_is_widened() -> None:
    one = replace(recipe("mini"), guidance_range=(2.0, 2.0), guidance_scale=2.0)
    assert series.default_values(APPLE, one, "guidance") == (1.5, 1.75, 2.0, 2.25, 2.5)


@pytest.mark.parametrize("field", ["guidance", "rescale"])
def test_guidance_that_does_nothing_is_told_in_one_line(field: series.Field) -> None:
    with pytest.raises(InvalidRequest, match="guidance does nothing here: this model was distilled") as told:
        series.default_values(APPLE, recipe("sdxl-turbo"), field)
    assert told.value.field == field and "\n" not in told.value.message
    with pytest.raises(InvalidRequest, match=r"it is 0\.5, and it acts only above 1"):
        series.default_values(replace(APPLE, guidance="0.5"), recipe("mini"), "rescale")
    assert series.default_values(replace(APPLE, guidance="3"), recipe("sdxl-turbo"), "rescale") == series.RESCALES


def test_values_are_read_with_commas() -> None:
    assert series.numbers("guidance", " 3, 5 ,7.5,") == (3.0, 5.0, 7.5)
    for field, text, says in (
        ("guidance", "", "takes 1 to 100 numbers"),
        ("guidance", ",", "takes 1 to 100 numbers"),
        ("guidance", "3," * 101, "not 101"),
        ("guidance", "3,x", "guidance must be a number"),
        ("guidance", "3,101", "guidance must be 0 to 100"),
        ("rescale", "0,nan", "rescale must be"),
        ("rescale", "0,1.5", "rescale must be 0 to 1"),
    ):
        with pytest.raises(InvalidRequest, match=says) as told:
            series.numbers(field, text)  # type: ignore[arg-type]
        assert told.value.field == field
