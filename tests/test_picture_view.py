"""The picture widget: what it shows, when it changes, and that nothing that is thrown at it breaks it."""

from __future__ import annotations

import io
import os
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image
from rich.color import ColorSystem
from textual.app import App, ComposeResult
from textual.containers import Container
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Label

from engines.events import Pixels
from tui.pictures import fitting, images
from tui.pictures.halfblocks import Colours, fit
from tui.pictures.view import PictureView, thumbnail_strips

RED, GREEN, BLUE = (220, 10, 10), (10, 200, 10), (10, 10, 220)


def flat(colour: tuple[int, int, int], width: int = 32, height: int = 32) -> Pixels:
    return Pixels(width, height, bytes(colour) * (width * height))


@pytest.fixture(autouse=True)
def colours_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


class Dialog(ModalScreen[None]):
    def compose(self) -> ComposeResult:
        yield Label("over it")


class Shown(App[None]):
    CSS = "#box { width: 100%; height: 100%; }"

    def __init__(self, message: str = "") -> None:
        super().__init__()
        self.console._color_system = ColorSystem.TRUECOLOR  # not what TERM says where the tests run
        self.view = PictureView(message)

    def compose(self) -> ComposeResult:
        with Container(id="box"):
            yield self.view


def on_screen(app: App[None]) -> list[list[tuple[str, tuple[int, int, int] | None]]]:
    """Every cell's character and background, as the compositor has it."""
    rows = []
    for strip in app.screen._compositor.render_strips():
        row = []
        for text, style, _ in strip:
            colour = tuple(style.bgcolor.triplet) if style and style.bgcolor and style.bgcolor.triplet else None
            row += [(character, colour) for character in text]
        rows.append(row)
    return rows  # type: ignore[return-value]


