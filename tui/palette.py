"""Themes: every `themes/*.toml` becomes a Textual `Theme`; one bad file is reported and the rest load."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import Theme

from tui.clean import one_line
from tui.theme_files import DEFAULT_THEME, shipped_folder

__all__ = ["DEFAULT_THEME", "load_themes", "read_theme", "shipped_folder"]

_COLOURS = (
    "primary", "secondary", "warning", "error", "success", "accent", "foreground", "background", "surface", "panel",
    "boost",
)  # fmt: skip
_REQUIRED = ("primary", "foreground", "background", "surface", "panel")


def load_themes(user_folder: Path | None = None) -> tuple[list[Theme], list[str]]:
    """All themes, the default first, and one line for every file that could not be used.

    A user's theme takes the place of a shipped one of the same name.
    """
    themes: dict[str, Theme] = {}
    problems: list[str] = []
    for folder in (shipped_folder(), user_folder):
        if folder is None or not folder.is_dir():
            continue
        for path in sorted(folder.glob("*.toml")):
            try:
                theme = read_theme(path)
            except (OSError, ValueError, RecursionError) as error:
                problems.append(one_line(f"theme {path.name}: {error}", 200))
                continue
            themes[theme.name] = theme
    return sorted(themes.values(), key=lambda theme: (theme.name != DEFAULT_THEME, theme.name)), problems


def read_theme(path: Path) -> Theme:
    """One theme from its file, named like the file; ValueError says what is wrong with it."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    variables = table.pop("variables", {})
    dark = table.pop("dark", True)
    if not isinstance(dark, bool):
        raise ValueError("'dark' is true or false")
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise ValueError("[variables] holds text only")
    if unknown := sorted(set(table) - set(_COLOURS)):
        raise ValueError(f"unknown colour {unknown[0]!r}; there are {', '.join(_COLOURS)}")
    if missing := [name for name in _REQUIRED if name not in table]:
        raise ValueError(f"the colour {missing[0]!r} is missing")
    for name, value in table.items():
        try:
            Color.parse(value)
        except (ColorParseError, TypeError, AttributeError):
            raise ValueError(f'{name} = {value!r} is no colour; write it like "#d04a35"') from None
    theme = Theme(name=path.stem, dark=dark, variables=variables, **table)
    try:
        theme.to_color_system().generate()
    except (ColorParseError, ValueError) as error:
        raise ValueError(f"[variables]: {error}") from None
    return theme
