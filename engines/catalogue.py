"""Which models there are: `models.toml`, shipped and the user's own, read into frozen values.

The shipped file stands beside this one; the user's, in the config folder, adds to it and overrides by id. Paths in a
file are relative to that file. A bad entry is reported in `Catalogue.problems`, and the rest holds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from engines import presence, tables
from engines.entries import (
    SCORER_KINDS,
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
from engines.errors import CatalogueError, InvalidRequest, LoadError, near

SHIPPED = Path(__file__).with_name("models.toml")

_Named = TypeVar("_Named")
_Tool = TypeVar("_Tool", Scorer, Upscaler, FaceRestorer, FaceDetector)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entries by id."""

    models: dict[str, Model] = field(default_factory=dict)
    "In the order of the files."
    adapters: dict[str, Adapter] = field(default_factory=dict)
    "LoRAs."
    embeddings: dict[str, Embedding] = field(default_factory=dict)
    "Textual inversions."
    vaes: dict[str, Vae] = field(default_factory=dict)
    "VAEs to decode with instead of a model's own."
    preview_decoders: dict[str, PreviewDecoder] = field(default_factory=dict)
    "Small decoders."
    scorers: dict[str, Scorer] = field(default_factory=dict)
    "Judges."
    upscalers: dict[str, Upscaler] = field(default_factory=dict)
    "What enlarges pictures."
    face_restorers: dict[str, FaceRestorer] = field(default_factory=dict)
    "What draws faces anew."
    face_detectors: dict[str, FaceDetector] = field(default_factory=dict)
    "What finds them."
    problems: tuple[str, ...] = ()
    "One line for every entry that could not be read or has the id of another kind's."

    def model(self, id: str) -> Model:
        """The model of that id. Raises CatalogueError with near names."""
        return _find(id, self.models, "model", "models")

    def adapter(self, id: str) -> Adapter:
        """The LoRA of that id. Raises CatalogueError with near names."""
        return _find(id, self.adapters, "LoRA", "LoRAs")

    def vae(self, id: str) -> Vae:
        """The VAE of that id. Raises CatalogueError with near names."""
        return _find(id, self.vaes, "VAE", "VAEs")

    def scorer(self, id: str) -> Scorer:
        """The scorer of that id. Raises CatalogueError with near names."""
        return _find(id, self.scorers, "scorer", "scorers")

    def require_scorer(self, id: str) -> Scorer:
        """The scorer of that id, ready to load. Raises as `require_upscaler`."""
        return self._here(self.scorer(id), "scorer")

    def upscaler(self, id: str) -> Upscaler:
        """The upscaler of that id. Raises CatalogueError with near names."""
        return _find(id, self.upscalers, "upscaler", "upscalers")

    def face_restorer(self, id: str) -> FaceRestorer:
        """The face restorer of that id. Raises CatalogueError with near names."""
        return _find(id, self.face_restorers, "face restorer", "face restorers")

    def face_detector(self, id: str) -> FaceDetector:
        """The face detector of that id. Raises CatalogueError with near names."""
        return _find(id, self.face_detectors, "face detector", "face detectors")

    def require_upscaler(self, id: str) -> Upscaler:
        """The upscaler of that id, ready to load. Raises CatalogueError, or LoadError if its files are missing."""
        return self._here(self.upscaler(id), "upscaler")

    def require_face_restorer(self, id: str) -> FaceRestorer:
        """The face restorer of that id, ready to load. Raises as `require_upscaler`."""
        return self._here(self.face_restorer(id), "face restorer")

    def require_face_detector(self, id: str) -> FaceDetector:
        """The face detector of that id, ready to load. Raises as `require_upscaler`."""
        return self._here(self.face_detector(id), "face detector")

    def default_upscaler(self) -> Upscaler:
        """The best upscaler that is on this machine; LoadError if none is, with what fetches the best."""
        return self._best(self.upscalers, "upscaler")

    def default_face_restorer(self) -> FaceRestorer:
        """The best face restorer that is on this machine; LoadError as above."""
        return self._best(self.face_restorers, "face restorer")

    def default_face_detector(self) -> FaceDetector:
        """The best face detector that is on this machine; LoadError as above."""
        return self._best(self.face_detectors, "face detector")

    def _here(self, entry: _Tool, what: str) -> _Tool:
        if gone := self.missing(entry):
            told = f"{what} {entry.id} is not on this machine"
            if self.can_be_had(entry):
                raise LoadError(told, f"safelight models pull {entry.id} fetches it")
            raise LoadError(f"{told}: {gone[0].name} is missing", "put it there, or mend models.toml")
        return entry

    def _best(self, known: dict[str, _Tool], what: str) -> _Tool:
        ranked = sorted(known.values(), key=lambda entry: -entry.rank)
        best = next((entry for entry in ranked if not self.missing(entry)), None)
        if best is None:
            hint = f"safelight models pull {ranked[0].id} fetches one" if ranked else "add one to models.toml"
            raise LoadError(f"no {what} is on this machine", hint)
        return best

    def entries(self) -> Iterator[Entry]:
        """Everything that is listed, models first."""
        for kind in (
            self.models, self.adapters, self.embeddings, self.vaes, self.preview_decoders, self.scorers,
            self.upscalers, self.face_restorers, self.face_detectors,
        ):  # fmt: skip
            yield from kind.values()

    def entry(self, id: str) -> Entry:
        """The entry of that id, of any kind, models first. Raises CatalogueError with near names."""
        named = {entry.id: entry for entry in reversed(list(self.entries()))}
        return _find(id, named, "entry", "entries")

    def default_model(self) -> Model:
        """The best model that is on this machine. Raises CatalogueError if none is."""
        # the disk is asked for the best first: of a thousand entries most often one is looked at
        ranked = sorted(self.models.values(), key=lambda m: -m.rank)
        best = next((m for m in ranked if not self.missing(m)), None)
        if best is None:
            raise CatalogueError("no model is on this machine", "safelight doctor says what is missing", "model")
        return best

    def came_along(self, entry: Entry) -> bool:
        """Whether an entry is of the family that came with safelight: some of it lies in the package in one folder."""

        def inside(one: object) -> bool:
            source = getattr(one, "source", None)
            return isinstance(source, Folder) and source.path.is_relative_to(SHIPPED.parent)

        families = {model.family for model in self.models.values() if inside(model)}
        return inside(entry) or getattr(entry, "family", "") in families

    def default_scorer(self) -> Scorer:
        """The best scorer that is on this machine. Raises CatalogueError if none is.

        A CLIP comes before all others, whatever their rank: each kind's numbers are on a scale of their own, and the
        default's stand side by side in the history.
        """
        ranked = sorted(self.scorers.values(), key=lambda s: (s.kind != SCORER_KINDS[0], -s.rank))
        best = next((s for s in ranked if not self.missing(s)), None)
        if best is None:
            raise CatalogueError("no scorer is on this machine", "safelight doctor says what is missing", "scorer")
        return best

    def preview_decoder(self, space: str) -> PreviewDecoder | None:
        """A small decoder for a latent space, if one is on this machine."""
        fitting = (d for d in self.preview_decoders.values() if d.family == space and not self.missing(d))
        return next(fitting, None)

    def embeddings_of(self, family: str) -> dict[str, Path]:
        """Name → file of the embeddings that fit a family and are on this machine."""
        here = (e for e in self.embeddings.values() if e.family == family and e.file.path.is_file())
        return {e.id: e.file.path for e in here}

    def chain(self, model: Model) -> tuple[Model, ...]:
        """The model and what it stands on, ending with a model of a Rooted source. Raises CatalogueError on a loop."""
        links = [model]
        while isinstance(source := links[-1].source, UnetOver | LoraOver):
            base = self.model(source.base)
            if base in links:
                raise CatalogueError(f"model {model.id} stands on itself", "mend its base in models.toml", "model")
            links.append(base)
        return tuple(links)

    def needs(self, model: Model) -> tuple[Model, ...]:
        """Every other model that this one is made of: bases, parents of a merge, and whose configuration it has.

        Raises:
            CatalogueError: one of them isn't listed, or the model would be made of itself.
        """
        found: dict[str, Model] = {}

        def visit(one: Model, above: tuple[str, ...]) -> None:
            if one.id in above:
                raise CatalogueError(f"model {model.id} stands on itself", "mend its source in models.toml", "model")
            for id in _named_by(one):
                other = self.model(id)
                visit(other, (*above, one.id))
                found[other.id] = other

        visit(model, ())
        return tuple(found.values())

    def missing(self, entry: Entry) -> tuple[Path, ...]:
        """Files and folders of an entry that are not on this machine, those of what it stands on included.

        A folder that is there is looked into, because a download may have ended half way: six folders are listed and no
        file is opened (0.06 ms on a local disk).
        """
        match entry:
            case Model():
                return self._missing_model(entry)
            case Upscaler(source=Local() | HubFile()):
                wanted = [file.path for file in (entry.source, entry.weak) if file is not None]
                return tuple(path for path in wanted if not path.is_file())
            case Upscaler():
                return tuple(presence.lacking_pipeline(entry.source.path))
            case Adapter() | Embedding() | FaceRestorer() | FaceDetector():
                return () if entry.file.path.is_file() else (entry.file.path,)
            case Vae(source=Local() | HubFile()):
                return () if entry.source.path.is_file() else (entry.source.path,)
            case Scorer():
                return tuple(presence.lacking_scorer(entry.source.path, reads=entry.reads))
            case _:
                return tuple(presence.lacking_component(entry.source.path))

    def _missing_model(self, model: Model) -> tuple[Path, ...]:
        gone: list[Path] = []
        links = self.chain(model)
        # a UNet in a file of its own takes the place of the folder's, whose configuration is still read
        replaced = frozenset({"unet"}) if any(isinstance(x.source, UnetOver) for x in links) else frozenset[str]()
        for link in links:
            gone += _own_missing(link, replaced)
            match link.source:
                case Merged(parents=parents):
                    for parent in parents:
                        gone += self._missing_model(self.model(parent.model))
                case Checkpoint(like=like) if like:
                    gone += self._missing_model(self.model(like))
        return tuple(gone)

    def lacking(self, entry: Entry) -> tuple[Entry, ...]:
        """What has to be fetched for an entry to be here: itself and what it stands on, as far as they are not."""
        if not isinstance(entry, Model):
            return (entry,) if self.missing(entry) else ()
        replaced = frozenset({"unet"}) if isinstance(entry.source, UnetOver) else frozenset[str]()
        return tuple(one for one in (entry, *self.needs(entry)) if any(_own_missing(one, replaced)))

    def to_get(self, entry: Entry) -> tuple[tuple[Entry, int], ...]:
        """What has to be fetched for an entry to be here, each with its bytes; 0 where the catalogue doesn't say."""
        replaced = isinstance(entry, Model) and isinstance(entry.source, UnetOver)
        return tuple(
            (one, max(_bytes(one) - (one.unet_bytes if replaced and isinstance(one, Model) else 0), 0))
            for one in self.lacking(entry)
        )

    def require(self, id: str) -> Model:
        """The model of that id, ready to load. Raises CatalogueError, or LoadError if its files are missing."""
        model = self.model(id)
        if gone := self.missing(model):
            if self.can_be_had(model):
                raise LoadError(f"model {id} is not on this machine", f"safelight models pull {id} fetches it")
            told = f"model {id} is not on this machine: {gone[0].name} is missing"
            raise LoadError(told, "safelight models list shows what is")
        return model

    def can_be_had(self, entry: Entry) -> bool:
        """Whether all that is missing of an entry can be fetched from the hub."""
        if not isinstance(entry, Model):
            source = entry.source if isinstance(entry, Vae | Scorer | PreviewDecoder | Upscaler) else entry.file
            return _on_hub(source) or not self.missing(entry)
        for one in (entry, *self.needs(entry)):
            own = getattr(one.source, "file", one.source)
            if not isinstance(own, Merged) and not _on_hub(own) and self.missing(one):
                return False
        return True


