"""What `safelight bench line` measures: how late a key is seen at the end of a long and narrow line.

The line is one of 256 kbit/s and 200 ms there and back that swallows whatever it is given: what a program writes too
much of waits in it, as it does in the buffers of ssh and of a network, and nothing but the answers of the terminal at
its end tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engines import folders
from tui.draft import Draft
from tui.figures import SAFELIGHT, Figure, Place, Spread, failed, shown
from tui.probe import KITTY, PLAIN, SIXEL, Distant, alphabet, python

PACE = 32_000
"Bytes a second: 256 kbit/s."
TRIP = 0.2
"Seconds there and back."
FREEZE = 0.25
"Goal: seconds beyond that within which a key is seen, at p99."
KEYS = 60
"Keys that are typed for each of the runs, at most 400."
SETTLED = 8.0
"Seconds in which what it begins with comes across."
READY = 1800.0
"Seconds that a model may take to be loaded, and a first step to be made."
TERMINALS: Mapping[str, Mapping[bytes, bytes]] = {"half-blocks": PLAIN, "kitty": KITTY, "sixels": SIXEL}


def line(place: Place) -> Iterator[Figure]:
    """Keys while pictures are made and shown on the way, in each kind of terminal."""
    for name, answers in TERMINALS.items():
        yield _typed(place, name, answers)


def _typed(place: Place, name: str, answers: Mapping[bytes, bytes]) -> Figure:
    home = place.home()
    steps = "50" if place.model.recipe.fixed_steps else "250"  # enough to outlast the typing
    prompt = "a red apple on a blue background"
    draft = Draft(prompt, model=place.model.id, steps=steps, count="50", seed="7", score="no", override="yes")
    (folders.make(home / "data") / "draft-1.json").write_text(draft.to_json(), encoding="utf-8")
    command = python(SAFELIGHT, *place.options())
    with Distant(command, place.environment(home), answers, PACE, TRIP) as terminal:
        place.progress.show(f"line, {name}: opening", now=True)
        terminal.wait("○ ready", READY)
        terminal.rest(1.0, SETTLED)
        terminal.forget()
        terminal.write("\r")
        terminal.wait(r"step \d+/\d+", READY)
        place.progress.show(f"line, {name}: keys while pictures are made", now=True)
        terminal.rest(0.5, SETTLED)
        terminal.forget()
        before = terminal.count
        typed = terminal.type(iter(alphabet()), min(KEYS * place.runs, 400))
        carried = terminal.count - before
        terminal.forget()
        terminal.wait(r"step \d+/\d+|decoding|saving", READY)  # it is still at it
    if not typed.late:
        raise failed(place, "no key was seen on the screen at the end of a line", "")
    late = Spread(typed.late)
    ranks = {rank: late.at(share) for rank, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    words = ", ".join(f"{rank} {shown(value, 's')}" for rank, value in ranks.items())
    lost = f", {typed.lost} lost" if typed.lost else ""
    return Figure(
        "line", f"a key, pictures in {name}", late,
        goal=f"under {(TRIP + FREEZE) * 1000:.0f} ms at p99",
        met=ranks["p99"] < TRIP + FREEZE and not typed.lost,
        told=f"{words} of {len(late.values)} keys{lost}, {carried / 1000:.0f} kB meanwhile",
        details={**{rank: round(value, 6) for rank, value in ranks.items()}, "lost": typed.lost, "bytes": carried},
    )  # fmt: skip
