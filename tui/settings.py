"""settings.toml → Settings. A bad line is named and the rest holds.

Every setting is told of once, where it stands below: the file's checks, the screen that edits them, `safelight
settings` and the README's table are made from that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from engines import files
from engines.errors import InvalidRequest
from engines.requests import PRECISIONS
from tui.clean import clean, one_line
from tui.pictures.deciding import VARIABLE, WISHES

Value: TypeAlias = str | bool | int | float
Kind: TypeAlias = Literal["text", "choice", "switch", "whole", "number"]
GROUPS = ("Look", "Engine", "Pictures & files", "Prompts", "Terminal")
MOST = 1000
"Characters of a value that is text."
_T = TypeVar("_T", str, bool, int, float)
_KINDS: dict[Kind, str] = {
    "text": "text", "choice": "text", "switch": "true or false", "whole": "a whole number", "number": "a number",
}  # fmt: skip
_ON, _OFF = ("true", "yes", "on"), ("false", "no", "off")


@dataclass(frozen=True, slots=True)
class Option:
    """What there is to know of one setting."""

    name: str
    "As settings.toml has it."
    default: Value
    "What holds where nobody says anything."
    kind: Kind
    "What it takes."
    sentence: str
    "What it decides."
    group: str
    "One of GROUPS."
    choices: tuple[str, ...] = ()
    "All that may be chosen, for a choice."
    also: tuple[str, ...] = ()
    "What older files have in place of a choice."
    least: float | None = None
    "The smallest number."
    most: float | None = None
    "The largest number."
    at_once: bool = False
    "Whether it acts when it is changed; else at the next start."
    variable: str = ""
    "The variable of the environment that comes before it."
    check: Callable[[str], str] | None = None
    "Why a text can't be it; empty if it can."

    @property
    def takes(self) -> str:
        """What may be written, in words: 'auto, fp16 or fp32', 'a whole number from 0 to 1024'."""
        if self.choices:
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        limits = "" if self.least is None or self.most is None else f" from {self.least:g} to {self.most:g}"
        return _KINDS[self.kind] + limits

    def wrong(self, value: object) -> str:
        """Why a value of its kind can't be it; empty if it can."""
        if self.choices:
            return "" if value in self.choices or value in self.also else f"it is {self.takes}"
        if self.least is not None and self.most is not None and isinstance(value, int | float):
            return "" if self.least <= value <= self.most else f"it is {self.takes}"
        if isinstance(value, str):
            if len(value) > MOST or clean(value) != value or len(value.splitlines()) > 1:
                return f"it is one line of at most {MOST} characters that can be seen"
            return self.check(value) if self.check is not None else ""
        return ""

    def of_kind(self, value: object) -> bool:
        """Whether a value from a file is of its kind. A whole number is a number, too."""
        return type(value) is type(self.default) or (self.kind == "number" and type(value) is int)

    def read(self, text: str) -> Value:
        """A value as it is typed. Raises InvalidRequest, whose message says why it can't be one."""
        value: Value = text.strip()
        told = str(value).lower()
        if self.kind == "switch" and told in _ON + _OFF:
            value = told in _ON
        elif self.kind in ("whole", "number"):
            try:
                value = int(told) if self.kind == "whole" else float(told)
            except ValueError:
                pass
        shown = one_line(text, 60)
        if not self.of_kind(value):
            raise InvalidRequest(f"{self.name} can't be {shown!r}", f"it is {self.takes}", self.name)
        if wrong := self.wrong(value):
            raise InvalidRequest(f"{self.name} can't be {shown!r}", wrong, self.name)
        return value

    def text(self, value: Value) -> str:
        """A value as it is typed: `read` takes it back."""
        return str(value).lower() if isinstance(value, bool) else f"{value:g}" if self.kind == "number" else str(value)


def _option(default: _T, group: str, sentence: str, **told: Any) -> _T:
    kind = {bool: "switch", int: "whole", float: "number"}.get(type(default), "choice" if "choices" in told else "text")
    told |= {"default": default, "group": group, "sentence": sentence, "kind": kind}
    return field(default=default, metadata=told)


def _device(value: str) -> str:
    known = re.fullmatch(r"(cpu|mps|cuda(:\d{1,2})?)?", value) is not None
    return "" if known else "it is cpu, mps, cuda, cuda:1 and so on, or empty"


