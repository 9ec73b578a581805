"""Sweeps in the workbench: marked, made beside other work, paused and gone on with, looked at, judged by hand."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from driving import until
from fake_engine import catalogue
from PIL import Image
from sweep_child import FakeDarkroom
from test_graphics import Wire
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engines import catalogue as catalogues
from engines import folders, sweep
from engines.errors import DiskFull, InvalidRequest, Stopped
from engines.events import Event, Noted, Scored
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Generate, Job, Score, Warm
from engines.store import Made, Store, group_of
from tui import boards, grids, marking, runs
from tui.app import SafelightApp
from tui.boards import Board
from tui.draft import Draft
from tui.grid_screen import AxisInput, GridScreen, MarkList, Marks
from tui.marking import Marked
from tui.panes.help import HelpScreen
from tui.panes.scatter import Scatter
from tui.pictures.deciding import Decision
from tui.settings import Settings
from tui.sweep_screen import SweepScreen

WIDE, SMALL = (140, 40), (80, 24)
APPLE = Generate("a red apple", "mini", 1, 128, 128, 4, 4.5, score="fake-clip")


class Room(FakeDarkroom):
    """Draws small pictures; what it is told to refuse fails, and it can be made to wait before each one."""

    def __init__(self, pictures: Path) -> None:
        super().__init__(pictures, 0)
        self.fault: Callable[[Generate], Exception | None] = lambda request: None
        self.gate: threading.Semaphore | None = None
        self.drawn: list[tuple[str, int]] = []
        self.catalogue: Any = None
        self.loader: Any = self
        self.of_scorer: dict[str, Exception] = {}
        self.gates: dict[str, threading.Semaphore] = {}
        self.damaged = ""
        self.note = ""

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Generator[Event, None, tuple[Made, ...]]:
        request = job.request
        if isinstance(request, Warm):
            return ()
        if isinstance(request, Score):
            if request.scorer in self.gates:
                self.gates[request.scorer].acquire()
            if request.scorer in self.of_scorer:
                raise self.of_scorer[request.scorer]
            for path in request.pictures:
                if path != self.damaged:
                    yield Scored(job.id, path, request.scorer, float(len(path)))
            if self.damaged in request.pictures:
                raise InvalidRequest(f"{self.damaged} is no picture")
            return ()
        assert isinstance(request, Generate)
        if self.gate is not None:
            self.gate.acquire()
        if error := self.fault(request):
            raise error
        if self.note:
            yield Noted("info", self.note, job.id)
        (made,) = yield from super().develop(job, stop, began)
        self.drawn.append((request.prompt, request.seed))
        return (replace(made, scores={"fake-clip": made.scores["fake"]} if request.score else {}, peak=500 << 20),)


class Desk:
    """A workbench over an engine that draws nothing, and a real store."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.catalogue = catalogue(home)
        self.room = Room(home / "pictures")
        self.open()

    def open(self) -> SafelightApp:
        places = folders.find()
        self.store = Store(places.store)
        options = Options(self.home / "pictures", "cpu", 1, "")
        self.engine = LocalEngine(
            self.catalogue, places, options, self.store, "workbench", lambda: cast(Any, self.room)
        )
        self.app = SafelightApp(self.engine, self.store, self.catalogue, places, Settings(), sweeps=self.store)
        return self.app

    def close(self) -> None:
        self.engine.close()
        self.store.close()

    def draft(self, **values: Any) -> None:
        (self.home / "data").mkdir(exist_ok=True)
        text = Draft(**{"model": "mini", "score": "no", "prompt": "a red apple", **values}).to_json()
        (self.home / "data" / "draft-1.json").write_text(text)

    def begin(self, guidances: int, seeds: int, scorers: tuple[str, ...] = ("fake-clip",), prompt: str = "") -> int:
        """A sweep that is written down."""
        text = prompt or "a red apple"
        cells = [
            ((("prompt", text), ("guidance", str(g)), ("seed", str(s))), replace(APPLE, prompt=text, seed=s,
             guidance_scale=float(g), score=(*scorers, None)[0]))
            for g in range(1, guidances + 1)
            for s in range(seeds)
        ]  # fmt: skip
        axes = ("prompt", "guidance", "seed")
        return sweep.begin(self.store, sweep.in_order(cells), "apples", "", scorers, axes).id

    @property
    def screen(self) -> SweepScreen:
        assert isinstance(self.app.screen, SweepScreen)
        return self.app.screen

    def made(self, id: int) -> int:
        return sum(cell.picture is not None for cell in sweep.load(self.store, id).cells)

    def said(self) -> str:
        return "\n".join(n.message for n in self.app._notifications)


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    made = Desk(home)
    yield made
    made.close()


async def shown(pilot: Pilot[None], desk: Desk, id: int) -> Board:
    await until(pilot, lambda: isinstance(desk.app.screen, SweepScreen) and desk.screen.shown is not None)
    board = desk.screen.shown
    assert board is not None and board.sweep.id == id
    return board


async def whole(pilot: Pilot[None], desk: Desk, id: int) -> None:
    """Until the sweep is over."""
    await until(pilot, lambda: not desk.app.workbench.conductor.busy and desk.made(id))


