"""The preferences: all settings and all keys, changed where they stand, and written into settings.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Static

from engines.catalogue import Catalogue
from engines.errors import InvalidRequest
from tui import keys, lending, preference_rows, settings
from tui.choice import ChoiceList, FilterInput
from tui.clean import ending, one_line
from tui.key_wait import KeyWait
from tui.ledger import Ledger
from tui.offers import Offer
from tui.oneline import OneLine
from tui.panes.footer import KeyLine
from tui.panes.preferences import PreferenceList
from tui.settings import MOST, Option
from tui.wording import plural

LOOK_EVERY = 2.0
"Seconds after which the file is looked at again: an editor may have saved it."
TITLE = "preferences"


class PreferenceInput(OneLine):
    """The value under the cursor while it is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", show=False)]

    class Left(Message):
        """Nothing is typed any more."""

    def __init__(self) -> None:
        super().__init__(MOST, "empty", "preference-input")
        self.display = False
        self.option: Option | None = None
        "What it is the value of; None while nothing is typed."

    def action_leave(self) -> None:
        """The value stays what it was."""
        self.screen.set_focus(self.screen.query_one(PreferenceList))

    def on_blur(self) -> None:
        """Whatever takes the focus away leaves the value as it was."""
        self.display = False
        self.option = None
        self.post_message(self.Left())


