"""`safelight --demo`: the workbench as if somebody sat at it, with a line that says what is pressed and why.

The guide only presses keys, through the app's own queue, and looks. The first key or click of anybody else ends the
tour; the workbench is theirs then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from textual.app import App
from textual.content import Content
from textual.events import Event, Key, MouseDown, Paste
from textual.keys import _character_to_key
from textual.widget import Widget
from textual.worker import Worker

from tui import keys
from tui.clean import one_line
from tui.cues import Cues
from tui.tour import TOUR, Step
from tui.workbench import Workbench

LETTER, HURRY, PRESS = 0.06, 0.02, 0.15
"Seconds between letters, between letters that nobody reads, and between keys that do something."
READING = 0.4
"Seconds between a caption and the first key that it tells of."
LOOK = 0.05
"Seconds between two looks at what is waited for."
PATIENCE = 90.0
"Seconds after which it goes on all the same: a machine may be slow, and a tour that hangs shows nothing."
GOODBYE = 6.0
"Seconds that the last word is shown to those who have taken over."

log = logging.getLogger(__name__)


class Caption(Widget):
    """The row above the footer."""

    ALLOW_SELECT = False

    def __init__(self, says: str, leaves: str) -> None:
        super().__init__(id="tour")
        self._says = says
        self._leaves = leaves

    def show(self, says: str) -> None:
        """Another caption."""
        if says != self._says:
            self._says = says
            self.refresh()

    def render(self) -> Content:
        """What is done; on the right, how it ends, where there is room."""
        width = self.size.width
        says = one_line(f" ▶ {self._says}".replace(" ▶ ", "▶ "), max(8, width - 2))
        room = width - len(says) - len(self._leaves) - 4
        return Content.assemble((f" {says}", "bold"), " " * room + f" {self._leaves}" if room > 0 else "")


class Guide:
    """Goes through the steps.

    Args:
        app: whose keys are pressed.
        workbench: its screen.
        keymap: the user's own keys.
        leave: is called at the end.
        steps: what is shown.
        pace: 1 for people; 0 does not wait at all but for what has to come.
    """

    def __init__(
        self,
        app: App[Any],
        workbench: Workbench,
        keymap: Mapping[str, str],
        leave: Callable[[], object],
        steps: Sequence[Step] = TOUR,
        pace: float = 1.0,
        patience: float = PATIENCE,
    ) -> None:
        self._app = app
        self._cues = Cues(app, workbench)
        self._keymap = keymap
        self._leave = leave
        self._steps = steps
        self._pace = pace
        self._patience = patience
        self._mine: set[int] = set()
        "The keys that were posted here and have not come yet, by identity."
        self._posted: list[Key] = []
        "The same, so that none is forgotten while its identity counts."
        self._worker: Worker[None] | None = None
        self._says = ""
        self._hand = random.Random(1)
        self.missed: list[str] = []
        "States that did not come in time."
        self.done = 0
        "How many steps are over."

    @property
    def running(self) -> bool:
        """Whether the tour goes on."""
        return self._worker is not None

    def begin(self) -> None:
        """From the first step on."""
        self._app.add_class("-touring")
        self._worker = self._app.run_worker(self._go(), group="tour")

    def stops(self, event: Event) -> bool:
        """Whether an event was somebody's who takes over; it does nothing else then, but for the key that leaves."""
        if not isinstance(event, Key | Paste | MouseDown) or event.is_forwarded:
            return False
        if id(event) in self._mine:
            self._mine.discard(id(event))
            self._posted = [key for key in self._posted if key is not event]
            return False
        if self._worker is None:
            return False
        self._worker.cancel()
        self._worker = None
        self._app.run_worker(self._hand_over(), group="tour")
        return not (isinstance(event, Key) and event.key in self._keys("quit"))

    async def _hand_over(self) -> None:
        quit_key = self._key("quit")
        await self._say(f"It is yours. {quit_key} leaves; what was made here goes with it")
        for _ in range(round(GOODBYE / LOOK)):  # the caption goes with them from screen to screen
            await asyncio.sleep(LOOK * self._pace)
            await self._say(self._says)
        self._app.remove_class("-touring")
        for screen in self._app.screen_stack:
            await screen.query(Caption).remove()

    # ── the tour ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _go(self) -> None:
        for step in self._steps:
            before = self._cues.before()
            said, says = self._says, step.says.format_map({name: self._key(name) for name in keys.BY_ID})
            await self._say(says)
            if said != says:
                await self._sleep(READING)
            for key in step.keys:
                await self._press(key)
            for letter in step.types:
                await self._post(_character_to_key(letter), letter)
                await self._sleep((HURRY if step.quick else LETTER) * self._hand.uniform(0.6, 1.4))
            for key in step.then:
                await self._press(key)
            for cue in step.until:
                if not await self._wait(partial(self._cues.came, cue, before)):
                    self.missed.append(f"{step.says}: {cue}")
                    log.warning("the tour waited in vain: %s", self.missed[-1])
            await self._sleep(step.rest)
            self.done += 1
        self._worker = None
        self._leave()

    async def _press(self, name: str) -> None:
        key = name.removeprefix("key:") if name.startswith("key:") else self._keys(name)[0]
        await self._post(key, None)
        await self._sleep(PRESS * self._hand.uniform(0.7, 1.3))

    async def _post(self, key: str, letter: str | None) -> None:
        """As the terminal's own keys come."""
        event = Key(key, letter)
        self._mine.add(id(event))
        self._posted.append(event)
        self._app.post_message(event)
        while id(event) in self._mine:
            await asyncio.sleep(LOOK / 20)

    async def _wait(self, came: Callable[[], bool]) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while not came():
            if loop.time() > until:
                return False
            await asyncio.sleep(LOOK if self._pace else LOOK / 10)
            await self._say(self._says)
        return True

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._pace)
        await self._say(self._says)

    async def _say(self, text: str) -> None:
        """On the screen that is shown, which may have been opened since."""
        self._says = text
        for screen in self._app.screen_stack:  # also under a dialog, which may close before the next word
            for line in screen.query(Caption):
                line.show(text)
        screen = self._app.screen
        if screen.is_mounted and not screen.query(Caption):
            await screen.mount(Caption(text, f"any key takes over · {self._key('quit')} leaves"))

    def _keys(self, action: str) -> list[str]:
        return self._keymap.get(action, keys.BY_ID[action].keys).split(",")

    def _key(self, action: str) -> str:
        return keys.shown(keys.BY_ID[action], self._keymap).partition(" or ")[0]
