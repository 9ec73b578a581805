"""What `safelight bench sweep` measures: a sweep beside a bare loop over the same cells."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from engines import requests
from engines.catalogue import Catalogue
from engines.entries import Model
from tui import grids, looking_bench
from tui.draft import Draft
from tui.figures import Figure, Place, Spread, measure
from tui.probe import python

PROMPT = "a red apple on a blue background"
SEEDS = (7, 8, 9)
OTHERS = 2
"Models that are swept beside the one that is measured, at most."
OVER, OVER_SECONDS = 1.05, 0.025
"Goal: a cell takes at most so many times the bare loop's time, or so many seconds more."
SWEEPER = "from engines.diffusion.sweep_bench import main; sys.exit(main())"


def sweep(place: Place) -> Iterator[Figure]:
    """A cell of a sweep, everything loaded, beside the same picture in a bare loop; and keys among many of them."""
    yield _cell(place)
    yield from looking_bench.look(place)


def _cell(place: Place) -> Figure:
    home = place.home()
    models = tuple(model.id for model in (place.model, *_kin(place.session.catalogue, place.model)))
    base = Draft(score="no", precision=place.session.settings.precision)
    planned = grids.plan(grids.Grid((PROMPT,), models, SEEDS, base=base), place.session.catalogue)
    file = home / "cells.jsonl"
    file.write_text("".join(requests.to_json(cell.request) + "\n" for cell in planned.cells), encoding="utf-8")
    place.progress.show("sweep: loading", now=True)
    program = python(SWEEPER, str(file), "--home", str(home), "--runs", str(place.runs))
    result = measure(place, program, "sweep: side")

    def spread(side: str, phase: str = "total") -> Spread:
        return Spread(tuple(statistics.fmean(cell[phase] for cell in cells) for cells in result[side]))

    ours, bare = spread("sweep"), spread("bare")
    by_model = {id: {side: _of(result, side, id) for side in ("bare", "sweep")} for id in models}
    told = ", ".join(f"{id} {side['sweep'] / side['bare']:.2f}x" for id, side in by_model.items())
    pixels, held = result["difference"], result["held"]
    within = ours.median <= OVER * bare.median or ours.median - bare.median <= OVER_SECONDS
    phases = {side: {p: round(spread(side, p).median, 6) for p in result[side][0][0]} for side in ("bare", "sweep")}
    names = ("device", "precision", "threads", "scorer", "size", "held")
    return Figure(
        "sweep", f"a picture of {len(planned.cells)}, through a sweep", ours, "bare loop", bare,
        f"at most {OVER:g}x or {OVER_SECONDS * 1000:.0f} ms",
        within if held else None,  # else the sweep loaded models in its time, and the bare loop outside of it
        told + f", pixels differ by {pixels}" * bool(pixels) + ", not all models stayed in memory" * (not held),
        {**{name: result[name] for name in names}, "pixels": pixels, "models": by_model, "phases": phases},
    )  # fmt: skip


def _kin(catalogue: Catalogue, model: Model) -> list[Model]:
    """Models over the same base that are here, with least steps; so that a sweep has several and they share parts."""
    base = catalogue.chain(model)[-1]
    others = [
        one
        for one in catalogue.models.values()
        if one is not model and catalogue.chain(one)[-1] is base and not catalogue.missing(one)
    ]
    return sorted(others, key=lambda one: (one.recipe.num_inference_steps, -one.rank))[:OTHERS]


def _of(result: dict[str, Any], side: str, model: str) -> float:
    """The median of a model's cells, over all rounds."""
    pairs = (zip(result["models"], cells, strict=True) for cells in result[side])
    totals = [float(cell["total"]) for pair in pairs for id, cell in pair if id == model]
    return round(statistics.median(totals), 6)
