"""What a table of models.toml means: a function for each kind of entry, every value's type and range checked.

All raise KeyError for what is missing and ValueError for what can't be used; the catalogue makes a line of either.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from engines import blocks, hub, schedulers
from engines.entries import (
    PREDICTIONS,
    SCORER_KINDS,
    UPSCALER_KINDS,
    Adapter,
    Checkpoint,
    Embedding,
    FaceDetector,
    FaceRestorer,
    File,
    Folder,
    Hub,
    HubFile,
    Local,
    LoraOver,
    Merged,
    Model,
    Parent,
    PreviewDecoder,
    Recipe,
    Scorer,
    Size,
    Source,
    UnetOver,
    Upscaler,
    Vae,
)
from engines.limits import MAX_GUIDANCE, MAX_STEPS
from engines.requests import check_size


def model(table: dict[str, Any], here: Path) -> Model:
    """A [[model]]; paths are relative to `here`."""
    return Model(
        id=_id(table),
        title=_text(table, "title"),
        family=_text(table, "family"),
        source=_source(_table(table, "source"), here),
        recipe=_recipe(_table(table, "recipe")),
        licence=_text(table, "licence"),
        rank=_whole(table, "rank", default=0),
        about=_text(table, "about", ""),
        latents=_text(table, "latents", ""),
        bytes=_whole(table, "bytes", 0, default=0),
        unet_bytes=_whole(table, "unet_bytes", 0, default=0),
        notice=_text(table, "notice", ""),
        card=_text(table, "card", ""),
        vae=_text(table, "vae", ""),
    )


def _recipe(table: dict[str, Any]) -> Recipe:
    if unknown := table.keys() - {f.name for f in fields(Recipe)}:
        raise ValueError(f"a recipe has no '{min(unknown)}'")
    return Recipe(
        num_inference_steps=_whole(table, "num_inference_steps", 1, MAX_STEPS),
        guidance_scale=_number(table, "guidance_scale", 0.0, MAX_GUIDANCE),
        scheduler=schedulers.find(_text(table, "scheduler")).name,
        sizes=_sizes(table["sizes"]),
        guidance_rescale=_number(table, "guidance_rescale", 0.0, 1.0, 0.0),
        timestep_spacing=_one_of(table, "timestep_spacing", schedulers.SPACINGS),
        prediction_type=_one_of(table, "prediction_type", PREDICTIONS),
        rescale_betas_zero_snr=_yes(table, "rescale_betas_zero_snr") if "rescale_betas_zero_snr" in table else None,
        fixed_steps=_yes(table, "fixed_steps"),
        steps_range=_range(table, "steps_range", 1, MAX_STEPS),
        guidance_range=_range(table, "guidance_range", 0.0, MAX_GUIDANCE),
    )


def _sizes(listed: Any) -> tuple[Size, ...]:
    pairs = [tuple(pair) for pair in listed if isinstance(pair, list)] if isinstance(listed, list) else []
    if not pairs or len(pairs) != len(listed) or not all(len(p) == 2 and all(type(x) is int for x in p) for p in pairs):
        raise ValueError("sizes must be [width, height] pairs of whole numbers")
    for width, height in pairs:
        check_size(width, height)
    return tuple((width, height) for width, height in pairs)


def _source(table: dict[str, Any], here: Path) -> Source:
    known = {"repo", "revision", "sha256", "bytes"}  # what may say where a file is, beside its name
    match sorted(table.keys() - known):
        case keys if "merge" in keys and table.keys() <= {"merge", "blocks", "method"}:
            return _merged(table)
        case ["base", "unet"]:
            return UnetOver(_text(table, "base"), _file(table, "unet", here))
        case ["base", "lora"] | ["base", "lora", "weight"]:
            weight = _number(table, "weight", -10.0, 10.0, 1.0)
            return LoraOver(_text(table, "base"), _file(table, "lora", here), weight)
        case ["file"] | ["file", "like"]:
            return Checkpoint(_file(table, "file", here), _text(table, "like", ""))
        case [] | ["folder"] | ["variant"] | ["folder", "variant"] if table:
            return _whole_folder(table, here)
        case keys:
            raise ValueError(
                "a source is a folder, a repo, a file, a merge, or a base with a unet or a lora; "
                f"not {', '.join(keys) or 'empty'}"
            )


def _merged(table: dict[str, Any]) -> Merged:
    listed = table["merge"]
    if not isinstance(listed, list) or not 2 <= len(listed) <= 3 or not all(isinstance(x, dict) for x in listed):
        raise ValueError("merge must be a list of two or three { model = …, weight = … }")
    parents = tuple(Parent(_text(x, "model"), _number(x, "weight", -10.0, 10.0)) for x in listed)
    listed_blocks = table.get("blocks", {})
    if not isinstance(listed_blocks, dict):
        raise ValueError("blocks must be a table of block = share")
    shares = tuple((name, _number(listed_blocks, name, -10.0, 10.0)) for name in listed_blocks)
    method = _one_of(table, "method", blocks.METHODS) or blocks.METHODS[0]
    blocks.Formula(method, tuple(parent.weight for parent in parents), shares)  # raises if it makes no mix
    return Merged(parents, method, shares)


def _whole_folder(table: dict[str, Any], here: Path) -> Folder | Hub:
    """A folder here, or a whole repository."""
    variant = _text(table, "variant") if "variant" in table else None
    if "folder" in table:
        if "repo" in table:
            raise ValueError("a source is a folder or a repo, not both")
        return Folder(_path(table, "folder", here), variant)
    return Hub(_repo(table), variant, _revision(table))


def _file(table: dict[str, Any], key: str, here: Path) -> File:
    """A file here, or in a repository."""
    if "repo" not in table:
        return Local(_path(table, key, here))
    name = _text(table, key)
    if not hub.is_inside(name):
        raise ValueError(f"{key} must be a file's name in the repository")
    sha256 = _text(table, "sha256", "").lower()
    if sha256 and not hub.SHA256.fullmatch(sha256):
        raise ValueError("sha256 must be 64 hexadecimal digits")
    return HubFile(_repo(table), name, _revision(table), sha256, _whole(table, "bytes", 0, default=0))


def _repo(table: dict[str, Any]) -> str:
    repo = _text(table, "repo")
    if not hub.is_repo(repo):
        raise ValueError(f"repo must be written ORG/NAME, not '{repo[:80]}'")
    return repo


def _revision(table: dict[str, Any]) -> str:
    revision = _text(table, "revision", "main")
    if not hub.is_revision(revision):
        raise ValueError("revision must be a branch, a tag or a commit")
    return revision


def adapter(table: dict[str, Any], here: Path) -> Adapter:
    """A [[lora]]."""
    return Adapter(
        id=_id(table),
        title=_text(table, "title"),
        family=_text(table, "family"),
        file=_file(table, "file", here),
        licence=_text(table, "licence"),
        words=_text(table, "words", ""),
        notice=_text(table, "notice", ""),
    )


def embedding(table: dict[str, Any], here: Path) -> Embedding:
    """An [[embedding]]."""
    return Embedding(
        _id(table), _text(table, "title"), _text(table, "family"), _file(table, "file", here), _text(table, "licence")
    )


def vae(table: dict[str, Any], here: Path) -> Vae:
    """A [[vae]]."""
    source = _file(table, "file", here) if "file" in table else _whole_folder(table, here)
    return Vae(
        id=_id(table),
        title=_text(table, "title"),
        latents=_text(table, "latents"),
        source=source,
        licence=_text(table, "licence"),
        bytes=_whole(table, "bytes", 0, default=0),
    )


def preview_decoder(table: dict[str, Any], here: Path) -> PreviewDecoder:
    """A [[preview_decoder]]."""
    return PreviewDecoder(_id(table), _text(table, "family"), _whole_folder(table, here), _text(table, "licence", ""))


def scorer(table: dict[str, Any], here: Path) -> Scorer:
    """A [[scorer]]."""
    if table["kind"] not in SCORER_KINDS:
        raise ValueError(f"no kind of scorer is called '{table['kind']}'; there are {', '.join(SCORER_KINDS)}")
    return Scorer(
        _id(table),
        _text(table, "title"),
        _text(table, "kind"),
        _whole_folder(table, here),
        _text(table, "licence"),
        _whole(table, "rank", default=0),
        _whole(table, "bytes", 0, default=0),
    )


def upscaler(table: dict[str, Any], here: Path) -> Upscaler:
    """An [[upscaler]]."""
    kind = _text(table, "kind", UPSCALER_KINDS[0])
    if kind not in UPSCALER_KINDS:
        raise ValueError(f"no kind of upscaler is called '{kind}'; there are {', '.join(UPSCALER_KINDS)}")
    weak = table.get("weak")
    return Upscaler(
        id=_id(table),
        title=_text(table, "title"),
        kind=kind,
        source=_file(table, "file", here) if kind == "net" else _whole_folder(table, here),
        scale=_whole(table, "scale", 1, 16),
        licence=_text(table, "licence"),
        rank=_whole(table, "rank", default=0),
        about=_text(table, "about", ""),
        bytes=_whole(table, "bytes", 0, default=0),
        weak=None if weak is None else _file(_table(table, "weak"), "file", here),
        notice=_text(table, "notice", ""),
        card=_text(table, "card", ""),
    )


def face_restorer(table: dict[str, Any], here: Path) -> FaceRestorer:
    """A [[face_restorer]]."""
    return FaceRestorer(
        id=_id(table),
        title=_text(table, "title"),
        file=_file(table, "file", here),
        licence=_text(table, "licence"),
        rank=_whole(table, "rank", default=0),
        about=_text(table, "about", ""),
        notice=_text(table, "notice", ""),
        bytes=_whole(table, "bytes", 0, default=0),
        card=_text(table, "card", ""),
    )


def face_detector(table: dict[str, Any], here: Path) -> FaceDetector:
    """A [[face_detector]]."""
    return FaceDetector(
        _id(table),
        _text(table, "title"),
        _file(table, "file", here),
        _text(table, "licence"),
        _whole(table, "rank", default=0),
    )


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table[key]
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be a table")
    return value


def _text(table: dict[str, Any], key: str, default: str | None = None) -> str:
    value = table[key] if default is None else table.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a text, not {value}")
    return value


def _path(table: dict[str, Any], key: str, here: Path) -> Path:
    value = _text(table, key)
    if not value or "\0" in value:
        raise ValueError(f"{key} must be a path")
    return here / value


def _whole(table: dict[str, Any], key: str, low: int = -(2**63), high: int = 2**63, default: int | None = None) -> int:
    value = table[key] if default is None else table.get(key, default)
    if type(value) is not int or not low <= value <= high:  # true is a whole number to isinstance
        limits = f" from {low} to {high}" if low > -(2**63) else ""
        raise ValueError(f"{key} must be a whole number{limits}, not {value}")
    return value


def _number(table: dict[str, Any], key: str, low: float, high: float, default: float | None = None) -> float:
    value = table[key] if default is None else table.get(key, default)
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{key} must be a number from {low:g} to {high:g}, not {value}")
    return float(value)


def _yes(table: dict[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false")
    return value


def _range(table: dict[str, Any], key: str, low: float, high: float) -> Any:
    """A [least, most] pair of numbers as the limits are, or None."""
    if key not in table:
        return None
    pair = table[key]
    kind = (int,) if isinstance(low, int) else (int, float)
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(x) in kind and low <= x <= high for x in pair):
        raise ValueError(f"{key} must be [least, most] within {low:g} and {high:g}")
    if pair[0] > pair[1]:
        raise ValueError(f"{key} must have the least first")
    return tuple(pair) if isinstance(low, int) else (float(pair[0]), float(pair[1]))


def _one_of(table: dict[str, Any], key: str, known: tuple[str, ...]) -> str | None:
    value = table.get(key)
    if value is not None and value not in known:
        raise ValueError(f"{key} must be one of {', '.join(known)}")
    return value


def _id(table: dict[str, Any]) -> str:
    """An id is typed and becomes part of file names: letters, digits, '-', '_' and '.' only."""
    return check_id(_text(table, "id"))


def check_id(id: str) -> str:
    """The id itself. Raises ValueError unless it can be typed and become part of a file's name."""
    if not id or id.startswith((".", "-")) or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in id):
        raise ValueError("an id has letters, digits, '-', '_' and '.' only, and starts with a letter or digit")
    return id
