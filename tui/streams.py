"""The terminal kept clean: only what safelight prints reaches it; all that libraries write goes to the log.

C libraries write to file descriptors 1 and 2 directly. So these two are pointed at the log file, and safelight's own
output goes through copies of them.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from engines import folders
from engines.errors import SafelightError

MAX_LOG = 5_000_000
"Bytes; a longer log is set aside once, as safelight.log.1."

FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class Forgiving(TextIOWrapper):
    """A text stream that loses what can't be written."""

    def write(self, text: str) -> int:
        """As always; a failure is as good as success."""
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """As always; a failure is as good as success."""
        try:
            super().flush()
        except OSError:
            pass


def open_log(path: Path, debug: bool) -> TextIO | None:
    """Sends logging and warnings to a file that only its owner can read. Returns it, or None if it can't be had."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that can't be written (a full disk) is no reason for a traceback
    warnings.simplefilter("default")
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for noisy in ("PIL", "asyncio", "urllib3", "filelock", "matplotlib", "markdown_it"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        folders.make(path.parent)
        if path.exists() and path.stat().st_size > MAX_LOG:
            path.replace(path.with_name(path.name + ".1"))
        stream = os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "a", errors="replace")
    except (OSError, SafelightError):
        root.addHandler(logging.NullHandler())
        return None
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    root.addHandler(handler)
    return stream


def divert(log: TextIO | None) -> None:
    """Points descriptors 1 and 2 at the log (or nowhere), and sys.stdout, sys.stderr and what Textual draws to at
    copies of what they were. Once for a process."""
    for number, names in ((1, ("stdout", "__stdout__")), (2, ("stderr", "__stderr__"))):
        old = getattr(sys, names[0])
        if old is not None:
            old.flush()
        try:
            copy = os.dup(number)
        except OSError:  # the caller closed it; there is nowhere to print
            copy = os.open(os.devnull, os.O_WRONLY)
        # what can't be said on stderr (closed, full) must not keep a picture from being made
        kind = TextIOWrapper if number == 1 else Forgiving
        stream = kind(
            os.fdopen(copy, "wb", buffering=0),
            encoding="utf-8",
            errors="replace",
            line_buffering=True,
            write_through=True,
        )
        for name in names:
            setattr(sys, name, stream)
        if log is not None:
            os.dup2(log.fileno(), number)
        else:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
