"""A number that is typed on a line that has no field for it: a slider's, or a LoRA's."""

from __future__ import annotations

LONGEST = 6
"Characters of it."


class Digits:
    """What is typed so far; it counts as soon as it is a number, and a 0 by itself resets."""

    def __init__(self) -> None:
        self.text = ""

    def __bool__(self) -> bool:
        return bool(self.text)

    def take(self, key: str, character: str | None) -> bool:
        """Whether a key was one of a number; it is in `text` then."""
        letter = character or ""
        if key == "backspace":
            self.text = self.text[:-1]
        elif letter and letter in "0123456789.,-" and len(self.text) < LONGEST:
            self.text += letter.replace(",", ".")
        else:
            return False
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
