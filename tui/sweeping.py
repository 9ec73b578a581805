"""A sweep on the command line: planned, made cell by cell, resumed, and ranked."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from engines import folders, ranking, sweep
from engines.engine import Engine
from engines.errors import InvalidRequest, StorageError
from engines.events import Cancelled, Closed, Done, Failed, Loading, Noted, Queued, Scored
from engines.ranking import Rank, Trial
from engines.requests import JobId, Picture, Score
from engines.store import Store
from engines.sweep import Cell, Sweep
from tui import grids, listing, wording
from tui.clean import one_line
from tui.making import Progress, emit

ALIKE = 2
"Failures of one kind in a row after which the rest of a model's cells are not tried."
BYTES = 1_600_000
"Of a picture of a megapixel, as PNG, for the estimate; others in proportion."


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


def make(engine: Engine, store: Store, wanted: Sweep, as_json: bool) -> None:
    """Makes the cells that have no picture yet; what fails is noted and the rest goes on.

    Raises:
        StorageError: the disk is full, or can't be written: the sweep stays open, and can be resumed.
    """
    progress, started = Progress(), time.monotonic()
    waiting = deque(wanted.open)
    of, ended, made = len(waiting), 0, 0
    mine: dict[JobId, Cell] = {}
    failures: dict[tuple[object, ...], list[str]] = {}
    lasting: Failed | None = None
    try:
        progress.show("starting", now=True)
        sweep.submit(engine, wanted.id, waiting, mine)
        for event in engine.events() if of else ():
            match event:
                case Queued():
                    continue
                case Done(job_id, pictures) if job_id in mine:
                    cell = mine.pop(job_id)
                    ended += 1
                    made += bool(pictures)
                    failures.pop(sweep.loaded(cell.request), None)
                    progress.clear()
                    _tell(cell, pictures[0] if pictures else None, ended, of, as_json)
                case Failed(job_id=job_id) if job_id in mine:
                    cell = mine.pop(job_id)
                    if event.lasting and event.exit_code != 2:
                        lasting = event
                        break
                    ended += 1
                    sweep.fail(store, wanted.id, [cell.number], event.message)
                    told = failures.setdefault(sweep.loaded(cell.request), [])
                    if event.message not in told:
                        progress.say(f"note: {grids.told(cell.contender)}: {event.message}; the rest goes on")
                    told.append(event.message)
                    if len(told) >= ALIKE and len(set(told[-ALIKE:])) == 1:
                        ended += _leave_out(store, wanted, waiting, sweep.loaded(cell.request), event.message)
                case Cancelled(job_id) if job_id in mine:
                    del mine[job_id]
                    ended += 1
                case Noted(level, text):
                    progress.say(f"{'note' if level == 'info' else 'warning'}: {text}")
                case Closed():
                    break
                case _:
                    progress.show(_words(ended, of, started), now=isinstance(event, Loading))
            if ended >= of:
                break
            sweep.submit(engine, wanted.id, waiting, mine)
    finally:
        progress.clear()
        engine.close()
        if ended < of:
            print(f"note: {of - ended} cells are open: safelight sweep --resume {wanted.id} goes on", file=sys.stderr)
    if lasting is not None:
        raise StorageError(lasting.message, f"then go on: safelight sweep --resume {wanted.id}")


def _leave_out(store: Store, wanted: Sweep, waiting: deque[Cell], which: tuple[object, ...], message: str) -> int:
    """The cells that would fail in the same way; how many they are."""
    gone = [cell.number for cell in waiting if sweep.loaded(cell.request) == which]
    rest = [cell for cell in waiting if sweep.loaded(cell.request) != which]
    waiting.clear()
    waiting.extend(rest)
    sweep.fail(store, wanted.id, gone, message)
    return len(gone)


def _tell(cell: Cell, picture: Picture | None, ended: int, of: int, as_json: bool) -> None:
    if as_json:
        emit({"cell": cell.number, "point": dict(cell.point), "picture": picture.to_json() if picture else None})
    elif picture is not None:
        score = "".join(f" · {name} {value:.2f}" for name, value in picture.scores.items())
        where = f"{grids.told(cell.contender)} · seed {picture.request.seed}{score}"
        print(f"{ended}/{of}  {one_line(where, 100)}", file=sys.stderr)


def _words(ended: int, of: int, started: float) -> str:
    spent = time.monotonic() - started
    left = f" · {wording.duration(spent / ended * (of - ended))} left" if ended else ""
    return f"cell {ended + 1} of {of} {wording.bar(ended / of, 16)}{left}"


def tell_plan(cells: Sequence[Cell], as_json: bool) -> None:
    """What would be made: a line for each contender, or a cell for each line of JSON."""
    if as_json:
        for cell in cells:
            emit({"cell": cell.number, "point": dict(cell.point)})
        return
    counts: dict[str, int] = {}
    for cell in cells:
        who = grids.told(cell.contender)
        counts[who] = counts.get(who, 0) + 1
    listing.table([("CONTENDER", "CELLS"), *((one_line(who, 80), str(count)) for who, count in counts.items())])


def judge(engine: Engine, done: Sweep) -> None:
    """Scores by all scorers but the first, where they are not there yet; what can't be scored is told."""
    asked: list[Score] = []
    for scorer in done.scorers[1:]:
        by_prompt: dict[str, list[str]] = {}
        for cell in done.cells:
            if cell.picture is not None and scorer not in cell.picture.scores and cell.request.prompt.strip():
                by_prompt.setdefault(cell.request.prompt, []).append(cell.picture.path)
        asked += [Score(tuple(paths), prompt, scorer) for prompt, paths in by_prompt.items()]
    progress, ended = Progress(), 0
    of, count = sum(len(request.pictures) for request in asked), 0
    try:
        mine = {engine.submit(request) for request in asked}
        for event in engine.events() if asked else ():
            match event:
                case Scored():
                    count += 1
                    progress.show(f"scoring {count} of {of} {wording.bar(count / of, 16)}")
                case Failed(job_id, message) if job_id in mine:
                    progress.say(f"warning: {message}")
                    ended += 1
                case Done(job_id) | Cancelled(job_id) if job_id in mine:
                    ended += 1
                case Closed():
                    break
                case _:
                    pass
            if ended >= len(asked):
                break
    finally:
        progress.clear()
        engine.close()


