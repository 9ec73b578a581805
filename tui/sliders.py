"""The draft's numbers as sliders: weights and ratios in its prompts, LoRAs that they name, the shares of a mixed model,
guidance and its rescale.

Text and sliders are two views of one thing: sliders are read from the draft, and moving one is a change of its text.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engines import editing
from engines.blocks import REACH
from engines.editing import Edit
from engines.entries import Merged, Model
from engines.errors import InvalidRequest
from engines.limits import MAX_GUIDANCE
from engines.prompt import MAX_RATIO, MAX_WEIGHT, Prompt, Span, parse
from tui import shares
from tui.draft import Draft
from tui.fields import exact

Field: TypeAlias = Literal["prompt", "negative_prompt", "mix", "guidance", "rescale"]
Kind: TypeAlias = Literal["weight", "ratio", "lora", "setting"]
PROMPTS: tuple[Field, ...] = ("prompt", "negative_prompt")
WORDS = 12
"Parts of a prompt that a label is made of."
MOST = 20_000
"Characters of a prompt beyond which it has no sliders."


@dataclass(frozen=True, slots=True)
class Slider:
    """One number that can be moved."""

    field: Field
    "Of the draft."
    kind: Kind
    "What of that field."
    place: int
    "Which of that kind, counted from 0 in the order of the text."
    label: str
    "What it weighs."
    value: float
    "As it stands."
    low: float
    "Where arrows stop, unless it is beyond already."
    high: float
    "The same at the other end."
    neutral: float
    "What it is reset to, and the bar's middle for a weight."
    fine: float
    "How far an arrow moves it."
    coarse: float
    "How far an arrow with Shift moves it."
    limit: tuple[float, float] = (0.0, MAX_WEIGHT)
    "What can be typed."
    depth: int = 0
    "Weights around it."
    idle: str = ""
    "Why it has no effect; empty if it has."

    @property
    def key(self) -> tuple[Field, Kind, int]:
        """What stays the same while it is moved."""
        return self.field, self.kind, self.place

    def moved(self, by: float) -> float:
        """The value that much further, within the ends."""
        low, high = min(self.low, self.value), max(self.high, self.value)
        return round(min(high, max(low, self.value + by)), 4)


def read(draft: Draft, model: Model | None, settings: bool) -> tuple[Slider, ...]:
    """All sliders of a draft, in the order of the form.

    Args:
        model: the draft's, for what empty fields stand for; None while it is not known.
        settings: with guidance, rescale and the shares of a mixed model.
    """
    recipe = model.recipe if model else None
    guidance = number(draft.guidance, recipe.guidance_scale if recipe else 1.0)
    unguided = "" if guidance > 1 else f"no effect: guidance is {guidance:g}, it acts only above 1"
    found = _of_text(draft.prompt, "prompt", "") + _of_text(draft.negative_prompt, "negative_prompt", unguided)
    if settings:
        found += _of_mix(draft, model)
        neutral = recipe.guidance_scale if recipe else 1.0
        found.append(
            Slider("guidance", "setting", 0, "guidance", guidance, 0.0, 15.0, neutral, 0.1, 1.0, (0.0, MAX_GUIDANCE))
        )
        rescale = number(draft.rescale, recipe.guidance_rescale if recipe else 0.0)
        neutral = recipe.guidance_rescale if recipe else 0.0
        found.append(
            Slider("rescale", "setting", 0, "rescale", rescale, 0.0, 1.0, neutral, 0.05, 0.25, (0.0, 1.0), 0, unguided)
        )
    return tuple(found)


def change(draft: Draft, slider: Slider, value: float, model: Model | None = None) -> Edit | str | None:
    """What moving a slider does to its field: an edit of a prompt, or a setting's new text. None where it can't be.

    Args:
        model: the draft's, where the slider is one of its mix.
    """
    value = min(slider.limit[1], max(slider.limit[0], value))
    if slider.field == "mix":
        return _mixed(draft, slider.place, value, model)
    if slider.kind == "setting":
        return "" if abs(value - slider.neutral) < 1e-9 else exact(round(value, 4))
    prompt = parse(getattr(draft, slider.field))
    match slider.kind:
        case "weight" if slider.place < len(prompt.emphases):
            return editing.weigh(prompt, prompt.emphases[slider.place], value)
        case "ratio":
            return editing.combine(prompt, slider.place, value)
        case "lora" if slider.place < len(prompt.loras):
            return editing.weigh_lora(prompt.loras[slider.place], value)
    return None


def remove(draft: Draft, slider: Slider) -> Edit | None:
    """Takes a weight's brackets or signs away; other sliders can't be taken away."""
    prompt = parse(getattr(draft, slider.field)) if slider.kind == "weight" else None
    if prompt is None or slider.place >= len(prompt.emphases):
        return None
    return editing.weigh(prompt, prompt.emphases[slider.place], 1.0, "")


def _of_mix(draft: Draft, model: Model | None) -> list[Slider]:
    """One for every model of a sum but the first, which has what they leave; one for a difference.

    The end of each is where the first has nothing left, so that moving one never moves another.
    """
    if model is None or not isinstance(mix := model.source, Merged):
        return []
    ids = [parent.model for parent in mix.parents]
    values, neutral = _shares(draft, model), _movable(mix)
    if mix.method == "add-difference":
        label, limit = f"{ids[1]} − {ids[2]}", (-REACH, REACH)
        return [Slider("mix", "setting", 0, label, values[0], 0.0, 1.0, neutral[0], 0.05, 0.25, limit)]
    found = []
    for place, value in enumerate(values):
        taken = sum(values) - value
        if place == 1:  # a block's own share of the second model has to have room beside the third
            taken = max(taken, *(share for _, share in mix.blocks)) if mix.blocks else taken
        high = max(value, round(1.0 - taken, 4), 0.0)
        found.append(
            Slider("mix", "setting", place, ids[place + 1], value, 0.0, high, neutral[place], 0.05, 0.25, (0.0, high))
        )
    return found


def _shares(draft: Draft, model: Model) -> tuple[float, ...]:
    """What the sliders of a mix stand at; the catalogue's where the draft's text can't be read."""
    try:
        model = model.mixed(shares.read(draft.mix, model))
    except InvalidRequest:
        pass
    return _movable(model.mix())


