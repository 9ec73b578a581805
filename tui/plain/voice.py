"""What line mode says: a fact a line, in plain characters, so that a screen reader reads it as it is meant.

Facts go to stdout, errors and notes to stderr, and how a job goes on to stderr where that is a terminal. Nothing moves
the cursor, and nothing but ASCII is said where the locale is not UTF-8.
"""

from __future__ import annotations

import locale
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence

from engines.errors import SafelightError
from tui import lettering
from tui.clean import clean, one_line
from tui.signs import SAID

EVERY = 2.0
"Seconds between two lines about a job that goes on."
STILL = 10.0
"Seconds after which a job that has nothing new to tell is said to go on."
_SPELLED = {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "œ": "oe", "Œ": "OE"}
"Letters that Unicode takes apart into nothing smaller."


class Voice:
    """Says lines, and remembers what the worst of the errors ends the program with.

    Args:
        ascii_only: whether all that is not ASCII is spelled in it.
    """

    def __init__(self, ascii_only: bool = False) -> None:
        self.worst = 0
        "The highest exit code of the errors so far."
        self.where = ""
        "Stands before an error: 'line 3: ' of a script, or nothing."
        self._ascii = ascii_only
        self._shown = sys.stderr.isatty()
        self._at = 0.0
        self._latest = ""
        self._said = ""

    def tell(self, *facts: str) -> None:
        """Lines on stdout."""
        for fact in facts:
            print(self.line(fact), flush=True)

    def path(self, path: str) -> None:
        """A file's path on a line of its own: as it is for a script, without what a terminal would obey for one."""
        if sys.stdout.isatty():
            path = clean(path)
            path = path.encode("ascii", "backslashreplace").decode() if self._ascii else path
        print(path, flush=True)

    def note(self, *notes: str, level: str = "note") -> None:
        """Lines on stderr that are worth knowing."""
        for note in notes:
            print(f"{level}: {self.line(note)}", file=sys.stderr, flush=True)

    def fail(self, error: SafelightError) -> None:
        """One line `error:` and one `hint:` on stderr."""
        code = error.exit_code
        self.worst = max(self.worst, code)
        print(f"error: {self.line(self.where + error.message, 500)}", file=sys.stderr, flush=True)
        print(f"hint: {self.line(error.hint or '/help lists the commands', 500)}", file=sys.stderr, flush=True)

    # ── how a job goes on ───────────────────────────────────────────────────────────────────────────────────────

    def begin(self, text: str) -> None:
        """Something begins; the next line about it comes in EVERY seconds."""
        self._latest = self._said = text
        self.now(text)

    def now(self, text: str) -> None:
        """A line about a job, at once."""
        self._at = time.monotonic()
        if self._shown:
            print(self.line(text), file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """How a job stands: said when it is time, and not twice."""
        self._latest = text
        self.wait()

    def wait(self) -> None:
        """Nothing has happened for a moment: what was not said yet may be said now."""
        since = time.monotonic() - self._at
        if self._latest and self._latest != self._said and since >= EVERY:
            self._said = self._latest
            self.now(self._latest)
        elif since >= STILL:
            self.now(f"still {self._latest}")

    def line(self, text: str, limit: int = 0) -> str:
        """A text as it is said."""
        return plain(one_line(text, limit), self._ascii)


def plain(text: str, ascii_only: bool = False) -> str:
    """The text without decoration, and if asked for in ASCII alone."""
    for sign, said in SAID.items():
        text = text.replace(sign, said)
    if not ascii_only or text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", "".join(_SPELLED.get(c, c) for c in text))
    return "".join(c if c.isascii() else "?" for c in apart if not unicodedata.combining(c))


def listed(names: Sequence[str], last: str = "and") -> str:
    """'a, b and c'."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def speaks_utf8(environ: Mapping[str, str]) -> bool:
    """Whether the locale is a UTF-8 one, or the environment decides (tui.lettering). Where none is named, Python takes
    C.UTF-8 by itself, which says nothing."""
    if (wish := environ.get(lettering.VARIABLE, "")) in ("0", "1"):
        return wish == "0"
    named = [environ.get(name, "") for name in ("LC_ALL", "LANG")]
    if environ.get("LC_CTYPE") == "C.UTF-8" and all(text in ("", "C", "POSIX") for text in named):
        return False
    return locale.getencoding().lower().replace("-", "") == "utf8"
