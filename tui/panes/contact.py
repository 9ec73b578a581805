"""The contact sheet's grid: every picture that was made, in an order; a hundred thousand scroll as ten do."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from engines import browsing, sweep
from engines.errors import SafelightError
from engines.requests import Picture
from engines.store import Store
from tui.clean import one_line
from tui.gallery import SIZES, Gallery
from tui.rows import Rows

STEP = 2
"Which of the sizes pictures have where there is room."
EMPTY = ("No pictures yet.", "esc goes back: type a prompt, Enter makes one.")
NONE_FOUND = ("No picture whose prompt or model has these words.", "/ changes them; there, esc takes them away.")


class ContactGrid(Gallery):
    """As many pictures beside one another as fit, each with what it is worth under it.

    Args:
        store: the history.
        step: which of the sizes; None for one that fits.
        worth: what stands under a picture, the most important first.
        marked: the ids of those that are marked, whenever it is looked at.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"sheet--dim", "sheet--cursor", "sheet--mark", "sheet--failed"}

    class Walked(Message):
        """The cursor is on another picture, or more is known of the one that it is on."""

    class Opened(Message):
        """A picture was clicked twice."""

    def __init__(
        self, store: Store, step: int | None, worth: Callable[[Picture], Sequence[str]], marked: Collection[int]
    ) -> None:
        super().__init__(store, "contact", STEP if step is None else step)
        self._store = store
        self._chosen = step
        self._rows = Rows()
        self._ready = False
        self._empty: Sequence[str] = EMPTY
        self._worth = worth
        self._marked = marked
        self.cursor = 0
        "The row of the picture under it; rows are counted along the lines."

    # ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────

    def show(self, ids: array[int], words: str, at: int | None, *, whole: bool = True, doubted: bool = False) -> None:
        """Pictures in their order, found by words; the cursor goes to the one of the id `at`, or to the first. Those
        that are known may have changed, if they are doubted."""
        self._rows.ids = ids
        if doubted:
            self._rows.doubt()
        self._ready = whole or bool(ids)
        self._empty = NONE_FOUND if words.strip() else EMPTY
        self.cursor = (self._rows.place(at) if at is not None else None) or 0
        self._fit()
        self._follow()

    def put(self, picture: Picture) -> None:
        """A picture as it is now."""
        self._rows.put(picture)
        self.redraw((picture.id,))

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self._rows)

    @property
    def ids(self) -> array[int]:
        """Of all pictures, in their order."""
        return self._rows.ids

    @property
    def picture(self) -> Picture | None:
        """Under the cursor."""
        return self._rows.at(self.cursor)

    @property
    def at(self) -> int | None:
        """Its id, which is known before the picture is."""
        return self._rows.ids[self.cursor] if self.cursor < len(self._rows) else None

    # ── walking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def walk(self, across: int, down: int) -> None:
        """Moves the cursor. Left and right go on in the next line; below the last picture is none."""
        last = len(self._rows) - 1
        if last < 0:
            return
        to = self.cursor + across + down * self.columns
        if across:
            to = max(0, min(last, to))
        elif to < 0:
            to = self.cursor % self.columns
        elif to > last and self.cursor // self.columns == last // self.columns:
            to = self.cursor
        elif to > last:
            to = self.cursor % self.columns + last // self.columns * self.columns
        self.go(to)

    def go(self, row: int) -> None:
        """To a row; beyond the last to that."""
        before, self.cursor = self.cursor, max(0, min(len(self._rows) - 1, row))
        self._refresh_rows({before, self.cursor})
        self._follow(redraw=False)

    def resize(self, by: int) -> None:
        """Larger or smaller pictures, the cursor's in sight."""
        if self.scale(by):
            self._chosen = self.step
            self._fit()
            self._follow()

    @property
    def chosen_step(self) -> int | None:
        """Which of the sizes its user wants; None for what fits."""
        return self._chosen

    @property
    def columns(self) -> int:
        """Pictures in a line."""
        return max(1, self.size.width // (self.wide + 1))

    @property
    def page(self) -> int:
        """Lines of pictures that are in sight at once."""
        return max(1, self.size.height // self._tall)

    @property
    def _tall(self) -> int:
        return self.high + 1

    def _fit(self) -> None:
        lines = -(-len(self._rows) // self.columns)
        self.virtual_size = Size(max(1, self.size.width), max(1, lines * self._tall))

    def _follow(self, redraw: bool = True) -> None:
        top, height = self.cursor // self.columns * self._tall, max(1, self.size.height)
        to = self.scroll_y
        if top < to or self._tall > height:
            to = top
        elif top + self._tall > to + height:
            to = top + self._tall - height
        self.scroll_to(y=to, animate=False)
        self.look(redraw)
        self.post_message(self.Walked())

    def watch_scroll_y(self, old: float, new: float) -> None:
        """What comes into sight is read."""
        super().watch_scroll_y(old, new)
        self.look(redraw=False)

    def on_resize(self, event: events.Resize) -> None:
        """Other lines, the cursor's in sight; a whole one, where nobody chose a size."""
        if self._chosen is None:
            fitting = [step for step in range(STEP + 1) if SIZES[step] // 2 < self.size.height]
            self.scale(max(fitting, default=0) - self.step)
        self._fit()
        self._follow()

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer; a double click opens."""
        column, line = event.x // (self.wide + 1), (event.y + self.scroll_offset.y) // self._tall
        row = line * self.columns + column
        if column < self.columns and row < len(self._rows):
            before, self.cursor = self.cursor, row
            self._refresh_rows({before, row})
            self.look(redraw=False)
            self.post_message(self.Opened() if event.chain == 2 else self.Walked())

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _sight(self) -> tuple[int, int]:
        """The first and last row on the screen."""
        top = int(self.scroll_y) // self._tall
        lines = -(-max(1, self.size.height) // self._tall) + 1
        return top * self.columns, min(len(self._rows), (top + lines) * self.columns) - 1

    def unknown(self) -> Sequence[int]:
        """As in Gallery."""
        return self._rows.wanted(*self._sight(), self.cursor)

    async def learn(self, ids: Sequence[int]) -> None:
        """As in Gallery."""
        found = await asyncio.to_thread(browsing.some, self._store, ids)
        first, last = self._sight()
        self._rows.add(ids, found, last - first)
        if self.at in ids:
            self.post_message(self.Walked())

    def redraw(self, ids: Collection[int]) -> None:
        """As in Gallery."""
        first, last = self._sight()
        wanted = set(ids)
        self._refresh_rows({row for row in range(first, last + 1) if self._rows.ids[row] in wanted})

    def _refresh_rows(self, rows: Collection[int]) -> None:
        wide, tall, top = self.wide + 1, self._tall, self.scroll_offset.y
        cells = [Region(row % self.columns * wide, row // self.columns * tall - top, wide, tall) for row in rows]
        if found := [cell for cell in cells if cell.overlaps(self.size.region)]:
            self.refresh(*found)

    def in_sight(self) -> Sequence[Picture]:
        """As in Gallery."""
        first, last = self._sight()
        return [picture for row in range(first, last + 1) if (picture := self._rows.at(row)) is not None]

    def lost(self, picture: Picture) -> str:
        """As in Gallery."""
        path = Path(picture.path)
        try:
            return "" if sweep.there(path) else "damaged" if path.exists() else "deleted"
        except (SafelightError, OSError, ValueError):
            return "can't be read"

    # ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────

    def render_line(self, y: int) -> Strip:
        """A line of a row of pictures."""
        width, base = self.size.width, self.rich_style
        dim = base + self._ink("sheet--dim")
        if not len(self._rows):
            at = y - max(0, self.size.height - len(self._empty)) // 2
            text = self._empty[at] if self._ready and 0 <= at < len(self._empty) else ""
            return Strip([Segment(set_cell_size(one_line(text, width).center(width), width), dim)])
        line, part = divmod(y + self.scroll_offset.y, self._tall)
        first = line * self.columns
        rows = range(first, min(first + self.columns, len(self._rows)))
        return Strip.join([self._part(row, part, base, dim) for row in rows]).adjust_cell_length(width, base)

    def _part(self, row: int, line: int, base: Style, dim: Style) -> Strip:
        """A cell's piece of a line: of its picture, or what stands under it."""
        wide, here = self.wide, row == self.cursor
        mark = Segment("▌" if here else " ", base + self._ink("sheet--mark"))
        picture = self._rows.at(row)
        drawn = self.drawing(picture) if picture is not None else None
        if line == self.high:
            if here:  # where there are few colours, that of the mark is that of the cursor
                style = base + self._paper("sheet--cursor")
                return Strip([mark, *self._told(picture, style, style)])
            return Strip([mark, *self._told(picture, dim, base + self._ink("sheet--mark"))])
        lost = drawn.lost if drawn is not None else "damaged" if self._rows.is_broken(row) else ""
        if drawn is not None and not lost:
            return Strip.join([Strip([mark]), drawn.strips[line].apply_style(base)])
        middle = line == (self.high - 1) // 2
        text = (one_line(lost, wide) or "…") if middle else ""
        return Strip([mark, Segment(text.center(wide), base + self._ink("sheet--failed") if lost else dim)])

    def _told(self, picture: Picture | None, style: Style, mark: Style) -> list[Segment]:
        """As much as fits of what a picture is worth, behind its mark."""
        marked = picture is not None and picture.id in self._marked
        text = ""
        for part in self._worth(picture) if picture is not None else ():
            longer = f"{text} {part}" if text else part
            if len(longer) <= self.wide - 2 * marked:
                text = longer
        sign = [Segment("● ", mark)] if marked else []
        return [*sign, Segment(set_cell_size(text, self.wide - 2 * marked), style)]
