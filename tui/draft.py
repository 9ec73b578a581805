"""The draft: the form as it stands, as text, and what it means as requests.

The command line and the workbench both fill in a Draft; a field left empty is the model's recipe. What was typed is
kept as it was typed, also when it is wrong, so that nothing is lost.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from engines import schedulers
from engines.catalogue import Catalogue, Model, Recipe, Size
from engines.errors import CatalogueError, InvalidRequest, SafelightError
from engines.prompt import clean, parse
from engines.requests import (
    MAX_COUNT,
    MAX_SEED,
    MAX_STEPS,
    PRECISIONS,
    Generate,
    Lora,
    Precision,
    check_prompt,
    check_seed,
    check_size,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is typed into the form; every field is text, and empty means "as the model's recipe says"."""

    prompt: str = ""
    "In compel's weighting syntax."
    negative_prompt: str = ""
    "Empty is SDXL's unconditional zeros."
    model: str = ""
    "Empty is the best model on this machine."
    steps: str = ""
    "num_inference_steps."
    guidance: str = ""
    "guidance_scale."
    rescale: str = ""
    "guidance_rescale."
    scheduler: str = ""
    "A scheduler's name."
    size: str = ""
    "WxH in pixels, or an aspect such as 3:2."
    seed: str = ""
    "Empty is a new one each time."
    count: str = ""
    "How many pictures, with seeds seed, seed + 1, …; empty is 1."
    batch: str = ""
    "How many of them in one run of the denoiser; empty is 1."
    precision: str = ""
    "auto, fp16, bf16 or fp32."
    score: str = ""
    "A scorer's id, 'yes' for the best on this machine, empty or 'no' for none."
    loras: tuple[str, ...] = ()
    "NAME or NAME:WEIGHT each."

    def to_json(self) -> str:
        """The draft as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Draft:
        """The draft that `to_json` wrote; what can't be read is left empty, for a form is never worth a crash."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(values, dict):
            return cls()
        known = {f.name for f in fields(cls)} - {"loras"}
        texts = {k: v for k, v in values.items() if k in known and isinstance(v, str)}
        loras = values.get("loras")
        kept = tuple(x for x in loras if isinstance(x, str)) if isinstance(loras, list) else ()
        return cls(**texts, loras=kept)

    @classmethod
    def from_request(cls, request: Generate, keep: Draft | None = None) -> Draft:
        """The form that asks for this request again, number for number; count, batch and scoring are `keep`'s.

        What a form has no field for is not in it: clip skip, and the timestep spacing, which is the model's recipe's.
        """
        keep = keep or cls()
        return cls(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or "",
            model=request.model,
            steps=str(request.num_inference_steps),
            guidance=_exact(request.guidance_scale),
            rescale=_exact(request.guidance_rescale),
            scheduler=request.scheduler,
            size=f"{request.width}x{request.height}",
            seed=str(request.seed),
            count=keep.count,
            batch=keep.batch,
            precision="" if request.precision == "auto" else request.precision,
            score=keep.score,
            loras=tuple(f"{x.name}:{_exact(x.weight)}" for x in request.loras),
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a draft means."""

    requests: tuple[Generate, ...]
    "One for each run of the denoiser, in the order of the seeds."
    notes: tuple[str, ...]
    "One line each: what has no effect, what departs from the recipe."
    drawn: bool
    "The seed was drawn at random, because none was given."


def read(draft: Draft, catalogue: Catalogue, look: bool = True) -> Asked:
    """The requests that a draft asks for.

    Args:
        draft: what was typed.
        catalogue: what names mean.
        look: whether to look on the disk for what is named. Without, nothing is read from there, as befits a form at
            every key; the requests are then good for their notes only, and a draft without a model is refused.

    Raises:
        InvalidRequest: a field can't be used; `field` names it as Draft does.
        SafelightError: the model is not on this machine.
    """
    model = _model(draft.model.strip(), catalogue, look)
    recipe = model.recipe
    check_prompt(draft.prompt, "prompt")
    check_prompt(draft.negative_prompt, "negative_prompt")
    width, height = _size(draft.size, recipe)
    count = _whole("count", draft.count, 1, MAX_COUNT, 1)
    batch = min(_whole("batch", draft.batch, 1, 64, 1), count)
    drawn = not draft.seed.strip()
    seed = secrets.randbelow(2**32) if drawn else _whole("seed", draft.seed, 0, MAX_SEED, 0)
    check_seed(seed)
    if seed + count - 1 > MAX_SEED:
        raise InvalidRequest(f"seed {seed} leaves no room for {count} pictures", "take a smaller seed", "seed")
    chosen = schedulers.find(draft.scheduler if draft.scheduler.strip() else recipe.scheduler)
    steps = _whole("steps", draft.steps, 1, MAX_STEPS, recipe.num_inference_steps)
    if steps > chosen.max_steps:
        raise InvalidRequest(
            f"steps must be 1 to {chosen.max_steps} with {chosen.name}, not {steps}",
            "take fewer, or another scheduler",
            "steps",
        )
    one = Generate(
        prompt=clean(draft.prompt),
        negative_prompt=clean(draft.negative_prompt) if draft.negative_prompt.strip() else None,
        model=model.id,
        seed=seed,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=_number("guidance", draft.guidance, 0, 100, recipe.guidance_scale),
        guidance_rescale=_number("rescale", draft.rescale, 0, 1, recipe.guidance_rescale),
        scheduler=chosen.name,
        timestep_spacing=recipe.timestep_spacing if chosen.spacing else None,
        loras=tuple(_lora(text, model, catalogue) for text in draft.loras),
        precision=_precision(draft.precision),
        score=_scorer(draft.score, catalogue) if look else None,
        batch_size=batch,
    )
    requests = tuple(
        replace(one, seed=seed + first, batch_size=min(batch, count - first)) for first in range(0, count, batch)
    )
    for request in requests:
        request.validate()
    return Asked(requests, tuple(_notes(one, model)), drawn)


def aspect_size(text: str, recipe: Recipe) -> Size:
    """The trained (width, height) whose ratio is nearest to an aspect such as 3:2. Raises InvalidRequest."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*", text)
    if match is None or not (float(match[1]) > 0 and float(match[2]) > 0):
        raise InvalidRequest(f"aspect must be two numbers such as 3:2, not '{text}'", _offered(recipe), "size")
    wanted = math.log(float(match[1]) / float(match[2]))
    return min(recipe.sizes, key=lambda size: abs(math.log(size[0] / size[1]) - wanted))


