"""What may be asked of an engine, and what it hands back: plain frozen values that pickle.

A request is complete. Whoever makes one has already filled in what the model's recipe decides (see
`engines.catalogue.Recipe`), so a request that is repeated gives the same picture whatever the defaults have become.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, TypeVar

from engines import blocks, steps
from engines.errors import InvalidRequest
from engines.limits import MAX_GUIDANCE, MAX_STEPS, check_number
from engines.schedulers import SPACINGS
from engines.steps import Step

JobId: TypeAlias = int
Precision: TypeAlias = Literal["auto", "fp16", "bf16", "fp32", "fp8"]

PRECISIONS: tuple[Precision, ...] = ("auto", "fp16", "bf16", "fp32", "fp8")
SYNTAXES = ("", "compel", "a1111")
MAX_SEED = 2**63 - 1
MAX_SIDE = 8192
MAX_PIXELS = 4096 * 4096
MAX_PROMPT = 20_000
MAX_COUNT = 10_000
MAX_BATCH = 64


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA on top of the model."""

    name: str
    "The catalogue's id of the LoRA."
    weight: float = 1.0
    "How strongly it is added: 0 not at all, 1 as it was trained."


@dataclass(frozen=True, slots=True)
class Generate:
    """Make `batch_size` pictures in one run of the denoiser."""

    prompt: str
    "What to draw, in compel's weighting syntax; at most MAX_PROMPT characters."
    model: str
    "The catalogue's id of the model."
    seed: int
    "0 … 2^63−1. Picture i of the batch is drawn from a generator of its own, seeded with seed + i."
    width: int
    "Pixels, a multiple of 8."
    height: int
    "Pixels, a multiple of 8."
    num_inference_steps: int
    "Denoising steps, 1 … MAX_STEPS."
    guidance_scale: float
    "Classifier-free guidance, 0 … MAX_GUIDANCE; it acts only above 1 (arXiv:2207.12598)."
    guidance_rescale: float = 0.0
    "0 … 1, pulls the guided prediction back to the contrast of the unguided one (arXiv:2305.08891, section 3.4)."
    scheduler: str = "euler"
    "A name from engines.schedulers."
    timestep_spacing: str | None = None
    "leading, trailing or linspace, as in diffusers; None leaves it to the scheduler's row."
    negative_prompt: str | None = None
    "What to stay away from. None is nothing, which is zeros in SDXL; a text is encoded, the empty one too."
    loras: tuple[Lora, ...] = ()
    "LoRAs added to those that the model itself is made of."
    precision: Precision = "auto"
    "The arithmetic of the denoiser; auto takes the device's best, fp8 stores its weights in eight bits."
    vae: str | None = None
    "The catalogue's id of a VAE to decode with instead of the model's own."
    clip_skip: int | None = None
    "None takes the last hidden state but one of both text encoders, as SDXL was trained; n skips n more."
    score: str | None = None
    "The scorer that judges the finished picture, or None."
    batch_size: int = 1
    "Pictures drawn together; each has the latents that it would have alone."
    preview_every: int = 1
    "Offer a preview every so many steps (the engine also limits their rate); 0 for none."
    folder: str | None = None
    "Where the pictures are saved; None for the engine's own folder."
    overrides: tuple[str, ...] = ()
    "Fields that go knowingly against what the model's recipe fixes: num_inference_steps, scheduler."
    sketch: bool = False
    "To be looked at only: decoded by the small decoder where there is one, not scored, in no file and no history."
    variation_seed: int | None = None
    "0 … 2^63−1. Picture i of the batch begins with noise between that of seed + i and that of variation_seed + i."
    variation_strength: float = 0.0
    "0 … 1, how far from the seed's noise to the variation seed's; 0 is the picture that it would be without."
    template: str = ""
    "What was typed, if `prompt` was drawn from its variants; with the same seed it is drawn again."
    negative_template: str = ""
    "What was typed, if there is a template in another syntax than compel's: `negative_prompt` before its translation."
    syntax: str = ""
    "The dialect of the templates, one of SYNTAXES; prompts themselves are always in compel's."
    mix: tuple[float, ...] = ()
    "Weights of a mixed model's parents, one each, in place of those that the catalogue names; none for those."
    init: str | None = None
    "Path of a picture file to begin with instead of noise alone, brought to the size asked for; None for none."
    strength: float = 1.0
    """0 … 1, with `init` only: how much is drawn anew (arXiv:2108.01073). Of num_inference_steps about so many are run,
    at least one; with 0 the file is taken as it is, in its own size, and no model is needed."""
    finish: tuple[Step, ...] = ()
    "What is done to the finished picture, in this order; each result is a picture of its own."

    @property
    def drawn(self) -> bool:
        """Whether a model draws it; else its file is taken as it is."""
        return self.init is None or self.strength > 0

    def single(self, number: int) -> Generate:
        """The request for picture `number` of the batch alone, 0 … batch_size − 1."""
        varied = None if self.variation_seed is None else self.variation_seed + number
        return replace(self, seed=self.seed + number, variation_seed=varied, batch_size=1)

    def validate(self) -> None:
        """Raises InvalidRequest for a value that no model can be run with."""
        check_prompt(self.prompt, "prompt")
        check_prompt(self.negative_prompt or "", "negative_prompt")
        check_prompt(self.template, "prompt")
        check_prompt(self.negative_template, "negative_prompt")
        if self.syntax not in SYNTAXES:
            raise InvalidRequest(f"no syntax '{self.syntax[:40]}'", f"one of {', '.join(SYNTAXES[1:])}", "syntax")
        check_seed(self.seed)
        check_size(self.width, self.height)
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise InvalidRequest(
                f"steps must be 1 to {MAX_STEPS}, not {self.num_inference_steps}",
                "leave it out for the model's own number of steps",
                "num_inference_steps",
            )
        check_number("guidance scale", self.guidance_scale, 0.0, MAX_GUIDANCE, "guidance_scale")
        check_number("guidance rescale", self.guidance_rescale, 0.0, 1.0, "guidance_rescale")
        if self.precision not in PRECISIONS:
            raise InvalidRequest(f"no precision '{self.precision}'", f"one of {', '.join(PRECISIONS)}", "precision")
        if not 1 <= self.batch_size <= MAX_BATCH:
            raise InvalidRequest(f"batch size must be 1 to {MAX_BATCH}, not {self.batch_size}", "", "batch_size")
        if self.seed + self.batch_size - 1 > MAX_SEED:
            raise InvalidRequest(
                f"seed {self.seed} leaves no room for {self.batch_size} pictures", "take a smaller seed", "seed"
            )
        check_number("variation strength", self.variation_strength, 0.0, 1.0, "variation_strength")
        if self.variation_seed is not None:
            check_seed(self.variation_seed, "variation_seed")
            if self.variation_seed + self.batch_size - 1 > MAX_SEED:
                raise InvalidRequest(
                    f"variation seed {self.variation_seed} leaves no room for {self.batch_size} pictures",
                    "take a smaller variation seed",
                    "variation_seed",
                )
        elif self.variation_strength > 0:
            raise InvalidRequest(
                f"a variation strength of {self.variation_strength:g} needs a variation seed",
                "name a seed, or take 0",
                "variation_seed",
            )
        if self.clip_skip is not None and not 0 <= self.clip_skip <= 11:
            raise InvalidRequest(f"clip skip must be 0 to 11, not {self.clip_skip}", "", "clip_skip")
        if self.timestep_spacing not in (None, *SPACINGS):
            raise InvalidRequest(
                f"no timestep spacing '{self.timestep_spacing}'", f"one of {', '.join(SPACINGS)}", "timestep_spacing"
            )
        check_mix(self.mix)
        check_number("strength", self.strength, 0.0, 1.0, "strength")
        if self.init is not None and (not self.init or "\0" in self.init):
            raise InvalidRequest("the picture to begin with has no name", "name a file", "init")
        steps.check(self.finish)
        for lora in self.loras:
            check_number(f"the weight of LoRA {lora.name}", lora.weight, -10.0, 10.0, "loras")


