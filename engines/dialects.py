"""A1111's dialect of the prompt language: where a text shows that it is written in it, and the same in compel's.

    (word)  [word]          ×1.1 and ÷1.1; nested ones multiply, one that is not closed goes on to the end
    (word:1.3)              ×1.3
    \\( \\) \\[ \\] \\\\          the character itself; any other backslash is nothing
    a BREAK b               ("a", "b").and()
    a AND b :0.5            ("a", "b").blend(1, 0.5); A1111 weighs the predicted noise, not the text
    <lora:name:0.8>         withLora(name, 0.8), behind the text
    [a:b:0.5] [a:5] [a|b]   not applied: the first text that is not empty is taken

Nothing raises and everything takes time in proportion to the text. What can't be carried over is a `Problem` at its
place. The rules are those of A1111's parse_prompt_attention and of the stages before it, in their order: networks are
taken out, the text is parted at AND, then what is scheduled is chosen, then brackets are read. docs/prompt.md has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from engines.grammar import LORA_NAME, short
from engines.parts import MAX_WEIGHT, LoraUse, Problem, Span

ROUND = 1.1
"What round brackets multiply a weight by; square ones divide by it."

_TOKEN = re.compile(r"\\[()\[\]\\]?|[()\[\]]|:\s*([+-]?[.\d]+)\s*\)|[^\\()\[\]:]+|:")
_MARK = re.compile(r"\\.|[()\[\]:|]", re.S)
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")
_RATIO = re.compile(r":\s*([-+]?(?:\d*\.\d+|\d+\.?))\Z")
_WHEN = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*")
_SOMETHING = re.compile(r"\S")
_NETWORK = re.compile(r"<(\w+):")
_LORA_NAME = re.compile(LORA_NAME)
# What compel reads as syntax: brackets and quotation marks anywhere; a sign behind a word that it ends; and whatever a
# backslash that is text would turn into an escape.
_SYNTAX = re.compile(r'[()"]|(?<=\S)[+\-](?=[\s()",.+\-=]|\Z)|(?<=\\)[,.+\-=]')
# Before a bracket, with or without a blank between, these would be calls.
_CALLS = ("withLora", "useLora", ".attend", ".swap", ".blend", ".and", ".add")


@dataclass(frozen=True, slots=True)
class Sign:
    """Something in a text that A1111 reads as syntax and compel as words."""

    span: Span
    "Where, as (start, end) in the text."
    reason: str
    "What it is to A1111, in a few words."
    strong: bool = True
    "False where it stands in prompts of any kind."


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that were carried over."""

    source: Span
    "Where they are in the text that was translated, without the syntax around them."
    output: Span
    "Where they are in the translation, escapes included."


@dataclass(frozen=True, slots=True)
class Translation:
    """A text of A1111's dialect in compel's language."""

    text: str
    "What `engines.prompt.parse` reads with the words and weights that A1111 reads in the source."
    pieces: tuple[Piece, ...]
    "In the order of the translation; LoRAs are pieces too."
    problems: tuple[Problem, ...]
    "What could not be carried over, in the order of the source."


def signs(text: str) -> tuple[Sign, ...]:
    """The evidence that a text is written in A1111's dialect, in the order of the text."""
    found = [
        Sign(span, f"a network by A1111's spelling, <{kind}:…>")
        for span, kind, _ in _networks(text)
        if kind in ("lora", "lyco", "hypernet")
    ]
    choices = _choices(text)
    found += [Sign(choice.span, choice.what) for choice in choices]
    found += _brackets(text, {choice.span[0] for choice in choices})
    for pattern, reason in ((_BREAK, "a new chunk of 75 tokens"), (_AND, "several prompts")):
        for match in pattern.finditer(text):
            start, end = match.span()
            apart = text[max(start - 1, 0) : start].isspace() and text[end : end + 1].isspace()
            if apart or pattern is _BREAK:
                found.append(Sign(match.span(), reason, apart and not _shouted(text, match.span())))
    return tuple(sorted(found, key=lambda sign: sign.span))


def translate(text: str) -> Translation:
    """A text of A1111's dialect in compel's language. Never raises; see the module for what is made of what."""
    return _Translator(text).translation()


# ---------------------------------------------------------------------------------------------------- evidence


