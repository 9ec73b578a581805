"""Every theme can be read: each pair of colours that the stylesheet and the panes use, as WCAG 2.1 AA measures it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_palette import contrast
from textual.color import Color
from textual.constants import DIM_FACTOR
from textual.theme import Theme

from tui import palette

ROOT = Path(__file__).resolve().parent.parent
THEMES, _ = palette.load_themes()
TEXT, MARK = 4.5, 3.0
"Least contrast of text; of bold text, marks, and of what is switched off."

SHEET = re.sub(r"/\*.*?\*/", "", (ROOT / "tui" / "app.tcss").read_text(encoding="utf-8"), flags=re.S)
RULES = [(" ".join(names.split()), body) for names, body in re.findall(r"([^{}]+)\{([^{}]*)\}", SHEET)]
OF_PANES = {
    found
    for path in sorted((ROOT / "tui").rglob("*.py"))
    for found in re.findall(r'"((?:bold |italic |underline )*\$[a-z]+(?: \d+%)?(?: [a-z]+)*)"', path.read_text())
}
"What is written into the panes' text, as Textual reads it: 'bold $primary', '$foreground 70%'."

IDLE = re.compile(r"-idle|strike")
"What is switched off, and struck through besides."
MARKS = re.compile(r"--(mark|bar)\b")
"Signs and bars: they are seen, not read."


def colour(theme: Theme, text: str, ground: Color) -> Color:
    """'$primary 20%' over a ground."""
    name, _, share = text.removeprefix("$").partition(" ")
    value = getattr(theme, name)
    assert value, f"{theme.name} has no {name}"
    return ground.blend(Color.parse(value), float(share.rstrip("%") or 100) / 100)


def declared(body: str, name: str) -> list[str]:
    return re.findall(rf"(?:^|;)\s*{name}:\s*(\$[a-z]+(?: \d+%)?)", body)


def grounds(theme: Theme, *names: str) -> Iterator[tuple[str, Color]]:
    for name in names or ("background", "surface"):
        yield name, Color.parse(getattr(theme, name))


def least(ink: str, names: str = "") -> float:
    return MARK if re.search(r"\bbold\b", ink) or IDLE.search(ink + names) or MARKS.search(names) else TEXT


def problem(theme: Theme, what: str, ink: Color, paper: Color, wanted: float) -> list[str]:
    found = contrast(ink.hex, paper.hex)
    return [] if found >= wanted - 0.005 else [f"{theme.name}: {what}: {found:.2f} of {wanted}"]


def test_there_is_something_to_measure() -> None:
    assert len(RULES) > 60 and len(OF_PANES) > 10
    assert {"$foreground 70%", "bold $primary"} <= OF_PANES
    assert least("bold $primary") == MARK and least("$primary") == TEXT


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_of_the_stylesheet(theme: Theme) -> None:
    """On both grounds, since what opens over the workbench stands on the surface."""
    bad: list[str] = []
    for names, body in RULES:
        papers = declared(body, "background")
        inks = [
            *declared(body, "color"),
            *declared(body, "border-title-color"),
            *declared(body, "border-subtitle-color"),
        ]
        for ink in inks or (["$foreground"] if papers else []):
            for ground, base in grounds(theme):
                paper = colour(theme, papers[0], base) if papers else base
                told = colour(theme, ink, paper)
                if "text-style: dim" in body:
                    told = paper.blend(told, DIM_FACTOR)
                wanted = least(ink + body, names)
                bad += problem(theme, f"{names} {ink} on {papers} over {ground}", told, paper, wanted)
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_of_the_panes(theme: Theme) -> None:
    """Also on the panel, which title and key line stand on."""
    bad: list[str] = []
    for ink in OF_PANES:
        names = re.findall(r"\$[a-z]+(?: \d+%)?", ink)
        for ground, base in grounds(theme, "background", "surface", "panel"):
            bad += problem(theme, f"{ink} on {ground}", colour(theme, names[0], base), base, wanted=_of_pane(ink))
    assert not bad, "\n".join(bad)


def _of_pane(ink: str) -> float:
    return MARK if "52%" in ink else least(ink)  # what is switched off, or a sign that there is more


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_under_the_cursor(theme: Theme) -> None:
    """Lists lay the cursor's colour under their texts, dim ones too; those are mixed with the ground without it."""
    bad: list[str] = []
    by_class = {name: body for names, body in RULES for name in re.findall(r"\.(\w+--\w+)", names)}
    cursors = {name.partition("--")[0]: body for name, body in by_class.items() if name.endswith("--cursor")}
    assert {"queue", "history", "board", "sheet", "offers", "preferences"} <= {*cursors}
    for family, body in cursors.items():
        for ground, base in grounds(theme):
            paper = colour(theme, declared(body, "background")[0], base)
            bad += problem(theme, f"{family} foreground under the cursor over {ground}",
                           colour(theme, "$foreground", base), paper, TEXT)  # fmt: skip
            for name, other in by_class.items():
                if name.startswith(f"{family}--") and (inks := declared(other, "color")):
                    wanted = least(other, f".{name}")
                    what = f".{name} under the cursor over {ground}"
                    bad += problem(theme, what, colour(theme, inks[0], base), paper, wanted)
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_what_has_the_focus_is_seen(theme: Theme) -> None:
    for _, base in grounds(theme):
        assert contrast(Color.parse(theme.primary).hex, base.hex) >= MARK  # the heavy line over a pane, and ▌


def test_four_themes_differ_and_one_is_for_each_room() -> None:
    seen = {(theme.background, theme.primary) for theme in THEMES}
    assert len(seen) == len(THEMES) >= 4
    assert any(not theme.dark for theme in THEMES) and any(theme.name == "high-contrast" for theme in THEMES)
