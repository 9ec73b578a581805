"""The terminal that this process shows pictures in: what was decided, and which pictures it holds.

There is one, for there is one terminal. Whatever is written for it goes the way that Textual's own output goes, so that
neither is cut by the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.geometry import Region

from tui.frames import Frames
from tui.pictures.asking import Tmux
from tui.pictures.deciding import Decision
from tui.pictures.kitty import Uploads, pieces
from tui.writing import writer_of

PLAIN = Decision("halfblocks", "nothing was asked")


class Graphics:
    """One terminal.

    Args:
        decision: how it shows pictures.
        again: decides anew, by what tmux says when it is shown in another terminal; None outside of tmux.
    """

    def __init__(self, decision: Decision = PLAIN, again: Callable[[Tmux], Decision] | None = None) -> None:
        self.decision = decision
        self.again = again
        self.uploads = Uploads(decision.wrapped)
        self.sent = 0
        "Characters that were written for pictures beside their cells."

    def write(self, app: App[Any], text: str) -> None:
        """Sends something to the terminal, behind what was drawn so far."""
        driver = app._driver
        if text and driver is not None:
            self.sent += len(text)
            driver.write(text)

    def send(self, app: App[Any], text: str, then: Callable[[], object] | None = None) -> None:
        """Sends sequences of kitty's protocol, between what is drawn.

        Args:
            app: whose terminal it is.
            text: nothing but such sequences.
            then: is called in any thread when they were written.
        """
        writer = writer_of(app)
        if writer is not None and text:
            self.sent += len(text)
            writer.send(pieces(text), then)
            return
        self.write(app, text)
        if then is not None:
            then()

    def watch(self, app: App[Any], who: object, box: Region) -> None:
        """What is drawn into these cells from now on is `is_touched`'s matter."""
        if (frames := _frames_of(app)) is not None:
            frames.watch(who, box)

    def is_touched(self, app: App[Any], who: object) -> bool:
        """Whether anything was drawn into what somebody watches; also where nobody knows."""
        frames = _frames_of(app)
        return frames is None or frames.is_touched(who)

    @staticmethod
    def busy(app: App[Any]) -> bool:
        """Whether the terminal has not read yet what was written before: more would only make keys late."""
        writer = writer_of(app)
        return writer is not None and not writer.has_room(for_pictures=True)

    @staticmethod
    def slow(app: App[Any]) -> bool:
        """Whether a key would wait for a whole picture."""
        writer = writer_of(app)
        return writer is not None and writer.slow and _frames_of(app) is not None

    @staticmethod
    def rests(app: App[Any]) -> float:
        """Seconds for which no previews should be sent: the line is slow, and keys go first."""
        writer = writer_of(app)
        return 0.0 if writer is None else writer.rests

    @staticmethod
    def when_free(app: App[Any], call: Callable[[], object]) -> None:
        """Calls, in any thread, once it has read that."""
        writer = writer_of(app)
        if writer is None:
            call()
        else:
            writer.when_room(call, for_pictures=True)


def _frames_of(app: App[Any]) -> Frames | None:
    """What knows which cells were drawn; None where it is not asked."""
    frames = getattr(app, "_frames", None)
    return frames if isinstance(frames, Frames) and writer_of(app) is not None else None


current = Graphics()
"What views look at. `begin` puts another in its place before the workbench opens."


def begin(decision: Decision, again: Callable[[Tmux], Decision] | None = None) -> Graphics:
    """Shows pictures in this way from now on."""
    global current
    current = Graphics(decision, again)
    return current
