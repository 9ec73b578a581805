"""A sweep on the command line: planned, made cell by cell, resumed, and ranked."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Container, Sequence
from typing import Any

from engines import ranking, sweep
from engines.engine import Engine
from engines.errors import StorageError
from engines.events import Cancelled, Closed, Done, Failed, Loading, Noted, Queued, Scored
from engines.ranking import Rank
from engines.requests import Picture
from engines.running import Run
from engines.store import Store, scores_of
from engines.sweep import Cell, Sweep
from tui import grids, listing, runs, wording
from tui.clean import one_line
from tui.making import Progress, emit


def make(engine: Engine, store: Store, wanted: Sweep, as_json: bool) -> bool:
    """Makes the cells that have no picture yet; what fails is noted and the rest goes on.

    Returns:
        Whether all that was tried was asked for wrongly: then there is nothing to go on with.

    Raises:
        StorageError: the disk is full, or can't be written: the sweep stays open, and can be resumed.
    """
    progress, started = Progress(), time.monotonic()
    run = Run(wanted)
    several = len({cell.prompt for cell in wanted.cells}) > 1
    lasting: Failed | None = None
    wrong = True
    try:
        progress.show("starting", now=True)
        _submit(engine, run)
        for event in engine.events() if run.of else ():
            match event:
                case Queued(job):
                    run.queued(job)
                    continue
                case Done(job_id, pictures) if run.cell(job_id):
                    cell, wrong = run.done(job_id), False
                    progress.clear()
                    _tell(cell, pictures[0] if pictures else None, run, several, as_json)
                case Failed(job_id=job_id) if run.cell(job_id):
                    if event.lasting and event.exit_code != 2:
                        lasting = event
                        break
                    wrong = wrong and event.exit_code == 2
                    cells = run.failed(job_id, event.message)
                    sweep.fail(store, wanted.id, [cell.number for cell in cells], event.message)
                    which = (sweep.loaded(cells[0].request), event.message)
                    if which not in run.seen:
                        run.seen.add(which)
                        progress.say(f"note: {grids.told(cells[0].contender)}: {event.message}; the rest goes on")
                case Cancelled(job_id) if run.cell(job_id):
                    run.cancelled(job_id)
                case Noted(level, text):
                    if text not in run.seen:  # a prompt in two chunks is told once, not for every cell
                        run.seen.add(text)
                        progress.say(f"{'note' if level == 'info' else 'warning'}: {text}")
                case Closed():
                    break
                case _:
                    progress.show(_words(run, started), now=isinstance(event, Loading))
            if run.over:
                break
            _submit(engine, run)
    finally:
        progress.clear()
        engine.close()
        if not run.over:
            left = run.of - run.ended
            open_ = f"{wording.plural(left, 'cell')} {'is' if left == 1 else 'are'} open"
            print(f"note: {open_}: safelight sweep --resume {wanted.id} goes on", file=sys.stderr)
    if lasting is not None:
        hint = f"{lasting.hint}; " if lasting.hint else ""
        raise StorageError(lasting.message, f"{hint}then go on: safelight sweep --resume {wanted.id}")
    return wrong and bool(run.of)


def _submit(engine: Engine, run: Run) -> None:
    while (more := run.next()) is not None:
        cell, group = more
        engine.submit(cell.request, group)


def _tell(cell: Cell, picture: Picture | None, run: Run, several: bool, as_json: bool) -> None:
    if as_json:
        emit({"cell": cell.number, "point": dict(cell.point), "picture": picture.to_json() if picture else None})
    elif picture is not None:
        score = "".join(f" · {name} {value:.2f}" for name, value in picture.scores.items())
        prompt = f" · {one_line(cell.prompt, 30)}" if several else ""
        where = f"{grids.told(cell.contender)}{prompt} · seed {picture.request.seed}{score}"
        made = len(run.sweep.cells) - run.of
        print(f"{made + run.ended}/{made + run.of}  {one_line(where, 120)}", file=sys.stderr)


def _words(run: Run, started: float) -> str:
    spent, ended, of = time.monotonic() - started, run.ended, run.of
    left = f" · {wording.duration(spent / ended * (of - ended))} left" if ended else ""
    made = len(run.sweep.cells) - of  # before this run
    return f"cell {made + ended + 1} of {made + of} {wording.bar((made + ended) / (made + of), 16)}{left}"


def tell_plan(cells: Sequence[Cell], as_json: bool) -> None:
    """What would be made: a line for each contender, or a cell for each line of JSON."""
    if as_json:
        for cell in cells:
            emit({"cell": cell.number, "point": dict(cell.point)})
        return
    names = runs.names(cell.contender for cell in cells)
    counts: dict[str, int] = {}
    for cell in cells:
        who = names[cell.contender]
        counts[who] = counts.get(who, 0) + 1
    listing.table([("CONTENDER", "CELLS"), *((one_line(who, 80), str(count)) for who, count in counts.items())])


def judge(engine: Engine, store: Store, done: Sweep, wordless: Container[str] = ()) -> None:
    """Scores what is not scored yet; what can't be scored is told, and noted with the sweep.

    Args:
        wordless: as in `runs.judgements`.
    """
    waiting = deque(runs.judgements(done, wordless))
    progress, of, scored = Progress(), sum(len(request.pictures) for request in waiting), 0
    try:
        while waiting:
            request = waiting.popleft()
            job = engine.submit(request, scores_of(done.id))
            for event in engine.events():
                match event:
                    case Scored(job_id=job_id) if job_id == job:
                        scored += 1
                        progress.show(f"scoring {scored} of {of} {wording.bar(scored / of, 16)}")
                    case Failed(job_id=job_id) if job_id == job:
                        progress.say(f"warning: {event.message}")
                        sweep.note(store, done.id, f"scorer {request.scorer}", event.message)
                        if event.exit_code != 2:  # not the picture's fault: it would fail again
                            waiting = deque(one for one in waiting if one.scorer != request.scorer)
                        break
                    case Done(job_id) | Cancelled(job_id) if job_id == job:
                        break
                    case Closed():
                        return
                    case _:
                        pass
    finally:
        progress.clear()
        engine.close()


# ── the leaderboard ─────────────────────────────────────────────────────────────────────────────────────────────────


def show(done: Sweep, as_json: bool, wordless: Container[str] = ()) -> None:
    """The leaderboard of each scorer, and what is missing and why.

    Args:
        wordless: as in `runs.judgements`.
    """
    boards = {scorer: ranking.rank(runs.trials(done, scorer)) for scorer in done.scorers}
    gone = runs.missing(done, wordless)
    if as_json:
        emit(
            {
                "sweep": done.id, "title": done.title, "cells": len(done.cells),
                "made": len(done.cells) - len(done.open),
                "leaderboards": {scorer: [to_json(rank) for rank in ranks] for scorer, ranks in boards.items()},
                "stars": [
                    {"contender": dict(who), "mean": round(mean, 4), "count": count}
                    for who, (mean, count) in runs.stars(done).items()
                ],
                "missing": [{"contender": who, "reason": why} for who, why in gone],
            }
        )  # fmt: skip
        return
    names = runs.names(cell.contender for cell in done.cells)
    for scorer, ranks in boards.items():
        if ranks:
            head = ("", "CONTENDER", "N", scorer.upper(), "95 %", "WINS", "A PICTURE", "SCORE/S", "MEMORY")
            rest = [("–", one_line(names[who], 60), "0", "–", "", "", "", "", "") for who in runs.unranked(done, ranks)]
            listing.table([head, *(_row(rank, names[runs.point(rank)]) for rank in ranks), *rest])
            for doubt in runs.doubts(done, ranks):
                print(doubt)
        else:
            bare = not any(cell.request.prompt.strip() for cell in done.cells)
            print(f"{scorer} has scored nothing" + ": there is no prompt to hold the pictures against" * bare)
    marks = {runs.mark(rank) for ranks in boards.values() for rank in ranks}
    if "=" in marks:
        print(
            "= can't be told from the first: the interval of their difference, widened for so many contenders, holds 0"
        )
    if "?" in marks:
        print("? too few prompts or pairs to tell it from the first")
    for point, (mean, count) in runs.stars(done).items():
        print(f"by hand: {one_line(names[point], 60)} {mean:.1f} stars, of {wording.plural(count, 'picture')}")
    if not boards:
        made = wording.plural(len(done.cells) - len(done.open), "picture")
        print(f"{made}, not scored: --scorer ID ranks them")
    for who, why in gone:
        print(f"missing: {one_line(runs.told(who, why))}", file=sys.stderr)


def _row(rank: Rank, name: str) -> tuple[str, ...]:
    known = math.isfinite(rank.low)
    return (
        runs.mark(rank),
        one_line(name, 60),
        str(rank.count),
        f"{rank.mean:.2f}",
        f"{rank.low:.2f} – {rank.high:.2f}" if known else "?",
        runs.wins(rank),
        wording.duration(rank.seconds) if rank.seconds == rank.seconds else "?",
        f"{rank.rate:.1f}" if rank.rate == rank.rate else "?",
        wording.bytes_(rank.peak) if rank.peak else "?",
    )


def to_json(rank: Rank) -> dict[str, Any]:
    """A rank for programs; what is not known is null."""

    def number(value: float) -> float | None:
        return round(value, 6) if abs(value) < float("inf") else None

    return {
        "contender": dict(runs.point(rank)),
        "place": rank.place, "tie": runs.ties(rank), "count": rank.count, "shared": rank.shared,
        "mean": number(rank.mean),
        "low": number(rank.low), "high": number(rank.high), "behind": number(rank.behind),
        "behind_low": number(rank.behind_low), "behind_high": number(rank.behind_high),
        "wins": number(rank.wins), "seconds": number(rank.seconds), "score_per_second": number(rank.rate),
        "peak_memory": rank.peak or None, "few": rank.units < ranking.FEW,
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
