"""When Python's garbage collector may run: not while somebody types.

With torch imported there are half a million objects to look through. A full collection takes 230–500 ms then, and the
automatic ones came every two seconds while typing: they were most of what made a key late (p99 300 ms). So in the
workbench the collector is off; what the libraries made is frozen once they are imported (`engines.local`), the young
objects are collected as soon as there are enough of them, and all when nobody has typed for a while.

Young objects are many: whatever Textual draws of a picture refers to itself (`Strip.divide` keeps the strip in the
strip's own cache), and previews in half-blocks leave 75 000 of them a second. Collected every two seconds they took 30
to 55 ms, which was what made the latest keys late; a tenth of them takes a tenth.
"""

from __future__ import annotations

import gc
import time

PERIOD = 0.25
"Seconds between two looks."
ENOUGH = 10_000
"Young objects that are worth a collection of some milliseconds."
QUIET = 1.5
"Seconds without a key after which a full collection is no nuisance."
FULL_AT_LEAST = 30.0
"Seconds between two full collections, at least."
FULL_AT_MOST = 300.0
"Seconds after which one runs, typing or not, so that memory stays bounded."


class Tidy:
    """Collects in place of the automatic collector. For the interface's thread."""

    def __init__(self) -> None:
        self._last_full = time.monotonic()
        self._last_key = 0.0

    def begin(self) -> None:
        """Takes over after the first paint; whatever was made until then stays, and is never looked at again."""
        gc.freeze()
        gc.disable()

    def key_pressed(self) -> None:
        """Somebody types."""
        self._last_key = time.monotonic()

    def look(self) -> None:
        """Called every PERIOD."""
        now = time.monotonic()
        quiet = now - self._last_key >= QUIET and now - self._last_full >= FULL_AT_LEAST
        if quiet or now - self._last_full >= FULL_AT_MOST:
            self._last_full = now
            gc.collect()
        elif gc.get_count()[0] >= ENOUGH:
            gc.collect(0)
