"""Marking a sweep: a line for each axis, and what it comes to, before anything is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Label, Static

from engines.errors import InvalidRequest, SafelightError
from tui import marking
from tui.choice import ChoiceList, FilterInput
from tui.clean import one_line
from tui.draft import Draft
from tui.marking import Marked
from tui.offers import Offer, OfferList
from tui.oneline import OneLine

COUNT_AFTER = 0.25
"Seconds after the last key before it is counted what a sweep comes to."
MANY = 100
"Pictures above which Enter in a line of text asks once more: it may be meant for the line."
LINES: tuple[tuple[str, str, str], ...] = (
    ("prompts", "prompts", "none yet: write one into the form, or mark earlier ones"),
    ("more", "further", "prompts typed here, with | between them"),
    ("models", "models", "the form's"),
    ("seeds", "seeds", "e.g. 4, or 7,8,9, or 5-9"),
    ("guidance", "guidance", "e.g. 3,5,7"),
    ("rescale", "rescale", "e.g. 0,0.5"),
    ("steps", "steps", "e.g. 10,20"),
    ("scheduler", "scheduler", "as the models want it"),
    ("size", "size", "e.g. 1024x1024,832x1216"),
    ("loras", "LoRAs", "e.g. none, NAME:0.5, A:1+B:0.5"),
    ("parts", "weights", "e.g. freckles=0.8,1,1.2; soft light=1,1.3"),
    ("mix", "mix", "e.g. 0.3 0.5 0.7"),
    ("strength", "strength", "e.g. 0.3,0.5,0.7 of the form's first picture"),
    ("variation_strength", "variation", "e.g. 0.05,0.1 towards one other noise"),
    ("precision", "precision", "the form's"),
    ("vae", "VAE", "the form's"),
    ("scorers", "scorers", "none"),
)
"(field of Marked, label, what stands there while it is empty: what holds then, or an example)."


@dataclass(frozen=True, slots=True)
class Counted:
    """What a sweep comes to."""

    told: str
    "'24 pictures, about 40 s, 3.2 MB'."
    notes: tuple[str, ...] = ()
    "What is left out, and what is worth knowing."
    pictures: int = 0
    "How many are made."


class MarkFilter(FilterInput):
    """A line to find something in a list that Space marks in."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """All that can be typed but Space."""
        return key != "space" and super().check_consume_key(key, character)


class MarkList(ChoiceList):
    """A list of which several are taken: Space marks, Enter takes all that are marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", show=False, priority=True),
        Binding("enter", "take_marked", "take", show=False, priority=True),
    ]

    def __init__(self, title: str, marked: Sequence[str], taken: Callable[[tuple[str, ...]], None]) -> None:
        super().__init__(title, (), marked[0] if marked else "")
        self._plain: list[Offer] = []
        self._marked = list(marked)
        self._taken = taken

    def compose(self) -> ComposeResult:
        """As any list, but for what Space does."""
        with Vertical() as box:
            box.border_title = Content(self._title)
            box.border_subtitle = Content("space marks · enter takes them · esc close")
            yield MarkFilter()
            yield OfferList(self._offers, self._value)

    def fill(self, offers: Sequence[Offer]) -> None:
        """What there is, before it is shown or afterwards."""
        self._plain = list(offers)
        self._show_marks()

    def _show_marks(self) -> None:
        self.show([replace(o, title=f"{'✓' if o.value in self._marked else ' '} {o.title}") for o in self._plain])

    def action_mark(self) -> None:
        """The one under the cursor, or not any more."""
        offer = self.rows.chosen
        if offer is None:
            return
        if offer.value in self._marked:
            self._marked.remove(offer.value)
        elif offer.reason:
            self.notify(one_line(f"{offer.title.strip()}: {offer.reason}"), timeout=4, markup=False)
        else:
            self._marked.append(offer.value)
        self._show_marks()

    def action_take_marked(self) -> None:
        """In the order of the list."""
        known = [offer.value for offer in self._plain]
        kept = [value for value in self._marked if value not in known]
        self._taken((*kept, *(value for value in known if value in self._marked)))
        self.dismiss(None)

    def on_offer_list_clicked(self, event: Message) -> None:
        """A click marks; ChoiceList's own handler would take."""
        event.stop()
        event.prevent_default()
        self.action_mark()


