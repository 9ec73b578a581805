"""Opens the workbench: what has to be ready before the first paint, in order, and what has to be put away after it."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from dataclasses import replace

from engines.errors import InvalidRequest
from tui import lettering
from tui import session as sessions
from tui.pictures.asking import Asking
from tui.pictures.deciding import decide
from tui.tidying import Tidy

# Over ssh COLORTERM is not forwarded, and Rich then counts a terminal of 24 bits as one of 256 colours, and a plain
# TERM=xterm as one of 16, which no terminal has been for twenty years.
TRUE_COLOUR_TERMS = ("xterm-kitty", "xterm-ghostty", "xterm-direct", "wezterm", "foot", "alacritty", "contour")
AT_LEAST_256 = ("xterm", "screen", "tmux", "rxvt")
SWITCH_INTERVAL = 0.0005
"""Seconds before a thread that computes in Python is asked to let the interface run. With the default of 0.005 a key
waits up to 5 ms more (p99) beside the engine's thread, and pictures take 8 % longer."""


def check_terminal() -> None:
    """Raises InvalidRequest where there is no terminal for the workbench."""
    if not sys.stdin.isatty() or not sys.stdout.isatty() or (os.environ.get("TERM") or "dumb") == "dumb":
        raise InvalidRequest(
            "the workbench needs a terminal on stdin and stdout, and a TERM that is not dumb",
            "safelight --plain does the same in plain lines; safelight --help lists the commands",
        )


def open_workbench(device: str = "", threads: int = 0, debug: bool = False, tour: bool = False) -> int:
    """Runs the workbench to its end and returns the exit code.

    Args:
        tour: whether it types by itself.

    Raises:
        InvalidRequest: there is no terminal for it.
        SafelightError: the store or a setting can't be used; nothing was drawn yet.
    """
    check_terminal()
    gc.disable()  # a tenth of the time to the first paint; tui.tidying takes over after it
    asked = Asking(sys.stdin.fileno(), sys.stdout.fileno(), os.environ)  # answered while the rest is imported
    try:
        session = sessions.begin(debug, device, threads)
        asked.wait(session.settings.probe_seconds)
        freely = "TEXTUAL_COLOR_SYSTEM" not in os.environ and not os.environ.get("NO_COLOR")
        if tour:  # a larger scorer that happens to be here would be waited for
            known = session.catalogue
            scorers = {id: one for id, one in known.scorers.items() if known.came_along(one)}
            session = replace(session, catalogue=replace(known, scorers=scorers))
        _choose_colours()
        for name in ("COLUMNS", "LINES"):  # Textual would take them for the window's size, for good
            os.environ.pop(name, None)
        sys.setswitchinterval(SWITCH_INTERVAL)

        from tui import app as window
    finally:
        answers = asked.finish()
    plain = lettering.decide(os.environ, answers.knows_utf8).ascii
    wish = "halfblocks" if plain else session.settings.pictures
    again = None if answers.tmux is None else lambda seen: decide(wish, replace(answers, tmux=seen), os.environ)
    late = not answers.answered
    terminal = window.begin_in(decide(wish, answers, os.environ), answers.typed, again, freely, late, answers.answered)
    notices = [*session.notices]
    store = session.store()
    try:
        engine = session.engine("workbench", store)
        app = window.SafelightApp(
            engine,
            store,
            session.catalogue,
            session.folders,
            session.settings,
            notices,
            sweeps=store,
            mode=terminal.decision.mode,
            tidy=Tidy(),
            plain=plain,
        )
        if tour:
            app.show_around()
        app.listen()
        try:
            app.run()
        finally:
            with suppress(OSError):  # the terminal may be gone
                os.write(sys.stderr.fileno(), app.last_words().encode())  # where Textual writes
            engine.close()
    finally:
        store.close()
    if app.farewell and not tour:  # of the tour nothing is left
        with suppress(OSError):  # the terminal may be gone
            print(app.farewell)
    return app.return_code or 0


def _choose_colours() -> None:
    """Tells Textual, which reads this when it is imported, of more colours than TERM alone promises."""
    term = os.environ.get("TERM", "")
    if "NO_COLOR" in os.environ or os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return
    if term.startswith(TRUE_COLOUR_TERMS):
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "truecolor")
    elif term.startswith(AT_LEAST_256):
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "256")
