"""The command `safelight sweep`, as typer reads it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from engines.errors import InvalidRequest, SafelightError
from tui import session as sessions
from tui.arguments import Debug, Device, Json, Syntax, Threads, Yes, typed

if TYPE_CHECKING:
    from engines.catalogue import Catalogue
    from engines.entries import Entry
    from engines.store import Store
    from engines.sweep import Cell, Sweep
    from tui.draft import Draft
    from tui.grids import Grid, Planned
    from tui.session import Session

Missing: TypeAlias = tuple[tuple[str, str], ...]
"(what, why) of what was asked for and is not in the sweep."


class NothingMade(SafelightError):
    """Every cell of a sweep failed."""


class NothingAsked(NothingMade):
    """And would fail again, for it was asked for wrongly."""


def sweep(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw, one or more.")] = None,
    models: Annotated[str | None, typer.Option("--models", metavar="ID,…", help="The models; all ids, or one.")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N|A,B,…", help="How many seeds, or which; 4.")
    ] = None,
    negative: Annotated[
        str | None, typer.Option("-n", "--negative", metavar="TEXT", help="What to stay away from; '' is encoded.")
    ] = None,
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
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="WORDS=W,…", help="Weights of words of the prompt: 'freckles=0.8,1,1.2'."),
    ] = None,
    init: Annotated[str, typer.Option("--init", metavar="FILE", help="A picture that all begin with.")] = "",
    strength: Annotated[
        str, typer.Option("--strength", metavar="X,…", help="How much of it is drawn anew, from 0 to 1.")
    ] = "",
    variation_strength: Annotated[
        str, typer.Option("--variation-strength", metavar="X,…", help="How far to go towards another noise.")
    ] = "",
    variation_seed: Annotated[
        str, typer.Option("--variation-seed", metavar="N", help="Whose: one for all; drawn if not given.")
    ] = "",
    override: Annotated[bool, typer.Option("--override", help="Run what a model's recipe rules out.")] = False,
    syntax: Syntax = "",
    scorer: Annotated[str | None, typer.Option("--scorer", metavar="ID,…", help="Who ranks, or 'none'.")] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME|FILE.toml", help="A written one: models, pruned, mini."),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where the pictures are saved.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="ID", help="Go on with one; 'last' is the newest.")
    ] = None,
    written: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE", help="Write a page about it: .html, or .md with files beside it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be made, and make nothing.")] = False,
    show_all: Annotated[bool, typer.Option("--list", help="List the sweeps there are.")] = False,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="ID", help="Forget a sweep, or the 'last'; its pictures stay.")
    ] = None,
    yes: Yes = False,
    device: Device = "",
    threads: Threads = 0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Compare models or settings: a grid of pictures, scored and ranked; stop and resume it at any moment."""
    from engines import sweep as sweeps
    from engines.options import check_device
    from tui import grids, making, marking, studies, sweeping, wording

    session = sessions.begin(debug, device, threads)
    making.say(session.notices)
    axes = {
        "guidance": guidance, "rescale": rescale, "steps": steps, "scheduler": scheduler, "size": size,
        "precision": precision, "mix": mix, "vae": vae, "strength": strength, "variation_strength": variation_strength,
    }  # fmt: skip
    told = {
        "models": models, "seeds": seeds, "scorer": scorer, "study": study, "out": out, "resume": resume,
        "report": written, "remove": remove,
    }  # fmt: skip
    for name, text in told.items():
        if text is not None and not text.strip():
            raise InvalidRequest(f"--{name} has nothing behind it", "leave it out, or name what it is about", name)
    models, seeds, scorer, out = models or "", seeds or "", scorer or "", out or ""
    page = _page(written) if written else None
    if sum(map(bool, (show_all, resume, remove))) > 1:
        raise InvalidRequest("--list, --resume and --remove do three things", "one after the other", "sweep")
    check_device(device)
    with making.closing(session.store()) as store:
        if show_all:
            sweeping.list_all(store, json)
            return 0
        if remove:
            last = remove.strip().lower() == "last"
            return _remove(store, sweeps.load(store).id if last else _number(remove))
        varied = (prompts, models, lora, part, negative is not None, *axes.values())
        if resume:
            if any((*varied, study, seeds, syntax, scorer, out, override, init, variation_seed)):
                raise InvalidRequest("a sweep that is resumed has its cells already", "leave everything else out")
            wanted = sweeps.load(store, None if resume.strip().lower() == "last" else _number(resume))
            if dry_run:
                lost = sweeps.deleted(wanted, sure=yes)
                making.say(
                    [f"{wording.plural(len(lost), 'picture')} deleted or damaged: counted as not made"] * bool(lost)
                )
                left = sorted({*wanted.open, *lost}, key=lambda cell: cell.number)
                _estimate(store, left)
                sweeping.tell_plan(left, json)
                return 0
        else:
            written_down = studies.load(study) if study else None
            if written_down is not None and any((*varied, syntax, override)):
                raise InvalidRequest("a study has its prompts, models and settings already", "leave these out")
            if not prompts and written_down is None:
                raise InvalidRequest("a sweep needs a prompt", "safelight sweep 'a red apple' --models A,B --seeds 4")
            judges = _judges(scorer or (written_down.scorer if written_down is not None else ""), session.catalogue)
            base = _base(session, judges, negative, syntax, override)
            base = replace(base, init=init, variation_seed=variation_seed)
            if written_down is not None:
                grid, title = studies.with_base(written_down, base), written_down.title
                grid = replace(grid, seeds=grids.seeds(seeds)) if seeds else grid
            else:
                grid = _grid([typed(text) for text in prompts or ()], models, seeds, axes, lora or (), part or (), base)
                title = marking.title(grid)
            drawn = "" if (settled := grids.settled(grid)) == grid else settled.base.variation_seed
            grid = settled
            absent: Missing = ()
            if not dry_run:
                _fetch(session, grid.models, judges, yes)
                absent = _lost(session.catalogue, judges)
                judges = tuple(judge for judge in judges if f"scorer {judge}" not in dict(absent))
                grid = replace(grid, base=replace(grid.base, score=(*judges, "")[0]))
            planned = _planned(session, grid, absent, out, dry_run)
            _estimate(store, planned.cells)
            if dry_run:
                sweeping.tell_plan(planned.cells, json)
                return 0
            command = shlex.join(["safelight", *_again(sys.argv[1:], drawn)])
            wanted = sweeps.begin(store, planned.cells, title, command, judges, grid.axes, planned.left_out)
            try:
                return _make(session, store, wanted, json, page)
            except NothingAsked:
                sweeps.remove(store, wanted.id)  # there is nothing to go on with
                raise
        return _make(session, store, wanted, json, page, sure=yes)


