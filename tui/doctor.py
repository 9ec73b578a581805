"""`safelight doctor`: what this machine, this installation and this terminal can do, and what to do about problems.

Every finding is a `Check`: a line for people, an object for programs. torch is looked at in a process of its own, so
that a broken one is a finding like any other, and this process never imports it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import engines
from engines import machine
from engines.errors import SafelightError
from tui import wording
from tui.clean import one_line
from tui.equipment import device, gpus, installation, processor, versions
from tui.findings import Check, Status
from tui.making import Progress, emit
from tui.pictures.asking import Answers
from tui.pictures.deciding import decide
from tui.session import Session
from tui.surroundings import asked, colours_of, folders, models, settings, store, terminal

MARKS: dict[Status, str] = {"ok": "ok", "note": "..", "problem": "!!"}
SURVEY_SECONDS = 120.0
"How long torch may take to be imported: cold, from a slow disk, that can be half a minute."


def examine(session: Session, as_json: bool) -> int:
    """Prints all findings and returns the exit code: 1 if something keeps pictures from being made, else 0."""
    progress = Progress()
    answers = asked(os.environ)
    try:
        progress.show("looking at this machine", now=True)
        here = machine.look()
        began = time.monotonic()
        found = ask_torch(
            session, lambda: progress.show(f"looking at torch · {wording.duration(time.monotonic() - began)}")
        )
    finally:
        progress.clear()
    groups = {
        "Installation": [*installation(), *versions(found, here, session)],
        "Devices": [*processor(here, session), *gpus(found, here, session), *device(found, here, session)],
        "Terminal": list(terminal(session, os.environ, answers)),
        "Folders": [*folders(session), *store(session)],
        "Models and settings": [*models(session), *settings(session)],
    }
    checks = [check for group in groups.values() for check in group]
    count = sum(check.status == "problem" for check in checks)
    stopped = any(check.stops for check in checks)
    summary = wording.plural(count, "problem") if count else "no problems"
    if as_json:
        for name, group in groups.items():
            for check in group:
                emit(_object(name, check))
        status = "problem" if count else "ok"
        emit(
            {"check": "summary", "status": status, "message": summary, "hint": "", "stops": stopped, "problems": count}
        )
        return int(stopped)
    for name, group in groups.items():
        print(name)
        for check in group:
            print(f"  {MARKS[check.status]}  {one_line(check.message)}")
            if check.hint:
                print(f"      hint: {one_line(check.hint)}")
            if check.id == "pictures" and answers.answered:
                _show_card(session, answers)
        print()
    print(f"{summary}{'; pictures can be made all the same' if count and not stopped else ''}", flush=True)
    return int(stopped)


def _show_card(session: Session, answers: Answers) -> None:
    """Four quadrants, as the workbench would show them: red, green; blue, yellow."""
    from tui.pictures import card  # and rich with it, which nothing else here needs

    colours = colours_of(os.environ)
    shown: Literal["truecolor", "256", "none"] = "256" if colours == "16" else colours
    print("      red and green above blue and yellow, and nothing else:")
    print(card.text(decide(session.settings.pictures, answers, os.environ), shown), end="", flush=True)


def _object(group: str, check: Check) -> dict[str, Any]:
    return {
        "check": check.id,
        "group": group,
        "status": check.status,
        "message": one_line(check.message),
        "hint": one_line(check.hint),
        "stops": check.stops,
        **check.data,
    }


def ask_torch(session: Session, waiting: Callable[[], object] | None = None) -> dict[str, Any]:
    """What `engines.diffusion.survey` found, or {"failed": one line} if its process did not live to tell it."""
    root = str(Path(str(engines.__file__)).resolve().parent.parent)
    # -P, and the root last: the folder that this is run in may hold an 'engines' of its own
    code = "import sys; sys.path.append(sys.argv.pop(1)); from engines.diffusion.survey import main; main()"
    try:
        model = session.catalogue.require(session.settings.model).id if session.settings.model else ""
    except SafelightError:
        model = ""  # told among the settings
    # in one word each: a device that starts with a hyphen is no option
    options = [f"--device={session.settings.device}", f"--threads={session.settings.threads}", f"--model={model}"]
    answer = machine.ask([sys.executable, "-P", "-c", code, root, *options], SURVEY_SECONDS, waiting)
    if answer.code is None:
        return {"failed": f"torch was not imported within {SURVEY_SECONDS:.0f} s"}
    if answer.code < 0:
        names = {int(each): each.name for each in signal.Signals}
        return {"failed": f"importing torch brings Python down ({names.get(-answer.code, answer.code)})"}
    try:
        found = json.loads(answer.output)
    except ValueError:
        found = None
    if answer.code or not isinstance(found, dict):
        return {"failed": f"Python could not look at torch (exit {answer.code})"}
    return found
