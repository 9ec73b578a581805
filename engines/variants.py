"""Variants: a prompt that says several things, of which every picture gets others.

    {red|blue} apple        one of them; {3::red|blue} the first three times as often; an option may be empty
    {2$$a|b|c}              two of them in any order, joined by a comma; {1-2$$…} {-2$$…} {2-$$…} one or two, and so on
    {2$$ and $$a|b|c}       joined by what stands between the dollars
    __animal__              a line of animal.txt in the folder of wildcards; __folder/animal__ of folder/animal.txt
    \\{ \\} \\|                the character itself

They nest, and lines of files may have them too. Braces without a bar or a count are text. Nothing raises: what can't be
drawn stays text, and a `Problem` says so at its place. The documented cases of the dynamicprompts library are the
reference; docs/prompt.md has what differs.

One seed gives one text on every machine. What is drawn is drawn from left to right, outer before inner, from
`random.Random(seed)`, of which only `random()` is used, because Python promises that alone for good: for a range one
number; for one option of several one number; for more than one a number for each option of the group. Nothing is drawn
where there is no choice. Nothing takes longer than in proportion to the text and what is drawn.
"""

from __future__ import annotations

import os
import random
import re
import stat
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

from engines.grammar import clean, short
from engines.parts import Problem, Span

MAX_LENGTH = 20_000
"Characters of what is drawn; the rest is left out."
MAX_DRAWS = 10_000
"Choices for one text, so that files which name one another end; the rest is left out."
MAX_DEPTH = 16
"Files within files."
MAX_NAMES = 5_000
"Files of wildcards that are listed."
MAX_FILE = 4_000_000
"Bytes of a file that are read."

_TOKEN = re.compile(r"\\[{}|]|[{}|]|__(?=[^_\W])([\w./*-]{1,200}?)__")
_ESCAPE = re.compile(r"\\([{}|])")
_COUNT = re.compile(r"\s*(?:([0-9]{1,6})|([0-9]{1,6})?-([0-9]{1,6})?)\s*\$\$")
_JOINER = re.compile(r"((?:[^$\\{}|]|\\[{}|]?|\$(?!\$))*)\$\$")
_WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*::")
_BLANKS = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Pick:
    """What was drawn for one group or wildcard of the text."""

    source: Span
    "The group, braces included, or the wildcard, in the text that was typed."
    output: Span
    "What stands there now, in the text that was drawn."
    text: str
    "The same, as text."


@dataclass(frozen=True, slots=True)
class Expansion:
    """A text of which all variants are drawn."""

    text: str
    "At most MAX_LENGTH characters, if there was anything to draw."
    picks: tuple[Pick, ...]
    "In the order in which they were drawn; a group before what is drawn within it."
    problems: tuple[Problem, ...]
    "In the order of the source."


class Wildcards:
    """The text files of one folder, each read when it is first named, and once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, _Options | None] = {}

    def options(self, name: str) -> _Options | None:
        """What a file offers; None if there is no such file, or nothing in it."""
        if name not in self._read:
            found = lines(self._folder, name)
            self._read[name] = _offered([_weighted(line, 0, len(line)) for line in found], found) if found else None
        return self._read[name]


def lines(folder: Path, name: str) -> tuple[str, ...]:
    """The options in `name`.txt: a line each, without blank ones and those that begin with #; none if it can't be read.

    The name is a stranger's: it leads to no file outside the folder, and a pipe by that name keeps nobody waiting.
    """
    parts = name.split("/")
    if not all(part.strip(".") for part in parts):
        return ()
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}.txt")
    try:
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ()
            text = file.read(MAX_FILE).decode("utf-8-sig", errors="replace")
    except (OSError, ValueError):
        return ()
    stripped = (line.strip() for line in clean(text).split("\n"))
    return tuple(line for line in stripped if line and not line.startswith("#"))


def available(folder: Path) -> tuple[str, ...]:
    """The names under which a folder's files can be drawn from, sorted: `name`, or `within/name`; at most MAX_NAMES."""
    found: list[str] = []
    for at, folders, files in os.walk(folder):  # links are not followed: no circles
        folders.sort()
        prefix = Path(at).relative_to(folder).as_posix()
        names = (name.removesuffix(".txt") for name in sorted(files) if name.endswith(".txt"))
        found += [name if prefix == "." else f"{prefix}/{name}" for name in names]
        if len(found) >= MAX_NAMES:
            break
    return tuple(sorted(name for name in found[:MAX_NAMES] if _TOKEN.fullmatch(f"__{name}__")))


