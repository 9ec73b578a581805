"""Which stretches of a prompt are shown in which style: what is weighted, what can't be read, what is encoded apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engines import prompt as prompts

_WORD = re.compile(r"\S{1,24}")
"So much of a word is marked: one of thousands of letters has as many chunks, and every mark to its end costs seconds."


def tints(text: str) -> list[tuple[int, int, int, str]]:
    """(line, first byte, end byte, style) of all that is weighted; TextArea counts bytes of UTF-8 within a line."""
    weighted = [part for part in prompts.parse(text).parts if abs(part.weight - 1) > 1e-6]
    return _lines(text, [(*part.span, _style(part.weight)) for part in sorted(weighted, key=lambda p: p.span)])


def marks(text: str, borders: tuple[int, ...]) -> list[tuple[int, int, int, str]]:
    """The same of what could not be read, of every second chunk, and of the word that begins each further one."""
    problems = sorted((*p.span, "prompt--problem") for p in prompts.parse(text).problems if p.level == "error")
    ends = (*borders, len(text))
    later = [(ends[i], ends[i + 1], "prompt--later") for i in range(0, len(borders), 2) if ends[i] < len(text)]
    firsts = [(at, at + len(word[0]), "prompt--border") for at in borders if (word := _WORD.match(text, at))]
    return _lines(text, problems) + _lines(text, later) + _lines(text, firsts)


def _lines(text: str, spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, int, str]]:
    """Spans of a text, in order, as TextArea has them: line by line, in bytes."""
    found: list[tuple[int, int, int, str]] = []
    if not spans:
        return found
    lines = text.split("\n")
    begins = [0]
    for line in lines:
        begins.append(begins[-1] + len(line) + 1)
    row = 0
    for start, end, name in spans:
        while begins[row + 1] <= start:
            row += 1
        at = row
        while at < len(lines) and begins[at] < end:
            line = lines[at]
            first = max(0, start - begins[at])
            last = min(len(line), end - begins[at])
            if last > first:
                left = len(line[:first].encode())
                found.append((at, left, left + len(line[first:last].encode()), name))
            at += 1
    return found


def _style(weight: float) -> str:
    if weight > 1:
        return "prompt--stronger" if weight >= 1.3 else "prompt--strong"
    return "prompt--weak" if weight > 0 else "prompt--off"
