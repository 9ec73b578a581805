"""Steps of finishing as text, such as: hires x2 0.4, faces 0.8, upscale realesrgan-x4plus x2.

The command line's options and the form's field are read here, and steps become text again.
"""

from __future__ import annotations

import re
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any, TypeVar

from engines.catalogue import Catalogue
from engines.entries import Entry, FaceDetector, FaceRestorer, Model
from engines.errors import CatalogueError, InvalidRequest, LoadError
from engines.steps import Hires, Restore, Step, Upscale, enlarged
from tui import fields

KINDS = {
    "upscale": "upscale",
    "faces": "restore",
    "face": "restore",
    "restore": "restore",
    "restore-faces": "restore",
    "hires": "hires",
}
"What a step may be called → its kind."
NAMES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "noise": "noise_level",
    "denoise": "denoise",
    "strength": "strength",
    "tile": "tile",
    "shrink": "shrink",
    "detector": "detector",
}
"What stands before '=' → a step's field."
LARGE, BEARS = 512, 0.5
"Pixels from which on models draw over larger pictures well, and at which strength they do."
EXAMPLE = "for instance: hires x2 0.4, faces 0.8, upscale x4"

_SCALE = re.compile(r"[x×](\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)[x×]")
_NUMBER = re.compile(r"\d*\.?\d+")


def read(text: str, catalogue: Catalogue, look: bool = True) -> tuple[Step, ...]:
    """The steps of a text, in its order; what a step doesn't name is chosen here.

    Args:
        text: steps between commas, each a kind and what it takes, between spaces or colons: xN is a scale, a number the
            strength (of an upscaler with a pair: how much it denoises), NAME=NUMBER any other setting, and what is left
            an id.
        catalogue: what ids mean, and which is the best that is here.
        look: whether the best that is here is looked for on the disk, and what is named has to be there.

    Raises:
        InvalidRequest, CatalogueError, LoadError: a step can't be done.
    """
    try:
        return tuple(_step(part, catalogue, look) for part in text.split(",") if part.strip())
    except (InvalidRequest, LoadError) as e:
        if isinstance(e, InvalidRequest):
            e.field = "finish"
        raise


def needs(text: str, catalogue: Catalogue) -> tuple[Entry, ...]:
    """What the steps of a text name or take, as far as the catalogue knows it, for whoever fetches what is missing."""
    found: list[Entry] = []
    for part in text.split(","):
        kind, *words = re.split(r"[\s:]+", part.strip())
        ids = [word.partition("=")[2] or word for word in words]
        found += [catalogue.upscalers[id] for id in ids if id in catalogue.upscalers]
        if KINDS.get(kind.lower()) == "restore":
            restorers = [catalogue.face_restorers[id] for id in ids if id in catalogue.face_restorers]
            found += restorers or _first(catalogue.face_restorers)
            detectors = [catalogue.face_detectors[id] for id in ids if id in catalogue.face_detectors]
            found += detectors or _first(catalogue.face_detectors)
    return tuple(dict.fromkeys(found))


_Ranked = TypeVar("_Ranked", FaceRestorer, FaceDetector)


def _first(known: dict[str, _Ranked]) -> list[_Ranked]:
    """The best of some entries, here or not."""
    return sorted(known.values(), key=lambda entry: -entry.rank)[:1]


def told(steps: tuple[Step, ...], prompt: str) -> tuple[Step, ...]:
    """The steps, with what a diffusion upscaler is told to draw."""
    return tuple(replace(step, prompt=prompt) if isinstance(step, Upscale) else step for step in steps)


def idle(steps: tuple[Step, ...], catalogue: Catalogue) -> list[str]:
    """What of the steps does nothing, a line each."""
    told = []
    for step in steps:
        entry = catalogue.upscalers.get(step.upscaler) if isinstance(step, Upscale) else None
        if entry is None or not isinstance(step, Upscale):
            continue
        blank = Upscale(step.upscaler)
        changed = [short for short, field in NAMES.items() if getattr(step, field, 0) != getattr(blank, field, 0)]
        none = [short for short in changed if short == "denoise" and entry.weak is None]
        if entry.kind != "diffusion":
            none += [short for short in changed if short in ("noise", "guidance", "steps")]
            none += ["prompt"] if step.prompt else []
        if none:
            told.append(
                f"{entry.id} has no {' or '.join(none)}: {'that does' if len(none) == 1 else 'they do'} nothing"
            )
    return told


