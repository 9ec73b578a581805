"""Names of pictures, and writing them whole: a file is there complete, under a name of its own, or not at all."""

from __future__ import annotations

import errno
import os
import re
import string
import tempfile
import time
import unicodedata
from pathlib import Path

from engines import folders
from engines.errors import DiskFull, InvalidRequest, StorageError
from engines.requests import Generate

PATTERN = "{date}-{time}-{seed}-{model}-{slug}"
PARTS = ("date", "time", "seed", "model", "slug", "width", "height", "steps")
MAX_NAME = 150
"Bytes; file systems take 255, and a suffix must fit."

_PARTIAL = ".safelight-"
_swept: set[Path] = set()
"Folders that were swept in this process: once is enough, and a large folder takes a while to be read."


def check_pattern(pattern: str) -> None:
    """Raises InvalidRequest unless every part of a file name pattern is known and it makes a name."""
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    except ValueError as e:
        raise InvalidRequest(f"file_name can't be read: {e}", f"parts: {', '.join(PARTS)}", "file_name") from e
    if {"/", "\\"} & set(pattern):
        raise InvalidRequest(
            "file_name can't lead to another folder", "folder says where pictures are saved", "file_name"
        )
    if unknown := used - set(PARTS):
        raise InvalidRequest(
            f"file_name has no part {{{sorted(unknown)[0]}}}", f"parts: {', '.join(PARTS)}", "file_name"
        )


def slug(text: str) -> str:
    """A prompt as a piece of a file name: at most 40 ASCII letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].rstrip("-") or "untitled"


def name(request: Generate, prompt: str, pattern: str = PATTERN, now: float | None = None) -> str:
    """The file name, without suffix, of a picture made `now` (seconds since 1970, shown in local time).

    `prompt` is the plain text for the slug. The name has no separator and never starts with a dot.
    """
    at = time.localtime(now)
    made = pattern.format(
        date=time.strftime("%Y%m%d", at),
        time=time.strftime("%H%M%S", at),
        seed=request.seed,
        model=request.model,
        slug=slug(prompt),
        width=request.width,
        height=request.height,
        steps=request.num_inference_steps,
    )
    safe = re.sub(r"[^\w.=+,@ -]", "-", made, flags=re.ASCII).strip(" .-")
    return safe[:MAX_NAME].rstrip(" .-") or "picture"


def check_folder(folder: Path) -> None:
    """Makes a folder for pictures, and raises StorageError unless files can be written into it.

    What a killed program left half written in it is removed, the first time.
    """
    folders.make(folder, private=False)
    try:
        handle, probe = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        os.close(handle)
        os.unlink(probe)
    except OSError as e:
        raise _told(e, folder) from e
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)


def save(folder: Path, stem: str, data: bytes, suffix: str = ".png") -> Path:
    """Writes `data` under a new name made of `stem`, numbered if it is taken, and returns its path.

    The order is: temp file, fsync, link or rename under the name, fsync of the folder; nothing is overwritten, and
    after a failure nothing is left.

    Raises:
        DiskFull: no space is left.
        StorageError: the folder can't be written.
    """
    folders.make(folder, private=False)
    partial = ""
    try:
        handle, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(partial, 0o666 & ~_umask())
        for number in range(1, 10_000):
            path = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            if _publish(partial, path):
                _sync_folder(folder)
                return path
        raise StorageError(f"{folder} has too many files called {stem}", "choose another file_name pattern")
    except OSError as e:
        raise _told(e, folder) from e
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)


def _publish(partial: str, path: Path) -> bool:
    """Gives the finished file its name; False if another has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES):
            raise
        return _publish_without_links(partial, path)
    return True


def _publish_without_links(partial: str, path: Path) -> bool:
    """On a file system without hard links, where a rename would overwrite, the name is reserved first.

    The reservation is a file beside it, so that a kill leaves no empty picture, only what `sweep` removes.
    """
    reservation = path.with_name(f"{_PARTIAL}{path.name}.taken")
    try:
        os.close(os.open(reservation, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False  # someone is writing it just now, or was killed at it
    try:
        if os.path.lexists(path):
            return False
        os.rename(partial, path)
        return True
    finally:
        reservation.unlink(missing_ok=True)


def replace(path: Path, data: bytes, private: bool = True) -> None:
    """Writes a whole file in place of an older one. Raises DiskFull or StorageError; the older one is kept then.

    Args:
        private: whether only its owner may read it; else whoever the umask lets.
    """
    folders.make(path.parent)
    partial = ""
    try:
        handle, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if not private:
            os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as e:
        raise _told(e, path.parent) from e
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)


def sweep(folder: Path, older_than: float = 3600) -> None:
    """Removes what killed programs left half done in a folder more than `older_than` seconds ago, where it can."""
    try:
        with os.scandir(folder) as entries:
            left = [entry for entry in entries if entry.name.startswith(_PARTIAL)]
    except OSError:
        return
    for entry in left:
        try:
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > older_than:
                os.unlink(entry)
        except OSError:
            pass  # another's, or another sweep was quicker


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that can't sync a folder
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    # os.umask can only be read by setting it, which is not safe beside other threads; Linux tells it in /proc
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("Umask:")[2].split()[0], 8)
    except (OSError, ValueError, IndexError):
        return 0o022


def _told(error: OSError, folder: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk that holds {folder} is full", "free some space, or choose another folder")
    return StorageError(
        f"{folder} can't be written: {error.strerror or error}", "choose a folder that you can write to"
    )
