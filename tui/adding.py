"""What a file, a folder or a repository is, and its entry in the user's models.toml: `models add` and `models scan`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import hub
from engines.catalogue import Catalogue
from engines.entries import HubFile
from engines.errors import InvalidRequest, SafelightError
from tui import listing, making, shelf, wording
from tui.clean import one_line
from tui.session import Session

if TYPE_CHECKING:
    from engines.identify import Identified
    from engines.proposing import Place


def add(session: Session, what: str, id: str, base: str, dry_run: bool, as_json: bool) -> int:
    """Tells what a file, folder or repository is, and adds it to the user's models.toml."""
    from engines import proposing

    found, place = _identified(session, what)
    text, facts = _proposed(session, found, place, id, base)
    name = tomllib.loads(text).popitem()[1][0]["id"]
    if not dry_run:
        proposing.append(session.folders.models, text)
    if as_json:
        making.emit({**_json(found), **facts, "id": name, "entry": text, "added": not dry_run})
        return 0
    _tell(found, facts)
    print()
    print(
        text
        if dry_run
        else f"added as {name} to {session.folders.models}; safelight models show {name} tells its recipe"
    )
    return 0


def scan(session: Session, folder: Path, adding: bool, as_json: bool) -> int:
    """Lists the model files in a folder, where they are; adds those that can be used if that is asked."""
    from engines import proposing, scanning

    if not os.path.isdir(folder):
        why = "is no folder" if os.path.lexists(folder) else "is not there"
        raise InvalidRequest(f"{one_line(str(folder), 80)} {why}", "name a folder with models in it")
    progress = making.Progress()
    texts: list[str] = []
    rows = [("", "FILE", "WHAT", "PRECISION")]
    taken = {entry.id for entry in session.catalogue.entries()}
    listed = {str(path.resolve()) for entry in session.catalogue.entries() for path in shelf.own_files(entry)}
    count = problems = 0
    for found in scanning.scan(folder, known=_hashes(session.catalogue)):
        count += 1
        progress.show(f"{count} files · {found.path.name}")
        one = found.identified
        reason = found.problem or (one.why_not if one and not one.supported else "")
        name = ""
        if one is not None and one.supported and str(found.path.resolve()) not in listed:
            try:
                text, _ = _proposed(session, one, proposing.Place(found.path), "", "", taken)
            except SafelightError as e:
                reason = e.message
            else:
                name = tomllib.loads(text).popitem()[1][0]["id"]
                taken.add(name)
                texts.append(text)
        problems += bool(reason)
        if as_json:
            told = _json(one) if one else {}
            making.emit({"path": str(found.path), **told, "problem": reason, "hint": found.hint, "id": name or None})
        else:
            what = f"{one.kind}, {one.architecture_title}" if one else "?"
            place = (
                found.path.relative_to(folder.absolute())
                if found.path.is_relative_to(folder.absolute())
                else found.path
            )
            rows.append(
                (
                    "-" if reason else "",
                    one_line(str(place), 60),
                    one_line(reason or what, 70),
                    one.precision if one else "",
                )
            )
    progress.clear()
    if adding and texts:
        proposing.append(session.folders.models, "\n".join(texts))
    if as_json:
        return 0
    listing.table(rows) if count else print(f"no model files in {folder}")
    print(f"\n{wording.plural(count, 'file')}" + (f", {problems} of no use here" if problems else ""))
    if texts:
        entries = wording.plural(len(texts), "entry", "entries")
        file = session.folders.models
        print(f"{entries} added to {file}" if adding else f"--add writes {entries} to {file}; nothing is copied")
    return 0


