"""How tests drive the workbench: an app over the fake engine, and how they wait for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_engine import NOW, FakeEngine, FakeStore, catalogue
from textual.pilot import Pilot
from textual.widgets import Static

from engines.catalogue import Catalogue
from engines.folders import Folders
from engines.requests import Generate, Pull
from engines.store import Store
from tui.app import SafelightApp
from tui.draft import Draft
from tui.settings import Settings

WIDE, MEDIUM, NARROW = (132, 30), (80, 24), (50, 24)


class Bench:
    """An app with its fake engine, in a folder of its own."""

    def __init__(self, home: Path, known: Catalogue | None = None, **engine: Any) -> None:
        self.home = home
        self.catalogue = known or catalogue(home)
        self.store = FakeStore(home)
        self.engine = FakeEngine(self.store, **engine)
        self.sweeps = Store(home / "sweeps.sqlite3")
        self.app = self.open()

    def open(self, settings: Settings | None = None, notices: tuple[str, ...] = ()) -> SafelightApp:
        home = self.home
        folders = Folders(home / "config", home / "data", home / "cache", home / "pictures")
        self.app = SafelightApp(
            self.engine, self.store, self.catalogue, folders, settings or Settings(), notices,
            sweeps=self.sweeps, clock=lambda: NOW,
        )  # fmt: skip
        return self.app

    def fill(self, count: int) -> None:
        """Pictures from earlier."""
        for i in range(count):
            self.store.add(Generate(f"picture number {i}", "mini", i, 128, 128, 4, 4.5, negative_prompt="fog"))

    def draft(self, **values: Any) -> None:
        """What was in the form when the last workbench was left."""
        (self.home / "data").mkdir(exist_ok=True)
        (self.home / "data" / "draft-1.json").write_text(Draft(**{"model": "mini", "score": "no", **values}).to_json())

    @property
    def pulled(self) -> list[str]:
        return [r.id for r in self.engine.submitted if isinstance(r, Pull)]

    @property
    def made(self) -> list[Generate]:
        return [r for r in self.engine.submitted if isinstance(r, Generate)]


async def until(pilot: Pilot[None], condition: Callable[[], object], tries: int = 500) -> None:
    """Waits for what other threads do; gives up after a bounded number of looks."""
    for _ in range(tries):
        if condition():
            await pilot.pause()
            return
        await pilot.pause(0.01)
    raise AssertionError("it did not happen")


def write(bench: Bench, words: str) -> None:
    """Types into the prompt, all at once: every key by itself would cost the tests 60 ms."""
    bench.app.workbench.form.prompt.insert(words)


def text(app: SafelightApp, selector: str) -> str:
    """What a one-widget pane says."""
    return str(app.workbench.query_one(selector, Static).render())


def toasts(app: SafelightApp) -> str:
    return "\n".join(n.message for n in app._notifications)
