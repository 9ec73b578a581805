"""The commands under `safelight settings`: what settings.toml says, and changing it from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engines.errors import InvalidRequest, near
from tui import session as sessions
from tui import settings, settings_file, theme_files
from tui.arguments import Debug, Json
from tui.clean import one_line
from tui.settings import Option, Settings, Value
from tui.wishes import Wishes

app = typer.Typer(help="What settings.toml says; change it line by line.", rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As safelight settings list names it.")]


@app.command("list")
def list_(json: Json = False, debug: Debug = False) -> int:
    """List all settings: their values, where each comes from, and what it decides."""
    from tui.listing import table
    from tui.making import emit

    wishes = _begin(debug)
    if json:
        for option in settings.OPTIONS:
            emit(_object(option, wishes))
        emit({"name": "keys", "value": dict(wishes.wanted.keys), "default": {}})
        return 0
    rows = [("NAME", "VALUE", "FROM", "WHAT IT DECIDES")]
    for o in settings.OPTIONS:
        value = one_line(o.text(wishes.value(o)), 40) or "(empty)"
        rows.append((o.name, value, wishes.origin(o), o.sentence))
    rows += [(f"keys.{one_line(id, 20)}", one_line(key, 40), "file", "") for id, key in wishes.wanted.keys]
    table(rows)
    return 0


@app.command()
def get(name: Name, json: Json = False, debug: Debug = False) -> int:
    """Print one setting's value."""
    from tui.making import emit

    wishes = _begin(debug)
    if name.startswith("keys."):
        for id, key in wishes.wanted.keys:
            if f"keys.{id}" == name:
                emit({"name": name, "value": key}) if json else print(one_line(key))
                return 0
        raise InvalidRequest(
            f"settings.toml has no '{one_line(name, 60)}'", "safelight settings list shows what it has"
        )
    option = _option(name)
    if json:
        emit(_object(option, wishes))
    else:
        print(one_line(option.text(wishes.value(option))))
    return 0


@app.command("set")
def set_(
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help='What it shall be; "" for an empty text.')],
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Write one setting into settings.toml; comments and all other lines stay."""
    session = sessions.begin(debug)
    path = session.folders.settings
    if name.startswith("keys."):
        hint = f"safelight's own list of settings waits for a key (Alt+,); or write [keys] in {path}"
        raise InvalidRequest("keys are looked at for clashes in the workbench, not here", hint, "keys")
    option = _option(name)
    wanted = option.read(value)
    if name == "theme":
        known = theme_files.names(session.folders.config / "themes")
        if wanted not in known:
            raise InvalidRequest(f"there is no theme '{one_line(value, 60)}'", near(value, known, "themes"), name)
    elif name == "model" and wanted:
        session.catalogue.require(str(wanted))
    settings_file.change(path, name, wanted)
    return _say(path, option, json)


@app.command()
def unset(name: Name, json: Json = False, debug: Debug = False) -> int:
    """Take a setting out of settings.toml, so that its default holds; keys.ACTION is one key."""
    path = sessions.begin(debug).folders.settings
    option = None if name.startswith("keys.") else _option(name)
    settings_file.change(path, name, None)
    return _say(path, option, json, name)


@app.command()
def path(json: Json = False, debug: Debug = False) -> int:
    """Print where settings.toml is, or would be."""
    from tui.making import emit

    where = sessions.begin(debug).folders.settings
    emit({"path": str(where), "exists": where.exists()}) if json else print(where)
    return 0


def _begin(debug: bool) -> Wishes:
    """What holds. A bad line is told here, too: whoever asks for settings wants to know."""
    from tui.making import say

    session = sessions.begin(debug)
    say(session.notices)
    wishes = Wishes(session.settings, session.folders.settings)
    wishes.learn(settings.look(session.folders.settings))
    return wishes


def _say(where: Path, option: Option | None, json: bool, name: str = "") -> int:
    """What the file says now, and nothing where it can't be said."""
    from tui.making import emit

    wishes = Wishes(Settings(), where)
    wishes.learn(settings.look(where))
    if option is None:
        emit({"name": name, "value": None}) if json else print(f"{one_line(name, 60)} is not set")
    elif json:
        emit(_object(option, wishes))
    else:
        value = option.text(wishes.wanted_value(option))
        print(f"{option.name} = {one_line(value) or '(empty)'} ({wishes.origin(option)})")
    return 0


def _option(name: str) -> Option:
    if (option := settings.BY_NAME.get(name)) is not None:
        return option
    raise InvalidRequest(f"no setting is called '{one_line(name, 60)}'", near(name, settings.BY_NAME, "settings"), name)


def _object(option: Option, wishes: Wishes) -> dict[str, Any]:
    value: Value = wishes.value(option)
    return {
        "name": option.name,
        "value": value,
        "default": option.default,
        "from": wishes.origin(option),
        "kind": option.kind,
        "choices": list(option.choices),
        "least": option.least,
        "most": option.most,
        "at_once": option.at_once,
        "group": option.group,
        "help": option.sentence,
    }
