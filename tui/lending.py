"""The terminal, lent to an editor: the engine's thread goes on meanwhile, and its events wait."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from engines import folders
from engines.errors import SafelightError
from tui.clean import clean, one_line


def edit(app: App[Any], path: Path) -> str:
    """Opens a file in the editor that $VISUAL or $EDITOR names, and waits until it is left; returns what went wrong."""
    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        command = shlex.split(wanted)
    except ValueError:  # a quotation that doesn't end
        command = []
    if not command or shutil.which(command[0]) is None:
        return f"there is no editor {one_line(wanted, 40)}; set $EDITOR"
    try:
        folders.make(path.parent)
        # our own streams lead into the log
        with app.suspend(), open("/dev/tty", "r+b", buffering=0) as tty:
            before = signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl+C is the editor's
            try:
                subprocess.run([*command, path], stdin=tty, stdout=tty, stderr=tty, check=False)
            finally:
                signal.signal(signal.SIGINT, before)
    except SuspendNotSupported:
        return "this terminal can't be lent to an editor"
    except (OSError, SafelightError) as e:
        return clean(str(e))
    return ""