@dataclass(frozen=True, slots=True)
class Finish:
    """Do something to a picture that is a file; each step's result is a picture of its own."""

    picture: str
    "Path of the file, ours or not. What it says of itself is the request that its results are told to come from."
    finish: tuple[Step, ...]
    "What is done, in this order; at least one step."
    folder: str | None = None
    "Where the results are saved; None for the engine's own folder."
    score: str | None = None
    "The scorer that judges the results, or None."

    def validate(self) -> None:
        """Raises InvalidRequest if there is nothing to do, or a step can't be done. Whether the file can be read is
        found when it is opened."""
        if not self.picture or "\0" in self.picture:
            raise InvalidRequest("no picture to finish", "name a file", "picture")
        if not self.finish:
            raise InvalidRequest("nothing to do to the picture", "upscale it, or restore its faces", "finish")
        steps.check(self.finish)


@dataclass(frozen=True, slots=True)
class Score:
    """Judge how well pictures that are files show a prompt."""

    pictures: tuple[str, ...]
    "Paths of picture files, ours or not."
    prompt: str
    "The text that they are held against; weighting syntax is stripped."
    scorer: str
    "The catalogue's id of the scorer."

    def validate(self) -> None:
        """Raises InvalidRequest if there is nothing to score. Whether a prompt is needed is the scorer's to say."""
        check_prompt(self.prompt, "prompt")
        if not self.pictures:
            raise InvalidRequest("no picture to score", "name one or more files")


