"""settings.toml, written: one line is changed, and every other line, comments and unknown ones too, stays as it is.

The file is read anew for every change, so that what an editor has saved meanwhile is kept; it is replaced whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines import files, folders
from engines.errors import InvalidRequest, StorageError
from tui.settings import Value

PATIENCE = 2.0
"Seconds that are waited for another safelight that is writing, too."
TRIES = 5
"How often it is begun anew while an editor saves at the same moment."


def change(path: Path, name: str, value: Value | None) -> None:
    """Writes one setting, or takes its line away for None. Waits for the disk.

    Args:
        path: settings.toml, or a link to it, which stays one.
        name: of the setting; 'keys.make' for a key.
        value: what it shall be.

    Raises:
        InvalidRequest: the file can't be read as TOML, and is left as it is.
        DiskFull, StorageError: it can't be written, and is left as it is.
    """
    path = _behind(path)
    with _alone(folders.make(path.parent)):
        for _ in range(TRIES):
            before = _text(path)
            after = changed(before, name, value)
            if after == before:
                return
            if _text(path) == before:  # an editor may have saved just now
                files.replace(path, after.encode())
                return
    raise StorageError(f"{path} is changed all the time", "close the program that writes it, and try again")


def changed(text: str, name: str, value: Value | None) -> str:
    """The text of a file with one setting changed. Raises InvalidRequest."""
    from tomlkit.exceptions import TOMLKitError  # 30 ms, for those who write

    where, _, inner = name.partition(".")
    try:
        wanted = tomllib.loads(text)
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"settings.toml can't be read: {e}", "mend it in an editor; nothing was written") from e
    table: dict[str, Any] = wanted
    if inner:
        table = wanted.get(where, {})
        if not isinstance(table, dict):
            raise InvalidRequest(f"{where} in settings.toml is no table", "mend it in an editor; nothing was written")
        wanted[where] = table
    last = inner or where
    if value is None and last not in table:
        return text
    there = last in table
    table.pop(last) if value is None else table.update({last: value})
    try:
        made = _without(text, where, inner) if value is None else _with(text, where, inner, value, there)
    except TOMLKitError:
        made = ""
    if not _same(made, wanted):  # what is odd enough is for a person to edit
        raise InvalidRequest(f"settings.toml is written in a way that {name} can't be changed in", "edit it by hand")
    return made


def _same(text: str, wanted: dict[str, Any]) -> bool:
    with contextlib.suppress(ValueError):
        found = tomllib.loads(text)
        return {k: v for k, v in found.items() if v != {}} == {k: v for k, v in wanted.items() if v != {}}
    return False


def _with(text: str, where: str, inner: str, value: Value, there: bool) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    if inner:
        if where in document:
            document[where][inner] = value
            return tomlkit.dumps(document)
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return text + gap + tomlkit.dumps({where: {inner: value}})
    if there:
        document[where] = value
        return tomlkit.dumps(document)
    # tomlkit would put it between a table and the comment over it
    lines = text.splitlines(keepends=True)
    at = _end_of_top(lines)
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    line = tomlkit.dumps({where: value})
    return "".join([*lines[:at], line.replace("\n", "\r\n") if "\r\n" in text else line, *lines[at:]])


def _without(text: str, where: str, inner: str) -> str:
    import tomlkit
    from tomlkit.items import Comment, Trivia

    document = tomlkit.parse(text)
    table: Any = document[where] if inner else document
    last = inner or where
    comment = getattr(getattr(table[last], "trivia", None), "comment", "")
    body: Any = document.body if not inner else getattr(getattr(table, "value", None), "body", [])
    at = next((i for i, (key, _) in enumerate(body) if key is not None and key.key == last), None)
    del table[last]
    if comment and at is not None:  # what was said beside it stays as a line
        body[at] = (None, Comment(Trivia(comment_ws="", comment=comment)))
    return tomlkit.dumps(document)


def _end_of_top(lines: list[str]) -> int:
    """Where a further setting stands best: behind the last one that is in no table, or before the first table and the
    comment that belongs to it."""
    after, header = 0, len(lines)
    for i, line in enumerate(lines):
        words = line.strip()
        whole = _whole("".join(lines[:i]))
        if whole and words.startswith("["):
            header = i
            break
        if not whole or (words and not words.startswith("#")):
            after = i + 1
    if after or header == len(lines):
        return after or header
    while header and lines[header - 1].lstrip().startswith("#"):
        header -= 1
    return header


def _whole(text: str) -> bool:
    with contextlib.suppress(ValueError):
        tomllib.loads(text)
        return True
    return False


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} is no file", "move it away")
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as e:
        raise InvalidRequest(f"{path} is not UTF-8 text", "mend it in an editor; nothing was written") from e
    except OSError as e:
        raise StorageError(f"{path}: {e.strerror or e}", "see who owns it, and who may read and write it") from e


def _behind(path: Path) -> Path:
    """The file itself, where settings.toml is a link into somebody's dotfiles."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as e:
        raise StorageError(f"{path}: {e}", "see where the link leads") from e


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other safelight writes meanwhile, where the file system knows locks. The folder itself is locked: a lock
    beside the file would stay there."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as e:
        raise StorageError(f"{folder}: {e.strerror or e}", "see who owns it, and who may write there") from e
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break  # no locks here
        yield
    finally:
        os.close(handle)