class PreferencesScreen(Screen[None]):
    """A list of all that can be decided once.

    Args:
        ledger: what holds, and where changes go.
        keymap: the keys in force; changed from outside as the file changes.
        catalogue: the models to start with.
        themes: opens the list of themes.
        known: their names.
    """

    scopes: ClassVar[tuple[keys.Scope, ...]] = ("preferences",)
    "Whose keys the help shows first."
    AUTO_FOCUS = "#preference-list"

    def __init__(
        self,
        ledger: Ledger,
        keymap: Mapping[str, str],
        catalogue: Catalogue,
        themes: Callable[[], None],
        known: Sequence[str],
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._wishes = ledger.wishes
        self._keymap = keymap
        self._catalogue = catalogue
        self._themes = themes
        self._known = {"theme": known, "model": catalogue.models}
        self._text = ""
        "What is looked for."
        self._refused: dict[str, str] = {}
        "Why the last thing that was asked of a row can't be, by its id."
        self._bad = 0
        "How many lines of the file can't be used."

    def compose(self) -> ComposeResult:
        """Where it is written, the list, and what the row under the cursor is about."""
        yield Static(id="preferences-title")
        yield FilterInput()
        yield PreferenceList()
        yield Static(id="preferences-about")
        yield PreferenceInput()
        yield KeyLine()

    def on_mount(self) -> None:
        """What the file says by now."""
        self.query_one(FilterInput).display = False
        self.show()
        self._ledger.changed = self.show
        self._ledger.look()
        self.set_interval(LOOK_EVERY, self._ledger.look)

    def on_unmount(self) -> None:
        """What is still written is written all the same."""
        self._ledger.changed = lambda: None

    def on_resize(self) -> None:
        """The path is cut to what there is."""
        self._show_title()
        if self.query_one(PreferenceInput).display:  # it would stand beside its row
            self.query_one(PreferenceInput).action_leave()

    @property
    def rows(self) -> PreferenceList:
        """The rows."""
        return self.query_one(PreferenceList)

    def show(self) -> None:
        """The rows as they are now."""
        if self.query(PreferenceList):
            found = preference_rows.rows(self._wishes, self._keymap, "", self._known)
            self._bad = sum(row.refused for row in found)
            self._show_title()
            text = self._text
            self.rows.show(
                preference_rows.rows(self._wishes, self._keymap, text, self._known) if text.strip() else found
            )

    def _show_title(self) -> None:
        bad = f" · ✗ {plural(self._bad, 'line')} of it refused" if self._bad else ""
        path = ending(str(self._wishes.path), max(10, self.size.width - len(TITLE) - len(bad) - 6))
        self.query_one("#preferences-title", Static).update(
            Content.assemble((f" {TITLE}", "bold $primary"), (f" · {path}", "$foreground 80%"), (bad, "bold $error"))
        )

    @on(PreferenceList.Moved)
    @on(PreferenceInput.Left)
    def _tell_of_row(self) -> None:
        self._about()

    def _about(self) -> None:
        """What the row is about, or why what is typed, or a key, can't be."""
        row = self.rows.chosen
        if row is None:
            self.query_one("#preferences-about", Static).update("")
            return
        line = self.query_one(PreferenceInput)
        wrong = self._wrong(line.option, line.value) if line.option else self._refused.get(row.id, "")
        told = "enter keeps it · esc leaves it" if line.option else row.more
        plain = "bold $error" if row.refused else "bold $warning" if row.waits else "$foreground 80%"
        more = (wrong, "bold $error") if wrong else (told, "$foreground 80%" if line.option else plain)
        about = Content.assemble(one_line(row.sentence), "\n", more)
        self.query_one("#preferences-about", Static).update(about)

    # ── what the keys ask ───────────────────────────────────────────────────────────────────────────────────────

    @on(PreferenceList.Asked)
    def _asked(self, message: PreferenceList.Asked) -> None:
        row = self.rows.chosen
        self._refused = {}
        option = settings.BY_NAME.get(row.id) if row is not None else None
        action = keys.BY_ID.get(row.id.removeprefix("keys.")) if row is not None and option is None else None
        match message.what:
            case "find-setting":
                self.query_one(FilterInput).display = True
                self.query_one(FilterInput).focus()
            case "leave-settings" if self._text:
                self._show_all()
            case "leave-settings":
                self.dismiss(None)
            case "open-settings":
                if problem := lending.edit(self.app, self._wishes.path):
                    self.notify(problem, severity="warning", markup=False)
                self._ledger.look()
            case "edit-setting" if option is not None:
                self._edit(option)
            case "edit-setting" if action is not None:
                self._wait_for(action)
            case "step-setting" if option is not None:
                self._step(option)
            case "reset-setting" if option is not None:
                self._ledger.set(option, None)
            case "reset-setting" if action is not None and row is not None and row.origin != "default":
                self._refuse(self._ledger.set_key(action, ""))

    def _step(self, option: Option) -> None:
        value = self._wishes.wanted_value(option)
        if isinstance(value, bool):
            self._ledger.set(option, not value)
        elif option.choices:
            at = option.choices.index(str(value)) if value in option.choices else -1
            self._ledger.set(option, option.choices[(at + 1) % len(option.choices)])
        else:
            self._edit(option)

    def _edit(self, option: Option) -> None:
        value = self._wishes.wanted_value(option)
        if option.name == "theme":
            self._themes()
        elif isinstance(value, bool):
            self._step(option)
        elif option.choices or option.name == "model":
            offers = [Offer(choice, choice) for choice in option.choices]
            if option.name == "model":
                known = self._catalogue.models.values()
                offers = [Offer("", "the best that is here"), *(Offer(one.id, one.id, one.title) for one in known)]

            def taken(chosen: str | None) -> None:
                if chosen is not None:
                    self._ledger.set(option, chosen)

            self.app.push_screen(ChoiceList(option.name, offers, str(value)), taken)
        else:
            line = self.query_one(PreferenceInput)
            place, wide = self.rows.place
            line.styles.offset, line.styles.width = place, wide
            line.option = option
            line.value = option.text(value)
            line.display = True
            line.cursor_position = len(line.value)
            line.focus()

    @on(Input.Changed, "#preference-input")
    def _typed(self, event: Input.Changed) -> None:
        line = self.query_one(PreferenceInput)
        if line.option is not None:
            line.set_class(bool(self._wrong(line.option, event.value)), "-bad")
            self._about()

    @on(Input.Submitted, "#preference-input")
    def _submitted(self, event: Input.Submitted) -> None:
        line = self.query_one(PreferenceInput)
        if (option := line.option) is not None and not self._wrong(option, event.value):
            self.set_focus(self.rows)
            self._ledger.set(option, option.read(event.value))

    def _wrong(self, option: Option, text: str) -> str:
        try:
            option.read(text)
        except InvalidRequest as e:
            return f"{one_line(e.message, 80)}: {one_line(e.hint)}"
        return ""

    # ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────

    @on(Input.Changed, "FilterInput")
    def _find(self, event: Input.Changed) -> None:
        self._text = event.value
        self.show()

    @on(Input.Submitted, "FilterInput")
    def _found(self) -> None:
        self.set_focus(self.rows)

    def on_key(self, event: events.Key) -> None:
        """What the line to find with leaves over: arrows go into the list, Escape shows all again."""
        if self.focused is self.query_one(FilterInput):
            if event.key == "escape":
                self._show_all()
            elif event.key in ("down", "up"):
                self.set_focus(self.rows)
            else:
                return
            event.stop()

    def _show_all(self) -> None:
        line = self.query_one(FilterInput)
        line.value = self._text = ""
        line.display = False
        self.set_focus(self.rows)
        self.show()

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _wait_for(self, action: keys.Action) -> None:
        def pressed(key: str | None) -> None:
            if key is None:
                return
            if why := preference_rows.refused(action, key):
                why = f"{action.id} can't have {keys.word(key)}: {why}"
            self._refuse(why or self._ledger.set_key(action, key))

        self.app.push_screen(KeyWait(action, keys.shown(action, self._keymap)), pressed)

    def _refuse(self, why: str) -> None:
        if why and (row := self.rows.chosen) is not None:
            self._refused = {row.id: one_line(why)}
            self._about()
