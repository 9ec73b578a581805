"""Text from outside, as bad as it gets, through every place that shows it: nothing is obeyed, nothing is markup, and no
column leaves its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyte
import pytest
from driving import Bench, until
from fake_engine import catalogue
from rich.cells import cell_len
from rich.segment import Segment
from test_clean import FORBIDDEN
from test_sweep_screen import APPLE, Desk, desk, shown  # noqa: F401
from textual.color import Color
from textual.widgets import Input

from engines import sweep
from engines.entries import Adapter, Embedding
from engines.errors import InvalidRequest
from engines.events import Noted
from engines.requests import Generate
from tui import palette
from tui.app import SafelightApp
from tui.panes.help import HelpScreen

OBEYED = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x1b\\\x9b31m\x9d0;owned\x9c\x00\u202egnp\u202c\u061c\ud800"
MARKUP = "[/x][link=http://e.vil][@click=app.quit]"
WIDE = "木👩\u200d🎨👍🏽❤️🇩🇪e" + "\u0301" * 1000 + "שלום"
SCREENS = [(132, 34), (81, 24), (50, 24)]


def bad(name: str) -> str:
    """A name that begins in a way to find it by, then tries everything."""
    return f"{name}{MARKUP}{OBEYED}{WIDE * 4}"


def segments_of(app: SafelightApp) -> Iterator[list[Segment]]:
    """The screen as the terminal is sent it, behind all filters."""
    for strip in app.screen._compositor.render_strips():
        segments = list(strip)
        for one in app.get_line_filters():
            segments = one.apply(segments, Color(0, 0, 0))
        yield [segment for segment in segments if not segment.control]


def lines_of(app: SafelightApp) -> list[str]:
    """Its text."""
    return ["".join(segment.text for segment in segments) for segments in segments_of(app)]


def look(app: SafelightApp, *names: str) -> str:
    """The screen's text, when all that must hold of it does: each line clean and as wide as the screen, also in the
    opinion of a terminal; nothing that a click runs or opens; and every name is there with its markup as it was
    written."""
    width = app.size.width
    for segments in segments_of(app):
        line = "".join(segment.text for segment in segments)
        assert not FORBIDDEN.search(line) and "\u061c" not in line, ascii(line)
        assert sum(cell_len(segment.text) for segment in segments) == width, ascii(line)
        terminal = pyte.Screen(width * 2, 1)
        pyte.Stream(terminal).feed(line)
        assert terminal.cursor.x == width, ascii(line)
        for segment in segments:
            if segment.style is not None:
                assert segment.style.link is None
                assert "quit" not in repr(segment.style.meta)
    text = "\n".join(lines_of(app))
    for name in names:
        assert f"{name}[" in text, f"{name} in\n{text}"
    return text


@pytest.fixture
def evil(home: Path) -> Bench:
    """A workbench where every name and text is as bad as it gets."""
    known = catalogue(home)
    here = known.adapters["pixel"].file
    models = {
        id: replace(one, title=bad(f"T{id}"), licence=bad("L"), about=bad("A")) for id, one in known.models.items()
    }
    models["far"] = replace(models["far"], notice=bad("Notice"))
    loras = {
        "pixel": Adapter("pixel", bad("Tlora"), "fake", here, bad("MIT"), words=bad("words")),
        bad("lora"): Adapter(bad("lora"), bad("Tother"), "odd", here, "MIT", words=bad("w")),
    }
    embeddings = {"night": Embedding("night", bad("Tnight"), "fake", here, "MIT")}
    bench = Bench(home, replace(known, models=models, adapters=loras, embeddings=embeddings))
    bench.store.add(Generate(bad("older"), "mini", 1, 128, 128, 4, 4.5, negative_prompt=bad("not")))
    for number in range(3):
        request = Generate(bad(f"prompt{number}"), "mini", number, 128, 128, 4, 4.5)
        made = bench.store.add(request)
        # a NUL and a lone surrogate are no file's name; the rest is
        name = f"file{number}[x]\x1b]0;owned\x07木👩\u200d🎨.png"
        path = Path(made.path).rename(Path(made.path).with_name(name))
        scores, extra = {bad("scorer"): 21.5}, {"device": bad("device")}
        bench.store.made[-1] = replace(made, path=str(path), scores=scores, made_with=extra)
    return bench


def draft(bench: Bench, **values: object) -> None:
    """What was in the form, every character of it: the program itself would have written none of these."""
    (bench.home / "data").mkdir(exist_ok=True)
    (bench.home / "data" / "draft-1.json").write_text(json.dumps({"model": "mini", "score": "no", **values}))


@pytest.mark.parametrize("size", SCREENS)
async def test_the_workbench(evil: Bench, size: tuple[int, int]) -> None:
    """Prompt, negative, sliders, stack, model, history, caption, toasts, header; wide, medium and narrow."""
    text = bad("typed") + f" (木木👩\u200d🎨{MARKUP})1.3"
    draft(evil, prompt=text, negative_prompt=bad("negative"), loras=("pixel:0.8", f"{bad('lora')}:1"))
    app = evil.open(notices=(bad("notice"),))
    evil.engine.tell(Noted("warning", bad("noted"), None))
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.workbench.form.prompt.text.startswith("typed["))
        assert "\0" not in app.workbench.form.prompt.text, "a NUL is stripped where it comes in"
        app.workbench.tell(InvalidRequest(bad("error"), bad("hint")))
        await until(pilot, lambda: "error[" in "\n".join(lines_of(app)))
        seen = look(app)
        app.clear_notifications()
        for key in ("f7", "down", "up", "alt+r", "alt+r", "f6", "ctrl+n", "ctrl+n", "ctrl+n", "alt+w", "alt+l", "f3"):
            await pilot.press(key)
            await pilot.pause(0.05)
            seen += look(app)
        for name in ("Tmini", "prompt2", *(["file2"] if size[0] > 60 else [])):
            assert f"{name}[" in seen, f"{name} in\n{seen}"
        assert app.is_running


async def test_what_opens_over_it(evil: Bench) -> None:
    """Lists of models, LoRAs, embeddings, snippets, prompts; palette, help, side by side, closer look, fetch."""
    name = json.dumps(f"snippet{MARKUP}{OBEYED}木👩\u200d🎨".replace("\ud800", ""), ensure_ascii=False)
    (evil.home / "config").mkdir(exist_ok=True)
    listed = f'[[snippet]]\nname = {name}\nkind = "style"\ntext = {name}\n'
    (evil.home / "config" / "snippets.toml").write_text(listed)
    themes = evil.home / "config" / "themes"
    themes.mkdir()
    shipped = palette.shipped_folder()
    assert shipped is not None
    colours = (shipped / f"{palette.DEFAULT_THEME}.toml").read_text()
    (themes / "theme[@click=app.quit]\x1b]0;owned\x07木👩\u200d🎨.toml").write_text(colours)
    (themes / "broken[@click=app.quit]\x1b]0;owned\x07.toml").write_text("=")
    draft(evil, prompt=bad("typed"))
    app = evil.open()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await until(pilot, lambda: app.workbench.form.prompt.text.startswith("typed["))
        await pilot.press("f7", "up", "f2")
        await until(pilot, lambda: app.workbench.shown is not None)

        async def opened(*keys: str) -> None:
            await pilot.press(*keys)
            await until(pilot, lambda: app.screen is not app.workbench)
            await pilot.pause(0.2)

        async def closed() -> None:
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.workbench)

        await opened("f3", "enter")
        look(app, "Tmini", "Tquick", "Taway")
        await pilot.press(*"木x")
        look(app)
        await closed()
        for key, names in (
            ("alt+l", ("Tlora",)), ("alt+e", ("Tnight",)), ("alt+h", ("prompt2", "prompt0")), ("alt+v", ()),
        ):  # fmt: skip
            await opened(key)
            look(app, *names)
            await closed()
        await opened("alt+k")
        await pilot.press(*"snippet")
        await pilot.pause(0.2)
        look(app, "snippet")
        await closed()
        await opened("alt+c")
        look(app)
        await closed()
        await opened("alt+j")
        look(app)
        await closed()
        app.clear_notifications()
        await opened("f1")
        assert isinstance(app.screen, HelpScreen)
        await until(pilot, lambda: "[keys] in settings.toml" in "\n".join(lines_of(app)))
        look(app)
        await closed()
        await opened("ctrl+p")
        await pilot.press(*"theme theme")
        await pilot.pause(0.5)
        look(app, "theme theme")
        await pilot.press("escape")
        await pilot.press("ctrl+t", "ctrl+t")
        await pilot.pause(0.2)
        look(app)
        assert app.is_running


async def test_a_job_that_fails_and_one_that_waits(evil: Bench) -> None:
    evil.engine.fail = bad("failed")
    draft(evil, prompt=bad("typed"))
    app = evil.open()
    async with app.run_test(size=(132, 34), notifications=True) as pilot:
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "✗" in "\n".join(lines_of(app)))
        await pilot.pause(0.2)
        look(app, "failed", "✗ typed")
        evil.engine.fail, evil.engine.held = "", True
        await pilot.press("f2", "ctrl+g", "ctrl+g")
        await until(pilot, lambda: "1 waiting" in "\n".join(lines_of(app)))
        look(app, "▶ typed", "· typed")


async def test_a_download(evil: Bench) -> None:
    draft(evil, prompt="a cat", model="far")
    app = evil.open()
    async with app.run_test(size=(100, 34), notifications=True) as pilot:
        await pilot.press("ctrl+g")
        await until(pilot, lambda: app.screen is not app.workbench)
        await pilot.pause(0.2)
        look(app, "Tfar", "Notice")


async def test_a_sweep(desk: Desk) -> None:  # noqa: F811
    """Its board, its sheet, its title, what failed, one picture large, and the grid that asks for one."""
    known = desk.catalogue
    models = {id: replace(one, title=bad(f"T{id}")) for id, one in known.models.items()}
    desk.catalogue = replace(known, models=models)
    desk.close()
    desk.open()
    desk.room.fault = lambda request: InvalidRequest(bad("failed"), bad("hint")) if request.seed == 1 else None
    text = bad("typed").replace("\ud800", "").replace("\0", "")
    desk.draft(prompt=text)
    cells = [
        ((("prompt", words), ("seed", str(seed))), replace(APPLE, prompt=words, seed=seed))
        for words in (text, f"other {text}")
        for seed in range(3)
    ]
    id = sweep.begin(desk.store, sweep.in_order(cells), text, "", ("fake-clip",), ("prompt", "seed")).id
    async with desk.app.run_test(size=(140, 40), notifications=True) as pilot:
        await pilot.press("f8")
        await shown(pilot, desk, id)
        await pilot.press("space")
        await until(pilot, lambda: not desk.app.workbench.conductor.busy and desk.made(id) == 4)
        await pilot.pause(0.5)
        seen = look(desk.app)
        assert "typed[" in seen, seen
        assert "failed[" in seen, seen
        for key in ("s", "tab", "right", "down", "enter", "escape", "o", "escape"):
            await pilot.press(key)
            await pilot.pause(0.2)
            look(desk.app)
        await pilot.press("n")
        await pilot.pause(0.3)
        desk.app.screen.query_one("#axis-guidance", Input).value = MARKUP
        await pilot.pause(0.5)
        look(desk.app)
        assert desk.app.is_running
