"""The seam: requests go in, events come out. Nothing above it may assume a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engines.events import Event
from engines.requests import JobId, Request


class Engine(Protocol):
    """Whatever makes pictures: a thread, another process, a cluster."""

    def submit(self, request: Request, group: str | None = None) -> JobId:
        """Puts a request into the queue and returns at once.

        Raises:
            InvalidRequest: the request can't be run; nothing was queued.
            StorageError: the queue can't be written.
        """
        ...

    def cancel(self, job_id: JobId) -> None:
        """Asks a queued or running job to end; it does so within one step. Unknown and ended jobs are ignored."""
        ...

    def events(self) -> Iterator[Event]:
        """All events from now on, for one consumer; ends after `Closed`."""
        ...

    def close(self) -> None:
        """Stops the running job within a step, finishes a save in progress, and ends the events with `Closed`."""
        ...