@dataclass(frozen=True, slots=True)
class Warm:
    """Get a model ready, so that the next picture starts at once."""

    model: str
    "The catalogue's id of the model."
    precision: Precision = "auto"
    "As in Generate."
    mix: tuple[float, ...] = ()
    "As in Generate."

    def validate(self) -> None:
        """Raises InvalidRequest for a mix of no model's. The model's name is looked up by the engine."""
        check_mix(self.mix)


@dataclass(frozen=True, slots=True)
class Pull:
    """Fetch an entry of the catalogue, and what it stands on, into the hub's cache."""

    id: str
    "The catalogue's id of a model, LoRA, VAE, embedding, preview decoder or scorer."

    def validate(self) -> None:
        """Nothing to check beyond the name, which the engine looks up."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Mix two or three checkpoint files into a new one."""

    parents: tuple[str, ...]
    "Paths of .safetensors files of one architecture."
    weights: tuple[float, ...]
    "One a parent; see engines.diffusion.merging for what each method makes of them."
    out: str
    "Path of the .safetensors file to write."
    method: str = "weighted-sum"
    "One of engines.blocks.METHODS."
    blocks: tuple[str, ...] = ()
    "NAME=SHARE each, that override the second parent's weight in one block; names as in engines.blocks."
    dtype: str = ""
    "fp16, bf16 or fp32; empty for the first parent's own."

    def validate(self) -> None:
        """Raises InvalidRequest if the numbers make no mix."""
        if len(self.weights) != len(self.parents):
            raise InvalidRequest(
                "a merge takes a weight for each model", "safelight models merge A B --weights 0.5,0.5"
            )
        blocks.Formula(self.method, self.weights, blocks.parse(self.blocks))
        if self.dtype:
            blocks.check_dtype(self.dtype)


@dataclass(frozen=True, slots=True)
class Convert:
    """Make a .safetensors file out of a pickled checkpoint, without running what the pickle asks for."""

    file: str
    "Path of a .ckpt, .pt, .pth or .bin file."
    out: str
    "Path of the .safetensors file to write."

    def validate(self) -> None:
        """Raises InvalidRequest for a name that no reader would take for what is written. Whether the files can be used
        is found when they are opened."""
        if not self.out.endswith(".safetensors"):
            name = self.out.rpartition("/")[2]
            stem = name.rpartition(".")[0] or name
            raise InvalidRequest(f"{name} doesn't end in .safetensors", f"write it to {stem}.safetensors", "out")


Request: TypeAlias = Generate | Finish | Score | Warm | Pull | Merge | Convert
_Kind: TypeAlias = type[Generate] | type[Finish] | type[Score] | type[Warm] | type[Pull] | type[Merge] | type[Convert]
_KINDS: dict[str, _Kind] = {
    "generate": Generate,
    "finish": Finish,
    "score": Score,
    "warm": Warm,
    "pull": Pull,
    "merge": Merge,
    "convert": Convert,
}


