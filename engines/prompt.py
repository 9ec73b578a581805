"""The prompt language: compel's weighting syntax, read in one linear pass, with the place of every part.

    word++  word--          ×1.1 for each plus, ×0.9 for each minus
    (phrase)1.3  (phrase)++ a weight for a phrase; nested weights multiply
    "phrase"1.3             the same with quotation marks
    \\( \\) \\" \\, \\. \\+ \\- \\=  the character itself
    ("a", "b").blend(.7, .3)    one conditioning between two; `no_normalize` as the last argument leaves the weights be
    ("a", "b").and(1, .5)       one conditioning after the other
    cat.swap(dog)               read, but not applied
    withLora(name, .8)          read and listed in `Prompt.loras`

Nothing raises: what can't be read is text, and a `Problem` says so at its place. docs/prompt.md has the whole grammar
and every difference from compel. No torch here: this module also colours the editor at every key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Span: TypeAlias = tuple[int, int]

PLUS = 1.1
"What one + multiplies a weight by."
MINUS = 0.9
"What one - multiplies a weight by."
MAX_WEIGHT = 10.0
"Weights of words, clauses and LoRAs stop here; compel's author sees garbage from 1.6 on, and fp16 overflows later."
MAX_RATIO = 1000.0
"The arguments of a blend stop here, so that percentages may be written."


@dataclass(frozen=True, slots=True)
class Part:
    """A run of text that is encoded with one weight."""

    text: str
    "As it is encoded: escapes resolved, control characters left out, white space as typed."
    weight: float
    "The product of all weights around it, 0 … MAX_WEIGHT; 1 where there is none."
    span: Span
    "(start, end) in the source text, without the syntax around it."
    clause: int = 0
    "Which text of a blend or .and() it belongs to, counted from 0."
    applied: bool = True
    "False for the replacement in .swap(), which is not encoded."


@dataclass(frozen=True, slots=True)
class Emphasis:
    """A word or group that carries a weight, for an editor that changes it."""

    span: Span
    "The whole of it, brackets or quotation marks and weight included."
    body: Span
    "What is weighted, without brackets or quotation marks."
    operator: Span
    "The weight as it is written: ++, --, 1.3 or .attend(1.3)."
    weight: float
    "Its own weight, without those around it; 0 … MAX_WEIGHT."


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A withLora(name, weight) in the prompt."""

    name: str
    "As typed."
    weight: float
    "−MAX_WEIGHT … MAX_WEIGHT; 1 where none is given."
    span: Span
    "(start, end) in the source text."


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the prompt that is not what it may seem."""

    span: Span
    "Where, as (start, end) in the source text."
    message: str
    "One line, what is wrong and what was done, without a full stop at its end."
    level: Literal["error", "note"] = "error"
    "error: it could not be read as syntax. note: it was read, and this is worth knowing."


@dataclass(frozen=True, slots=True)
class Fragment:
    """Text for the encoder, with one weight; neighbours of equal weight are one fragment, as in compel."""

    text: str
    "White space is single blanks."
    weight: float = 1.0
    "0 … MAX_WEIGHT."


@dataclass(frozen=True, slots=True)
class Swap:
    """original.swap(edited, options): not applied, the original is encoded."""

    original: tuple[Fragment, ...]
    "What is encoded."
    edited: tuple[Fragment, ...]
    "What would take its place."
    options: tuple[tuple[str, str], ...] = ()
    "(name, value) as typed, for instance ('s_start', '0.1')."


@dataclass(frozen=True, slots=True)
class Flat:
    """A text to encode."""

    fragments: tuple[Fragment | Swap, ...]
    "In order; empty for an empty text."


@dataclass(frozen=True, slots=True)
class Blend:
    """A weighted sum of the encodings of several texts."""

    clauses: tuple[Flat, ...]
    "At least one."
    weights: tuple[float, ...]
    "One for each clause, −MAX_RATIO … MAX_RATIO; normalised ones do not sum to 0."
    normalize: bool = True
    "Whether the weights are divided by their sum."


@dataclass(frozen=True, slots=True)
class Conjunction:
    """Encodings that follow one another along the token axis: the whole prompt."""

    clauses: tuple[Flat | Blend, ...]
    "At least one; more only with .and()."
    weights: tuple[float, ...]
    "One for each clause: 0 is the empty prompt, 1 the clause; −MAX_WEIGHT … MAX_WEIGHT."


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that has been read. Plain values: it pickles, compares and hashes."""

    text: str
    "The source, as typed."
    parts: tuple[Part, ...]
    "All runs of text in the order of the source."
    tree: Conjunction
    "What is encoded."
    problems: tuple[Problem, ...]
    "In the order of the source."
    loras: tuple[LoraUse, ...]
    "In the order of the source."
    emphases: tuple[Emphasis, ...]
    "All weights in the order of the source, outer before inner."
    plains: tuple[str, ...]
    "The text of each clause of a blend or .and() without any syntax; one clause otherwise."

    @property
    def plain(self) -> str:
        """The text without any weighting syntax; clauses of a blend or .and() are joined by commas."""
        return ", ".join(p for p in self.plains if p)


