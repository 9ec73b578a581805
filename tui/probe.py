"""Programs in a pseudo-terminal of their own, as a person would meet them: what they draw and when, and how late a
typed key is seen. And programs that print lines, with what they took of time and memory.

Nothing that is started here outlives its `with` block or its call, whatever ends that.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from engines.errors import SafelightError

SIZE = (45, 160)
"Rows and columns of a terminal."
GAPS = (0.02, 0.06)
"Seconds between two typed keys, drawn evenly from between these: a quick typist, and never in step with a timer."
PATIENCE = 2.0
"Seconds after which a key that was not seen counts as lost."
KEPT = 65_536
"Bytes of output in which text is looked for."
PACKET = 1000
"Bytes that a line carries at once."
SLOW = 1024
"Of it that is read at once on a slow line."
CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])|\r|\n")
"What a terminal obeys instead of showing it."
ROOT = str(Path(__file__).resolve().parent.parent)
START = "import sys; sys.path.append(sys.argv.pop(1)); "
"""How a Python of ours begins. With -P the folder one is in isn't looked at, where a `tui` of somebody else's may be;
the end of the path is for a checkout that is not installed."""


def python(code: str, *arguments: str) -> list[str]:
    """The command for a fresh Python that runs `code`, with our packages on its path."""
    return [sys.executable, "-P", "-c", START + code, ROOT, *arguments]


def alphabet() -> list[str]:
    """About 1,500 letters of one cell that safelight's screen has nowhere, so that each is seen when it is echoed."""
    blocks = ((0x100, 0x2AF), (0x3B1, 0x3C9), (0x400, 0x52F), (0x531, 0x586), (0x10D0, 0x10FA), (0x1401, 0x166C))
    found = (chr(code) for first, last in blocks for code in range(first, last + 1))
    return [c for c in found if c.isalpha() and unicodedata.normalize("NFKC", c) == c]


@dataclass(frozen=True, slots=True)
class Typed:
    """What became of the keys of one spell of typing."""

    late: tuple[float, ...]
    "Seconds from the key to the first output that shows it, in the order in which they were seen."
    lost: int
    "Keys that were not seen within PATIENCE."


PLAIN: Mapping[bytes, bytes] = {b"\x1b[c": b"\x1b[?62;22c", b"\x1b[5n": b"\x1b[0n"}
"""What every terminal is asked before it is drawn on, and what a plain one answers (DA1): colours, and no pictures; and
that it has read what came before (DSR)."""
KITTY: Mapping[bytes, bytes] = {
    **PLAIN,
    b"\x1b[c": b"\x1b[?62;c",
    b"a=q": b"\x1b_Gi=31;OK\x1b\\",
    b"\x1b[16t": b"\x1b[6;20;10t",
    b"\x1b[>0q": b"\x1bP>|kitty(0.41.1)\x1b\\",
}
"What a kitty answers, with cells of 10x20 pixels."
SIXEL: Mapping[bytes, bytes] = {
    **PLAIN,
    b"\x1b[c": b"\x1b[?62;4;22c",
    b"\x1b[16t": b"\x1b[6;20;10t",
    b"\x1b[>0q": b"\x1bP>|XTerm(379)\x1b\\",
}
"What an xterm with sixels answers."


