"""Text from outside, made safe to print: prompts, file names, foreign metadata, error messages.

A terminal obeys what it is sent: an escape sequence in a prompt could set its title or write the clipboard, and a
right-to-left override could make one file name look like another. Everything that is printed or shown goes through
here. No Textual: the command line uses it too; `tui.filters` is the same net inside the workbench.
"""

from __future__ import annotations

import re

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"C0 (but for tab and newline), DEL, C1, the marks that turn the writing direction, and lone surrogates."


def clean(text: str) -> str:
    """The text without what a terminal would obey or could not encode; newlines and tabs stay."""
    return text if text.isprintable() else UNSAFE.sub("", text)


def one_line(text: str, limit: int = 0) -> str:
    """The text cleaned, on one line with single spaces, and at most `limit` characters long (0: as long as it is).

    A text that is cut ends in an ellipsis, which counts.
    """
    line = " ".join(clean(text).split())
    if limit <= 0 or len(line) <= limit:
        return line
    return line[: limit - 1].rstrip() + "…"
