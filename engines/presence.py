"""What of a model in diffusers' layout is on this machine: folders are listed, no file is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from engines.entries import Folder, Hub

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
"The components that have weights → how diffusers and transformers call the files."
VARIANTS = ("fp16", "bf16", "fp32", "non_ema")
"What hub repositories mark weights files with."
_WEIGHTS_FILE = re.compile(
    r"(?P<stem>diffusion_pytorch_model|model)(?:\.(?P<variant>[^.]+?))?"
    r"(?:-(?P<shard>\d{5})-of-(?P<shards>\d{5})(?:\.(?P<older>[^.]+))?)?\.safetensors"
)


def variant_here(folder: Folder | Hub) -> str | None:
    """The `variant` that an entry needs so that this folder's weights are found, or None if it needs none.

    For the hint where loading finds no weights by their plain names: many downloads hold `*.fp16.safetensors` only.
    """
    marks = [_marks(_files(folder.path / name), stem) for name, stem in WEIGHTS.items()]
    if all(None in each for each in marks):
        return None
    common = set.intersection(*marks) - {None}
    return min((mark for mark in common if mark), default=None)


def lacking(folder: Folder | Hub, without: frozenset[str] = frozenset()) -> Iterator[Path]:
    """What a folder in SDXL's layout must hold and doesn't, of every component but the weights of those `without`."""
    path = folder.path
    root = str(path)  # a list of a thousand models asks eight thousand times, and a Path takes as long as the disk
    if not os.path.isdir(root):
        yield path
        return
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        if not os.path.isfile(f"{root}/{name}"):
            yield path / name
    for name, stem in WEIGHTS.items():
        files = _files(f"{root}/{name}")
        if "config.json" not in files:
            yield path / name / "config.json"
        marks = _marks(files, stem)
        # a component that has no files of the variant is fetched and loaded without it
        if name not in without and not (marks & {folder.variant, None} if folder.variant else marks):
            mark = f".{folder.variant}" if folder.variant else ""
            yield path / name / f"{stem}{mark}.safetensors"
    for name in ("tokenizer", "tokenizer_2"):
        files = _files(f"{root}/{name}")
        if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
            yield path / name / "tokenizer.json"


def lacking_component(folder: Path) -> Iterator[Path]:
    """What a folder with one network in it must hold and doesn't: its configuration and weights."""
    files = _files(folder)
    if "config.json" not in files:
        yield folder / "config.json"
    elif not any(_marks(files, stem) for stem in set(WEIGHTS.values())):
        yield folder / "model.safetensors"


def lacking_pipeline(folder: Path) -> Iterator[Path]:
    """What is missing of the folder of a diffusion upscaler: components with weights, and those without."""
    for name in ("unet", "vae", "text_encoder"):
        yield from lacking_component(folder / name)
    for name in ("tokenizer/vocab.json", "scheduler/scheduler_config.json", "low_res_scheduler/scheduler_config.json"):
        if not (folder / name).is_file():
            yield folder / name


def lacking_scorer(folder: Path, reads: bool) -> Iterator[Path]:
    """What a scorer's folder must hold and doesn't: beside one network, how pictures are prepared, and for one that
    reads a text, a tokenizer. Programs that need only a part of it leave the rest out of a cache that all share."""
    yield from lacking_component(folder)
    files = _files(folder)
    if files and "preprocessor_config.json" not in files:
        yield folder / "preprocessor_config.json"
    if files and reads and "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
        yield folder / "tokenizer.json"


def scorer_weights(folder: Path, variant: str | None) -> tuple[Path, ...]:
    """The weights files of a scorer by their exact names, the variant's where it has them, with all of its shards."""
    names = sorted(name for name in _files(folder) if (m := _WEIGHTS_FILE.fullmatch(name)) and m["stem"] == "model")
    for mark in dict.fromkeys((variant, None)):
        match = [n for n in names if (m := _WEIGHTS_FILE.fullmatch(n)) and (m["variant"] or m["older"]) == mark]
        whole = [n for n in match if "-of-" not in n]
        if match:
            return tuple(folder / name for name in whole or match)
    return tuple(folder / name for name in names)


def _files(folder: Path | str) -> set[str]:
    """Names of the files in a folder; a link that leads nowhere, as an unfinished download leaves, is none."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _marks(files: set[str], stem: str) -> set[str | None]:
    """The variants whose weights are whole among these files: one file, or all of its shards and their index."""
    whole: set[str | None] = set()
    shards: dict[tuple[str | None, int], int] = {}
    for match in filter(None, map(_WEIGHTS_FILE.fullmatch, files)):
        if match["stem"] != stem:
            continue
        mark = match["variant"] or match["older"]
        if match["shard"] is None:
            whole.add(mark)
        else:
            of = (mark, int(match["shards"]))
            shards[of] = shards.get(of, 0) + 1
    for (mark, wanted), there in shards.items():
        index = f"{stem}.safetensors.index{f'.{mark}' if mark else ''}.json"
        if there == wanted and index in files:
            whole.add(mark)
    return whole


def weights(folder: Path, variant: str | None) -> tuple[tuple[Path, ...], str | None]:
    """The weights files of a component that diffusers reads, all of its shards, and the variant that names them: the
    one that is asked for where it is there, else none."""
    found = sorted(folder.glob("*.safetensors"))
    marked = [path for path in found if variant and f".{variant}" in path.name]
    plain = [path for path in found if not any(f".{v}." in path.name or f".{v}-" in path.name for v in VARIANTS)]
    return tuple(marked or plain or found), variant if marked else None
