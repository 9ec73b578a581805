"""How far numbers of requests and their steps may go, and the check of one."""

from __future__ import annotations

import math

from engines.errors import InvalidRequest

MAX_STEPS = 1000
"Denoising steps."
MAX_GUIDANCE = 100.0
"Classifier-free guidance."
MAX_IMAGE = 1 << 28
"Pixels of a file that is taken, and of a result: 16384x16384, in Pillow 1 GiB. What is made can be opened again."


def check_number(what: str, value: float, low: float, high: float, field: str) -> None:
    """Raises InvalidRequest unless low ≤ value ≤ high; NaN and infinities are refused."""
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidRequest(f"{what} must be {low:g} to {high:g}, not {value:g}", "", field)
