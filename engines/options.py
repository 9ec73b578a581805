"""What an engine is told once, when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from engines.errors import InvalidRequest
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


def check_device(name: str) -> None:
    """Raises InvalidRequest for what is no device's name; whether it is here is found when it is needed."""
    if name.strip() and not re.fullmatch(r"cpu|mps|cuda(:\d{1,2})?", name.strip().lower()):
        raise InvalidRequest(f"no device '{name.strip()[:40]}'", "one of cpu, cuda, cuda:N, mps", "device")
