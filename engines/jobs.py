"""The queue: jobs, the engines that they belong to, and what becomes of them when one of those dies.

A job belongs to the engine that queued it. An engine holds a file lock while it lives, so what a dead one left can be
told apart and taken over (`adopt`). The end of a job and its pictures' rows are one transaction: so the queue knows the
history.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engines import folders
from engines.database import refused
from engines.errors import InvalidRequest, StorageError
from engines.history import History, Made
from engines.requests import Job, JobId, Picture, Request, from_json, to_json

EngineKind: TypeAlias = Literal["workbench", "command"]
State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

MAX_ATTEMPTS = 2
"A job during which an engine went down so often is set aside."

_CELL = re.compile(r"sweep-(\d{1,18})-(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an engine found when it came up."""

    jobs: tuple[Job, ...]
    "Jobs of dead workbenches, queued again for this engine."
    set_aside: tuple[Job, ...]
    "Jobs that brought their engine down MAX_ATTEMPTS times."


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


class Jobs(History):
    """The tables of engines and jobs."""

    _engine_lock: int | None = None

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
            raise refused(e, place) from e
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

    def close(self) -> None:
        """Closes the file and lets go of the engine's lock."""
        with self._lock:
            super().close()
            if self._engine_lock is not None:
                os.close(self._engine_lock)
                self._engine_lock = None

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

    def keep(self, job_id: JobId, made: Made) -> Picture:
        """Writes a picture of a job that goes on into the history."""
        with self.transaction() as db:
            return self.insert(db, job_id, made, time.time())

    def kept(self, job_id: JobId) -> tuple[Picture, ...]:
        """The pictures of a job, in the order in which they were made."""
        return tuple(self.with_scores(self.query("SELECT * FROM pictures WHERE job_id = ? ORDER BY id", job_id)))

    def queued(self) -> list[Job]:
        """Queued and running jobs, oldest first."""
        rows = self.query("SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY id")
        return list(_readable(rows))

    def state(self, job_id: JobId) -> State | None:
        """How a job stands, or None if there is no such job."""
        rows = self.query("SELECT state FROM jobs WHERE id = ?", job_id)
        return rows[0]["state"] if rows else None


def _job(row: sqlite3.Row) -> Job:
    return Job(row["id"], from_json(row["request"]), row["grp"], row["created"], row["attempts"])


def _readable(rows: Sequence[sqlite3.Row]) -> Iterator[Job]:
    for row in rows:
        try:
            yield _job(row)
        except InvalidRequest:
            continue