def inactive(guidance_scale: float, negative: bool, rescale: float) -> str:
    """Why the negative prompt or the rescale has no effect, or an empty string if all that is set acts."""
    if guidance_scale > 1:
        return ""
    unused = [name for name, is_set in (("negative prompt", negative), ("guidance rescale", rescale > 0)) if is_set]
    return f"{' and '.join(unused)} inactive: guidance is {guidance_scale:g}, it acts only above 1" if unused else ""


def shortened(recipe: Recipe) -> Mapping[str, str]:
    """The recipe as the form shows it behind empty fields, by Draft's field names."""
    return {
        "steps": str(recipe.num_inference_steps),
        "guidance": _exact(recipe.guidance_scale),
        "rescale": _exact(recipe.guidance_rescale),
        "scheduler": recipe.scheduler,
        "size": "{}x{}".format(*recipe.size),
        "seed": "random",
        "count": "1",
    }


def _notes(request: Generate, model: Model) -> list[str]:
    notes = []
    recipe = model.recipe
    if not request.prompt.strip():
        notes.append("the prompt is empty: the model draws whatever it likes")
    notes += misread(request.prompt, "prompt") + misread(request.negative_prompt or "", "negative prompt")
    if unused := inactive(request.guidance_scale, request.negative_prompt is not None, request.guidance_rescale):
        notes.append(unused)
    if recipe.fixed_steps and request.num_inference_steps != recipe.num_inference_steps:
        notes.append(
            f"{model.id} was made for exactly {recipe.num_inference_steps} steps; "
            f"{request.num_inference_steps} were asked"
        )
    if recipe.fixed_steps and request.guidance_scale > 2:
        notes.append(f"{model.id} was distilled without guidance; {request.guidance_scale:g} burns its colours")
    if recipe.timestep_spacing and not schedulers.find(request.scheduler).spacing:
        notes.append(
            f"{request.scheduler} spaces its steps itself; {model.id}'s recipe wants {recipe.timestep_spacing} spacing"
        )
    if (request.width, request.height) not in recipe.sizes:
        notes.append(f"{model.id} was not made for {request.width}x{request.height}; {_offered(recipe)}")
    return notes


