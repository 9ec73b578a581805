"""Runs command lines, one after another, each in a fork of one Python that has imported what they need."""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Reads a JSON list of command lines from the file that is named, and counts them on stdout."""
    import tui.cli
    import tui.commands

    with open(sys.argv[1], encoding="utf-8") as file:
        lines = json.load(file)
    for number, line in enumerate(lines):
        if os.fork() == 0:
            tui.cli.main(line)
        os.wait()
        os.write(1, f"\n== {number} ==\n".encode())


if __name__ == "__main__":
    main()
