"""The queue: what runs, what waits, what failed and was not dismissed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engines.requests import Generate, JobId
from tui import cells, keys
from tui.clean import one_line
from tui.estimates import Guess
from tui.jobs import Progress
from tui.messages import CancelRequested
from tui.wording import bar, bytes_, duration

EMPTY = "Nothing to do; Enter makes a picture."


class QueuePane(ScrollView, can_focus=True):
    """A virtual list: ten thousand waiting jobs cost no more than ten."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "queue--dim",
        "queue--failed",
        "queue--bar",
        "queue--cursor",
        "queue--mark",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("queue"),
        *keys.list_moves(),
    ]

    def __init__(self) -> None:
        super().__init__(id="queue")
        self.border_title = "queue"
        self._rows: list[Progress] = []
        self._ends: Mapping[JobId, Guess] = {}
        self._lines: list[tuple[int, int]] = []
        self._cursor = 0

    def show(self, jobs: Iterable[Progress], ends: Mapping[JobId, Guess]) -> None:
        """All jobs, and when each will be done."""
        chosen = self._rows[self._cursor].job.id if self._cursor < len(self._rows) else None
        self._rows = sorted(jobs, key=lambda p: p.state == "waiting")
        self._ends = ends
        ids = [p.job.id for p in self._rows]
        self._cursor = ids.index(chosen) if chosen in ids else max(0, min(self._cursor, len(ids) - 1))
        later = [p.job.id for p in self._rows if p.state == "waiting"]
        waiting = len(later)
        last = self._ends.get(later[-1]) if later else None
        note = f"{waiting:,} waiting" + (f" · all in {last.told}" if last else "") if waiting else ""
        self.border_title = f"queue · {note}" if note else "queue"
        self._fit()
        self.refresh()

    def _fit(self) -> None:
        """How many lines each job takes, and how high the pane is."""
        self._lines = [
            (row, line)
            for row, p in enumerate(self._rows)
            for line in range({"running": 2, "waiting": 1, "failed": 1}[p.state] + len(self._reason(p)))
        ]
        self.virtual_size = Size(max(1, self.size.width), max(1, len(self._lines)))
        self.styles.height = max(1, min(len(self._lines), self._most)) + 1

    def _reason(self, p: Progress) -> list[str]:
        """What went wrong and what to do, wrapped."""
        if p.state != "failed":
            return []
        room = max(10, self.size.width - 4)
        hint = one_line(p.hint) or "x dismisses this"
        return [*cells.wrap(one_line(p.message), room)[:3], *cells.wrap(hint, room)[:2]]

    @property
    def _most(self) -> int:
        """About a third of what history and queue share."""
        return max(4, self.app.size.height // 3 - 2)

    def on_resize(self, event: events.Resize) -> None:
        """Another height of the screen is another third."""
        self._fit()

    def action_move(self, by: int) -> None:
        """Moves the cursor and keeps it in sight."""
        if self._rows:
            self._cursor = max(0, min(len(self._rows) - 1, self._cursor + by))
            tops = [y for y, (row, _) in enumerate(self._lines) if row == self._cursor]
            if tops[0] < self.scroll_y:
                self.scroll_to(y=tops[0], animate=False)
            elif tops[-1] >= self.scroll_y + self.size.height:
                self.scroll_to(y=tops[-1] - self.size.height + 1, animate=False)
            self.refresh()

    def action_page(self, by: int) -> None:
        """A screenful."""
        self.action_move(by * max(1, self.size.height - 1))

    def action_cancel_job(self) -> None:
        """Cancels or dismisses the job under the cursor."""
        if self._rows:
            self.post_message(CancelRequested(self._rows[self._cursor].job.id))

    def on_click(self, event: events.Click) -> None:
        """Moves the cursor to the pointer."""
        y = event.y + self.scroll_offset.y
        if y < len(self._lines):
            self._cursor = self._lines[y][0]
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of one job."""
        width = self.size.width
        y += self.scroll_offset.y
        base = self.rich_style
        if not self._rows:
            text = f" {EMPTY}"[:width] if y == 0 else ""
            return Strip([Segment(text.ljust(width), base + self._ink("queue--dim"))])
        if y >= len(self._lines):
            return Strip.blank(width, base)
        row, line = self._lines[y]
        if row == self._cursor and self.has_focus:
            base += Style(bgcolor=self.get_component_rich_style("queue--cursor").bgcolor)
        mark = Segment("▌" if row == self._cursor and self.has_focus else " ", base + self._ink("queue--mark"))
        segments = [mark, *self._line(self._rows[row], line, width - 2, base)]
        return Strip(segments).adjust_cell_length(width, base)

    def _ink(self, name: str) -> Style:
        """A component's colour alone, so that it can stand on any background."""
        return Style(color=self.get_component_rich_style(name).color)

    def _line(self, p: Progress, line: int, width: int, base: Style) -> list[Segment]:
        dim = base + self._ink("queue--dim")
        failed = base + self._ink("queue--failed")
        end = self._ends.get(p.job.id)
        prompt = p.prompt or "no prompt"
        if p.state == "failed":
            reason = self._reason(p)
            if line == 0:
                return [Segment(one_line(f"✗ {prompt}", width), failed)]
            return [Segment("  " + reason[line - 1] if line <= len(reason) else "", base)]
        if line == 1:
            facts = _fetched(p) if p.is_pull else f"{p.step}/{p.of} {p.doing}".strip() if p.of else p.doing
            facts = facts or "starting"
            room = max(4, width - cells.width(facts) - 3)
            blocks = base + self.get_component_rich_style("queue--bar", partial=True)
            return [Segment("  ", base), Segment(bar(p.share, room), blocks), Segment(f" {one_line(facts)}", base)]
        when = f" {'' if p.state == 'running' and not end.about else '~'}{duration(end.seconds)}" if end else ""
        request = p.job.request
        many = f"{request.batch_size}× " if isinstance(request, Generate) and request.batch_size > 1 else ""
        room = max(1, width - len(when) - 2)
        text = Segment(one_line(many + prompt, room), base)
        gap = max(0, room - text.cell_length)
        return [
            Segment(("↓ " if p.is_pull else "▶ ") if p.state == "running" else "· ", base),
            text,
            Segment(" " * gap, base),
            Segment(when, dim),
        ]


def _fetched(p: Progress) -> str:
    """'2.1 of 6.9 GB · 85 MB/s'."""
    if p.doing or p.pulled is None:
        return p.doing
    rate = f" · {bytes_(p.pulled.rate)}/s" if p.pulled.rate else ""
    done, of = bytes_(p.pulled.done), bytes_(p.pulled.of)
    number, unit = done.split()
    return f"{number if unit == of.split()[1] else done} of {of}{rate}"
