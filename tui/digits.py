"""A number that is typed on a line that has no field for it: a slider's, or a LoRA's."""

from __future__ import annotations

import time

LONGEST = 6
"Characters of it."
PAUSE = 2.0
"Seconds without a key after which the next digit begins another number."


class Digits:
    """What is typed so far; it counts as soon as it is a number, and a 0 by itself resets."""

    def __init__(self) -> None:
        self.text = ""
        self.before = 0.0
        "What was there when the number was begun."
        self._last = 0.0

    def __bool__(self) -> bool:
        return bool(self.text)

    @property
    def fresh(self) -> bool:
        """Whether the next digit would go on with it."""
        return bool(self.text) and time.monotonic() - self._last <= PAUSE

    def take(self, key: str, character: str | None, value: float, now: float | None = None) -> bool:
        """Whether a key was one of a number; it is in `text` then.

        Args:
            value: what is there now.
            now: seconds; of the clock if not given.
        """
        now = time.monotonic() if now is None else now
        if now - self._last > PAUSE:
            self.text = ""
        before, letter = self.text, character or ""
        if key == "backspace":
            self.text = self.text[:-1]
        elif letter and letter in "0123456789.,-" and len(self.text) < LONGEST:
            self.text = letter if self.text == "0" and letter.isdecimal() else self.text + letter.replace(",", ".")
        else:
            return False
        if not before:
            self.before = value
        self._last = now
        return True

    def value(self, neutral: float, low: float, high: float) -> float | None:
        """The number, within the ends; None while it is none.

        Args:
            neutral: what a 0 by itself stands for. To set 0, type it as 0.0, or mute.
        """
        if self.text == "0":
            return neutral
        try:
            return min(high, max(low, float(self.text))) if not self.text.endswith(".") else None
        except ValueError:
            return None

    def clear(self) -> bool:
        """Away with what was typed; whether there was anything."""
        there, self.text = bool(self.text), ""
        return there
