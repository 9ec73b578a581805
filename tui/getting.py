"""What is not on this machine: looked for, asked about, fetched beside other work, and what waits for it made then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from textual import on

from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.entries import Entry
from engines.errors import SafelightError
from engines.requests import Pull
from tui import stack, stock
from tui.clean import clean
from tui.draft import Draft
from tui.fetching import Fetches
from tui.jobs import Jobs, Progress
from tui.messages import LookRequested
from tui.panes.fetching import FetchScreen
from tui.sketching import SketchingScreen
from tui.stock import Device
from tui.wording import plural

LOOK_AFTER = 0.3
"Seconds after the list of models was opened at which the disk is looked at again."


class GettingScreen(SketchingScreen):
    """Keeps the book of downloads, and what is known to be here."""

    def __init__(self, engine: Engine, catalogue: Catalogue, clock: Callable[[], float] = time.time) -> None:
        super().__init__(catalogue, clock)
        self._engine = engine
        self._jobs = Jobs()
        self._fetches = Fetches(catalogue)
        self._device: Device | None = None
        self._asking: dict[frozenset[str], list[Draft]] = {}
        "What is being asked about, and the drafts that wait for the answer."

    def show_held(self, names: str, draft: Draft) -> None:
        """Says that a picture is made when what it names is here."""
        raise NotImplementedError

    def show_not_made(self) -> None:
        """A picture that waited will not come."""
        raise NotImplementedError

    @property
    def held(self) -> int:
        """Pictures that wait for a download, and are not in the queue yet."""
        return self._fetches.held

    def missing(self, draft: Draft) -> Sequence[Entry]:
        """As in SketchingScreen."""
        return self._fetches.wanted(draft)

    def runs_on(self, device: Device | None) -> None:
        """What fits depends on it."""
        if device is not None and device != self._device:
            self._device = device
            self.look()

    def _title_of_entry(self, id: str) -> str:
        """The title of an entry of any kind."""
        try:
            return getattr(self.catalogue.entry(id), "title", "") or id
        except SafelightError:
            return id

    @on(LookRequested)
    def _look_soon(self) -> None:
        """The list opens first: a thread that looks shares the interpreter with it."""
        self.set_timer(LOOK_AFTER, self.look)

    def look(self) -> None:
        """Looks at what is here, in a thread: a thousand entries take a while."""
        self.run_worker(self._look_around(), group="stock", exclusive=True)

    async def _look_around(self) -> None:
        try:
            self.stocks = await asyncio.to_thread(stock.look_at_all, self.catalogue, self._device)
        except SafelightError:
            return  # a broken catalogue is told where it is used
        self.form.show_stocks(self.stocks)

    def ask(self, wanted: Sequence[Entry], draft: Draft | None) -> None:
        """Whether to fetch; what is on its way already needs no second question."""
        missing = [entry for entry in wanted if entry.id not in self._fetches.going]
        if not missing:
            if draft is not None:
                self._hold(draft, wanted)
            return

        drafts = [] if draft is None else [draft]
        about = frozenset(entry.id for entry in missing)
        if about in self._asking:  # Enter twice is one question
            self._asking[about] += drafts
            return
        self._asking[about] = drafts

        def answered(yes: bool | None) -> None:
            waiting = self._asking.pop(about)
            if not yes:
                return
            lacking = (one.id for entry in missing for one in self.catalogue.lacking(entry))
            self._fetches.told.update(lacking)
            for one in waiting:
                self._hold(one, wanted)
            self._fetch([entry for entry in missing if entry.id not in self._fetches.going])

        then = "The picture is made when it is here." if draft is not None else ""
        bill = stock.bill(self.catalogue, missing, self._fetches.told)
        self.app.push_screen(FetchScreen(bill, then), answered)

    def _hold(self, draft: Draft, wanted: Sequence[Entry]) -> None:
        self._fetches.hold(draft, wanted)
        names = " and ".join(entry.id for entry in wanted)
        self.show_held(names, draft)

    def _fetch(self, entries: Sequence[Entry]) -> None:
        self._fetches.going.update(entry.id for entry in entries)

        async def send() -> None:
            for entry in entries:
                try:
                    await asyncio.to_thread(self._engine.submit, Pull(entry.id))
                except SafelightError as e:
                    self.did_not_come(entry.id)
                    self.tell(e)

        self.run_worker(send(), group="engine")

    def pull_queued(self, progress: Progress) -> None:
        """A job that came into the queue; a download takes the place of one that failed."""
        if not isinstance(progress.job.request, Pull):
            return
        id = progress.job.request.id
        self._fetches.going.add(id)
        progress.title = self._title_of_entry(id)
        for other in list(self._jobs):
            if other.state == "failed" and other.job.request == progress.job.request:
                self._jobs.drop(other.job.id)

    def came(self, progress: Progress, id: str) -> None:
        """A download is done: what waited for it is made."""
        self.notify(f"{clean(progress.title)} is here", timeout=4, markup=False)
        self.look()
        ready = self._fetches.came(id)
        for draft in ready:
            self.make(draft)
        if not ready and id == self.form.draft.model:
            self.warm()

    def did_not_come(self, id: str) -> None:
        if count := self._fetches.failed(id):
            self.notify(f"{plural(count, 'picture')} waited for {id}: not made", severity="warning", markup=False)
            self.show_not_made()

    def action_fetch(self) -> None:
        """What the form names and isn't here, without making a picture."""
        draft = stack.active(self.form.draft)
        wanted = self._fetches.wanted(draft)
        if wanted and all(entry.id in self._fetches.going for entry in wanted):
            self.notify("it is being fetched: see the queue", timeout=3, markup=False)
        elif wanted:
            self.ask(wanted, None)
        else:
            having = self.stocks.models.get(draft.model)
            told = "can't be fetched: " + having.told if having and having.place == 2 else "is here"
            self.notify(clean(f"{self.title_of(draft.model)} {told}"), timeout=4, markup=False)