class Marks(Widget, can_focus=True):
    """Some of several, on one line; Enter or Space opens the list."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "open", "mark", show=False),
        Binding("delete,backspace", "empty", "none", show=False),
    ]

    class Opened(Message):
        """The list is wanted."""

        def __init__(self, marks: Marks) -> None:
            super().__init__()
            self.marks = marks

    class Changed(Message):
        """Others are marked now."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__(id=f"axis-{name}")
        self.axis = name
        self._hint = hint
        self.values: tuple[str, ...] = ()

    def mark(self, values: tuple[str, ...]) -> None:
        """Shows these, and tells."""
        self.values = values
        self.refresh()
        self.post_message(self.Changed())

    def render(self) -> Content:
        """'3: mini, mini-lightning-2step-lora, …'."""
        if not self.values:
            return Content.styled(one_line(self._hint, max(8, self.size.width)), "italic $foreground 72%")
        count = f"{len(self.values)}: " if len(self.values) > 1 else ""
        return Content(one_line(count + ", ".join(self.values), max(8, self.size.width - 2)) + " ▾")

    def action_open(self) -> None:
        """Whoever knows what there is opens it."""
        self.post_message(self.Opened(self))

    def action_empty(self) -> None:
        """As if nothing was ever marked."""
        self.mark(())

    def on_click(self, event: events.Click) -> None:
        """As Enter."""
        event.stop()
        self.focus()
        self.action_open()


