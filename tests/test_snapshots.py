"""Every screen as a picture, at three sizes, in a dark and in a light theme.

Each is opened once and brought to its sizes by resizing it. What is compared is Textual's own SVG of the screen, kept
compressed (any browser opens it). After a change that is meant: `pytest tests/test_snapshots.py --snapshot-update`, and
look at what git says has changed.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import NOW, FakeEngine, FakeStore, catalogue, gradient
from PIL import Image
from textual.pilot import Pilot
from textual.widgets import Input

from engines import catalogue as catalogues
from engines import metadata, sweep
from engines.folders import Folders
from engines.requests import Generate, Pull, Seconds
from engines.store import Made, Store
from tui.app import SafelightApp
from tui.draft import Draft
from tui.panes.footer import KeyLine
from tui.pictures.view import PictureView
from tui.settings import Settings

SIZES = [(80, 24), (100, 30), (160, 45)]
PROMPTS = ("a red apple on a blue background", "two pears, (glossy)1.3, on a plate", "a yellow umbrella in the rain")

THEMES = ("safelight-dark", "safelight-light")
KEPT = Path(__file__).parent / "__snapshots__"

Shots = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same picture in every terminal."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def bench(home: Path, pictures: int = 0, **engine: Any) -> tuple[SafelightApp, FakeEngine]:
    """The workbench with a draft of known seed; what else is drafted may be given."""
    drafted, known = engine.pop("drafted", {}), engine.pop("known", None)
    store = FakeStore(home)
    for i in range(pictures):
        store.add(Generate(PROMPTS[i % 3], ("mini", "quick")[i % 2], 100 + i, 128, 128, 4, 4.5, score="fake-clip"))
    fake = FakeEngine(store, **engine)
    folders = Folders(home / "config", home / "data", home / "cache", home / "pictures")
    (home / "data").mkdir()
    draft = Draft(prompt="a (red)1.3 apple on a blue background", seed="7", model="mini", score="yes")
    draft = replace(draft, **drafted)
    (home / "data" / "draft-1.json").write_text(draft.to_json())
    return SafelightApp(
        fake,
        store,
        known or catalogue(home),
        folders,
        Settings(),
        sweeps=Store(home / "sweeps.sqlite3"),
        clock=lambda: NOW,
    ), fake


async def still(pilot: Pilot[None], condition: Callable[[], object] = lambda: True) -> None:
    """Waits until a condition holds and all threads of the workbench are done."""
    for _ in range(500):
        await pilot.pause(0.01)
        if condition() and not list(pilot.app.workers):
            break
    else:
        raise AssertionError("it did not happen")
    await pilot.pause()


def workbench(pilot: Pilot[None]) -> Any:
    return pilot.app.screen


def drawn(pilot: Pilot[None]) -> bool:
    """Whether every picture that is to be seen is fitted into its place."""
    views = [view for view in pilot.app.screen.query(PictureView) if view.display and view.size and view._source]
    return all(view._strips and not view._busy and not view._again for view in views)


@pytest.fixture
def shots(request: pytest.FixtureRequest, tmp_path: Path) -> Shots:
    """Compares the screen at every size in every theme with what is kept."""
    update = request.config.getoption("--snapshot-update")

    async def take(pilot: Pilot[None], sizes: Sequence[tuple[int, int]] = SIZES) -> None:
        wrong = []
        for size in sizes:
            await pilot.resize_terminal(*size)
            for theme in THEMES:
                pilot.app.theme = theme
                pilot.app.clear_notifications()
                KeyLine.hush()
                await still(pilot, lambda: drawn(pilot))
                await pilot.pause(0.1)
                await still(pilot, lambda: drawn(pilot))
                svg = pilot.app.export_screenshot(title=f"{size[0]}x{size[1]}").encode()
                colours = theme.removeprefix("safelight-")
                name = f"{request.node.name.removeprefix('test_')}-{size[0]}x{size[1]}-{colours}"
                kept = KEPT / f"{name}.svgz"
                if update:
                    kept.write_bytes(gzip.compress(svg, 9, mtime=0))
                elif not kept.exists() or gzip.decompress(kept.read_bytes()) != svg:
                    (tmp_path / f"{name}.svg").write_bytes(svg)
                    wrong.append(name)
        assert not wrong, f"these differ from tests/__snapshots__, as they are now they are in {tmp_path}: {wrong}"

    return take


def ready(pilot: Pilot[None]) -> bool:
    if workbench(pilot).draft.prompt and "tokens" not in str(workbench(pilot).form.prompt.border_title):
        return False
    known = workbench(pilot).stocks.models
    if not known or not all(having.fit for having in known.values() if having.can_be_had):
        return False
    return not workbench(pilot)._warming and "fp32" in str(workbench(pilot).query_one("#header").render())


async def test_empty(shots: Shots, home: Path) -> None:
    app, _ = bench(home)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        app.workbench.form.show(Draft(model="mini", score="yes"))
        await still(pilot)
        await shots(pilot)


async def test_growing(shots: Shots, home: Path) -> None:
    app, engine = bench(home, pictures=2, held=True)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("enter", "enter")
        await still(pilot, lambda: len(app.workbench._jobs) == 2)
        engine.advance(3)
        await still(
            pilot, lambda: (p := app.workbench._jobs.running) and p.step == 3 and app.workbench.picture.view._strips
        )
        await shots(pilot)


async def test_history(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=20)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("f7", "down", "down")
        await still(pilot, lambda: app.workbench.shown is not None)
        await still(pilot, lambda: app.workbench.picture.view._strips)
        await shots(pilot)


async def test_failed(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=2, fail="out of memory: 8.2 GB are needed, 6.1 are free")

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("enter")
        await still(pilot, lambda: any(p.state == "failed" for p in app.workbench._jobs))
        await pilot.press("f6")
        await still(pilot)
        await shots(pilot)


async def test_list_of_models(shots: Shots, home: Path) -> None:
    app, _ = bench(home)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("f3", "enter")
        await still(pilot)
        await shots(pilot)


async def test_stack_of_loras(shots: Shots, home: Path) -> None:
    loras = ("pixel:0.8", "glow:1.25", "odd-lora:0.5", "pixel-2:-0.5:off")
    app, _ = bench(home, drafted={"loras": loras, "vae": "soft-vae", "precision": "fp8", "override": "yes"})

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("alt+l", "down")
        await still(pilot)
        await shots(pilot)


async def test_sliders(shots: Shots, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five weights and a blend, one of them muted, and a bracket that nothing closes in the negative prompt."""
    monkeypatch.setattr("tui.digits.PAUSE", 600.0)  # what is typed is seen however long it takes
    text = '("a (red)1.3 apple, (glossy)0.7, ((wet)1.2 leaf)1.1", "a (pear)0.0").blend(0.7, 0.3)'
    app, _ = bench(home, drafted={"prompt": text, "negative_prompt": "(fog)1.2 (mist"})

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await still(pilot, lambda: "tokens" in str(app.workbench.form.prompt.border_title))
        await pilot.press("alt+w", "down", "down", "1", ".")
        await still(pilot)
        await shots(pilot)


