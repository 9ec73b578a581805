"""A list of things that can be chosen: as long as it likes, for only the rows in sight are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import cells
from tui.clean import one_line


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that can be chosen."""

    value: str
    "What the choice stands for."
    title: str
    "How it is shown."
    detail: str = ""
    "A second line in the open list."
    reason: str = ""
    "Why it can't be chosen; empty if it can."
    note: str = ""
    "A few words at the right of the title."
    remark: str = ""
    "A few words at the right of the second line."
    aside: bool = False
    "The open list has it, the arrows of the closed one pass it over."

    def has(self, words: Sequence[str]) -> bool:
        """Whether all words, in small letters, are found in what is shown."""
        text = f"{self.title} {self.value} {self.detail} {self.note} {self.remark}".lower()
        return all(word in text for word in words)


class OfferList(ScrollView, can_focus=False):
    """Rows of one or two lines. The keys come from whoever has the focus."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"offers--dim", "offers--cursor", "offers--mark"}

    class Clicked(Message):
        """The row under the cursor was clicked."""

    def __init__(self, offers: Sequence[Offer], value: str) -> None:
        super().__init__()
        self._offers = tuple(offers)
        self._words: tuple[str, ...] = ()
        self._rows = self._offers
        self._tall = _height(self._offers)
        self._chosen = value
        self._cursor = _place(self._rows, value)

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What the filter leaves, in order."""
        return self._rows

    @property
    def chosen(self) -> Offer | None:
        """The one under the cursor."""
        return self._rows[self._cursor] if self._rows else None

    def on_mount(self) -> None:
        """As high as the whole list, so that the box doesn't jump while it is filtered."""
        self.styles.height = max(1, len(self._offers) * self._tall)
        self._fit()

    def show(self, offers: Sequence[Offer]) -> None:
        """Other offers; the cursor stays on its own."""
        before = self.chosen
        self._offers = tuple(offers)
        self._tall = _height(self._offers)
        self._rows = tuple(o for o in self._offers if o.has(self._words))
        if before is None and self._words:
            self._cursor = self._best()
        else:
            self._cursor = _place(self._rows, before.value if before else self._chosen)
        self.styles.height = max(1, len(self._offers) * self._tall)
        self._fit()

    def filter(self, text: str) -> None:
        """Only what has all words of a text; the cursor goes to what has them in its name, and first of all at its
        beginning."""
        value = self.chosen.value if self.chosen else self._chosen
        self._words = tuple(text.lower().split())
        self._rows = tuple(o for o in self._offers if o.has(self._words))
        self._cursor = self._best() if self._words else _place(self._rows, value)
        self._fit()

    def _best(self) -> int:
        def distance(at: int) -> tuple[bool, bool, bool]:
            offer = self._rows[at]
            name, text = f"{offer.value} {offer.title}".lower(), " ".join(self._words)
            begins = offer.value.lower().startswith(text) or offer.title.lower().startswith(text)
            return bool(offer.reason), not begins, not all(word in name for word in self._words)

        return min(range(len(self._rows)), key=distance, default=0)

    def move(self, by: int) -> None:
        """Moves the cursor and keeps it in sight."""
        self._cursor = max(0, min(len(self._rows) - 1, self._cursor + by))
        self._see()
        self.refresh()

    @property
    def page(self) -> int:
        """Rows of a screenful."""
        return max(1, self.size.height // self._tall - 1)

    def _fit(self) -> None:
        self.virtual_size = Size(max(1, self.size.width), max(1, len(self._rows) * self._tall))
        self._see()
        self.refresh()

    def _see(self) -> None:
        top = self._cursor * self._tall
        if top < self.scroll_y:
            self.scroll_to(y=top, animate=False, force=True)
        elif top + self._tall > self.scroll_y + self.size.height:
            self.scroll_to(y=top + self._tall - self.size.height, animate=False, force=True)

    def on_resize(self, event: events.Resize) -> None:
        """More or less is in sight."""
        self._fit()

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer and tells."""
        event.stop()
        row = (event.y - self.gutter.top + self.scroll_offset.y) // self._tall
        if 0 <= row < len(self._rows):
            self.move(row - self._cursor)
            self.post_message(self.Clicked())

    def render_line(self, y: int) -> Strip:
        """One line of one row."""
        width = self.scrollable_content_region.width  # without the scrollbar
        row, line = divmod(y + self.scroll_offset.y, self._tall)
        base = self.rich_style
        dim = base + Style(color=self.get_component_rich_style("offers--dim").color)
        if row >= len(self._rows):
            text = "nothing has these words" if y == 0 and not self._rows else ""
            return Strip([Segment(cells.pad(one_line(text, width), width), dim)])
        offer = self._rows[row]
        if row == self._cursor:
            paper = Style(bgcolor=self.get_component_rich_style("offers--cursor").bgcolor)
            base, dim = base + paper, dim + paper
        mark = Segment("▌" if row == self._cursor else " ", base + self._ink())
        if line == 0:
            left, right, ink = offer.title, offer.note, dim if offer.reason else base
        else:
            left, right, ink = f"  {offer.reason or offer.detail}", offer.remark, dim
        right = one_line(right, max(0, width // 2))
        room = max(1, width - cells.width(right) - 2 - bool(right))
        # one_line would eat the indent
        indent = left[: len(left) - len(left.lstrip())]
        words = Segment(indent + one_line(left, max(1, room - len(indent))), ink)
        gap = Segment(" " * max(0, width - 1 - words.cell_length - Segment(right).cell_length), base)
        return Strip([mark, words, gap, Segment(right, dim)]).adjust_cell_length(width, base)

    def _ink(self) -> Style:
        return Style(color=self.get_component_rich_style("offers--mark").color)


def _height(offers: Sequence[Offer]) -> int:
    return 2 if any(o.detail or o.reason or o.remark for o in offers) else 1


def _place(offers: Sequence[Offer], value: str) -> int:
    """Where a value stands, else the first that can be chosen."""
    able = next((i for i, o in enumerate(offers) if not o.reason), 0)
    return next((i for i, o in enumerate(offers) if o.value == value), able)
