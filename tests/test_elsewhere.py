"""A key that does nothing here tells where it does something; what holds everywhere works over dialogs, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import MEDIUM, Bench, toasts, until
from textual.pilot import Pilot

from tui.choice import ChoiceList
from tui.elsewhere import words
from tui.panes.finder import Finder
from tui.panes.footer import KeyLine
from tui.preferences import PreferencesScreen


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


def line(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one(KeyLine).render())


async def preferences(pilot: Pilot[None]) -> None:
    await pilot.press("alt+comma")
    await until(pilot, lambda: isinstance(pilot.app.screen, PreferencesScreen) and pilot.app.focused is not None)


def test_words() -> None:
    assert words("ctrl+g", {}) == "ctrl+g: make (on the workbench)"
    assert words("f10", {"make": "f10"}) == "F10: make (on the workbench)" and words("ctrl+g", {"make": "f10"}) == ""
    assert words("x", {}, {"queue"}) == "x: cancel job (in the queue)"
    assert words("t", {}).count("(") == 2  # of all places the first
    assert words("escape", {}) == words("down", {}) == words("ctrl+k", {}) == ""


async def test_a_key_of_the_workbench_says_so_in_another_screen(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await preferences(pilot)
        keys = line(pilot)
        await pilot.press("ctrl+g")
        assert line(pilot).strip() == "ctrl+g: make (on the workbench)"
        await pilot.press("alt+m")
        assert line(pilot).strip() == "alt+m: new sweep (on the workbench)" and not bench.app._notifications
        await pilot.press("up")
        assert line(pilot) == keys
        await pilot.press("slash", "z")  # into the line to find with
        assert "look closer" not in line(pilot)
        await pilot.press("escape", "z")
        assert "look closer" in line(pilot)
        await pilot.press("down", "escape")
        assert bench.app.screen is bench.app.workbench and "quit" in line(pilot)


async def test_a_dialog_says_it_in_one_notice_and_does_what_holds_everywhere(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await pilot.press("f3", "enter")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList) and bench.app.focused is not None)
        await pilot.press("ctrl+r", "ctrl+g")
        await until(pilot, lambda: toasts(bench.app) == "ctrl+g: make (on the workbench)")
        before = bench.app.theme
        await pilot.press("ctrl+t")
        assert bench.app.theme != before
        bench.app.clear_notifications()
        await pilot.press("alt+comma")
        await until(pilot, lambda: "when this is closed" in toasts(bench.app))
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(bench.app.screen, Finder))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
