"""Which models there are: `models.toml`, shipped and the user's own, read into frozen values.

The shipped file stands beside this one; the user's, in the config folder, adds to it and overrides by id. Paths in a
file are relative to that file. A bad entry is reported in `Catalogue.problems`, and the rest holds.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from engines import schedulers
from engines.errors import CatalogueError, InvalidRequest, LoadError, near
from engines.requests import MAX_GUIDANCE, MAX_STEPS, check_size

SHIPPED = Path(__file__).with_name("models.toml")

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"What a UNet may have been trained to predict, as diffusers names it."
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
"The components that have weights → how diffusers and transformers call the files."
_WEIGHTS_FILE = re.compile(
    r"(?P<stem>diffusion_pytorch_model|model)(?:\.(?P<variant>[^.]+?))?"
    r"(?:-(?P<shard>\d{5})-of-(?P<shards>\d{5})(?:\.(?P<older>[^.]+))?)?\.safetensors"
)

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model wants to be run with; every setting that the user leaves out comes from here."""

    num_inference_steps: int
    "Denoising steps."
    guidance_scale: float
    "Classifier-free guidance; at 1 and below it is off, and so is the negative prompt."
    scheduler: str
    "A name from engines.schedulers."
    sizes: tuple[Size, ...]
    "(width, height) in pixels that the model was trained for; the first is the default."
    guidance_rescale: float = 0.0
    "0 … 1."
    timestep_spacing: str | None = None
    "leading, trailing or linspace; None leaves the model's own configuration."
    prediction_type: str | None = None
    "epsilon, v_prediction or sample; None leaves the model's own configuration."
    fixed_steps: bool = False
    "A distilled model that was made for exactly this number of steps."

    @property
    def size(self) -> Size:
        """The default (width, height) in pixels."""
        return self.sizes[0]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder in diffusers' layout, with a model_index.json."""

    path: Path
    "Absolute."
    variant: str | None = None
    "For instance fp16, where files are named diffusion_pytorch_model.fp16.safetensors."


@dataclass(frozen=True, slots=True)
class UnetOver:
    """A UNet's state dict in one file; all else is another model's."""

    base: str
    "The id of that model."
    file: Path
    "Absolute path of a .safetensors file."


@dataclass(frozen=True, slots=True)
class LoraOver:
    """A LoRA that makes another model out of a base."""

    base: str
    "The id of that model."
    file: Path
    "Absolute path of a .safetensors file."
    weight: float = 1.0
    "How strongly it is added."


Source: TypeAlias = Folder | UnetOver | LoraOver


@dataclass(frozen=True, slots=True)
class Model:
    """A diffusion model that a user can name."""

    id: str
    "What the command line and the store call it."
    title: str
    "What people call it."
    family: str
    "Models of one family share latents and conditioning: LoRAs and preview decoders fit within it."
    source: Source
    "Where its weights are."
    recipe: Recipe
    "What it wants to be run with."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "Which model is taken when none is named: the highest rank that is on this machine."
    about: str = ""
    "One sentence for the picker."


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA that can be added to any model of its family."""

    id: str
    "What --lora calls it."
    title: str
    "What people call it."
    family: str
    "Whose models it fits."
    file: Path
    "Absolute path of a .safetensors file."
    licence: str
    "SPDX name where there is one."


@dataclass(frozen=True, slots=True)
class PreviewDecoder:
    """A small decoder that turns a family's latents into preview pixels (an AutoencoderTiny)."""

    id: str
    "Its name."
    family: str
    "Whose latents it decodes."
    folder: Path
    "Absolute path of a folder in diffusers' layout."


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model that holds a picture against a text."""

    id: str
    "What --score calls it."
    title: str
    "What people call it."
    kind: str
    "How the number is made: 'clip' is max(100·cos, 0) of a CLIPModel."
    folder: Path
    "Absolute path of a folder in transformers' layout."
    licence: str
    "SPDX name where there is one."
    rank: int = 0
    "Which is taken when none is named: the highest rank that is on this machine."


_Ranked = TypeVar("_Ranked", Model, Scorer)
_Named = TypeVar("_Named", Model, Adapter, PreviewDecoder, Scorer)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entries by id."""

    models: dict[str, Model]
    "In the order of the files."
    adapters: dict[str, Adapter]
    "LoRAs."
    preview_decoders: dict[str, PreviewDecoder]
    "Small decoders."
    scorers: dict[str, Scorer]
    "Judges."
    problems: tuple[str, ...] = ()
    "One line for every entry that could not be read."

    def model(self, id: str) -> Model:
        """The model of that id. Raises CatalogueError with near names."""
        return _find(id, self.models, "model", "models")

    def adapter(self, id: str) -> Adapter:
        """The LoRA of that id. Raises CatalogueError with near names."""
        return _find(id, self.adapters, "LoRA", "LoRAs")

    def scorer(self, id: str) -> Scorer:
        """The scorer of that id. Raises CatalogueError with near names."""
        return _find(id, self.scorers, "scorer", "scorers")

    def default_model(self) -> Model:
        """The best model that is on this machine. Raises CatalogueError if none is."""
        return _best((m for m in self.models.values() if not self.missing(m)), "model")

    def default_scorer(self) -> Scorer:
        """The best scorer that is on this machine. Raises CatalogueError if none is."""
        return _best((s for s in self.scorers.values() if s.folder.is_dir()), "scorer")

    def preview_decoder(self, family: str) -> PreviewDecoder | None:
        """A small decoder for the latents of a family, if one is on this machine."""
        fitting = (d for d in self.preview_decoders.values() if d.family == family and d.folder.is_dir())
        return next(fitting, None)

    def chain(self, model: Model) -> tuple[Model, ...]:
        """The model and what it stands on, the base with the folder last. Raises CatalogueError on a loop."""
        links = [model]
        while not isinstance(links[-1].source, Folder):
            base = self.model(links[-1].source.base)
            if base in links:
                raise CatalogueError(f"model {model.id} stands on itself", "mend its base in models.toml", "model")
            links.append(base)
        return tuple(links)

    def missing(self, model: Model) -> tuple[Path, ...]:
        """Files and folders of the model that are not on this machine.

        A folder that is there is looked into, because a download may have ended half way: six folders are listed and no
        file is opened (0.06 ms on a local disk).
        """
        gone: list[Path] = []
        links = self.chain(model)
        for link in links:
            if not isinstance(link.source, Folder):
                if not link.source.file.is_file():
                    gone.append(link.source.file)
            elif not link.source.path.is_dir():
                gone.append(link.source.path)
            else:
                # a UNet in a file of its own takes the place of the folder's, whose configuration is still read
                replaced = any(isinstance(x.source, UnetOver) for x in links)
                gone += _lacking(link.source, {"unet"} if replaced else set())
        return tuple(gone)

    def require(self, id: str) -> Model:
        """The model of that id, ready to load. Raises CatalogueError, or LoadError if its files are missing."""
        model = self.model(id)
        if gone := self.missing(model):
            raise LoadError(
                f"model {id} is not on this machine: {gone[0]} is missing", "safelight models list shows what is"
            )
        return model


