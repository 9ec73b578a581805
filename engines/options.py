"""What an engine is told once, when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.files import PATTERN


@dataclass(frozen=True, slots=True)
class Options:
    """How an engine computes, and where it saves."""

    pictures: Path
    "Where pictures are saved unless a request says otherwise."
    device: str = ""
    "cpu, cuda, cuda:N, mps; empty for the best there is."
    threads: int = 0
    "CPU threads for torch; 0 for one a core."
    file_name: str = PATTERN
    "The pattern of file names, without suffix; see engines.files."
