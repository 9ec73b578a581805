"""The first minutes: what a first start says, the example that Enter takes, and what stands there at later starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import MEDIUM, NARROW, WIDE, Bench, text, until, write
from textual.pilot import Pilot

from engines import catalogue as catalogues
from tui import keys, welcoming
from tui.panes.footer import KeyLine
from tui.welcome import Welcome


def shipped(home: Path) -> Bench:
    return Bench(home, catalogues.load(home / "none.toml"))


def said(bench: Bench) -> str:
    return " ".join(str(bench.app.workbench.query_one(Welcome).render()).split())


async def welcomed(pilot: Pilot[None], bench: Bench) -> None:
    await until(pilot, lambda: bench.app.workbench.picture.welcomes)


@pytest.mark.parametrize("size", [WIDE, MEDIUM, (60, 16), (250, 70)])
async def test_a_first_start_says_what_to_do_and_what_the_model_draws(home: Path, size: tuple[int, int]) -> None:
    bench = shipped(home)
    async with bench.app.run_test(size=size) as pilot:
        await welcomed(pilot, bench)
        await pilot.pause()
        told = said(bench)
        assert "press Enter" in told and welcoming.EMBEDDED in told
        if size in (WIDE, (250, 70)):
            assert "231 things" in told and "No scenes" in told and "F3" in told
        lines = str(bench.app.workbench.query_one(Welcome).render()).splitlines()
        assert len(lines) <= bench.app.workbench.query_one(Welcome).size.height
        assert max(map(len, lines)) <= bench.app.workbench.query_one(Welcome).size.width


@pytest.mark.parametrize("size", [MEDIUM, WIDE])
async def test_enter_in_an_empty_prompt_makes_the_example_and_tells_what_comes_next(
    home: Path, size: tuple[int, int]
) -> None:
    bench = shipped(home)
    async with bench.app.run_test(size=size) as pilot:
        await welcomed(pilot, bench)
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        assert [request.prompt for request in bench.made] == [welcoming.EMBEDDED]
        assert bench.app.workbench.form.prompt.text == welcoming.EMBEDDED
        assert not bench.app.workbench.picture.welcomes
        told = "Enter makes another · ctrl+↑ weighs a word · ctrl+l keeps the seed"
        line = bench.app.workbench.query_one(KeyLine)
        await until(pilot, lambda: str(line.render()).strip() == told)
        assert not bench.app._notifications  # which would lie over the settings
        await pilot.press("enter")
        await until(pilot, lambda: len(bench.store.pictures()) == 2)
        assert "make" in str(line.render()) and told not in str(line.render())


async def test_what_is_typed_is_made_and_not_the_example(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        await welcomed(pilot, bench)
        write(bench, "a pear")
        await pilot.press("enter")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].prompt == "a pear"


async def test_with_a_history_the_newest_picture_is_there_at_the_start(home: Path) -> None:
    bench = Bench(home)
    bench.fill(3)
    async with bench.app.run_test(size=NARROW) as pilot:
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        assert bench.app.workbench.shown == bench.store.pictures()[0]
        assert "the newest" in text(bench.app, "#caption") and not bench.app.workbench.picture.welcomes
        await pilot.press("enter")  # an empty prompt is one like any other then
        await until(pilot, lambda: bench.made)
        assert bench.made[0].prompt == ""
        assert "another" not in str(bench.app.workbench.query_one(KeyLine).render())


def test_each_model_is_welcomed_with_a_prompt_that_it_can_draw(home: Path) -> None:
    bench = shipped(home)
    known = welcoming.subjects()
    assert len(known) == 231 and "apple" in known
    for model in [*bench.catalogue.models.values(), None]:
        told = " ".join(p.text for p in welcoming.words(bench.catalogue, model, known, lambda id: keys.first(id, {})))
        assert welcoming.example(bench.catalogue, model) in told
        assert ("231 things" in told) == (model is not None and model.family == "mini")
