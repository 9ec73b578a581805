"""The widget that shows a picture: fitted into the space there is, centred, and nothing else.

A picture is fitted in a worker thread and the lines on the screen are swapped when they are ready: meanwhile the old
ones stay. One picture is worked on at a time, and of those that come in meanwhile the newest is next.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, ClassVar

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.errors import NoWidget
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from engines.events import Pixels
from tui.clean import clean, one_line
from tui.pictures import graphics, kitty, sixels
from tui.pictures.deciding import Mode
from tui.pictures.halfblocks import Colours, coarse_strips, strips_of
from tui.pictures.images import load

KEPT = 1024
"A shown file is kept at most this many pixels a side: more than any terminal has half-blocks, and 3 MB at most."

SIZES = (192, 256, 384, 512, 768, KEPT)
"Pixels a side that the terminal is sent: the least that is enough. Room that grows a little costs no new upload."
PREVIEW, PREVIEW_COLOURS = 128, 64
"Pixels a side, and colours, of a preview that a terminal enlarges by itself: at most 15 kB."
STILL = 0.05
"Seconds without a change after which sixels are drawn: they are many bytes."
EMPTY_CELL = "\u00a0"
"Under sixels: looks like a space, and is another text."
PREVIEW_EVERY = 0.25
"Seconds between two of them, at least."


@dataclass(frozen=True, slots=True)
class _Order:
    """What the worker is to do."""

    ticket: int
    "Counts what was asked to be shown."
    source: Pixels | str
    "Pixels, or the path of a file that is not read yet."
    cols: int
    "Cells."
    rows: int
    "Cells."
    colours: Colours
    "What the terminal can show."
    dark: bool
    "What characters stand on."
    mode: Mode = "halfblocks"
    "How it is shown."
    cell: tuple[int, int] = (1, 2)
    "Pixels of a cell."
    preview: bool = False
    "Whether it is one of many that follow each other."
    whole: bool = False
    "Whether all of its colours are wanted."
    ground: tuple[int, int, int] = (0, 0, 0)
    "What it stands on."


@dataclass(frozen=True, slots=True)
class _Fitted:
    """What the worker made of it."""

    order: _Order
    "What was asked."
    pixels: Pixels | None
    "The source, read; None if that failed."
    strips: tuple[Strip, ...] = ()
    "The picture's rows, without margins."
    error: str = ""
    "Why there is no picture."
    cells: tuple[int, int] = (0, 0)
    "Columns and rows that a picture in the terminal's own pixels takes."
    key: Hashable = None
    "Which picture the terminal is to show in its cells."
    png: bytes | None = None
    "That picture; None if the terminal had it when it was looked for."
    sixels: str = ""
    "What draws it over the cells."


def _fitted(order: _Order) -> _Fitted:
    """The heavy part; runs in a thread."""
    try:
        pixels = order.source if isinstance(order.source, Pixels) else load(order.source, KEPT)
        if order.mode == "kitty":
            return _for_kitty(order, pixels)
        cells, size = _box(pixels, order)
        if order.mode == "sixel" and order.preview:
            return _Fitted(order, pixels, tuple(coarse_strips(pixels, order.cols, order.rows, cells)), cells=cells)
        strips = strips_of(pixels, order.cols, order.rows, order.colours, dark=order.dark, cells=cells)
    except ValueError as error:
        name = PurePath(order.source).name if isinstance(order.source, str) else "the picture"
        return _Fitted(order, None, error=f"Cannot show {one_line(name, 60)}: {error}")
    if order.mode == "sixel" and not order.preview:
        room = cells[0] * order.cell[0], cells[1] * order.cell[1]
        drawn = sixels.encode(pixels, size, room, order.ground)
        return _Fitted(order, pixels, tuple(strips), cells=cells, sixels=drawn)
    return _Fitted(order, pixels, tuple(strips))


def _for_kitty(order: _Order, pixels: Pixels) -> _Fitted:
    """With the picture as the terminal takes it, if it has to be sent."""
    cells, size = _box(pixels, order)
    if order.preview:
        data = kitty.png(pixels, (PREVIEW, PREVIEW), PREVIEW_COLOURS)
        return _Fitted(order, pixels, cells=cells, key="preview", png=data)
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=b"%d" % order.whole).digest()
    enough = [side for side in SIZES if side >= max(size)] or [KEPT]
    for side in enough:  # a larger one than is needed now is there already, perhaps
        if graphics.current.uploads.number((digest, side)) is not None:
            return _Fitted(order, pixels, cells=cells, key=(digest, side))
    side, key = enough[0], (digest, enough[0])
    return _Fitted(order, pixels, cells=cells, key=key, png=kitty.png(pixels, (side, side), 0 if order.whole else 256))


def _box(pixels: Pixels, order: _Order) -> tuple[tuple[int, int], tuple[int, int]]:
    """(columns, rows) and (width, height) in pixels that a picture takes where all of it is to be seen."""
    wide, high = order.cell
    most = len(kitty.MARKS) if order.mode == "kitty" else max(order.cols, order.rows)
    cols, rows = min(order.cols, most), min(order.rows, most)
    scale = min(cols * wide / pixels.width, rows * high / pixels.height)
    size = max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale))
    if order.mode == "halfblocks":  # which fill their cells: the nearest shape
        shape = round(pixels.width * scale / wide), round(pixels.height * scale / high)
        return (min(cols, max(1, shape[0])), min(rows, max(1, shape[1]))), size
    return (min(cols, -(-size[0] // wide)), min(rows, -(-size[1] // high))), size


class PictureView(Widget):
    """One picture, or a message while there is none.

    Borders and padding belong on a container: without them the finished lines go to the terminal as they are, past
    Textual's styling of every cell (0.5 ms of the interface's time instead of 2 for 100 by 50 cells, and fewer bytes).
    """

    DEFAULT_CSS = """
    PictureView {
        width: 1fr;
        height: 1fr;
    }
    """
    ALLOW_SELECT = False
    _boxes: ClassVar[int] = 0
    "Counts the places that sixels were drawn in."

    class Ready(Message, bubble=False):
        """The worker is done."""

        def __init__(self, fitted: _Fitted) -> None:
            super().__init__()
            self.fitted = fitted

    class Room(Message, bubble=False):
        """The terminal has read what was sent before."""

    class Arrived(Message, bubble=False):
        """All of a picture was sent to the terminal."""

        def __init__(self, wanted: tuple[Hashable, tuple[int, int]], number: int) -> None:
            super().__init__()
            self.wanted = wanted
            self.number = number

    def __init__(
        self,
        message: str = "",
        *,
        mode: Mode = "halfblocks",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
        disabled: bool = False,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes, disabled=disabled)
        self._message = message
        self._mode: Mode = "halfblocks"
        self._source: Pixels | str | None = None
        self._preview = False
        self._sharp = False
        self._ticket = 0
        self._oldest = 0  # of the tickets whose pictures may still be shown
        self._busy = False
        self._again = False
        self._fitted_to = Size(0, 0)
        self._strips: tuple[Strip, ...] = ()
        self._lines: list[Strip] = []
        self._lines_key: tuple[object, ...] = ()
        self._placed: tuple[Hashable, tuple[int, int]] | None = None
        "Which picture the terminal shows in how many of its cells."
        self._coming: tuple[Hashable, tuple[int, int]] | None = None
        "Which is on its way there; until it is all there what was shown before is."
        self._late: _Fitted | None = None
        "What is to be sent when the terminal has read what was sent before."
        self._over = ""
        "Sixels that are drawn over the cells when these were."
        self._over_cells = (0, 0)
        self._bare = False
        "Whether there is nothing under the sixels."
        self._coarse: tuple[int, int] | None = None
        "Columns and rows of the preview that is shown, if one is."
        self._box_number = 0
        self._drawn_over: tuple[str, Region] | None = None
        "The sixels that were drawn last, and where."
        self._drawing: Timer | None = None
        self._shown_at = 0.0
        self._resting = False
        self.mode = mode

    @property
    def mode(self) -> Mode:
        """How pictures are shown: in the terminal's way, or in half-blocks. Of sixels previews are half-blocks, too: no
        terminal takes several of them a second."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode if mode == graphics.current.decision.mode else "halfblocks"
        self._fit()

    @property
    def cell(self) -> tuple[int, int]:
        """Pixels that a cell shows, across and down."""
        return (1, 2) if self._mode == "halfblocks" else graphics.current.decision.cell

    def show_pixels(self, pixels: Pixels, sharp: bool = False) -> None:
        """Show a picture from memory: a live preview, or a `sharp` one in the terminal's best way. Only from the
        interface's thread, like all methods here."""
        self._ticket += 1
        self._source, self._preview, self._sharp = pixels, not sharp, sharp
        self._fit()

    def show_file(self, path: str) -> None:
        """Show a picture file. It is read in a thread; if it can't be, the view says why in one line."""
        self._ticket += 1
        self._oldest = self._ticket  # no preview that was under way may follow
        self._source, self._preview, self._sharp = path, False, False
        self._fit()

    def again(self) -> None:
        """The terminal may have lost what it held: all of it is sent once more."""
        self._drawn_over = self._coarse = None
        self._placed = self._coming = None
        self._fit()

    def clear(self, message: str = "") -> None:
        """Show no picture but a message, which may have several lines and is wrapped."""
        self._ticket += 1
        self._oldest = self._ticket
        self._source = None
        self._say(message)

    def _say(self, message: str) -> None:
        self._message, self._strips = message, ()
        self._leave()
        self._changed()

    def on_mount(self) -> None:
        self._fit()

    def on_unmount(self) -> None:
        self._leave()

    def on_resize(self) -> None:
        self._fit()

    def _leave(self) -> None:
        """Nothing of the terminal's own is shown here any more."""
        self._placed, self._coming, self._late, self._over, self._bare = None, None, None, "", False
        self._drawn_over = self._coarse = None
        if self._mode == "kitty":
            uploads = graphics.current.uploads
            graphics.current.send(self.app, uploads.forget((self, "preview")) + uploads.leave(self))

    def _fit(self) -> None:
        """Have the source fitted into the present size, now or after what is being worked on."""
        cols, rows = self.size
        if self._source is None or not self.is_mounted or not cols or not rows:
            return
        if self._busy:
            self._again = True
            return
        self._busy, self._again, self._fitted_to = True, False, self.size
        ground = self.background_colors[1]
        dark = ground.brightness < 0.5
        order = _Order(
            self._ticket, self._source, cols, rows, self._colours, dark, self._mode, graphics.current.decision.cell,
            self._preview, self._sharp, ground.rgb,
        )  # fmt: skip
        self.run_worker(partial(self._work, order), thread=True, group="picture", exit_on_error=False)

    def _work(self, order: _Order) -> None:
        """The thread's top: whatever happens, the view hears of it and goes on."""
        try:
            fitted = _fitted(order)
        except Exception as error:
            fitted = _Fitted(order, None, error=f"Cannot show the picture: {type(error).__name__}: {error}")
        self.post_message(self.Ready(fitted))

    def on_picture_view_ready(self, event: Ready) -> None:
        """Swap in what the worker made, unless something else was asked for since."""
        self._busy = False
        fitted = event.fitted
        ticket = fitted.order.ticket
        if ticket >= self._oldest:
            if ticket == self._ticket:
                self._source = fitted.pixels  # a file is not read again for another size
            if fitted.pixels is None:
                self._say(fitted.error)
            elif fitted.order.preview and self._rests():
                pass
            elif fitted.order.mode == "kitty":
                self._place(fitted)
            else:
                bare = bool(fitted.sixels) and self._is_free
                grown = bare and self._coarse == fitted.cells  # what it grew out of stays until it is drawn over that
                if not grown:
                    self._strips = self._under(fitted) if bare else fitted.strips
                self._over, self._over_cells = fitted.sixels, fitted.cells
                self._bare = bare and not grown
                self._coarse = fitted.cells if fitted.order.preview else None
                self._changed()
        if self._again:
            self._fit()

    def _rests(self) -> bool:
        """Whether no preview is to be shown now; the newest that there is by then is tried again."""
        wait = graphics.current.rests(self.app)
        if self._mode == "kitty":
            wait = max(wait, self._shown_at + PREVIEW_EVERY - time.monotonic())
        if wait > 0 and not self._resting:
            self._resting = True
            self.set_timer(wait, self._rested)
        return wait > 0

    def _rested(self) -> None:
        self._resting = False
        self._fit()

    def _place(self, fitted: _Fitted) -> None:
        """In cells that show a picture of the terminal's. A preview swaps it in place: no cell is written again."""
        terminal, (cols, rows) = graphics.current, fitted.cells
        waits, self._late = self._late is not None, None
        if fitted.png is not None and terminal.busy(self.app):
            self._late = fitted
            if not waits:
                terminal.when_free(self.app, lambda: self.post_message(self.Room()))
            return
        if fitted.order.preview:
            self._shown_at = time.monotonic()
        key: Hashable = (self, "preview") if fitted.order.preview else fitted.key
        try:
            number, written = terminal.uploads.show(key, self, cols, rows, fitted.png)
        except KeyError:  # the terminal has let go of it meanwhile
            self._again = True
            return
        wanted = self._coming = key, (cols, rows)
        arrived = self.Arrived(wanted, number)
        if fitted.png is None:
            terminal.send(self.app, written)
            self.on_picture_view_arrived(arrived)
        else:
            terminal.send(self.app, written, lambda: self.post_message(arrived))

    def on_picture_view_room(self) -> None:
        """For what is late, if it is wanted still."""
        if self._late is not None and self._late.order.ticket >= self._oldest:
            self._place(self._late)
            if self._again:
                self._fit()

    def on_picture_view_arrived(self, event: Arrived) -> None:
        """The cells may show it, unless another is on its way since."""
        if event.wanted != self._coming:
            return
        key, (cols, rows) = event.wanted
        self._coming = None
        if key != (self, "preview"):
            graphics.current.send(self.app, graphics.current.uploads.forget((self, "preview")))
        if self._placed != event.wanted:
            self._placed = event.wanted
            self._strips = kitty.rows_of(event.number, cols, rows)
            self._changed()

    # ── sixels ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _under(self, fitted: _Fitted) -> tuple[Strip, ...]:
        """Empty cells for sixels to be drawn over, as long as nothing lies there: half the bytes of a picture.

        No other empty cells are like them, for what is drawn in their place must be sent: only that takes the sixels
        away. Of two pictures in the same cells the second covers the first, and the cells stay.
        """
        cols, rows = fitted.cells
        if not self._bare or self._over_cells != fitted.cells:
            PictureView._boxes = PictureView._boxes % 0xFFFFFF + 1
            self._box_number = PictureView._boxes
        number = self._box_number
        ink = Color.from_rgb(number >> 16, number >> 8 & 255, number & 255)
        row = Strip([Segment(EMPTY_CELL * cols, Style.from_color(ink, Color.from_rgb(*fitted.order.ground)))], cols)
        return (row,) * rows

    def _draw_soon(self) -> None:
        """Over the cells, when they are drawn and stay."""
        if self._over and self.is_mounted:
            if self._drawing is not None:
                self._drawing.stop()
            self._drawing = self.set_timer(STILL, self._draw)

    def _draw(self) -> None:
        self._drawing = None
        if not self._over or not self.is_mounted or self.size != self._fitted_to or not self._is_free:
            return  # of another size: what fits is on its way
        box = self._box_on_screen
        if self._drawn_over == (self._over, box) and not graphics.current.is_touched(self.app, self):
            return  # it is there still
        if graphics.current.busy(self.app):
            self._drawing = self.set_timer(STILL, self._draw)
            return
        graphics.current.write(self.app, sixels.at(box.x, box.y, self._over))
        self._drawn_over = self._over, box
        graphics.current.watch(self.app, self, box)

    @property
    def _box_on_screen(self) -> Region:
        """The cells that sixels are drawn over."""
        cols, rows = self._over_cells
        left, top = (self.size.width - cols) // 2, (self.size.height - rows) // 2
        return Region(self.region.x + left, self.region.y + top, cols, rows)

    @property
    def _is_free(self) -> bool:
        """Whether all of it is in sight, and nothing lies over it: what sixels are drawn over is gone."""
        if self.screen is not self.app.screen or not self.size or self.region.bottom >= self.app.size.height:
            return False
        region = self.region
        for y in range(region.y, region.bottom):
            for x in {region.x, region.x + region.width // 2, region.right - 1}:
                try:
                    if self.screen.get_widget_at(x, y)[0] is not self:
                        return False
                except NoWidget:
                    return False
        return True

    def _changed(self) -> None:
        self._lines_key = ()
        if self.is_mounted:
            self.refresh()

    @property
    def _colours(self) -> Colours:
        return colours_of(self.app)

    def render_line(self, y: int) -> Strip:
        """One line of the view."""
        lines = self._finished()
        return lines[y] if 0 <= y < len(lines) else Strip.blank(self.size.width, self.rich_style)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines as they are, past Textual's styling, which would go through every cell, where there is none."""
        self._draw_soon()  # what is written over cells has taken the sixels away
        if not self._strips or self._is_styled or self._colours == "none":
            return super().render_lines(crop)
        lines = self._finished()[crop.y : crop.bottom]
        start, end = crop.column_span
        return lines if (start, end) == (0, self.size.width) else [line.crop(start, end) for line in lines]

    @property
    def _is_styled(self) -> bool:
        styles = self.styles
        return (
            bool(styles.gutter)
            or any(edge for edge, _ in styles.outline)
            or self.opacity != 1.0
            or styles.text_opacity != 1.0
            or bool(styles.tint.a)
            or styles.has_rule("hatch")
        )

    def _finished(self) -> list[Strip]:
        """All lines of the view, exactly as many and as wide as it has; made once a picture, size and background."""
        width, height = self.size
        if self._source is not None and self.size != self._fitted_to:
            self.call_later(self._fit)  # a new border takes space without a resize event
        style = self.rich_style
        key = (width, height, style)
        if key != self._lines_key:
            self._lines_key = key
            rows = self._strips or tuple(self._message_strips(width, style))
            self._lines = self._centred(rows, width, height, style)
        return self._lines

    def _centred(self, rows: tuple[Strip, ...], width: int, height: int, style: Style) -> list[Strip]:
        """Rows that were made for another size are cut at the edges until the right ones come."""
        if not width or not height:
            return []
        console = self.app.console
        over = max(0, len(rows) - height) // 2
        rows = rows[over : over + height]
        above = (height - len(rows)) // 2
        blank = Strip.blank(width, style)
        lines = [blank] * above
        for row in rows:
            if row.cell_length > width:
                cut = (row.cell_length - width) // 2
                row = row.crop(cut, cut + width)
            if row._render_cache is None:
                row = row.apply_style(style)
            left = (width - row.cell_length) // 2
            margins = [Strip.blank(n, style) for n in (left, width - row.cell_length - left)]
            for margin in margins:
                margin.render(console)  # Strip.join keeps the finished text only where all parts have theirs
            lines.append(Strip.join([margins[0], row, margins[1]]))
        return lines + [blank] * (height - len(lines))

    def _message_strips(self, width: int, style: Style) -> list[Strip]:
        if not width or not self._message.strip():
            return []
        text = Text(clean(self._message), justify="center")
        dim = style + Style(dim=True)
        strips = []
        for line in text.wrap(self.app.console, width, tab_size=4):
            plain = line.plain.strip()
            strips.append(Strip([Segment(plain, dim)]))
        return strips


def colours_of(app: App[Any]) -> Colours:
    """What the terminal can show. Textual, too, takes an unknown one for one with all colours.

    A plain TERM=xterm counts as one with 16, but whatever calls itself that today has 256, and pictures in 16 are a
    mess.
    """
    if app.no_color or getattr(app, "plain", False):
        return "none"
    system = app.console.color_system
    return "truecolor" if system in (None, "truecolor") else "256" if system != "windows" else "none"


def thumbnail_strips(source: Pixels | bytes, cols: int, rows: int, colours: Colours = "truecolor") -> list[Strip]:
    """`rows` lines, each exactly `cols` cells, of a small picture (pixels, or the bytes of an image file), centred.

    The margins have no style of their own, so `strip.apply_style(row_style)` gives them that of the row. A picture
    that can't be read is a '?'. A pure function, fit for any thread and for a cache.
    """
    cols, rows = max(0, cols), max(0, rows)
    try:
        pixels = source if isinstance(source, Pixels) else load(source, max(16, cols, 2 * rows))
        picture = strips_of(pixels, cols, rows, colours)
    except ValueError:
        picture = [Strip([Segment("?")], 1)] if cols and rows else []
    above = (rows - len(picture)) // 2
    lines = [Strip.blank(cols)] * above
    for strip in picture:
        left = (cols - strip.cell_length) // 2
        lines.append(Strip.join([Strip.blank(left), strip, Strip.blank(cols - strip.cell_length - left)]))
    return lines + [Strip.blank(cols)] * (rows - len(lines))
