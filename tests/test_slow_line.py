"""A terminal that reads slowly, or not for a while: the workbench goes on, and what nobody could see is not sent."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyte
import pytest
from driving import WIDE, Bench, until, write
from test_graphics import noise
from test_picture_view import Shown, settle
from test_terminal import CTRL_Q, ESCAPE, Terminal, settings, terminals, without_unknown  # noqa: F401
from textual.drivers import headless_driver
from textual.geometry import Region
from textual.pilot import Pilot

from engines.events import Pixels
from tui.behind import LEAST, QUESTION, Behind
from tui.frames import Frames
from tui.panes.header import Header
from tui.pictures import graphics
from tui.pictures.deciding import Decision
from tui.pictures.kitty import Uploads, pieces
from tui.writing import SLACK, Writer, writer_of

LONG = 20.0
"Seconds after which a thread that should not wait for anybody is waiting."


class Line(io.StringIO):
    """A file that takes nothing while it is stalled."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.tries = threading.Semaphore(0)
        "Released when somebody wants to write."

    def write(self, text: str) -> int:
        self.tries.release()
        self.open.wait(60)
        return super().write(text)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.open.set()


@pytest.fixture
def writer(line: Line) -> Writer:
    made = Writer(line)
    made.start()
    return made


# ── the writer ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_waits_for_a_terminal_that_does_not_read(line: Line, writer: Writer) -> None:
    """Textual's own takes 30 texts."""
    texts = [f"<{number}>" for number in range(1000)]
    busy = threading.Thread(target=lambda: [writer.write(text) for text in texts], daemon=True)
    busy.start()
    busy.join(LONG)
    assert not busy.is_alive()
    line.open.set()
    writer.stop()
    assert line.getvalue() == "".join(texts)


def test_room_is_told_of_when_there_is_some(line: Line, writer: Writer) -> None:
    told: list[str] = []
    assert writer.has_room() and writer.has_room(for_pictures=True)
    writer.when_room(lambda: told.append("at once"))
    writer.write("x" * SLACK)
    assert writer.has_room(), "a key is no reason to wait"
    writer.write("x")
    writer.send(["\x1b_Gm=0\x1b\\"])
    writer.when_room(lambda: told.append("room"))
    writer.when_room(lambda: told.append("for a picture"), for_pictures=True)
    assert told == ["at once"] and not writer.has_room()
    line.open.set()
    writer.stop()
    assert told == ["at once", "room", "for a picture"]


def test_what_is_drawn_overtakes_a_picture(line: Line, writer: Writer) -> None:
    """By pieces: none of them is cut, their order is kept, and their end is told after it."""
    upload = Uploads(first=1).show("one", "view", 9, 9, b"x" * 30_000)[1]
    some = pieces(upload)
    assert len(some) == 10 and "".join(some) == upload
    ends: list[str] = []
    writer.send(some, lambda: ends.append(line.getvalue()))
    assert line.tries.acquire(timeout=LONG)  # the first is on its way
    writer.write("a key")
    assert writer.has_room() and not writer.has_room(for_pictures=True)
    line.open.set()
    until_true(lambda: ends)
    assert line.getvalue() == some[0] + "a key" + "".join(some[1:]) == ends[0]
    writer.stop()


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_end_does_not_wait_for_pictures_and_leaves_none(line: Line, writer: Writer, wrapped: bool) -> None:
    """One that was begun is ended, the others are never sent, and all deletes are there before the screen goes."""
    uploads = Uploads(wrapped, first=1)
    one, two = (uploads.show(key, "view", 9, 9, b"x" * 30_000)[1] for key in ("one", "two"))
    writer.send(pieces(one + two))
    assert line.tries.acquire(timeout=LONG)
    writer.send(pieces(uploads.clear()))
    writer.write("\x1b[?1049l")
    line.open.set()
    writer.stop()
    said = re.findall(r"\x1b_G([^;\x1b]*)", line.getvalue().replace("\x1b\x1b", "\x1b"))
    assert said[0].startswith("a=T") and said[0].endswith("m=1")
    assert [keys.split(",")[0] for keys in said[1:]] == ["m=0", "a=d", "a=d"]
    assert line.getvalue().endswith("\x1b[?1049l")


def test_a_terminal_that_is_gone_holds_nobody_up() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    writer, told = Writer(Gone()), []
    writer.start()
    writer.write("x" * (SLACK + 1))
    writer.when_room(lambda: told.append("room"))
    writer.join(LONG)
    writer.write("x" * (SLACK + 1))
    writer.send(["x"])
    assert not writer.is_alive() and told and writer.has_room(for_pictures=True)
    writer.stop()


