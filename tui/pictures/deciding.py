"""In which way pictures are shown in a terminal, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tui.clean import one_line
from tui.pictures.asking import Answers

Mode: TypeAlias = Literal["kitty", "sixel", "halfblocks"]
MODES: tuple[Mode, ...] = ("kitty", "sixel", "halfblocks")
WISHES = ("auto", *MODES)
"What may be asked for."
VARIABLE = "SAFELIGHT_PICTURES"
"Of the environment: asks for one of WISHES, whatever the settings say."
CELL = (10, 20)
"Pixels of a cell where nobody tells: only the shape matters in kitty, which scales by itself."

# with Unicode placeholders (kitty's documentation of its graphics protocol); others answer the query and have none
_PLACEHOLDERS = {"kitty": (0, 28), "ghostty": (1, 0)}
_TRUE_COLOURS = {
    "kitty": 0, "ghostty": 0, "wezterm": 0, "foot": 0, "iterm2": 3, "konsole": 0, "contour": 0, "mintty": 2,
    "alacritty": 0, "vte": 3600, "xterm": 331,
}  # fmt: skip
"Terminals that show 24 bits of colour, and the first of their numbers with them (their change logs)."
_PROGRAM = re.compile(r"\s*([A-Za-z]+\d?)[ (]?v?(\d+)?")
_NAME = re.compile(r"\s*([A-Za-z]+)[ (]?v?(\d+)\.(\d+)")
_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")


@dataclass(frozen=True, slots=True)
class Decision:
    """How pictures are shown."""

    mode: Mode
    "Which way."
    why: str
    "One line: what it follows from."
    better: str = ""
    "One line: what would make more of it; empty if nothing would."
    wrapped: bool = False
    "Whether what is meant for the terminal is wrapped for tmux to hand it on."
    cell: tuple[int, int] = CELL
    "Width and height of a cell in pixels."
    true_colours: bool = False
    "Whether it is known to show 24 bits of colour, whatever its environment says: over ssh COLORTERM is not forwarded."
    name: str = ""
    "What the terminal calls itself, in small letters and without its version."


def decide(wish: str, answers: Answers, environment: Mapping[str, str]) -> Decision:
    """The way that looks best of those that a terminal shows right.

    Args:
        wish: one of WISHES; 'textual-image' of older settings is 'auto'.
        answers: what the terminal said.
        environment: of this process; VARIABLE overrides the wish.
    """
    wish, whose = _wish(wish, environment)
    name = program(answers.name)
    found = replace(_found(answers, environment), true_colours=_true_colours(answers), name=name)
    if wish == "auto" or wish == found.mode:
        return found
    inside = answers.tmux
    wrapped = inside is not None and wish == "kitty"
    better = "" if wish == "halfblocks" and found.mode == "halfblocks" else f"auto would be {found.mode}: {found.why}"
    return replace(found, mode=wish, why=f"{whose} asks for it", better=better, wrapped=wrapped)  # type: ignore[arg-type]


def program(name: str) -> str:
    """'kitty' of 'kitty(0.41.1)'."""
    found = _PROGRAM.match(name)
    return found[1].lower() if found else ""


def _true_colours(answers: Answers) -> bool:
    if answers.tmux is not None:
        return "RGB" in answers.tmux.features
    found = _PROGRAM.match(answers.name)
    least = _TRUE_COLOURS.get(program(answers.name))
    return found is not None and least is not None and int(found[2] or 0) >= least


def known(wish: str) -> bool:
    """Whether something may be asked for."""
    return wish in (*WISHES, "textual-image")


def _wish(wish: str, environment: Mapping[str, str]) -> tuple[str, str]:
    told, whose = environment.get(VARIABLE, ""), VARIABLE
    if told not in WISHES:
        told, whose = wish, "the setting `pictures`"
    return (told if told in WISHES else "auto"), whose


def _found(answers: Answers, environment: Mapping[str, str]) -> Decision:
    inside = answers.tmux
    cell = (inside.cell if inside is not None else None) or answers.cell or CELL
    if environment.get("NO_COLOR") is not None and environment["NO_COLOR"] != "":
        return Decision("halfblocks", "NO_COLOR is set", "", cell=cell)
    if inside is not None:
        return _in_tmux(answers, cell)
    for name, outer in (("STY", "screen"), ("ZELLIJ", "zellij")):
        if name in environment:
            better = f"outside of {outer} there may be more"
            return Decision("halfblocks", f"{outer} hands no pictures on", better, cell=cell)
    said = one_line(answers.name, 40)
    if answers.kitty and (least := _least(answers.name)) is not None:
        name, needed, version = least
        if version >= needed:
            return Decision("kitty", f"{said} has kitty's protocol with placeholders", cell=cell)
        newer = f"{name} {needed[0]}.{needed[1]} and later show them sharp"
        return Decision("halfblocks", f"{said} has no placeholders", newer, cell=cell)
    if answers.sixel and not answers.cell:
        return Decision("halfblocks", f"{said or 'the terminal'} takes sixels, and doesn't tell how large a cell is")
    if answers.sixel:
        return Decision("sixel", f"{said or 'the terminal'} takes sixels", cell=cell)
    if not answers.answered:
        better = f"{VARIABLE}=kitty or sixel, if it has one of them and is only slow"
        return Decision("halfblocks", "the terminal answered nothing", better, cell=cell)
    better = "kitty, Ghostty, WezTerm, foot, iTerm2 and Windows Terminal show pictures; xterm does with -ti vt340"
    return Decision("halfblocks", f"{said or 'the terminal'} told of no protocol for pictures", better, cell=cell)


def _in_tmux(answers: Answers, cell: tuple[int, int]) -> Decision:
    inside = answers.tmux
    assert inside is not None
    client = one_line(inside.client, 40) or "a terminal that it doesn't name"
    if inside.client in _KITTY_TERMS:
        if inside.passthrough:
            return Decision("kitty", f"tmux hands it on to {client}", wrapped=True, cell=cell)
        better = "tmux set -g allow-passthrough on, and safelight opened again, shows them sharp"
        return Decision("halfblocks", f"tmux hands nothing on to {client}", better, cell=cell)
    # tmux itself says that it takes sixels; only if the terminal does, too, are they seen
    if answers.sixel and "sixel" in inside.features:
        return Decision("sixel", f"tmux draws sixels in {client}", cell=cell)
    if answers.sixel:
        better = f"tmux set -as terminal-features '{client}:sixel', if that terminal takes them; attach again then"
        return Decision("halfblocks", f"tmux doesn't know whether {client} takes sixels", better, cell=cell)
    version = f"tmux {inside.version}".rstrip()
    return Decision("halfblocks", f"{version} can't draw pictures", "tmux 3.4 and later can", cell=cell)


def _least(name: str) -> tuple[str, tuple[int, int], tuple[int, int]] | None:
    """(program, first version with placeholders, its own), for the programs that have them."""
    found = _NAME.match(name)
    program = found[1].lower() if found else ""
    if found is None or program not in _PLACEHOLDERS:
        return None
    return program, _PLACEHOLDERS[program], (int(found[2]), int(found[3]))
