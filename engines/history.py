"""The history: what was made, with its scores, its rating and a small picture of it, in the store's file."""

from __future__ import annotations

import json
import logging
import math
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engines.database import Database
from engines.errors import InvalidRequest
from engines.events import Pixels
from engines.requests import Generate, JobId, Picture, Seconds, from_json, to_json

log = logging.getLogger(__name__)

UNFIT = (
    sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, ValueError, TypeError,
    OverflowError,
)  # fmt: skip
"What is raised for values that no row can hold, unlike a full disk or a locked file."


@dataclass(frozen=True, slots=True)
class Made:
    """A finished picture on its way into the history."""

    path: str
    "Absolute path of the file, which is there already."
    request: Generate
    "For this picture alone."
    width: int
    "Pixels."
    height: int
    "Pixels."
    seconds: Seconds
    "Where the time went."
    made_with: dict[str, str]
    "Versions, device, dtype, hashes."
    thumbnail: bytes
    "A JPEG of at most 48 px a side."
    scores: dict[str, float] = field(default_factory=dict)
    "scorer id → score."
    peak: int = 0
    "As in Picture."
    source: str = ""
    "The path of the picture that it was made of by a step of finishing; empty for none."


class History(Database):
    """The tables of pictures and scores."""

    def pictures(self, before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        """At most `limit` pictures with ids below `before`, newest first, whose prompt or model has every word of
        `search`. Rows that can't be read are left out, and don't count."""
        where, words = having(search)
        sql = f"SELECT * FROM pictures WHERE {' AND '.join(['id < ?', *where])} ORDER BY id DESC LIMIT ?"
        found: list[Picture] = []
        below = 2**63 - 1 if before is None else before
        while len(found) < limit:
            rows = self.query(sql, below, *words, limit)
            found += self.with_scores(rows)
            if len(rows) < limit:
                break
            below = rows[-1]["id"]
        return found[:limit]

    def picture(self, id: int) -> Picture:
        """The picture of that id. Raises InvalidRequest if there is none."""
        found = self.with_scores(self.query("SELECT * FROM pictures WHERE id = ?", id)) if 0 <= id < 2**63 else []
        if not found:
            raise InvalidRequest(f"no picture {id} in the history", "safelight history list shows what there is", "id")
        return found[0]

    def last(self) -> Picture:
        """The newest picture. Raises InvalidRequest if there is none."""
        found = self.pictures(limit=1)
        if not found:
            raise InvalidRequest("no picture in the history yet", 'make one: safelight generate "a red apple"', "id")
        return found[0]

    def count(self) -> int:
        """How many pictures there are."""
        return int(self.query("SELECT count(*) FROM pictures")[0][0])

    def thumbnail(self, id: int) -> Pixels | None:
        """The small picture kept beside a row, at most 48 px a side."""
        rows = self.query("SELECT thumbnail FROM pictures WHERE id = ?", id)
        if not rows or not rows[0]["thumbnail"]:
            return None
        import io

        from PIL import Image

        try:
            image = Image.open(io.BytesIO(rows[0]["thumbnail"])).convert("RGB")
        except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
            return None  # a damaged blob: the row is shown without its picture
        return Pixels(image.width, image.height, image.tobytes())

    def rate(self, id: int, rating: int | None) -> None:
        """A person's judgement, 1 … 5, or None to take it back. Raises InvalidRequest."""
        if rating is not None and not 1 <= rating <= 5:
            raise InvalidRequest(f"a rating is 1 to 5, not {rating}", "", "rating")
        with self.transaction() as db:
            if db.execute("UPDATE pictures SET rating = ? WHERE id = ?", (rating, id)).rowcount == 0:
                raise InvalidRequest(f"no picture {id} in the history", "safelight history list shows what there is")

    def add_scores(self, path: str, scores: dict[str, float], prompt: str | None = None) -> None:
        """Keeps scores beside the history's rows for a file, if it has any; with a prompt, beside those alone that were
        drawn from it: a score against another text is none of the picture's."""
        wanted = "path = ?" + " AND prompt = ?" * (prompt is not None)
        values = (path,) if prompt is None else (path, prompt)
        with self.transaction() as db:
            for row in db.execute(f"SELECT id FROM pictures WHERE {wanted}", values).fetchall():
                db.executemany(
                    "INSERT INTO scores VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET score = excluded.score",
                    [(row["id"], scorer, score) for scorer, score in _finite(scores).items()],
                )

    def insert(self, db: sqlite3.Connection, job_id: JobId, m: Made, created: float) -> Picture:
        """Writes a picture's row within a transaction; a job of 0 is none."""
        row = db.execute(
            "INSERT INTO pictures (job_id, path, request, prompt, model, seed, width, height, seconds, "
            "made_with, created, thumbnail, peak, parent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
            "(SELECT max(id) FROM pictures WHERE path = ?)) RETURNING id, parent",
            (
                job_id,
                m.path,
                to_json(m.request),
                m.request.prompt,
                m.request.model,
                m.request.seed,
                m.width,
                m.height,
                json.dumps(asdict(m.seconds)),
                json.dumps(m.made_with),
                created,
                m.thumbnail,
                m.peak,
                m.source,
            ),
        ).fetchone()
        scores = _finite(m.scores)
        db.executemany("INSERT INTO scores VALUES (?, ?, ?)", [(row["id"], k, v) for k, v in scores.items()])
        picture = Picture(row["id"], m.path, m.request, m.width, m.height, m.seconds, created, scores, m.made_with)
        return replace(picture, peak=m.peak, parent=row["parent"])

    def restore(self, made: Sequence[tuple[Made, float]]) -> int:
        """Writes pictures that are not in the history into it, and notes that this was done.

        Args:
            made: each picture with the time when it was made (seconds since 1970). One that can't be entered is left
                out; the others are in, and that nothing is pending any more, in one transaction.

        Returns:
            how many were entered.
        """
        count = 0
        with self.transaction() as db:
            for m, created in made:
                db.execute("SAVEPOINT one")
                try:
                    if db.execute("SELECT 1 FROM pictures WHERE path = ?", (m.path,)).fetchone() is None:
                        self.insert(db, 0, m, created)
                        count += 1
                except UNFIT:
                    # a seed beyond 64 bits, a name that is no text: whatever a stranger's file made of it
                    db.execute("ROLLBACK TO one")
                db.execute("RELEASE one")
            db.execute("DELETE FROM meta WHERE key = 'restore'")
        self.begun_anew = False
        self.note = ""
        return count

    def with_scores(self, rows: Sequence[sqlite3.Row]) -> list[Picture]:
        """Rows of the table of pictures as values; those that can't be read are left out."""
        ids = [row["id"] for row in rows]
        scores: dict[int, dict[str, float]] = {id: {} for id in ids}
        for start in range(0, len(ids), 10_000):  # SQLite takes 32,766 values in one statement
            some = ids[start : start + 10_000]
            for row in self.query(f"SELECT * FROM scores WHERE picture_id IN ({', '.join('?' * len(some))})", *some):
                scores[row["picture_id"]][row["scorer"]] = row["score"]
        return [picture for row in rows if (picture := _picture(row, scores[row["id"]])) is not None]


def having(search: str) -> tuple[list[str], list[str]]:
    """Conditions of SQL, and their values, for pictures whose prompt or model has every word of `search`."""
    where, words = [], []
    for word in search.split():
        escaped = re.sub(r"([%_\\])", r"\\\1", word)
        where.append("(prompt LIKE ? ESCAPE '\\' OR model LIKE ? ESCAPE '\\')")
        words += [f"%{escaped}%"] * 2
    return where, words


def _picture(row: sqlite3.Row, scores: dict[str, float]) -> Picture | None:
    """A row as a value, or None if it can't be read back."""
    try:
        request = from_json(row["request"])
        seconds = Seconds(**_finite(json.loads(row["seconds"])))
        made_with = {str(k): str(v) for k, v in json.loads(row["made_with"]).items()}
        size, rating = (row["width"], row["height"]), row["rating"]
        if not isinstance(request, Generate) or not all(type(side) is int and side > 0 for side in size):
            return None
        created = float(row["created"])
        return Picture(
            row["id"],
            str(row["path"]),
            request,
            *size,
            seconds,
            created if math.isfinite(created) else 0.0,
            _finite(scores),
            made_with,
            rating if type(rating) is int and 1 <= rating <= 5 else None,
            row["peak"] if type(row["peak"]) is int and row["peak"] > 0 else 0,
            row["parent"] if type(row["parent"]) is int else None,
        )
    except (InvalidRequest, ValueError, TypeError, AttributeError, RecursionError) as e:
        log.info("picture %s of the history can't be read: %s", row["id"], e)
        return None


def _finite(numbers: dict[str, Any]) -> dict[str, float]:
    """Those that are finite numbers: SQLite makes NULL of NaN, and JSON knows neither NaN nor infinity."""
    return {
        k: float(v)
        for k, v in numbers.items()
        if isinstance(v, float | int) and not isinstance(v, bool) and math.isfinite(v)
    }
