"""The engine's events on their way into the app, which the engine never waits for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from engines.engine import Engine
from engines.events import Cancelled, Closed, Done, Event, Failed, Finishing, Gauged, Kept, Previewed, Stepped
from engines.requests import JobId


class Pump:
    """A thread that takes events and wakes the app; progress that was superseded is left out.

    At most one wake for progress and one for all else is on its way.
    """

    def __init__(self, engine: Engine, wake: Callable[[bool], object]) -> None:
        self._engine = engine
        self._wake = wake
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._newest: dict[tuple[JobId | None, type], Event] = {}
        self._woken = {True: False, False: False}
        self._thread = threading.Thread(target=self._run, name="safelight-pump", daemon=True)

    def start(self) -> None:
        """Begins to take events."""
        self._thread.start()

    def _run(self) -> None:
        for event in self._engine.events():
            urgent = not isinstance(event, Stepped | Previewed | Gauged)
            with self._lock:
                if isinstance(event, Stepped | Previewed | Gauged):
                    self._newest[getattr(event, "job_id", None), type(event)] = event
                else:
                    if isinstance(event, Finishing | Kept | Done | Failed | Cancelled):
                        # what was drawn meanwhile comes too late once the steps are over
                        self._newest.pop((event.job_id, Stepped), None)
                        self._newest.pop((event.job_id, Previewed), None)
                    self._events.append(event)
                wake, self._woken[urgent] = not self._woken[urgent], True
            if wake:
                self._wake(urgent)
            if isinstance(event, Closed):
                return

    def take(self, progress: bool) -> list[Event]:
        """What came since: all that may not be lost, in order, then, if wanted, the newest progress."""
        with self._lock:
            found = list(self._events)
            self._events.clear()
            self._woken[True] = False
            if progress:
                found += self._newest.values()
                self._newest.clear()
                self._woken[False] = False
            return found
