"""Asks an engine for something, and waits for what comes of it."""

from __future__ import annotations

from engines.events import FINAL, Event
from engines.local import LocalEngine
from engines.requests import Request


def do(engine: LocalEngine, request: Request) -> list[Event]:
    """The events of one job, to its end."""
    job, seen = engine.submit(request), []
    for event in engine.events():
        seen.append(event)
        if isinstance(event, FINAL) and event.job_id == job:
            return seen
    raise AssertionError("the engine closed before the job's end")
