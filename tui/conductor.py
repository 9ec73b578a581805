"""A sweep that is made beside everything else: handed to the engine a few cells at a time, paused and gone on with."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Container, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from engines import events as ev
from engines import folders, sweep
from engines.engine import Engine
from engines.errors import SafelightError
from engines.requests import Job, JobId, Picture, Score
from engines.running import Run
from engines.store import MAX_ATTEMPTS, Store, cell_of, of_sweep, scores_of
from engines.sweep import Sweep
from tui import grids, runs
from tui.clean import one_line
from tui.jobs import Progress
from tui.wording import plural

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who looks on."""

    def cell_ended(self, id: int, number: int, picture: Picture | None, message: str) -> None:
        """A cell of a sweep has its picture, or it is known why not."""
        ...

    def picture_scored(self, path: str, scorer: str, score: float) -> None:
        """A picture has one score more."""
        ...

    def went_on(self) -> None:
        """It has begun, has come further, was paused or is over."""
        ...


class Conductor:
    """One sweep at a time. Everything that waits for the disk is done in threads.

    Args:
        engine: what makes the pictures.
        store: where sweeps are written down.
        spawn: runs a coroutine beside everything else.
        tell: shows an error.
        notify: shows a line.
        turned: is called when a sweep has begun, was paused or is over.
        pictures: the folder of pictures that name none.
        wordless: the scorers that judge pictures without a prompt, too.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        tell: Callable[[SafelightError], None],
        notify: Callable[[str], None],
        turned: Callable[[], None],
        pictures: Path,
        wordless: Container[str] = (),
    ) -> None:
        self.store = store
        self.run: Run | None = None
        "What is made now; None if nothing is, or it is paused."
        self._paused: Run | None = None
        "What was paused last, as it stood then."
        self.watcher: Watcher | None = None
        self.pictures = pictures
        self.wordless = wordless
        self._engine = engine
        self._spawn = spawn
        self._tell = tell
        self._notify = notify
        self._turned = turned
        self._lock: ExitStack | None = None
        self._cells: dict[JobId, tuple[int, int]] = {}
        self._judging: deque[Score] = deque()
        self._scores: set[JobId] = set()
        self._scoring: Score | None = None
        self._doing = ""
        self._starts = 0
        "How often it was begun, and nothing came of it."
        self._counted = False
        "Whether this time is one of them: from its first cell on."
        self._opening = 0
        "The sweep that is just read, to be made."
        self._resting = False
        self._lane = asyncio.Lock()
        self._marking = asyncio.Lock()
        "Marks are written in the order in which they were thought of."

    # ── what it does ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def busy(self) -> bool:
        """Whether a sweep is made, or its pictures are scored."""
        return self.run is not None

    @property
    def holds(self) -> bool:
        """Whether other programs are kept from a sweep: one is made, or its last picture is still being ended."""
        return self._lock is not None

    @property
    def left(self) -> int:
        """Cells that are still to be made."""
        return self.run.of - self.run.ended if self.run is not None else 0

    @property
    def words(self) -> str:
        """'38/200 · step 3/25'."""
        run = self.run
        if run is None:
            return ""
        made = len(run.sweep.cells) - run.of + run.ended
        return " · ".join(part for part in (f"{made}/{len(run.sweep.cells)}", self._doing) if part)

    @property
    def row(self) -> list[Progress]:
        """The sweep as a row of the queue."""
        run = self.run or self._paused
        if run is None:
            return []
        job = Job(-run.sweep.id, run.sweep.cells[0].request, None, run.sweep.created)
        all = len(run.sweep.cells)
        title = f"sweep {run.sweep.id}: {one_line(run.sweep.title)}"
        made = all - run.of + run.ended
        if self.run is None:
            return [Progress(job, "waiting", step=made, of=all, title=f"paused at {made}/{all}: {title}")]
        return [Progress(job, "running", step=made, of=all, doing=self._doing, title=title)]

    def go_on(self, id: int, sure: bool = False) -> None:
        """Begins or goes on with a sweep; one that is made already goes on as it does.

        Args:
            id: which.
            sure: whether pictures are made again where all of them are gone, as if a disk were away.
        """
        if self.run is None:
            self._spawn(self._go_on(id, 0, sure))
        elif self.run.sweep.id != id:
            self._notify(f"sweep {self.run.sweep.id} is being made; pause it first")

    async def _go_on(self, id: int, starts: int, sure: bool = False) -> None:
        if self._opening:
            return
        if self._lock is not None:
            self._notify("the last picture is still being ended; try again in a moment")
            return
        self._opening = id

        def opened() -> tuple[ExitStack, Sweep, int]:
            stack = ExitStack()
            try:
                stack.enter_context(runs.alone(self.store, id))
                wanted = sweep.load(self.store, id)
                folder = wanted.cells[0].request.folder if wanted.cells else None
                wanted, lost = sweep.reopen(self.store, wanted, sure)
                kept = folders.refuges(self.pictures, self.store.path.parent)
                wanted = sweep.find_again(self.store, wanted, Path(folder) if folder else self.pictures, kept)
                sweep.mark(self.store, id, starts)
            except BaseException:
                stack.close()
                raise
            return stack, wanted, lost

        try:
            stack, wanted, lost = await asyncio.to_thread(opened)
        except SafelightError as e:
            self._tell(e)
            return
        finally:
            self._opening = 0
        self._lock, self.run, self._doing, self._starts = stack, Run(wanted), "", starts
        self._counted = False
        self._paused = None
        if lost:
            were = "was" if lost == 1 else "were"
            self._notify(f"{plural(lost, 'picture')} of sweep {id} {were} deleted or damaged: made again")
        self._turned()
        self._went_on()
        await self._feed()

    def go_on_by_itself(self) -> None:
        """With what was left in the middle when the workbench was left."""
        self._spawn(self._pick_up())

    async def _pick_up(self) -> None:
        try:
            found = await asyncio.to_thread(sweep.marked, self.store)
            if found is None or self.run is not None or self._opening:
                return
            id, starts = found
            if starts >= MAX_ATTEMPTS:
                told = f"sweep {id} is set aside: safelight went down {starts} times during it"
                self._notify(f"{told}. It waits in the queue; over sweeps, space goes on with it")
                self._paused = Run(await asyncio.to_thread(sweep.load, self.store, id))
                self._turned()
                await asyncio.to_thread(sweep.mark, self.store, None)
                return
            self._notify(f"sweep {id} goes on where it was left")
            await self._go_on(id, starts)
        except SafelightError as e:
            self._tell(e)

    def pause(self) -> None:
        """What is running is cancelled within a step; nothing that was made is lost. One that is paused already leaves
        the queue."""
        if self.run is None:
            self._paused = None
            self._turned()
            return
        id, self._paused = self.run.sweep.id, self.run
        self._stop()
        self._notify(f"sweep {id} is paused; nothing of it is lost")

    def rest(self) -> None:
        """Hands over no more cells: the engine is about to be closed. What is left goes on the next time."""
        self._resting = True

    async def put_away(self) -> None:
        """Leaving in order is no going down: the next time the sweep goes on as if it were the first."""
        id = self.run.sweep.id if self.run is not None else self._opening
        if not id:
            return
        try:
            async with self._marking:
                await asyncio.to_thread(sweep.settle, self.store, id)
        except SafelightError as e:
            log.warning("%s", e.message)

    def leave(self) -> None:
        """The workbench is left: other programs may make the sweep."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop(self) -> None:
        self.run = None
        self._judging.clear()
        waiting = [*self._cells, *self._scores]

        async def cancel() -> None:
            for job_id in waiting[::-1]:
                await asyncio.to_thread(self._engine.cancel, job_id)
            await self._mark(None)

        self._spawn(cancel())
        self._release()
        self._turned()
        self._went_on()

    # ── what the engine says ────────────────────────────────────────────────────────────────────────────────────

    def takes(self, event: ev.Event) -> bool:
        """Whether an event is of a cell, or of scores for one; it has been worked in then."""
        match event:
            case ev.Queued(job):
                return self._queued(job)
            case ev.Scored(job_id, path, scorer, score):
                if job_id not in self._scores:
                    return False
                if self.watcher is not None:
                    self.watcher.picture_scored(path, scorer, score)
                return True
            case ev.Noted(text=text, job_id=job_id) if job_id in self._cells or job_id in self._scores:
                told = self.run is None or text in self.run.seen  # once, not for every cell
                if self.run is not None:
                    self.run.seen.add(text)
                return told
            case ev.Noted() | ev.Vitals() | ev.Gauged() | ev.Closed():
                return False
            case _ if event.job_id in self._scores:
                self._of_scores(event)
                return True
            case _ if event.job_id in self._cells:
                self._of_cell(event)
                return True
            case _:
                return False

    def _queued(self, job: Job) -> bool:
        which = cell_of(job.group)
        if which is None:
            if not of_sweep(job.group):
                return False
            self._scores.add(job.id)
        else:
            self._cells[job.id] = which
        if self.run is None or (which is not None and not self.run.queued(job)):
            self._spawn(asyncio.to_thread(self._engine.cancel, job.id))  # it was paused meanwhile
        return True

    def _of_scores(self, event: ev.Event) -> None:
        match event:
            case ev.Started() | ev.Loading():
                self._doing = f"scoring, {plural(len(self._judging) + 1, 'batch', 'batches')} left"
                self._went_on()
            case ev.Failed(job_id, message):
                self._scores.discard(job_id)
                self._judging_failed(message, event.exit_code == 2)
                self._next_scores()
            case ev.Done(job_id) | ev.Cancelled(job_id):
                self._scores.discard(job_id)
                if isinstance(event, ev.Done):
                    self._sound()
                self._next_scores()
            case _:
                pass

    def _judging_failed(self, message: str, of_picture: bool) -> None:
        """What is the scorer's own fault would fail again."""
        failed, run = self._scoring, self.run
        if failed is None or run is None:
            return
        self._notify(f"{failed.scorer} failed: {message}")
        self._spawn(self._miss(run.sweep.id, f"scorer {failed.scorer}", message))
        if not of_picture:
            self._judging = deque(one for one in self._judging if one.scorer != failed.scorer)

    def _count(self) -> None:
        """A cell is begun: if we go down now, it was this sweep."""
        if self.run is not None and not self._counted:
            self._counted, self._starts = True, self._starts + 1
            self._spawn(self._mark(self.run.sweep.id, self._starts))

    def _sound(self) -> None:
        """Something came of the sweep: it does not bring us down."""
        if self.run is not None and self._starts:
            self._starts = 0
            self._spawn(self._mark(self.run.sweep.id))

    def _of_cell(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self._count()
            case ev.Loading(what=what, fraction=fraction):
                self._doing = f"loading {what}" + ("" if fraction is None else f" {fraction:.0%}")
            case ev.Stepped(step=step, of=of):
                self._doing = f"step {step}/{of}"
            case ev.Finishing(what=what):
                self._doing = what
            case ev.Done(job_id, pictures):
                self._ended(job_id, next(iter(pictures), None), "")
            case ev.Failed(job_id=job_id):
                self._failed(event, job_id)
            case ev.Cancelled(job_id):
                if self.run is not None and self.run.cell(job_id):
                    self.run.cancelled(job_id)
                self._ended(job_id, None, "")
            case _:
                return
        self._went_on()

    def _failed(self, event: ev.Failed, job_id: JobId) -> None:
        run, message = self.run, event.message
        if run is None or run.cell(job_id) is None:
            self._ended(job_id, None, "")
            return
        if event.lasting and event.exit_code != 2:  # a full disk: it would fail every one
            self._cells.pop(job_id)
            self._tell(SafelightError(message, f"then go on with sweep {run.sweep.id}"))
            self._stop()
            return
        cells = run.failed(job_id, message)
        which = (sweep.loaded(cells[0].request), message)
        if which not in run.seen:
            run.seen.add(which)
            self._notify(f"{grids.told(cells[0].contender)}: {message}; the rest goes on")
        numbers = [cell.number for cell in cells]
        self._spawn(self._note(run.sweep.id, numbers, message))
        for number in numbers[1:]:
            if self.watcher is not None:
                self.watcher.cell_ended(run.sweep.id, number, None, message)
        self._ended(job_id, None, message)

    async def _mark(self, id: int | None, starts: int = 0) -> None:
        try:
            async with self._marking:
                await asyncio.to_thread(sweep.mark, self.store, id, starts)
        except SafelightError as e:
            log.warning("%s", e.message)  # it goes on by itself the next time, or does not; no more

    async def _miss(self, id: int, who: str, why: str) -> None:
        try:
            await asyncio.to_thread(sweep.note, self.store, id, who, why)
        except SafelightError as e:
            self._tell(e)

    async def _note(self, id: int, numbers: list[int], message: str) -> None:
        try:
            await asyncio.to_thread(sweep.fail, self.store, id, numbers, message)
        except SafelightError as e:
            self._tell(e)

    def _ended(self, job_id: JobId, picture: Picture | None, message: str) -> None:
        id, number = self._cells.pop(job_id)
        run = self.run
        if run is not None and run.cell(job_id):
            run.done(job_id)
        if picture is not None:
            self._sound()
        if self.watcher is not None and (picture is not None or message):
            self.watcher.cell_ended(id, number, picture, message)
        if run is None:
            self._release()
        elif run.over:
            self._spawn(self._judge(run))
        else:
            self._spawn(self._feed())

    # ── what comes next ─────────────────────────────────────────────────────────────────────────────────────────

    async def _feed(self) -> None:
        """Hands cells over until the engine has enough."""
        async with self._lane:
            run = self.run
            if run is not None and run.of == 0:
                await self._judge(run)
                return
            while run is not None and run is self.run and not self._resting and (more := run.next()) is not None:
                cell, group = more
                try:
                    await asyncio.to_thread(self._engine.submit, cell.request, group)
                except SafelightError as e:
                    run.not_sent(cell)
                    self._tell(e)
                    self._stop()

    async def _judge(self, run: Run) -> None:
        """When all pictures are there, the other scorers look at them."""

        def left() -> list[Score]:
            return runs.judgements(sweep.load(self.store, run.sweep.id), self.wordless)

        try:
            asked = await asyncio.to_thread(left)
        except SafelightError as e:
            self._tell(e)
            asked = []
        if self.run is run:
            self._judging.extend(asked)
            self._next_scores()

    def _next_scores(self) -> None:
        run = self.run
        if run is None:
            self._release()
        elif self._judging:
            self._spawn(self._score(run, self._judging.popleft()))
        else:
            self._spawn(self._end(run))

    async def _score(self, run: Run, request: Score) -> None:
        if self._resting:
            return
        self._scoring = request
        try:
            await asyncio.to_thread(self._engine.submit, request, scores_of(run.sweep.id))
        except SafelightError as e:
            self._tell(e)
            self._stop()

    async def _end(self, run: Run) -> None:
        if self.run is not run:
            return
        self.run = None
        self._release()
        await self._mark(None)
        self._notify(f"sweep {run.sweep.id} is done")
        self._turned()
        self._went_on()

    def _release(self) -> None:
        """Other programs may make the sweep now; not before what is running has ended."""
        if self._lock is not None and not self._cells and not self._scores:
            self._lock.close()
            self._lock = None

    def _went_on(self) -> None:
        if self.watcher is not None:
            self.watcher.went_on()
