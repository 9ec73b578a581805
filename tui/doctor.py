"""`safelight doctor`: what this machine, this installation and this terminal can do, and what to do about problems.

Every finding is a `Check`: a line for people, an object for programs. torch is looked at in a process of its own, so
that a broken one is a finding like any other, and this process never imports it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import platform
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlparse

import engines
import tui
from engines import catalogue as catalogues
from engines import files, machine
from engines.errors import SafelightError
from engines.machine import Machine, Nvidia
from tui import wording
from tui.clean import one_line
from tui.making import Progress, emit
from tui.session import Session

Status: TypeAlias = Literal["ok", "note", "problem"]
Found: TypeAlias = Mapping[str, Any]
"What engines.diffusion.survey prints, or {'failed': one line}."

MARKS: dict[Status, str] = {"ok": "ok", "note": "..", "problem": "!!"}
SURVEY_SECONDS = 120.0
"How long torch may take to be imported: cold, from a slow disk, that can be half a minute."
FULL, NEARLY_FULL = 500_000_000, 5_000_000_000
"Bytes of free disk below which pictures can't be relied on, and below which it is worth a word."
SDXL = 8 * 2**30
"Bytes of GPU memory that SDXL takes in fp16 at 1024x1024."
MINI = 2 * 2**30
"Bytes of memory that a picture of the embedded model takes at most, everything counted."
WHEELS = "https://download.pytorch.org/whl/"
ALONE = "install safelight into an environment of its own: pipx install safelight, or make setup in a checkout"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    id: str
    "What was looked at; programs go by it."
    status: Status
    "ok; a note is worth knowing; a problem wants something done."
    message: str
    "One line."
    hint: str = ""
    "One line, what to do; every problem has one."
    stops: bool = False
    "No picture can be made because of it."
    data: Mapping[str, Any] = field(default_factory=dict)
    "For programs."


def ok(id: str, message: str, **data: Any) -> Check:
    """All is well."""
    return Check(id, "ok", message, data=data)


def note(id: str, message: str, hint: str = "", **data: Any) -> Check:
    """Worth knowing."""
    return Check(id, "note", message, hint, data=data)


def problem(id: str, message: str, hint: str, stops: bool = False, **data: Any) -> Check:
    """Wants something done."""
    return Check(id, "problem", message, hint, stops, data)


def examine(session: Session, as_json: bool) -> int:
    """Prints all findings and returns the exit code: 1 if something keeps pictures from being made, else 0."""
    progress = Progress()
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
        "Terminal": list(terminal(session, os.environ)),
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
        print()
    print(f"{summary}{'; pictures can be made all the same' if count and not stopped else ''}", flush=True)
    return int(stopped)


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


# ── this installation ───────────────────────────────────────────────────────────────────────────────────────────────


def installation() -> Iterator[Check]:
    """Whether the two packages, whose names are everyone's, are both safelight's own."""
    where, other = (Path(str(module.__file__)).resolve().parent.parent for module in (tui, engines))
    if where != other:
        yield problem("packages", f"tui comes from {where}, but engines from {other}", ALONE, stops=True)
    if others := other_owners(metadata.packages_distributions()):
        said = f"{' and '.join(others)} also brought a package called tui or engines: files may be overwritten"
        yield problem("packages", said, ALONE)
    python = f"Python {platform.python_version()}"
    data = {"location": str(where), "python": platform.python_version(), "executable": sys.executable}
    try:
        dist = metadata.distribution("safelight")
    except metadata.PackageNotFoundError:
        said = f"safelight runs from {where} without being installed, {python}"
        yield note("safelight", said, "make setup in the checkout installs it", version=None, **data)
        return
    home, editable = _home(dist)
    if home is not None and home != where:
        yield problem("packages", f"safelight {dist.version} is installed in {home}, but {where} is what runs", ALONE)
    elif not editable and (changed := _overwritten(dist)):
        yield problem("packages", f"another package has overwritten safelight's {changed}", ALONE)
    said = f"safelight {dist.version} in {where}{' (editable)' if editable else ''}, {python}"
    yield ok("safelight", said, version=dist.version, editable=editable, **data)


def other_owners(owners: Mapping[str, list[str]]) -> list[str]:
    """Who else installed a `tui` or `engines`; `owners` is importlib.metadata's packages_distributions()."""
    return sorted({name for package in ("tui", "engines") for name in owners.get(package, [])} - {"safelight"})