def _brackets(text: str, chosen: set[int]) -> list[Sign]:
    """Weights and square brackets that pair up. `chosen` are square brackets that say which of several texts."""
    found: list[Sign] = []
    round_open: list[int] = []
    square_open: list[int] = []
    double: dict[int, int] = {}  # a round bracket -> its partner
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        match text[start]:
            case "(":
                round_open.append(start)
            case "[":
                square_open.append(start)
            case "]" if square_open:
                opened = square_open.pop()
                if opened not in chosen and _SOMETHING.search(text, opened + 1, start):
                    found.append(Sign((opened, end), "a weight of 1/1.1"))
            case ")" if round_open:
                opened = round_open.pop()
                double[opened] = start
                if double.get(opened + 1, -1) == start - 1:
                    found.append(Sign((opened, end), "a weight of 1.21", strong=False))
            case ":" if token[1] is not None and round_open:
                opened = round_open.pop()
                ratio = text[start - 1].isdigit() and "." not in token[1]  # (16:9)
                compel = text[end : end + 1] in tuple("+-0123456789")
                found.append(Sign((opened, end), f"a weight of {short(token[1])}", not ratio and not compel))
    return found


def _shouted(text: str, span: Span) -> bool:
    """Whether the words beside are in capitals as well: CATS AND DOGS."""
    beside = (text[max(span[0] - 30, 0) : span[0]].split()[-1:], text[span[1] : span[1] + 30].split()[:1])
    return any(word.isupper() and len(word) > 1 for words in beside for word in words)


def _networks(text: str) -> Iterator[tuple[Span, str, str]]:
    """(span, kind, arguments) of every <kind:arguments>."""
    pos = text.find("<")
    while pos >= 0:
        found = _NETWORK.match(text, pos)
        if found is None:
            pos = text.find("<", pos + 1)
            continue
        close = text.find(">", found.end())
        if close < 0:
            return  # none of those that follow is closed either
        if close == found.end():
            pos = text.find("<", close)
            continue
        yield (pos, close + 1), found[1], text[found.end() : close]
        pos = text.find("<", close)


@dataclass(frozen=True, slots=True)
class _Choice:
    """[a:b:0.5], [a:5], [a::5] or [a|b]."""

    span: Span
    taken: Span
    what: str


def _choices(text: str) -> list[_Choice]:
    """Everything scheduled or alternating, inner before outer."""
    found: list[_Choice] = []
    stack: list[tuple[str, int, list[int], list[int]]] = []  # bracket, place, colons and bars right inside
    for token in _MARK.finditer(text):
        mark, pos = token[0], token.start()
        match mark:
            case "(" | "[":
                stack.append((mark, pos, [], []))
            case ")" if stack and stack[-1][0] == "(":
                stack.pop()
            case "]" if stack and stack[-1][0] == "[":
                _, opened, colons, bars = stack.pop()
                if bars:
                    ends, what = [*bars, pos], "alternating texts"
                elif 1 <= len(colons) <= 2 and _WHEN.fullmatch(text, colons[-1] + 1, pos):
                    ends, what = colons, "a text that changes on the way"
                else:
                    continue
                starts = [opened + 1, *(end + 1 for end in ends[:-1])]
                texts = list(zip(starts, ends, strict=True))
                taken = next((span for span in texts if _SOMETHING.search(text, *span)), texts[0])
                found.append(_Choice((opened, pos + 1), taken, what))
            case ":" if stack:
                stack[-1][2].append(pos)
            case "|" if stack:
                stack[-1][3].append(pos)
    return found


# ------------------------------------------------------------------------------------------------- translation


@dataclass(slots=True)
class _Run:
    """Text of one weight."""

    number: str  # the weight as it is written
    start: int
    end: int = 0
    texts: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of each text, in the source