def _pattern(value: str) -> str:
    try:
        files.check_pattern(value)
    except InvalidRequest as e:
        return f"{e.message.removeprefix('file_name ')}; {e.hint}"
    return "" if value.strip() else f"it is empty; parts: {', '.join(files.PARTS)}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can decide once; the command line's options come before it."""

    theme: str = _option(
        "safelight-dark", "Look", "The colours: a theme of themes/, or of themes/ in the config folder.", at_once=True
    )
    pictures: str = _option(
        "auto", "Look", "How pictures are drawn; auto is the best way that the terminal shows right.",
        choices=WISHES, also=("textual-image",), variable=VARIABLE,
    )  # fmt: skip
    device: str = _option(
        "", "Engine", "cpu, cuda, cuda:1 or mps; empty takes the GPU with most free memory, else the CPU.",
        check=_device,
    )  # fmt: skip
    threads: int = _option(
        0, "Engine", "CPU threads for torch; 0 leaves one core to the keyboard in the workbench.", least=0, most=1024
    )
    precision: str = _option(
        "auto", "Engine", "The denoiser's arithmetic; auto is fp16 on a GPU, and on a CPU bf16 only where it is "
        "faster; fp8 is for the UNet's weights.", choices=tuple(PRECISIONS), at_once=True,
    )  # fmt: skip
    model: str = _option("", "Engine", "The model to start with; empty takes the best on this machine.")
    score: bool = _option(True, "Pictures & files", "Score every picture in the workbench.", at_once=True)
    folder: str = _option("", "Pictures & files", "Where pictures are saved; empty takes the pictures folder.")
    file_name: str = _option(
        files.PATTERN, "Pictures & files", "The pattern of file names; {width}, {height} and {steps} are parts, too.",
        check=_pattern,
    )  # fmt: skip
    weights: str = _option(
        "numbers", "Prompts", "What the keys that change a word's weight write: numbers as (word)1.2, or signs as "
        "word++.", choices=("numbers", "signs"), at_once=True,
    )  # fmt: skip
    blank_negative: str = _option(
        "zeros", "Prompts", "What a blank negative prompt is: zeros, as SDXL was trained, or empty, the encoded empty "
        "text, as in A1111 and ComfyUI.", choices=("zeros", "empty"), at_once=True,
    )  # fmt: skip
    notify: str = _option(
        "auto", "Terminal", "How the end of a job is notified: by the terminal's bell, OSC 9 or OSC 777; auto takes "
        "what the terminal knows.", choices=("auto", "bell", "osc9", "osc777", "off"), at_once=True,
    )  # fmt: skip
    notify_after: int = _option(
        20, "Terminal", "Seconds that a job must have taken for its end to be notified.", least=0, most=3600,
        at_once=True,
    )  # fmt: skip
    title: bool = _option(True, "Terminal", "Show progress in the terminal's window title.", at_once=True)
    clipboard: bool = _option(True, "Terminal", "Copy through the terminal (OSC 52).", at_once=True)
    probe_seconds: float = _option(
        1.0, "Terminal", "Seconds that the terminal is asked what it can do, before the workbench opens.",
        least=0.1, most=10,
    )  # fmt: skip
    keys: tuple[tuple[str, str], ...] = ()
    "Keymap overrides: action id to keys, from the [keys] table."
    given: tuple[str, ...] = ()
    "Names of what came from the command line."


OPTIONS: tuple[Option, ...] = tuple(Option(f.name, **f.metadata) for f in fields(Settings) if f.metadata)
BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class Refused:
    """A line of a file that can't be used."""

    found: str
    "What stands there, as TOML writes it, more or less."
    why: str
    "What is wrong with it."


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says."""

    settings: Settings = Settings()
    "Defaults where it says nothing."
    named: frozenset[str] = frozenset()
    "The settings that it has a usable line for."
    problems: tuple[str, ...] = ()
    "A line for each thing in it that can't be used."
    refused: Mapping[str, Refused] = field(default_factory=dict)
    "The same for each setting and each key that is known, by its name: 'threads', 'keys.make'."
    readable: bool = True
    "Whether it could be read at all; a file that is missing says nothing."


def check_model(settings: Settings, path: Path, known: Iterable[str]) -> tuple[Settings, tuple[str, ...]]:
    """The settings without a model that is not in the catalogue, and a line about it."""
    if not settings.model or settings.model in known:
        return settings, ()
    return replace(settings, model=""), (f"{path}: model can't be {settings.model!r}: it is not in the catalogue",)


def load(path: Path) -> tuple[Settings, tuple[str, ...]]:
    """The settings of a file, and a line for each thing in it that can't be used."""
    read = look(path)
    return read.settings, read.problems


def look(path: Path) -> Read:
    """What a file says, which may be missing."""
    try:
        if path.exists() and not path.is_file():
            return Read(problems=(f"{path} is no file",), readable=False)  # a FIFO would be waited for without end
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Read()
    except (OSError, ValueError, RecursionError) as e:
        return Read(problems=(f"{path}: {e}",), readable=False)
    problems: list[str] = []
    refused: dict[str, Refused] = {}
    values: dict[str, Any] = {}
    for name, value in table.items():
        option = BY_NAME.get(name)
        if name == "keys":
            keys = value if isinstance(value, dict) else {}
            odd = {
                f"keys.{k}": Refused(_written(v), "it must be text") for k, v in keys.items() if not isinstance(v, str)
            }
            problems += [f"{path}: {key} must be text" for key in odd]
            refused |= odd
            problems += [] if isinstance(value, dict) else [f"{path}: keys must be a table"]
            values[name] = tuple((k, v) for k, v in keys.items() if isinstance(v, str))
        elif option is None:
            problems.append(f"{path}: no setting is called '{name}'")
        elif not option.of_kind(value):
            problems.append(f"{path}: {name} must be {_KINDS[option.kind]}")
            refused[name] = Refused(_written(value), f"it must be {_KINDS[option.kind]}")
        elif wrong := option.wrong(value):
            problems.append(f"{path}: {name} can't be {value!r}: {wrong}")
            refused[name] = Refused(_written(value), wrong)
        else:
            values[name] = float(value) if option.kind == "number" else value
    return Read(replace(Settings(), **values), frozenset(values), tuple(problems), refused)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
