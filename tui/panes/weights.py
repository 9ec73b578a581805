"""The prompt's weighted parts with a bar each; it takes no room while there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from textual.content import Content
from textual.widgets import Static

from tui.clean import one_line

_BAR = 12


class Weighted(Protocol):
    """A part of a prompt, as engines.prompt.parse gives it."""

    @property
    def text(self) -> str:
        """The words."""
        ...

    @property
    def weight(self) -> float:
        """How much they count."""
        ...


class WeightsPane(Static):
    """A line a part: its words, its weight, and how far that is from 1."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="weights", markup=False)
        self.border_title = "weights"
        self._parts: list[Weighted] = []
        self.display = False

    def show(self, parts: Sequence[Weighted]) -> None:
        """The parts whose weight isn't 1."""
        weighted = [part for part in parts if abs(part.weight - 1) > 1e-6 and part.text.strip()]
        if weighted or self._parts:  # while there are none, as mostly, nothing is laid out anew
            self._parts = weighted
            self.display = bool(weighted)
            self._draw()

    def on_resize(self) -> None:
        """The words take what the bars leave."""
        self._draw()

    def _draw(self) -> None:
        room = max(8, (self.size.width or 40) - _BAR - 8)
        self.update(Content("\n").join([_row(part, room) for part in self._parts]))


def _row(part: Weighted, room: int) -> Content:
    half = _BAR // 2
    # the middle of the bar is 1, its right end 2, its left end 0
    length = min(half, max(1, round(abs(part.weight - 1) * half)))
    bar = "·" * half + "│" + "━" * length + "·" * (half - length)
    if part.weight < 1:
        bar = "·" * (half - length) + "━" * length + "│" + "·" * half
    style = "$warning" if part.weight > 1 else "$secondary"
    return Content.assemble(one_line(part.text, room).ljust(room), (f" {part.weight:4.2f} ", "bold"), (bar, style))
