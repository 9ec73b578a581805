"""What is this folder, or this repository of the hub? Told from its files' names and its configurations.

A folder has the headers of its weights read too, for how many numbers they are and of which type. Widths and depths
in a UNet's configuration tell the architecture, as shapes do in a file.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import headers, hints, kinds
from engines.errors import LoadError
from engines.headers import shown
from engines.identified import COMPONENTS, PART_NAMES, PICKLES, Identified, precision

MAX_CONFIG = 4 << 20
"Bytes of a config.json or an index of shards."
_PREFERRED = ("pickscore", "hpsv2")
"In names of CLIP models that were tuned on what people preferred; nothing in their files tells."
_PIPELINES = {
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
    "StableDiffusionPipeline": "sd1",
    "StableDiffusionImg2ImgPipeline": "sd1",
    "StableDiffusionInpaintPipeline": "sd1",
    "StableDiffusionUpscalePipeline": "sd-x4-upscaler",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
}


def folder(place: Path) -> Identified:
    """What a folder in diffusers' or transformers' layout is.

    Raises:
        LoadError: it has no index, its index can't be read, or weights that the index names are missing or damaged.
    """
    files, configs = dict(_walk(place)), {}
    for name in files:
        if name.rpartition("/")[2] in ("model_index.json", "config.json") or name.endswith(".safetensors.index.json"):
            configs[name] = _config(place / name)
    called = next((p for p in reversed(place.parts) if p.startswith("models--")), place.absolute().name)
    found = listing(files, configs, called.rpartition("--")[2])
    weights = _weights(files, configs, found.variant)
    counts: Counter[str] = Counter()
    types: dict[str, str] = {}
    for name in weights:
        header = headers.read(place / name)
        part = name.rpartition("/")[0] or found.kind
        counts[part] += sum(t.count for t in header.tensors.values())
        types[part] = precision(header, part)
    main = types.get("unet") or next(iter(types.values()), "")
    apart = [f"{PART_NAMES.get(part, part)} {value}" for part, value in types.items() if value != main]
    return replace(found, parameters=tuple(counts.items()), precision=", ".join(filter(None, (main, *apart))))


def listing(files: Mapping[str, int], configs: Mapping[str, Mapping[str, Any]], called: str) -> Identified:
    """What a repository is, from its index.

    Args:
        files: name → bytes, of all of its files.
        configs: name → contents, of model_index.json and every config.json that it has.
        called: what people call it.

    Raises:
        LoadError: it has no index, or no weights that can be used.
    """
    name = shown(called)
    index, alone = configs.get("model_index.json"), configs.get("config.json")
    if index is None and alone is None:
        raise LoadError(f"{name} has no model_index.json and no config.json", _instead(files))
    unet = configs.get("unet/config.json", {}) if index is not None else alone or {}
    if index is not None:
        kind, architecture = "model", _of_index(index, configs)
    else:
        kind, architecture = _of_config(alone or {}, name)
    variant = _variant(files, configs, kind)
    weights = _weights(files, configs, variant)
    if not weights:
        pickled = any(f.endswith(PICKLES) for f in files)
        raise LoadError(
            f"{name} has {'pickled weights only' if pickled else 'no weights'}",
            "look for one with .safetensors files, or convert them with safelight models convert" if pickled else
            "download it again",
        )  # fmt: skip
    for shards in (n for n in configs if n.endswith(".safetensors.index.json")):
        _check_shards(files, configs[shards], shards, name)
    width = unet.get("cross_attention_dim")
    prediction = configs.get("scheduler/scheduler_config.json", {}).get("prediction_type")
    why_not = "" if kind == "scorer" else _why_not_folder(kind, architecture)
    found = hints.find(called, (), {})
    if found.prediction_type is None and prediction == "v_prediction":
        found = replace(found, prediction_type=prediction)
        found = replace(found, reasons=(*found.reasons, "v_prediction: its scheduler's configuration says so"))
    return Identified(
        name=name,
        kind=kind,
        architecture=architecture,
        supported=not why_not,
        why_not=why_not,
        precision=variant or "",
        width=width if isinstance(width, int) else None,
        hints=found,
        variant=variant,
        bytes=sum(files[f] for f in weights),
    )


def _why_not_folder(kind: str, architecture: str) -> str:
    if kind in ("controlnet", "unknown", "text_encoder"):
        return f"is a {kind.replace('_', ' ')}; safelight has no use for it" if kind != "unknown" else (
            "is no model that safelight knows"
        )  # fmt: skip
    if kind == "unet":
        return "is a UNet alone; name its .safetensors file"
    if kind == "preview_decoder" and architecture != "flux":
        return ""  # of four channels; its family says whose latents it is for
    return "" if architecture in kinds.RUN else f"is {kinds.TITLES[architecture]}; safelight draws with SDXL models"


def _of_index(index: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> str:
    by_class = _PIPELINES.get(str(index.get("_class_name")), "unknown")
    unet = configs.get("unet/config.json")
    if unet is None:
        return by_class if by_class not in kinds.RUN else "unknown"
    return _of_unet_config(unet) if by_class in ("sdxl", "sd1", "unknown") else by_class


def _of_unet_config(unet: Mapping[str, Any]) -> str:
    """As kinds.of_unet, from a UNet's config.json."""

    def whole(key: str) -> int | None:
        return value if isinstance(value := unet.get(key), int) else None

    channels, layers = unet.get("block_out_channels") or [0], unet.get("transformer_layers_per_block", 1)
    types = unet.get("down_block_types") or []
    per_block = unet.get("layers_per_block", 2)
    depths: list[int] = []
    for i, block in enumerate(types if isinstance(types, list) else []):
        here = layers[i] if isinstance(layers, list) and i < len(layers) else layers
        if "CrossAttn" in str(block):
            depths += here if isinstance(here, list) else [here] * (per_block if isinstance(per_block, int) else 2)
    first = channels[0] if isinstance(channels, list) and channels else 0
    added = whole("projection_class_embeddings_input_dim") if unet.get("addition_embed_type") == "text_time" else None
    return kinds.of_unet(
        kinds.Unet("", False, whole("in_channels") or 4, first, whole("cross_attention_dim"), added, tuple(depths))
    )


