"""The whole program in a real pseudo-terminal, read back through a terminal in memory."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pyte
import pytest

SLOW = "mini"
FAST = "mini-lightning-2step-lora"
ENTER, CTRL_Q, ESCAPE = "\r", "\x11", "\x1b"


def without_unknown(output: bytes) -> bytes:
    """pyte doesn't know the private modes with '$' and '=' that Textual asks about, and shows what it doesn't know."""
    output = re.sub(rb"\x1b_G[^\x1b]*\x1b\\|\x1b\[>0q", b"", output)
    output = re.sub(rb"\x1b\[\?[\d;]*[sr]", b"", output)
    return output.replace(b"\x1b[?2026$p", b"").replace(b"\x1b[>1u", b"").replace(b"\x1b[<u", b"")


class Terminal:
    """A program on a pty, and the screen that it has drawn."""

    START = ("-m", "tui")
    PLAIN: ClassVar[dict[bytes, bytes]] = {b"\x1b[c": b"\x1b[?62;22c"}
    "What a terminal without pictures answers."

    def __init__(
        self,
        *arguments: str,
        cols: int = 100,
        rows: int = 30,
        answers: dict[bytes, bytes] | None = None,
        **environment: str,
    ) -> None:
        self.answers = self.PLAIN if answers is None else answers
        self.screen = pyte.Screen(cols, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
        for name in ("NO_COLOR", "TMUX", "STY"):
            env.pop(name, None)
        self.program = subprocess.Popen(
            [sys.executable, *self.START, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
        )

    def read(self, seconds: float = 0.05) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            self.output += data
            for question, answer in self.answers.items():
                if question in data:
                    os.write(self.master, answer)
            self.stream.feed(without_unknown(data))

    def until(self, what: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if what():
                return
            self.read()
        raise AssertionError(f"it never came; the screen is\n{self.text}")

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def ended(self) -> bool:
        return self.program.poll() is not None

    def restored(self) -> bool:
        """The alternate screen is left, the cursor shown, the mouse let go, and the line discipline as it was."""
        left = self.output.rfind(b"\x1b[?1049l") > self.output.rfind(b"\x1b[?1049h")
        cursor = self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l")
        mouse = self.output.rfind(b"\x1b[?1000l") > self.output.rfind(b"\x1b[?1000h")
        return left and cursor and mouse and termios.tcgetattr(self.slave)[3] == self.before[3]

    def hang_up(self) -> None:
        """The terminal is gone; its numbers may be others' from now on, and are not closed again."""
        for handle in (self.slave, self.master):
            os.close(handle)
        self.slave = self.master = -1

    def close(self) -> None:
        if not self.ended():
            self.program.kill()
        self.program.wait()
        for handle in (self.master, self.slave):
            try:
                os.close(handle)
            except OSError:
                pass


@pytest.fixture
def terminals() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, **more: object) -> Terminal:
        terminal = Terminal(*arguments, **more)  # type: ignore[arg-type]
        opened.append(terminal)
        return terminal

    yield start
    for terminal in opened:
        terminal.close()


def settings(home: Path, **values: object) -> None:
    (home / "config").mkdir(exist_ok=True)
    lines = (f"{name} = {json.dumps(value)}" for name, value in values.items())
    (home / "config" / "settings.toml").write_text("\n".join(lines))


def scored(terminal: Terminal) -> bool:
    """Whether a finished picture is shown with its score."""
    return re.search(r"score \d", terminal.text) is not None


@pytest.mark.parametrize(("cols", "rows"), [(80, 24), (160, 45)])
def test_started_prompt_typed_picture_made_quit(
    terminals: Callable[..., Terminal], home: Path, cols: int, rows: int
) -> None:
    settings(home, model=FAST)
    terminal = terminals(cols=cols, rows=rows)
    terminal.until(lambda: "safelight" in terminal.text)
    terminal.type("a red apple")
    terminal.until(lambda: "a red apple" in terminal.text)
    terminal.type(ENTER)
    terminal.until(lambda: scored(terminal) and "▀" in terminal.text)
    (picture,) = (home / "pictures").glob("*.png")
    terminal.until(lambda: picture.name[:20] in terminal.text)
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    for _ in range(10):
        terminal.read()
    assert terminal.program.returncode == 0
    assert terminal.restored()
    # the libraries had things to say; they said them to the log
    log = (home / "data" / "safelight.log").read_text()
    assert "torchvision" in log
    for foreign in (b"torchvision", b"Warning", b"WARNING", b"Traceback", b"it/s]"):
        assert foreign not in terminal.output


MARKED = """
import os, sys

class Mark:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "typer"):
            os.write(0, f"\x1b]0;{name} is imported\x07".encode())

sys.meta_path.insert(0, Mark())
from tui.cli import main
main()
"""
"The program, writing a mark to its terminal when it begins to import one of these."


