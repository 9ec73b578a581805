"""Pictures, models and jobs as line mode tells them: one line a fact, in the words of the form."""

from __future__ import annotations

from collections.abc import Sequence

from engines import schedulers
from engines.catalogue import Catalogue
from engines.entries import Adapter, Entry, Model, Scorer, Upscaler, Vae
from engines.events import Event, Finishing, Loading, Pulling, Stepped
from engines.requests import Finish, Generate, Picture, Pull, Request
from tui import finishes, shares, shelf, wording
from tui.clean import one_line
from tui.fields import exact

SHORT = 60
"Characters of a prompt where it is one fact of many."


def made(picture: Picture) -> str:
    """'made 12, a red apple, seed 7, score 61.9, 1.2 s'."""
    r = picture.request
    what = [one_line(r.prompt, SHORT) or "no prompt", f"seed {r.seed}"]
    if r.finish:
        of = [f"from {picture.parent}"] if picture.parent is not None else []
        what = [*of, r.finish[-1].told, f"{picture.width}x{picture.height}"]
    return ", ".join([f"made {picture.id}", *what, *_scores(picture), wording.duration(picture.seconds.total)])


def row(picture: Picture, now: float) -> str:
    """'12, 5 min ago, a red apple, mini, seed 7, 256x256, score 61.9, rated 4'."""
    r = picture.request
    told = [str(picture.id), wording.ago(picture.created, now), one_line(r.prompt, SHORT) or "no prompt"]
    told += [r.model or "no model", f"seed {r.seed}", f"{picture.width}x{picture.height}"]
    told += [r.finish[-1].told] if r.finish else []
    told += _scores(picture)
    told += [f"rated {picture.rating}"] if picture.rating else []
    return ", ".join(told)


def facts(picture: Picture, now: float) -> list[str]:
    """Everything worth hearing of one picture but its path."""
    r = picture.request
    told = [f"picture: {picture.id}", f"made: {wording.ago(picture.created, now)}"]
    told += [f"prompt: {r.prompt or '(empty)'}"]
    told += [f"typed as: {r.template}"] if r.template else []
    if r.negative_prompt is not None:
        told.append(f"negative: {r.negative_prompt or '(the encoded empty text)'}")
    told.append(f"model: {r.model or 'none, it is a file as it was'}")
    told += [f"mix: {shares.told(r.mix)}"] if r.mix else []
    told += [f"loras: {', '.join(f'{x.name} at {exact(x.weight)}' for x in r.loras)}"] if r.loras else []
    told += [f"steps: {r.num_inference_steps}", f"guidance: {exact(r.guidance_scale)}"]
    told += [f"rescale: {exact(r.guidance_rescale)}"] if r.guidance_rescale else []
    told += [f"scheduler: {r.scheduler}", f"seed: {r.seed}"]
    if r.variation_strength:
        told.append(f"variation: {exact(r.variation_strength)} of the way to seed {r.variation_seed}")
    told += [f"vae: {r.vae}"] if r.vae else []
    told += [f"begins with: {r.init}, strength {exact(r.strength)}"] if r.init else []
    told += [f"finish: {finishes.text(r.finish)}"] if r.finish else []
    told += [f"made of: {picture.parent}"] if picture.parent is not None else []
    told += [f"size: {picture.width}x{picture.height}"]
    told += [f"score: {value:.4g} by {scorer}" for scorer, value in picture.scores.items()]
    told += [f"rated: {picture.rating}"] if picture.rating else []
    return [*told, f"took: {wording.duration(picture.seconds.total)}"]


def _scores(picture: Picture) -> list[str]:
    named = len(picture.scores) > 1
    return [f"score {value:.4g}{f' by {scorer}' if named else ''}" for scorer, value in picture.scores.items()]


# ── the catalogue ───────────────────────────────────────────────────────────────────────────────────────────────────


def model(entry: Model, catalogue: Catalogue) -> str:
    """'mini, here, Mini, 25 steps, guidance 4.5, 256x256'."""
    r = entry.recipe
    steps = wording.plural(r.num_inference_steps, "step") + (" exactly" if r.fixed_steps else "")
    return ", ".join([_entry(entry, catalogue), steps, f"guidance {r.guidance_scale:g}", "{}x{}".format(*r.size)])


def models(catalogue: Catalogue, chosen: str) -> list[str]:
    """All models, a line each; the form's says so."""
    entries = catalogue.models.values()
    return [model(e, catalogue) + (", in the form" if e.id == chosen else "") for e in entries]


def kinds(catalogue: Catalogue, chosen: str) -> dict[str, list[str]]:
    """What else can be named in the form: word → lines. LoRAs and VAEs are those that fit the form's model."""
    known = catalogue.models.get(chosen)
    loras = [a for a in catalogue.adapters.values() if known is None or a.family == known.family]
    words = [e for e in catalogue.embeddings.values() if known is None or e.family == known.family]
    vaes = [v for v in catalogue.vaes.values() if known is None or v.latents == known.space]
    several: dict[str, Sequence[Entry]] = {
        "loras": loras,
        "embeddings": words,
        "vaes": vaes,
        "scorers": list(catalogue.scorers.values()),
        "upscalers": list(catalogue.upscalers.values()),
        "faces": list(catalogue.face_restorers.values()),
    }
    told = {word: [_entry(entry, catalogue) for entry in entries] for word, entries in several.items()}
    return told | {"schedulers": [f"{s.name}, {s.title}, {s.good_for}" for s in schedulers.TABLE]}


def _entry(entry: Entry, catalogue: Catalogue) -> str:
    here = shelf.here(catalogue, entry)
    place = {"yes": "here", "no": "not here"}.get(here, f"not here, {here}")
    told = [entry.id, place, getattr(entry, "title", "")]
    match entry:
        case Adapter(words=words) if words:
            told.append(f"words: {words}")
        case Upscaler(scale=scale):
            told.append(f"x{scale:g}")
        case Scorer(kind=kind):
            told.append(kind)
        case Vae():
            pass
    return ", ".join(filter(None, told))


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(request: Request) -> str:
    """What a request is, short."""
    match request:
        case Generate(prompt=prompt):
            return f"{one_line(prompt, SHORT) or 'no prompt'}, {request.model}, seed {request.seed}"
        case Finish(picture=path, finish=steps):
            return f"{steps[0].told}, {path.rpartition('/')[2]}"
        case Pull(id=id):
            return f"fetching {id}"
        case _:
            return f"getting {getattr(request, 'model', 'it')} ready"


def going(event: Event, pictures_left: int) -> str:
    """How a job stands after an event, in words; empty where it tells nothing.

    Args:
        event: of the job.
        pictures_left: that come after this one; what they take is guessed from its pace.
    """
    match event:
        case Stepped(step=step, of=of, seconds=seconds):
            left = (of - step) * seconds + pictures_left * of * seconds
            return f"step {step} of {of}" + (f", {wording.duration(left)} left" if left >= 3 else "")
        case Loading(what=what, fraction=fraction):
            return f"loading {what}{_percent(fraction)}"
        case Finishing(what=what, fraction=fraction):
            return f"{what}{_percent(fraction)}"
        case Pulling(done=done, of=of, rate=rate):
            told = [f"{wording.bytes_(done)} of {wording.bytes_(of)}"]
            told += [f"{wording.bytes_(rate)} a second", f"{wording.duration((of - done) / rate)} left"] * (rate > 0)
            return ", ".join(told)
        case _:
            return ""


def _percent(fraction: float | None) -> str:
    return "" if not fraction else f", {fraction:.0%}"