def _of_config(config: Mapping[str, Any], name: str) -> tuple[str, str]:
    """(kind, architecture) of a folder with one network."""
    cls = str(config.get("_class_name", ""))
    if cls == "AutoencoderKL":
        if config.get("latent_channels", 4) != 4:
            return "vae", "flux"
        old = config.get("scaling_factor", 0.18215) == 0.18215 and "xl" not in hints.words(name)
        levels = config.get("block_out_channels")
        full = levels == [128, 256, 512, 512]
        return "vae", ("sd1" if old else "sdxl") if full else "sdxl-shaped"
    if cls == "AutoencoderTiny":
        if config.get("latent_channels", 4) != 4:
            return "preview_decoder", "flux"
        plain = hints.words(name)
        levels = config.get("decoder_block_out_channels")
        if levels == [64] * 3:
            return "preview_decoder", "sd-x4-upscaler"
        return "preview_decoder", "sdxl-shaped" if levels != [64] * 4 else "sdxl" if "xl" in plain else "sd1"
    if cls == "UNet2DConditionModel":
        return "unet", _of_unet_config(config)
    if "ControlNet" in cls:
        return "controlnet", "unknown"
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if architecture == "CLIPModel":
        return "scorer", "preference" if any(word in name.lower() for word in _PREFERRED) else "clip"
    if architecture == "AestheticsPredictorV2Linear":
        return "scorer", "aesthetic"
    return ("text_encoder", "clip") if architecture.startswith("CLIPText") else ("unknown", "unknown")


def _variant(files: Mapping[str, int], configs: Mapping[str, Any], kind: str) -> str | None:
    """fp16 where there are such files, None where plain ones are all; half the download, and the same pictures."""
    return next((v for v in ("fp16", "bf16", None) if _weights(files, configs, v)), None)


def _weights(files: Mapping[str, int], configs: Mapping[str, Any], variant: str | None) -> list[str]:
    """The weights files of that variant that the index asks for; none unless every component has its own."""
    index = configs.get("model_index.json")
    parts = [p for p in COMPONENTS if index is None or p in index] if index is not None else [""]
    chosen: list[str] = []
    for part in parts:
        front = re.escape(f"{part}/" if part else "")
        mark = rf"\.{variant}" if variant else ""
        shard = r"(-\d{5}-of-\d{5})?"
        stem = r"(diffusion_pytorch_model|model)"
        pattern = re.compile(rf"{front}{stem}({shard}{mark}|{mark}{shard})\.safetensors")
        own = [f for f in files if pattern.fullmatch(f)]
        if not own:
            return []
        chosen += own
    return chosen


def _check_shards(files: Mapping[str, int], index: Mapping[str, Any], at: str, name: str) -> None:
    listed = index.get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
        raise LoadError(f"{name} is damaged: {at} lists no files", headers.AGAIN)
    front = f"{at.rpartition('/')[0]}/" if "/" in at else ""
    for shard in sorted(set(listed.values())):
        if front + shard not in files:
            raise LoadError(f"{name} is incomplete: {shown(front + shard)} is missing", headers.AGAIN)


def _instead(files: Mapping[str, int]) -> str:
    singles = sorted(f for f in files if f.endswith(".safetensors"))[:3]
    return f"name one of its files, such as {', '.join(map(shown, singles))}" if singles else "name a model's folder"


def _walk(place: Path) -> Iterator[tuple[str, int]]:
    """Name → bytes of the regular files in a folder and the folders in it, links followed."""
    try:
        with os.scandir(place) as entries:
            tops = sorted(entries, key=lambda e: e.name)
        for top in tops:
            if top.is_file():
                yield top.name, top.stat().st_size
            elif top.is_dir() and not top.name.startswith("."):
                with os.scandir(top.path) as entries:
                    yield from ((f"{top.name}/{e.name}", e.stat().st_size) for e in entries if e.is_file())
    except OSError as e:
        raise LoadError(f"{shown(str(place))} can't be read: {e.strerror or e}", "name a folder that is there") from e


def _config(place: Path) -> dict[str, Any]:
    damaged = LoadError(f"{shown(place.parent.name)}/{shown(place.name)} is damaged: it can't be read", headers.AGAIN)
    if headers.check_regular(place) > MAX_CONFIG:
        raise damaged
    try:
        read = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise damaged from None
    if not isinstance(read, dict):
        raise damaged
    return read
