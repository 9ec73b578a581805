"""The draft's numbers as sliders: weights and ratios in its prompts, LoRAs that they name, guidance and its rescale.

Text and sliders are two views of one thing: sliders are read from the draft, and moving one is a change of its text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engines import editing
from engines.editing import Edit
from engines.entries import Recipe
from engines.prompt import MAX_RATIO, MAX_WEIGHT, parse
from engines.requests import MAX_GUIDANCE
from tui.draft import Draft
from tui.fields import exact

Field: TypeAlias = Literal["prompt", "negative_prompt", "guidance", "rescale"]
Kind: TypeAlias = Literal["weight", "ratio", "lora", "setting"]
PROMPTS: tuple[Field, ...] = ("prompt", "negative_prompt")
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


def read(draft: Draft, recipe: Recipe | None, settings: bool) -> tuple[Slider, ...]:
    """All sliders of a draft, in the order of the form.

    Args:
        recipe: of its model, for what empty fields stand for; None while no model is known.
        settings: with guidance and rescale.
    """
    guidance = _number(draft.guidance, recipe.guidance_scale if recipe else 1.0)
    unguided = "" if guidance > 1 else f"no effect: guidance is {guidance:g}, it acts only above 1"
    found = _of_text(draft.prompt, "prompt", "") + _of_text(draft.negative_prompt, "negative_prompt", unguided)
    if settings:
        neutral = recipe.guidance_scale if recipe else 1.0
        found.append(
            Slider("guidance", "setting", 0, "guidance", guidance, 0.0, 15.0, neutral, 0.1, 1.0, (0.0, MAX_GUIDANCE))
        )
        rescale = _number(draft.rescale, recipe.guidance_rescale if recipe else 0.0)
        neutral = recipe.guidance_rescale if recipe else 0.0
        found.append(
            Slider("rescale", "setting", 0, "rescale", rescale, 0.0, 1.0, neutral, 0.05, 0.25, (0.0, 1.0), 0, unguided)
        )
    return tuple(found)


def change(draft: Draft, slider: Slider, value: float) -> Edit | str | None:
    """What moving a slider does to its field: an edit of a prompt, or a setting's new text. None where it can't be."""
    value = min(slider.limit[1], max(slider.limit[0], value))
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


def _of_text(text: str, field: Field, idle: str) -> list[Slider]:
    if len(text) > MOST:
        return []
    prompt = parse(text)
    found: list[Slider] = []
    around: list[int] = []
    for place, one in enumerate(prompt.emphases):
        around = [end for end in around if end >= one.span[1]]
        label = " ".join(text[slice(*one.body)].split())
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
    for place, use in enumerate(prompt.loras):
        found.append(
            Slider(
                field, "lora", place, use.name, use.weight, -2, 2, 1, 0.05, 0.25, (-MAX_WEIGHT, MAX_WEIGHT), idle=idle
            )
        )
    return found


def _number(text: str, otherwise: float) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise
