"""The reader of the prompt language: one linear pass over a text, which leaves its parts, problems and a tree.

The language is told in `engines.prompt`, which is also where a prompt is read from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

from engines import grammar
from engines.grammar import Scanner, clean, short
from engines.parts import (
    MAX_RATIO,
    MAX_WEIGHT,
    Blend,
    Combination,
    Conjunction,
    Emphasis,
    Flat,
    Fragment,
    LoraUse,
    Part,
    Span,
    Swap,
)


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


class Reader(Scanner):
    """Reads one text once. Open brackets are a list, not recursion; a bracket's partner is looked up, not searched."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.parts: list[Part] = []
        self.loras: list[LoraUse] = []
        self.emphases: list[Emphasis] = []
        self.clauses = 1
        self.combination: Combination | None = None
        self.explained = -1  # the bracket whose .blend or .and has been found wanting already

    # ---- the whole prompt

    def single(self) -> Conjunction:
        """A prompt that is one text."""
        return Conjunction((self.flat(0, len(self.text), 0, outermost=True),), (1.0,))

    def whole(self) -> Conjunction | None:
        """A prompt that is a blend or an .and(), perhaps with LoRAs around it; None if it is not."""
        before, start = self.loras_at(0)
        close = self.partner.get(start, -1)
        if self.text[start : start + 1] != "(" or not (call := grammar.COMBINE.match(self.text, close + 1)):
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
        weights, normalize, numbers = self.ratios(opened + 1, closed, operator, len(bodies))
        self.combination = Combination(operator, (opened + 1, closed), weights, numbers, normalize)
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
            elif word := grammar.WORD.match(self.text, pos, close):
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

    def ratios(
        self, pos: int, close: int, operator: str, count: int
    ) -> tuple[tuple[float, ...], bool, tuple[Span, ...]]:
        """The arguments of a blend or .and() as (weights, normalize, their places); equal weights, which have no
        places, where they can't be used."""
        equal = (1.0,) * count
        limit = MAX_RATIO if operator == "blend" else MAX_WEIGHT
        normalize = True
        weights: list[float] = []
        given = grammar.split(self.text, pos, close)
        if given and operator == "blend" and self.text[slice(*given[-1])] == "no_normalize":
            normalize = False
            given.pop()
        for span in given:
            typed = self.text[slice(*span)]
            if not grammar.SIGNED.fullmatch(typed):
                self.problem(span, f"'{short(typed)}' is not a number; all texts are weighted equally")
                return equal, normalize, ()
            weights.append(self.limited(float(typed), limit, span))
        if not weights:
            return equal, normalize, ()
        if len(weights) != count:
            self.problem((pos, close), f"{count} texts but {len(weights)} weights; all are weighted equally")
            return equal, normalize, ()
        # compel divides by the sum; near 0 that is infinite, or so large that half precision overflows.
        if operator == "blend" and normalize and abs(math.fsum(weights)) * MAX_RATIO <= max(map(abs, weights)):
            self.problem((pos, close), "the weights sum to 0; all texts are weighted equally, or add no_normalize")
            return equal, normalize, ()
        return tuple(weights), normalize, tuple(given)

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
            if blanks := grammar.BLANKS.match(self.text, pos, here.end):
                pos = blanks.end()
                continue
            if lora := self.lora(pos, here.end):
                self.hand_over(run, pos, here, clause)
                self.loras.append(lora)
                pos = run = lora.span[1]
                continue
            close = self.body(pos, here.end)
            if close is None:
                word = grammar.WORD.match(self.text, pos, here.end)
                body = word.span() if word else (pos, pos)
                after = body[1]
            else:
                body, after = (pos + 1, close), close + 1
            if after == pos or (close is None and not grammar.FOLLOWED.match(self.text, after, here.end)):
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
            text = grammar.UNESCAPE.sub(r"\1", text)
        if not text.isprintable():
            text = clean(grammar.SEPARATORS.sub(" ", text)).strip()
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
        if here.outermost and (word := grammar.RAW_WORD.match(self.text, pos, here.end)):
            end = max(end, word.end())
        if self.text[pos] == '"':
            self.problem((pos, pos + 1), "no quotation mark closes this one on its line; it is taken as text", "note")
        for mark in grammar.MARKS.finditer(self.text, pos, end):
            if mark[0] not in "()":
                continue
            other = self.partner.get(mark.start(), -1)
            if other < 0:
                which = "closes" if mark[0] == "(" else "opens"
                self.problem(mark.span(), f"no bracket {which} this one; it is taken as text")
            elif mark[0] == "(" and (found := self.operator(other + 1, len(self.text), True)):
                message = "brackets inside a word are text; put a blank before them to weight them"
                self.problem((mark.start(), found[1][1]), message, "note")
        if weight := grammar.LOST_WEIGHT.search(self.text, pos, end):
            self.problem(weight.span(), "this is taken as text; to weight it, put the word in brackets", "note")
        return end

    def enter_swap(self, stack: list[_Open], pos: int, body: Span, opened: int) -> int:
        """Opens the original and the replacement of a .swap(); returns where reading goes on."""
        here = stack[-1]
        closed = self.partner[opened]
        comma = self.commas.get(opened, closed)
        self.problem((pos, closed + 1), ".swap() is not applied; the original is used", "note")
        options: list[tuple[str, str]] = []
        for span in grammar.split(self.text, comma + 1, closed):
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
        call = grammar.COMBINE.match(self.text, close + 1)
        if call and pos != self.explained and self.partner.get(call.end() - 1, -1) >= 0:
            self.problem((pos, call.end() - 1), f".{call[1]}() must be the whole prompt; it is taken as text")


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
