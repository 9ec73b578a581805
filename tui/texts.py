"""The texts of a draft: variants drawn, another dialect carried over, and what of that is worth knowing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engines import dialects, variants
from engines.dialects import Translation
from engines.errors import InvalidRequest
from engines.grammar import LORA_NAME
from engines.parts import Problem
from engines.requests import MAX_PROMPT, SYNTAXES
from engines.variants import Expansion, Wildcards

SHOWN = 200
"Characters of a drawn text in a note."

_NAMED = re.compile(rf"(?:withLora|useLora)\s*\(\s*({LORA_NAME})")


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt on its way from what was typed to what is encoded."""

    typed: str
    "As it was typed."
    syntax: str
    "The dialect that it was typed in; empty where none was named."
    expansion: Expansion | None
    "What was drawn, if there are variants."
    translation: Translation | None
    "What was carried over from another dialect, if it was named."

    @property
    def prompt(self) -> str:
        """In compel's language, without variants."""
        if self.translation is not None:
            return self.translation.text
        return self.drawn

    @property
    def drawn(self) -> str:
        """Without variants, in the dialect that it was typed in."""
        return self.typed if self.expansion is None else self.expansion.text


def syntax(name: str) -> str:
    """A dialect by its name; empty where none is named. Raises InvalidRequest."""
    known = name.strip().lower()
    if known not in SYNTAXES:
        raise InvalidRequest(
            f"no syntax '{' '.join(name.split())[:40]}'", f"one of {', '.join(filter(None, SYNTAXES))}", "syntax"
        )
    return known


def read(typed: str, syntax: str, seed: int | None = None, wildcards: Wildcards | None = None) -> Text:
    """Draws a text's variants, unless there is no seed to draw them from, and translates what comes of it."""
    expansion = variants.expand(typed, seed, wildcards) if seed is not None and variants.find(typed) else None
    drawn = typed if expansion is None else expansion.text
    return Text(typed, syntax, expansion, dialects.translate(drawn) if syntax == "a1111" else None)


def lora_names(text: str, syntax: str) -> tuple[str, ...]:
    """The LoRAs that a text may come to name, whichever variants are drawn."""
    if len(text) > MAX_PROMPT:
        return ()
    return tuple(dict.fromkeys(_NAMED.findall(dialects.translate(text).text if syntax == "a1111" else text)))


def notes(text: Text, what: str) -> list[str]:
    """What could not be drawn or carried over, a line each; `what` is the prompt's name."""
    lines = listed(variants.unclosed(text.typed), what)
    if text.expansion is not None:
        lines += listed(text.expansion.problems, what)
        what += " as drawn"
    if text.translation is not None:
        lines += listed(text.translation.problems, what)
    return lines


def doubts(text: Text) -> tuple[Problem, ...]:
    """Where a text looks like another dialect than compel's, if none was named; the first place of all."""
    if not text.syntax:
        for sign in dialects.signs(text.typed):
            if sign.strong:
                shown = " ".join(text.typed[sign.span[0] : min(sign.span[1], sign.span[0] + 100)].split())
                shown = shown if len(shown) <= 30 else shown[:29] + "…"
                message = f"'{shown}' looks like A1111's syntax ({sign.reason}): --syntax a1111 translates it"
                return (Problem(sign.span, message, "note"),)
    return ()


def told(text: Text, what: str, certain: bool = True) -> list[str]:
    """What is drawn in place of what was typed, if that is another text; `certain` is whether the seed is known yet."""
    drawn, translated = text.expansion is not None, text.translation is not None
    if not drawn and not (translated and text.prompt != text.typed):
        return []
    shown = " ".join(text.prompt.split())
    shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + "…"
    how = " and ".join(["variants"] * drawn + ["translation"] * translated)
    return [f"{what}, {how}{'' if certain or not drawn else ', for instance'}: {shown or 'nothing'}"]


def listed(problems: Sequence[Problem], what: str, most: int = 2) -> list[str]:
    """A line for each of the first problems, and how many more there are."""
    lines = [f"{what}, at character {p.span[0] + 1}: {p.message}" for p in problems[:most]]
    if (more := len(problems) - most) > 0:
        lines.append(f"{what}: {more} more; safelight prompt shows all")
    return lines