def box_of(app: App[None], colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The bounding box (left, top, right, bottom) of the half-blocks in a colour."""
    found = [
        (x, y)
        for y, row in enumerate(on_screen(app))
        for x, (character, ground) in enumerate(row)
        if character == "▀" and ground is not None and max(abs(a - b) for a, b in zip(ground, colour, strict=True)) < 9
    ]
    if not found:
        return None
    columns, rows = zip(*found, strict=True)
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def texts(app: App[None]) -> list[str]:
    return ["".join(character for character, _ in row).rstrip() for row in on_screen(app)]


async def settle(app: Shown, pilot: Pilot[None]) -> None:
    """Until the worker is idle and its last result is on the screen."""
    await pilot.pause()
    while app.view._busy or app.view._again:
        await app.workers.wait_for_complete()
        await pilot.pause()
    await pilot.pause()


async def test_a_picture_is_centred_and_keeps_its_shape() -> None:
    app = Shown()
    async with app.run_test(size=(60, 20)) as pilot:
        app.view.show_pixels(flat(RED))
        await settle(app, pilot)
        assert box_of(app, RED) == (10, 0, 50, 20)
        app.view.show_pixels(flat(GREEN, 64, 16))
        await settle(app, pilot)
        assert box_of(app, RED) is None
        left, top, right, bottom = box_of(app, GREEN) or (0, 0, 0, 0)
        assert (left, right) == (0, 60)
        assert bottom - top == 8  # 60 x 15 pixels, rounded up to whole cells
        assert top in (5, 6, 7)


async def test_it_is_fitted_again_when_the_size_changes() -> None:
    app = Shown()
    async with app.run_test(size=(60, 20)) as pilot:
        app.view.show_pixels(flat(RED))
        await settle(app, pilot)
        for width, height in ((20, 20), (100, 40), (1, 1), (3, 2), (33, 7)):
            await pilot.resize_terminal(width, height)
            await settle(app, pilot)
            left, top, right, bottom = box_of(app, RED) or (0, 0, 0, 0)
            assert (right - left, bottom - top) == fit(32, 32, width, height)
            assert all(len(row) == width for row in on_screen(app))


@pytest.mark.parametrize("shown", ["nothing", "message", "pixels", "file", "missing"])
async def test_no_size_is_too_small(shown: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (50, 40), RED).save(path)
    app = Shown("a message that is far too long for this")
    async with app.run_test(size=(30, 10)) as pilot:
        match shown:
            case "nothing":
                app.view.clear()
            case "pixels":
                app.view.show_pixels(flat(RED))
            case "file":
                app.view.show_file(str(path))
            case "missing":
                app.view.show_file(str(tmp_path / "none.png"))
        for width, height in ((0, 0), (1, 1), (3, 2), (0, 5), (5, 0), (30, 1), (1, 10)):
            app.view.styles.width, app.view.styles.height = width, height
            await settle(app, pilot)
            assert len(app.view.render_lines(app.view.size.region)) == height or not width
            assert app.is_running


async def test_old_lines_stay_and_the_newest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one picture is worked on, five more come in: only the last of them is worked on next."""
    started, go = threading.Event(), threading.Event()
    worked_on: list[Pixels | str] = []
    original = fitting.fitted

    def slow(order: fitting.Order) -> fitting.Fitted:
        worked_on.append(order.source)
        if len(worked_on) == 2:
            started.set()
            assert go.wait(20)
        return original(order)

    monkeypatch.setattr(fitting, "fitted", slow)
    app = Shown()
    async with app.run_test(size=(40, 20)) as pilot:
        app.view.show_pixels(flat(RED))
        await settle(app, pilot)
        blue = flat(BLUE)
        crowd = [flat(GREEN) for _ in range(5)]
        for pixels in (*crowd, blue):
            app.view.show_pixels(pixels)
            await pilot.pause()
        while not started.is_set():
            await pilot.pause()
        assert box_of(app, RED) == (0, 0, 40, 20)
        go.set()
        await settle(app, pilot)
        assert box_of(app, BLUE) == (0, 0, 40, 20)
        assert len(worked_on) == 3
        assert worked_on[2] is blue


@pytest.mark.parametrize("then", ["clear", "file"])
async def test_a_late_preview_does_not_come_back(then: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = threading.Event()
    original = fitting.fitted

    def slow(order: fitting.Order) -> fitting.Fitted:
        if isinstance(order.source, Pixels) and order.ticket == 1:
            assert go.wait(20)
        return original(order)

    monkeypatch.setattr(fitting, "fitted", slow)
    path = tmp_path / "a.png"
    Image.new("RGB", (50, 50), GREEN).save(path)
    app = Shown()
    seen: list[bool] = []
    async with app.run_test(size=(40, 20)) as pilot:
        app.view.show_pixels(flat(RED))
        await pilot.pause()
        if then == "clear":
            app.view.clear("empty")
        else:
            app.view.show_file(str(path))
        swap = app.view._changed

        def changed() -> None:
            swap()
            seen.append(box_of(app, RED) is not None)

        monkeypatch.setattr(app.view, "_changed", changed)
        go.set()
        await settle(app, pilot)
        assert not any(seen)
        assert box_of(app, RED) is None
        assert (box_of(app, GREEN) is not None) == (then == "file")
        assert any("empty" in line for line in texts(app)) == (then == "clear")


async def test_a_message_is_wrapped_centred_and_clean() -> None:
    app = Shown("Type a prompt\x1b]0;owned\x07 and [b]press[/] the key")
    async with app.run_test(size=(20, 9)) as pilot:
        await pilot.pause()
        lines = [line for line in texts(app) if line]
        assert " ".join(line.strip() for line in lines) == "Type a prompt]0;owned and [b]press[/] the key"
        assert len(lines) >= 3
        assert not texts(app)[0]
        assert all(len(line) <= 20 for line in lines)
        app.view.clear()
        await pilot.pause()
        assert not any(texts(app))


def _png(path: Path) -> None:
    Image.new("RGBA", (40, 30), (*GREEN, 255)).save(path)


def _bomb(path: Path) -> None:
    """A header of 20,000 x 20,000 pixels, and no more than that."""
    _png(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (20000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(data)


def _truncated(path: Path) -> None:
    Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "the file is gone"),
        (lambda path: path.write_text("hello"), "it is no picture"),
        (lambda path: path.write_bytes(b""), "it is no picture"),
        (_bomb, "more than 268 million pixels"),
        (_truncated, "damaged"),
        (lambda path: path.mkdir(), "it is no file"),
        (os.mkfifo, "it is no file"),
    ],
    ids=["missing", "text", "empty", "bomb", "truncated", "folder", "pipe"],
)
async def test_a_file_that_cannot_be_shown_says_so(make, reason: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x\x1b[31m.png"
    make(path)
    app = Shown()
    async with app.run_test(size=(100, 9)) as pilot:
        app.view.show_pixels(flat(RED))
        await settle(app, pilot)
        app.view.show_file(str(path))
        await settle(app, pilot)
        lines = [line.strip() for line in texts(app) if line]
        assert len(lines) == 1
        assert lines[0].startswith("Cannot show x[31m.png: ")
        assert reason in lines[0]
        _png(good := tmp_path / "good.png")
        app.view.show_file(str(good))
        await settle(app, pilot)
        assert box_of(app, GREEN) is not None


async def test_a_fault_of_ours_is_a_line_of_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Shown()
    async with app.run_test(size=(60, 9)) as pilot:
        with monkeypatch.context() as patch:
            patch.setattr(fitting, "strips_of", lambda *_, **__: 1 / 0)
            app.view.show_pixels(flat(RED))
            await settle(app, pilot)
        assert "ZeroDivisionError" in " ".join(texts(app))
        app.view.show_pixels(flat(RED))
        await settle(app, pilot)
        assert box_of(app, RED) is not None


async def test_a_file_is_read_once_and_in_a_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _png(path := tmp_path / "a.png")
    threads = []
    original = images.load

    def load(source: str | bytes, largest: int) -> Pixels:
        threads.append(threading.current_thread())
        return original(source, largest)

    monkeypatch.setattr(fitting, "load", load)
    app = Shown()
    async with app.run_test(size=(40, 20)) as pilot:
        app.view.show_file(str(path))
        await settle(app, pilot)
        for size in ((30, 10), (50, 20)):
            await pilot.resize_terminal(*size)
            await settle(app, pilot)
        assert box_of(app, GREEN) is not None
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_what_is_shown_before_it_is_mounted_appears() -> None:
    app = Shown()
    app.view.show_pixels(flat(RED))
    async with app.run_test(size=(40, 20)) as pilot:
        await settle(app, pilot)
        assert box_of(app, RED) == (0, 0, 40, 20)


async def test_borders_themes_and_dialogs() -> None:
    app = Shown()
    async with app.run_test(size=(40, 20)) as pilot:
        app.view.show_pixels(flat(RED, 16, 32))
        await settle(app, pilot)
        before = on_screen(app)[0][0][1]
        app.theme = "textual-light"
        await settle(app, pilot)
        assert on_screen(app)[0][0][1] != before
        assert box_of(app, RED) == (10, 0, 30, 20)
        await app.push_screen(Dialog())
        await settle(app, pilot)
        assert "over it" in "\n".join(texts(app))
        assert box_of(app, RED) is None  # dimmed
        app.pop_screen()
        await settle(app, pilot)
        assert box_of(app, RED) == (10, 0, 30, 20)
        app.view.styles.border = ("round", "white")
        await settle(app, pilot)
        assert box_of(app, RED) == (11, 1, 29, 19)
        assert on_screen(app)[0][0][0] == "╭"


async def test_without_colours_there_is_still_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(20, 10)) as pilot:
        image = Image.linear_gradient("L").convert("RGB")
        app.view.show_pixels(Pixels(256, 256, image.tobytes()))
        await settle(app, pilot)
        assert len(set(texts(app))) > 5
        assert "@" in texts(app)[9]


@pytest.mark.parametrize("colours", ["truecolor", "256", "none"])
@pytest.mark.parametrize(("cols", "rows"), [(0, 0), (1, 1), (12, 4), (5, 9), (3, 2)])
def test_thumbnails_fill_their_box(cols: int, rows: int, colours: Colours) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32), RED).save(buffer, "PNG")
    for source in (buffer.getvalue(), flat(RED, 64, 32), b"no picture", b""):
        strips = thumbnail_strips(source, cols, rows, colours)
        assert [strip.cell_length for strip in strips] == [cols] * rows
        assert all(len(strip.text) == cols for strip in strips)
        if source in (b"no picture", b"") and cols:
            assert "".join(strip.text for strip in strips).strip() == "?"
    assert thumbnail_strips(buffer.getvalue(), cols, rows, colours) == strips or cols


def test_sixteen_bits_and_transparency(tmp_path: Path) -> None:
    Image.new("I;16", (8, 8), 32896).save(tmp_path / "deep.png")
    assert images.load(str(tmp_path / "deep.png"), 64).data[0] == 128
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert images.load(str(tmp_path / "clear.png"), 64).data[:3] == bytes((48, 48, 48))


def test_a_large_picture_is_kept_small(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000), RED).save(tmp_path / "large.jpg")
    pixels = images.load(str(tmp_path / "large.jpg"), 600)
    assert (pixels.width, pixels.height) == (600, 200)
    assert len(pixels.data) == 600 * 200 * 3


async def test_finished_lines_go_out_as_they_are() -> None:
    """Nothing is left to do for the interface's thread: what the terminal is sent was written in the worker."""
    app = Shown()
    async with app.run_test(size=(50, 20)) as pilot:
        app.view.show_pixels(Pixels(40, 40, os.urandom(4800)))
        await settle(app, pilot)
        prepared = [strip.render(app.console) for strip in app.view._strips]
        lines = app.view.render_lines(app.view.size.region)
        assert [prepared[y] in (line._render_cache or "") for y, line in enumerate(lines)] == [True] * 20
        assert [line.cell_length for line in lines] == [50] * 20