def find(text: str) -> bool:
    """Whether `expand` may change anything: there is a group, a wildcard, or an escape of their characters."""
    return ("{" in text or "__" in text or "\\" in text) and _parse(text).any


def unclosed(text: str) -> tuple[Problem, ...]:
    """Braces that would be a group of variants if they were closed."""
    stack: list[tuple[int, bool]] = []
    for token in _TOKEN.finditer(text) if "{" in text else ():
        match token[0]:
            case "{":
                stack.append((token.start(), False))
            case "|" if stack:
                stack[-1] = (stack[-1][0], True)
            case "}" if stack:
                stack.pop()
    message = "no brace closes this one; what stands behind it is text, and no variants"
    return tuple(Problem((start, start + 1), message, "note") for start, barred in stack if barred)


def names(text: str) -> tuple[str, ...]:
    """The wildcards that a text names, in its order."""
    return tuple(token[1] for token in _TOKEN.finditer(text) if token[1]) if "__" in text else ()


def expand(text: str, seed: int, wildcards: Wildcards | None = None) -> Expansion:
    """Draws all variants of a text. Never raises.

    Args:
        text: as typed.
        seed: what is drawn depends on it, on the text and on the files alone.
        wildcards: the files; without, wildcards stay as they are.
    """
    if not find(text):
        return Expansion(text, (), ())
    return _Drawing(seed, wildcards).of(text)


# ------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Wildcard:
    span: Span
    name: str
    typed: str


@dataclass(frozen=True, slots=True)
class _Options:
    """What may be drawn from."""

    items: Sequence[_Node | str]  # a line of a file is read when it is drawn
    sums: Sequence[float] | None  # running sums of the weights; None where all are equal

    def one(self, rng: random.Random) -> int:
        if len(self.items) == 1:
            return 0
        if self.sums is None:
            return int(rng.random() * len(self.items))
        return min(bisect(self.sums, rng.random() * self.sums[-1]), len(self.items) - 1)

    def several(self, rng: random.Random, count: int) -> list[int]:
        """Different ones, as if drawn one after another from those that are left (Efraimidis and Spirakis 2006)."""
        if count == 1:
            return [self.one(rng)]
        if len(self.items) == 1:
            return [0] * count
        drawn = [rng.random() for _ in self.items]
        if self.sums is not None:
            before = [0.0, *self.sums[:-1]]
            weights = [high - low for high, low in zip(self.sums, before, strict=True)]
            # what has no weight comes last, in any order
            drawn = [u ** (1 / w) if w > 1e-9 else u - 1 for u, w in zip(drawn, weights, strict=True)]
        return sorted(range(len(drawn)), key=lambda i: (-drawn[i], i))[:count]


@dataclass(frozen=True, slots=True)
class _Group:
    span: Span
    options: _Options
    low: int | None = None  # None: one, without a count
    high: int | None = None  # None: all
    joiner: str = ", "


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple[_Node, ...]
    any: bool = False  # there is something to draw, or an escape


_Node: TypeAlias = _Text | _Wildcard | _Group | _Sequence


@dataclass(slots=True)
class _Open:
    """A group that is being read, or the whole text."""

    span: Span
    begin: int  # of the option that is being read
    head: _Head | None = None
    items: list[_Node] = field(default_factory=list)
    options: list[_Node] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Head:
    """2$$ or 1-2$$ and $$ at the beginning of a group."""

    end: int
    low: int
    high: int | None
    joiner: str


