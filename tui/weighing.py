"""Words of a prompt whose weight is an axis: found in the text as it is typed, and weighed one after another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engines import editing, variants
from engines.errors import InvalidRequest
from engines.prompt import MAX_WEIGHT, Prompt, Span, clean, parse
from tui import fields
from tui.clean import one_line

RANGE = f"weights are 0 to {MAX_WEIGHT:g}, 1 is none"
DIGITS = 4
"Behind the point; more make no picture another."

DRAWS = 8
"Of a text with variants, to see that a weight leaves its words as they were."

_GROUP = re.compile(r"[{}|]|::|\$\$")  # of variants
# What stands in front of an option of variants and is no text: 3:: or 2$$ and $$
_HEAD = re.compile(r"[{|](?:\s*[\d.]+\s*::|[\d\s-]*\$\$(?:[^$\\{}|]*\$\$)?)")


@dataclass(frozen=True, slots=True)
class Part:
    """Some words, and the weights that they are given in turn."""

    words: str
    "As they stand in the prompt, blanks being one each."
    weights: tuple[str, ...]
    "Numbers of 0 … MAX_WEIGHT, each once, written the short way; at least one."

    @property
    def axis(self) -> str:
        """What cells call it."""
        return f"weight of {self.words}"


def read(text: str) -> Part:
    """'freckles=0.8,1,1.2'; what stands before the last = are the words. Raises InvalidRequest."""
    words, equals, weights = text.rpartition("=")
    return part(words, weights.split(",")) if equals else part(text, ())


def part(words: str, weights: Sequence[str]) -> Part:
    """A part of words and of weights as they are typed. Raises InvalidRequest."""
    words = " ".join(clean(words).split())
    if not words:
        raise InvalidRequest("a part of the prompt has no words", "for instance --part 'freckles=0.8,1,1.2'", "part")
    found = tuple(dict.fromkeys(_weight(words, weight) for weight in weights if weight.strip()))
    if not found:
        said = one_line(words, 40)
        raise InvalidRequest(f"'{said}' is given no weights", f"for instance --part '{said}=0.8,1,1.2'", "part")
    return Part(words, found)


def distinct(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same parts. Raises InvalidRequest if two are of the same words."""
    seen: set[str] = set()
    for one in parts:
        if one.words.lower() in seen:
            raise InvalidRequest(
                f"'{one_line(one.words, 40)}' is weighed twice", "name all its weights at once", "part"
            )
        seen.add(one.words.lower())
    return tuple(parts)


def weighed(prompt: str, chosen: Sequence[tuple[str, str]]) -> str:
    """A prompt as it is typed, with other weights for some of its words.

    Args:
        prompt: in compel's language, variants and all.
        chosen: (words, weight) of each.

    Raises:
        InvalidRequest: the words are not in it, or can't be weighed where they are.
    """
    text = prompt
    for words, weight in sorted(chosen, key=lambda one: -len(one[0])):  # so that words within others are still there
        before = parse(text)
        if (place := _place(before, words)) is None:
            raise _not_there(prompt, words)
        edit = editing.weigh_words(before, *place, float(weight), weight if "." in weight else f"{weight}.0")
        if edit is None or not _drawn_alike(text, edit.apply(text)):
            told = f"'{one_line(words, 40)}' can't be weighed where it stands in '{one_line(prompt, 60)}'"
            raise InvalidRequest(told, "safelight prompt shows how the prompt is read", "part")
        text = edit.apply(text)
    return text


def _weight(words: str, text: str) -> str:
    try:
        value = fields.number("weight", text, 0, MAX_WEIGHT, 1.0)
    except InvalidRequest as e:
        told = f"the weight of '{one_line(words, 40)}'{e.message.removeprefix('weight')}"
        raise InvalidRequest(told, RANGE, "part") from None
    return fields.exact(round(value, DIGITS) + 0.0)


def _place(prompt: Prompt, words: str) -> Span | None:
    """Where words stand first as whole words of what is encoded, whatever their case."""
    text = prompt.text
    if "{" in text and _split(words):
        return None
    heads = [found.span() for found in _HEAD.finditer(text)] if "{" in text else []
    inside = {place for one in prompt.parts if one.applied for place in range(*one.span)}
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    for found in re.finditer(rf"(?<!\w)(?<!\w[-'’]){pattern}(?!\w|[-'’]\w)", text, re.IGNORECASE):
        start, end = found.span()
        said = all(place in inside or text[place].isspace() for place in range(start, end))
        if said and not any(start < last and first < end for first, last in heads):
            return start, end
    return None


def _drawn_alike(one: str, other: str) -> bool:
    """Whether two texts are the same words whatever is drawn of their variants: `dark{red|blue}` is one word then."""
    if not variants.find(one):
        return True
    drawn = ([parse(variants.expand(text, seed).text).plain for seed in range(DRAWS)] for text in (one, other))
    return next(drawn) == next(drawn)


def _split(words: str) -> bool:
    """Whether brackets around words would be drawn apart: they hold syntax of variants, and not the whole of it."""
    depth = 0
    for sign in _GROUP.findall(words):
        depth += (sign == "{") - (sign == "}")
        if depth < 0 or (depth == 0 and sign not in "{}"):
            return True
    return depth != 0


def _not_there(prompt: str, words: str) -> InvalidRequest:
    said = one_line(words, 40)
    if _place(parse(prompt), words) is not None:
        return InvalidRequest(
            f"'{said}' runs into another part that is weighed", "weigh words that stand apart", "part"
        )
    hint = "name whole words as they are typed there, without their brackets and weights"
    if variants.find(prompt):
        hint += "; of variants, words of one option, or the group as a whole"
    return InvalidRequest(f"'{said}' is not in the prompt '{one_line(prompt, 60)}'", hint, "part")
