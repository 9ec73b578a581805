"""A sweep as it is made, and what has come of it, whoever drives it: the command line, or the workbench."""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from engines import folders, sweep
from engines.errors import InvalidRequest, StorageError
from engines.ranking import Rank, Trial
from engines.requests import Job, JobId, Picture, Score
from engines.store import Store, cell_of, group_of
from engines.sweep import Cell, Sweep
from tui import grids, wording

AHEAD = 3
"Cells that are queued at a time: the next one is there when the last is done, and a stop leaves few behind."
ALIKE = 2
"Failures of one kind in a row after which a contender's other cells are not tried; and so many contenders of a model"
" after which its others are not."
BYTES = 1_600_000
"Of a picture of a megapixel, as PNG, for the estimate; others in proportion."
TOGETHER = 16
"Pictures that one request has scored: what waits for it waits for so many."


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
        self._failures: dict[grids.Point, list[str]] = {}
        self._broken: dict[tuple[object, ...], dict[grids.Point, str]] = {}
        self.seen: set[object] = set()
        "Failures that were told."

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
        self._failures.pop(cell.contender, None)
        self._broken.pop(sweep.loaded(cell.request), None)
        return cell

    def failed(self, job_id: JobId, message: str) -> tuple[Cell, ...]:
        """A cell has failed; it, and the cells that would fail in the same way and are not tried."""
        cell = self._end(job_id)
        told = self._failures.setdefault(cell.contender, [])
        told.append(message)
        if not _alike(told):
            return (cell,)
        which = sweep.loaded(cell.request)
        broken = self._broken.setdefault(which, {})
        broken[cell.contender] = message
        whole = _alike(list(broken.values()))
        gone = [
            one
            for one in self._waiting
            if one.contender == cell.contender or (whole and sweep.loaded(one.request) == which)
        ]
        left = {one.number for one in gone}
        self._waiting = deque(one for one in self._waiting if one.number not in left)
        self.ended += len(gone)
        return (cell, *gone)

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


def _alike(messages: Sequence[str]) -> bool:
    """Whether the last ALIKE failures were the same."""
    return len(messages) >= ALIKE and len(set(messages[-ALIKE:])) == 1


@contextmanager
def alone(store: Store, id: int) -> Iterator[None]:
    """Keeps other programs from making the same sweep at the same time. Raises InvalidRequest if one does."""
    place = folders.make(store.path.parent / "sweeps") / f"{id}.lock"
    lock = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"sweep {id} is being made already"
            raise InvalidRequest(told, "wait for it, or stop it first", "sweep") from None
        except OSError as e:
            told = f"{place} can't be locked: {e.strerror or e}"
            raise StorageError(told, "set SAFELIGHT_HOME to a folder on a local disk") from e
        yield
    finally:
        os.close(lock)


def estimate(store: Store, cells: Sequence[Cell]) -> str:
    """'24 pictures, about 40 s, 3.2 MB', as far as the history knows what pictures take here."""
    pace: dict[str, float] = {}
    for picture in store.pictures(limit=500):
        r = picture.request
        work = r.num_inference_steps * r.width * r.height
        if picture.seconds.total > 0:  # one that was found again tells none
            pace.setdefault(r.model, (picture.seconds.total - picture.seconds.load) / max(1, work))
    size = sum(cell.request.width * cell.request.height * BYTES / 2**20 for cell in cells)
    known = [cell for cell in cells if cell.request.model in pace]
    seconds = sum(
        pace[cell.request.model] * cell.request.num_inference_steps * cell.request.width * cell.request.height
        for cell in known
    )
    told = [wording.plural(len(cells), "picture")]
    if known:
        told.append(f"about {wording.duration(seconds * len(cells) / len(known))}")
    told.append(wording.bytes_(size))
    return ", ".join(told)


def judgements(done: Sweep) -> list[Score]:
    """What the scorers have not scored yet, in requests of at most TOGETHER pictures: all of the others', and what the
    first one could not do while the pictures were made."""
    asked: list[Score] = []
    for scorer in done.scorers:
        by_prompt: dict[str, list[str]] = {}
        for cell in done.cells:
            if cell.picture is not None and scorer not in cell.picture.scores and cell.request.prompt.strip():
                by_prompt.setdefault(cell.request.prompt, []).append(cell.picture.path)
        for prompt, paths in by_prompt.items():
            parts = (paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER))
            asked += [Score(tuple(part), prompt, scorer) for part in parts]
    return asked


def trials(done: Sweep, scorer: str) -> list[Trial]:
    """The scores of a sweep by one scorer: those of two are never mixed."""
    return [
        Trial(cell.contender, cell.block, cell.picture.scores[scorer], seconds(cell.picture), cell.picture.peak)
        for cell in done.cells
        if cell.picture is not None and scorer in cell.picture.scores
    ]


def seconds(picture: Picture) -> float:
    """What a picture takes once its model is there: texts, steps and decoding."""
    return picture.seconds.encode + picture.seconds.denoise + picture.seconds.decode


def missing(done: Sweep) -> tuple[tuple[str, str], ...]:
    """(contender, why) of what has no pictures, each once."""
    failed = ((grids.told(cell.contender), cell.message) for cell in done.open if cell.message)
    return tuple(dict.fromkeys([*done.left_out, *failed]))


def point(rank: Rank) -> grids.Point:
    """Whose rank it is: what `trials` gave it."""
    return cast(grids.Point, rank.contender)


def names(points: Iterable[grids.Point]) -> dict[grids.Point, str]:
    """What tells contenders, or blocks, from each other: values that all of them share are left out, unless that leaves
    nothing."""
    known = list(dict.fromkeys(points))
    shared = set(known[0]).intersection(*map(set, known)) if len(known) > 1 else set()
    return {one: grids.told(tuple(pair for pair in one if pair not in shared)) or grids.told(one) for one in known}
