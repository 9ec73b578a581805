"""The leaderboard: a virtual list that sorts; thousands of contenders cost no more than ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import cells, keys
from tui.boards import DOWNWARDS, SORTS, Sort, Standing, ordered
from tui.clean import ending
from tui.runs import mark, wins
from tui.wording import bytes_, duration

NAME = 14
"Cells that a name has at least."
INTERVAL = (9, 24)
"Cells of the bar, at least and at most."
COLUMNS: tuple[tuple[Sort, str, int], ...] = (
    ("mean", "score", 6),
    ("wins", "wins", 5),
    ("seconds", "each", 7),
    ("rating", "hand", 6),
    ("peak", "memory", 7),
    ("rate", "score/s", 8),
)
"(column, heading, cells); where there is no room for all, the last go first."


class Leaderboard(ScrollView, can_focus=True):
    """A line for each contender: its place, its name, its mean with the interval, and what it costs."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"board--dim", "board--cursor", "board--mark", "board--first"}
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("board"),
        *keys.list_moves(),
    ]

    class Moved(Message):
        """Another contender is under the cursor, or it stands elsewhere."""

    class Entered(Message):
        """Its pictures shall be walked through."""

    def __init__(self) -> None:
        super().__init__(id="board")
        self.border_title = "leaderboard"
        self._standings: Sequence[Standing] = ()
        self._rows: list[Standing] = []
        self._by: Sort = "place"
        self._turned = False
        self._cursor = 0
        self._touched = False
        "Whether the cursor was moved: until then it stays on the first, whoever that is."
        self._span = (0.0, 1.0)

    @property
    def chosen(self) -> Standing | None:
        """The contender under the cursor."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def order(self) -> list[int]:
        """The contenders' numbers as they stand."""
        return [one.number for one in self._rows]

    def show(self, standings: Sequence[Standing], title: str) -> None:
        """What is known now; the cursor stays on its contender, or at the top."""
        self._standings = standings
        self.border_title = Content(title)
        ends = [end for one in standings if one.rank for end in (one.rank.low, one.rank.high) if math.isfinite(end)]
        ends += [one.rank.mean for one in standings if one.rank]
        self._span = (min(ends), max(ends)) if ends else (0.0, 1.0)
        before = self.chosen
        self._sort()
        if (now := self.chosen) is not None and (before is None or before.number != now.number):
            self.post_message(self.Moved())

    def choose(self, number: int) -> None:
        """Puts the cursor on a contender."""
        self._touched = True
        at = next((row for row, one in enumerate(self._rows) if one.number == number), None)
        if at is not None and at != self._cursor:
            self._cursor = at
            self._follow()

    def hold(self) -> None:
        """Keeps the cursor on its contender, whoever comes to lead."""
        self._touched = True

    def _sort(self) -> None:
        before = self.chosen if self._touched else None
        self._rows = ordered(self._standings, self._by, self._turned)
        if before is not None:
            self._cursor = next((row for row, one in enumerate(self._rows) if one.number == before.number), 0)
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        self.virtual_size = Size(max(1, self.size.width), len(self._rows) + 1)
        way = "worst first" if self._turned else ""
        self.border_subtitle = " · ".join(part for part in (f"by {_HEADINGS[self._by]}", way) if part)
        self.refresh()

    def _sort_by(self, by: Sort, turned: bool = False) -> None:
        self._by, self._turned = by, turned
        self._sort()
        self.post_message(self.Moved())

    def action_sort(self) -> None:
        """By the next column."""
        self._sort_by(SORTS[(SORTS.index(self._by) + 1) % len(SORTS)])

    def action_turn(self) -> None:
        """The other way round."""
        self._sort_by(self._by, not self._turned)

    def action_move(self, by: int) -> None:
        """Up and down."""
        if self._rows:
            self._touched = True
            self._cursor = max(0, min(len(self._rows) - 1, self._cursor + by))
            self._follow()
            self.post_message(self.Moved())

    def _follow(self) -> None:
        """Keeps the cursor in sight, below the headings."""
        room = max(1, self.size.height - 1)
        if self._cursor < self.scroll_y:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= self.scroll_y + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False)
        self.refresh()

    def action_page(self, by: int) -> None:
        """A screenful."""
        self.action_move(by * max(1, self.size.height - 2))

    def action_enter(self) -> None:
        """To its pictures."""
        if self._rows:
            self.post_message(self.Entered())

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer, or sorts by the heading that is pointed at."""
        if event.y == 0:
            self._sort_by(self._heading(event.x))
            return
        row = event.y - 1 + self.scroll_offset.y
        if row < len(self._rows):
            self.action_move(row - self._cursor)
            if event.chain == 2:
                self.action_enter()

    def _heading(self, x: int) -> Sort:
        """The column that stands at a cell of the line."""
        name, columns, bar = self._shown()
        at = 5
        shown: list[tuple[Sort, int]] = [("place", 0), ("name", name), ("mean", 6 + bar + 1)]
        for by, width in shown + [(by, width) for by, _, width in columns[1:]]:
            at += width
            if x < at:
                return by
        return columns[-1][0]

    def on_resize(self, event: events.Resize) -> None:
        """More or fewer columns."""
        self.virtual_size = Size(max(1, self.size.width), len(self._rows) + 1)
        self._follow()

    def _shown(self) -> tuple[int, list[tuple[Sort, str, int]], int]:
        """(cells of the name, columns, cells of the interval) that there is room for."""
        columns = list(COLUMNS)
        room = self.size.width - 5 - NAME - INTERVAL[0] - 1
        while len(columns) > 1 and sum(width for _, _, width in columns) > room:
            columns.pop()
        left = max(0, room - sum(width for _, _, width in columns))
        longest = max((cells.width(one.name) for one in self._rows[:200]), default=NAME)
        name = NAME + min(left, max(0, longest - NAME))
        return name, columns, min(INTERVAL[1], INTERVAL[0] + left - (name - NAME))

    def render_line(self, y: int) -> Strip:
        """The headings, or a contender."""
        width = self.size.width
        base = self.rich_style
        dim = base + self._ink("board--dim")
        name, columns, bar = self._shown()
        if y == 0:
            heads = [Segment("".rjust(5), dim), self._head("name", "contender".ljust(name), base, dim)]
            heads += [self._head("mean", "score".rjust(6), base, dim), Segment(" 95 %".ljust(bar + 1), dim)]
            heads += [self._head(by, head.rjust(wide), base, dim) for by, head, wide in columns[1:]]
            return Strip(heads).adjust_cell_length(width, base)
        row = y - 1 + self.scroll_offset.y
        if row >= len(self._rows):
            text = " nothing is made yet" if not self._rows and y == 1 else ""
            return Strip([Segment(text.ljust(width), dim)])
        one = self._rows[row]
        mark = Segment(" ", base)
        if row == self._cursor:
            if self.has_focus:
                paper = Style(bgcolor=self.get_component_rich_style("board--cursor").bgcolor)
                base, dim = base + paper, dim + paper
            mark = Segment("▌" if self.has_focus else "▏", base + self._ink("board--mark"))
        segments = [mark, *self._line(one, name, columns, bar, base, dim)]
        return Strip(segments).adjust_cell_length(width, base)

    def _head(self, by: Sort, text: str, base: Style, dim: Style) -> Segment:
        if by != self._by:
            return Segment(text, dim)
        sign = "▴" if (by in DOWNWARDS) == self._turned else "▾"
        room = len(text)
        told = f"{text.strip()}{sign}"
        told = told.ljust(room) if text.startswith(told[:1]) else told.rjust(room)
        return Segment(told[-room:], base + Style(bold=True))

    def _ink(self, name: str) -> Style:
        return Style(color=self.get_component_rich_style(name).color)

    def _line(
        self,
        one: Standing,
        name: int,
        columns: Sequence[tuple[Sort, str, int]],
        bar: int,
        base: Style,
        dim: Style,
    ) -> list[Segment]:
        rank = one.rank
        first = base + self._ink("board--first") if rank and rank.place == 1 else base
        place = "" if rank is None else mark(rank)
        told = [
            Segment(f"{place:>3} ", first),
            Segment(set_cell_size(one.name if cells.width(one.name) <= name else ending(one.short, name), name), first),
        ]
        if rank is None:
            short = f"{one.made}/{one.of} made" + (f", {one.failed} failed" if one.failed else "")
            short += ", not scored" if one.made else ""
            return [*told, Segment(f"  {short}", dim)]
        values = {
            "mean": f"{rank.mean:.2f}",
            "wins": wins(rank),
            "seconds": duration(rank.seconds) if math.isfinite(rank.seconds) else "?",
            "rating": "" if math.isnan(one.rating) else f"★{one.rating:.1f}",
            "peak": bytes_(rank.peak) if rank.peak else "?",
            "rate": f"{rank.rate:.1f}" if math.isfinite(rank.rate) else "?",
        }
        told_of = {by: Segment(values[by].rjust(wide), base) for by, _, wide in columns}
        interval = Segment(f" {self._interval(one, bar)}", dim)
        return [*told, told_of.pop("mean"), interval, *told_of.values()]

    def _interval(self, one: Standing, width: int) -> str:
        """'  ╶──●──╴  ': from the lowest to the highest end of all."""
        rank = one.rank
        assert rank is not None
        low, high = self._span
        reach = (high - low) or 1.0

        def at(value: float) -> int:
            return round(min(1.0, max(0.0, (value - low) / reach)) * (width - 1))

        line = [" "] * width
        if math.isfinite(rank.low) and math.isfinite(rank.high):
            start, end = at(rank.low), at(rank.high)
            line[start : end + 1] = "─" * (end - start + 1)
            line[start], line[end] = "╶", "╴"
        line[at(rank.mean)] = "●"
        return "".join(line)


_HEADINGS: dict[Sort, str] = {
    "place": "place",
    "name": "contender",
    "mean": "score",
    "wins": "wins over the first",
    "seconds": "seconds a picture",
    "peak": "memory",
    "rate": "score per second",
    "rating": "rating by hand",
}
