"""The commands, as typer reads them: each a docstring, its options, and a call to what does the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import InvalidRequest, SafelightError, near
from tui import finish_command, generate_command, making, models_commands, settings_command, sweep_command
from tui import session as sessions
from tui.arguments import Debug, Device, Json, ModelId, Syntax, Threads, typed
from tui.session import Session

if TYPE_CHECKING:
    from engines.store import Store

app = typer.Typer(
    name="safelight",
    help="A terminal darkroom for text-to-image diffusion. Alone, it opens the workbench.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
history_app = typer.Typer(help="Pictures that were made.", rich_markup_mode=None)
app.command()(generate_command.generate)
app.command()(sweep_command.sweep)
app.command()(finish_command.upscale)
app.command()(finish_command.restore)
app.add_typer(models_commands.app, name="models")
app.add_typer(history_app, name="history")
app.add_typer(settings_command.app, name="settings")

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"What typer raises for anything that was typed wrong; it exports only the subclass."


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
        if given[i] in generate_command.VALUE_OPTIONAL and (i + 1 >= end or given[i + 1].startswith("-")):
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
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Line mode: plain lines for screen readers, dumb terminals, slow links, scripts."),
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Show the workbench at work for a minute, in a home of its own.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"safelight {installed('safelight')}")
        raise typer.Exit
    if plain:
        if context.invoked_subcommand is not None:
            raise InvalidRequest("--plain is line mode, and takes no command", "safelight --plain, and /help there")
        from tui.plain.opening import open_plain

        raise typer.Exit(open_plain(device, threads, debug))
    if demo:
        if context.invoked_subcommand is not None:
            raise InvalidRequest(f"--demo is the workbench's, not {context.invoked_subcommand}'s", "safelight --demo")
        from tui.demo import open_demo

        raise typer.Exit(open_demo(device, threads, debug))
    if context.invoked_subcommand is None:
        from tui.opening import open_workbench

        raise typer.Exit(open_workbench(device, threads, debug))


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
    judges = [session.catalogue.require_scorer(id) for id in ids] or [session.catalogue.default_scorer()]
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
            metavar="[engine|start|memory|paint|keys|prompt|live|sweep|models|wire|line]…", help="All if none is named."
        ),
    ] = [],  # noqa: B006
    model: ModelId = "",
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, max=1000, help="Medians are of so many.")] = 5,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Measure how quick this machine is: engine, start, memory, first paint, keys, live, sweeps, models, bytes."""
    from tui import bench as benches

    return benches.run(_begin(debug, device, threads), what, json, model, runs)


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
