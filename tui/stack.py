"""The stack of LoRAs as the form keeps it: NAME:WEIGHT each, and NAME:WEIGHT:off for one that is switched off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engines.catalogue import Catalogue
from tui.draft import Draft
from tui.fields import exact

OFF = ":off"


@dataclass(frozen=True, slots=True)
class Item:
    """One LoRA of the stack."""

    name: str
    "The catalogue's id, or what was written for one."
    weight: float = 1.0
    "How strongly it is added."
    on: bool = True
    "One that is off keeps its weight and is not asked for."
    odd: str = ""
    "A weight that is no number, as it was written; making a picture tells."

    @property
    def text(self) -> str:
        """As a Draft has it."""
        weight = self.odd or exact(self.weight)
        return f"{self.name}:{weight}{'' if self.on else OFF}"


def read(texts: Sequence[str]) -> tuple[Item, ...]:
    """The stack that a draft names."""
    return tuple(_item(text.strip()) for text in texts)


def _item(text: str) -> Item:
    on = not text.endswith(OFF)
    name, _, weight = text.removesuffix(OFF).partition(":")
    try:
        value = float(weight.replace(",", ".")) if weight.strip() else 1.0
    except ValueError:
        value = math.nan
    return Item(name, value, on) if math.isfinite(value) else Item(name, 1.0, on, weight)


def active(draft: Draft) -> Draft:
    """The draft without the LoRAs that are off: what is made of it."""
    if not any(text.strip().endswith(OFF) for text in draft.loras):
        return draft
    return replace(draft, loras=tuple(text for text in draft.loras if not text.strip().endswith(OFF)))


def unfit(name: str, model: str, catalogue: Catalogue) -> str:
    """Why a LoRA can't be added to a model; empty if it can, and while the model isn't known."""
    adapter, known = catalogue.adapters.get(name), catalogue.models.get(model)
    if adapter is None:
        return "not in the catalogue"
    if known is not None and adapter.family != known.family:
        return f"for {adapter.family}; {known.id} is {known.family}"
    return ""
