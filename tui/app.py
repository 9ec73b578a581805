"""The app: it carries the engine's events to the workbench, and leaves in order whatever ends it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual import constants
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.drivers import linux_driver
from textual.events import Event, Key, MouseDown, MouseUp, Paste
from textual.filter import LineFilter
from textual.markup import escape
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.widget import Widget

from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.folders import Folders
from engines.store import Store
from tui import alt_keys, announcing, keys
from tui.announcing import in_tmux
from tui.ascii_only import PlainFilter
from tui.ascii_only import plain as plain_text
from tui.clean import clean
from tui.drafts import DraftFile, usual
from tui.elsewhere import Elsewhere
from tui.filters import CleanFilter
from tui.frames import Frames
from tui.keyboard import Keyboard
from tui.leaving import Signals, end_in_time, is_gone, stop_between
from tui.ledger import Ledger
from tui.messages import FromEngine
from tui.pages import Shelf
from tui.paging import PagedScreen
from tui.palette import DEFAULT_THEME, load_themes
from tui.panes.finder import Finder
from tui.panes.footer import KeyLine
from tui.panes.help import HelpScreen
from tui.panes.jump import JumpScreen, Place, places
from tui.pictures import graphics
from tui.pictures.asking import Tmux, ask_tmux, cell_of
from tui.pictures.deciding import Decision, Mode
from tui.pictures.view import PictureView
from tui.pump import Pump
from tui.settings import BY_NAME, Settings
from tui.tidying import PERIOD, Tidy
from tui.turns import Turns
from tui.wishes import Wishes
from tui.wording import plural
from tui.workbench import Workbench
from tui.writing import Writer

if TYPE_CHECKING:
    from tui.guide import Guide

FLUSH = 0.1
"Seconds between two showings of progress."
SEAT_EVERY = 10.0
"Seconds after which tmux is asked whether it is shown elsewhere now."
LATE = 10.0
"Seconds after which a terminal that was asked answers no more."
NOTICES = 6
"Lines about the user's files that are shown at the start."
CLOSING = 2.5
"Seconds that a quit waits for the engine; it promises two."

log = logging.getLogger(__name__)


def _forgiving(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    return lambda: codecs.getincrementaldecoder(encoding)("replace")


# One byte that is not UTF-8 (a paste of Latin-1, a key of a terminal with 8-bit meta) ends Textual's input thread, and
# the program with it; the driver looks the decoder up by this name.
linux_driver.getincrementaldecoder = _forgiving  # type: ignore[assignment, attr-defined]

linux_driver.XTermParser = Keyboard  # type: ignore[attr-defined]

linux_driver.WriterThread = Writer  # type: ignore[assignment, attr-defined]

Keyboard.awaits = [lambda: Writer.newest is not None and Writer.newest.awaits]
Keyboard.hear = [lambda: None if Writer.newest is None else Writer.newest.hear()]

CLEAN, PLAIN = CleanFilter(), PlainFilter()
"One for good: Textual caches what it drew for each filter."


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


class SafelightApp(App[None]):
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
        super().__init__()
        self.plain = plain
        "Whether all signs are ASCII's."
        self.farewell = ""
        "One line to print after the screen was restored; empty if there is nothing to say."
        self._engine = engine
        self._file = DraftFile(folders.data)
        self._pump = Pump(engine, lambda urgent: self.post_message(self.Woken(urgent)))
        themes, problems = load_themes(folders.config / "themes")
        for theme in themes:
            self.register_theme(theme)
        self._themes = [theme.name for theme in themes]
        self._notices = [*notices, *problems, *self._begin_with(settings.theme)]
        self.ledger = Ledger(Wishes(settings, folders.settings), self._settle, self._spawn, self._say, notices)
        self._keymap_chosen, clashes = keys.keymap(settings.keys)
        self._notices += clashes
        default = usual(settings, catalogue)
        pictures = Path(settings.folder).expanduser().absolute() if settings.folder else folders.pictures
        self.workbench = Workbench(
            engine, store, catalogue, self._file, default, sweeps, pictures, mode, clock, self._keymap_chosen
        )
        self.workbench.library = folders.config / "snippets.toml"
        self.workbench.signs = settings.weights == "signs"
        self._elsewhere = Elsewhere(self, self._keymap_chosen)
        self._turns = Turns(self, super().on_event)
        self._frames = Frames(self)
        self._flush_at = 0.0
        self._leaving = False
        self._seat_of = ""
        "tmux's name of the terminal that it is shown in."
        self._tidy = tidy
        self._signals = Signals(self._told)
        self._loop_of_app: asyncio.AbstractEventLoop | None = None
        self._early = 0
        "A signal that came before there was a loop, which would have swallowed it."
        self._log_file = folders.log
        self._title = announcing.Title(os.environ, settings.title)
        self._stretch = announcing.Stretch()
        self._in_sight: bool | None = None
        "Whether the terminal has the focus; None until it says so."
        self._key_at = 0.0
        self._guide: Guide | None = None

    # ── beginning ───────────────────────────────────────────────────────────────────────────────────────────────

    def get_default_screen(self) -> Screen[None]:
        """The workbench is the only one."""
        return self.workbench

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Nothing that a terminal would obey leaves inside text."""
        return [*super().get_line_filters(), CLEAN, *([PLAIN] if self.plain else [])]

    def on_mount(self) -> None:
        """Keys and signals; the engine's events from here on."""
        self.set_keymap(self._keymap_chosen)
        self._loop_of_app = asyncio.get_running_loop()
        self.listen()
        if not self.is_headless:
            stop_between(self._driver, self._loop_of_app, self._leave_terminal)
        if self._early:
            self.call_after_refresh(self.shut_down, 128 + self._early)
        self._send(alt_keys.take(graphics.current.decision))
        self._pump.start()
        self.set_interval(1.0, self._watch_terminal)
        self.set_interval(1.0, self._announce)
        self.call_after_refresh(self._show_notices)
        self.call_after_refresh(setattr, Keyboard, "waits", False)
        self.app_suspend_signal.subscribe(self, lambda _: self._leave_terminal(), immediate=True)
        self.app_resume_signal.subscribe(self, lambda _: self._back_in_terminal())
        self.set_class(graphics.current.decision.mode != "halfblocks", "-pixels")
        if graphics.current.again is not None:
            self.set_interval(SEAT_EVERY, self._look_for_seat)
            self._look_for_seat()
        if self._tidy is not None:
            self.call_after_refresh(self._tidy.begin)
            self.set_interval(PERIOD, self._tidy.look)
        if self._guide is not None:
            self.call_after_refresh(self._guide.begin)

    def _begin_with(self, wanted: str) -> list[str]:
        """Wears a theme before any style is read, which would be read anew after it; what is wrong with the theme."""
        name = wanted if wanted in self._themes else DEFAULT_THEME
        if name in self._themes:
            self.set_reactive(App.theme, name)
            self.stylesheet.set_variables(self.get_css_variables())
            dark = self.current_theme.dark
            self.update_classes({"-dark-mode": dark, "-light-mode": not dark, f"-theme-{name}": True}, update=False)
        return [] if name == wanted else [f"there is no theme '{wanted}'; there are {', '.join(self._themes)}"]

    def show_around(self, pace: float = 1.0, patience: float = 90.0) -> Guide:
        """It will type by itself, at so many times the pace of people, until somebody else does."""
        from tui.guide import Guide

        self._guide = Guide(self, self.workbench, self._keymap_chosen, self.shut_down, pace=pace, patience=patience)
        return self._guide

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

    def _show_notices(self) -> None:
        told = [clean(notice) for notice in self._notices]
        for notice in told:
            log.warning("%s", notice)
        if len(told) > NOTICES:
            told[NOTICES - 1 :] = [f"and {len(told) - NOTICES + 1} more: they are in {self._log_file}"]
        if told:
            self.notify("\n".join(told), severity="warning", timeout=15, markup=False)

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """As Textual does, but not into a line that is behind."""
        due = self._frames.due(renderable)
        if due is not None or renderable is None:
            super()._display(screen, self._frames.changes(due))

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

    # ── settings ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def settings(self) -> Settings:
        """What holds at this moment; another one after every change."""
        return self.ledger.wishes.now

    def _settle(self, names: Sequence[str]) -> None:
        """Makes what was changed act at once."""
        if "theme" in names and self.settings.theme in self._themes:
            self.theme = self.settings.theme
        if "keys" in names:
            chosen, clashes = keys.keymap(self.settings.keys)
            self._keymap_chosen.clear()  # everyone who shows keys has this very one
            self._keymap_chosen.update(chosen)
            self.set_keymap(chosen)
            for clash in clashes:
                self._say(clash, True)
        if {"score", "precision", "blank_negative", "weights"} & {*names}:
            self.workbench.settle(usual(self.settings, self.workbench.catalogue), self.settings.weights == "signs")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.run_worker(work, group="settings")

    def _say(self, text: str, bad: bool) -> None:
        self.notify(clean(text), severity="warning" if bad else "information", timeout=8 if bad else 4, markup=False)

    def action_preferences(self) -> None:
        """All settings and keys."""
        from tui.preferences import PreferencesScreen  # nobody waits for it to see the workbench

        if not isinstance(self.screen, PreferencesScreen | ModalScreen):
            known, themes = self.workbench.catalogue, self.action_choose_theme
            self.push_screen(PreferencesScreen(self.ledger, self._keymap_chosen, known, themes, self._themes))
        elif isinstance(self.screen, ModalScreen):
            self._elsewhere.tell("the preferences open when this is closed")

    def action_choose_theme(self) -> None:
        """The list of themes, each worn while the cursor is on it."""
        from tui.theme_list import ThemeList

        if not self._themes or isinstance(self.screen, ThemeList):
            return

        def taken(name: str | None) -> None:
            if name is not None:
                self.ledger.set(BY_NAME["theme"], name)

        dark = [name for name in self._themes if self.available_themes[name].dark]
        self.push_screen(ThemeList(self._themes, dark, self.theme), taken)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None of its keys does anything while a key is waited for."""
        waiting = any(getattr(screen, "takes_keys", False) for screen in self.screen_stack[-1:])
        return False if waiting else super().check_action(action, parameters)

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """As Textual does; a key that nobody takes tells what it is for."""
        return await super()._check_bindings(key, priority) or (not priority and await self._elsewhere.take(key))

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The key table, what belongs to a pane behind the pane's name, and a command for every theme."""
        over = screen is not self.workbench
        scope = getattr(screen, "scopes", ("sweep",))[0] if over else "workbench"
        for action in keys.TABLE:
            title = f"{action.title} · {keys.shown(action, self._keymap_chosen)}"
            if action.id != "command-palette" and action.scope in ("app", scope):
                node = self if action.scope == "app" else screen if over else self.workbench
                if action.runs:
                    yield SystemCommand(title, action.help, partial(self.run_action, action.runs, node))
                elif does := getattr(node, f"action_{action.command}", None):  # of a screen over it there may be fewer
                    yield SystemCommand(title, action.help, does)
            elif (selector := keys.PANES.get(action.scope)) and (found := screen.query(selector)):
                where = keys.PLACES[action.scope].lower()
                yield SystemCommand(f"{title} · {where}", action.help, partial(self._do_in, found.first(), action))
        for name in self._themes:
            yield SystemCommand(f"theme {escape(name)}", "Change to this theme.", lambda name=name: self._wear(name))
        yield SystemCommand("choose theme", "Look at each theme, and keep one.", self.action_choose_theme)

    async def _do_in(self, pane: Widget, action: keys.Action) -> None:
        """An action of a pane, which gets the focus first."""
        if isinstance(pane.screen, PagedScreen):
            pane.screen.go_to(pane)
        else:
            pane.screen.set_focus(pane)
        await self.run_action(action.runs or action.command, pane)

    def _wear(self, name: str) -> None:
        """Another theme until safelight is left."""
        self.ledger.wishes.borrow("theme", name)
        self.theme = name
        self.ledger.changed()

    def action_command_palette(self) -> None:
        """As in Textual, with a palette of our own."""
        if not isinstance(self.screen, Finder):
            self.push_screen(Finder(id="--command-palette"))

    def action_jump(self) -> None:
        """Letters on everything that can have the focus."""
        screen = self.screen
        if isinstance(screen, JumpScreen | HelpScreen):
            return
        beyond = screen.beyond if isinstance(screen, PagedScreen) else ()

        def go(place: Place | None) -> None:
            if place is None or self.screen is not screen:
                return
            if place.widget is not None:
                screen.set_focus(place.widget)
            else:
                getattr(screen, f"action_{place.action}")()

        self.push_screen(JumpScreen(places(screen, beyond)), go)

    def action_help(self) -> None:
        """All keys."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self._keymap_chosen, getattr(self.screen, "scopes", ())))

    def action_next_theme(self) -> None:
        """Round and round."""
        at = self._themes.index(self.theme) if self.theme in self._themes else -1
        if self._themes:
            self._wear(self._themes[(at + 1) % len(self._themes)])
            self.notify(f"theme {self.theme}", timeout=2, markup=False)

    def action_help_quit(self) -> None:
        """What ctrl+c says where it copies nothing."""
        quits, cancels = (keys.first(id, self._keymap_chosen) for id in ("quit", "cancel"))
        self.notify(f"{quits} quits · {cancels} cancels the running job", timeout=3, markup=False)

    # ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────

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

    # ── what is said outside of the window ──────────────────────────────────────────────────────────────────────

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

    def _send(self, text: str) -> None:
        if text and self._driver is not None:
            self._driver.write(text)

    def copy_to_clipboard(self, text: str) -> None:
        """As in Textual; tmux is asked to do it, for it takes no OSC 52 of a program unless it is told to."""
        if not self.settings.clipboard:
            return
        super().copy_to_clipboard(clean(text))
        if "TMUX" in os.environ:
            self.run_worker(partial(in_tmux, clean(text)), thread=True, group="clipboard", exit_on_error=False)

    # ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────

    def action_suspend(self) -> None:
        """Back to the shell, whose `fg` goes on."""
        if not self.is_headless:
            os.kill(os.getpid(), signal.SIGTSTP)

    def action_redraw(self) -> None:
        """All of the screen is sent anew, and pictures with it."""
        self._leave_terminal()
        self._back_in_terminal()

    async def action_quit(self) -> None:
        """Saves the draft, lets the engine put its queue away, and goes."""
        self.shut_down()

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

    def listen(self) -> None:
        """Takes signals over: from before the loop runs, in which what their handlers raise is lost."""
        self._signals.listen()

    def _told(self, number: int) -> None:
        """A signal came, perhaps while the event loop hangs."""
        self._early = number
        if self._loop_of_app is None:
            return
        if not self.is_headless:
            end_in_time(self._driver, 128 + number, self._engine.close, self.last_words)
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop_of_app.call_soon_threadsafe(self.shut_down, 128 + number)

    def last_words(self) -> str:
        """What the terminal is sent before it is left: it keeps no picture, no title and no mode of ours."""
        terminal = graphics.current
        return terminal.uploads.clear() + self._title.leave() + alt_keys.give_back(terminal.decision)

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
