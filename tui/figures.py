"""What a bench tells and what it is given: spreads, figures, and a place of its own to measure in."""

from __future__ import annotations

import json
import logging
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engines import folders
from engines.entries import Model
from engines.errors import SafelightError
from tui.clean import one_line
from tui.making import Progress
from tui.probe import Ended, follow
from tui.session import Session

log = logging.getLogger(__name__)

SAFELIGHT = "from tui.cli import main; main()"
"What the installed command runs."

Unit = Literal["s", "B"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The same thing, measured again and again."""

    values: tuple[float, ...]
    "In the order of the runs."
    unit: Unit = "s"
    "Seconds or bytes."

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def at(self, share: float) -> float:
        """The value below which `share` (0 … 1) of them lie: the nearest one above."""
        ranked = sorted(self.values)
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)]

    def to_json(self) -> dict[str, Any]:
        """Median, least, most, and all of them."""
        rounded = [round(v, 6) for v in self.values]
        return {"median": round(self.median, 6), "min": min(rounded), "max": max(rounded), "values": rounded}

    def words(self) -> str:
        """'1.03 s (1.01 s–1.10 s)'."""
        low, high = (shown(edge(self.values), self.unit) for edge in (min, max))
        return f"{shown(self.median, self.unit)} ({low}–{high})"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    bench: str
    "Which bench it belongs to."
    what: str
    "What was measured."
    spread: Spread
    "Its values."
    against: str = ""
    "What it is held against, if anything was measured beside it."
    other: Spread | None = None
    "That one's values."
    goal: str = ""
    "What it should be, in words."
    met: bool | None = None
    "Whether it is; None where the goal is not for this machine or model."
    told: str = ""
    "What else is worth a word."
    details: dict[str, Any] = field(default_factory=dict)
    "What else there is, for programs."

    @property
    def ratio(self) -> float | None:
        """Of the medians."""
        return self.spread.median / self.other.median if self.other is not None else None

    def to_json(self) -> dict[str, Any]:
        """The figure as one object."""
        found: dict[str, Any] = {
            "bench": self.bench, "what": self.what, "unit": self.spread.unit, "runs": len(self.spread.values),
            **self.spread.to_json(),
        }  # fmt: skip
        if self.other is not None:
            found |= {"against": {"what": self.against, **self.other.to_json()}, "ratio": round(self.ratio or 0.0, 4)}
            found["difference"] = round(self.spread.median - self.other.median, 6)
        return {**found, "goal": self.goal or None, "met": self.met, **self.details}

    def line(self) -> str:
        """The figure as a line for people."""
        parts = [self.spread.words()]
        if self.other is not None:
            more = self.spread.median - self.other.median
            parts = [
                f"{self.ratio:.2f}x, {shown(more, self.spread.unit, signed=True)}",
                self.spread.words(),
                f"{self.against} {self.other.words()}",
            ]
        if self.told:
            parts.append(self.told)
        if self.goal:
            verdict = {True: "met", False: "missed", None: "not for this one"}[self.met]
            parts.append(f"goal {self.goal}: {verdict}")
        return f"{self.bench:<7} {self.what:<32} {' · '.join(parts)}"


def shown(value: float, unit: Unit, signed: bool = False) -> str:
    """'12.3 ms', '1.24 s', '512 MiB'."""
    sign = "+" if signed and value >= 0 else ""
    if unit == "B" and abs(value) < 10 * 2**20:
        return f"{sign}{value / 1000:.0f} kB"
    if unit == "B":
        return f"{sign}{value / 2**20:.0f} MiB"
    if abs(value) < 0.1:
        return f"{sign}{value * 1000:.1f} ms"
    return f"{sign}{value:.2f} s"


@dataclass(frozen=True, slots=True)
class Place:
    """What every bench is given."""

    session: Session
    "The user's own."
    model: Model
    "What is measured."
    runs: int
    "How often."
    folder: Path
    "A temporary one, for homes."
    progress: Progress
    "One line on stderr."

    def home(self) -> Path:
        """A new SAFELIGHT_HOME, in which only the user's own models are known."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        config = folders.make(home / "config")
        theirs = self.session.folders.config
        if self.session.folders.models.is_file():
            # paths in models.toml are relative to it, so what stands beside it comes along; settings do not
            for entry in theirs.iterdir():
                if entry.name != self.session.folders.settings.name:
                    (config / entry.name).symlink_to(entry.absolute())
        return home

    def environment(self, home: Path) -> dict[str, str]:
        """This process's, with that home, and a terminal whose kind is always the same."""
        left_out = ("NO_COLOR", "COLUMNS", "LINES", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return {**kept, "SAFELIGHT_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}

    def options(self) -> list[str]:
        """The device and the threads that the user wants, for a command."""
        settings = self.session.settings
        device = ["--device", settings.device] if settings.device else []
        return [*device, *(["--threads", str(settings.threads)] if settings.threads else [])]


def lines(place: Place, command: Sequence[str], home: Path) -> tuple[list[tuple[float, str]], Ended]:
    """What a program prints, each line with the seconds since its start, and how it ended."""
    told: list[tuple[float, str]] = []
    ended = follow(command, place.environment(home), lambda seconds, line: told.append((seconds, line)))
    return told, ended


def failed(place: Place, message: str, said: str) -> SafelightError:
    """What a program that was measured said goes to the log, and its own `error:` line to whoever asked."""
    log.error("%s\n%s", message, said)
    own = next((line[7:] for line in said.splitlines() if line.startswith("error: ")), "")
    return SafelightError(
        one_line(f"{message}: {own}" if own else message), f"the log has more: {place.session.folders.log}"
    )


def measure(place: Place, program: Sequence[str], what: str) -> dict[str, Any]:
    """What a bench of the engine's prints as its result, its progress shown meanwhile.

    Args:
        program: the command, without what `Place` says.
        what: 'engine: picture': what is counted.

    Raises:
        SafelightError: it told an error, or ended without a result.
    """
    options = list(place.options())
    if place.session.folders.models.is_file():
        options += ["--models", str(place.session.folders.models)]
    result: dict[str, Any] = {}

    def each(seconds: float, line: str) -> None:
        told = json.loads(line)
        if "progress" in told:
            done, of = told["progress"]
            place.progress.show(f"{what} {done} of {of}")
        result.update(told.get("result") or told)

    ended = follow([*program, *options], place.environment(place.folder), each)
    if "error" in result:
        raise failed(place, str(result["error"]), ended.said)
    if "bare" not in result:
        raise failed(place, f"the process of '{what}' ended with {ended.code}", ended.said)
    return result
