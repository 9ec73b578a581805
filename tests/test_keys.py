"""The key table: every action exists, no key means two things, and overrides are checked."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest
from driving import Bench, until
from textual.binding import Binding
from textual.widget import Widget
from textual.widgets import Input, TextArea

from tui import keys
from tui.app import SafelightApp
from tui.contact import ContactScreen
from tui.frames import Frames
from tui.panes.board import Leaderboard
from tui.panes.closer import Closer
from tui.panes.history import HistoryPane
from tui.panes.jump import JumpScreen
from tui.panes.loras import LoraPane
from tui.panes.picture import PicturePane
from tui.panes.preferences import PreferenceList
from tui.panes.prompt import PromptEditor
from tui.panes.queue import QueuePane
from tui.panes.sheet import SheetPane
from tui.panes.weights import WeightsPane
from tui.pictures.view import PictureView
from tui.sweep_screen import SweepScreen
from tui.workbench import Workbench

PLACES = {
    "app": SafelightApp,
    "workbench": Workbench,
    "prompt": PromptEditor,
    "weights": WeightsPane,
    "loras": LoraPane,
    "queue": QueuePane,
    "history": HistoryPane,
    "picture": PicturePane,
    "sweep": SweepScreen,
    "board": Leaderboard,
    "sheet": SheetPane,
    "contact": ContactScreen,
    "closer": Closer,
    "preferences": PreferenceList,
}


@pytest.mark.parametrize("action", [a for a in keys.TABLE if a.scope != "list"], ids=lambda action: action.id)
def test_every_action_can_be_done(action: keys.Action) -> None:
    does = action.runs.split("(")[0] or action.command
    there = Workbench if does.startswith("screen.") else PLACES[action.scope]
    does = does.removeprefix("screen.")
    assert hasattr(there, f"action_{does}")
    assert len(action.title) <= 16


def test_help_is_a_sentence() -> None:
    assert all(action.help.endswith(".") for action in keys.TABLE)


def test_no_key_means_two_things() -> None:
    for one, other in itertools.combinations(keys.TABLE, 2):
        if keys.together(one.scope, other.scope):
            assert not set(one.keys.split(",")) & set(other.keys.split(",")), (one.id, other.id)
    assert keys.together("prompt", "workbench") and keys.together("sweep", "board") and keys.together("app", "sheet")
    assert not keys.together("prompt", "history") and not keys.together("workbench", "sheet")


def test_editing_keys_of_the_text_fields_are_left_alone() -> None:
    ours = {key for a in keys.TABLE if a.scope in ("app", "workbench") for key in a.keys.split(",")}
    theirs = {
        key
        for widget in (TextArea, Input)
        for binding in widget.BINDINGS
        for key in binding.key.split(",")  # type: ignore[union-attr]
    }
    assert ours & theirs == {"f6", "f7", "ctrl+z"}  # of which the texts have the last for themselves


def test_no_key_that_tmux_screen_or_flow_control_takes_is_the_only_way() -> None:
    for action in keys.TABLE:
        if action.scope not in ("app", "workbench"):
            continue
        bad = {"ctrl+b", "ctrl+a", "ctrl+s", "ctrl+z", "ctrl+c"}
        assert set(action.keys.split(",")) - bad, action.id


def test_overrides() -> None:
    chosen, problems = keys.keymap(
        [("make", "f10"), ("quit", "ctrl+g"), ("fly", "f8"), ("help", " "), ("cancel", "f10")]
    )
    assert chosen == {"make": "f10", "quit": "ctrl+g"}
    assert len(problems) == 3
    assert "fly" in problems[0] and "help" in problems[1] and "f10" in problems[2]


def test_a_pane_may_use_a_key_that_another_pane_has() -> None:
    chosen, problems = keys.keymap([("copy", "x")])
    assert chosen == {"copy": "x"} and not problems


def test_two_actions_may_exchange_their_keys_in_any_order() -> None:
    swapped = [("make", "ctrl+r"), ("make-again", "ctrl+g")]
    assert keys.keymap(swapped) == (dict(swapped), [])
    moved = [("quit", "ctrl+g"), ("make", "f10")]
    assert keys.keymap(moved) == keys.keymap(moved[::-1]) == (dict(moved), [])
    # the first may not have it, and the second goes back to a key that the third has taken
    assert keys.keymap([("make", "f10"), ("cancel", "f10"), ("quit", "escape")])[0] == {"make": "f10"}


def test_keys_in_words() -> None:
    assert keys.shown(keys.BY_ID["finish"], {}) == "alt+." and keys.shown(keys.BY_ID["preferences"], {}) == "alt+,"
    assert keys.shown(keys.BY_ID["smaller"], {}) == "-" and keys.shown(keys.BY_ID["find-setting"], {}) == "/"
    assert keys.shown(keys.BY_ID["cancel-job"], {}) == "delete or x"
    assert keys.shown(keys.BY_ID["help"], {}) == "F1 or ?"
    assert keys.shown(keys.BY_ID["make"], {"make": "f10"}) == "F10"


async def test_a_letter_goes_to_every_place(home: Path) -> None:
    bench = Bench(home)
    bench.fill(3)
    for size in ((160, 45), (50, 24)):
        async with bench.open().run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.press("ctrl+@")
            screen = bench.app.screen
            assert isinstance(screen, JumpScreen)
            letters = dict(screen._places)
            assert {
                "prompt": "p",
                "negative": "n",
                "model": "m",
                "history": "h",
                "queue": "q",
                "steps": "s",
            }.items() <= {place.name: place.letter for place in letters.values()}.items()
            await pilot.press("escape")
            for letter, place in letters.items():
                await pilot.press("alt+slash", letter)
                await pilot.pause()
                assert bench.app.screen is bench.app.workbench
                if place.widget is not None:
                    assert bench.app.focused is place.widget, place.name
                else:
                    ids = {node.id for node in bench.app.focused.ancestors_with_self}
                    assert {"picture": "centre", "model": "model-choice", "steps": "input-steps"}.get(
                        place.name, place.name
                    ) in ids
            await pilot.press("ctrl+@", "§")
            assert bench.app.screen is bench.app.workbench


@pytest.mark.parametrize("pane", [HistoryPane, QueuePane, LoraPane, WeightsPane, Leaderboard, SheetPane])
def test_lists_move_by_arrows_and_by_letters(pane: type[Widget]) -> None:
    theirs = {b.id: b.key for b in pane.BINDINGS if isinstance(b, Binding) and b.id}
    for name in ("up", "down", "first", "last", "row-start", "row-end"):
        assert theirs[name] == keys.BY_ID[name].keys


async def test_the_palette_has_every_action_and_does_it_in_its_pane(home: Path) -> None:
    bench = Bench(home)
    bench.fill(3)
    bench.draft(prompt="a (red)1.3 apple")
    async with bench.app.run_test(size=(50, 24)) as pilot:
        app = bench.app
        await until(pilot, lambda: app.workbench.shown is not None)
        offered = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        for action in keys.TABLE:
            if action.scope in (*keys.SCREENS[0], "app") and action.id != "command-palette":
                assert any(title.startswith(f"{action.title} · ") for title in offered), action.id
        await offered["take settings · enter · in the history"]()
        await until(pilot, lambda: app.workbench.form.prompt.text == "picture number 2")
        await offered["copy prompt · Y · in the history"]()
        await until(pilot, lambda: app.clipboard == "picture number 2")
        assert app.focused is app.workbench.history
        assert app.workbench.has_class("-page-history")
        await offered["look closer · enter or z or + · on the picture"]()
        await until(pilot, lambda: isinstance(app.screen, Closer))


def test_every_key_of_the_table_is_pressed_by_a_test() -> None:
    """Somewhere in the tests stands each of them, as Textual calls it."""
    words: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    assert not [(action.id, key) for action in keys.TABLE for key in action.keys.split(",") if key not in words]


async def test_second_ways(home: Path) -> None:
    """Of what has another key already."""
    bench = Bench(home)
    bench.fill(40)
    async with bench.app.run_test(size=(132, 30)) as pilot:
        history = bench.app.workbench.history
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        await pilot.press("f7", "ctrl+d")
        page = history._cursor
        assert page > 1
        await pilot.press("ctrl+u")
        assert history._cursor == 0
        await pilot.press("G")
        assert history._cursor == 39
        await pilot.press("ctrl+home")
        assert history._cursor == 0
        await pilot.press("ctrl+space")
        assert isinstance(bench.app.screen, JumpScreen)
        await pilot.press("escape", "shift+f7")
        await until(pilot, lambda: isinstance(bench.app.screen, ContactScreen))


def test_the_name_that_one_sees_is_a_hint_to_the_id() -> None:
    assert "did you mean 'make-again'?" in keys.keymap([("again", "f10")])[1][0]


async def test_the_screen_is_drawn_anew_and_left_by_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(Frames, "forget", lambda self: done.append("forget"))
    monkeypatch.setattr(PictureView, "again", lambda self: done.append("again"))
    monkeypatch.setattr(SafelightApp, "action_suspend", lambda self: done.append("suspend"))
    bench = Bench(home)
    bench.fill(1)
    async with bench.app.run_test(size=(132, 30)) as pilot:
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        for key in ("shift+f5",):
            done.clear()
            await pilot.press(key)
            assert "forget" in done and "again" in done
        done.clear()
        await pilot.press("ctrl+z")  # the prompt's own
        assert not done
        await pilot.press("ctrl+backslash", "f7", "ctrl+z")
        assert done == ["suspend", "suspend"]
