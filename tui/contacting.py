"""The contact sheet, opened from the workbench; what is asked there is done here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on

from tui.messages import CloserWanted, Rated
from tui.panes.history import HistoryPane
from tui.sweeps import SweepsScreen

if TYPE_CHECKING:
    from tui.contact import Left


class ContactingScreen(SweepsScreen):
    """Opens it where it was left, unless another picture is shown since."""

    _left: Left | None = None
    "How the contact sheet was left."
    _shown_then: int | None = None
    "The picture that was shown then."

    def action_contact(self) -> None:
        """All pictures that were made."""
        from tui.contact import ContactScreen, Left  # nobody waits for it to see the workbench

        shown = self.shown.id if self.shown is not None else None
        left = self._left or Left()
        at = left.at if shown == self._shown_then else shown
        screen = ContactScreen(
            self.conductor.store, self.post_message, self.title_of, self.mode, left, at, self._clock, self._keymap
        )

        def closed(chosen: bool | None) -> None:
            self._left = screen.left
            self._shown_then = self.shown.id if self.shown is not None else None
            if chosen and (picture := screen.chosen) is not None:
                self._shown_then = picture.id
                self.show_one(picture)
                if self.single:
                    self.go("picture")

        self.app.push_screen(screen, closed)

    @on(CloserWanted)
    def _closer_wanted(self, message: CloserWanted) -> None:
        self.run_worker(self._look_closer(message.picture), group="closer", exclusive=True)

    @on(Rated)
    def _rated(self, message: Rated) -> None:
        self.query_one(HistoryPane).show([message.picture])
