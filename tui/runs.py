"""A sweep as it is made, and what has come of it, whoever drives it: the command line, or the workbench."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from engines import folders
from engines.catalogue import Catalogue
from engines.errors import InvalidRequest, StorageError
from engines.ranking import FEW, Rank, Trial
from engines.requests import Picture, Score
from engines.store import Store
from engines.sweep import Cell, Sweep
from tui import grids, wording

BYTES = 1_600_000
"Of a picture of a megapixel, as PNG, for the estimate; others in proportion."
TRIES, AGAIN = 3, 0.05
"How often, and seconds apart, a lock is tried before it counts as held."
TOGETHER = 16
"Pictures that one request has scored: what waits for it waits for so many."


@contextmanager
def alone(store: Store, id: int) -> Iterator[None]:
    """Keeps other programs from making the same sweep at the same time. Raises InvalidRequest if one does."""
    place = folders.make(_lock(store, id).parent) / _lock(store, id).name
    lock = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            for _ in range(TRIES):
                if _locked(lock, fcntl.LOCK_EX):
                    break
                time.sleep(AGAIN)  # somebody may just be asking whether it is made
            else:
                told = f"sweep {id} is being made already"
                raise InvalidRequest(told, "wait for it, or stop it first", "sweep")
        except OSError as e:
            told = f"{place} can't be locked: {e.strerror or e}"
            raise StorageError(told, "set SAFELIGHT_HOME to a folder on a local disk") from e
        yield
    finally:
        os.close(lock)


def taken(store: Store, id: int) -> bool:
    """Whether a program makes the sweep now: this one, or another."""
    try:
        lock = os.open(_lock(store, id), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody ever has
    try:
        return not _locked(lock, fcntl.LOCK_SH)
    except OSError:
        return False
    finally:
        os.close(lock)


def _lock(store: Store, id: int) -> Path:
    return store.path.parent / "sweeps" / f"{id}.lock"


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def estimate(store: Store, cells: Sequence[Cell]) -> str:
    """'24 pictures, about 40 s, 3.2 MB', as far as the history knows what pictures take here."""
    pace: dict[str, float] = {}
    for picture in store.pictures(limit=500):
        r = picture.request
        work = r.num_inference_steps * r.width * r.height
        if picture.request.finish or not picture.request.drawn:
            continue  # other work than a picture of its model and size
        if picture.seconds.total > 0:  # one that was found again tells none
            pace.setdefault(r.model, (picture.seconds.total - picture.seconds.load) / max(1, work))
    size = sum(cell.request.width * cell.request.height * BYTES / 2**20 for cell in cells)
    told = [wording.plural(len(cells), "picture")]
    if pace and cells:
        usual = sorted(pace.values())[len(pace) // 2]  # a step of a model that was never drawn with
        asked = (cell.request for cell in cells)
        seconds = sum(pace.get(r.model, usual) * r.num_inference_steps * r.width * r.height for r in asked)
        told.append(f"about {wording.duration(seconds)}")
    elif cells:
        told.append("the time is not known until one is made")
    told.append(wording.bytes_(size))
    return ", ".join(told)


def wordless(catalogue: Catalogue) -> frozenset[str]:
    """The scorers that read no text: they judge pictures without a prompt, too."""
    return frozenset(scorer.id for scorer in catalogue.scorers.values() if not scorer.reads)


def judgements(done: Sweep, wordless: Container[str] = ()) -> list[Score]:
    """What the scorers have not scored yet, in requests of at most TOGETHER pictures: all of the others', and what the
    first one could not do while the pictures were made.

    Args:
        wordless: scorers that judge pictures without a prompt, too.
    """
    asked: list[Score] = []
    for scorer in done.scorers:
        by_prompt: dict[str, list[str]] = {}
        for cell in done.cells:
            if cell.picture is None or scorer in cell.picture.scores:
                continue
            if cell.request.prompt.strip() or scorer in wordless:
                by_prompt.setdefault(cell.request.prompt, []).append(cell.picture.path)
        for prompt, paths in by_prompt.items():
            parts = (paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER))
            asked += [Score(tuple(part), prompt, scorer) for part in parts]
    return asked


def trials(done: Sweep, scorer: str) -> list[Trial]:
    """The scores of a sweep by one scorer: those of two are never mixed."""
    return [
        Trial(
            cell.contender, cell.block, cell.picture.scores[scorer], seconds(cell.picture), cell.picture.peak,
            cell.prompt,
        )
        for cell in done.cells
        if cell.picture is not None and scorer in cell.picture.scores
    ]  # fmt: skip


def seconds(picture: Picture) -> float:
    """What a picture takes once its model is there: texts, steps and decoding."""
    return picture.seconds.encode + picture.seconds.denoise + picture.seconds.decode


def stars(done: Sweep) -> dict[grids.Point, tuple[float, int]]:
    """(mean, how many) of what a person gave the pictures of each contender; contenders without any are not in it."""
    given: dict[grids.Point, list[int]] = {}
    for cell in done.cells:
        if cell.picture is not None and cell.picture.rating:
            given.setdefault(cell.contender, []).append(cell.picture.rating)
    return {point: (sum(some) / len(some), len(some)) for point, some in given.items()}


def ties(rank: Rank) -> bool | None:
    """Whether it can't be told from the first; None where too few prompts or pairs say that it can, or one pair alone
    says anything."""
    if rank.shared < 2 and rank.place > 1:
        return None
    return True if rank.tie else None if rank.units < FEW else False


def mark(rank: Rank) -> str:
    """Its place; = where it can't be told from the first, ? where there are too few prompts or pairs to tell by."""
    if rank.place == 1:
        return "1"
    return {None: "?", True: "=", False: str(rank.place)}[ties(rank)]


