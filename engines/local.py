"""The engine in this process: a thread that computes and one that fetches, each taking its jobs from the store.

It mirrors the app: both only pump. Torch is imported by the computing thread, at its first job.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from engines import choosing, metadata, pulling
from engines.catalogue import Catalogue
from engines.collecting import imports_that_stay
from engines.entries import Model
from engines.errors import SafelightError, StorageError
from engines.events import Cancelled, Closed, Event, Loading, Noted, Queued
from engines.folders import Folders
from engines.gauges import Gauge
from engines.lanes import Lane
from engines.options import Options
from engines.requests import Generate, Job, JobId, Pull, Request
from engines.store import EngineKind, Made, Store
from engines.wire import Wire

if TYPE_CHECKING:
    from engines.diffusion.darkroom import Darkroom

log = logging.getLogger(__name__)

SAVE_GRACE = 1.5
"Seconds that `close` waits for a save in progress; with the store's commit it stays under two."


class LocalEngine:
    """Makes pictures in a thread of this process, and fetches models in another. Implements `engines.engine.Engine`.

    Args:
        store: the queue and history; shared with other programs, closed by whoever opened it.
        kind: a workbench takes over what dead workbenches left queued, and leaves its own queue behind; a command
            leaves nothing.
        darkroom: for tests, what builds the darkroom when the first job comes.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        folders: Folders,
        options: Options,
        store: Store,
        kind: EngineKind = "command",
        darkroom: Callable[[], Darkroom] | None = None,
    ) -> None:
        self.store = store
        self.kind = kind
        self._catalogue = catalogue
        self._folders = folders
        self._options = options
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._gauge = Gauge(self._events.put)
        self._wake = threading.Condition()
        self._closing = False
        self._closed = threading.Event()
        self._build = darkroom or self._build_darkroom
        self._darkroom: Darkroom | None = None
        self._handed = catalogue
        self._id = store.register(kind)
        shared = (store, self._id, kind, self._events, self._wake, folders.log)
        self._computing = Lane("safelight-engine", *shared, "make a picture", self._compute, self._restore)
        self._fetching = Lane("safelight-pulls", *shared, "pull again", self._pull)
        self._lanes = (self._computing, self._fetching)
        self._adopt()
        for lane in self._lanes:
            lane.start()

    @property
    def catalogue(self) -> Catalogue:
        """Which models there are. A new one may be set at any time: the next job goes by it."""
        return self._catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        with self._wake:
            self._catalogue = catalogue

    # ── the seam ────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, request: Request, group: str | None = None) -> JobId:
        """As in Engine. The job is in the store when this returns."""
        request.validate()
        # under the lock, so that nothing is queued behind the back of `close`
        with self._wake:
            if self._closing:
                raise StorageError("safelight is closing; nothing more is queued", "open it again")
            (job,) = self.store.add([request], group, self._id)
            lane = self._lane(job)
            sketch = isinstance(request, Generate) and request.sketch
            if sketch:
                lane.waiting.appendleft(job)  # somebody looks on: it is quick, and the pictures wait for it
            else:
                lane.waiting.append(job)
            self._events.put(Queued(job))
            if not job.leaves_nothing:
                lane.paused = ""
            self._wake.notify_all()
        return job.id

    def cancel(self, job_id: JobId) -> None:
        """As in Engine. A queued job is cancelled at once, a running one within a step."""
        with self._wake:
            found = [job for lane in self._lanes if (job := lane.cancel(job_id)) is not None]
        if not found:
            return
        try:
            self.store.end(job_id, "cancelled")
        except SafelightError as e:
            self._events.put(Noted("warning", f"it may come back at the next start: {e.message}", job_id))
        self._events.put(Cancelled(job_id))

    def events(self) -> Iterator[Event]:
        """As in Engine."""
        # a command has no place to show how warm the device is
        with self._gauge.listened() if self.kind == "workbench" else nullcontext():
            while True:
                event = self._events.get()
                yield event
                if isinstance(event, Closed):
                    return

    def close(self) -> None:
        """As in Engine. Returns within two seconds; a thread that is still importing is left behind.

        Whoever calls it while another thread does waits for that one.
        """
        with self._wake:
            first = not self._closing
            if first:
                self._closing = True
                waiting = [job for lane in self._lanes for job in lane.stop()]
                self._wake.notify_all()
        if not first:
            self._closed.wait(2 * SAVE_GRACE)
            return
        until = time.monotonic() + SAVE_GRACE
        for lane in self._lanes:
            lane.thread.join(max(0.0, until - time.monotonic()))
        try:
            for job_id in {id for lane in self._lanes for id in lane.cancelled}:  # of a worker that did not come to it
                self.store.end(job_id, "cancelled")
            self.store.leave(self._id, keep=self.kind == "workbench")
        except SafelightError as e:
            log.error("leaving the store: %s", e.message)
        if self.kind == "command":
            for job in waiting:
                self._events.put(Cancelled(job.id))
        self._events.put(Closed())
        self._closed.set()

    # ── the work ────────────────────────────────────────────────────────────────────────────────────────────────

    def _lane(self, job: Job) -> Lane:
        return self._fetching if isinstance(job.request, Pull) else self._computing

    def _adopt(self) -> None:
        adopted = self.store.adopt(self._id, self.kind)
        sketches = [job for job in adopted.jobs if isinstance(job.request, Generate) and job.request.sketch]
        for job in sketches:
            self.store.end(job.id, "cancelled")  # whoever wanted to look at it is gone
        going_on = [job for job in adopted.jobs if job not in sketches]
        for job in going_on:
            self._lane(job).waiting.append(job)
            self._events.put(Queued(job))
        if going_on:
            count = len(going_on)
            self._events.put(Noted("info", f"{count} job{'s' * (count != 1)} of an earlier session go on"))
        for job in adopted.set_aside:
            self._events.put(
                Noted("warning", f"job {job.id} was set aside: safelight went down {job.attempts} times during it")
            )
        if self.store.note:
            self._events.put(Noted("warning", self.store.note))

    def _restore(self) -> None:
        """What the pictures in the folder say of themselves, after a history that could not be read."""
        if not self.store.begun_anew:
            return
        count = self.store.restore(metadata.found(self._options.pictures))
        self._events.put(Noted("info", f"{count} picture{'s' * (count != 1)} found again in {self._options.pictures}"))

    def _compute(
        self, job: Job, stop: Callable[[], bool], began: float
    ) -> Generator[Event | Made, None, tuple[Made, ...]]:
        known = self._catalogue  # read once: it may be replaced at any moment
        if self._darkroom is None:
            yield Loading(job.id, "torch", 0.0)
            self._handed = known
            with imports_that_stay():
                self._darkroom = self._build()
        elif self._handed is not known:
            self._darkroom.catalogue = self._darkroom.loader.catalogue = known
            self._handed = known
        return (yield from self._darkroom.develop(job, stop, began))

    def _pull(
        self, job: Job, stop: Callable[[], bool], began: float
    ) -> Generator[Event | Made, None, tuple[Made, ...]]:
        assert isinstance(job.request, Pull)
        known = self._catalogue
        entry = known.entry(job.request.id)
        models = (entry, *known.needs(entry)) if isinstance(entry, Model) else ()
        vaes = [known.vae(model.vae) for model in models if model.vae]
        with Wire(job.id, stop) as wire:
            yield from pulling.pull(choosing.wants(entry, models[1:], vaes), wire)
        return ()

    def _build_darkroom(self) -> Darkroom:
        from engines.diffusion.darkroom import Darkroom

        built = Darkroom(self._handed, self._options, self._folders.cache, self._folders.data)
        self._gauge.over(built.device.card)
        return built
