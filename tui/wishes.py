"""What its user wants: the settings that hold now, those that the file has, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from tui.settings import BY_NAME, OPTIONS, Option, Read, Refused, Settings, Value

Origin: TypeAlias = Literal["default", "file", "command line", "environment", "this session"]


class Wishes:
    """Settings while they are changed.

    Args:
        settings: what holds since the start.
        path: settings.toml.
        environment: of this process, whose variables come before it.
    """

    def __init__(self, settings: Settings, path: Path, environment: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.now = settings
        "What holds at this moment."
        self.wanted = settings
        "What was asked for: by the file, or here; what acts at the next start only differs from what holds."
        self._environment = os.environ if environment is None else environment
        self._named: frozenset[str] = frozenset()
        self._refused: dict[str, Refused] = {}
        self._unwritten: set[str] = set()

    def value(self, option: Option) -> Value:
        """What is shown: what holds if it came from outside the file, else what was asked for."""
        match self.origin(option):
            case "command line":
                return getattr(self.now, option.name)  # type: ignore[no-any-return]
            case "environment":
                return self._environment[option.variable]
            case _:
                return self.wanted_value(option)

    def wanted_value(self, option: Option) -> Value:
        """What was asked for by the file, or here."""
        return getattr(self.wanted, option.name)  # type: ignore[no-any-return]

    def origin(self, option: Option) -> Origin:
        """Where its value comes from."""
        if option.variable and self._environment.get(option.variable, "") in option.choices:
            return "environment"
        if option.name in self.now.given:
            return "command line"
        if option.name in self._unwritten:
            return "this session"
        return "file" if option.name in self._named else "default"

    def waits(self, option: Option) -> bool:
        """Whether what was asked for acts at the next start only."""
        outside = self.origin(option) in ("command line", "environment")
        return not outside and self.wanted_value(option) != getattr(self.now, option.name)

    def refused(self, name: str) -> Refused | None:
        """What the file has for a setting, or for 'keys.' and an action's id, and can't be; None if that was changed
        here since."""
        changed = {name, name.partition(".")[0]} & self._unwritten
        return None if changed else self._refused.get(name)

    def learn(self, read: Read) -> tuple[str, ...]:
        """What the file says now; what couldn't be written before holds all the same. The names of what acts at once
        and is another now, 'keys' among them."""
        if not read.readable:
            return ()  # what held goes on
        before = self.wanted
        kept = {name: getattr(before, name) for name in self._unwritten}
        self._named = read.named
        self._refused = dict(read.refused)
        self.wanted = replace(read.settings, given=before.given, **kept)
        return self._take()

    def take(self, name: str, value: Value | None) -> tuple[str, ...]:
        """Another value, or the default for None; what acts at once by that."""
        self.wanted = replace(self.wanted, **{name: BY_NAME[name].default if value is None else value})  # type: ignore[arg-type]
        self._named = self._named - {name} if value is None else self._named | {name}
        self._refused.pop(name, None)
        self._unwritten.discard(name)
        return self._take()

    def take_keys(self, keys: tuple[tuple[str, str], ...]) -> None:
        """Other keys, which have been looked at."""
        self._refused = {name: it for name, it in self._refused.items() if name.removeprefix("keys.") not in dict(keys)}
        self.wanted = replace(self.wanted, keys=keys)
        self.now = replace(self.now, keys=keys)

    def borrow(self, name: str, value: Value) -> None:
        """Another value until the program is left, which nobody writes."""
        self.wanted = replace(self.wanted, **{name: value})  # type: ignore[arg-type]
        self.now = replace(self.now, **{name: value})  # type: ignore[arg-type]
        self._unwritten.add(name)

    def not_written(self, name: str) -> None:
        """It couldn't be written: it holds while the program runs."""
        self._unwritten.add(name)

    def _take(self) -> tuple[str, ...]:
        acting = [o.name for o in OPTIONS if o.at_once and o.name not in self.now.given] + ["keys"]
        changed = tuple(n for n in acting if getattr(self.wanted, n) != getattr(self.now, n))
        self.now = replace(self.now, **{name: getattr(self.wanted, name) for name in changed})
        return changed
