"""Odd surroundings: closed and full streams, bytes that are no text, keys with Alt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_terminal import CTRL_Q, Terminal, terminals  # noqa: F401

from engines import catalogue
from tui import settings as settings_file

FAST = "-m mini-lightning-2step-lora --seed 1"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """A command line in sh, where streams can be closed and sent anywhere; `safelight` is the program."""
    program = f'safelight() {{ "{sys.executable}" -m tui "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", program + command], capture_output=True, text=True, env=dict(os.environ), check=False
    )


def test_a_picture_is_made_though_nobody_can_be_told(home: Path) -> None:
    done = shell(f"safelight generate apple {FAST} 2>&-")
    assert done.returncode == 0 and Path(done.stdout.strip()).is_file()
    done = shell(f"safelight generate apple {FAST} 2>/dev/full")
    assert done.returncode == 0 and len(list((home / "pictures").glob("*.png"))) == 2


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("safelight <&-", 2, "needs a terminal"),
        ("safelight prompt - <&-", 0, ""),
        ("safelight generate a --steps 0 2>&-", 2, ""),
        ("safelight history list >/dev/full", 1, "No space left"),
        ("safelight --help >/dev/full", 1, "No space left"),
        ("safelight models list >&-", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(command: str, code: int, says: str) -> None:
    done = shell(command)
    assert done.returncode == code, done.stderr
    assert says in done.stderr and "unexpected" not in done.stderr and "Traceback" not in done.stderr


def test_a_setting_that_cannot_be_used_names_its_file_and_the_rest_holds(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('model = "nope"\nfile_name = "{prompt}"\ndevice = "gpu"\ntheme = "paper"\n')
    read, problems = settings_file.load(path)
    read, unknown = settings_file.check_model(read, path, catalogue.load().models)
    assert read == settings_file.Settings(theme="paper")
    assert len(problems) == 2 and len(unknown) == 1
    assert all(str(path) in problem for problem in (*problems, *unknown))


def test_a_fifo_in_place_of_the_settings_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.toml")
    read, problems = settings_file.load(tmp_path / "settings.toml")
    assert read == settings_file.Settings() and len(problems) == 1


def test_bytes_that_are_no_text_do_not_end_the_workbench(
    terminals: Callable[..., Terminal],  # noqa: F811
    home: Path,
) -> None:
    terminal = terminals()
    terminal.until(lambda: "safelight" in terminal.text)
    os.write(terminal.master, b"caf\xe9 noir \xff\xfe\xc3")
    terminal.type("(end)")
    terminal.until(lambda: "noir" in terminal.text and "(end)" in terminal.text)
    terminal.type(CTRL_Q)
    terminal.until(terminal.ended)
    assert terminal.program.returncode == 0 and b"Traceback" not in terminal.output


def test_alt_keys_act_while_the_prompt_has_the_focus(
    terminals: Callable[..., Terminal],  # noqa: F811
    home: Path,
) -> None:
    terminal = terminals()
    terminal.until(lambda: "safelight" in terminal.text)
    terminal.type("a pear")
    terminal.until(lambda: "a pear" in terminal.text)
    terminal.type("\x1ba")  # alt+a: all of it
    terminal.read(0.3)
    terminal.type("b")
    terminal.until(lambda: "a pear" not in terminal.text)
    terminal.type("\x1bn")  # alt+n: an empty form
    terminal.until(lambda: "new draft" in terminal.text)
    terminal.type("a plum")
    terminal.until(lambda: any('"a plum"' in p.read_text() for p in (home / "data").glob("draft-*.json")))
    (draft,) = [json.loads(p.read_text()) for p in (home / "data").glob("draft-*.json")]
    assert draft["prompt"] == "a plum"