# ── marking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_marked_is_counted_made_and_shown(desk: Desk) -> None:
    desk.draft()
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        told = desk.app.screen.query_one("#grid-told", Static)
        desk.app.screen.query_one("#axis-seeds", Input).value = "3"
        desk.app.screen.query_one("#axis-guidance", Input).value = "3,5"
        await until(pilot, lambda: "6 pictures" in str(told.render()))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(desk.app.screen, SweepScreen))
        await whole(pilot, desk, 1)
        board = await shown(pilot, desk, 1)
        await until(pilot, lambda: board.made == 6 and board.ranks)
    done = sweep.load(desk.store)
    assert done.title == "a red apple · model, guidance, seed" and not done.open
    assert sorted({cell.request.guidance_scale for cell in done.cells}) == [3, 5]
    assert len(desk.store.pictures()) == 6 and len(desk.room.drawn) == 6


async def test_the_list_of_models_marks_with_space_and_takes_with_enter(desk: Desk) -> None:
    desk.draft()
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        marks = desk.app.screen.query_one("#axis-models", Marks)
        assert marks.values == ("mini",)
        await pilot.press("enter")
        await until(pilot, lambda: getattr(desk.app.screen, "rows", None) and desk.app.screen.rows.offers)  # type: ignore[attr-defined]
        await pilot.press("down", "space", *"away", "space", "enter")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        assert marks.values == ("mini", "quick"), "what is not here can't be marked"
        assert "not on this machine" in desk.said()
        await pilot.press("escape")
        await until(pilot, lambda: desk.app.screen is desk.app.workbench)
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        assert desk.app.screen.query_one("#axis-models", Marks).values == ("mini", "quick"), "kept for the next time"


@pytest.mark.parametrize(
    ("line", "value", "told"),
    [
        ("seeds", "x", "'x' is no seed"),
        ("guidance", "1,x", "guidance"),
        ("size", "13x13", "multiple of 8"),
        ("parts", "pear=1,2", "pear"),
        ("loras", "nobody:1", "nobody"),
        ("guidance", ",".join(map(str, range(1, 101))), "cells"),
    ],
)
async def test_what_cannot_be_made_is_told_at_its_line(desk: Desk, line: str, value: str, told: str) -> None:
    desk.draft()
    async with desk.app.run_test(size=SMALL) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        screen = desk.app.screen
        if told == "cells":
            screen.query_one("#axis-seeds", Input).value = "9999"
        screen.query_one(f"#axis-{line}", Input).value = value
        screen.query_one(f"#axis-{line}", Input).focus()
        await pilot.press("enter")
        await until(pilot, lambda: told in str(screen.query_one("#grid-told", Static).render()))
        assert desk.app.screen is screen and not sweep.numbers(desk.store)


async def test_what_is_counted_when_the_screen_is_taken_away_ends_nothing(desk: Desk) -> None:
    """Its lines go before it does."""
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        screen = desk.app.screen
        assert isinstance(screen, GridScreen)
        for row in screen.query(".axis"):
            await row.remove_children()
        await screen.query_one("#grid-told").remove()
        screen.complain(InvalidRequest("a sweep needs a prompt", "write one", "prompts"))
        await desk.app.pop_screen()


async def test_without_a_prompt_there_is_no_sweep(desk: Desk) -> None:
    desk.draft(prompt="")
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m", "ctrl+g")
        await until(pilot, lambda: "needs a prompt" in str(desk.app.screen.query_one("#grid-told", Static).render()))


