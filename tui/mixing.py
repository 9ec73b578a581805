"""Models that are made of models: `safelight models merge` and `convert`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.blocks import Formula
from engines.catalogue import Catalogue
from engines.errors import InvalidRequest
from engines.requests import Convert, Merge
from tui import adding, making, shares, shelf, stocking
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


def merge(session: Session, mix: Mix, out: str, id: str, as_json: bool) -> int:
    """Mixes models: into a file, or under an id that is mixed in memory whenever it is loaded."""
    from engines import blocks

    if not 2 <= len(mix.models) <= 3:
        raise InvalidRequest(f"{len(mix.models)} models make no mix", "name two or three")
    if mix.method == "add-difference" and len(mix.models) != 3:
        raise InvalidRequest(f"add-difference takes three models, not {len(mix.models)}", "A + share·(B − C)")
    if mix.dtype:
        blocks.check_dtype(mix.dtype)
        if not out:
            raise InvalidRequest(
                "--dtype is for a file; what is mixed in memory has the first model's type",
                "leave it out, or write a file with --out",
            )
    weights = _weights(mix)
    formula = blocks.Formula(mix.method, weights, blocks.parse(mix.blocks))
    if not out:
        return _merge_in_memory(session, mix, formula, id, as_json)
    target = Path(out).expanduser().absolute()
    parents = tuple(str(_parent(session.catalogue, name)) for name in mix.models)
    request = Merge(parents, weights, str(target), mix.method, tuple(mix.blocks), mix.dtype)
    request.validate()
    stocking.run(session, [request], as_json)
    return adding.add(session, str(target), id, "", False, as_json) if id else 0


def _merge_in_memory(session: Session, mix: Mix, formula: Formula, id: str, as_json: bool) -> int:
    from engines import proposing

    models = [session.catalogue.model(name) for name in mix.models]
    families = {model.family for model in models}
    if len(families) > 1:
        told = ", ".join(f"{model.id} is {model.family}" for model in models)
        raise InvalidRequest(f"models of different architecture can't be mixed: {told}", "mix models of one family")
    name = _free_id(id, "-".join(model.id for model in models), {entry.id for entry in session.catalogue.entries()})
    proposing.append(session.folders.models, proposing.mix(name, models, formula))
    if as_json:
        making.emit({"id": name, "models": [m.id for m in models], "formula": str(formula)})
    else:
        print(f"{name}: {formula}, mixed in memory when it is loaded")
        print(f'try safelight generate "a red apple" -m {name}')
    return 0


def _weights(mix: Mix) -> tuple[float, ...]:
    """One number a model: what was typed, as `tui.shares` reads it, else equal shares."""
    count = len(mix.models)
    if not mix.weights.strip():
        return (1.0, 1.0, 1.0) if mix.method == "add-difference" else (1 / count,) * count
    return shares.weights("weights", mix.weights, mix.method, count)


def _parent(catalogue: Catalogue, name: str) -> Path:
    """The one file that a parent of a file merge is."""
    if name.endswith(".safetensors") or "/" in name:
        return _there(Path(name))
    model = catalogue.require(name)
    file = getattr(model.source, "file", None)
    if file is None or getattr(model.source, "base", None):
        raise InvalidRequest(
            f"{name} is not one file with everything in it: {shelf.source(model)}",
            "leave --out out to mix in memory, which takes every model",
        )
    return Path(file.path)


def _there(file: Path) -> Path:
    """The whole path of a file that was named. Raises InvalidRequest if nothing is there."""
    path = file.expanduser().absolute()
    if not os.path.lexists(path):
        raise InvalidRequest(f"there is no {one_line(str(file), 80)}", "name a file that is there")
    return path


def convert(session: Session, file: Path, out: str, as_json: bool) -> int:
    """Makes a .safetensors file of a pickled one."""
    source = _there(file)
    target = Path(out).expanduser().absolute() if out else source.with_suffix(".safetensors")
    request = Convert(str(source), str(target))
    request.validate()
    return stocking.run(session, [request], as_json)


def _free_id(wanted: str, made: str, known: set[str]) -> str:
    """The id that was asked for if it is free, else one made from a name."""
    if wanted:
        if wanted in known:
            raise InvalidRequest(f"'{wanted}' is the id of another entry", "choose another --id")
        return wanted
    name, number = made, 2
    while name in known:
        name, number = f"{made}-{number}", number + 1
    return name
