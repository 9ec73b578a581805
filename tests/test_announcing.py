"""What is said outside of the window: title, notifications, clipboard."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from driving import WIDE, Bench, until, write
from textual.drivers.headless_driver import HeadlessDriver

from tui import announcing
from tui.announcing import Stretch, Title
from tui.pictures.deciding import Decision
from tui.settings import BY_NAME


@pytest.mark.parametrize(
    ("wish", "name", "wrapped", "expected"),
    [
        ("auto", "kitty", False, "osc9"), ("auto", "kitty", True, "bell"), ("auto", "xterm", False, "bell"),
        ("auto", "", False, "bell"), ("off", "kitty", False, "off"), ("osc777", "", False, "osc777"),
    ],
)  # fmt: skip
def test_a_notification_goes_the_way_that_the_terminal_is_known_to_show(
    wish: str, name: str, wrapped: bool, expected: str
) -> None:
    assert announcing.way(wish, Decision("halfblocks", "", wrapped=wrapped, name=name)) == expected


def test_a_notification_is_one_sequence_whatever_is_in_its_text() -> None:
    evil = "a\x1b]0;b\a;\x9d c\n" + "d" * 500
    assert announcing.notification(evil, "off") == ""
    assert announcing.notification(evil, "bell") == "\a"
    for how, begin in (("osc9", "\x1b]9;"), ("osc777", "\x1b]777;notify;safelight;")):
        said = announcing.notification(evil, how)  # type: ignore[arg-type]
        assert said.startswith(begin) and said.endswith("\a")
        inside = said[len(begin) : -1]
        assert not set(inside) & set("\x1b\a\x9d\n;") and len(inside) <= announcing.WIDEST


def test_a_title_is_kept_changed_only_where_it_differs_and_put_back() -> None:
    title = Title({"TERM": "xterm-256color"}, True)
    assert title.leave() == ""
    assert title.show("one") == "\x1b[22;2t\x1b]2;one\a"
    assert title.show("one") == ""
    assert title.show("two\x1b\\") == "\x1b]2;two\\\a"
    assert title.leave() == "\x1b[23;2t" and title.leave() == ""
    assert title.show("two").startswith("\x1b[22;2t")
    assert Title({"TERM": "linux"}, True).show("one") == Title({"TERM": "xterm"}, False).show("one") == ""


def test_a_stretch_is_from_the_first_job_to_the_end_of_the_last() -> None:
    stretch = Stretch()
    assert stretch.went_on(False, 0) is None
    assert stretch.went_on(True, 10) is None and stretch.went_on(True, 30) is None
    stretch.made, stretch.failed = 2, 1
    took = stretch.went_on(False, 41)
    assert took == 31 and stretch.told(took) == "2 pictures made, 1 failed · 31 s"
    assert stretch.went_on(False, 50) is None and stretch.told(1) == ""


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    monkeypatch.setattr(HeadlessDriver, "write", lambda self, data: written.append(data))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("TMUX", raising=False)
    return written


@pytest.mark.parametrize("looks", [True, False])
async def test_the_end_of_something_long_is_told_to_who_does_not_look(home: Path, wire: list[str], looks: bool) -> None:
    bench = Bench(home)
    async with bench.app.run_test(size=WIDE) as pilot:
        app = bench.app
        app.ledger.set(BY_NAME["notify"], "osc9")
        app.ledger.set(BY_NAME["notify_after"], 0)
        await pilot.pause()
        write(bench, "a red apple")
        (app.on_app_focus if looks else app.on_app_blur)()
        await pilot.press("enter")
        await until(pilot, lambda: app.workbench._jobs.running or app.workbench.shown is not None)
        app._announce()
        await until(pilot, lambda: app.workbench.shown is not None and not app.workbench._jobs.running)
        app._stretch.since = app._stretch.since or 0.0
        app._announce()
        told = [text for text in wire if text.startswith("\x1b]9;")]
        assert told == ([] if looks else told[:1]) and bool(told) is not looks
        if told:
            assert "1 picture made" in told[0]
        assert any(text.endswith("\x1b]2;safelight\a") for text in wire)
        assert "\x1b[23;2t" in app.last_words()


async def test_a_path_is_copied_through_the_terminal_and_through_tmux(
    home: Path, wire: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **more: asked.append(more["input"]))
    bench = Bench(home)
    bench.fill(1)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.shown is not None)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: any("\x1b]52;c;" in text for text in wire))
        assert not asked
        monkeypatch.setitem(os.environ, "TMUX", "/tmp/none,1,0")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: asked)
        assert asked[0].decode() == bench.store.pictures()[0].path
        wire.clear()
        bench.app.ledger.set(BY_NAME["clipboard"], False)
        await pilot.press("ctrl+o")
        await pilot.pause()
        assert not any("\x1b]52" in text for text in wire) and len(asked) == 1


async def test_a_terminal_without_utf8_gets_no_bytes_that_it_could_obey(home: Path, wire: list[str]) -> None:
    """The second byte of \u00db is CSI there, that of \u00dc ends a title."""
    bench = Bench(home, held=True)
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        write(bench, "\u00db9;30H \u00dc gr\u00fcn")
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.workbench._jobs.running)
        for plain in (False, True):
            wire.clear()
            bench.app.plain = plain
            bench.app._title.leave()
            bench.app._announce()
            titles = [text for text in wire if "\x1b]2;" in text]
            assert titles and all(text.isascii() is plain for text in titles)
