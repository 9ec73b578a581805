"""The window's terminal: what it is sent, and that it may be left, come back, change its size, or be another one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rich.console import RenderableType
from textual.filter import LineFilter
from textual.screen import Screen

from engines.folders import Folders
from tui import alt_keys, announcing
from tui.ascii_only import PlainFilter
from tui.filters import CleanFilter
from tui.frames import Frames
from tui.pictures import graphics
from tui.pictures.asking import ask_tmux, cell_of
from tui.pictures.view import PictureView
from tui.settings import Settings
from tui.settling import SettlingApp

SEAT_EVERY = 10.0
"Seconds after which tmux is asked whether it is shown elsewhere now."

CLEAN, PLAIN = CleanFilter(), PlainFilter()
"One for good: Textual caches what it drew for each filter."


class TerminalApp(SettlingApp):
    """Keeps the terminal as the window needs it, and gives it back as it was.

    Args:
        settings: as in SettlingApp.
        folders: as in SettlingApp.
        notices: as in SettlingApp.
        plain: whether all signs are ASCII's.
    """

    def __init__(self, settings: Settings, folders: Folders, notices: Sequence[str], plain: bool) -> None:
        super().__init__(settings, folders, notices)
        self.plain = plain
        "Whether all signs are ASCII's."
        self._frames = Frames(self)
        self._title = announcing.Title(os.environ, settings.title)
        self._in_sight: bool | None = None
        "Whether the terminal has the focus; None until it says so."
        self._seat_of = ""
        "tmux's name of the terminal that it is shown in."

    # ── what it is sent ─────────────────────────────────────────────────────────────────────────────────────────

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Nothing that a terminal would obey leaves inside text."""
        return [*super().get_line_filters(), CLEAN, *([PLAIN] if self.plain else [])]

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """As Textual does, but not into a line that is behind."""
        due = self._frames.due(renderable)
        if due is not None or renderable is None:
            super()._display(screen, self._frames.changes(due))

    def _send(self, text: str) -> None:
        if text and self._driver is not None:
            self._driver.write(text)

    # ── coming and going ────────────────────────────────────────────────────────────────────────────────────────

    def _come_in(self) -> None:
        """Takes it, at the start."""
        self._send(alt_keys.take(graphics.current.decision))
        self.app_suspend_signal.subscribe(self, lambda _: self._leave_terminal(), immediate=True)
        self.app_resume_signal.subscribe(self, lambda _: self._back_in_terminal())
        self.set_class(graphics.current.decision.mode != "halfblocks", "-pixels")
        if graphics.current.again is not None:
            self.set_interval(SEAT_EVERY, self._look_for_seat)
            self._look_for_seat()

    def _leave_terminal(self) -> None:
        """Ctrl+Z: nothing of ours stays in the terminal meanwhile."""
        graphics.current.send(self, graphics.current.uploads.clear())
        self._send(self._title.leave() + alt_keys.give_back(graphics.current.decision))

    def _back_in_terminal(self) -> None:
        """All of it is drawn and sent anew."""
        self._send(alt_keys.take(graphics.current.decision))
        self._frames.forget()
        for view in self._views():
            view.again()
        self.refresh(layout=True)

    def last_words(self) -> str:
        """What the terminal is sent before it is left: it keeps no picture, no title and no mode of ours."""
        terminal = graphics.current
        return terminal.uploads.clear() + self._title.leave() + alt_keys.give_back(terminal.decision)

    def action_suspend(self) -> None:
        """Back to the shell, whose `fg` goes on."""
        if not self.is_headless:
            os.kill(os.getpid(), signal.SIGTSTP)

    def action_redraw(self) -> None:
        """All of the screen is sent anew, and pictures with it."""
        self._leave_terminal()
        self._back_in_terminal()

    # ── another size, another terminal ──────────────────────────────────────────────────────────────────────────

    def _views(self) -> Iterable[PictureView]:
        """All that show a picture, also under a dialog."""
        return (view for screen in self.screen_stack for view in screen.query(PictureView))

    def on_resize(self) -> None:
        """Another font has cells of another size."""
        self._frames.forget()
        terminal = graphics.current
        if terminal.decision.mode == "halfblocks" or self.is_headless:
            return
        cell = cell_of(sys.__stdin__.fileno()) if sys.__stdin__ is not None and terminal.again is None else None
        if cell is not None and cell != terminal.decision.cell:
            terminal.decision = replace(terminal.decision, cell=cell)
            for view in self._views():
                view.again()

    def on_app_blur(self) -> None:
        """Nobody looks."""
        self._in_sight = False

    def on_app_focus(self) -> None:
        """Whoever attaches to tmux comes with another terminal, perhaps."""
        self._in_sight = True
        if graphics.current.again is not None:
            self._look_for_seat()

    def _look_for_seat(self) -> None:
        self.run_worker(self._seat(), group="seat", exclusive=True)

    async def _seat(self) -> None:
        found, terminal = await asyncio.to_thread(ask_tmux), graphics.current
        if not found.seat or found.seat == self._seat_of or terminal.again is None:
            return
        first, self._seat_of = not self._seat_of, found.seat
        decision = terminal.again(found)
        if first and decision == terminal.decision:
            return
        terminal.uploads.lose()  # the pictures are in the other one
        terminal.decision = decision
        terminal.uploads.wrapped = decision.wrapped
        self.set_class(decision.mode != "halfblocks", "-pixels")
        self.workbench.mode = decision.mode
        for view in self._views():
            view.mode = decision.mode
        self._back_in_terminal()