@dataclass(frozen=True, slots=True)
class Job:
    """A request in the queue."""

    id: JobId
    "A number of the store's own; later jobs have higher ones."
    request: Request
    "What was asked."
    group: str | None
    "Jobs that were asked for together share a group."
    created: float
    "Seconds since 1970."
    attempts: int = 0
    "How often an engine went down while it ran."
    kept: tuple[Picture, ...] = ()
    "What an earlier try made of it already, in the order in which it was made."

    @property
    def finishes(self) -> bool:
        """Whether pictures come of it before its end, which an earlier try may have left."""
        return isinstance(self.request, Finish) or (isinstance(self.request, Generate) and bool(self.request.finish))

    @property
    def leaves_nothing(self) -> bool:
        """Whether no file is written for it: a sketch is only looked at, and warming only loads."""
        return isinstance(self.request, Warm) or (isinstance(self.request, Generate) and self.request.sketch)


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where the time of one picture went, in seconds."""

    load: float = 0.0
    "Loading and moving the model; torch's import is part of the first."
    encode: float = 0.0
    "Text encoders."
    denoise: float = 0.0
    "All steps."
    decode: float = 0.0
    "Latents to pixels."
    score: float = 0.0
    "Scoring, if asked."
    save: float = 0.0
    "PNG encoding, fsync and rename."
    finish: float = 0.0
    "The step of finishing that made it, with its own drawing and decoding."
    total: float = 0.0
    "From the start of the job to the file on disk."


@dataclass(frozen=True, slots=True)
class Picture:
    """A file with the request that made it."""

    id: int
    "A number of the store's own."
    path: str
    "Absolute path of the PNG."
    request: Generate
    "The request for this picture alone: its own seed, batch_size 1."
    width: int
    "Pixels of the file."
    height: int
    "Pixels of the file."
    seconds: Seconds
    "Where the time went."
    created: float
    "Seconds since 1970."
    scores: dict[str, float] = field(default_factory=dict)
    "scorer id → score."
    made_with: dict[str, str] = field(default_factory=dict)
    "Versions, device, dtype and hashes that shaped the pixels."
    rating: int | None = None
    "A person's own judgement, 1 … 5, kept apart from the scores."
    peak: int = 0
    "Bytes of memory that its making took at most, without what else was held: the GPU's, or this process's on a CPU."
    " 0 where that is not known."
    parent: int | None = None
    "The id of the picture that this one was made of by the last step of its request's `finish`; None for none."

    def to_json(self) -> dict[str, Any]:
        """The picture as the command line prints it; the field names are a contract.

        Always valid JSON, which has no NaN: a score that is none is left out, another number is null.
        """
        r = self.request
        told = {
            "id": self.id,
            "path": self.path,
            "prompt": r.prompt,
            "negative_prompt": r.negative_prompt,
            "model": r.model,
            "seed": r.seed,
            "width": self.width,
            "height": self.height,
            "num_inference_steps": r.num_inference_steps,
            "guidance_scale": r.guidance_scale,
            "guidance_rescale": r.guidance_rescale,
            "scheduler": r.scheduler,
            "timestep_spacing": r.timestep_spacing,
            "loras": [{"name": x.name, "weight": x.weight} for x in r.loras],
            "vae": r.vae,
            "mix": list(r.mix) or None,
            "overrides": list(r.overrides),
            "variation_seed": r.variation_seed,
            "variation_strength": None if r.variation_seed is None else r.variation_strength,
            "template": r.template or None,
            "negative_template": r.negative_template or None,
            "syntax": r.syntax or None,
            "init": r.init,
            "strength": None if r.init is None else r.strength,
            "finish": [asdict(step) for step in r.finish],
            "parent": self.parent,
            "scores": {k: v for k, v in self.scores.items() if math.isfinite(v)},
            "rating": self.rating,
            "peak_memory": self.peak or None,
            "seconds": {k: round(v, 4) for k, v in asdict(self.seconds).items()},
            "created": _moment(self.created),
            "made_with": dict(self.made_with),
        }
        return {k: _json_value(v) for k, v in told.items()}


def to_json(request: Request) -> str:
    """A request as one line of JSON, its kind beside its fields."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(request, cls))
    return json.dumps({"kind": kind, **asdict(request)}, ensure_ascii=False, sort_keys=True)


def from_json(text: str) -> Request:
    """The request that `to_json` wrote. Fields it doesn't know are dropped.

    Raises:
        InvalidRequest: anything else; also a field of another type, or a number that is not finite. Whether a model
            can be run with it is for `validate` to say.
    """
    try:
        values = json.loads(text)
        kind = _KINDS[values.pop("kind")]
        return _value(kind, _as_drawn(values) if kind is Generate else values)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as e:
        reason = str(e) if isinstance(e, _Unfit) else type(e).__name__
        raise InvalidRequest(f"a stored request can't be read ({reason})") from e