@lru_cache(maxsize=64)
def _parse(text: str) -> _Sequence:
    """The tree of a text; open braces are a list, not recursion."""
    tokens = list(_TOKEN.finditer(text))
    groups = _groups(text, tokens)
    changed = False
    stack = [_Open((0, len(text)), 0)]
    pos = 0
    for token in tokens:
        here = stack[-1]
        start, end = token.span()
        if start < pos:
            continue  # in the head of a group
        mark = token[0]
        if mark == "{" and start not in groups:
            continue
        if mark == "}" and (len(stack) == 1 or here.span[1] != end):
            continue
        if mark == "|" and (len(stack) == 1 or start not in groups):
            continue
        _text(here, text, pos, start)
        pos = end
        if mark[0] == "\\":
            here.items.append(_Text(mark[1]))
            changed = True
        elif mark == "{":
            close, head = groups[start]
            begin, weight = _weighted(text, head.end if head else end, close)
            stack.append(_Open((start, close + 1), begin, head, weights=[weight]))
            pos = begin
        elif mark == "|":
            _close(here)
            here.begin, weight = _weighted(text, end, here.span[1])
            here.weights.append(weight)
            pos = here.begin
        elif mark == "}":
            _close(here)
            stack.pop()
            options = _offered([(0, w) for w in here.weights], here.options)
            head = here.head
            counted = (head.low, head.high, head.joiner) if head else (None, None, ", ")
            stack[-1].items.append(_Group(here.span, options, *counted))
            changed = True
        else:
            here.items.append(_Wildcard((start, end), token[1], mark))
            changed = True
    _text(stack[-1], text, pos, len(text))
    return _Sequence(tuple(stack[0].items), changed)


def _groups(text: str, tokens: list[re.Match[str]]) -> dict[int, tuple[int, _Head | None]]:
    """Where each group closes, by where it opens, and its head; the bars of groups are keys as well."""
    groups: dict[int, tuple[int, _Head | None]] = {}
    stack: list[tuple[int, list[int]]] = []
    for token in tokens:
        match token[0]:
            case "{":
                stack.append((token.start(), []))
            case "|" if stack:
                stack[-1][1].append(token.start())
            case "}" if stack:
                opened, bars = stack.pop()
                head = _head(text, opened + 1, token.start())
                if bars or head:
                    groups[opened] = (token.start(), head)
                    groups |= dict.fromkeys((bar for bar in bars if head is None or bar >= head.end), (-1, None))
    return groups


def _head(text: str, start: int, close: int) -> _Head | None:
    counted = _COUNT.match(text, start, close)
    if counted is None:
        return None
    exact, low, high = counted.groups()
    end, joiner = counted.end(), ", "
    if found := _JOINER.match(text, end, close):
        end, joiner = found.end(), _ESCAPE.sub(r"\1", found[1])
    if exact is not None:
        return _Head(end, int(exact), int(exact), joiner)
    return _Head(end, int(low) if low else 1, int(high) if high else None, joiner)


def _weighted(text: str, start: int, end: int) -> tuple[int, float]:
    """Where the text of an option begins, and its weight."""
    found = _WEIGHT.match(text, start, end)
    blanks = _BLANKS.match(text, found.end() if found else start, end)
    return (blanks.end() if blanks else start), (float(found[1]) if found else 1.0)


def _text(here: _Open, text: str, start: int, end: int) -> None:
    if start < end:
        here.items.append(_Text(text[start:end]))


def _close(here: _Open) -> None:
    """An option is over: blanks at its end are not of it."""
    if here.items and isinstance(last := here.items[-1], _Text):
        here.items[-1] = _Text(last.text.rstrip())
    here.options.append(_Sequence(tuple(here.items)))
    here.items = []


def _offered(weighed: Sequence[tuple[int, float]], items: Sequence[_Node | str]) -> _Options:
    """Options with their weights; of lines the weight is cut off."""
    weights = [weight for _, weight in weighed]
    items = [item[start:] if isinstance(item, str) else item for item, (start, _) in zip(items, weighed, strict=True)]
    equal = min(weights) == max(weights)
    return _Options(items, None if equal else list(accumulate(weights)))


# ------------------------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True, slots=True)
class _Ends:
    """Here ends what was drawn for a pick, for the file `name`, or both."""

    pick: int
    start: int
    name: str = ""


