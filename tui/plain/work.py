"""What line mode has made: requests given to the engine one after another, and followed to the end in lines.

It is the loop of `tui.making` for an engine that stays: only one request is in the queue at a time, so that Ctrl+C or
/cancel ends all that was asked for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from engines.engine import Engine
from engines.errors import SafelightError
from engines.events import Cancelled, Closed, Done, Event, Failed, Kept, Noted, Queued, Started
from engines.requests import Generate, JobId, Picture, Pull, Request
from tui.plain import facts
from tui.plain.reading import Lines
from tui.plain.voice import Voice

LOOK = 0.1
"Seconds between two looks at what was typed while a job runs."

Heard: TypeAlias = Callable[[str], bool]
"Whether a line that was typed while a job runs was meant for now."


class Work:
    """The engine, and what came of what it was asked for."""

    def __init__(self, engine: Engine, lines: Lines, voice: Voice) -> None:
        self.heard: Heard = lambda line: False
        self.standing = ""
        "How the job that runs stands, and what waits behind it; empty while none does."
        self._engine = engine
        self._lines = lines
        self._voice = voice
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._warming: JobId | None = None
        self._cancelled = False
        threading.Thread(target=self._pump, name="safelight-events", daemon=True).start()

    def _pump(self) -> None:
        for event in self._engine.events():
            self._events.put(event)

    def warm(self, request: Request) -> None:
        """Lets the engine get a model ready while somebody types; what it tells meanwhile is not said."""
        if self._warming is not None:
            self._engine.cancel(self._warming)
        self._warming = self._engine.submit(request)

    def settle(self) -> None:
        """Says what the engine has told while nothing ran that should be known."""
        while not self._events.empty():
            self._between(self._events.get())

    def cancel(self) -> None:
        """Ends what runs, and all that was asked for with it."""
        self._cancelled = True

    def do(self, requests: Sequence[Request], group: str | None = None) -> None:
        """Has requests done, one after another, and tells what comes of each."""
        self._cancelled = False
        self._lines.interrupts = 0
        told: set[str] = set()
        self._voice.begin(_beginning(requests))
        what = _counted(requests)
        try:
            for number, request in enumerate(requests, 1):
                which = f"{what} {number} of {len(requests)}, " if len(requests) > 1 else ""
                end = self._follow(request, group, which, len(requests) - number)
                if isinstance(end, Failed):
                    if end.message not in told:
                        self._voice.fail(_failed(end))
                    told.add(end.message)
                    if end.lasting:
                        break
                if isinstance(end, Cancelled):
                    left = len(requests) - number
                    self._voice.tell("cancelled" + (f", and {left} more" if left else ""))
                    break
        finally:
            self.standing = ""

    def _follow(self, request: Request, group: str | None, which: str, left: int) -> Done | Failed | Cancelled:
        """One request to its end."""
        if isinstance(request, Generate):
            request = replace(request, preview_every=0)  # nobody looks at them
        asked = False
        kept: set[int] = set()
        job = self._engine.submit(request, group)
        self.standing = f"{which}{facts.asked(request)}" + (f", {left} more after it" if left else "")
        while True:
            self._hear()
            if self._cancelled and not asked:
                asked = True
                self._engine.cancel(job)
                if self._lines.interrupts:
                    self._voice.now("")  # the terminal has written ^C, and the cursor stands behind it
                self._voice.begin("cancelling")
            try:
                event = self._events.get(timeout=LOOK)
            except queue.Empty:
                self._voice.wait()
                continue
            mine = getattr(event, "job_id", None) in (job, self._warming)
            match event:
                case Kept(job_id, picture) if job_id == job:
                    kept.add(picture.id)
                    self._tell(picture)
                case Done(job_id, pictures) if job_id == job:
                    for picture in pictures:
                        if picture.id not in kept:
                            self._tell(picture)
                    return event
                case Failed(job_id=job_id) | Cancelled(job_id) if job_id == job:
                    return event
                case Noted() | Closed() | Done() | Failed() | Cancelled():
                    self._between(event)
                case Queued() | Started():
                    pass
                case _ if mine and not asked and (words := facts.going(event, left)):
                    self._voice.progress(which + words)
                case _:
                    pass

    def _hear(self) -> None:
        """What somebody at the keyboard wants now: Ctrl+C, or a line for a job that runs."""
        self._cancelled = self._cancelled or self._lines.interrupts > 0
        for line in self._lines.typed():
            if not self.heard(line):
                self._lines.keep(line)

    def _tell(self, picture: Picture) -> None:
        self._voice.tell(facts.made(picture))
        self._voice.path(picture.path)

    def _between(self, event: Event) -> None:
        """An event of no job that is waited for. A model that could not be got ready is told when it is wanted."""
        match event:
            case Noted(level, text):
                self._voice.note(text, level="note" if level == "info" else "warning")
            case Closed():
                raise SafelightError("the engine has ended", "start safelight again")
            case Done(job_id=job_id) | Failed(job_id=job_id) | Cancelled(job_id) if job_id == self._warming:
                self._warming = None
            case _:
                pass


def _beginning(requests: Sequence[Request]) -> str:
    """'making 4 pictures, seeds 7 to 10, 25 steps'."""
    first, last = requests[0], requests[-1]
    match first, last:
        case Generate(), Generate():
            count = sum(r.batch_size for r in requests if isinstance(r, Generate))
            end = last.seed + last.batch_size - 1
            seeds = f"seed {first.seed}" if count == 1 else f"seeds {first.seed} to {end}"
            what = "a picture" if count == 1 else f"{count} pictures"
            return f"making {what}, {seeds}, {first.num_inference_steps} steps"
        case Pull(), _:
            return "fetching"
        case _:
            return f"working, {facts.asked(first)}"


def _counted(requests: Sequence[Request]) -> str:
    """What there are several of."""
    if isinstance(requests[0], Pull):
        return "download"
    return "batch" if any(isinstance(r, Generate) and r.batch_size > 1 for r in requests) else "picture"


def _failed(event: Failed) -> SafelightError:
    error = SafelightError(event.message, event.hint)
    error.exit_code = event.exit_code
    return error
