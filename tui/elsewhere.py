"""What a key does that does nothing here: in another pane, or on another screen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from textual.app import App
from textual.keys import key_to_character
from textual.notifications import Notification, Notify
from textual.screen import ModalScreen

from tui import keys
from tui.panes.footer import KeyLine

MOST = 2
"Places that are named."
EVERYWHERE = frozenset({"enter", "escape", "space", "tab", "shift+tab", "up", "down", "left", "right", "delete"})
"Keys that each screen has for itself, or nobody misses."
SECONDS = 3.0
"How long it is told."


def words(key: str, keymap: Mapping[str, str], here: Collection[keys.Scope] = ()) -> str:
    """'ctrl+g: make (on the workbench)'; empty for a key that is nobody's, and for those that every screen has.

    Args:
        key: as Textual names it.
        keymap: the keys in force.
        here: the scopes of this screen; what belongs to one of its panes comes first, and alone.
    """
    if key in EVERYWHERE:
        return ""
    meant = [a for a in keys.TABLE if a.scope not in ("app", "list") and key in keymap.get(a.id, a.keys).split(",")]
    near = [action for action in meant if action.scope in here]
    told = []
    for action in near or meant:
        place = keys.PLACES[action.scope]
        told.append(f"{action.title} ({place[0].lower()}{place[1:]})")
    return f"{keys.word(key)}: {', '.join(told[:MOST])}" if told else ""


class Elsewhere:
    """Answers keys that nothing has taken. What holds everywhere is done over a dialog, too."""

    def __init__(self, app: App[Any], keymap: Mapping[str, str]) -> None:
        self._app = app
        self._keymap = keymap
        self._told: Notification | None = None

    async def take(self, key: str) -> bool:
        """Does it, or tells what it would do; whether there was anything to do or to tell."""
        screen = self._app.screen
        dialog = isinstance(screen, ModalScreen)
        if dialog:
            for action in keys.TABLE:
                if action.scope == "app" and key in self._keymap.get(action.id, action.keys).split(","):
                    return await self._app.run_action(action.command)
            if key_to_character(key) is not None:
                return False
        default: tuple[keys.Scope, ...] = () if dialog else ("workbench",)
        here = getattr(screen, "scopes", default)
        told = words(key, self._keymap, next((scopes for scopes in keys.SCREENS if scopes & set(here)), here))
        if told:
            self.tell(told)
        return bool(told)

    def tell(self, text: str) -> None:
        """In the line of keys, where the screen has one; else as the only notice of its kind."""
        for line in self._app.screen.query(KeyLine):
            line.say(text, SECONDS)
            return
        if self._told is not None:
            self._app._unnotify(self._told)
        self._told = Notification(text, timeout=SECONDS)
        self._app.post_message(Notify(self._told))
