"""The draft: the form as it stands, as text, and what it means as requests.

The command line and the workbench both fill in a Draft; a field left empty is the model's recipe. What was typed is
kept as it was typed, also when it is wrong, so that nothing is lost.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engines import folders, schedulers, tokens, variants
from engines.catalogue import Catalogue
from engines.entries import Adapter, Model, Recipe, Vae
from engines.errors import CatalogueError, InvalidRequest, LoadError
from engines.limits import MAX_STEPS
from engines.prompt import LoraUse, clean, parse
from engines.requests import (
    MAX_COUNT,
    MAX_PROMPT,
    MAX_SEED,
    Generate,
    Lora,
    check_prompt,
    check_seed,
)
from engines.variants import Wildcards
from tui import fields, finishes, shares, texts

STRENGTH = 0.5
"How much of a picture to begin with is drawn anew, where nothing else is said."


@dataclass(frozen=True, slots=True)
class Draft:
    """What is typed into the form; every field is text, and empty means "as the model's recipe says"."""

    prompt: str = ""
    "In compel's weighting syntax."
    negative_prompt: str = ""
    "Without words it is what `blank_negative` says."
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
    vae: str = ""
    "A VAE's id; empty is the model's own."
    override: str = ""
    "'yes' runs what the model's recipe rules out."
    variation_seed: str = ""
    "Empty is a new one each time if there is a strength, and none if there is not."
    variation_strength: str = ""
    "0 to 1; empty is 0."
    blank_negative: str = ""
    "What a negative prompt without words is: 'empty' for the encoded empty text; 'zeros', or empty, for SDXL's zeros."
    syntax: str = ""
    "The dialect of both prompts: compel, or a1111 to have them translated; empty is compel's, with a note if in doubt."
    mix: str = ""
    "The ratio of a mixed model as `tui.shares` reads it: 0.7, or 0.5,0.3,0.2; empty is the catalogue's."
    init: str = ""
    "A picture file to begin with; empty for none."
    strength: str = ""
    "0 to 1, how much of it is drawn anew; empty is STRENGTH."
    finish: str = ""
    "Steps of finishing as `tui.finishes` reads them; empty for none."

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
        known = {f.name for f in dataclasses.fields(cls)} - {"loras"}
        texts = {k: v for k, v in values.items() if k in known and isinstance(v, str)}
        loras = values.get("loras")
        kept = tuple(x for x in loras if isinstance(x, str)) if isinstance(loras, list) else ()
        return cls(**texts, loras=kept)

    @classmethod
    def from_request(cls, request: Generate, keep: Draft | None = None) -> Draft:
        """The form that asks for this request again, number for number; count, batch and scoring are `keep`'s.

        What a form has no field for is not in it: clip skip, and the timestep spacing, which is the model's recipe's.
        A prompt that was drawn from variants is given back as it was typed; LoRAs that it names are left to it.
        """
        keep = keep or cls()
        named = {use.name for use in parse(request.prompt).loras}
        return cls(
            prompt=request.template or request.prompt,
            negative_prompt=request.negative_template or request.negative_prompt or "",
            model=request.model,
            steps=str(request.num_inference_steps),
            guidance=fields.exact(request.guidance_scale),
            rescale=fields.exact(request.guidance_rescale),
            scheduler=request.scheduler,
            size=f"{request.width}x{request.height}",
            seed=str(request.seed),
            count=keep.count,
            batch=keep.batch,
            precision="" if request.precision == "auto" else request.precision,
            score=keep.score,
            loras=tuple(f"{x.name}:{fields.exact(x.weight)}" for x in request.loras if x.name not in named),
            vae=request.vae or "",
            override="yes" if request.overrides else "",
            variation_seed="" if request.variation_seed is None else str(request.variation_seed),
            variation_strength="" if request.variation_seed is None else fields.exact(request.variation_strength),
            blank_negative=_blank(request.negative_prompt, keep.blank_negative),
            syntax=request.syntax,
            mix=shares.text(request.mix),
            init=request.init or "",
            strength="" if request.init is None else fields.exact(request.strength),
            finish=finishes.text(request.finish),
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
    drawn_variation: bool = False
    "So was the variation seed."
    translations: tuple[str, ...] = ()
    "Those of the notes that tell what another dialect becomes."


def read(draft: Draft, catalogue: Catalogue, look: bool = True, wildcards: Path | None = None) -> Asked:
    """The requests that a draft asks for.

    Args:
        draft: what was typed.
        catalogue: what names mean.
        look: whether to look on the disk for what is named. Without, nothing is read from there, as befits a form at
            every key; the requests are then good for their notes only, and a draft without a model is refused.
        wildcards: the folder of the files that variants may name; None is the one in the config folder, and none where
            nothing is looked for.

    Raises:
        InvalidRequest: a field can't be used; `field` names it as Draft does.
        SafelightError: the model is not on this machine.
    """
    model = _model(draft.model.strip(), catalogue, look)
    recipe = model.recipe
    check_prompt(draft.prompt, "prompt")
    check_prompt(draft.negative_prompt, "negative_prompt")
    begins = _init(draft.init, look)
    width, height = fields.size(_shape(begins) if begins and look and not draft.size.strip() else draft.size, recipe)
    count = fields.whole("count", draft.count, 1, MAX_COUNT, 1)
    batch = min(fields.whole("batch", draft.batch, 1, 64, 1), count)
    syntax = texts.syntax(draft.syntax)
    drawn = not draft.seed.strip()
    # what is only looked at shows the same example of its variants at every key
    seed = fields.seed(draft.seed) if look or not drawn else 0
    check_seed(seed)
    if seed + count - 1 > MAX_SEED:
        raise InvalidRequest(f"seed {seed} leaves no room for {count} pictures", "take a smaller seed", "seed")
    varied, strength, drawn_variation = _variation(draft, count)
    chosen = schedulers.find(draft.scheduler if draft.scheduler.strip() else recipe.scheduler)
    steps = fields.whole("steps", draft.steps, 1, MAX_STEPS, recipe.num_inference_steps)
    if steps > chosen.max_steps:
        raise InvalidRequest(
            f"steps must be 1 to {chosen.max_steps} with {chosen.name}, not {steps}",
            "take fewer, or another scheduler",
            "steps",
        )
    if reason := schedulers.refusal(chosen, recipe.prediction_type, bool(recipe.rescale_betas_zero_snr)):
        raise InvalidRequest(reason, f"leave the scheduler out for {recipe.scheduler}", "scheduler")
    overrides = _overrides(model, steps, chosen, draft.override.strip().lower() == "yes")
    typed = clean(draft.prompt)
    cards = None
    if (look or wildcards is not None) and variants.names(typed):
        cards = Wildcards(wildcards or folders.find().wildcards)
    text = texts.read(typed, syntax, seed, cards)
    negative = texts.read(clean(draft.negative_prompt), syntax)
    expanded = text.expansion is not None
    stack = _loras(draft.loras, model, catalogue, look)
    one = Generate(
        prompt=text.prompt,
        negative_prompt=_negative(negative.prompt, draft.blank_negative),
        model=model.id,
        seed=seed,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=fields.number("guidance", draft.guidance, 0, 100, recipe.guidance_scale),
        guidance_rescale=fields.number("rescale", draft.rescale, 0, 1, recipe.guidance_rescale),
        scheduler=chosen.name,
        timestep_spacing=recipe.timestep_spacing if chosen.spacing else None,
        loras=_with_loras(stack, text.prompt, model, catalogue, look),
        precision=fields.precision(draft.precision),
        score=_scorer(draft.score, catalogue) if look else None,
        batch_size=batch,
        vae=_vae(draft.vae.strip(), model, catalogue, look),
        overrides=overrides,
        variation_seed=varied,
        variation_strength=strength,
        template=typed if expanded else "",
        negative_template=negative.typed if expanded and negative.translation else "",
        syntax=syntax if expanded else "",
        mix=shares.read(draft.mix, model),
        init=begins,
        strength=fields.number("strength", draft.strength, 0, 1, STRENGTH) if begins else 1.0,
        finish=finishes.read(draft.finish, catalogue, look),
    )
    prompts = [text.prompt] * count
    if expanded and look:  # every picture draws from its own seed
        prompts[1:] = [texts.read(typed, syntax, seed + i, cards).prompt for i in range(1, count)]
    stacks = {prompt: _with_loras(stack, prompt, model, catalogue, look) for prompt in dict.fromkeys(prompts)}
    requests = tuple(
        replace(one.single(first), batch_size=many, prompt=prompts[first], loras=stacks[prompts[first]])
        for first, many in _runs(prompts, batch)
    )
    for request in requests:
        request.validate()
    doubts = texts.listed(texts.doubts(text), "prompt")
    becomes = texts.told(text, "prompt", certain=look or not drawn)
    becomes_negative = texts.told(negative, "negative prompt")
    notes = [
        *texts.notes(text, "prompt"),
        *texts.notes(negative, "negative prompt"),
        *_notes(one, model),
        *(["a strength does nothing without a picture to begin with"] * bool(draft.strength.strip() and not begins)),
        *finishes.idle(one.finish, catalogue),
        *finishes.beyond(one.finish, (width, height), model),
        *_lora_notes(stack, text.prompt, negative.prompt),
        *(doubts or texts.listed(texts.doubts(negative), "negative prompt")),
        *becomes,
        *becomes_negative,
    ]
    if not look:  # while something is typed; later the engine tells
        names = {e.id.lower() for e in catalogue.embeddings.values() if e.family == model.family}
        for name in tokens.unknown(parse(text.prompt), dict.fromkeys(names)):
            notes.append(f"prompt: no embedding for {model.id} is called '{name}'; it is read as words")
    if variants.find(negative.typed):
        notes.append("negative prompt: variants are drawn in the prompt only; here they are text")
    translations = (*(becomes if text.translation else ()), *becomes_negative)
    return Asked(requests, tuple(notes), drawn, drawn_variation, translations)


def _init(text: str, look: bool) -> str | None:
    """The absolute path of the picture to begin with, or None. Raises InvalidRequest if it is not there."""
    if not text.strip():
        return None
    path = Path(text.strip()).expanduser().absolute()
    if look and not path.is_file():
        raise InvalidRequest(f"{path} is no file", "name a picture file to begin with", "init")
    return str(path)


def _shape(path: str) -> str:
    """The aspect of a picture file, as a size is typed. Raises InvalidRequest if it is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # the orientation tag's quarter turns
            width, height = image.size
    except (OSError, SyntaxError, ValueError) as e:
        raise InvalidRequest(f"{path} can't be read as a picture", "PNG, JPEG and WebP files can", "init") from e
    return f"{height}:{width}" if turned else f"{width}:{height}"


