"""Axes as they are typed, and the cells that they span."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import catalogue
from PIL import Image

from engines.catalogue import Catalogue
from engines.errors import InvalidRequest
from tui import grids
from tui.draft import Draft
from tui.grids import Grid
from tui.weighing import Part


@pytest.fixture
def known(tmp_path: Path) -> Catalogue:
    return catalogue(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [("3", (1, 2, 3)), ("7,", (7,)), ("7, 8,8 ,100", (7, 8, 100)), ("5-8", (5, 6, 7, 8)), ("1,5-6", (1, 5, 6))],
)
def test_seeds_are_counted_or_named(text: str, told: tuple[int, ...]) -> None:
    assert grids.seeds(text) == told


@pytest.mark.parametrize(
    "text", ["", ",", "x", "1,x", "-3", "3-1", "0", "99999999", "1-99999999", str(2**63) + ",", "1" * 400 + ",", "1.5"]
)
def test_what_are_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        grids.seeds(text)
    assert told.value.field == "seeds" and told.value.hint


def test_an_axis_and_stacks_of_loras() -> None:
    assert grids.values("guidance", "3, 4,,3 ,5") == ("3", "4", "5")
    assert grids.values("mix", "0.2  0.5,0.5 0.2") == ("0.2", "0.5,0.5")
    with pytest.raises(InvalidRequest, match="guidance has no values"):
        grids.values("guidance", " , ")
    assert grids.stacks(["none", "pixel:0.5", "pixel + glow:2", "none"]) == ((), ("pixel:0.5",), ("pixel", "glow:2"))


def test_what_draws_the_same_is_told(known: Catalogue, tmp_path: Path) -> None:
    settings = (("guidance", ("1", "3")), ("rescale", ("0", "0.5")))
    planned = grids.plan(Grid(("a cat",), ("mini",), (7, 9), settings), known)
    same = "mini · guidance 1 · rescale 0.5 draws the same as mini · guidance 1 · rescale 0: what differs doesn't act"
    assert [note for note in planned.notes if "draws the same" in note] == [f"{same} there"]
    Image.new("RGB", (64, 64)).save(tmp_path / "begin.png")
    base = Draft(init=str(tmp_path / "begin.png"))
    settings = (("steps", ("4",)), ("strength", ("0.3", "0.4", "0.45", "0.9", "1")))
    planned = grids.plan(Grid(("a cat",), ("mini",), (7,), settings, base=base), known)
    told = [note for note in planned.notes if "draws the same" in note]
    assert len(told) == 2 and "strength 0.4 " in told[0] and "strength 0.45 " in told[1] and len(planned.cells) == 5
    settings = (("guidance", ("0", "0.1", "0.2", "0.3", "0.4", "0.5")),)
    planned = grids.plan(Grid(("a cat",), ("mini",), (7,), settings), known)
    assert planned.notes[-1] == "and 2 more draw the same as others"


def test_all_combinations_are_made_model_after_model(known: Catalogue) -> None:
    settings = (("guidance", ("3", "5")), ("steps", ("2", "4")))
    planned = grids.plan(Grid(("a cat", "a dog"), ("mini",), (7, 9), settings, ((), ("pixel:0.5",))), known, "/here")
    assert len(planned.cells) == 2 * 2 * 2 * 2 * 2 and not planned.left_out
    assert len({cell.request for cell in planned.cells}) == 32, "no two alike"
    assert {cell.request.preview_every for cell in planned.cells} == {0}, "nobody looks on"
    first, last = planned.cells[0], planned.cells[-1]
    assert dict(first.point) == {
        "prompt": "a cat", "model": "mini", "guidance": "3", "steps": "2", "loras": "none", "seed": "7",
    }  # fmt: skip
    assert first.request.loras == () and last.request.loras[0].name == "pixel" and first.request.folder == "/here"
    assert (last.request.guidance_scale, last.request.num_inference_steps, last.request.seed) == (5.0, 4, 9)
    assert grids.told(last.contender) == "mini · guidance 5 · steps 4 · loras pixel:0.5"
    assert Grid(("a",), ("mini",), (1,), settings, ((),)).axes == (
        "prompt", "model", "guidance", "steps", "loras", "seed",
    )  # fmt: skip


def test_who_can_not_be_drawn_is_left_out_and_told(known: Catalogue) -> None:
    planned = grids.plan(Grid(("a cat",), ("mini", "quick", "nobody", "away"), (1,), (("steps", ("2", "4")),)), known)
    assert [grids.told(cell.contender) for cell in planned.cells] == [
        "mini · steps 2",
        "mini · steps 4",
        "quick · steps 2",
    ]
    who = dict(planned.left_out)
    assert "no model 'nobody'" in who["nobody · steps 2"] and "quick" in who["quick · steps 4"]
    assert "away" in who["away · steps 2"] or "not on this machine" in who["away · steps 2"]


def test_where_nothing_can_be_drawn_the_first_reason_is_the_error(known: Catalogue) -> None:
    with pytest.raises(InvalidRequest, match="guidance must be"):
        grids.plan(Grid(("a cat",), ("mini",), (1,), (("guidance", ("x",)),)), known)
    with pytest.raises(InvalidRequest, match="at most 100,000"):
        grids.plan(Grid(("a",) * 200, ("mini",), tuple(range(1000))), known)


def test_variants_are_drawn_from_each_seed(known: Catalogue) -> None:
    planned = grids.plan(Grid(("a {red|blue|green} cat",), ("mini",), tuple(range(20))), known)
    assert len({cell.request.prompt for cell in planned.cells}) == 3
    assert {dict(cell.point)["prompt"] for cell in planned.cells} == {"a {red|blue|green} cat"}


FRECKLES = Part("freckles", ("0.8", "1", "1.2"))


def test_the_weight_of_a_part_is_the_contenders_and_the_prompt_stays_as_it_is_typed(known: Catalogue) -> None:
    parts = (FRECKLES, Part("light", ("1", "1.5")))
    grid = Grid(("freckles, light", "light on freckles++"), ("mini",), (1, 2), (("steps", ("2",)),), ((),), parts)
    cells = grids.plan(grid, known).cells
    assert grid.axes == ("prompt", "model", "steps", "loras", "weight of freckles", "weight of light", "seed")
    assert all(tuple(axis for axis, _ in cell.point) == grid.axes for cell in cells)
    assert len(cells) == 2 * 2 * 6 and {dict(cell.point)["prompt"] for cell in cells} == set(grid.prompts)
    assert len({cell.contender for cell in cells}) == 6 and len({cell.block for cell in cells}) == 4
    by = {(*(value for axis, value in cell.point if "of" in axis), *cell.block): cell for cell in cells}
    one = by["1.2", "1.5", ("prompt", "freckles, light"), ("seed", "2")]
    assert one.request.prompt == "(freckles)1.2, (light)1.5" and one.request.seed == 2
    assert grids.told(one.contender) == "mini · steps 2 · loras none · weight of freckles 1.2 · weight of light 1.5"
    assert by["1", "1", ("prompt", "light on freckles++"), ("seed", "1")].request.prompt == "light on freckles"


def test_a_part_is_in_every_prompt(known: Catalogue) -> None:
    with pytest.raises(InvalidRequest, match="'freckles' is not in the prompt 'a dog'") as told:
        grids.plan(Grid(("freckles", "a dog"), ("nobody", "mini"), (1,), parts=(FRECKLES,)), known)
    assert told.value.field == "part" and told.value.hint
    with pytest.raises(InvalidRequest, match="300,000 cells"):
        grids.plan(Grid(("freckles",) * 10, ("mini",), tuple(range(10_000)), parts=(FRECKLES,)), known)


def test_a_part_of_a_prompt_in_another_dialect_is_refused(known: Catalogue) -> None:
    with pytest.raises(InvalidRequest, match="A1111") as told:
        grids.plan(Grid(("freckles",), ("mini",), (1,), parts=(FRECKLES,), base=Draft(syntax="a1111")), known)
    assert "safelight prompt" in told.value.hint


def test_a_part_is_weighed_in_the_template_and_each_seed_draws_what_it_would_draw(known: Catalogue) -> None:
    grid = Grid(("a {red|blue} cat",), ("mini",), tuple(range(8)), parts=(Part("red", ("1", "1.4")),))
    cells = grids.plan(grid, known).cells
    assert {cell.request.prompt for cell in cells} == {"a red cat", "a blue cat", "a (red)1.4 cat"}
    assert {dict(cell.point)["prompt"] for cell in cells} == {"a {red|blue} cat"}
    drawn: dict[int, set[str]] = {}
    for cell in cells:
        drawn.setdefault(cell.request.seed, set()).add("red" if "red" in cell.request.prompt else "blue")
    assert all(len(colours) == 1 for colours in drawn.values())


def test_the_base_draft_holds_what_is_not_varied(known: Catalogue) -> None:
    base = Draft(negative_prompt="fog", size="112x144", count="9", score="fake-clip")
    (cell,) = grids.plan(Grid(("a",), (), (3,), base=base), known).cells
    assert cell.request.negative_prompt == "fog" and (cell.request.width, cell.request.height) == (112, 144)
    assert cell.request.model == "mini" and cell.request.batch_size == 1 and cell.request.score == "fake-clip"
    (other,) = grids.plan(Grid(("a",), (), (3,), base=replace(base, model="quick")), known).cells
    assert other.request.model == "quick"


def test_equal_weights_are_one_stack() -> None:
    assert grids.stacks(["a:0.5", "a:0.50", "a:.5+b", "none", "", "a:0.5 + b"]) == (("a:0.5",), ("a:.5", "b"), ())
