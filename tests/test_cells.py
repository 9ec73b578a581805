"""Texts by the cells that they take: counted, cut, filled and wrapped; and what terminals dispute about."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui import cells
from tui.clean import ending, one_line

ODD = st.text(st.sampled_from("a b木🍎\u0301\u200d\ufe0f👩🎨👍🏽❤❤️🇩🇪שلक्षि한…"), max_size=40)


@given(ODD, st.integers(-2, 30))
def test_a_text_that_is_cut_fits_and_is_the_longest_that_does(text: str, room: int) -> None:
    left, right = cells.cut(text, room), cells.cut_left(text, room)
    assert text.startswith(left) and text.endswith(right)
    for part in (left, right):
        assert cells.width(part) <= max(0, room)
        assert cells.width(part) >= min(cells.width(text), room) - 1
    assert cells.width(cells.pad(left, max(0, room))) == max(0, room)


@given(ODD, st.integers(2, 30))
def test_a_line_of_it_fits(text: str, room: int) -> None:
    assert cells.width(one_line(text, room)) <= room
    assert cells.width(ending(text, room)) <= room
    assert all(cells.width(line) <= room for line in cells.wrap(text, room))
    assert "".join("".join(cells.wrap(text, room)).split()) == "".join(text.split())


@given(ODD)
def test_what_is_settled_has_the_same_width_and_nothing_to_dispute_about(text: str) -> None:
    calm = cells.settled(text)
    assert cells.width(calm) == cells.width(text)
    assert cells.DISPUTED.search(calm) is None


def test_examples() -> None:
    assert cells.settled("a👩\u200d🎨b") == "a👩b"
    assert cells.settled("❤️!") == "❤ !" and cells.settled("👍🏽!") == "👍!"
    assert cells.settled("x" + "\u0301" * 1000 + "y") == "x\u0301\u0301\u0301y"
    assert cells.settled("é ह 한 木") == "é ह 한 木"
    assert one_line("木木木木", 5) == "木木…" and one_line("木木木木", 4) == "木…" and one_line("木木", 4) == "木木"
    assert ending("木木木木", 5) == "…木木"
    assert cells.wrap("a red 木木木木 apple", 5) == ["a red", "木木", "木木", "apple"]


def test_ascii_is_counted_without_rich() -> None:
    code = (
        "import sys; from tui.clean import one_line; one_line('a red apple', 5); sys.exit('rich.cells' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ASKING = r"""
import os, re, sys, termios, tty
sys.path.insert(0, sys.argv[1])
from tui.cells import settled
tty.setraw(0)
for text in open(sys.argv[2], encoding="utf-8").read().split("\n"):
    os.write(1, b"\r\x1b[K" + settled(text).encode() + b"\x1b[6n")
    said = b""
    while not said.endswith(b"R"):
        said += os.read(0, 100)
    print(int(re.search(rb";(\d+)R", said)[1]) - 1, file=open(sys.argv[3], "a"))
"""


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_real_terminal_is_of_the_same_opinion(tmp_path: Path) -> None:
    """tmux counts 👍🏽 as four cells and ❤️ as one; of what is settled it counts as we do."""
    texts = [
        "👩‍🎨",
        "👍🏽",
        "❤️",
        "1️⃣",
        "👨‍👩‍👧‍👦 x",
        "🇩🇪",
        "木é",
        "x" + "\u0301" * 1000,
        "שלום",
        "한국",
        "☺️☺",
        "a🏽",
        "🏳️‍🌈",
    ]
    (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "ask.py").write_text(ASKING)
    root, socket = str(Path(__file__).resolve().parent.parent), f"cells-{os.getpid()}"
    command = [sys.executable, "ask.py", root, "texts", "told"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment.pop("TMUX", None)
    tmux = ["tmux", "-L", socket, "-f", os.devnull, "new-session", "-d", "-x", "80", "-y", "10", *command]
    try:
        subprocess.run(tmux, cwd=tmp_path, env=environment, check=True)
        until = time.monotonic() + 30
        told: list[str] = []
        while len(told) < len(texts) and time.monotonic() < until:
            time.sleep(0.05)
            told = (tmp_path / "told").read_text().split() if (tmp_path / "told").exists() else []
    finally:
        subprocess.run(["tmux", "-L", socket, "kill-server"], env=environment, capture_output=True, check=False)
    assert [int(one) for one in told] == [cell_len(text) for text in texts]


def test_no_pane_fills_by_characters() -> None:
    """`ljust` of anything but our own words puts the next column out of its place."""
    root = Path(cells.__file__).parent
    guilty = [
        f"{path.name}: {line.strip()}"
        for path in [*root.glob("*.py"), *root.glob("panes/*.py")]
        for line in path.read_text().splitlines()
        if re.search(r"\.ljust\((?!self|at)|textwrap\.", line) and "one_line" in line
    ]
    assert guilty == []
