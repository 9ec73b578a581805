"""Live: changes become sketches of one seed, what is out of date is dropped, and the picture follows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import WIDE, Bench, text, toasts, until, write
from fake_engine import catalogue as fake
from fake_engine import with_mixes
from textual import events

from engines import catalogue
from engines.requests import Generate
from tui import live
from tui.draft import Draft
from tui.live import Live
from tui.stock import Having

HERE = Having(True, True)


@pytest.fixture
def bench(home: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(live, "SETTLE", 0.02)
    return Bench(home)


def sketches(bench: Bench) -> list[Generate]:
    return [request for request in bench.made if request.sketch]


def pictures(bench: Bench) -> list[Generate]:
    return [request for request in bench.made if not request.sketch]


# ── who sketches ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_quickest_of_the_family_that_is_here_sketches() -> None:
    known = catalogue.load()
    here = dict.fromkeys(known.models, HERE)

    def who(id: str, **changed: Having) -> str:
        stocks = here | {name.replace("_", "-"): having for name, having in changed.items()}
        return live.quickest(known, known.models[id], stocks).id

    assert who("sdxl-base") == "sdxl-turbo", "one step of a quarter of the pixels"
    gone = {"sdxl_turbo": Having(False, True), "sdxl_lightning_1step_unet": Having(False, True)}
    assert who("juggernaut-xl", **gone) == "sdxl-lightning-2step-unet"
    assert who("juggernaut-xl", sdxl_turbo=Having(True, True, fit="does not fit")) == "sdxl-lightning-1step-unet"
    assert who("mini") == "mini-lightning-2step-lora"
    assert who("ssd-1b") == "ssd-1b", "nothing quick is of its architecture"
    assert live.quickest(known, known.models["sdxl-base"], {}).id == "sdxl-base"


def test_a_sketch_is_the_students_recipe_at_the_drafts_seed_and_shape() -> None:
    known = catalogue.load()
    here = dict.fromkeys(known.models, HERE)
    draft = Draft("a (cat)1.2", model="sdxl-base", seed="7", size="1216x832", guidance="6", count="4", score="yes")
    state = Live(on=True)
    first = state.sketch(draft, known, here)
    assert first is not None and first.sketch and first.model == "sdxl-turbo"
    assert (first.seed, first.num_inference_steps, first.guidance_scale) == (7, 1, 0.0)
    assert (first.width, first.height, first.score, first.preview_every) == (512, 512, None, 0)
    state.asked(draft)
    assert state.sketch(draft, known, here) is None, "nothing was changed"
    assert state.sketch(replace(draft, count="9"), known, here) is None, "nothing that is seen was changed"
    # what the student has no say in is sketched by the model itself, in fewer steps
    own = state.sketch(replace(draft, guidance="5.5"), known, here)
    assert own is not None and (own.model, own.num_inference_steps, own.guidance_scale) == ("sdxl-base", 10, 5.5)
    state.asked(replace(draft, guidance="5.5"))
    # and then words again by the student
    words = state.sketch(replace(draft, guidance="5.5", prompt="a (cat)1.3"), known, here)
    assert words is not None and words.model == "sdxl-turbo"


def test_a_ratio_is_sketched_by_the_mixed_model_itself() -> None:
    known = with_mixes(fake(Path("/nowhere")))
    here = dict.fromkeys(("mini", "quick", "sum"), HERE)
    draft = Draft("a cat", model="sum", seed="7")
    state = Live(on=True)
    first = state.sketch(draft, known, here)
    assert first is not None and (first.model, first.mix) == ("quick", ())
    state.asked(draft)
    own = state.sketch(replace(draft, mix="0.7"), known, here)
    assert own is not None and (own.model, own.mix) == ("sum", (0.3, 0.7))
    state.asked(replace(draft, mix="0.7"))
    # words are the student's again, who has no ratio
    words = state.sketch(replace(draft, mix="0.7", prompt="a dog"), known, here)
    assert words is not None and (words.model, words.mix) == ("quick", ())


@pytest.mark.parametrize("bad", [{"steps": "x"}, {"size": "7x7"}, {"model": "nobody"}, {"prompt": "a" * 200_000}])
def test_what_can_not_be_read_is_not_sketched(bad: dict[str, str]) -> None:
    known = catalogue.load()
    assert Live(on=True).sketch(replace(Draft("a cat", model="mini", seed="1"), **bad), known, {}) is None


def test_steady_changes_are_sketched_all_the_same() -> None:
    state = Live(on=True)
    assert state.due(100.0) == live.SETTLE
    assert state.due(100.25) == pytest.approx(live.PATIENCE - 0.25)
    assert state.due(101.0) == 0.0


# ── the workbench ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_slider_is_sketched_and_the_picture_follows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.sketching.REST", 0.15)
    bench.draft(prompt="a (red)1.2 apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: sketches(bench))
        await until(pilot, lambda: bench.store.made)
        assert len(sketches(bench)) == len(pictures(bench)) == 1
        assert sketches(bench)[0].model == "quick" and pictures(bench)[0].model == "mini"
        await pilot.press("alt+w", "right")
        await until(pilot, lambda: len(bench.store.made) == 2)
        assert [r.prompt for r in sketches(bench)] == ["a (red)1.2 apple", "a (red)1.25 apple"]
        assert {r.seed for r in bench.made} == {7}
        assert len(bench.app.workbench._jobs) == 0 and not bench.app.workbench._sketches


async def test_a_ratio_that_slides_is_sketched_and_the_picture_follows(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SETTLE", 0.02)
    monkeypatch.setattr("tui.sketching.REST", 0.15)
    bench = Bench(home, with_mixes(fake(home)))
    bench.draft(prompt="a cat", seed="7", model="sum")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: bench.store.made)
        await pilot.press("alt+w", "right")
        await until(pilot, lambda: len(bench.store.made) == 2)
        assert [(r.model, r.mix) for r in sketches(bench)] == [("quick", ()), ("sum", (0.55, 0.45))]
        assert [(r.model, r.mix) for r in pictures(bench)] == [("sum", ()), ("sum", (0.55, 0.45))]


async def test_steady_changes_are_seen_though_each_is_read_slowly(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that come faster than a draft is read, as from an arrow that is held down; the clock runs."""
    read = Live.sketch

    def slowly(self: Live, draft: Draft, *rest: Any) -> Generate | None:
        time.sleep(0.06)
        return read(self, draft, *rest)

    monkeypatch.setattr(Live, "sketch", slowly)
    bench = Bench(home)
    bench.draft(prompt="a (red)0.1 apple", seed="7")
    bench.app.workbench._clock = time.time
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i", "alt+w")
        for _ in range(36):
            bench.app.post_message(events.Key("right", None))
            await asyncio.sleep(0.03)
        assert len(sketches(bench)) >= 2, "while the key was held"
        await until(pilot, lambda: sketches(bench)[-1].prompt == "a (red)1.9 apple")


