"""Rows of pictures in any order: all of their ids, and the pictures of those that were looked at last."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence

from engines.requests import Picture

PAGE = 100
KEPT = 600
"Pictures that are kept at least, in sight or not."


class Rows:
    """Which pictures there are; `wanted` says what to read next, `add` takes what was read."""

    def __init__(self) -> None:
        self.ids: array[int] = array("q")
        "Of all pictures, in their order."
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._broken: set[int] = set()
        "Whose rows can't be read."
        self._stale: set[int] = set()
        "Those at hand that may be otherwise by now."

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, row: int) -> Picture | None:
        """The picture of a row, if it is at hand."""
        if not 0 <= row < len(self.ids):
            return None
        picture = self._kept.get(self.ids[row])
        if picture is not None:
            self._kept.move_to_end(picture.id)
        return picture

    def is_broken(self, row: int) -> bool:
        """Whether the row was read, in vain."""
        return self.ids[row] in self._broken

    def doubt(self) -> None:
        """All of them may have changed: they are read again when in sight, and shown as they were until then."""
        self._stale = set(self._kept)
        self._broken.clear()

    def place(self, id: int) -> int | None:
        """The row of a picture; None if it isn't among them."""
        try:
            return self.ids.index(id)
        except ValueError:
            return None

    def wanted(self, first: int, last: int, cursor: int) -> list[int]:
        """The ids to read next, so that rows first … last and the cursor's are at hand."""
        rows = [cursor, *range(max(0, first), min(last + 1, len(self.ids)))]
        ids = [self.ids[row] for row in rows if row < len(self.ids)]
        known = self._kept.keys() - self._stale | self._broken
        return [id for id in dict.fromkeys(ids) if id not in known][:PAGE]

    def add(self, ids: Sequence[int], pictures: Sequence[Picture], sight: int = 0) -> None:
        """What `wanted` asked for, and how many rows are in sight: they are never dropped."""
        for picture in pictures:
            self.put(picture)
        self._stale.difference_update(ids)
        self._broken.update(set(ids) - {picture.id for picture in pictures})
        while len(self._kept) > max(KEPT, 2 * sight):
            self._kept.popitem(last=False)

    def put(self, picture: Picture) -> None:
        """A picture as it is now."""
        self._kept[picture.id] = picture
        self._kept.move_to_end(picture.id)
        self._stale.discard(picture.id)
