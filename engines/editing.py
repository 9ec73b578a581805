"""Changes of weights in a prompt's text: what an editor's keys and sliders do.

Every change is looked at before it is handed back: the changed text is read again, and it must hold the same words with
the weight that was asked for, and all else as it was. Where the plain way of writing it would be read as something else
(`a.b`, a bracket inside a word), a blank or brackets are put in; where nothing helps, there is no edit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from engines.prompt import MAX_RATIO, MAX_WEIGHT, MINUS, PLUS, Combination, Emphasis, LoraUse, Prompt, Span, parse

STEP = 0.1
"How far a key moves a weight that is a number."
MOST_SIGNS = 12
"Of + or - that a key writes: 1.1 to the 12th is 3.1."

_WORD = re.compile(r"(?:\\[()\",.+\-=]|[^\s()\",{}|])+")
_GROUP = re.compile(r"[{}|]|::|\$\$")  # of variants, which are drawn before the text is read
_TAIL = re.compile(r"[.;:!?]+\Z|(?<![+\-])[+\-]+\Z")


@dataclass(frozen=True, slots=True)
class Edit:
    """One stretch of a text that becomes another."""

    span: Span
    "(start, end) of what goes."
    text: str
    "What comes in its place."

    def apply(self, source: str) -> str:
        """The whole text, changed."""
        return source[: self.span[0]] + self.text + source[self.span[1] :]

    def moved(self, place: int) -> int:
        """Where a cursor that stood at `place` stands afterwards: beside the same words."""
        start, end = self.span
        if place <= start:
            return place
        if place >= end:
            return place + len(self.text) - (end - start)
        return min(place, start + len(self.text))


def number(value: float) -> str:
    """A weight as it is written: two digits at most, and a point always, for `(a)1.` would take a full stop in."""
    rounded = 0.0 if abs(value) < 0.005 else round(value, 2)
    text = f"{rounded:.2f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def target(prompt: Prompt, start: int, end: int) -> Emphasis | Span | None:
    """What a key that changes a weight is for.

    Args:
        prompt: the text, read.
        start, end: the selection; equal for a cursor.

    Returns:
        The weight that is there already: the one that a selection is exactly, or the innermost around a cursor. Else
        the selection, or the word at the cursor, without blanks around it. None where there is no word.
    """
    text = prompt.text
    if start == end:
        around = [e for e in prompt.emphases if e.span[0] <= start <= e.span[1]]
        if around:
            return min(around, key=lambda e: e.span[1] - e.span[0])
        return _word(text, start)
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    if start >= end:
        return None
    start, end = start - _escaped(text, start), end + _escaped(text, end)
    for emphasis in prompt.emphases:
        if (start, end) in (emphasis.span, emphasis.body):
            return emphasis
    return start, end


def nudge(prompt: Prompt, start: int, end: int, by: int, signs: bool = False) -> Edit | None:
    """Raises (`by` 1) or lowers (−1) the weight of what is selected, or of the word at the cursor.

    Args:
        signs: write + and -, else numbers in steps of STEP. A weight of 1 has no syntax.
    """
    found = target(prompt, start, end)
    if found is None:
        return None
    body = found.body if isinstance(found, Emphasis) else found
    if "{" in prompt.text and _GROUP.search(prompt.text, *body):
        return None  # brackets across the bar of a group would be drawn apart
    weight = found.weight if isinstance(found, Emphasis) else 1.0
    if signs:
        count = max(-MOST_SIGNS, min(MOST_SIGNS, _signs(weight) + by))
        wanted: float = PLUS**count if count >= 0 else MINUS**-count
        written = ("+" if count > 0 else "-") * abs(count)
    else:
        wanted = min(MAX_WEIGHT, max(0.0, round(weight + STEP * by, 2)))
        written = number(wanted)
    return _give(prompt, found, wanted, written)


def weigh_words(prompt: Prompt, start: int, end: int, weight: float, written: str) -> Edit | None:
    """Gives a stretch of words a weight of its own: in place of the one that it has, or in brackets around it.

    Args:
        weight: 0 … MAX_WEIGHT. 1 has no syntax.
        written: the same, as it is written.
    """
    found = target(prompt, start, end) if start < end else None
    if found is None:
        return None
    if not isinstance(found, Emphasis) and abs(weight - 1) < 1e-9:
        return Edit(found, prompt.text[slice(*found)])
    return _give(prompt, found, weight, written)


def weigh(prompt: Prompt, emphasis: Emphasis, weight: float, written: str | None = None) -> Edit | None:
    """Gives a weighted word or group another weight of its own.

    Args:
        weight: 0 … MAX_WEIGHT.
        written: how; a number if None, so that a slider that passes 1 keeps its brackets. Empty takes the brackets or
            signs away.
    """
    if written is None:
        written = number(weight)
        weight = float(written)  # what is written is what is meant, to the last digit
    return _first(prompt, emphasis, _ways(prompt.text, emphasis.span, emphasis.body, written), weight)


def combine(prompt: Prompt, place: int, weight: float) -> Edit | None:
    """Gives one text of a .blend() or .and() another weight; weights that were not written are written now."""
    how = prompt.combination
    if how is None or not 0 <= place < len(how.weights):
        return None
    limit = MAX_RATIO if how.operator == "blend" else MAX_WEIGHT
    value = max(-limit, min(limit, weight))
    edit = _written(how, place, value)
    after = parse(edit.apply(prompt.text))
    wanted = (*how.weights[:place], value, *how.weights[place + 1 :])
    made = after.combination
    if made is None or not _close(made.weights, wanted) or len(after.parts) != len(prompt.parts):
        return None
    return edit


def weigh_lora(use: LoraUse, weight: float) -> Edit:
    """Gives a withLora() another weight."""
    written = number(max(-MAX_WEIGHT, min(MAX_WEIGHT, weight)))
    return Edit(use.number, written if use.number[0] < use.number[1] else f", {written}")


def _give(prompt: Prompt, found: Emphasis | Span, weight: float, written: str) -> Edit | None:
    """Another weight for what a key is for; a weight of 1 takes the syntax away."""
    if isinstance(found, Emphasis):
        return weigh(prompt, found, weight, "" if abs(weight - 1) < 1e-9 else written)
    return _first(prompt, found, _ways(prompt.text, found, found, written), weight)


def _word(text: str, place: int) -> Span | None:
    """The word at a place, or that ends there, without the punctuation behind it."""
    for found in _WORD.finditer(text, max(text.rfind(" ", 0, place), text.rfind("\n", 0, place), 0)):
        if found.start() > place:
            return None
        if place <= found.end():
            start, end = found.span()
            if "{" in text and (weight := found[0].rfind("::")) >= 0:  # of an option
                start += weight + 2
            end -= len(tail[0]) if (tail := _TAIL.search(found[0])) else 0
            return (start, end) if start < end else None
    return None


def _escaped(text: str, place: int) -> bool:
    """Whether what stands at a place belongs to the backslash in front of it."""
    return text[place - 1 : place] == "\\" and text[place : place + 1] in tuple('()",.+-=')


def _signs(weight: float) -> int:
    """The number of + or - that comes nearest to a weight."""
    if weight <= 0:
        return -MOST_SIGNS
    return round(math.log(weight) / math.log(PLUS if weight >= 1 else 1 / MINUS))


def _ways(text: str, span: Span, body: Span, written: str) -> Iterator[Edit]:
    """How a weight may be written, the shortest first."""
    words = text[slice(*body)]
    bracketed = body != span and text[span[0]] in '("'
    opens, closes = (text[span[0]], text[body[1]]) if bracketed else ("(", ")")
    plain = words if not written else f"{words}{written}" if written[0] in "+-" else ""
    forms = [plain] if plain else []
    if written or not plain:
        forms.append(f"{opens}{words}{closes}{written or number(1.0)}")
    if not written:
        forms.append(f"{opens}{words}{closes}1.0")
    for form in forms:
        for left, right in (("", ""), ("", " "), (" ", ""), (" ", " ")):
            yield Edit(span, left + form + right)


def _first(prompt: Prompt, found: Emphasis | Span, ways: Iterator[Edit], weight: float) -> Edit | None:
    """The first way that is read as it is meant: the same letters, in the same order and clauses; what is weighted has
    the change, all else the weight that it had, and there is no problem that was not there before."""
    body, before = (found.body, found.weight) if isinstance(found, Emphasis) else (found, 1.0)
    if not any(part.span[0] < body[1] and body[0] < part.span[1] for part in prompt.parts):
        return None  # syntax only
    letters, weights = _letters(prompt, body, weight / before if before else None)
    said = _said(prompt)
    for edit in ways:
        after = parse(edit.apply(prompt.text))
        if len(after.problems) > len(prompt.problems) or len(after.loras) != len(prompt.loras):
            continue
        made, new = _letters(after)
        if (
            made == letters
            and _said(after) == said
            and all(
                old is None or now is None or abs(old - now) <= 1e-6 * max(1.0, old)
                for old, now in zip(weights, new, strict=True)
            )
        ):
            return edit
    return None


def _said(prompt: Prompt) -> str:
    """All that is encoded, escapes resolved, without blanks."""
    return "".join("".join(part.text.split()) for part in prompt.parts)


def _letters(
    prompt: Prompt, body: Span = (0, 0), factor: float | None = 1.0
) -> tuple[list[tuple[str, int, bool]], list[float | None]]:
    """What is not blank of a prompt, each with its clause; and the weights, those in `body` times a factor, or None
    where there is none to tell by."""
    letters: list[tuple[str, int, bool]] = []
    weights: list[float | None] = []
    for part in prompt.parts:
        for place in range(*part.span):
            if prompt.text[place].isspace():
                continue
            letters.append((prompt.text[place], part.clause, part.applied))
            inside = body[0] <= place < body[1]
            if inside and factor is None:
                weights.append(None)
            else:
                weights.append(min(MAX_WEIGHT, part.weight * factor) if inside and factor is not None else part.weight)
    return letters, weights


def _written(how: Combination, place: int, value: float) -> Edit:
    if how.numbers:
        return Edit(how.numbers[place], number(value))
    values = [number(value if i == place else weight) for i, weight in enumerate(how.weights)]
    last = [] if how.normalize else ["no_normalize"]
    return Edit(how.arguments, ", ".join([*values, *last]))


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(abs(a - b) < 0.006 for a, b in zip(one, other, strict=True))
