"""The tour of `safelight --demo`: every state that it waits for comes, and whoever presses a key has the workbench."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from driving import until
from fake_engine import gradient
from sweep_child import FakeDarkroom
from textual.app import App
from typer.testing import CliRunner

from engines import catalogue, folders
from engines.events import Event, Sketched
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Generate, Job, Warm
from engines.store import Made, Store
from tui import cues, demo, keys, leaving
from tui import settings as settings_file
from tui.app import SafelightApp
from tui.guide import Caption, Guide
from tui.settings import Settings
from tui.tour import TOUR

SIZES = [(80, 24), (160, 45)]


class Room(FakeDarkroom):
    """Draws nothing, and sketches nothing, of any model."""

    def develop(self, job: Job, stop: Any, began: float) -> Generator[Event, None, tuple[Made, ...]]:
        request = job.request
        if isinstance(request, Warm):
            return ()
        assert isinstance(request, Generate)
        if request.sketch:
            yield Sketched(job.id, gradient(request.seed))
            return ()
        (made,) = yield from super().develop(job, stop, began)
        return (replace(made, scores={request.score: made.scores["fake"]} if request.score else {}),)


class Stage:
    """The workbench of the demo, in a home of its own, over an engine that draws nothing."""

    def __init__(self, home: Path) -> None:
        demo.prepare(home, Settings(), home / "no themes")
        places = folders.find()
        self.settings, problems = settings_file.load(places.settings)
        assert not problems
        self.store = Store(places.store)
        known = catalogue.load()
        room: Any = Room(home / "pictures", 0)
        self.engine = LocalEngine(
            known, places, Options(home / "pictures", "cpu", 1, ""), self.store, "workbench", lambda: cast(Any, room)
        )
        self.app = SafelightApp(self.engine, self.store, known, places, self.settings, sweeps=self.store)

    def close(self) -> None:
        self.engine.close()
        self.store.close()


@pytest.fixture
def stage(home: Path) -> Iterator[Stage]:
    made = Stage(home)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.sketching.REST", 0.1)


def caption(app: App[Any]) -> str:
    return "".join(str(line.render()) for line in app.screen.query(Caption))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_every_state_comes_and_it_ends_by_itself(stage: Stage, size: tuple[int, int]) -> None:
    guide = stage.app.show_around(pace=0, patience=10)
    async with stage.app.run_test(size=size) as pilot:
        await until(pilot, lambda: guide.running)
        await until(pilot, lambda: not guide.running, tries=9000)
        assert guide.missed == []
        assert guide.done == len(TOUR)
    assert stage.app.return_code == 0
    made = stage.store.pictures()
    assert {p.request.model for p in made} == {"mini", "mini-lightning-4step-unet"}
    assert "a (purple)1.6 apple" in {p.request.prompt for p in made}
    assert len({p.request.seed for p in made if "apple" in p.request.prompt}) == 1, "the seed was kept"


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_caption_stands_above_the_footer_and_covers_nothing(stage: Stage, size: tuple[int, int]) -> None:
    guide = stage.app.show_around()
    async with stage.app.run_test(size=size) as pilot:
        await until(pilot, lambda: "any key" in caption(stage.app))
        (line,) = stage.app.screen.query(Caption)
        await until(pilot, lambda: line.region.height)
        assert (line.region.y, line.region.height) == (size[1] - 2, 1)
        body = stage.app.screen.query_one("#body").region
        assert body.bottom <= line.region.y
        assert guide.running


async def test_any_key_takes_over_and_types_nothing(stage: Stage) -> None:
    guide = stage.app.show_around()
    async with stage.app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guide.running and caption(stage.app))
        await pilot.press("z")
        assert not guide.running
        await until(pilot, lambda: "yours" in caption(stage.app))
        assert "z" not in stage.app.workbench.draft.prompt
        before = stage.app.workbench.draft.prompt
        await pilot.press("z")
        await until(pilot, lambda: stage.app.workbench.draft.prompt == f"{before}z")


async def test_the_key_that_leaves_leaves_at_once(stage: Stage) -> None:
    guide = stage.app.show_around()
    async with stage.app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guide.running)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not stage.app.is_running)
    assert stage.app.return_code == 0


async def test_moved_keys_are_pressed_where_they_are(stage: Stage) -> None:
    stage.app._keymap_chosen["lock-seed"] = "ctrl+k"
    guide = Guide(stage.app, stage.app.workbench, stage.app._keymap_chosen, lambda: None)
    assert guide._keys("lock-seed") == ["ctrl+k"] and guide._key("lock-seed") == "ctrl+k"
    assert guide._key("raise-weight") == "ctrl+↑"


def test_the_script_names_what_there_is() -> None:
    for step in TOUR:
        pressed = {key for key in (*step.keys, *step.then) if not key.startswith("key:")}
        assert pressed | set(re.findall(r"{(.*?)}", step.says)) <= set(keys.BY_ID)
        assert {cue.partition(" ")[0] for cue in step.until} <= set(cues.CUES)
        shown = step.says.format_map({name: keys.shown(keys.BY_ID[name], {}).split(" or ")[0] for name in keys.BY_ID})
        assert len(shown) <= 72, "it is read on 80 columns"


def test_the_users_own_settings_hold(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dusk.toml").write_text("")
    theirs = Settings(theme='du"sk', pictures="halfblocks", folder="/elsewhere", keys=(("lock-seed", "ctrl+k"),))
    demo.prepare(home, theirs, tmp_path / "mine")
    found, problems = settings_file.load(folders.find().settings)
    assert not problems
    assert (found.theme, found.pictures, found.keys) == (theirs.theme, "halfblocks", theirs.keys)
    assert not found.folder, "nothing of the user's is written"
    assert (folders.find().config / "themes" / "dusk.toml").is_file()


def test_its_home_is_gone_afterwards_also_at_the_deadline(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def opened(device: str, threads: int, debug: bool, tour: bool) -> int:
        seen.append(folders.find().config)
        assert tour and seen[0].is_dir() and home not in seen[0].parents
        if device == "hang":
            leaving.LAST.pop()()  # as the deadline does
            assert not seen[0].exists()
        return 7

    monkeypatch.setattr("tui.opening.check_terminal", lambda: None)
    monkeypatch.setattr("tui.opening.open_workbench", opened)
    monkeypatch.setattr("tui.leaving.LAST", [])
    for device in ("", "hang"):
        seen.clear()
        assert demo.open_demo(device) == 7
        assert not seen[0].exists() and folders.find().config == home / "config"


def test_without_a_terminal_it_is_the_workbenchs_error(home: Path) -> None:
    from engines.errors import InvalidRequest
    from tui import commands

    for arguments, said in ((["--demo"], "needs a terminal"), (["--demo", "doctor"], "--demo is the workbench's")):
        with pytest.raises(InvalidRequest, match=said):
            commands.run(arguments)
    assert not list(home.iterdir())
    assert "--demo" in CliRunner().invoke(commands.app, ["--help"]).stdout
