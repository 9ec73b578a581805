"""States can be told apart without colour: by signs and by bold, reverse, underline and strike alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import Bench, until, write
from test_hostile_text import lines_of, segments_of

from tui.app import SafelightApp
from tui.panes.fetching import FetchScreen


def bare(app: SafelightApp) -> list[tuple[str, tuple[bool, ...]]]:
    """The screen as one sees it who sees no colours."""
    told = []
    for segments in segments_of(app):
        for text, style, _ in segments:
            kinds = (style.bold, style.reverse, style.underline, style.strike, style.italic) if style else ()
            told.append((text, tuple(map(bool, kinds))))
    return told


@pytest.mark.parametrize("way", ["colours", "NO_COLOR", "ascii"])
async def test_without_colours(home: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Also in the greys of NO_COLOR, and in ASCII."""
    if way == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    bench = Bench(home)
    bench.fill(4)
    bench.draft(prompt="a (red)1.3 apple")
    app = bench.open()
    app.plain = way == "ascii"
    seen: dict[str, list[tuple[str, tuple[bool, ...]]]] = {}

    def differs(name: str, *others: str) -> None:
        seen[name] = bare(app)
        for other in others:
            assert seen[name] != seen[other], f"{name} looks as {other}"

    async with app.run_test(size=(132, 40)) as pilot:
        await until(pilot, lambda: "picture number 3" in "\n".join(lines_of(app)))
        differs("prompt")
        for name, key in (("history", "f7"), ("second row", "down"), ("model", "f3"), ("steps", "f4"), ("next", "tab")):
            await pilot.press(key)
            await pilot.pause(0.1)
            differs(name, *seen)
        await pilot.press("alt+w")
        await pilot.pause(0.1)
        differs("slider", *seen)
        await pilot.press("space")
        await pilot.pause(0.1)
        differs("muted", *seen)
        await pilot.press("f3", "enter")
        await until(pilot, lambda: app.screen is not app.workbench)
        await pilot.pause(0.1)
        differs("list", *seen)
        await pilot.press("down")
        await pilot.pause(0.1)
        differs("list, second", "list")
        await pilot.press("escape")
        bench.engine.fail = "it broke"
        await pilot.press("f2", "ctrl+g")
        await until(pilot, lambda: "it broke" in "\n".join(lines_of(app)))
        text = "\n".join(lines_of(app))
        assert ("x a" if app.plain else "✗ a") in text
        bench.engine.fail, bench.engine.held = "", True
        ready = text.splitlines()[0]
        await pilot.press("ctrl+g", "ctrl+g")
        await until(pilot, lambda: "1 waiting" in "\n".join(lines_of(app)))
        text = "\n".join(lines_of(app))
        running, waiting = ("> a", "- a") if app.plain else ("▶ a", "· a")
        assert running in text and waiting in text
        assert ("*" if app.plain else "●") in text.splitlines()[0] and ("*" if app.plain else "●") not in ready
        assert text.isascii() or not app.plain


@pytest.mark.parametrize("plain", [False, True])
async def test_the_button_that_has_the_focus(home: Path, plain: bool) -> None:
    bench = Bench(home)
    bench.draft(model="far", prompt="a cat")
    app = bench.open()
    app.plain = plain
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workbench.form.prompt.text)
        write(bench, ".")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, FetchScreen))
        await pilot.pause(0.2)
        first = bare(app)
        await pilot.press("tab")
        await pilot.pause(0.2)
        assert bare(app) != first
