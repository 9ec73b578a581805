"""Axes as they are typed, and the cells that they span: what a sweep asks for, before anything is made."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from engines import sweep
from engines.catalogue import Catalogue
from engines.errors import InvalidRequest, SafelightError
from engines.limits import MAX_GUIDANCE, MAX_STEPS
from engines.requests import MAX_SEED, Generate
from engines.sweep import Cell
from tui import draft as drafting
from tui import fields, texts, weighing
from tui.clean import one_line
from tui.draft import Draft
from tui.weighing import Part

SETTINGS = (
    "guidance", "rescale", "steps", "scheduler", "size", "precision", "mix", "vae", "strength", "variation_strength",
)  # fmt: skip
"Fields of a draft that may be axes, in the order in which a point tells them."
NUMBERS = {
    "guidance": (0.0, MAX_GUIDANCE), "rescale": (0.0, 1.0), "steps": (1.0, float(MAX_STEPS)), "strength": (0.0, 1.0),
    "variation_strength": (0.0, 1.0),
}  # fmt: skip
"Those of them whose values are numbers, and their ranges."
MOST_SEEDS = 10_000
"Of one sweep."
ALIKE = 3
"How many pairs of contenders that draw the same are told one by one."
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
    parts: tuple[Part, ...] = ()
    "Words of all prompts, each with the weights that are an axis."
    base: Draft = field(default_factory=Draft)
    "All that is not varied."

    @property
    def axes(self) -> tuple[str, ...]:
        """In the order of the cells' points."""
        names = ["model", *(name for name, _ in self.settings), *(["loras"] if self.loras else [])]
        return "prompt", *names, *(part.axis for part in self.parts), "seed"


@dataclass(frozen=True, slots=True)
class Planned:
    """What a grid comes to."""

    cells: tuple[Cell, ...]
    "In the order in which they are made."
    left_out: tuple[tuple[str, str], ...]
    "(who, why) of contenders that can't be drawn, and of scorers that can't judge."
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
            if last < int(low):
                raise InvalidRequest(f"the seeds '{one_line(piece, 40)}' go backwards", f"write {high}-{low}", "seeds")
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
    pieces = [piece for raw in (text.split() if name == "mix" else text.split(",")) if (piece := raw.strip())]
    return distinct(name, pieces)


def distinct(name: str, pieces: Sequence[str]) -> tuple[str, ...]:
    """Values of one axis, each once. Raises InvalidRequest if there are none, or they are no numbers of its range."""
    if name in NUMBERS:
        for piece in pieces:
            fields.number(name, piece, *NUMBERS[name], 0.0)
        pieces = [piece for i, piece in enumerate(pieces) if number(piece) not in map(number, pieces[:i])]
    found = tuple(dict.fromkeys(pieces))
    if not found:
        option = {"rescale": "guidance-rescale"}.get(name, name).replace("_", "-")
        raise InvalidRequest(f"the axis {name} has no values", f"for instance --{option} A,B", name)
    return found


def settled(grid: Grid) -> Grid:
    """The grid with one variation seed for all cells, drawn now if it needs one and none is given: else every cell
    would go towards another noise."""
    varied = grid.base.variation_strength.strip() or any(name == "variation_strength" for name, _ in grid.settings)
    if not varied or grid.base.variation_seed.strip():
        return grid
    return replace(grid, base=replace(grid.base, variation_seed=str(secrets.randbelow(2**32))))


def number(text: str) -> float | str:
    """3 and 3.0 are one value; what is no number is told where it is read."""
    try:
        return float(text)
    except ValueError:
        return text