@pytest.mark.parametrize(
    "marked",
    [
        Marked(models=("mini", "mini-lightning-2step-lora"), seeds="7,"),
        Marked(seeds="3", guidance="3,5", rescale="0,0.5", steps="4,5", scheduler=("euler", "heun")),
        Marked(prompts=("an apple, freckles", "-- freckles, odd"), seeds="1", parts="freckles=0.8,1.2"),
        Marked(seeds="2", size="64x64", scorers=("mini-clip",), precision=("fp32",)),
        Marked(seeds="2", variation_strength="0,0.2"),
        Marked(seeds="2", strength="0.3,0.6"),
    ],
)
def test_the_command_of_a_marked_sweep_makes_the_same_cells(home: Path, marked: Marked) -> None:
    draft = Draft(prompt="a red apple", model="mini", negative_prompt="fog", steps="6", rescale="0.2")
    if marked.strength:
        Image.new("RGB", (256, 128)).save(home / "photo.png")
        draft = replace(draft, init=str(home / "photo.png"))
    wanted = marking.grid(marked, draft)
    cells = grids.plan(wanted, catalogues.load()).cells
    command = shlex.split(marking.command(wanted, marked.scorers))
    assert command[:2] == ["safelight", "sweep"]
    program = [sys.executable, "-m", "tui", "sweep", "--dry-run", "--json", *command[2:]]
    done = subprocess.run(program, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    again = [json.loads(line)["point"] for line in done.stdout.splitlines()]
    assert len(again) == len(cells)
    for cell, point in zip(cells, again, strict=True):
        assert dict(cell.point).items() <= point.items()


# ── making ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_negative_prompt_that_is_blank_and_encoded_is_so_in_the_command(home: Path) -> None:
    for blank, told in (("empty", ["--negative", ""]), ("zeros", [])):
        draft = Draft(prompt="a red apple", model="mini", blank_negative=blank)
        words = shlex.split(marking.command(marking.grid(Marked(), draft), ()))
        at = words.index("--negative") if "--negative" in words else 0
        assert words[at : at + 2] * bool(at) == told
    from tui import sweep_command
    from tui.session import Session

    class Plain:
        settings = Settings()

    for negative, blank in ((None, "zeros"), ("", "empty")):
        base = sweep_command._base(cast(Session, Plain()), (), negative, "", False)
        assert (base.negative_prompt, base.blank_negative) == ("", blank)


async def test_a_picture_is_made_between_two_cells(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(1, 5)
    desk.room.gate = threading.Semaphore(0)
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(id)
        cells = lambda: [job for job in desk.engine._computing.waiting if job.group]  # noqa: E731
        await until(pilot, lambda: desk.engine._computing.running and len(cells()) == 2)
        desk.app.workbench.form.prompt.insert(" and a pear")
        await pilot.press("ctrl+g")
        await until(
            pilot,
            lambda: any(
                isinstance(job.request, Generate) and job.group is None for job in desk.engine._computing.waiting
            ),
        )
        desk.room.gate.release(100)
        await whole(pilot, desk, id)
        await until(pilot, lambda: len(desk.room.drawn) == 6)
    assert [prompt for prompt, _ in desk.room.drawn].index("a red apple and a pear") == 1
    assert desk.made(id) == 5


async def test_space_pauses_and_goes_on_and_no_cell_is_made_twice(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(2, 4)
    desk.room.gate = threading.Semaphore(3)
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, id)
        await pilot.press("space")
        await until(pilot, lambda: desk.made(id) == 3)
        with pytest.raises(InvalidRequest, match="is being made already"), runs.alone(desk.store, id):
            pass
        await pilot.press("space")
        desk.room.gate.release(1)
        conductor = desk.app.workbench.conductor
        await until(pilot, lambda: conductor._lock is None)
        with runs.alone(desk.store, id):
            pass  # others may make it now
        assert 3 <= desk.made(id) <= 4 and "is paused" in desk.said()
        desk.room.gate.release(100)
        await pilot.press("space")
        await whole(pilot, desk, id)
        await until(pilot, lambda: desk.screen.shown is not None and desk.screen.shown.made == 8)
    assert desk.made(id) == 8 and len(desk.store.pictures()) == 8 and len(set(desk.room.drawn)) == 4


async def test_a_sweep_that_is_left_in_the_middle_goes_on_when_the_workbench_is_opened_again(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(1, 6)
    desk.room.gate = threading.Semaphore(2)
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(id)
        await until(pilot, lambda: desk.made(id) == 2)
        assert desk.app.workbench.conductor.left == 4
        desk.room.gate.release(1)
        await pilot.press("ctrl+q")
    assert "of a sweep" in desk.app.farewell and "opened again" in desk.app.farewell
    desk.close()
    desk.room.gate = None
    async with desk.open().run_test(size=WIDE) as pilot:
        await until(pilot, lambda: desk.made(id) == 6)
        assert "goes on where it was left" in desk.said()
        await until(pilot, lambda: sweep.marked(desk.store) is None)
    assert len(desk.store.pictures()) == 6


async def test_a_sweep_that_brings_the_program_down_is_set_aside(desk: Desk) -> None:
    id = desk.begin(1, 2)
    sweep.mark(desk.store, id, 2)
    async with desk.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "is set aside" in desk.said())
        await until(pilot, lambda: sweep.marked(desk.store) is None)
        rows = desk.app.workbench.queue
        await until(pilot, lambda: [row.prompt for row in rows._rows] == ["paused at 0/2: sweep 1: apples"])
        assert not desk.app.workbench.conductor.busy and not desk.made(id)


async def test_a_sweep_that_another_program_makes_is_left_to_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui import sweep_screen

    id = desk.begin(1, 2)
    with runs.alone(desk.store, id):
        async with desk.app.run_test(size=WIDE) as pilot:
            await pilot.press("f8")
            await shown(pilot, desk, id)
            await pilot.press("space")
            await until(pilot, lambda: "is being made already" in desk.said())
            assert not desk.app.workbench.conductor.busy
            title = desk.screen.query_one("#sweep-title", Static)
            await until(pilot, lambda: str(title.render()).strip().endswith("0/2 · another program makes it"))
        monkeypatch.setattr(sweep_screen, "LOOK_AGAIN", 0.05)
    async with desk.open().run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, id)
        title = desk.screen.query_one("#sweep-title", Static)
        await until(pilot, lambda: str(title.render()).strip().endswith("0/2 · space makes the rest"))


async def test_what_another_program_makes_meanwhile_comes_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui import sweep_screen

    monkeypatch.setattr(sweep_screen, "LOOK_AGAIN", 0.05)
    id = desk.begin(1, 2)
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, id)
        (job,) = desk.store.add([APPLE], group_of(id, 1), desk.store.register("command"))
        made = list(_all(FakeDarkroom(desk.home / "pictures", 0).develop(job, lambda: False, 0)))[-1]
        desk.store.finish(job.id, [replace(made, scores={"fake-clip": 30.0})])
        await until(pilot, lambda: board.made == 1 and board.ranks.get("fake-clip"))
        assert desk.screen.shown is board
        sweep.fail(desk.store, id, [0, 1], "no such thing")
        await until(pilot, lambda: board.progress == (1, 1))
        missing = desk.screen.query_one("#sweep-missing", Static)
        await until(pilot, lambda: "no such thing" in str(missing.render()))


async def test_what_fails_is_told_once_and_the_rest_goes_on(desk: Desk) -> None:
    id = desk.begin(2, 3)
    desk.room.fault = lambda request: InvalidRequest("no such thing") if request.guidance_scale == 1 else None
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, id)
        await pilot.press("space")
        await whole(pilot, desk, id)
        await until(pilot, lambda: board.made == 3 and board.missing())
        missing = desk.screen.query_one("#sweep-missing", Static)
        await until(pilot, lambda: "no such thing" in str(missing.render()))
        assert desk.said().count("no such thing") == 1
    done = sweep.load(desk.store, id)
    assert [cell.message for cell in done.cells] == ["no such thing"] * 3 + [""] * 3