class _Drawing:
    """Draws one text. What is still to be written is a list, not recursion."""

    def __init__(self, seed: int, wildcards: Wildcards | None) -> None:
        self.rng = random.Random(seed)
        self.wildcards = wildcards
        self.out: list[str] = []
        self.length = 0
        self.draws = 0
        self.sources: list[Span] = []
        self.outputs: list[Span] = []
        self.problems: list[Problem] = []
        self.open: dict[str, None] = {}  # the files that are being drawn from

    def of(self, text: str) -> Expansion:
        # (what to write, the place in the source if it is from a file)
        todo: list[tuple[_Node | _Ends, Span | None]] = [(_parse(text), None)]
        while todo:
            node, origin = todo.pop()
            match node:
                case _Text(said):
                    self.write(said, origin or (0, len(text)))
                case _Sequence(items):
                    todo += [(item, origin) for item in reversed(items)]
                case _Group():
                    todo += self.group(node, origin)
                case _Wildcard():
                    todo += self.wildcard(node, origin)
                case _Ends(pick, start, name):
                    self.open.pop(name, None)
                    if pick >= 0:
                        self.outputs[pick] = (start, self.length)
        drawn = "".join(self.out)
        picks = tuple(Pick(s, o, drawn[slice(*o)]) for s, o in zip(self.sources, self.outputs, strict=True))
        return Expansion(drawn, picks, tuple(sorted(self.problems, key=lambda problem: problem.span)))

    def write(self, text: str, span: Span) -> None:
        room = MAX_LENGTH - self.length
        if len(text) > room:
            self.full(span, f"what is drawn has more than {MAX_LENGTH:,} characters")
            text = text[:room]
        self.out.append(text)
        self.length += len(text)

    def full(self, span: Span, message: str) -> None:
        """Says once that something was left out."""
        message += "; the rest is left out"
        if all(problem.message != message for problem in self.problems[-2:]):
            self.problems.append(Problem(span, message))

    def begin(self, span: Span, origin: Span | None) -> int:
        """A new pick, if it has a place of its own in the source."""
        if origin is not None:
            return -1
        self.sources.append(span)
        self.outputs.append((self.length, self.length))
        return len(self.sources) - 1

    def group(self, node: _Group, origin: Span | None) -> list[tuple[_Node | _Ends, Span | None]]:
        self.draws += 1
        if self.draws > MAX_DRAWS or self.length >= MAX_LENGTH:
            self.full(origin or node.span, f"there are more than {MAX_DRAWS:,} choices")
            return []
        options = node.options
        source = options.items[0]
        name = ""
        place = origin
        if node.low is not None and len(options.items) == 1 and isinstance(source, _Sequence):
            # {2$$__flavours__}: two lines of the file
            only = source.items[0] if len(source.items) == 1 else None
            if isinstance(only, _Wildcard):
                if (found := self.file(only, origin)) is None:
                    return [(_Text(only.typed), origin)]
                options, name, place = found, only.name, origin or only.span
        pick = self.begin(node.span, origin)
        todo: list[tuple[_Node | _Ends, Span | None]] = []
        for i, chosen in enumerate(options.several(self.rng, self.count(node, len(options.items)))):
            if i and node.joiner:
                todo.append((_Text(node.joiner), origin))
            item = options.items[chosen]
            todo.append((_parse(item) if isinstance(item, str) else item, place))
        if name:
            self.open[name] = None
        return [(_Ends(pick, self.length, name), None), *reversed(todo)]

    def count(self, node: _Group, there: int) -> int:
        """How many options to take: never more than there are."""
        if node.low is None:
            return 1
        low = min(node.low, there)
        high = max(low, there if node.high is None else min(node.high, there))
        return low + (int(self.rng.random() * (high - low + 1)) if high > low else 0)

    def wildcard(self, node: _Wildcard, origin: Span | None) -> list[tuple[_Node | _Ends, Span | None]]:
        self.draws += 1
        if self.draws > MAX_DRAWS or self.length >= MAX_LENGTH:
            self.full(origin or node.span, f"there are more than {MAX_DRAWS:,} choices")
            return []
        if (options := self.file(node, origin)) is None:
            return [(_Text(node.typed), origin)]
        pick = self.begin(node.span, origin)
        line = options.items[options.one(self.rng)]
        self.open[node.name] = None
        ends = _Ends(pick, self.length, node.name)
        return [(ends, None), (_parse(line) if isinstance(line, str) else line, origin or node.span)]

    def file(self, node: _Wildcard, origin: Span | None) -> _Options | None:
        """The lines that a wildcard stands for, or None if it stays text."""
        if self.wildcards is None:
            return None
        shown = short(node.typed)
        if node.name in self.open:
            message = f"{shown} leads back to itself; it stays text"
        elif len(self.open) >= MAX_DEPTH:
            message = f"{shown} is more than {MAX_DEPTH} files deep; it stays text"
        elif options := self.wildcards.options(node.name):
            return options
        else:
            message = f"there is no wildcards/{short(node.name)}.txt with lines in the config folder; it stays text"
        problem = Problem(origin or node.span, message)
        if problem not in self.problems[-20:]:
            self.problems.append(problem)
        return None
