"""The prompt language: compel's weighting syntax, read in one linear pass, with the place of every part.

    word++  word--          ×1.1 for each plus, ×0.9 for each minus
    (phrase)1.3  (phrase)++ a weight for a phrase; nested weights multiply
    "phrase"1.3             the same with quotation marks
    \\( \\) \\" \\, \\. \\+ \\- \\=  the character itself
    ("a", "b").blend(.7, .3)    one conditioning between two; `no_normalize` as the last argument leaves the weights be
    ("a", "b").and(1, .5)       one conditioning after the other
    cat.swap(dog)               read, but not applied
    withLora(name, .8)          read and listed in `Prompt.loras`; whoever makes the request adds it

Nothing raises: what can't be read is text, and a `Problem` says so at its place. docs/prompt.md has the whole grammar
and every difference from compel. No torch here: this module also colours the editor at every key.

`parts` has the values, `grammar` the tokens and what pairs with what, `reader` the one pass.
"""

from __future__ import annotations

from functools import lru_cache

from engines.grammar import BLANKS, UNSAFE, clean, escape, odd_weights, plain_word
from engines.parts import (
    MAX_RATIO,
    MAX_WEIGHT,
    MINUS,
    PLUS,
    Blend,
    Combination,
    Conjunction,
    Emphasis,
    Flat,
    Fragment,
    LoraUse,
    Part,
    Problem,
    Prompt,
    Span,
    Swap,
)
from engines.reader import Reader

__all__ = [
    "MAX_RATIO", "MAX_WEIGHT", "MINUS", "PLUS", "UNSAFE", "Blend", "Combination", "Conjunction", "Emphasis", "Flat",
    "Fragment", "LoraUse", "Part", "Problem", "Prompt", "Span", "Swap", "clean", "escape", "parse", "plain_word",
]  # fmt: skip


@lru_cache(maxsize=16)
def parse(text: str) -> Prompt:
    """Reads a prompt; takes time in proportion to its length, and no depth of nesting is too deep.

    Never raises: malformed syntax is text, and is named in `Prompt.problems`.
    """
    reader = Reader(text)
    tree = reader.whole() or reader.single()
    reader.look_for_controls()
    return Prompt(
        text=text,
        parts=tuple(sorted(reader.parts, key=lambda p: p.span)),
        tree=tree,
        problems=tuple(sorted((*reader.problems, *odd_weights(text)), key=lambda p: p.span)),
        loras=tuple(sorted(reader.loras, key=lambda u: u.span)),
        emphases=tuple(sorted(reader.emphases, key=lambda e: (e.span[0], -e.span[1]))),
        plains=_plains(text, reader.parts, reader.clauses),
        combination=reader.combination,
    )


def _plains(text: str, parts: list[Part], clauses: int) -> tuple[str, ...]:
    """Each clause's words. Where only syntax stood between two parts they are two words, but a comma stays close."""
    said: list[list[str]] = [[] for _ in range(clauses)]
    end = 0
    for part in parts:
        if part.applied:
            words = " ".join(part.text.split())
            apart = words[0] not in ",.;:!?" or BLANKS.search(text, end, part.span[0]) is not None
            said[part.clause].append(f" {words}" if said[part.clause] and apart else words)
            end = part.span[1]
    return tuple("".join(words) for words in said)
