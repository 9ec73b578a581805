"""The command `safelight generate`, as typer reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidRequest, SafelightError
from tui import making
from tui import session as sessions
from tui.arguments import Debug, Device, Json, ModelId, Syntax, Threads, Yes, typed

if TYPE_CHECKING:
    from engines.entries import Entry
    from engines.requests import Picture, Request
    from tui.draft import Asked, Draft
    from tui.series import Field
    from tui.session import Session

SERIES = ("--guidance-series", "--rescale-series")
STEPS = ("--upscale", "--restore-faces", "--hires")
VALUE_OPTIONAL = (*SERIES, *STEPS)
"Options whose value may be left out, which typer has no word for."


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw; '-' reads it from stdin.")],
    negative: Annotated[
        str | None,
        typer.Option("-n", "--negative", metavar="TEXT", help="What to stay away from; '' is the encoded empty text."),
    ] = None,
    model: ModelId = "",
    lora: Annotated[
        list[str], typer.Option("--lora", metavar="NAME[:WEIGHT]", help="Add a LoRA; may be repeated.")
    ] = [],  # noqa: B006
    steps: Annotated[str, typer.Option("--steps", metavar="N", help="num_inference_steps.")] = "",
    guidance: Annotated[str, typer.Option("--guidance", metavar="X", help="guidance_scale; acts above 1.")] = "",
    rescale: Annotated[str, typer.Option("--guidance-rescale", metavar="X", help="0 to 1.")] = "",
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="NAME", help="Instead of the model's own; 'list' shows all.")
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Pixels, multiples of 8.")] = "",
    aspect: Annotated[
        str, typer.Option("--aspect", metavar="W:H", help="The model's trained size nearest to it.")
    ] = "",
    seed: Annotated[str, typer.Option("--seed", metavar="N", help="0 to 2^63-1; drawn at random if not given.")] = "",
    count: Annotated[str, typer.Option("--count", metavar="N", help="Pictures, with seeds N, N+1, …")] = "",
    batch: Annotated[str, typer.Option("--batch-size", metavar="N", help="Pictures drawn together.")] = "",
    score: Annotated[
        bool, typer.Option("--score", help="Score every picture with the best scorer that is here.")
    ] = False,
    scorer: Annotated[str, typer.Option("--scorer", metavar="ID", help="Score every picture with this one.")] = "",
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="auto, fp16, bf16, fp32 or fp8.")] = "",
    vae: Annotated[str, typer.Option("--vae", metavar="ID", help="Decode with this VAE instead of the model's.")] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Run what the model's recipe rules out; it is kept with the picture.")
    ] = False,
    variation_seed: Annotated[
        str, typer.Option("--variation-seed", metavar="N", help="Whose noise to go towards; drawn if not given.")
    ] = "",
    variation_strength: Annotated[
        str, typer.Option("--variation-strength", metavar="X", help="How far: 0 not at all, 1 all the way.")
    ] = "",
    mix: Annotated[
        str,
        typer.Option("--mix", metavar="X[,Y,…]", help="A mixed model's ratio: the second's share, or a weight each."),
    ] = "",
    best: Annotated[
        str,
        typer.Option("--best", metavar="K", help="Draft --count seeds by the quickest model, and finish the best K."),
    ] = "",
    guidance_series: Annotated[
        str | None,
        typer.Option(
            SERIES[0], metavar="[X,Y,…]", help="A picture for each guidance, of one seed; without numbers, of five."
        ),
    ] = None,
    rescale_series: Annotated[
        str | None, typer.Option(SERIES[1], metavar="[X,Y,…]", help="The same for the guidance rescale.")
    ] = None,
    syntax: Syntax = "",
    init: Annotated[
        str, typer.Option("--init", metavar="FILE", help="A picture to begin with instead of noise alone.")
    ] = "",
    strength: Annotated[
        str, typer.Option("--strength", metavar="X", help="How much of it is drawn anew: 0 nothing, 1 all; 0.5 if not.")
    ] = "",
    hires: Annotated[
        str | None,
        typer.Option(STEPS[2], metavar="['[ID] [xN] [X]']", help="Enlarge it, and draw over that at a strength."),
    ] = None,
    faces: Annotated[
        str | None, typer.Option(STEPS[1], metavar="['[ID] [X]']", help="Draw its faces anew, at a strength.")
    ] = None,
    upscale: Annotated[
        str | None, typer.Option(STEPS[0], metavar="['[ID] [xN]']", help="Enlarge the finished picture.")
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the pictures are saved.")] = "",
    yes: Yes = False,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Make pictures."""
    from dataclasses import replace

    from tui import draft

    if size and aspect:
        raise InvalidRequest("--size and --aspect can't both be given", "leave one of them out")
    if aspect and ":" not in aspect:
        raise InvalidRequest(
            f"aspect must be two numbers such as 3:2, not '{aspect[:40]}'", "for instance --aspect 3:2"
        )
    if scheduler is not None and not scheduler.strip():
        raise InvalidRequest("--scheduler has no name behind it", "leave it out for the model's own; 'list' shows all")
    scheduler = scheduler or ""
    if scheduler.strip().lower() in ("list", "help", "?"):
        from tui import listing

        listing.list_schedulers(json)
        return 0
    series = _series(guidance_series, rescale_series, bool(guidance), bool(rescale), bool(count or batch))
    session = sessions.begin(debug, device, threads)
    making.say(session.notices)
    form = draft.Draft(
        prompt=typed(prompt),
        negative_prompt=negative or "",
        model=model or session.settings.model,
        steps=steps,
        guidance=guidance,
        rescale=rescale,
        scheduler=scheduler,
        size=aspect or size,
        seed=seed,
        count=count,
        batch=batch,
        precision=precision or session.settings.precision,
        score=scorer or ("yes" if score else ""),
        loras=tuple(lora),
        vae=vae,
        override="yes" if override else "",
        syntax=syntax,
        variation_seed=variation_seed,
        variation_strength=variation_strength,
        mix=mix,
        # a text that is given and empty is meant
        blank_negative=session.settings.blank_negative if negative is None else "empty",
        init=init,
        strength=strength,
        finish=_steps(hires, faces, upscale),
    )
    form, left_out = _fetch_missing(session, form, lora, vae, yes)
    asked = draft.read(form, session.catalogue, wildcards=session.folders.wildcards)
    if series is not None:
        asked = _spread(form, asked, *series, session)
    folder = Path(out).expanduser().absolute() if out else session.pictures
    making.check_folder(session, folder, bool(out))
    requests = [replace(request, folder=str(folder)) for request in asked.requests]
    if best:
        from tui import drafting

        plan = drafting.best(best, form, requests, session.catalogue)
        making.say([*asked.notes, *plan.notes])
        drafts = [replace(request, folder=str(folder)) for request in plan.drafts]

        def finals(pictures: Sequence[Picture]) -> Sequence[Request]:
            making.say([doubt] if (doubt := plan.doubt(pictures)) else [])
            return plan.finish(pictures)

        return making.follow(session, drafts, json, finals) or left_out
    making.say(asked.notes)
    making.say([f"seed {requests[0].seed}, drawn at random"] * asked.drawn)
    making.say([f"variation seed {requests[0].variation_seed}, drawn at random"] * asked.drawn_variation)
    return making.follow(session, requests, json) or left_out