def _runs(prompts: list[str], batch: int) -> Iterator[tuple[int, int]]:
    """(the first picture, how many) of each run of the denoiser: at most `batch`, and of one text."""
    first = 0
    while first < len(prompts):
        end = first + 1
        while end < min(first + batch, len(prompts)) and prompts[end] == prompts[first]:
            end += 1
        yield first, end - first
        first = end


def lora_names(draft: Draft) -> tuple[str, ...]:
    """The LoRAs that a draft's prompt may come to name, for whoever fetches what is missing."""
    try:
        return texts.lora_names(clean(draft.prompt), texts.syntax(draft.syntax))
    except InvalidRequest:
        return ()  # told where the draft is read


def embedding_names(draft: Draft, catalogue: Catalogue) -> tuple[str, ...]:
    """The embeddings of the model's family that a draft's prompts name, whether they are here or not."""
    try:
        model = catalogue.model(draft.model.strip()) if draft.model.strip() else catalogue.default_model()
    except CatalogueError:
        return ()  # told where the draft is read
    own = {e.id.lower(): e.id for e in catalogue.embeddings.values() if e.family == model.family}
    if not own:
        return ()
    typed = (clean(text) for text in (draft.prompt, draft.negative_prompt) if len(text) <= MAX_PROMPT)
    return tuple(dict.fromkeys(own[name] for text in typed for name in tokens.named(parse(text), own)))


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
        "guidance": fields.exact(recipe.guidance_scale),
        "rescale": fields.exact(recipe.guidance_rescale),
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
    notes += misread(request.prompt, "prompt as drawn" if request.template else "prompt")
    notes += misread(request.negative_prompt or "", "negative prompt")
    if unused := inactive(request.guidance_scale, bool(request.negative_prompt), request.guidance_rescale):
        notes.append(unused)
    if request.init is not None and 0 < request.num_inference_steps * request.strength < 1:
        acts = 1 / request.num_inference_steps
        notes.append(
            f"one step at least is run: of {_steps(request.num_inference_steps)}, that is a strength of {acts:g}"
        )
    if request.overrides:
        notes.append(f"against {model.id}'s recipe, as asked: {_told(request)}")
    notes += _beyond(request, model)
    if recipe.fixed_steps and request.guidance_scale > 2:
        notes.append(f"{model.id} was distilled without guidance; {request.guidance_scale:g} burns its colours")
    if (
        request.scheduler != recipe.scheduler
        and recipe.timestep_spacing == "trailing"  # what isn't distilled draws well at any timesteps
        and not schedulers.find(request.scheduler).spacing
    ):
        notes.append(
            f"{request.scheduler} spaces its steps itself; {model.id}'s recipe wants {recipe.timestep_spacing} spacing"
        )
    if (request.width, request.height) not in recipe.sizes:
        notes.append(f"{model.id} was not made for {request.width}x{request.height}; {fields.offered(recipe)}")
    return notes


