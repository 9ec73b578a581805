"""One of several, on one line: arrows step through, Enter opens the list, typing filters it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from tui import cells
from tui.clean import one_line
from tui.offers import Offer, OfferList
from tui.oneline import OneLine


class Choice(Widget, can_focus=True):
    """Shows what is chosen; posts `Changed` when its user takes another."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,right", "step(1)", "next", show=False),
        Binding("up,left", "step(-1)", "previous", show=False),
        Binding("enter,space", "open", "choose", show=False),
    ]

    class Changed(Message):
        """Another value was taken."""

        def __init__(self, choice: Choice, value: str) -> None:
            super().__init__()
            self.choice = choice
            self.value = value

        @property
        def control(self) -> Choice:
            """The choice that sent this."""
            return self.choice

    class Opened(Message):
        """The list was opened: whoever knows more may show it now."""

    def __init__(self, title: str, offers: Sequence[Offer] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.title = title
        self._offers = tuple(offers)
        self._value = offers[0].value if offers else ""
        self._list: ChoiceList | None = None

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._value

    def show(self, value: str, offers: Sequence[Offer] | None = None) -> None:
        """Shows a value without telling anyone; one that isn't offered is shown as it is."""
        if offers is not None:
            self._offers = tuple(offers)
            if self._list is not None:
                self._list.show(self._offers)
        self._value = value
        self.refresh()

    def render(self) -> Content:
        """The chosen title, cut to the width, what it takes to have it, and an arrow."""
        offer = next((o for o in self._offers if o.value == self._value), None)
        text = offer.title if offer else self._value
        note = offer.note if offer and offer.aside else ""
        room = max(1, self.size.width - 2 - cells.width(note) - bool(note))
        mark = "▾" if len(self._offers) > 2 else "⇄"
        style = "$foreground 75%" if offer and not offer.value else ""
        line = (cells.pad(one_line(text, room), room), style)
        return Content.assemble(line, (f" {note}" if note else "", "$warning"), (" " + mark, "$foreground 75%"))

    def action_step(self, by: int) -> None:
        """Takes the next or previous offer that can be taken at once."""
        able = [o.value for o in self._offers if not o.reason and not o.aside]
        if able:
            at = able.index(self._value) if self._value in able else -by
            self._take(able[(at + by) % len(able)])

    def action_open(self) -> None:
        """Opens the list; two offers are just switched."""
        if len(self._offers) <= 2:
            self.action_step(1)
            return

        def taken(value: str | None) -> None:
            self._list = None
            if value is not None:
                self._take(value)

        self._list = ChoiceList(self.title, self._offers, self._value)
        self.app.push_screen(self._list, taken)
        self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        """A click opens, as Enter does."""
        event.stop()
        self.focus()
        self.action_open()

    def _take(self, value: str) -> None:
        if value != self._value:
            self._value = value
            self.refresh()
            self.post_message(self.Changed(self, value))


class FilterInput(OneLine):
    """One line to type what shall be found."""

    def __init__(self) -> None:
        super().__init__(64, "type to find")


class ChoiceList(ModalScreen[str | None]):
    """The open list over the workbench. Typing filters, the arrows move, Escape closes it."""

    AUTO_FOCUS = "FilterInput"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+q", "dismiss(None)", "close", show=False),
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("ctrl+home", "move(-1000000)", "first", show=False),
        Binding("ctrl+end", "move(1000000)", "last", show=False),
    ]

    def __init__(self, title: str, offers: Sequence[Offer], value: str) -> None:
        super().__init__()
        self._title = title
        self._offers = tuple(offers)
        self._value = value
        self._eager = False
        "Whether Enter was pressed before there was anything to take."
        self._ahead = ""
        "What was typed before there was a line to type in."

    def compose(self) -> ComposeResult:
        """A line to type in, and what it leaves of the list."""
        with Vertical() as box:
            box.border_title = Content(self._title)
            box.border_subtitle = Content("enter take · esc close")
            yield FilterInput()
            yield OfferList(self._offers, self._value)

    def on_mount(self) -> None:
        """What was typed ahead is not lost, and neither is what was offered meanwhile."""
        self.rows.show(self._offers)
        if self._ahead:
            line = self.query_one(FilterInput)
            line.value = self._ahead
            line.cursor_position = len(self._ahead)

    def on_key(self, event: events.Key) -> None:
        """Keys that came with the one that opened the list, before it had the focus."""
        if self.focused is None:
            event.stop()
            if event.key == "enter":
                self._eager = True
            elif event.is_printable and event.character:
                self._ahead += event.character
                if lines := self.query(FilterInput):
                    lines.first().value = self._ahead

    @property
    def rows(self) -> OfferList:
        """The rows."""
        return self.query_one(OfferList)

    def show(self, offers: Sequence[Offer]) -> None:
        """What is known meanwhile; filter and cursor stay."""
        self._offers = tuple(offers)
        if self.is_mounted:
            for rows in self.query(OfferList):
                rows.show(self._offers)
            if self._eager:
                self._take()

    def action_move(self, by: int) -> None:
        """Up and down."""
        self.rows.move(by)

    def action_page(self, by: int) -> None:
        """A screenful up or down."""
        self.rows.move(by * self.rows.page)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Every letter filters."""
        event.stop()
        self.rows.filter(event.value)
        if self._eager and self._offers and event.value == self._ahead:
            self._take()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Hands the chosen value back; what can't be chosen says why."""
        event.stop()
        self._take()

    def on_offer_list_clicked(self, event: OfferList.Clicked) -> None:
        """A click takes, as Enter does."""
        event.stop()
        self._take()

    def _take(self) -> None:
        offer = self.rows.chosen
        self._eager = not self._offers
        if offer is None:
            return
        if offer.reason:
            self.notify(one_line(f"{offer.title}: {offer.reason}"), timeout=4, markup=False)
        else:
            self.dismiss(offer.value)

    def on_click(self, event: events.Click) -> None:
        """A click beside the list closes it."""
        if event.widget is self:
            self.dismiss(None)