async def test_a_full_disk_pauses_the_sweep_and_nothing_is_lost(desk: Desk) -> None:
    id = desk.begin(1, 4)
    full = [True]
    desk.room.fault = lambda request: DiskFull("the disk is full") if full[0] and request.seed == 2 else None
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, id)
        await pilot.press("space")
        await until(pilot, lambda: not desk.app.workbench.conductor.busy and "the disk is full" in desk.said())
        await until(pilot, lambda: desk.app.workbench.conductor._lock is None)
        assert not any(cell.message for cell in sweep.load(desk.store, id).cells)
        full[0] = False
        await pilot.press("space")
        await until(pilot, lambda: desk.made(id) == 4)
    assert len(desk.store.pictures()) == 4


async def test_other_scorers_judge_when_all_pictures_are_there(desk: Desk) -> None:
    id = desk.begin(1, 3, ("fake-clip", "second", "broken"))
    desk.room.of_scorer["broken"] = RuntimeError("no weights")
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, id)
        await pilot.press("space")
        await whole(pilot, desk, id)
        await until(pilot, lambda: board.ranks.get("second"))
        await pilot.press("c")
        assert "second" in str(desk.screen.board.border_title)
    done = sweep.load(desk.store, id)
    assert all(set(cell.picture.scores) == {"fake-clip", "second"} for cell in done.cells if cell.picture)
    assert [who for who, _ in done.left_out] == ["scorer broken"]


async def test_esc_leaves_a_sweep_alone_and_x_in_the_queue_pauses_it(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(1, 4)
    desk.room.gate = threading.Semaphore(1)
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(id)
        await until(pilot, lambda: desk.made(id) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: "pauses the sweep" in desk.said())
        assert desk.app.workbench.conductor.busy
        await until(pilot, lambda: desk.app.workbench.queue._rows)
        assert "sweep 1: apples" in desk.app.workbench.queue._rows[0].prompt
        await pilot.press("f6", "x")
        await until(pilot, lambda: not desk.app.workbench.conductor.busy)
        desk.room.gate.release(10)
        await until(
            pilot,
            lambda: (
                [row.prompt for row in desk.app.workbench.queue._rows]
                == [f"paused at {desk.made(id)}/4: sweep 1: apples"]
            ),
        )
        await pilot.press("f6", "x")
        await until(pilot, lambda: not desk.app.workbench.queue._rows)


async def test_a_great_many_pictures_are_asked_about_and_prompts_can_be_typed(desk: Desk) -> None:
    desk.draft(prompt="a red apple")
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        form = desk.app.screen
        assert isinstance(form, GridScreen)
        form.query_one("#axis-more", Input).value = "a pear | a plum |"
        form.query_one("#axis-seeds", Input).value = "50"
        form.query_one("#axis-seeds", Input).focus()
        await pilot.press("enter")
        await until(pilot, lambda: "enter again makes them" in str(form.query_one("#grid-told", Static).render()))
        assert "150 pictures" in str(form.query_one("#grid-told", Static).render()) and desk.app.screen is form
        form.query_one("#axis-seeds", Input).value = "1,"
        await pilot.press("enter")
        await until(pilot, lambda: desk.app.screen is not form)
        await until(pilot, lambda: len(sweep.numbers(desk.store)) == 1)
        wanted = sweep.load(desk.store)
        assert [cell.request.prompt for cell in wanted.cells] == ["a red apple", "a pear", "a plum"]


async def test_what_stands_in_an_empty_line_is_an_example_or_what_holds_and_looks_like_no_value(desk: Desk) -> None:
    desk.draft(guidance="6.5")
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        form = desk.app.screen
        for line in form.query(AxisInput):
            told = line.placeholder
            assert told.startswith(("e.g. ", "as in the form: ")) or not any(c.isdigit() for c in told), told
        assert form.query_one("#axis-guidance", Input).placeholder == "as in the form: 6.5"
        line = form.query_one("#axis-steps", Input)
        assert line.placeholder == "e.g. 10,20"
        assert [bool(s.style and s.style.italic) for s in line.render_line(0) if "e.g." in s.text] == [True]
        marks = form.query_one("#axis-precision", Marks)
        empty = marks.render()
        assert "italic" in str(empty.spans[0].style)
        marks.mark(("fp16",))
        assert not marks.render().spans


async def test_a_list_without_anything_says_so_and_esc_closes_it_alone(desk: Desk) -> None:
    desk.draft()
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))
        form = desk.app.screen
        desk.app.workbench.catalogue.vaes.clear()
        form.query_one("#axis-vae").focus()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(desk.app.screen, MarkList))
        await until(pilot, lambda: desk.app.screen.rows.chosen is not None)
        await pilot.press("space")
        assert "nothing to mark for vae" in desk.said()
        await pilot.press("escape")
        assert desk.app.screen is form


async def test_help_over_sweeps_begins_with_their_keys(desk: Desk) -> None:
    desk.draft()
    desk.begin(1, 1)
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await until(pilot, lambda: isinstance(desk.app.screen, SweepScreen))
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(desk.app.screen, HelpScreen))
        assert str(desk.app.screen._text()).startswith("Over sweeps")


async def test_leaving_in_order_is_no_going_down(desk: Desk) -> None:
    """However often the workbench is left before a cell is made, the sweep goes on the next time."""
    desk.draft()
    id = desk.begin(1, 12)
    desk.room.gate = threading.Semaphore(0)
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(id)
        await until(pilot, lambda: desk.engine._computing.running)
        desk.room.gate.release(1)
        await pilot.press("ctrl+q")
    for _ in range(3):
        desk.close()
        desk.room.fault = lambda request: Stopped()
        async with desk.open().run_test(size=WIDE) as pilot:
            await until(pilot, lambda: desk.app.workbench.conductor.busy)
            await until(pilot, lambda: sweep.marked(desk.store) == (id, 1))  # until something comes of it
            desk.room.gate.release(1)
            await pilot.press("ctrl+q")
        assert sweep.marked(desk.store) == (id, 0)