def load(user: Path | None = None) -> Catalogue:
    """The shipped catalogue with the user's file over it, if that is there.

    Raises:
        CatalogueError: the shipped file can't be read (the installation is broken).
    """
    entries = Catalogue()
    problems = list(_read(SHIPPED, entries))
    if problems:
        raise CatalogueError(problems[0], "reinstall safelight")
    if user is not None:
        problems += _read(user, entries)
    for model in list(entries.models.values()):
        try:
            entries.needs(model)
        except CatalogueError as e:
            problems.append(f"model {model.id}: {e.message}")
            del entries.models[model.id]
    return replace(entries, problems=tuple(problems))


def _named_by(model: Model) -> tuple[str, ...]:
    """The ids that a model's source names."""
    match model.source:
        case UnetOver(base=base) | LoraOver(base=base):
            return (base,)
        case Merged(parents=parents):
            return tuple(parent.model for parent in parents)
        case Checkpoint(like=like) if like:
            return (like,)
        case _:
            return ()


def _own_missing(model: Model, without: frozenset[str]) -> Iterator[Path]:
    """What is missing of a model's own files, not counting what it stands on."""
    match model.source:
        case Folder() | Hub():
            yield from presence.lacking(model.source, without)
        case Merged():
            return
        case source if not source.file.path.is_file():
            yield source.file.path


