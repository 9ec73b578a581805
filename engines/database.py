"""The SQLite file that several programs share: opened, checked, brought to the newest version, asked.

A damaged file is kept aside and a new one begun, which remembers on disk that the pictures have still to be asked what
they know (`begun_anew`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines import folders
from engines.errors import DiskFull, StorageError

LOCKED_FOR = 10.0
"Seconds that an opening waits for other programs."

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
    """
    ALTER TABLE pictures ADD COLUMN parent INTEGER REFERENCES pictures (id);
    CREATE INDEX pictures_by_job ON pictures (job_id);
    """,
)


class _Damaged(sqlite3.DatabaseError):
    """The file is an SQLite database, but not a whole one."""


class Database:
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
        try:
            self._db = self._open()
        except sqlite3.Error as e:
            if not _is_damage(e):
                raise _told(e, path) from e
            self._db = self._begin_anew()
        except OSError as e:
            raise refused(e, path) from e
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
            except FileNotFoundError:  # it was damaged, and another program has just put it aside
                if time.monotonic() > until:
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
                raise refused(e, self.path) from e

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
        """One transaction, for whoever keeps tables in the file; it is there whole or not at all."""
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
        """Closes the file."""
        with self._lock:
            self._db.close()


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
        raise refused(e, path) from e


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other programs that come here waiting, where the file system can lock a folder."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise refused(e, folder) from e
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


def refused(error: OSError, path: Path) -> StorageError:
    """What the file system said, as an error that people can read."""
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
