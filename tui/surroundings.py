"""What the doctor says of the surroundings: the terminal, the folders and the store, the models and the settings."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import tui
from engines import catalogue as catalogues
from engines import machine
from engines.errors import SafelightError
from tui import lettering as letterings
from tui import wording
from tui.findings import Check, note, ok, problem
from tui.lettering import utf8
from tui.pictures.asking import Answers, Asking
from tui.pictures.deciding import decide
from tui.session import Session

DRAWN = {"kitty": "kitty's graphics", "sixel": "sixels", "halfblocks": "half-blocks"}
"Ways of showing pictures, in words."
FULL, NEARLY_FULL = 500_000_000, 5_000_000_000
"Bytes of free disk below which pictures can't be relied on, and below which it is worth a word."


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(env: Mapping[str, str]) -> Answers:
    """What the terminal answers when it is asked who it is; nothing where there is none. Waits for it, a second at
    most."""
    if not sys.stdin.isatty() or not sys.stdout.isatty() or env.get("TERM", "dumb") in ("", "dumb"):
        return Answers()
    return Asking(sys.stdin.fileno(), sys.stdout.fileno(), env).finish()


def terminal(session: Session, env: Mapping[str, str], answers: Answers | None = None) -> Iterator[Check]:
    """What the terminal can show, and why.

    Args:
        session: for the settings.
        env: of this process.
        answers: of the terminal; it is asked if they are not given.
    """
    answers = asked(env) if answers is None else answers
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    term, size = env.get("TERM", ""), shutil.get_terminal_size()
    inside = [name for name, key in (("tmux", "TMUX"), ("screen", "STY"), ("zellij", "ZELLIJ")) if env.get(key)]
    remote = bool(env.get("SSH_CONNECTION") or env.get("SSH_TTY"))
    data: dict[str, Any] = {
        "term": term,
        "tty": tty,
        "columns": size.columns,
        "rows": size.lines,
        "inside": inside,
        "ssh": remote,
    }
    if not tty:
        yield note("terminal", "stdin or stdout is no terminal: only the workbench needs one", **data)
    elif term in ("", "dumb"):
        hint = "safelight --plain needs none; or export TERM=xterm-256color, if your terminal is like it"
        yield note("terminal", f"TERM is '{term}': the workbench needs a terminal that can be drawn on", hint, **data)
    elif size.columns < 40 or size.lines < 10:
        said = f"{term}, {size.columns}x{size.lines}: too small for the workbench"
        yield note("terminal", said, "make the window 80x24 or larger", **data)
    else:
        places = "".join([*(f" in {name}" for name in inside), " over ssh" if remote else ""])
        yield ok("terminal", f"{term}{places}, {size.columns}x{size.lines}", **data)
    decision = decide(session.settings.pictures, answers, env)
    colours = "truecolor" if decision.true_colours and not env.get("NO_COLOR") else colours_of(env)
    shown = {"truecolor": "16 million colours", "256": "256 colours", "16": "16 colours", "none": "no colours"}[colours]
    why = f": {decision.why}" if tty or decision.mode != "halfblocks" else ""
    said, hint = f"pictures as {DRAWN[decision.mode]}{why}; half-blocks have {shown}", decision.better if tty else ""
    if env.get("NO_COLOR"):
        said, hint = f"{said}: NO_COLOR is set", "unset NO_COLOR to see them in colour"
    elif "screen" in inside:
        hint = "screen passes on 256 colours at most; tmux passes on all"
    elif colours != "truecolor" and term not in ("", "dumb"):
        hint = "export COLORTERM=truecolor, if your terminal has them (most do)"
        hint += "; ssh does not pass it on" if remote else ""
        hint += "; and in tmux.conf: set -as terminal-features ',*:RGB'" if "tmux" in inside else ""
    more = {
        "colours": colours, "colorterm": env.get("COLORTERM", ""), "wish": session.settings.pictures,
        "mode": decision.mode, "why": decision.why, "cell": list(decision.cell), "name": answers.name,
    }  # fmt: skip
    yield note("pictures", said, hint, **more) if hint else ok("pictures", said, **more)
    lettering = letterings.decide(env, answers.knows_utf8)
    if lettering.ascii or not utf8(env):
        said = f"signs are {'ASCII' if lettering.ascii else 'Unicode'}: {lettering.why}"
        hint = "" if utf8(env) else "export LANG=C.UTF-8"
        yield note("locale", said, hint, lang=env.get("LANG", ""), ascii=lettering.ascii)


def colours_of(env: Mapping[str, str]) -> Literal["truecolor", "256", "16", "none"]:
    """How many colours the environment promises, by the rules that rich and Textual go by."""
    term = env.get("TERM", "").strip().lower()
    if env.get("NO_COLOR") or term in ("", "dumb", "unknown"):
        return "none"
    if "truecolor" in (env.get("COLORTERM", "").strip().lower(), env.get("TEXTUAL_COLOR_SYSTEM")):
        return "truecolor"
    if env.get("COLORTERM", "").strip().lower() == "24bit" or term.endswith("-direct"):
        return "truecolor"
    return "256" if term.endswith("-256color") or term in ("xterm-kitty", "xterm-ghostty") else "16"


# ── folders and the store ───────────────────────────────────────────────────────────────────────────────────────────


def folders(session: Session) -> Iterator[Check]:
    """Where things are, whether they can be written, and how much disk is left. Nothing is left behind."""
    f = session.folders
    places = {"pictures": session.pictures, "data": f.data, "config": f.config, "cache": f.cache}
    disks: dict[int, list[str]] = {}
    for name, path in places.items():
        why, there = refused(path), os.path.isdir(path)
        data: dict[str, Any] = {"path": str(path), "exists": there, "writable": not why}
        if not why:
            yield ok(f"folder.{name}", f"{name}: {path}{'' if there else ' (made when it is needed)'}", **data)
        elif name == "config":  # many keep it read-only on purpose
            yield note("folder.config", f"config: {path} can't be written: {why}", **data)
        else:
            hint = "set SAFELIGHT_HOME to a folder that you can write to"
            if name == "pictures":
                hint = f"name another with --out DIR, or as folder in {f.settings}"
            yield problem(f"folder.{name}", f"{name}: {path} can't be written: {why}", hint, name != "cache", **data)
        try:
            disks.setdefault(machine.existing(path).stat().st_dev, []).append(name)
        except OSError:
            continue
    for names in disks.values():
        free = machine.free_disk(places[names[0]])
        if free is not None:
            yield disk(names, free)
    if any(isinstance(handler, logging.StreamHandler) for handler in logging.getLogger().handlers):
        yield ok("log", f"log: {f.log}", path=str(f.log))
    else:
        yield note(
            "log", f"no log is kept: {f.log} can't be written", "make it, and its folder, yours", path=str(f.log)
        )


def disk(names: list[str], free: int) -> Check:
    """Free bytes on the disk that holds the folders of these names."""
    said = f"{wording.bytes_(free)} free for {', '.join(names)}"
    if free < FULL:
        stops = "pictures" in names or "data" in names
        return problem("disk", f"the disk is full: {said}", "free some space", stops, free=free, folders=names)
    if free < NEARLY_FULL:
        return note("disk", said, "free some space before it runs out", free=free, folders=names)
    return ok("disk", said, free=free, folders=names)


def refused(path: Path) -> str:
    """Why no file can be written into a folder, or why it can't be made; empty if all is well.

    It is tried, in the nearest folder that is there: permissions don't tell of read-only disks and quotas.
    """
    try:
        handle, probe = tempfile.mkstemp(prefix=".safelight-", dir=machine.existing(path))
        os.close(handle)
        os.unlink(probe)
    except OSError as e:
        return e.strerror or str(e)
    return ""


def store(session: Session) -> Iterator[Check]:
    """Queue and history, read without changing them: to open them as usual would mend, migrate or create them."""
    from engines.store import MIGRATIONS

    path = session.folders.store
    if not os.path.exists(path):
        yield ok("store", f"history: {path} (made when it is needed)", path=str(path), exists=False)
        return
    pictures = jobs = 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=3)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if 0 < version <= len(MIGRATIONS):
                pictures = int(db.execute("SELECT count(*) FROM pictures").fetchone()[0])
                jobs = int(db.execute("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')").fetchone()[0])
    except sqlite3.Error as e:
        text = str(e)
        hint, stops = "make the file and its folder yours, or set another SAFELIGHT_HOME", True
        if "not a database" in text or "malformed" in text:
            hint, stops = "the next command keeps it aside and begins a new one; nothing else needs to be done", False
        elif "locked" in text:
            hint, stops = "end the program that holds it, or try again in a moment", False
        yield problem("store", f"history: {path}: {text}", hint, stops, path=str(path), exists=True)
        return
    data = {"path": str(path), "exists": True, "version": version, "pictures": pictures, "jobs": jobs}
    if version > len(MIGRATIONS):
        said, hint = f"history: {path} was written by a newer safelight", "update safelight, or set SAFELIGHT_HOME"
        yield problem("store", said, hint, True, **data)
        return
    counts = f"{wording.plural(pictures, 'picture')}, {wording.plural(jobs, 'job')} waiting"
    yield ok("store", f"history: {path} (version {version}), {counts}", **data)


# ── models and settings ─────────────────────────────────────────────────────────────────────────────────────────────


def models(session: Session) -> Iterator[Check]:
    """Which models are here, which are not, and the scorer."""
    c = session.catalogue
    missing = {model.id: c.missing(model) for model in c.models.values()}
    here = [id for id, gone in missing.items() if not gone]
    again = "reinstall safelight: it comes with one of its own"
    try:
        default = c.default_model().id
        yield ok("models", f"models: {', '.join(here)}; {default} unless one is named", here=here, default=default)
    except SafelightError as e:
        yield problem("models", e.message, again, stops=True, here=here, default=None)
    for id, gone in missing.items():
        if not gone or c.can_be_had(c.models[id]):
            continue
        if gone[0].is_relative_to(catalogues.SHIPPED.parent):
            yield problem("model", f"model {id} came with safelight, but {gone[0]} is missing", again, model=id)
        else:
            hint = f"put it there, or mend the entry in {session.folders.models}"
            yield note("model", f"model {id} is not here: {gone[0]} is missing", hint, model=id)
    try:
        scorer = c.default_scorer().id
        yield ok("scorer", f"scorer: {scorer}", scorer=scorer)
    except SafelightError as e:
        yield problem("scorer", f"{e.message}: pictures can't be scored", again, scorer=None)


def settings(session: Session) -> Iterator[Check]:
    """What is wrong in settings.toml and in the user's models.toml."""
    f, s = session.folders, session.settings
    found: list[Check] = []
    for notice in session.notices:
        own = f.settings if notice.startswith(str(f.settings)) else f.models
        id = "settings" if own == f.settings else "catalogue"
        found.append(problem(id, notice, f"mend it in {own}; what else is in it holds", path=str(own)))
    if s.model:
        try:
            session.catalogue.require(s.model)
        except SafelightError as e:
            found.append(
                problem("settings.model", f"settings: {e.message}", f"{e.hint}; mend model in {f.settings}", True)
            )
    package = Path(str(tui.__file__)).resolve().parent
    homes = (f.config / "themes", package.parent / "themes", package / "themes")
    if not any((home / f"{Path(s.theme).name}.toml").is_file() for home in homes):
        hint = f"put it into {f.config / 'themes'}, or name another in {f.settings}"
        found.append(problem("settings.theme", f"settings: there is no theme '{s.theme}'", hint))
    yield from found
    if not any(check.id.startswith("settings") for check in found):
        there = os.path.exists(f.settings)
        yield ok(
            "settings", f"settings: {f.settings}{'' if there else ' (none: the defaults hold)'}", path=str(f.settings)
        )
