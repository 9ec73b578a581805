"""Text from outside, made safe to print: prompts, file names, foreign metadata, error messages.

A terminal obeys what it is sent: an escape sequence in a prompt could set its title or write the clipboard, and a
right-to-left override could make one file name look like another. Everything that is printed or shown goes through
here. No Textual: the command line uses it too; `tui.filters` is the same net inside the workbench.
"""

from __future__ import annotations

from engines.prompt import UNSAFE, clean
from tui import cells

__all__ = ["UNSAFE", "clean", "ending", "one_line"]


def one_line(text: str, limit: int = 0) -> str:
    """The text cleaned, on one line with single spaces, and in at most `limit` cells (0: as long as it is, and with
    what is left out where widths matter: joined and coloured pictures, a thousand accents).

    A text that is cut ends in an ellipsis, which counts.
    """
    line = " ".join(clean(text).split())
    if limit <= 0 or cells.width(line := cells.settled(line)) <= limit:
        return line
    return cells.cut(line, limit - 1).rstrip() + "…"


def ending(text: str, limit: int) -> str:
    """As one_line, but cut at its beginning: names that are too long differ at their ends, if anywhere."""
    line = one_line(text)
    return line if cells.width(line) <= limit else f"…{cells.cut_left(line, limit - 1).lstrip()}" if limit > 0 else ""
