"""The widget that shows a picture: fitted into the space there is, centred, and nothing else.

A picture is fitted in a worker thread and the lines on the screen are swapped when they are ready: meanwhile the old
ones stay. One picture is worked on at a time, and of those that come in meanwhile the newest is next.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from functools import partial
from typing import Any

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engines.events import Pixels
from tui.clean import clean
from tui.pictures import fitting, graphics, kitty
from tui.pictures.deciding import Mode
from tui.pictures.fitting import Fitted, Order
from tui.pictures.halfblocks import Colours, strips_of
from tui.pictures.images import load
from tui.pictures.overlay import Overlay

PREVIEW_EVERY = 0.25
"Seconds between two previews, at least."


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

    class Ready(Message, bubble=False):
        """The worker is done."""

        def __init__(self, fitted: Fitted) -> None:
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
        self._late: Fitted | None = None
        "What is to be sent when the terminal has read what was sent before."
        self._sixels = Overlay(self, lambda: self.size == self._fitted_to)  # of another size: what fits is on its way
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
        self._sixels.lose()
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
        self._placed = self._coming = self._late = None
        self._sixels.leave()
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
        order = Order(
            self._ticket, self._source, cols, rows, self._colours, dark, self._mode, graphics.current.decision.cell,
            self._preview, self._sharp, ground.rgb,
        )  # fmt: skip
        self.run_worker(partial(self._work, order), thread=True, group="picture", exit_on_error=False)

    def _work(self, order: Order) -> None:
        """The thread's top: whatever happens, the view hears of it and goes on."""
        try:
            fitted = fitting.fitted(order)
        except Exception as error:
            fitted = Fitted(order, None, error=f"Cannot show the picture: {type(error).__name__}: {error}")
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
                self._strips = self._sixels.take(fitted, self._strips)
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

    def _place(self, fitted: Fitted) -> None:
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
        self._sixels.draw_soon()  # what is written over cells has taken them away
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
