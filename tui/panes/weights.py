"""The sliders: every weighted part of the prompts, every ratio of a blend, guidance and rescale, a line each.

It takes no room while there is none. With the focus it unfolds: guidance and rescale are always there then, and the
shares of a mixed model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui import cells, keys
from tui.clean import one_line
from tui.digits import PAUSE, Digits
from tui.sliders import Slider

_BAR = 12
MOST = 7
"Lines that it takes at most; the rest is scrolled to."


class WeightsPane(Widget, can_focus=True):
    """Shows sliders and posts what is done to them; the form changes its text and shows them again."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("weights"),
        *keys.moves(
            up="move(-1)",
            down="move(1)",
            row_start="move(-1000)",
            row_end="move(1000)",
            first="move(-1000)",
            last="move(1000)",
        ),
        Binding("enter", "made", "make", show=False),
        Binding("ctrl+z", "undo", "undo", show=False),
    ]

    class Moved(Message):
        """A slider shall have another value."""

        def __init__(self, slider: Slider, value: float) -> None:
            super().__init__()
            self.slider = slider
            self.value = value

    class Removed(Message):
        """A weight's syntax shall go."""

        def __init__(self, slider: Slider) -> None:
            super().__init__()
            self.slider = slider

    class Restored(Message):
        """A weight whose syntax went shall come back."""

        def __init__(self, slider: Slider) -> None:
            super().__init__()
            self.slider = slider

    class Folded(Message):
        """The focus came or went: other sliders are wanted."""

    class Made(Message):
        """Enter: the picture shall be made."""

    def __init__(self) -> None:
        super().__init__(id="weights")
        self.border_title = "weights"
        self._rows: tuple[Slider, ...] = ()
        self._cursor = 0
        self._top = 0
        self._typed = Digits()
        self._muted: dict[tuple[object, ...], float] = {}
        self._done: list[tuple[Slider, float | None]] = []
        "What was done since the focus came: a slider and its value before; None where its syntax was taken away."
        self.display = False

    @property
    def chosen(self) -> Slider | None:
        """The slider under the cursor."""
        return self._rows[self._cursor] if self._rows else None

    def show(self, rows: Sequence[Slider]) -> None:
        """The sliders as the draft has them; the cursor stays with the one that it was on."""
        rows = tuple(rows)
        self.display = bool(rows) or self.has_focus
        if rows == self._rows:
            return
        here = self.chosen
        if here is not None and here.key not in [row.key for row in rows]:
            self._typed.clear()
        places = {row.key: at for at, row in enumerate(rows)}
        self._cursor = places.get(here.key, min(self._cursor, max(0, len(rows) - 1))) if here else 0
        changed = min(len(rows), MOST) != min(len(self._rows), MOST)
        self._rows = rows
        still = {row.key for row in rows if row.value == 0}
        self._muted = {key: value for key, value in self._muted.items() if key in still}
        self._see()
        self._entitle()
        self.refresh(layout=changed)

    def on_focus(self) -> None:
        """The settings' sliders come."""
        self._done.clear()
        self.post_message(self.Folded())

    def on_blur(self) -> None:
        """A number that is half typed is as it is; the settings' sliders go."""
        self._typed.clear()
        self.post_message(self.Folded())

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """A line each, MOST at most."""
        return min(MOST, len(self._rows)) or 1

    def render(self) -> Content:
        """The lines in sight."""
        width = self.size.width or 40
        seen = self._rows[self._top : self._top + MOST]
        lines = [self._line(self._top + at, row, width) for at, row in enumerate(seen)]
        return Content("\n").join(lines)

    def _line(self, at: int, row: Slider, width: int) -> Content:
        here = at == self._cursor and self.has_focus
        paper = " on $primary 20%" if here else ""
        more = "↑" if at == self._top > 0 else "↓" if at == self._top + MOST - 1 < len(self._rows) - 1 else " "
        number = f"{self._typed.text}▏" if here and self._typed.fresh else f"{row.value:.2f}"
        room = max(4, width - _BAR - 11)
        front = {"ratio": "◐ ", "lora": "◇ "}.get(row.kind, "")
        front += {"negative_prompt": "− ", "mix": "◑ "}.get(row.field, "")
        name = one_line("· " * row.depth + front + row.label, room)
        off = row.value == 0 and row.kind != "setting"
        ink = "$foreground 52%" + " strike" * off if row.idle or off else "$foreground"
        tint = "$foreground 52%" if row.idle else "$warning" if row.value > row.neutral else "$secondary"
        return Content.assemble(
            ("▌" if here else more, ("$primary" if here else "$foreground 52%") + paper),
            (name, ink + paper),
            (" " * max(0, room - cells.width(name)), "$foreground" + paper),
            (f" {number:>6} ", ("$foreground 52%" if row.idle else "bold") + paper),
            (_bar(row), tint + paper),
            (" ", "$foreground" + paper),
        )

    def _see(self) -> None:
        self._top = max(0, min(self._top, len(self._rows) - MOST))
        self._top = min(self._cursor, max(self._top, self._cursor - MOST + 1))

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

    def action_move(self, by: int) -> None:
        """The next or previous slider."""
        self._typed.clear()
        self._cursor = max(0, min(len(self._rows) - 1, self._cursor + by))
        self._see()
        self.refresh()
        self._entitle()

    def _entitle(self) -> None:
        """The title says why the slider under the cursor has no effect, if so."""
        row = self.chosen if self.has_focus else None
        told = one_line(f"weights · {row.idle}", max(8, self.size.width - 4)) if row and row.idle else "weights"
        self.border_title = Content(told)

    def _move(self, coarse: bool, sign: int) -> None:
        if (row := self.chosen) is not None:
            self._typed.clear()
            self._put(row, row.moved(sign * (row.coarse if coarse else row.fine)))

    def action_weight_more(self) -> None:
        """A little more."""
        self._move(False, 1)

    def action_weight_less(self) -> None:
        """A little less."""
        self._move(False, -1)

    def action_weight_much_more(self) -> None:
        """More."""
        self._move(True, 1)

    def action_weight_much_less(self) -> None:
        """Less."""
        self._move(True, -1)

    def action_weight_mute(self) -> None:
        """To 0, and back to what it was."""
        if (row := self.chosen) is None:
            return
        self._typed.clear()
        name = row.key
        if row.value != 0:
            self._muted[name] = row.value
            self._put(row, 0.0)
        else:
            self._put(row, self._muted.pop(name, row.neutral))

    def action_weight_remove(self) -> None:
        """The words stay, their weight goes."""
        if (row := self.chosen) is not None and row.kind == "weight":
            self._typed.clear()
            self._rows = tuple(
                replace(other, place=other.place - 1)
                if (other.field, other.kind) == (row.field, row.kind) and other.place > row.place
                else other
                for other in self._rows
                if other is not row
            )
            self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
            self._done.append((row, None))
            self.refresh(layout=True)
            self.post_message(self.Removed(row))
        elif row is not None:
            self.notify("only a weight can be taken away; space mutes this", timeout=3, markup=False)

    def action_undo(self) -> None:
        """The last thing that was done here, since the focus came."""
        self._typed.clear()
        if not self._done:
            self.notify("nothing was slid here that could be undone", timeout=3, markup=False)
            return
        row, value = self._done.pop()
        if value is None:
            self.post_message(self.Restored(row))
            return
        at = next((i for i, other in enumerate(self._rows) if other.key == row.key), None)
        if at is not None:
            self.action_move(at - self._cursor)
            self._put(self._rows[at], value, undoing=True)

    def action_made(self) -> None:
        """Enter makes the picture, as everywhere in the form; after typing a number it takes the number."""
        if self._typed.clear():
            self.refresh()
        else:
            self.post_message(self.Made())

    async def _on_key(self, event: events.Key) -> None:
        """Digits type a value, which counts as soon as it is a number; a 0 by itself resets."""
        row = self.chosen
        if event.key == "escape" and self._typed.fresh and row is not None:  # as if nothing had been typed
            event.stop()
            self._typed.clear()
            self._put(row, self._typed.before)
            return
        if not self._typed.take(event.key, event.character, row.value if row is not None else 0.0):
            return
        event.stop()
        self.refresh()
        self.set_timer(PAUSE, self.refresh)
        if row is not None:
            value = self._typed.value(row.neutral, *row.limit)
            if value is not None:
                self._put(row, value)

    def _put(self, row: Slider, value: float, undoing: bool = False) -> None:
        if value != row.value:
            # what is done to one slider in a row is one thing
            if not undoing and not (self._done and self._done[-1][0].key == row.key and self._done[-1][1] is not None):
                self._done.append((row, row.value))
            # at once: the next key may be here before the text has changed, and goes on from this one
            rows = list(self._rows)
            rows[self._cursor] = replace(row, value=value)
            self._rows = tuple(rows)
            self.post_message(self.Moved(row, value))
        self.refresh()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Moves the cursor to the pointer; on a bar, sets its value. With the release it would be too late: the focus
        has unfolded the pane by then, and another line is under the pointer."""
        event.stop()
        at = self._top + event.y - 1  # the title's line
        if not 0 <= at < len(self._rows):
            return
        self.action_move(at - self._cursor)
        along = event.x - (self.size.width - _BAR - 2)  # the bar has a place more than its length, and a blank behind
        row = self._rows[at]
        if 0 <= along <= _BAR:
            share = along / _BAR
            self._put(row, round(round((row.low + share * (row.high - row.low)) / row.fine) * row.fine, 4))


def _bar(row: Slider) -> str:
    """'······│━━━···': a weight's middle is 1; what begins at 0 is filled from the left."""
    if row.kind == "weight":
        half = _BAR // 2
        away = (row.value - row.neutral) / max(row.high - row.neutral, 1e-9)
        length = min(half, round(abs(away) * half) or (1 if away else 0))
        rest = "·" * (half - length)
        full = "━" * length
        return f"{rest}{full}│{'·' * half}" if away < 0 else f"{'·' * half}│{full}{rest}"
    share = (row.value - row.low) / max(row.high - row.low, 1e-9)
    length = max(0, min(_BAR, round(share * _BAR)))
    return "━" * length + "│" + "·" * (_BAR - length)
