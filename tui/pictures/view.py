"""The widget that shows a picture: fitted into the space there is, centred, and nothing else.

A picture is fitted in a worker thread and the lines on the screen are swapped when they are ready: meanwhile the old
ones stay. One picture is worked on at a time, and of those that come in meanwhile the newest is next.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, TypeAlias

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engines.events import Pixels
from tui.clean import clean, one_line
from tui.pictures.halfblocks import Colours, strips_of, to_image
from tui.pictures.images import load

Mode: TypeAlias = Literal["halfblocks", "textual-image"]

KEPT = 1024
"A shown file is kept at most this many pixels a side: more than any terminal has half-blocks, and 3 MB at most."

_image_widget: type[Widget] | None = None
"textual-image's widget, once `prepare` has found that it works in this terminal."


class Prepared(NamedTuple):
    """What `prepare` settled on."""

    mode: Mode
    "The way in which pictures will be shown."
    reason: str
    "One line, why it is not the one that was asked for; empty if it is."


def prepare(mode: str) -> Prepared:
    """Settle how pictures are shown, before `App.run`: textual-image asks the terminal when it is imported, which no
    longer works once Textual reads the keyboard. Half-blocks, which work everywhere, are the answer to every problem.
    """
    global _image_widget
    if mode == "halfblocks":
        return Prepared("halfblocks", "")
    if mode != "textual-image":
        return Prepared("halfblocks", f"there is no way {one_line(mode, 40)!r} of showing pictures")
    if not all(stream is not None and stream.isatty() for stream in (sys.__stdin__, sys.__stdout__)):
        return Prepared("halfblocks", "textual-image needs a terminal")
    try:
        from textual_image import renderable, widget
    except Exception as error:  # its import talks to the terminal: a size of 0 by 0 is a ZeroDivisionError, for one
        return Prepared("halfblocks", f"textual-image does not start here: {one_line(repr(error), 80)}")
    if renderable.Image in (renderable.HalfcellImage, renderable.UnicodeImage):
        return Prepared("halfblocks", "this terminal answered to no picture protocol")
    _image_widget = widget.Image
    return Prepared("textual-image", "")


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


def _fitted(order: _Order) -> _Fitted:
    """The heavy part; runs in a thread."""
    try:
        pixels = order.source if isinstance(order.source, Pixels) else load(order.source, KEPT)
        strips = strips_of(pixels, order.cols, order.rows, order.colours, dark=order.dark)
    except ValueError as error:
        name = PurePath(order.source).name if isinstance(order.source, str) else "the picture"
        return _Fitted(order, None, error=f"Cannot show {one_line(name, 60)}: {error}")
    return _Fitted(order, pixels, tuple(strips))


class PictureView(Widget):
    """One picture, or a message while there is none.

    Borders and padding belong on a container: without them the finished lines go to the terminal as they are, past
    Textual's styling of every cell (0.5 ms of the interface's time instead of 2 for 100 by 50 cells, and fewer bytes).
    """

    DEFAULT_CSS = """
    PictureView {
        width: 1fr;
        height: 1fr;
        align: center middle;
    }
    PictureView > * {
        width: auto;
        height: auto;
    }
    """
    ALLOW_SELECT = False

    class Ready(Message, bubble=False):
        """The worker is done."""

        def __init__(self, fitted: _Fitted) -> None:
            super().__init__()
            self.fitted = fitted

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
        self._from_file = False
        self._ticket = 0
        self._oldest = 0  # of the tickets whose pictures may still be shown
        self._busy = False
        self._again = False
        self._fitted_to = Size(0, 0)
        self._strips: tuple[Strip, ...] = ()
        self._lines: list[Strip] = []
        self._lines_key: tuple[object, ...] = ()
        self._child: Widget | None = None
        self.mode = mode

    @property
    def mode(self) -> Mode:
        """How files are shown; "textual-image" takes only where `prepare` allowed it.

        Live previews are half-blocks in both: textual-image deletes and uploads a picture anew at every refresh.
        """
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode if _image_widget is not None else "halfblocks"
        self._fit()

    @property
    def cell(self) -> tuple[int, int]:
        """Pixels that a cell shows, across and down."""
        if self._mode == "halfblocks":
            return 1, 2
        from textual_image._terminal import get_cell_size

        size = get_cell_size()
        return max(1, size.width), max(2, size.height)

    def show_pixels(self, pixels: Pixels, sharp: bool = False) -> None:
        """Show a picture from memory: a live preview, or a `sharp` one in the terminal's best way. Only from the
        interface's thread, like all methods here."""
        self._ticket += 1
        self._source, self._from_file = pixels, sharp
        self._fit()

    def show_file(self, path: str) -> None:
        """Show a picture file. It is read in a thread; if it can't be, the view says why in one line."""
        self._ticket += 1
        self._oldest = self._ticket  # no preview that was under way may follow
        self._source, self._from_file = path, True
        self._fit()

    def clear(self, message: str = "") -> None:
        """Show no picture but a message, which may have several lines and is wrapped."""
        self._ticket += 1
        self._oldest = self._ticket
        self._source = None
        self._say(message)

    def _say(self, message: str) -> None:
        self._message, self._strips = message, ()
        self._show_child(None)
        self._changed()

    def on_mount(self) -> None:
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        """Have the source fitted into the present size, now or after what is being worked on."""
        cols, rows = self.size
        if self._source is None or not self.is_mounted or not cols or not rows:
            return
        if self._busy:
            self._again = True
            return
        self._busy, self._again, self._fitted_to = True, False, self.size
        dark = self.background_colors[1].brightness < 0.5
        order = _Order(self._ticket, self._source, cols, rows, self._colours, dark)
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
            elif self._mode == "textual-image" and self._from_file and ticket == self._ticket:
                self._show_child(fitted.pixels)
                self._message, self._strips = "", ()
                self._changed()
            else:
                self._show_child(None)
                self._strips = fitted.strips
                self._changed()
        if self._again:
            self._fit()

    def _show_child(self, pixels: Pixels | None) -> None:
        """The picture as a widget of textual-image; None hides it."""
        if pixels is None or _image_widget is None:
            if self._child is not None:
                self._child.display = False
            return
        if self._child is None:
            self._child = _image_widget()
            self.mount(self._child)
        if getattr(self._child, "safelight_source", None) is not pixels:
            self._child.image = to_image(pixels)  # type: ignore[attr-defined]
            self._child.safelight_source = pixels  # type: ignore[attr-defined]
        self._child.display = True

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
    if app.no_color:
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
