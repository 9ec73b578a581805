"""What is fetched from the hub, checked and removed: `safelight models pull`, `verify`, `remove`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engines import hub
from engines.catalogue import Catalogue
from engines.entries import Entry, Model
from engines.errors import InvalidRequest, LoadError
from engines.requests import Pull, Request
from tui import making, shelf, wording
from tui.clean import one_line
from tui.session import Session


def pull(session: Session, id: str, yes: bool, as_json: bool) -> int:
    """Fetches an entry of any kind. Its licence is told first where it binds."""
    entry = session.catalogue.entry(id)
    if session.catalogue.missing(entry):
        _check_can_be_had(session.catalogue, entry)
        _tell_notices(session.catalogue, entry)
        if notice_binds(session.catalogue, entry) and not yes:
            _ask(f"fetch {entry.id}?", f"{entry.id} has terms to agree to; nothing was fetched")
        size = shelf.to_fetch(session.catalogue, entry)
        making.say([f"fetching {entry.id}{f': {wording.bytes_(size)}' if size else ''}"])
        run(session, [Pull(id)], as_json)
    if as_json:
        making.emit({"id": entry.id, "here": True, "files": [str(p) for p in _files(session, entry)]})
    else:
        print(f"{entry.id} is here")
    return 0


def ensure(session: Session, entries: Sequence[Entry], yes: bool) -> None:
    """Asks to fetch what a request names and isn't here, and fetches it.

    Raises:
        InvalidRequest: nobody can be asked, or the answer was no.
    """
    wanted = [entry for entry in entries if session.catalogue.missing(entry)]
    for entry in wanted:
        if not session.catalogue.can_be_had(entry):
            return  # what is wrong is told where the request is read
    if not wanted:
        return
    names = ", ".join(entry.id for entry in wanted)
    sizes = [shelf.to_fetch(session.catalogue, entry) for entry in wanted]
    size = f": {wording.bytes_(sum(sizes))} to download" if all(sizes) else ""
    for entry in wanted:
        _tell_notices(session.catalogue, entry)
    if not yes:
        _ask(
            f"{names} {'is' if len(wanted) == 1 else 'are'} not on this machine{size}. Fetch?",
            f"{names} not here{size}",
        )
    run(session, [Pull(entry.id) for entry in wanted], False)


def notice_binds(catalogue: Catalogue, entry: Entry) -> bool:
    """Whether something is told before an entry is fetched."""
    return bool(notices(catalogue, entry))


def notices(catalogue: Catalogue, entry: Entry) -> list[str]:
    """What its licence, and that of what it stands on, wants to be read before it is fetched."""
    told = [(one.id, getattr(one, "notice", "")) for one in catalogue.lacking(entry)]
    return [f"{id}: {notice}" for id, notice in told if notice]


def _tell_notices(catalogue: Catalogue, entry: Entry) -> None:
    making.say(notices(catalogue, entry))


def _check_can_be_had(catalogue: Catalogue, entry: Entry) -> None:
    if not catalogue.can_be_had(entry):
        gone = catalogue.missing(entry)[0]
        raise LoadError(f"{entry.id} is a file of yours, and {gone} is missing", "put it there, or mend models.toml")


def _ask(question: str, refused: str, otherwise: str = "nothing was fetched") -> None:
    """Waits for a yes. Raises InvalidRequest for anything else, and where nobody can answer."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        raise InvalidRequest(refused, "add --yes to agree without being asked")
    print(f"{one_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidRequest(otherwise, "say y, or add --yes")


def run(session: Session, requests: Sequence[Request], as_json: bool) -> int:
    """Submits requests to an engine of a command's own, and follows them to the end."""
    with making.closing(session.store()) as store:
        return making.run(session.engine("command", store), requests, as_json)


def _files(session: Session, entry: Entry) -> list[Path]:
    file = getattr(entry, "file", None) or getattr(entry.source, "file", None)  # type: ignore[union-attr]
    return [file.path] if file is not None else [getattr(entry.source, "path", Path())]  # type: ignore[union-attr]


def verify(session: Session, id: str, as_json: bool) -> int:
    """Hashes the files of one entry, or of all that are here, again; what the hub gave and is wrong is removed."""
    from engines import choosing, holdings

    catalogue = session.catalogue
    entries = [catalogue.entry(id)] if id else [e for e in catalogue.entries() if not catalogue.missing(e)]
    wanted = dict.fromkeys(want for entry in entries for want in choosing.wants(entry))
    own = [path for entry in entries for path in shelf.own_files(entry)]
    progress = making.Progress()
    wrong = checked = 0
    for told in holdings.verify(wanted, own):
        if isinstance(told, holdings.Checking):
            progress.show(f"{told.name} {wording.bar(told.done / told.of if told.of else None, 16)}")
            continue
        progress.clear()
        checked += 1
        # what the hub itself calls by this hash is whole, and another file than the catalogue knows
        changed = told.state == "wrong" and hub.sha256_of(told.path) == told.found
        wrong += told.state in ("wrong", "missing") and not changed
        if told.state == "wrong" and not changed and hub.cache() in told.path.parents:
            holdings.discard(told)
        state = "changed" if changed else told.state
        if as_json:
            making.emit({"name": told.name, "path": str(told.path), "state": state, "bytes": told.bytes,
                         "sha256": told.found, "expected": told.expected})  # fmt: skip
        else:
            print(f"{state:<8} {wording.bytes_(told.bytes):>8}  {one_line(told.name)}", flush=True)
    progress.clear()
    for entry in entries if not wrong else ():
        for path in catalogue.missing(entry):
            wrong += 1
            if as_json:
                making.emit({"name": entry.id, "path": str(path), "state": "missing", "bytes": 0})
            else:
                print(f"missing           {one_line(str(path))}", flush=True)
    if wrong:
        lost = [path for entry in entries if not catalogue.can_be_had(entry) for path in catalogue.missing(entry)]
        raise LoadError(
            f"{wording.plural(wrong, 'file')} of {id or 'the models'} damaged or missing",
            f"put {lost[0]} there, or mend models.toml"
            if lost
            else f"safelight models pull {id or 'ID'} fetches what is missing",
        )
    if not checked:
        told_nothing = (
            f"nothing to verify: {f'{id} has no files' if id else 'no files here'} beside what came with safelight"
        )
        making.say([told_nothing]) if as_json else print(told_nothing)
    return 0


def remove(session: Session, id: str, yes: bool, as_json: bool) -> int:
    """Frees an entry's space in the hub's cache; an entry of the user's own is taken out of models.toml, and its files
    stay where they are."""
    from engines import choosing, holdings, proposing

    catalogue = session.catalogue
    kinds = proposing.listed(session.folders.models).get(id, ())
    known = next((entry for entry in catalogue.entries() if entry.id == id), None)
    if kinds and (known is None or shelf.KINDS[type(known)] not in kinds):
        # the catalogue refuses what stands there, for instance because what it stands on is gone
        proposing.drop(session.folders.models, id, kinds[0])
        if as_json:
            making.emit({"id": id, "bytes": 0, "entry_removed": True, "kept": []})
        else:
            print(f"{id} is taken out of {session.folders.models}; it could not be used")
        return 0
    entry = catalogue.entry(id)
    listed = bool(kinds)
    wanted = choosing.wants(entry)
    if not wanted and not listed:
        raise InvalidRequest(f"{id} came with safelight", "there is nothing of it to remove")
    others = [e for e in catalogue.entries() if e is not entry and not catalogue.missing(e)]
    keep = [w for e in others for w in choosing.wants(e, catalogue.needs(e) if isinstance(e, Model) else ())]
    users = [m.id for m in catalogue.models.values() if isinstance(entry, Model) and entry in catalogue.needs(m)]
    users = [m for m in users if not catalogue.missing(catalogue.models[m])]
    if users and not yes:
        raise InvalidRequest(
            f"{', '.join(users)} {'stands' if len(users) == 1 else 'stand'} on {id}",
            "add --yes to remove it all the same",
        )
    if users:
        making.say([f"{', '.join(users)} can't be used without {id}"])
    if not yes and wanted and not catalogue.missing(entry):
        _ask(f"remove {id} from {hub.cache()}?", f"{id} would be removed", "nothing was removed")
    freed = holdings.remove(wanted, keep) if wanted else None
    if listed:
        proposing.drop(session.folders.models, id, shelf.KINDS[type(entry)])
    if as_json:
        making.emit({"id": id, "bytes": freed.bytes if freed else 0, "entry_removed": listed,
                     "kept": list(freed.kept) if freed else [str(p) for p in shelf.own_files(entry)]})  # fmt: skip
        return 0
    if freed is not None:
        print(holdings.told(freed))
    if listed:
        print(f"{id} is taken out of {session.folders.models}")
        for path in shelf.own_files(entry):
            print(f"your file stays: {one_line(str(path))}")
    return 0