def _home(dist: metadata.Distribution) -> tuple[Path | None, bool]:
    """The folder that an installation has its packages in, and whether it is editable."""
    try:
        url = json.loads(dist.read_text("direct_url.json") or "{}")
        if url.get("dir_info", {}).get("editable"):
            return Path(unquote(urlparse(url["url"]).path)).resolve(), True
    except (ValueError, KeyError, AttributeError):
        return None, False
    return Path(str(dist.locate_file("tui"))).resolve().parent, False


def _overwritten(dist: metadata.Distribution) -> str:
    """The first of the files that every package has which isn't as it was installed, or nothing."""
    for file in dist.files or []:
        if str(file) in ("tui/__init__.py", "engines/__init__.py") and file.hash is not None:
            try:
                digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
            except (OSError, ValueError):
                return str(file)
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                return str(file)
    return ""


def reinstall(index: str, torch: str | None) -> str:
    """The command that puts another build of torch into this installation.

    Args:
        index: the last part of a wheel index, for instance cu126.
        torch: the version to have, whatever its build; None for the newest that fits.
    """
    root = Path(str(tui.__file__)).resolve().parent.parent
    if (root / "Makefile").is_file() and Path(sys.prefix).resolve() == (root / ".venv").resolve():
        return f"make setup TORCH_INDEX={WHEELS}{index}"
    pip = "pipx runpip safelight" if "pipx" in Path(sys.prefix).parts else f"{sys.executable} -m pip"
    # with its local tag: another build of the same version counts as installed otherwise
    wanted = f"'torch=={torch.partition('+')[0]}+{index}'" if torch else "--force-reinstall torch"
    return f"{pip} install {wanted} --index-url {WHEELS}{index}"


