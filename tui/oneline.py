"""A line to type into, inside a screen that opens over the others."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from tui.clean import clean, one_line


class OneLine(Input):
    """One line of text of at most `most` characters. What is pasted has nothing in it that a terminal would obey."""

    def __init__(self, most: int, placeholder: str, id: str | None = None) -> None:
        super().__init__(compact=True, max_length=most, placeholder=placeholder, id=id)
        self.cursor_blink = False
        self._most = most

    async def _on_key(self, event: events.Key) -> None:
        """With Alt a letter is none; Textual calls its handler after this one for all other keys."""
        if event.key.startswith("alt+"):
            event.prevent_default()

    def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.insert_text_at_cursor(one_line(clean(event.text), self._most))
