"""`safelight bench`: how quick safelight is on this machine, each figure beside what it is held against.

Both sides of a ratio are measured in one run, in turns, on the same work. Everything happens in processes of their
own, in pseudo-terminals of their own, and in a temporary SAFELIGHT_HOME on the disk that holds the real one.
`docs/benchmarks.md` says what each figure means.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from engines import folders
from engines.entries import Model
from engines.errors import InvalidRequest, near
from tui import line_bench, models_bench, sweep_bench, typing_bench, wire_bench, wording
from tui.draft import Draft
from tui.figures import SAFELIGHT, Figure, Place, Spread, failed, lines, measure, shown
from tui.making import Progress, emit
from tui.probe import Terminal, Typed, alphabet, python
from tui.session import Session

PROMPT = "a red apple on a blue background"
COMMAND = ("generate", PROMPT, "--seed", "7", "--count", "4", "--score", "--json")
"What `start` and `memory` run."

OVERHEAD, OVERHEAD_SECONDS = 1.05, 0.025
"Goal: the engine takes at most so many times the bare loop's time, or so many seconds more."
PREVIEWS, PREVIEWS_ELSEWHERE = 1.10, 1.03
"Goal: previews cost at most this on a CPU, and elsewhere."
FIRST_PICTURE = 20.0
"Goal: seconds from a cold start to the first picture on disk."
PEAK = 2 * 2**30
"Goal: bytes that a run on the CPU holds at most."
FIRST_PAINT = 1.5
"Goal: the workbench is drawn within so many times what an empty Textual app takes."
LATENESS = 0.05
"Goal: seconds from a key to the screen, at p99, while pictures are made."

LEAST_PREVIEWS = 2
"Previews that every picture of four steps or more has, whatever they cost."
KEYS = 60
"Keys that are typed for each of the runs."
MAX_KEYS = 450
"In one spell of typing: there are letters for three."
OPENING = 60.0
"Seconds that a first paint may take."
QUIET = 5.0
"Seconds that a screen may go on drawing after a key."
READY = 1800.0
"Seconds that a model may take to be loaded, and a first step to be made."

EMPTY_APP = "from textual.app import App; App().run()"
ENGINE = "from engines.diffusion.bench import main; sys.exit(main())"
IMPORTS = """
import json, time
marks = [time.perf_counter()]
for name in ("torch", "engines.diffusion.darkroom", "compel"):
    __import__(name)
    marks.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(marks, marks[1:])]))
