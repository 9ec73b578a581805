"""A sweep as the workbench looks at it: who stands where, and which cell is whose."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from engines import ranking
from engines.ranking import Rank
from engines.requests import Picture
from engines.sweep import Cell, Sweep
from tui import runs
from tui.grids import Point

Sort: TypeAlias = Literal["place", "name", "mean", "wins", "seconds", "peak", "rate", "rating"]
SORTS: tuple[Sort, ...] = ("place", "name", "mean", "wins", "seconds", "peak", "rate", "rating")
"Columns that a board can be sorted by; what is known comes before what is not."
DOWNWARDS = ("mean", "wins", "rate", "rating")
"Those of which more is better."


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender on the board."""

    number: int
    "Which of the contenders it is, from 0, in the order in which they are made."
    name: str
    "What tells it from the others."
    short: str
    "The same where there is little room."
    made: int
    "Its pictures."
    of: int
    "Its cells."
    failed: int
    "Cells of which it is known why they have no picture."
    rank: Rank | None
    "None while none of its pictures has a score."
    rating: float
    "The mean of what a person gave its pictures, 1 … 5; NaN if there is none."
    rated: int
    "How many have such a rating."


class Board:
    """The cells of a sweep by contender and block. Ranks are computed by whoever has the time (`rank`), and shown when
    they are there.

    Args:
        sweep: as it was read.
        wordless: the scorers that judge pictures without a prompt, too.
    """

    def __init__(self, sweep: Sweep, wordless: Container[str] = ()) -> None:
        self.sweep = sweep
        self._wordless = wordless
        cells = sweep.cells
        contenders: dict[Point, int] = {}
        blocks: dict[Point, int] = {}
        places = [
            (contenders.setdefault(cell.contender, len(contenders)), blocks.setdefault(cell.block, len(blocks)))
            for cell in cells
        ]
        self._cells = {cell.number: cell for cell in cells}
        self._files = {cell.picture.path: cell.number for cell in cells if cell.picture is not None}
        self._place = {cell.number: place for cell, place in zip(cells, places, strict=True)}
        self._at = {place: cell.number for cell, place in zip(cells, places, strict=True)}
        self.names = list(runs.names(contenders).values())
        "Of the contenders, by number."
        self.shorts = list(runs.shorts(contenders).values())
        "Their names where there is little room."
        self.blocks = list(runs.names(blocks).values())
        "Of the blocks, by number."
        self._numbers = contenders
        self._judged: dict[int, tuple[int, int | None]] = {}
        "By cell, of which picture a person has told on this board what it is worth."
        self.ranks: dict[str, tuple[Rank, ...]] = {}
        "By scorer."
        self.gone: frozenset[int] = frozenset()
        "Cells whose picture was deleted or damaged, as far as somebody has looked."
        self._of = [0] * len(contenders)
        for contender, _ in places:
            self._of[contender] += 1

    @property
    def made(self) -> int:
        """Pictures that there are."""
        return sum(cell.picture is not None for cell in self._cells.values())

    @property
    def progress(self) -> tuple[int, int]:
        """Pictures that there are, and cells of which it is known why they have none."""
        made = self.made
        return made, sum(cell.picture is None and bool(cell.message) for cell in self._cells.values())

    def cell(self, contender: int, block: int) -> Cell | None:
        """The cell of a contender in a block."""
        number = self._at.get((contender, block))
        return None if number is None else self._cells[number]

    def place(self, cell: int) -> tuple[int, int] | None:
        """(contender, block) of a cell."""
        return self._place.get(cell)

    def put(self, number: int, picture: Picture | None, message: str = "") -> None:
        """What has become of a cell."""
        cell = self._cells.get(number)
        if picture is not None and (judged := self._judged.get(number, (-1, None)))[0] == picture.id:
            picture = replace(picture, rating=judged[1])  # it may have been read before that was written down
        if cell is not None:
            self._cells[number] = replace(cell, picture=picture or cell.picture, message=message)
            if picture is not None:
                self._files[picture.path] = number
                self.gone -= {number}

    def scored(self, path: str, scorer: str, score: float) -> None:
        """A picture has one score more."""
        cell = self._cells.get(self._files.get(path, -1))
        if cell is not None and cell.picture is not None:
            picture = replace(cell.picture, scores={**cell.picture.scores, scorer: score})
            self._cells[cell.number] = replace(cell, picture=picture)

    def rate(self, number: int, rating: int | None) -> None:
        """A person has judged a cell's picture."""
        cell = self._cells[number]
        if cell.picture is not None:
            self._judged[number] = (cell.picture.id, rating)
            self._cells[number] = replace(cell, picture=replace(cell.picture, rating=rating))

    def now(self) -> Sweep:
        """The sweep with what is known of its cells."""
        return replace(self.sweep, cells=tuple(self._cells[number] for number in sorted(self._cells)))

    def missing(self) -> tuple[tuple[str, str], ...]:
        """(who, why) of contenders without pictures, and of scorers that have not scored."""
        return runs.missing(self.now(), self._wordless)

    def standings(self, scorer: str) -> list[Standing]:
        """All contenders, as they are made."""
        ranks = {self._numbers[runs.point(rank)]: rank for rank in self.ranks.get(scorer, ())}
        made, failed = [0] * len(self.names), [0] * len(self.names)
        ratings: dict[int, list[int]] = {}
        for number, cell in self._cells.items():
            contender = self._place[number][0]
            if cell.picture is not None:
                made[contender] += 1
                if cell.picture.rating is not None:
                    ratings.setdefault(contender, []).append(cell.picture.rating)
            elif cell.message:
                failed[contender] += 1
        return [
            Standing(
                number, name, self.shorts[number], made[number], self._of[number], failed[number], ranks.get(number),
                math.fsum(ratings[number]) / len(ratings[number]) if number in ratings else math.nan,
                len(ratings.get(number, ())),
            )
            for number, name in enumerate(self.names)
        ]  # fmt: skip


def rank(now: Sweep) -> dict[str, tuple[Rank, ...]]:
    """The ranks by each scorer; seconds of work for ten thousand cells."""
    return {scorer: ranking.rank(runs.trials(now, scorer)) for scorer in now.scorers}


def ordered(standings: Sequence[Standing], by: Sort, turned: bool = False) -> list[Standing]:
    """Contenders sorted by a column, its best first; `turned` the other way. What is not known comes last both ways."""
    key = _KEYS[by]
    known = [(key(one), one) for one in standings]
    down = (by in DOWNWARDS) != turned
    able = [pair for pair in known if pair[0] == pair[0]]  # NaN is not itself
    able.sort(key=lambda pair: pair[0], reverse=down)
    return [one for _, one in able] + [one for value, one in known if value != value]


def _of_rank(field: Callable[[Rank], float]) -> Callable[[Standing], float]:
    def value(standing: Standing) -> float:
        return math.nan if standing.rank is None else field(standing.rank)

    return value


_KEYS: dict[Sort, Callable[[Standing], float | str]] = {
    "place": _of_rank(lambda rank: rank.place),
    "name": lambda standing: standing.name.lower(),
    "mean": _of_rank(lambda rank: rank.mean),
    "wins": _of_rank(lambda rank: rank.wins),
    "seconds": _of_rank(lambda rank: rank.seconds),
    "peak": _of_rank(lambda rank: rank.peak or math.nan),
    "rate": _of_rank(lambda rank: rank.rate),
    "rating": lambda standing: standing.rating,
}
