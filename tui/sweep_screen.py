"""Sweeps, looked at: the leaderboard, score against seconds, and all pictures, while they are made and afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from engines import sweep
from engines.errors import SafelightError
from engines.ranking import Rank
from engines.requests import Picture
from engines.sweep import Sweep
from tui import boards, keys, runs
from tui.boards import Board, Standing
from tui.choice import ChoiceList
from tui.clean import clean, one_line
from tui.conductor import Conductor
from tui.messages import CopyRequested, SweepWanted, TakeBack
from tui.offers import Offer
from tui.panes.board import Leaderboard
from tui.panes.footer import KeyLine
from tui.panes.scatter import Scatter
from tui.panes.sheet import SheetPane
from tui.pictures.deciding import Mode
from tui.wording import ago

SHOWN_TOGETHER = 0.25
"Seconds in which what comes is gathered into one change of the screen."
LOOK_AGAIN = 3.0
"Seconds after which a sweep that somebody else may be making is looked at again."
PLOT_AFTER = 0.1
"Seconds that the cursor rests before the plot is drawn anew."
RESTS = 4
"Ranking rests so many times as long as it took: it never has more than a fifth of a core."

WIDTHS = [(0, "-one"), (120, "-both")]
HEIGHTS = [(0, "-low"), (20, "-high")]
"From how many cells on the stylesheet's classes hold."
EMPTY = "No sweep yet. n marks models and settings to compare."


class SweepScreen(Screen[None]):
    """One sweep at a time. What is made meanwhile comes in as it is made.

    Args:
        conductor: who makes sweeps.
        answer: how the workbench is told what is asked of it.
        mode: how pictures are shown.
        keymap: the user's own keys.
        wanted: the sweep to show; the newest for None.
        at: (contender, row) of it that the cursor is put on.
    """

    scopes: ClassVar[tuple[keys.Scope, ...]] = ("sweep", "board", "sheet")
    "Whose keys the help shows first."
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("sweep")
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    AUTO_FOCUS = "#board"

    def __init__(
        self,
        conductor: Conductor,
        answer: Callable[[Message], object],
        mode: Mode,
        keymap: Mapping[str, str],
        wanted: int | None = None,
        at: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._at = at
        self._conductor = conductor
        self._answer = answer
        self._mode: Mode = mode
        self._keymap = keymap
        self._wanted = wanted
        self._shown: Board | None = None
        self._scorer = ""
        self._standings: Sequence[Standing] = ()
        self._elsewhere = False
        "Whether another program makes it."
        self._asked = 0
        "The sweep whose pictures are all gone, and of which somebody was asked whether they are to be made again."
        self._stale = False
        self._ranking = False
        self._opening = 0
        "How many readings of a sweep go on: a large one takes longer than a step of its pictures."
        self._timer: Timer | None = None
        self._plot_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """What it is, board and plot on the left, pictures on the right."""
        yield Static(id="sweep-title", markup=False)
        with Horizontal(id="sweep-body"):
            with Vertical(id="standings"):
                yield Leaderboard()
                yield Static(id="sweep-missing", markup=False)
                yield Scatter()
            yield SheetPane(self._conductor.store, self._mode)
        yield KeyLine()

    def on_mount(self) -> None:
        """Looks on from now on."""
        self._page("board")
        self._conductor.watcher = self
        self._title()
        self.run_worker(self._open(self._wanted), group="open", exclusive=True)
        self.set_interval(LOOK_AGAIN, self._look_again)

    def on_unmount(self) -> None:
        """Nobody looks any more."""
        if self._conductor.watcher is self:
            self._conductor.watcher = None

    @property
    def board(self) -> Leaderboard:
        """Left."""
        return self.query_one(Leaderboard)

    @property
    def pictures(self) -> SheetPane:
        """Right."""
        return self.query_one(SheetPane)

    @property
    def shown(self) -> Board | None:
        """The sweep that is looked at; None while it is read, or there is none."""
        return self._shown

    @property
    def at(self) -> tuple[int, int] | None:
        """(contender, row) under the cursor."""
        sheet = self.pictures.sheet
        return None if sheet.contender is None else (sheet.contender, sheet.row)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _open(self, id: int | None) -> None:
        self._opening += 1
        try:
            await self._read_and_show(id)
        finally:
            self._opening -= 1

    async def _read_and_show(self, id: int | None) -> None:
        running = self._conductor.run
        store, wordless = self._conductor.store, self._conductor.wordless
        if id is None and running is not None:
            id = running.sweep.id

        def read() -> Board | None:
            which = id
            if which is None:
                which = next((row[0] for row in sweep.numbers(store)), None)
            return None if which is None else Board(sweep.load(store, which), wordless)

        try:
            found = await asyncio.to_thread(read)
        except SafelightError as e:
            self._tell(e)
            if id is not None and self._shown is None:  # another program has forgotten it
                await self._read_and_show(None)
            return
        if not self.is_attached:
            return
        self._shown, self._elsewhere = found, False
        if found is not None:
            self._scorer = next(iter(found.sweep.scorers), "")
        self._show()
        if found is not None and self._at is not None and id == self._wanted:
            contender, row = self._at
            if contender < len(found.names) and row < len(found.blocks):
                self.board.choose(contender)
                self.pictures.sheet.go(contender, row)
        self._at = None
        self._rank()
        if found is not None:
            mine = self._conductor.run is not None and self._conductor.run.sweep.id == found.sweep.id
            await self._catch_up(found, whole=mine)  # what ended, or was scored, while it was read
            self.run_worker(self._look_for_files(found), group="files", exclusive=True)

    async def _look_for_files(self, board: Board) -> None:
        """Which pictures were deleted or damaged since; the disk is asked for each."""
        try:
            gone = await asyncio.to_thread(sweep.gone, board.now())
        except SafelightError as e:
            self._tell(e)
            return
        if gone and board is self._shown:
            board.gone = frozenset(cell.number for cell in gone)
            self._show()

    def _look_again(self) -> None:
        """What another program has made of it since."""
        board, run = self._shown, self._conductor.run
        mine = run is not None and board is not None and run.sweep.id == board.sweep.id
        if board is not None and not mine and board.made < len(board.sweep.cells):
            self.run_worker(self._catch_up(board), group="again", exclusive=True)

    async def _catch_up(self, board: Board, whole: bool = False) -> None:
        mine = self._conductor.holds

        def read() -> tuple[bool, Sweep | None]:
            store, id = self._conductor.store, board.sweep.id
            changed = whole or sweep.progress(store, id) != board.progress
            return not mine and runs.taken(store, id), sweep.load(store, id) if changed else None

        try:
            elsewhere, found = await asyncio.to_thread(read)
        except SafelightError:
            return  # the next look may tell
        if board is self._shown and elsewhere != self._elsewhere:
            self._elsewhere = elsewhere
            self._title()
        for cell in found.cells if found is not None else ():
            board.put(cell.number, cell.picture, cell.message)
        if found is not None and board is self._shown:
            self._rank()
            self._show_soon()

    def _rank(self) -> None:
        self._stale = True
        if not self._ranking:
            self._ranking = True
            self.run_worker(self._keep_ranking(), group="rank")

    async def _keep_ranking(self) -> None:
        try:
            while self._stale and self.is_attached and (board := self._shown) is not None:
                self._stale = False
                began = time.monotonic()
                board.ranks = await asyncio.to_thread(_ranks, board)
                self._show_soon()
                await asyncio.sleep(max(SHOWN_TOGETHER, RESTS * (time.monotonic() - began)) if self._stale else 0)
        finally:
            self._ranking = False

    # ── showing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _show_soon(self) -> None:
        if self._timer is None and self.is_attached:
            self._timer = self.set_timer(SHOWN_TOGETHER, self._show)

    def _show(self) -> None:
        self._timer = None
        self._title()
        if (board := self._shown) is None or not self.is_attached:
            return
        self._standings = board.standings(self._scorer)
        self.board.show(self._standings, f"leaderboard · {self._scorer or 'not scored'}")
        missing = board.missing()
        lines = [f"✗ {one_line(runs.told(who, why))}" for who, why in missing[:3]]
        if len(missing) > 3:
            lines.append(f"and {len(missing) - 3} more; the report has them")
        told = self.query_one("#sweep-missing", Static)
        told.display = bool(lines)
        told.update(Content("\n".join(lines)))
        self.pictures.show(board, self.board.order, self._scorer)
        self._mark()

    def _mark(self) -> None:
        """The plot follows the board's cursor when it rests."""
        if self._plot_timer is not None:
            self._plot_timer.stop()
        self._plot_timer = self.set_timer(PLOT_AFTER, self._plot)

    def _plot(self) -> None:
        chosen = self.board.chosen
        self.query_one(Scatter).show(self._standings, chosen.number if chosen else None)

    def _title(self) -> None:
        board, run = self._shown, self._conductor.run
        if board is None:
            text = EMPTY if self._wanted is None and run is None else ""
        else:
            mine = run is not None and run.sweep.id == board.sweep.id
            left = len(board.sweep.cells) - board.made
            state = self._conductor.words if mine else f"{board.made}/{len(board.sweep.cells)}"
            state += f" · {len(board.gone)} deleted or damaged" if board.gone else ""
            left += len(board.gone)
            if self._elsewhere and not mine:
                state += " · another program makes it"
            elif left and not mine:
                state += f" · {keys.shown(keys.BY_ID['pause'], self._keymap)} makes the rest"
            text = f"{board.sweep.id} · {one_line(board.sweep.title)}"
            text = f"{one_line(text, max(10, self.size.width - len(state) - 6))} · {state}"
        self.query_one("#sweep-title", Static).update(Content(f" {text}"), layout=False)

    def _page(self, page: str) -> None:
        self.update_classes({"-page-board": page == "board", "-page-pictures": page == "pictures"}, animate=False)

    def on_resize(self) -> None:
        """More or less of the title fits."""
        self._title()

    # ── what the conductor says ─────────────────────────────────────────────────────────────────────────────────

    def cell_ended(self, id: int, number: int, picture: Picture | None, message: str) -> None:
        """As in Watcher."""
        if self._shown is not None and self._shown.sweep.id == id:
            self._shown.put(number, picture, message)
            self._rank()
            self._show_soon()

    def picture_scored(self, path: str, scorer: str, score: float) -> None:
        """As in Watcher."""
        if self._shown is not None:
            self._shown.scored(path, scorer, score)
            self._rank()

    def went_on(self) -> None:
        """As in Watcher."""
        if self.is_attached:
            run = self._conductor.run
            if self._shown is None and run is not None and not self._opening:
                self.look_at(run.sweep.id)
            self._title()

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

    def action_close(self) -> None:
        """The large picture first, then all of it."""
        if not self.pictures.close_zoom():
            self.dismiss()

    def action_next_pane(self) -> None:
        """Board, pictures, board."""
        if self.focused is self.board:
            self._board_entered()
        else:
            self._page("board")
            self.board.focus()

    def action_pause(self) -> None:
        """Pauses, or makes what is missing."""
        board, run = self._shown, self._conductor.run
        if board is None:
            return
        if run is not None and run.sweep.id == board.sweep.id:
            self._conductor.pause()
        else:
            self.run_worker(self._go_on(board), group="go-on", exclusive=True)

    async def _go_on(self, board: Board) -> None:
        """Makes what is missing, if anything is: also pictures that were deleted, and scores."""

        sure = self._asked == board.sweep.id

        def open_() -> bool:
            now = board.now()
            lost = sweep.deleted(now, sure)
            return bool(lost or now.open or runs.judgements(now, self._conductor.wordless))

        try:
            wanted = await asyncio.to_thread(open_)
        except sweep.AllGone as e:
            self._asked = board.sweep.id
            again = f"{keys.shown(keys.BY_ID['pause'], self._keymap)} once more makes them again"
            self._tell(sweep.AllGone(e.message, f"is their disk there? If you deleted them, {again}"))
            return
        except SafelightError as e:
            self._tell(e)
            return
        self._asked = 0
        if wanted:
            self._conductor.go_on(board.sweep.id, sure)
        else:
            self.notify("all of its pictures are made and scored", timeout=3, markup=False)

    def action_next_scorer(self) -> None:
        """Round and round."""
        if self._shown is not None and len(scorers := self._shown.sweep.scorers) > 1:
            self._scorer = scorers[(scorers.index(self._scorer) + 1) % len(scorers)]
            self._show()
        else:
            self.notify("there is one scorer only; --scorer A,B ranks by two", timeout=3, markup=False)

    def action_report(self) -> None:
        """An .html that holds everything."""
        if self._shown is not None:
            self.run_worker(self._write(self._shown), group="report", exclusive=True)

    async def _write(self, board: Board) -> None:
        cells = board.sweep.cells
        folder = Path(cells[0].request.folder or self._conductor.pictures) if cells else self._conductor.pictures
        path = folder / f"sweep-{board.sweep.id}.html"
        try:
            await asyncio.to_thread(_write, board, path, self._conductor.wordless)
        except SafelightError as e:
            self._tell(e)
            return
        self.app.copy_to_clipboard(str(path))
        self.notify(f"written, and its path copied: {clean(str(path))}", timeout=6, markup=False)

    def action_other_sweep(self) -> None:
        """From a list of all."""

        def taken(value: str | None) -> None:
            if value is not None:
                self.run_worker(self._open(int(value)), group="open", exclusive=True)

        opened = ChoiceList("sweep", (), str(self._shown.sweep.id) if self._shown else "")
        self.app.push_screen(opened, taken)
        self.run_worker(self._list(opened), group="list", exclusive=True)

    async def _list(self, opened: ChoiceList) -> None:
        try:
            rows = await asyncio.to_thread(sweep.numbers, self._conductor.store)
        except SafelightError as e:
            self._tell(e)
            rows = []
        if not rows:
            opened.dismiss(None)
            self.notify("there is no sweep yet", timeout=3, markup=False)
            return
        now = time.time()
        opened.show(
            [
                Offer(str(id), f"{id} · {one_line(title, 60)}", f"begun {ago(at, now)}", note=f"{made}/{cells}")
                for id, title, cells, made, at in rows
            ]
        )

    def action_another_sweep(self) -> None:
        """The workbench knows what there is to mark."""
        self._answer(SweepWanted())

    # ── what panes say ──────────────────────────────────────────────────────────────────────────────────────────

    @on(Leaderboard.Moved)
    def _board_moved(self) -> None:
        if (chosen := self.board.chosen) is not None and self._shown is not None:
            self.pictures.show(self._shown, self.board.order, self._scorer, chosen.number)
            self._mark()

    @on(Leaderboard.Entered)
    def _board_entered(self) -> None:
        self.board.hold()
        self._page("pictures")
        self.pictures.enter()

    @on(SheetPane.Moved)
    def _sheet_moved(self, message: SheetPane.Moved) -> None:
        self.board.choose(message.contender)
        self._mark()

    @on(SheetPane.Rated)
    def _rated(self, message: SheetPane.Rated) -> None:
        if self._shown is not None:
            self._shown.rate(message.cell.number, message.rating)
            self._show()
            self.run_worker(self._rate(message), group="rate")

    async def _rate(self, message: SheetPane.Rated) -> None:
        assert message.cell.picture is not None
        try:
            await asyncio.to_thread(self._conductor.store.rate, message.cell.picture.id, message.rating)
        except SafelightError as e:
            self._tell(e)

    @on(TakeBack)
    def _taken(self, message: TakeBack) -> None:
        message.stop()
        self._answer(TakeBack(message.picture, message.what))
        self.dismiss()

    @on(CopyRequested)
    def _copied(self, message: CopyRequested) -> None:
        message.stop()
        self._answer(CopyRequested(message.picture))

    def look_at(self, id: int | None) -> None:
        """Shows another sweep; the one that is made, or the newest, for None."""
        self.run_worker(self._open(id), group="open", exclusive=True)

    def _tell(self, error: SafelightError) -> None:
        text = f"{clean(error.message)}\n{clean(error.hint)}".strip()
        self.notify(text, severity="error", timeout=8, markup=False)


def _ranks(board: Board) -> dict[str, tuple[Rank, ...]]:
    return boards.rank(board.now())


def _write(board: Board, path: Path, wordless: Container[str]) -> None:
    from tui import report  # with Pillow behind it, which takes its time to be imported

    report.write(board.now(), path, wordless)
