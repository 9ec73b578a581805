"""The end, in order whatever ends it: a key, a signal, a terminal that is gone, or an error that nothing caught."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from engines.engine import Engine
from engines.folders import Folders
from tui import keys
from tui.drafts import DraftFile
from tui.leaving import Signals, end_in_time, is_gone, stop_between
from tui.outside import OutsideApp
from tui.settings import Settings
from tui.wording import plural

CLOSING = 2.5
"Seconds that a quit waits for the engine; it promises two."

log = logging.getLogger(__name__)


class QuittingApp(OutsideApp):
    """Puts away what is under way, and says what goes on the next time.

    Args:
        engine: is closed at the end.
        settings: as in TerminalApp.
        folders: as in TerminalApp; its user's draft and the log, too.
        notices: as in TerminalApp.
        plain: as in TerminalApp.
    """

    def __init__(
        self, engine: Engine, settings: Settings, folders: Folders, notices: Sequence[str], plain: bool
    ) -> None:
        super().__init__(settings, folders, notices, plain)
        self.farewell = ""
        "One line to print after the screen was restored; empty if there is nothing to say."
        self._engine = engine
        self._file = DraftFile(folders.data)
        self._log_file = folders.log
        self._leaving = False
        self._signals = Signals(self._told)
        self._loop_of_app: asyncio.AbstractEventLoop | None = None
        self._early = 0
        "A signal that came before there was a loop, which would have swallowed it."

    # ── by a key ────────────────────────────────────────────────────────────────────────────────────────────────

    async def action_quit(self) -> None:
        """Saves the draft, lets the engine put its queue away, and goes."""
        self.shut_down()

    def action_help_quit(self) -> None:
        """What ctrl+c says where it copies nothing."""
        quits, cancels = (keys.first(id, self._keymap_chosen) for id in ("quit", "cancel"))
        self.notify(f"{quits} quits · {cancels} cancels the running job", timeout=3, markup=False)

    def shut_down(self, code: int = 0) -> None:
        """Leaves in order; may be called twice. `exit` restores the screen."""
        if not self._leaving:
            self._leaving = True
            self.run_worker(self._leave(code), exit_on_error=False)

    async def _leave(self, code: int) -> None:
        told = self._left()
        self.workbench.conductor.rest()
        # no executor: the loop would wait for its threads at the end, however long they take
        closing = threading.Thread(target=self._engine.close, name="safelight-close", daemon=True)
        closing.start()
        try:
            await self.workbench.form.save()
            until = time.monotonic() + CLOSING
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.workbench.conductor.put_away(), CLOSING)
            while closing.is_alive() and time.monotonic() < until:
                await asyncio.sleep(0.02)
        finally:
            self._file.close()
            self.farewell = told
            self.exit(return_code=code)

    def _left(self) -> str:
        """What goes on the next time, in one line; empty if nothing is left."""
        left = []
        if waiting := self.workbench.waiting:
            left.append(f"{plural(waiting, 'picture')} still to make")
        if fetching := self.workbench.fetching:
            left.append(plural(fetching, "download"))
        many = (waiting + fetching) > 1
        told = f"{' and '.join(left)}: {'they go' if many else 'it goes'} on when safelight is opened again"
        if cells := self.workbench.conductor.left:
            sweep = f"{plural(cells, 'cell')} of a sweep {'are' if cells > 1 else 'is'} made"
            told = f"{told}; {sweep}" if left else f"{sweep} when safelight is opened again"
            left.append(sweep)
        if held := self.workbench.held:
            told += f"; {plural(held, 'picture')} that waited for a download {'are' if held > 1 else 'is'} not kept"
        return told if left else ""

    # ── by a signal, or without a terminal ──────────────────────────────────────────────────────────────────────

    def listen(self) -> None:
        """Takes signals over: from before the loop runs, in which what their handlers raise is lost."""
        self._signals.listen()

    def _heed(self) -> None:
        """Signals act from here on, at the start; one that came before does now."""
        self._loop_of_app = asyncio.get_running_loop()
        self.listen()
        if not self.is_headless:
            stop_between(self._driver, self._loop_of_app, self._leave_terminal)
        if self._early:
            self.call_after_refresh(self.shut_down, 128 + self._early)
        self.set_interval(1.0, self._watch_terminal)

    def _told(self, number: int) -> None:
        """A signal came, perhaps while the event loop hangs."""
        self._early = number
        if self._loop_of_app is None:
            return
        if not self.is_headless:
            end_in_time(self._driver, 128 + number, self._engine.close, self.last_words)
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop_of_app.call_soon_threadsafe(self.shut_down, 128 + number)

    def _watch_terminal(self) -> None:
        """Where a hangup is ignored nobody else would notice that the terminal is gone."""
        if not self._leaving and not self.is_headless and is_gone(self._driver):
            self._told(signal.SIGHUP)

    def panic(self, *renderables: Any) -> None:
        """Textual's reader panics where the terminal is gone; there is no one to tell then."""
        if is_gone(self._driver):
            self.shut_down(128 + signal.SIGHUP)
        else:
            super().panic(*renderables)

    def _fatal_error(self) -> None:
        """Called by Textual for an exception that nothing caught: its trace is for the log, its user gets a line."""
        log.exception("the workbench")
        self._exit_renderables.append(Text(f"error: the workbench broke; the log has more: {self._log_file}"))
        self._close_messages_no_wait()

    def on_unmount(self) -> None:
        """Signals are no longer ours, but where the program ends: another would end it with the terminal as it is."""
        if self.is_headless or not self._leaving:
            self._signals.forget()
