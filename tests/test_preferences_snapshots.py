"""The preferences as a picture at three sizes: the list, a value that is typed, a key that is waited for, themes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from test_preferences import opened, shown
from test_snapshots import SIZES, Shots, _colours, bench, ready, shots, still  # noqa: F401
from textual.pilot import Pilot

from engines.folders import Folders
from tui.app import SafelightApp
from tui.key_wait import KeyWait
from tui.panes.preferences import PreferenceList
from tui.preferences import PreferencesScreen
from tui.settings import Settings
from tui.theme_list import ThemeList

FILE = '# mine\nthreads = 2\nnotify = "bell"\nfolder = "/srv/pictures"\n[keys]\nmake = "f10"\n'


def app(home: Path, monkeypatch: pytest.MonkeyPatch) -> SafelightApp:
    """With a file, an environment and a command line; its path is the same on every machine."""
    monkeypatch.setenv("SAFELIGHT_PICTURES", "sixel")
    (home / "config").mkdir()
    (home / "config" / "settings.toml").write_text(FILE)
    made, _ = bench(home)
    made.ledger.wishes.now = made.ledger.wishes.wanted = Settings(device="cpu", given=("device",))
    monkeypatch.setattr("tui.preferences.ending", lambda path, most: "~/.config/safelight/settings.toml")
    assert Folders(home / "config", home, home, home).settings == made.ledger.wishes.path
    return made


async def at(pilot: Pilot[None], row: str) -> PreferenceList:
    await still(pilot, lambda: ready(pilot))
    rows = await opened(pilot, row)
    await still(pilot, lambda: shown(rows, "threads").value == "2")
    return rows


Before = Callable[[Pilot[None]], Awaitable[None]]


async def the_list(pilot: Pilot[None]) -> None:
    await at(pilot, "threads")


async def a_wrong_value(pilot: Pilot[None]) -> None:
    rows = await at(pilot, "probe_seconds")
    await pilot.press("enter", *"20s")
    await still(pilot)
    assert not rows.has_focus


async def a_key(pilot: Pilot[None]) -> None:
    await at(pilot, "keys.make")
    await pilot.press("enter")
    await still(pilot, lambda: isinstance(pilot.app.screen, KeyWait))


async def found(pilot: Pilot[None]) -> None:
    await at(pilot, "")
    await pilot.press("slash", *"terminal")
    await still(pilot)


async def themes(pilot: Pilot[None]) -> None:
    await at(pilot, "theme")
    await pilot.press("escape")
    await still(pilot, lambda: not isinstance(pilot.app.screen, PreferencesScreen))
    pilot.app.action_choose_theme()  # type: ignore[attr-defined]
    await still(pilot, lambda: isinstance(pilot.app.screen, ThemeList))
    await pilot.press(*"paper")
    await still(pilot, lambda: pilot.app.theme == "paper")


@pytest.mark.parametrize("before", [the_list, a_wrong_value, a_key, found], ids=lambda before: before.__name__)
async def test_preferences(shots: Shots, home: Path, monkeypatch: pytest.MonkeyPatch, before: Before) -> None:  # noqa: F811
    made = app(home, monkeypatch)
    async with made.run_test(size=SIZES[-1]) as pilot:
        await before(pilot)
        await shots(pilot)


async def test_list_of_themes(shots: Shots, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    made = app(home, monkeypatch)
    async with made.run_test(size=SIZES[-1]) as pilot:
        await themes(pilot)
        await shots(pilot)
