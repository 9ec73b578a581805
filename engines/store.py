"""The queue and the history, in one SQLite file that several programs share.

The table is the queue: a job is in it before anyone is told `Queued`, and a picture's row is committed together with
the end of its job, after its file is on disk. A job belongs to the engine that queued it. An engine holds a file lock
while it lives, so what a dead one left can be told apart and taken over (`adopt`).

A damaged file is kept aside and a new one begun, which remembers on disk that the pictures have still to be asked what
they know (`begun_anew`, `restore`).
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engines import folders
from engines.errors import DiskFull, InvalidRequest, StorageError
from engines.events import Pixels
from engines.requests import Generate, Job, JobId, Picture, Request, Seconds, from_json, to_json

log = logging.getLogger(__name__)

EngineKind: TypeAlias = Literal["workbench", "command"]
State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

LOCKED_FOR = 10.0
"Seconds that an opening waits for other programs."
MAX_ATTEMPTS = 2
"A job during which an engine went down so often is set aside."

CHECKED_WHOLE = 8 << 20
"""Bytes of a file up to which every page is looked at when it is opened. Measured warm, on 2 cores: 0.5 ms a megabyte
(1.1 beside other work), so at most 9 ms; 8 MiB hold some 1,600 pictures. In a larger file the newest row of a table is
read (0.1 ms in all), and damage that is met in use has the whole file checked at the next opening."""

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
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'workbench';
    UPDATE jobs SET kind = 'command' WHERE engine IN (SELECT id FROM engines WHERE kind = 'command');
    """,
    """
    CREATE TABLE sweeps (id INTEGER PRIMARY KEY AUTOINCREMENT, told TEXT NOT NULL, created REAL NOT NULL);
    CREATE TABLE cells (
        sweep_id INTEGER NOT NULL REFERENCES sweeps (id), number INTEGER NOT NULL, point TEXT NOT NULL,
        request TEXT NOT NULL, picture_id INTEGER REFERENCES pictures (id), message TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (sweep_id, number)
    );
    """,
    """
    ALTER TABLE pictures ADD COLUMN peak INTEGER NOT NULL DEFAULT 0;
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
    peak: int = 0
    "As in Picture."


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an engine found when it came up."""

    jobs: tuple[Job, ...]
    "Jobs of dead workbenches, queued again for this engine."
    set_aside: tuple[Job, ...]
    "Jobs that brought their engine down MAX_ATTEMPTS times."


UNFIT = (
    sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, ValueError, TypeError,
    OverflowError,
)  # fmt: skip
"What is raised for values that no row can hold, unlike a full disk or a locked file."


_CELL = re.compile(r"sweep-(\d{1,18})-(\d{1,18})")


def group_of(sweep: int, number: int) -> str:
    """The group of the job that makes one cell of a sweep: it says whose picture its row becomes."""
    return f"sweep-{sweep}-{number}"


def cell_of(group: str | None) -> tuple[int, int] | None:
    """(sweep, cell) of the group that `group_of` made; None for any other."""
    found = _CELL.fullmatch(group or "")
    return (int(found[1]), int(found[2])) if found else None


def scores_of(sweep: int) -> str:
    """The group of the jobs that score a sweep's pictures when all are there."""
    return f"sweep-{sweep}-scores"


def of_sweep(group: str | None) -> bool:
    """Whether a job belongs to a sweep: it lets others pass, and comes again with its sweep."""
    return (group or "").startswith("sweep-")


