"""The line at the top: which model, on what, and how the engine is."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from engines.events import Gauged, Vitals
from tui import cells
from tui.clean import one_line
from tui.wording import gauge


class Header(Widget):
    """One row; what doesn't fit is left out from the middle."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="header")
        self._model = ""
        self._vitals: Vitals | None = None
        self._gauge: Gauged | None = None
        self._state = "starting"
        self._busy = False
        self._fetching = ""
        self._live = False

    def show_live(self, on: bool) -> None:
        """Whether every change is sketched."""
        self._live = on
        self.refresh()

    def show_model(self, title: str) -> None:
        """The model that the form is set to."""
        self._model = one_line(title)
        self.refresh()

    def show_vitals(self, vitals: Vitals) -> None:
        """Device, precision and memory."""
        self._vitals = vitals
        self.refresh()

    def show_gauge(self, gauge: Gauged) -> None:
        """How warm and how busy the device is."""
        self._gauge = gauge
        self.refresh()

    def show_state(self, state: str, busy: bool = False) -> None:
        """What the engine does, in a few words."""
        if (state, busy) != (self._state, self._busy):
            self._state, self._busy = one_line(state), busy
            self.refresh()

    def show_fetching(self, fetching: str) -> None:
        """What is downloaded beside that; empty for nothing."""
        if fetching != self._fetching:
            self._fetching = one_line(fetching)
            self.refresh()

    def render(self) -> Content:
        """Name, model and device to the left, the state to the right."""
        width = self.size.width
        told = " · ".join(
            filter(None, ("live" if self._live else "", self._state, f"↓ {self._fetching}" if self._fetching else ""))
        )
        state = f"{'●' if self._busy or self._fetching else '○'} {told} "
        parts = [self._model]
        if v := self._vitals:
            at_start = Gauged(memory_used=v.memory_used, memory_total=v.memory_total)
            parts += [f"{one_line(v.device)} {v.precision}", *gauge(self._gauge or at_start)]
        room = width - cells.width(state) - len(" safelight ")
        middle = ""
        for part in filter(None, parts):
            if cells.width(middle) + cells.width(part) + 4 <= room:
                middle += f" · {part}"
        gap = max(1, room - cells.width(middle))
        return Content.assemble(
            (" safelight", "bold $primary"), (middle, "$foreground 70%"), " " * gap,
            (one_line(state, max(8, width - 12)), "$accent" if self._busy or self._fetching else "$foreground 70%"),
        )  # fmt: skip
