"""settings.toml → Settings. A bad line is named and the rest holds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from engines import files
from engines.errors import InvalidRequest
from engines.requests import PRECISIONS
from tui.pictures.deciding import known as known_wish


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can decide once; the command line's options come before it."""

    theme: str = "safelight-dark"
    "A theme's name, shipped or from the config folder's themes/."
    pictures: str = "auto"
    "How pictures are drawn: auto (the best that the terminal shows right), kitty, sixel or halfblocks."
    device: str = ""
    "cpu, cuda, cuda:1, mps; empty takes the GPU with most free memory, else the CPU."
    threads: int = 0
    "CPU threads for torch; 0 takes all cores but one in the workbench and all on the command line."
    precision: str = "auto"
    "auto, fp16, bf16, fp32 or fp8."
    model: str = ""
    "The model to start with; empty takes the best on this machine."
    score: bool = True
    "Score every finished picture in the workbench."
    folder: str = ""
    "Where pictures are saved; empty takes the pictures folder."
    file_name: str = "{date}-{time}-{seed}-{model}-{slug}"
    "The pattern of file names: date, time, seed, model, slug, width, height and steps in braces."
    blank_negative: str = "zeros"
    "What a blank negative prompt is: zeros, as SDXL was trained, or empty, the encoded empty text."
    weights: str = "numbers"
    "What the keys that change a word's weight write: numbers as (word)1.2, or signs as word++."
    keys: tuple[tuple[str, str], ...] = ()
    "Keymap overrides: action id to key, from the [keys] table."


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "pictures": known_wish,
    "weights": lambda v: v in ("numbers", "signs"),
    "threads": lambda v: 0 <= v <= 1024,
    "precision": lambda v: v in PRECISIONS,
    "device": lambda v: re.fullmatch(r"(cpu|mps|cuda(:\d{1,2})?)?", v) is not None,
    "blank_negative": lambda v: v in ("zeros", "empty"),
    "file_name": lambda v: bool(v.strip()) and _is_pattern(v),
}


def _is_pattern(text: str) -> bool:
    try:
        files.check_pattern(text)
    except InvalidRequest:
        return False
    return True


def check_model(settings: Settings, path: Path, known: Iterable[str]) -> tuple[Settings, tuple[str, ...]]:
    """The settings without a model that is not in the catalogue, and a line about it."""
    if not settings.model or settings.model in known:
        return settings, ()
    return replace(settings, model=""), (f"{path}: model can't be {settings.model!r}: it is not in the catalogue",)


def load(path: Path) -> tuple[Settings, tuple[str, ...]]:
    """The settings of a file, defaults where it says nothing, and a line for each thing in it that can't be used."""
    defaults = Settings()
    try:
        if path.exists() and not path.is_file():
            return defaults, (f"{path} is no file",)  # a FIFO would be waited for without end
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return defaults, ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        return defaults, (f"{path}: {e}",)
    problems: list[str] = []
    values: dict[str, Any] = {}
    known = {f.name for f in fields(Settings)}
    for name, value in table.items():
        if name == "keys" and isinstance(value, dict):
            bad = [k for k, v in value.items() if not isinstance(v, str)]
            problems += [f"{path}: keys.{k} must be text" for k in bad]
            values["keys"] = tuple((k, v) for k, v in value.items() if isinstance(v, str))
        elif name not in known:
            problems.append(f"{path}: no setting is called '{name}'")
        elif type(value) is not type(getattr(defaults, name)):
            kind = {"str": "text", "int": "a whole number", "bool": "true or false"}.get(
                type(getattr(defaults, name)).__name__, "a table"
            )
            problems.append(f"{path}: {name} must be {kind}")
        elif name in _CHECKS and not _CHECKS[name](value):
            problems.append(f"{path}: {name} can't be {value!r}")
        else:
            values[name] = value
    return replace(defaults, **values), tuple(problems)