def until_true(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ── the screen ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def drawn(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Apps of this test draw, by a writer of ours, on this line."""

    class Drawing(headless_driver.HeadlessDriver):
        is_headless = False  # type: ignore[assignment]

        def start_application_mode(self) -> None:
            self._writer_thread = Writer(line)
            self._writer_thread.start()
            super().start_application_mode()

        def write(self, data: str) -> None:
            self._writer_thread.write(data)

        def close(self) -> None:
            line.open.set()
            self._writer_thread.stop()

    monkeypatch.setattr(headless_driver, "HeadlessDriver", Drawing)
    return line


def seen(output: str, size: tuple[int, int]) -> list[str]:
    screen = pyte.Screen(*size)
    pyte.Stream(screen).feed(without_unknown(output.encode()).decode())
    return [row.rstrip() for row in screen.display]


async def test_frames_do_not_pile_up_and_nothing_of_them_is_lost(home: Path, drawn: Line) -> None:
    drawn.open.set()
    bench = Bench(home)
    bench.fill(30)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "what to draw" in "\n".join(seen(drawn.getvalue(), WIDE)))
        drawn.open.clear()
        for number in range(40):
            await pilot.press("f1")  # help, over everything
            await pilot.press("escape")
            write(bench, f"{number} ")
        writer: Any = writer_of(bench.app)
        assert writer._unread < 120_000, "one frame, and not eighty"
        before = len(drawn.getvalue())
        drawn.open.set()
        await until(pilot, lambda: "38 39" in "\n".join(seen(drawn.getvalue(), WIDE)))
        await until(pilot, lambda: writer.has_room() and not bench.app._frames._missed)
        assert len(drawn.getvalue()) - before < 120_000
        await at_rest(pilot, drawn)
        shown, length = seen(drawn.getvalue(), WIDE), len(drawn.getvalue())
        bench.app.refresh(layout=True)
        await at_rest(pilot, drawn)
        assert len(drawn.getvalue()) - length < 1000, "what is there is not sent again"
        bench.app._frames.forget()
        bench.app.refresh(layout=True)
        await until(pilot, lambda: len(drawn.getvalue()) > length + 5000)
        await at_rest(pilot, drawn)
        assert seen(drawn.getvalue(), WIDE) == shown, "the whole screen, drawn anew, is what was there"


async def test_what_changes_beside_a_frame_that_is_caught_up_is_drawn(home: Path, drawn: Line) -> None:
    """A refresh of the screen would make Textual forget it."""
    drawn.open.set()
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "ready" in "\n".join(seen(drawn.getvalue(), WIDE)))
        await at_rest(pilot, drawn)
        for number in range(3):
            bench.app.workbench.query_one(Header).show_state(f"zebra {number}")
            await asyncio.sleep(0)  # the screen has heard of it, and has not drawn it
            bench.app._frames._missed = {Region(0, 5, 10, 1)}
            bench.app._frames._catch_up()
            await pilot.pause(0.3)
            assert f"zebra {number}" in seen(drawn.getvalue(), WIDE)[0]


async def at_rest(pilot: Pilot[None], drawn: Line) -> None:
    """Until nothing was drawn for a while."""
    length = -1
    while length != len(drawn.getvalue()):
        length = len(drawn.getvalue())
        await pilot.pause(0.3)


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_previews_are_dropped_first_and_the_picture_comes(drawn: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells change when all of it is there: until then the preview is seen."""
    monkeypatch.setattr(graphics, "current", graphics.Graphics(Decision("kitty", "a test", cell=(10, 20))))
    uploads = graphics.current.uploads
    app, sent = Shown(), lambda: len(re.findall(r"\x1b_Ga=T", drawn.getvalue()))
    drawn.open.set()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.mode = "kitty"
        app.view.show_pixels(noise(128, 128))
        await until(pilot, sent)
        await settle(app, pilot)
        drawn.open.clear()
        for number in range(20):
            app.view.show_pixels(flat_of(number))
            await pilot.pause(0.3)
        app.view.show_pixels(noise(400, 400), sharp=True)
        await pilot.pause(0.3)
        assert uploads.counts["uploads"] + uploads.counts["swaps"] <= 2, "one is on its way, the others were dropped"
        number = uploads.number((app.view, "preview"))
        assert app.view._placed is not None and app.view._placed[0] == (app.view, "preview")
        drawn.open.set()
        await until(pilot, lambda: app.view._placed is not None and app.view._placed[0] != (app.view, "preview"))
        await until(pilot, lambda: f"a=d,d=I,i={number}" in drawn.getvalue())
        assert sent() <= 3
    assert uploads.number((app.view, "preview")) is None


async def test_a_refresh_is_a_few_bytes_and_a_preview_a_few_more(drawn: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock widget sends 182 kB a refresh of 30x15 cells."""
    monkeypatch.setattr(graphics, "current", graphics.Graphics(Decision("kitty", "a test", cell=(10, 20))))
    app = Shown()
    drawn.open.set()
    async with app.run_test(size=(30, 15)) as pilot:
        app.view.mode = "kitty"
        app.view.show_pixels(noise(512, 512))  # of all pictures the one with most bytes
        await until(pilot, lambda: app.view._placed)
        await at_rest(pilot, drawn)
        assert 1000 < graphics.current.sent <= 20_000
        app.view.show_pixels(noise(512, 512), sharp=True)
        await until(pilot, lambda: app.view._placed and app.view._placed[0] != (app.view, "preview"))
        await at_rest(pilot, drawn)
        before = len(drawn.getvalue().encode())
        app.view.refresh()  # this app sends all of it: it is not safelight
        await at_rest(pilot, drawn)
        assert 0 < len(drawn.getvalue().encode()) - before < 5000


def flat_of(number: int) -> Pixels:
    return Pixels(16, 16, bytes([number * 10] * 768))


# ── the program ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_terminal_that_reads_nothing_freezes_nothing(
    terminals: Callable[..., Terminal],  # noqa: F811
    home: Path,
) -> None:
    """What is typed is in the draft's file although nobody reads what is drawn; and all of it is seen afterwards."""
    settings(home, model="mini-lightning-2step-lora")
    terminal = terminals(cols=160, rows=45)
    terminal.until(lambda: "what to draw" in terminal.text)
    terminal.until(lambda: "ready" in terminal.text)
    for _ in range(6):  # each is all of the screen: as much as waits between the two of us, and more
        for key in ("\x1bOP", ESCAPE):  # help, and away with it
            terminal.type(key)
            time.sleep(0.25)  # an escape takes a tenth of a second
    words = " ".join(f"{number:03}" for number in range(60))
    for word in words.split():
        terminal.type(word + " ")
        time.sleep(0.05)

    def prompt() -> str:
        return next((json.loads(p.read_text())["prompt"] for p in (home / "data").glob("draft-*.json")), "")

    until_true(lambda: prompt().startswith(words))
    terminal.until(lambda: "058 059" in terminal.text)
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    for _ in range(10):
        terminal.read()
    assert terminal.restored()


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path) -> None:
    """Somebody has made the terminal non-blocking, as another program of the same shell may."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    file = os.fdopen(os.dup(slave), "w")
    writer = Writer(file)
    writer.start()
    text = "".join(f"<{number}>" for number in range(40_000))
    writer.write(text)
    read = b""
    while len(read) < len(text):
        read += os.read(master, 65536)
    assert read.decode() == text
    writer.stop()
    file.close()
    for number in (master, slave):
        os.close(number)


# ── a line that swallows everything ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(drawn: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """As drawn, on a terminal that answers when a test says so."""
    monkeypatch.setattr(Writer, "asks", True)
    drawn.open.set()
    return drawn


class Answering:
    """Answers what was asked, up to now."""

    def __init__(self, line: Line, bench: Bench) -> None:
        self._line = line
        self._bench = bench
        self._done = 0

    def answer(self) -> bool:
        writer = writer_of(self._bench.app)
        assert writer is not None
        new = self._line.getvalue().count(QUESTION) - self._done
        for _ in range(new):
            writer.hear()
        self._done += new
        return new > 0


def crawl(bench: Bench) -> Behind:
    """Whatever was learned of the line, it is a slow one from now on."""
    writer: Any = writer_of(bench.app)
    with writer._changed:
        writer._behind._window, writer._behind._rates = LEAST, deque([10_000.0])
        writer._behind._trip, writer._behind._growth = 0.0, 1_000_000
    return writer._behind


async def test_a_large_frame_goes_in_parts_and_what_is_typed_goes_between(home: Path, asked: Line) -> None:
    bench = Bench(home)
    bench.fill(30)
    async with bench.app.run_test(size=WIDE) as pilot:
        terminal = Answering(asked, bench)
        await until(pilot, lambda: terminal.answer() or "30 pictures" in "\n".join(seen(asked.getvalue(), WIDE)))
        await at_rest(pilot, asked)
        terminal.answer()
        behind = crawl(bench)
        length = len(asked.getvalue())
        bench.app._frames.forget()
        bench.app.refresh(layout=True)
        await at_rest(pilot, asked)
        first = asked.getvalue()[length:]
        assert 500 < len(first) < 2 * LEAST and behind.waits and bench.app._frames._missed
        write(bench, "zebra")
        await until(pilot, lambda: "zebra" in asked.getvalue()[length:])
        assert len(asked.getvalue()) - length < 4 * LEAST, "it is there before the rest"
        sizes, at = [], len(asked.getvalue())
        while bench.app._frames._missed:
            terminal.answer()
            await at_rest(pilot, asked)
            sizes.append(len(asked.getvalue()) - at)
            at = len(asked.getvalue())
        assert len(sizes) > 3 and max(sizes) < 10_000, "all of it is 27 000"
        terminal.answer()
        shown = seen(asked.getvalue(), WIDE)
        with writer_of(bench.app)._changed:  # type: ignore[union-attr]
            behind._window = 1 << 20
        length = len(asked.getvalue())
        bench.app._frames.forget()
        bench.app.refresh(layout=True)
        await until(pilot, lambda: len(asked.getvalue()) > length + 5000)
        await at_rest(pilot, asked)
        assert seen(asked.getvalue(), WIDE) == shown, "together the parts are what is drawn at once"


async def test_a_picture_waits_for_answers_and_keys_do_not(home: Path, asked: Line) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        terminal = Answering(asked, bench)
        await until(pilot, lambda: terminal.answer() or "ready" in "\n".join(seen(asked.getvalue(), WIDE)))
        await at_rest(pilot, asked)
        terminal.answer()
        crawl(bench)
        writer: Any = writer_of(bench.app)
        some = pieces(Uploads(first=1).show("one", "view", 9, 9, b"x" * 60_000)[1])
        ends: list[str] = []
        writer.send(some, lambda: ends.append("there"))
        await at_rest(pilot, asked)
        gone = asked.getvalue().count("\x1b_G")
        assert gone < len(some) // 2 and not ends
        write(bench, "zebra")
        await until(pilot, lambda: "zebra" in asked.getvalue())
        assert asked.getvalue().count("\x1b_G") == gone
        await until(pilot, lambda: terminal.answer() and ends)
        assert "".join(re.findall(r"\x1b_G.*?\x1b\\", asked.getvalue())) == "".join(some)


def test_nothing_is_asked_at_the_end_and_what_was_asked_is_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell would take an answer for typed."""
    monkeypatch.setattr(Writer, "asks", True)
    line.open.set()
    writer = Writer(line)
    writer.start()
    writer.write("a frame")
    until_true(lambda: line.getvalue() == "a frame" + QUESTION)
    leaving = threading.Thread(target=lambda: writer.write("\x1b[?2004l"), daemon=True)
    leaving.start()
    leaving.join(0.1)
    assert leaving.is_alive() and line.getvalue() == "a frame" + QUESTION
    writer.hear()
    leaving.join(LONG)
    writer.write("\x1b[?1049l")
    writer.stop()
    assert line.getvalue() == "a frame" + QUESTION + "\x1b[?2004l\x1b[?1049l"


def test_a_terminal_that_owes_an_answer_holds_the_end_up_for_a_moment_only(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "asks", True)
    line.open.set()
    writer = Writer(line)
    writer.start()
    writer.write("a frame")
    until_true(lambda: QUESTION in line.getvalue())
    writer.write("\x1b[?2004l")
    writer.stop()
    assert line.getvalue().endswith("\x1b[?2004l")


async def test_sixels_go_in_parts_where_the_line_is_slow(drawn: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its row, the next when the one before is there; what is drawn over them meanwhile begins them anew."""
    monkeypatch.setattr(graphics, "current", graphics.Graphics(Decision("sixel", "a test", cell=(10, 20))))
    monkeypatch.setattr(graphics.Graphics, "slow", staticmethod(lambda app: True))
    waits = [False]
    monkeypatch.setattr(graphics.Graphics, "busy", staticmethod(lambda app: waits[0]))
    drawn.open.set()
    app: Any = Shown()
    app._frames = Frames(app)
    app.CSS = "#box { width: 100%; height: 20; }"

    def places() -> list[Any]:
        return re.findall(r"\x1b7\x1b\[(\d+);(\d+)H\x1bP", drawn.getvalue())

    async with app.run_test(size=(80, 24)) as pilot:
        app.view.mode = "sixel"
        app.view.show_pixels(noise(300, 300), sharp=True)
        await until(pilot, lambda: len(places()) == 1)
        waits[0] = True
        await pilot.pause(0.3)
        some = len(places())
        waits[0] = False
        await until(pilot, lambda: len(places()) >= 4)
        await at_rest(pilot, drawn)
    rows = [int(row) for row, _ in places()]
    assert some <= 2 and {b - a for a, b in pairwise(rows)} == {3}
    assert len({column for _, column in places()}) == 1