def misread(text: str, what: str, most: int = 2) -> list[str]:
    """What in a prompt is not what it may seem, a line each, the first `most` and how many more there are."""
    problems = parse(text).problems
    lines = [f"{what}, at character {p.span[0] + 1}: {p.message}" for p in problems[:most]]
    if more := len(problems) - most:
        lines += [f"{what}: {more} more; safelight prompt shows all"] if more > 0 else []
    return lines


def _model(id: str, catalogue: Catalogue, look: bool) -> Model:
    if id:
        return catalogue.require(id) if look else catalogue.model(id)
    if not look:
        raise InvalidRequest("no model is named", "name one", "model")
    return catalogue.default_model()


def _exact(value: float) -> str:
    """The shortest text that is read back as the same number: '7', '4.5', '0.1234567'."""
    return repr(float(value)).removesuffix(".0")


def _size(text: str, recipe: Recipe) -> Size:
    text = text.strip().lower()
    if not text:
        return recipe.size
    if ":" in text:
        return aspect_size(text, recipe)
    match = re.fullmatch(r"([+-]?\d{1,9})\s*[x×*]\s*([+-]?\d{1,9})", text)
    if match is None:
        raise InvalidRequest(f"size must be WIDTHxHEIGHT in pixels, not '{text[:40]}'", _offered(recipe), "size")
    width, height = int(match[1]), int(match[2])
    check_size(width, height)
    return width, height


def _offered(recipe: Recipe) -> str:
    return "trained sizes: " + ", ".join(f"{w}x{h}" for w, h in recipe.sizes)


def _whole(field: str, text: str, low: int, high: int, default: int) -> int:
    text = text.strip().replace("_", "")
    if not text:
        return default
    if not re.fullmatch(r"[+-]?\d{1,30}", text) or not text.isascii():
        raise InvalidRequest(f"{field} must be a whole number, not '{text[:40]}'", f"{low} to {high}", field)
    if not low <= int(text) <= high:
        raise InvalidRequest(f"{field} must be {low} to {high}, not {text}", "leave it out for the default", field)
    return int(text)


def _number(field: str, text: str, low: float, high: float, default: float) -> float:
    text = text.strip().replace(",", ".")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise InvalidRequest(f"{field} must be a number, not '{text[:40]}'", f"{low:g} to {high:g}", field) from None
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidRequest(
            f"{field} must be {low:g} to {high:g}, not {text[:40]}", "leave it out for the default", field
        )
    return value


def _precision(text: str) -> Precision:
    wanted = text.strip().lower() or "auto"
    for known in PRECISIONS:
        if wanted == known:
            return known
    raise InvalidRequest(f"no precision '{text[:40]}'", f"one of {', '.join(PRECISIONS)}", "precision")


def _scorer(text: str, catalogue: Catalogue) -> str | None:
    match text.strip().lower():
        case "" | "no":
            return None
        case "yes":
            return catalogue.default_scorer().id
        case _:
            try:
                return catalogue.scorer(text.strip()).id
            except CatalogueError as e:
                raise CatalogueError(e.message, e.hint, "score") from None


def _lora(text: str, model: Model, catalogue: Catalogue) -> Lora:
    name, _, weight = text.strip().partition(":")
    adapter = catalogue.adapter(name)
    if adapter.family != model.family:
        raise CatalogueError(
            f"LoRA {name} is for the {adapter.family} family; {model.id} is {model.family}",
            "pick a LoRA or a model of the same family",
            "loras",
        )
    return Lora(name, _number("loras", weight, -10, 10, 1.0))


__all__ = ["Asked", "Draft", "SafelightError", "aspect_size", "inactive", "read", "shortened"]
