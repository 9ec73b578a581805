"""The history: a virtual list over pages of the store; a hundred thousand pictures scroll as ten do."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from engines.errors import SafelightError
from engines.requests import Picture
from tui import cells, keys
from tui.clean import one_line
from tui.messages import CopyRequested, Finishes, FinishRequested, PictureChosen, RateRequested, TakeBack
from tui.pages import PAGE, Pages, Shelf
from tui.pictures.view import colours_of, thumbnail_strips
from tui.wording import ago, plural

SMALL, LARGE = 3, 5
"Lines of a row; a thumbnail is as high, and twice as many cells wide."
ROOMY = 50
"Cells from which on there is room for the larger ones."
THUMBNAILS = 400
LOOK_AFTER = 0.3
"Seconds that the list must rest before it is looked whether the files in sight are there."
GONE = "✗ file gone"
EMPTY = ("No pictures yet.", "What you make is kept here;", "Enter takes its settings back.")


class HistoryPane(ScrollView, can_focus=True):
    """Rows of three lines: thumbnail, prompt, facts. The cursor's picture is announced when it rests."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"history--dim", "history--cursor", "history--mark"}
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("history"),
        *keys.list_moves(),
    ]

    def __init__(self, shelf: Shelf, titles: Callable[[str], str], clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="history")
        self.border_title = "history"
        self._shelf = shelf
        self._titles = titles
        self._clock = clock
        self._pages = Pages()
        self._thumbnails: OrderedDict[int, Sequence[Strip]] = OrderedDict()
        self._tall = SMALL
        self._cursor = 0
        self._browsing = False
        self._reading = False
        self._rest: Timer | None = None
        self._gone: frozenset[int] = frozenset()
        "Pictures in sight whose files are not there any more, by id."
        self._doubt: Timer | None = None
        self._sought: int | None = None
        "The picture that the cursor is on its way to."

    def on_mount(self) -> None:
        """Reads the top of the history."""
        self.run_worker(self._begin(), group="history")

    @property
    def chosen(self) -> Picture | None:
        """The picture under the cursor."""
        return self._pages.at(self._cursor)

    def show(self, pictures: Sequence[Picture]) -> None:
        """New pictures, newest first; the cursor stays on its picture if its user is looking around."""
        fresh = self._pages.put_on_top(pictures)
        if self._browsing and fresh:
            self._cursor += fresh
            self._fit()
            self.scroll_to(y=self.scroll_y + fresh * self._tall, animate=False)
        else:
            self._fit()
        self._look()

    def look_again(self) -> None:
        """Fetches what others have put on top since: a command line beside this workbench, for instance."""
        self.run_worker(self._read_top(), group="history-top", exclusive=True)

    async def _read_top(self) -> None:
        try:
            found = await asyncio.to_thread(self._shelf.pictures, None, PAGE)
        except SafelightError:
            return  # what is shown stays; the next read that matters will tell
        if found and (self._pages.known or not self._pages.total):
            self.show(found)

    def follow(self) -> None:
        """Goes back to the newest picture and stays there."""
        self._browsing, self._sought = False, None
        self._cursor = 0
        self.scroll_to(y=0, animate=False)
        self.refresh()

    def seek(self, id: int) -> None:
        """The cursor goes to a picture that is shown already; down to one that is not read yet, unless it is moved
        meanwhile."""
        if self._rest is not None:
            self._rest.stop()
        if (row := self._pages.row(id)) is not None:
            self._go(row)
        else:
            self._sought = id
            self.run_worker(self._seek(id), group="history-seek")

    async def _seek(self, id: int) -> None:
        try:
            while self._sought == id and (wanted := self._pages.below(id)):
                known = self._pages.known
                self._pages.add(*wanted, await asyncio.to_thread(self._shelf.pictures, *wanted))
                if self._pages.known == known:
                    break
        except SafelightError as e:
            self.notify(e.message, severity="error", markup=False)
        if self._sought == id and (row := self._pages.row(id)) is not None:
            self._fit()
            self._go(row)

    async def _begin(self) -> None:
        try:
            self._pages.total = await asyncio.to_thread(self._shelf.count)
            if wanted := self._pages.wanted(0, 0, 0):  # also where it isn't shown: its keys are in the palette
                self._pages.add(*wanted, await asyncio.to_thread(self._shelf.pictures, *wanted))
        except SafelightError as e:
            self.notify(e.message, severity="error", markup=False)
        self._fit()
        self._look()

    async def _read(self) -> None:
        """Reads what is in sight, page by page, then its thumbnails, until nothing is missing."""
        try:
            while True:
                first, last = self._sight()
                if wanted := self._pages.wanted(first, last, self._cursor):
                    found = await asyncio.to_thread(self._shelf.pictures, *wanted)
                    self._pages.add(*wanted, found)
                    self._fit()
                elif bare := [p.id for p in map(self._pages.at, range(first, last + 1)) if p and not self._known(p)]:
                    tall = self._tall
                    drawn = await asyncio.to_thread(self._draw, bare[:10])
                    if tall != self._tall:
                        continue
                    for id, strips in drawn:
                        self._thumbnails[id] = strips
                        while len(self._thumbnails) > THUMBNAILS:
                            self._thumbnails.popitem(last=False)
                    self.refresh()
                else:
                    break
        except SafelightError as e:
            self.notify(e.message, severity="error", markup=False)
        finally:
            self._reading = False

    def _known(self, picture: Picture) -> bool:
        return picture.id in self._thumbnails

    def _draw(self, ids: Sequence[int]) -> list[tuple[int, Sequence[Strip]]]:
        """Thumbnails as lines; runs in a thread."""
        drawn: list[tuple[int, Sequence[Strip]]] = []
        tall = self._tall
        for id in ids:
            pixels = self._shelf.thumbnail(id)
            drawn.append(
                (
                    id,
                    thumbnail_strips(pixels, 2 * tall, tall, colours_of(self.app))
                    if pixels
                    else [Strip.blank(2 * tall)] * tall,
                )
            )
        return drawn

    def _sight(self) -> tuple[int, int]:
        """The first and last row on the screen."""
        first = int(self.scroll_y) // self._tall
        return first, first + max(1, self.size.height) // self._tall + 1

    def _look(self) -> None:
        if not self._reading and self.is_attached and self.size.width:
            self._reading = True
            self.run_worker(self._read(), group="history")
        if self._doubt is not None:
            self._doubt.stop()
        self._doubt = self.set_timer(LOOK_AFTER, self._look_for_files)
        self.refresh()

    def _look_for_files(self) -> None:
        # not begun if the window closes now: a coroutine that is made here would never be awaited
        self.run_worker(self._find_gone, group="history-files")  # type: ignore[arg-type]

    async def _find_gone(self) -> None:
        """Which of the files in sight were deleted outside."""
        first, last = self._sight()
        seen = {p.id: p.path for p in map(self._pages.at, range(first, last + 1)) if p}
        gone = await asyncio.to_thread(_missing, seen)
        if gone != self._gone:
            self._gone = gone
            self.refresh()

    def _fit(self) -> None:
        total = self._pages.total
        tall = LARGE if self.size.width >= ROOMY else SMALL
        if tall != self._tall:
            self._tall = tall
            self._thumbnails.clear()
        self.virtual_size = Size(max(1, self.size.width), max(1, total * self._tall))
        self.border_title = f"history · {plural(total, 'picture')}" if total else "history"
        self._cursor = max(0, min(self._cursor, total - 1))

    def watch_scroll_y(self, old: float, new: float) -> None:
        """What comes into sight is read."""
        super().watch_scroll_y(old, new)
        self._look()

    def on_resize(self, event: events.Resize) -> None:
        """More may be in sight."""
        self._fit()
        self._look()

    def action_move(self, by: int) -> None:
        """Moves the cursor, keeps it in sight, and tells when it rests."""
        if not self._pages.total:
            return
        self._go(max(0, min(self._pages.total - 1, self._cursor + by)))
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(0.08, self._tell)

    def _go(self, row: int) -> None:
        self._browsing, self._sought = True, None
        self._cursor = row
        top = self._cursor * self._tall
        if top < self.scroll_y:
            self.scroll_to(y=top, animate=False)
        elif top + self._tall > self.scroll_y + self.size.height:
            self.scroll_to(y=top + self._tall - self.size.height, animate=False)
        self._look()

    def action_page(self, by: int) -> None:
        """A screenful up or down."""
        self.action_move(by * max(1, self.size.height // self._tall - 1))

    def _tell(self) -> None:
        if (picture := self.chosen) is not None:
            self.post_message(PictureChosen(picture))
        elif self._pages.total:  # its page is still being read
            self._rest = self.set_timer(0.1, self._tell)

    def action_take_all(self) -> None:
        """Everything back into the form."""
        if (picture := self.chosen) is not None:
            self.post_message(TakeBack(picture, "all"))

    def action_take_prompt(self) -> None:
        """Only the words."""
        if (picture := self.chosen) is not None:
            self.post_message(TakeBack(picture, "prompt"))

    def action_take_seed(self) -> None:
        """Only the seed."""
        if (picture := self.chosen) is not None:
            self.post_message(TakeBack(picture, "seed"))

    def action_copy(self) -> None:
        """Its path."""
        if (picture := self.chosen) is not None:
            self.post_message(CopyRequested(picture))

    def action_copy_prompt(self) -> None:
        """Its words."""
        if (picture := self.chosen) is not None:
            self.post_message(CopyRequested(picture, words=True))

    def walk(self, by: int) -> None:
        """Moves the cursor as its keys do, whoever has the focus."""
        self.action_move(by)

    def action_finish_upscale(self) -> None:
        """Larger."""
        self._ask("upscale")

    def action_finish_faces(self) -> None:
        """With its faces drawn anew."""
        self._ask("faces")

    def action_finish_hires(self) -> None:
        """Larger, and drawn over."""
        self._ask("hires")

    def _ask(self, what: Finishes) -> None:
        if (picture := self.chosen) is not None:
            self.post_message(FinishRequested(picture, what))

    def on_key(self, event: events.Key) -> None:
        """Digits are stars."""
        if event.character is not None and event.character in "012345" and (picture := self.chosen) is not None:
            event.stop()
            self.post_message(RateRequested(picture, int(event.character)))

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer; a double click takes the settings."""
        row = (event.y + self.scroll_offset.y) // self._tall
        if row < self._pages.total:
            self.action_move(row - self._cursor)
            if event.chain == 2:
                self.action_take_all()

    def render_line(self, y: int) -> Strip:
        """One line of one row."""
        width = self.size.width
        base = self.rich_style
        row, line = divmod(y + self.scroll_offset.y, self._tall)
        dim = base + Style(color=self.get_component_rich_style("history--dim").color)
        if row >= self._pages.total:
            text = f" {EMPTY[y]}"[:width] if not self._pages.total and y < len(EMPTY) else ""
            return Strip([Segment(text.ljust(width), dim)])
        mark = Segment(" ", base)
        if row == self._cursor:
            if self.has_focus:
                paper = Style(bgcolor=self.get_component_rich_style("history--cursor").bgcolor)
                base, dim = base + paper, dim + paper
            marked = base + self.get_component_rich_style("history--mark", partial=True)
            mark = Segment("▌" if self.has_focus else "▏", marked)
        picture = self._pages.at(row)
        if picture is None:
            return Strip([mark, Segment(" …".ljust(width - 1), dim)])
        thumbnail = self._thumbnails.get(picture.id)
        drawn = list(thumbnail[line].apply_style(base)) if thumbnail else [Segment(" " * 2 * self._tall, base)]
        words = Segment(self._text(picture, line, width - 2 * self._tall - 3), base if line == 0 else dim)
        return Strip([mark, *drawn, Segment(" ", base), words]).adjust_cell_length(width, base)

    def _text(self, picture: Picture, line: int, width: int) -> str:
        request = picture.request
        if line == 0:
            return one_line(request.prompt or (PurePath(request.init or "").name), width) or "no prompt"
        if line == 1:
            against = [request.finish[-1].told] if request.finish else []
            against += ["overridden"] if request.overrides else []
            parts = [*against, *([self._titles(request.model)] if request.model else [])]
            for scorer, score in list(picture.scores.items())[:1]:
                named = one_line(" · ".join([f"{scorer} {score:.1f}", *parts]))
                # whose number it is, where that pushes nothing out
                parts.insert(0, f"{scorer} {score:.1f}" if cells.width(named) <= width else f"score {score:.1f}")
            if picture.rating:
                parts.insert(0, "★" * picture.rating)
            if picture.id in self._gone:
                parts.insert(0, GONE)
            return one_line(" · ".join(parts), width)
        if line == 3:
            guidance = f" · guidance {request.guidance_scale:g}" if request.guidance_scale > 1 else ""
            drawn = f"{plural(request.num_inference_steps, 'step')}{guidance} · " if request.model else ""
            return one_line(f"{drawn}{picture.width}x{picture.height}", width)
        if line == 4:
            return ""
        seed = f"seed {request.seed} · " if request.model else ""  # a file as it was has none
        return one_line(f"{seed}{ago(picture.created, self._clock())}", width)


def _missing(paths: Mapping[int, str]) -> frozenset[int]:
    """Whose files are not there; one that can't be looked at may be. Runs in a thread."""
    gone = set()
    for id, path in paths.items():
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            gone.add(id)
        except (OSError, ValueError):
            pass
    return frozenset(gone)