class _Translator:
    """Carries one text over."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.problems: list[Problem] = []
        self.pieces: list[Piece] = []
        self.out: list[str] = []
        self.length = 0  # of `out`
        self.last = ""  # its last character

    def translation(self) -> Translation:
        networks = list(_networks(self.text))
        text, places = _without(self.text, range(len(self.text)), [span for span, _, _ in networks])
        loras = [use for network in networks if (use := self.lora(*network))]
        joints = [match.span() for match in _AND.finditer(text)]
        starts, ends = [0, *(end for _, end in joints)], [*(start for start, _ in joints), len(text)]
        several = len(starts) > 1
        chunks: list[list[_Run]] = []
        ratios: list[str] = []
        for start, end in zip(starts, ends, strict=True):
            clause, where = text[start:end], places[start:end]
            if several:
                clause, ratio = _ratio(clause)
                where = where[: len(clause)]
                ratios.append(ratio)
            clause, where = self.chosen(clause, where)
            read = self.attention(clause, where, several)
            if len(read) > 1 and not any("".join(run.texts).strip() for run in read[-1]):
                read.pop()  # A1111 opens no chunk for a BREAK at the very end
            chunks += read
        if several:
            place = (places[joints[0][0]], places[joints[0][1] - 1] + 1)
            message = "A1111 averages what the prompts of AND predict; here their encodings are blended"
            self.problems.append(Problem(place, message, "note"))
        self.write(chunks, f").blend({', '.join(ratios)})" if several else ").and()")
        for use in loras:
            self.put(" " if self.length and not self.last.isspace() else "")
            start = self.length
            self.put(f"withLora({use.name}, {_number(use.weight)})")
            self.pieces.append(Piece(use.span, (start, self.length)))
        problems = tuple(sorted(self.problems, key=lambda problem: problem.span))
        return Translation("".join(self.out), tuple(self.pieces), problems)

    def problem(self, span: Span, message: str) -> None:
        self.problems.append(Problem(span, message))

    # ---- what A1111 does before it reads brackets

    def lora(self, span: Span, kind: str, arguments: str) -> LoraUse | None:
        """A network as it is written here, if it is one of those that there are here."""
        if kind not in ("lora", "lyco"):
            self.problem(span, f"<{short(kind)}:…> is not known here; it is left out")
            return None
        given = arguments.split(":")
        name = given[0].strip()
        if not _LORA_NAME.fullmatch(name):
            message = f"'{short(name)}' can't be named in a prompt: letters, digits, - _ and . only; use --lora"
            self.problem(span, message)
            return None
        weight = 1.0
        if len(given) > 1:
            try:
                weight = float(given[1])
            except ValueError:
                weight = math.nan
            if not math.isfinite(weight):
                self.problem(span, f"'{short(given[1])}' is no weight; 1 is taken")
                weight = 1.0
        if len(given) > 2:
            self.problem(span, "a LoRA has one weight here, the first; the rest is left out")
        if abs(weight) > MAX_WEIGHT:
            self.problem(span, f"{short(given[1])} is too much; {math.copysign(MAX_WEIGHT, weight):g} is taken")
        return LoraUse(name, max(-MAX_WEIGHT, min(weight, MAX_WEIGHT)), span)

    def chosen(self, text: str, places: Sequence[int]) -> tuple[str, Sequence[int]]:
        """The text with one of the texts of whatever is scheduled or alternating."""
        drops: list[Span] = []
        for choice in _choices(text):
            drops += [(choice.span[0], choice.taken[0]), (choice.taken[1], choice.span[1])]
            span = (places[choice.span[0]], places[choice.span[1] - 1] + 1)
            start, end = choice.taken
            taken = short(text[start : min(end, start + 40)].strip())
            self.problem(span, f"{choice.what}: that is not done here; '{taken}' is taken throughout")
        return _without(text, places, drops)

    # ---- brackets

    def attention(self, text: str, places: Sequence[int], several: bool) -> list[list[_Run]]:
        """Runs of equal weight, chunk by chunk."""
        tokens = list(_TOKEN.finditer(text))
        factors = self.factors(tokens, places)
        chunks: list[list[_Run]] = [[]]
        explicit = [1.0]  # the products of the numbers of open round brackets
        rounds = squares = 0  # brackets without a number: exponents, so that ten thousand of them are no infinity
        plain: list[bool] = []  # of each open round bracket, whether it has no number
        for i, token in enumerate(tokens):
            said, start = token[0], token.start()
            match said[0]:
                case "\\":
                    self.add(chunks, said[1:], places, start + 1, explicit[-1], rounds - squares)
                case "(":
                    plain.append(i not in factors)
                    rounds += plain[-1]
                    explicit.append(explicit[-1] * factors.get(i, 1.0))
                case "[":
                    squares += 1
                case "]" if squares:
                    squares -= 1
                case ")" | ":" if plain and said[-1] == ")":
                    if said != ")" and _weight(token[1]) is None:  # (word:1.2.3): the number is text
                        self.add(chunks, said[:-1], places, start, explicit[-1], rounds - squares)
                    rounds -= plain.pop()
                    explicit.pop()
                case _:
                    begin = 0
                    weight = explicit[-1], rounds - squares
                    for found in _BREAK.finditer(said):
                        self.add(chunks, said[begin : found.start()], places, start + begin, *weight)
                        begin = found.end()
                        if several:
                            span = (places[start + found.start()], places[start + found.end() - 1] + 1)
                            self.problem(span, "BREAK beside AND is not done here; it is a blank")
                            self.add(chunks, " ", places, start + found.start(), *weight)
                        else:
                            chunks.append([])
                    self.add(chunks, said[begin:], places, start + begin, *weight)
        return chunks

    def factors(self, tokens: list[re.Match[str]], places: Sequence[int]) -> dict[int, float]:
        """The number that each round bracket closes with, by the token that opens it; none for ×1.1."""
        factors: dict[int, float] = {}
        opened: list[int] = []
        for i, token in enumerate(tokens):
            if token[0] == "(":
                opened.append(i)
            elif token[0] == ")" and opened:
                opened.pop()
            elif token[1] is not None and opened:
                start = opened.pop()
                span = (places[token.start(1)], places[token.end(1) - 1] + 1)
                if (weight := _weight(token[1])) is None:
                    self.problem(span, f"{short(token[1])} is no number; it is taken as text")
                    continue
                if weight < 0:
                    self.problem(span, f"a weight can't be below 0 here; {short(token[1])} is taken as 0")
                factors[start] = weight
        return factors

    def add(
        self, chunks: list[list[_Run]], text: str, places: Sequence[int], start: int, explicit: float, power: int
    ) -> None:
        """Adds text of one weight to the last chunk."""
        if not text:
            return
        # between them, 1.1 to the 1000th and back are floats, and no weight is larger or smaller
        weight = explicit * ROUND ** max(-1000, min(power, 1000))
        number = _number(min(weight, MAX_WEIGHT) if weight > 0 else 0.0)
        runs = chunks[-1]
        if not runs or runs[-1].number != number:
            if weight > MAX_WEIGHT * 1.0000001:
                span = (places[start], places[start + len(text) - 1] + 1)
                self.problem(span, f"weights multiply to {weight:.4g}; {MAX_WEIGHT:g} is taken")
            runs.append(_Run(number, places[start]))
        runs[-1].texts.append(text)
        runs[-1].places += places[start : start + len(text)]

    # ---- what is written

    def write(self, chunks: list[list[_Run]], combined: str) -> None:
        """Writes the chunks: one as it is, several in quotation marks with `combined` behind them."""
        if len(chunks) == 1:
            self.runs(chunks[0], quoted=False)
            return
        for i, runs in enumerate(chunks):
            self.put('", "' if i else '("')
            self.last = ""  # words begin here
            self.runs(runs, quoted=True)
            if self.last == "\\":  # it would make the quotation mark text
                self.put(" ")
        self.put('"' + combined)

    def runs(self, runs: list[_Run], quoted: bool) -> None:
        """Writes runs so that compel's language reads these words with these weights."""
        weighted = False  # a number was the last that was written
        for run in runs:
            text = "".join(run.texts)
            if quoted and run is runs[-1]:
                text = text.rstrip()
            if quoted:  # quotation marks pair up on one line
                text = text.replace("\n", " ").replace("\r", " ")
            words = text.strip()
            lead = len(text) - len(text.lstrip())
            if self.last or not quoted:
                self.put(text[:lead])
            if not words:
                weighted = False
                continue
            bare = run.number == "1"
            apart = not bare or (weighted and words[0] not in ",;:!?")
            if apart and self.last and not self.last.isspace():
                self.put(" ")
            self.put("" if bare else "(")
            start = self.length
            self.words(words, bare and run is not runs[-1])
            place = (run.places[lead], run.places[lead + len(words) - 1] + 1)
            self.pieces.append(Piece(place, (start, self.length)))
            if not bare:
                self.put(" )" if words[-1] == "\\" else ")")
                self.put(run.number)
            self.put(text[lead + len(words) :])
            weighted = not bare and not text[-1].isspace()

    def words(self, words: str, called: bool) -> None:
        """Writes words with what is syntax in them made text; `called` if brackets may follow."""
        start = len(words)
        for word in reversed(words.split()) if called and words.endswith(_CALLS) else ():
            if not word.endswith(_CALLS):
                break
            start = words.rindex(word, 0, start)
        self.put(_plain(words[:start]))
        if start < len(words):
            self.put(f"({_plain(words[start:])})")  # brackets that weigh nothing

    def put(self, text: str) -> None:
        if text:
            self.out.append(text)
            self.length += len(text)
            self.last = text[-1]


