"""What the app says outside of its window: how far it is, that something long has ended, and to the clipboard."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial

from engines.folders import Folders
from tui import announcing
from tui.announcing import in_tmux
from tui.ascii_only import plain as plain_text
from tui.clean import clean
from tui.pictures import graphics
from tui.settings import Settings
from tui.terminal import TerminalApp


class OutsideApp(TerminalApp):
    """Speaks by title, notification and clipboard; takes what TerminalApp takes."""

    def __init__(self, settings: Settings, folders: Folders, notices: Sequence[str], plain: bool) -> None:
        super().__init__(settings, folders, notices, plain)
        self._stretch = announcing.Stretch()
        self._key_at = 0.0
        "When a key was pressed, for terminals that don't say whether they have the focus."

    def _announce(self) -> None:
        """The title says how far it is; the end of something long is told to who doesn't look."""
        busy, told, made, failed = self.workbench.outside()
        self._send(self._title.turn(self.settings.title))
        self._send(self._title.show(self._lettered(f"{told} · safelight" if told else "safelight")))
        now = time.monotonic()
        self._stretch.made += made
        self._stretch.failed += failed
        took = self._stretch.went_on(busy, now)
        if took is None:
            return
        said = self._stretch.told(took)
        looks = self._in_sight if self._in_sight is not None else now - self._key_at < self.settings.notify_after
        if said and took >= self.settings.notify_after and not looks:
            how = announcing.way(self.settings.notify, graphics.current.decision)
            self._send(announcing.notification(self._lettered(said), how))

    def _lettered(self, text: str) -> str:
        """As the terminal's letters are: to one without UTF-8 the bytes of a letter may be orders."""
        return plain_text(text) if self.plain else text

    def copy_to_clipboard(self, text: str) -> None:
        """As in Textual; tmux is asked to do it, for it takes no OSC 52 of a program unless it is told to."""
        if not self.settings.clipboard:
            return
        super().copy_to_clipboard(clean(text))
        if "TMUX" in os.environ:
            self.run_worker(partial(in_tmux, clean(text)), thread=True, group="clipboard", exit_on_error=False)
