"""The queue and the history, in one SQLite file that several programs share.

The table is the queue: a job is in it before anyone is told `Queued`, and a picture's row is committed together with
the end of its job, after its file is on disk. A job belongs to the engine that queued it. An engine holds a file lock
while it lives, so what a dead one left can be told apart and taken over (`adopt`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from engines import folders
from engines.errors import DiskFull, InvalidRequest, StorageError
from engines.events import Pixels
from engines.requests import Generate, Job, JobId, Picture, Request, Seconds, from_json, to_json

EngineKind: TypeAlias = Literal["workbench", "command"]
State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

MAX_ATTEMPTS = 2
"A job during which an engine went down so often is set aside."

MIGRATIONS = (
    """
    CREATE TABLE engines (id TEXT PRIMARY KEY, kind TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL);
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT NOT NULL, grp TEXT, engine TEXT NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL,
        finished REAL, message TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX jobs_by_state ON jobs (state, engine, id);
    CREATE TABLE pictures (
        id INTEGER PRIMARY KEY AUTOINCREMENT, job_id INTEGER NOT NULL, path TEXT NOT NULL, request TEXT NOT NULL,
        prompt TEXT NOT NULL, model TEXT NOT NULL, seed INTEGER NOT NULL, width INTEGER NOT NULL,
        height INTEGER NOT NULL, seconds TEXT NOT NULL, made_with TEXT NOT NULL, created REAL NOT NULL,
        rating INTEGER, thumbnail BLOB
    );
    CREATE INDEX pictures_by_path ON pictures (path);
    CREATE TABLE scores (
        picture_id INTEGER NOT NULL REFERENCES pictures (id), scorer TEXT NOT NULL, score REAL NOT NULL,
        PRIMARY KEY (picture_id, scorer)
    );
    """,
)


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


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an engine found when it came up."""

    jobs: tuple[Job, ...]
    "Jobs of dead workbenches, queued again for this engine."
    set_aside: tuple[Job, ...]
    "Jobs that brought their engine down MAX_ATTEMPTS times."