def wins(rank: Rank) -> str:
    """In how many of the pairs it beats the first, where that says anything."""
    if rank.place == 1:
        return ""
    return f"{rank.wins:.0%}" if rank.shared > 1 else "?"


def unranked(done: Sweep, ranks: Sequence[Rank]) -> tuple[grids.Point, ...]:
    """Contenders that a scorer has no number for, in their order."""
    ranked = {rank.contender for rank in ranks}
    return tuple(dict.fromkeys(cell.contender for cell in done.cells if cell.contender not in ranked))


def doubts(done: Sweep, ranks: Sequence[Rank]) -> tuple[str, ...]:
    """What has to be known of a leaderboard's numbers, a line each."""
    if not ranks:
        return ()
    told = []
    least, most = min(rank.count for rank in ranks), max(rank.count for rank in ranks)
    if (few := min(rank.units for rank in ranks)) < FEW:
        told.append(
            f"with fewer than {FEW} prompts, or pairs of prompt and seed, an interval is narrower than what is known: "
            f"{few} here"
        )
    if (prompts := max(rank.prompts for rank in ranks)) == 1:
        told.append("one prompt says nothing of others: who is better is better at this one")
    elif prompts < FEW:
        told.append(f"{prompts} prompts are too few to speak of others: who is better is better at these")
    if least < most:
        told.append(f"who was scored in fewer pairs than {most} stands behind all others")
    if count := len(unranked(done, ranks)):
        told.append(
            f"{wording.plural(count, 'contender')} without a score {'is' if count == 1 else 'are'} not ranked: –"
        )
    return tuple(told)


def missing(done: Sweep, wordless: Container[str] = ()) -> tuple[tuple[str, str], ...]:
    """(contender, why) of what has no pictures, and (scorer, why) of who has not scored them, each once.

    Args:
        wordless: as in `judgements`.
    """
    failed = ((grids.told(cell.contender), cell.message) for cell in done.open if cell.message)
    noted = {who for who, _ in done.left_out}
    over = {who for id in done.scorers if (who := f"scorer {id}") in noted and _all(done, id, id in wordless)}
    left_out = (pair for pair in done.left_out if pair[0] not in over)
    return tuple(dict.fromkeys([*left_out, *failed]))


def told(who: str, why: str) -> str:
    """Both in one line; a reason that names them itself does it once."""
    return why if why.startswith(who) else f"{who}: {why}"


def _all(done: Sweep, scorer: str, wordless: bool) -> bool:
    """Whether somebody has scored all that it can: what once kept it from that is over."""
    made = [cell.picture for cell in done.cells if cell.picture is not None]
    scored = [picture for picture in made if scorer in picture.scores]
    return bool(scored) and all(scorer in one.scores or not (wordless or one.request.prompt.strip()) for one in made)


def point(rank: Rank) -> grids.Point:
    """Whose rank it is: what `trials` gave it."""
    return cast(grids.Point, rank.contender)


def names(points: Iterable[grids.Point]) -> dict[grids.Point, str]:
    """What tells contenders, or blocks, from each other: values that all of them share are left out, unless that leaves
    nothing."""
    known = list(dict.fromkeys(points))
    shared = set(known[0]).intersection(*map(set, known)) if len(known) > 1 else set()
    return {one: grids.told(tuple(pair for pair in one if pair not in shared)) or grids.told(one) for one in known}


def shorts(points: Iterable[grids.Point]) -> dict[grids.Point, str]:
    """The same where there is little room: the values alone, without what all ids of an axis begin with."""
    known = list(dict.fromkeys(points))
    shared = set(known[0]).intersection(*map(set, known)) if len(known) > 1 else set()
    by_axis: dict[str, list[str]] = {}
    for axis, value in (pair for point in known for pair in point if pair not in shared):
        by_axis.setdefault(axis, []).append(value)
    begins = {axis: _beginning(list(dict.fromkeys(values))) for axis, values in by_axis.items()}
    return {
        one: " · ".join(value[begins[axis] :] for axis, value in one if (axis, value) not in shared) or grids.told(one)
        for one in known
    }


def _beginning(values: Sequence[str]) -> int:
    """How many letters of whole pieces, which end in '-', all values begin with; 0 where one would be left empty."""
    pieces = [value.split("-") for value in values] if len(values) > 1 else [[]]
    common = 0
    for some in zip(*pieces, strict=False):
        if len(set(some)) > 1:
            break
        common += 1
    cut = sum(len(piece) + 1 for piece in pieces[0][:common])
    return cut if all(len(value) > cut for value in values) else 0
