"""What the command line prints of the catalogue: tables for people, JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines import schedulers
from engines.catalogue import SHIPPED, Catalogue
from engines.entries import (
    Adapter,
    Checkpoint,
    Embedding,
    Entry,
    FaceDetector,
    FaceRestorer,
    Folder,
    Hub,
    HubFile,
    Local,
    LoraOver,
    Merged,
    Model,
    PreviewDecoder,
    Scorer,
    UnetOver,
    Upscaler,
    Vae,
)
from tui import wording
from tui.clean import one_line
from tui.listing import table
from tui.making import emit

KINDS: dict[type[Entry], str] = {
    Model: "model",
    Adapter: "lora",
    Embedding: "embedding",
    Vae: "vae",
    PreviewDecoder: "preview_decoder",
    Scorer: "scorer",
    Upscaler: "upscaler",
    FaceRestorer: "face_restorer",
    FaceDetector: "face_detector",
}
"What the tables of models.toml are called."


def list_all(catalogue: Catalogue, as_json: bool) -> None:
    """One line an entry: id, whether it is here, recipe, title; models first."""
    if as_json:
        default = catalogue.default_model()
        for entry in catalogue.entries():
            emit(_told(catalogue, entry, default))
        return
    default = catalogue.default_model()
    rows = [("", "MODEL", "HERE", "STEPS", "GUIDANCE", "SIZE", "TITLE")]
    for model in catalogue.models.values():
        r = model.recipe
        rows.append(
            (
                "*" if model is default else "",
                model.id,
                here(catalogue, model),
                str(r.num_inference_steps),
                f"{r.guidance_scale:g}",
                "{}x{}".format(*r.size),
                one_line(model.title),
            )
        )
    table(rows)
    print("\n* is taken when no model is named. safelight models show ID tells more.")
    others: tuple[tuple[str, dict[str, Any]], ...] = (
        ("LoRAs, for --lora NAME:WEIGHT", catalogue.adapters),
        ("Embeddings, used by their names in the prompt", catalogue.embeddings),
        ("VAEs, for --vae", catalogue.vaes),
        ("Scorers, for --scorer", catalogue.scorers),
        ("Upscalers, for --upscale and --hires", catalogue.upscalers),
        ("Faces, for --restore-faces", catalogue.face_restorers),
        ("Face detectors, used by themselves", catalogue.face_detectors),
        ("Preview decoders, used by themselves", catalogue.preview_decoders),
    )
    for heading, entries in others:
        if entries:
            print(f"\n{heading}:")
            table(
                [
                    ("", e.id, here(catalogue, e), _for(e) or _scale(e), one_line(getattr(e, "title", "")))
                    for e in entries.values()
                ]
            )


def here(catalogue: Catalogue, entry: Entry) -> str:
    """'yes', what it takes to have it ('5.1 GB'), or 'no' where it can't be fetched."""
    if not catalogue.missing(entry):
        return "yes"
    if not catalogue.can_be_had(entry):
        return "no"
    size = to_fetch(catalogue, entry)
    return wording.bytes_(size) if size else "can be had"


def to_fetch(catalogue: Catalogue, entry: Entry) -> int:
    """Bytes to download, as the catalogue knows them, for an entry and what it stands on; 0 if it doesn't."""
    sizes = [size for _, size in catalogue.to_get(entry)]
    return sum(sizes) if all(sizes) else 0


def show(catalogue: Catalogue, entry: Entry, as_json: bool) -> None:
    """Everything that the catalogue says of an entry."""
    if as_json:
        emit(_told(catalogue, entry, catalogue.default_model()))
        return
    print(f"{entry.id}: {one_line(getattr(entry, 'title', KINDS[type(entry)].replace('_', ' ')))}")
    if getattr(entry, "about", ""):
        print(f"  {one_line(getattr(entry, 'about', ''))}")
    pairs = [("here", _presence(catalogue, entry)), ("source", source(entry)), ("fits", _for(entry))]
    pairs += [("kind", _scale(entry))]
    pairs += [("licence", entry.licence), ("notice", getattr(entry, "notice", ""))]
    pairs += [("words", getattr(entry, "words", "")), ("card", getattr(entry, "card", ""))]
    if isinstance(entry, Model):
        pairs += _recipe(entry)
    for name, value in pairs:
        if value:
            print(f"  {name:<10} {one_line(value)}")