def _again(arguments: Sequence[str], variation_seed: str) -> list[str]:
    """What was typed, with what was drawn at random."""
    at = arguments.index("sweep") + 1 if "sweep" in arguments else len(arguments)
    drawn = ["--variation-seed", variation_seed] if variation_seed else []
    return [*arguments[:at], *drawn, *arguments[at:]]


def _remove(store: Store, id: int) -> int:
    """Forgets a sweep that nobody makes."""
    from engines import sweep as sweeps
    from tui import runs

    with runs.alone(store, id):
        sweeps.remove(store, id)
    print(f"sweep {id} is forgotten; its pictures stay in their folder and in the history")
    return 0


def _page(written: str) -> Path:
    """Where a report goes. Raises SafelightError if it can't be written there: better now than after hours."""
    from engines import files
    from tui import report

    page = Path(written).expanduser().absolute()
    report.check(page)
    files.check_folder(page.parent)
    return page


def _base(session: Session, judges: tuple[str, ...], negative: str | None, syntax: str, override: bool) -> Draft:
    """What all cells have alike."""
    from tui.draft import Draft

    return Draft(
        negative_prompt=negative or "",
        syntax=syntax,
        score=(*judges, "")[0],
        override="yes" if override else "",
        blank_negative=session.settings.blank_negative if negative is None else "empty",
        precision=session.settings.precision,
    )


def _grid(
    prompts: Sequence[str],
    models: str,
    seeds: str,
    axes: Mapping[str, str],
    lora: Sequence[str],
    part: Sequence[str],
    base: Draft,
) -> Grid:
    """What the options vary. Raises InvalidRequest."""
    from tui import grids, weighing

    return grids.Grid(
        tuple(dict.fromkeys(prompts)),
        grids.values("models", models) if models else (),
        grids.seeds(seeds or "4"),
        tuple((name, grids.values(name, text)) for name, text in axes.items() if text),
        grids.stacks(lora),
        weighing.distinct([weighing.read(text) for text in part]),
        base,
    )


def _fetch(session: Session, models: Sequence[str], judges: Sequence[str], yes: bool) -> None:
    """Fetches what is missing and can be had, if that is wanted; where nothing comes of it, the rest goes on."""
    from tui import making, stocking

    catalogue = session.catalogue
    entries: list[Entry | None] = [catalogue.models.get(id) for id in models]
    entries += [catalogue.scorers.get(judge) for judge in judges]
    try:
        stocking.ensure(session, [entry for entry in entries if entry and catalogue.can_be_had(entry)], yes)
    except SafelightError as e:
        making.say([f"{e.message}; the rest goes on" + (f" ({e.hint})" if e.hint else "")])


