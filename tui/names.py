"""The list under the cursor of a prompt: names that begin as what is typed. Its keys come from the editor."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.geometry import Offset

from tui.offers import Offer, OfferList


class NameList(OfferList):
    """Shown while a name is typed; it never has the focus. Tab and Escape are its keys then, and the arrows."""

    def __init__(self) -> None:
        super().__init__((), "")
        self.border_subtitle = Content("tab take · esc close")
        self.display = False

    def open(self, offers: Sequence[Offer], cursor: Offset) -> None:
        """Under a cell of the screen, or above it where there is no room; the first offer is under the cursor."""
        self.show(offers)
        self.move(-len(offers))
        self.absolute_offset = cursor + Offset(-1, 1)
        self.display = True

    def close(self) -> None:
        """Away with it."""
        self.display = False