async def test_locked_steps(shots: Shots, home: Path) -> None:
    app, _ = bench(home, drafted={"model": "quick"})

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("f4", "up", "up")
        await still(pilot)
        await shots(pilot)


async def test_asking_before_a_download(shots: Shots, home: Path) -> None:
    app, _ = bench(home, drafted={"loras": ("glow:1",)})

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        app.workbench.form.model.choice._take("far")
        await still(pilot)
        await pilot.press("enter")
        await still(pilot)
        await shots(pilot)


async def test_fetching_beside_a_picture(shots: Shots, home: Path) -> None:
    app, engine = bench(home, pictures=2, held=True, held_pull=True)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("enter", "enter")
        engine.submit(Pull("far"))
        engine.advance(3)
        engine.receive(1)
        await still(
            pilot, lambda: (p := app.workbench._jobs.running) and p.step == 3 and app.workbench.picture.view._strips
        )
        await still(pilot, lambda: any(p.pulled for p in app.workbench._jobs.pulls))
        await pilot.press("f6")
        await still(pilot)
        await shots(pilot)


async def test_help(shots: Shots, home: Path) -> None:
    app, _ = bench(home)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("f1")
        await still(pilot)
        await shots(pilot)


async def test_welcome(shots: Shots, home: Path) -> None:
    app, _ = bench(home, known=catalogues.load(home / "none.toml"), drafted={"prompt": ""})
    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: app.workbench.picture.welcomes and not app.workbench._warming)
        await still(pilot, lambda: "fp32" in str(app.workbench.query_one("#header").render()))
        await shots(pilot)


