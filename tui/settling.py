"""Settings, themes and the keymap, while they are in force: what is changed acts at once."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from textual.app import App
from textual.screen import ModalScreen

from engines.folders import Folders
from tui import keys
from tui.clean import clean
from tui.drafts import usual
from tui.elsewhere import Elsewhere
from tui.ledger import Ledger
from tui.palette import DEFAULT_THEME, load_themes
from tui.settings import BY_NAME, Settings
from tui.wishes import Wishes
from tui.workbench import Workbench


class SettlingApp(App[None]):
    """Knows what its user wants, and makes it so.

    Args:
        settings: what holds since the start.
        folders: where its user's settings and themes are.
        notices: what was said of its user's files already.
    """

    workbench: Workbench
    "Its one screen."

    def __init__(self, settings: Settings, folders: Folders, notices: Sequence[str]) -> None:
        super().__init__()
        themes, problems = load_themes(folders.config / "themes")
        for theme in themes:
            self.register_theme(theme)
        self._themes = [theme.name for theme in themes]
        self._notices = [*notices, *problems, *self._begin_with(settings.theme)]
        self.ledger = Ledger(Wishes(settings, folders.settings), self._settle, self._spawn, self._say, notices)
        self._keymap_chosen, clashes = keys.keymap(settings.keys)
        self._notices += clashes
        self._elsewhere = Elsewhere(self, self._keymap_chosen)

    @property
    def settings(self) -> Settings:
        """What holds at this moment; another one after every change."""
        return self.ledger.wishes.now

    def _begin_with(self, wanted: str) -> list[str]:
        """Wears a theme before any style is read, which would be read anew after it; what is wrong with the theme."""
        name = wanted if wanted in self._themes else DEFAULT_THEME
        if name in self._themes:
            self.set_reactive(App.theme, name)
            self.stylesheet.set_variables(self.get_css_variables())
            dark = self.current_theme.dark
            self.update_classes({"-dark-mode": dark, "-light-mode": not dark, f"-theme-{name}": True}, update=False)
        return [] if name == wanted else [f"there is no theme '{wanted}'; there are {', '.join(self._themes)}"]

    def _settle(self, names: Sequence[str]) -> None:
        """Makes what was changed act at once."""
        if "theme" in names and self.settings.theme in self._themes:
            self.theme = self.settings.theme
        if "keys" in names:
            chosen, clashes = keys.keymap(self.settings.keys)
            self._keymap_chosen.clear()  # everyone who shows keys has this very one
            self._keymap_chosen.update(chosen)
            self.set_keymap(chosen)
            for clash in clashes:
                self._say(clash, True)
        if {"score", "precision", "blank_negative", "weights"} & {*names}:
            self.workbench.settle(usual(self.settings, self.workbench.catalogue), self.settings.weights == "signs")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.run_worker(work, group="settings")

    def _say(self, text: str, bad: bool) -> None:
        self.notify(clean(text), severity="warning" if bad else "information", timeout=8 if bad else 4, markup=False)

    def action_preferences(self) -> None:
        """All settings and keys."""
        from tui.preferences import PreferencesScreen  # nobody waits for it to see the workbench

        if not isinstance(self.screen, PreferencesScreen | ModalScreen):
            known, themes = self.workbench.catalogue, self.action_choose_theme
            self.push_screen(PreferencesScreen(self.ledger, self._keymap_chosen, known, themes, self._themes))
        elif isinstance(self.screen, ModalScreen):
            self._elsewhere.tell("the preferences open when this is closed")

    # ── themes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def action_choose_theme(self) -> None:
        """The list of themes, each worn while the cursor is on it."""
        from tui.theme_list import ThemeList

        if not self._themes or isinstance(self.screen, ThemeList):
            return

        def taken(name: str | None) -> None:
            if name is not None:
                self.ledger.set(BY_NAME["theme"], name)

        dark = [name for name in self._themes if self.available_themes[name].dark]
        self.push_screen(ThemeList(self._themes, dark, self.theme), taken)

    def action_next_theme(self) -> None:
        """Round and round."""
        at = self._themes.index(self.theme) if self.theme in self._themes else -1
        if self._themes:
            self._wear(self._themes[(at + 1) % len(self._themes)])
            self.notify(f"theme {self.theme}", timeout=2, markup=False)

    def _wear(self, name: str) -> None:
        """Another theme until safelight is left."""
        self.ledger.wishes.borrow("theme", name)
        self.theme = name
        self.ledger.changed()
