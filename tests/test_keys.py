"""The key table: every action exists, no key means two things, and overrides are checked."""

from __future__ import annotations

import itertools

import pytest
from textual.widgets import Input, TextArea

from tui import keys
from tui.app import SafelightApp
from tui.panes.board import Leaderboard
from tui.panes.history import HistoryPane
from tui.panes.loras import LoraPane
from tui.panes.prompt import PromptEditor
from tui.panes.queue import QueuePane
from tui.panes.sheet import SheetPane
from tui.panes.weights import WeightsPane
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
    "sweep": SweepScreen,
    "board": Leaderboard,
    "sheet": SheetPane,
}


@pytest.mark.parametrize("action", keys.TABLE, ids=lambda action: action.id)
def test_every_action_can_be_done(action: keys.Action) -> None:
    assert hasattr(PLACES[action.scope], f"action_{action.command}")
    assert action.help.endswith(".") and len(action.title) <= 16


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
    assert ours & theirs == {"f6", "f7"}


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


def test_keys_in_words() -> None:
    assert keys.shown(keys.BY_ID["help"], {}) == "F1 or ?"
    assert keys.shown(keys.BY_ID["make"], {"make": "f10"}) == "F10"
