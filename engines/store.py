"""The queue and the history, in one SQLite file that several programs share.

The table is the queue: a job is in it before anyone is told `Queued`, and a picture's row is committed together with
the end of its job, after its file is on disk. `engines.database` keeps the file, `engines.history` what was made,
`engines.jobs` what is to be made and by whom.
"""

from __future__ import annotations

from engines.database import MIGRATIONS
from engines.history import UNFIT, Made
from engines.jobs import MAX_ATTEMPTS, Adopted, EngineKind, Jobs, State, cell_of, group_of, of_sweep, scores_of

__all__ = [
    "MAX_ATTEMPTS",
    "MIGRATIONS",
    "UNFIT",
    "Adopted",
    "EngineKind",
    "Made",
    "State",
    "Store",
    "cell_of",
    "group_of",
    "of_sweep",
    "scores_of",
]


class Store(Jobs):
    """The file with all its tables; every method may be called from any thread, but may wait for the disk.

    Raises (every method):
        StorageError: the file can't be read or written.
        DiskFull: no space is left.
    """