def load(user: Path | None = None) -> Catalogue:
    """The shipped catalogue with the user's file over it, if that is there.

    Raises:
        CatalogueError: the shipped file can't be read (the installation is broken).
    """
    entries = Catalogue({}, {}, {}, {})
    problems = list(_read(SHIPPED, entries))
    if problems:
        raise CatalogueError(problems[0], "reinstall safelight")
    if user is not None:
        problems += _read(user, entries)
    for model in list(entries.models.values()):
        try:
            entries.chain(model)
        except CatalogueError as e:
            problems.append(f"model {model.id}: {e.message}")
            del entries.models[model.id]
    return Catalogue(entries.models, entries.adapters, entries.preview_decoders, entries.scorers, tuple(problems))


def _read(path: Path, into: Catalogue) -> Iterable[str]:
    """Adds a file's entries to `into`, yielding a line for each that can't be read."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path == SHIPPED:
            yield f"{path} is missing"
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        yield f"{path}: {e}"
        return
    here = path.parent.absolute()
    kinds: tuple[tuple[str, Any, Any], ...] = (
        ("model", into.models, _model),
        ("lora", into.adapters, _adapter),
        ("preview_decoder", into.preview_decoders, _preview_decoder),
        ("scorer", into.scorers, _scorer),
    )
    for unknown in tables.keys() - {kind for kind, _, _ in kinds}:
        yield f"{path}: no kind of entry is called '{unknown}'"
    for kind, known, build in kinds:
        listed = tables.get(kind, [])
        if not isinstance(listed, list):
            yield f"{path}: '{kind}' must be written as [[{kind}]]"
            continue
        for table in listed:
            try:
                entry = build(dict(table), here)
            except (KeyError, TypeError, ValueError, OverflowError, InvalidRequest) as e:
                named = table.get("id", "without id") if isinstance(table, dict) else table
                what = f"'{e.args[0]}' is missing" if isinstance(e, KeyError) else str(e)
                yield f"{path}: {kind} {named}: {' '.join(what.split())[:300]}"
            else:
                known[entry.id] = entry


def variant_here(folder: Folder) -> str | None:
    """The `variant` that an entry needs so that this folder's weights are found, or None if it needs none.

    For the hint where loading finds no weights by their plain names: many downloads hold `*.fp16.safetensors` only.
    """
    marks = [_marks(_files(folder.path / name), stem) for name, stem in WEIGHTS.items()]
    if all(None in each for each in marks):
        return None
    common = set.intersection(*marks) - {None}
    return min((mark for mark in common if mark), default=None)


def _lacking(folder: Folder, without: set[str]) -> Iterator[Path]:
    """What a folder in SDXL's layout must hold and doesn't, of every component but the weights of those `without`."""
    path = folder.path
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        if not (path / name).is_file():
            yield path / name
    for name, stem in WEIGHTS.items():
        files = _files(path / name)
        if "config.json" not in files:
            yield path / name / "config.json"
        marks = _marks(files, stem)
        if name not in without and (folder.variant not in marks if folder.variant else not marks):
            mark = f".{folder.variant}" if folder.variant else ""
            yield path / name / f"{stem}{mark}.safetensors"
    for name in ("tokenizer", "tokenizer_2"):
        files = _files(path / name)
        if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
            yield path / name / "tokenizer.json"


def _files(folder: Path) -> set[str]:
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


def _model(table: dict[str, Any], here: Path) -> Model:
    return Model(
        id=_id(table),
        title=_text(table, "title"),
        family=_text(table, "family"),
        source=_source(_table(table, "source"), here),
        recipe=_recipe(_table(table, "recipe")),
        licence=_text(table, "licence"),
        rank=_whole(table, "rank", default=0),
        about=_text(table, "about", ""),
    )


def _recipe(table: dict[str, Any]) -> Recipe:
    if unknown := table.keys() - {f.name for f in fields(Recipe)}:
        raise ValueError(f"a recipe has no '{min(unknown)}'")
    fixed = table.get("fixed_steps", False)
    if not isinstance(fixed, bool):
        raise ValueError("fixed_steps must be true or false")
    return Recipe(
        num_inference_steps=_whole(table, "num_inference_steps", 1, MAX_STEPS),
        guidance_scale=_number(table, "guidance_scale", 0.0, MAX_GUIDANCE),
        scheduler=schedulers.find(_text(table, "scheduler")).name,
        sizes=_sizes(table["sizes"]),
        guidance_rescale=_number(table, "guidance_rescale", 0.0, 1.0, 0.0),
        timestep_spacing=_one_of(table, "timestep_spacing", schedulers.SPACINGS),
        prediction_type=_one_of(table, "prediction_type", PREDICTIONS),
        fixed_steps=fixed,
    )


def _sizes(listed: Any) -> tuple[Size, ...]:
    pairs = [tuple(pair) for pair in listed if isinstance(pair, list)] if isinstance(listed, list) else []
    if not pairs or len(pairs) != len(listed) or not all(len(p) == 2 and all(type(x) is int for x in p) for p in pairs):
        raise ValueError("sizes must be [width, height] pairs of whole numbers")
    for width, height in pairs:
        check_size(width, height)
    return tuple((width, height) for width, height in pairs)


def _source(table: dict[str, Any], here: Path) -> Source:
    match sorted(table):
        case ["folder"] | ["folder", "variant"]:
            return Folder(_path(table, "folder", here), _text(table, "variant") if "variant" in table else None)
        case ["base", "unet"]:
            return UnetOver(_text(table, "base"), _path(table, "unet", here))
        case ["base", "lora"] | ["base", "lora", "weight"]:
            weight = _number(table, "weight", -10.0, 10.0, 1.0)
            return LoraOver(_text(table, "base"), _path(table, "lora", here), weight)
        case keys:
            raise ValueError(f"a source is a folder, or a base with a unet or a lora; not {', '.join(keys) or 'empty'}")


def _adapter(table: dict[str, Any], here: Path) -> Adapter:
    return Adapter(
        _id(table), _text(table, "title"), _text(table, "family"), _path(table, "file", here), _text(table, "licence")
    )


def _preview_decoder(table: dict[str, Any], here: Path) -> PreviewDecoder:
    return PreviewDecoder(_id(table), _text(table, "family"), _path(table, "folder", here))


def _scorer(table: dict[str, Any], here: Path) -> Scorer:
    if table["kind"] != "clip":
        raise ValueError(f"no kind of scorer is called '{table['kind']}'")
    return Scorer(
        _id(table),
        _text(table, "title"),
        _text(table, "kind"),
        _path(table, "folder", here),
        _text(table, "licence"),
        _whole(table, "rank", default=0),
    )


# What an entry holds, each with its type checked. All raise KeyError for what is missing and ValueError for what can't
# be used; `_read` makes a line of either.


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


def _one_of(table: dict[str, Any], key: str, known: tuple[str, ...]) -> str | None:
    value = table.get(key)
    if value is not None and value not in known:
        raise ValueError(f"{key} must be one of {', '.join(known)}")
    return value


def _id(table: dict[str, Any]) -> str:
    """An id is typed and becomes part of file names: letters, digits, '-', '_' and '.' only."""
    id = _text(table, "id")
    if not id or id.startswith((".", "-")) or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in id):
        raise ValueError("an id has letters, digits, '-', '_' and '.' only, and starts with a letter or digit")
    return id


def _find(id: str, entries: dict[str, _Named], what: str, plural: str) -> _Named:
    try:
        return entries[id]
    except KeyError:
        shown = " ".join(id.split())[:80]  # it was typed: perhaps with a line end, perhaps without an end
        raise CatalogueError(f"no {what} '{shown}'", near(shown, entries, plural), what.lower()) from None


def _best(entries: Iterable[_Ranked], what: str) -> _Ranked:
    best = max(entries, key=lambda e: e.rank, default=None)
    if best is None:
        raise CatalogueError(f"no {what} is on this machine", "safelight doctor says what is missing", what)
    return best
