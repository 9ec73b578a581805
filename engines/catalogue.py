"""Which models there are: `models.toml`, shipped and the user's own, read into frozen values.

The shipped file stands beside this one; the user's, in the config folder, adds to it and overrides by id. Paths in a
file are relative to that file. A bad entry is reported in `Catalogue.problems`, and the rest holds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from engines import schedulers
from engines.errors import CatalogueError, LoadError, near

SHIPPED = Path(__file__).with_name("models.toml")

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
        """Files and folders of the model that are not on this machine."""
        wanted = (
            link.source.path if isinstance(link.source, Folder) else link.source.file for link in self.chain(model)
        )
        return tuple(path for path in wanted if not path.exists())

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
            except (KeyError, TypeError, ValueError, CatalogueError) as e:
                named = table.get("id", "without id") if isinstance(table, dict) else table
                what = f"'{e.args[0]}' is missing" if isinstance(e, KeyError) else str(e)
                yield f"{path}: {kind} {named}: {what}"
            else:
                known[entry.id] = entry


def _model(table: dict[str, Any], here: Path) -> Model:
    recipe = dict(table["recipe"])
    sizes = tuple((int(w), int(h)) for w, h in recipe.pop("sizes"))
    if not sizes or any(side <= 0 or side % 8 for size in sizes for side in size):
        raise ValueError("sizes must be [width, height] pairs of multiples of 8")
    recipe["scheduler"] = schedulers.find(recipe["scheduler"]).name
    if recipe.get("timestep_spacing", "leading") not in schedulers.SPACINGS:
        raise ValueError(f"timestep_spacing must be one of {', '.join(schedulers.SPACINGS)}")
    return Model(
        id=_id(table),
        title=str(table["title"]),
        family=str(table["family"]),
        source=_source(dict(table["source"]), here),
        recipe=Recipe(sizes=sizes, **recipe),
        licence=str(table["licence"]),
        rank=int(table.get("rank", 0)),
        about=str(table.get("about", "")),
    )


def _source(table: dict[str, Any], here: Path) -> Source:
    match sorted(table):
        case ["folder"] | ["folder", "variant"]:
            return Folder(here / table["folder"], table.get("variant"))
        case ["base", "unet"]:
            return UnetOver(str(table["base"]), here / table["unet"])
        case ["base", "lora"] | ["base", "lora", "weight"]:
            return LoraOver(str(table["base"]), here / table["lora"], float(table.get("weight", 1.0)))
        case keys:
            raise ValueError(f"a source is a folder, or a base with a unet or a lora; not {', '.join(keys) or 'empty'}")


def _adapter(table: dict[str, Any], here: Path) -> Adapter:
    return Adapter(_id(table), str(table["title"]), str(table["family"]), here / table["file"], str(table["licence"]))


def _preview_decoder(table: dict[str, Any], here: Path) -> PreviewDecoder:
    return PreviewDecoder(_id(table), str(table["family"]), here / table["folder"])


def _scorer(table: dict[str, Any], here: Path) -> Scorer:
    if table["kind"] != "clip":
        raise ValueError(f"no kind of scorer is called '{table['kind']}'")
    return Scorer(
        _id(table),
        str(table["title"]),
        str(table["kind"]),
        here / table["folder"],
        str(table["licence"]),
        int(table.get("rank", 0)),
    )


def _id(table: dict[str, Any]) -> str:
    """An id is typed and becomes part of file names: lower-case letters, digits, '-', '_' and '.' only."""
    id = str(table["id"])
    if not id or id.startswith((".", "-")) or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in id):
        raise ValueError("an id has letters, digits, '-', '_' and '.' only, and starts with a letter or digit")
    return id


def _find(id: str, entries: dict[str, _Named], what: str, plural: str) -> _Named:
    try:
        return entries[id]
    except KeyError:
        raise CatalogueError(f"no {what} '{id}'", near(id, entries, plural), what.lower()) from None


def _best(entries: Iterable[_Ranked], what: str) -> _Ranked:
    best = max(entries, key=lambda e: e.rank, default=None)
    if best is None:
        raise CatalogueError(f"no {what} is on this machine", "safelight doctor says what is missing", what)
    return best