def misread(text: str, what: str, most: int = 2) -> list[str]:
    """What in a prompt is not what it may seem, a line each, the first `most` and how many more there are."""
    return texts.listed(parse(text).problems, what, most)


def _negative(text: str, blank: str) -> str | None:
    """The negative prompt of a request: the text, or what a blank one is."""
    if parse(text).plain.strip():
        return text
    return "" if blank.strip().lower() == "empty" else None


def _blank(negative: str | None, kept: str) -> str:
    """What makes a blank field this negative prompt again; a prompt with words leaves it as it was kept."""
    if negative is None:
        return "zeros"
    return kept if negative.strip() else "empty"


def _variation(draft: Draft, count: int) -> tuple[int | None, float, bool]:
    """(variation seed, variation strength, whether the seed was drawn at random); (None, 0, False) for none."""
    strength = fields.number("variation_strength", draft.variation_strength, 0, 1, 0.0)
    drawn = not draft.variation_seed.strip()
    if drawn and strength == 0:
        return None, 0.0, False
    if not draft.variation_strength.strip():
        raise InvalidRequest(
            "a variation seed without a variation strength does nothing",
            "a strength is 0 to 1, for instance 0.1",
            "variation_strength",
        )
    seed = secrets.randbelow(2**32) if drawn else fields.whole("variation_seed", draft.variation_seed, 0, MAX_SEED, 0)
    if seed + count - 1 > MAX_SEED:
        raise InvalidRequest(
            f"variation seed {seed} leaves no room for {count} pictures", "take a smaller one", "variation_seed"
        )
    return seed, strength, drawn