class _Damaged(sqlite3.DatabaseError):
    """The file is an SQLite database, but not a whole one."""


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
        """The file was damaged, now or at an earlier opening: what the pictures say of themselves is all that is left
        of the history, and they have not been asked yet (`restore`)."""
        folders.make(path.parent)
        self._lock = threading.RLock()
        self._engine_lock: int | None = None
        try:
            self._db = self._open()
        except sqlite3.Error as e:
            if not _is_damage(e):
                raise _told(e, path) from e
            self._db = self._begin_anew()
        except OSError as e:
            raise _refused(e, path) from e
        if pending := self.query("SELECT value FROM meta WHERE key = 'restore'"):
            self.note = f"the history could not be read; it was kept as {pending[0]['value']} and a new one begun"
            self.begun_anew = True

    def _open(self) -> sqlite3.Connection:
        """Opens the file, as often as another program's first or last connection locks it whole for a moment: while the
        journal's mode changes SQLite answers "locked" at once, whatever the time-out."""
        until = time.monotonic() + LOCKED_FOR
        while True:
            try:
                return self._connect()
            except sqlite3.OperationalError as e:
                if "locked" not in str(e) or time.monotonic() > until:
                    raise
            time.sleep(0.02)

    def _connect(self) -> sqlite3.Connection:
        _create(self.path)
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            # a text that is damaged makes its own row unreadable, not the whole answer
            db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            db.execute("PRAGMA busy_timeout = 10000")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._check(db)
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        """Raises sqlite3.DatabaseError for damage beyond the first page, which SQLite itself only meets in use."""
        suspect = _suspect(self.path)
        if suspect.exists():
            # indexes as well, which quick_check leaves out: they are what the damage may have been met in
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        elif self.path.stat().st_size <= CHECKED_WHOLE:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        else:
            found = "ok"
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                db.execute(f'SELECT * FROM "{table}" ORDER BY rowid DESC LIMIT 1').fetchone()
        if found != "ok":
            raise _Damaged(found)
        suspect.unlink(missing_ok=True)

    def _begin_anew(self) -> sqlite3.Connection:
        """Keeps the damaged file aside and opens a new one; of two programs at once, one does it."""
        with _alone(self.path.parent):
            try:
                return self._open()  # another program was quicker
            except sqlite3.Error as e:
                if not _is_damage(e):
                    raise _told(e, self.path) from e
            try:
                self._set_aside()
                return self._open()
            except sqlite3.Error as e:
                raise _told(e, self.path) from e
            except OSError as e:
                raise _refused(e, self.path) from e

    def _set_aside(self) -> None:
        stem = aside = f"{self.path.name}.corrupt-{int(time.time())}"
        again = 1
        while self.path.with_name(aside).exists():
            again += 1
            aside = f"{stem}.{again}"
        for suffix in ("", "-wal", "-shm"):  # the file first: SQLite drops a journal beside none
            damaged = self.path.with_name(self.path.name + suffix)
            if damaged.exists():
                damaged.rename(self.path.with_name(aside + suffix))
        _suspect(self.path).unlink(missing_ok=True)

    def _asides(self) -> list[Path]:
        """What earlier openings kept aside, oldest first."""
        found = [p for p in self.path.parent.iterdir() if p.name.startswith(f"{self.path.name}.corrupt-")]
        return sorted(p for p in found if not p.name.endswith(("-wal", "-shm")))

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
            # The file that was kept aside is the mark that survives a crash between its renaming and this line.
            if version == 0 and (asides := self._asides()):
                db.execute(
                    "INSERT INTO meta VALUES ('restore', ?)", (os.fsencode(asides[-1]).decode(errors="replace"),)
                )
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a signal may come between the end of COMMIT and that of this block
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, for this module and those that keep tables of their own in the same file; it is there whole
        or not at all."""
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
            except (UnicodeEncodeError, OverflowError) as e:
                raise StorageError(f"the history can't hold this: {e}", "use names that are text") from e

    def query(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Rows, for the same."""
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
        """A new engine's id; it counts as alive until this process ends or `close`.

        Raises:
            StorageError: the lock that says so can't be had. Where a file system has no locks, SQLite would not keep
                two programs apart either, so there is no going on without.
        """
        engine = uuid.uuid4().hex[:12]
        place = folders.make(self.path.parent / "engines") / engine
        try:
            lock = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise _refused(e, place) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.transaction() as db:
                db.execute("INSERT INTO engines VALUES (?, ?, ?, ?)", (engine, kind, os.getpid(), time.time()))
        except BaseException as e:
            os.close(lock)
            place.unlink(missing_ok=True)
            if isinstance(e, OSError):
                raise StorageError(
                    f"{place} can't be locked: {e.strerror or e}", "set SAFELIGHT_HOME to a folder on a local disk"
                ) from e
            raise
        self._engine_lock = lock
        return engine

    def adopt(self, engine: str, kind: EngineKind) -> Adopted:
        """Settles what dead engines left, those too that the table of engines has lost.

        Jobs of commands are marked as interrupted: whoever typed them sees that they are gone. So are cells, which
        their sweep asks for again when it is resumed: else they would be made twice. Other jobs of workbenches are
        queued again, for this engine if it is a workbench; one that went down with its engine too often is set aside.
        """
        known = self.query(
            "SELECT id FROM engines UNION SELECT engine FROM jobs WHERE state IN ('queued', 'running') ORDER BY 1"
        )
        jobs: list[Job] = []
        aside: list[Job] = []
        for gone in (row["id"] for row in known if row["id"] != engine and not self._alive(row["id"])):
            kept = False
            with self.transaction() as db:
                now = time.time()
                for left in db.execute(
                    "SELECT * FROM jobs WHERE engine = ? AND state IN ('queued', 'running') ORDER BY id", (gone,)
                ).fetchall():
                    if left["kind"] == "command" or of_sweep(left["grp"]):  # it comes again with its sweep
                        db.execute(
                            "UPDATE jobs SET state = 'interrupted', finished = ? WHERE id = ?", (now, left["id"])
                        )
                        continue
                    if kind != "workbench":
                        kept = True  # for the next workbench
                        continue
                    try:
                        job = _job(left)
                    except InvalidRequest as e:
                        db.execute(
                            "UPDATE jobs SET state = 'failed', message = ?, finished = ? WHERE id = ?",
                            (e.message, now, left["id"]),
                        )
                        continue
                    if job.attempts >= MAX_ATTEMPTS:
                        aside.append(job)
                        db.execute(
                            "UPDATE jobs SET state = 'failed', message = ?, finished = ? WHERE id = ?",
                            (f"set aside: safelight went down {job.attempts} times during it", now, job.id),
                        )
                    else:
                        jobs.append(job)
                        db.execute("UPDATE jobs SET state = 'queued', engine = ? WHERE id = ?", (engine, job.id))
                if not kept:
                    db.execute("DELETE FROM engines WHERE id = ?", (gone,))
            if not kept:
                self._forget(gone)
        jobs.sort(key=lambda job: job.id)
        return Adopted(tuple(jobs), tuple(aside))

    def _alive(self, engine: str) -> bool:
        """Whether an engine holds its lock. Only what is known to be dead is: its jobs will be taken from it."""
        try:
            held = os.open(self.path.parent / "engines" / engine, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except (OSError, ValueError):  # no descriptors left, not ours to open, no name of a file
            return True
        try:
            # shared, so that two programs that ask at the same time don't take each other for the engine
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(held)
        return False

    def _forget(self, engine: str) -> None:
        """Removes an engine's lock file, where it can: one that is left says no more than that nobody holds it."""
        try:
            (self.path.parent / "engines" / engine).unlink(missing_ok=True)
        except OSError:
            pass

    def leave(self, engine: str, keep: bool) -> None:
        """Ends an engine in order: its jobs stay for the next workbench, or are cancelled. Cells always are: a sweep
        that is resumed asks for them again."""
        with self.transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? WHERE engine = ? AND state IN ('queued', 'running') "
                "AND grp GLOB 'sweep-*'",
                (time.time(), engine),
            )
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
            # sketches were looked at, and nothing of them is kept
            db.execute(
                "DELETE FROM jobs WHERE engine = ? AND state NOT IN ('queued', 'running') AND request LIKE ?",
                (engine, '%"sketch": true%'),
            )
        self._forget(engine)

    # ── queue ───────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, requests: Sequence[Request], group: str | None, engine: str) -> list[Job]:
        """Queues requests for an engine, all of them or none."""
        jobs = []
        now = time.time()
        with self.transaction() as db:
            for request in requests:
                row = db.execute(
                    "INSERT INTO jobs (request, grp, engine, state, created, kind) VALUES (?, ?, ?, 'queued', ?, "
                    "coalesce((SELECT kind FROM engines WHERE id = ?), 'workbench'))",
                    (to_json(request), group, engine, now, engine),
                )
                assert row.lastrowid is not None
                jobs.append(Job(row.lastrowid, request, group, now))
        return jobs

    def claim(self, job_id: JobId, engine: str) -> bool:
        """Marks a queued job as running; False if it is not there to be had (cancelled, or another's)."""
        with self.transaction() as db:
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
        with self.transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, message = ?, hint = ?, finished = ? WHERE id = ?",
                (state, message, hint, time.time(), job_id),
            )

    def finish(self, job_id: JobId, made: Sequence[Made]) -> tuple[Picture, ...]:
        """Closes a job and writes its pictures into the history, in one transaction."""
        now = time.time()
        with self.transaction() as db:
            pictures = [self.insert(db, job_id, m, now) for m in made]
            row = db.execute("SELECT grp FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if pictures and row is not None and (cell := cell_of(row["grp"])):
                db.execute(
                    "UPDATE cells SET picture_id = ?, message = '' "
                    "WHERE sweep_id = ? AND number = ? AND picture_id IS NULL",
                    (pictures[0].id, *cell),
                )
            db.execute("UPDATE jobs SET state = 'done', finished = ? WHERE id = ?", (now, job_id))
        return tuple(pictures)

    def insert(self, db: sqlite3.Connection, job_id: JobId, m: Made, created: float) -> Picture:
        """Writes a picture's row within a transaction; a job of 0 is none."""
        row = db.execute(
            "INSERT INTO pictures (job_id, path, request, prompt, model, seed, width, height, seconds, "
            "made_with, created, thumbnail, peak) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            ),
        )
        assert row.lastrowid is not None
        scores = _finite(m.scores)
        db.executemany("INSERT INTO scores VALUES (?, ?, ?)", [(row.lastrowid, k, v) for k, v in scores.items()])
        picture = Picture(row.lastrowid, m.path, m.request, m.width, m.height, m.seconds, created, scores, m.made_with)
        return replace(picture, peak=m.peak)

    def queued(self) -> list[Job]:
        """Queued and running jobs, oldest first."""
        rows = self.query("SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY id")
        return list(_readable(rows))

    def state(self, job_id: JobId) -> State | None:
        """How a job stands, or None if there is no such job."""
        rows = self.query("SELECT state FROM jobs WHERE id = ?", job_id)
        return rows[0]["state"] if rows else None

    # ── history ─────────────────────────────────────────────────────────────────────────────────────────────────

    def pictures(self, before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        """At most `limit` pictures with ids below `before`, newest first, whose prompt or model has every word of
        `search`. Rows that can't be read are left out, and don't count."""
        where, words = ["id < ?"], []
        for word in search.split():
            escaped = re.sub(r"([%_\\])", r"\\\1", word)
            where.append("(prompt LIKE ? ESCAPE '\\' OR model LIKE ? ESCAPE '\\')")
            words += [f"%{escaped}%"] * 2
        sql = f"SELECT * FROM pictures WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
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


def _job(row: sqlite3.Row) -> Job:
    return Job(row["id"], from_json(row["request"]), row["grp"], row["created"], row["attempts"])


def _readable(rows: Sequence[sqlite3.Row]) -> Iterator[Job]:
    for row in rows:
        try:
            yield _job(row)
        except InvalidRequest:
            continue


def _create(path: Path) -> None:
    """Makes the file before SQLite does, for its owner alone; the journals beside it get the same mode from SQLite.

    Not by the umask, which belongs to all threads; and only where there is none yet, for closing a second descriptor
    of a database drops the locks that this process holds on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as e:
        raise _refused(e, path) from e


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other programs that come here waiting, where the file system can lock a folder."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise _refused(e, folder) from e
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # the two would have to come within milliseconds of each other
        yield
    finally:
        os.close(lock)


def _suspect(path: Path) -> Path:
    """The file whose being there says that damage was met in use."""
    return path.with_name(path.name + ".suspect")


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where it was met
    return isinstance(error, _Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _refused(error: OSError, path: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk that holds {path} is full", "free some space; the history was not changed")
    return StorageError(
        f"{path} can't be written: {error.strerror or error}", "set SAFELIGHT_HOME to a folder that you can write to"
    )


def _told(error: sqlite3.Error, path: Path) -> StorageError:
    if _is_damage(error):
        try:
            _suspect(path).touch(0o600)
        except OSError:
            pass  # a small file is checked at every opening anyway
        return StorageError(
            f"{path} is damaged", "start safelight again: it is kept aside, and the pictures are found again"
        )
    text = str(error)
    if "disk is full" in text or "disk I/O error" in text:
        return DiskFull(f"the disk that holds {path} is full", "free some space; the history was not changed")
    if "readonly" in text or "unable to open" in text:
        return StorageError(f"{path} can't be written", "set SAFELIGHT_HOME to a folder that you can write to")
    if "locked" in text:
        return StorageError(f"{path} is locked by another program", "try again in a moment")
    return StorageError(f"{path}: {text}", "safelight doctor tells more")
