"""Faults of terminals, signals and pipes, injected into the whole program on a pty (FAULTS 31, 46-56)."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from test_manners import shell
from test_terminal import CTRL_Q, ENTER, ESCAPE, FAST, SLOW, Terminal, settings, terminals, without_unknown  # noqa: F401

from engines import folders

OBEYED = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x1b\\\x9b31m\u202egnp"
PAYLOAD = re.compile(rb"\x1b\]0;owned|\x1b\]52;c;b3duZWQ|\xc2[\x80-\x9f]|\xe2\x80\xae|\x00|\x07owned|(?<!\x1b)\x9b")
"What of it would be obeyed: the title, the clipboard, C1 in UTF-8, the writing direction."
ROOT = str(Path(__file__).resolve().parent.parent)

Start = Callable[..., Terminal]


def resize(terminal: Terminal, cols: int, rows: int) -> None:
    """What a window manager does."""
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def quit(terminal: Terminal) -> None:
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    for _ in range(5):
        terminal.read()
    assert terminal.program.returncode == 0 and terminal.restored()
    assert b"Traceback" not in terminal.output


# ── 31: escape sequences ────────────────────────────────────────────────────────────────────────────────────────────


def foreign(folder: Path) -> Path:
    """A stranger's picture, whose texts and name are full of it."""
    info = PngImagePlugin.PngInfo()
    for key in ("parameters", "safelight", "prompt", "Comment"):
        info.add_itxt(key, f"a cat {OBEYED}\nNegative prompt: {OBEYED}\nSteps: 4, Seed: 5, Model: {OBEYED}")
    path = folder / f"cat{OBEYED}.png".replace("/", "")
    Image.new("RGB", (64, 64), "red").save(path, pnginfo=info)
    return path


def evil(home: Path) -> None:
    """Files of the user's that somebody else has written."""
    name = json.dumps(f"evil{OBEYED}")
    (home / "config" / "themes").mkdir(parents=True)
    (home / "config" / "themes" / f"night{OBEYED}.toml").write_text("=")
    (home / "config" / "models.toml").write_text(
        f'[[model]]\nid = "evil"\ntitle = {name}\nfamily = "sdxl"\nlicence = {name}\n'
        f"[[lora]]\nid = {name}\ntitle = {name}\nfamily = {name}\nlicence = {name}\nwords = {name}\n"
    )
    (home / "config" / "snippets.toml").write_text(f'[[snippet]]\nname = {name}\nkind = "style"\ntext = {name}\n')
    (home / "config" / "settings.toml").write_text(f'theme = {name}\nmodel = "{FAST}"\n{name} = 1\n')


def test_nothing_from_outside_is_obeyed_in_the_workbench(terminals: Start, home: Path) -> None:  # noqa: F811
    """From draft, models, themes, snippets and settings; typed and pasted: all bytes of the pty are looked at."""
    evil(home)
    (home / "data").mkdir()
    (home / "data" / "draft-1.json").write_text(json.dumps({"prompt": f"drafted {OBEYED}", "model": FAST}))
    terminal = terminals(cols=132, rows=36)
    terminal.until(lambda: "drafted" in terminal.text)
    terminal.type(f"\x1b[200~pasted {OBEYED}\x1b[201~")
    terminal.until(lambda: "pasted" in terminal.text)
    terminal.type("typed \u202e\x9b31m\x00 so")
    terminal.until(lambda: "so" in terminal.text)
    terminal.type(ENTER)
    terminal.until(lambda: list((home / "pictures").glob("2*.png")))
    for key in (
        "\x1bk",
        "evil",
        ESCAPE,
        "\x1bh",
        ESCAPE,
        "\x1bOR",
        ENTER,
        ESCAPE,
        "\x10",
        "theme",
        ESCAPE,
        "\x1bj",
        ESCAPE,
    ):
        terminal.type(key)
        for _ in range(6):
            terminal.read()
    terminal.type(ESCAPE)
    quit(terminal)
    assert PAYLOAD.search(terminal.output) is None, PAYLOAD.search(terminal.output)
    for picture in (home / "pictures").iterdir():
        assert not re.search(r"[\x00-\x1f\x80-\x9f\u202e]", picture.name)


