"""The command `safelight sweep`, as typer reads it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidRequest, SafelightError
from tui import session as sessions
from tui.arguments import Debug, Device, Json, Syntax, Threads, Yes

if TYPE_CHECKING:
    from engines.catalogue import Catalogue
    from engines.entries import Entry
    from engines.sweep import Sweep


def sweep(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw, one or more.")] = None,
    models: Annotated[str, typer.Option("--models", metavar="ID,…", help="The models; all ids, or one.")] = "",
    seeds: Annotated[str, typer.Option("--seeds", metavar="N|A,B,…", help="How many seeds, or which; 4.")] = "",
    negative: Annotated[str, typer.Option("-n", "--negative", metavar="TEXT", help="What to stay away from.")] = "",
    guidance: Annotated[str, typer.Option("--guidance", metavar="X,…", help="Guidance scales.")] = "",
    rescale: Annotated[str, typer.Option("--guidance-rescale", metavar="X,…", help="Guidance rescales.")] = "",
    steps: Annotated[str, typer.Option("--steps", metavar="N,…", help="Numbers of steps.")] = "",
    scheduler: Annotated[str, typer.Option("--scheduler", metavar="NAME,…", help="Schedulers.")] = "",
    size: Annotated[str, typer.Option("--size", metavar="WxH,…", help="Sizes.")] = "",
    precision: Annotated[str, typer.Option("--precision", metavar="NAME,…", help="Precisions.")] = "",
    vae: Annotated[str, typer.Option("--vae", metavar="ID,…", help="VAEs.")] = "",
    mix: Annotated[str, typer.Option("--mix", metavar="'X Y …'", help="Ratios of a mixed model, with blanks.")] = "",
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="NAME:W[+…]", help="A stack of LoRAs to compare; 'none' is one, too."),
    ] = None,
    override: Annotated[bool, typer.Option("--override", help="Run what a model's recipe rules out.")] = False,
    syntax: Syntax = "",
    scorer: Annotated[str, typer.Option("--scorer", metavar="ID,…", help="Who ranks, or 'none'.")] = "",
    study: Annotated[
        str,
        typer.Option("--study", metavar="NAME|FILE.toml", help="A written one: models, pruned, mini."),
    ] = "",
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the pictures are saved.")] = "",
    resume: Annotated[str, typer.Option("--resume", metavar="ID", help="Go on with one; 'last' is the newest.")] = "",
    written: Annotated[
        str, typer.Option("--report", metavar="FILE", help="Write a page about it: .html, or .md with files beside it.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be made, and make nothing.")] = False,
    show_all: Annotated[bool, typer.Option("--list", help="List the sweeps there are.")] = False,
    yes: Yes = False,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Compare models or settings: a grid of pictures, scored and ranked; stop and resume it at any moment."""
    from dataclasses import replace

    from engines import files
    from engines import sweep as sweeps
    from tui import grids, making, report, stocking, studies, sweeping
    from tui.draft import Draft

    session = sessions.begin(debug, device, threads)
    making.say(session.notices)
    axes = {
        "guidance": guidance, "rescale": rescale, "steps": steps, "scheduler": scheduler, "size": size,
        "precision": precision, "mix": mix, "vae": vae,
    }  # fmt: skip
    page = Path()
    if written:
        page = Path(written).expanduser().absolute()
        report.check(page)
        files.check_folder(page.parent)
    with making.closing(session.store()) as store:
        if show_all:
            sweeping.list_all(store, json)
            return 0
        if resume:
            others = (prompts, models, lora, study, seeds, negative, syntax, scorer, out, override)
            if any(others) or any(axes.values()):
                raise InvalidRequest("a sweep that is resumed has its cells already", "leave everything else out")
            wanted = sweeps.load(store, None if resume.strip().lower() == "last" else _number(resume))
            if dry_run:
                print(f"note: {sweeping.estimate(store, wanted.open)}", file=sys.stderr)
                sweeping.tell_plan(wanted.open, json)
                return 0
        else:
            study_of = studies.load(study) if study else None
            if study_of is not None and (prompts or models or any(axes.values()) or lora or negative):
                raise InvalidRequest("a study has its prompts, models and settings already", "leave these out")
            if not prompts and study_of is None:
                raise InvalidRequest("a sweep needs a prompt", "safelight sweep 'a red apple' --models A,B --seeds 4")
            named = scorer or (study_of.scorer if study_of is not None else "")
            judges = _judges(named, session.catalogue)
            base = Draft(
                negative_prompt=negative, syntax=syntax, score=(*judges, "")[0], override="yes" if override else "",
                blank_negative=session.settings.blank_negative, precision=session.settings.precision,
            )  # fmt: skip
            if study_of is not None:
                grid = studies.with_base(study_of, base)
                grid = replace(grid, seeds=grids.seeds(seeds)) if seeds else grid
            else:
                grid = grids.Grid(
                    tuple(dict.fromkeys(prompts or ())),
                    grids.values("models", models) if models else (),
                    grids.seeds(seeds or "4"),
                    tuple((name, grids.values(name, text)) for name, text in axes.items() if text),
                    grids.stacks(lora or ()),
                    base,
                )
            entries: list[Entry | None] = [session.catalogue.models.get(id) for id in grid.models]
            entries += [session.catalogue.scorers.get(judge) for judge in judges]
            if not dry_run:
                stocking.ensure(session, [entry for entry in entries if entry is not None], yes)
            folder = Path(out).expanduser().absolute() if out else session.pictures
            planned = grids.plan(grid, session.catalogue, str(folder))
            making.say(planned.notes)
            making.say([f"left out: {who}: {why}" for who, why in planned.left_out])
            print(f"note: {sweeping.estimate(store, planned.cells)}", file=sys.stderr)
            if dry_run:
                sweeping.tell_plan(planned.cells, json)
                return 0
            title = f"{' | '.join(grid.prompts)} · {', '.join(axis for axis in grid.axes if axis != 'prompt')}"
            title = study_of.title if study_of is not None else title
            command = shlex.join(["safelight", *sys.argv[1:]])
            wanted = sweeps.begin(store, planned.cells, title, command, judges, grid.axes, planned.left_out)
        with sweeping.alone(store, wanted.id):
            wanted = sweeps.load(store, wanted.id)  # another program may have made some of it
            wanted = sweeps.find_again(store, wanted, _folder(wanted, session.pictures))
            try:
                sweeping.make(session.engine("command", store), store, wanted, json)
                sweeping.judge(session.engine("command", store), sweeps.load(store, wanted.id))
            finally:
                done = sweeps.load(store, wanted.id)
                sweeping.show(done, json)
            if written:
                for path in report.write(done, page):
                    print(f"note: written: {path}", file=sys.stderr)
        if not any(cell.picture for cell in done.cells):
            raise SafelightError(f"no picture of sweep {done.id} could be made", _first_reason(done))
        return 0


def _judges(text: str, catalogue: Catalogue) -> tuple[str, ...]:
    """The scorers that are named; the best that is here for an empty text. Raises SafelightError for unknown ones."""
    from tui import grids

    if text == "none":
        return ()
    named = grids.values("scorer", text or catalogue.default_scorer().id)
    for name in named:
        catalogue.scorer(name)
    return named


def _first_reason(done: Sweep) -> str:
    from tui import runs

    return next((f"{who}: {why}" for who, why in runs.missing(done)), "safelight doctor looks for the reason")


def _number(text: str) -> int:
    if not text.strip().isdecimal() or len(text) > 18:
        raise InvalidRequest(f"'{text[:40]}' is no sweep", "safelight sweep --list shows what there is", "resume")
    return int(text)


def _folder(wanted: Sweep, otherwise: Path) -> Path:
    """Where the pictures of a sweep are."""
    folder = wanted.cells[0].request.folder if wanted.cells else None
    return Path(folder) if folder else otherwise
