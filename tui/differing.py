"""What differs between two requests: field by field, and word by word in their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TypeAlias

from engines.requests import Generate
from tui import shares

FIELDS = (
    ("model", "model"), ("seed", "seed"), ("steps", "num_inference_steps"), ("guidance", "guidance_scale"),
    ("rescale", "guidance_rescale"), ("sampler", "scheduler"), ("spacing", "timestep_spacing"), ("VAE", "vae"),
    ("precision", "precision"), ("clip skip", "clip_skip"), ("variation", "variation_strength"),
    ("to seed", "variation_seed"),
)  # fmt: skip
"What it is called, and the field."
MANY = 400
"Words beyond which what differs is one stretch: finding several takes the square of their number."


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two requests have not in common."""

    name: str
    "What it is called."
    before: str
    "Of the first."
    after: str
    "Of the second."


Words: TypeAlias = list[tuple[str, bool]]
"Pieces of a text in order, and whether the other text has them otherwise."


def differences(before: Generate, after: Generate) -> tuple[Difference, ...]:
    """All fields in which two requests differ, but for their prompts, which `words` compares."""
    found = [
        Difference(name, _told(getattr(before, field)), _told(getattr(after, field)))
        for name, field in FIELDS
        if getattr(before, field) != getattr(after, field)
    ]
    sizes = tuple(f"{one.width}x{one.height}" for one in (before, after))
    if sizes[0] != sizes[1]:
        found.append(Difference("size", *sizes))
    if before.mix != after.mix:
        found.append(Difference("mix", *(shares.told(one.mix) or "its own" for one in (before, after))))
    if (before.init, before.strength) != (after.init, after.strength):
        found.append(Difference("over", *map(_begins, (before, after))))
    if before.finish != after.finish:
        steps = (", ".join(step.told for step in r.finish) or "nothing" for r in (before, after))
        found.append(Difference("finish", *steps))
    if before.loras != after.loras:
        loras = [" ".join(f"{x.name}:{x.weight:g}" for x in one.loras) or "none" for one in (before, after)]
        found.append(Difference("LoRAs", *loras))
    return tuple(found)


def _begins(request: Generate) -> str:
    """What a picture begins with."""
    return "noise" if request.init is None else f"{request.init.rpartition('/')[2]} at {request.strength:g}"


def line(before: Generate, after: Generate) -> str:
    """The same with the prompts, as short as it can be told: 'seed 7 → 8 · guidance 4.5 → 6'."""
    told = [f"{one.name} {_short(one.before)} → {_short(one.after)}" for one in differences(before, after)]
    if (before.negative_prompt or None) != (after.negative_prompt or None):
        told.append(f"negative {_changed(before.negative_prompt or '', after.negative_prompt or '')}")
    elif before.negative_prompt != after.negative_prompt:
        told.append(f"blank negative {blank(before)} → {blank(after)}")
    if before.prompt != after.prompt:
        told.append(f"prompt {_changed(before.prompt, after.prompt)}")
    return " · ".join(told) or "the same request"


def blank(request: Generate) -> str:
    """What a negative prompt without words is."""
    return "zeros" if request.negative_prompt is None else "encoded"


def words(before: str, after: str) -> tuple[Words, Words]:
    """Both texts in pieces: words that the other has in the same order, and words that it has not.

    Linear in what is alike at both ends; what is left is compared word by word up to MANY words.
    """
    one, other = before.split(), after.split()
    head, tail = _ends(one, other)
    left, right = one[head : len(one) - tail], other[head : len(other) - tail]
    front, back = one[:head], one[len(one) - tail :]
    few = len(left) + len(right) <= MANY
    whole = ("replace", 0, len(left), 0, len(right))
    pieces = SequenceMatcher(None, left, right, autojunk=False).get_opcodes() if few else [whole]
    told: tuple[Words, Words] = ([], [])
    for side in told:
        _add(side, front, False)
    for kind, a, b, c, d in pieces:
        _add(told[0], left[a:b], kind != "equal")
        _add(told[1], right[c:d], kind != "equal")
    for side in told:
        _add(side, back, False)
    return told


def _ends(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """How many words are alike at the beginning, and of the rest at the end."""
    short = min(len(one), len(other))
    head = next((i for i in range(short) if one[i] != other[i]), short)
    tail = next((i for i in range(short - head) if one[-1 - i] != other[-1 - i]), short - head)
    return head, tail


def _add(side: Words, some: Sequence[str], changed: bool) -> None:
    if some:
        side.append((" ".join(some), changed))


def _told(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


def _changed(one: str, other: str) -> str:
    """The words in which two texts differ, from the first to the last one that does."""
    left, right = one.split(), other.split()
    head, tail = _ends(left, right)
    ends = [" ".join(own[head : len(own) - tail]) or "∅" for own in (left, right)]
    return f"{_short(ends[0])} → {_short(ends[1])}"
