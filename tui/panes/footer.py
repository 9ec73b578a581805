"""The line at the bottom: the keys that matter where the focus is."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from tui import keys
from tui.clean import one_line


class KeyLine(Widget):
    """The shown bindings, nearest to the focus first; as many as fit. Lighter than Textual's footer of widgets."""

    ALLOW_SELECT = False
    _speaking: ClassVar[KeyLine | None] = None
    "Which shows a line in place of its keys."

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._shown: list[tuple[str, str, str]] = []
        self._ends: list[tuple[int, str]] = []
        self._said = ""
        "What stands in place of the keys for a moment."
        self._quiet: Timer | None = None

    def on_mount(self) -> None:
        """Follows the focus."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)

    def _follow(self, screen: Screen[object]) -> None:
        """The pane's own keys first, then the workbench's; one entry an action."""
        found: dict[str, tuple[int, str, str, str]] = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.id == "next-page" and getattr(screen, "roomy", False):
                continue  # there is one page
            if binding.show and active.enabled and binding.action not in found:
                key = self.app.get_key_display(binding)
                key = keys.word(key) if key[1:].isdigit() else key  # a function key that its user has chosen
                found[binding.action] = (_place(binding.id), key, binding.description, binding.action)
        shown = [(key, title, action) for _, key, title, action in sorted(found.values())]
        if shown != self._shown:
            self._shown = shown
            self._said = ""
            self.refresh()

    def say(self, text: str, seconds: float) -> None:
        """Shows a line in place of the keys, until a key is pressed, others are shown or the time is over."""
        if self._quiet is not None:
            self._quiet.stop()
        self._said = text
        self._quiet = self.set_timer(seconds, self._keep_quiet)
        KeyLine._speaking = self
        self.refresh()

    @classmethod
    def hush(cls) -> None:
        """A key was pressed."""
        if cls._speaking is not None:
            cls._speaking._keep_quiet()

    def _keep_quiet(self) -> None:
        self._said = ""
        if KeyLine._speaking is self:
            KeyLine._speaking = None
        self.refresh()

    def render(self) -> Content:
        """'^g make  esc cancel …'"""
        parts: list[str | tuple[str, str]] = []
        self._ends = []
        if self._said:
            return Content.styled(f" {one_line(self._said, max(1, self.size.width - 2))}", "italic $foreground 80%")
        used = 0
        airy = sum(len(key) + len(title) + 3 for key, title, _ in self._shown) <= self.size.width
        for key, title, action in self._shown:
            size = len(key) + len(title) + 2 + airy
            if used + size > self.size.width:
                continue
            used += size
            self._ends.append((used, action))
            parts += [(f" {key}", "bold $primary"), (f" {title}" + " " * airy, "$foreground 70%")]
        return Content.assemble(*parts)

    async def on_click(self, event: events.Click) -> None:
        """Runs the action under the pointer."""
        action = next((action for end, action in self._ends if event.x < end), None)
        for active in self.screen.active_bindings.values():
            if active.binding.action == action:
                await self.app.run_action(action, active.node)  # a pane's own, or its screen's, or the app's
                return


def _place(id: str | None) -> int:
    """What belongs to the focused pane first, then to its screen, then what holds everywhere."""
    action = keys.BY_ID.get(id or "")
    if action is None:
        return 3 * len(keys.TABLE)
    order = {"app": 2, "workbench": 1, "sweep": 1}.get(action.scope, 0)
    return keys.TABLE.index(action) + order * len(keys.TABLE)
