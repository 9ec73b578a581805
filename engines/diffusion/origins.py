"""Where each part of a model comes from: its files, its configuration, and how it is read.

A model is a chain: a folder in diffusers' layout, a checkpoint or a mix at its end, over it perhaps a UNet of its own
and LoRAs. `of` follows it and gives an Origin for every part. Nothing is read from a weights file but its header, and
parts that are equal have equal keys, whichever models they belong to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines import headers, hub, layouts, presence
from engines.catalogue import Catalogue
from engines.diffusion import mixing, single
from engines.diffusion.fusing import Dressed
from engines.diffusion.updates import PARTS
from engines.entries import Checkpoint, Folder, Hub, LoraOver, Merged, Model, UnetOver, Vae
from engines.errors import LoadError, Stopped
from engines.presence import WEIGHTS

SAID = ("transformers_version", "torch_dtype", "dtype", "architectures")
"What configurations say of who saved them, beside what begins with an underscore."
AGAIN = "download the model again"
_KINDS = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
_IN_FILE = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "conditioner.embedders.0.",
    "text_encoder_2": "conditioner.embedders.1.",
}
"How the names of a part's weights begin in a checkpoint."

Read = Callable[[torch.dtype, Callable[[], bool]], Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """One part of a model: a UNet, a VAE or a text encoder."""

    part: str
    "unet, vae, text_encoder or text_encoder_2."
    where: str
    "What it is read from, for messages."
    key: Hashable
    "Equal for parts that are equal: from the files' contents where the hub's cache tells them, else their names and "
    "times; and from the configuration."
    files: tuple[Path, ...]
    "Its weights files, for hashes."
    numbers: int
    "Values in its weights."
    config: dict[str, Any]
    "Its config.json."
    read: Read
    "A fresh module with weights of that type, on the CPU; a mix looks at the second argument, its `stop`."
    mixed: bool = False
    "Made of several models' parts whenever it is read."


@dataclass(frozen=True, slots=True)
class Origins:
    """All parts of one model."""

    unet: Origin
    "The denoiser."
    vae: Origin
    "Between latents and pixels."
    text_encoder: Origin
    "CLIP ViT-L."
    text_encoder_2: Origin
    "OpenCLIP bigG, the one with a pooled embedding."
    tokenizers: tuple[Path | None, Path | None]
    "Folders of the tokenizers; None for the shipped vocabulary."
    scheduler_config: dict[str, Any]
    "scheduler_config.json."
    blank_is_zeros: bool
    "Whether no negative prompt is zeros (`force_zeros_for_empty_prompt`); else it is the encoded empty text."
    adapters: tuple[tuple[Path, float], ...]
    "LoRAs that the model itself is made of, and their weights, in order."

    @property
    def parts(self) -> tuple[Origin, ...]:
        """All of them."""
        return self.text_encoder, self.text_encoder_2, self.unet, self.vae


def of(catalogue: Catalogue, model: Model, vae: Vae | None = None) -> Origins:
    """Where the parts of a model are, with another VAE in place of its own if one is given.

    Raises:
        LoadError: a file is missing, damaged, or holds something else.
    """
    chain = catalogue.chain(model)
    origins = _rooted(catalogue, chain[-1])
    for link in reversed(chain[:-1]):
        match link.source:
            case UnetOver(file=file):
                # LoRAs below a UNet of its own belonged to the one that it replaces
                origins = _with(origins, unet=_unet_file(file.path, origins.unet.config), adapters=())
            case LoraOver(file=file, weight=weight):
                origins = _with(origins, adapters=(*origins.adapters, (file.path, weight)))
    if vae is None and model.vae and not catalogue.missing(catalogue.vae(model.vae)):
        vae = catalogue.vae(model.vae)
    return _with(origins, vae=_vae(vae)) if vae is not None else origins


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises LoadError if it is missing or something else."""
    try:
        headers.check_regular(path)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise LoadError(f"{path} can't be read: {e}", AGAIN) from e
    if not isinstance(value, dict):
        raise LoadError(f"{path} is no configuration", AGAIN)
    return value


