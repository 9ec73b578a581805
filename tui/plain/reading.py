"""What is typed in line mode: lines of a terminal, with readline where it can be had, or those of a script.

While a job runs nothing is asked for, and the terminal keeps what is typed; lines that came are looked at, so that a
/cancel is heard. Ctrl+C empties the line that is typed, or is counted for the job that runs.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

PROMPT = "> "
LONGEST = 1_000_000
"Bytes of one line that are read; what is longer is cut, and refused as too long a prompt."
PATIENCE = 3
"So many Ctrl+C during one job end the program, whatever the engine is doing."


class Emptied(Exception):
    """Ctrl+C while a line was typed."""


class Lines:
    """Lines from a file descriptor.

    Args:
        source: the descriptor.
        editing: whether lines are edited by readline, which takes a terminal that can move its cursor.
    """

    def __init__(self, source: int = 0, editing: bool = False) -> None:
        self.asked = os.isatty(source)
        "Whether somebody types, and is asked for every line."
        self.interrupts = 0
        "Ctrl+C since the last line was asked for."
        self.number = 0
        "Of the last line, from 1."
        self._source = source
        self._encoding = getattr(sys.stdin, "encoding", None) or "utf-8"
        self._kept: deque[str | None] = deque()
        self._rest = b""
        self._ended = False
        self._asking = False
        self._before: Any = None
        self._screen: TextIO | None = None
        self._readline: Any = _readline() if editing and self.asked and sys.stdout.isatty() else None
        if self._readline is not None:
            sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
            # readline draws to C's stdout, which is descriptor 1; streams.divert has pointed that at the log
            self._screen = open(1, "w", 1, sys.stdout.encoding, "replace", closefd=False)  # noqa: SIM115

    # ── Ctrl+C ──────────────────────────────────────────────────────────────────────────────────────────────────

    def listen(self) -> None:
        """Takes Ctrl+C over where somebody types; a script is ended by it, as every command is."""
        main = threading.current_thread() is threading.main_thread()
        if self.asked and main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._before = signal.signal(signal.SIGINT, self._interrupt)

    def forget(self) -> None:
        """Puts back what was there before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._asking:
            raise Emptied
        self.interrupts += 1
        if self.interrupts >= PATIENCE and callable(self._before):
            self._before(number, frame)

    # ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, prompt: str = PROMPT) -> str | None:
        """The next line; None at the end of all."""
        if self._kept:
            line = self._kept.popleft()
            if line is not None and self.asked:
                self._write(f"{prompt}{line}\n")  # it was typed a while ago
            return self._counted(line)
        return self._counted(self._asked_for(prompt))

    def agree(self, question: str) -> bool:
        """Whether somebody says yes to it now; nobody who could is no."""
        return self.asked and (self._asked_for(f"{question} y or n: ", "") or "").strip().lower() in ("y", "yes")

    def _asked_for(self, prompt: str, emptied: str | None = None) -> str | None:
        """What is typed now; after Ctrl+C it is asked for again, unless `emptied` is as good."""
        while True:
            try:
                try:
                    self._asking = self.asked
                    line = self._edited(prompt) if self._readline is not None else self._plain(prompt)
                finally:
                    self._asking = False
                break
            except Emptied:
                self._write("\n")
                if emptied is not None:
                    return emptied
        self.interrupts = 0
        if line is None and self.asked:
            self._write("\n")  # the shell's prompt begins a line of its own
        return line

    def typed(self) -> Iterator[str]:
        """Lines that somebody typed while nothing was asked for; the end of all is kept for `ask`."""
        while self.asked and not self._ended and select.select([self._source], [], [], 0)[0]:
            line = self._next()
            if line is None:
                self._kept.append(None)
                return
            yield line

    def keep(self, line: str) -> None:
        """A line that was typed too early: it is handed out when its turn comes."""
        self._kept.append(line)

    def remember(self, lines: Sequence[str], complete: Callable[[str], Sequence[str]]) -> None:
        """What the arrow keys bring back, the oldest first, and what Tab completes a line to."""
        if (readline := self._readline) is None:
            return
        for line in lines:
            readline.add_history(line)

        def nth(text: str, number: int) -> str | None:
            begun = readline.get_line_buffer()[: readline.get_endidx()]
            found = [line[len(begun) - len(text) :] for line in complete(begun)]
            return found[number] if number < len(found) else None

        readline.set_completer(nth)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")

    def _counted(self, line: str | None) -> str | None:
        self.number += line is not None
        return line

    def _plain(self, prompt: str) -> str | None:
        if self.asked:
            self._write(prompt)
        return self._next()

    def _write(self, text: str) -> None:
        """To who types: where stdout is a file, it is no place for what is asked."""
        print(text, end="", file=sys.stdout if sys.stdout.isatty() else sys.stderr, flush=True)

    def _edited(self, prompt: str) -> str | None:
        with self._on_screen():
            try:
                return input(prompt)
            except EOFError:
                return None
            except OSError:  # the terminal is gone
                return None

    @contextmanager
    def _on_screen(self) -> Iterator[None]:
        """Descriptor 1 is the terminal again while a line is typed."""
        ours, log = sys.stdout, os.dup(1)
        assert self._screen is not None
        try:
            os.dup2(ours.fileno(), 1)
            sys.stdout = self._screen
            yield
        finally:
            sys.stdout = ours
            os.dup2(log, 1)
            os.close(log)

    def _next(self) -> str | None:
        """One line, waited for; a terminal gives one at a time, so that nothing is held back here of what it has."""
        while b"\n" not in self._rest and not self._ended:
            try:
                read = os.read(self._source, 65536)
            except OSError as e:
                if e.errno != errno.EIO:  # a terminal that is gone
                    raise
                read = b""
            self._ended = not read
            if len(self._rest) < LONGEST or b"\n" in read:
                self._rest += read
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(self._encoding, "replace").rstrip("\r")


def _readline() -> Any:
    """The module, told to leave the terminal's modes alone; None where Python was built without it."""
    try:
        import readline
    except ImportError:
        return None
    if "libedit" not in (readline.__doc__ or ""):
        for plainly in ("enable-bracketed-paste off", "enable-meta-key off", "bell-style none"):
            readline.parse_and_bind(f"set {plainly}")
    return readline
