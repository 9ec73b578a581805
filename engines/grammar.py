"""The tokens of the prompt language, what pairs with what in a text, and which characters are no text at all.

`engines.reader` makes sense of them; docs/prompt.md has the whole grammar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal

from engines.parts import MAX_WEIGHT, MINUS, PLUS, LoraUse, Problem, Span

_RETURNS = re.compile(r"\r\n?")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"C0 (but for tab and newline), DEL, C1, the marks that turn the writing direction, and lone surrogates."
SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # control characters, but they part words

_ESCAPED = r'\\[()",.+\-=]'
UNESCAPE = re.compile(r'\\([()",.+\-=])')
MARKS = re.compile(_ESCAPED + r'|[()",\n\r]')
# A + or - inside a word (a-b) belongs to it; before a blank or another syntactic character it is a weight.
WORD = re.compile(rf'(?:{_ESCAPED}|[+-](?![\s()",.+\-=]|\Z)|[^\s()",.+\-=])+')
# Outside brackets a word that carries no weight goes on to the next blank, or to just behind a comma.
RAW_WORD = re.compile(rf"(?:{_ESCAPED}|[^\s,])*,?")
BLANKS = re.compile(r"\s+")
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
SIGNED = re.compile(rf"[+-]?{_NUMBER}")
_SIGNS = re.compile(r"\++|-+")
_WEIGHT = re.compile(rf"\++|-+|{_NUMBER}")
_ATTEND = re.compile(rf"\s*\.attend\s*\(\s*(\++|-+|{_NUMBER})\s*\)")
FOLLOWED = re.compile(r"[+-]|\s*\.[as]")  # so that most words need one look behind them, not three
_SWAP = re.compile(r"\s*\.swap\s*\(")
COMBINE = re.compile(r"\s*\.(blend|and|add)\s*\(")
_LORA_CALL = re.compile(r"(?:withLora|useLora)\s*\(")
LORA_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
"How a LoRA may be called in a prompt, as a regular expression; other names are for --lora."
_LORA = re.compile(rf"(?:withLora|useLora)\s*\(\s*({LORA_NAME})\s*(?:,\s*([+-]?{_NUMBER})\s*)?\)")
LOST_WEIGHT = re.compile(r"(?<=\w)(?:\+\++|--+),?\Z")
# What some take for a weight: neither a number that is none, nor signs with nothing before them.
_NO_NUMBER = re.compile(
    r'(?<=[)"])(?:nan|inf(?:inity)?)(?!\w)|\.attend\(\s*[+-]?(?:nan|inf(?:inity)?)\s*\)', re.IGNORECASE
)
_SIGN_AND_NUMBER = re.compile(r'(?<=[)"])[+\-]+(?=\d)')
_ONLY_SIGNS = re.compile(r"(?=\s*[+\-])[\s+\-]+")
_ENDS_ARGUMENT = re.compile(r"\s*[,)]")


def clean(text: str) -> str:
    """The text without what could command a terminal or can't be encoded.

    Removed are control characters (C0 but newline and tab, DEL, C1), bidirectional controls and lone surrogates;
    carriage returns become newlines.
    """
    return text if text.isprintable() else UNSAFE.sub("", _RETURNS.sub("\n", text))


def escape(text: str) -> str:
    """The text with a backslash before every character that has a meaning in a prompt; `parse` gives it back."""
    return re.sub(r'[()",.+\-=]', r"\\\g<0>", text)


def plain_word(source: str) -> str:
    """A word of a part's source as it is encoded: escapes resolved, control characters left out."""
    return clean(UNESCAPE.sub(r"\1", source))


def odd_weights(text: str) -> Iterator[Problem]:
    """What was meant for a weight, perhaps, and is text."""
    for found in _NO_NUMBER.finditer(text):
        yield Problem(found.span(), f"this is no weight: one is a number from 0 to {MAX_WEIGHT:g}; it is taken as text")
    for found in _SIGN_AND_NUMBER.finditer(text):
        yield Problem(found.span(), "the signs are the weight here, and the number behind them is text", "note")
    if _ONLY_SIGNS.fullmatch(text):
        yield Problem((0, len(text)), "there is no word here to weigh; the signs are taken as text", "note")


