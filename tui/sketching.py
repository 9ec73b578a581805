"""The workbench while it is live: every change is sketched, what is out of date is dropped, the picture follows.

What is asked for, `tui.live` decides; here are the timers, the jobs that are on their way, and what becomes of them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from textual import on
from textual.timer import Timer

from engines.catalogue import Catalogue
from engines.entries import Entry
from engines.requests import Generate, Job, JobId, Picture
from tui import stack
from tui.draft import Draft
from tui.finishing import FinishingScreen
from tui.live import Live
from tui.messages import DraftChanged, ModelChanged
from tui.panes.header import Header

GROUP = "live-"
"What the groups of pictures that live makes begin with."
REMEMBERED = 50
"Pictures that live has made and would not make again."
REST = 1.5
"Seconds without a change after which the picture itself is made."


class SketchingScreen(FinishingScreen):
    """Asks for sketches while live is on, and for the picture when the hands rest."""

    def __init__(self, catalogue: Catalogue, clock: Callable[[], float] = time.time) -> None:
        super().__init__(catalogue)
        self._clock = clock
        self._live = Live()
        self._sketches: dict[JobId, str] = {}
        self._group = ""
        "Of the picture that is wanted; empty while none is."
        self._rested: Picture | None = None
        "That picture, when it is there."
        self._all_rested: dict[Draft, Picture] = {}
        "The last pictures that live made: what is changed and changed back is not drawn again."
        self._rests: list[JobId] = []
        self._groups: dict[str, Draft] = {}
        "Of all pictures that were asked for here, each with its draft; what an earlier workbench left is none of them."
        self._reading = False
        self._changed_since = False
        "Whether the form was changed while a draft was read."
        self._sketch_timer: Timer | None = None
        self._rest_timer: Timer | None = None

    # ── what whoever builds on it does ──────────────────────────────────────────────────────────────────────────

    def missing(self, draft: Draft) -> Sequence[Entry]:
        """What a draft names that is not here and could be fetched; looks on the disk."""
        raise NotImplementedError

    def submit(self, *requests: Generate) -> None:
        """Hands requests to the engine."""
        raise NotImplementedError

    def cancel(self, *job_ids: JobId) -> None:
        """Cancels jobs; those that have ended are left alone."""
        raise NotImplementedError

    def make(self, draft: Draft, group: str | None = None) -> None:
        """Makes the picture of a draft, unasked by any key."""
        raise NotImplementedError

    def wait_for(self, text: str, hint: str) -> None:
        """Says where the picture stands why none comes."""
        raise NotImplementedError

    def show_again(self, picture: Picture) -> None:
        """Shows a picture that was made before as the newest."""
        raise NotImplementedError

    # ── how it stands ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def live(self) -> bool:
        """Whether changes are sketched."""
        return self._live.on

    @property
    def sketching(self) -> bool:
        """Whether a sketch is on its way."""
        return bool(self._sketches)

    def awaited(self, job_id: JobId) -> bool:
        """Whether a job is the sketch that is wanted now."""
        return job_id in self._sketches and job_id == self._live.job

    # ── what changes ────────────────────────────────────────────────────────────────────────────────────────────

    def action_live(self) -> None:
        """On, with a seed that stays; or off."""
        seed = self.shown.request.seed if self.shown is not None else secrets.randbelow(2**32)
        self.end_live()
        typed = self.form.draft.seed.strip()
        self._live = Live(on=not self._live.on, seed=typed or str(seed))
        self.query_one(Header).show_live(self._live.on)
        if not self._live.on:
            self.notify("live is off", timeout=3, markup=False)
            return
        if not typed:
            self.form.settings.set_seed(self._live.seed)
        self.notify("live: every change is sketched with this seed; the picture follows", timeout=5, markup=False)
        self._changed()

    @on(DraftChanged)
    @on(ModelChanged)
    def _changed(self) -> None:
        if not self._live.on:
            return
        self._stop()
        due = self._live.due(self._clock(), self.sketching)
        if due > 0:
            self._sketch_timer = self.set_timer(due, self._sketch_now)
        else:  # Textual has no timers of no time
            self._sketch_now()

    def _sketch_now(self) -> None:
        """One draft is read at a time, and what was read is sketched: else steady changes would never be seen."""
        self._changed_since = self._reading
        if not self._reading:
            self._reading = True
            self.run_worker(self._sketch(self._live), group="live")

    async def _sketch(self, live: Live) -> None:
        try:
            await self._read(live)
        finally:
            self._reading = False
        if self._changed_since and not self.gone:
            self._sketch_now()

    async def _read(self, live: Live) -> None:
        draft = stack.active(self.form.draft)
        live.waiting = 0.0
        if missing := await asyncio.to_thread(self.missing, draft):
            # nothing is fetched unasked: Enter asks
            if self.gone or live is not self._live:
                return
            self.wait_for(f"live waits for {missing[0].id}, which is not here", "Enter asks to fetch it")
            return
        # variants may name files, which are read: not here
        request = await asyncio.to_thread(live.sketch, draft, self.catalogue, self.stocks.models)
        if self.gone or live is not self._live or not live.on:
            return
        if request is not None:
            # the picture of a draft that is not wanted any more, too
            rests = [*self._rests]
            self.cancel(*self._sketches, *rests)
            if rests or self._group:
                self._live.made = None if self._rested is None else self._live.made
            self._group = ""
            live.asked(draft)
            self.submit(request)
        if self._rest_timer is not None:
            self._rest_timer.stop()
        self._rest_timer = self.set_timer(REST, self._rest)

    def _rest(self) -> None:
        draft = stack.active(self.form.draft)
        there = self._all_rested.get(self._live.plain(draft))
        if there is not None and Path(there.path).is_file():
            self._live.made, self._rested = self._live.plain(draft), there
            self.cancel(*self._sketches)  # it is better than any sketch
            self._live.job = None
            self.show_again(there)
        elif self._live.picture(draft):
            self._group, self._rested = f"{GROUP}{secrets.token_hex(4)}", None
            self._groups[self._group] = self._live.plain(draft)
            self.make(self._live.plain(self.form.draft), self._group)
        elif self._rested is not None and self._live.plain(draft) == self._live.made:
            self.show_again(self._rested)  # changed, and changed back: it is there already

    def pressed(self, draft: Draft) -> None:
        """A key asked for the picture of this draft: it is not made a second time when the hands rest."""
        if self._live.on:
            self._rested = None
            self._live.made = self._live.plain(draft)

    def _stop(self) -> None:
        for timer in (self._sketch_timer, self._rest_timer):
            if timer is not None:
                timer.stop()

    def end_live(self) -> None:
        """Nothing that live asked for goes on."""
        self._stop()
        self._live = replace(self._live)  # a draft that is being read is not sketched any more
        self._changed_since = False
        self.cancel(*self._sketches, *self._rests)
        self._rests.clear()
        self._group, self._rested = "", None

    # ── what the engine tells ───────────────────────────────────────────────────────────────────────────────────

    def sketch_came(self, job: Job) -> bool:
        """Whether a job that came into the queue is a sketch; older ones are out of date now."""
        if not isinstance(job.request, Generate) or not job.request.sketch:
            return False
        self._sketches[job.id] = job.request.model
        self.cancel(*self._live.queued(job.id, self._sketches))
        return True

    def sketched(self, job_id: JobId) -> str:
        """The model whose sketch this is, if it shall be shown; else empty."""
        return self._sketches.get(job_id, "") if self._live.on and self.awaited(job_id) else ""

    def sketch_over(self, job_id: JobId) -> bool:
        """A job has ended; whether it was a sketch."""
        return self._sketches.pop(job_id, None) is not None

    def rest_came(self, job: Job) -> None:
        """A job that is no sketch came into the queue: the picture that follows sketches may be out of date already."""
        if job.group in self._groups:
            self._rests.append(job.id)
            if job.group != self._group:
                self.cancel(job.id)  # the form was changed while it was on its way

    def rest_over(self, job: Job, pictures: Sequence[Picture] = ()) -> bool:
        """A picture was made, or will not come; whether it was live that asked for it, who may ask again."""
        if job.group not in self._groups:
            return False
        if job.id in self._rests:
            self._rests.remove(job.id)
        picture = next(iter(pictures), None)
        if picture is not None:
            self._remember(self._groups[job.group], picture)
        if job.group == self._group:
            self._rested = picture
            if picture is None:
                self._live.made, self._group = None, ""
        return True

    def _remember(self, draft: Draft, picture: Picture) -> None:
        if "__" not in draft.prompt:  # files of wildcards may change
            self._all_rested[draft] = picture
            while len(self._all_rested) > REMEMBERED:
                del self._all_rested[next(iter(self._all_rested))]
