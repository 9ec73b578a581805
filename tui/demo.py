"""`safelight --demo` opens the workbench in a home of its own, which is gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from engines import folders
from tui import leaving, opening
from tui import settings as settings_file
from tui.settings import Settings

MODEL = "mini"
"The tour is written for the embedded family: every machine has it."
KEPT = ("theme", "pictures", "device", "threads")
"Settings that are the user's here, too."


def open_demo(device: str = "", threads: int = 0, debug: bool = False) -> int:
    """Runs the tour to its end, or until it is left, and returns the exit code.

    Raises:
        InvalidRequest: there is no terminal for it.
        SafelightError: as the workbench does.
    """
    opening.check_terminal()
    theirs = folders.find()
    settings, _ = settings_file.load(theirs.settings)  # what is wrong in it is told by their own workbench
    before = os.environ.get("SAFELIGHT_HOME")
    with tempfile.TemporaryDirectory(prefix="safelight-demo-", ignore_cleanup_errors=True) as home:
        leaving.LAST.append(partial(shutil.rmtree, home, ignore_errors=True))
        prepare(Path(home), settings, theirs.config / "themes")
        os.environ["SAFELIGHT_HOME"] = home
        try:
            return opening.open_workbench(device, threads, debug, tour=True)
        finally:
            if before is None:
                del os.environ["SAFELIGHT_HOME"]
            else:
                os.environ["SAFELIGHT_HOME"] = before


def prepare(home: Path, settings: Settings, themes: Path) -> None:
    """Writes what holds of the user's settings, and their themes, into the home of the tour."""
    config = folders.find({"SAFELIGHT_HOME": str(home)}).config
    folders.make(config)
    lines = [f'model = "{MODEL}"']
    for name in KEPT:
        value = getattr(settings, name)
        lines.append(f"{name} = {value}" if isinstance(value, int) else f"{name} = {_quoted(value)}")
    if settings.keys:
        lines += ["[keys]", *(f"{_quoted(id)} = {_quoted(key)}" for id, key in settings.keys)]
    (config / "settings.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with suppress(OSError):  # the shipped ones are there anyhow
        shutil.copytree(themes, config / "themes")


def _quoted(text: str) -> str:
    """A TOML string: JSON's is one."""
    import json

    return json.dumps(text)
