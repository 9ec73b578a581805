"""The engine in this process: one worker thread that takes jobs from the store and drains the darkroom.

It mirrors the app: both only pump. Torch is imported by the thread, at its first job.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engines import metadata
from engines.catalogue import Catalogue
from engines.errors import DiskFull, InvalidRequest, SafelightError, Stopped, StorageError
from engines.events import Cancelled, Closed, Done, Event, Failed, Loading, Noted, Queued, Started
from engines.folders import Folders
from engines.options import Options
from engines.requests import Job, JobId, Picture, Request
from engines.store import EngineKind, Made, Store

if TYPE_CHECKING:
    from engines.diffusion.darkroom import Darkroom

log = logging.getLogger(__name__)

SAVE_GRACE = 1.5
"Seconds that `close` waits for a save in progress; with the store's commit it stays under two."


class LocalEngine:
    """Makes pictures in a thread of this process. Implements `engines.engine.Engine`.

    Args:
        store: the queue and history; shared with other programs, closed by whoever opened it.
        kind: a workbench takes over what dead workbenches left queued, and leaves its own queue behind; a command
            leaves nothing.
        develop: for tests, in place of the darkroom that the first job builds.
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
        self.catalogue = catalogue
        self.store = store
        self.kind = kind
        self._folders = folders
        self._options = options
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._wake = threading.Condition()
        self._running: JobId | None = None
        self._stop_running = False
        self._closing = False
        self._paused = ""
        self._build = darkroom or self._build_darkroom
        self._darkroom: Darkroom | None = None
        self._id = store.register(kind)
        self._adopt()
        self._thread = threading.Thread(target=self._work, name="safelight-engine", daemon=True)
        self._thread.start()

    # ── the seam ────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, request: Request, group: str | None = None) -> JobId:
        """As in Engine. The job is in the store when this returns."""
        request.validate()
        (job,) = self.store.add([request], group, self._id)
        with self._wake:
            self._waiting.append(job)
            self._events.put(Queued(job))
            self._paused = ""
            self._wake.notify()
        return job.id

    def cancel(self, job_id: JobId) -> None:
        """As in Engine. A queued job is cancelled at once, a running one within a step."""
        with self._wake:
            if self._running == job_id:
                self._stop_running = True
                return
            job = next((j for j in self._waiting if j.id == job_id), None)
            if job is None:
                return
            self._waiting.remove(job)
        with contextlib.suppress(SafelightError):
            self.store.end(job_id, "cancelled")
        self._events.put(Cancelled(job_id))

    def events(self) -> Iterator[Event]:
        """As in Engine."""
        while True:
            event = self._events.get()
            yield event
            if isinstance(event, Closed):
                return

    def close(self) -> None:
        """As in Engine. Returns within two seconds; a thread that is still importing is left behind."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._stop_running = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._wake.notify()
        self._thread.join(SAVE_GRACE)
        try:
            self.store.leave(self._id, keep=self.kind == "workbench")
        except SafelightError as e:
            log.error("leaving the store: %s", e.message)
        if self.kind == "command":
            for job in waiting:
                self._events.put(Cancelled(job.id))
        self._events.put(Closed())

    @property
    def idle(self) -> bool:
        """Whether the worker has ended, so that the process may end in order."""
        return not self._thread.is_alive()

    # ── the worker ──────────────────────────────────────────────────────────────────────────────────────────────

    def _adopt(self) -> None:
        adopted = self.store.adopt(self._id, self.kind)
        for job in adopted.jobs:
            self._waiting.append(job)
            self._events.put(Queued(job))
        if adopted.jobs:
            count = len(adopted.jobs)
            self._events.put(Noted("info", f"{count} job{'s' * (count != 1)} of an earlier session go on"))
        for job in adopted.set_aside:
            self._events.put(
                Noted("warning", f"job {job.id} was set aside: safelight went down {job.attempts} times during it")
            )
        if self.store.note:
            self._events.put(Noted("warning", self.store.note))

    def _restore(self) -> None:
        """What the pictures in the folder say of themselves, after a history that could not be read."""
        count = self.store.restore(metadata.found(self._options.pictures))
        self._events.put(Noted("info", f"{count} picture{'s' * (count != 1)} found again in {self._options.pictures}"))

    def _work(self) -> None:
        if self.store.begun_anew:
            try:
                self._restore()
            except (SafelightError, OSError, ValueError):
                log.exception("restoring the history")
        while True:
            with self._wake:
                while not self._closing and (not self._waiting or self._paused):
                    self._wake.wait()
                if self._closing:
                    return
                job = self._waiting.popleft()
                self._running = job.id
                self._stop_running = False
            try:
                if self.store.claim(job.id, self._id):
                    self._run(job)
                else:
                    self._events.put(Cancelled(job.id))
            except SafelightError as e:
                # the store itself can't be written: the job is told as failed, and stays in the table as it was
                self._events.put(Failed(job.id, e.message, e.hint, e.exit_code))
            with self._wake:
                self._running = None

    def _run(self, job: Job) -> None:
        """One job from `Started` to its last event; the one broad `except` of the engine."""
        began = time.perf_counter()
        self._events.put(Started(job.id))
        try:
            if self._darkroom is None:
                self._events.put(Loading(job.id, "torch", 0.0))
                self._darkroom = _once(self._build)
            development = self._darkroom.develop(job, self._stopped, began)
            while True:
                try:
                    event = next(development)
                except StopIteration as end:
                    made = end.value
                    break
                self._events.put(event)
            self._events.put(Done(job.id, self._record(job, made)))
        except Stopped:
            self._end(job, None)
        except SafelightError as e:
            self._end(job, e)
            if isinstance(e, DiskFull):
                self._pause(e)
        except BaseException as e:
            log.exception("job %s", job.id)
            self._end(job, e)

    def _record(self, job: Job, made: tuple[Made, ...]) -> tuple[Picture, ...]:
        """Writes the history; a picture that can't be entered into it is on disk all the same, and that is told."""
        try:
            return self.store.finish(job.id, made)
        except StorageError as e:
            if not made:
                raise
            raise type(e)(e.message, f"the picture is not in the history, but it is saved: {made[0].path}") from e

    def _end(self, job: Job, error: BaseException | None) -> None:
        """Closes a job that made nothing; while the engine closes, a workbench's job stays for the next time."""
        if error is None:
            if self._closing and self.kind == "workbench":
                return
            self.store.end(job.id, "cancelled")
            self._events.put(Cancelled(job.id))
            return
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, SafelightError):
            lasting = isinstance(error, (InvalidRequest, StorageError))
            failed = Failed(job.id, error.message, error.hint, error.exit_code, trace, lasting)
        else:
            said = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
            failed = Failed(job.id, f"unexpected: {reason}", f"the log has more: {self._folders.log}", 1, trace)
        try:
            self.store.end(job.id, "failed", failed.message, failed.hint)
        finally:
            self._events.put(failed)

    def _pause(self, error: DiskFull) -> None:
        """A full disk would fail every job in the queue: they wait until something new is asked."""
        with self._wake:
            if self._waiting and self.kind == "workbench":
                self._paused = error.message
                waiting = len(self._waiting)
                self._events.put(
                    Noted("warning", f"the queue waits ({waiting} jobs): free some space, then make a picture")
                )

    def _stopped(self) -> bool:
        return self._stop_running

    def _build_darkroom(self) -> Darkroom:
        from engines.diffusion.darkroom import Darkroom

        return Darkroom(self.catalogue, self._options, self._folders.cache, self._folders.data)


def _once(build: Callable[[], Darkroom]) -> Darkroom:
    """Builds the darkroom without the garbage collector, and takes what is there then out of its sight for good.

    Importing torch and its friends makes half a million objects that stay. Collections during the import cost half a
    second, and each full one afterwards 230–500 ms, in which no thread runs. Models come later and can be collected.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        darkroom = build()
        gc.freeze()
    finally:
        if was_on:
            gc.enable()
    return darkroom
