"""Fetching one file of the hub into the cache that all programs share: resumed, hashed on the way, named at the end.

huggingface_hub writes to a file of a random name, so that a second run begins at nothing, and doesn't look at hashes.
Here the partial file has a name of its own beside the blob, so that any later run goes on with it; what was there is
hashed again first. It gets the blob's name only when it is whole, right and on disk. The lock is the one that
huggingface_hub takes for the same blob.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engines import hub
from engines.errors import DiskFull, Stopped, StorageError
from engines.events import Noted
from engines.wire import MEANINGFUL, Answer, Asked, HubError, Lost, Tries, Wire, size

PARTIAL = ".safelight.incomplete"
"What a partial file is called after the blob that it will be."

_PIECE = 1024 * 1024
_GIT = re.compile(r"[0-9a-f]{40}")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the hub lists it."""

    repo: str
    "ORG/NAME."
    revision: str
    "The branch, tag or commit that was asked for."
    commit: str
    "What that is now."
    file: str
    "Its path in the repository."
    blob: str
    "What the cache calls its contents: the sha256, or git's sha1 of a small file."
    bytes: int
    "Its size."

    @property
    def stored(self) -> Path:
        """Where its contents lie in the cache, or would."""
        return hub.storage(self.repo) / "blobs" / self.blob

    @property
    def partial(self) -> Path:
        """What has come of it."""
        return self.stored.with_name(self.blob + PARTIAL)

    @property
    def path(self) -> Path:
        """Where programs find it."""
        return hub.storage(self.repo) / "snapshots" / self.commit / self.file

    @property
    def lock(self) -> Path:
        """The file that huggingface_hub locks while it fetches the same contents."""
        return lock_of(self.stored)

    def is_here(self) -> bool:
        """Whether programs find it, whole and with these contents by name."""
        try:
            if self.path.stat().st_size != self.bytes:
                return False
            return not self.path.is_symlink() or Path(os.readlink(self.path)).name == self.blob
        except OSError:
            return False

    def has_contents(self) -> bool:
        """Whether the contents are in the cache, under whatever name programs know them."""
        return _size_of(self.stored) == self.bytes

    def came(self) -> int:
        """Bytes that need not be fetched any more."""
        if self.is_here() or self.has_contents():
            return self.bytes
        return min(max(0, _size_of(self.partial)), self.bytes)


class Digest(Protocol):
    """A hash that is fed."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def digest_for(name: str, count: int) -> Digest | None:
    """The hash by which contents of `count` bytes are called `name` in the cache; None for a name that is no hash.

    64 digits are the sha256; 40 are what git names a blob by: the sha1 of a header with the length, and the contents.
    """
    if hub.SHA256.fullmatch(name):
        return hashlib.sha256()
    if _GIT.fullmatch(name):
        return hashlib.sha1(b"blob %d\0" % count, usedforsecurity=False)
    return None


def lock_of(blob: Path) -> Path:
    """The lock file of a blob."""
    storage = blob.parent.parent
    return storage.parent / ".locks" / storage.name / f"{blob.name}.lock"


def fetch(remote: Remote, wire: Wire) -> Generator[int | Noted, None, None]:
    """Fetches a file's contents into the cache, yielding how many bytes of it are here.

    Raises:
        Stopped: what has come stays for the next time.
        HubError: refused, given up, or not what it should be; in the last case nothing stays.
        DiskFull: what has come stays.
        StorageError: the cache can't be written.
    """
    try:
        remote.stored.parent.mkdir(parents=True, exist_ok=True)
        lock = yield from _locked(remote, wire)
        try:
            if not remote.has_contents():
                yield from _fill(remote, wire)
            _link(remote)
        finally:
            lock.release()
    except OSError as e:
        raise told(e, remote.stored.parent) from e
    yield remote.bytes


def _fill(remote: Remote, wire: Wire) -> Generator[int | Noted, None, None]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with _Partial(os.open(remote.partial, flags, 0o666), remote) as partial:
        partial.resume(wire)
        if partial.done:
            text = f"{remote.file} goes on at {size(partial.done)} of {size(remote.bytes)}"
            yield Noted("info", text, wire.job_id)
        tries = Tries(wire)
        since = partial.done
        while partial.done < remote.bytes:
            try:
                yield from _stream(remote, partial, wire)
            except Lost as lost:
                if partial.done - since >= MEANINGFUL:
                    tries.worked()
                since = partial.done
                at = f" at {size(partial.done)} of {size(remote.bytes)}" if partial.done else ""
                yield from tries.again(lost, remote.file + at)
        partial.check()
        partial.sync()
    os.replace(remote.partial, remote.stored)
    sync_folder(remote.stored.parent)


def _stream(remote: Remote, partial: _Partial, wire: Wire) -> Iterator[int]:
    """One request for what is lacking; the whole file where the server doesn't give parts."""
    asked = Asked(remote.repo, remote.commit if remote.revision == "main" else remote.revision, remote.file)
    url = wire.file_url(remote.repo, remote.commit, remote.file)
    for piece in wire.get(url, asked, partial.done):
        match piece:
            case None:
                yield partial.done
            case Answer():
                # the contents' own server has names of its own for them; only the hub's word counts
                named = piece.etag()
                if digest_for(named, 0) is not None and named != remote.blob:
                    partial.discard()
                    raise HubError(f"{remote.file} was changed on the hub while it was fetched", "pull again")
                if piece.status == 416:
                    partial.restart()
                    raise Lost("the hub gives no more of it", 0.0)
                start = _RANGE.match(piece.headers.get("content-range", "")) if piece.status == 206 else None
                if piece.status == 200:
                    partial.restart()
                elif start is None or int(start[1]) != partial.done:
                    partial.restart()
                    raise Lost("the hub gives another part than was asked for", 0.0)
            case _:
                if partial.done + len(piece) > remote.bytes:
                    partial.discard()
                    raise HubError(
                        f"{remote.file} is longer than the {size(remote.bytes)} that the hub lists",
                        "it was removed; pull again, and see its page if that does not help",
                    )
                partial.write(piece)
                yield partial.done
    if partial.done < remote.bytes:
        raise Lost("the connection was lost")


