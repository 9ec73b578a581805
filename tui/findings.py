"""What the doctor finds: a line for people, an object for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    id: str
    "What was looked at; programs go by it."
    status: Status
    "ok; a note is worth knowing; a problem wants something done."
    message: str
    "One line."
    hint: str = ""
    "One line, what to do; every problem has one."
    stops: bool = False
    "No picture can be made because of it."
    data: Mapping[str, Any] = field(default_factory=dict)
    "For programs."


def ok(id: str, message: str, **data: Any) -> Check:
    """All is well."""
    return Check(id, "ok", message, data=data)


def note(id: str, message: str, hint: str = "", **data: Any) -> Check:
    """Worth knowing."""
    return Check(id, "note", message, hint, data=data)


def problem(id: str, message: str, hint: str, stops: bool = False, **data: Any) -> Check:
    """Wants something done."""
    return Check(id, "problem", message, hint, stops, data)
