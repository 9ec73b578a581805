"""What a new draft begins with, and the draft on disk: what is typed is there again after a crash, and two workbenches
don't overwrite each other.

Each instance has a slot, draft-1.json, draft-2.json, …: the first whose lock file is free. A lock is the kernel's, so
a killed instance gives its slot back.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from engines import folders
from engines.catalogue import Catalogue
from engines.errors import StorageError
from tui.draft import Draft
from tui.settings import Settings

SLOTS = 64


def usual(settings: Settings, catalogue: Catalogue) -> Draft:
    """What a new draft begins with; without a model where the settings name none."""
    return Draft(
        model=settings.model,
        score="yes" if settings.score and catalogue.scorers else "no",
        precision="" if settings.precision == "auto" else settings.precision,
        blank_negative="" if settings.blank_negative == "zeros" else settings.blank_negative,
    )


class DraftFile:
    """One slot. `save` may be called from any thread; it waits for the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._held: int | None = None
        self._saved = ""
        self.path: Path | None = None

    def open(self) -> Draft:
        """Takes a free slot and returns what it holds; a new slot begins with the first one's text.

        Raises:
            StorageError: the folder can't be written, or no slot is free; nothing will be saved.
        """
        folders.make(self._folder)
        for number in range(1, SLOTS + 1):
            try:
                held = os.open(self._folder / f"draft-{number}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as e:
                raise StorageError(f"the draft can't be saved in {self._folder}: {e.strerror}", "free it up") from e
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(held)
                continue
            self._held = held
            self.path = self._folder / f"draft-{number}.json"
            return _read(self.path) or _read(self._folder / "draft-1.json") or Draft()
        raise StorageError(f"{SLOTS} workbenches are open; the draft of this one is not saved", "close some")

    def save(self, draft: Draft) -> None:
        """Replaces the slot's file whole: after a crash it holds the old draft or the new one.

        Raises:
            StorageError: it can't be written; what was saved before is still there.
        """
        text = draft.to_json()
        with self._lock:
            if self.path is None or text == self._saved:
                return
            beside = self.path.with_suffix(".tmp")
            try:
                file = os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(file, "w", encoding="utf-8", errors="replace") as f:
                    f.write(text)
                    f.flush()
                    os.fsync(f.fileno())
                os.replace(beside, self.path)
            except OSError as e:
                raise StorageError(f"the draft can't be saved: {e.strerror}", f"look at {self._folder}") from e
            self._saved = text

    def close(self) -> None:
        """Gives the slot back."""
        with self._lock:
            if self._held is not None:
                os.close(self._held)
            self._held = self.path = None


def _read(path: Path) -> Draft | None:
    try:
        return Draft.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
