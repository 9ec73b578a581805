"""The contact sheet: all pictures that were made, found, sorted, judged and compared."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Static

from engines import browsing
from engines.errors import SafelightError
from engines.requests import Picture
from engines.store import Store
from tui import captions, differing, keys
from tui.clean import clean, one_line
from tui.messages import CloserWanted, CopyRequested, Finishes, FinishRequested, Rated, TakeBack
from tui.oneline import OneLine
from tui.panes.closer import Closer, Look
from tui.panes.contact import ContactGrid
from tui.panes.footer import KeyLine
from tui.pictures.deciding import Mode
from tui.wording import plural

FIRST = 400
"Pictures that are shown while the others are counted."
DRAWN_WITHIN = 1.0
"Seconds that they wait for what is in sight."
FIND_AFTER = 0.2
"Seconds that typing rests before the words are looked for."
LOOK_AGAIN = 2.0
"Seconds after which what was made meanwhile comes in."
WORDS = 200
"Characters to find by, at most."

WALKING: list[BindingType] = [
    Binding("left,h", "walk(-1,0)", "left", show=False),
    Binding("right,l", "walk(1,0)", "right", show=False),
    *keys.moves(
        up="walk(0,-1)",
        down="walk(0,1)",
        page_up="walk_page(-1)",
        page_down="walk_page(1)",
        row_start="walk_to(0)",
        row_end="walk_to(1000000000)",
        first="walk_to(0)",
        last="walk_to(1000000000)",
    ),
    *[Binding(str(stars), f"rate({stars})", "stars", show=False) for stars in range(6)],
]


@dataclass(frozen=True, slots=True)
class Left:
    """How the sheet was left, and is opened again."""

    at: int | None = None
    "The id of the picture under the cursor."
    step: int | None = None
    "Which of the sizes; None for one that fits."
    by: str = browsing.NEWEST
    "In which order."
    marked: Mapping[int, Picture] = field(default_factory=dict)
    "Marked pictures by their ids, in the order of marking."


class ContactScreen(Screen[bool]):
    """Dismissed with whether the picture under the cursor is to be shown.

    Args:
        store: the history.
        answer: how the workbench is told what is asked of it.
        titles: what people call a model.
        mode: how pictures are shown.
        left: how it was left the last time.
        at: the id of the picture that the cursor goes to.
        clock: seconds since 1970.
        keymap: the user's own keys.
    """

    scopes: ClassVar[tuple[keys.Scope, ...]] = ("contact",)
    "Whose keys the help shows first."
    BINDINGS: ClassVar[list[BindingType]] = [*keys.bindings("contact"), *WALKING]
    AUTO_FOCUS = "#contact"

    def __init__(
        self,
        store: Store,
        answer: Callable[[Message], object],
        titles: Callable[[str], str],
        mode: Mode,
        left: Left,
        at: int | None,
        clock: Callable[[], float],
        keymap: Mapping[str, str],
    ) -> None:
        super().__init__()
        self._store = store
        self._answer = answer
        self._titles = titles
        self._mode: Mode = mode
        self._opens_at = at
        self._step = left.step
        self._by = left.by
        self._words = ""
        self._marked: dict[int, Picture] = dict(left.marked)
        self._clock = clock
        self._keymap = keymap
        self._newest = 0
        self._counted = False
        self._timer: Timer | None = None
        self._saving = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """What is shown, the pictures, and the one under the cursor in words."""
        yield Static(id="contact-title", markup=False)
        yield OneLine(WORDS, "words of the prompt or the model", id="contact-words")
        yield ContactGrid(self._store, self._step, self._worth, self._marked)
        yield Static(id="contact-caption", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """The newest at once, all of them in a moment."""
        self.query_one("#contact-words", OneLine).value = self._words
        self._tell()
        self._order(self._opens_at)
        self.set_interval(LOOK_AGAIN, self._look_again)

    @property
    def grid(self) -> ContactGrid:
        """The pictures."""
        return self.query_one(ContactGrid)

    @property
    def chosen(self) -> Picture | None:
        """The picture under the cursor."""
        return self.grid.picture

    @property
    def left(self) -> Left:
        """As it stands."""
        return Left(self.grid.at, self.grid.chosen_step, self._by, self._marked)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, at: int | None) -> None:
        self.run_worker(self._read(at), group="order", exclusive=True)

    async def _read(self, at: int | None) -> None:
        """The ids in their order; `at` is the picture that the cursor goes to."""
        by, words = self._by, self._words
        try:
            if by == browsing.NEWEST and not words.strip() and not self.grid.total:
                ids = await asyncio.to_thread(browsing.first, self._store, FIRST)
                if at is None or at in ids:  # else it would begin at the top, and jump
                    self._show(ids, at, whole=False)
                    await self._until_drawn()  # whoever reads the store waits while its ids are read
                    at = self.grid.at
            self._newest = await asyncio.to_thread(browsing.newest, self._store)
            ids = await asyncio.to_thread(browsing.order, self._store, by, words)
            self._show(ids, at)
        except SafelightError as e:
            self._complain(e)

    async def _until_drawn(self) -> None:
        until = time.monotonic() + DRAWN_WITHIN
        while self.is_attached and time.monotonic() < until and (self.grid.busy or not self.grid.size.width):
            await asyncio.sleep(0.01)

    def _show(self, ids: array[int], at: int | None, whole: bool = True) -> None:
        if self.is_attached:
            self.grid.show(ids, self._words, at, whole=whole, doubted=self._counted)
            self._counted = self._counted or whole
            self._tell()

    async def _look_again(self) -> None:
        """What is made meanwhile, here or by another program, comes in; the cursor stays on its picture."""
        if not self._counted:
            return
        try:
            newest = await asyncio.to_thread(browsing.newest, self._store)
        except SafelightError:
            return  # the next reading that matters will tell
        if newest != self._newest and self.is_attached:
            self._order(self.grid.at if self.grid.cursor else None)

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self) -> None:
        """The line above."""
        order = "newest first" if self._by == browsing.NEWEST else f"by {self._by.removeprefix(browsing.SCORE)}"
        parts = [f"contact sheet · {plural(self.grid.total, 'picture')}" if self._counted else "contact sheet", order]
        parts += [f"'{one_line(self._words, 40)}'"] if self._words.strip() else []
        parts += [f"{len(self._marked)} marked"] if self._marked else []
        room = max(1, self.size.width - 2)
        self.query_one("#contact-title", Static).update(Content(f" {one_line(' · '.join(parts), room)}"), layout=False)

    def _worth(self, picture: Picture) -> Sequence[str]:
        return captions.worth(picture, self._by)

    @on(ContactGrid.Walked)
    def _caption(self) -> None:
        picture = self.chosen
        text = Content()
        if picture is not None:
            room, title = max(10, self.size.width - 2), self._titles(picture.request.model)
            text = captions.of(picture, self.grid.cursor + 1, title, self._clock(), room)
        self.query_one("#contact-caption", Static).update(text, layout=False)

    def on_resize(self) -> None:
        """More or less of it fits."""
        self._tell()
        self._caption()

    def _complain(self, error: SafelightError) -> None:
        text = f"{clean(error.message)}\n{clean(error.hint)}".strip()
        self.notify(text, severity="error", timeout=8, markup=False)

    def _say(self, text: str) -> None:
        self.notify(clean(text), timeout=3, markup=False)

    # ── walking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def action_walk(self, across: int, down: int) -> None:
        """To a neighbour."""
        self.grid.walk(across, down)

    def action_walk_page(self, by: int) -> None:
        """A screenful up or down."""
        self.grid.walk(0, by * self.grid.page)

    def action_walk_to(self, row: int) -> None:
        """The first, or the last."""
        self.grid.go(row)

    def action_contact_larger(self) -> None:
        """Fewer, larger ones."""
        self.grid.resize(1)

    def action_contact_smaller(self) -> None:
        """More of them."""
        self.grid.resize(-1)

    # ── what is done with the picture under the cursor ──────────────────────────────────────────────────────────

    @on(ContactGrid.Opened)
    def action_contact_show(self) -> None:
        """In the workbench."""
        if self.chosen is not None:
            self.dismiss(True)

    def action_contact_closer(self) -> None:
        """As large as the terminal."""
        if (picture := self.chosen) is not None:
            self._answer(CloserWanted(picture))

    def action_contact_take(self) -> None:
        """Its settings go into the form, where it has any."""
        if (picture := self.chosen) is not None:
            self._answer(TakeBack(picture, "all"))
            if picture.request.model:
                self.dismiss(False)

    def action_contact_copy(self) -> None:
        """Its path."""
        if (picture := self.chosen) is not None:
            self._answer(CopyRequested(picture))

    def action_contact_upscale(self) -> None:
        """Larger."""
        self._finish("upscale")

    def action_contact_faces(self) -> None:
        """With its faces drawn anew."""
        self._finish("faces")

    def action_contact_hires(self) -> None:
        """Larger, and drawn over."""
        self._finish("hires")

    def _finish(self, what: Finishes) -> None:
        if (picture := self.chosen) is not None:
            self._answer(FinishRequested(picture, what))

    def action_rate(self, stars: int) -> None:
        """1 to 5, or 0 for none; the order stays as it is meanwhile."""
        if (picture := self.chosen) is not None:
            rated = replace(picture, rating=stars or None)
            self.grid.put(rated)
            if rated.id in self._marked:
                self._marked[rated.id] = rated
            self._caption()
            self.app.run_worker(self._rate(rated), group="rate")  # which outlives this screen

    async def _rate(self, picture: Picture) -> None:
        try:
            async with self._saving:  # of two the later one stays
                await asyncio.to_thread(self._store.rate, picture.id, picture.rating)
        except SafelightError as e:
            self._complain(e)
            return
        self._answer(Rated(picture))

    # ── marks ───────────────────────────────────────────────────────────────────────────────────────────────────

    def action_contact_mark(self) -> None:
        """Marked, or not any more."""
        if (picture := self.chosen) is not None:
            if self._marked.pop(picture.id, None) is None:
                self._marked[picture.id] = picture
            self.grid.redraw((picture.id,))
            self._tell()

    def action_contact_unmark(self) -> None:
        """None is."""
        marked = tuple(self._marked)
        self._marked.clear()
        self.grid.redraw(marked)
        self._tell()

    def action_contact_compare(self) -> None:
        """The marked ones in one place; of a single one the cursor's picture is the other."""
        compared = list(self._marked.values())
        if len(compared) == 1 and self.chosen is not None and self.chosen.id not in self._marked:
            compared.append(self.chosen)
        if len(compared) < 2:
            mark = keys.shown(keys.BY_ID["contact-mark"], self._keymap)
            self._say(f"{mark} marks pictures: two of them are compared, or one with that under the cursor")
            return
        first, *others = compared
        looks = [Look(first.path, f"{self._titles(first.request.model)} seed {first.request.seed}")]
        looks += [Look(one.path, one_line(differing.line(first.request, one.request), 60)) for one in others]
        self.app.push_screen(Closer(looks, self._mode))

    # ── words and orders ────────────────────────────────────────────────────────────────────────────────────────

    def action_contact_sort(self) -> None:
        """The next order; the best are on top."""
        self.run_worker(self._sort(), group="sort", exclusive=True)

    async def _sort(self) -> None:
        try:
            orders = await asyncio.to_thread(browsing.orders, self._store)
        except SafelightError as e:
            self._complain(e)
            return
        at = orders.index(self._by) if self._by in orders else -1
        self._by = orders[(at + 1) % len(orders)]
        self._order(None)

    def action_contact_find(self) -> None:
        """A line to type words into, in place of the title."""
        self.add_class("-finding")
        self.query_one("#contact-words").focus()

    def action_contact_close(self) -> None:
        """The line first, and its words with it; then all of it."""
        if self.has_class("-finding"):
            line = self.query_one("#contact-words", OneLine)
            line.value = ""
            self._find("")
            self._end_finding()
        else:
            self.dismiss(False)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(FIND_AFTER, lambda: self._find(event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._find(event.value)
        self._end_finding()

    def _find(self, words: str) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if words.split() != self._words.split():
            self._words = words
            self._order(self.grid.at)

    def _end_finding(self) -> None:
        self.remove_class("-finding")
        self.grid.focus()
        self._tell()
