"""What goes to the terminal, in a thread that nobody waits for, however slowly the terminal reads.

Textual's own thread takes thirty texts and lets the event loop wait from then on: a reader that stalled for four
seconds froze everything for two. Here whatever is written is taken at once. That it does not pile up is for those who
write: they ask whether there is room, and are told when there is (`tui/frames.py` for the screen, `tui/pictures/` for
pictures). There is none either while a line that swallows everything is behind (`tui/behind.py`).

There are two lanes. What is drawn goes in its order. Pictures in kitty's protocol, which come in pieces, go between, a
piece at a time: a picture that takes seconds on a slow line holds no key up.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import IO, Any, ClassVar

from textual.app import App

from tui.behind import QUESTION, Behind

SLACK = 4096
"Characters that may wait, or be on their way, before there is no room for more: less than a screen, more than a key."

WAITED = 0.05
"Seconds that a write takes where the terminal reads slower than is written."
REST = 4.0
"So many times as long as one had to wait, previews rest: what is on the line by then holds keys up."
LONG_REST = 3.0
"Seconds that they rest at most: a machine that was busy for a moment is no slow line, and sketches are waited for."

_END, _END_WRAPPED = "\x1b_Gm=0,q=2\x1b\\", "\x1bPtmux;\x1b\x1b_Gm=0,q=2\x1b\x1b\\\x1b\\"
"Ends a picture of which no more comes, and the terminal throws it away; the same for tmux to hand on."
_LEFT = "\x1b[?1049l"
"Leaves the screen that the pictures are on."
_LEAVING = "\x1b[?2004l"
"What Textual writes first when it is about to leave, while the keyboard is still read."
LAST_ANSWERS = 0.6
"Seconds that are waited then for answers, which the shell would take for typed."


class Writer(threading.Thread):
    """A thread that writes to a file, in the place of Textual's.

    Args:
        file: the terminal.
    """

    asks: ClassVar[bool] = False
    "Whether the terminal answers questions, as far as was seen before the app began."
    newest: ClassVar[Writer | None] = None
    "The one that writes to the terminal, for whoever hears it answer."

    def __init__(self, file: IO[str]) -> None:
        super().__init__(daemon=True, name="textual-output")
        self._behind = Behind(self.asks)
        Writer.newest = self
        self._file = file
        self._number = _number_of(file)
        self._changed = threading.Condition()
        self._texts: deque[str] = deque()
        self._pieces: deque[tuple[str, Callable[[], object] | None]] = deque()
        self._unread = 0
        "Characters of texts that the terminal has not taken."
        self._sending = False
        "Whether a piece is on its way."
        self._begun = ""
        "The piece that went last, where another of the same picture has to follow."
        self._asked: list[tuple[bool, Callable[[], object]]] = []
        self._rest_until = 0.0
        self._stopping = False
        self._leaving = False
        self._gone = False

    # ── what Textual calls ──────────────────────────────────────────────────────────────────────────────────────

    def write(self, text: str) -> None:
        """Takes a text; it is written after those before it."""
        with self._changed:
            if text and not self._gone:
                if _LEAVING in text:
                    self._hear_all()
                if _LEFT in text:
                    self._end_pictures()
                self._texts.append(text)
                self._unread += len(text)
                self._changed.notify_all()

    def isatty(self) -> bool:
        """As a terminal says."""
        return True

    def fileno(self) -> int:
        """The terminal's."""
        return self._file.fileno()

    def flush(self) -> None:
        """The thread does."""

    def stop(self) -> None:
        """Returns when the terminal has read everything, but for pictures, which would be deleted anyway."""
        with self._changed:
            self._end_pictures()
            self._stopping = True
            self._changed.notify_all()
        self.join()

    def _hear_all(self) -> None:
        """Nothing is asked any more; what was asked is answered, or it takes too long."""
        self._leaving = True
        self._changed.wait_for(lambda: self._gone or not self._behind.waits, LAST_ANSWERS)

    def _end_pictures(self) -> None:
        """Nothing of a picture is sent any more, and what deletes one now."""
        rest = "".join(piece for piece, _ in self._pieces if "a=d" in piece)
        if self._begun:
            rest, self._begun = (_END_WRAPPED if self._begun.startswith("\x1bP") else _END) + rest, ""
        self._pieces.clear()
        if rest:
            self._texts.append(rest)
            self._unread += len(rest)

    # ── what we call ────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, pieces: Iterable[str], then: Callable[[], object] | None = None) -> None:
        """Takes a picture in pieces, which go when there is nothing to draw, or between.

        Args:
            pieces: each a whole sequence.
            then: is called in any thread when the last of them was written.
        """
        some = list(pieces)
        with self._changed:
            if self._gone or not some:
                return
            self._pieces.extend((piece, None) for piece in some[:-1])
            self._pieces.append((some[-1], then))
            self._changed.notify_all()

    def has_room(self, for_pictures: bool = False, small: bool = False) -> bool:
        """Whether the terminal has read what was drawn before, and all pictures if one is to follow.

        Args:
            small: as in Behind.
        """
        with self._changed:
            return self._has_room(for_pictures, small)

    def _has_room(self, for_pictures: bool, small: bool = False) -> bool:
        if self._unread > SLACK or (for_pictures and (self._pieces or self._sending)):
            return False
        return self._behind.has_room(small=small)

    @property
    def budget(self) -> int | None:
        """As in Behind."""
        with self._changed:
            return self._behind.budget

    @property
    def slow(self) -> bool:
        """As in Behind."""
        with self._changed:
            return self._behind.slow

    @property
    def awaits(self) -> bool:
        """Whether the terminal is about to answer."""
        return self._behind.waits

    def hear(self) -> None:
        """The terminal has answered."""
        with self._changed:
            self._rest_after(self._behind.hear())
            self._changed.notify_all()
        self._tell()

    def when_room(self, call: Callable[[], object], for_pictures: bool = False) -> None:
        """Calls once there is room, in any thread; at once, if there is."""
        with self._changed:
            if not (room := self._has_room(for_pictures)):
                self._asked.append((for_pictures, call))
        if room:
            call()

    @property
    def rests(self) -> float:
        """Seconds for which nothing should be drawn that can be done without."""
        return max(0.0, self._rest_until - time.monotonic())

    # ── the thread ──────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Writes until it is stopped or the terminal is gone."""
        try:
            while self._wait():
                self._once()
        except (OSError, ValueError):  # the app looks after its terminal itself, and ends
            with self._changed:
                self._gone = True
                self._texts.clear()
                self._pieces.clear()
                self._unread, self._sending = 0, False
        self._tell()

    def _wait(self) -> bool:
        with self._changed:
            while not (self._texts or self._stopping or self._may_send()):
                waited = self._asked or self._pieces
                if not self._changed.wait(self._behind.patience if waited else None) and not self._pieces:
                    break
            return not self._stopping or bool(self._texts or self._pieces)

    def _may_send(self) -> bool:
        return bool(self._pieces) and self._behind.has_room(len(self._pieces[0][0]))

    def _once(self) -> None:
        """All that is to be drawn, and one piece of a picture."""
        with self._changed:
            text = "".join(self._texts)
            self._texts.clear()
        if text:
            self._out(text)
            with self._changed:
                self._unread -= len(text)
        self._tell()
        with self._changed:
            if not self._may_send():
                return
            piece, then = self._pieces.popleft()
            self._sending = True
            self._begun = piece if "m=1" in piece else ""
        self._out(piece)
        with self._changed:
            self._sending = False
        if then is not None:
            then()
        self._tell()

    def _out(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        with self._changed:
            if not self._leaving and self._behind.ask(len(data)):
                text, data = text + QUESTION, data + QUESTION.encode()
        began = time.monotonic()
        if self._number is None:
            self._file.write(text)
            self._file.flush()
        else:
            _write_all(self._number, data)
        self._rest_after(time.monotonic() - began)

    def _rest_after(self, waited: float) -> None:
        if waited > WAITED:
            self._rest_until = time.monotonic() + min(self.rests + REST * waited, LONG_REST)

    def _tell(self) -> None:
        """Those who asked for room."""
        with self._changed:
            told = [one for one in self._asked if self._has_room(one[0])]
            self._asked = [one for one in self._asked if one not in told]
        for _, call in told:
            call()


def _number_of(file: IO[str]) -> int | None:
    try:
        return file.fileno()
    except (OSError, ValueError, AttributeError):  # a file in memory
        return None


def _write_all(number: int, data: bytes) -> None:
    """All of it, where a write that a signal or somebody's O_NONBLOCK cuts short takes only some: what is lost here is
    counted as shown. Raises OSError if the terminal is gone."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(number, view) :]
        except BlockingIOError:
            select.select([], [number], [])


def writer_of(app: App[Any]) -> Writer | None:
    """The one that an app writes with; None where it draws into nothing, or has not begun."""
    writer = getattr(app._driver, "_writer_thread", None)
    return writer if isinstance(writer, Writer) else None
