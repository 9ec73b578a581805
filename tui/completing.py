"""What name is being typed at the cursor of a prompt, and which LoRAs, embeddings and wildcards begin like it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engines.catalogue import Catalogue
from tui import picking
from tui.draft import Draft
from tui.offers import Offer
from tui.stock import Stocks

Kind: TypeAlias = Literal["lora", "a1111-lora", "embedding", "wildcard"]

BEHIND = 240
"Characters before the cursor that are looked at."
LEAST = 2
"Letters of a bare word with which embeddings are offered."
MOST = 50
"Names that are offered at once."
_OPENINGS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("lora", re.compile(r"(?:with|use)Lora\(\s*([^\s,()]*)$")),
    ("a1111-lora", re.compile(r"<lora:([^\s:<>]*)$")),
    ("wildcard", re.compile(r"(?<!\w)__((?:[^\W_]|_(?!_)|[./*-])*)$")),
    ("embedding", re.compile(r"<([^\s<>:]*)$")),
    ("embedding", re.compile(r"(?<![\w.-])embedding:([\w.-]*)$", re.IGNORECASE)),
    ("embedding", re.compile(rf"(?<![\w.-])(\w[\w.-]{{{LEAST - 1},}})$")),
)
"What stands before the cursor where a name is typed, the name in a group."


@dataclass(frozen=True, slots=True)
class Wish:
    """A name that is being typed."""

    kind: Kind
    "What it will name."
    typed: str
    "What there is of it."
    span: tuple[int, int]
    "Where in the text the finished name goes."
    closed: bool
    "Whether what ends it stands behind the cursor already."


def wish(text: str, place: int) -> Wish | None:
    """What is being typed before a place in a text; None where no name is, or within a word."""
    after = text[place : place + 2]
    if after[:1].isalnum():
        return None
    line = text[max(0, place - BEHIND) : place]
    for kind, opening in _OPENINGS:
        if found := opening.search(line):
            start = place - len(line) + (found.start(1) if kind != "embedding" else found.start())
            ends = {"lora": (")", ","), "a1111-lora": (":", ">"), "wildcard": ("__",), "embedding": ()}[kind]
            return Wish(kind, found[1], (start, place), after.startswith(ends))
    return None


def offers(wish: Wish, catalogue: Catalogue, draft: Draft, stocks: Stocks, wildcards: Iterable[str]) -> list[Offer]:
    """What can be taken for a wish, best first; the value of each is what is written in place of its span.

    Args:
        wildcards: the names of the files there are.
    """
    match wish.kind:
        case "lora" | "a1111-lora":
            end = "" if wish.closed else ")" if wish.kind == "lora" else ":1>"
            able = [o for o in picking.loras(catalogue, draft, stocks.adapters) if not o.reason]
            named = [(offer.value, offer.value + end, offer.note or offer.detail) for offer in able]
        case "embedding":
            able = [o for o in picking.embeddings(catalogue, draft, stocks.embeddings) if not o.reason]
            named = [(offer.value, picking.word(offer.value), offer.note or "embedding") for offer in able]
        case "wildcard":
            end = "" if wish.closed else "__"
            named = [(name, name + end, "") for name in wildcards]
    return _fitting(wish, named)


def _fitting(wish: Wish, named: Sequence[tuple[str, str, str]]) -> list[Offer]:
    """Names that begin as typed, then those that have it somewhere; one that is whole already is none."""
    typed = wish.typed.lower()
    bare = wish.kind == "embedding" and not wish.span[1] - wish.span[0] > len(wish.typed)
    begin, within = [], []
    for one in named:
        name = one[0].lower()
        if one[0] == wish.typed and (wish.closed or bare):
            continue
        if name.startswith(typed):
            begin.append(one)
        elif not bare and typed in name:
            within.append(one)
    found = [*begin, *within]
    return [Offer(value, name, note=note) for name, value, note in found[:MOST]]