def commands(picture: Path) -> list[list[str]]:
    """Command lines that say something of what came from outside."""
    e, p = OBEYED, str(picture)
    quick = [
        ["prompt", e], ["models", "list"], ["models", "show", "evil"], ["models", "show", e], ["history", "list"],
        ["history", "show", "1"], ["history", "show", e],
        ["score", e, "--prompt", e], ["generate", e, "-m", e], [e], ["generate", "a", "--size", e], ["upscale", e],
        ["generate", e, "--lora", e], ["sweep", e, "--models", e, "--seeds", e], ["models", "add", p],
        ["models", "verify", e],
    ]  # fmt: skip
    made = [["generate", e, "-m", FAST, "--seed", "1", "--init", p], ["score", p, "--prompt", e, "--json"], ["doctor"]]
    helped = [["--help"], ["generate", "--help"], ["models", "--help"]]
    return [*made, *helped, *quick, *([*line, "--json"] for line in quick)]


def test_nothing_from_outside_is_obeyed_on_the_command_line(home: Path) -> None:
    """With and without --json, on a terminal and in a pipe; what comes of it is JSON, or one error and one hint."""
    evil(home)
    lines = commands(foreign(home))
    (home / "lines").write_text(json.dumps(lines))
    program = [sys.executable, str(Path(__file__).with_name("all_commands.py")), str(home / "lines")]
    environment = {**os.environ, "PYTHONPATH": ROOT, "TERM": "xterm-256color"}
    done = subprocess.run(program, capture_output=True, env=environment, check=False, stdin=subprocess.DEVNULL)
    (home / "lines").write_text(json.dumps([line for line in lines[3:] if "--json" not in line]))
    on_terminal = on_a_pty(program, environment)
    for output in (done.stdout, done.stderr, on_terminal):
        assert (found := PAYLOAD.search(output)) is None, output[max(0, found.start() - 300) : found.end() + 100]
        assert b"Traceback" not in output and b"unexpected" not in output
    told = re.split(rb"\n== \d+ ==\n", done.stdout)
    assert len(told) == len(lines) + 1
    for line, said in zip(lines, told, strict=False):
        for one in said.splitlines() if "--json" in line else ():
            assert not one.strip() or json.loads(one)


def on_a_pty(program: list[str], environment: dict[str, str]) -> bytes:
    """All that it writes to a terminal."""
    master, slave = os.openpty()
    child = subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    output = b""
    while True:
        try:
            output += os.read(master, 65536)
        except OSError:
            break
        if b"\x1b[c" in output[-20:]:
            os.write(master, b"\x1b[?62;22c")
    child.wait()
    os.close(master)
    return output


# ── 46–49: signals ──────────────────────────────────────────────────────────────────────────────────────────────────


def kept() -> int:
    """Jobs that go on when it is opened again."""
    with sqlite3.connect(folders.find().store) as db:
        ended = "('done', 'failed', 'cancelled')"
        return int(db.execute(f"SELECT count(*) FROM jobs WHERE state NOT IN {ended}").fetchone()[0])


@pytest.mark.parametrize("after", [0.0, 0.15, 0.4, 0.8])
def test_a_signal_at_the_start_leaves_the_terminal_as_it_was(terminals: Start, after: float) -> None:  # noqa: F811
    """Before Python is up, while the terminal is asked, while the screen is taken."""
    for number in (signal.SIGINT, signal.SIGTERM):
        terminal = terminals(answers={})
        time.sleep(after)
        terminal.program.send_signal(number)
        terminal.until(terminal.ended, 15)
        for _ in range(5):
            terminal.read()
        assert termios.tcgetattr(terminal.slave)[3] == terminal.before[3], "echo and lines are back"
        if b"\x1b[?1049h" in terminal.output:
            assert terminal.restored()
        if after:
            assert b"Traceback" not in terminal.output
        if after or terminal.program.returncode != 1:  # 1 is Python's own, when it is interrupted at its first imports
            assert terminal.program.returncode not in (0, 1)


def test_signals_while_it_draws_and_while_it_ends(terminals: Start, home: Path) -> None:  # noqa: F811
    """SIGINT from outside; ctrl+c itself is a key. A second signal while it shuts down changes nothing."""
    settings(home, model=SLOW)
    terminal = terminals()
    terminal.until(lambda: "ready" in terminal.text)
    terminal.type("a fox" + ENTER * 5)
    terminal.until(lambda: re.search(r"\d/\d+ ", terminal.text))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        terminal.program.send_signal(number)
        time.sleep(0.05)
    began = time.monotonic()
    terminal.until(terminal.ended, 15)
    assert time.monotonic() - began < 4
    for _ in range(5):
        terminal.read()
    assert terminal.restored() and b"Traceback" not in terminal.output
    assert kept() >= 3


