"""Options that several commands share."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="JSON objects on stdout, one a line, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and log more.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int, typer.Option("--threads", metavar="N", min=0, max=1024, help="CPU threads; 0 for all cores.")]
ModelId = Annotated[
    str, typer.Option("-m", "--model", metavar="ID", help="The model; the best that is here if not given.")
]
Syntax = Annotated[
    str, typer.Option("--syntax", metavar="NAME", help="What prompts are written in: compel, or a1111 to translate.")
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")]

MAX_STDIN = 1_000_000
"Characters of a prompt from stdin that are read before it is refused as too long."


def typed(text: str) -> str:
    """A prompt as it was typed, or from stdin for '-'."""
    return sys.stdin.read(MAX_STDIN).rstrip("\n") if text == "-" else text
