"""What the lists of the workbench offer beside models: LoRAs, embeddings, VAEs and precisions for the picked model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engines.catalogue import Catalogue
from engines.entries import Adapter, Embedding, Vae
from engines.requests import PRECISIONS
from tui import stack
from tui.draft import Draft
from tui.offers import Offer
from tui.stock import Having, Stock

_ABOUT: Mapping[str, str] = {
    "auto": "the device's best; UNet stored in fp8 only where memory is short",
    "fp16": "half precision; the usual one on a GPU",
    "bf16": "half precision with the range of fp32 and fewer digits",
    "fp32": "twice the memory, and slower on a GPU",
    "fp8": "the UNet's weights in eight bits: half their memory",
}


def loras(catalogue: Catalogue, draft: Draft, stock: Stock) -> list[Offer]:
    """The LoRAs of the model's family, those that are here first."""
    model = catalogue.models.get(draft.model)
    there = {item.name for item in stack.read(draft.loras)}
    fitting = [a for a in catalogue.adapters.values() if model is not None and a.family == model.family]
    offers = [_offer(a, stock.get(a.id), a.words, "in the stack" if a.id in there else "") for a in fitting]
    return _sorted(offers, stock)


def embeddings(catalogue: Catalogue, draft: Draft, stock: Stock) -> list[Offer]:
    """The embeddings of the model's family, those that are here first."""
    model = catalogue.models.get(draft.model)
    fitting = [e for e in catalogue.embeddings.values() if model is not None and e.family == model.family]
    return _sorted([_offer(e, stock.get(e.id)) for e in fitting], stock)


def vaes(catalogue: Catalogue, draft: Draft, stock: Stock) -> list[Offer]:
    """The model's own VAE, then those that decode its latents; empty if there is no other."""
    model = catalogue.models.get(draft.model)
    fitting = [v for v in catalogue.vaes.values() if model is not None and v.latents == model.space]
    if not fitting and not draft.vae:
        return []
    own = catalogue.vaes.get(model.vae) if model is not None and model.vae else None
    first = Offer("", "the model's own", own.title if own else "as the model came")
    return [first, *_sorted([_offer(v, stock.get(v.id)) for v in fitting], stock)]


def precisions() -> list[Offer]:
    """All of them, in words."""
    return [Offer(name, name, _ABOUT.get(name, "")) for name in PRECISIONS]


def syntaxes() -> list[Offer]:
    """The dialects of prompts, in words."""
    return [
        Offer("compel", "compel", "word++ word-- (some words)1.3, blends; what may be meant otherwise is told"),
        Offer("a1111", "A1111", "(some words:1.3) ((word)) [word] <lora:name:0.8>, translated for the picture"),
    ]


def word(name: str) -> str:
    """How an embedding is named in a prompt: bare, or in <> where its end would be read as a weight."""
    return name if re.fullmatch(r"\w(?:[\w.-]*\w)?", name) and "--" not in name else f"<{name}>"


def _offer(entry: Adapter | Embedding | Vae, having: Having | None, remark: str = "", note: str = "") -> Offer:
    reason = having.told if having is not None and having.place == 2 else ""
    note = note or (having.told if having is not None and not reason else "")
    return Offer(entry.id, entry.id, entry.title, reason, note, f"words: {remark}" if remark else "")


def _sorted(offers: list[Offer], stock: Stock) -> list[Offer]:
    return sorted(offers, key=lambda o: stock[o.value].place if o.value in stock else 0)
