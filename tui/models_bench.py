"""`safelight bench models`: what it takes to load a model, to switch to one that is held, and to list a thousand.

What is loaded is made for it: a model in SDXL's layout and depth with narrower levels and random weights, a UNet of its
own over it, and a LoRA. `docs/benchmarks.md` says what each figure means.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines import folders
from engines.presence import WEIGHTS
from tui import wording
from tui.figures import SAFELIGHT, Figure, Place, Spread, failed, shown
from tui.probe import follow, python

LOADER = "from engines.diffusion.models_bench import main; sys.exit(main())"
SHAPE = "128,256,512/256,512/128,256,512,512"
"Widths of the UNet's levels (0.4 of SDXL's), of the text encoders, and of the VAE's levels (its own): 1.3 GB in all."
COLD_LOAD = 1.3
"Goal: loading takes at most so many times a bare from_pretrained."
SWITCH = 0.3
"Goal: going to a model that is held takes at most this of its cold load."
LISTING = 0.5
"Goal: seconds to list a thousand entries."
COUNT = 1000
"Entries in the catalogue that is listed."
HEAVY = ("accelerate", "compel", "diffusers", "peft", "torch", "transformers")
"What no command that only lists may import."
COMMANDS = (
    ("models list, {:,} entries", ("list",), LISTING),
    ("models list --json", ("list", "--json"), LISTING),
    ("models show", ("show", "bench-7"), 0.0),
    ("models add --dry-run, 5 GB", ("add", "{}/large.safetensors", "--dry-run"), 0.0),
)
"What is measured, the command after `safelight models`, and how many seconds it should take at most; 0 for no goal."
_IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s+([\w.]+)$", re.MULTILINE)
_RECIPE = '{ num_inference_steps = 25, guidance_scale = 5.0, scheduler = "euler", sizes = [[1024, 1024]] }'


def models(place: Place) -> Iterator[Figure]:
    """All figures of this bench."""
    folder = folders.make(place.folder / "models")
    size = int(_loader(place, "make", folder, "--shape", SHAPE)["bytes"])
    cold: list[Spread] = []
    for figure in _cold(place, folder, size):
        cold.append(figure.spread)
        yield figure
    yield from _switch(place, folder, cold[0])
    yield from _listing(place, folder)


def _loader(place: Place, what: str, folder: Path, *more: str) -> dict[str, Any]:
    """The result of one of engines.diffusion.models_bench's commands."""
    result: dict[str, Any] = {}

    def each(seconds: float, line: str) -> None:
        told = json.loads(line)
        if "progress" in told:
            place.progress.show(f"models: {told['progress']}", now=True)
        result.update(told.get("result") or told)

    ended = follow(python(LOADER, what, str(folder), *more), _environment(place, place.folder), each)
    if "error" in result:
        raise failed(place, str(result["error"]), ended.said)
    if ended.code or not result:
        raise failed(place, f"{what} of the models' bench ended with {ended.code}", ended.said)
    return result


def _environment(place: Place, home: Path) -> dict[str, str]:
    """As for any bench, with a hub's cache in which nothing is."""
    return {**place.environment(home), "HF_HOME": str(place.folder / "hub"), "HF_HUB_OFFLINE": "1"}


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cold(place: Place, folder: Path, size: int) -> Iterator[Figure]:
    """Ours against diffusers' own, each in a new process: with the files in the page cache, then without; and ours with
    files whose sha256 is still to be computed beside the loading, as after a download."""
    settings = [*place.options(), "--precision", place.session.settings.precision]
    known = folders.make(folder / "home")
    found: dict[str, list[dict[str, Any]]] = {}

    def load(kind: str, side: str, home: Path) -> None:
        found.setdefault(kind, []).append(_loader(place, side, folder, "--home", str(home), *settings))

    for side in ("bare", "ours"):  # fills the caches, of Python's compiler too
        place.progress.show("models: warming up", now=True)
        load("warming up", side, known)
    for number in range(place.runs):
        place.progress.show(f"models: loading, run {number + 1} of {place.runs}", now=True)
        load("bare", "bare", known)
        load("ours", "ours", known)
        load("new", "ours", folders.make(folder / f"home-{number}"))
        if hasattr(os, "posix_fadvise"):
            for kind, side in (("bare, disk", "bare"), ("ours, disk", "ours")):
                place.progress.show(f"models: loading from the disk, run {number + 1} of {place.runs}", now=True)
                _forget(folder / "base")
                load(kind, side, known)
    for what, one, other in (
        ("cold load, files in memory", "ours", "bare"),
        ("the same, sha256 unknown", "new", "bare"),
        ("cold load, files on the disk", "ours, disk", "bare, disk"),
    ):
        if one not in found:
            continue
        ours, bare = (Spread(tuple(run["seconds"] for run in found[kind])) for kind in (one, other))
        last = found[one][-1]
        yield Figure(
            "models", what, ours, "bare from_pretrained", bare, f"at most {COLD_LOAD:g}x",
            ours.median <= COLD_LOAD * bare.median,
            f"{wording.bytes_(size)} in fp16, {last['precision']} on {last['device']}",
            {
                "bytes": size, "device": last["device"], "precision": last["precision"],
                "load": Spread(tuple(run["load"] for run in found[one])).to_json(),
            },
        )  # fmt: skip