async def test_what_is_changed_and_changed_back_is_not_drawn_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.sketching.REST", 0.05)
    bench.draft(prompt="a (red)1.2 apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: len(bench.store.made) == 1)
        await pilot.press("alt+w", "right")
        await until(pilot, lambda: len(bench.store.made) == 2)
        await pilot.press("left")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a (red)1.2 apple")
        await until(pilot, lambda: bench.app.workbench.shown == bench.store.made[0])
        await pilot.pause(0.3)
        assert len(pictures(bench)) == 2 and bench.app.workbench.shown == bench.store.made[0]
        await pilot.press("right", "right")
        await until(pilot, lambda: len(bench.store.made) == 3)


async def test_a_picture_that_an_earlier_workbench_wanted_is_not_cancelled(home: Path) -> None:
    bench = Bench(home, held=True)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        bench.engine.submit(Generate("left behind", "mini", 7, 128, 128, 4, 4.5), "live-0badcafe")
        await until(pilot, lambda: bench.app.workbench._jobs.running)
        bench.engine.advance(50)
        await until(pilot, lambda: bench.store.made)


async def test_a_sketch_that_is_out_of_date_is_dropped_within_a_step(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SETTLE", 0.01)
    bench = Bench(home, held=True)
    bench.draft(prompt="a (red)1.2 apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: len(sketches(bench)) == 1)
        for count in (2, 3, 4):
            await pilot.press("alt+w", "right")
            await until(pilot, lambda count=count: len(sketches(bench)) == count)
        # all but the newest are cancelled, though the engine has not come to an end of any
        await until(pilot, lambda: set(bench.app.workbench._sketches) == {bench.app.workbench._live.job})
        bench.engine.advance(50)
        await until(pilot, lambda: not bench.app.workbench._sketches)
        assert sketches(bench)[-1].prompt == "a (red)1.35 apple"
        await until(pilot, lambda: "sketch by" in str(bench.app.workbench.picture.query_one("#caption").render()))


async def test_a_picture_that_is_made_while_hands_rest_is_dropped_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SETTLE", 0.01)
    monkeypatch.setattr("tui.sketching.REST", 0.05)
    bench = Bench(home, held=True)
    bench.draft(prompt="a (red)1.2 apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: sketches(bench))
        bench.engine.advance(sketches(bench)[0].num_inference_steps + 1)
        await until(pilot, lambda: pictures(bench) and len(bench.app.workbench._jobs) == 1)
        (first,) = (progress.job.id for progress in bench.app.workbench._jobs)
        await pilot.press("alt+w", "right")
        await until(pilot, lambda: bench.app.workbench._jobs.get(first) is None)
        assert not bench.store.made
        bench.engine.advance(50)
        await until(pilot, lambda: bench.store.made)
        assert [picture.request.prompt for picture in bench.store.made] == ["a (red)1.25 apple"]


async def test_without_a_seed_in_the_form_live_keeps_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.sketching.REST", 0.1)
    bench.draft(prompt="a (red)1.2 apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: bench.store.made)
        bench.app.workbench.form.settings.set_seed("")
        await pilot.press("alt+w", "right")
        await until(pilot, lambda: len(bench.store.made) == 2)
        assert {request.seed for request in bench.made} == {7}


async def test_enter_while_live_makes_the_picture_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.sketching.REST", 0.8)  # longer than three keys take on a busy machine
    bench.draft(prompt="a (red)1.2 apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: bench.store.made)
        await pilot.press("alt+w", "right", "ctrl+g")
        await until(pilot, lambda: len(bench.store.made) == 2)
        await pilot.pause(1.2)
        assert len(pictures(bench)) == 2


async def test_what_is_not_here_is_neither_sketched_nor_fetched_unasked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.sketching.REST", 0.05)
    bench.draft(prompt="a cat", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        await until(pilot, lambda: bench.store.made)
        asked = len(bench.made)
        bench.app.workbench.form.model.choice._take("far")
        await until(pilot, lambda: "live waits for far" in text(bench.app, "#caption"))
        await pilot.pause(0.3)
        assert len(bench.made) == asked and bench.app.screen is bench.app.workbench and not bench.pulled


async def test_off_and_cancel_all_leave_no_sketch_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SETTLE", 0.01)
    bench = Bench(home, held=True)
    bench.draft(prompt="a cat", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        for key in ("alt+i", "alt+x"):
            if not bench.app.workbench.live:
                await pilot.press("alt+i")
            write(bench, " more")
            await until(pilot, lambda: bench.app.workbench._sketches)
            await pilot.press(key)
            await until(pilot, lambda: not bench.app.workbench._sketches)


async def test_without_a_seed_one_is_kept_and_off_is_off(bench: Bench) -> None:
    bench.draft(prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("alt+i")
        assert bench.app.workbench.draft.seed.isdecimal() and "live" in str(
            bench.app.workbench.query_one("#header").render()
        )
        await until(pilot, lambda: sketches(bench))
        await pilot.press("alt+i")
        assert "live is off" in toasts(bench.app)
        asked = len(bench.made)
        write(bench, "more")
        await pilot.pause(0.2)
        assert len(bench.made) == asked