def _lost(catalogue: Catalogue, judges: Sequence[str]) -> Missing:
    """The scorers that are not here, and why."""
    gone: list[tuple[str, str]] = []
    for judge in judges:
        entry = catalogue.scorer(judge)
        if paths := catalogue.missing(entry):
            can = catalogue.can_be_had(entry)
            why = f"not here; safelight models pull {judge} fetches it" if can else f"{paths[0]} is missing"
            gone.append((f"scorer {judge}", why))
    return tuple(gone)


def _planned(session: Session, grid: Grid, gone: Missing, out: str, dry_run: bool) -> Planned:
    """The cells, with what is worth knowing told; with the scorers that are `gone`, too.

    Raises as `grids.plan` does, and StorageError if pictures can't be saved where they should be.
    """
    from tui import grids, making

    folder = Path(out).expanduser().absolute() if out else session.pictures
    if not dry_run:
        making.check_folder(session, folder, bool(out))
    planned = grids.plan(grid, session.catalogue, str(folder), all_models=dry_run)
    if dry_run:
        making.say(_downloads(session.catalogue, grid))
    planned = replace(planned, left_out=(*gone, *planned.left_out))
    making.say(planned.notes)
    making.say([f"left out: {who}: {why}" for who, why in planned.left_out])
    return planned


def _downloads(catalogue: Catalogue, grid: Grid) -> list[str]:
    """What of a grid's models and scorer would have to be fetched, in words."""
    from tui import wording

    named = [catalogue.models.get(id) for id in grid.models] + [catalogue.scorers.get(grid.base.score)]
    wanted: dict[str, int] = {}
    for entry in named:
        if entry is not None:
            wanted |= {one.id: size for one, size in catalogue.to_get(entry)}
    if not wanted:
        return []
    each = ", ".join(f"{id} {wording.bytes_(size) if size else '?'}" for id, size in wanted.items())
    known = wording.bytes_(sum(wanted.values())) if any(wanted.values()) else "an unknown size"
    return [
        f"not here: {each}",
        f"without --dry-run it asks to fetch them, {known} in all; --yes doesn't ask",
        f"safelight models pull {next(iter(wanted))} fetches one before",
    ]


def _estimate(store: Store, cells: Sequence[Cell]) -> None:
    from tui import runs

    print(f"note: {runs.estimate(store, cells)}", file=sys.stderr)


def _make(session: Session, store: Store, wanted: Sweep, json: bool, page: Path | None, sure: bool = False) -> int:
    """Makes what is not made yet, judges, ranks, and writes the page if there is to be one.

    Args:
        session: what the command runs in.
        store: where the sweep is written down.
        wanted: the sweep.
        json: whether programs read what comes of it.
        page: the report's file.
        sure: as in `sweep.deleted`.

    Raises:
        NothingMade: no cell could be made.
        SafelightError: the disk is full; what there is has been shown by then.
    """
    from engines import folders
    from engines import sweep as sweeps
    from tui import making, report, runs, sweeping, wording

    with runs.alone(store, wanted.id):
        wanted = sweeps.load(store, wanted.id)  # another program may have made some of it
        wanted, lost = sweeps.reopen(store, wanted, sure)
        making.say(
            [f"{wording.plural(lost, 'picture')} of it {'was' if lost == 1 else 'were'} deleted or damaged: made again"]
            * bool(lost)
        )
        pictures, data = session.pictures, session.folders.data
        wanted = sweeps.find_again(store, wanted, _folder(wanted, pictures), folders.refuges(pictures, data))
        wordless = runs.wordless(session.catalogue)
        try:
            wrong = sweeping.make(session.engine("command", store), store, wanted, json)
            sweeping.judge(session.engine("command", store), store, sweeps.load(store, wanted.id), wordless)
        finally:
            done = sweeps.load(store, wanted.id)
            sweeping.show(done, json, wordless)
        for path in report.write(done, page, wordless) if page is not None else ():
            print(f"note: written: {path}", file=sys.stderr)
    if not any(cell.picture for cell in done.cells):
        told = f"no picture of sweep {done.id} could be made"
        if wrong:
            raise NothingAsked(told, _first_reason(done))
        raise NothingMade(told, f"{_first_reason(done)}; safelight sweep --resume {done.id} tries again")
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
