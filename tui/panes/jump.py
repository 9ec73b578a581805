"""Letters over panes and fields: pressing one goes there."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from tui.clean import one_line

LETTERS = {"scheduler": "d", "score": "o", "seed": "e", "size": "z", "picture": "i", "history": "h", "queue": "q"}
"By name, where the first letter is another's; a letter is always the same, so that the hand learns it."


NAMES = {"centre": "picture", "sheet": "pictures"}
"What widgets are called here, where that isn't their id."


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go."""

    letter: str
    "The key."
    name: str
    "What it is called."
    widget: Widget | None = None
    "What gets the focus; none if it is on a page that is not shown."
    action: str = ""
    "The screen's action that goes there, then."
    at: tuple[int, int] | None = None
    "Where its letter stands; none if it is out of sight."


def places(screen: Screen[object], beyond: Iterable[tuple[str, str]] = ()) -> list[Place]:
    """Everything that can have the focus, and what the screen says is `beyond`: (name, action)."""
    taken: set[str] = set()
    found: list[Place] = []
    for widget in screen.focus_chain:
        name = (widget.id or type(widget).__name__).removeprefix("input-").removesuffix("-choice")
        name = NAMES.get(name, name)
        seen = screen.find_widget(widget).visible_region if widget in screen._compositor.full_map else None
        at = (seen.x, seen.y) if seen else None
        found.append(Place(_letter(name, taken), name, widget, at=at))
    for name, action in beyond:
        if all(place.name != name for place in found):
            found.append(Place(_letter(name, taken), name, action=action))
    return [place for place in found if place.letter]


def _letter(name: str, taken: set[str]) -> str:
    """The one of a name, or the next that is free; empty if none is."""
    wanted = LETTERS.get(name, "") + name.lower() + string.ascii_lowercase + string.digits
    letter = next((sign for sign in wanted if sign in string.ascii_lowercase + string.digits and sign not in taken), "")
    taken.add(letter)
    return letter


class JumpScreen(ModalScreen[Place | None]):
    """The letters, over what is seen; whatever else is pressed takes them away."""

    def __init__(self, found: Sequence[Place]) -> None:
        super().__init__()
        self._places = {place.letter: place for place in found}

    def compose(self) -> ComposeResult:
        """A sign at every place, and a line for those out of sight."""
        for place in self._places.values():
            if place.at is not None:
                sign = Static(f" {place.letter} ", classes="jump-letter", markup=False)
                sign.styles.offset = place.at
                yield sign
        away = [place for place in self._places.values() if place.at is None]
        parts: list[str | tuple[str, str]] = []
        for place in away:
            parts += [(f" {place.letter} ", "bold reverse"), f" {one_line(place.name, 20)}  "]
        yield Static(
            Content.assemble(*parts, ("a letter goes there · esc stays", "italic")), id="jump-line", markup=False
        )

    def on_key(self, event: events.Key) -> None:
        """Goes, or not."""
        event.stop()
        event.prevent_default()
        self.dismiss(self._places.get(event.key.lower()))

    def on_click(self) -> None:
        """A click is another key."""
        self.dismiss(None)

    def on_resize(self, event: events.Resize) -> None:
        """Everything is elsewhere then."""
        if self._born is not None and event.size != self._born:
            self.dismiss(None)
        self._born = event.size

    _born: object = None
