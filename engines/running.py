"""How a sweep is made, whoever drives it: which cell is next, and what a failure means for the others."""

from __future__ import annotations

from collections import Counter, deque
from itertools import takewhile
from typing import TypeAlias

from engines.requests import Job, JobId
from engines.store import cell_of, group_of
from engines.sweep import Cell, Sweep, loaded

AHEAD = 3
"Cells that are queued at a time: the next one is there when the last is done, and a stop leaves few behind."
ALIKE = 2
"Failures of one kind in a row after which a contender's other cells of a prompt are not tried."
PROMPTS = 3
"Prompts at which a contender has to fail alike before its others are not tried, where there are so many."
CONTENDERS = 4
"Contenders of a model that have to be given up for the same before its others are not tried."

Point: TypeAlias = tuple[tuple[str, str], ...]


class Run:
    """Which cell is next, and what an answer of the engine means for those that wait.

    It speaks to nobody: whoever drives it submits what `next` says, and writes down what `failed` returns.
    """

    def __init__(self, wanted: Sweep) -> None:
        self.sweep = wanted
        self.of = len(wanted.open)
        "Cells that are to be made."
        self.ended = 0
        "Of these, made or failed."
        self._waiting = deque(wanted.open)
        self._sent: dict[int, Cell] = {}
        self._jobs: dict[JobId, Cell] = {}
        self._failures: dict[Point, list[tuple[str, str]]] = {}
        self._asked = Counter(cell.contender for cell in wanted.open)
        made = (cell for cell in wanted.cells if cell.picture is not None)
        self._sound = {loaded(cell.request) for cell in made}
        "Models that have made something, now or earlier, with what was loaded with them."
        self._broken: dict[tuple[object, ...], dict[Point, str]] = {}
        self.seen: set[object] = set()
        "What was told already: failures, and notes."

    @property
    def over(self) -> bool:
        """Whether nothing is left to be made."""
        return self.ended >= self.of

    @property
    def jobs(self) -> tuple[JobId, ...]:
        """Cells that the engine has."""
        return tuple(self._jobs)

    def next(self) -> tuple[Cell, str] | None:
        """The cell to submit now, and the group of its job; None while the engine has enough, or there is none."""
        if not self._waiting or len(self._sent) >= AHEAD:
            return None
        cell = self._waiting.popleft()
        self._sent[cell.number] = cell
        return cell, group_of(self.sweep.id, cell.number)

    def queued(self, job: Job) -> bool:
        """Notes the job of a cell; False for any other job."""
        which = cell_of(job.group)
        cell = self._sent.get(which[1]) if which and which[0] == self.sweep.id else None
        if cell is not None:
            self._jobs[job.id] = cell
        return cell is not None

    def cell(self, job_id: JobId) -> Cell | None:
        """The cell of a job; None for other jobs."""
        return self._jobs.get(job_id)

    def done(self, job_id: JobId) -> Cell:
        """A cell's job has ended well."""
        cell = self._end(job_id)
        self._sound.add(loaded(cell.request))
        self._failures.pop(cell.contender, None)
        self._broken.pop(loaded(cell.request), None)
        return cell

    def failed(self, job_id: JobId, message: str) -> tuple[Cell, ...]:
        """A cell has failed; it, and the cells that would fail in the same way and are not tried.

        The cause may be the prompt, the contender, or the model. Given up are a prompt, for a contender that has failed
        at it ALIKE times; a contender that has failed at PROMPTS, or at all that is left of it; and a model that has
        made nothing, of which CONTENDERS were given up for the same, for pictures of that size or larger.
        """
        cell = self._end(job_id)
        told = self._failures.setdefault(cell.contender, [])
        told.append((message, cell.prompt))
        alike = list(takewhile(lambda one: one[0] == message, reversed(told)))
        others = [one for one in (*self._waiting, *self._sent.values()) if one.contender == cell.contender]
        at = [prompt for _, prompt in alike]
        elsewhere = {one.prompt for one in others} - set(at)
        gone: set[int] = set()
        if at.count(cell.prompt) >= ALIKE:
            gone |= {one.number for one in others if one.prompt == cell.prompt}
        if len(set(at)) >= PROMPTS or (not elsewhere and len(at) >= min(ALIKE, self._asked[cell.contender])):
            gone |= {one.number for one in others}
            gone |= self._given_up(cell, message)
        left = [one for one in self._waiting if one.number in gone]
        self._waiting = deque(one for one in self._waiting if one.number not in gone)
        self.ended += len(left)
        return (cell, *left)

    def _given_up(self, cell: Cell, message: str) -> set[int]:
        """A contender that fails at everything; the cells of its model, if that is what is broken."""
        which = loaded(cell.request)
        if which in self._sound:
            return set()
        broken = self._broken.setdefault(which, {})
        broken[cell.contender] = message
        if list(broken.values()).count(message) < CONTENDERS:
            return set()
        size = cell.request.width * cell.request.height  # too large a picture is no fault of the model's
        return {
            one.number
            for one in self._waiting
            if loaded(one.request) == which and one.request.width * one.request.height >= size
        }

    def cancelled(self, job_id: JobId) -> Cell:
        """A cell was not made, and is not tried again by this run."""
        return self._end(job_id)

    def not_sent(self, cell: Cell) -> None:
        """The engine did not take a cell: it waits again."""
        self._sent.pop(cell.number, None)
        self._waiting.appendleft(cell)

    def _end(self, job_id: JobId) -> Cell:
        cell = self._jobs.pop(job_id)
        self._sent.pop(cell.number, None)
        self.ended += 1
        return cell