def _with(origins: Origins, **changes: Any) -> Origins:
    return replace(origins, **changes)


def _rooted(catalogue: Catalogue, model: Model) -> Origins:
    match model.source:
        case Folder() | Hub():
            return _folder(model.source)
        case Checkpoint():
            return _checkpoint(catalogue, model.source)
        case Merged():
            return _merged(catalogue, model.source)
        case _:
            raise AssertionError(f"{model.id} stands on another model")


# ── folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _folder(source: Folder | Hub) -> Origins:
    path = source.path
    return Origins(
        **{name: _component(path / name, name, source.variant) for name in WEIGHTS},
        tokenizers=(path / "tokenizer", path / "tokenizer_2"),
        scheduler_config=read_json(path / "scheduler" / "scheduler_config.json"),
        blank_is_zeros=bool(read_json(path / "model_index.json").get("force_zeros_for_empty_prompt", True)),
        adapters=(),
    )


def _component(folder: Path, part: str, variant: str | None) -> Origin:
    """One component's folder in diffusers' layout. That it has no weights is told when it is read: a UNet may be
    replaced by another."""
    config = read_json(folder / "config.json")
    files, marked = presence.weights(folder, variant)

    def read(dtype: torch.dtype, stop: Callable[[], bool]) -> Any:
        module = _KINDS[part].from_pretrained(
            folder, dtype=dtype, variant=marked, local_files_only=True, use_safetensors=True
        )
        return module.eval().requires_grad_(False)

    try:
        numbers = sum(_count(file) for file in files)
    except LoadError as e:  # all folders have files of these names
        raise LoadError(f"the {layouts.TITLES[part]} in {folder} can't be used: {e.message}", e.hint) from e
    return Origin(part, str(folder), _key(part, files, config), files, numbers, config, read)


def _vae(vae: Vae) -> Origin:
    match vae.source:
        case Folder() | Hub():
            return _component(vae.source.path, "vae", vae.source.variant)
        case file:
            path = file.path
            header = _header(path, _identity(path))
            config = layouts.vae(header.shapes, path.name)
            numbers = sum(tensor.count for tensor in header.tensors.values())
            key = _key("vae", (path,), config)
            return Origin("vae", str(path), key, (path,), numbers, config, lambda d, _: single.vae_file(path, d))


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _checkpoint(catalogue: Catalogue, source: Checkpoint) -> Origins:
    """One file with everything; what it lacks, and the configurations, are those of the model that it is like."""
    path = source.file.path
    header = _header(path, _identity(path))
    like = of(catalogue, catalogue.model(source.like)) if source.like else None

    def part(name: str) -> Origin:
        inside = {k: t for k, t in header.tensors.items() if k.startswith(_IN_FILE[name])}
        if not inside and like is not None and name != "unet":
            return getattr(like, name)  # type: ignore[no-any-return]
        config = layouts.config(name, header.shapes, path.name) if like is None else getattr(like, name).config
        reading: dict[str, Read] = {
            "unet": lambda d, _: single.unet(path, d, config),
            "vae": lambda d, _: single.vae(path, d, config),
            "text_encoder": lambda d, _: single.text_encoder(path, d, config),
            "text_encoder_2": lambda d, _: single.text_encoder_2(path, d, config),
        }
        numbers = sum(tensor.count for tensor in inside.values())
        return Origin(name, str(path), _key(name, (path,), config), (path,), numbers, config, reading[name])

    return Origins(
        **{name: part(name) for name in WEIGHTS},
        tokenizers=like.tokenizers if like is not None else (None, None),
        scheduler_config=like.scheduler_config if like is not None else layouts.scheduler(header.shapes),
        blank_is_zeros=like.blank_is_zeros if like is not None else True,
        adapters=(),
    )


