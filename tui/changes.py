"""What of a frame the terminal does not show already.

Textual draws all of a widget that has changed, and all of the screen when a dialog opens, often twice: most of it is
there. It comes in pieces, each the part of a row that belongs to one widget; a piece that is the same, in the same
place, is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

Piece = tuple[int, int, Strip]
"Row, first column, and what is there."


class Seen:
    """What a terminal shows, as far as it is known."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, tuple[int, str]]] = {}
        self._watched: dict[int, Region] = {}
        "Cells that somebody has drawn over, by who it is."

    def forget(self) -> None:
        """Something else may have been drawn: everything is sent anew."""
        self._rows.clear()
        self._watched.clear()

    def watch(self, who: object, box: Region) -> None:
        """Whether these cells are drawn from now on is asked with `is_touched`."""
        self._watched[id(who)] = box

    def is_touched(self, who: object) -> bool:
        """Whether any of the cells was drawn since, or nothing is known of them."""
        return id(who) not in self._watched

    def has(self, y: int, x: int, width: int, text: str) -> bool:
        """Whether a piece is there."""
        return self._rows.get(y, {}).get(x) == (width, text)

    def take(self, y: int, x: int, width: int, text: str) -> None:
        """A piece is sent: from now on it is there."""
        row = self._rows.setdefault(y, {})
        for start in [start for start, (long, _) in row.items() if start < x + width and start + long > x]:
            del row[start]
        row[x] = width, text
        for who, box in [*self._watched.items()]:
            if box.y <= y < box.bottom and x < box.right and x + width > box.x:
                del self._watched[who]


class Changes(CompositorUpdate):
    """A frame without what is there already.

    Args:
        frame: Textual's.
        seen: what is there.
        budget: bytes after which the rest of it is left for later; None for all of it at once.
        left: is given the cells of that rest.
    """

    def __init__(
        self,
        frame: ChopsUpdate | LayoutUpdate,
        seen: Seen,
        budget: int | None = None,
        left: Callable[[set[Region]], object] = lambda regions: None,
    ) -> None:
        self._frame = frame
        self._seen = seen
        self._budget = budget
        self._left = left

    def render_segments(self, console: Console) -> str:
        """As in Textual."""
        pieces = _of_screen(self._frame) if isinstance(self._frame, LayoutUpdate) else _of_spans(self._frame)
        sent: list[str] = []
        length = 0
        for y, x, strip in pieces:
            text = strip.render(console)
            if self._seen.has(y, x, strip.cell_length, text):
                continue
            length += len(text.encode())
            if sent and self._budget is not None and length > self._budget:
                self._left({Region(x, y, strip.cell_length, 1) for y, x, strip in ((y, x, strip), *pieces)})
                break
            self._seen.take(y, x, strip.cell_length, text)
            sent.append(f"\x1b[{y + 1};{x + 1}H{text}")
        return "".join(sent)


def _of_screen(frame: LayoutUpdate) -> Iterator[Piece]:
    for y, line in enumerate(frame.strips, frame.region.y):
        x = frame.region.x
        for strip in line:
            if strip.cell_length:
                yield y, x, strip
            x += strip.cell_length


def _of_spans(frame: ChopsUpdate) -> Iterator[Piece]:
    """As ChopsUpdate goes over them."""
    for y, left, right in frame.spans:
        for end, (x, strip) in zip(frame.chop_ends[y], frame.chops[y].items(), strict=False):
            if strip is None or x >= right or end <= left:
                continue
            if x < left or end > right:
                strip = strip.crop(0, min(end, right) - x)
            if strip.cell_length:
                yield y, x, strip
