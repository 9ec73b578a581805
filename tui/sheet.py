"""The grid of a sweep's pictures: a column for each contender, a row for each block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from engines.requests import Picture
from engines.sweep import Cell
from tui import cells
from tui.boards import Board
from tui.clean import ending, one_line
from tui.gallery import Gallery
from tui.pages import Shelf


class ContactSheet(Gallery):
    """Small pictures; only those in sight are read and drawn. The arrows are the pane's, not the scroll bars'."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"sheet--dim", "sheet--cursor", "sheet--mark", "sheet--failed"}

    class Opened(Message):
        """A picture was clicked twice."""

    class Walked(Message):
        """A picture was clicked."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf, "sheet")
        self._board: Board | None = None
        self._order: Sequence[int] = ()
        self._scorer = ""
        self.column = 0
        "Under the cursor, counted in the order of the board."
        self.row = 0
        "Under the cursor."

    # ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────

    def show(self, board: Board, order: Sequence[int], scorer: str) -> None:
        """The cells of a board, its contenders in this order; the cursor stays with its contender."""
        before = self._order[self.column] if self.column < len(self._order) else None
        kept = board is self._board and before is not None
        self._board, self._order, self._scorer = board, order, scorer
        self.column = order.index(before) if kept and before in order else 0
        if not kept:
            self.row = 0
            self.forget_drawn()
        self._fit()
        self.look()

    def go(self, contender: int, row: int | None = None) -> None:
        """To a contender's column."""
        if contender in self._order:
            self.column = self._order.index(contender)
        if row is not None:
            self.row = row
        self._follow()

    def resize(self, by: int) -> None:
        """Larger or smaller pictures."""
        if self.scale(by):
            self._fit()
            self._follow()

    @property
    def contender(self) -> int | None:
        """Under the cursor."""
        return self._order[self.column] if self.column < len(self._order) else None

    @property
    def cell(self) -> Cell | None:
        """Under the cursor."""
        if self._board is None or self.contender is None:
            return None
        return self._board.cell(self.contender, self.row)

    def walk(self, across: int, down: int) -> None:
        """Moves the cursor, and keeps it in sight."""
        if self._board is not None and self._order:
            self.column = max(0, min(len(self._order) - 1, self.column + across))
            self.row = max(0, min(len(self._board.blocks) - 1, self.row + down))
            self._follow()

    @property
    def page(self) -> int:
        """Rows that are in sight at once."""
        return max(1, (self.size.height - 1) // self._tall)

    # ── geometry ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _wide(self) -> int:
        """Cells of a column: what marks the cursor, and a picture."""
        return self.wide + 1

    @property
    def _tall(self) -> int:
        """Lines of a row: its name, its pictures, their scores."""
        return self.high + 2

    def _fit(self) -> None:
        rows = len(self._board.blocks) if self._board else 0
        self.virtual_size = Size(max(1, self._wide * len(self._order)), max(1, rows * self._tall + 1))

    def _follow(self) -> None:
        x, y = self.column * self._wide, self.row * self._tall
        room = max(1, self.size.height - 1)
        left, top = self.scroll_x, self.scroll_y
        if x < left:
            left = x
        elif x + self._wide > left + self.size.width:
            left = max(0, x + self._wide - self.size.width)
        if y < top or self._tall > room:
            top = y
        elif y + self._tall > top + room:
            top = y + self._tall - room
        self.scroll_to(x=left, y=top, animate=False)
        self.look()

    def watch_scroll_y(self, old: float, new: float) -> None:
        """What comes into sight is read."""
        super().watch_scroll_y(old, new)
        self.look()

    def watch_scroll_x(self, old: float, new: float) -> None:
        """The same."""
        super().watch_scroll_x(old, new)
        self.look()

    def on_resize(self, event: events.Resize) -> None:
        """More may be in sight."""
        self._follow()

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer; a double click opens."""
        y = event.y - 1 + self.scroll_offset.y
        if event.y < 1 or self._board is None:
            return
        column, row = (event.x + self.scroll_offset.x) // self._wide, y // self._tall
        if column < len(self._order) and row < len(self._board.blocks):
            self.column, self.row = column, row
            self.look()
            self.post_message(self.Opened() if event.chain == 2 else self.Walked())

    # ── thumbnails ──────────────────────────────────────────────────────────────────────────────────────────────

    def _sight(self) -> list[tuple[int, int]]:
        """(contender, row) of what is on the screen, from the top."""
        if self._board is None or not self.size.width:
            return []
        first, top = int(self.scroll_x) // self._wide, int(self.scroll_y) // self._tall
        columns = self._order[first : first + self.size.width // self._wide + 2]
        rows = range(top, min(len(self._board.blocks), top + self.size.height // self._tall + 2))
        return [(contender, row) for row in rows for contender in columns]

    def in_sight(self) -> Sequence[Picture]:
        """As in Gallery."""
        if self._board is None:
            return ()
        cells = (self._board.cell(*place) for place in self._sight())
        return [cell.picture for cell in cells if cell is not None and cell.picture is not None]

    # ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────

    def render_line(self, y: int) -> Strip:
        """The contenders' names, or a line of a row."""
        width, base = self.size.width, self.rich_style
        dim = base + self._ink("sheet--dim")
        if self._board is None:
            return Strip.blank(width, base)
        first = int(self.scroll_x) // self._wide
        cut = int(self.scroll_x) - first * self._wide
        columns = range(first, min(len(self._order), first + width // self._wide + 2))
        if y == 0:
            names = [self._heading(column, base, dim) for column in columns]
            return Strip(names).crop(cut).adjust_cell_length(width, base)
        row, line = divmod(y - 1 + self.scroll_offset.y, self._tall)
        if row >= len(self._board.blocks):
            return Strip.blank(width, base)
        if line == 0:
            mark = base + self._ink("sheet--mark") if row == self.row else dim
            return Strip([Segment(cells.pad(one_line(self._board.blocks[row], width), width), mark)])
        parts = [self._part(column, row, line - 1, base, dim) for column in columns]
        return Strip.join(parts).crop(cut).adjust_cell_length(width, base)

    def _heading(self, column: int, base: Style, dim: Style) -> Segment:
        assert self._board is not None
        name, room = self._board.names[self._order[column]], self._wide - 1
        if cells.width(name) > room:
            name = ending(self._board.shorts[self._order[column]], room)
        text = set_cell_size(name, self._wide)
        return Segment(text, base + Style(bold=True) if column == self.column else dim)

    def _part(self, column: int, row: int, line: int, base: Style, dim: Style) -> Strip:
        """A cell's piece of a line: of its picture, or what stands under it."""
        assert self._board is not None
        wide = self.wide
        here = (column, row) == (self.column, self.row)
        mark = Segment("▌" if here else " ", base + self._ink("sheet--mark"))
        cell = self._board.cell(self._order[column], row)
        if cell is None:
            return Strip([mark, Segment(" " * wide, base)])
        if line == self.high:
            style = base + self._paper("sheet--cursor") if here else dim
            return Strip([mark, Segment(set_cell_size(one_line(self._told(cell), wide), wide), style)])
        drawn = self.drawing(cell.picture) if cell.picture is not None else None
        lost = "gone" if cell.number in self._board.gone else drawn.lost if drawn is not None else ""
        middle = line == (self.high - 1) // 2
        if lost:
            return Strip([mark, Segment((lost if middle else "").center(wide), base + self._ink("sheet--failed"))])
        if drawn is not None:
            return Strip.join([Strip([mark]), drawn.strips[line].apply_style(base)])
        if cell.picture is None and cell.message:
            return Strip([mark, Segment(("✗" if middle else "").center(wide), base + self._ink("sheet--failed"))])
        sign = "…" if cell.picture is not None else "·"
        return Strip([mark, Segment((sign if middle else "").center(wide), dim)])

    def _told(self, cell: Cell) -> str:
        if cell.picture is None:
            return cell.message
        score = cell.picture.scores.get(self._scorer)
        stars = "★" * (cell.picture.rating or 0)
        return " ".join(part for part in (f"{score:.1f}" if score is not None else "", stars) if part)
