"""The commands, as typer reads them: each a docstring, its options, and a call to what does the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import DiskFull, InvalidRequest, SafelightError, StorageError, near
from tui import finish_command, making, models_commands, sweep_command
from tui import session as sessions
from tui.arguments import Debug, Device, Json, ModelId, Syntax, Threads, Yes, typed
from tui.session import Session

if TYPE_CHECKING:
    from engines.entries import Entry
    from engines.requests import Picture, Request
    from engines.store import Store
    from tui.draft import Asked, Draft
    from tui.series import Field

app = typer.Typer(
    name="safelight",
    help="A terminal darkroom for text-to-image diffusion. Alone, it opens the workbench.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
history_app = typer.Typer(help="Pictures that were made.", rich_markup_mode=None)
app.command()(sweep_command.sweep)
app.command()(finish_command.upscale)
app.command()(finish_command.restore)
app.add_typer(models_commands.app, name="models")
app.add_typer(history_app, name="history")

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"What typer raises for anything that was typed wrong; it exports only the subclass."

SERIES = ("--guidance-series", "--rescale-series")
STEPS = ("--upscale", "--restore-faces", "--hires")
"Options of generate whose value may be left out, which typer has no word for."


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code.

    Raises:
        SafelightError: what is told as `error:` and `hint:`.
    """
    command = typer.main.get_command(app)
    try:
        result = command.main(_with_values(arguments), prog_name="safelight", standalone_mode=False)
    except USAGE_ERROR as e:
        if unknown := getattr(e, "option_name", None):
            hint = _possible(getattr(e, "possibilities", None)) or _see(e.ctx)
            raise InvalidRequest(f"no option '{unknown}'", hint) from None
        message = e.format_message().strip().splitlines()[0].partition(" Did you mean")[0].rstrip(".")
        raise InvalidRequest(message[:1].lower() + message[1:], _hint(e, arguments)) from None
    except (typer.Abort, EOFError):
        return 130
    except typer.Exit as e:
        return e.exit_code
    except SystemExit as e:  # what typer makes of a reader that went away: 1, where it is nobody's fault
        if isinstance(e.__context__, BrokenPipeError):
            raise e.__context__ from None
        raise
    return result if isinstance(result, int) else 0


def _with_values(arguments: Sequence[str]) -> list[str]:
    """The arguments, with 'auto' for a series or a step without value: at the end, or with another option behind it."""
    given = list(arguments)
    end = given.index("--") if "--" in given else len(given)
    for i in range(end):
        if given[i] in (*SERIES, *STEPS) and (i + 1 >= end or given[i + 1].startswith("-")):
            given[i] += "=auto"
    return given


def _possible(names: Sequence[str] | None) -> str:
    return f"did you mean {' or '.join(names[:3])}?" if names else ""


def _see(context: Any) -> str:
    return f"{context.command_path if context is not None else 'safelight'} --help shows what there is"


def _hint(error: Any, arguments: Sequence[str]) -> str:
    known = getattr(getattr(error.ctx, "command", None), "commands", None)
    if known and "No such command" in error.format_message():
        typed = next((a for a in reversed(arguments) if not a.startswith("-") and a not in known), "")
        return near(typed, known, "commands")
    return _see(error.ctx)


