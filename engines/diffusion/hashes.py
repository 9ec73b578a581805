"""What made a picture, by hash: computed beside the work, once for each file, and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path

from engines import files, headers, hub
from engines.errors import SafelightError

log = logging.getLogger(__name__)

PATIENCE = 2.0
"Seconds that a finished picture waits for a hash; hashing 5 GB takes about three, and began when the model was loaded."


class Hashes:
    """sha256 of weights files, in a thread of its own (hashlib lets others run meanwhile).

    Args:
        path: where they are remembered, by the file's path, size and time of change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="safelight-hashes")
        self._asked: dict[tuple[tuple[Path, int, int], ...], Future[str]] = {}

    def begin(self, weights: Sequence[Path]) -> None:
        """Starts on the files of one component, if that was not done before."""
        key = _as_they_are(weights)
        if key and key not in self._asked:
            self._asked[key] = self._worker.submit(self._of_all, tuple(weights))

    def get(self, weights: Sequence[Path], patience: float = PATIENCE) -> str:
        """The first 16 hex digits of the file's sha256, or of its shards' one after another; empty if it is not known
        within `patience` seconds, or a file can't be read: never a reason to lose a picture."""
        self.begin(weights)
        asked = self._asked.get(_as_they_are(weights))
        if asked is None:
            return ""
        try:
            return asked.result(patience)
        except TookTooLong:
            return ""
        except (OSError, SafelightError) as e:
            log.warning("no hash of %s: %s", weights[0], e)
            return ""

    def digest(self, path: Path) -> str:
        """The whole sha256 of a file, computed here and now if it isn't known. Raises OSError."""
        return self._of(path)

    def _of_all(self, weights: tuple[Path, ...]) -> str:
        digests = [self._of(path) for path in weights]
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return whole[:16]

    def _of(self, path: Path) -> str:
        headers.check_regular(path)  # whoever opens a FIFO waits for a writer, and so would the end of the program
        if told := hub.sha256_of(path):
            return told
        stat = path.stat()
        key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
        known = self._known()
        if key in known:
            return known[key]
        with path.open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        try:
            files.replace(self.path, json.dumps({**self._known(), key: digest}, indent=1).encode())
        except SafelightError as e:
            log.warning("hashes are not remembered: %s", e.message)
        return digest

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return {k: v for k, v in known.items() if isinstance(v, str)} if isinstance(known, dict) else {}


def _as_they_are(weights: Sequence[Path]) -> tuple[tuple[Path, int, int], ...]:
    """The files with their sizes and times, for one that is replaced is another; empty if one is gone."""
    try:
        return tuple((path, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in weights)
    except OSError:
        return ()