async def test_what_is_worth_knowing_of_every_cell_is_told_once(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(1, 4)
    desk.room.note = "the prompt is read in two chunks"
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(id)
        await whole(pilot, desk, id)
        await until(pilot, lambda: desk.made(id) == 4)
        assert desk.said().count("in two chunks") == 1


async def test_deleted_pictures_are_made_again_and_told(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(1, 3)
    async with desk.app.run_test(size=WIDE) as pilot:
        conductor = desk.app.workbench.conductor
        conductor.go_on(id)
        await until(pilot, lambda: not conductor.busy and desk.made(id) == 3)
        one, *others = (cell.picture.path for cell in sweep.load(desk.store, id).cells if cell.picture)
        Path(one).unlink()
        conductor.go_on(id)
        await until(pilot, lambda: "1 picture of sweep 1 was deleted or damaged: made again" in desk.said())
        await until(pilot, lambda: not conductor.busy and len(desk.room.drawn) == 4)
        for path in (one, *others):
            Path(path).unlink(missing_ok=True)
        conductor.go_on(id)
        await until(pilot, lambda: "are gone" in desk.said())
        assert not conductor.busy and desk.made(id) == 3, "its disk may be away"
        await pilot.press("f8")
        await shown(pilot, desk, id)
        await pilot.press("space")
        await until(pilot, lambda: "space once more makes them again" in desk.said())
        assert not conductor.busy and len(desk.room.drawn) == 4
        await pilot.press("space")
        await until(pilot, lambda: not conductor.busy and len(desk.room.drawn) == 7 and Path(one).exists())


async def test_the_screen_tells_what_was_deleted_and_space_makes_it(desk: Desk) -> None:
    desk.draft()
    id = desk.begin(1, 3)
    async with desk.app.run_test(size=WIDE) as pilot:
        conductor = desk.app.workbench.conductor
        conductor.go_on(id)
        await until(pilot, lambda: not conductor.busy and desk.made(id) == 3)
        one = next(cell.picture.path for cell in sweep.load(desk.store, id).cells if cell.picture)
        Path(one).write_bytes(b"garbage")
        await pilot.press("f8")
        board = await shown(pilot, desk, id)
        title = desk.screen.query_one("#sweep-title", Static)
        await until(pilot, lambda: "3/3 · 1 deleted or damaged · space makes the rest" in str(title.render()))
        assert board.gone == {0}
        await pilot.press("space")
        await until(pilot, lambda: len(desk.room.drawn) == 4 and not conductor.busy)
        await until(pilot, lambda: not board.gone and str(title.render()).strip().endswith("3/3"))


async def test_f8_comes_back_to_where_one_was(desk: Desk) -> None:
    desk.draft()
    first, second = desk.begin(2, 3), desk.begin(1, 2)
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, second)
        desk.screen.look_at(first)
        await until(pilot, lambda: desk.screen.shown is not None and desk.screen.shown.sweep.id == first)
        await pilot.press("tab", "down", "right")
        assert desk.screen.at == (1, 1)
        await pilot.press("escape", "f8")
        await shown(pilot, desk, first)
        await until(pilot, lambda: desk.screen.at == (1, 1))
        sweep.remove(desk.store, first)
        await pilot.press("escape", "f8")
        await shown(pilot, desk, second)


async def test_a_recipe_that_was_taken_back_with_a_picture_is_not_every_models(desk: Desk) -> None:
    """The settings of a picture of one model are written out in the form; a sweep's other models have their own."""
    desk.draft(model="quick", steps="2", guidance="0", size="128x128", scheduler="lcm")
    quick, mini = desk.catalogue.model("quick").recipe, desk.catalogue.model("mini").recipe
    draft = Draft(model="quick", steps=str(quick.num_inference_steps), guidance=f"{quick.guidance_scale:g}",
                  scheduler=quick.scheduler, rescale="0.3", prompt="x")  # fmt: skip
    plain = marking.unpinned(draft, quick)
    assert (plain.steps, plain.guidance, plain.scheduler, plain.rescale) == ("", "", "", "0.3")
    assert marking.unpinned(draft, replace(quick, num_inference_steps=9, guidance_scale=3.0)).steps == draft.steps
    async with desk.app.run_test(size=WIDE) as pilot:
        workbench = desk.app.workbench
        await until(pilot, lambda: workbench.draft.model == "quick")
        planned = grids.plan(
            marking.grid(Marked(models=("mini", "quick"), seeds="1"), workbench._form_of_any()), desk.catalogue
        )
    assert {cell.request.model: cell.request.num_inference_steps for cell in planned.cells} == {
        "mini": mini.num_inference_steps, "quick": quick.num_inference_steps,
    }  # fmt: skip


async def test_scores_count_as_something_that_came_of_a_sweep(desk: Desk) -> None:
    """It was started twice and went down; that it scores is enough to be started again."""
    desk.draft()
    id = desk.begin(1, 2, ("fake-clip", "other"))
    async with desk.app.run_test(size=WIDE) as pilot:
        conductor = desk.app.workbench.conductor
        desk.room.of_scorer["other"] = InvalidRequest("not today")
        conductor.go_on(id)
        await until(pilot, lambda: not conductor.busy and desk.made(id) == 2)
        with desk.store.transaction() as db:
            db.execute("DELETE FROM scores")
    desk.close()
    desk.room.gates["fake-clip"] = desk.room.gates["other"] = threading.Semaphore(0)
    again = desk.open()
    sweep.mark(desk.store, id, 1)
    async with again.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: desk.engine._computing.running)
        assert sweep.marked(desk.store) == (id, 1)
        desk.room.gates["fake-clip"].release()
        await until(pilot, lambda: sweep.marked(desk.store) == (id, 0))
        desk.room.gates["other"].release()
        await until(pilot, lambda: sweep.marked(desk.store) is None)


