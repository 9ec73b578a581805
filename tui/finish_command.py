"""safelight upscale, safelight restore: pictures that are files, enlarged, and their faces drawn anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import InvalidRequest
from engines.steps import MAX_SCALE
from tui import fields, making
from tui import session as sessions
from tui.arguments import Debug, Device, Json, Threads, Yes, typed
from tui.clean import one_line

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Picture files, ours or not.")]
Out = Annotated[str, typer.Option("--out", metavar="DIR", help="Where the results are saved.")]
With = Annotated[str, typer.Option("--with", metavar="ID", help="By which one; the best that is here if not given.")]
Scorer = Annotated[str, typer.Option("--scorer", metavar="ID", help="Score the results with this one.")]


def upscale(
    images: Images,
    by: With = "",
    scale: Annotated[str, typer.Option("--scale", metavar="X", help="Times as large; the upscaler's own if not.")] = "",
    denoise: Annotated[
        str, typer.Option("--denoise", metavar="X", help="0 keeps grain, 1 takes it away, if the upscaler has a pair.")
    ] = "",
    tile: Annotated[str, typer.Option("--tile", metavar="N", help="Pixels of a tile; what memory allows if not.")] = "",
    shrink: Annotated[
        str, typer.Option("--shrink", metavar="X", help="0.1 to 1: make it smaller by this first, to be quicker.")
    ] = "",
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="TEXT", help="For a diffusion upscaler; the picture's own if not given."),
    ] = None,
    noise_level: Annotated[
        str, typer.Option("--noise-level", metavar="N", help="For a diffusion upscaler: 0 to 350; more invents more.")
    ] = "",
    guidance: Annotated[str, typer.Option("--guidance", metavar="X", help="For a diffusion upscaler.")] = "",
    steps: Annotated[str, typer.Option("--steps", metavar="N", help="For a diffusion upscaler.")] = "",
    out: Out = "",
    scorer: Scorer = "",
    yes: Yes = False,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Enlarge picture files. Results go where pictures go, or into --out; no file is changed."""
    settings = (
        ("denoise", denoise), ("tile", tile), ("shrink", shrink), ("noise", noise_level), ("guidance", guidance),
        ("steps", steps),
    )  # fmt: skip
    for name, value in (("with", by), *settings):
        _check_word(name, value)
    factor = fields.number("scale", scale.strip().strip("x×"), 0.1, MAX_SCALE, 0.0)
    words = [by, f"x{fields.exact(factor)}" if factor else "", *(f"{k}={v.strip()}" for k, v in settings if v)]
    text = None if prompt is None else typed(prompt)
    return _finish(
        images, f"upscale {' '.join(filter(None, words))}", text, out, scorer, yes, device, threads, json, debug
    )


def restore(
    images: Images,
    by: With = "",
    strength: Annotated[
        str, typer.Option("--strength", metavar="X", help="0 to 1, how much of the new faces shows.")
    ] = "",
    out: Out = "",
    scorer: Scorer = "",
    yes: Yes = False,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Draw the faces of picture files anew. Results go where pictures go, or into --out; no file is changed."""
    _check_word("with", by)
    _check_word("strength", strength)
    words = [by, f"strength={strength.strip()}" if strength else ""]
    return _finish(
        images, f"faces {' '.join(filter(None, words))}", None, out, scorer, yes, device, threads, json, debug
    )


def _check_word(name: str, value: str) -> None:
    """Raises InvalidRequest for what would be read as more than one word of a step."""
    if re.search(r"[\s:,=]", value.strip()):
        raise InvalidRequest(f"--{name} takes one word, not '{one_line(value, 40)}'", "leave out what follows it", name)


def _finish(
    images: list[Path],
    text: str,
    prompt: str | None,
    out: str,
    scorer: str,
    yes: bool,
    device: str,
    threads: int,
    json: bool,
    debug: bool,
) -> int:
    """A request for each file."""
    from engines.requests import Finish
    from tui import finishes, stocking

    for path in images:
        if not path.is_file():
            raise InvalidRequest(f"{path} is no file", "name picture files")
    session = sessions.begin(debug, device, threads)
    making.say(session.notices)
    judges = [session.catalogue.scorer(scorer)] if scorer else []
    finishes.read(text, session.catalogue, look=False)  # what is wrong is told before anything is fetched
    stocking.ensure(session, [*finishes.needs(text, session.catalogue), *judges], yes)
    steps = finishes.read(text, session.catalogue)
    if prompt is not None:
        steps = finishes.told(steps, prompt)
    making.say(finishes.idle(steps, session.catalogue))
    folder = Path(out).expanduser().absolute() if out else session.pictures
    making.check_folder(session, folder, bool(out))
    requests = [Finish(str(path.absolute()), steps, str(folder), scorer or None) for path in images]
    for request in requests:
        request.validate()
    return making.follow(session, requests, json)
