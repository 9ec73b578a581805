"""The history's rows as the list needs them: read a page at a time, never all at once.

Rows are known by their ids, newest first and without gaps from the top; an id costs eight bytes, so 100,000 of them
are nothing. The pictures themselves are kept for the rows that were looked at last.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from engines.events import Pixels
from engines.requests import Picture

PAGE = 50
LONG_PAGE = 500
KEPT = 600


class Shelf(Protocol):
    """What the workbench asks of the store; every method may wait for the disk."""

    def pictures(self, before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        """Newest first, with ids below `before`."""
        ...

    def count(self) -> int:
        """How many pictures there are."""
        ...

    def rate(self, id: int, rating: int | None) -> None:
        """Stars by hand, 1 to 5; None for none."""
        ...

    def thumbnail(self, id: int) -> Pixels | None:
        """The small picture beside a row."""
        ...


class Pages:
    """Which pictures are known; `wanted` says what to read next, `add` takes what was read."""

    def __init__(self) -> None:
        self._ids: array[int] = array("q")
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self.total = 0

    @property
    def known(self) -> int:
        """How many rows from the top have been read."""
        return len(self._ids)

    def at(self, row: int) -> Picture | None:
        """The picture of a row, if it is at hand."""
        if not 0 <= row < len(self._ids):
            return None
        picture = self._kept.get(self._ids[row])
        if picture is not None:
            self._kept.move_to_end(picture.id)
        return picture

    def row(self, id: int) -> int | None:
        """Where a picture stands, if so much has been read."""
        at = bisect_left(self._ids, -id, key=lambda known: -known)
        return at if at < len(self._ids) and self._ids[at] == id else None

    def below(self, id: int) -> tuple[int | None, int] | None:
        """(before, limit) of the page to read to come nearer to a picture; None if it can't be further down."""
        ids = self._ids
        if (ids and ids[-1] <= id) or len(ids) >= self.total:
            return None
        return (ids[-1] if ids else None), LONG_PAGE

    def wanted(self, first: int, last: int, cursor: int) -> tuple[int | None, int] | None:
        """(before, limit) of the page to read so that rows first … last and the cursor's are at hand; None if so."""
        ids = self._ids
        for row in (*range(max(0, first), min(last + 1, len(ids))), cursor):
            if row < len(ids) and ids[row] not in self._kept:
                return (ids[row - 1] if row else None), min(PAGE, len(ids) - row)
        missing = min(max(last, cursor), self.total - 1) + 1 - len(ids)
        if missing <= 0:
            return None
        return (ids[-1] if ids else None), (PAGE if missing <= PAGE else LONG_PAGE)

    def add(self, before: int | None, limit: int, pictures: Sequence[Picture]) -> None:
        """What `wanted` asked for. Fewer than `limit` below the last known row are the end of the history."""
        ids = self._ids
        if before == (ids[-1] if ids else None):
            ids.extend(p.id for p in pictures)
            if len(pictures) < limit:
                self.total = len(ids)
            self.total = max(self.total, len(ids))
        for picture in pictures:
            self._keep(picture)

    def put_on_top(self, pictures: Sequence[Picture]) -> int:
        """New pictures, newest first; returns how many were not known before."""
        newest = self._ids[0] if self._ids else 0
        fresh = [p for p in pictures if p.id > newest]
        if newest and len(fresh) == len(pictures) == PAGE:
            self._ids = array("q")  # there may be more between these and what is known: read it again
        if fresh:
            self._ids = array("q", [p.id for p in fresh]) + self._ids
            self.total += len(fresh)
        for picture in pictures:
            self._keep(picture)
        return len(fresh)

    def _keep(self, picture: Picture) -> None:
        self._kept[picture.id] = picture
        self._kept.move_to_end(picture.id)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
