"""Keys that come in one piece: over a slow line two keys arrive in one read, and neither may become text."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual._xterm_parser import XTermParser
from textual.events import Key
from textual.message import Message

from tui.behind import ANSWER as READ

ESC = "\x1b"
ANSWER = re.compile(r"\x1bP>\||\x1b_G")
"How a terminal's name and its word on pictures begin."
BEGUN = re.compile(r"\x1b(?:_|P>?|\[[?6]?[\d;]*)?\Z")
"What may be the first of such an answer, at the end of a read."
ANSWER_ENDS = "\x1b\\"
SHORT_ANSWER = re.compile(r"\x1b\[\?[\d;]*c|\x1b\[6;\d+;\d+t")
"What it is, and how large its cells are."


class Keyboard(XTermParser):
    """Textual's parser, but that Alt with a letter ends where the next sequence begins.

    Textual takes ESC and a letter for Alt with that letter only when nothing follows for a tenth of a second. Where an
    arrow follows in the same read (`ESC w ESC [ C`), it writes `^w` into the text instead.

    What was typed before the app began comes first, and answers of the terminal that are late are no keys.
    """

    ahead: ClassVar[str] = ""
    "What was typed while the terminal was asked who it is, and since."
    expects: ClassVar[float] = 0.0
    "Until when answers may come that were not there in time, on time.monotonic's clock."
    waits: ClassVar[bool] = False
    "Whether keys are kept until there is something to type into."
    awaits: ClassVar[list[Callable[[], bool]]] = []
    "What knows whether the terminal is about to say that it has read what was drawn."
    hear: ClassVar[list[Callable[[], object]]] = []
    "What is called each time that it says so."

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._answer = ""
        "What is known of one that has begun and not ended."
        self._begun = ""
        "What may be the beginning of one; the next read tells, or that there is none."

    def tick(self) -> Iterable[Message]:
        """As in Parser; ten times a second at least."""
        if not self.waits and (typed := self.ahead):
            Keyboard.ahead = ""
            yield from self.feed(typed)
        if self._begun:
            begun, self._begun = self._begun, ""
            yield from super().feed(begun)
        yield from super().tick()

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[Key]:
        """As in Textual, which takes Alt with a sign (`ESC .`) for the sign alone, and writes it."""
        for event in super()._sequence_to_key_events(sequence, alt):
            if alt and len(sequence) == 1 and sequence.isprintable() and not event.key.startswith("alt+"):
                event = Key(f"alt+{event.key}", None)
            yield event

    def feed(self, data: str) -> Iterable[Message]:
        """As in Parser."""
        if self.waits and data:
            Keyboard.ahead += self._without_read(data)
            return
        given = bool(data)
        data, self._begun = self._begun + data, ""
        data = self._without_read(data)
        if self.expects and time.monotonic() >= self.expects:
            Keyboard.expects = 0.0
        if (self.expects or any(awaits() for awaits in self.awaits)) and (begun := BEGUN.search(data)) is not None:
            data, self._begun = data[: begun.start()], begun[0]
        if not data and (self._begun or given):
            return
        text = self._without_answers(data)
        if data and not text:  # nothing at all would be the end
            return
        pieces = text.split(ESC)
        if len(pieces) == 1:
            yield from super().feed(text)
            return
        if pieces[0]:
            yield from super().feed(pieces[0])
        for piece in pieces[1:]:
            if self._timeout_time is not None:  # what was begun is all that there is of it
                self._timeout_time = 0.0
                yield from self.tick()
            yield from super().feed(ESC + piece)

    def _without_read(self, data: str) -> str:
        """What is left without the answers of `tui.behind`, each told."""
        if READ not in data:
            return data
        for hear in self.hear * data.count(READ):
            hear()
        return data.replace(READ, "")

    def _without_answers(self, data: str) -> str:
        """What is left of a read without answers to the questions of `tui.pictures.asking`, whole or in part."""
        if self._answer:
            data, self._answer = self._answer + data, ""
        while (found := ANSWER.search(data)) is not None:
            end = data.find(ANSWER_ENDS, found.end())
            if end < 0:  # the rest of it comes with the next read; of what it says only its end is of use
                self._answer = found[0] + (ESC if data.endswith(ESC) else "")
                return data[: found.start()]
            data = data[: found.start()] + data[end + len(ANSWER_ENDS) :]
        return SHORT_ANSWER.sub("", data)
