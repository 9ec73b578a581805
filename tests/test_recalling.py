"""What was made is there again: stars, words and settings of the history, and the picture's own keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import WIDE, Bench, toasts, until, write
from textual.widgets._toast import Toast

from tui.panes.closer import Closer
from tui.panes.history import LARGE, SMALL


async def test_digits_in_the_history_are_stars(home: Path) -> None:
    bench = Bench(home)
    bench.fill(3)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        await pilot.press("f7", "j", "4")
        await until(pilot, lambda: bench.store.pictures()[1].rating == 4)
        history = bench.app.workbench.history
        await until(pilot, lambda: "★★★★" in history.render_line(4).text)
        await pilot.press("0")
        await until(pilot, lambda: bench.store.pictures()[1].rating is None)
        await until(pilot, lambda: "★" not in history.render_line(4).text)


async def test_words_go_to_the_clipboard(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(home)
    bench.fill(2)
    monkeypatch.delenv("TMUX", raising=False)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        await pilot.press("f7", "down", "Y")
        await until(pilot, lambda: bench.app.clipboard == "picture number 0")
        await pilot.press("y")
        await until(pilot, lambda: bench.app.clipboard.endswith("picture-1.png"))


async def test_the_picture_has_keys_of_its_own(home: Path) -> None:
    bench = Bench(home)
    bench.fill(4)
    async with bench.app.run_test(size=WIDE) as pilot:
        screen = bench.app.workbench
        await until(pilot, lambda: screen.shown is not None)
        screen.set_focus(screen.picture)
        newest = screen.shown
        await pilot.press("j", "down")
        await until(pilot, lambda: screen.shown.request.prompt == "picture number 1")
        await pilot.press("k")
        await until(pilot, lambda: screen.shown.request.prompt == "picture number 2")
        await pilot.press("space")
        await until(pilot, lambda: screen.shown.request.prompt != "picture number 2")
        await pilot.press("g", "up", "up")
        await until(pilot, lambda: screen.shown == newest)
        await pilot.press("Y")
        assert bench.app.clipboard == newest.request.prompt
        await pilot.press("t")
        await until(pilot, lambda: screen.form.prompt.text == newest.request.prompt)
        screen.set_focus(screen.picture)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, Closer))
        await pilot.press("escape")
        await pilot.press("l")
        await pilot.pause()
        assert "no strip" in toasts(bench.app)


async def test_alt_with_b_and_f_goes_by_words_as_in_a_shell(home: Path) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        write(bench, "one two three")
        prompt = bench.app.workbench.form.prompt
        await pilot.press("alt+b", "alt+b")
        assert prompt.place == 4
        await pilot.press("alt+f")
        assert prompt.place == 7 and prompt.text == "one two three"


@pytest.mark.parametrize(("size", "tall"), [((160, 45), SMALL), ((250, 70), LARGE)])
async def test_where_there_is_room_the_historys_rows_are_larger(home: Path, size: tuple[int, int], tall: int) -> None:
    bench = Bench(home)
    bench.fill(3)
    async with bench.app.run_test(size=size) as pilot:
        history = bench.app.workbench.history
        await until(pilot, lambda: len(history._thumbnails) == 3)
        assert history.virtual_size.height == 3 * tall
        assert all(len(strips) == tall for strips in history._thumbnails.values())
        assert (
            "picture number 2" in history.render_line(0).text and "picture number 1" in history.render_line(tall).text
        )
        if tall == LARGE:
            assert "4 steps · guidance 4.5 · 128x128" in history.render_line(3).text
            await pilot.resize_terminal(160, 45)
            await until(pilot, lambda: history.virtual_size.height == 3 * SMALL)
            await until(pilot, lambda: all(len(strips) == SMALL for strips in history._thumbnails.values()))


@pytest.mark.parametrize("size", [(160, 45), (100, 30), (250, 70)])
async def test_notices_don_t_lie_over_the_picture(home: Path, size: tuple[int, int]) -> None:
    bench = Bench(home)
    bench.fill(2)
    async with bench.app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        bench.app.notify("words " * 30, markup=False)
        await until(pilot, lambda: bench.app.screen.query(Toast))
        await pilot.pause(0.1)
        toast = bench.app.screen.query(Toast).first()
        assert toast.region and not toast.region.overlaps(bench.app.workbench.picture.view.region)


async def test_what_is_gone_is_told_before_it_is_enlarged(home: Path) -> None:
    bench = Bench(home)
    bench.fill(2)
    async with bench.app.run_test(size=WIDE) as pilot:
        screen = bench.app.workbench
        await until(pilot, lambda: screen.shown is not None)
        Path(screen.shown.path).unlink()
        screen._finish(screen.shown, "upscale up x2")
        await until(pilot, lambda: "is gone" in toasts(bench.app))
        assert not bench.engine.submitted or all(not hasattr(r, "steps") for r in bench.engine.submitted)
