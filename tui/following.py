"""What the engine tells becomes what panes show: queue, picture, strip, history, header."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

from textual import on

from engines import events as ev
from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.requests import JobId, Picture, Pull, Warm
from engines.store import Store
from tui.clean import clean
from tui.contacting import ContactingScreen
from tui.draft import Draft
from tui.jobs import Progress
from tui.messages import (
    FromEngine,
)
from tui.panes.header import Header
from tui.panes.history import HistoryPane
from tui.panes.picture import EMPTY, PicturePane
from tui.panes.queue import QueuePane
from tui.panes.strip import PictureStrip
from tui.stock import Device
from tui.wording import pace

MANY = 200
"Jobs above which the queue is redrawn once a second instead of at every step."
TOLD_TOGETHER = 0.3
"Seconds in which what is said of memory is gathered into one notice."


class FollowingScreen(ContactingScreen):
    """Follows events; while `_following`, what is made takes the middle."""

    def __init__(
        self, engine: Engine, catalogue: Catalogue, clock: Callable[[], float], sweeps: Store, pictures: Path
    ) -> None:
        super().__init__(engine, catalogue, clock, sweeps, pictures)
        self._warming: dict[JobId, str] = {}
        self._following = True
        self._drawn_at = 0.0
        self._memory: list[str] = []
        self._memory_told = ""
        self._kept: set[int] = set()
        self._ended = [0, 0]
        "Pictures made and jobs failed that were not told outside yet."

    def outside(self) -> tuple[bool, str, int, int]:
        """Whether something is made, how far it is in words; pictures made and jobs failed since the last time."""
        made, failed = self._ended
        self._ended = [0, 0]
        running = self._jobs.running
        if running:
            share = f"{running.share:.0%} " if running.share else ""
            told = f"{share}{running.prompt or 'no prompt'}"
        else:
            told = f"sweep {self.conductor.words}" if self.conductor.busy else ""
        waits = any(not p.is_pull and p.state != "failed" for p in self._jobs)
        return waits or self.conductor.busy, told, made, failed

    # ── panes ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def picture(self) -> PicturePane:
        """The middle."""
        return self.query_one(PicturePane)

    @property
    def strip(self) -> PictureStrip:
        """Below it."""
        return self.query_one(PictureStrip)

    @property
    def queue(self) -> QueuePane:
        """Above right."""
        return self.query_one(QueuePane)

    @property
    def history(self) -> HistoryPane:
        """Below right."""
        return self.query_one(HistoryPane)

    @property
    def draft(self) -> Draft:
        """The form as it stands."""
        return self.form.draft

    def title_of(self, model: str) -> str:
        """As in ComparingScreen."""
        known = self.catalogue.models.get(model)
        return known.title if known else model

    # ── what the engine tells ───────────────────────────────────────────────────────────────────────────────────

    @on(FromEngine)
    def _take_events(self, message: FromEngine) -> None:
        if all(isinstance(event, ev.Gauged) for event in message.events):
            for event in message.events:
                self._show_event(event)
            return  # of jobs nothing changed: nothing else is drawn anew
        progress_only = True
        for event in message.events:
            self._show_event(event)
            progress_only = progress_only and isinstance(event, ev.Stepped | ev.Previewed | ev.Pulling | ev.Gauged)
        self._show_state()
        now = self._clock()
        if not progress_only or len(self._jobs) < MANY or now - self._drawn_at > 1:
            self._drawn_at = now
            self._show_queue()

    def sweep_turned(self) -> None:
        """As in SweepsScreen."""
        if not self.gone:
            self._show_state()
            self._show_queue()

    def _show_queue(self) -> None:
        self.queue.show([*self._jobs, *self.conductor.row], self._jobs.ends(self._clock()))

    def _show_event(self, event: ev.Event) -> None:
        if self.conductor.takes(event):
            if isinstance(event, ev.Done):
                self._keep(event.pictures)
                self._ended[0] += len(event.pictures)
            return
        self._jobs.follow(event, self._clock())
        match event:
            case ev.Queued(job):
                if isinstance(job.request, Warm):
                    self._warming[job.id] = "waiting"
                elif not self.sketch_came(job):
                    self.pull_queued(self._jobs.add(job))
                    self.rest_came(job)
                    if job.group and job.group == self.strip.group:
                        self.strip.expect(job.id)
            case ev.Started(job_id):
                if job_id in self._warming:
                    self._warming[job_id] = "starting"
                elif self._jobs.get(job_id):
                    self._show_progress()
            case ev.Loading(job_id, what, fraction):
                if job_id in self._warming:
                    percent = "" if fraction is None else f" {fraction:.0%}"
                    self._warming[job_id] = f"loading {what}{percent}"
                elif self._jobs.get(job_id):
                    self._show_progress()
            case ev.Stepped(job_id):
                if self._jobs.get(job_id):
                    self._show_progress()
            case ev.Previewed(job_id, _, image):
                if self._following and self._jobs.get(job_id):
                    self.picture.show_preview(image)
            case ev.Sketched(job_id, image):
                if by := self.sketched(job_id):
                    self._following = True
                    self.picture.show_preview(image)
                    self.picture.show_waiting(f"sketch by {self.title_of(by)}", self.draft.prompt)
            case ev.Finishing(job_id):
                if self._jobs.get(job_id):
                    self._show_progress()
            case ev.Kept(job_id, picture):
                self._keep((picture,), self._jobs.get(job_id))
                self._kept.add(picture.id)
                if self._following and self._jobs.get(job_id):
                    self.history.follow()
                    self._show_picture(picture)
            case ev.Pulling():
                pass  # the queue shows it
            case ev.Scored() | ev.Saved():
                pass  # the workbench asks for no scores of other files, and for no files but pictures
            case ev.Done(job_id, pictures):
                self._warming.pop(job_id, None)
                self.sketch_over(job_id)
                if (done := self._jobs.drop(job_id)) and isinstance(done.job.request, Pull):
                    self.came(done, done.job.request.id)
                if done is not None:
                    self.rest_over(done.job, pictures)
                self.strip.fill(job_id, next(iter(pictures), None))
                self._show_done(pictures, done)
            case ev.Failed(job_id, message, hint):
                self.strip.fill(job_id, None)
                awaited = self.awaited(job_id)
                if self.sketch_over(job_id) and not awaited:
                    return  # nobody waits for it
                if self._warming.pop(job_id, None) is not None or awaited:
                    self.notify(f"{clean(message)}\n{clean(hint)}".strip(), severity="error", markup=False)
                elif progress := self._jobs.get(job_id):
                    progress.state, progress.message, progress.hint = "failed", message, hint
                    self._ended[1] += 1
                    self.rest_over(progress.job)
                    if isinstance(progress.job.request, Pull):
                        self.did_not_come(progress.job.request.id)
                    elif self._following:
                        self.picture.show_failure(progress.prompt, message, hint)
            case ev.Cancelled(job_id):
                self.strip.fill(job_id, None)
                self._warming.pop(job_id, None)
                self.sketch_over(job_id)
                gone = self._jobs.drop(job_id)
                if gone is not None and isinstance(gone.job.request, Pull):
                    self.did_not_come(gone.job.request.id)
                    self.look()  # of what it stands on, something may be here now
                elif gone is not None:
                    of_live = self.rest_over(gone.job)
                    # live shows the next sketch there in a moment
                    if gone.state == "running" and self._following and not (of_live and self.live):
                        self._show_last("cancelled")
            case ev.Vitals():
                self.query_one(Header).show_vitals(event)
                self.runs_on(Device.of(event))
            case ev.Gauged():
                self.query_one(Header).show_gauge(event)
            case ev.Noted("info", text) if text.startswith("memory: "):
                self._gather(text.removeprefix("memory: "))
            case ev.Noted(level, text):
                self.notify(clean(text), severity="warning" if level == "warning" else "information", markup=False)
            case ev.Closed():
                self._warming.clear()
            case _:
                assert_never(event)

    def _gather(self, text: str) -> None:
        """What is said of memory comes a line a reason: it is shown as one notice, and the same not twice."""
        if not self._memory:
            self.set_timer(TOLD_TOGETHER, self._tell_memory)
        self._memory.append(clean(text))

    def _tell_memory(self) -> None:
        told, self._memory = "\n".join(self._memory), []
        if told != self._memory_told:
            self._memory_told = told
            self.notify(told, title="memory", timeout=8, markup=False)

    def _settle(self) -> None:
        """As in PagedScreen; what is told of the running job fits the new size at once."""
        super()._settle()
        self.call_after_refresh(self._show_progress)

    def _show_progress(self) -> None:
        if self._following and (running := self._jobs.running):
            self.picture.show_progress(running, self._jobs.left(running, self._clock()))

    def _keep(self, pictures: Sequence[Picture], by: Progress | None = None) -> None:
        for picture in pictures:
            self._jobs.learn(picture, by)
        if pictures:
            self.history.show(pictures[::-1])

    def made_first(self, picture: Picture) -> None:
        """A picture was made where there was none before it."""

    def _show_done(self, pictures: Sequence[Picture], by: Progress | None) -> None:
        if pictures:
            self._ended[0] += len(pictures)
            self.made_first(pictures[0])
        self._keep([picture for picture in pictures if picture.id not in self._kept], by)
        self._kept.difference_update(picture.id for picture in pictures)
        if pictures and self._following:
            self.history.follow()
            self._show_picture(pictures[-1])

    def _show_picture(self, picture: Picture, note: str = "") -> None:
        self.keep_shown(picture)
        self.picture.show_picture(picture, self.title_of(picture.request.model), note)

    def show_one(self, picture: Picture, note: str = "") -> None:
        """As in ComparingScreen; what is made meanwhile does not take its place. The history's cursor goes there."""
        self.show_chosen(picture, note)
        self.history.seek(picture.id)

    def show_chosen(self, picture: Picture, note: str = "") -> None:
        """The same for a picture that the history's cursor is on."""
        self._following = False
        self._show_picture(picture, note)

    def _show_last(self, why: str) -> None:
        """After a cancelled job: the picture before it."""
        if self.shown is not None:
            self._show_picture(self.shown)
        else:
            self.picture.clear(EMPTY)
            self.picture.show_waiting(why)

    def _show_state(self) -> None:
        header = self.query_one(Header)
        if running := self._jobs.running:
            step = f"step {running.step}/{running.of}" if running.of else "starting"
            waiting = len(self._jobs.pictures) - 1
            facts = (
                running.doing or step,
                pace(running.seconds) if running.step and not running.doing else "",
                f"{waiting:,} waiting" if waiting > 0 else "",
            )
            header.show_state(" · ".join(filter(None, facts)), busy=True)
        elif self.sketching:
            header.show_state("sketching", busy=True)
        elif self._warming:
            header.show_state(f"warming up: {next(iter(self._warming.values()))}", busy=True)
        elif self.conductor.busy:
            header.show_state(f"sweep {self.conductor.words}", busy=True)
        else:
            waiting = len(self._jobs.pictures)
            header.show_state(f"{waiting} waiting" if waiting else "" if self._jobs.pulls else "ready")
        self.query_one(Header).show_fetching(self._fetched())

    def _fetched(self) -> str:
        """'fetching 31%' of all downloads together."""
        pulls = self._jobs.pulls
        told = [p.pulled for p in pulls if p.pulled is not None]
        of = sum(p.of for p in told)
        share = f" {sum(p.done for p in told) / of:.0%}" if of and len(told) == len(pulls) else ""
        return f"fetching{share}" if pulls else ""

    def _tick(self) -> None:
        """Estimates count down between the steps of a slow model."""
        if self._jobs.running or self._jobs.pulls:
            self._show_progress()
            if len(self._jobs) < MANY:
                self._show_queue()