def _as_drawn(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a stored Generate, a blank negative prompt as it was drawn.

    Before there were variations a blank text was drawn like none. What was written then has none of their fields.
    """
    negative = values.get("negative_prompt")
    blank = isinstance(negative, str) and not negative.strip()
    return {**values, "negative_prompt": None} if blank and "variation_seed" not in values else values


class _Unfit(ValueError):
    """A field's value is of another type than the field."""


_Known = TypeVar("_Known", bound=Generate | Finish | Score | Warm | Pull | Merge | Convert | Lora | Step)


def _value(cls: type[_Known], values: dict[str, Any]) -> _Known:
    """A value of one of our classes from a JSON object, every field of the type that its annotation names."""
    annotations = {f.name: str(f.type) for f in fields(cls) if f.init}
    return cls(**{k: _fitting(k, annotations[k], v) for k, v in values.items() if k in annotations})


def _fitting(name: str, annotation: str, value: Any) -> Any:
    """The value as the field has it: lists become tuples, whole numbers floats. Raises _Unfit."""
    if annotation.endswith(" | None"):
        if value is None:
            return None
        annotation = annotation.removesuffix(" | None")
    match annotation:
        case "str" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "int" if type(value) is int:  # True is an int to isinstance
            return value
        case "float" if type(value) in (int, float) and math.isfinite(value):
            return float(value)
        case "Precision" if value in PRECISIONS:
            return value
        case "tuple[Lora, ...]" if isinstance(value, list):
            return tuple(_value(Lora, x) for x in value)
        case "tuple[Step, ...]" if isinstance(value, list):
            return tuple(_value(steps.KINDS[x["kind"]], x) for x in value)
        case "tuple[str, ...]" if isinstance(value, list):
            return tuple(_fitting(name, "str", x) for x in value)
        case "tuple[float, ...]" if isinstance(value, list):
            return tuple(_fitting(name, "float", x) for x in value)
        case _:
            raise _Unfit(f"{name} is no {annotation}")


def taken(path: str, width: int, height: int) -> Generate:
    """What a picture that tells nothing of itself is told to come from: its file as it is.

    Args:
        path: absolute, of the file.
        width, height: its pixels. The request names the nearest size that a request may name; nothing is drawn by it.
    """
    wide, high = (min(max(round(side / 8) * 8, 16), 4096) for side in (width, height))
    return Generate("", "", 0, wide, high, 1, 1.0, init=path, strength=0.0)


def _moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond; a file's time may be any number."""
    from datetime import UTC, datetime

    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        when = datetime.fromtimestamp(0, UTC)
    return when.isoformat(timespec="milliseconds")


def _json_value(value: Any) -> Any:
    """The value without NaN and infinities, which Python's json would write and no other reader takes."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {k: _json_value(v) for k, v in value.items()}
        case list():
            return [_json_value(v) for v in value]
        case _:
            return value


def check_mix(weights: tuple[float, ...]) -> None:
    """Raises InvalidRequest for weights that no mixed model takes; whether this one does is Model.mixed's to say."""
    if len(weights) not in (0, 2, 3):
        raise InvalidRequest(f"a mix of {len(weights)} models can't be made", "two or three weights", "mix")
    for weight in weights:
        check_number("a weight of the mix", weight, -blocks.MOST, blocks.MOST, "mix")


def check_prompt(text: str, field: str) -> None:
    """Raises InvalidRequest for a text longer than MAX_PROMPT characters."""
    if len(text) > MAX_PROMPT:
        name = field.replace("_", " ")
        raise InvalidRequest(
            f"the {name} has {len(text):,} characters; at most {MAX_PROMPT:,} are taken", "shorten it", field
        )


def check_seed(seed: int, field: str = "seed") -> None:
    """Raises InvalidRequest unless 0 ≤ seed ≤ 2^63−1."""
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequest(
            f"{field.replace('_', ' ')} must be 0 to {MAX_SEED}, not {str(seed)[:40]}",
            "leave it out to have one drawn",
            field,
        )


def check_size(width: int, height: int) -> None:
    """Raises InvalidRequest unless both sides are positive multiples of 8 within the caps."""
    for name, side in (("width", width), ("height", height)):
        if side < 16 or side > MAX_SIDE or side % 8:
            near = min(max(round(min(side, MAX_SIDE) / 8) * 8, 16), MAX_SIDE)
            raise InvalidRequest(
                f"{name} must be a multiple of 8 from 16 to {MAX_SIDE} pixels, not {side}", f"try {near}", "size"
            )
    if width * height > MAX_PIXELS:
        raise InvalidRequest(
            f"{width}x{height} is {width * height / 1e6:.1f} megapixels; at most {MAX_PIXELS / 1e6:.1f} are made",
            "make it smaller and upscale the picture",
            "size",
        )
