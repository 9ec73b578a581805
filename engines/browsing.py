"""All of the history in an order: its ids at once, and the pictures of those that are looked at.

An id is eight bytes and the pictures are many kilobytes: a hundred thousand ids are read in the time of fifty rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from engines.history import History, having
from engines.requests import Picture

NEWEST, STARS = "", "stars"
"Orders beside those by a scorer, which are called by its id behind SCORE."
SCORE = "score "
SCORERS = 4
"Orders by a scorer, at most."


def orders(store: History) -> tuple[str, ...]:
    """The orders that there are: by time, by the scorers that scored most, by stars."""
    rows = store.query("SELECT scorer FROM scores GROUP BY scorer ORDER BY count(*) DESC, scorer LIMIT ?", SCORERS)
    return (NEWEST, *(f"{SCORE}{row[0]}" for row in rows), STARS)


def first(store: History, limit: int) -> array[int]:
    """The ids of the newest pictures: what is shown while the others are counted."""
    return array("q", [row[0] for row in store.query("SELECT id FROM pictures ORDER BY id DESC LIMIT ?", limit)])


def order(store: History, by: str = NEWEST, words: str = "") -> array[int]:
    """The ids of all pictures whose prompt or model has every word, in an order; of equals the newest first. What has
    no score, or no stars, is last."""
    where, values = having(words)
    such = f" WHERE {' AND '.join(where)}" if where else ""
    if by == STARS:
        rows = store.query(f"SELECT id FROM pictures{such} ORDER BY rating IS NULL, rating DESC, id DESC", *values)
    elif by.startswith(SCORE):
        rows = store.query(
            "SELECT id FROM pictures LEFT JOIN scores ON picture_id = id AND scorer = ?"
            f"{such} ORDER BY score IS NULL, score DESC, id DESC",
            by.removeprefix(SCORE), *values,
        )  # fmt: skip
    elif where:
        rows = store.query(f"SELECT id FROM pictures{such} ORDER BY id DESC", *values)
    else:
        # an index is a hundredth of the table, whose rows hold their thumbnails
        rows = store.query("SELECT id FROM pictures INDEXED BY pictures_by_job ORDER BY id DESC")
    return array("q", [row[0] for row in rows])


def newest(store: History) -> int:
    """The id of the newest picture; 0 while there is none."""
    return int(store.query("SELECT max(id) FROM pictures")[0][0] or 0)


def some(store: History, ids: Sequence[int]) -> list[Picture]:
    """The pictures of these ids, in no order; those that can't be read are left out."""
    marks = ", ".join("?" * len(ids))
    return store.with_scores(store.query(f"SELECT * FROM pictures WHERE id IN ({marks})", *ids))