async def test_scores_that_are_missing_are_made_up_for(desk: Desk) -> None:
    """One damaged file costs its own score; with one scorer as with several."""
    desk.draft()
    id = desk.begin(1, 4)
    async with desk.app.run_test(size=WIDE) as pilot:
        conductor = desk.app.workbench.conductor
        conductor.go_on(id)
        await until(pilot, lambda: not conductor.busy and desk.made(id) == 4)
        with desk.store.transaction() as db:
            db.execute("DELETE FROM scores")
        desk.room.damaged = next(cell.picture.path for cell in sweep.load(desk.store, id).cells[1:] if cell.picture)
        await pilot.press("f8")
        board = await shown(pilot, desk, id)
        await pilot.press("space")
        await until(pilot, lambda: sum("fake-clip" in c.picture.scores for c in board.now().cells if c.picture) == 3)
        await until(pilot, lambda: not conductor.busy)
        done = sweep.load(desk.store, id)
        assert [who for who, _ in runs.missing(done)] == ["scorer fake-clip"] and desk.said().count("no picture") == 1
        desk.room.damaged = ""
        await pilot.press("space")
        await until(pilot, lambda: runs.missing(sweep.load(desk.store, id)) == ())
        await until(pilot, lambda: not conductor.busy)
        await pilot.press("space")
        await until(pilot, lambda: "made and scored" in desk.said())


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def filled(desk: Desk) -> Desk:
    """A sweep of six pictures that is all there."""
    desk.draft()
    desk.begin(2, 3)
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(1)
        await until(pilot, lambda: not desk.app.workbench.conductor.busy and desk.made(1) == 6)
    desk.close()
    desk.open()
    return desk


async def test_pictures_are_walked_enlarged_rated_and_taken(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, 1)
        await until(pilot, lambda: board.ranks)
        await until(pilot, lambda: [one.rank.place for one in desk.screen.board._rows if one.rank] == [1, 2])
        first = desk.screen.board.chosen
        await pilot.press("enter", "down", "right")
        sheet = desk.screen.pictures.sheet
        assert (sheet.row, sheet.column) == (1, 1) and desk.screen.board.chosen != first
        await pilot.press("4")
        await until(pilot, lambda: sheet.cell is not None and sheet.cell.picture.rating == 4)  # type: ignore[union-attr]
        cell = sheet.cell
        assert cell is not None and cell.picture is not None
        await until(pilot, lambda: desk.store.picture(cell.picture.id).rating == 4)  # type: ignore[union-attr]
        await until(pilot, lambda: any(one.rated == 1 for one in desk.screen.board._rows))
        await pilot.press("enter")
        zoom = desk.screen.pictures.zoom
        caption = zoom.query_one("#zoom-caption", Static)
        await until(pilot, lambda: zoom.display and "★★★★" in str(caption.render()))
        before = str(caption.render())
        await pilot.press("left", "up")
        assert str(caption.render()) != before and (sheet.row, sheet.column) == (0, 0)
        await pilot.press("right", "down", "0")
        await until(pilot, lambda: desk.store.picture(cell.picture.id).rating is None)  # type: ignore[union-attr]
        await pilot.press("escape")
        assert sheet.display and not zoom.display
        await pilot.press("t")
        await until(pilot, lambda: desk.app.screen is desk.app.workbench)
        await until(pilot, lambda: desk.app.workbench.draft.seed == str(cell.request.seed))
        assert desk.app.workbench.draft.guidance == str(int(cell.request.guidance_scale))


async def test_a_judgement_is_of_the_picture_that_is_large(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, 1)
        await until(pilot, lambda: board.ranks and desk.screen.board.chosen and desk.screen.board.chosen.rank)
        first = desk.screen.board.chosen
        await pilot.press("enter", "enter", "tab", "down", "tab")
        second = desk.screen.board.chosen
        caption = desk.screen.pictures.zoom.query_one("#zoom-caption", Static)
        assert first is not None and second is not None and first.number != second.number
        assert str(caption.render()).startswith(second.name)
        await pilot.press("5")
        await until(pilot, lambda: [one.number for one in desk.screen.board._rows if one.rated] == [second.number])
        assert str(caption.render()).startswith(second.name)


async def test_what_comes_in_leaves_a_scrolled_sheet_where_it_is(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=(60, 16)) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, 1)
        await pilot.press("tab", "plus", "plus", "plus", "plus")
        sheet = desk.screen.pictures.sheet
        sheet.scroll_to(y=20, animate=False)
        await until(pilot, lambda: sheet.scroll_y == 20)
        desk.screen._show()
        await pilot.pause()
        await pilot.pause()
        assert sheet.scroll_y == 20 and (sheet.row, sheet.column) == (0, 0)


async def test_the_arrows_walk_where_the_sheet_is_larger_than_its_pane(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=(60, 16)) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, 1)
        await pilot.press("tab", "plus", "plus", "plus", "plus", "down", "down", "right")
        sheet = desk.screen.pictures.sheet
        assert (sheet.row, sheet.column) == (2, 1)
        assert sheet.scroll_x > 0 and sheet.scroll_y > 0, "the cursor is in sight"


