"""What can go wrong, as one tree.

    SafelightError            message + hint; `exit_code` is what the command line ends with
    ├── InvalidRequest        what was typed is wrong (2)
    │   ├── PromptError       … at a place in the prompt: `span`
    │   └── CatalogueError    an unknown model, scheduler, scorer, or a bad entry
    ├── LoadError             a model's files can't be used (1)
    ├── wire.HubError         the hub refuses, lacks or garbles something (1)
    ├── OutOfMemory           the device is too small, or others fill it (1)
    ├── StorageError          a folder or file can't be written or read (1)
    │   └── DiskFull
    └── Stopped               asked to stop; not a failure

Every message is one line that says what is wrong; every hint says what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SafelightError(Exception):
    """Anything that safelight tells its user instead of a traceback.

    Args:
        message: one line, what is wrong, without a full stop at its end.
        hint: one line, what to do next; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequest(SafelightError):
    """A value that was typed can't be used; `field` names it as the request does."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "", field: str = "") -> None:
        super().__init__(message, hint)
        self.field = field


class PromptError(InvalidRequest):
    """The prompt can't be read at `span`, a (start, end) pair of character offsets."""

    def __init__(self, message: str, hint: str = "", span: tuple[int, int] = (0, 0)) -> None:
        super().__init__(message, hint, field="prompt")
        self.span = span


class CatalogueError(InvalidRequest):
    """A name that the catalogue doesn't have, or an entry that can't be read."""


class LoadError(SafelightError):
    """A model's files are missing, broken, or of another architecture."""


class OutOfMemory(SafelightError):
    """The device's memory is used up."""


class StorageError(SafelightError):
    """A folder or file can't be read or written."""


class DiskFull(StorageError):
    """No space is left where something had to be written."""


class Stopped(Exception):
    """Work ended because it was asked to; the worker turns it into `Cancelled`."""


def near(name: str, known: Iterable[str], what: str) -> str:
    """A hint that names what is close to `name` among `known`, else all of them (at most twelve)."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    close += [n for n in names if name and name.lower() in n.lower() and n not in close][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{what}: {shown}" if names else f"there are no {what} here"
