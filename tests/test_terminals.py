"""Pictures in real terminals, by their pixels: under Xvfb, in xterm, and in kitty where one with placeholders is there.

Debian's packages: xvfb xterm imagemagick xdotool fonts-dejavu-core tmux; kitty 0.28 or later (Debian 13's). What is not
installed is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NEEDED = ("Xvfb", "xterm", "import", "xdotool")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

SIZE = (1100, 800)
XTERM = ("-fa", "DejaVu Sans Mono", "-fs", "10", "-geometry", "120x40+0+0", "-bg", "black", "-fg", "white")
RED, GREEN, BLUE, YELLOW = (215, 0, 0), (0, 175, 0), (0, 0, 215), (215, 215, 0)  # of xterm's 256
TOLERANCE = 24
PATIENCE = 40.0

Pixels = np.ndarray


class Screen:
    """An X server of its own, and what runs on it."""

    def __init__(self, home: Path) -> None:
        read, write = os.pipe()
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-nolisten", "tcp"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.server = subprocess.Popen([*command, "-noreset"], pass_fds=[write], **quiet)  # type: ignore[call-overload]
        os.close(write)
        number = b""
        while not number.endswith(b"\n"):
            if not (more := os.read(read, 16)):
                raise RuntimeError("Xvfb does not start")
            number += more
        os.close(read)
        self.home = home
        self.environment = {**os.environ, "DISPLAY": f":{number.decode().strip()}", "LANG": "C.UTF-8"}
        for name in ("TMUX", "STY", "NO_COLOR", "COLORTERM", "WAYLAND_DISPLAY"):
            self.environment.pop(name, None)
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> None:
        """A program on it."""
        with (self.home / "said").open("ab") as said:
            self.programs.append(subprocess.Popen(command, env=self.environment, stdout=said, stderr=said))

    def look(self) -> Pixels:
        """What is seen now, (height, width, 3)."""
        shot = subprocess.run(
            ["import", "-window", "root", "-depth", "8", "ppm:-"],
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        head = shot.split(b"\n", 3)
        width, height = map(int, head[1].split())
        return np.frombuffer(head[3], np.uint8).reshape(height, width, 3)

    def until(self, what: Callable[[Pixels], object], why: str) -> Pixels:
        """What is seen when it is as it is wanted."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if what(seen := self.look()):
                return seen
            time.sleep(0.3)
        Image.fromarray(seen).save(self.home / "seen.png")
        raise AssertionError(f"{why} was never seen; the last look is {self.home / 'seen.png'}")

    def press(self, *keys: str) -> None:
        """Keys of xdotool's names."""
        subprocess.run(["xdotool", "key", *keys], env=self.environment, check=True, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        for program in [*self.programs, self.server]:
            program.terminate()
        for program in [*self.programs, self.server]:
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()


@pytest.fixture
def screen(home: Path) -> Iterator[Screen]:
    made = Screen(home)
    yield made
    made.close()


def near(seen: Pixels, colour: tuple[int, int, int], tolerance: int = TOLERANCE) -> Pixels:
    return np.abs(seen.astype(int) - colour).max(axis=-1) <= tolerance


def box(seen: Pixels) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of a picture of four quadrants, if it is there and each is of its colour all over."""
    found = [near(seen, colour) for colour in (RED, GREEN, BLUE, YELLOW)]
    if any(mask.sum() < 2000 for mask in found):
        return None
    places = [np.argwhere(mask) for mask in found]
    low, high = np.min([p.min(0) for p in places], axis=0), np.max([p.max(0) for p in places], axis=0) + 1
    middle = (low + high) // 2
    for mask, (y, x) in zip(found, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        top, bottom = (low[0], middle[0]) if y == 0 else (middle[0], high[0])
        left, right = (low[1], middle[1]) if x == 0 else (middle[1], high[1])
        inner = mask[top + 12 : bottom - 12, left + 12 : right - 12]
        if not inner.size or inner.mean() < 0.97:
            return None
    return int(low[1]), int(low[0]), int(high[1]), int(high[0])


@pytest.fixture
def program(home: Path) -> list[str]:
    """The workbench, whose history has one picture: four quadrants."""
    side = 128
    picture = np.zeros((2 * side, 2 * side, 3), np.uint8)
    picture[:side, :side], picture[:side, side:], picture[side:, :side], picture[side:, side:] = (
        RED,
        GREEN,
        BLUE,
        YELLOW,
    )
    Image.fromarray(picture).save(home / "quadrants.png")
    from engines import folders
    from engines.requests import Finish, Seconds, taken
    from engines.store import Made, Store

    store = Store(folders.find().store)
    path = str(home / "quadrants.png")
    (job,) = store.add([Finish(path, ())], None, store.register("command"))
    store.finish(job.id, [Made(path, taken(path, 2 * side, 2 * side), 2 * side, 2 * side, Seconds(), {}, b"", {})])
    store.close()
    return [sys.executable, "-m", "tui"]


def exercised(screen: Screen) -> None:
    """The picture is right, and still is after a dialog and a walk; nothing of it is left outside of its box."""
    screen.until(lambda seen: seen.max() > 100, "the workbench")
    time.sleep(4)
    screen.press("F7", "Up")
    first = screen.until(box, "the picture")
    place = box(first)
    assert place is not None
    left, top, right, bottom = place
    assert abs((right - left) - (bottom - top)) <= 20 and right - left > 150, "a square"
    screen.press("F1")
    screen.until(lambda seen: box(seen) is None, "the help over it")
    screen.press("Escape")
    assert box(screen.until(box, "the picture after the help")) == place
    screen.press("ctrl+q")
    screen.until(lambda seen: not near(seen, RED).sum() > 500, "an empty screen at the end")


@pytest.mark.parametrize("terminal", ["vt340", "vt220"])
def test_in_xterm(screen: Screen, program: list[str], terminal: str) -> None:
    """Sixels in one that takes them, half-blocks in one that doesn't."""
    screen.start("xterm", "-ti", terminal, *XTERM, "-e", *program)
    exercised(screen)


def _tmux() -> tuple[int, int] | None:
    """The version of the tmux that an xterm would start; None if there is none."""
    if shutil.which("tmux") is None:
        return None
    said = subprocess.run(["tmux", "-V"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


@pytest.mark.parametrize("sixel", [False, True])
def test_in_xterm_in_tmux(screen: Screen, program: list[str], home: Path, sixel: bool) -> None:
    """Half-blocks, for tmux says nothing of the terminal's sixels; sixels where it is told of them, from 3.4 on."""
    version = _tmux()
    if version is None or (sixel and version < (3, 4)):
        pytest.skip("not installed: tmux" + (" 3.4 or later" if sixel else ""))
    name = f"safelight-{os.getpid()}"
    feature = "set -as terminal-features ',xterm*:sixel'\n" if sixel else ""
    (home / "tmux.conf").write_text(f"set -g status off\n{feature}")
    outer = ["tmux", "-L", name, "-f", str(home / "tmux.conf"), "new"]
    try:
        screen.start("xterm", "-ti", "vt340", *XTERM, "-e", *outer, *program)
        exercised(screen)
    finally:
        subprocess.run(["tmux", "-L", name, "kill-server"], check=False, stderr=subprocess.DEVNULL)


def _kitty() -> str:
    """Why there is no kitty that can be tested in; empty if there is one."""
    if shutil.which("kitty") is None:
        return "not installed: kitty"
    said = subprocess.run(["kitty", "--version"], capture_output=True, text=True, check=False).stdout.split()
    version = tuple(int(part) for part in said[1].split(".")[:2]) if len(said) > 1 else (0, 0)
    return "" if version >= (0, 28) else f"kitty {said[1] if len(said) > 1 else '?'} has no placeholders"


@pytest.mark.parametrize("tmux", [False, True])
def test_in_kitty(screen: Screen, program: list[str], home: Path, tmux: bool) -> None:
    if reason := _kitty():
        pytest.skip(reason)
    conf = home / "kitty.conf"
    conf.write_text(
        "font_size 9\nremember_window_size no\ninitial_window_width 120c\ninitial_window_height 40c\n"
        "confirm_os_window_close 0\nupdate_check_interval 0\n"
    )
    screen.environment["LIBGL_ALWAYS_SOFTWARE"] = "1"
    name = f"safelight-{os.getpid()}"
    (home / "tmux.conf").write_text("set -g allow-passthrough on\nset -g status off\n")
    outer = ["tmux", "-L", name, "-f", str(home / "tmux.conf"), "new"] if tmux else []
    try:
        screen.start("kitty", "--config", str(conf), *outer, *program)
        exercised(screen)
    finally:
        if tmux:
            subprocess.run(["tmux", "-L", name, "kill-server"], check=False, stderr=subprocess.DEVNULL)