def versions(found: Found, here: Machine, session: Session) -> Iterator[Check]:
    """torch and its companions: which, and whether they can be imported."""
    known: dict[str, str | None] = dict(found.get("versions") or {})
    errors: dict[str, str] = found.get("errors") or {}
    for name in ("textual", "textual-image"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            known[name] = None
    yield ok("versions", " · ".join(f"{name} {version}" for name, version in known.items() if version), versions=known)
    log = f"the log tells more: {session.folders.log}"
    broken = str(found.get("failed") or "")
    if "torch" in errors:
        broken = f"torch can't be imported: {errors['torch']}"
    if broken:
        fitting = machine.advise(here.nvidia.cuda, [gpu.capability for gpu in here.nvidia.gpus])
        index = fitting.index if here.nvidia.gpus and not fitting.driver else ""
        yield problem("torch", broken, f"{reinstall(index or 'cpu', known.get('torch'))}; {log}", stops=True)
        return
    if missing := [name for name, version in known.items() if version is None and name != "torchvision"]:
        yield problem("versions", f"not installed: {', '.join(missing)}", ALONE)
    vision = known.get("torchvision")
    if "clip" in errors and vision:
        said = f"transformers' CLIP can't be imported beside torchvision {vision}: {errors['clip']}"
        hint = f"take torchvision out, nothing here needs it: {sys.executable} -m pip uninstall torchvision"
        yield problem("torchvision", said, hint, stops=True)
    elif "clip" in errors:
        yield problem(
            "transformers", f"transformers' CLIP can't be imported: {errors['clip']}", f"{ALONE}; {log}", True
        )
    elif "engine" in errors:
        yield problem("engine", f"the engine can't be imported: {errors['engine']}", f"{ALONE}; {log}", stops=True)


# ── devices ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def processor(here: Machine, session: Session) -> Iterator[Check]:
    """The processor and main memory, and what a container leaves of them."""
    said = f"{here.cpu}, {wording.plural(here.cores, 'core')}"
    data = {"name": here.cpu, "cores": here.cores, "quota": here.quota, "system": here.system}
    if here.quota is not None and here.quota < here.cores - 0.5 and session.settings.threads == 0:
        n = max(round(here.quota), 1)
        hint = f"--threads {n}, or threads = {n} in settings.toml, may be quicker"
        yield note("cpu", f"{said}, of which this container gets {here.quota:g}", hint, **data)
    else:
        yield ok("cpu", said, **data)
    m = here.memory
    limit = " (the limit of this container)" if m.limited else ""
    said = f"{gib(m.total)} of memory{limit}, {gib(m.available)} available"
    data = {"total": m.total, "available": m.available, "limited": m.limited}
    if m.available < MINI:
        yield note("memory", said, "close other programs: a picture may not fit", **data)
    else:
        yield ok("memory", said, **data)


def gpus(found: Found, here: Machine, session: Session) -> Iterator[Check]:
    """The GPUs that are there, and why this torch can't use them where that is so."""
    nvidia, torch = here.nvidia, found.get("torch")
    data: dict[str, Any] = {"driver": nvidia.driver, "cuda": dotted(nvidia.cuda)}
    seen = [] if nvidia.gpus else found.get("devices") or []  # in containers that have no nvidia-smi
    if nvidia.problem and seen:
        yield note("nvidia", nvidia.problem, nvidia.hint, **data)
    elif nvidia.problem:
        yield problem("nvidia", nvidia.problem, f"{nvidia.hint}; the CPU can be used meanwhile", **data)
    for gpu in nvidia.gpus:
        more = {"index": gpu.index, "name": gpu.name, "capability": dotted(gpu.capability)}
        yield card(f"GPU {gpu.index}: {gpu.name}", gpu.total, gpu.used, {**more, **data})
    for each in seen:
        more = {"index": each["index"], "name": each["name"], "capability": dotted(tuple(each["capability"]))}
        used = None if each["free"] is None else each["total"] - each["free"]
        yield card(f"GPU {each['index']}: {each['name']}", each["total"], used, {**more, **data})
    if torch and (nvidia.gpus or seen):
        yield from unusable(found, nvidia, session.settings.device, os.environ)
    for name in here.others:
        if torch and (torch["mps"] if "Metal" in name else torch["hip"]):
            yield ok("gpu", name, name=name)
        else:
            hint = "https://pytorch.org/get-started/locally says which build would"
            yield note("gpu", f"{name}: this torch does not use it", hint, name=name)
    if not nvidia.gpus and not seen and not nvidia.problem and not here.others:
        yield ok("gpu", "no GPU", name=None)


def card(title: str, total: int | None, used: int | None, data: Mapping[str, Any]) -> Check:
    """A GPU and its memory in bytes, with one that others fill told apart from one that is too small."""
    data = {**data, "total": total, "used": used}
    if total is None:
        return ok("gpu", title, **data)
    free = max(total - (used or 0), 0)
    said = f"{title}, {gib(total)}, {gib(free)} free"
    if free >= SDXL:
        return ok("gpu", said, **data)
    if total >= SDXL:
        said = f"{said}: other programs hold {gib(total - free)}, and SDXL needs about {gib(SDXL)}"
        hint = "free it (nvidia-smi shows who holds it), or choose another with --device cuda:N"
        return note("gpu", said, hint, **data) if free >= MINI else problem("gpu", said, hint, **data)
    filled = f"; other programs hold {gib(total - free)} of it" if total - free > total / 4 else ""
    said = f"{said}: too small for SDXL, which needs about {gib(SDXL)}{filled}"
    return note("gpu", said, "small models work; larger ones with --device cpu, if main memory is larger", **data)


def unusable(found: Found, nvidia: Nvidia, wanted: str, environ: Mapping[str, str]) -> Iterator[Check]:
    """Every reason why this torch can't use NVIDIA GPUs that are there, with the build that would.

    Args:
        found: the survey, with its "torch".
        nvidia: what the driver tells.
        wanted: the device that was asked for.
        environ: the environment.
    """
    torch, version = found["torch"], str((found.get("versions") or {}).get("torch") or "")
    driver = f"driver {nvidia.driver or 'unknown'}{f' runs CUDA up to {dotted(nvidia.cuda)}' if nvidia.cuda else ''}"
    names = ", ".join(dict.fromkeys(gpu.name for gpu in nvidia.gpus))
    fitting = machine.advise(nvidia.cuda, [gpu.capability for gpu in nvidia.gpus])
    if not fitting.index:
        get = f"no build of torch {version.partition('+')[0]} has code for it; the CPU can be used"
    else:
        get = reinstall(fitting.index, version)
        if fitting.driver:
            get = f"update the NVIDIA driver to {fitting.driver} or newer, then {get}"
    if torch["cuda"] is None:
        said = f"{names} can't be used: torch {version} is {'a ROCm' if torch['hip'] else 'a CPU'} build ({driver})"
        yield note("gpu.torch", said, get) if wanted == "cpu" else problem("gpu.torch", said, get)
    elif not torch["available"]:
        hidden = environ.get("CUDA_VISIBLE_DEVICES")
        needs = int(str(torch["cuda"]).partition(".")[0])
        if hidden is not None and (hidden.strip() in ("", "NoDevFiles") or hidden.strip().startswith("-")):
            said = f"{names} can't be used: CUDA_VISIBLE_DEVICES='{hidden}' hides every GPU"
            yield note("gpu.torch", said, "unset CUDA_VISIBLE_DEVICES, if that is not what you want")
        elif nvidia.cuda is not None and nvidia.cuda[0] < needs:
            branch = next((build.branch for build in machine.BUILDS if build.needs[0] == needs), 0)
            update = f"; or update the NVIDIA driver to {branch} or newer" if branch and not fitting.driver else ""
            said = f"{names} can't be used: torch {version} needs CUDA {torch['cuda']}, but {driver}"
            yield problem("gpu.torch", said, f"{get}{update}")
        else:
            error = (found.get("errors") or {}).get("cuda", "")
            said = f"{names} can't be used by torch {version} ({driver}){f': {error}' if error else ''}"
            yield problem("gpu.torch", said, "restart after an update of the driver; start a container with --gpus all")
    else:
        for seen in found["devices"]:
            capability = (int(seen["capability"][0]), int(seen["capability"][1]))
            if torch["archs"] and not machine.has_code(torch["archs"], capability):
                said = f"torch {version} has no code for {seen['name']} (compute capability {dotted(capability)})"
                yield problem("gpu.torch", said, get)


def device(found: Found, here: Machine, session: Session) -> Iterator[Check]:
    """Which device pictures are made on, why, and in what precision."""
    wanted, errors = session.settings.device, found.get("errors") or {}
    if "device" in errors:
        hint = str(found.get("hint") or "")
        if not hint or "safelight doctor" in hint:
            hint = f"leave --device out, or take device out of {session.folders.settings}"
        yield problem("device", errors["device"], hint, stops=True, wanted=wanted)
        return
    chosen = found.get("device")
    if not chosen:
        return
    why = chosen["note"] or (f"{wanted} was asked for" if wanted else "")
    if not why and chosen["name"] == "cpu":
        why = "this torch can use no GPU" if here.nvidia.gpus or here.others else "there is no GPU"
    precision, model = found.get("precision"), found.get("model")
    data = {"device": chosen["name"], "title": chosen["title"], "why": why, "precision": precision, "model": model}
    if trouble := errors.get("trial"):
        hint = "the lines above and the log may say more; --device cpu works meanwhile"
        if "memory" in trouble:
            hint = "free its memory (nvidia-smi shows who holds it), or take another: --device cuda:N, --device cpu"
        yield problem("device", f"{chosen['title']} does not compute: {trouble}", hint, stops=True, **data)
        return
    said = f"pictures are made on {chosen['title']}{f' ({why})' if why else ''}"
    yield ok("device", f"{said}{f', in {precision} for {model}' if precision else ''}", **data)


def gib(n: float) -> str:
    """Bytes of memory as chips are sold, '79.6 GiB'; drives are told in powers of 1000 by tui.wording."""
    return f"{n / 2**30:.1f} GiB"


def dotted(version: machine.Version | None) -> str | None:
    """(12, 6) as '12.6'."""
    return None if version is None else f"{version[0]}.{version[1]}"


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


def terminal(session: Session, env: Mapping[str, str]) -> Iterator[Check]:
    """What the terminal says of itself. Nothing is asked of it, so that this is quick and safe over slow links."""
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
        hint = "export TERM=xterm-256color, if your terminal is like it"
        yield note("terminal", f"TERM is '{term}': the workbench needs a terminal that can be drawn on", hint, **data)
    elif size.columns < 40 or size.lines < 10:
        said = f"{term}, {size.columns}x{size.lines}: too small for the workbench"
        yield note("terminal", said, "make the window 80x24 or larger", **data)
    else:
        places = "".join([*(f" in {name}" for name in inside), " over ssh" if remote else ""])
        yield ok("terminal", f"{term}{places}, {size.columns}x{size.lines}", **data)
    colours = colours_of(env)
    shown = {"truecolor": "16 million colours", "256": "256 colours", "16": "16 colours", "none": "no colours"}[colours]
    drawn = "half-blocks" if session.settings.pictures == "halfblocks" else "textual-image draws them (kitty or sixel)"
    said, hint = f"pictures as {drawn}, in {shown}", ""
    if env.get("NO_COLOR"):
        said, hint = f"{said}: NO_COLOR is set", "unset NO_COLOR to see them in colour"
    elif "screen" in inside:
        hint = "screen passes on 256 colours at most; tmux passes on all"
    elif colours != "truecolor" and term not in ("", "dumb"):
        hint = "export COLORTERM=truecolor, if your terminal has them (most do)"
        hint += "; ssh does not pass it on" if remote else ""
        hint += "; and in tmux.conf: set -as terminal-features ',*:RGB'" if "tmux" in inside else ""
    elif session.settings.pictures != "halfblocks":
        hint = f'if they come out wrong: pictures = "halfblocks" in {session.folders.settings}'
    more = {"colours": colours, "colorterm": env.get("COLORTERM", ""), "mode": session.settings.pictures}
    yield note("pictures", said, hint, **more) if hint else ok("pictures", said, **more)
    if not utf8(env):
        said = "the locale is not UTF-8: half-blocks and prompts may come out wrong"
        yield note("locale", said, "export LANG=C.UTF-8", lang=env.get("LANG", ""))


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


def utf8(env: Mapping[str, str]) -> bool:
    """Whether the locale is UTF-8. Where none is set, Python puts C.UTF-8 into LC_CTYPE for itself: that isn't one."""
    lang = env.get("LANG", "")
    told = env.get("LC_ALL") or env.get("LC_CTYPE") or lang
    if not env.get("LC_ALL") and told in ("C.UTF-8", "C.utf8") and lang in ("", "C", "POSIX"):
        return False
    return "utf8" in told.lower().replace("-", "")


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
        if not gone:
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
    try:
        files.check_pattern(s.file_name)
    except SafelightError as e:
        found.append(problem("settings.file_name", f"settings: {e.message}", e.hint, stops=True))
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
