"""Waits for the key that an action shall have."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import keys


class KeyWait(ModalScreen[str | None]):
    """Takes the next key, whatever it does elsewhere: the app keeps its own back while this is open. Escape leaves."""

    takes_keys: ClassVar[bool] = True
    "The app's own keys, too."

    def __init__(self, action: keys.Action, shown: str) -> None:
        super().__init__()
        self._action = action
        self._shown = shown

    def compose(self) -> ComposeResult:
        """What is asked, and what the key is now."""
        with Vertical() as box:
            box.border_title = Content(f"key of '{self._action.id}'")
            box.border_subtitle = Content("esc leaves it")
            yield Static(Content(f"Press the key for '{self._action.title}'; esc leaves it as it is."))
            yield Static(Content(f"now: {self._shown}"), classes="dim")

    def on_key(self, event: events.Key) -> None:
        """The key."""
        event.stop()
        event.prevent_default()
        self.dismiss(None if event.key == "escape" else event.key)

    def on_click(self, event: events.Click) -> None:
        """A click beside it leaves."""
        if event.widget is self:
            self.dismiss(None)