def source(entry: Entry) -> str:
    """Where an entry comes from, in words."""
    match entry:
        case Model(source=Checkpoint(file=file, like=like)):
            return f"checkpoint {_place(file)}{f', like {like}' if like else ''}"
        case Model(source=UnetOver(base=base, file=file)):
            return f"UNet {_place(file)} over {base}"
        case Model(source=LoraOver(base=base, file=file, weight=weight)):
            return f"LoRA {_place(file)} at {weight:g} over {base}"
        case Model(source=Merged() as mix):
            return f"{mix.told}, mixed in memory"
        case Upscaler(source=file, weak=Local() | HubFile() as weak):
            return f"{_place(file)}, and its pair {_place(weak)}"
        case Adapter(file=file) | Embedding(file=file) | FaceRestorer(file=file) | FaceDetector(file=file):
            return _place(file)
        case _:
            return _place(entry.source)  # type: ignore[arg-type]


def _place(source: Folder | Hub | Local | HubFile) -> str:
    match source:
        case Folder(path=path, variant=variant):
            return f"folder {path}{f' ({variant})' if variant else ''}"
        case Hub(repo=repo, variant=variant):
            return f"{repo}{f' ({variant})' if variant else ''}"
        case Local(path=path):
            return str(path)
        case HubFile(repo=repo, file=file):
            return f"{repo}/{file}"


def _for(entry: Entry) -> str:
    """The family or latents that it fits."""
    return entry.latents if isinstance(entry, Vae) else getattr(entry, "family", "")


def _scale(entry: Entry) -> str:
    """How a scorer makes its numbers: those of one kind can be compared, if at all; how an upscaler works."""
    if isinstance(entry, Upscaler):
        return f"{'diffusion' if entry.kind == 'diffusion' else 'network'}, x{entry.scale}"
    return entry.kind if isinstance(entry, Scorer) else ""


def _presence(catalogue: Catalogue, entry: Entry) -> str:
    missing = catalogue.missing(entry)
    if not missing:
        return "yes"
    if not catalogue.can_be_had(entry):
        return f"no: {missing[0]} is missing"
    size = to_fetch(catalogue, entry)
    return f"no; safelight models pull {entry.id} fetches {wording.bytes_(size) if size else 'it'}"


def _recipe(model: Model) -> list[tuple[str, str]]:
    r = model.recipe
    row = schedulers.find(r.scheduler)
    steps = f"{r.num_inference_steps}{' exactly (distilled)' if r.fixed_steps else ''}"
    guidance = f"{r.guidance_scale:g}{' (off: no negative prompt)' if r.guidance_scale <= 1 else ''}"
    spacing = f", {r.timestep_spacing}" if r.timestep_spacing else ""
    predicts = f", predicts {r.prediction_type}" if r.prediction_type else ""
    return [
        ("steps", steps + _range(r.steps_range)),
        (
            "guidance",
            guidance + ("{:g} to {:g}".format(*r.guidance_range).join((", ", "")) if r.guidance_range else ""),
        ),
        ("scheduler", f"{row.name} ({row.title}){spacing}{predicts}"),
        ("sizes", ", ".join(f"{w}x{h}" for w, h in r.sizes)),
    ]


def _range(limits: tuple[float, float] | None) -> str:
    return f", {limits[0]:g} to {limits[1]:g} by its makers" if limits else ""


def _told(catalogue: Catalogue, entry: Entry, default: Model) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": KINDS[type(entry)],
        "id": entry.id,
        "title": getattr(entry, "title", ""),
        "family": _for(entry),
        "here": not catalogue.missing(entry),
        "can_be_had": catalogue.can_be_had(entry),
        "source": source(entry),
        "licence": entry.licence,
    }
    if not told["here"]:
        told["bytes"] = to_fetch(catalogue, entry) or None
    if isinstance(entry, Model):
        recipe = {**asdict(entry.recipe), "sizes": [list(size) for size in entry.recipe.sizes]}
        told |= {"about": entry.about, "default": entry is default, "notice": entry.notice, "recipe": recipe}
    if isinstance(entry, Scorer):
        told["scorer_kind"] = entry.kind
    if isinstance(entry, Upscaler):
        told |= {"upscaler_kind": entry.kind, "scale": entry.scale, "about": entry.about, "notice": entry.notice}
    return told


def own_files(entry: Entry) -> list[Path]:
    """Files of the user's own that an entry names."""
    source = getattr(entry, "file", None) or entry.source  # type: ignore[union-attr]
    source = getattr(source, "file", source) if not isinstance(source, HubFile) else source
    match source:
        case Local(path=path) if path.is_file() and not path.is_relative_to(SHIPPED.parent):
            return [path]
        case Folder(path=path) if not path.is_relative_to(SHIPPED.parent):
            return sorted(path.rglob("*.safetensors"))
        case _:
            return []
