"""How one finds what can be done, and gets there: the palette, the letters of the jump, the help."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from textual.app import SystemCommand
from textual.markup import escape
from textual.screen import Screen
from textual.widget import Widget

from tui import keys
from tui.paging import PagedScreen
from tui.panes.finder import Finder
from tui.panes.help import HelpScreen
from tui.panes.jump import JumpScreen, Place, places
from tui.quitting import QuittingApp


class WayfindingApp(QuittingApp):
    """Shows the key table over whatever screen there is; takes what QuittingApp takes."""

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The key table, what belongs to a pane behind the pane's name, and a command for every theme."""
        over = screen is not self.workbench
        scope = getattr(screen, "scopes", ("sweep",))[0] if over else "workbench"
        for action in keys.TABLE:
            title = f"{action.title} · {keys.shown(action, self._keymap_chosen)}"
            if action.id != "command-palette" and action.scope in ("app", scope):
                node = self if action.scope == "app" else screen if over else self.workbench
                if action.runs:
                    yield SystemCommand(title, action.help, partial(self.run_action, action.runs, node))
                elif does := getattr(node, f"action_{action.command}", None):  # of a screen over it there may be fewer
                    yield SystemCommand(title, action.help, does)
            elif (selector := keys.PANES.get(action.scope)) and (found := screen.query(selector)):
                where = keys.PLACES[action.scope].lower()
                yield SystemCommand(f"{title} · {where}", action.help, partial(self._do_in, found.first(), action))
        for name in self._themes:
            yield SystemCommand(f"theme {escape(name)}", "Change to this theme.", lambda name=name: self._wear(name))
        yield SystemCommand("choose theme", "Look at each theme, and keep one.", self.action_choose_theme)

    async def _do_in(self, pane: Widget, action: keys.Action) -> None:
        """An action of a pane, which gets the focus first."""
        if isinstance(pane.screen, PagedScreen):
            pane.screen.go_to(pane)
        else:
            pane.screen.set_focus(pane)
        await self.run_action(action.runs or action.command, pane)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None of its keys does anything while a key is waited for."""
        waiting = any(getattr(screen, "takes_keys", False) for screen in self.screen_stack[-1:])
        return False if waiting else super().check_action(action, parameters)

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """As Textual does; a key that nobody takes tells what it is for."""
        return await super()._check_bindings(key, priority) or (not priority and await self._elsewhere.take(key))

    def action_command_palette(self) -> None:
        """As in Textual, with a palette of our own."""
        if not isinstance(self.screen, Finder):
            self.push_screen(Finder(id="--command-palette"))

    def action_jump(self) -> None:
        """Letters on everything that can have the focus."""
        screen = self.screen
        if isinstance(screen, JumpScreen | HelpScreen):
            return
        beyond = screen.beyond if isinstance(screen, PagedScreen) else ()

        def go(place: Place | None) -> None:
            if place is None or self.screen is not screen:
                return
            if place.widget is not None:
                screen.set_focus(place.widget)
            else:
                getattr(screen, f"action_{place.action}")()

        self.push_screen(JumpScreen(places(screen, beyond)), go)

    def action_help(self) -> None:
        """All keys."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self._keymap_chosen, getattr(self.screen, "scopes", ())))
