"""The help screen: the key table, as it is in force."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import keys

KEY = 18
"Cells of the column of keys."


class HelpScreen(ModalScreen[None]):
    """All keys, those of the screen that one comes from first; any of Escape, F1, q and Enter closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,question_mark,q,enter", "dismiss(None)", "close", priority=True),
    ]

    def __init__(self, keymap: Mapping[str, str], first: Collection[keys.Scope] = ()) -> None:
        super().__init__()
        self._keymap = keymap
        self._first = first

    def compose(self) -> ComposeResult:
        """One scrollable text."""
        scroll = VerticalScroll(Static(self._text(), markup=False), can_focus=True)
        scroll.border_title = "keys"
        scroll.border_subtitle = "esc closes · [keys] in settings.toml changes them".replace("[", r"\[")
        yield scroll

    def on_resize(self) -> None:
        """Other lines fit."""
        self.query_one(Static).update(self._text())

    def _text(self) -> Content:
        parts: list[Content | str | tuple[str, str]] = []
        for scope, title in sorted(keys.PLACES.items(), key=lambda pair: pair[0] not in self._first):
            parts.append((f"{title}\n", "bold $primary"))
            for action in keys.TABLE:
                if action.scope == scope:
                    parts += self._row(keys.shown(action, self._keymap), action.help)
            parts.append("\n")
        parts.append(("While typing\n", "bold $primary"))
        for key, does in keys.EDITING:
            parts += self._row(key, does)
        return Content.assemble(*parts)

    def _row(self, key: str, help: str) -> list[str | tuple[str, str]]:
        """Key left, help right, wrapped within its column."""
        room = max(12, min(86, self.app.size.width - 2) - KEY - 6)
        lines = textwrap.wrap(help, room)
        return [(f" {key:<{KEY}}", "bold"), ("\n" + " " * (KEY + 1)).join(lines) + "\n"]
