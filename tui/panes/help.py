"""The help screen: the key table, as it is in force."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui import keys
from tui.choice import FilterInput
from tui.clean import one_line

KEY = 18
"Cells of the column of keys."


class HelpFilter(FilterInput):
    """A line whose first letter is no question mark: that opened the help, and closes it."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """All that can be typed but that."""
        return bool(key != "question_mark" or self.value) and super().check_consume_key(key, character)


class HelpScreen(ModalScreen[None]):
    """All keys, those of the screen that one comes from first. Typing finds; a slash before the words is none of them.
    F1 and Enter close it, and so does Escape when nothing is looked for any more."""

    AUTO_FOCUS = "FilterInput"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "close", priority=True),
        Binding("f1,enter,question_mark", "dismiss(None)", "close", priority=True),
        Binding("up", "scroll(-1)", "up", show=False),
        Binding("down", "scroll(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("ctrl+home", "scroll(-1000000)", "first", show=False),
        Binding("ctrl+end", "scroll(1000000)", "last", show=False),
    ]

    def __init__(self, keymap: Mapping[str, str], first: Collection[keys.Scope] = ()) -> None:
        super().__init__()
        self._keymap = keymap
        self._first = first

    def compose(self) -> ComposeResult:
        """A line to type in, and what it leaves of the text."""
        with Vertical() as box:
            box.border_title = "keys"
            box.border_subtitle = Content("esc closes · [keys] in settings.toml changes them")
            yield HelpFilter()
            yield VerticalScroll(Static(self._text(), markup=False), can_focus=False)

    def on_resize(self) -> None:
        """Other lines fit."""
        self.query_one(Static).update(self._text())

    @property
    def _words(self) -> str:
        """What is looked for."""
        return next((line.value.strip().removeprefix("/").strip() for line in self.query(FilterInput)), "")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Every letter filters."""
        event.stop()
        self.query_one(Static).update(self._text())
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_back(self) -> None:
        """Shows all again, or closes it."""
        line = self.query_one(FilterInput)
        if line.value:
            line.value = ""
        else:
            self.dismiss(None)

    def action_scroll(self, by: int) -> None:
        """Lines up or down."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        """A screenful up or down."""
        scroll = self.query_one(VerticalScroll)
        scroll.scroll_relative(y=by * max(1, scroll.size.height - 1), animate=False)

    def _text(self) -> Content:
        """The rows that have all words that are looked for, under their places; a place's own name counts for them."""
        places = [
            (title, [(keys.shown(a, self._keymap), a.help, a.title) for a in keys.TABLE if a.scope == scope])
            for scope, title in sorted(keys.PLACES.items(), key=lambda pair: pair[0] not in self._first)
        ]
        places.append(("While typing", [(key, does, "") for key, does in keys.EDITING]))
        words = self._words.lower().split()
        parts: list[Content | str | tuple[str, str]] = []
        for title, rows in places:
            found = [row for row in rows if all(word in " ".join((title, *row)).lower() for word in words)]
            if found:
                parts += ["\n" if parts else "", (f"{title}\n", "bold $primary")]
            for key, does, _ in found:
                parts += self._row(key, does)
        if not parts:
            return Content.styled(f" no key has '{one_line(self._words, 40)}' · esc shows all", "$foreground 76%")
        return Content.assemble(*parts)

    def _row(self, key: str, help: str) -> list[str | tuple[str, str]]:
        """Key left, help right, wrapped within its column."""
        room = max(12, min(86, self.app.size.width - 2) - KEY - 6)
        lines = textwrap.wrap(help, room)
        return [(f" {key:<{KEY}}", "bold"), ("\n" + " " * (KEY + 1)).join(lines) + "\n"]