async def test_the_board_sorts_and_the_sheet_follows_its_order(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, 1)
        await until(pilot, lambda: board.ranks and desk.screen.board.chosen and desk.screen.board.chosen.rank)
        places = list(desk.screen.board.order)
        await pilot.press("r")
        await until(pilot, lambda: desk.screen.board.order == places[::-1])
        await until(pilot, lambda: list(desk.screen.pictures.sheet._order) == places[::-1])
        await pilot.press("s")
        assert "by contender" in str(desk.screen.board.border_subtitle)
        assert desk.screen.board.order == sorted(places, key=lambda number: board.names[number])


async def test_who_looks_at_pictures_stays_with_them_whoever_comes_to_lead(filled: Desk) -> None:
    async with filled.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, filled, 1)
        await until(pilot, lambda: filled.screen.board.chosen is not None and board.ranks.get("fake-clip"))
        await pilot.press("enter")
        first = filled.screen.board.chosen
        assert first is not None
        other = next(cell for cell in board.now().cells if board.place(cell.number)[0] != first.number)  # type: ignore[index]
        for cell in board.now().cells:
            if cell.contender == other.contender and cell.picture is not None:
                filled.screen.picture_scored(cell.picture.path, "fake-clip", 1e6)
        await until(pilot, lambda: filled.screen.board.order[0] != first.number)
        assert filled.screen.board.chosen is not None and filled.screen.board.chosen.number == first.number
        assert filled.screen.at is not None and filled.screen.at[0] == first.number


async def test_a_kitty_shows_the_sheet_in_its_own_pixels(filled: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch, Decision("kitty", "", cell=(10, 20)))
    async with filled.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, filled, 1)
        sheet = filled.screen.pictures.sheet
        await until(pilot, lambda: sheet.in_sight() and all(sheet._stands(p) for p in sheet.in_sight()))
        await until(pilot, lambda: not sheet.busy)
        assert wire.terminal.uploads.counts["uploads"] == len({p.id for p in sheet.in_sight()}) == 6
        await pilot.press("f8")
        await pilot.pause()
        assert wire.terminal.uploads.counts["deletes"] == 6


def test_a_rating_outlives_a_reading_that_began_before_it(filled: Desk) -> None:
    board = Board(sweep.load(filled.store, 1))
    cell = board.cell(0, 0)
    assert cell is not None and cell.picture is not None
    board.rate(cell.number, 4)
    board.put(cell.number, cell.picture)
    assert (now := board.cell(0, 0)) is not None and now.picture is not None and now.picture.rating == 4
    board.put(cell.number, replace(cell.picture, id=999))
    assert (now := board.cell(0, 0)) is not None and now.picture is not None and now.picture.rating is None, "another"


async def test_one_pane_at_a_time_where_there_is_no_room_for_two(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=SMALL) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, 1)
        assert desk.screen.board.region.width and not desk.screen.pictures.region.width
        await pilot.press("tab")
        await until(pilot, lambda: desk.screen.pictures.region.width and not desk.screen.board.region.width)
        await pilot.press("tab", "f8")
        await until(pilot, lambda: desk.app.screen is desk.app.workbench)


async def test_the_report_is_written_beside_the_pictures(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, 1)
        await pilot.press("w")
        page = desk.home / "pictures" / "sweep-1.html"
        await until(pilot, page.exists)
        await until(pilot, lambda: "its path copied" in desk.said())
    assert "guidance 2" in page.read_text()


async def test_the_palette_and_the_help_know_the_screen_of_sweeps(filled: Desk) -> None:
    desk = filled
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, 1)
        found = {command.title for command in desk.app.get_system_commands(desk.screen)}
        assert any(title.startswith("report") for title in found) and not any(t.startswith("make ·") for t in found)
        assert any(t.startswith("make ·") for t in {c.title for c in desk.app.get_system_commands(desk.app.workbench)})
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(desk.app.screen, HelpScreen))
        await pilot.press("escape", "ctrl+p")
        await until(pilot, lambda: isinstance(desk.app.screen, CommandPalette))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(desk.app.screen, SweepScreen))


async def test_another_sweep_is_chosen_from_the_list(filled: Desk) -> None:
    desk = filled
    second = desk.begin(1, 2, prompt="a pear")
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, second)
        await pilot.press("o")
        await until(pilot, lambda: getattr(desk.app.screen, "rows", None) and len(desk.app.screen.rows.offers) == 2)  # type: ignore[attr-defined]
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(desk.app.screen, SweepScreen) and desk.screen.shown is not None)
        await until(pilot, lambda: desk.screen.shown is not None and desk.screen.shown.sweep.id == 1)


async def test_without_a_sweep_the_screen_says_how_to_make_one(desk: Desk) -> None:
    desk.draft()
    async with desk.app.run_test(size=SMALL) as pilot:
        await pilot.press("f8")
        await until(pilot, lambda: "No sweep yet" in str(desk.app.screen.query_one("#sweep-title", Static).render()))
        for key in ("space", "c", "w", "r", "s", "tab", "1", "t", "y", "enter", "down", "plus"):
            await pilot.press(key)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(desk.app.screen, GridScreen))


async def test_a_plot_that_cannot_be_drawn_costs_nothing_else(filled: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def missing(name: str) -> Any:
        raise ImportError("nothing to plot with")

    monkeypatch.setattr(importlib, "import_module", missing)
    async with filled.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, filled, 1)
        plot = filled.screen.query_one(Scatter)
        await until(pilot, lambda: "nothing to plot with" in str(plot.query_one("#scatter-none", Static).render()))
        await until(pilot, lambda: board.ranks)
        await pilot.press("down", "enter")


