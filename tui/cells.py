"""How many cells of the terminal a text takes, and cutting, filling and wrapping by cells.

'木' takes two, a combining mark none: whoever counts characters pushes the next column out of its place. ASCII, nearly
always, is counted without rich, which the command line doesn't import for it.
"""

from __future__ import annotations

import re

MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
"Marks that are written over the letter before them."
MOST_MARKS = 3
"On one letter: more belong to no language, and reach into the lines above and below."
DISPUTED = re.compile(f"[\u200d\ufe0e\ufe0f\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff]|[{MARKS}]{{{MOST_MARKS + 1},}}")
"What joins pictures or changes one: terminals don't agree in how many cells come of it."
_FLAGS = {0x1F1E6 + at: chr(ord("A") + at) for at in range(26)}
"Two of these signs are a flag, in two cells or in four; two letters are the same, and are in two."
_MARK, _TOO_MANY = re.compile(f"[{MARKS}]"), re.compile(f"([{MARKS}]{{{MOST_MARKS}}})[{MARKS}]+")


def width(text: str) -> int:
    """Cells that a line of text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, cells: int) -> str:
    """The beginning of a text, in at most so many cells; half of a wide character is not shown."""
    if text.isascii():
        return text[: max(0, cells)]
    found, rest = [], cells
    for piece, wide in _clusters(text):
        rest -= wide
        if rest < 0:
            break
        found.append(piece)
    return "".join(found)


def cut_left(text: str, cells: int) -> str:
    """The end of a text, in at most so many cells."""
    if text.isascii():
        return text[len(text) - cells :] if 0 < cells < len(text) else text if cells > 0 else ""
    found, rest = [], cells
    for piece, wide in reversed(_clusters(text)):
        rest -= wide
        if rest < 0:
            break
        found.append(piece)
    return "".join(reversed(found))


def pad(text: str, cells: int) -> str:
    """The text with blanks behind it until it takes so many cells; one that takes more is left as it is."""
    text = text.rstrip("\u200d")  # which would join the first blank to it
    return text + " " * (cells - width(text))


def wrap(text: str, cells: int) -> list[str]:
    """Lines of at most so many cells; a word that takes more is cut into pieces."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and width(line) + 1 + width(word) <= cells:
            line += f" {word}"
            continue
        if line:
            lines.append(line)
        while width(word) > cells and (piece := cut(word, cells)):
            lines.append(piece)
            word = word[len(piece) :]
        line = word
    return [*lines, line] if line else lines


def settled(text: str) -> str:
    """The text in as many cells, but without what terminals dispute about: of pictures that are joined the first, of
    a coloured one the plain one, of a flag its letters, of a thousand marks on one letter three."""
    if text.isascii() or DISPUTED.search(text) is None:
        return text
    text = _TOO_MANY.sub(r"\1", text.translate(_FLAGS))
    found = []
    for piece, wide in _clusters(text):
        if DISPUTED.search(piece) is None:
            found.append(piece)
        elif wide:
            first = piece[0] if width(piece[0]) else ""
            shown = first + "".join(_MARK.findall(piece))[:MOST_MARKS]
            found.append(shown + " " * (wide - width(shown)))
        else:
            found.append("".join(_MARK.findall(piece))[:MOST_MARKS])
    return "".join(found)


def _clusters(text: str) -> list[tuple[str, int]]:
    """What is seen as one character each, with its cells; their sum is `width`, which rich's own splitting differs from
    where a text begins with a joiner."""
    found: list[tuple[str, int]] = []
    measured, at = "", 0
    while at < len(text):
        piece = text[at : at + 2] if text[at] == "\u200d" else text[at]  # a joiner swallows what follows it
        at += len(piece)
        if piece == "\ufe0f":  # makes some wide that are narrow, once
            wide, measured = width(measured + piece) - width(measured), ""
        elif wide := width(piece):
            measured = piece
            found.append((piece, wide))
            continue
        if found:
            found[-1] = found[-1][0] + piece, found[-1][1] + wide
        else:
            found.append((piece, wide))
    return found
