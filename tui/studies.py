"""Sweeps that are written down in TOML: the shipped ones by name, one's own by path."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, near
from tui import grids, weighing
from tui.clean import one_line
from tui.draft import Draft
from tui.grids import Grid
from tui.weighing import Part

SHIPPED = Path(__file__).with_name("studies.toml")
FIELDS = (
    "name", "title", "prompts", "models", "negative", "seeds", "settings", "loras", "parts", "scorer", "syntax",
    "override",
)  # fmt: skip
"What a study may say."
AXES = {"guidance-rescale": "rescale", "variation-strength": "variation_strength"}
"What a setting is called on the command line, where a draft calls it otherwise."


@dataclass(frozen=True, slots=True)
class Study:
    """A grid with a title."""

    name: str
    "What --study calls it."
    title: str
    "What it asks."
    grid: Grid
    "What is compared."
    scorer: str
    "Who ranks; empty for the best that is here."


def load(name: str) -> Study:
    """A shipped study by its name, or one of a file that ends in .toml.

    Raises:
        InvalidRequest: there is none, or the file says something that no sweep has.
    """
    if name.lower().endswith(".toml"):
        table = _file(Path(name))
        return _study({"name": Path(name).stem, **table}, name)
    shipped = {table["name"]: table for table in tomllib.loads(SHIPPED.read_text(encoding="utf-8"))["study"]}
    if name not in shipped:
        raise InvalidRequest(f"no study '{one_line(name, 40)}'", near(name, shipped, "studies"), "study")
    return _study(shipped[name], name)


def names() -> tuple[str, ...]:
    """Of the shipped ones."""
    return tuple(table["name"] for table in tomllib.loads(SHIPPED.read_text(encoding="utf-8"))["study"])


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InvalidRequest(f"{path} can't be read: {e.strerror or e}", "name a .toml file", "study") from e
    except ValueError as e:
        raise InvalidRequest(f"{path} is no TOML: {one_line(str(e), 100)}", "tui/studies.toml shows the form") from e


def _study(table: dict[str, Any], where: str) -> Study:
    for key in table:
        if key not in FIELDS:
            raise InvalidRequest(f"{where}: no field '{one_line(key, 40)}'", near(key, FIELDS, "fields"), "study")
    prompts = _texts(table, "prompts", where)
    if not prompts:
        raise InvalidRequest(f"{where}: a sweep needs prompts", 'prompts = ["a red apple"]', "study")
    settings = table.get("settings", {})
    if not isinstance(settings, dict):
        raise InvalidRequest(f"{where}: settings is no table", "settings = { guidance = [3, 5] }", "study")
    axes: list[tuple[str, tuple[str, ...]]] = []
    for key in settings:
        axis = AXES.get(key, key)
        if axis not in grids.SETTINGS:
            hint = near(key, grids.SETTINGS, "settings")
            raise InvalidRequest(f"{where}: no setting '{one_line(key, 40)}'", hint, "study")
        if axis in dict(axes):
            raise InvalidRequest(f"{where}: {axis} is there twice", f"leave '{one_line(key, 40)}' out", "study")
        if found := _texts(settings, key, where):
            axes.append((axis, grids.distinct(axis, found)))
    base = Draft(
        negative_prompt=_text(table, "negative", where), syntax=_text(table, "syntax", where),
        override="yes" if table.get("override") is True else "",
    )  # fmt: skip
    grid = Grid(
        tuple(dict.fromkeys(prompts)), tuple(dict.fromkeys(_texts(table, "models", where))),
        grids.seeds(_text(table, "seeds", where) or "4"), tuple(axes), grids.stacks(_texts(table, "loras", where)),
        _parts(table, where), base,
    )  # fmt: skip
    title = _text(table, "title", where) or _text(table, "name", where)
    return Study(_text(table, "name", where), title, grid, _text(table, "scorer", where))


def with_base(study: Study, base: Draft) -> Grid:
    """Its grid over settings of the user's; what the study says itself holds."""
    own = study.grid.base
    return replace(
        study.grid,
        base=replace(base, negative_prompt=own.negative_prompt, syntax=own.syntax, override=own.override),
    )


def _parts(table: dict[str, Any], where: str) -> tuple[Part, ...]:
    """A table of words and weights, or a list as --part has them."""
    told = table.get("parts", {})
    if isinstance(told, dict):
        return weighing.distinct([weighing.part(words, _texts(told, words, where)) for words in told])
    return weighing.distinct([weighing.read(text) for text in _texts(table, "parts", where)])


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    numeric = key == "seeds" and isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, str) and not numeric:
        raise InvalidRequest(f"{where}: {key} is no text", f'{key} = "…"', "study")
    return str(value)


def _texts(table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or any(isinstance(x, bool) or not isinstance(x, str | int | float) for x in value):
        raise InvalidRequest(f"{where}: {key} is no list of texts or numbers", f'{key} = ["…", "…"]', "study")
    return tuple(str(x) for x in value)