@app.callback(invoke_without_command=True)
def alone(
    context: typer.Context,
    device: Device = "",
    threads: Threads = 0,
    debug: Debug = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"safelight {installed('safelight')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from tui.opening import open_workbench

        raise typer.Exit(open_workbench(device, threads, debug))


@app.command()
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

    from engines import files
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
    session = _begin(debug, device, threads)
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
    _fetch_missing(session, form, lora, vae, yes)
    asked = draft.read(form, session.catalogue, wildcards=session.folders.wildcards)
    if series is not None:
        asked = _spread(form, asked, *series, session)
    folder = Path(out).expanduser().absolute() if out else session.pictures
    try:
        files.check_folder(folder)
    except StorageError as e:
        if (out or session.settings.folder) and not isinstance(e, DiskFull):
            e.hint = f"choose another folder with --out{'' if out else ', or mend folder in settings.toml'}"
        raise
    requests = [replace(request, folder=str(folder)) for request in asked.requests]
    if best:
        from tui import drafting

        plan = drafting.best(best, form, requests, session.catalogue)
        making.say([*asked.notes, *plan.notes])
        drafts = [replace(request, folder=str(folder)) for request in plan.drafts]

        def finals(pictures: Sequence[Picture]) -> Sequence[Request]:
            making.say([doubt] if (doubt := plan.doubt(pictures)) else [])
            return plan.finish(pictures)

        return making.follow(session, drafts, json, finals)
    making.say(asked.notes)
    making.say([f"seed {requests[0].seed}, drawn at random"] * asked.drawn)
    making.say([f"variation seed {requests[0].variation_seed}, drawn at random"] * asked.drawn_variation)
    return making.follow(session, requests, json)


@app.command()
def score(
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE…]", help="Picture files, ours or not.")] = None,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What they should show.")] = "",
    folder: Annotated[
        str,
        typer.Option(
            "--prompts-from-metadata",
            metavar="DIR",
            help="Score our pictures in a folder, each for its own prompt.",
        ),
    ] = "",
    scorer: Annotated[
        list[str], typer.Option("--scorer", metavar="ID[,ID…]", help="The best that is here if not given.")
    ] = [],  # noqa: B006
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Score picture files against a prompt, or a folder of ours again, each against its own."""
    from engines.requests import Score

    session = _begin(debug, device, threads)
    ids = dict.fromkeys(id.strip() for text in scorer for id in text.split(",") if id.strip())
    judges = [session.catalogue.scorer(id) for id in ids] or [session.catalogue.default_scorer()]
    if folder:
        if images or prompt:
            raise InvalidRequest("pictures of a folder are scored for their own prompts", "leave the rest out")
        return making.follow(session, [one for judge in judges for one in _again(Path(folder), judge.id)], json)
    if not images:
        raise InvalidRequest("there is nothing to score", "name picture files, or --prompts-from-metadata DIR")
    for path in images:
        if not path.is_file():
            raise InvalidRequest(f"{path} is no file", "name picture files")
    if not prompt.strip() and any(judge.reads for judge in judges):
        raise InvalidRequest("a score needs a prompt to hold the picture against", "give --prompt TEXT", "prompt")
    paths, text = tuple(str(path.absolute()) for path in images), typed(prompt) if prompt else ""
    requests = [Score(paths, text, judge.id) for judge in judges]
    for request in requests:
        request.validate()
    return making.follow(session, requests, json)


def _again(folder: Path, scorer: str) -> list[Any]:
    """A request for each prompt that pictures of a folder were drawn from."""
    from engines import metadata
    from engines.requests import Score

    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder", "name one with pictures that safelight made")
    by_prompt: dict[str, list[str]] = {}
    for made, _ in metadata.found(folder.absolute()):
        if made.request.prompt.strip():
            by_prompt.setdefault(made.request.prompt, []).append(made.path)
    if not by_prompt:
        raise InvalidRequest(f"no picture in {folder} tells its prompt", "safelight score IMAGE --prompt TEXT")
    return [Score(tuple(paths), text, scorer) for text, paths in by_prompt.items()]


@app.command()
def prompt(
    text: Annotated[str, typer.Argument(metavar="PROMPT", help="'-' reads it from stdin.")],
    model: ModelId = "",
    syntax: Syntax = "",
    seed: Annotated[str, typer.Option("--seed", metavar="N", help="What variants are drawn from.")] = "",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show how a prompt is read: variants, translation, parts, their weights and places, and tokens."""
    from engines.requests import check_prompt
    from engines.variants import Wildcards
    from tui import fields, listing, texts

    session = _begin(debug)
    chosen = session.catalogue.require(model) if model else session.catalogue.default_model()
    drawn_from = fields.seed(seed)
    text = typed(text)
    check_prompt(text, "prompt")
    read = texts.read(text, texts.syntax(syntax), drawn_from, Wildcards(session.folders.wildcards))
    listing.show_prompt(read, drawn_from, session.catalogue, chosen, json)
    return 0


