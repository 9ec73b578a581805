"""What a first start says in the picture's place: what to do, what the model can draw, and where the others are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.widget import Widget

WIDEST = 58
"Cells of a line: more are hard to read."


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some words of the welcome."""

    text: str
    "In one piece; wrapped here."
    style: str = ""
    "Textual's."
    weight: int = 0
    "What is left out first where there is no room: the least weight."
    indent: int = 0
    "Cells at the left."


class Welcome(Widget):
    """Paragraphs in the middle of the room there is; what finds none is left out whole."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="welcome")
        self._paragraphs: Sequence[Paragraph] = ()

    def show(self, paragraphs: Sequence[Paragraph]) -> None:
        """Says this."""
        self._paragraphs = tuple(paragraphs)
        self.refresh()

    def render(self) -> Content:
        """All of it, or the weightiest."""
        wide, high = self.size
        room = max(10, min(WIDEST, wide - 2))
        kept = list(self._paragraphs)
        lines = _lines(kept, room)
        while len(lines) > high and len(kept) > 1:
            kept.remove(min(kept, key=lambda paragraph: paragraph.weight))
            lines = _lines(kept, room)
        margin = " " * max(0, (wide - max((len(line) for line, _ in lines), default=0)) // 2)
        above = "\n" * max(0, (high - len(lines)) // 2)
        said = [Content.styled(margin + line, style) if style else Content(margin + line) for line, style in lines]
        return Content.assemble(above, Content("\n").join(said))


def _lines(paragraphs: Sequence[Paragraph], room: int) -> list[tuple[str, str]]:
    """Every line with its style, an empty one between paragraphs."""
    found: list[tuple[str, str]] = []
    for paragraph in paragraphs:
        blank = " " * paragraph.indent
        wrapped = textwrap.wrap(paragraph.text, room, initial_indent=blank, subsequent_indent=blank)
        found += [("", "")] * bool(found) + [(line, paragraph.style) for line in wrapped]
    return found
