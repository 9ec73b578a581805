"""`safelight --plain`: line mode, for screen readers, braille lines, dumb terminals, slow links and scripts.

The powers of the workbench in plain lines. The engine and the model stay warm between pictures, and the form is the
workbench's draft, so that one can go over to it and back.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from engines.errors import InvalidRequest, SafelightError, StorageError
from tui import session as sessions
from tui.draft import Draft
from tui.drafts import DraftFile, usual
from tui.plain import commands
from tui.plain.bench import Bench
from tui.plain.reading import Lines
from tui.plain.voice import Voice, speaks_utf8
from tui.plain.work import Work
from tui.session import Session

GREETING = (
    "safelight in plain lines: type a prompt and press Enter, and its picture is made",
    "/help lists the commands, /settings tells the form, /quit or Ctrl+D leaves",
)
PAST = 100
"Prompts of earlier pictures that the arrow keys bring back."


def open_plain(device: str = "", threads: int = 0, debug: bool = False) -> int:
    """Runs line mode to its end and returns the exit code: for somebody who types 0, for a script the worst error's.

    Raises:
        SafelightError: the store or a setting can't be used.
    """
    session = sessions.begin(debug, device, threads)
    ascii_only = not speaks_utf8(os.environ)
    if ascii_only:  # whatever is printed past the voice
        sys.stderr.reconfigure(encoding="ascii", errors="replace")  # type: ignore[union-attr]
    voice = Voice(ascii_only)
    lines = Lines(editing=(os.environ.get("TERM") or "dumb") != "dumb")
    voice.note(*session.notices)
    store = session.store()
    file = DraftFile(session.folders.data)
    try:
        engine = session.engine("command", store)
        try:
            wildcards = session.folders.wildcards
            work, blank = Work(engine, lines, voice), session.settings.blank_negative
            bench = Bench(work, store, session.catalogue, lines, voice, default(session), blank, wildcards)
            made = store.pictures(limit=PAST)
            past = dict.fromkeys(p.request.template or p.request.prompt for p in made if p.request.prompt.strip())
            one_line = [prompt for prompt in past if "\n" not in prompt]
            lines.remember(one_line[::-1], lambda begun: commands.completions(bench, begun))
            return run(bench, lines, file)
        finally:
            engine.close()
    finally:
        file.close()
        store.close()


def default(session: Session) -> Draft:
    """The form where nothing was typed yet, as the workbench has it. What a blank negative prompt is stays with the
    setting: another one acts on a form that was kept, too."""
    new = usual(session.settings, session.catalogue)
    try:
        model = new.model or session.catalogue.default_model().id
    except SafelightError:
        model = ""  # told when a picture is asked for
    return replace(new, model=model, blank_negative="")


def run(bench: Bench, lines: Lines, file: DraftFile) -> int:
    """Line after line until the last; returns the exit code."""
    voice = bench.voice
    bench.work.heard = lambda line: commands.heard(bench, line)
    try:
        kept = file.open()
        bench.draft = bench.default if kept == Draft() else replace(kept, model=kept.model or bench.default.model)
    except StorageError as e:
        voice.note(e.message, level="warning")
    if lines.asked:
        voice.tell(*GREETING)
    lines.listen()
    try:
        bench.warm()
        while not bench.leaving:
            bench.work.settle()
            _save(bench, file)
            if (line := lines.ask()) is None:
                break
            voice.where = "" if lines.asked else f"line {lines.number}: "
            try:
                commands.obey(bench, line)
            except SafelightError as e:
                voice.fail(_here(e))
    finally:
        lines.forget()
        _save(bench, file)
    return 0 if lines.asked else voice.worst


def _here(error: SafelightError) -> SafelightError:
    """The error with the hint that helps here, where there are no options."""
    if isinstance(error, InvalidRequest):
        error.hint = error.hint.replace("--override", "/set override yes")
    return error


def _save(bench: Bench, file: DraftFile) -> None:
    try:
        file.save(bench.draft)
    except StorageError as e:
        bench.voice.note(e.message, level="warning")