@history_app.command("list")
def history_list(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="At most so many.")] = 20,
    search: Annotated[str, typer.Option("--search", metavar="TEXT", help="Words of the prompt or the model.")] = "",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """List the newest pictures, newest first."""
    from tui import listing

    listing.list_history(_store(_begin(debug)), limit, search, json)
    return 0


@history_app.command("show")
def history_show(
    id: Annotated[str, typer.Argument(metavar="ID", help="A number from the list, or 'last'.")],
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show one picture's settings, scores and timings."""
    from tui import listing

    listing.show_picture(_picture(_begin(debug), id), json)
    return 0


@history_app.command("rate")
def history_rate(
    id: Annotated[str, typer.Argument(metavar="ID", help="A number from the list, or 'last'.")],
    rating: Annotated[str, typer.Argument(metavar="1…5", help="How you like it; 0 takes it back.")],
    debug: Debug = False,
) -> int:
    """Keep your own judgement of a picture, apart from its scores."""
    from tui import fields

    value = fields.whole("rating", rating, 0, 5, 0)
    store = _store(_begin(debug))
    picture = _found(store, id)
    store.rate(picture.id, value or None)
    said = f"rated {value}" if value else "not rated any more"
    print(f"{picture.id}  {said}")
    return 0


@history_app.command("path")
def history_path(
    id: Annotated[str, typer.Argument(metavar="ID", help="A number from the list, or 'last'.")] = "last",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Print a picture's path, for scp and rsync."""
    from tui.clean import clean

    picture = _picture(_begin(debug), id)
    if not Path(picture.path).is_file():
        raise SafelightError(f"picture {picture.id} is gone: {picture.path}", "its settings: safelight history show")
    if json:
        making.emit({"id": picture.id, "path": picture.path})
    else:
        print(clean(picture.path) if sys.stdout.isatty() else picture.path)
    return 0


@app.command()
def doctor(json: Json = False, device: Device = "", debug: Debug = False) -> int:
    """Look at this machine: versions, devices, terminal, folders, models; and say what to do about problems."""
    from tui.doctor import examine

    return examine(sessions.begin(debug, device), json)  # it lists the notices itself


@app.command()
def bench(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[engine|start|memory|paint|keys|prompt|live|sweep|models]…", help="All if none is named."
        ),
    ] = [],  # noqa: B006
    model: ModelId = "",
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, max=1000, help="Medians are of so many.")] = 5,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Measure how quick this machine is: engine, start, memory, first paint, keys, live, sweeps, models."""
    from tui import bench as benches

    return benches.run(_begin(debug, device, threads), what, json, model, runs)


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


def _fetch_missing(session: Session, form: Draft, loras: Sequence[str], vae: str, yes: bool) -> None:
    """Asks to fetch what a request names and isn't here; names that nothing has are told where the request is read."""
    from tui import draft, finishes, stocking

    catalogue = session.catalogue
    named: list[Entry | None] = [catalogue.models.get(form.model), catalogue.vaes.get(vae)]
    model = catalogue.models.get(form.model) or catalogue.default_model()
    adapters = [catalogue.adapters.get(lora.partition(":")[0]) for lora in (*loras, *draft.lora_names(form))]
    # what is for another family is refused, not fetched
    named += [a for a in adapters if a is not None and a.family == model.family]
    named += [catalogue.embeddings.get(name) for name in draft.embedding_names(form, catalogue)]
    named += finishes.needs(form.finish, catalogue)
    stocking.ensure(session, [entry for entry in named if entry is not None], yes)


def _begin(debug: bool, device: str = "", threads: int = 0) -> Session:
    session = sessions.begin(debug, device, threads)
    making.say(session.notices)
    return session


def _store(session: Session) -> Store:
    """The history, and what had to be done to open it. (Where an engine runs over a store, that is an event.)"""
    store = session.store()
    if store.note:
        making.say([store.note])
    return store


def _picture(session: Session, id: str) -> Any:
    return _found(_store(session), id)


def _found(store: Store, id: str) -> Any:
    """A picture by what was typed."""
    if id.strip().lower() == "last":
        return store.last()
    if not id.isascii() or not id.isdigit() or len(id) > 18:
        raise InvalidRequest(f"'{id[:40]}' is no picture's number", "a number from safelight history list, or last")
    return store.picture(int(id))
