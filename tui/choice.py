"""One of several, on one line: arrows step through, Enter opens the list. Models, schedulers and switches use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.clean import one_line


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that can be chosen."""

    value: str
    "What the choice stands for."
    title: str
    "How it is shown."
    detail: str = ""
    "A second line in the open list."
    reason: str = ""
    "Why it can't be chosen; empty if it can."


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

    def __init__(self, title: str, offers: Sequence[Offer] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.title = title
        self._offers = tuple(offers)
        self._value = offers[0].value if offers else ""

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._value

    def show(self, value: str, offers: Sequence[Offer] | None = None) -> None:
        """Shows a value without telling anyone; one that isn't offered is shown as it is."""
        if offers is not None:
            self._offers = tuple(offers)
        self._value = value
        self.refresh()

    def render(self) -> Content:
        """The chosen title, cut to the width, and an arrow."""
        offer = next((o for o in self._offers if o.value == self._value), None)
        text = offer.title if offer else self._value
        room = max(1, self.size.width - 2)
        mark = "▾" if len(self._offers) > 2 else "⇄"
        style = "dim" if offer and not offer.value else ""
        return Content.assemble((one_line(text, room).ljust(room), style), (" " + mark, "dim"))

    def action_step(self, by: int) -> None:
        """Takes the next or previous offer that can be taken."""
        able = [o.value for o in self._offers if not o.reason]
        if able:
            at = able.index(self._value) if self._value in able else -by
            self._take(able[(at + by) % len(able)])

    def action_open(self) -> None:
        """Opens the list; two offers are just switched."""
        if len(self._offers) <= 2:
            self.action_step(1)
            return

        def taken(value: str | None) -> None:
            if value is not None:
                self._take(value)

        self.app.push_screen(ChoiceList(self.title, self._offers, self._value), taken)

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


class ChoiceList(ModalScreen[str | None]):
    """The open list over the workbench; Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,ctrl+q", "dismiss(None)", "close", show=False)]

    def __init__(self, title: str, offers: Sequence[Offer], value: str) -> None:
        super().__init__()
        self._title = title
        self._offers = offers
        self._value = value

    def compose(self) -> ComposeResult:
        """One option list."""
        options = OptionList(*[Option(_line(o), disabled=bool(o.reason)) for o in self._offers], compact=True)
        options.border_title = Content(self._title)
        options.border_subtitle = Content("enter take · esc close")
        yield options

    def on_mount(self) -> None:
        """Starts at what is chosen now."""
        values = [o.value for o in self._offers]
        self.query_one(OptionList).highlighted = values.index(self._value) if self._value in values else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Hands the chosen value back."""
        event.stop()
        self.dismiss(self._offers[event.option_index].value)

    def on_click(self, event: events.Click) -> None:
        """A click beside the list closes it."""
        if event.widget is self:
            self.dismiss(None)


def _line(offer: Offer) -> Content:
    parts: list[Any] = [Content(one_line(offer.title))]
    if offer.detail:
        parts.append(Content.styled("\n  " + one_line(offer.detail), "dim"))
    if offer.reason:
        parts.append(Content.styled("\n  " + one_line(offer.reason), "italic"))
    return Content.assemble(*parts)