class Terminal:
    """A program in a pseudo-terminal that says no more of itself than it is told to. A context manager: it ends the
    program.

    Args:
        command: of the program.
        environment: its own.
        answers: what it hears when it asks something.
        rate: bytes a second that are read of what it writes, at most; 0 for all at once.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        answers: Mapping[bytes, bytes] = PLAIN,
        rate: float = 0.0,
    ) -> None:
        self.answers = answers
        self.rate = rate
        self.record: bytearray | None = None
        "All that is read from when this is set."
        self.count = 0
        "Bytes that were read."
        self._asking = b""
        self._due = 0.0
        self.began = time.perf_counter()
        "When the program was started."
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                termios.tcsetwinsize(0, SIZE)
                os.execve(command[0], list(command), dict(environment))
            finally:
                os._exit(127)
        self._kept = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)  # it is the leader of its session
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
        os.close(self._fd)

    def read(self, seconds: float) -> bytes:
        """What the program wrote since, waiting for it at most so long; empty if nothing came.

        Raises:
            SafelightError: the program has ended.
        """
        if not (data := self._arrived(seconds)):
            return b""
        self.count += len(data)
        if self.record is not None:
            self.record += data
        self._asking = (self._asking + data)[-(len(data) + 7) :]  # a question may be cut in two
        for question in sorted((q for q in self.answers if q in self._asking), key=self._asking.index):
            self._say(self.answers[question] * self._asking.count(question))
            self._asking = self._asking.replace(question, b"")
        self._asking = self._asking[-7:]
        self._kept = (self._kept + data)[-KEPT:]
        return data

    def _arrived(self, seconds: float) -> bytes:
        """As read; nothing is done with it yet."""
        if (until := self._due - time.perf_counter()) > 0:  # a slow line has not carried what was read last
            time.sleep(min(until, max(seconds, 0.0)))
            if until > seconds:
                return b""
            seconds -= until
        if not select.select([self._fd], [], [], max(seconds, 0.0))[0]:
            return b""
        data = self._written(SLOW if self.rate else KEPT)
        if self.rate:
            self._due = max(self._due, time.perf_counter() - 0.05) + len(data) / self.rate
        return data

    def _written(self, most: int) -> bytes:
        try:
            data = os.read(self._fd, most)
        except OSError:  # how Linux says that nobody holds the other end any more
            data = b""
        if not data:
            raise SafelightError("a program that was measured ended too early", f"it said: {self.text()[-200:]}")
        return data

    def _say(self, data: bytes) -> None:
        os.write(self._fd, data)

    def resize(self, rows: int, columns: int) -> None:
        """As somebody who draws at the window's corner."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def rest(self, quiet: float, seconds: float) -> None:
        """Reads until nothing was written for so long, or for `seconds` at most."""
        until = time.perf_counter() + seconds
        while self.read(quiet) and time.perf_counter() < until:
            pass

    def text(self) -> str:
        """What was written since `forget`, at most KEPT bytes of it, without what steers the terminal."""
        return CONTROL.sub(b"", self._kept).decode("utf-8", "replace")

    def forget(self) -> None:
        """Text is looked for in what comes from here on."""
        self._kept = b""

    def write(self, keys: str) -> None:
        """Types."""
        self._say(keys.encode())

    def painted(self, seconds: float) -> float:
        """Seconds from the start until the first whole frame: until the last row is drawn for the first time.

        Raises:
            SafelightError: that took longer than `seconds`.
        """
        last = b"\x1b[%d;1H" % SIZE[0]
        before = b""
        while (left := self.began + seconds - time.perf_counter()) > 0:
            data = before + self.read(left)
            if last in data:
                return time.perf_counter() - self.began
            before = data[-16:]
        raise SafelightError(f"nothing was drawn within {seconds:g} s", "a machine so busy can't be measured")

    def wait(self, pattern: str, seconds: float) -> None:
        """Reads until the text matches. Raises SafelightError if that takes longer than `seconds`."""
        until = time.perf_counter() + seconds
        while not re.search(pattern, self.text()):
            left = until - time.perf_counter()
            if left <= 0:
                raise SafelightError(f"'{pattern}' was not seen within {seconds:g} s", "look into safelight's log")
            self.read(left)

    def type(self, letters: Iterator[str], count: int, until: Callable[[], bool] = lambda: False) -> Typed:
        """Types letters at random intervals, whether or not the ones before were seen, and watches for each.

        Args:
            letters: each different from all that is on the screen.
            count: at most so many.
            until: looked at before each key; no more are typed when it says so.
        """
        gaps = random.Random(1)  # the same rhythm every time
        waiting: dict[bytes, float] = {}
        late: list[float] = []
        typed = 0
        before = b""
        due = time.perf_counter()
        while True:
            now = time.perf_counter()
            if typed < count and now >= due:
                if until():
                    count = typed
                    continue
                letter = next(letters)
                waiting[letter.encode()] = now
                self.write(letter)
                typed += 1
                due = now + gaps.uniform(*GAPS)
            if typed >= count and (not waiting or now > max(waiting.values()) + PATIENCE):
                return Typed(tuple(late), len(waiting))
            data = self.read(due - time.perf_counter() if typed < count else 0.05)
            if not data:
                continue
            at = time.perf_counter()
            for letter_bytes in [b for b in waiting if b in before + data]:
                late.append(at - waiting.pop(letter_bytes))
            before = data[-3:]  # a letter may be cut in two by the end of a read


class Distant(Terminal):
    """A terminal at the end of a line that swallows whatever it is given, as ssh and a network do, and carries it when
    it can.

    Args:
        command, environment, answers: as of a Terminal.
        pace: bytes a second that the line carries.
        trip: seconds there and back.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        answers: Mapping[bytes, bytes],
        pace: float,
        trip: float,
    ) -> None:
        super().__init__(command, environment, answers)
        self._pace = pace
        self._way = trip / 2
        self._down: deque[tuple[float, bytes]] = deque()
        self._up: deque[tuple[float, bytes]] = deque()
        self._free = 0.0
        "When the line has carried all that it was given."

    def _arrived(self, seconds: float) -> bytes:
        until = time.perf_counter() + seconds
        while True:
            now = time.perf_counter()
            while self._up and self._up[0][0] <= now:
                os.write(self._fd, self._up.popleft()[1])
            if self._down and self._down[0][0] <= now:
                return self._down.popleft()[1]
            due = min([until, *(queue[0][0] for queue in (self._down, self._up) if queue)])
            if select.select([self._fd], [], [], max(0.0, due - now))[0]:
                data = self._written(KEPT)
                for at in range(0, len(data), PACKET):
                    packet = data[at : at + PACKET]
                    self._free = max(self._free, time.perf_counter()) + len(packet) / self._pace
                    self._down.append((self._free + self._way, packet))
            elif time.perf_counter() >= until:
                return b""

    def _say(self, data: bytes) -> None:
        self._up.append((time.perf_counter() + self._way, data))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program that prints lines ended."""

    code: int
    "Its exit code, negative for a signal."
    peak: int
    "Bytes of memory that it held at most (its resident set)."
    said: str
    "What it wrote on stderr."


def follow(command: Sequence[str], environment: Mapping[str, str], each: Callable[[float, str], None]) -> Ended:
    """Runs a program to its end, and calls `each` with the seconds since its start and every line it prints."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            for line in child.stdout:
                each(time.perf_counter() - began, line)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            child.stdout.close()
        said.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        return Ended(child.returncode, usage.ru_maxrss * unit, said.read().decode("utf-8", "replace"))
