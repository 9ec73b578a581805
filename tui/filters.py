"""The last net under the workbench: nothing that a terminal would obey leaves it inside shown text, and nothing whose
width terminals dispute about, which would push the rest of its row out of its columns.

Textual writes the text of Static, TextArea, OptionList, DataTable and toasts to the terminal as it is. Text is cleaned
where it comes in (`tui.clean`); what slips through is caught here, on the way out.
"""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui.cells import DISPUTED, settled
from tui.clean import UNSAFE

_IN_A_LINE = re.compile(f"{UNSAFE.pattern[:-1]}\t\n]")
"Inside one line of the screen a tab or a newline would move the cursor, too."


def _blank(match: re.Match[str]) -> str:
    """As many cells as Textual counted for what is removed, so that the rest of the row stays where it was."""
    return "�" * cell_len(match.group())


class CleanFilter(LineFilter):
    """Deletes unsafe characters from every segment that Textual did not write itself; return it from
    `App.get_line_filters`."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, and the same list, where there is nothing to remove: nearly always."""
        for text, style, control in segments:
            if not control and (
                not text.isprintable()
                or (style is not None and style._link)
                or (not text.isascii() and DISPUTED.search(text))
            ):
                return [segment if segment.control else self._cleaned(segment) for segment in segments]
        return segments

    @staticmethod
    def _cleaned(segment: Segment) -> Segment:
        text, style, _ = segment
        if not text.isprintable():
            text = _IN_A_LINE.sub(_blank, text)
        text = settled(text)
        if style is not None and style.link and not style.link.isprintable():
            style = style.update_link(None)  # the address of a link is written inside an escape sequence
        return Segment(text, style)
