"""Finishing in the workbench: the shown picture and the one under the cursor, and a close look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driving import WIDE, Bench, text, toasts, until, write
from PIL import Image
from textual.pilot import Pilot
from textual.widgets import Static

from engines.requests import Finish, taken
from engines.steps import Hires, Upscale
from tui.choice import ChoiceList
from tui.messages import TakeBack
from tui.panes.closer import Closer
from tui.pictures.images import Opened, Wish
from tui.pictures.view import PictureView


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


async def made(bench: Bench, pilot: Pilot[None]) -> None:
    write(bench, "a cat")
    await pilot.press("ctrl+g")
    await until(pilot, lambda: bench.app.workbench.shown is not None)


def asked(bench: Bench) -> list[Finish]:
    return [r for r in bench.engine.submitted if isinstance(r, Finish)]


async def test_the_shown_picture_is_enlarged_and_its_result_is_shown(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        for key in ("f5", "f9", "f12", "alt+j", "alt+q"):
            await pilot.press(key)
        assert "no picture yet" in toasts(bench.app) and not asked(bench)
        await made(bench, pilot)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        await pilot.press("enter")
        await until(pilot, lambda: len(bench.store.made) == 2)
        (request,) = asked(bench)
        assert request.picture == bench.store.made[0].path
        assert request.finish == (Upscale("up", 4, prompt="a cat"),)
        await until(pilot, lambda: "upscale x4 by up" in text(bench.app, "#caption"))
        assert bench.app.workbench.shown == bench.store.made[1]
        assert bench.app.workbench.history._pages.total == 2, "not twice in the history"


async def test_one_key_draws_over_it_and_one_in_the_history_acts_on_the_row(bench: Bench) -> None:
    bench.fill(3)
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        await pilot.press("f12")
        await until(pilot, lambda: len(asked(bench)) == 1)
        assert asked(bench)[0].finish == (Hires(2, 0.4),)
        await until(pilot, lambda: len(bench.store.made) == 5)
        await pilot.press("f7", "end")
        await pilot.press("h")
        await until(pilot, lambda: len(asked(bench)) == 2)
        assert asked(bench)[1].picture == bench.store.made[0].path


async def test_what_mends_faces_is_fetched_if_one_says_so(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        await pilot.press("f9")
        await until(pilot, lambda: bench.app.screen is not bench.app.workbench)
        assert not asked(bench)
        await pilot.press("enter")
        await until(pilot, lambda: bench.pulled == ["mend"])


async def test_a_step_that_fails_leaves_the_picture_and_says_so(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        bench.engine.fail = "memory ran out"
        await pilot.press("f12")
        await until(pilot, lambda: any(p.state == "failed" for p in bench.app.workbench._jobs))
        assert len(bench.store.made) == 1
        (failed,) = [p for p in bench.app.workbench._jobs if p.state == "failed"]
        assert "hires x2 at 0.4" in failed.prompt and bench.store.made[0].path in failed.hint


async def test_pictures_to_come_are_finished_and_drawn_over(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        await pilot.press("alt+full_stop")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        await pilot.press(*"x1.5", "enter")
        await pilot.press("alt+q")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        await pilot.press(*"0.35", "enter")
        await until(pilot, lambda: bench.app.workbench.form.draft.strength == "0.35")
        quiet = str(bench.app.workbench.form.model.query_one("#model-departs", Static).render())
        assert "over picture-1.png at 0.35" in quiet and "then hires x1.5 0.4" in quiet
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(bench.made) == 2)
        request = bench.made[1]
        assert (request.init, request.strength) == (bench.store.made[0].path, 0.35)
        assert request.finish == (Hires(1.5, 0.4),)


async def test_a_file_that_tells_no_model_is_drawn_over_by_the_forms_and_has_no_settings_to_take(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        workbench, drawn = bench.app.workbench, bench.store.made[0]
        stranger = replace(drawn, request=taken(drawn.path, drawn.width, drawn.height))
        workbench.shown = stranger
        write(bench, " and a dog")
        await pilot.press("f12")
        await until(pilot, lambda: len(bench.made) == 2)
        request = bench.made[1]
        assert (request.prompt, request.model, request.init) == ("a cat and a dog", drawn.request.model, drawn.path)
        assert request.strength == 0.0 and request.finish == (Hires(2, 0.4),)
        before = workbench.draft
        workbench.post_message(TakeBack(stranger, "all"))
        await until(pilot, lambda: "has no settings to take" in toasts(bench.app))
        assert workbench.draft == before


async def test_what_was_done_to_a_picture_is_not_done_to_all_that_follow(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        await pilot.press("f12")
        await until(pilot, lambda: len(bench.store.made) == 2)
        large = bench.store.made[1]
        assert large.request.finish
        bench.app.workbench.post_message(TakeBack(large, "all"))
        await until(pilot, lambda: "settings taken" in toasts(bench.app))
        assert bench.app.workbench.draft.seed == str(large.request.seed) and not bench.app.workbench.draft.finish


async def test_a_picture_that_was_made_of_none_has_nothing_to_flip_to(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        await pilot.press("f12")
        await until(pilot, lambda: len(bench.store.made) == 2)
        await made(bench, pilot)
        await until(pilot, lambda: bench.app.workbench.shown == bench.store.made[2])
        await pilot.press("alt+j")
        await until(pilot, lambda: isinstance(bench.app.screen, Closer) and "this" in closer_line(bench))
        assert "flips" not in closer_line(bench)


def closer_line(bench: Bench) -> str:
    return str(bench.app.screen.query_one("#closer-line", Static).render())


async def test_a_close_look_zooms_pans_and_flips_in_place(bench: Bench) -> None:
    def line() -> str:
        return str(bench.app.screen.query_one("#closer-line", Static).render())

    async with bench.app.run_test(size=WIDE) as pilot:
        await made(bench, pilot)
        await pilot.press("f12")
        await until(pilot, lambda: len(bench.store.made) == 2 and bench.app.workbench.shown == bench.store.made[1])
        await pilot.press("alt+j")
        await until(pilot, lambda: isinstance(bench.app.screen, Closer) and "96x96" in line())
        closer = bench.app.screen
        assert isinstance(closer, Closer) and "this (1 of 2)" in line() and closer._centre == (0.5, 0.5)
        await pilot.press("plus", "plus", "right")
        await until(pilot, lambda: closer._seen[0] < 1 and closer._centre[0] > 0.5)
        await until(pilot, lambda: not closer._busy)
        place = closer._centre, closer._seen
        await pilot.press("space")
        await until(pilot, lambda: "before (2 of 2) · 48x48" in line())
        assert (closer._centre, closer._seen) == place, "the same part of it"
        await pilot.press("1")
        await until(pilot, lambda: "2:1" in line())
        await pilot.press("space")
        await until(pilot, lambda: "this (1 of 2)" in line() and "1:1" in line())
        for _ in range(9):
            await pilot.press("left")
        await until(pilot, lambda: not closer._busy)
        assert closer._centre[0] == closer._seen[0] / 2, "nothing beyond the edge is in sight"
        await pilot.press("0")
        await until(pilot, lambda: closer._seen == (1, 1))
        Path(bench.store.made[0].path).unlink()
        closer._whole = Opened()
        await pilot.press("space")
        await until(pilot, lambda: "the file is gone" in bench.app.screen.query_one(PictureView)._message)
        await pilot.press("escape")
        assert bench.app.screen is bench.app.workbench


def test_a_part_is_cut_out_pixel_for_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).resize((15, 10)).save(tmp_path / "small.png")
    both = (str(tmp_path / "a.png"), str(tmp_path / "small.png"))
    part = Opened().part(both[0], both, Wish((20, 10), 0.0, (0.5, 0.5)))
    assert (part.pixels.width, part.pixels.height, part.scale) == (20, 10, 1)
    shown = np.frombuffer(part.pixels.data, np.uint8).reshape(10, 20, 3)
    assert np.array_equal(shown, pixels[15:25, 20:40])
    small = Opened().part(both[1], both, Wish((20, 10), 0.0, (0.5, 0.5)))
    assert small.scale == 4 and small.seen == part.seen, "the same part, at the same size"
    corner = Opened().part(both[0], both[:1], Wish((30, 20), 2.0, (9.0, -9.0)))
    assert corner.centre == (0.75, 0.25) and corner.seen == (0.5, 0.5)
    whole = Opened().part(both[0], both[:1], Wish((30, 40), 1.0, (0.5, 0.5)))
    assert (whole.pixels.width, whole.pixels.height) == (30, 20)
