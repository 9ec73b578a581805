"""What a prompt is once it has been read: its parts with weights and places, and the tree that is encoded.

`engines.prompt` reads one, and hands on all of these names.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    number: Span = (0, 0)
    "Of the weight as it is written; empty, in front of the closing bracket, where none is."


@dataclass(frozen=True, slots=True)
class Combination:
    """The .blend(…) or .and(…) of a whole prompt, for an editor that changes its weights."""

    operator: str
    "blend or and."
    arguments: Span
    "What stands between its brackets."
    weights: tuple[float, ...]
    "One for each text, as they are used."
    numbers: tuple[Span, ...]
    "Where they are written; empty if they are not, or can't be used as they are."
    normalize: bool = True
    "As in Blend."


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
    combination: Combination | None = None
    "How the clauses are put together, if there is a .blend() or .and()."

    @property
    def plain(self) -> str:
        """The text without any weighting syntax; clauses of a blend or .and() are joined by commas."""
        return ", ".join(p for p in self.plains if p)
