"""The list under the cursor of a prompt: names that begin as what is typed. Its keys come from the editor."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Offset

from tui.offers import OfferList


class Completions(OfferList):
    """Shown while a name is typed; it never has the focus, and takes no key until an arrow went into it."""

    def __init__(self) -> None:
        super().__init__((), "")
        self.border_subtitle = Content("tab take · esc close")
        self.display = False

    def open_at(self, cursor: Offset) -> None:
        """Under a cell of the screen, or above it where there is no room."""
        self.absolute_offset = cursor + Offset(-1, 1)
        self.display = True
