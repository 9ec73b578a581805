"""Keys that come in one piece: over a slow line two keys arrive in one read, and neither may become text."""

from __future__ import annotations

from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.events import Key
from textual.message import Message

ESC = "\x1b"


class Keyboard(XTermParser):
    """Textual's parser, but that Alt with a letter ends where the next sequence begins.

    Textual takes ESC and a letter for Alt with that letter only when nothing follows for a tenth of a second. Where an
    arrow follows in the same read (`ESC w ESC [ C`), it writes `^w` into the text instead.
    """

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[Key]:
        """As in Textual, which takes Alt with a sign (`ESC .`) for the sign alone, and writes it."""
        for event in super()._sequence_to_key_events(sequence, alt):
            if alt and len(sequence) == 1 and sequence.isprintable() and not event.key.startswith("alt+"):
                event = Key(f"alt+{event.key}", None)
            yield event

    def feed(self, data: str) -> Iterable[Message]:
        """As in Parser."""
        pieces = data.split(ESC)
        if not data or len(pieces) == 1:
            yield from super().feed(data)
            return
        if pieces[0]:
            yield from super().feed(pieces[0])
        for piece in pieces[1:]:
            if self._timeout_time is not None:  # what was begun is all that there is of it
                self._timeout_time = 0.0
                yield from self.tick()
            yield from super().feed(ESC + piece)