def _beyond(request: Generate, model: Model) -> list[str]:
    """What leaves the ranges that the model's makers name."""
    asked = (
        ("steps", request.num_inference_steps, model.recipe.steps_range),
        ("guidance", request.guidance_scale, model.recipe.guidance_range),
    )
    return [
        f"{model.id}'s makers name {what} {limits[0]:g} to {limits[1]:g}; {value:g} asked"
        for what, value, limits in asked
        if limits is not None and not limits[0] <= value <= limits[1]
    ]


def _overrides(model: Model, steps: int, chosen: schedulers.Scheduler, allowed: bool) -> tuple[str, ...]:
    """The fields that go against what the recipe fixes. Raises InvalidRequest unless that is allowed."""
    recipe = model.recipe
    against = []
    if recipe.fixed_steps and steps != recipe.num_inference_steps:
        wanted = recipe.num_inference_steps
        if not allowed:
            raise InvalidRequest(
                f"{model.id} was distilled for exactly {_steps(wanted)}: {steps} would give a blurred or burnt picture",
                f"leave steps out for {wanted}, or override the recipe knowingly (--override)",
                "steps",
            )
        against.append("num_inference_steps")
    if recipe.fixed_steps and chosen.name != recipe.scheduler:
        if not allowed:
            raise InvalidRequest(
                f"{model.id} was distilled for the timesteps of {recipe.scheduler}: {chosen.name} takes others",
                f"leave the scheduler out for {recipe.scheduler}, or override the recipe knowingly (--override)",
                "scheduler",
            )
        against.append("scheduler")
    return tuple(against)


