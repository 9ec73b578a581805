"""Every theme file loads and can be read: contrast as WCAG 2.1 measures it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from textual.app import App
from textual.color import Color
from textual.theme import Theme

from tui import palette

THEMES, PROBLEMS = palette.load_themes()
BY_NAME = {theme.name: theme for theme in THEMES}


def luminance(colour: str) -> float:
    def linear(channel: int) -> float:
        share = channel / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = Color.parse(colour).rgb
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def contrast(one: str | None, other: str | None) -> float:
    assert one is not None
    assert other is not None
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the well-known near miss


def test_all_shipped_themes_load_with_the_default_first() -> None:
    assert PROBLEMS == []
    assert len(THEMES) >= 6
    assert THEMES[0].name == palette.DEFAULT_THEME
    assert {theme.dark for theme in THEMES} == {True, False}
    assert "high-contrast" in BY_NAME


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_is_readable(theme: Theme) -> None:
    for ground in (theme.background, theme.surface, theme.panel):
        assert contrast(theme.foreground, ground) >= (7 if theme.name == "high-contrast" else 4.5)


COLOURS = ("accent", "primary", "warning", "error", "success")


@pytest.mark.parametrize(("theme", "colour"), product(THEMES, COLOURS), ids=lambda value: getattr(value, "name", value))
def test_colours_are_readable_as_text(theme: Theme, colour: str) -> None:
    least = 4.5 if theme.name == "high-contrast" else 3
    assert contrast(getattr(theme, colour), theme.surface) >= least


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_what_pictures_stand_on_is_nearly_neutral(theme: Theme) -> None:
    assert theme.background
    channels = Color.parse(theme.background).rgb
    assert max(channels) - min(channels) <= 16
    assert (luminance(theme.background) < 0.5) == theme.dark


def test_a_bad_file_is_reported_and_the_rest_load(tmp_path: Path) -> None:
    good = "".join(f'{name} = "#808080"\n' for name in ("primary", "foreground", "background", "surface", "panel"))
    files = {
        "good.toml": good,
        "broken.toml": "primary = ",
        "colour.toml": good.replace("#808080", "reddish", 1),
        "number.toml": good.replace('"#808080"', "7", 1),
        "missing.toml": 'primary = "#808080"\n',
        "unknown.toml": good + 'primry = "#808080"\n',
        "dark.toml": "dark = 3\n" + good,
        "variables.toml": good + "[variables]\nborder = 3\n",
        "nested.toml": good + "[accent]\nred = 3\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin.toml").write_bytes(b'primary = "\xff"\n')
    (tmp_path / "folder.toml").mkdir()

    themes, problems = palette.load_themes(tmp_path)

    assert {theme.name for theme in themes} == {*BY_NAME, "good"}
    for name in {*files, "latin.toml", "folder.toml"} - {"good.toml"}:
        about = [problem for problem in problems if f" {name}:" in problem]
        assert len(about) == 1, name
        assert "\n" not in about[0]
    assert len(problems) == len(files) + 1


def test_a_users_theme_takes_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    shipped = palette.shipped_folder()
    assert shipped
    text = (shipped / "paper.toml").read_text(encoding="utf-8").replace("#2f4f7f", "#102030")
    (tmp_path / "paper.toml").write_text(text, encoding="utf-8")
    themes, problems = palette.load_themes(tmp_path)
    assert problems == []
    assert {theme.name: theme.primary for theme in themes}["paper"] == "#102030"
    assert len(themes) == len(THEMES)


def test_no_folder_of_the_users_own_is_no_problem(tmp_path: Path) -> None:
    assert palette.load_themes(tmp_path / "nowhere")[1] == []


def test_problems_carry_no_escape_sequences(tmp_path: Path) -> None:
    (tmp_path / "x\x1b]0;t\x07.toml").write_text('primary = "\\u001b[31m"', encoding="utf-8")
    problems = palette.load_themes(tmp_path)[1]
    assert len(problems) == 1
    assert problems[0].isprintable()


async def test_textual_takes_every_theme() -> None:
    app: App[None] = App()
    async with app.run_test() as pilot:
        for theme in THEMES:
            app.register_theme(theme)
            app.theme = theme.name
            await pilot.pause()
            assert app.current_theme is theme