class _Partial:
    """The partial file: never longer than what its hash has seen, once it is resumed."""

    def __init__(self, handle: int, remote: Remote) -> None:
        self._handle = handle
        self._remote = remote
        self.done = 0
        self._digest = self._new_digest()

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def _new_digest(self) -> Digest:
        digest = digest_for(self._remote.blob, self._remote.bytes)
        if digest is None:
            raise HubError(f"{self._remote.file} has no hash on the hub", "see its page")
        return digest

    def resume(self, wire: Wire) -> None:
        """Hashes what an earlier run left. Raises Stopped."""
        if os.fstat(self._handle).st_size > self._remote.bytes:
            self.restart()
        while piece := os.read(self._handle, _PIECE):
            if wire.stop():
                raise Stopped
            self._digest.update(piece)
            self.done += len(piece)

    def write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:  # what a full disk still took of it is sound, and is hashed by the next run
            left = left[os.write(self._handle, left) :]
        self._digest.update(piece)
        self.done += len(piece)

    def restart(self) -> None:
        """Begins anew."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        self.done = 0
        self._digest = self._new_digest()

    def discard(self) -> None:
        self._remote.partial.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises HubError, and leaves nothing, unless the contents are what the hub says."""
        found, name = self._digest.hexdigest(), self._remote.blob
        if found != name:
            self.discard()
            kind = "sha256" if len(name) == 64 else "git hash"
            raise HubError(
                f"{self._remote.file} came wrong: its {kind} is {found[:12]}…, and should be {name[:12]}…",
                "it was removed; pull again, and see its page if that does not help",
            )

    def sync(self) -> None:
        os.fsync(self._handle)


class _Lock(Protocol):
    def release(self) -> None: ...


def _locked(remote: Remote, wire: Wire) -> Generator[Noted, None, _Lock]:
    """Waits for the lock of the contents, told once."""
    from filelock import FileLock, SoftFileLock, Timeout

    remote.lock.parent.mkdir(parents=True, exist_ok=True)
    lock: FileLock | SoftFileLock = FileLock(remote.lock, mode=0o664, thread_local=False)
    waits = False
    while True:
        try:
            lock.acquire(timeout=0)
            return lock
        except Timeout:
            if not waits:
                waits = True
                yield Noted("info", f"another program fetches {remote.file}: waiting for it", wire.job_id)
            wire.pause(0.2, wire.stop)
            if wire.stop():
                raise Stopped from None
        except NotImplementedError:  # file systems without flock: what huggingface_hub does there
            lock = SoftFileLock(remote.lock, mode=0o664, thread_local=False)


@contextmanager
def alone(blob: Path) -> Iterator[bool]:
    """Holds the lock of a blob; False, and no lock, where another program has it just now."""
    from filelock import FileLock, Timeout

    path = lock_of(blob)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=0o664, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError) as e:
        yield isinstance(e, NotImplementedError)
        return
    try:
        yield True
    finally:
        lock.release()


def _link(remote: Remote) -> None:
    """Lets programs find the contents by the file's name; where links can't be made, they move there."""
    if remote.is_here():
        return
    remote.path.parent.mkdir(parents=True, exist_ok=True)
    remote.path.unlink(missing_ok=True)
    relative = os.path.relpath(remote.stored, remote.path.parent)
    try:
        os.symlink(relative, remote.path)
    except FileExistsError:
        return  # another program was quicker
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES):
            raise
        os.replace(remote.stored, remote.path)
    sync_folder(remote.path.parent)


def link(remote: Remote) -> None:
    """As the end of `fetch`, for contents that are here. Raises StorageError."""
    try:
        _link(remote)
    except OSError as e:
        raise told(e, remote.path.parent) from e


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on disk, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def told(error: OSError, folder: Path) -> StorageError:
    """An error of the file system as a line for people."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"the disk that holds {folder} is full", "free some space and pull again (it goes on), or set HF_HOME"
        )
    return StorageError(f"{folder} can't be written: {error.strerror or error}", "set HF_HOME to a folder of yours")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
