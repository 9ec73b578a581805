"""Sixels over the cells of a widget: drawn when those are there and stay, gone with what is drawn in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.errors import NoWidget
from textual.geometry import Region
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from tui.pictures import graphics, sixels
from tui.pictures.fitting import Fitted

STILL = 0.05
"Seconds without a change after which sixels are drawn: they are many bytes."
EMPTY_CELL = "\u00a0"
"Under sixels: looks like a space, and is another text."


class Overlay:
    """What is drawn over the cells of one widget, in their middle.

    Args:
        widget: whose cells they are.
        fits: whether what was taken last is for the size that the widget has.
    """

    _boxes: ClassVar[int] = 0
    "Counts the places that sixels were drawn in."

    def __init__(self, widget: Widget, fits: Callable[[], bool]) -> None:
        self._widget = widget
        self._fits = fits
        self._over = ""
        "Sixels that are drawn over the cells when these were."
        self._cells = (0, 0)
        self._bare = False
        "Whether there is nothing under the sixels."
        self._coarse: tuple[int, int] | None = None
        "Columns and rows of the preview that is shown, if one is."
        self._box_number = 0
        self._drawn: tuple[str, Region] | None = None
        "The sixels that were drawn last, and where."
        self._rest: tuple[str, Region, list[tuple[int, str]]] | None = None
        "What is being drawn, where, and which parts of it are not there yet: on a slow line keys go between."
        self._drawing: Timer | None = None

    def take(self, fitted: Fitted, before: tuple[Strip, ...]) -> tuple[Strip, ...]:
        """Sixels, or none, for the next drawing; returns the rows that the widget is to show, which are those from
        before where a picture grew out of its preview: they stay until it is drawn over them."""
        bare = bool(fitted.sixels) and self._is_free
        grown = bare and self._coarse == fitted.cells
        rows = before if grown else self._under(fitted) if bare else fitted.strips
        self._over, self._cells = fitted.sixels, fitted.cells
        self._bare = bare and not grown
        self._coarse = fitted.cells if fitted.order.preview else None
        return rows

    def leave(self) -> None:
        """None are drawn any more."""
        self._over, self._bare = "", False
        self.lose()

    def lose(self) -> None:
        """The terminal may have lost what was drawn."""
        self._drawn = self._coarse = self._rest = None

    def draw_soon(self) -> None:
        """Over the cells, when they are drawn and stay."""
        if self._over and self._widget.is_mounted:
            if self._drawing is not None:
                self._drawing.stop()
            self._drawing = self._widget.set_timer(STILL, self._draw)

    def _under(self, fitted: Fitted) -> tuple[Strip, ...]:
        """Empty cells for sixels to be drawn over, as long as nothing lies there: half the bytes of a picture.

        No other empty cells are like them, for what is drawn in their place must be sent: only that takes the sixels
        away. Of two pictures in the same cells the second covers the first, and the cells stay.
        """
        cols, rows = fitted.cells
        if not self._bare or self._cells != fitted.cells:
            Overlay._boxes = Overlay._boxes % 0xFFFFFF + 1
            self._box_number = Overlay._boxes
        number = self._box_number
        ink = Color.from_rgb(number >> 16, number >> 8 & 255, number & 255)
        row = Strip([Segment(EMPTY_CELL * cols, Style.from_color(ink, Color.from_rgb(*fitted.order.ground)))], cols)
        return (row,) * rows

    def _draw(self) -> None:
        self._drawing = None
        if not self._over or not self._widget.is_mounted or not self._fits() or not self._is_free:
            return
        app, box = self._widget.app, self._box
        if self._drawn == (self._over, box) and not graphics.current.is_touched(app, self._widget):
            return  # it is there still
        if graphics.current.busy(app):
            self._drawing = self._widget.set_timer(STILL, self._draw)
            return
        if self._rest is None or self._rest[:2] != (self._over, box) or graphics.current.is_touched(app, self._widget):
            parts = [(0, self._over)]
            if graphics.current.slow(app) and (cell := graphics.current.decision.cell):
                parts = sixels.parts(self._over, cell[1])
            self._rest = self._over, box, parts
            graphics.current.watch(app, self._widget, box)
        (row, part), *rest = self._rest[2]
        graphics.current.write(app, sixels.at(box.x, box.y + row, part))
        if rest:
            self._rest = self._over, box, rest
            self._drawing = self._widget.set_timer(STILL, self._draw)
        else:
            self._drawn, self._rest = (self._over, box), None

    @property
    def _box(self) -> Region:
        """The cells of the screen that sixels are drawn over."""
        (cols, rows), size, region = self._cells, self._widget.size, self._widget.region
        return Region(region.x + (size.width - cols) // 2, region.y + (size.height - rows) // 2, cols, rows)

    @property
    def _is_free(self) -> bool:
        """Whether all of it is in sight, and nothing lies over it: what sixels are drawn over is gone."""
        widget, screen, region = self._widget, self._widget.screen, self._widget.region
        if screen is not widget.app.screen or not widget.size or region.bottom >= widget.app.size.height:
            return False
        for y in range(region.y, region.bottom):
            for x in {region.x, region.x + region.width // 2, region.right - 1}:
                try:
                    if screen.get_widget_at(x, y)[0] is not widget:
                        return False
                except NoWidget:
                    return False
        return True
