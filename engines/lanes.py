"""A lane: one thread that takes one kind of jobs from the queue, each from `Started` to its last event."""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from engines.errors import DiskFull, InvalidRequest, SafelightError, Stopped, StorageError
from engines.events import Cancelled, Done, Event, Failed, Kept, Noted, Scored, Started
from engines.prompt import clean
from engines.requests import Job, JobId, Picture, Score
from engines.store import EngineKind, Made, State, Store, of_sweep

log = logging.getLogger(__name__)

Develop: TypeAlias = Callable[[Job, Callable[[], bool], float], Generator[Event | Made, None, tuple[Made, ...]]]
"(job, stop, when it began) → events, what is made while the job goes on, and what was made in the end."


class Lane:
    """Jobs in their order, one at a time.

    Args:
        name: of the thread.
        store: the queue and history.
        engine: the engine's id in the store.
        kind: a workbench's unfinished jobs stay for the next one.
        events: where events go.
        wake: the lock and bell that all lanes of an engine share.
        log_file: where to look for more of an unexpected error.
        go_on: what the user does to let a queue go on that waits for space.
        develop: does a job.
        first: done by the thread before its first job; what goes wrong in it is for the log only.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        engine: str,
        kind: EngineKind,
        events: queue.SimpleQueue[Event],
        wake: threading.Condition,
        log_file: Path,
        go_on: str,
        develop: Develop,
        first: Callable[[], None] | None = None,
    ) -> None:
        self.waiting: deque[Job] = deque()
        self.running: JobId | None = None
        self.stop_running = False
        self.cancelled: set[JobId] = set()
        self.closing = False
        self.paused = ""
        "Why jobs that write files wait; those that leave nothing go on. Empty if none wait. Under the lock."
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._store = store
        self._engine = engine
        self._kind = kind
        self._events = events
        self._wake = wake
        self._log_file = log_file
        self._go_on = go_on
        self._develop = develop
        self._first = first

    def start(self) -> None:
        """Starts the thread."""
        self.thread.start()

    def cancel(self, job_id: JobId) -> Job | None:
        """Takes a waiting job out and returns it, or lets the running one be stopped. Under the lock."""
        if self.running == job_id:
            self.stop_running = True
            self.cancelled.add(job_id)
            return None
        job = next((j for j in self.waiting if j.id == job_id), None)
        if job is not None:
            self.waiting.remove(job)
        return job

    def stop(self) -> list[Job]:
        """Lets the thread end, and returns the jobs that it did not come to. Under the lock."""
        self.closing = True
        self.stop_running = True
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting

    def _work(self) -> None:
        try:
            if self._first is not None:
                self._first()
        except Exception:  # whatever it was, it must not keep the lane from its jobs
            log.exception("before the first job")
        while True:
            with self._wake:
                while not self.closing and (job := self._next()) is None:
                    self._wake.wait()
                if self.closing or job is None:
                    return
                self.waiting.remove(job)
                self.running = job.id
                self.stop_running = False
            try:
                if self._store.claim(job.id, self._engine):
                    self._run(job)
                else:
                    self._events.put(Cancelled(job.id))
            except SafelightError as e:
                # the store itself can't be written: the job is told as failed, and stays in the table as it was
                self._events.put(Failed(job.id, e.message, e.hint, e.exit_code))
            with self._wake:
                self.running = None
                self.cancelled.discard(job.id)

    def _next(self) -> Job | None:
        """The job whose turn it is: a sweep's only where nobody waits for anything else. Under the lock."""
        able = [job for job in self.waiting if job.leaves_nothing or not self.paused]
        return next((job for job in able if not of_sweep(job.group)), able[0] if able else None)

    def _run(self, job: Job) -> None:
        """One job from `Started` to its last event; the one broad `except` of the engine."""
        began = time.perf_counter()
        self._events.put(Started(job.id))
        try:
            kept: list[Picture] = []
            if job.finishes:
                kept += self._store.kept(job.id)
                job = replace(job, kept=tuple(kept))
            development = self._develop(job, self._stopped, began)
            while True:
                try:
                    event = next(development)
                except StopIteration as end:
                    made = end.value
                    break
                if isinstance(event, Made):
                    kept.append(self._keep(job, event))
                    event = Kept(job.id, kept[-1])
                self._events.put(event)
                if isinstance(event, Scored) and isinstance(job.request, Score):
                    self._store.add_scores(event.path, {event.scorer: event.score}, job.request.prompt)
            self._events.put(Done(job.id, (*kept, *self._record(job, made))))
        except Stopped:
            self._end(job, None)
        except SafelightError as e:
            if isinstance(e, DiskFull):
                self._pause(e)
            self._end(job, e)
        except BaseException as e:
            log.exception("job %s", job.id)
            self._end(job, e)

    def _keep(self, job: Job, made: Made) -> Picture:
        """Writes one picture of a job that goes on into the history, as `_record` does at its end."""
        try:
            return self._store.keep(job.id, made)
        except StorageError as e:
            raise type(e)(e.message, f"the picture is not in the history, but it is saved: {made.path}") from e

    def _record(self, job: Job, made: tuple[Made, ...]) -> tuple[Picture, ...]:
        """Writes the history; a picture that can't be entered into it is on disk all the same, and that is told."""
        try:
            return self._store.finish(job.id, made)
        except StorageError as e:
            if not made:
                raise
            raise type(e)(e.message, f"the picture is not in the history, but it is saved: {made[0].path}") from e

    def _end(self, job: Job, error: BaseException | None) -> None:
        """Closes a job that made nothing; while the engine closes, a workbench's job stays for the next time."""
        if error is None:
            if self.closing and self._kind == "workbench" and job.id not in self.cancelled:
                return
            self._close_row(job, "cancelled")
            self._events.put(Cancelled(job.id))
            return
        trace = clean("".join(traceback.format_exception(error)))  # a file's name may be no text: no store takes that
        if isinstance(error, SafelightError):
            lasting = isinstance(error, (InvalidRequest, StorageError))
            failed = Failed(job.id, clean(error.message), clean(error.hint), error.exit_code, trace, lasting)
        else:
            said = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {clean(said[0][:200])}" if said else type(error).__name__
            failed = Failed(job.id, f"unexpected: {reason}", f"the log has more: {self._log_file}", 1, trace)
        self._close_row(job, "failed", failed.message, failed.hint)
        self._events.put(failed)

    def _close_row(self, job: Job, state: State, message: str = "", hint: str = "") -> None:
        """Ends a job in the store; where that can't be written (the full disk that ended the job), the log has it."""
        try:
            self._store.end(job.id, state, message, hint)
        except SafelightError as e:
            log.error("job %s is %s, but the store says: %s", job.id, state, e.message)

    def _pause(self, error: DiskFull) -> None:
        """A full disk would fail every job that writes a file: they wait until something new is asked."""
        with self._wake:
            waiting = sum(not job.leaves_nothing for job in self.waiting)
            if waiting and not self.paused and self._kind == "workbench":
                self.paused = error.message
                self._events.put(
                    Noted("warning", f"the queue waits ({waiting} jobs): free some space, then {self._go_on}")
                )

    def _stopped(self) -> bool:
        return self.stop_running
