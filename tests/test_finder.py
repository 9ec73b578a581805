"""The palette: what Enter takes, however quickly it comes."""

from __future__ import annotations

from pathlib import Path

from driving import WIDE, Bench, until

from tui.panes.finder import Finder


async def test_enter_takes_what_all_letters_find_and_nothing_where_they_find_nothing(home: Path) -> None:
    bench = Bench(home)
    bench.draft(prompt="a red apple")
    async with bench.app.run_test(size=WIDE) as pilot:
        app = bench.app
        await until(pilot, lambda: app.workbench.form.prompt.text)
        theme = app.theme
        for letters in ("quitx", "new draftzz", "next themezzz"):
            await pilot.press("ctrl+p")
            await until(pilot, lambda: isinstance(app.screen, Finder))
            await pilot.press(*("space" if sign == " " else sign for sign in letters), "enter")
            await pilot.pause(0.3)
            assert isinstance(app.screen, Finder) and app.is_running, letters
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.workbench)
        assert app.theme == theme and app.workbench.form.prompt.text == "a red apple"
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, Finder))
        await pilot.press(*"next", "space", *"theme", "enter")
        await until(pilot, lambda: app.theme != theme and app.screen is app.workbench)
