"""Flipping between two pictures, varying one, and a series of guidances, in the workbench."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import WIDE, Bench, text, toasts, until, write
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot
from textual.widgets import Static

from engines.requests import Generate, Lora
from tui import differing
from tui.comparing import NEARBY
from tui.draft import Draft

BASE = Generate("a (red)1.2 apple on a table", "mini", 7, 128, 128, 4, 4.5)


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "the same request"),
        ({"seed": 8, "guidance_scale": 6.0}, "seed 7 → 8 · guidance 4.5 → 6"),
        ({"prompt": "a (red)1.3 apple on a table"}, "prompt (red)1.2 → (red)1.3"),
        ({"prompt": "a (red)1.2 apple"}, "prompt on a table → ∅"),
        ({"width": 64, "model": "quick"}, "model mini → quick · size 128x128 → 64x128"),
        ({"loras": (Lora("x"),), "negative_prompt": "fog"}, "LoRAs none → x:1 · negative ∅ → fog"),
        ({"mix": (0.3, 0.7)}, "mix its own → 0.3 : 0.7"),
        ({"variation_seed": 3, "variation_strength": 0.25}, "variation 0 → 0.25 · to seed none → 3"),
    ],
    ids=str,
)
def test_what_differs_is_told_in_few_words(change: dict[str, object], told: str) -> None:
    assert differing.line(BASE, replace(BASE, **change)) == told  # type: ignore[arg-type]


async def test_flipping_shows_the_picture_before_and_comes_back(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+r")
        assert "no two pictures" in toasts(bench.app)
        write(bench, "a cat")
        for seed in ("1", "2"):
            bench.app.workbench.form.settings.set_seed(seed)
            await pilot.press("ctrl+g")
            await until(pilot, lambda seed=seed: len(bench.store.made) == int(seed))
            await until(pilot, lambda seed=seed: f"seed {seed}" in text(bench.app, "#caption"))
        await pilot.press("alt+r")
        assert "seed 1" in text(bench.app, "#caption") and "⇄ seed 2 → 1" in text(bench.app, "#caption")
        await pilot.press("alt+r")
        assert "seed 2" in text(bench.app, "#caption").splitlines()[0]
        await pilot.press("alt+r")
        assert "seed 1" in text(bench.app, "#caption").splitlines()[0]


async def test_after_a_restart_the_last_two_are_compared(bench: Bench) -> None:
    bench.fill(3)
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+r")
        await until(pilot, lambda: "⇄ seed 2 → 1" in text(bench.app, "#caption"))
        await pilot.press("alt+c")
        await until(pilot, lambda: "seed      2" in facts(bench, "left"))


async def test_vary_makes_four_neighbours_of_the_shown_picture(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+y")
        assert "no picture yet" in toasts(bench.app)
        write(bench, "a cat")
        bench.app.workbench.form.settings.set_seed("5")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        write(bench, " and something else that is typed meanwhile")
        await pilot.press("alt+y")
        await until(pilot, lambda: len(bench.store.made) == 5)
        strip = bench.app.workbench.strip
        assert strip.display and [frame.label for frame in strip._frames][:2] == ["this", "near 1"]
        await until(pilot, lambda: all(frame.picture for frame in strip._frames))
        await pilot.press("alt+right")
        await until(pilot, lambda: bench.app.workbench.shown == bench.store.made[0])
        assert str(strip._smalls()[0].query_one(Static).render()) == "▸this", "from the last to the first"
        assert strip._frames[0].picture == bench.store.made[0]
        near = bench.made[1:]
        assert {r.prompt for r in near} == {"a cat"} and {r.seed for r in near} == {5}
        assert {r.variation_strength for r in near} == {NEARBY} and len({r.variation_seed for r in near}) == 4


async def test_a_series_is_of_one_seed(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press("alt+s")
        await until(pilot, lambda: len(bench.made) == 5)
        assert len({r.seed for r in bench.made}) == 1 and bench.made[0].seed != 0
        guidances = [r.guidance_scale for r in bench.made]
        assert guidances == sorted(set(guidances)) and len(guidances) == 5
        await pilot.press("alt+d")
        await until(pilot, lambda: len(bench.made) == 10)
        assert [r.guidance_rescale for r in bench.made[5:]] == [0.0, 0.25, 0.5, 0.7, 1.0]


async def test_the_strip_fills_is_stepped_through_and_goes_with_the_next_picture(home: Path) -> None:
    bench = Bench(home, held=True)
    bench.draft(prompt="a cat", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+right")
        assert "no strip" in toasts(bench.app)
        await pilot.press("alt+s")
        strip = bench.app.workbench.strip
        await until(pilot, lambda: len(bench.made) == 5 and all(frame.job for frame in strip._frames))
        labels = [str(one.query_one(Static).render()) for one in strip._smalls()]
        assert labels == [f"{r.guidance_scale:g}" for r in bench.made], "the number, where no more fits"
        bench.engine.advance(2 * (bench.made[0].num_inference_steps + 1))
        await until(pilot, lambda: len(bench.store.made) == 2)
        await until(
            pilot, lambda: [bool(frame.picture) for frame in strip._frames] == [True, True, False, False, False]
        )
        await pilot.press("alt+left")
        await until(pilot, lambda: str(strip._smalls()[0].query_one(Static).render()).startswith("▸"))
        assert bench.app.workbench.shown == bench.store.made[0]
        assert f"guidance {bench.made[0].guidance_scale:g}" in text(bench.app, "#caption")
        assert bench.app.workbench.form.prompt.has_focus, "the hands stay where they are"
        await pilot.press("alt+right")
        await until(pilot, lambda: bench.app.workbench.shown == bench.store.made[1])
        for _ in range(3):  # faster than they are shown
            bench.app.workbench.action_strip_next()
        await until(pilot, lambda: bench.app.workbench.shown == bench.store.made[0])
        await pilot.press("alt+x")
        await until(pilot, lambda: all(frame.failed for frame in strip._frames[2:]))
        await pilot.click(strip._smalls()[0])
        await until(pilot, lambda: bench.app.workbench.shown == bench.store.made[0])
        await pilot.press("ctrl+g")
        await until(pilot, lambda: not strip.display)


async def test_cancel_all_while_a_series_is_written_down_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(home, held=True)
    submit = bench.engine.submit

    def slowly(*asked: Any) -> int:
        time.sleep(0.1)
        return submit(*asked)

    bench.draft(prompt="a cat", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        monkeypatch.setattr(bench.engine, "submit", slowly)
        await pilot.press("alt+s")
        await until(pilot, lambda: bench.made)
        await pilot.press("alt+x")
        strip = bench.app.workbench.strip
        await until(pilot, lambda: all(frame.failed for frame in strip._frames))
        await until(pilot, lambda: not len(bench.app.workbench._jobs))
        bench.engine.advance(50)
        await pilot.pause(0.2)
        assert not bench.store.made and len(bench.made) < 5


async def test_a_series_where_guidance_does_nothing_is_told(bench: Bench) -> None:
    bench.draft(prompt="a cat", model="quick", guidance="1")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+d")
        assert "guidance does nothing here" in toasts(bench.app) and not bench.made


def test_what_differs_is_marked_word_by_word() -> None:
    one, other = differing.words("a (red)1.2 apple on a table", "a (red)1.3 apple under a table")
    assert one == [("a", False), ("(red)1.2", True), ("apple", False), ("on", True), ("a table", False)]
    assert other == [("a", False), ("(red)1.3", True), ("apple", False), ("under", True), ("a table", False)]
    assert differing.words("", "a cat") == ([], [("a cat", True)])
    many = " ".join(f"w{i}" for i in range(20_000))
    assert differing.words(f"x {many} z", f"y {many} z") == (
        [("x", True), (f"{many} z", False)],
        [("y", True), (f"{many} z", False)],
    )


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_no_word_is_lost_where_texts_are_compared(one: list[str], other: list[str]) -> None:
    told = differing.words(" ".join(one), " ".join(other))
    assert [" ".join(text for text, _ in side).split() for side in told] == [one, other]
    alike = [" ".join(text for text, changed in side if not changed) for side in told]
    assert alike[0] == alike[1]


def facts(bench: Bench, side: str) -> str:
    """What stands under a picture, while two are side by side."""
    found = bench.app.screen.query(f"#{side}-facts")
    return str(found.first(Static).render()) if found else ""


async def pair(bench: Bench, pilot: Pilot[None]) -> None:
    """Three pictures, of which the last two differ in seed, guidance and a word."""
    for number, (words, guidance) in enumerate((("a cat", ""), ("a red cat", "5"), ("a blue cat", "6")), 1):
        bench.app.workbench.form.show(Draft(words, model="mini", seed=str(number), guidance=guidance))
        await pilot.press("ctrl+g")
        await until(pilot, lambda number=number: f"seed {number}" in text(bench.app, "#caption"))


async def test_side_by_side_tells_what_differs_and_an_arrow_keeps_one(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+c")
        assert "no two pictures" in toasts(bench.app) and bench.app.screen is bench.app.workbench
        await pair(bench, pilot)
        await pilot.press("alt+c")
        await until(pilot, lambda: "seed" in facts(bench, "right"))
        left, right = facts(bench, "left"), facts(bench, "right")
        assert "seed      2" in left and "guidance  5" in left and "prompt    a red cat" in left
        assert "seed      3" in right and "guidance  6" in right and "prompt    a blue cat" in right
        assert "steps" not in left and len(left.splitlines()) == len(right.splitlines())
        views = [bench.app.screen.query_one(f"#{side}-view") for side in ("left", "right")]
        await until(pilot, lambda: all(view._strips for view in views))  # type: ignore[attr-defined]
        await pilot.press("left")
        await until(pilot, lambda: bench.app.screen is bench.app.workbench)
        assert "seed 2" in text(bench.app, "#caption")
        await pilot.press("alt+c", "escape")
        await until(pilot, lambda: bench.app.screen is bench.app.workbench)
        assert "seed 2" in text(bench.app, "#caption"), "escape changes nothing"


async def test_side_by_side_walks_to_older_pictures_and_back_and_swaps(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pair(bench, pilot)
        await pilot.press("alt+c", "down")
        await until(pilot, lambda: "seed      1" in facts(bench, "left"))
        await pilot.press("down")
        await until(pilot, lambda: "no older picture" in toasts(bench.app))
        assert "seed      1" in facts(bench, "left") and "seed      3" in facts(bench, "right")
        await pilot.press("up")
        await until(pilot, lambda: "seed      2" in facts(bench, "left"))
        await pilot.press("s")
        await until(pilot, lambda: "seed      3" in facts(bench, "left"))
        # the older one than 3 is 2, which stands on the right already
        await pilot.press("down")
        await until(pilot, lambda: "seed      1" in facts(bench, "left"))
        await pilot.press("right")
        await until(pilot, lambda: bench.app.screen is bench.app.workbench)
        assert "seed 2" in text(bench.app, "#caption")
