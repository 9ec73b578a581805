"""Whether the terminal is written to in Unicode or in ASCII's signs alone.

Where the locale doesn't promise UTF-8 the terminal is asked (`tui.pictures.asking`): a container or an ssh session
without LANG has one that knows it all the same, nearly always. `SAFELIGHT_ASCII` of the environment decides without
asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "SAFELIGHT_ASCII"
"Of the environment: 1 for ASCII, 0 for Unicode."


@dataclass(frozen=True, slots=True)
class Lettering:
    """What was decided."""

    ascii: bool
    "Whether signs of ASCII stand for all others."
    why: str
    "One line: what it follows from."


def decide(environment: Mapping[str, str], told: bool | None) -> Lettering:
    """What is shown right.

    Args:
        environment: of this process.
        told: what the terminal, or tmux for it, said of UTF-8; None if it said nothing or wasn't asked.
    """
    wish = environment.get(VARIABLE, "")
    if wish in ("0", "1"):
        return Lettering(wish == "1", f"{VARIABLE} asks for it")
    if told is not None:
        return Lettering(not told, "the terminal knows UTF-8" if told else "the terminal doesn't know UTF-8")
    if utf8(environment):
        return Lettering(False, "the locale is UTF-8")
    if environment.get("LC_ALL") or environment.get("LANG"):
        return Lettering(True, "the locale is not UTF-8")
    return Lettering(False, "no locale is set")


def utf8(env: Mapping[str, str]) -> bool:
    """Whether the locale is UTF-8. Where none is set, Python puts C.UTF-8 into LC_CTYPE for itself: that isn't one."""
    lang = env.get("LANG", "")
    told = env.get("LC_ALL") or env.get("LC_CTYPE") or lang
    if not env.get("LC_ALL") and told in ("C.UTF-8", "C.utf8") and lang in ("", "C", "POSIX"):
        return False
    return "utf8" in told.lower().replace("-", "")