# ── the leaderboard ─────────────────────────────────────────────────────────────────────────────────────────────────


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


def show(done: Sweep, as_json: bool) -> None:
    """The leaderboard of each scorer, and what is missing and why."""
    boards = {scorer: ranking.rank(trials(done, scorer)) for scorer in done.scorers}
    gone = missing(done)
    if as_json:
        emit(
            {
                "sweep": done.id, "title": done.title, "cells": len(done.cells),
                "made": len(done.cells) - len(done.open),
                "leaderboards": {scorer: [to_json(rank) for rank in ranks] for scorer, ranks in boards.items()},
                "missing": [{"contender": who, "reason": why} for who, why in gone],
            }
        )  # fmt: skip
        return
    for scorer, ranks in boards.items():
        if ranks:
            head = ("", "CONTENDER", "N", scorer.upper(), "95 %", "WINS", "A PICTURE", "SCORE/S", "MEMORY")
            listing.table([head, *(_row(rank) for rank in ranks)])
        else:
            print(f"{scorer} has scored nothing")
    if any(rank.tie for ranks in boards.values() for rank in ranks[1:]):
        print("= can't be told from the first: the interval of their difference holds 0")
    if not boards:
        print(f"{len(done.cells) - len(done.open)} pictures, not scored: --scorer ID ranks them")
    for who, why in gone:
        print(f"missing: {one_line(who)}: {one_line(why)}", file=sys.stderr)


def point(rank: Rank) -> grids.Point:
    """Whose rank it is: what `trials` gave it."""
    return cast(grids.Point, rank.contender)


def name(rank: Rank) -> str:
    """The same for people."""
    return grids.told(point(rank))


def _row(rank: Rank) -> tuple[str, ...]:
    known = rank.count > 1
    return (
        "=" if rank.tie and rank.place > 1 else str(rank.place),
        one_line(name(rank), 60),
        str(rank.count),
        f"{rank.mean:.2f}",
        f"{rank.low:.2f} – {rank.high:.2f}" if known else "?",
        "" if rank.place == 1 else f"{rank.wins:.0%}" if rank.wins == rank.wins else "?",
        wording.duration(rank.seconds) if rank.seconds == rank.seconds else "?",
        f"{rank.rate:.1f}" if rank.rate == rank.rate else "?",
        wording.bytes_(rank.peak) if rank.peak else "?",
    )


def to_json(rank: Rank) -> dict[str, Any]:
    """A rank for programs; what is not known is null."""

    def number(value: float) -> float | None:
        return round(value, 6) if abs(value) < float("inf") else None

    return {
        "contender": dict(point(rank)),
        "place": rank.place, "tie": rank.tie, "count": rank.count, "mean": number(rank.mean),
        "low": number(rank.low), "high": number(rank.high), "behind": number(rank.behind),
        "behind_low": number(rank.behind_low), "behind_high": number(rank.behind_high),
        "wins": number(rank.wins), "seconds": number(rank.seconds), "score_per_second": number(rank.rate),
        "peak_memory": rank.peak or None,
    }  # fmt: skip


def list_all(store: Store, as_json: bool) -> None:
    """Every sweep there is, the newest first."""
    rows = sweep.numbers(store)
    if as_json:
        for id, title, cells, made, created in rows:
            emit({"sweep": id, "title": title, "cells": cells, "made": made, "created": created})
    elif rows:
        now = time.time()
        table = [(str(i), f"{m}/{c}", wording.ago(at, now), one_line(t, 80)) for i, t, c, m, at in rows]
        listing.table([("ID", "MADE", "BEGUN", "WHAT"), *table])
    else:
        print("no sweep yet: safelight sweep 'a red apple' --models A,B --seeds 4")
