"""The stack of LoRAs: a line each, with its weight as a number and as a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widget import Widget

from tui import cells, keys
from tui.clean import one_line
from tui.digits import PAUSE, Digits
from tui.messages import DraftChanged
from tui.stack import Item

REACH = 2.0
"The bar's ends are this weight and its negative; 1 is as trained."
NEUTRAL = 1.0
"What a 0 by itself resets to."
LIMIT = 10.0
"Of what can be typed, as in Generate."
_BAR = 12


@dataclass(frozen=True, slots=True)
class Row:
    """A LoRA as it is shown."""

    item: Item
    "What the draft has."
    reason: str = ""
    "Why it can't be added to the model that is picked."
    note: str = ""
    "'394 MB to get' for one that is not here."


class LoraPane(Widget, can_focus=True):
    """Takes one dim line while it is empty, and the focus only when it isn't."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("loras"),
        *keys.moves(
            up="move(-1)",
            down="move(1)",
            row_start="move(-1000)",
            row_end="move(1000)",
            first="move(-1000)",
            last="move(1000)",
        ),
    ]

    class AddRequested(Message):
        """The list of LoRAs that fit shall be opened."""

    class WordsRequested(Message):
        """The words that a LoRA was trained with shall be written into the prompt."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__(id="loras")
        self._rows: tuple[Row, ...] = ()
        self._cursor = 0
        self._typed = Digits()
        self._hint = ""
        self.display = False
        self.can_focus = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The stack, as a Draft has it."""
        return tuple(row.item.text for row in self._rows)

    @property
    def chosen(self) -> Item | None:
        """The LoRA under the cursor."""
        return self._rows[self._cursor].item if self._rows else None

    def show(self, rows: Sequence[Row], hint: str, name: str = "") -> None:
        """The stack; `hint` stands in its place while it is empty, and `name` is where the cursor goes."""
        if tuple(rows) == self._rows and hint == self._hint and not name:
            return
        changed = len(rows) != len(self._rows) or [r.reason for r in rows] != [r.reason for r in self._rows]
        changed = changed or bool(hint) != bool(self._hint)
        self._rows, self._hint = tuple(rows), hint
        names = [row.item.name for row in rows]
        self._cursor = names.index(name) if name in names else max(0, min(self._cursor, len(rows) - 1))
        self._settle()
        self.refresh(layout=changed)

    def _settle(self) -> None:
        """An empty stack has no title and can't have the focus."""
        some = bool(self._rows)
        if not some and self.has_focus:
            self.screen.focus_next()
        self.can_focus = some
        self.border_title = "LoRAs" if some else None
        self.set_class(some, "-filled")
        self.display = some or bool(self._hint)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """A line each, two for one that can't be used."""
        return sum(2 if row.reason else 1 for row in self._rows) or 1

    def render(self) -> Content:
        """All lines; the form scrolls."""
        width = self.size.width or 40
        if not self._rows:
            return Content.styled(one_line(self._hint, width - 1), "$foreground 72%")
        return Content("\n").join([self._line(at, row, width) for at, row in enumerate(self._rows)])

    def _line(self, at: int, row: Row, width: int) -> Content:
        here = at == self._cursor and self.has_focus
        item, paper = row.item, " on $primary 20%" if at == self._cursor and self.has_focus else ""
        typed = self._typed.text if here and self._typed.fresh else ""
        weight = f"{typed}▏" if typed else item.odd or f"{item.weight:.2f}"
        right = one_line(row.note, 18) if row.note else _bar(item.weight)
        room = max(4, width - cells.width(right) - 11)
        state = "" if item.on else " off"
        name = one_line(item.name, room - len(state)) + state
        ink = "$foreground 52% strike" if row.reason or not item.on else "$foreground"
        tint = "$foreground 52%" if row.reason or not item.on else "$warning" if row.note else "$secondary"
        parts: list[tuple[str, str]] = [
            ("▌" if here else "✗" if row.reason else " ", ("$primary" if here else "$error") + paper),
            (name, ink + paper),
            (" " * max(0, room - cells.width(name)), "$foreground" + paper),
            (f" {weight:>6} ", ("bold" if item.on and not row.reason else "$foreground 52%") + paper),
            (right + " ", tint + paper),
        ]
        if row.reason:
            parts.append((f"\n   {one_line(row.reason, width - 4)}", "$foreground 68% italic"))
        return Content.assemble(*parts)

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

    def action_move(self, by: int) -> None:
        """The next or previous LoRA, kept in sight."""
        self._typed.clear()
        self._cursor = max(0, min(len(self._rows) - 1, self._cursor + by))
        self.refresh()
        self._see()

    def _see(self) -> None:
        above = sum(2 if row.reason else 1 for row in self._rows[: self._cursor])
        if isinstance(self.parent, Widget):
            place = Region(0, self.virtual_region.y + above, 1, 3)
            self.parent.scroll_to_region(place, animate=False)

    def _change(self, by: float) -> None:
        if (item := self.chosen) is not None:
            self._typed.clear()
            low, high = min(-REACH, item.weight), max(REACH, item.weight)
            self._put(replace(item, weight=round(min(high, max(low, item.weight + by)), 4), odd=""))

    def action_lora_more(self) -> None:
        """A little stronger."""
        self._change(0.05)

    def action_lora_less(self) -> None:
        """A little weaker."""
        self._change(-0.05)

    def action_lora_much_more(self) -> None:
        """Stronger."""
        self._change(0.25)

    def action_lora_much_less(self) -> None:
        """Weaker."""
        self._change(-0.25)

    def action_lora_switch(self) -> None:
        """Off, or on again with its weight."""
        if (item := self.chosen) is not None:
            self._typed.clear()
            self._put(replace(item, on=not item.on))

    def action_lora_remove(self) -> None:
        """Takes it out of the stack."""
        if self._rows:
            self._typed.clear()
            rows = [row for at, row in enumerate(self._rows) if at != self._cursor]
            self._rows = tuple(rows)
            self._cursor = max(0, min(self._cursor, len(rows) - 1))
            self._settle()
            self.refresh(layout=True)
            self.post_message(DraftChanged())

    def action_lora_add(self) -> None:
        """Opens the list; after typing a number, takes the number."""
        if self._typed.clear():
            self.refresh()
        else:
            self.post_message(self.AddRequested())

    def action_lora_words(self) -> None:
        """The words that it was trained with go into the prompt."""
        if (item := self.chosen) is not None:
            self.post_message(self.WordsRequested(item.name))

    async def _on_key(self, event: events.Key) -> None:
        """Digits type a weight, as on a slider."""
        item = self.chosen
        if event.key == "escape" and self._typed.fresh and item is not None:  # as if nothing had been typed
            event.stop()
            self._typed.clear()
            self._put(replace(item, weight=self._typed.before, odd=""))
            return
        if not self._typed.take(event.key, event.character, item.weight if item is not None else 0.0):
            return
        event.stop()
        self.refresh()
        self.set_timer(PAUSE, self.refresh)
        weight = self._typed.value(NEUTRAL, -LIMIT, LIMIT)
        if item is not None and weight is not None:
            self._put(replace(item, weight=weight, odd=""))

    def on_blur(self) -> None:
        """A number that is half typed is as it is."""
        self._typed.clear()

    def _put(self, item: Item) -> None:
        rows = list(self._rows)
        if rows[self._cursor].item != item:
            rows[self._cursor] = replace(rows[self._cursor], item=item)
            self._rows = tuple(rows)
            self.post_message(DraftChanged())
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer; a click on the empty line adds."""
        event.stop()
        if not self._rows:
            self.post_message(self.AddRequested())
            return
        y = event.y - 1  # the title's line
        for at, row in enumerate(self._rows):
            y -= 2 if row.reason else 1
            if y < 0:
                self.action_move(at - self._cursor)
                return


def _bar(weight: float) -> str:
    """'······│━━━···': zero in the middle, REACH at the right end."""
    half = _BAR // 2
    length = min(half, round(abs(weight) / REACH * half))
    full = "━" * (length or (1 if weight else 0))
    rest = "·" * (half - len(full))
    return f"{rest}{full}│{'·' * half}" if weight < 0 else f"{'·' * half}│{full}{rest}"
