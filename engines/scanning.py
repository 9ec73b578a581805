"""What models lie in a folder, such as that of ComfyUI or A1111: told in place, from headers alone; nothing is copied.

Links to files and folders are followed, each is told once, and what would keep a reader waiting (FIFOs, sockets,
devices) is never opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines import identify
from engines.errors import LoadError
from engines.headers import shown

MAX_DEPTH = 16
"Folders within folders."
MAX_FILES = 100_000
"Files and folders that are looked at."


@dataclass(frozen=True, slots=True)
class Found:
    """One file or folder with a model in it, or that should have one."""

    path: Path
    "Where it is."
    identified: identify.Identified | None = None
    "What it is; None if that can't be told."
    problem: str = ""
    "One line why not; else empty."
    hint: str = ""
    "One line what to do then."


def scan(
    folder: Path, stop: Callable[[], bool] = lambda: False, known: Mapping[str, str] | None = None
) -> Iterator[Found]:
    """Looks through a folder, by name; it ends early where `stop` says so.

    Args:
        folder: where to begin. Hidden folders in it are passed over.
        stop: asked before every file.
        known: sha256 → id of an entry, as for `identify.file`.

    Raises:
        LoadError: `folder` is no folder, or can't be read.
    """
    if not folder.is_dir():
        raise LoadError(f"{shown(str(folder))} is no folder", "name a folder with models in it")
    looked = 0
    seen: set[tuple[int, int]] = set()
    waiting = [(folder.absolute(), 0)]
    while waiting:
        here, depth = waiting.pop()
        if stop():
            return
        try:
            about = os.stat(here)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            names = sorted(os.listdir(here))
        except OSError as e:
            yield Found(
                here, problem=f"{shown(str(here))} can't be read: {e.strerror or e}", hint="mind its permissions"
            )
            continue
        if _is_one(names):
            yield _told(here, known)
            continue
        folders = []
        for name in names:
            if stop():
                return
            looked += 1
            if looked > MAX_FILES:
                yield Found(
                    here,
                    problem=f"more than {MAX_FILES:,} files: the rest was not looked at",
                    hint="name a folder in it",
                )
                return
            place = here / name
            found, is_folder = _one(place, seen, known)
            if found is not None:
                yield found
            if is_folder and not name.startswith("."):
                folders.append(place)
        if depth < MAX_DEPTH:
            waiting += [(place, depth + 1) for place in reversed(folders)]
        elif folders:
            yield Found(
                here, problem=f"{shown(str(here))} has folders too deep to look into", hint="name a folder in it"
            )


def _is_one(names: list[str]) -> bool:
    """Whether a folder is a model in itself: it has an index, or a configuration beside weights."""
    weights = any(name.endswith(".safetensors") and name.startswith(("model", "diffusion_pytorch")) for name in names)
    return "model_index.json" in names or ("config.json" in names and weights)


def _one(place: Path, seen: set[tuple[int, int]], known: Mapping[str, str] | None) -> tuple[Found | None, bool]:
    """(what to tell of one name in a folder, whether it is a folder)."""
    suffix = place.suffix.lower()
    model = suffix == ".safetensors" or suffix in identify.PICKLES
    try:
        about = os.stat(place)
    except OSError:
        return (_told(place, known) if model else None), False  # a link that leads nowhere, or in a circle
    if stat.S_ISDIR(about.st_mode):
        return None, True
    if not model or place.name.startswith("."):
        return None, False
    if (about.st_dev, about.st_ino) in seen:
        return None, False
    seen.add((about.st_dev, about.st_ino))
    return _told(place, known), False


def _told(place: Path, known: Mapping[str, str] | None) -> Found:
    try:
        return Found(place, identify.path(place, known))
    except LoadError as e:
        return Found(place, problem=e.message, hint=e.hint)
