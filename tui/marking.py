"""A sweep as it is marked in the workbench: which values are compared, as the form has them, and as a command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.entries import Recipe
from engines.errors import InvalidRequest
from tui import grids, weighing
from tui.draft import Draft
from tui.grids import Grid

OPTIONS = {"rescale": "guidance-rescale", "variation_strength": "variation-strength"}
"What the command line calls a field of a draft, where it calls it otherwise."


@dataclass(frozen=True, slots=True)
class Marked:
    """What stands in the lines; an empty one is no axis, and the form's value is everybody's."""

    prompts: tuple[str, ...] = ()
    "What is drawn; the form's prompt if there is none."
    more: str = ""
    "Further prompts, with | between them."
    models: tuple[str, ...] = ()
    "Ids."
    seeds: str = "4"
    "As on the command line."
    guidance: str = ""
    "Values with commas between them, as the next four."
    rescale: str = ""
    "guidance_rescale."
    steps: str = ""
    "num_inference_steps."
    size: str = ""
    "WxH."
    scheduler: tuple[str, ...] = ()
    "Names."
    precision: tuple[str, ...] = ()
    "Names."
    vae: tuple[str, ...] = ()
    "Ids."
    mix: str = ""
    "Ratios, with blanks between them."
    strength: str = ""
    "Values with commas between them, as the next; of the form's picture to begin with."
    variation_strength: str = ""
    "Towards one variation seed for all."
    loras: str = ""
    "Stacks with commas between them: 'none, NAME:0.8, A:1+B:0.5'."
    parts: str = ""
    "Words of the prompts and their weights: 'freckles=0.8,1,1.2; soft light=1,1.3'."
    scorers: tuple[str, ...] = ()
    "Ids; none for none."


def grid(marked: Marked, draft: Draft) -> Grid:
    """What is marked as a grid over the form. Raises InvalidRequest; `field` is the line's name."""
    typed = tuple(text for piece in marked.more.split("|") if (text := piece.strip()))
    prompts = tuple(
        dict.fromkeys([*(marked.prompts or (draft.prompt,) if draft.prompt.strip() else marked.prompts), *typed])
    )
    if not any(prompt.strip() for prompt in prompts):
        raise InvalidRequest("a sweep needs a prompt", "write one into the form, or mark earlier ones", "prompts")
    settings: list[tuple[str, tuple[str, ...]]] = []
    for name in grids.SETTINGS:
        value: str | tuple[str, ...] = getattr(marked, name)
        if isinstance(value, str) and value.strip():
            settings.append((name, grids.values(name, value)))
        elif isinstance(value, tuple) and value:
            settings.append((name, value))
    stacks = grids.stacks([text for text in marked.loras.split(",") if text.strip()])
    parts = weighing.distinct([weighing.read(text) for text in marked.parts.split(";") if text.strip()])
    base = replace(draft, prompt="", model="", seed="", count="", batch="", finish="", score=(*marked.scorers, "")[0])
    models = marked.models or ((draft.model,) if draft.model else ())
    seeds = grids.seeds(marked.seeds or "4")
    return grids.settled(Grid(prompts, models, seeds, tuple(settings), stacks, parts, base))


def unpinned(draft: Draft, recipe: Recipe) -> Draft:
    """The draft without values that are only its model's recipe, written out, as they are when a picture's settings
    were taken back: every model of a sweep is to have its own."""

    def same(text: str, number: float) -> bool:
        return grids.number(text.strip()) == number

    width, height = recipe.size
    own = {
        "steps": same(draft.steps, recipe.num_inference_steps),
        "guidance": same(draft.guidance, recipe.guidance_scale),
        "rescale": same(draft.rescale, recipe.guidance_rescale),
        "scheduler": draft.scheduler.strip() == recipe.scheduler,
        "size": draft.size.strip() == f"{width}x{height}",
    }
    changed: dict[str, Any] = {name: "" for name, plain in own.items() if plain}
    return replace(draft, **changed)


def title(wanted: Grid) -> str:
    """What people call a sweep: its prompts, and what is compared."""
    axes = (axis.removesuffix("_strength") for axis in wanted.axes if axis != "prompt")
    return f"{' | '.join(wanted.prompts)} · {', '.join(axes)}"


def command(wanted: Grid, scorers: Sequence[str]) -> str:
    """The command that makes the sweep again."""
    base, varied = wanted.base, dict(wanted.settings)
    words = ["safelight", "sweep"]
    if wanted.models:
        words += ["--models", ",".join(wanted.models)]
    words += ["--seeds", ",".join(map(str, wanted.seeds)) + "," * (len(wanted.seeds) == 1)]
    for name in grids.SETTINGS:
        own = getattr(base, name).strip()
        if name == "strength" and not base.init.strip():
            continue  # it says nothing without a picture
        if values := varied.get(name, (own,) if own else ()):
            words += [f"--{OPTIONS.get(name, name)}", (" " if name == "mix" else ",").join(values)]
    for stack in wanted.loras or ((base.loras,) if base.loras else ()):
        words += ["--lora", "+".join(stack) or "none"]
    for part in wanted.parts:
        words += ["--part", f"{part.words}={','.join(part.weights)}"]
    if base.negative_prompt.strip() or base.blank_negative == "empty":
        words += ["--negative", base.negative_prompt]
    if base.syntax.strip():
        words += ["--syntax", base.syntax]
    if base.init.strip():
        words += ["--init", str(Path(base.init.strip()).expanduser().absolute())]
    if base.variation_seed.strip():
        words += ["--variation-seed", base.variation_seed.strip()]
    words += ["--override"] if base.override == "yes" else []
    words += ["--scorer", ",".join(scorers) or "none"]
    return shlex.join([*words, "--", *wanted.prompts])