def stacks(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """A stack for each text: 'none', 'NAME:0.8', or several with + between them."""
    found = [() if text.strip() in ("", "none") else tuple(p.strip() for p in text.split("+")) for text in texts]
    known: dict[tuple[object, ...], tuple[str, ...]] = {}
    for stack in found:
        known.setdefault(tuple(map(_weighed, stack)), stack)
    return tuple(known.values())


def _weighed(use: str) -> tuple[str, float | str]:
    """NAME:0.5 and NAME:0.50 are one."""
    name, _, weight = use.rpartition(":")
    return (name, number(weight)) if name else (use, 1.0)


def plan(grid: Grid, catalogue: Catalogue, folder: str = "", all_models: bool = False) -> Planned:
    """All cells of a grid, model after model. It looks on the disk for what is named.

    A contender that can't be drawn is left out and told.

    Args:
        folder: where pictures are saved; empty for where they always are.
        all_models: plan for models that are not here, too; what comes of it is for counting only.

    Raises:
        InvalidRequest: there are too many cells, words to be weighed are not in a prompt, or no cell could be made:
            then the reason is that of the first.
    """
    count = len(grid.prompts) * max(1, len(grid.models)) * len(grid.seeds) * max(1, len(grid.loras))
    for some in (*(some for _, some in grid.settings), *(part.weights for part in grid.parts)):
        count *= len(some)
    if count > sweep.MOST:
        raise InvalidRequest(f"the sweep has {count:,} cells; at most {sweep.MOST:,} are made", "take fewer values")
    if any(name == "strength" for name, _ in grid.settings) and not grid.base.init.strip():
        problem = "a strength is how much of a picture is drawn anew, and there is none to begin with"
        raise InvalidRequest(problem, "name one: --init FILE", "strength")
    cells: list[tuple[Point, Generate]] = []
    left_out: dict[str, str] = {}
    notes: dict[str, None] = {}
    first: SafelightError | None = None
    for contender, draft, prompts in _contenders(grid, catalogue, _weighings(grid)):
        try:
            found = [
                cell
                for prompt, text in zip(grid.prompts, prompts, strict=True)
                for cell in _cells(
                    prompt, contender, replace(draft, prompt=text), grid.seeds, catalogue, notes, all_models
                )
            ]
        except SafelightError as e:
            left_out[told(contender)] = f"{e.message}; {e.hint}" if e.hint else e.message
            first = first or e
            continue
        cells += [(point, replace(request, folder=folder, preview_every=0)) for point, request in found]
    if not cells and first is not None:
        raise first
    planned = tuple(sweep.in_order(cells))
    return Planned(planned, tuple(left_out.items()), (*notes, *_alike(planned)))


def _alike(cells: Sequence[Cell]) -> Iterator[str]:
    """Contenders that differ in nothing that acts, a line each: they are made, and ranked, as any others."""
    first: dict[tuple[Point, Generate], Point] = {}
    found: dict[tuple[Point, Point], None] = {}
    for cell in cells:
        other = first.setdefault((cell.block, _acting(cell.request)), cell.contender)
        if other != cell.contender:
            found[other, cell.contender] = None
    for one, two in list(found)[:ALIKE]:
        yield f"{told(two)} draws the same as {told(one)}: what differs doesn't act there"
    if len(found) > ALIKE:
        yield f"and {len(found) - ALIKE} more draw the same as others"


def _acting(request: Generate) -> Generate:
    """A request without what doesn't act: a rescale without guidance, and what of a strength is no whole step."""
    request = replace(request, overrides=())
    if request.guidance_scale <= 1:
        request = replace(request, guidance_scale=1.0, guidance_rescale=0.0)
    if request.init is not None and request.strength > 0:
        request = replace(request, strength=float(max(1, int(request.num_inference_steps * request.strength))))
    return request


def _weighings(grid: Grid) -> tuple[tuple[Point, tuple[str, ...]], ...]:
    """All combinations of the parts' weights, each with the prompts that come of it. Raises InvalidRequest."""
    if grid.parts and texts.syntax(grid.base.syntax) == "a1111":
        told = "words are weighed in compel's language, and the prompt is in A1111's"
        raise InvalidRequest(told, "sweep its translation: safelight prompt '…' --syntax a1111 tells it", "part")
    axes = (tuple((part.words, weight) for weight in part.weights) for part in grid.parts)
    return tuple(
        (
            tuple((part.axis, weight) for part, (_, weight) in zip(grid.parts, chosen, strict=True)),
            tuple(weighing.weighed(prompt, chosen) for prompt in grid.prompts),
        )
        for chosen in product(*axes)
    )


def _contenders(
    grid: Grid, catalogue: Catalogue, weighings: Sequence[tuple[Point, tuple[str, ...]]]
) -> Iterator[tuple[Point, Draft, tuple[str, ...]]]:
    """Each with its draft, and with what it makes of the prompts."""
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
                for weights, prompts in weighings:
                    yield (*point, *weights), draft, prompts


def _varied(draft: Draft, values: Mapping[str, str]) -> Draft:
    """A draft with other settings; all of SETTINGS are fields of text."""
    changed: dict[str, Any] = dict(values)
    return replace(draft, **changed)


def _cells(
    prompt: str,
    contender: Point,
    draft: Draft,
    seeds: Sequence[int],
    catalogue: Catalogue,
    notes: dict[str, None],
    all_models: bool,
) -> Iterator[tuple[Point, Generate]]:
    """One for each seed.

    Args:
        prompt: as it is typed; the draft's has the contender's weights.
    """
    request: Generate | None = None
    for seed in seeds:
        if request is None or request.template:  # a text that is drawn is another for each seed
            away = all_models and bool(catalogue.missing(catalogue.model(draft.model)))
            asked = drafting.read(replace(draft, seed=str(seed)), catalogue, look=not away)
            (request,) = asked.requests
            notes.update(dict.fromkeys(asked.notes))
        yield (("prompt", prompt), *contender, ("seed", str(seed))), replace(request, seed=seed)


def told(point: Point) -> str:
    """'sdxl-turbo · guidance 3': a contender, or 'a red apple · seed 7': a block, for people."""
    return " · ".join(
        value if axis in ("model", "prompt") else f"{axis.removesuffix('_strength')} {value}" for axis, value in point
    )
