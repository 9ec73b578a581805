"""Takes the terminal over before the window opens in it: what of Textual's own is replaced, and what it is told."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable

from textual import constants
from textual.drivers import linux_driver

from tui.keyboard import Keyboard
from tui.pictures import graphics
from tui.pictures.asking import Tmux
from tui.pictures.deciding import Decision
from tui.writing import Writer

LATE = 10.0
"Seconds after which a terminal that was asked answers no more."


def _forgiving(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    return lambda: codecs.getincrementaldecoder(encoding)("replace")


# One byte that is not UTF-8 (a paste of Latin-1, a key of a terminal with 8-bit meta) ends Textual's input thread, and
# the program with it; the driver looks the decoder up by this name.
linux_driver.getincrementaldecoder = _forgiving  # type: ignore[assignment, attr-defined]

linux_driver.XTermParser = Keyboard  # type: ignore[attr-defined]

linux_driver.WriterThread = Writer  # type: ignore[assignment, attr-defined]

Keyboard.awaits = [lambda: Writer.newest is not None and Writer.newest.awaits]
Keyboard.hear = [lambda: None if Writer.newest is None else Writer.newest.hear()]


def begin_in(
    decision: Decision,
    typed: str,
    again: Callable[[Tmux], Decision] | None = None,
    colours: bool = True,
    late: bool = False,
    asks: bool = False,
) -> graphics.Graphics:
    """Makes the terminal ours before the window opens in it.

    Args:
        decision: how it shows pictures.
        typed: what somebody typed meanwhile.
        again: as in Graphics.
        colours: whether it may have all colours that it is known to show.
        late: whether answers of the terminal may still come.
        asks: whether it answers.
    """
    Writer.asks = asks
    Keyboard.ahead, Keyboard.waits = typed, True
    Keyboard.expects = time.monotonic() + LATE if late else 0.0
    if decision.mode == "kitty" or (decision.true_colours and colours):
        constants.COLOR_SYSTEM = "truecolor"  # type: ignore[misc]
    return graphics.begin(decision, again)
