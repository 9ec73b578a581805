"""The preferences: what is changed there acts, is written, and comes back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from driving import MEDIUM, WIDE, Bench, toasts, until
from textual.pilot import Pilot
from textual.widgets import Static
from textual.widgets._toast import Toast

from engines.errors import StorageError
from tui import keys, preference_rows, settings_file
from tui.choice import ChoiceList, FilterInput
from tui.key_wait import KeyWait
from tui.panes.preferences import PreferenceList
from tui.preferences import PreferenceInput, PreferencesScreen
from tui.settings import Settings
from tui.theme_list import ThemeList


@pytest.fixture
def bench(home: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.delenv("SAFELIGHT_PICTURES", raising=False)
    return Bench(home)


@pytest.fixture
def file(home: Path) -> Path:
    return home / "config" / "settings.toml"


async def opened(pilot: Pilot[None], row: str = "") -> PreferenceList:
    """The preferences, with the cursor on a row."""
    await pilot.press("alt+comma")
    await until(pilot, lambda: isinstance(pilot.app.screen, PreferencesScreen))
    rows = pilot.app.screen.query_one(PreferenceList)
    await until(pilot, lambda: rows.chosen is not None and not list(pilot.app.workers))
    while row and rows.chosen is not None and rows.chosen.id != row:
        await pilot.press("down")
    return rows


async def opened_at(pilot: Pilot[None], rows: PreferenceList, row: str) -> None:
    """The cursor goes to a row, up or down."""
    at = next(i for i, one in enumerate(rows._rows) if one.id == row)
    while rows._cursor != at:
        await pilot.press("down" if rows._cursor < at else "up")


def told(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#preferences-about", Static).render())


def shown(rows: PreferenceList, id: str) -> preference_rows.Row:
    return next(row for row in rows._rows if row.id == id)


def written(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text()) if file.exists() else {}


async def test_a_switch_acts_at_once_and_is_written(bench: Bench, file: Path) -> None:
    bench.draft(score="yes")
    async with bench.app.run_test(size=WIDE) as pilot:
        rows = await opened(pilot, "score")
        assert "Score every picture" in told(pilot) and "acts at once" in told(pilot)
        await pilot.press("space")
        assert bench.app.workbench.draft.score == "no" and not bench.app.settings.score
        await until(pilot, lambda: written(file) == {"score": False})
        assert (shown(rows, "score").value, shown(rows, "score").origin) == ("off", "file")
        await pilot.press("x")
        await until(pilot, lambda: written(file) == {})
        assert bench.app.workbench.draft.score == "yes" and shown(rows, "score").origin == "default"
        await pilot.press("escape")
        assert bench.app.screen is bench.app.workbench


async def test_other_settings_leave_the_form_as_it_is(bench: Bench) -> None:
    bench.draft(score="no", precision="fp32", prompt="an apple")
    async with bench.app.run_test(size=WIDE) as pilot:
        await opened(pilot, "weights")
        await pilot.press("space")
        draft = bench.app.workbench.draft
        assert (draft.score, draft.precision, draft.prompt) == ("no", "fp32", "an apple")
        assert bench.app.workbench.form.prompt.signs and bench.app.workbench.form.negative.signs


async def test_a_number_is_checked_while_it_is_typed(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "notify_after")
        await pilot.press("enter")
        line = pilot.app.screen.query_one(PreferenceInput)
        assert line.has_focus and line.value == "20"
        assert (line.region.x, line.region.y) == (
            rows.region.x + 19,
            rows.region.y + rows._cursor - rows.scroll_offset.y,
        )
        await pilot.press("9", "0", "0", "0")
        assert line.has_class("-bad") and "whole number from 0 to 3600" in told(pilot)
        bench.app.ledger.look()  # as it does by itself every other second
        await until(pilot, lambda: not list(pilot.app.workers))
        assert "whole number from 0 to 3600" in told(pilot) and line.has_focus
        await pilot.press("enter")
        assert line.has_focus and written(file) == {}
        await pilot.press("backspace", "enter")
        assert rows.has_focus and not line.display and bench.app.settings.notify_after == 900
        await until(pilot, lambda: written(file) == {"notify_after": 900})
        await pilot.press("enter", "5", "escape")
        assert rows.has_focus and bench.app.settings.notify_after == 900
        assert isinstance(pilot.app.screen, PreferencesScreen)


async def test_what_acts_at_the_next_start_says_so(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "threads")
        await pilot.press("enter", "backspace", "3", "enter")
        await until(pilot, lambda: written(file) == {"threads": 3})
        assert shown(rows, "threads").value == "3" and shown(rows, "threads").waits
        assert bench.app.settings.threads == 0 and "next start" in told(pilot)


async def test_a_choice_is_a_list_and_so_is_the_model(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await opened(pilot, "precision")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceList))
        await pilot.press("b", "f", "enter")
        await until(pilot, lambda: written(file) == {"precision": "bf16"})
        assert bench.app.workbench.draft.precision == "bf16"
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceList))
        await pilot.press(*"quick", "enter")
        await until(pilot, lambda: written(file) == {"precision": "bf16", "model": "quick"})


async def test_what_comes_from_outside_the_file_is_told(
    bench: Bench, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFELIGHT_PICTURES", "sixel")
    bench.open(Settings(device="cpu", given=("device",)))
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "pictures")
        assert shown(rows, "pictures").value == "sixel" and shown(rows, "pictures").origin == "environment"
        assert shown(rows, "device").value == "cpu" and shown(rows, "device").origin == "command line"
        await pilot.press("space")
        await until(pilot, lambda: written(file) == {"pictures": "kitty"})
        assert "SAFELIGHT_PICTURES comes before the file" in toasts(bench.app)
        assert shown(rows, "pictures").value == "sixel"


# ── lines that are refused ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_line_of_the_file_that_is_refused_is_marked_until_it_is_changed(bench: Bench, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('notify = "bel"\nthreads = "two"\ntitle = false\n')
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "notify")
        await until(pilot, lambda: shown(rows, "notify").refused)
        row = shown(rows, "notify")
        assert (row.value, row.origin) == ("auto", "✗ refused") and '"bel"' in told(pilot)
        assert "it is auto, bell, osc9, osc777 or off" in told(pilot) and "the default, auto, holds" in told(pilot)
        assert "✗ refused" in rows.render_line(rows._cursor - rows.scroll_offset.y).text
        assert "it must be a whole number" in shown(rows, "threads").more and not shown(rows, "title").refused
        title = pilot.app.screen.query_one("#preferences-title", Static)
        assert "2 lines of it refused" in str(title.render())
        await pilot.press("space")
        assert not shown(rows, "notify").refused
        await until(pilot, lambda: written(file)["notify"] == "bell" and shown(rows, "notify").origin == "file")
        await opened_at(pilot, rows, "threads")
        await pilot.press("x")
        await until(pilot, lambda: "threads" not in written(file) and shown(rows, "threads").origin == "default")
        assert "refused" not in str(title.render())


async def test_a_notice_covers_nothing_that_is_told_of_the_row(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM, notifications=True) as pilot:
        await opened(pilot, "notify")
        bench.app.notify("\n".join(["a line"] * 6), timeout=60)
        await until(pilot, lambda: pilot.app.screen.query(Toast))
        await pilot.pause()
        toast, about = pilot.app.screen.query_one(Toast), pilot.app.screen.query_one("#preferences-about")
        assert toast.region.area and not toast.region.overlaps(about.region)


async def test_a_key_a_theme_and_a_model_that_cannot_be_are_marked_too(bench: Bench, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('theme = "papre"\nmodel = "nosuch"\n[keys]\nmake = 7\nhelp = "ctrl+r"\n')
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot)
        await until(pilot, lambda: shown(rows, "keys.make").refused)
        assert "7: it must be text" in shown(rows, "keys.make").more
        assert '"ctrl+r": it can\'t have ctrl+r: it is the key of make-again' in shown(rows, "keys.help").more
        for name, value in (("theme", "safelight-dark"), ("model", "(empty)")):
            row = shown(rows, name)
            assert (row.value, row.origin) == (value, "✗ refused") and "there is none of this name" in row.more
        for name in ("keys.make", "keys.help"):
            await opened_at(pilot, rows, name)
            await pilot.press("x")
            await until(pilot, lambda name=name: shown(rows, name).origin == "default")  # type: ignore[misc]
        assert written(file)["keys"] == {}


# ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_typing_finds_and_escape_shows_all_again(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot)
        count = len(rows._rows)
        await pilot.press("slash", *"window ti")
        assert [row.id for row in rows._rows] == ["", "title"]
        await pilot.press("enter", "space")
        assert rows.has_focus and not bench.app.settings.title
        await pilot.press("escape")
        assert len(rows._rows) == count and isinstance(pilot.app.screen, PreferencesScreen)
        await pilot.press("slash", *"zzz", "down", "enter", "space", "x")
        assert not rows._rows and rows.chosen is None
        await pilot.press("slash", "escape")
        assert len(rows._rows) == count and not pilot.app.screen.query_one(FilterInput).display
        await pilot.press("escape")
        assert bench.app.screen is bench.app.workbench


def test_every_action_and_every_setting_has_a_row(bench: Bench) -> None:
    wishes = bench.app.ledger.wishes
    ids = {row.id for row in preference_rows.rows(wishes, {})}
    assert {f"keys.{action.id}" for action in keys.TABLE} <= ids and len(ids) == len(keys.TABLE) + 1 + 16


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def wait_for_key(pilot: Pilot[None], key: str) -> None:
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, KeyWait))
    await pilot.press(key)
    await until(pilot, lambda: isinstance(pilot.app.screen, PreferencesScreen))


async def test_a_key_is_pressed_and_acts_at_once(bench: Bench, file: Path) -> None:
    bench.draft(prompt="an apple")
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "keys.make")
        await wait_for_key(pilot, "f10")
        await until(pilot, lambda: written(file) == {"keys": {"make": "f10"}})
        assert (shown(rows, "keys.make").value, shown(rows, "keys.make").origin) == ("F10", "file")
        await pilot.press("escape", "ctrl+g")
        await pilot.pause()
        assert not bench.made
        await pilot.press("f10")
        await until(pilot, lambda: bench.made)
        await opened(pilot, "keys.make")
        await pilot.press("delete")
        await until(pilot, lambda: not written(file).get("keys"))
        await pilot.press("escape", "ctrl+g")
        await until(pilot, lambda: len(bench.made) == 2)


@pytest.mark.parametrize("key", ["ctrl+q", "ctrl+p", "alt+comma", "f1", "alt+m", "f7"])
async def test_a_key_that_is_taken_does_nothing_else_and_is_refused(bench: Bench, file: Path, key: str) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "keys.make")
        await wait_for_key(pilot, key)
        assert "can't have" in told(pilot) and shown(rows, "keys.make").value == "ctrl+g"
        assert written(file) == {} and bench.app.screen_stack[-1] is rows.screen and bench.app.is_running


async def test_escape_leaves_a_key_as_it_is(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "keys.make")
        await wait_for_key(pilot, "escape")
        assert shown(rows, "keys.make").value == "ctrl+g" and written(file) == {}


async def test_going_back_to_a_key_that_another_has_taken_is_refused(bench: Bench, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('[keys]\nmake = "f10"\nmake-again = "ctrl+g"\n')
    bench.open(Settings(keys=(("make", "f10"), ("make-again", "ctrl+g"))))
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await opened(pilot, "keys.make")
        await pilot.press("x")
        assert "make" in told(pilot) and "can't have ctrl+g" in told(pilot)
        assert written(file)["keys"] == {"make": "f10", "make-again": "ctrl+g"}


def test_which_keys_are_refused() -> None:
    def why(id: str, key: str) -> str:
        return preference_rows.refused(keys.BY_ID[id], key)

    for key in ("a", "question_mark", "space", "enter", "tab", "left", "ctrl+a", "backspace", "escape"):
        assert why("make", key), key
    assert not why("help", "question_mark") and not why("make", "f10") and not why("make", "alt+b")
    assert why("copy", "down") and why("copy", "tab") and not why("copy", "c")


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_that_cannot_be_written_is_told_and_the_value_holds(
    bench: Bench, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise StorageError("the disk is full", "make room")

    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "title")
        monkeypatch.setattr(settings_file, "change", full)
        await pilot.press("space")
        await until(pilot, lambda: "the disk is full" in toasts(bench.app))
        assert not bench.app.settings.title and shown(rows, "title").origin == "this session"
        bench.app.ledger.look()
        await until(pilot, lambda: not list(bench.app.workers))
        assert not bench.app.settings.title and written(file) == {}


async def test_what_an_editor_saves_is_read_and_kept(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "title")
        file.parent.mkdir()
        file.write_text('# mine\nnotify = "off"\nnotify_after = "x"\n[keys]\nmake = "f10"\n')
        await pilot.press("space")
        await until(pilot, lambda: bench.app.settings.notify == "off")
        assert file.read_text() == ('# mine\nnotify = "off"\nnotify_after = "x"\ntitle = false\n[keys]\nmake = "f10"\n')
        assert shown(rows, "keys.make").value == "F10" and not bench.app.settings.title
        assert "notify_after must be a whole number" in toasts(bench.app)
        file.write_text("theme = ")
        await pilot.press("space")
        await until(pilot, lambda: "mend it in an editor" in toasts(bench.app))
        assert file.read_text() == "theme = " and bench.app.settings.title and bench.app.settings.notify == "off"


async def test_many_changes_in_a_row_are_all_written(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await opened(pilot, "title")
        await pilot.press("space", "down", "space", "up", "space", "space", "escape")
        await until(
            pilot, lambda: written(file) == {"title": False, "clipboard": False} and not list(pilot.app.workers)
        )
        assert not bench.app.settings.title and not bench.app.settings.clipboard


async def test_an_editor_that_is_not_there_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await opened(pilot)
        for editor in ("no-such-editor -w", "broken 'quote"):
            monkeypatch.setenv("EDITOR", editor)
            await pilot.press("e")
            assert f"no editor {editor.split()[0]}" in toasts(bench.app)
        monkeypatch.setenv("EDITOR", "true")
        await pilot.press("e")
        assert "can't be lent" in toasts(bench.app) and isinstance(pilot.app.screen, PreferencesScreen)


# ── themes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_themes_are_worn_under_the_cursor_and_kept_by_enter(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        rows = await opened(pilot, "theme")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThemeList))
        before = bench.app.theme
        await pilot.press("down")
        assert bench.app.theme != before
        await pilot.press(*"pap")
        await until(pilot, lambda: bench.app.theme == "paper")
        await pilot.press("escape")
        assert bench.app.theme == before and written(file) == {} and shown(rows, "theme").origin == "default"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThemeList))
        await pilot.press(*"pap", "enter")
        await until(pilot, lambda: written(file) == {"theme": "paper"})
        assert bench.app.theme == "paper" and shown(rows, "theme").value == "paper"


async def test_the_list_of_themes_is_in_the_palette_and_the_next_theme_is_not_written(bench: Bench, file: Path) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        commands = {command.title: command for command in bench.app.get_system_commands(bench.app.screen)}
        await pilot.press("ctrl+t")
        worn = bench.app.theme
        assert worn == bench.app.settings.theme != "safelight-dark"
        rows = await opened(pilot)
        assert (shown(rows, "theme").value, shown(rows, "theme").origin) == (worn, "this session")
        await pilot.press("escape")
        commands["choose theme"].callback()
        await until(pilot, lambda: isinstance(pilot.app.screen, ThemeList))
        await pilot.press("down", "alt+comma", "escape")
        assert bench.app.screen is bench.app.workbench and bench.app.theme == worn and written(file) == {}
