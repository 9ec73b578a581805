"""A sweep's pictures, walked by keys: all of them in a grid, one of them large on Enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from engines.requests import Picture
from engines.sweep import Cell
from tui import keys
from tui.boards import Board
from tui.clean import ending, one_line
from tui.messages import CopyRequested, TakeBack
from tui.pages import Shelf
from tui.pictures.deciding import Mode
from tui.pictures.view import PictureView
from tui.sheet import ContactSheet
from tui.wording import duration

ARROWS: list[BindingType] = [
    *keys.moves(
        up="walk(0,-1)",
        down="walk(0,1)",
        page_up="walk_page(-1)",
        page_down="walk_page(1)",
        row_start="walk(-1000000,0)",
        row_end="walk(1000000,0)",
        first="walk(0,-1000000)",
        last="walk(0,1000000)",
    ),
]


class Zoom(Vertical, can_focus=True):
    """One picture as large as it gets, with what it is under it."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(id="zoom")
        self._mode: Mode = mode

    def compose(self) -> ComposeResult:
        """As in the middle of the workbench."""
        yield PictureView("", mode=self._mode)
        yield Static(id="zoom-caption", markup=False)

    def show(self, cell: Cell | None, name: str, block: str, scorer: str, width: int) -> None:
        """A cell, or that there is nothing in it."""
        view = self.query_one(PictureView)
        facts: list[str] = []
        if cell is None or cell.picture is None:
            view.clear(f"✗ {one_line(cell.message)}" if cell and cell.message else "not made yet")
        else:
            picture = cell.picture
            view.show_file(picture.path)
            order = sorted(picture.scores.items(), key=lambda pair: pair[0] != scorer)
            facts += [f"{who} {score:.2f}" for who, score in order]
            facts += ["★" * picture.rating] if picture.rating else []
            facts += [duration(picture.seconds.total), f"{picture.width}x{picture.height}"]
        room = max(10, width)
        first = Content.styled(one_line(" · ".join([name, *facts]), room), "bold")
        text = Content("\n").join([first, Content.styled(ending(block, room), "$foreground 70%")])
        self.query_one("#zoom-caption", Static).update(text, layout=False)


class SheetPane(Vertical):
    """The sheet, and one of its pictures in its place; the arrows walk over the same cells in both."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.bindings("sheet"), *ARROWS]

    class Moved(Message):
        """The cursor is on another contender."""

        def __init__(self, contender: int) -> None:
            super().__init__()
            self.contender = contender

    class Rated(Message):
        """A person's judgement of a cell's picture, or None to take it back."""

        def __init__(self, cell: Cell, rating: int | None) -> None:
            super().__init__()
            self.cell = cell
            self.rating = rating

    def __init__(self, shelf: Shelf, mode: Mode) -> None:
        super().__init__(id="pictures")
        self.border_title = "pictures"
        self._shelf = shelf
        self._mode: Mode = mode
        self._board: Board | None = None
        self._scorer = ""

    def compose(self) -> ComposeResult:
        """One of the two is shown."""
        yield ContactSheet(self._shelf)
        yield Zoom(self._mode)

    def on_mount(self) -> None:
        """The sheet first."""
        self.zoom.display = False

    @property
    def sheet(self) -> ContactSheet:
        """All of them."""
        return self.query_one(ContactSheet)

    @property
    def zoom(self) -> Zoom:
        """One of them."""
        return self.query_one(Zoom)

    @property
    def picture(self) -> Picture | None:
        """Under the cursor."""
        cell = self.sheet.cell
        return cell.picture if cell is not None else None

    def show(self, board: Board, order: Sequence[int], scorer: str, contender: int | None = None) -> None:
        """What is known now, with the cursor on this contender; where it was, for None."""
        self._board, self._scorer = board, scorer
        self.sheet.show(board, order, scorer)
        if contender is not None:
            self.sheet.go(contender)
        if self.zoom.display:
            self._enlarge()

    def enter(self) -> None:
        """The focus comes here."""
        (self.zoom if self.zoom.display else self.sheet).focus()

    def action_walk(self, across: int, down: int) -> None:
        """To a neighbour."""
        before = self.sheet.contender
        self.sheet.walk(across, down)
        self._moved(before)

    def _moved(self, before: int | None) -> None:
        if self.zoom.display:
            self._enlarge()
        if (now := self.sheet.contender) is not None and now != before:
            self.post_message(self.Moved(now))

    def action_left(self) -> None:
        """To the left one."""
        self.action_walk(-1, 0)

    def action_right(self) -> None:
        """To the right one."""
        self.action_walk(1, 0)

    def action_walk_page(self, by: int) -> None:
        """A screenful of rows."""
        self.action_walk(0, by * self.sheet.page)

    def action_zoom(self) -> None:
        """The picture under the cursor, large; again for all of them."""
        if self.zoom.display:
            self.close_zoom()
        elif self.sheet.cell is not None:
            self.zoom.display = True
            self.sheet.display = False
            self.zoom.focus()
            self._enlarge()

    def close_zoom(self) -> bool:
        """Back to all of them; whether there was anything to close."""
        if not self.zoom.display:
            return False
        self.sheet.display = True
        self.zoom.display = False
        self.sheet.focus()
        return True

    def _enlarge(self) -> None:
        if self._board is not None and (contender := self.sheet.contender) is not None:
            names = (self._board.names[contender], self._board.blocks[self.sheet.row])
            self.zoom.show(self.sheet.cell, *names, self._scorer, self.size.width - 2)

    def action_larger(self) -> None:
        """Larger pictures on the sheet."""
        self.sheet.resize(1)

    def action_smaller(self) -> None:
        """Smaller ones."""
        self.sheet.resize(-1)

    def action_rate(self, rating: int) -> None:
        """1 to 5, or 0 for none."""
        if (cell := self.sheet.cell) is not None and cell.picture is not None:
            self.post_message(self.Rated(cell, rating or None))

    def on_key(self, event: events.Key) -> None:
        """Digits rate."""
        if event.character is not None and event.character in "012345":
            event.stop()
            self.action_rate(int(event.character))

    def action_send(self) -> None:
        """All settings of the cell go to the form."""
        if (picture := self.picture) is not None:
            self.post_message(TakeBack(picture, "all"))

    def action_copy_cell(self) -> None:
        """The path of its file."""
        if (picture := self.picture) is not None:
            self.post_message(CopyRequested(picture))

    def on_contact_sheet_walked(self, event: ContactSheet.Walked) -> None:
        """A click is as good as the arrows."""
        event.stop()
        if (now := self.sheet.contender) is not None:
            self.post_message(self.Moved(now))

    def on_contact_sheet_opened(self, event: ContactSheet.Opened) -> None:
        """A double click is as good as Enter."""
        event.stop()
        self.action_zoom()