class Scanner:
    """What stands at a place of one text. Reading on is the reader's; what is odd at the place is noted here."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.problems: list[Problem] = []
        self.partner, self.commas = _pair(text)

    def body(self, pos: int, end: int) -> int | None:
        """Where the bracket or quotation mark that opens at `pos` closes, if it does so before `end`."""
        close = self.partner.get(pos, -1)
        return close if pos < close < end else None

    def operator(self, pos: int, end: int, number: bool) -> tuple[float, Span] | None:
        """The weight written at `pos`, as (factor, its span). Only brackets and quotation marks take a bare number."""
        found = (_WEIGHT if number else _SIGNS).match(self.text, pos, end)
        typed = found[0] if found else ""
        if found is None:
            found = _ATTEND.match(self.text, pos, end)
            if found is None:
                return None
            typed = found[1]
        if typed[0] in "+-":
            # 1.1 to the 50th is over 100, and to the 7500th no float.
            factor: float = (PLUS if typed[0] == "+" else MINUS) ** min(len(typed), 50 if typed[0] == "+" else 7000)
        else:
            factor = float(typed)
        return self.limited(factor, MAX_WEIGHT, found.span()), found.span()

    def glued(self, operator: Span) -> None:
        """Notes a number that runs on into a word: in `(a)2d` the 2 is a weight, as in compel."""
        start, end = operator
        if self.text[start] not in "+-" and self.text[end - 1] != ")" and self.text[end : end + 1].isalpha():
            self.problem(operator, "this number is read as a weight; put a blank before it if it is text", "note")

    def product(self, outer: float, factor: float, operator: Span) -> float:
        """The weight of what stands in a group of weight `factor` inside one of weight `outer`."""
        weight = outer * factor
        if weight > MAX_WEIGHT:
            if outer < MAX_WEIGHT:
                self.problem(operator, f"nested weights multiply to {weight:.4g}; {MAX_WEIGHT:g} is taken")
            return MAX_WEIGHT
        return weight

    def swap(self, pos: int, end: int) -> int | None:
        """Where the bracket of a .swap( at `pos` opens, if there is one that closes before `end`."""
        if (found := _SWAP.match(self.text, pos, end)) and self.body(found.end() - 1, end) is not None:
            return found.end() - 1
        return None

    def lora(self, pos: int, end: int) -> LoraUse | None:
        """The LoRA at `pos`, if there is one."""
        if self.text[pos] not in "wu":
            return None
        if not (found := _LORA.match(self.text, pos, end)):
            if call := _LORA_CALL.match(self.text, pos, end):
                message = "a LoRA is written withLora(name, weight), its name in letters, digits, - and _"
                self.problem((pos, call.end()), message)
            return None
        return self.lora_use(found)

    def lora_use(self, found: re.Match[str]) -> LoraUse:
        weight = self.limited(float(found[2]), MAX_WEIGHT, found.span(2)) if found[2] else 1.0
        number = found.span(2) if found[2] else (found.end() - 1, found.end() - 1)
        return LoraUse(found[1], weight, found.span(), number)

    def loras_at(self, pos: int) -> tuple[list[re.Match[str]], int]:
        """LoRAs from `pos` on, and where the first other thing begins."""
        found: list[re.Match[str]] = []
        pos = self.skip(pos)
        while match := _LORA.match(self.text, pos):
            found.append(match)
            pos = self.skip(match.end())
        return found, pos

    # ---- small things

    def skip(self, pos: int) -> int:
        blanks = BLANKS.match(self.text, pos)
        return blanks.end() if blanks else pos

    def limited(self, value: float, limit: float, span: Span) -> float:
        """The value within ±limit, reported where it was not."""
        if abs(value) <= limit:
            return value
        taken = math.copysign(limit, value)
        self.problem(span, f"{short(self.text[slice(*span)])} is too much; {taken:g} is taken")
        return taken

    def problem(self, span: Span, message: str, level: Literal["error", "note"] = "error") -> None:
        self.problems.append(Problem(span, message, level))

    def look_for_controls(self) -> None:
        """Notes the first run of characters that `clean` leaves out."""
        if found := UNSAFE.search(_RETURNS.sub(lambda m: "\n" * len(m[0]), self.text)):
            self.problem(found.span(), "control characters are left out", "note")


def _pair(text: str) -> tuple[dict[int, int], dict[int, int]]:
    """Pairs brackets and quotation marks in one pass.

    A quotation mark pairs with the next one on its line, if the brackets between them pair up among themselves or if
    it stands as an argument does, between ( or , and , or ). Brackets pair only on the same side of such a pair.

    Returns:
        (partner of each paired bracket, both ways, and of each opening quotation mark; first comma directly within
        each opening bracket). Keys and values are offsets into the text.
    """
    marks = [(m.start(), m[0]) for m in MARKS.finditer(text) if len(m[0]) == 1]
    ahead = dict(_quotes(marks))
    partner: dict[int, int] = {}
    commas: dict[int, int] = {}
    stack: list[tuple[int, str]] = []
    closing = -1  # of the quotation marks that are open
    for pos, mark in marks:
        match mark:
            case "(":
                stack.append((pos, mark))
            case ")" if stack and stack[-1][1] == "(":
                opened = stack.pop()[0]
                partner[opened], partner[pos] = pos, opened
            case "," if stack and stack[-1][1] == "(":
                commas.setdefault(stack[-1][0], pos)
            case '"' if pos == closing:
                while stack.pop()[1] != '"':
                    pass
                closing = -1
            case '"' if closing < 0 and pos in ahead:
                inside = bool(stack)
                if not inside and not _begins_word(text, pos):
                    continue  # inside a word, as in 5" and 6"
                close, even = ahead[pos]
                if even or (_begins_argument(text, pos) and _ENDS_ARGUMENT.match(text, close + 1)):
                    partner[pos] = closing = close
                    stack.append((pos, mark))
    return partner, commas


def _quotes(marks: list[tuple[int, str]]) -> Iterator[tuple[int, tuple[int, bool]]]:
    """(a quotation mark, (the next on its line, whether the brackets between them pair up))."""
    start = -1
    depth = lowest = 0
    for pos, mark in marks:
        match mark:
            case '"':
                if start >= 0:
                    yield start, (pos, depth == 0 == lowest)
                start, depth, lowest = pos, 0, 0
            case "(":
                depth += 1
            case ")":
                depth -= 1
                lowest = min(lowest, depth)
            case "\n" | "\r":
                start = -1


def _begins_word(text: str, pos: int) -> bool:
    """Whether a quotation mark at `pos`, outside brackets, is not inside a word, as in 5" and 6"."""
    before = text[pos - 1] if pos else " "
    if before not in "0123456789.":
        return before.isspace() or before in '(),"+-'
    while pos and text[pos - 1] in "0123456789.":  # perhaps the weight of a group: (a)1.2"b"
        pos -= 1
    return pos > 0 and text[pos - 1] in ')"'


def _begins_argument(text: str, pos: int) -> bool:
    pos -= 1
    while pos >= 0 and text[pos].isspace():
        pos -= 1
    return pos >= 0 and text[pos] in "(,"


def split(text: str, start: int, end: int) -> list[Span]:
    """The comma-separated pieces of text[start:end] without the blanks around them; none if all is blank."""
    if start >= end or not text[start:end].strip():
        return []
    spans: list[Span] = []
    for piece in text[start:end].split(","):
        left = start + len(piece) - len(piece.lstrip())
        spans.append((left, left + len(piece.strip())))
        start += len(piece) + 1
    return spans


def short(text: str) -> str:
    """At most 20 printable characters of what was typed, for a message."""
    shown = "".join(c if c.isprintable() else "�" for c in text[:20])
    return shown + ("…" if len(text) > 20 else "")