def _forget(folder: Path) -> None:
    """Takes the files of a folder out of the page cache, so that the next process reads the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _switch(place: Place, folder: Path, cold: Spread) -> Iterator[Figure]:
    """To and fro between models that were used before, against the cold load of one of them."""
    options = [*place.options(), "--precision", place.session.settings.precision, "--runs", str(place.runs)]
    spent = _loader(place, "switch", folder, "--home", str(folder / "home"), *options)
    for what, key in (("back to a model that is held", "base"), ("to a UNet over it that is held", "unet")):
        spread = Spread(tuple(spent[key]))
        yield Figure(
            "models", what, spread, "its cold load", cold, f"at most {SWITCH:g}x",
            spread.median <= SWITCH * cold.median,
        )  # fmt: skip
    yield Figure(
        "models", "another weight of a LoRA", Spread(tuple(spent["lora"])), "the model's cold load", cold,
        told=f"the first time {shown(spent['added'][0], 's')}", details={"first": round(spent["added"][0], 6)},
    )  # fmt: skip


# ── listing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _listing(place: Place, folder: Path) -> Iterator[Figure]:
    """New processes that list a thousand entries, show one, and tell what a file of 5 GB is."""
    home = place.folder / "listed"
    shelve(folders.make(home / "config"), COUNT)
    for pattern, arguments, goal in COMMANDS:
        what, command = pattern.format(COUNT), [argument.format(folder) for argument in arguments]
        spent: list[float] = []
        for number in range(place.runs + 1):
            place.progress.show(f"models: {what}, run {number + 1} of {place.runs + 1}", now=True)
            spent.append(_command(place, home, command)[0])
        _, said = _command(place, home, command, "-X", "importtime")
        heavy = sorted({name.partition(".")[0] for name in _IMPORTED.findall(said)} & set(HEAVY))
        spread = Spread(tuple(spent[1:]))  # the first fills the caches of the disk and of Python's compiler
        yield Figure(
            "models", what, spread, goal=f"under {goal:g} s, without torch" if goal else "without torch",
            met=not heavy and (not goal or spread.median < goal),
            told=f"imports {', '.join(heavy)}" if heavy else "imports none of torch and its companions",
            details={"command": ["safelight", "models", *command], "heavy": heavy},
        )  # fmt: skip


def _command(place: Place, home: Path, command: list[str], *options: str) -> tuple[float, str]:
    """Seconds until `safelight models …` has ended, and what it said on stderr."""
    interpreter, *rest = python(SAFELIGHT, "models", *command)
    told: list[str] = []
    began = time.perf_counter()
    ended = follow([interpreter, *options, *rest], _environment(place, home), lambda _, line: told.append(line))
    seconds = time.perf_counter() - began
    if ended.code or not told:
        raise failed(place, f"safelight models {command[0]} ended with {ended.code}", ended.said)
    return seconds, ended.said


def shelve(config: Path, count: int) -> None:
    """Writes a models.toml with `count` entries into a config folder, and beside it what they name: as many folders as
    checkpoints, repositories that are not here, UNets over another model, and LoRAs. The files are empty, for none is
    opened."""
    entries = []
    for number in range(count):
        about = f'id = "bench-{number}"\ntitle = "Number {number}"\nfamily = "sdxl"\nlicence = "none"\n'
        kind = number % 5
        if kind == 4:
            entries.append(f'[[lora]]\n{about}file = "{_empty(config / "loras" / f"{number}.safetensors")}"\n')
            continue
        if kind == 0:
            source = f'folder = "{_tree(config / "folders" / str(number))}"'
        elif kind == 1:
            source = f'file = "{_empty(config / "checkpoints" / f"{number}.safetensors")}"'
        elif kind == 2:
            source = f'repo = "bench/number-{number}", variant = "fp16"'
        else:
            source = f'base = "bench-0", unet = "{_empty(config / "unets" / f"{number}.safetensors")}"'
        entries.append(f"[[model]]\n{about}bytes = 7000000000\nsource = {{ {source} }}\nrecipe = {_RECIPE}\n")
    (config / "models.toml").write_text("\n".join(entries), encoding="utf-8")


def _empty(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.as_posix()


def _tree(path: Path) -> str:
    """A folder in diffusers' layout."""
    _empty(path / "model_index.json")
    _empty(path / "scheduler" / "scheduler_config.json")
    for name, stem in WEIGHTS.items():
        _empty(path / name / "config.json")
        _empty(path / name / f"{stem}.safetensors")
    for name in ("tokenizer", "tokenizer_2"):
        _empty(path / name / "vocab.json")
        _empty(path / name / "merges.txt")
    return path.as_posix()
