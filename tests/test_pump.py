"""The engine's events on their way into the app: nothing lost, and of what is measured only the newest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.events import Closed, Done, Event, Gauged, Noted, Stepped
from tui.pump import Pump


class Told:
    """An engine that tells what it is given, and is over."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._told = events

    def events(self) -> Any:
        return iter([*self._told, Closed()])


def pumped(*events: Event) -> tuple[Pump, list[bool]]:
    woken: list[bool] = []
    pump = Pump(Told(events), woken.append)  # type: ignore[arg-type]
    pump._run()
    return pump, woken


def test_what_is_measured_is_thinned_to_the_newest_like_progress() -> None:
    pump, woken = pumped(
        *(Gauged(temperature=40 + n) for n in range(1000)), Stepped(1, 1, 4, 0.1), Stepped(2, 1, 4, 0.1)
    )
    assert woken == [False, True]  # one for all progress, one for the end
    assert pump.take(progress=False) == [Closed()]
    assert pump.take(progress=True) == [Gauged(temperature=1039), Stepped(1, 1, 4, 0.1), Stepped(2, 1, 4, 0.1)]
    assert pump.take(progress=True) == []


def test_the_end_of_a_job_takes_its_steps_along_and_leaves_the_gauge() -> None:
    pump, _ = pumped(Stepped(1, 3, 4, 0.1), Gauged(50), Noted("info", "x"), Done(1))
    assert pump.take(progress=True) == [Noted("info", "x"), Done(1), Closed(), Gauged(50)]