def beyond(steps: tuple[Step, ...], size: tuple[int, int], model: Model) -> list[str]:
    """Hires passes that a model was not made for, a line each: it may draw things twice there.

    Args:
        steps: of finishing.
        size: of the picture before them.
        model: what draws over it.
    """
    told = []
    trained = max(model.recipe.size)
    bears = BEARS if trained >= LARGE else 0.0
    for step in steps:
        size = enlarged(size, getattr(step, "scale", 1.0) or 1.0)
        if isinstance(step, Hires) and max(size) > trained and step.strength > bears:
            told.append(
                f"{model.id} was made for {trained} px: over {size[0]}x{size[1]} it may draw things twice; "
                "a lower strength keeps more of the picture"
            )
    return told


def text(steps: tuple[Step, ...]) -> str:
    """The text that `read` makes these steps of."""
    return ", ".join(_text(step) for step in steps)


def _step(part: str, catalogue: Catalogue, look: bool) -> Step:
    kind, *words = re.split(r"[\s:]+", part.strip())
    named: set[str] = set()
    match KINDS.get(kind.lower()):
        case "upscale":
            step: Step = Upscale("")
        case "restore":
            step = Restore("")
        case "hires":
            step = Hires()
        case _:
            raise InvalidRequest(f"no step of finishing is called '{kind[:40]}'", f"upscale, faces or hires; {EXAMPLE}")
    for word in filter(None, words):
        step, field = _with(step, word)
        if field in named:
            raise InvalidRequest(f"{_called(step)} is told two things for {field.replace('_', ' ')}", "leave one out")
        named.add(field)
    step.validate()
    return _named(step, catalogue, look)


def _with(step: Step, word: str) -> tuple[Step, str]:
    """The step with one more of its settings, and which that is."""
    known = {f.name for f in fields_of(step)}
    name, equals, value = word.partition("=")
    if equals:
        field = NAMES.get(name.lower(), "")
        if field not in known:
            able = ", ".join(short for short, long in NAMES.items() if long in known)
            raise InvalidRequest(f"{_called(step)} has no '{name[:40]}'", f"it takes {able}")
        return _set(step, field, value, name), field
    if (match := _SCALE.fullmatch(word.lower())) and "scale" in known:
        factor = match[1] or match[2]
        if float(factor) == 0:
            raise InvalidRequest("scale must be above 0", "leave it out for the upscaler's own")
        return _set(step, "scale", factor, "scale"), "scale"
    if _NUMBER.fullmatch(word):
        field = "denoise" if isinstance(step, Upscale) else "strength"
        return _set(step, field, word, "strength"), field
    match step:
        case Restore():
            return replace(step, restorer=word), "restorer"
        case _:
            return replace(step, upscaler=word), "upscaler"


def _set(step: Step, field: str, value: str, name: str) -> Step:
    kind = next(str(f.type) for f in fields_of(step) if f.name == field)
    given: Any
    if kind == "str":
        given = value
    elif kind == "int":
        given = fields.whole(name, value, 0, 10**6, 0)
    else:
        given = fields.number(name, value, 0, 10**6, 0.0)
    return replace(step, **{field: given})


def _named(step: Step, catalogue: Catalogue, look: bool) -> Step:
    """The step with the best upscaler or face restorer that is here, where none was named."""
    match step:
        case Upscale(upscaler=""):
            return replace(step, upscaler=catalogue.default_upscaler().id) if look else step
        case Upscale() if look:
            catalogue.require_upscaler(step.upscaler)
        case Upscale():
            catalogue.upscaler(step.upscaler)
        case Restore(restorer=""):
            return replace(step, restorer=catalogue.default_face_restorer().id) if look else step
        case Restore() if look:
            catalogue.require_face_restorer(step.restorer)
        case Restore():
            catalogue.face_restorer(step.restorer)
        case Hires(upscaler="" | "latent"):
            pass
        case Hires():
            entry = catalogue.require_upscaler(step.upscaler) if look else catalogue.upscaler(step.upscaler)
            if entry.kind == "diffusion":
                raise CatalogueError(f"{entry.id} is a diffusion model itself", "name a network, latent, or none")
    return step


def _called(step: Step) -> str:
    return "faces" if isinstance(step, Restore) else step.kind


def _text(step: Step) -> str:
    match step:
        case Upscale():
            words = [step.upscaler, f"x{fields.exact(step.scale)}" if step.scale else ""]
            blank: Step = Upscale(step.upscaler, step.scale)
        case Restore():
            words = [step.restorer, fields.exact(step.strength)]
            blank = Restore(step.restorer, step.strength)
        case Hires():
            words = [step.upscaler, f"x{fields.exact(step.scale)}", fields.exact(step.strength)]
            blank = Hires(step.scale, step.strength, step.upscaler)
    for short, field in NAMES.items():
        if hasattr(step, field) and getattr(step, field) != getattr(blank, field):
            value = getattr(step, field)
            words.append(f"{short}={value if isinstance(value, str) else fields.exact(value)}")
    return " ".join(filter(None, [_called(step), *words]))
