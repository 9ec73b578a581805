"""What `safelight models` does: identify and add files, fetch, check and remove what the hub has, mix and convert."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.catalogue import Catalogue
from engines.entries import Adapter, Entry, Model
from engines.errors import InvalidRequest, LoadError
from engines.requests import Convert, Merge, Pull, Request
from tui import making, shelf, wording
from tui.clean import one_line
from tui.session import Session


@dataclass(frozen=True, slots=True)
class Mix:
    """What is to be mixed, as it was typed."""

    models: Sequence[str]
    "Ids of the catalogue or paths of files."
    weights: str
    "Numbers with commas between them."
    method: str
    "One of engines.blocks.METHODS."
    blocks: Sequence[str]
    "NAME=SHARE each."
    dtype: str
    "fp16, bf16, fp32 or empty."


# ── fetching ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pull(session: Session, id: str, yes: bool, as_json: bool) -> int:
    """Fetches an entry of any kind. Its licence is told first where it binds."""
    entry = session.catalogue.entry(id)
    if session.catalogue.missing(entry):
        _check_can_be_had(session.catalogue, entry)
        _tell_notices(session.catalogue, entry)
        if notice_binds(session.catalogue, entry) and not yes:
            _ask(f"fetch {entry.id}?", f"{entry.id} has terms to agree to; nothing was fetched")
        _run(session, [Pull(id)], as_json)
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
    _run(session, [Pull(entry.id) for entry in wanted], False)


def notice_binds(catalogue: Catalogue, entry: Entry) -> bool:
    """Whether something is told before an entry is fetched."""
    return bool(_notices(catalogue, entry))


def _notices(catalogue: Catalogue, entry: Entry) -> list[str]:
    told = [(one.id, getattr(one, "notice", "")) for one in catalogue.lacking(entry)]
    return [f"{id}: {notice}" for id, notice in told if notice]


def _tell_notices(catalogue: Catalogue, entry: Entry) -> None:
    making.say(_notices(catalogue, entry))


def _check_can_be_had(catalogue: Catalogue, entry: Entry) -> None:
    if not catalogue.can_be_had(entry):
        gone = catalogue.missing(entry)[0]
        raise LoadError(f"{entry.id} is a file of yours, and {gone} is missing", "put it there, or mend models.toml")


def _ask(question: str, refused: str) -> None:
    """Waits for a yes. Raises InvalidRequest for anything else, and where nobody can answer."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        raise InvalidRequest(refused, "add --yes to fetch it without being asked")
    print(f"{one_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidRequest("nothing was fetched", "say y, or add --yes")


def _run(session: Session, requests: Sequence[Request], as_json: bool) -> int:
    with making.closing(session.store()) as store:
        return making.run(session.engine("command", store), requests, as_json)


def _files(session: Session, entry: Entry) -> list[Path]:
    file = getattr(entry, "file", None) or getattr(entry.source, "file", None)  # type: ignore[union-attr]
    return [file.path] if file is not None else [getattr(entry.source, "path", Path())]  # type: ignore[union-attr]


# ── mixing and converting ───────────────────────────────────────────────────────────────────────────────────────────


def merge(session: Session, mix: Mix, out: str, id: str, as_json: bool) -> int:
    """Mixes models: into a file, or under an id that is mixed in memory whenever it is loaded."""
    from engines import blocks

    if not 2 <= len(mix.models) <= 3:
        raise InvalidRequest(f"{len(mix.models)} models make no mix", "name two or three")
    weights = _weights(mix)
    formula = blocks.Formula(mix.method, weights, blocks.parse(mix.blocks))
    if not out:
        return _merge_in_memory(session, mix, formula, id, as_json)
    target = Path(out).expanduser().absolute()
    parents = tuple(str(_parent(session.catalogue, name)) for name in mix.models)
    request = Merge(parents, weights, str(target), mix.method, tuple(mix.blocks), mix.dtype)
    request.validate()
    _run(session, [request], as_json)
    return add(session, str(target), id, False, as_json) if id else 0


def _merge_in_memory(session: Session, mix: Mix, formula: Any, id: str, as_json: bool) -> int:
    from engines import proposing

    models = [session.catalogue.model(name) for name in mix.models]
    families = {model.family for model in models}
    if len(families) > 1:
        told = ", ".join(f"{model.id} is {model.family}" for model in models)
        raise InvalidRequest(f"models of different architecture can't be mixed: {told}", "mix models of one family")
    known = {entry.id for entry in session.catalogue.entries()}
    name = _free_id(id, "-".join(model.id for model in models), known)
    text = proposing.merged(name, models, formula)
    proposing.append(session.folders.models, text)
    if as_json:
        making.emit({"id": name, "models": [m.id for m in models], "formula": str(formula)})
    else:
        print(f"{name}: {formula}, mixed in memory when it is loaded; try safelight generate -m {name}")
    return 0


def _weights(mix: Mix) -> tuple[float, ...]:
    """One number a model: what was typed, else equal shares; for add-difference one number is enough."""
    count = len(mix.models)
    if not mix.weights.strip():
        return (1.0, 1.0, 1.0) if mix.method == "add-difference" else (1 / count,) * count
    try:
        numbers = tuple(float(x) for x in mix.weights.split(","))
    except ValueError:
        raise InvalidRequest(f"weights must be numbers, not '{mix.weights[:40]}'", "for instance 0.7,0.3") from None
    if mix.method == "add-difference" and len(numbers) == 1:
        return (1.0, numbers[0], 1.0)
    if mix.method == "weighted-sum" and len(numbers) == 1 and count == 2:
        return (1 - numbers[0], numbers[0])
    if len(numbers) != count:
        raise InvalidRequest(f"{count} models have {len(numbers)} weights", "give one for each, with commas")
    return numbers


def _parent(catalogue: Catalogue, name: str) -> Path:
    """The one file that a parent of a file merge is."""
    if name.endswith(".safetensors") or "/" in name:
        return Path(name).expanduser().absolute()
    model = catalogue.require(name)
    file = getattr(model.source, "file", None)
    if file is None or getattr(model.source, "base", None):
        raise InvalidRequest(
            f"{name} is not one file with everything in it: {shelf.source(model)}",
            "leave --out out to mix in memory, which takes every model",
        )
    return Path(file.path)


def convert(session: Session, file: Path, out: str, as_json: bool) -> int:
    """Makes a .safetensors file of a pickled one."""
    source = file.expanduser().absolute()
    target = Path(out).expanduser().absolute() if out else source.with_suffix(".safetensors")
    request = Convert(str(source), str(target))
    return _run(session, [request], as_json)


def _free_id(wanted: str, made: str, known: set[str]) -> str:
    """The id that was asked for if it is free, else one made from a name."""
    if wanted:
        if wanted in known:
            raise InvalidRequest(f"there is a {wanted} already", "choose another --id")
        return wanted
    name, number = made, 2
    while name in known:
        name, number = f"{made}-{number}", number + 1
    return name


__all__ = ["Adapter", "Mix", "Model", "convert", "ensure", "merge", "pull"]