def _unet_file(path: Path, config: dict[str, Any]) -> Origin:
    header = _header(path, _identity(path))
    numbers = sum(tensor.count for tensor in header.tensors.values())
    key = _key("unet", (path,), config)
    return Origin("unet", str(path), key, (path,), numbers, config, lambda d, _: single.unet_file(path, d, config))


# ── mixes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _merged(catalogue: Catalogue, source: Merged) -> Origins:
    """The first parent, each of its parts mixed with the others'."""
    parents = [of(catalogue, catalogue.model(parent.model)) for parent in source.parents]
    formula = source.formula
    how = (formula.method, formula.factors, formula.blocks)

    def part(name: str) -> Origin:
        own: list[Origin] = [getattr(parent, name) for parent in parents]
        worn = tuple(parent.adapters if name in PARTS else () for parent in parents)
        of_what = tuple((origin.key, a) for origin, a in zip(own, worn, strict=True))
        # a sum of equals, or no difference: held once with the first
        if not worn[0] and len(set(of_what[1:] if formula.method == "add-difference" else of_what)) == 1:
            return own[0]

        def read(dtype: torch.dtype, stop: Callable[[], bool]) -> Any:
            # all parents are in memory while they are mixed: to_file does with one tensor at a time
            modules = []
            for origin, adapters in zip(own, worn, strict=True):
                if stop():
                    raise Stopped
                modules.append(_dressed(origin, adapters, dtype, stop))
            mixing.mix(modules[0], name, modules[1:], formula, stop)
            return modules[0]

        files = tuple(dict.fromkeys(file for origin in own for file in origin.files))
        key = (name, "merged", how, of_what)
        return Origin(name, " and ".join(x.where for x in own), key, files, own[0].numbers, own[0].config, read, True)

    first = parents[0]
    return _with(first, **{name: part(name) for name in WEIGHTS}, adapters=())


def _dressed(
    origin: Origin, adapters: tuple[tuple[Path, float], ...], dtype: torch.dtype, stop: Callable[[], bool]
) -> Any:
    module = origin.read(dtype, stop)
    if adapters and origin.part in PARTS:
        Dressed(module, origin.part).wear(adapters)
    return module


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def tokenizers(origins: Origins) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """Both tokenizers, from the model's folders or the shipped vocabulary."""
    first, second = origins.tokenizers
    if first is None or second is None:
        return single.tokenizers()
    return (
        CLIPTokenizer.from_pretrained(first, local_files_only=True),
        CLIPTokenizer.from_pretrained(second, local_files_only=True),
    )


def vocabulary(origins: Origins) -> Hashable:
    """What tells tokenizers apart: their files' contents."""
    return tuple(
        "shipped" if folder is None else tuple(_contents(file, _identity(file)) for file in sorted(folder.glob("*.*")))
        for folder in origins.tokenizers
    )


@lru_cache(maxsize=64)
def _contents(file: Path, identity: Hashable) -> str:
    return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _count(file: Path) -> int:
    """Values in a file's tensors."""
    return sum(tensor.count for tensor in _header(file, _identity(file)).tensors.values())


@lru_cache(maxsize=64)
def _header(file: Path, identity: Hashable) -> headers.Header:
    """A header, read once for each state of its file: a model's five take 10 ms each time."""
    return headers.read(file)


def _key(part: str, files: tuple[Path, ...], config: dict[str, Any]) -> Hashable:
    told = {k: v for k, v in config.items() if not k.startswith("_") and k not in SAID}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return (part, tuple(_identity(file) for file in files), digest)


def _identity(file: Path) -> Hashable:
    """What tells a file's contents: its hash where the hub's cache knows it, else its place, size and time."""
    if known := hub.sha256_of(file):
        return known
    try:
        found = file.stat()
    except OSError as e:
        raise LoadError(f"{file} can't be read: {e.strerror or e}", AGAIN) from e
    return (str(file.resolve()), found.st_size, found.st_mtime_ns)
