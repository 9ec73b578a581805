"""What of the catalogue is on this machine, what can be had, and what fits into its memory.

It looks on the disk: whoever draws a screen asks in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from engines import planning
from engines.catalogue import Catalogue
from engines.entries import Checkpoint, Entry, Folder, Hub, HubFile, Local, Merged, Model
from engines.errors import SafelightError
from engines.events import Vitals
from engines.presence import WEIGHTS
from tui.wording import bytes_

_PLAIN = re.compile(r"(?:diffusion_pytorch_model|model)(?:-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True, slots=True)
class Device:
    """What a model has to fit into."""

    kind: planning.Kind
    "As in engines.planning."
    total: int
    "Bytes; of main memory on a CPU."

    @classmethod
    def of(cls, vitals: Vitals) -> Device | None:
        """The device that an engine tells of, once its memory is known."""
        word = re.split(r"[\s:,]", vitals.device, maxsplit=1)[0]
        kinds: dict[str, planning.Kind] = {"cuda": "cuda", "mps": "mps", "cpu": "cpu"}
        kind = kinds.get(word)
        return cls(kind, vitals.memory_total) if kind and vitals.memory_total else None


@dataclass(frozen=True, slots=True)
class Having:
    """How an entry stands."""

    here: bool
    "All of it is on this machine."
    can_be_had: bool
    "What is missing can be fetched."
    bytes: int = 0
    "To download; 0 if the catalogue doesn't say."
    gone: str = ""
    "The name of the first file that is missing."
    fit: str = ""
    "Whether it fits into the device's memory, in words; empty where that can't be told."

    @property
    def told(self) -> str:
        """'here', '6.9 GB to get', 'to get', 'no: unet.safetensors missing'."""
        if self.here:
            return "here"
        if self.can_be_had:
            return f"{bytes_(self.bytes)} to get" if self.bytes else "to get"
        return f"no: {self.gone} missing"

    @property
    def place(self) -> int:
        """Where it is listed: what is here, what can be had, the rest."""
        return 0 if self.here else 1 if self.can_be_had else 2


Stock: TypeAlias = Mapping[str, Having]
"By id, of one kind of entry."


@dataclass(frozen=True, slots=True)
class Stocks:
    """What is known of everything that can be picked."""

    models: Stock
    "Models."
    adapters: Stock
    "LoRAs."
    embeddings: Stock
    "Embeddings."
    vaes: Stock
    "VAEs."


NOTHING = Stocks({}, {}, {}, {})
"Before anyone has looked."


@dataclass(frozen=True, slots=True)
class Bill:
    """What a download is, for the question before it."""

    items: tuple[tuple[str, int], ...]
    "(title, bytes) of each entry that is fetched; 0 bytes if the catalogue doesn't say."
    licences: tuple[str, ...]
    "Each once."
    notices: tuple[str, ...]
    "'SDXL Turbo: …', a licence that binds."


def look(catalogue: Catalogue, entry: Entry, device: Device | None = None) -> Having:
    """How one entry stands."""
    fit = fits(catalogue, entry, device) if isinstance(entry, Model) and device else ""
    missing = catalogue.missing(entry)
    if not missing:
        return Having(True, True, fit=fit)
    sizes = [size for _, size in catalogue.to_get(entry)]
    to_fetch = sum(sizes) if all(sizes) else 0
    return Having(False, catalogue.can_be_had(entry), to_fetch, missing[0].name, fit)


def look_at_all(catalogue: Catalogue, device: Device | None) -> Stocks:
    """How everything stands that can be picked in the workbench."""
    kinds = (catalogue.models, catalogue.adapters, catalogue.embeddings, catalogue.vaes)
    models, adapters, embeddings, vaes = (
        {id: look(catalogue, entry, device) for id, entry in kind.items()} for kind in kinds
    )
    return Stocks(models, adapters, embeddings, vaes)


def bill(catalogue: Catalogue, entries: Iterable[Entry], told: Iterable[str] = ()) -> Bill:
    """What has to be fetched for entries to be here, notices but those `told` (ids) already."""
    sizes: dict[tuple[type[Entry], str], tuple[Entry, int]] = {}
    for one, size in (pair for entry in entries for pair in catalogue.to_get(entry)):
        before = sizes.get((type(one), one.id), (one, 0))[1]
        sizes[type(one), one.id] = one, max(size, before)  # a base by itself has its UNet, too
    lacking = [one for one, _ in sizes.values()]
    known = set(told)
    notices = [(one, getattr(one, "notice", "")) for one in lacking if one.id not in known]
    return Bill(
        tuple((getattr(one, "title", "") or one.id, size) for one, size in sizes.values()),
        tuple(dict.fromkeys(one.licence for one in lacking if one.licence)),
        tuple(f"{getattr(one, 'title', one.id)}: {notice}" for one, notice in notices if notice),
    )


def fits(catalogue: Catalogue, model: Model, device: Device) -> str:
    """'fits', 'fits with offload', 'too large for this GPU'; empty where the model's size is not known."""
    if not (whole := weights(catalogue, model)):
        return ""
    match planning.fits(whole, device.total, *model.recipe.size, device.kind):
        case "whole":
            return "fits"
        case "with offload":
            return "fits with offload"
        case _:
            return f"too large for this {'GPU' if device.kind == 'cuda' else 'machine'}"


def weights(catalogue: Catalogue, model: Model) -> int:
    """Bytes of all components of a model, about: those that a UNet over it takes the place of are as large."""
    try:
        root = catalogue.chain(model)[-1]
    except SafelightError:
        return 0
    match root.source:
        case Merged(parents=parents):
            return weights(catalogue, catalogue.model(parents[0].model))
        case Checkpoint(file=file):
            return _file(file)
        case Hub() if root.bytes:
            return root.bytes
        case Folder() | Hub():
            return _folder(root.source)
        case _:
            return 0


def _file(file: Local | HubFile) -> int:
    try:
        return getattr(file, "bytes", 0) or file.path.stat().st_size
    except OSError:
        return 0


def _folder(folder: Folder | Hub) -> int:
    """Bytes of the weights of a folder in diffusers' layout, of its variant only."""
    whole = 0
    for name in WEIGHTS:
        try:
            files = [f for f in (folder.path / name).iterdir() if f.suffix == ".safetensors"]
            mark = f".{folder.variant}"
            chosen = [f for f in files if (mark in f.name if folder.variant else _PLAIN.fullmatch(f.name))]
            whole += sum(f.stat().st_size for f in chosen)
        except OSError:
            continue
    return whole
