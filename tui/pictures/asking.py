"""What the terminal is asked before the workbench opens: who it is, which pictures it takes, how large its cells are.

The questions go out first and the answers are read last, so that what is imported meanwhile costs no time twice. The
last question, which every terminal answers (DA1), tells that no more answers come. What else is read was typed by
somebody and is handed on; answers that are late are dropped by `tui.keyboard`.

XTVERSION and the size of a cell are xterm's (ctlseqs: CSI > q, CSI 16 t), the graphics query is kitty's graphics
protocol's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tui.lettering import VARIABLE, utf8

PATIENCE = 1.0
"Seconds that are waited for answers, from the first question on."
TMUX_PATIENCE = 0.5
"Seconds that tmux may take to tell of itself."
ID = 31
"Of the picture that is asked about, and never sent."

QUERY = f"\x1b_Gi={ID},s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
"Whether a picture of one pixel could be shown. tmux would take it for the pane's title."
NO_PICTURES, APPLE = ("linux", "vt100", "vt102", "vt220", "ansi", "cygwin"), "Apple_Terminal"
"TERMs, and a TERM_PROGRAM, that are not asked whether they show pictures."
VERSION, CELL, FENCE = "\x1b[>0q", "\x1b[16t", "\x1b[c"
LETTER = "\x1b7\x1b[6n\xe9\x1b[6n\x1b8\x1b[K"
"""Where the cursor is before and after a letter of two bytes, neither of them C1: one column on where UTF-8 is known.
The letter is taken away again."""

_VERSION = re.compile(rb"\x1bP>\|([^\x1b\x07]*)(?:\x1b\\|\x07)")
_KITTY = re.compile(rb"\x1b_Gi=%d[^;]*;([^\x1b]*)\x1b\\" % ID)
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_PLACE = re.compile(rb"\x1b\[(\d{1,4});(\d{1,4})R")
_FENCE = re.compile(rb"\x1b\[\?([\d;]*)c")


@dataclass(frozen=True, slots=True)
class Tmux:
    """What tmux says of itself and of the terminal that it is shown in."""

    version: str = ""
    "For instance 3.5a."
    passthrough: bool = False
    "Whether it hands on what is wrapped for the terminal."
    client: str = ""
    "The terminal's TERM."
    features: tuple[str, ...] = ()
    "What it thinks of it: 'sixel' above all."
    cell: tuple[int, int] | None = None
    "Pixels of a cell there."
    seat: str = ""
    "Which terminal it is: its device."
    utf8: bool | None = None
    "Whether it takes that terminal for one that knows UTF-8."


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered."""

    name: str = ""
    "What the terminal calls itself, with its version: 'kitty(0.41.1)', 'XTerm(379)'; empty if it doesn't say."
    kitty: bool = False
    "Whether it would take a picture in kitty's protocol; which says nothing of placeholders."
    sixel: bool = False
    "Whether it takes sixels."
    cell: tuple[int, int] | None = None
    "Width and height of a cell in pixels."
    answered: bool = False
    "Whether it answered at all."
    typed: str = ""
    "What somebody typed meanwhile."
    tmux: Tmux | None = None
    "Where it is tmux that was asked."
    utf8: bool | None = None
    "Whether it knows UTF-8; None if it wasn't asked or didn't say."

    @property
    def knows_utf8(self) -> bool | None:
        """As utf8, but of the terminal that tmux is shown in: tmux itself always does."""
        return self.utf8 if self.tmux is None else self.tmux.utf8


def questions(environment: Mapping[str, str]) -> str:
    """What is asked. What would be shown as text where it isn't known is not asked there: Linux' console and Apple's
    Terminal have no pictures, and tmux takes kitty's sequences for the pane's title."""
    asked = "TMUX" in environment or VARIABLE in environment or utf8(environment)
    letter = "" if asked else LETTER
    if environment.get("TERM", "").partition("-")[0] in NO_PICTURES or environment.get("TERM_PROGRAM") == APPLE:
        return letter + FENCE
    return letter + VERSION + ("" if "TMUX" in environment else QUERY) + CELL + FENCE


class Asking:
    """Questions that are under way. `finish` has to be called: until then nothing that is typed is shown.

    Args:
        read, write: file descriptors of the terminal.
        environment: of this process.
        patience: as PATIENCE.
    """

    def __init__(self, read: int, write: int, environment: Mapping[str, str], patience: float = PATIENCE) -> None:
        self._read = read
        self._began = time.monotonic()
        self._until = self._began + patience
        self._tmux: subprocess.Popen[bytes] | None = None
        self._before: list[Any] | None = None
        self._write = write
        inside = "TMUX" in environment
        try:
            self._before = termios.tcgetattr(read)
            quiet = termios.tcgetattr(read)
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 0, 0
            termios.tcsetattr(read, termios.TCSANOW, quiet)
            os.write(write, questions(environment).encode())
        except (termios.error, OSError):
            self._until = 0.0
        if inside:
            with contextlib.suppress(OSError):
                self._tmux = subprocess.Popen(
                    ["tmux", "display", "-p", _TMUX], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip

    def wait(self, patience: float) -> None:
        """Another patience than the first, counted from the first question, too."""
        if self._until:
            self._until = self._began + patience

    def finish(self) -> Answers:
        """What was answered; waits for the rest of it. The terminal is as it was before."""
        said = b""
        try:
            while not _FENCE.search(said) and (left := self._until - time.monotonic()) > 0:
                if select.select([self._read], [], [], left)[0]:
                    if not (more := os.read(self._read, 4096)):
                        break
                    said += more
        except (OSError, ValueError):
            pass
        finally:
            if self._before is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._read, termios.TCSANOW, self._before)
        found = understood(said, self._told_by_tmux())
        return replace(found, cell=cell_of(self._read) or found.cell)

    def _told_by_tmux(self) -> Tmux | None:
        if self._tmux is None:
            return None
        try:
            told, _ = self._tmux.communicate(timeout=TMUX_PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self._tmux.kill()
            return Tmux()
        return tmux(told.decode(errors="replace"))


_TMUX = (
    "#{version}|#{allow-passthrough}|#{client_termname}|#{client_termfeatures}|"
    "#{client_cell_width}x#{client_cell_height}|#{client_tty}|#{client_utf8}"
)


def cell_of(terminal: int) -> tuple[int, int] | None:
    """Width and height of a cell in pixels, as the kernel was told by the terminal; None if it wasn't."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    return (width // columns, height // rows) if columns and rows and width >= columns and height >= rows else None


def tmux(line: str) -> Tmux:
    """What `tmux display -p` printed for the questions that it is asked."""
    parts = (line.strip().split("|") + [""] * 7)[:7]
    wide, _, high = parts[4].partition("x")
    cell = (int(wide), int(high)) if wide.isdecimal() and high.isdecimal() else None
    features = tuple(part for part in parts[3].split(",") if part)
    utf8 = {"0": False, "1": True}.get(parts[6])
    cell = cell if cell and all(cell) else None
    return Tmux(parts[0], parts[1] in ("on", "all"), parts[2], features, cell, parts[5], utf8)


def ask_tmux() -> Tmux:
    """tmux, asked anew: whoever attaches may sit at another terminal. Waits for it."""
    try:
        done = subprocess.run(
            ["tmux", "display", "-p", _TMUX], stdin=subprocess.DEVNULL, capture_output=True, timeout=TMUX_PATIENCE,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Tmux()
    return tmux(done.stdout.decode(errors="replace"))


def understood(said: bytes, inside: Tmux | None = None) -> Answers:
    """The answers in what a terminal said."""
    name, kitty, cell, fence = (form.search(said) for form in (_VERSION, _KITTY, _CELL, _FENCE))
    rest = said
    places = _PLACE.findall(said)
    if len(places) != 2:  # one alone may be a key: shift with F3
        places = []
    for form in (_VERSION, _KITTY, _CELL, _FENCE, *([_PLACE] if places else [])):
        rest = form.sub(b"", rest)
    attributes = fence[1].decode().split(";") if fence else []
    size = (int(cell[2]), int(cell[1])) if cell else None
    return Answers(
        name[1].decode(errors="replace")[:80] if name else "",
        bool(kitty) and kitty[1] == b"OK" if kitty else False,
        "4" in attributes[1:],
        size if size and all(size) else None,
        fence is not None,
        rest.decode(errors="ignore"),
        inside,
        int(places[1][1]) - int(places[0][1]) == 1 if places else None,
    )
