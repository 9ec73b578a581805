"""What is this file? Told from the header of a .safetensors file, a folder's listing or a hub repository's index.

Shapes tell the architecture. How many steps a model was distilled for and what it predicts leave no trace in them:
that comes from a known sha256, the file's metadata, marker tensors or its name (engines.hints), and the reason is told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engines import headers, hints, hub, keys, kinds
from engines.errors import LoadError
from engines.headers import Header, shown
from engines.identified import COMPONENTS, PICKLES, Identified, precision
from engines.indexes import folder, listing

__all__ = ["COMPONENTS", "PICKLES", "Identified", "file", "folder", "listing", "of_header", "path", "precision"]

_FAMILY_FILES = ("model", "diffusion_pytorch_model", "pytorch_lora_weights", "pytorch_model")
"Names of files that say nothing; the folder's or the repository's is taken."


def path(place: Path, known: Mapping[str, str] | None = None) -> Identified:
    """What a file or folder is. Raises LoadError as `file` and `folder` do."""
    try:
        is_folder = place.is_dir()
    except (OSError, ValueError):
        is_folder = False
    return folder(place) if is_folder else file(place, known)


def file(place: Path, known: Mapping[str, str] | None = None) -> Identified:
    """What a .safetensors file is.

    Args:
        place: of the file.
        known: sha256 → id of an entry, for files whose sha256 the hub's cache knows.

    Raises:
        LoadError: it can't be read, is damaged, or no safetensors file; one line, and nothing but its header was read.
    """
    if place.suffix.lower() in PICKLES:
        headers.check_regular(place)
        raise LoadError(
            f"{shown(place.name)} is a pickled file, which may run code when it is read",
            f"safelight models convert {shown(place.name)} makes a .safetensors file of it",
        )
    header = headers.read(place)
    found = of_header(header, _called(place))
    sha256 = hub.sha256_of(place)
    return replace(found, sha256=sha256, known=(known or {}).get(sha256, "") if sha256 else "")


def of_header(header: Header, called: str) -> Identified:
    """What a file with that header is; `called` is the name that may tell of a distillation."""
    shapes = header.shapes
    kind = kinds.of(shapes)
    width = kind.width
    found = hints.find(called, shapes, header.metadata)
    metadata = header.metadata
    architecture = _named(kind, called, metadata)
    sound = kind.scale or kind.kind == "face_restorer"
    why_not = "" if sound else _why_not(kind.kind, architecture, header)
    return Identified(
        name=shown(header.path.name),
        kind=kind.kind,
        architecture=architecture,
        supported=not why_not,
        why_not=why_not,
        precision=precision(header, kind.kind),
        parameters=_parameters(header, kind.kind),
        width=width,
        scale=kind.scale,
        hints=found,
        title=hints.told(metadata, "modelspec.title", "ss_output_name"),
        author=hints.told(metadata, "modelspec.author"),
        licence=hints.told(metadata, "modelspec.license", "license"),
        words=hints.told(metadata, "modelspec.trigger_phrase", "trigger_words"),
        base=hints.told(metadata, "ss_base_model_version", "modelspec.architecture"),
        bytes=header.size,
        header=header,
    )


def _named(kind: kinds.Kind, called: str, metadata: Mapping[str, str]) -> str:
    """The architecture, where shapes alone leave it open."""
    said = f"{metadata.get('ss_base_model_version', '')} {metadata.get('modelspec.architecture', '')}".lower()
    if kind.kind == "vae" and kind.architecture == "sdxl":  # SD 1's VAE has the same shapes
        plain = hints.words(called)
        if re.search(r"(?<![a-z])(mse|ema|kl f8|ft mse|sd ?(v)?[12] ?[.\d]*|840000|560000)(?![a-z])", plain):
            return "sd1" if "xl" not in plain else "sdxl"
    if kind.kind == "lora" and kind.architecture == "unknown":
        for word, architecture in (
            ("sdxl", "sdxl"), ("xl-v1", "sdxl"), ("sd_v1", "sd1"), ("diffusion-v1", "sd1"), ("sd_v2", "sd2"),
            ("diffusion-v2", "sd2"), ("sd3", "sd3"), ("flux", "flux"),
        ):  # fmt: skip
            if word in said:
                return architecture
    return kind.architecture


def _why_not(kind: str, architecture: str, header: Header) -> str:
    """Why a file can't be used, as the rest of a sentence that begins with its name; empty if it can."""
    title = kinds.TITLES[architecture]
    if kind in ("controlnet", "ip_adapter", "t2i_adapter", "motion_module"):
        return f"is a {kind.replace('_', ' ')}; safelight has no use for it"
    if kind == "unknown":
        return "is no model that safelight knows: its tensors have names of no known architecture"
    if kind == "upscaler":
        return "is an upscaler whose layers don't tell how much it enlarges"
    if kind in ("text_encoder", "scorer", "preview_decoder"):
        return f"is a {kind.replace('_', ' ')} alone; name the folder that has its config.json beside it"
    if kind == "lora" and (other := keys.other_kind(header.shapes)):
        return f"is of another kind than LoRA: {other}, which is not supported yet"
    if any(
        name.endswith((".absmax", ".scale_weight", ".comfy_quant")) or name == "scaled_fp8" for name in header.tensors
    ):
        return "has quantised weights; look for one in fp16"
    if architecture in kinds.RUN:
        return ""
    if architecture == "unknown" and kind == "lora":
        return "is a LoRA that doesn't show which architecture it is for"
    what = {"lora": "a LoRA for ", "embedding": "an embedding for ", "vae": "a VAE of "}.get(kind, "")
    return f"is {what}{title}; safelight draws with SDXL models"


def _parameters(header: Header, kind: str) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    for name, tensor in header.tensors.items():
        if not tensor.dtype.startswith(("I", "U", "BOOL")):
            counts[kinds.component(name, kind)] += tensor.count
    return tuple(counts.items())


def _called(place: Path) -> str:
    """The name that may tell of a distillation: the file's, with the repository's or folder's where that is plain."""
    repo = next((p for p in reversed(place.parts) if p.startswith("models--")), "").rpartition("--")[2]
    stem = place.stem
    if stem.split(".")[0] in _FAMILY_FILES:
        return f"{repo or place.absolute().parent.name}"
    return f"{repo} {stem}" if repo else stem
