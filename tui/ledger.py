"""Settings that are changed: they act at once, and are written one after another while the interface goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from engines.errors import SafelightError
from tui import keys, settings, settings_file
from tui.clean import clean
from tui.settings import Option, Value
from tui.wishes import Wishes


class Ledger:
    """What is asked for is held at once, whatever the disk says; what it says is told.

    Args:
        wishes: what holds, and what the file says.
        act: makes what was changed act, by its names; 'keys' is one.
        spawn: runs what waits for the disk.
        tell: says a text, and whether it is an error.
        told: what was said of the file at the start.
    """

    def __init__(
        self,
        wishes: Wishes,
        act: Callable[[Sequence[str]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        tell: Callable[[str, bool], None],
        told: Sequence[str] = (),
    ) -> None:
        self.wishes = wishes
        self.changed: Callable[[], None] = lambda: None
        "Called when something is another than it was; set by whoever shows it."
        self._act = act
        self._spawn = spawn
        self._tell = tell
        self._lane = asyncio.Lock()
        self._asked = 0
        "How often something was changed here: what was read before the last time is out of date."
        self._writing = 0
        self._told = set(told)

    def set(self, option: Option, value: Value | None) -> None:
        """Another value, or the default for None."""
        origin = self.wishes.origin(option)
        if origin in ("environment", "command line"):
            whose = option.variable if origin == "environment" else "the command line"
            self._tell(f"{whose} comes before the file: this is for another time", False)
        self._act(self.wishes.take(option.name, value))
        self._write(option.name, value)

    def set_key(self, action: keys.Action, key: str) -> str:
        """Another key, or the default for an empty one; returns why not if another action has it."""
        given = dict(self.wishes.now.keys)
        _, before = keys.keymap(given.items())
        given.pop(action.id, None)
        if key and key != action.keys:
            given[action.id] = key
        _, problems = keys.keymap(given.items())
        if new := [problem for problem in problems if problem not in before]:
            return clean(new[0].removeprefix("keys: "))
        self.wishes.take_keys(tuple(given.items()))
        self._act(["keys"])
        self._write(f"keys.{action.id}", given.get(action.id))
        return ""

    def look(self) -> None:
        """Reads the file again: an editor may have saved it."""
        if not self._writing:
            self._spawn(self._learn())

    def _write(self, name: str, value: Value | None) -> None:
        self._asked += 1
        self._writing += 1
        self.changed()
        self._spawn(self._change(name, value))

    async def _change(self, name: str, value: Value | None) -> None:
        try:
            async with self._lane:
                await asyncio.to_thread(settings_file.change, self.wishes.path, name, value)
        except SafelightError as e:
            self.wishes.not_written(name.partition(".")[0])
            self._tell(f"{e.message}\n{e.hint}\nnot written; it holds until safelight is left", True)
            self.changed()
            return
        finally:
            self._writing -= 1
        await self._learn()

    async def _learn(self) -> None:
        asked = self._asked
        read = await asyncio.to_thread(settings.look, self.wishes.path)
        if self._writing or asked != self._asked:
            return  # what was written last will be read
        self._act(self.wishes.learn(read))
        for problem in [problem for problem in read.problems if problem not in self._told][:3]:
            self._tell(problem, True)
        self._told.update(read.problems)
        self.changed()