def _steps(hires: str | None, faces: str | None, upscale: str | None) -> str:
    """Steps of finishing, in the order that makes sense: faces are mended where they are large, and kept so."""
    given = (("hires", hires), ("faces", faces), ("upscale", upscale))
    for name, text in given:
        if text is not None and "," in text:
            raise InvalidRequest(f"--{name} takes one step, and commas part steps", "x2 0.4, for instance, without one")
    return ", ".join(f"{name} {'' if text == 'auto' else text}" for name, text in given if text is not None)


def _series(
    guidance: str | None, rescale: str | None, with_guidance: bool, with_rescale: bool, with_count: bool
) -> tuple[Field, str] | None:
    """(field, its values as typed or 'auto') of the series that was asked for, if one was. Raises InvalidRequest."""
    if guidance is not None and rescale is not None:
        raise InvalidRequest(f"{SERIES[0]} and {SERIES[1]} can't both be given", "one after the other, at one --seed")
    if guidance is None and rescale is None:
        return None
    first = guidance is not None
    option, alone = (SERIES[0], "--guidance") if first else (SERIES[1], "--guidance-rescale")
    if with_guidance if first else with_rescale:
        raise InvalidRequest(f"{option} and {alone} can't both be given", "leave one of them out")
    if with_count:
        raise InvalidRequest(f"{option} makes one picture for each value", "leave --count and --batch-size out")
    return ("guidance", guidance) if guidance is not None else ("rescale", rescale or "")


def _spread(form: Draft, asked: Asked, field: Field, text: str, session: Session) -> Asked:
    """What a series of a form asks for; `asked` is what the form alone does."""
    from dataclasses import replace

    from tui import draft, series

    recipe = session.catalogue.model(asked.requests[0].model).recipe
    values = series.default_values(form, recipe, field) if text == "auto" else series.numbers(field, text)
    each = [draft.read(one, session.catalogue) for one in series.spread(series.seeded(form, asked), field, values)]
    notes = dict.fromkeys(note for one in each for note in one.notes)
    return replace(asked, requests=tuple(request for one in each for request in one.requests), notes=tuple(notes))


def _fetch_missing(session: Session, form: Draft, loras: Sequence[str], vae: str, yes: bool) -> tuple[Draft, int]:
    """Asks to fetch what a request names and isn't here; names that nothing has are told where the request is read.

    Returns:
        The form without the steps of finishing that can't be fetched, and 1 if there are such: a step that can't be
        done costs its own result, and no picture.
    """
    from dataclasses import replace

    from tui import draft, finishes, stocking

    catalogue = session.catalogue
    named: list[Entry | None] = [catalogue.models.get(form.model), catalogue.vaes.get(vae)]
    model = catalogue.models.get(form.model) or catalogue.default_model()
    adapters = [catalogue.adapters.get(lora.partition(":")[0]) for lora in (*loras, *draft.lora_names(form))]
    # what is for another family is refused, not fetched
    named += [a for a in adapters if a is not None and a.family == model.family]
    named += [catalogue.embeddings.get(name) for name in draft.embedding_names(form, catalogue)]
    here = [entry for entry in named if entry is not None]
    tools = [entry for entry in finishes.needs(form.finish, catalogue) if catalogue.missing(entry)]
    if not (tools and yes):  # asked about all at once
        stocking.ensure(session, [*here, *tools], yes)
        return form, 0
    stocking.ensure(session, here, yes)
    steps = [step.strip() for step in form.finish.split(",")]
    left_out: dict[str, str] = {}
    for step in steps:
        try:
            stocking.ensure(session, finishes.needs(step, catalogue), yes)
        except SafelightError as e:
            left_out[step] = e.message
    making.say([f"left out: {step}: {why}; the picture is made without it" for step, why in left_out.items()])
    return replace(form, finish=", ".join(step for step in steps if step not in left_out)), int(bool(left_out))