class AxisInput(OneLine):
    """Values of one axis."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__(400, hint, f"axis-{name}")
        self.axis = name


Offers = Mapping[str, Callable[[], Sequence[Offer]]]
"What there is to mark, by line; may wait for the disk, and raise SafelightError."


class GridScreen(ModalScreen[Marked | None]):
    """A line for each axis. Ctrl+G, or Enter in a line of text, makes the sweep; Escape keeps what is marked for the
    next time.

    Args:
        draft: the form.
        marked: what was marked the last time.
        offers: what there is to mark.
        count: what a sweep comes to; waits for the disk, and raises SafelightError for what can't be.
        keep: takes what is marked when the screen is left without a sweep.
    """

    AUTO_FOCUS = "#axis-models"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+q,alt+m", "leave", "close", show=False, priority=True),
        Binding("ctrl+g", "make", "make", show=False, priority=True, id="make"),
        Binding("down", "app.focus_next", "next", show=False, priority=True),
        Binding("up", "app.focus_previous", "previous", show=False, priority=True),
    ]

    def __init__(
        self,
        draft: Draft,
        marked: Marked,
        offers: Offers,
        count: Callable[[Marked], Counted],
        keep: Callable[[Marked], None],
    ) -> None:
        super().__init__()
        self._draft = draft
        self._first = marked
        self._offers = offers
        self._count = count
        self._keep = keep
        self._timer: Timer | None = None
        self._asked: Marked | None = None
        "What Enter would make a great many pictures of, and was asked about."

    def compose(self) -> ComposeResult:
        """The lines, and below them what they come to."""
        with Vertical(id="grid") as box:
            box.border_title = Content("new sweep")
            box.border_subtitle = Content("^g make, as enter in a text · enter marks in a list · esc close")
            with VerticalScroll(id="grid-lines", can_focus=False):
                for name, label, hint in LINES:
                    with Horizontal(classes="axis"):
                        yield Label(label)
                        own = one_line(getattr(self._draft, "prompt" if name == "prompts" else name, "") or "")
                        hint = f"as in the form: {own}" if own else hint
                        yield Marks(name, hint) if name in self._offers else AxisInput(name, hint)
            yield Static(id="grid-told", markup=False)

    def on_mount(self) -> None:
        """What was marked the last time."""
        for name, _, _ in LINES:
            value = getattr(self._first, name)
            line = self.query_one(f"#axis-{name}")
            if isinstance(line, Marks):
                line.values = tuple(value)
            elif isinstance(line, Input):
                line.value = value
        self._count_soon()

    @property
    def marked(self) -> Marked:
        """As the lines stand."""
        values: dict[str, Any] = {}
        for name, _, _ in LINES:
            line = self.query_one(f"#axis-{name}")
            values[name] = line.values if isinstance(line, Marks) else line.value if isinstance(line, Input) else ""
        return Marked(**values)

    def _count_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(COUNT_AFTER, self._counting)

    def _counting(self) -> None:
        self.run_worker(self._tell(self.marked), group="count", exclusive=True)

    async def _tell(self, marked: Marked) -> None:
        try:
            found = await asyncio.to_thread(self._count, marked)
        except SafelightError as e:
            self.complain(e)
            return
        if self.is_attached:
            self._mark_bad("")
            lines = [f"= {found.told}", *(f"  {note}" for note in found.notes[:3])]
            for told in self.query("#grid-told").results(Static):
                told.update(Content("\n".join(one_line(line, 400) for line in lines)))

    def complain(self, error: SafelightError) -> None:
        """Says what is wrong, at its line."""
        if self.is_attached:
            self._mark_bad(error.field if isinstance(error, InvalidRequest) else "")
            # what is an option on the command line is a line here, or stands in the form
            hint = error.hint.replace("--init FILE", "the form takes one, alt+q").replace("--", "")
            text = f"✗ {one_line(error.message, 300)}\n  {one_line(hint, 300)}".rstrip()
            for told in self.query("#grid-told").results(Static):
                told.update(Content.styled(text, "$error"))

    def _mark_bad(self, name: str) -> None:
        for row in self.query(".axis"):
            lines = [getattr(line, "axis", "") for line in row.children]  # none while the screen is taken away
            row.set_class(bool(name) and name in lines, "-bad")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Every key counts, when the hands rest."""
        event.stop()
        self._count_soon()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter makes; a great many pictures only if it is pressed again."""
        event.stop()
        self.run_worker(self._make(self.marked, sure=False), group="count", exclusive=True)

    def on_marks_changed(self, event: Marks.Changed) -> None:
        """The same for lists."""
        event.stop()
        self._count_soon()

    def on_marks_opened(self, event: Marks.Opened) -> None:
        """The list of what there is."""
        event.stop()
        marks = event.marks
        opened = MarkList(marks.axis, marks.values, marks.mark)
        self.app.push_screen(opened)
        self.run_worker(self._fill(opened, marks.axis), group="fill", exclusive=True)

    async def _fill(self, opened: MarkList, axis: str) -> None:
        try:
            offers = await asyncio.to_thread(self._offers[axis])
        except SafelightError as e:
            offers = []
            self.complain(e)
        if not opened.is_current:
            return
        # one that closed by itself would leave its Esc to the form
        nothing = Offer("", f"nothing to mark for {axis}", reason="nothing of this kind fits the form's model")
        opened.fill(offers or [nothing])

    def action_make(self) -> None:
        """If it can be made; else what is wrong is told."""
        self.run_worker(self._make(self.marked), group="count", exclusive=True)

    async def _make(self, marked: Marked, sure: bool = True) -> None:
        try:
            marking.grid(marked, self._draft)
            found = await asyncio.to_thread(self._count, marked)
        except SafelightError as e:
            self.complain(e)
            return
        if not self.is_current:
            return
        if sure or found.pictures <= MANY or marked == self._asked:
            self.dismiss(marked)
        else:
            self._asked = marked
            text = f"? {found.told}: enter again makes them"
            self.query_one("#grid-told", Static).update(Content.styled(text, "bold $warning"))

    def action_leave(self) -> None:
        """Nothing is made; what is marked stays for the next time."""
        self._keep(self.marked)
        self.dismiss(None)