def parse(text: str) -> Prompt:
    """Reads a prompt; takes time in proportion to its length, and no depth of nesting is too deep.

    Never raises: malformed syntax is text, and is named in `Prompt.problems`.
    """
    reader = _Reader(text)
    tree = reader.whole() or reader.single()
    reader.look_for_controls()
    return Prompt(
        text=text,
        parts=tuple(sorted(reader.parts, key=lambda p: p.span)),
        tree=tree,
        problems=tuple(sorted(reader.problems, key=lambda p: p.span)),
        loras=tuple(sorted(reader.loras, key=lambda u: u.span)),
        emphases=tuple(sorted(reader.emphases, key=lambda e: (e.span[0], -e.span[1]))),
        plains=_plains(text, reader.parts, reader.clauses),
    )


def clean(text: str) -> str:
    """The text without what could command a terminal or can't be encoded.

    Removed are control characters (C0 but newline and tab, DEL, C1), bidirectional controls and lone surrogates;
    carriage returns become newlines.
    """
    return text if text.isprintable() else UNSAFE.sub("", _RETURNS.sub("\n", text))


def escape(text: str) -> str:
    """The text with a backslash before every character that has a meaning in a prompt; `parse` gives it back."""
    return re.sub(r'[()",.+\-=]', r"\\\g<0>", text)


_RETURNS = re.compile(r"\r\n?")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"C0 (but for tab and newline), DEL, C1, the marks that turn the writing direction, and lone surrogates."
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # control characters, but they part words

_ESCAPED = r'\\[()",.+\-=]'
_UNESCAPE = re.compile(r'\\([()",.+\-=])')
_MARKS = re.compile(_ESCAPED + r'|[()",\n\r]')
# A + or - inside a word (a-b) belongs to it; before a blank or another syntactic character it is a weight.
_WORD = re.compile(rf'(?:{_ESCAPED}|[+-](?![\s()",.+\-=]|\Z)|[^\s()",.+\-=])+')
# Outside brackets a word that carries no weight goes on to the next blank, or to just behind a comma.
_RAW_WORD = re.compile(rf"(?:{_ESCAPED}|[^\s,])*,?")
_BLANKS = re.compile(r"\s+")
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_SIGNED = re.compile(rf"[+-]?{_NUMBER}")
_SIGNS = re.compile(r"\++|-+")
_WEIGHT = re.compile(rf"\++|-+|{_NUMBER}")
_ATTEND = re.compile(rf"\s*\.attend\s*\(\s*(\++|-+|{_NUMBER})\s*\)")
_FOLLOWED = re.compile(r"[+-]|\s*\.[as]")  # so that most words need one look behind them, not three
_SWAP = re.compile(r"\s*\.swap\s*\(")
_COMBINE = re.compile(r"\s*\.(blend|and|add)\s*\(")
_LORA_CALL = re.compile(r"(?:withLora|useLora)\s*\(")
_LORA = re.compile(rf"(?:withLora|useLora)\s*\(\s*([A-Za-z0-9_-]+)\s*(?:,\s*([+-]?{_NUMBER})\s*)?\)")
_LOST_WEIGHT = re.compile(r"(?<=\w)(?:\+\++|--+),?\Z")
_ENDS_ARGUMENT = re.compile(r"\s*[,)]")


