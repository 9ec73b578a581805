"""Alt with a letter in xterm, which by itself writes another letter for it ('ì' for Alt+L).

Its modes 1036 and 1039 (metaSendsEscape and altSendsEscape in its control sequences) make it send ESC and the letter,
as other terminals do. What they were before is saved in xterm (XTSAVE) and put back (XTRESTORE).
"""

from __future__ import annotations

from tui.pictures.deciding import Decision

_MODES = "1036;1039"
TAKE = f"\x1b[?{_MODES}s\x1b[?{_MODES}h"
"Saves them and switches them on."
GIVE_BACK = f"\x1b[?{_MODES}r"
"As they were."


def take(decision: Decision) -> str:
    """What is sent at the beginning; nothing for other terminals."""
    return TAKE if decision.name == "xterm" else ""


def give_back(decision: Decision) -> str:
    """What is sent at the end."""
    return GIVE_BACK if decision.name == "xterm" else ""