def _without(text: str, places: Sequence[int], drops: list[Span]) -> tuple[str, Sequence[int]]:
    """The text without some stretches, which may overlap, and where each of its characters was."""
    if not drops:
        return text, places
    kept: list[str] = []
    where: list[int] = []
    pos = 0
    for start, end in sorted(drops):
        if start > pos:
            kept.append(text[pos:start])
            where += places[pos:start]
        pos = max(pos, end)
    kept.append(text[pos:])
    where += places[pos:]
    return "".join(kept), where


def _ratio(clause: str) -> tuple[str, str]:
    """A text of AND without the weight at its end, and that weight as it is written here."""
    stripped = clause.rstrip()
    found = _RATIO.search(stripped)
    return (stripped[: found.start()], _number(max(-1e9, min(float(found[1]), 1e9)))) if found else (clause, "1")


def _plain(text: str) -> str:
    """The text with a backslash before whatever compel would read as syntax."""
    return _SYNTAX.sub(r"\\\g<0>", text)


def _weight(typed: str) -> float | None:
    """The number in (word:number), or None if it is none, as 1.2.3."""
    try:
        return min(float(typed), 1e9)
    except ValueError:
        return None


def _number(value: float) -> str:
    """A number as compel's language has them: no exponent, and no more digits than a weight needs."""
    shown = f"{value:.7f}".rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown
