"""What is said outside of the window: its title, and a word when something long has ended.

The sequences: OSC 2 (title; xterm's control sequences), OSC 9 (iTerm2) and OSC 777 (rxvt-unicode) for notifications,
BEL where neither is known.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tui.clean import one_line
from tui.pictures.deciding import Decision
from tui.wording import duration, plural

Way: TypeAlias = Literal["off", "bell", "osc9", "osc777"]

OSC9 = ("kitty", "iterm2", "wezterm", "ghostty", "foot", "konsole")
"What calls itself so shows OSC 9 (their documentation)."
NO_TITLE = ("linux", "dumb", "vt100", "vt220")
"Terminals whose window has no title, by the beginning of TERM."
WIDEST = 120
"Characters of a notification or a title."


def way(wish: str, decision: Decision) -> Way:
    """How it is told, of a wish of the settings: auto takes what the terminal is known to show, else the bell.

    tmux marks the window of a bell, and hands on nothing else unless it is told to.
    """
    if wish in ("off", "bell", "osc9", "osc777"):
        return wish  # type: ignore[return-value]
    return "osc9" if decision.name in OSC9 and not decision.wrapped else "bell"


def notification(text: str, how: Way) -> str:
    """What the terminal is sent."""
    said = one_line(text, WIDEST).replace(";", ",")  # which parts the fields of 777
    return {"off": "", "bell": "\a", "osc9": f"\x1b]9;{said}\a", "osc777": f"\x1b]777;notify;safelight;{said}\a"}[how]


def in_tmux(text: str) -> None:
    """Hands a text to tmux, which keeps it as a buffer and gives it to the terminal's clipboard (`-w`, tmux 3.2); waits
    for it, and says nothing if it fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            ["tmux", "load-buffer", "-w", "-"], input=text.encode("utf-8", "replace"), timeout=2, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


class Title:
    """The window's title: kept, changed, put back.

    Args:
        environment: of this process; some terminals have none.
        on: whether it is changed at all.
    """

    def __init__(self, environment: Mapping[str, str], on: bool) -> None:
        self._can = not environment.get("TERM", "dumb").startswith(NO_TITLE)
        self._on = on
        self._shown = ""

    def turn(self, on: bool) -> str:
        """On or off; what is sent for it."""
        self._on = on
        return "" if on else self.leave()

    def show(self, text: str) -> str:
        """What is sent for it; nothing, if it says so already."""
        said = one_line(text, WIDEST)
        if not (self._on and self._can) or said == self._shown:
            return ""
        keep, self._shown = "" if self._shown else "\x1b[22;2t", said  # xterm's stack of titles
        return f"{keep}\x1b]2;{said}\a"

    def leave(self) -> str:
        """What puts back the title that was there before."""
        shown, self._shown = self._shown, ""
        return "\x1b[23;2t" if shown else ""


@dataclass(slots=True)
class Stretch:
    """From the first job to the end of the last: what a notification tells of."""

    since: float | None = None
    "When it began; None while nothing runs."
    made: int = 0
    "Pictures so far."
    failed: int = 0
    "Jobs that failed."

    def went_on(self, busy: bool, now: float) -> float | None:
        """Takes note of whether something runs or waits; seconds that it took, if it has ended just now."""
        if busy and self.since is None:
            self.since = now
        if busy or self.since is None:
            return None
        took, self.since = now - self.since, None
        return took

    def told(self, took: float) -> str:
        """'3 pictures made, 1 failed · 42 s'; empty if there is nothing to tell. It begins anew."""
        parts = [f"{plural(self.made, 'picture')} made"] if self.made else []
        parts += [f"{self.failed} failed"] if self.failed else []
        self.made = self.failed = 0
        return f"{', '.join(parts)} · {duration(took)}" if parts else ""