@dataclass(slots=True)
class _Open:
    """A stretch of the source that is being read: the whole, or the inside of brackets or quotation marks."""

    end: int
    resume: int  # where reading goes on behind it, its weight included
    weight: float
    out: list[_Piece]
    outermost: bool = False
    applied: bool = True
    in_swap: bool = False


@dataclass(slots=True)
class _Words:
    weight: float
    texts: list[str]


@dataclass(slots=True)
class _Swapped:
    options: tuple[tuple[str, str], ...]
    original: list[_Piece] = field(default_factory=list)
    edited: list[_Piece] = field(default_factory=list)


_Piece: TypeAlias = _Words | _Swapped


class _Reader:
    """Reads one text once. Open brackets are a list, not recursion; a bracket's partner is looked up, not searched."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[Part] = []
        self.problems: list[Problem] = []
        self.loras: list[LoraUse] = []
        self.emphases: list[Emphasis] = []
        self.clauses = 1
        self.explained = -1  # the bracket whose .blend or .and has been found wanting already
        self.partner, self.commas = _pair(text)

    # ---- the whole prompt

    def single(self) -> Conjunction:
        """A prompt that is one text."""
        return Conjunction((self.flat(0, len(self.text), 0, outermost=True),), (1.0,))

    def whole(self) -> Conjunction | None:
        """A prompt that is a blend or an .and(), perhaps with LoRAs around it; None if it is not."""
        before, start = self.loras_at(0)
        close = self.partner.get(start, -1)
        if self.text[start : start + 1] != "(" or not (call := _COMBINE.match(self.text, close + 1)):
            return None
        opened = call.end() - 1
        closed = self.partner.get(opened, -1)
        if closed < 0:
            return None  # an unpaired bracket; it is reported when it is read as text
        after, end = self.loras_at(closed + 1)
        operator = call[1]
        if end < len(self.text):
            self.explained = start
            self.problem((start, closed + 1), f".{operator}() must be the whole prompt; it is taken as text")
            return None
        bodies = self.arguments(start + 1, close)
        if bodies is None:
            self.explained = start
            self.problem((start, closed + 1), f"texts before .{operator}() need quotation marks; it is taken as text")
            return None
        self.loras += map(self.lora_use, before + after)
        self.clauses = len(bodies)
        flats = tuple(self.flat(*body, clause) for clause, body in enumerate(bodies))
        weights, normalize = self.ratios(opened + 1, closed, operator, len(bodies))
        if operator == "blend":
            return Conjunction((Blend(flats, weights, normalize),), (1.0,))
        return Conjunction(flats, weights)

    def arguments(self, pos: int, close: int) -> list[Span] | None:
        """The insides of the comma-separated texts up to `close`; None if one is more than a word and not quoted."""
        bodies: list[Span] = []
        while True:
            pos = self.skip(pos)
            if (end := self.body(pos, close)) is not None:
                bodies.append((pos + 1, end))
                pos = end + 1
            elif word := _WORD.match(self.text, pos, close):
                bodies.append(word.span())
                pos = word.end()
            else:
                return None
            pos = self.skip(pos)
            if pos >= close:
                return bodies
            if self.text[pos] != ",":
                return None
            pos += 1

    def ratios(self, pos: int, close: int, operator: str, count: int) -> tuple[tuple[float, ...], bool]:
        """The arguments of a blend or .and() as (weights, normalize); equal weights where they can't be used."""
        equal = (1.0,) * count
        limit = MAX_RATIO if operator == "blend" else MAX_WEIGHT
        normalize = True
        weights: list[float] = []
        given = _split(self.text, pos, close)
        if given and operator == "blend" and self.text[slice(*given[-1])] == "no_normalize":
            normalize = False
            given.pop()
        for span in given:
            typed = self.text[slice(*span)]
            if not _SIGNED.fullmatch(typed):
                self.problem(span, f"'{_short(typed)}' is not a number; all texts are weighted equally")
                return equal, normalize
            weights.append(self.limited(float(typed), limit, span))
        if not weights:
            return equal, normalize
        if len(weights) != count:
            self.problem((pos, close), f"{count} texts but {len(weights)} weights; all are weighted equally")
            return equal, normalize
        # compel divides by the sum; near 0 that is infinite, or so large that half precision overflows.
        if operator == "blend" and normalize and abs(math.fsum(weights)) * MAX_RATIO <= max(map(abs, weights)):
            self.problem((pos, close), "the weights sum to 0; all texts are weighted equally, or add no_normalize")
            return equal, normalize
        return tuple(weights), normalize

    # ---- one text

    def flat(self, start: int, end: int, clause: int, outermost: bool = False) -> Flat:
        """Reads one text. `outermost` words go on to the next blank; within brackets they end at any syntax."""
        out: list[_Piece] = []
        stack = [_Open(end, end, 1.0, out, outermost)]
        pos = run = start  # text from `run` to `pos` is plain and not handed over yet
        while stack:
            here = stack[-1]
            if pos >= here.end:
                self.hand_over(run, here.end, here, clause)
                stack.pop()
                pos = run = here.resume
                continue
            if blanks := _BLANKS.match(self.text, pos, here.end):
                pos = blanks.end()
                continue
            if lora := self.lora(pos, here.end):
                self.hand_over(run, pos, here, clause)
                self.loras.append(lora)
                pos = run = lora.span[1]
                continue
            close = self.body(pos, here.end)
            if close is None:
                word = _WORD.match(self.text, pos, here.end)
                body = word.span() if word else (pos, pos)
                after = body[1]
            else:
                body, after = (pos + 1, close), close + 1
            if after == pos or (close is None and not _FOLLOWED.match(self.text, after, here.end)):
                pos = self.plain_text(pos, here) if here.outermost or after == pos else after
            elif opened := self.swap(after, here.end):
                self.hand_over(run, pos, here, clause)
                pos = run = self.enter_swap(stack, pos, body, opened)
            elif found := self.operator(after, here.end, close is not None):
                self.hand_over(run, pos, here, clause)
                factor, operator = found
                self.glued(operator)
                self.emphases.append(Emphasis((pos, operator[1]), body, operator, factor))
                weight = self.product(here.weight, factor, operator)
                stack.append(_Open(body[1], operator[1], weight, here.out, False, here.applied, here.in_swap))
                # A bare word has no syntax inside; a weight such as + must not be looked for in it again.
                pos, run = (body[1] if close is None else body[0]), body[0]
            elif close is not None:
                self.misplaced(pos, close)
                self.hand_over(run, pos, here, clause)
                stack.append(_Open(close, after, here.weight, here.out, False, here.applied, here.in_swap))
                pos = run = body[0]
            else:
                pos = self.plain_text(pos, here) if here.outermost else after
        return Flat(_fragments(out))

    def hand_over(self, start: int, end: int, here: _Open, clause: int) -> None:
        """Makes a part and words for the encoder of source[start:end], if anything is left of it."""
        source = self.text[start:end]
        text = source.strip()
        if not text:
            return
        start += len(source) - len(source.lstrip())
        span = (start, start + len(text))
        if "\\" in text:
            text = _UNESCAPE.sub(r"\1", text)
        if not text.isprintable():
            text = clean(_SEPARATORS.sub(" ", text)).strip()
            if not text:
                return
        words = " ".join(text.split())
        self.parts.append(Part(text, here.weight, span, clause, here.applied))
        last = here.out[-1] if here.out else None
        if isinstance(last, _Words) and last.weight == here.weight:
            last.texts.append(words)
        else:
            here.out.append(_Words(here.weight, [words]))

    def plain_text(self, pos: int, here: _Open) -> int:
        """Passes over one character, or one raw word outside brackets; reports brackets without a partner in it."""
        end = pos + 1
        if here.outermost and (word := _RAW_WORD.match(self.text, pos, here.end)):
            end = max(end, word.end())
        if self.text[pos] == '"':
            self.problem((pos, pos + 1), "no quotation mark closes this one on its line; it is taken as text", "note")
        for mark in _MARKS.finditer(self.text, pos, end):
            if mark[0] not in "()":
                continue
            other = self.partner.get(mark.start(), -1)
            if other < 0:
                which = "closes" if mark[0] == "(" else "opens"
                self.problem(mark.span(), f"no bracket {which} this one; it is taken as text")
            elif mark[0] == "(" and (found := self.operator(other + 1, len(self.text), True)):
                message = "brackets inside a word are text; put a blank before them to weight them"
                self.problem((mark.start(), found[1][1]), message, "note")
        if weight := _LOST_WEIGHT.search(self.text, pos, end):
            self.problem(weight.span(), "this is taken as text; to weight it, put the word in brackets", "note")
        return end

    # ---- what may follow a word or bracket

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

    def enter_swap(self, stack: list[_Open], pos: int, body: Span, opened: int) -> int:
        """Opens the original and the replacement of a .swap(); returns where reading goes on."""
        here = stack[-1]
        closed = self.partner[opened]
        comma = self.commas.get(opened, closed)
        self.problem((pos, closed + 1), ".swap() is not applied; the original is used", "note")
        options: list[tuple[str, str]] = []
        for span in _split(self.text, comma + 1, closed):
            name, _, value = self.text[slice(*span)].partition("=")
            options.append((name.strip(), value.strip()))
        original, edited = here.out, list[_Piece]()
        if not here.in_swap:  # compel can't encode a swap within a swap; its original is plain text of the outer one
            piece = _Swapped(tuple(options))
            here.out.append(piece)
            original, edited = piece.original, piece.edited
        stack.append(_Open(comma, closed + 1, here.weight, edited, False, applied=False, in_swap=True))
        stack.append(_Open(body[1], opened + 1, here.weight, original, False, here.applied, in_swap=True))
        return body[0]

    def misplaced(self, pos: int, close: int) -> None:
        """Reports a .blend or .and that stands where it can't be one."""
        call = _COMBINE.match(self.text, close + 1)
        if call and pos != self.explained and self.partner.get(call.end() - 1, -1) >= 0:
            self.problem((pos, call.end() - 1), f".{call[1]}() must be the whole prompt; it is taken as text")

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
        self.problem(found.span(), "LoRAs named in the prompt are not applied yet", "note")
        weight = self.limited(float(found[2]), MAX_WEIGHT, found.span(2)) if found[2] else 1.0
        return LoraUse(found[1], weight, found.span())

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
        blanks = _BLANKS.match(self.text, pos)
        return blanks.end() if blanks else pos

    def limited(self, value: float, limit: float, span: Span) -> float:
        """The value within ±limit, reported where it was not."""
        if abs(value) <= limit:
            return value
        taken = math.copysign(limit, value)
        self.problem(span, f"{_short(self.text[slice(*span)])} is too much; {taken:g} is taken")
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
    marks = [(m.start(), m[0]) for m in _MARKS.finditer(text) if len(m[0]) == 1]
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


