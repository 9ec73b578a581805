"""The question before a download: what, how much, under which licence."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui import cells
from tui.clean import one_line
from tui.stock import Bill
from tui.wording import bytes_

WIDE = 64


class FetchScreen(ModalScreen[bool]):
    """Asks before something is fetched; Escape is a no."""

    AUTO_FOCUS = "#fetch"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,ctrl+q", "dismiss(False)", "cancel", show=False),
        Binding("y,f", "dismiss(True)", "fetch", show=False),
        Binding("left,up", "app.focus_previous", "other", show=False),
        Binding("right,down", "app.focus_next", "other", show=False),
    ]

    def __init__(self, bill: Bill, then: str = "") -> None:
        super().__init__()
        self._bill = bill
        self._then = then

    def compose(self) -> ComposeResult:
        """What it is, and the two answers."""
        with Vertical() as box:
            box.border_title = Content("not on this machine")
            box.border_subtitle = Content("enter fetch · esc cancel")
            yield Static(self._text(), markup=False)
            with Horizontal():
                yield Button("Fetch", id="fetch", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def _text(self) -> Content:
        room = max(20, min(WIDE, self.app.size.width - 4) - 4)
        parts: list[str | tuple[str, str]] = []
        for title, size in self._bill.items:
            told = bytes_(size) if size else "size unknown"
            name = one_line(title, room - len(told) - 2)
            parts += [(cells.pad(name, room - len(told)), "bold"), (told + "\n", "bold")]
        sizes = [size for _, size in self._bill.items]
        if len(sizes) > 1 and all(sizes):
            parts.append((f"{bytes_(sum(sizes))} in all".rjust(room) + "\n", "bold"))
        if self._bill.licences:
            parts.append(
                ("\n" + "\n".join(cells.wrap(one_line("licence: " + "; ".join(self._bill.licences)), room)) + "\n", "")
            )
        for notice in self._bill.notices:
            parts.append(("\n" + "\n".join(cells.wrap(one_line(notice), room)) + "\n", "$warning"))
        then = f"{self._then} Other work goes on meanwhile.".strip()
        parts.append(("\n" + "\n".join(cells.wrap(then, room)), "$foreground 70%"))
        return Content.assemble(*parts)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Yes or no."""
        event.stop()
        self.dismiss(event.button.id == "fetch")
