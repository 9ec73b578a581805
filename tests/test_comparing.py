"""Flipping between two pictures, varying one, and a series of guidances, in the workbench."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from driving import WIDE, Bench, text, toasts, until, write

from engines.requests import Generate, Lora
from tui.comparing import NEARBY, differences

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
        ({"loras": (Lora("x"),), "negative_prompt": "fog"}, "negative none → fog · LoRAs"),
        ({"mix": (0.3, 0.7)}, "mix its own → 0.3 : 0.7"),
        ({"variation_seed": 3, "variation_strength": 0.25}, "variation 0 → 0.25 · to seed none → 3"),
    ],
    ids=str,
)
def test_what_differs_is_told_in_few_words(change: dict[str, object], told: str) -> None:
    assert differences(BASE, replace(BASE, **change)) == told  # type: ignore[arg-type]


async def test_flipping_shows_the_picture_before_and_comes_back(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+f")
        assert "no two pictures" in toasts(bench.app)
        write(bench, "a cat")
        for seed in ("1", "2"):
            bench.app.workbench.form.settings.set_seed(seed)
            await pilot.press("ctrl+g")
            await until(pilot, lambda seed=seed: len(bench.store.made) == int(seed))
            await until(pilot, lambda seed=seed: f"seed {seed}" in text(bench.app, "#caption"))
        await pilot.press("alt+f")
        assert "seed 1" in text(bench.app, "#caption") and "⇄ seed 2 → 1" in text(bench.app, "#caption")
        await pilot.press("alt+f")
        assert "seed 2" in text(bench.app, "#caption").splitlines()[0]
        await pilot.press("alt+f")
        assert "seed 1" in text(bench.app, "#caption").splitlines()[0]


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


async def test_a_series_where_guidance_does_nothing_is_told(bench: Bench) -> None:
    bench.draft(prompt="a cat", model="quick", guidance="1")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+d")
        assert "guidance does nothing here" in toasts(bench.app) and not bench.made