async def test_jump(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=2)
    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot) and app.workbench.shown is not None)
        for size in SIZES:
            await pilot.resize_terminal(*size)
            await still(pilot, lambda: drawn(pilot))
            await pilot.press("ctrl+@")
            await shots(pilot, [size])
            await pilot.press("escape")


async def test_closer(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=2)
    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot) and app.workbench.shown is not None)
        await pilot.press("alt+j", "plus")
        await shots(pilot)


async def test_palette(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=2)
    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot) and app.workbench.shown is not None)
        await pilot.press("ctrl+p", *"pict")
        await pilot.pause(0.5)
        await shots(pilot)


async def test_strip(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=2)
    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot) and app.workbench.shown is not None)
        await pilot.press("alt+s")
        await still(pilot, lambda: len(app.workbench._shelf.pictures()) == 7 and not app.workbench._jobs.pictures)
        await shots(pilot)


async def test_list_of_loras(shots: Shots, home: Path) -> None:
    app, _ = bench(home)
    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("alt+l")
        await shots(pilot)


async def test_one_column(shots: Shots, home: Path) -> None:
    app, _ = bench(home)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("enter")
        await still(pilot, lambda: app.workbench.shown is not None)
        await shots(pilot, [(50, 20), (40, 10)])


async def test_side_by_side(shots: Shots, home: Path) -> None:
    app, _ = bench(home, pictures=4)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        for key in ("f7", "down", "down"):
            await pilot.press(key)
            await still(pilot)
        await still(pilot, lambda: app.workbench.before is not None)
        await pilot.press("alt+c")
        views = app.screen.query(PictureView)
        await still(pilot, lambda: len(views) == 2 and all(view._strips for view in views))
        await shots(pilot)


def swept(home: Path) -> None:
    """Three contenders over three seeds, in the store of sweeps; one picture is missing, one was judged by hand."""
    store = Store(home / "sweeps.sqlite3")
    cells = []
    for model in ("mini", "quick", "other"):
        for seed in (1, 2, 3):
            request = Generate(PROMPTS[0], model, seed, 128, 128, 4, 4.5, score="fake-clip")
            cells.append(((("prompt", PROMPTS[0]), ("model", model), ("seed", str(seed))), request))
    begun = sweep.begin(
        store, sweep.in_order(cells), f"{PROMPTS[0]} · model, seed", "", ("fake-clip",), ("prompt", "model", "seed"),
        [("away", "model away is not on this machine")],
    )  # fmt: skip
    scores = [31.2, 33.4, 32.1, 31.0, 33.1, 32.5, 28.1, 29.9, 27.3]
    with store.transaction() as db:
        for cell, score in zip(begun.cells[:-1], scores, strict=False):
            pixels = gradient(cell.request.seed + 7 * len(cell.request.model))
            image = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.data)
            seconds = Seconds(denoise=0.2 + cell.number // 3 * 0.4, total=1.0)
            path = home / f"cell-{cell.number}.png"
            image.save(path)
            made = Made(
                str(path), cell.request, 128, 128, seconds, {}, metadata.thumbnail(image),
                {"fake-clip": score}, 500_000_000 + cell.number * 1_000_000,
            )  # fmt: skip
            row = store.insert(db, 0, made, NOW - 60)
            db.execute("UPDATE cells SET picture_id = ? WHERE sweep_id = 1 AND number = ?", (row.id, cell.number))
    store.rate(2, 5)
    store.close()


async def test_sweep(shots: Shots, home: Path) -> None:
    swept(home)
    app, _ = bench(home)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("f8")
        await still(pilot, lambda: pilot.app.screen.shown and pilot.app.screen.shown.ranks)  # type: ignore[attr-defined]
        await pilot.pause(0.5)
        await shots(pilot, SIZES[-1:])
        await pilot.press("tab", "right", "down")
        await shots(pilot, SIZES[:-1])


async def test_marking_a_sweep(shots: Shots, home: Path) -> None:
    app, _ = bench(home)

    async with app.run_test(size=SIZES[-1]) as pilot:
        await still(pilot, lambda: ready(pilot))
        await pilot.press("alt+m")
        await pilot.pause(0.1)
        pilot.app.screen.query_one("#axis-guidance", Input).value = "3,5,x"
        await pilot.pause(0.5)
        await still(pilot)
        await shots(pilot)
