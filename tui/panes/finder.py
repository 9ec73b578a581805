"""The palette: Textual's, but that Enter takes what is found for all that was typed."""

from __future__ import annotations

from textual import on
from textual.command import CommandPalette
from textual.widgets import Input

SOON = 0.02
"Seconds between looks whether the search is done."


class Finder(CommandPalette):
    """Letters and Enter may come faster than what they find: the list of the letters before them is not theirs."""

    def on_mount(self) -> None:
        """Every blink of a cursor would be sent over the wire."""
        self.query_one(Input).cursor_blink = False

    @property
    def _searching(self) -> bool:
        group = self._GATHER_COMMANDS_GROUP
        return any(worker.group == group and not worker.is_finished for worker in self.workers)

    @on(Input.Submitted)
    def _when_found(self, event: Input.Submitted) -> None:
        if self._searching:
            event.stop()
            event.prevent_default()
            self._take_soon()

    def _take_soon(self) -> None:
        if self._searching:
            self.set_timer(SOON, self._take_soon)
        elif self.is_current:
            self._select_or_command()