def test_the_first_paint_comes_before_torch_and_without_typer(
    terminals: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before torch's mark was painted before torch's import, however busy the machine is."""
    monkeypatch.setattr(Terminal, "START", ("-c", MARKED))
    terminal = terminals()
    terminal.until(lambda: b"torch is imported" in terminal.output)
    painted = terminal.output.partition(b"\x1b]0;torch is imported")[0]
    assert b"typer is imported" not in painted
    before = pyte.Screen(100, 30)
    pyte.ByteStream(before).feed(without_unknown(painted))
    text = "\n".join(before.display)
    assert "safelight" in text and "prompt" in text and "a red apple" in text


def test_what_is_typed_is_there_again_after_a_kill(terminals: Callable[..., Terminal], home: Path) -> None:
    terminal = terminals()
    terminal.until(lambda: "safelight" in terminal.text)
    terminal.type("a unicorn by the sea")
    terminal.until(lambda: any("unicorn by the sea" in p.read_text() for p in (home / "data").glob("draft-*.json")))
    terminal.program.kill()
    terminal.until(terminal.ended)
    again = terminals()
    again.until(lambda: "a unicorn by the sea" in again.text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal_and_keeps_draft_and_queue(
    terminals: Callable[..., Terminal], home: Path, number: signal.Signals
) -> None:
    settings(home, model=SLOW)
    terminal = terminals()
    terminal.until(lambda: "ready" in terminal.text)
    # more pictures than can be made by the time that the signal comes
    terminal.type("a fox on a green background" + ENTER * 40)
    terminal.until(lambda: list((home / "pictures").glob("2*.png")))
    before = time.monotonic()
    terminal.program.send_signal(number)
    terminal.until(terminal.ended)
    assert time.monotonic() - before < 4  # two seconds are promised; the machine may be busy
    for _ in range(10):
        terminal.read()
    assert terminal.restored()
    assert b"Traceback" not in terminal.output
    made = len(list((home / "pictures").glob("*")))
    again = terminals()
    again.until(lambda: "a fox on a green" in again.text)
    again.until(lambda: len(list((home / "pictures").glob("2*.png"))) > made)
    again.type(CTRL_Q)
    again.until(again.ended)


def test_a_terminal_that_goes_away_ends_the_program(terminals: Callable[..., Terminal]) -> None:
    terminal = terminals()
    terminal.until(lambda: "ready" in terminal.text)
    terminal.hang_up()
    assert terminal.program.wait(timeout=60) is not None


def test_two_workbenches_at_once_keep_their_own_drafts(terminals: Callable[..., Terminal], home: Path) -> None:
    settings(home, model=FAST)
    one, two = terminals(), terminals()
    for terminal, text in ((one, "a pear"), (two, "a plum")):
        terminal.until(lambda t=terminal: "ready" in t.text)  # type: ignore[misc]
        terminal.type(text + ENTER)
    for terminal in (one, two):
        terminal.until(lambda t=terminal: scored(t))  # type: ignore[misc]
        terminal.type(CTRL_Q)
        terminal.until(terminal.ended)
    assert len(list((home / "pictures").glob("*.png"))) == 2
    drafts = sorted(p.read_text() for p in (home / "data").glob("draft-*.json"))
    assert len(drafts) == 2 and "plum" in "".join(drafts) and "pear" in "".join(drafts)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_dumb_terminal_gets_a_pointer_to_the_command_line(
    terminals: Callable[..., Terminal], environment: dict[str, str]
) -> None:
    terminal = terminals(**environment)
    terminal.until(terminal.ended)
    for _ in range(5):
        terminal.read()
    assert terminal.program.returncode == 2
    assert "error: the workbench needs a terminal" in terminal.text and "\x1b" not in terminal.output.decode()


def test_progress_on_the_command_line_is_one_line_that_goes_away(
    terminals: Callable[..., Terminal], home: Path
) -> None:
    terminal = terminals("generate", "a red apple", "-m", SLOW, "--seed", "7", "--steps", "60", cols=240)
    terminal.until(lambda: "/step" in terminal.text)
    terminal.until(terminal.ended)
    for _ in range(5):
        terminal.read()
    assert terminal.program.returncode == 0
    lines = [line for line in terminal.text.splitlines() if line]
    assert len(lines) == 2
    assert lines[0].endswith(".png") and lines[1].startswith("  seed 7")


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────

KITTY = {
    b"\x1b[>0q": b"\x1bP>|kitty(0.41.1)\x1b\\",
    b"a=q": b"\x1b_Gi=31;OK\x1b\\",
    b"\x1b[16t": b"\x1b[6;20;10t",
    b"\x1b[c": b"\x1b[?62;c",
}


def sequences(output: bytes) -> list[str]:
    """What was said in kitty's protocol, without the question whether it is spoken, and without the data."""
    said = re.findall(rb"\x1b_G([^;\x1b]*)", output)
    return [keys.decode() for keys in said if b"a=q" not in keys]


def test_a_picture_is_sent_once_to_a_kitty_and_none_is_left_there(
    terminals: Callable[..., Terminal], home: Path
) -> None:
    """COLORTERM is not there, as over ssh."""
    settings(home, model=FAST, score=False)
    terminal = terminals(cols=120, rows=36, answers=KITTY, COLORTERM="")
    terminal.until(lambda: "what to draw" in terminal.text)
    terminal.type("a red apple" + ENTER)
    placed = "\U0010eeee\u0305\u0305".encode()
    terminal.until(lambda: re.search(r"seed \d+ · ", terminal.text) and placed in terminal.output)
    terminal.until(lambda: len([s for s in sequences(terminal.output) if "a=T" in s]) >= 1)
    for _ in range(20):
        terminal.read()
    numbers = [re.search(r"i=(\d+)", said)[1] for said in sequences(terminal.output) if "a=T" in said]  # type: ignore[index]
    number = int(numbers[-1])
    assert f"\x1b[38;2;{number >> 16};{number >> 8 & 255};{number & 255}m".encode() in terminal.output
    before = len(terminal.output)
    for key in ("\x1b[18~", "\x1b[B", "\x1b[A", "\x1bOQ"):  # over the history and back, and to the prompt
        terminal.type(key)
        for _ in range(5):
            terminal.read()
    assert not [said for said in sequences(terminal.output[before:]) if "a=T" in said], "nothing is sent again"
    assert len(terminal.output) - before < 90_000, "four whole screens"
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    terminal.read()
    said = sequences(terminal.output)
    sent = {re.search(r"i=(\d+)", one)[1] for one in said if "a=T" in one}  # type: ignore[index]
    deleted = [re.search(r"i=(\d+)", one)[1] for one in said if "a=d" in one]  # type: ignore[index]
    assert sorted(deleted) == sorted(sent) and terminal.restored()


def test_keys_that_are_typed_while_the_terminal_is_asked_are_not_lost(
    terminals: Callable[..., Terminal], home: Path
) -> None:
    """And answers that come late are no keys."""
    terminal = terminals(answers={})
    terminal.type("a cat")
    terminal.until(lambda: "cat" in terminal.text and "prompt" in terminal.text)
    terminal.type("\x1bP>|kitty(0.41.1)\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?62;c\x1b[6;20;10t on a mat")
    terminal.until(lambda: "cat on a mat" in terminal.text)
    for _ in range(20):
        terminal.read()
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    (draft,) = (home / "data").glob("draft-*.json")
    assert json.loads(draft.read_text())["prompt"] == "a cat on a mat"
    assert "kitty" not in terminal.text and "OK" not in terminal.text


def test_xterm_is_told_to_send_alt_as_others_do_and_is_given_back_as_it_was(
    terminals: Callable[..., Terminal], home: Path
) -> None:
    """Title, colours of 24 bits without COLORTERM, and Alt."""
    answers = {b"\x1b[>0q": b"\x1bP>|XTerm(379)\x1b\\", b"\x1b[c": b"\x1b[?64;1;22c"}
    terminal = terminals(answers=answers, COLORTERM="")
    terminal.until(lambda: "what to draw" in terminal.text)
    terminal.until(lambda: b"\x1b]2;safelight\x07" in terminal.output)
    assert b"\x1b[?1036;1039s\x1b[?1036;1039h" in terminal.output and b"\x1b[22;2t" in terminal.output
    assert b"\x1b[38;2;" in terminal.output
    terminal.type("\x1b,")
    terminal.until(lambda: "preferences" in terminal.text)
    terminal.type("\x1b")
    terminal.until(lambda: "preferences" not in terminal.text)
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    terminal.read()
    assert terminal.restored()
    assert b"\x1b[?1036;1039r" in terminal.output and terminal.output.count(b"\x1b[23;2t") == 1


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(terminals: Callable[..., Terminal], home: Path) -> None:
    """Pictures are deleted, and sent anew; the title is put back."""
    settings(home, model=FAST, score=False)
    terminal = terminals(cols=120, rows=36, answers=KITTY, COLORTERM="")
    terminal.until(lambda: "what to draw" in terminal.text)
    terminal.type("a red apple" + ENTER)
    terminal.until(lambda: re.search(r"seed \d+ · ", terminal.text))
    terminal.until(lambda: "\U0010eeee".encode() in terminal.output and b"\x1b]2;safelight\x07" in terminal.output)
    for _ in range(10):
        terminal.read()
    before = len(terminal.output)
    terminal.type("\x1b[18~" + "\x1a")  # in the history, where ctrl+z takes nothing back
    terminal.until(lambda: b"\x1b[?1049l" in terminal.output[before:])
    terminal.until(lambda: Path(f"/proc/{terminal.program.pid}/stat").read_text().rpartition(") ")[2][0] == "T")
    terminal.read()
    gone = terminal.output[before:]
    assert [said for said in sequences(gone) if "a=d" in said] and b"\x1b[23;2t" in gone
    assert terminal.restored()
    before = len(terminal.output)
    terminal.program.send_signal(signal.SIGCONT)
    terminal.until(lambda: [said for said in sequences(terminal.output[before:]) if "a=T" in said])
    terminal.until(lambda: b"\x1b]2;safelight\x07" in terminal.output[before:])
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    terminal.read()
    said = sequences(terminal.output)
    assert len([one for one in said if "a=T" in one]) >= 2
    assert sequences(terminal.output[before:])[-1].startswith("a=d")