def test_stopped_and_gone_on_with_in_a_shell_with_jobs(
    terminals: Start,  # noqa: F811
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGTSTP and fg (ctrl+z is the prompt's undo): the shell has its terminal meanwhile; screen, keys and picture
    come back."""
    settings(home, model=FAST, score=False)
    bash = "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
    start = "import fcntl, os, termios; os.setsid() if os.getsid(0) != os.getpid() else 0; "
    start += "fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + bash
    monkeypatch.setattr(Terminal, "START", ("-c", start))
    terminal = terminals(PS1="shell> ", PYTHONPATH=ROOT, cols=120, rows=36)
    terminal.until(lambda: "shell>" in terminal.text)
    terminal.type(f"{sys.executable} -m tui\r")
    terminal.until(lambda: "what to draw" in terminal.text or "prompt" in terminal.text)
    terminal.type("a pear" + ENTER)
    terminal.until(lambda: "▀▀▀" in terminal.text and list((home / "pictures").glob("2*.png")))
    terminal.until(lambda: "ready" in terminal.text)
    for _ in range(2):
        (child,) = Path(f"/proc/{terminal.program.pid}/task/{terminal.program.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTSTP)
        terminal.until(lambda: "Stopped" in terminal.text)
        assert terminal.output.rfind(b"\x1b[?1049l") > terminal.output.rfind(b"\x1b[?1049h")
        assert terminal.output.rfind(b"\x1b[?25h") > terminal.output.rfind(b"\x1b[?25l")
        terminal.type("echo $((40+2))\r")
        terminal.until(lambda: "\n42" in terminal.text)
        # the real screen is not kept by pyte: what is drawn anew is all that there is
        terminal.screen.reset()
        terminal.type("fg\r")
        terminal.until(lambda: "safelight" in terminal.text and "▀▀▀" in terminal.text, 20)
        terminal.type("\x1bOQ!")
        terminal.until(lambda: "a pear!" in terminal.text)
        terminal.type("\x7f")
        terminal.until(lambda: "a pear!" not in terminal.text)
    before = len(terminal.output)
    terminal.type(CTRL_Q)
    terminal.until(lambda: b"shell> " in terminal.output[before:])
    terminal.type("exit\r")
    terminal.until(terminal.ended)


def test_a_terminal_that_is_gone_ends_it_in_time(terminals: Start, home: Path) -> None:  # noqa: F811
    """Also where the hangup is ignored, as under nohup: the reader would turn without end."""
    settings(home, model=SLOW)
    terminal = terminals(cols=90)
    terminal.until(lambda: "ready" in terminal.text)
    terminal.type("a fox" + ENTER * 3)
    terminal.until(lambda: re.search(r"\d/\d+ ", terminal.text))
    began = time.monotonic()
    terminal.hang_up()
    assert terminal.program.wait(timeout=20) != 0
    assert time.monotonic() - began < 4  # two are promised; the machine may be busy
    assert kept() >= 2


# ── 50–51: pipes, no terminal ───────────────────────────────────────────────────────────────────────────────────────


def test_a_reader_that_has_seen_enough_is_no_error(home: Path) -> None:
    """`| head -1` of everything that lists; and a reader that is gone before the first line."""
    shell(f"safelight generate 'a pear' -m {FAST} --seed 1 --count 3")
    listing = [
        "history list", "history list --json", "models list", "models list --json", "--help", "generate --help",
        "prompt 'a (b)1.2'", "doctor", "history show 1", "history list --limit 1",
    ]  # fmt: skip
    script = "; ".join(
        f"safelight {one} 2>>errors | {{ {reader}; }} >/dev/null; echo ${{PIPESTATUS[0]}}"
        for one in listing
        for reader in (("head -n1",) if "doctor" in one else ("head -n1", "exec 0<&-"))
    )
    done = shell(f"cd {home}; {script}")
    codes = done.stdout.split()
    assert len(codes) == 2 * len(listing) - 1
    assert set(codes) <= {"0", "1"} and codes.count("1") <= 1, codes  # the doctor finds what it finds
    assert (home / "errors").read_text() == ""


# ── 52: sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_any_size_two_hundred_times_a_second(terminals: Start, home: Path) -> None:  # noqa: F811
    """With nothing, a list, the palette, the help, the closer look and the sweeps open; also while it draws. What the
    shell says of the size is of the window as it was."""
    settings(home, model=FAST, score=False)
    terminal = terminals(cols=100, rows=30, COLUMNS="80", LINES="24")
    terminal.until(lambda: "prompt" in terminal.text)
    terminal.type("a pear" + ENTER)
    terminal.until(lambda: list((home / "pictures").glob("2*.png")) and "ready" in terminal.text)
    chance = random.Random(7)
    sizes = [(10, 3), (1, 1), (500, 200), (40, 10), (39, 9), (81, 24), (200, 2), (2, 90)]
    for keys in ("", "\x1bOR" + ENTER, "\x10", "\x1bOP", "\x1bj", "\x1bm"):
        terminal.type(keys)
        terminal.read(0.3)
        for turn in range(60):
            anything = chance.randint(1, 500), chance.randint(1, 200)
            resize(terminal, *(sizes[turn % len(sizes)] if turn < 16 else anything))
            if turn == 20:
                terminal.type(ENTER if not keys else "")
            drain(terminal, 0.005)
        resize(terminal, 100, 30)
        while drain(terminal, 0.5) > 20_000:  # the cursor blinks
            pass
        assert not terminal.ended()
        terminal.type(ESCAPE if keys else "")
        while drain(terminal, 0.5) > 20_000:
            pass
        assert whole(terminal), terminal.text
    quit(terminal)


def whole(terminal: Terminal) -> bool:
    """If all of the workbench is drawn where it belongs, once the program has caught up with its sizes."""
    for _ in range(20):
        # what the last of it drew: pyte would take minutes for all, and what is there already is not sent again
        terminal.type("\x1b[15;2~")  # shift+f5
        drain(terminal, 0.5)
        while drain(terminal, 0.5) > 20_000:
            pass
        terminal.screen.reset()
        terminal.stream.feed(without_unknown(terminal.output[-400_000:]))
        lines = terminal.screen.display
        edges = "safelight" in lines[0] and "quit" in lines[-1]
        if edges and "prompt" in terminal.text and "settings" in terminal.text:
            return True
    return False


def drain(terminal: Terminal, seconds: float) -> int:
    """Takes what it writes in this time, undrawn; how much it was."""
    until, before = time.monotonic() + seconds, len(terminal.output)
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal.master], [], [], left)[0]:
            terminal.output += os.read(terminal.master, 1 << 20)
    return len(terminal.output) - before


# ── 54: what the terminal answers ───────────────────────────────────────────────────────────────────────────────────

ANSWERS = b"\x1b_Gi=31;OK\x1b\\\x1bP>|kitty(0.41.1)\x1b\\\x1b[6;20;10t\x1b[?62;c"


def asked(pieces: list[tuple[float, bytes]], patience: float = 1.0) -> tuple[str, str, float]:
    """(mode, what was typed, seconds) of a terminal that says these pieces after so many seconds each."""
    from tui.pictures.asking import Asking
    from tui.pictures.deciding import decide

    master, slave = os.openpty()
    environment = {"TERM": "xterm-kitty", "LANG": "C.UTF-8"}

    def say() -> None:
        for seconds, piece in pieces:
            time.sleep(seconds)
            os.write(master, piece)

    teller = threading.Thread(target=say)
    began = time.monotonic()
    asking = Asking(slave, slave, environment, patience)
    teller.start()
    answers = asking.finish()
    took = time.monotonic() - began
    teller.join()
    os.close(master)
    os.close(slave)
    return decide("auto", answers, environment).mode, answers.typed, took


@pytest.mark.parametrize(("after", "mode"), [(0.02, "kitty"), (0.15, "kitty"), (0.4, "kitty"), (1.5, "halfblocks")])
def test_answers_that_are_late(after: float, mode: str) -> None:
    found, typed, took = asked([(after, b"a" + ANSWERS + b"b")])
    assert found == mode and took < 1.4
    assert typed == ("ab" if mode == "kitty" else "")


def test_a_terminal_that_never_answers_costs_a_second_and_no_key() -> None:
    assert asked([(0.1, b"a"), (0.1, b"\x1b[A")], 0.5)[:2] == ("halfblocks", "a\x1b[A")


def test_answers_in_two_pieces_wherever_they_are_cut() -> None:
    for cut in range(1, len(ANSWERS)):
        found, typed, _ = asked([(0.0, b"x" + ANSWERS[:cut]), (0.003, ANSWERS[cut:] + b"y")])
        assert (found, typed.rstrip("y")) == ("kitty", "x"), cut


def test_keys_between_the_answers_are_keys() -> None:
    parts = re.findall(rb"\x1b_G.*?\x1b\\|\x1bP.*?\x1b\\|\x1b\[[^a-z]*[a-z]", ANSWERS)
    assert b"".join(parts) == ANSWERS
    pieces = [
        (0.003, piece)
        for part, key in zip(parts, (b"a", b"\x1b[B", b"\xc3", b"\xa9"), strict=True)
        for piece in (key, part)
    ]
    found, typed, _ = asked(pieces)
    assert found == "kitty" and typed.startswith("a\x1b[B")


def test_late_answers_cut_anywhere_among_keys_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the patience has ended goes through the parser of keys."""
    from textual import events

    from tui.keyboard import Keyboard

    monkeypatch.setattr(Keyboard, "expects", time.monotonic() + 60)
    said = ANSWERS.decode()
    for cut in range(1, len(said)):
        parser, found = Keyboard(), []
        for read in ("a", said[:cut], said[cut:], "b"):
            found += list(parser.feed(read))
        if parser._timeout_time is not None:
            parser._timeout_time = 0.0
            found += list(parser.tick())
        keys = [event.key for event in found if isinstance(event, events.Key)]
        assert keys == ["a", "b"], (cut, keys)
    parser = Keyboard()
    assert not list(parser.feed("\x1b"))  # the key itself is told when nothing follows
    parser.tick()
    found = [*parser.tick()]
    if parser._timeout_time is not None:
        parser._timeout_time = 0.0
        found += list(parser.tick())
    assert [event.key for event in found if isinstance(event, events.Key)] == ["escape"]


# ── 55: tmux ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_tmux_attached_from_another_terminal_is_asked_again(
    terminals: Start,  # noqa: F811
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Begun in an xterm, gone on with in a kitty, through tmux with allow-passthrough: half-blocks, then kitty's."""
    settings(home, model=FAST, score=False)
    (home / "tmux.conf").write_text("set -g allow-passthrough on\nset -g focus-events on\nset -g status off\n")
    socket = f"faults-{os.getpid()}"
    tmux = f"tmux -L {socket} -f {home / 'tmux.conf'}"
    at = "import os, sys; os.execvp('bash', ['bash', '-c', sys.argv[1]])"
    monkeypatch.setattr(Terminal, "START", ("-c", at))
    try:
        program = f"env PYTHONPATH={ROOT} {sys.executable} -m tui"
        first = terminals(f"{tmux} new-session '{program}'", cols=120, rows=36, TERM="xterm-256color", LC_ALL="C.UTF-8")
        first.until(lambda: "prompt" in first.text)
        first.type("a pear" + ENTER)
        first.until(lambda: "▀▀▀" in first.text and list((home / "pictures").glob("2*.png")))
        first.until(lambda: "ready" in first.text)
        assert b"\x1b_Ga=" not in first.output and b"a=T" not in first.output
        second = terminals(
            f"{tmux} attach -d", cols=120, rows=36, TERM="xterm-kitty" if kitty_known() else "xterm-256color",
            LC_ALL="C.UTF-8",
        )  # fmt: skip
        second.until(lambda: "safelight" in second.text)
        first.until(first.ended, 20)
        if kitty_known():
            second.until(lambda: b"a=T" in second.output, 30)
        second.type("\x1bOQ!")
        second.until(lambda: "a pear!" in second.text)
        second.type(CTRL_Q)
        second.until(second.ended)
    finally:
        subprocess.run(["tmux", "-L", socket, "kill-server"], capture_output=True, check=False)


def kitty_known() -> bool:
    """Whether terminfo knows kitty: tmux starts in no terminal that it doesn't know."""
    return subprocess.run(["infocmp", "xterm-kitty"], capture_output=True, check=False).returncode == 0


# ── 56: a terminal without UTF-8 ────────────────────────────────────────────────────────────────────────────────────


def test_a_terminal_that_does_not_know_utf8_gets_ascii(terminals: Start, home: Path) -> None:  # noqa: F811
    """It moves on by two for a letter of two bytes, and is written to in ASCII alone, pictures and all."""
    settings(home, model=FAST, score=False)
    answers = {b"\xc3\xa9\x1b[6n": b"\x1b[1;1R\x1b[1;3R", b"\x1b[c": b"\x1b[?62;22c"}
    terminal = terminals(cols=100, rows=30, answers=answers, LC_ALL="C")
    terminal.until(lambda: "prompt" in terminal.text)
    terminal.type("a pear" + ENTER)
    terminal.until(lambda: list((home / "pictures").glob("2*.png")) and "ready" in terminal.text)
    for _ in range(10):
        terminal.read()
    quit(terminal)
    drawn = terminal.output.partition(b"\x1b[?1049h")[2]
    assert len(drawn) > 1000 and drawn.isascii()
