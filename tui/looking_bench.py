"""What `safelight bench sweep` measures of the workbench: keys among ten thousand cells."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engines import folders, sweep
from engines.requests import Generate, Seconds
from engines.store import Made, Store
from tui import grids, wording
from tui.draft import Draft
from tui.figures import SAFELIGHT, Figure, Place, Spread
from tui.probe import Terminal, python

CELLS = 10_000
CONTENDERS = 500
KEY = 0.100
"Goal: seconds from a key to the screen's answer."
OPENING = 60.0
READY = 1800.0
"Seconds that a first paint, and a model, may take."
QUIET = 0.4
"Seconds without output after which the screen is at rest."
BOARD = (("down", "\x1b[B"), ("up", "\x1b[A"), ("sort", "s"), ("turn", "r"), ("last", "\x1b[F"), ("first", "\x1b[H"))
"What is pressed on the leaderboard."
SHEET = (
    ("right", "\x1b[C"), ("down", "\x1b[B"), ("a page", "\x1b[6~"), ("last of the row", "\x1b[F"),
    ("last row", "\x1b[1;5F"), ("left", "\x1b[D"), ("up", "\x1b[A"), ("larger", "+"), ("smaller", "-"), ("stars", "4"),
)  # fmt: skip
"And on the pictures."


def look(place: Place) -> Iterator[Figure]:
    """From a key to the first answer on the screen, with a sweep whose pictures are all there."""
    home = place.home()
    place.progress.show(f"sweep: writing {CELLS:,} cells", now=True)
    _fill(place, home)
    draft = Draft("a red apple", model=place.model.id, score="no")
    (folders.make(home / "data") / "draft-1.json").write_text(draft.to_json(), encoding="utf-8")
    opening: list[float] = []
    late: dict[str, dict[str, list[float]]] = {"board": {}, "pictures": {}}
    with Terminal(python(SAFELIGHT, *place.options()), place.environment(home)) as terminal:
        terminal.painted(OPENING)
        terminal.wait("○ ready", READY)
        for number in range(place.runs):
            place.progress.show(f"sweep: looking {number + 1} of {place.runs}")
            opening.append(_press(terminal, "\x1b[19~"))  # F8
            terminal.wait(f"{CELLS}/{CELLS}", READY)
            terminal.wait("●", READY)
            _rest(terminal)
            for name, key in BOARD:
                late["board"].setdefault(name, []).append(_press(terminal, key))
            _press(terminal, "\r")
            for name, key in SHEET:
                late["pictures"].setdefault(name, []).append(_press(terminal, key))
            _press(terminal, "\x1b[19~")
    yield Figure(
        "sweep", "opening a sweep's screen", Spread(tuple(opening)), goal=f"under {KEY * 1000:.0f} ms",
        met=max(opening) < KEY, told="its numbers and pictures come when they are read",
    )  # fmt: skip
    for pane, by_key in late.items():
        worst = max(by_key, key=lambda name: Spread(tuple(by_key[name])).median)
        values = tuple(value for some in by_key.values() for value in some)
        yield Figure(
            "sweep", f"a key on the {pane} of {CELLS:,} cells", Spread(values), goal=f"under {KEY * 1000:.0f} ms",
            met=max(values) < KEY,
            told=f"slowest: {worst}, {Spread(tuple(by_key[worst])).median * 1000:.0f} ms",
            details={"keys": {name: [round(value, 6) for value in some] for name, some in by_key.items()}},
        )  # fmt: skip


def _press(terminal: Terminal, key: str) -> float:
    """Seconds from a key to the first output after it, from a screen at rest."""
    _rest(terminal)
    terminal.forget()
    start = time.perf_counter()
    terminal.write(key)
    terminal.read(READY)
    return time.perf_counter() - start


def _rest(terminal: Terminal) -> None:
    while terminal.read(QUIET):
        pass


def _fill(place: Place, home: Path) -> None:
    """A sweep of CELLS pictures, each with a score, a thumbnail and the same file."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((48, 48), 60).convert("RGB").save(buffer, "JPEG")
    picture = folders.make(home / "pictures") / "noise.png"
    Image.effect_noise((512, 512), 60).convert("RGB").save(picture)
    width, height = place.model.recipe.size
    steps = place.model.recipe.num_inference_steps
    cells = []
    for number in range(CONTENDERS):
        guidance = f"{1 + number / 100:g}"
        for seed in range(CELLS // CONTENDERS):
            request = Generate(
                "a red apple", place.model.id, seed, width, height, steps, float(guidance), score="noise"
            )
            point: grids.Point = (("prompt", "a red apple"), ("guidance", guidance), ("seed", str(seed)))
            cells.append((point, request))
    store = Store(home / "data" / "safelight.db")
    drawn = random.Random(1)
    try:
        begun = sweep.begin(store, sweep.in_order(cells), wording.plural(CELLS, "cell"), "", ("noise",))
        blank = Made(str(picture), cells[0][1], 512, 512, Seconds(), {}, buffer.getvalue())
        with store.transaction() as db:
            for cell in begun.cells:
                score = drawn.gauss(30, 3) + cell.request.guidance_scale
                seconds = Seconds(denoise=drawn.uniform(1, 2), total=2.0)
                made = replace(blank, request=cell.request, scores={"noise": score}, seconds=seconds)
                row = store.insert(db, 0, made, begun.created)
                db.execute(
                    "UPDATE cells SET picture_id = ? WHERE sweep_id = ? AND number = ?",
                    (row.id, begun.id, cell.number),
                )
    finally:
        store.close()
