"""The list of themes: what the cursor is on is worn at once, all around the list; Escape goes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input

from tui.choice import ChoiceList, FilterInput
from tui.offers import Offer, OfferList


class ThemeList(ChoiceList):
    """As any list. What was there before comes back unless one is taken."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+t", "move(1)", "next theme", show=False, id="next-theme")]

    def __init__(self, names: Sequence[str], dark: Sequence[str], value: str) -> None:
        offers = [Offer(name, name, note="dark" if name in dark else "light") for name in names]
        super().__init__("theme", offers, value)
        self._before = value

    def compose(self) -> ComposeResult:
        """A line to type in, and what it leaves of the list."""
        with Vertical() as box:
            box.border_title = Content(self._title)
            box.border_subtitle = Content("enter keep · esc back")
            yield FilterInput()
            yield OfferList(self._offers, self._value)

    def action_move(self, by: int) -> None:
        """Up and down."""
        super().action_move(by)
        self._wear()

    def action_page(self, by: int) -> None:
        """A screenful up or down."""
        super().action_page(by)
        self._wear()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Every letter filters; ChoiceList's own handler has done it."""
        self.call_later(self._wear)

    def on_offer_list_clicked(self, event: OfferList.Clicked) -> None:
        """A click looks; ChoiceList's own handler would take."""
        event.stop()
        event.prevent_default()
        self._wear()

    def dismiss(self, result: str | None = None) -> AwaitComplete:
        """Whatever closes it without taking one goes back."""
        if result is None:
            self.app.theme = self._before
        return super().dismiss(result)

    def _wear(self) -> None:
        offer = self.rows.chosen
        if offer is not None and self.is_current:
            self.app.theme = offer.value