def _identified(session: Session, what: str) -> tuple[Identified, Place]:
    """What was named, and where it is: a path if there is one of that name, else a repository or a file in one."""
    from engines import asking, identify
    from engines.proposing import Place
    from engines.wire import Wire

    if not what.strip():
        raise InvalidRequest("nothing is named", "name a .safetensors file, a folder, or ORG/NAME on the hub")
    path = Path(what).expanduser()
    near = "/" in what and Path(what.partition("/")[0]).is_dir()  # a path that was mistyped, not a repository
    if os.path.lexists(path) or near or not hub.is_repo("/".join(what.split("/")[:2])):
        if not os.path.lexists(path):
            raise InvalidRequest(
                f"there is no {one_line(what, 80)}", "name a .safetensors file, a folder, or ORG/NAME on the hub"
            )
        return identify.path(path.absolute(), _hashes(session.catalogue)), Place(path.absolute())
    org, name, *rest = what.split("/")
    repo, inside = f"{org}/{name}", "/".join(rest)
    progress = making.Progress()
    progress.show(f"asking the hub about {repo}", now=True)
    with Wire() as wire:
        work = asking.file(repo, inside, wire) if inside else asking.repository(repo, wire)
        while True:
            try:
                note = next(work)
            except StopIteration as end:
                progress.clear()
                return end.value, Place(repo=repo, file=inside)
            progress.say(f"note: {note.text}")


def _proposed(
    session: Session, found: Identified, place: Place, id: str, base: str, taken: Collection[str] | None = None
) -> tuple[str, dict[str, Any]]:
    """The entry's TOML, and what else is told of it: its family, and how much of a LoRA fits."""
    from engines import kinship, proposing

    catalogue = session.catalogue
    over = kinship.base_of(catalogue, found, base)
    if base and over is not None:
        kinship.check_like(catalogue, found, over, place.path)
    facts: dict[str, Any] = {}
    if over is not None:
        facts["family"] = over.family
    if found.kind == "lora" and found.supported and over is not None:
        fit = kinship.fit(catalogue, found, over)
        if fit is not None:
            kinship.check_fits(found, fit, over)
            facts["matches"] = f"{fit.percent:.0f} % of its {fit.total} layers, on {over.id}"
    known = {entry.id for entry in catalogue.entries()} if taken is None else taken
    if id and id in known:
        raise InvalidRequest(f"'{id}' is the id of another entry", "choose another --id")
    text = proposing.entry(
        found,
        place,
        known,
        id=id,
        family=kinship.family(found, over),
        configured=kinship.like(found, over),
        base=over.id if over else "sdxl-base",
        like=over.recipe if over else None,
    )
    return text, facts


def _hashes(catalogue: Catalogue) -> dict[str, str]:
    """sha256 → id of every file whose hash the catalogue knows."""
    found: dict[str, str] = {}
    for entry in catalogue.entries():
        source = getattr(entry, "source", None)
        for file in (source, getattr(entry, "file", None) or getattr(source, "file", None)):
            if isinstance(file, HubFile) and file.sha256:
                found.setdefault(file.sha256, entry.id)
    return found


def _json(found: Identified) -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind,
        "architecture": found.architecture,
        "supported": found.supported,
        "why_not": found.why_not,
        "precision": found.precision,
        "parameters": dict(found.parameters),
        "prediction_type": found.hints.prediction_type,
        "distilled": found.hints.distilled or None,
        "steps": found.hints.steps,
        "reasons": list(found.reasons),
        "bytes": found.bytes,
    }


def _tell(found: Identified, facts: dict[str, Any]) -> None:
    counts = ", ".join(f"{part.replace('_', ' ')} {_short(count)}" for part, count in found.parameters)
    pairs = [
        ("is", f"{found.kind.replace('_', ' ')}, {found.architecture_title}"),
        ("precision", found.precision),
        ("parameters", counts),
        ("predicts", found.hints.prediction_type or ""),
        ("size", wording.bytes_(found.bytes) if found.bytes else ""),
        ("author", found.author),
        ("licence", found.licence),
        ("words", found.words),
        *facts.items(),
        *(("because", reason) for reason in found.reasons),
    ]
    print(one_line(found.name))
    for name, value in pairs:
        if value:
            print(f"  {name:<10} {one_line(str(value))}")


def _short(count: int) -> str:
    """'2.57 B', '867 M', '12 k'."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