"""


def run(session: Session, what: Sequence[str], as_json: bool, model: str = "", runs: int = 5) -> int:
    """Runs the benches that are named, or all, and prints their figures as they come.

    Raises:
        SafelightError: a name is unknown, or what was to be measured failed.
    """
    for name in what:
        if name not in BENCHES:
            raise InvalidRequest(f"no bench '{name}'", near(name, BENCHES, "benches"), "what")
    catalogue = session.catalogue
    chosen = model or session.settings.model
    measured = catalogue.require(chosen) if chosen else catalogue.default_model()
    progress = Progress()
    _tell_machine(measured, runs, as_json)
    # on the disk that holds the real one: what a save costs is mostly what its fsync costs
    parent = folders.make(session.folders.cache)
    wanted = dict.fromkeys(BENCHES[name] for name in (what or BENCHES))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True) as folder:
        place = Place(session, measured, runs, Path(folder), progress)
        try:
            for bench in wanted:
                for figure in bench(place):
                    if what and figure.bench not in what:
                        continue
                    progress.clear()
                    if as_json:
                        emit(figure.to_json())
                    else:
                        print(figure.line(), flush=True)
        finally:
            progress.clear()
    return 0


def _tell_machine(model: Model, runs: int, as_json: bool) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {name: metadata.version(name) for name in ("torch", "diffusers", "textual")}
    load = round(os.getloadavg()[0], 2)
    if as_json:
        about = {"model": model.id, "runs": runs, "cores": cores, "load_average": load, "system": platform.system()}
        emit({"bench": "machine", **about, "python": platform.python_version(), **versions})
        return
    print(
        f"{model.id}, medians of {runs} (least–most), on {wording.plural(cores, 'core')}, load {load:g} before · "
        f"Python {platform.python_version()}, {', '.join(f'{k} {v}' for k, v in versions.items())}",
        flush=True,
    )
    if load > cores / 2:
        print("note: this machine is busy, and the figures will say so too", file=sys.stderr)


# ── engine ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _engine(place: Place) -> Iterator[Figure]:
    """What the engine and its previews cost beside the work itself."""
    options = ["--home", str(place.home()), "--model", place.model.id, "--runs", str(place.runs)]
    options += ["--precision", place.session.settings.precision]
    place.progress.show("engine: loading", now=True)
    result = measure(place, python(ENGINE, *options), "engine: picture")

    def spread(side: str, phase: str = "total") -> Spread:
        return Spread(tuple(part[phase] for part in result[side]))

    sides = ("bare", "engine", "previews")
    alike = ("model", "device", "precision", "threads", "steps", "size", "scorer")
    common = {**{name: result[name] for name in alike}, "pixels": result["difference"]}
    phases = {side: {p: round(spread(side, p).median, 6) for p in result[side][0]} for side in sides}
    through, loop = spread("engine"), spread("bare")
    more = through.median - loop.median
    yield Figure(
        "engine", "a picture through the engine", through, "bare loop", loop,
        f"at most {OVERHEAD:g}x or {OVERHEAD_SECONDS * 1000:.0f} ms",
        through.median <= OVERHEAD * loop.median or more <= OVERHEAD_SECONDS,
        "" if result["difference"] == 0 else f"pixels differ by {result['difference']}",
        {**common, "phases": phases},
    )  # fmt: skip
    limit = PREVIEWS if str(result["device"]).startswith("cpu") else PREVIEWS_ELSEWHERE
    each_has = statistics.median(result["shown"])
    within = spread("previews").median <= limit * through.median
    # a picture of few steps has its two previews whatever they cost: no verdict then
    least = each_has <= LEAST_PREVIEWS
    yield Figure(
        "engine", "a picture with previews", spread("previews"), "without", through, f"at most {limit:g}x",
        None if least and not within else within,
        f"{each_has:g} each{', as few as there may be' if least else ''}",
        {**common, "shown": result["shown"]},
    )  # fmt: skip


# ── start and memory ────────────────────────────────────────────────────────────────────────────────────────────────


def _start(place: Place) -> Iterator[Figure]:
    """From a cold process to the first picture on disk, and what the run holds in memory at most."""
    first: list[float] = []
    whole: list[float] = []
    peaks: list[float] = []
    imports: list[list[float]] = []
    pictures: list[dict[str, Any]] = []
    precision = place.session.settings.precision
    command = [*COMMAND, "-m", place.model.id, "--precision", precision, *place.options()]
    for number in range(place.runs):
        place.progress.show(f"start: run {number + 1} of {place.runs}", now=True)
        told, ended = lines(place, python(SAFELIGHT, *command), place.home())
        if ended.code or not told:
            raise failed(place, f"safelight generate ended with {ended.code}", ended.said)
        picture = json.loads(told[0][1])
        if not Path(picture["path"]).is_file():
            raise failed(place, f"{picture['path']} was told and is not there", ended.said)
        first.append(told[0][0])
        whole.append(told[-1][0])
        peaks.append(float(ended.peak))
        pictures.append(picture)
        told, ended = lines(place, python(IMPORTS), place.folder)
        if ended.code or not told:
            raise failed(place, "torch and its companions could not be imported", ended.said)
        imports.append(json.loads(told[-1][1]))
    device = str(pictures[0]["made_with"]["device"])
    about = {"command": ["safelight", *command], "model": place.model.id, "device": device}
    torch, ours, compel = (Spread(tuple(column)) for column in zip(*imports, strict=True))
    all_imports = torch.median + ours.median + compel.median
    seconds = {
        name: round(statistics.median(p["seconds"][name] for p in pictures), 4) for name in pictures[0]["seconds"]
    }
    started = Spread(tuple(first))
    yield Figure(
        "start", "to the first picture on disk", started, goal=f"{FIRST_PICTURE:g} s",
        met=started.median <= FIRST_PICTURE,
        told=f"the slowest {shown(max(first), 's')}; imports take {all_imports / started.median:.0%} of it: torch "
        f"{shown(torch.median, 's')}, diffusers and transformers {shown(ours.median, 's')}, compel "
        f"{shown(compel.median, 's')}",
        details={
            **about, "seconds": seconds, "last": Spread(tuple(whole)).to_json(),
            "imports": {"torch": torch.to_json(), "engine": ours.to_json(), "compel": compel.to_json()},
        },
    )  # fmt: skip
    held = Spread(tuple(peaks), "B")
    yield Figure(
        "memory", "peak of four pictures, scored", held, goal=f"{shown(PEAK, 'B')} on a CPU",
        met=max(peaks) <= PEAK if device.startswith("cpu") else None, details=about,
    )  # fmt: skip


# ── paint ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _paint(place: Place) -> Iterator[Figure]:
    """The workbench's first whole frame against that of an app with nothing in it, both from a cold process."""
    ours: list[float] = []
    empty: list[float] = []
    for number in range(place.runs + 1):
        place.progress.show(f"paint: run {number + 1} of {place.runs + 1}", now=True)
        for command, into in ((python(SAFELIGHT, *place.options()), ours), (python(EMPTY_APP), empty)):
            # a home of its own for each: a workbench that is killed leaves its queue to the next
            with Terminal(command, place.environment(place.home())) as terminal:
                into.append(terminal.painted(OPENING))
    # the first of each fills the caches of the disk and of Python's compiler
    yield Figure(
        "paint", "the workbench's first frame", Spread(tuple(ours[1:])), "an empty Textual app",
        Spread(tuple(empty[1:])), f"at most {FIRST_PAINT:g}x",
        statistics.median(ours[1:]) <= FIRST_PAINT * statistics.median(empty[1:]),
        details={"cold": {"workbench": round(ours[0], 6), "empty": round(empty[0], 6)}},
    )  # fmt: skip


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _keys(place: Place) -> Iterator[Figure]:
    """How late a key is seen: while torch is imported, when nothing is done, and while pictures are made."""
    home = place.home()
    count = min(KEYS * place.runs, MAX_KEYS)
    letters = iter(alphabet())
    settings = place.session.settings
    draft = Draft(
        model=place.model.id,
        # enough to outlast the typing; latent consistency's scheduler takes 50 at most
        steps="50" if place.model.recipe.fixed_steps else "250",
        count="50",
        seed="7",
        precision="" if settings.precision == "auto" else settings.precision,
        score="yes" if place.session.catalogue.scorers else "no",
        override="yes",
    )
    (folders.make(home / "data") / "draft-1.json").write_text(draft.to_json(), encoding="utf-8")
    with Terminal(python(SAFELIGHT, *place.options()), place.environment(home)) as terminal:
        place.progress.show("keys: while torch and the model are loaded", now=True)
        terminal.painted(OPENING)
        terminal.wait("warming up", OPENING)
        importing = terminal.type(letters, MAX_KEYS, lambda: "○ ready" in terminal.text())
        terminal.wait("○ ready", READY)

        place.progress.show("keys: with nothing to do", now=True)
        _clear(terminal)
        idle = terminal.type(letters, count)

        place.progress.show("keys: while pictures are made", now=True)
        _clear(terminal)
        terminal.write(PROMPT)
        terminal.forget()
        terminal.write("\r")
        terminal.wait(r"step \d+/\d+", READY)
        terminal.forget()
        making = terminal.type(letters, count)
        terminal.wait(r"step \d+/\d+|decoding|scoring|saving", READY)  # it is still at it
    yield _lateness(place, "while pictures are made", making, f"under {LATENESS * 1000:.0f} ms at p99")
    yield _lateness(place, "with nothing to do", idle)
    yield _lateness(place, "while torch is imported", importing)


