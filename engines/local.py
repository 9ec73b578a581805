"""The engine in this process: one worker thread that takes jobs from the store and drains the darkroom.

It mirrors the app: both only pump. Torch is imported by the thread, at its first job.
"""

from __future__ import annotations

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
from engines.collecting import imports_that_stay
from engines.errors import DiskFull, InvalidRequest, SafelightError, Stopped, StorageError
from engines.events import Cancelled, Closed, Done, Event, Failed, Loading, Noted, Queued, Started
from engines.folders import Folders
from engines.options import Options
from engines.requests import Job, JobId, Picture, Request, Warm
from engines.store import EngineKind, Made, State, Store

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
        self._cancelled: set[JobId] = set()
        self._closing = False
        self._closed = threading.Event()
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
        # under the lock, so that nothing is queued behind the back of `close`
        with self._wake:
            if self._closing:
                raise StorageError("safelight is closing; nothing more is queued", "open it again")
            (job,) = self.store.add([request], group, self._id)
            self._waiting.append(job)
            self._events.put(Queued(job))
            if not isinstance(request, Warm):
                self._paused = ""
            self._wake.notify()
        return job.id

    def cancel(self, job_id: JobId) -> None:
        """As in Engine. A queued job is cancelled at once, a running one within a step."""
        with self._wake:
            if self._running == job_id:
                self._stop_running = True
                self._cancelled.add(job_id)
                return
            job = next((j for j in self._waiting if j.id == job_id), None)
            if job is None:
                return
            self._waiting.remove(job)
        try:
            self.store.end(job_id, "cancelled")
        except SafelightError as e:
            self._events.put(Noted("warning", f"it may come back at the next start: {e.message}", job_id))
        self._events.put(Cancelled(job_id))

    def events(self) -> Iterator[Event]:
        """As in Engine."""
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
                self._stop_running = True
                waiting = list(self._waiting)
                self._waiting.clear()
                self._wake.notify()
        if not first:
            self._closed.wait(2 * SAVE_GRACE)
            return
        self._thread.join(SAVE_GRACE)
        try:
            for job_id in self._cancelled:  # of a worker that did not come to it
                self.store.end(job_id, "cancelled")
            self.store.leave(self._id, keep=self.kind == "workbench")
        except SafelightError as e:
            log.error("leaving the store: %s", e.message)
        if self.kind == "command":
            for job in waiting:
                self._events.put(Cancelled(job.id))
        self._events.put(Closed())
        self._closed.set()

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
        try:
            if self.store.begun_anew:
                self._restore()
        except Exception:  # whatever the pictures say, it must not keep the engine from making more
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
                self._cancelled.discard(job.id)

    def _run(self, job: Job) -> None:
        """One job from `Started` to its last event; the one broad `except` of the engine."""
        began = time.perf_counter()
        self._events.put(Started(job.id))
        try:
            if self._darkroom is None:
                self._events.put(Loading(job.id, "torch", 0.0))
                with imports_that_stay():
                    self._darkroom = self._build()
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
            if isinstance(e, DiskFull):
                self._pause(e)
            self._end(job, e)
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
            if self._closing and self.kind == "workbench" and job.id not in self._cancelled:
                return
            self._close_row(job, "cancelled")
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
        self._close_row(job, "failed", failed.message, failed.hint)
        self._events.put(failed)

    def _close_row(self, job: Job, state: State, message: str = "", hint: str = "") -> None:
        """Ends a job in the store; where that can't be written (the full disk that ended the job), the log has it."""
        try:
            self.store.end(job.id, state, message, hint)
        except SafelightError as e:
            log.error("job %s is %s, but the store says: %s", job.id, state, e.message)

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