def _told(request: Generate) -> str:
    values = {"num_inference_steps": _steps(request.num_inference_steps), "scheduler": request.scheduler}
    return ", ".join(values[name] for name in request.overrides)


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def _vae(id: str, model: Model, catalogue: Catalogue, look: bool) -> str | None:
    if not id:
        return None
    try:
        vae = catalogue.vae(id)
    except CatalogueError as e:
        raise CatalogueError(e.message, e.hint, "vae") from None
    if vae.latents != model.space:
        raise CatalogueError(
            f"VAE {id} decodes the latents of {vae.latents}; {model.id} draws those of {model.space}",
            "leave the VAE out for the model's own",
            "vae",
        )
    if look and catalogue.missing(vae):
        raise _not_here(f"VAE {id}", vae, catalogue)
    return vae.id


def _model(id: str, catalogue: Catalogue, look: bool) -> Model:
    if id:
        return catalogue.require(id) if look else catalogue.model(id)
    if not look:
        raise InvalidRequest("no model is named", "name one", "model")
    return catalogue.default_model()


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


def _with_loras(
    stack: tuple[Lora, ...], prompt: str, model: Model, catalogue: Catalogue, look: bool
) -> tuple[Lora, ...]:
    """The stack, without what the prompt names as well, and what the prompt names."""
    if not (named := _named(prompt)):
        return stack
    try:
        found = [_lora(f"{use.name}:{fields.exact(use.weight)}", model, catalogue, look) for use in named.values()]
    except InvalidRequest as e:
        raise type(e)(e.message, e.hint, "prompt") from None
    return (*(lora for lora in stack if lora.name not in named), *found)


def _named(prompt: str) -> dict[str, LoraUse]:
    """The LoRAs that a prompt names, each with what it says of it last."""
    return {use.name: use for use in parse(prompt).loras} if "Lora" in prompt else {}


def _lora_notes(stack: tuple[Lora, ...], prompt: str, negative: str) -> list[str]:
    """Which of several weights of a LoRA counts, and where none does."""
    named = _named(prompt)
    notes = [
        f"LoRA {lora.name} is in the prompt, too; the prompt's {named[lora.name].weight:g} counts"
        for lora in stack
        if lora.name in named
    ]
    if named and len(named) < len(parse(prompt).loras):
        notes.append("a LoRA is named twice in the prompt; what is said of it last counts")
    notes += [f"negative prompt: withLora({name}) is not applied here, only in the prompt" for name in _named(negative)]
    return notes


def _not_here(what: str, entry: Adapter | Vae, catalogue: Catalogue) -> LoadError:
    """That an entry's file is missing, and whether it can be fetched."""
    told = f"{what} is not on this machine"
    if catalogue.can_be_had(entry):
        return LoadError(told, f"safelight models pull {entry.id} fetches it")
    return LoadError(f"{told}: {catalogue.missing(entry)[0]} is missing", "put it there, or mend models.toml")


def _loras(texts: tuple[str, ...], model: Model, catalogue: Catalogue, look: bool) -> tuple[Lora, ...]:
    """The LoRAs that are named, each once: of two weights nobody can say which is meant."""
    loras = tuple(_lora(text, model, catalogue, look) for text in texts)
    names = [lora.name for lora in loras]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InvalidRequest(f"LoRA {twice} is named twice", "name it once, with one weight", "loras")
    return loras


def _lora(text: str, model: Model, catalogue: Catalogue, look: bool) -> Lora:
    name, colon, weight = text.strip().partition(":")
    adapter = catalogue.adapter(name)
    if colon and not weight.strip():
        raise InvalidRequest(f"LoRA {name} has a colon and no weight behind it", "for instance :0.8", "loras")
    if adapter.family != model.family:
        raise CatalogueError(
            f"LoRA {name} is for the {adapter.family} family; {model.id} is {model.family}",
            "pick a LoRA or a model of the same family",
            "loras",
        )
    if look and catalogue.missing(adapter):
        raise _not_here(f"LoRA {name}", adapter, catalogue)
    try:
        return Lora(name, fields.number("loras", weight, -10, 10, 1.0))
    except InvalidRequest as e:
        told = e.message.removeprefix("loras")
        raise InvalidRequest(f"the weight of LoRA {name}{told}", "-10 to 10; 1 is as trained", "loras") from None