def _clear(terminal: Terminal) -> None:
    """Takes out what was typed, so that every spell begins with an empty prompt."""
    terminal.write("\x1ba")  # alt+a takes all
    _settle(terminal)
    terminal.write("\x7f")
    _settle(terminal)
    terminal.forget()


def _settle(terminal: Terminal) -> None:
    """Reads until nothing more is drawn for a moment, or for QUIET at most."""
    until = time.perf_counter() + QUIET
    while terminal.read(0.3) and time.perf_counter() < until:
        pass


def _lateness(place: Place, what: str, typed: Typed, goal: str = "") -> Figure:
    if not typed.late:
        raise failed(place, f"no key was seen on the screen {what}", "")
    late = Spread(typed.late)
    ranks = {name: late.at(share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    lost = f", {wording.plural(typed.lost, 'key')} lost" if typed.lost else ""
    words = ", ".join(f"{name} {shown(value, 's')}" for name, value in ranks.items())
    return Figure(
        "keys", what, late, goal=goal, met=(ranks["p99"] < LATENESS and not typed.lost) if goal else None,
        told=f"{words} of {wording.plural(len(late.values), 'key')}{lost}",
        details={**{k: round(v, 6) for k, v in ranks.items()}, "lost": typed.lost},
    )  # fmt: skip


BENCHES: dict[str, Callable[[Place], Iterator[Figure]]] = {
    "engine": _engine,
    "start": _start,
    "memory": _start,
    "paint": _paint,
    "keys": _keys,
    "prompt": typing_bench.prompt,
    "live": typing_bench.live,
    "sweep": sweep_bench.sweep,
    "models": models_bench.models,
    "wire": wire_bench.wire,
    "line": line_bench.line,
}