class Store:
    """One SQLite connection behind a lock; every method may be called from any thread, but may wait for the disk.

    Raises (every method):
        StorageError: the file can't be read or written.
        DiskFull: no space is left.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        "One line about something that had to be done to open the file, or empty."
        self.begun_anew = False
        "The file was damaged: what the pictures say of themselves is all that is left of the history (`restore`)."
        folders.make(path.parent)
        self._lock = threading.RLock()
        self._engine_lock: int | None = None
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as e:
            if "not a database" not in str(e) and "malformed" not in str(e):
                raise _told(e, path) from e
            aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
            for suffix in ("", "-wal", "-shm"):
                damaged = path.with_name(path.name + suffix)
                if damaged.exists():
                    damaged.rename(aside.with_name(aside.name + suffix))
            self.note = f"the history could not be read; it was kept as {aside} and a new one begun"
            self.begun_anew = True
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        old = os.umask(0o077)
        try:
            db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as e:
            raise _told(e, self.path) from e
        finally:
            os.umask(old)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA busy_timeout = 10000")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        """Brings the tables to the newest version, all or nothing; two programs at once wait for each other."""
        if db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.path} was written by a newer safelight", "update safelight, or set another SAFELIGHT_HOME"
                )
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction; it is there whole or not at all."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as e:
                raise _told(e, self.path) from e

    def _read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as e:
                raise _told(e, self.path) from e

    def close(self) -> None:
        """Closes the file and lets go of the engine's lock."""
        with self._lock:
            self._db.close()
            if self._engine_lock is not None:
                os.close(self._engine_lock)
                self._engine_lock = None

    # ── engines ─────────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, kind: EngineKind) -> str:
        """A new engine's id; it counts as alive until this process ends or `close`."""
        engine = uuid.uuid4().hex[:12]
        folder = folders.make(self.path.parent / "engines")
        self._engine_lock = os.open(folder / engine, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._engine_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self._write() as db:
            db.execute("INSERT INTO engines VALUES (?, ?, ?, ?)", (engine, kind, os.getpid(), time.time()))
        return engine

    def adopt(self, engine: str, kind: EngineKind) -> Adopted:
        """Settles what dead engines left.

        Jobs of commands are marked as interrupted: whoever typed them sees that they are gone. Jobs of workbenches are
        queued again, for this engine if it is a workbench; one that went down with its engine too often is set aside.
        """
        dead = [
            row["id"]
            for row in self._read("SELECT id FROM engines WHERE id != ?", engine)
            if not self._alive(row["id"])
        ]
        jobs: list[Job] = []
        aside: list[Job] = []
        for gone in dead:
            with self._write() as db:
                row = db.execute("SELECT kind FROM engines WHERE id = ?", (gone,)).fetchone()
                if row is None or (row["kind"] == "workbench" and kind != "workbench"):
                    continue
                if row["kind"] == "command":
                    db.execute(
                        "UPDATE jobs SET state = 'interrupted', finished = ? WHERE engine = ? "
                        "AND state IN ('queued', 'running')",
                        (time.time(), gone),
                    )
                else:
                    for left in db.execute(
                        "SELECT * FROM jobs WHERE engine = ? AND state IN ('queued', 'running') ORDER BY id", (gone,)
                    ).fetchall():
                        try:
                            job = _job(left)
                        except InvalidRequest as e:
                            db.execute(
                                "UPDATE jobs SET state = 'failed', message = ? WHERE id = ?", (e.message, left["id"])
                            )
                            continue
                        if job.attempts >= MAX_ATTEMPTS:
                            aside.append(job)
                            db.execute(
                                "UPDATE jobs SET state = 'failed', message = ?, finished = ? WHERE id = ?",
                                (f"set aside: safelight went down {job.attempts} times during it", time.time(), job.id),
                            )
                        else:
                            jobs.append(job)
                            db.execute("UPDATE jobs SET state = 'queued', engine = ? WHERE id = ?", (engine, job.id))
                db.execute("DELETE FROM engines WHERE id = ?", (gone,))
            (self.path.parent / "engines" / gone).unlink(missing_ok=True)
        return Adopted(tuple(jobs), tuple(aside))

    def _alive(self, engine: str) -> bool:
        try:
            held = os.open(self.path.parent / "engines" / engine, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(held)
        return False

    def leave(self, engine: str, keep: bool) -> None:
        """Ends an engine in order: its jobs stay for the next workbench, or are cancelled."""
        with self._write() as db:
            if keep:
                # a running job that is put back in order did nothing wrong: it does not count as an attempt
                db.execute(
                    "UPDATE jobs SET state = 'queued', attempts = attempts - 1 WHERE engine = ? AND state = 'running'",
                    (engine,),
                )
                left = db.execute("SELECT 1 FROM jobs WHERE engine = ? AND state = 'queued'", (engine,)).fetchone()
                if left is not None:
                    return
            else:
                db.execute(
                    "UPDATE jobs SET state = 'cancelled', finished = ? WHERE engine = ? "
                    "AND state IN ('queued', 'running')",
                    (time.time(), engine),
                )
            db.execute("DELETE FROM engines WHERE id = ?", (engine,))
        (self.path.parent / "engines" / engine).unlink(missing_ok=True)

    # ── queue ───────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, requests: Sequence[Request], group: str | None, engine: str) -> list[Job]:
        """Queues requests for an engine, all of them or none."""
        jobs = []
        now = time.time()
        with self._write() as db:
            for request in requests:
                row = db.execute(
                    "INSERT INTO jobs (request, grp, engine, state, created) VALUES (?, ?, ?, 'queued', ?)",
                    (to_json(request), group, engine, now),
                )
                assert row.lastrowid is not None
                jobs.append(Job(row.lastrowid, request, group, now))
        return jobs

    def claim(self, job_id: JobId, engine: str) -> bool:
        """Marks a queued job as running; False if it is not there to be had (cancelled, or another's)."""
        with self._write() as db:
            return (
                db.execute(
                    "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? "
                    "WHERE id = ? AND engine = ? AND state = 'queued'",
                    (time.time(), job_id, engine),
                ).rowcount
                == 1
            )

    def end(self, job_id: JobId, state: State, message: str = "", hint: str = "") -> None:
        """Closes a job that made nothing."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = ?, message = ?, hint = ?, finished = ? WHERE id = ?",
                (state, message, hint, time.time(), job_id),
            )

    def finish(self, job_id: JobId, made: Sequence[Made]) -> tuple[Picture, ...]:
        """Closes a job and writes its pictures into the history, in one transaction."""
        now = time.time()
        with self._write() as db:
            pictures = [self._insert(db, job_id, m, now) for m in made]
            db.execute("UPDATE jobs SET state = 'done', finished = ? WHERE id = ?", (now, job_id))
        return tuple(pictures)

    def _insert(self, db: sqlite3.Connection, job_id: JobId, m: Made, created: float) -> Picture:
        row = db.execute(
            "INSERT INTO pictures (job_id, path, request, prompt, model, seed, width, height, seconds, "
            "made_with, created, thumbnail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            ),
        )
        assert row.lastrowid is not None
        db.executemany("INSERT INTO scores VALUES (?, ?, ?)", [(row.lastrowid, k, v) for k, v in m.scores.items()])
        return Picture(row.lastrowid, m.path, m.request, m.width, m.height, m.seconds, created, m.scores, m.made_with)

    def queued(self) -> list[Job]:
        """Queued and running jobs, oldest first."""
        rows = self._read("SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY id")
        return list(_readable(rows))

    def state(self, job_id: JobId) -> State | None:
        """How a job stands, or None if there is no such job."""
        rows = self._read("SELECT state FROM jobs WHERE id = ?", job_id)
        return rows[0]["state"] if rows else None

    # ── history ─────────────────────────────────────────────────────────────────────────────────────────────────

    def pictures(self, before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        """At most `limit` pictures with ids below `before`, newest first, whose prompt or model has every word of
        `search`."""
        where, values = ["id < ?"], [2**63 - 1 if before is None else before]
        for word in search.split():
            escaped = re.sub(r"([%_\\])", r"\\\1", word)
            where.append("(prompt LIKE ? ESCAPE '\\' OR model LIKE ? ESCAPE '\\')")
            values += [f"%{escaped}%"] * 2  # type: ignore[list-item]
        rows = self._read(
            f"SELECT * FROM pictures WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", *values, limit
        )
        return self._with_scores(rows)

    def picture(self, id: int) -> Picture:
        """The picture of that id. Raises InvalidRequest if there is none."""
        found = self._with_scores(self._read("SELECT * FROM pictures WHERE id = ?", id)) if 0 <= id < 2**63 else []
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
        return int(self._read("SELECT count(*) FROM pictures")[0][0])

    def thumbnail(self, id: int) -> Pixels | None:
        """The small picture kept beside a row, at most 48 px a side."""
        rows = self._read("SELECT thumbnail FROM pictures WHERE id = ?", id)
        if not rows or not rows[0]["thumbnail"]:
            return None
        import io

        from PIL import Image

        image = Image.open(io.BytesIO(rows[0]["thumbnail"])).convert("RGB")
        return Pixels(image.width, image.height, image.tobytes())

    def rate(self, id: int, rating: int | None) -> None:
        """A person's judgement, 1 … 5, or None to take it back. Raises InvalidRequest."""
        if rating is not None and not 1 <= rating <= 5:
            raise InvalidRequest(f"a rating is 1 to 5, not {rating}", "", "rating")
        with self._write() as db:
            if db.execute("UPDATE pictures SET rating = ? WHERE id = ?", (rating, id)).rowcount == 0:
                raise InvalidRequest(f"no picture {id} in the history", "safelight history list shows what there is")

    def add_scores(self, path: str, scores: dict[str, float]) -> None:
        """Keeps scores beside the history's rows for a file, if it has any."""
        with self._write() as db:
            for row in db.execute("SELECT id FROM pictures WHERE path = ?", (path,)).fetchall():
                db.executemany(
                    "INSERT INTO scores VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET score = excluded.score",
                    [(row["id"], scorer, score) for scorer, score in scores.items()],
                )

    def restore(self, made: Sequence[tuple[Made, float]]) -> int:
        """Writes pictures that are not in the history into it, each with the time when it was made (seconds since
        1970); returns how many."""
        count = 0
        with self._write() as db:
            for m, created in made:
                if db.execute("SELECT 1 FROM pictures WHERE path = ?", (m.path,)).fetchone() is None:
                    self._insert(db, 0, m, created)
                    count += 1
        return count

    def _with_scores(self, rows: Sequence[sqlite3.Row]) -> list[Picture]:
        ids = [row["id"] for row in rows]
        scores: dict[int, dict[str, float]] = {id: {} for id in ids}
        marks = ", ".join("?" * len(ids))
        for row in self._read(f"SELECT * FROM scores WHERE picture_id IN ({marks})", *ids):
            scores[row["picture_id"]][row["scorer"]] = row["score"]
        return [_picture(row, scores[row["id"]]) for row in rows]


def _picture(row: sqlite3.Row, scores: dict[str, float]) -> Picture:
    request = from_json(row["request"])
    assert isinstance(request, Generate)
    return Picture(
        row["id"],
        row["path"],
        request,
        row["width"],
        row["height"],
        Seconds(**json.loads(row["seconds"])),
        row["created"],
        scores,
        json.loads(row["made_with"]),
        row["rating"],
    )


def _job(row: sqlite3.Row) -> Job:
    return Job(row["id"], from_json(row["request"]), row["grp"], row["created"], row["attempts"])


def _readable(rows: Sequence[sqlite3.Row]) -> Iterator[Job]:
    for row in rows:
        try:
            yield _job(row)
        except InvalidRequest:
            continue


def _told(error: sqlite3.Error, path: Path) -> StorageError:
    text = str(error)
    if "disk is full" in text or "disk I/O error" in text:
        return DiskFull(f"the disk that holds {path} is full", "free some space; the history was not changed")
    if "readonly" in text or "unable to open" in text:
        return StorageError(f"{path} can't be written", "set SAFELIGHT_HOME to a folder that you can write to")
    if "locked" in text:
        return StorageError(f"{path} is locked by another program", "try again in a moment")
    return StorageError(f"{path}: {text}", "safelight doctor tells more")