async def test_of_ten_thousand_cells_only_those_in_sight_are_read(desk: Desk) -> None:
    id = desk.begin(2_500, 4)
    asked: list[int] = []
    thumbnail = desk.store.thumbnail
    desk.store.thumbnail = lambda id: asked.append(id) or thumbnail(id)  # type: ignore[method-assign, func-returns-value, assignment]
    picture = FakeDarkroom(desk.home / "pictures", 0)
    development = picture.develop(Job(1, APPLE, None, 0), lambda: False, 0)
    made: Made | None = None
    while made is None:
        try:
            next(development)
        except StopIteration as end:
            (made,) = end.value
    with desk.store.transaction() as db:
        for number in range(10_000):
            score = {"fake-clip": 30 + number % 97 / 10}
            row = desk.store.insert(db, 0, replace(made, path=f"/x/{number}.png", scores=score), time.time())
            db.execute("UPDATE cells SET picture_id = ? WHERE sweep_id = ? AND number = ?", (row.id, id, number))
    async with desk.app.run_test(size=WIDE) as pilot:
        await pilot.press("f8")
        board = await shown(pilot, desk, id)
        await until(pilot, lambda: len(board.ranks.get("fake-clip", ())) == 2_500, tries=3000)
        await until(pilot, lambda: desk.screen.board.chosen is not None and desk.screen.board.chosen.rank)
        await until(pilot, lambda: not desk.screen._ranking)
        sheet = desk.screen.pictures.sheet
        await pilot.press("end", "enter")
        await until(pilot, lambda: desk.screen.focused is sheet)
        await pilot.press("down", "end")
        assert (sheet.column, sheet.row) == (2_499, 1)
        await until(pilot, lambda: asked and not sheet._reading)
    assert len(set(asked)) < 200


# ── the model behind it ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_known_comes_last_whichever_way_it_is_sorted(desk: Desk) -> None:
    board = Board(sweep.load(desk.store, desk.begin(3, 2)))
    development = FakeDarkroom(desk.home / "pictures", 0)
    (job,) = desk.store.add([APPLE], "sweep-1-2", desk.store.register("command"))
    drained = list(_all(development.develop(job, lambda: False, 0)))
    (picture,) = desk.store.finish(job.id, [replace(drained[-1], scores={"fake-clip": 30.0})])
    board.put(2, picture)
    board.ranks = boards.rank(board.now())
    standings = board.standings("fake-clip")
    assert [one.made for one in standings] == [0, 1, 0]
    for turned in (False, True):
        for by in ("place", "mean", "seconds", "rating"):
            rows = boards.ordered(standings, cast(Any, by), turned)
            assert len(rows) == 3 and (by == "rating" or rows[0].number == 1)
    assert [one.number for one in boards.ordered(standings, "name", True)] == [2, 1, 0]
    board.rate(2, 5)
    assert board.standings("fake-clip")[1].rating == 5
    board.put(0, None, "it failed")
    assert board.missing() == (("guidance 1", "it failed"),)


def _all(development: Generator[Event, None, tuple[Made, ...]]) -> Iterator[Any]:
    while True:
        try:
            next(development)
        except StopIteration as end:
            yield from end.value
            return


def test_names_tell_only_what_differs() -> None:
    points = [(("model", "a"), ("guidance", g)) for g in ("1", "2")]
    assert list(runs.names(points).values()) == ["guidance 1", "guidance 2"]
    assert list(runs.names(points[:1]).values()) == ["a · guidance 1"]
    assert runs.names([]) == {}


def test_short_names_are_values_without_what_all_begin_with() -> None:
    points = [
        (("model", f"mini-lightning-{kind}"), ("weight of background", weight), ("steps", "4"))
        for kind in ("2step-lora", "4step-unet")
        for weight in ("1", "1.4")
    ]
    told = ["2step-lora · 1", "2step-lora · 1.4", "4step-unet · 1", "4step-unet · 1.4"]
    assert list(runs.shorts(points).values()) == told
    assert list(runs.shorts([(("model", "mini"),), (("model", "mini-"),)]).values()) == ["mini", "mini-"]
    assert list(runs.shorts(points[:1]).values()) == ["mini-lightning-2step-lora · 1 · 4"]


async def test_a_large_sweep_is_read_while_it_is_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui import sweep_screen

    monkeypatch.setattr(sweep_screen, "LOOK_AGAIN", 3600.0)
    id = desk.begin(1, 30)
    load = sweep.load

    def slowly(store: Store, which: int | None = None) -> sweep.Sweep:
        time.sleep(0.3)
        return load(store, which)

    desk.room.gate = threading.Semaphore(0)
    async with desk.app.run_test(size=WIDE) as pilot:
        desk.app.workbench.conductor.go_on(id)
        await until(pilot, lambda: desk.engine._computing.running)
        monkeypatch.setattr(sweep, "load", slowly)
        threading.Thread(target=lambda: [desk.room.gate.release() or time.sleep(0.05) for _ in range(30)]).start()  # type: ignore[func-returns-value, union-attr]
        await pilot.press("f8")
        await until(pilot, lambda: desk.screen.shown is not None, tries=80)
        assert desk.app.workbench.conductor.busy, "it was read while pictures were made"
        board = desk.screen.shown
        assert board is not None
        await until(pilot, lambda: desk.room.gate is not None and board.made == desk.made(id) > 5)
