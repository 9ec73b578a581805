"""What the tour waits for: states of the real workbench, by name; never a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.widgets import Static

from engines.prompt import parse
from tui.choice import ChoiceList
from tui.offers import OfferList
from tui.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Before:
    """How it stood when a step began."""

    path: str
    "Of the shown picture."
    theme: str
    "Its name."
    told: Mapping[str, str]
    "What the lines of one row said, by id."


@dataclass(frozen=True, slots=True)
class Cues:
    """Looks at the app; changes nothing."""

    app: App[Any]
    workbench: Workbench

    def before(self) -> Before:
        """Kept while a step is typed."""
        shown = self.workbench.shown
        lines = {f"#{line.id}": str(line.render()) for line in self.app.screen.query(Static) if line.id}
        return Before(shown.path if shown else "", self.app.theme, lines)

    def came(self, cue: str, before: Before) -> bool:
        """Whether a state is there: a name of CUES, perhaps with an argument."""
        name, _, argument = cue.partition(" ")
        return CUES[name](self, argument, before)

    def line(self, selector: str) -> str:
        """What a line of the shown screen says; empty where there is none."""
        return "".join(str(line.render()) for line in self.app.screen.query(selector).results(Static))


def _made(cues: Cues, _: str, before: Before) -> bool:
    return not cues.workbench.waiting and not cues.workbench.sketching and _turned(cues, "", before)


def _turned(cues: Cues, _: str, before: Before) -> bool:
    shown = cues.workbench.shown
    return shown is not None and shown.path != before.path


def _rows(cues: Cues) -> OfferList | None:
    """Of the list that is open, when it is there."""
    screen = cues.app.screen
    return next(iter(screen.query(OfferList)), None) if isinstance(screen, ChoiceList) else None


def _offers(cues: Cues, _: str, before: Before) -> bool:
    rows = _rows(cues)
    return rows is not None and bool(rows.offers)


def _offered(cues: Cues, value: str, before: Before) -> bool:
    rows = _rows(cues)
    return rows is not None and rows.chosen is not None and rows.chosen.value == value


def _marked(cues: Cues, count: str, before: Before) -> bool:
    from tui.grid_screen import Marks

    return any(len(marks.values) == int(count) for marks in cues.app.screen.query("#axis-models").results(Marks))


def _swept(cues: Cues, _: str, before: Before) -> bool:
    from tui.sweep_screen import SweepScreen

    screen = cues.app.screen
    board = screen.shown if isinstance(screen, SweepScreen) else None
    return board is not None and not cues.workbench.conductor.busy and board.made == len(board.sweep.cells)


def _focus(cues: Cues, id: str, before: Before) -> bool:
    return cues.app.focused is not None and cues.app.focused.id == id


CUES: Mapping[str, Callable[[Cues, str, Before], bool]] = {
    "blended": lambda cues, _, before: len(parse(cues.workbench.draft.prompt).parts) > 1,
    "changed": lambda cues, line, before: cues.line(line) not in ("", before.told.get(line, "")),
    "counted": lambda cues, count, before: f"{count} pictures".strip() in cues.line("#grid-told"),
    "focus": _focus,
    "live": lambda cues, _, before: cues.workbench.live,
    "made": _made,
    "marked": _marked,
    "model": lambda cues, id, before: cues.workbench.draft.model == id and cues.app.screen is cues.workbench,
    "not": lambda cues, cue, before: not cues.came(cue, before),
    "offered": _offered,
    "offers": _offers,
    "prompt": lambda cues, text, before: cues.workbench.draft.prompt == text,
    "screen": lambda cues, name, before: type(cues.app.screen).__name__ == name,
    "seeded": lambda cues, _, before: bool(cues.workbench.draft.seed.strip()),
    "strip": lambda cues, _, before: cues.workbench.strip.full,
    "swept": _swept,
    "themed": lambda cues, _, before: cues.app.theme != before.theme,
    "told": lambda cues, line, before: bool(cues.line(line)),
    "turned": _turned,
}
"Name → whether it came, by its argument and by how it stood before."
