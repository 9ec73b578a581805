"""Every sign that is shown, in ASCII: for terminals that know no other (`tui.lettering`).

A filter of finished lines, so that no pane has to think of it. All stays in its cells, and what tells two states apart
by a sign still does: a heavy line is '=', a light one '-'.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import split_graphemes
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui import signs


class PlainFilter(LineFilter):
    """Puts ASCII for everything that Textual draws."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same list where there is nothing to do."""
        if all(control or text.isascii() for text, _, control in segments):
            return segments
        return [
            segment if segment.control or segment.text.isascii() else Segment(plain(segment.text), segment.style)
            for segment in segments
        ]


@lru_cache(4096)
def plain(text: str) -> str:
    """A line in ASCII, in as many cells: letters lose their accents, what has no likeness is a question mark."""
    text = text.translate(signs.TABLE)
    if text.isascii():
        return text
    found = []
    for start, _, cells in split_graphemes(text)[0]:
        found.append(_likeness(text[start], cells)[:cells].ljust(cells))
    return "".join(found)


def _likeness(sign: str, cells: int) -> str:
    if sign.isascii():
        return sign
    if "\u2801" <= sign <= "\u28ff":  # of a plot: the more dots the darker
        return ".:*"[min(2, (ord(sign) - 0x2800).bit_count() // 2)]
    letters = "".join(one for one in unicodedata.normalize("NFKD", sign) if one.isascii())
    return letters if letters.isprintable() and letters else "?" * cells
