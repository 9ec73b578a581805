"""The list of preferences: groups, and under each its settings or keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Offset, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import keys
from tui.clean import one_line
from tui.preference_rows import REFUSED, Row

NAME, ORIGIN = 18, 14
"Cells of the first column and of the third; what is between them is the value's."
ROOMY = 116
"Cells from which on the sentences stand in the list, too."
VALUE = 40
"Cells of the value then."


class PreferenceList(ScrollView, can_focus=True):
    """One line a row. The screen does what the keys say."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "preferences--dim", "preferences--cursor", "preferences--mark", "preferences--head", "preferences--own",
        "preferences--bad",
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("preferences"),
        *keys.list_moves(),
    ]

    class Moved(Message):
        """Another row is under the cursor."""

    class Asked(Message):
        """Something shall be done: the name of an action of the table."""

        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what

    def __init__(self) -> None:
        super().__init__(id="preference-list")
        self._rows: Sequence[Row] = ()
        self._cursor = 0

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor; the name of a group is never under it."""
        row = self._rows[self._cursor] if self._cursor < len(self._rows) else None
        return row if row is not None and row.id else None

    @property
    def place(self) -> tuple[Offset, int]:
        """Where on the screen the value under the cursor stands, and how many cells it has."""
        x, wide = 1 + NAME, self._columns()[0]
        return self.content_region.offset + Offset(x, self._cursor - self.scroll_offset.y), wide

    def show(self, rows: Sequence[Row]) -> None:
        """Other rows; the cursor stays on its own."""
        before = self.chosen
        self._rows = rows
        at = next((i for i, row in enumerate(rows) if before is not None and row.id == before.id), None)
        self._cursor = at if at is not None else next((i for i, row in enumerate(rows) if row.id), 0)
        self._fit()
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """To the next row that is no group's name."""
        self._go(self._cursor + by, 1 if by > 0 else -1)

    def action_page(self, by: int) -> None:
        """A screenful up or down."""
        self._go(self._cursor + by * max(1, self.size.height - 1), by)

    def _go(self, at: int, way: int) -> None:
        at = max(0, min(len(self._rows) - 1, at))
        able = [i for i, row in enumerate(self._rows) if row.id]
        if able:
            ahead = [i for i in able if i >= at] if way > 0 else [i for i in able if i <= at][::-1]
            self._cursor = ahead[0] if ahead else able[-1 if way > 0 else 0]
            self._see()
            self.refresh()
            self.post_message(self.Moved())

    def action_edit_setting(self) -> None:
        """As the table says."""
        self.post_message(self.Asked("edit-setting"))

    def action_step_setting(self) -> None:
        """As the table says."""
        self.post_message(self.Asked("step-setting"))

    def action_reset_setting(self) -> None:
        """As the table says."""
        self.post_message(self.Asked("reset-setting"))

    def action_find_setting(self) -> None:
        """As the table says."""
        self.post_message(self.Asked("find-setting"))

    def action_open_settings(self) -> None:
        """As the table says."""
        self.post_message(self.Asked("open-settings"))

    def action_leave_settings(self) -> None:
        """As the table says."""
        self.post_message(self.Asked("leave-settings"))

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer; a double click changes what is there."""
        event.stop()
        row = event.y - self.gutter.top + self.scroll_offset.y
        if 0 <= row < len(self._rows) and self._rows[row].id:
            self._go(row, 1)
            if event.chain == 2:
                self.action_edit_setting()

    def on_resize(self, event: events.Resize) -> None:
        """More or less is in sight."""
        self._fit()

    def _fit(self) -> None:
        self.virtual_size = Size(max(1, self.size.width), max(1, len(self._rows)))
        self._see()
        self.refresh()

    def _see(self) -> None:
        above = self._cursor > 0 and not self._rows[self._cursor - 1].id
        top, bottom = self._cursor - above, self._cursor + 1  # with the name of its group
        if top < self.scroll_y:
            self.scroll_to(y=top, animate=False, force=True)
        elif bottom > self.scroll_y + self.size.height:
            self.scroll_to(y=bottom - self.size.height, animate=False, force=True)

    def _columns(self) -> tuple[int, int]:
        """Cells of the value and of the sentence."""
        width = self.scrollable_content_region.width
        rest = max(8, width - 1 - NAME - ORIGIN)
        return (VALUE, rest - VALUE) if width >= ROOMY else (rest, 0)

    def render_line(self, y: int) -> Strip:
        """One row."""
        width = self.scrollable_content_region.width
        at = y + self.scroll_offset.y
        base = self.rich_style
        dim = base + Style(color=self._ink("preferences--dim").color)
        if at >= len(self._rows):
            text = "nothing has these words" if y == 0 and not self._rows else ""
            return Strip([Segment(f" {text}".ljust(width)[:width], dim)])
        row = self._rows[at]
        if not row.id:
            head = Segment(f" {row.title}", base + self._ink("preferences--head"))
            return Strip([head]).adjust_cell_length(width, base)
        here = at == self._cursor
        if here:
            paper = Style(bgcolor=self._ink("preferences--cursor").bgcolor)
            base, dim = base + paper, dim + paper
        own = base + self._ink("preferences--own") if row.origin not in ("default", REFUSED) else base
        wide, sentence = self._columns()
        origin = "at next start" if row.waits and not row.refused else row.origin
        bad = base + self._ink("preferences--bad")
        cells = [
            Segment("▌" if here else " ", base + self._ink("preferences--mark")),
            Segment(_cell(row.title, NAME), base),
            Segment(_cell(row.value, wide), dim if row.value.startswith("(") else own),
            Segment(_cell(origin, ORIGIN), bad if row.refused else dim),
            Segment(one_line(row.sentence, sentence) if sentence else "", dim),
        ]
        return Strip(cells).adjust_cell_length(width, base)

    def _ink(self, name: str) -> Style:
        style = self.get_component_rich_style(name)
        return style if name == "preferences--cursor" else Style(color=style.color, bold=style.bold)


def _cell(text: str, width: int) -> str:
    """Cut and filled to a column's width; wide characters count twice."""
    from rich.cells import set_cell_size

    return set_cell_size(one_line(text, max(1, width - 1)), width)
