"""What `safelight bench wire` measures: the bytes that a session sends to a terminal, beside the stock widget's."""

from __future__ import annotations

import base64
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines import folders
from tui import wording
from tui.draft import Draft
from tui.figures import SAFELIGHT, Figure, Place, Spread, failed, lines
from tui.probe import KITTY, SIXEL, SIZE, Terminal, python

STOCK = "from tui.wire_stock import main; main()"
SHARE = 0.33
"Goal: at most so much of what the stock widget's session sends."
STEPS = 200
"Of the picture, so that it has twenty previews or more; a distilled model's is made in as many as it may."
SCROLLS = 5
"Steps through the history."
PAST = SCROLLS + 1
"Pictures that are there before."
SMALLER = (SIZE[0] - 3, SIZE[1] - 10)
"Rows and columns after the window was made smaller."
OPENING, READY, QUIET = 60.0, 1800.0, 0.7
PARTS = ("start", "previews", "picture", "scroll", "modal", "resize")
F1, F7, DOWN, ESCAPE = "\x1bOP", "\x1b[18~", "\x1b[B", "\x1b"
TERMINALS: Mapping[str, Mapping[bytes, bytes]] = {"kitty": KITTY, "sixel": SIXEL}


@dataclass(frozen=True, slots=True)
class _Session:
    """What was sent, and what was seen."""

    parts: dict[str, int]
    "Bytes."
    previews: int
    "How many were shown."

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the other side is to show."""

    folder: Path
    "With its files."
    cells: tuple[int, int]
    "Columns and rows of the picture."


def wire(place: Place) -> Iterator[Figure]:
    """Both sides in both terminals, from the start to a smaller window."""
    shown: _Shown | None = None
    for kind in TERMINALS:
        place.progress.show(f"wire: pictures of earlier, for {kind}", now=True)
        home = place.home()
        _make_past(place, home)
        place.progress.show(f"wire: the workbench in {kind}", now=True)
        ours, sent = _workbench(place, home, kind)
        if shown is None:
            shown = _what_was_shown(place, home, sent)
        place.progress.show(f"wire: the stock widget in {kind}", now=True)
        stock = _stock(place, shown, kind, ours.previews)
        words = ", ".join(f"{part} {ours.parts[part] / 1000:.0f}/{stock.parts[part] / 1000:.0f}" for part in PARTS)
        yield Figure(
            "wire", f"a session in {kind}", Spread((float(ours.total),), "B"), "the stock widget's",
            Spread((float(stock.total),), "B"), f"at most {SHARE:g}x", ours.total <= SHARE * stock.total,
            f"{wording.plural(ours.previews, 'preview')}; kB {words}",
            {"parts": ours.parts, "stock": stock.parts, "previews": ours.previews, "cells": list(shown.cells)},
        )  # fmt: skip


def _make_past(place: Place, home: Path) -> None:
    command = ["generate", "a red apple", "--seed", "1", "--count", str(PAST), "-m", place.model.id]
    told, ended = lines(place, python(SAFELIGHT, *command, *place.options()), home)
    if ended.code:
        raise failed(place, f"safelight generate ended with {ended.code}", ended.said or str(told))


def _workbench(place: Place, home: Path, kind: str) -> tuple[_Session, bytes]:
    """The session, and what was sent while the picture was made."""
    steps = "50" if place.model.recipe.fixed_steps else str(STEPS)
    draft = Draft(model=place.model.id, steps=steps, seed="7", score="no", override="yes")
    (folders.make(home / "data") / "draft-1.json").write_text(draft.to_json(), encoding="utf-8")
    command = python(SAFELIGHT, *place.options())
    with Terminal(command, place.environment(home), TERMINALS[kind]) as terminal:
        parts = _Parts(terminal)
        terminal.painted(OPENING)
        terminal.wait("○ ready", READY)
        parts.ends("start")
        terminal.write("a red apple")
        terminal.forget()
        terminal.record = bytearray()
        terminal.write("\r")
        terminal.wait(r"seed 7 · [\d.]+ s", READY)
        parts.ends("previews")
        sent, terminal.record = bytes(terminal.record), None
        previews, last = (_in_kitty if kind == "kitty" else _in_half_blocks)(sent)
        parts.found["picture"] = len(sent) - last
        parts.found["previews"] -= len(sent) - last
        terminal.write(F7)
        terminal.rest(QUIET, OPENING)
        for _ in range(SCROLLS):
            terminal.write(DOWN)
            terminal.rest(QUIET, OPENING)
        parts.ends("scroll")
        parts.rest_of(F1)
        return _Session(parts.found, previews), sent


def _stock(place: Place, shown: _Shown, kind: str, previews: int) -> _Session:
    command = python(STOCK, str(shown.folder), *map(str, shown.cells))
    with Terminal(command, place.environment(place.home()), TERMINALS[kind]) as terminal:
        parts = _Parts(terminal)
        terminal.painted(OPENING)
        parts.ends("start")
        for _ in range(previews):
            terminal.write("n")
            terminal.rest(QUIET / 2, OPENING)
        parts.ends("previews")
        terminal.write("f")
        parts.ends("picture")
        for _ in range(SCROLLS):
            terminal.write(DOWN)
            terminal.rest(QUIET, OPENING)
        parts.ends("scroll")
        parts.rest_of("h")
        return _Session(parts.found, previews)


class _Parts:
    """Bytes by parts."""

    def __init__(self, terminal: Terminal) -> None:
        self.found: dict[str, int] = {}
        self._terminal = terminal
        self._counted = 0

    def ends(self, part: str) -> None:
        """What was sent since the part before, when nothing more is."""
        self._terminal.rest(QUIET, OPENING)
        self.found[part] = self._terminal.count - self._counted
        self._counted = self._terminal.count

    def rest_of(self, key: str) -> None:
        """The dialog, opened by a key and closed; then the window is made smaller."""
        for one in (key, ESCAPE):
            self._terminal.write(one)
            self._terminal.rest(QUIET, OPENING)
        self.ends("modal")
        self._terminal.resize(*SMALLER)
        self.ends("resize")


def _in_kitty(sent: bytes) -> tuple[int, int]:
    """Previews, and where the picture begins: its number is another."""
    begun = list(re.finditer(rb"\x1b_Ga=T,U=1,i=(\d+)", sent))
    if not begun:
        return 0, len(sent)
    final = next(one for one in begun if one[1] == begun[-1][1])
    return sum(one[1] != begun[-1][1] for one in begun), final.start()


def _in_half_blocks(sent: bytes) -> tuple[int, int]:
    """The same: the picture is sixels, previews are coarse squares, each of which draws a row in the middle once."""
    final = sent.find(b"\x1bP")
    last = final if final >= 0 else len(sent)
    rows = Counter(re.findall(rb"\x1b\[(\d+);\d+H[^H\n]*?(?:\x1b\[48;5;\d+m(?:  )+){4}", sent[:last]))
    return max(rows.values(), default=0), last


def _what_was_shown(place: Place, home: Path, sent: bytes) -> _Shown:
    """The previews as they were sent to a kitty, and files of the history, for the other side."""
    folder = folders.make(home / "shown")
    uploads = list(re.finditer(rb"\x1b_Ga=T,U=1,i=(\d+),p=1,c=(\d+),r=(\d+)", sent))
    if len(uploads) < 2:
        raise failed(place, "no previews were shown", "")
    ends = [one.start() for one in uploads[1:]] + [len(sent)]
    for number, (one, end) in enumerate(zip(uploads, ends, strict=True)):
        if one[1] != uploads[-1][1]:
            data = b"".join(re.findall(rb"\x1b_G[^;\x1b]*;([^\x1b]*)\x1b\\", sent[one.start() : end]))
            (folder / f"preview-{number:03}.png").write_bytes(base64.standard_b64decode(data))
    pictures = sorted((home / "pictures").glob("2*.png"), key=lambda path: path.stat().st_mtime)
    shutil.copy(pictures[-1], folder / "picture.png")
    for number, path in enumerate(reversed(pictures[:-1])):
        shutil.copy(path, folder / f"past-{number}.png")
    return _Shown(folder, (int(uploads[-1][2]), int(uploads[-1][3])))
