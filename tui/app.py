"""The app: the workbench is put together here, keys come to it in turn, and the engine's events are carried to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.events import Event, Key, MouseDown, MouseUp, Paste
from textual.message import Message
from textual.screen import Screen

from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.folders import Folders
from engines.store import Store
from tui import keys
from tui.clean import clean
from tui.drafts import usual
from tui.keyboard import Keyboard
from tui.messages import FromEngine
from tui.pages import Shelf
from tui.panes.footer import KeyLine
from tui.pictures.deciding import Mode
from tui.pump import Pump
from tui.settings import Settings
from tui.takeover import begin_in
from tui.tidying import PERIOD, Tidy
from tui.turns import Turns
from tui.wayfinding import WayfindingApp
from tui.workbench import Workbench

if TYPE_CHECKING:
    from tui.guide import Guide

__all__ = ["SafelightApp", "begin_in"]

FLUSH = 0.1
"Seconds between two showings of progress."
NOTICES = 6
"Lines about the user's files that are shown at the start."

log = logging.getLogger(__name__)


class SafelightApp(WayfindingApp):
    """safelight's window."""

    TITLE = "safelight"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("app")
    NOTIFICATION_TIMEOUT = 4

    class Woken(Message):
        """The pump has events."""

        def __init__(self, urgent: bool) -> None:
            super().__init__()
            self.urgent = urgent

    def __init__(
        self,
        engine: Engine,
        store: Shelf,
        catalogue: Catalogue,
        folders: Folders,
        settings: Settings,
        notices: Sequence[str] = (),
        *,
        sweeps: Store,
        mode: Mode = "halfblocks",
        clock: Callable[[], float] = time.time,
        tidy: Tidy | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__(engine, settings, folders, notices, plain)
        self._pump = Pump(engine, lambda urgent: self.post_message(self.Woken(urgent)))
        default = usual(settings, catalogue)
        pictures = Path(settings.folder).expanduser().absolute() if settings.folder else folders.pictures
        self.workbench = Workbench(
            engine, store, catalogue, self._file, default, sweeps, pictures, mode, clock, self._keymap_chosen
        )
        self.workbench.library = folders.config / "snippets.toml"
        self.workbench.signs = settings.weights == "signs"
        self._turns = Turns(self, super().on_event)
        self._flush_at = 0.0
        self._tidy = tidy
        self._guide: Guide | None = None

    # ── beginning ───────────────────────────────────────────────────────────────────────────────────────────────

    def get_default_screen(self) -> Screen[None]:
        """The workbench is the only one."""
        return self.workbench

    def on_mount(self) -> None:
        """Keys, signals and terminal; the engine's events from here on."""
        self.set_keymap(self._keymap_chosen)
        self._heed()
        self._come_in()
        self._pump.start()
        self.set_interval(1.0, self._announce)
        self.call_after_refresh(self._show_notices)
        self.call_after_refresh(setattr, Keyboard, "waits", False)
        if self._tidy is not None:
            self.call_after_refresh(self._tidy.begin)
            self.set_interval(PERIOD, self._tidy.look)
        if self._guide is not None:
            self.call_after_refresh(self._guide.begin)

    def show_around(self, pace: float = 1.0, patience: float = 90.0) -> Guide:
        """It will type by itself, at so many times the pace of people, until somebody else does."""
        from tui.guide import Guide

        self._guide = Guide(self, self.workbench, self._keymap_chosen, self.shut_down, pace=pace, patience=patience)
        return self._guide

    def _show_notices(self) -> None:
        told = [clean(notice) for notice in self._notices]
        for notice in told:
            log.warning("%s", notice)
        if len(told) > NOTICES:
            told[NOTICES - 1 :] = [f"and {len(told) - NOTICES + 1} more: they are in {self._log_file}"]
        if told:
            self.notify("\n".join(told), severity="warning", timeout=15, markup=False)

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def on_event(self, event: Event) -> None:
        """As Textual does, but keys in turn; their time is kept for the garbage collector's sake."""
        if self._guide is not None and self._guide.stops(event):
            return
        if self._tidy is not None and isinstance(event, Key):
            self._tidy.key_pressed()
        if isinstance(event, Key):
            self._key_at = time.monotonic()
            KeyLine.hush()
        typed = isinstance(event, Key | Paste) or (isinstance(event, MouseDown | MouseUp) and self._turns.busy)
        if typed and not event.is_forwarded:
            self._turns.take(event)
        else:
            await super().on_event(event)

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────

    def on_safelight_app_woken(self, message: Woken) -> None:
        """Urgent events at once, progress ten times a second."""
        late = time.monotonic() - self._flush_at
        if message.urgent:
            self._hand_over(progress=False)
        elif late >= FLUSH:
            self._hand_over(progress=True)
        else:
            self.set_timer(FLUSH - late, lambda: self._hand_over(progress=True))

    def _hand_over(self, progress: bool) -> None:
        if progress:
            self._flush_at = time.monotonic()
        if events := self._pump.take(progress):
            self.workbench.post_message(FromEngine(events))
