"""Heavy imports without the garbage collector, and out of its sight for good."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imports_that_stay() -> Iterator[None]:
    """For an import of torch or its friends: what is there at the end is never looked at by the collector again.

    They make half a million objects. Collections during the import cost half a second, and each full one afterwards
    230–500 ms, in which no thread runs. Models come later and can be collected.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_on:
            gc.enable()
