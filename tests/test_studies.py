"""Sweeps that are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import catalogue
from engines.errors import InvalidRequest
from tui import grids, studies
from tui.draft import Draft
from tui.weighing import Part


@pytest.mark.parametrize("name", studies.names())
def test_every_shipped_study_names_what_the_catalogue_has(name: str) -> None:
    study, known = studies.load(name), catalogue.load()
    assert study.title and study.scorer in known.scorers and set(study.grid.models) <= set(known.models)
    assert len(study.grid.prompts) >= 4 and len(study.grid.seeds) >= 8


def test_the_mini_study_can_be_planned_here() -> None:
    study = studies.load("mini")
    planned = grids.plan(studies.with_base(study, Draft(score="mini-clip")), catalogue.load())
    assert len(planned.cells) == 5 * 6 * 8 and not planned.left_out
    assert {cell.request.score for cell in planned.cells} == {"mini-clip"}


def test_a_study_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'prompts = ["a cat", "a dog"]\nmodels = ["mini"]\nnegative = "fog"\nseeds = "3-5"\nloras = ["none", "pixel"]\n'
        "override = true\n[settings]\nguidance-rescale = [0, 0.7]\nsteps = [4]\n"
    )
    study = studies.load(str(path))
    assert (study.name, study.title, study.scorer) == ("mine", "mine", "")
    grid = studies.with_base(study, Draft(precision="fp32", negative_prompt="else"))
    assert grid.settings == (("rescale", ("0", "0.7")), ("steps", ("4",))) and grid.seeds == (3, 4, 5)
    assert grid.loras == ((), ("pixel",)) and grid.prompts == ("a cat", "a dog")
    assert (grid.base.precision, grid.base.negative_prompt, grid.base.override) == ("fp32", "fog", "yes")
    assert grid.parts == ()


@pytest.mark.parametrize(
    "parts", ["{ cat = [0.8, 1.0, '1.2'], 'a cat' = [2] }", "['cat=0.8,1,1.2', 'a cat=2']"], ids=["table", "list"]
)
def test_a_study_weighs_parts_of_its_prompts(tmp_path: Path, parts: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"prompts = ['a cat']\nmodels = ['mini']\nseeds = '1'\nparts = {parts}\n")
    grid = studies.load(str(path)).grid
    assert grid.parts == (Part("cat", ("0.8", "1", "1.2")), Part("a cat", ("2",)))
    cells = grids.plan(grid, catalogue.load()).cells
    assert [cell.request.prompt for cell in cells] == ["(a (cat)0.8)2.0", "(a cat)2.0", "(a (cat)1.2)2.0"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs prompts"),
        ("prompts = 'a cat'", "prompts is no list"),
        ("prompts = ['a']\nseeds = true", "seeds is no text"),
        ("prompts = ['a']\nseeds = 'x'", "is no seed"),
        ("prompts = ['a']\npromts = []", "no field 'promts'"),
        ("prompts = ['a']\nsettings = 3", "settings is no table"),
        ("prompts = ['a']\n[settings]\nguidence = [3]", "no setting 'guidence'"),
        ("prompts = ['a']\n[settings]\nguidance = [true]", "guidance is no list"),
        ("prompts = ['a']\n[settings]\nrescale = [0]\nguidance-rescale = [0.5]", "rescale is there twice"),
        ("prompts = ['a']\n[settings]\nguidance = ['x']", "guidance must be"),
        ("prompts = ['a']\nparts = 3", "parts is no list"),
        ("prompts = ['a']\nparts = ['a']", "'a' is given no weights"),
        ("prompts = ['a']\nparts = { a = [] }", "'a' is given no weights"),
        ("prompts = ['a']\nparts = { a = 3 }", "a is no list"),
        ("prompts = ['a']\nparts = ['a=1', 'A=2']", "'A' is weighed twice"),
        ("prompts = [", "is no TOML"),
    ],
)
def test_what_no_study_says_is_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=says) as told:
        studies.load(str(path))
    assert told.value.hint


def test_there_is_no_such_study(tmp_path: Path) -> None:
    for name in ("nothing", str(tmp_path / "gone.toml")):
        with pytest.raises(InvalidRequest, match=r"no study 'nothing'|can't be read"):
            studies.load(name)


def test_values_that_are_named_twice_are_drawn_once(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("prompts = ['a', 'a']\nmodels = ['m', 'm']\n[settings]\nguidance = [3, 3.0, '5']\n")
    grid = studies.load(str(path)).grid
    assert (grid.prompts, grid.models, grid.settings) == (("a",), ("m",), (("guidance", ("3", "5")),))