def _movable(mix: Merged) -> tuple[float, ...]:
    """The shares that sliders move, of what its weights come to."""
    return mix.formula.factors[1:2] if mix.method == "add-difference" else mix.formula.factors[1:]


def _mixed(draft: Draft, place: int, value: float, model: Model | None) -> str | None:
    """The mix's text with another share at a place; empty for the catalogue's own."""
    if model is None or not isinstance(mix := model.source, Merged):
        return None
    values = list(_shares(draft, model))
    values[place] = value
    neutral = _movable(mix)
    if all(abs(one - other) < 5e-5 for one, other in zip(values, neutral, strict=True)):  # rounded below
        return ""
    if len(values) == 1:
        return exact(round(value, 4))
    return shares.text(shares.beside(tuple(round(one, 4) for one in values)))


def _of_text(text: str, field: Field, idle: str) -> list[Slider]:
    if len(text) > MOST:
        return []
    prompt = parse(text)
    found: list[Slider] = []
    around: list[int] = []
    for place, one in enumerate(prompt.emphases):
        around = [end for end in around if end >= one.span[1]]
        label = _said(prompt, one.body)
        found.append(
            Slider(field, "weight", place, label, one.weight, 0, 2, 1, 0.05, 0.25, depth=len(around), idle=idle)
        )
        around.append(one.span[1])
    if (how := prompt.combination) is not None:
        limit = MAX_RATIO if how.operator == "blend" else MAX_WEIGHT
        for place, weight in enumerate(how.weights):
            label = prompt.plains[place] if place < len(prompt.plains) else ""
            high = 1.0 if how.operator == "blend" and max(how.weights) <= 1 else max(2.0, *how.weights)
            found.append(
                Slider(field, "ratio", place, label, weight, 0, high, 1, 0.05, 0.25, (-limit, limit), idle=idle)
            )
    last = {use.name: place for place, use in enumerate(prompt.loras)}
    for place, use in enumerate(prompt.loras):
        unused = "" if last[use.name] == place else "no effect: it is named again, and what is said last counts"
        unused = "no effect: LoRAs are named in the prompt, not in the negative one" if field != "prompt" else unused
        found.append(
            Slider(
                field,
                "lora",
                place,
                use.name,
                use.weight,
                -2,
                2,
                1,
                0.05,
                0.25,
                (-MAX_WEIGHT, MAX_WEIGHT),
                idle=unused or idle,
            )
        )
    return found


def _said(prompt: Prompt, body: Span) -> str:
    """The words between two places, without the syntax in them; the first few are enough for a label."""
    first = bisect_left(prompt.parts, body[0], key=lambda part: part.span[0])
    inside = itertools.takewhile(lambda part: part.span[0] < body[1], prompt.parts[first : first + WORDS])
    return " ".join(" ".join(part.text for part in inside).split())


def number(text: str, otherwise: float) -> float:
    """What a field says, as far as it says a number; else what its emptiness stands for."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise
