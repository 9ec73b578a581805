"""One picture at several strengths of its guidance: drafts of one seed that differ in one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from engines.entries import Recipe
from engines.errors import InvalidRequest
from engines.limits import MAX_GUIDANCE
from tui import fields
from tui.draft import Asked, Draft

Field: TypeAlias = Literal["guidance", "rescale"]

HIGHEST: dict[Field, float] = {"guidance": MAX_GUIDANCE, "rescale": 1.0}
"The most that each may be."
RESCALES = (0.0, 0.25, 0.5, 0.7, 1.0)
"0.7 is what the rescale's authors take (arXiv:2305.08891, section 3.4)."
MOST = 100
"Values of one series."


def numbers(field: Field, text: str) -> tuple[float, ...]:
    """The numbers of a text such as '3, 5, 7.5'. Raises InvalidRequest, which names the field."""
    pieces = [piece for piece in text.split(",") if piece.strip()]
    if not 1 <= len(pieces) <= MOST:
        raise InvalidRequest(
            f"a {field} series takes 1 to {MOST} numbers with commas between them, not {len(pieces)}",
            "for instance 3,5,7",
            field,
        )
    return tuple(fields.number(field, piece, 0, HIGHEST[field], 0) for piece in pieces)


def default_values(draft: Draft, recipe: Recipe, field: Field) -> tuple[float, ...]:
    """Five values that show what a field does to this draft.

    Of the guidance: evenly over the range that the model's makers name and what is typed; where they name none, from
    half to one and a half of what is typed, else of the recipe's. All of them act: none is below 1.

    Raises:
        InvalidRequest: the guidance is off, as a distilled model wants it, so that all five would be one picture.
    """
    asked = fields.number("guidance", draft.guidance, 0, MAX_GUIDANCE, recipe.guidance_scale)
    if asked <= 1 and (field == "rescale" or recipe.guidance_scale <= 1):
        whose = "this model was distilled without it" if recipe.guidance_scale <= 1 else f"it is {asked:g}"
        raise InvalidRequest(
            f"guidance does nothing here: {whose}, and it acts only above 1, as its rescale does",
            "name values above 1, or take a model that is drawn with guidance",
            field,
        )
    if field == "rescale":
        return RESCALES
    middle = asked if asked > 1 else recipe.guidance_scale
    limits = recipe.guidance_range
    if limits is None or limits[1] <= 1:
        limits = middle / 2, middle * 1.5
    low, high = max(min(limits[0], middle), 1.0), min(max(limits[1], middle), MAX_GUIDANCE)
    if high - low < 0.25:  # a range of one number shows nothing
        low, high = max(low * 0.75, 1.0), min(high * 1.25, MAX_GUIDANCE)
    return tuple(round(low + (high - low) * i / 4, 2) for i in range(5))


def seeded(draft: Draft, asked: Asked) -> Draft:
    """The draft with the seeds that it was read with, so that it means the same when it is read again."""
    one = asked.requests[0]
    varied = "" if one.variation_seed is None else str(one.variation_seed)
    return replace(draft, seed=str(one.seed), variation_seed=varied)


def spread(draft: Draft, field: Field, values: Sequence[float]) -> tuple[Draft, ...]:
    """A draft of one picture for each value, in their order; nothing else differs.

    Raises:
        InvalidRequest: the draft has no seed, and each would have one of its own (`seeded` gives it one).
    """
    if not draft.seed.strip():
        raise InvalidRequest("a series is of one seed, and none is named", "name a seed", "seed")
    one = replace(draft, count="1", batch="")
    texts = [fields.exact(value) for value in values]
    if field == "guidance":
        return tuple(replace(one, guidance=text) for text in texts)
    return tuple(replace(one, rescale=text) for text in texts)
