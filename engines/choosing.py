"""What of an entry is on the hub, and which of a repository's files that takes.

Weights are taken as .safetensors and never pickled, whole (one file, or an index with all its shards), of the variant
that the entry names; a component that has none of that variant gives its plain ones, as diffusers loads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from engines.entries import (
    Adapter,
    Embedding,
    Entry,
    FaceDetector,
    FaceRestorer,
    Folder,
    Hub,
    HubFile,
    Merged,
    Model,
    Scorer,
    UnetOver,
    Upscaler,
)
from engines.presence import WEIGHTS
from engines.wire import HubError

_SMALL = 1024 * 1024
_TOKENIZER = re.compile(r"(?:.*\.json|merges\.txt|vocab\.txt|.*\.model)")
_TEXTS = re.compile(r"(?:readme|licen[cs]e|notice)[^/]*", re.IGNORECASE)
_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")

Layout: TypeAlias = Literal["pipeline", "upscaler", "network", "transformers"]


@dataclass(frozen=True, slots=True)
class Want:
    """Something on the hub that an entry needs."""

    source: Hub | HubFile
    "Where it is."
    layout: Layout = "pipeline"
    "How a Hub's folder is laid out: a whole pipeline, one with a single text encoder, one network of diffusers, or a"
    " model of transformers."
    without: frozenset[str] = frozenset()
    "Components of a pipeline whose weights are not needed, only their configuration."


def wants(entry: Entry, needs: Sequence[Model] = (), vaes: Sequence[Entry] = ()) -> tuple[Want, ...]:
    """What of an entry is on the hub.

    Args:
        needs: the models that it stands on, as `Catalogue.needs` tells them.
        vaes: the VAEs that those models name to decode with.
    """
    found: dict[Want, None] = {}
    parts: list[Entry] = [entry, *needs, *vaes]
    base = isinstance(entry, Model) and isinstance(entry.source, UnetOver)
    for number, part in enumerate(parts):
        # a UNet in a file of its own takes the place of the folder's, whose configuration is still read
        without = frozenset({"unet"}) if base and number else frozenset[str]()
        if isinstance(part, Adapter | Embedding | FaceRestorer | FaceDetector):
            found |= {Want(part.file): None} if isinstance(part.file, HubFile) else {}
            continue
        if isinstance(part, Upscaler) and isinstance(part.weak, HubFile):
            found[Want(part.weak)] = None
        source: Any = part.source
        if isinstance(part, Model):
            if isinstance(source, Merged | Folder):
                continue
            source = source if isinstance(source, Hub) else source.file
        if isinstance(source, HubFile):
            found[Want(source)] = None
        elif isinstance(source, Hub):
            kind: Layout = "network"
            if isinstance(part, Model | Scorer | Upscaler):
                kind = "pipeline" if isinstance(part, Model) else "transformers"
                kind = "upscaler" if isinstance(part, Upscaler) else kind
            found[Want(source, kind, without if kind == "pipeline" else frozenset())] = None
    return tuple(found)


def choose(want: Want, sizes: dict[str, int]) -> tuple[str, ...]:
    """Which of a repository's files (name → bytes) are wanted. Raises HubError where it lacks what is needed."""
    if isinstance(want.source, HubFile):
        if want.source.file not in sizes:
            raise HubError(
                f"{want.source.repo} has no file {want.source.file}", f"see what it has at {want.source.revision}"
            )
        return (want.source.file,)
    repo, variant = want.source.repo, want.source.variant
    chosen = [n for n in sizes if "/" not in n and _TEXTS.fullmatch(n) and sizes[n] <= _SMALL]
    names = set(sizes)
    if want.layout in ("pipeline", "upscaler"):
        if "model_index.json" not in names:
            raise HubError(f"{repo} is not in diffusers' layout: it has no model_index.json", "see its page")
        chosen.append("model_index.json")
        chosen += [n for n in sizes if re.fullmatch(r"(low_res_)?scheduler/[^/]+\.json", n)]
        chosen += [n for n in sizes if n.startswith(("tokenizer/", "tokenizer_2/")) and _is_tokenizer(n)]
        for component, stem in WEIGHTS.items():
            if want.layout == "upscaler" and component == "text_encoder_2":
                continue
            config = f"{component}/config.json"
            if config not in names:
                raise HubError(f"{repo} has no {config}", "see its page")
            chosen.append(config)
            if component not in want.without:
                chosen += _weights(repo, names, f"{component}/", (stem,), variant)
        return tuple(chosen)
    if "config.json" not in names:
        raise HubError(f"{repo} has no config.json", "see its page")
    if want.layout == "network":
        chosen += ["config.json", *_weights(repo, names, "", ("diffusion_pytorch_model", "model"), variant)]
        return tuple(chosen)
    chosen += [n for n in sizes if "/" not in n and _is_tokenizer(n) and not n.endswith(".index.json")]
    chosen += _weights(repo, names, "", ("model",), variant)
    return tuple(dict.fromkeys(chosen))


def _is_tokenizer(name: str) -> bool:
    rest = name.rpartition("/")[2]
    return _TOKENIZER.fullmatch(rest) is not None and name.count("/") <= 1


def _weights(repo: str, names: set[str], folder: str, stems: Sequence[str], variant: str | None) -> list[str]:
    """The .safetensors of one component, whole: the variant's, else the plain ones, else whichever there are."""
    for stem in stems:
        kinds = _kinds(names, folder, stem)
        order = [variant, None, *sorted(k for k in kinds if k)] if not variant else [variant, None]
        for kind in order:
            if kind in kinds:
                return kinds[kind]
    other = sorted(n for n in names if n.startswith(folder) and n.endswith(_PICKLED))
    what = f"{folder}{stems[0]}.safetensors"
    if other:
        raise HubError(f"{repo} has {other[0]} and no {what}", "pickled weights can run code, and are not fetched")
    raise HubError(f"{repo} has no {what}", "see its page")


def _kinds(names: set[str], folder: str, stem: str) -> dict[str | None, list[str]]:
    """variant → its files, of those variants that are whole: one file, or an index and all shards."""
    pattern = re.compile(
        rf"{re.escape(folder + stem)}(?:\.(?P<variant>[\w-]+?))?"
        r"(?:-(?P<shard>\d{5})-of-(?P<shards>\d{5})(?:\.(?P<older>[\w-]+))?)?\.safetensors"
    )
    whole: dict[str | None, list[str]] = {}
    shards: dict[tuple[str | None, int], list[str]] = {}
    for match in filter(None, map(pattern.fullmatch, sorted(names))):
        kind = match["variant"] or match["older"]
        if match["shard"] is None:
            whole[kind] = [match[0]]
        else:
            shards.setdefault((kind, int(match["shards"])), []).append(match[0])
    for (kind, count), files in shards.items():
        index = f"{folder}{stem}.safetensors.index{f'.{kind}' if kind else ''}.json"
        if len(files) == count and index in names:
            whole.setdefault(kind, [index, *files])
    return whole