def _split(text: str, start: int, end: int) -> list[Span]:
    """The comma-separated pieces of text[start:end] without the blanks around them; none if all is blank."""
    if start >= end or not text[start:end].strip():
        return []
    spans: list[Span] = []
    for piece in text[start:end].split(","):
        left = start + len(piece) - len(piece.lstrip())
        spans.append((left, left + len(piece.strip())))
        start += len(piece) + 1
    return spans


def _fragments(pieces: list[_Piece]) -> tuple[Fragment | Swap, ...]:
    """Words and swaps as the tree has them."""
    made: list[Fragment | Swap] = []
    for piece in pieces:
        if isinstance(piece, _Words):
            made.append(Fragment(" ".join(piece.texts), piece.weight))
        else:
            made.append(Swap(_only_words(piece.original), _only_words(piece.edited), piece.options))
    return tuple(made)


def _only_words(pieces: list[_Piece]) -> tuple[Fragment, ...]:
    return tuple(Fragment(" ".join(p.texts), p.weight) for p in pieces if isinstance(p, _Words))


def _plains(text: str, parts: list[Part], clauses: int) -> tuple[str, ...]:
    """Each clause's words. Where only syntax stood between two parts they are two words, but a comma stays close."""
    said: list[list[str]] = [[] for _ in range(clauses)]
    end = 0
    for part in parts:
        if part.applied:
            words = " ".join(part.text.split())
            apart = words[0] not in ",.;:!?" or _BLANKS.search(text, end, part.span[0]) is not None
            said[part.clause].append(f" {words}" if said[part.clause] and apart else words)
            end = part.span[1]
    return tuple("".join(words) for words in said)


def _short(text: str) -> str:
    """At most 20 printable characters of what was typed, for a message."""
    shown = "".join(c if c.isprintable() else "�" for c in text[:20])
    return shown + ("…" if len(text) > 20 else "")
