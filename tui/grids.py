"""Axes as they are typed, and the cells that they span: what a sweep asks for, before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from engines import sweep
from engines.catalogue import Catalogue
from engines.errors import InvalidRequest, SafelightError
from engines.requests import MAX_SEED, Generate
from engines.sweep import Cell
from tui import draft as drafting
from tui.clean import one_line
from tui.draft import Draft

SETTINGS = ("guidance", "rescale", "steps", "scheduler", "size", "precision", "mix", "vae")
"Fields of a draft that may be axes, in the order in which a point tells them."
MOST_SEEDS = 10_000
"Of one sweep."
Point = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """What is varied. An axis without values is not one: its field is as the base draft has it."""

    prompts: tuple[str, ...]
    "At least one; '' for none."
    models: tuple[str, ...]
    "Ids; the best that is here if empty."
    seeds: tuple[int, ...]
    "At least one."
    settings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    "(field, values) of SETTINGS."
    loras: tuple[tuple[str, ...], ...] = ()
    "Stacks of NAME:WEIGHT, one of them empty for none; no axis if there are no stacks."
    base: Draft = field(default_factory=Draft)
    "All that is not varied."

    @property
    def axes(self) -> tuple[str, ...]:
        """In the order of the cells' points."""
        names = ["prompt", "model", *(name for name, _ in self.settings), *(["loras"] if self.loras else []), "seed"]
        return tuple(names)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a grid comes to."""

    cells: tuple[Cell, ...]
    "In the order in which they are made."
    left_out: tuple[tuple[str, str], ...]
    "(contender, why) of those that can't be drawn."
    notes: tuple[str, ...]
    "What is worth knowing, each once."


def seeds(text: str) -> tuple[int, ...]:
    """'4' is four seeds, 1 to 4; '7,' or '7,8,100' are those, and '5-9' are five of them. Raises InvalidRequest."""
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    if len(pieces) == 1 and "," not in text and pieces[0].isdecimal():
        count = int(pieces[0][:9])
        found = list(range(1, count + 1)) if count <= MOST_SEEDS else [0] * (MOST_SEEDS + 1)
    else:
        found = []
        for piece in pieces:
            low, dash, high = piece.partition("-")
            if not low.isdecimal() or (dash and not high.isdecimal()) or len(low) > 19 or len(high) > 19:
                raise InvalidRequest(f"'{one_line(piece, 40)}' is no seed", "for instance 4, or 7,8,9, or 5-9", "seeds")
            last = int(high) if dash else int(low)
            if last - int(low) > MOST_SEEDS:
                found = [0] * (MOST_SEEDS + 1)
                break
            found += range(int(low), last + 1)
    if not found or len(found) > MOST_SEEDS:
        raise InvalidRequest(f"a sweep takes 1 to {MOST_SEEDS:,} seeds", "for instance 4, or 7,8,9, or 5-9", "seeds")
    if max(found) > MAX_SEED:
        raise InvalidRequest(f"a seed is at most {MAX_SEED}", "take smaller ones", "seeds")
    return tuple(dict.fromkeys(found))


def values(name: str, text: str) -> tuple[str, ...]:
    """The values of one axis, with commas between them; of a mix with blanks, for a ratio may have commas itself."""
    found = tuple(
        dict.fromkeys(piece for raw in (text.split() if name == "mix" else text.split(",")) if (piece := raw.strip()))
    )
    if not found:
        raise InvalidRequest(f"the axis {name} has no values", f"for instance --{name} A,B", name)
    return found


def stacks(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """A stack for each text: 'none', 'NAME:0.8', or several with + between them."""
    found = (() if text.strip() in ("", "none") else tuple(p.strip() for p in text.split("+")) for text in texts)
    return tuple(dict.fromkeys(found))


def plan(grid: Grid, catalogue: Catalogue, folder: str = "") -> Planned:
    """All cells of a grid, model after model. It looks on the disk for what is named.

    A contender that can't be drawn is left out and told.

    Args:
        folder: where pictures are saved; empty for where they always are.

    Raises:
        InvalidRequest: there are too many cells, or none that could be made: then the reason is that of the first.
    """
    count = len(grid.prompts) * max(1, len(grid.models)) * len(grid.seeds) * max(1, len(grid.loras))
    for _, some in grid.settings:
        count *= len(some)
    if count > sweep.MOST:
        raise InvalidRequest(f"the sweep has {count:,} cells; at most {sweep.MOST:,} are made", "take fewer values")
    cells: list[tuple[Point, Generate]] = []
    left_out: dict[str, str] = {}
    notes: dict[str, None] = {}
    first: SafelightError | None = None
    for contender, draft in _contenders(grid, catalogue):
        try:
            found = [
                cell for prompt in grid.prompts for cell in _cells(grid, catalogue, contender, draft, prompt, notes)
            ]
        except SafelightError as e:
            left_out[told(contender)] = e.message
            first = first or e
            continue
        cells += [(point, replace(request, folder=folder, preview_every=0)) for point, request in found]
    if not cells and first is not None:
        raise first
    return Planned(tuple(sweep.in_order(cells)), tuple(left_out.items()), tuple(notes))


def _contenders(grid: Grid, catalogue: Catalogue) -> Iterator[tuple[Point, Draft]]:
    names = [name for name, _ in grid.settings]
    for model in grid.models or (grid.base.model or catalogue.default_model().id,):
        for stack in grid.loras or (None,):
            for chosen in product(*(some for _, some in grid.settings)):
                values = dict(zip(names, chosen, strict=True))
                point = (("model", model), *values.items())
                draft = replace(_varied(grid.base, values), model=model, count="", batch="")
                if stack is not None:
                    point = (*point, ("loras", " + ".join(stack) or "none"))
                    draft = replace(draft, loras=stack)
                yield point, draft


def _varied(draft: Draft, values: Mapping[str, str]) -> Draft:
    """A draft with other settings; all of SETTINGS are fields of text."""
    changed: dict[str, Any] = dict(values)
    return replace(draft, **changed)


def _cells(
    grid: Grid, catalogue: Catalogue, contender: Point, draft: Draft, prompt: str, notes: dict[str, None]
) -> Iterator[tuple[Point, Generate]]:
    request: Generate | None = None
    for seed in grid.seeds:
        if request is None or request.template:  # a text that is drawn is another for each seed
            asked = drafting.read(replace(draft, prompt=prompt, seed=str(seed)), catalogue)
            (request,) = asked.requests
            notes.update(dict.fromkeys(asked.notes))
        yield (("prompt", prompt), *contender, ("seed", str(seed))), replace(request, seed=seed)


def told(point: Point) -> str:
    """'sdxl-turbo · guidance 3': a contender for people."""
    return " · ".join(value if axis == "model" else f"{axis} {value}" for axis, value in point)
