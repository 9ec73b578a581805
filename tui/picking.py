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
from tui.wording import bytes_

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


def upscalers(catalogue: Catalogue) -> list[Offer]:
    """Those that are here, the best first, each by its own factor, and half of it where that is a size one may want;
    the disk is asked."""
    here = [entry for entry in catalogue.upscalers.values() if not catalogue.missing(entry)]
    offers = []
    for entry in sorted(here, key=lambda entry: -entry.rank):
        offers.append(Offer(f"upscale {entry.id} x{entry.scale}", f"{entry.title}, {entry.scale} times", entry.about))
        if entry.scale > 2 and entry.kind == "diffusion":
            less = "made half as large first: a third of the work"
            offers.append(Offer(f"upscale {entry.id} x2 shrink=0.5", f"{entry.title}, 2 times", less))
        elif entry.scale > 2:
            offers.append(Offer(f"upscale {entry.id} x2", f"{entry.title}, 2 times", "made smaller at the end"))
    return offers


def strengths() -> list[Offer]:
    """How much of a picture to begin with is drawn anew, in words."""
    told = {
        "0.2": "its colours and edges stay; textures change",
        "0.35": "a little",
        "0.5": "half of the way: shapes begin to move",
        "0.65": "the layout stays",
        "0.8": "nearly another picture",
    }
    return [Offer("", "off", "begin with noise alone"), *(Offer(name, name, text) for name, text in told.items())]


def finishes(catalogue: Catalogue, now: str = "") -> list[Offer]:
    """What may be done to every picture when it is drawn: what is done `now` first, then what can be done at once, then
    what is fetched if one of it is drawn. The disk is asked."""
    larger = [offer.value for offer in upscalers(catalogue)]
    faces = any(not catalogue.missing(entry) for entry in catalogue.face_restorers.values())
    texts = ["hires x1.5 0.4", "hires x2 0.4", *(["faces 0.8"] if faces else []), *larger]
    texts += [f"hires x2 0.4, {'faces 0.8, ' if faces else ''}{one}" for one in larger[:1]]
    offers = [Offer(text, text) for text in dict.fromkeys(texts)]
    away = [(entry, f"upscale {entry.id}") for entry in catalogue.upscalers.values()]
    away += [(entry, f"faces {entry.id} 0.8") for entry in catalogue.face_restorers.values()]  # type: ignore[misc]
    for entry, text in away:
        if catalogue.missing(entry) and catalogue.can_be_had(entry):
            size = sum(size for _, size in catalogue.to_get(entry))
            offers.append(Offer(text, text, entry.title, note=f"not here{f', {bytes_(size)}' if size else ''}"))
    if now and now not in [offer.value for offer in offers]:
        offers.insert(0, Offer(now, now, "as it is now"))
    return [Offer("", "nothing", "the picture as it is drawn"), *offers]
