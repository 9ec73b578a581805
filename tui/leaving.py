"""Leaving when told to by a signal, and leaving in time when the terminal hangs or is gone.

Textual's writer blocks the event loop once a terminal takes no more, and its reader spins when there is none: neither
may keep the process, or the terminal in a state that its shell can't use.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

DEADLINE = 1.75
"Seconds after which the process ends, whatever hangs; two are promised."
LEAVE = b"\x1b[<u\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?1049l\x1b[?25h"
"Keyboard, paste, mouse, focus, screen and cursor as a shell expects them."

LAST: list[Callable[[], object]] = []
"What is done even when the deadline has come; it must be quick."


class Signals:
    """SIGINT, SIGTERM and SIGHUP, handed on: each leaves in order, and so does a second one meanwhile.
    A hangup that is ignored, as under nohup, stays ignored."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Takes the signals over; only the main thread may."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    # Not asyncio's own handlers: they wait for the loop, which may be the one that hangs.
                    self._before[number] = signal.signal(number, lambda number, frame: self._told(number))

    def forget(self) -> None:
        """Puts back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()


def stop_between(driver: object, loop: asyncio.AbstractEventLoop, leave: Callable[[], object]) -> None:
    """Ctrl+Z and `fg` act between two turns of the loop, and not wherever a signal finds the main thread: Textual's
    handler waits there for the thread that writes, which may wait for a lock that the main thread holds.

    Args:
        driver: Textual's.
        loop: of the app.
        leave: is called before the terminal is given back.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number, name in ((signal.SIGTSTP, "_sigtstp_application"), (signal.SIGCONT, "_sigcont_application")):
        if (does := getattr(driver, name, None)) is not None:
            first = leave if number == signal.SIGTSTP else None
            signal.signal(number, partial(_hand_on, loop, does, first))


def _hand_on(
    loop: asyncio.AbstractEventLoop, does: Callable[[], object], first: Callable[[], object] | None, *_: object
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop may be closed
        if first is not None:
            loop.call_soon_threadsafe(first)
        loop.call_soon_threadsafe(does)


def end_in_time(
    driver: object, code: int, put_away: Callable[[], object], last: Callable[[], str] = lambda: ""
) -> None:
    """Ends the process at the deadline, if it still lives; what must not be lost is put away meanwhile.

    Args:
        driver: Textual's, which knows the terminal.
        code: what the process ends with.
        put_away: is called at once, in a thread.
        last: what the terminal is sent before it is restored.
    """
    deadline = threading.Timer(DEADLINE, _end, (driver, code, last))
    deadline.daemon = True
    deadline.start()
    threading.Thread(target=put_away, name="safelight-put-away", daemon=True).start()


def is_gone(driver: object) -> bool:
    """Whether there was a terminal and there is none any more."""
    fileno = getattr(driver, "fileno", None)
    return isinstance(fileno, int) and not os.isatty(fileno)


def _end(driver: object, code: int, last: Callable[[], str]) -> None:
    fileno, attributes = getattr(driver, "fileno", None), getattr(driver, "attrs_before", None)
    if isinstance(fileno, int):
        with contextlib.suppress(Exception):  # whatever fails here, the process ends in the next line
            os.set_blocking(fileno, False)
            os.write(fileno, last().encode() + LEAVE)
        with contextlib.suppress(Exception):
            import termios

            os.set_blocking(fileno, True)
            termios.tcsetattr(fileno, termios.TCSANOW, attributes or [])
    for each in LAST:
        with contextlib.suppress(Exception):
            each()
    os._exit(code)
