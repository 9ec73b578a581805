"""Which of the catalogue's models a file belongs to: what tells a family that a file's architecture alone doesn't."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from engines import headers, keys, kinds, layouts, presence
from engines.catalogue import Catalogue
from engines.entries import Checkpoint, Folder, Hub, Model
from engines.errors import CatalogueError, LoadError
from engines.identify import Identified
from engines.keys import Fit

CLIP_WORDS = 49408
"Tokens that CLIP's vocabulary has."
_WORDS = "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight"
SMALL = "sdxl-shaped"
"The architecture of what has SDXL's form and other widths."


def base_of(catalogue: Catalogue, found: Identified, wanted: str = "") -> Model | None:
    """The model that a file stands over or is like: the one that was named, else the first here of its shapes, else the
    first of its architecture that is listed; None if there is none.

    Raises:
        CatalogueError: there is no model of the name that was given.
    """
    if wanted:
        return catalogue.model(wanted)
    rooted = [m for m in catalogue.models.values() if isinstance(m.source, Folder | Hub | Checkpoint)]
    if found.architecture != SMALL:
        return next((m for m in rooted if m.family == found.architecture), None)
    here = (m for m in rooted if not catalogue.missing(m))
    alike = (m for m in here if found.width is None or width(m) == found.width)
    return next((m for m in alike if not _other_shapes(catalogue, found, m, None)[0]), None)


def family(found: Identified, base: Model | None) -> str:
    """The family of what was identified: its architecture's, its base's, or one of its own by its width; empty if that
    can't be told."""
    if found.architecture != SMALL:
        return found.architecture
    if base is not None:
        return base.family
    return f"{SMALL}-{found.width}" if found.kind == "model" and found.width else ""


def like(found: Identified, base: Model | None) -> str:
    """The id of the model whose configurations and tokenizers a checkpoint needs, because it has no text encoder with
    CLIP's own vocabulary; empty if it needs none."""
    if found.kind != "model" or found.header is None or base is None:
        return ""
    rows = found.header.shapes.get(_WORDS, (0,))[0]
    return "" if rows == CLIP_WORDS else base.id


def width(model: Model) -> int | None:
    """Of the text that a model's UNet attends to, from its configuration or header; None if it can't be told."""
    match model.source:
        case Folder() | Hub():
            try:
                told = json.loads((model.source.path / "unet" / "config.json").read_text(encoding="utf-8"))
                found = told.get("cross_attention_dim")
            except (OSError, ValueError, AttributeError):
                return None
            return found if isinstance(found, int) else None
        case Checkpoint(file=file):
            try:
                return int(layouts.unet(headers.read(file.path).shapes)["cross_attention_dim"])
            except (LoadError, KeyError, TypeError, ValueError):
                return None
        case _:
            return None


def fit(catalogue: Catalogue, found: Identified, base: Model) -> Fit | None:
    """How much of a LoRA a model that is here has use for; None if it isn't here, or its files can't be read."""
    if found.header is None or catalogue.missing(base):
        return None
    root = catalogue.chain(base)[-1]
    try:
        parts = dict(_shapes(root))
    except LoadError:
        return None
    if "unet" not in parts:
        return None
    return keys.fits(found.header.shapes, parts["unet"], {k: v for k, v in parts.items() if k.startswith("text")})


def check_fits(found: Identified, fit: Fit, base: Model) -> None:
    """Raises CatalogueError, with both sides named, for a LoRA that a model has no use for."""
    if fit.matched or not fit.total:
        return
    told = f"cross-attention {found.width}" if found.width else found.architecture_title
    raise CatalogueError(
        f"{found.name} is for {found.architecture_title} ({told}); {base.id} is {base.family} "
        f"(cross-attention {width(base) or 'unknown'}), and has none of its {fit.total} layers",
        "name the model that it was made for with --base",
    )


def check_like(catalogue: Catalogue, found: Identified, base: Model, folder: Path | None = None) -> None:
    """Raises CatalogueError, with both sides named, for a model or a UNet of other shapes than the model that it is
    said to be like, or to stand over: it would be listed as of that one's family, and none of its LoRAs would fit.

    Args:
        folder: where `found` is, if it is a folder on this machine.
    """
    if found.kind not in ("model", "unet") or not found.supported:
        return
    theirs = width(catalogue.chain(base)[-1])
    other, of = _other_shapes(catalogue, found, base, folder)
    if base.family in kinds.RUN and base.family != found.architecture:
        told = ""  # the architecture says it, also of a model that is not here
    elif other:
        told = f", and {other} of {of} layers have other shapes"
    elif found.width and theirs and found.width != theirs:
        told = ""
    else:
        return
    raise CatalogueError(
        f"{found.name} is {found.architecture_title} (cross-attention {found.width or 'unknown'}); {base.id} is "
        f"{base.family} (cross-attention {theirs or 'unknown'}){told}",
        "name the model that it was made from with --base, or leave --base out",
    )


def _other_shapes(catalogue: Catalogue, found: Identified, base: Model, folder: Path | None) -> tuple[int, int]:
    """(layers of a model's or a UNet's UNet that differ from a base's, how many it has); zeros where either of them
    isn't here or can't be read."""
    if found.kind not in ("model", "unet") or catalogue.missing(base):
        return 0, 0
    try:
        own = (
            found.header.shapes
            if found.header
            else dict(_folder(folder, found.variant)).get("unet")
            if folder
            else None
        )
        root = dict(_shapes(catalogue.chain(base)[-1])).get("unet")
    except LoadError:
        return 0, 0
    if not own or not root:
        return 0, 0
    ours, theirs = (
        {name: piece.shape(shapes[piece.name]) for name, piece in layouts.pieces("unet", shapes).items()}
        for shapes in (own, root)
    )
    other = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    if found.architecture == SMALL:  # the depths of others are told by their architecture
        other |= ours.keys() ^ theirs.keys()
    return len(other), len(ours)


def _shapes(root: Model) -> Iterator[tuple[str, Mapping[str, tuple[int, ...]]]]:
    """Part → names and shapes of a rooted model's weights."""
    match root.source:
        case Folder() | Hub():
            yield from _folder(root.source.path, root.source.variant)
        case Checkpoint(file=file):
            yield "unet", headers.read(file.path).shapes


def _folder(place: Path, variant: str | None) -> Iterator[tuple[str, Mapping[str, tuple[int, ...]]]]:
    """The same of a folder."""
    for part in ("unet", "text_encoder", "text_encoder_2"):
        files, _ = presence.weights(place / part, variant)
        if files:
            yield part, {n: s for file in files for n, s in headers.read(file).shapes.items()}
