"""What `safelight bench prompt` and `bench live` measure: a key in the editor, and a key on a slider."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from engines import folders, requests
from engines.prompt import parse
from engines.requests import Generate
from tui import sliders, stock, wording
from tui.draft import Draft
from tui.figures import SAFELIGHT, Figure, Place, Spread, failed, measure
from tui.live import Live
from tui.probe import Terminal, python
from tui.tinting import marks, tints

WORDS = "a (red)1.2 apple, (glossy)0.8 leaf++ and ((wet)1.1 stone)0.9, "
LONG = 10_000
"Characters of the longer prompt."
SHORT = 2_500
"And of the shorter one that it is held against."
KEY = 0.020
"Goal: seconds that reading and tinting a prompt of LONG characters takes at a key."
FOUR = 1.5
"Goal: four times the text takes at most so many times four times as long."
PIXELS = 2.0
"Goal: seconds from a slider's key to new pixels."
OPENING = 60.0
READY = 1800.0
"Seconds that a first paint, and a model, may take."
SLIDES = 4
"Keys on a slider, and sketches through the engine, for each of the runs."
OVER, OVER_SECONDS = 1.5, 0.1
"Goal: a sketch takes at most so many times its bare work's time, or so many seconds more."
SKETCHER = "from engines.diffusion.sketch_bench import main; sys.exit(main())"


def prompt(place: Place) -> Iterator[Figure]:
    """What a key costs in a prompt: it is read, its weights and problems are tinted, its sliders made."""

    def once(text: str) -> float:
        parse.cache_clear()
        start = time.perf_counter()
        tints(text)
        marks(text, ())
        sliders.read(Draft(prompt=text), None, settings=False)
        return time.perf_counter() - start

    place.progress.show("prompt: reading", now=True)
    sides: dict[int, list[float]] = {LONG: [], SHORT: []}
    for number in range(place.runs * 4 + 2):
        for length, values in sides.items():
            value = once((WORDS * (length // len(WORDS) + 1))[: length - 1] + str(number % 10))
            if number >= 2:
                values.append(value)
    long, short = Spread(tuple(sides[LONG])), Spread(tuple(sides[SHORT]))
    ratio = long.median / short.median
    yield Figure(
        "prompt", f"a key in {LONG:,} characters", long, f"in {SHORT:,}", short,
        f"under {KEY * 1000:.0f} ms, and {LONG // SHORT * FOUR:g}x at most",
        long.median < KEY and ratio <= LONG / SHORT * FOUR,
    )  # fmt: skip


def live(place: Place) -> Iterator[Figure]:
    """From a slider's key to the sketch's pixels on the screen; and the engine's part of it, beside its bare work."""
    yield _slide(place)
    yield _sketch(place)


def _draft(place: Place, weight: float = 1.2) -> Draft:
    return Draft(f"a (red){weight:g} apple on a blue background", model=place.model.id, seed="7", score="no")


def _slide(place: Place) -> Figure:
    """A key on a slider, the picture of the rest before it finished."""
    home = place.home()
    draft = _draft(place)
    (folders.make(home / "data") / "draft-1.json").write_text(draft.to_json(), encoding="utf-8")
    late: list[float] = []
    with Terminal(python(SAFELIGHT, *place.options()), place.environment(home)) as terminal:
        place.progress.show("live: opening", now=True)
        terminal.painted(OPENING)
        terminal.wait("○ ready", READY)
        terminal.write("\x1bi")  # alt+i
        terminal.wait("sketch by", READY)
        terminal.wait(r"seed 7 · [\d.]+ s", READY)  # under the picture: the history says when
        said = terminal.text()
        if not re.search("live", said):
            raise failed(place, "live was not on", said)
        terminal.write("\x1bw")  # alt+w
        for number in range(place.runs * SLIDES + 1):
            place.progress.show(f"live: key {number + 1} of {place.runs * SLIDES + 1}")
            terminal.forget()
            start = time.perf_counter()
            terminal.write("\x1b[C" if number % 2 == 0 else "\x1b[D")
            terminal.wait("sketch by", READY)
            late.append(time.perf_counter() - start)
            terminal.wait(r"seed 7 · [\d.]+ s", READY)  # under the picture: the history says when
    return Figure(
        "live", "a slider's key to new pixels", Spread(tuple(late[1:])), goal=f"under {PIXELS:g} s",
        met=max(late[1:]) < PIXELS, told="with the wait of 0.1 s for hands that move on",
        details={"first": round(late[0], 6)},
    )  # fmt: skip


def _sketch(place: Place) -> Figure:
    """A sketch through the engine, everything warm, beside the UNet's evaluations and the decode that are in it."""
    home = place.home()
    asked = _sketches(place, place.runs * SLIDES + 1)
    file = home / "sketches.jsonl"
    file.write_text("".join(requests.to_json(request) + "\n" for request in asked), encoding="utf-8")
    place.progress.show("live: a sketch beside its bare work", now=True)
    result = measure(place, python(SKETCHER, str(file), "--home", str(home)), "live: sketch")
    ours, bare = Spread(tuple(result["engine"])), Spread(tuple(result["bare"]))
    count, size = int(result["evaluations"]), f"{result['width']}x{result['height']}"
    guided = " with guidance" * (int(result["batch"]) > 1)
    names = ("model", "device", "precision", "threads", "width", "height", "evaluations", "batch", "decoder")
    return Figure(
        "live", "a sketch through the engine", ours, "bare work", bare,
        f"at most {OVER:g}x or {OVER_SECONDS * 1000:.0f} ms",
        ours.median <= OVER * bare.median or ours.median - bare.median <= OVER_SECONDS,
        f"{wording.plural(count, 'UNet evaluation')} at {size}{guided} and one {result['decoder']} decode, by "
        f"{result['model']} in {result['precision']}",
        {name: result[name] for name in names},
    )  # fmt: skip


def _sketches(place: Place, count: int) -> list[Generate]:
    """What live asks for while one weight moves, each time to where it was not before."""
    catalogue = place.session.catalogue
    here = stock.look_at_all(catalogue, None).models
    state = Live(on=True)
    made = [state.sketch(_draft(place, 1.2 + number / 100), catalogue, here) for number in range(count)]
    return [request for request in made if request is not None]