def _bytes(entry: Entry) -> int:
    """The size that the catalogue gives for an entry by itself; 0 if it gives none."""
    if isinstance(entry, Model | Vae | Scorer | Upscaler) and entry.bytes:
        return entry.bytes
    source: object = (
        entry.file if isinstance(entry, Adapter | Embedding | FaceRestorer | FaceDetector) else entry.source
    )
    if not isinstance(source, HubFile):
        source = getattr(source, "file", None)
    return source.bytes if isinstance(source, HubFile) else 0


def _on_hub(source: object) -> bool:
    return isinstance(source, Hub | HubFile)


def _read(path: Path, into: Catalogue) -> Iterable[str]:
    """Adds a file's entries to `into`, yielding a line for each that can't be read."""
    try:
        if path.exists() and not path.is_file():
            yield f"{path} is no file"  # a FIFO would be waited for without end
            return
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path == SHIPPED:
            yield f"{path} is missing"
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        yield f"{path}: {e}"
        return
    here = path.parent.absolute()
    kinds: tuple[tuple[str, Any, Any], ...] = (
        ("model", into.models, tables.model),
        ("lora", into.adapters, tables.adapter),
        ("embedding", into.embeddings, tables.embedding),
        ("vae", into.vaes, tables.vae),
        ("preview_decoder", into.preview_decoders, tables.preview_decoder),
        ("scorer", into.scorers, tables.scorer),
        ("upscaler", into.upscalers, tables.upscaler),
        ("face_restorer", into.face_restorers, tables.face_restorer),
        ("face_detector", into.face_detectors, tables.face_detector),
    )
    for unknown in document.keys() - {kind for kind, _, _ in kinds}:
        yield f"{path}: no kind of entry is called '{unknown}'"
    for kind, known, build in kinds:
        listed = document.get(kind, [])
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
                continue
            # whoever names an id means one thing; an entry of the same kind is overridden
            other = next((k for k, others, _ in kinds if others is not known and entry.id in others), None)
            if other is not None:
                yield f"{path}: {kind} {entry.id}: there is a {other} of that id; choose another"
            else:
                known[entry.id] = entry


def _find(id: str, entries: dict[str, _Named], what: str, plural: str) -> _Named:
    try:
        return entries[id]
    except KeyError:
        shown = " ".join(id.split())[:80]  # it was typed: perhaps with a line end, perhaps without an end
        raise CatalogueError(f"no {what} '{shown}'", near(shown, entries, plural), what.lower()) from None
