"""A picture as large as the terminal, and pixel by pixel: zoom, pan, and flip to what it was made of, in place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import cells, keys
from tui.clean import one_line
from tui.pictures import images
from tui.pictures.deciding import Mode
from tui.pictures.view import PictureView

ZOOMS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"How much larger than the terminal the picture is shown; at the first all of it is in sight."
PAN = 0.25
"Of what is in sight, how far an arrow goes."


@dataclass(frozen=True, slots=True)
class Look:
    """One of the pictures that are flipped."""

    path: str
    "Its file."
    name: str
    "What it is called here."


class Closer(ModalScreen[None]):
    """The first of some pictures, large. What is in sight is a part of the picture, whichever is shown: so a larger one
    and what it was made of lie upon each other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *keys.bindings("closer"),
        Binding("ctrl+q", "dismiss(None)", "close", show=False, priority=True),
        Binding("alt+j", "dismiss(None)", "close", show=False, priority=True, id="closer"),
        Binding("alt+r", "flip", "flip", show=False, priority=True, id="flip"),
    ]

    scopes: ClassVar[tuple[keys.Scope, ...]] = ("closer",)

    class Cropped(Message, bubble=False):
        """The worker is done."""

        def __init__(self, path: str, part: images.Part | None, error: str) -> None:
            super().__init__()
            self.path = path
            self.part = part
            self.error = error

    def __init__(self, looks: list[Look], mode: Mode = "halfblocks") -> None:
        super().__init__()
        self._looks = looks
        self._mode: Mode = mode
        self._at = 0
        self._zoom = 0
        self._exact = False
        self._centre = (0.5, 0.5)
        self._whole = images.Opened()
        self._busy = False
        self._again = False
        self._seen = (1.0, 1.0)

    def compose(self) -> ComposeResult:
        """The picture, and one line."""
        with Vertical(id="closer"):
            yield PictureView("", mode=self._mode, id="closer-view")
            yield Static(id="closer-line", markup=False)

    def on_mount(self) -> None:
        """Begins with all of it."""
        self._look()

    def on_resize(self) -> None:
        """More or less is in sight."""
        self.call_after_refresh(self._look)

    def action_zoom(self, by: int) -> None:
        """Closer, or farther."""
        self._exact = False
        self._zoom = min(max(self._zoom + by, 0), len(ZOOMS) - 1)
        self._look()

    def action_whole(self) -> None:
        """All of it."""
        self._exact, self._zoom, self._centre = False, 0, (0.5, 0.5)
        self._look()

    def action_true(self) -> None:
        """A pixel of the largest of the pictures for a pixel of the terminal."""
        self._exact = True
        self._look()

    def action_pan(self, x: int, y: int) -> None:
        """To a neighbouring part."""
        wide, high = self._seen
        self._centre = (
            min(max(self._centre[0] + PAN * x * wide, wide / 2), 1 - wide / 2),
            min(max(self._centre[1] + PAN * y * high, high / 2), 1 - high / 2),
        )
        self._look()

    def action_flip(self) -> None:
        """The other picture, in the same place."""
        if len(self._looks) > 1:
            self._at = (self._at + 1) % len(self._looks)
            self._look()
        else:
            self.notify("there is no picture before this one", timeout=3, markup=False)

    def _look(self) -> None:
        """Has the part in sight cut out, now or after what is being worked on."""
        if self._busy:
            self._again = True
            return
        view = self.query_one(PictureView)
        cells = view.size
        if not cells.width or not cells.height:
            return
        self._busy, self._again = True, False
        wish = images.Wish(
            (cells.width * view.cell[0], cells.height * view.cell[1]),
            0.0 if self._exact else ZOOMS[self._zoom],
            self._centre,
            view.background_colors[1].rgb,
        )
        path = self._looks[self._at].path
        others = tuple(look.path for look in self._looks)
        self.run_worker(partial(self._work, path, others, wish), thread=True, group="closer", exit_on_error=False)

    def _work(self, path: str, others: tuple[str, ...], wish: images.Wish) -> None:
        try:
            part, error = self._whole.part(path, others, wish), ""
        except Exception as e:
            part, error = None, f"{e}" if isinstance(e, ValueError) else f"{type(e).__name__}: {e}"
        self.post_message(self.Cropped(path, part, error))

    def on_closer_cropped(self, event: Cropped) -> None:
        """Shows it, and what it is."""
        self._busy = False
        view, look = self.query_one(PictureView), self._looks[self._at]
        part = event.part
        if event.path == look.path and part is not None:
            view.show_pixels(part.pixels, sharp=True)
            self._seen = part.seen
            # what is beyond the edges is never in sight
            self._centre = part.centre
            self._tell(look, part)
        elif event.path == look.path:
            view.clear(f"Cannot show {one_line(look.name)}: {one_line(event.error)}")
            flip = " · space flips" if len(self._looks) > 1 else ""
            self.query_one("#closer-line", Static).update(Content.styled(f"esc closes{flip}", "$foreground 75%"))
        if self._again:
            self._look()

    def _tell(self, look: Look, part: images.Part) -> None:
        scale = f"{part.scale:.2g}:1" if part.scale >= 1 else f"1:{1 / part.scale:.2g}"
        width = max(10, self.size.width - 2)
        which = f"{look.name} ({self._at + 1} of {len(self._looks)})" if len(self._looks) > 1 else look.name
        flip = "space flips · " if len(self._looks) > 1 else ""
        told = f"esc closes · {flip}+ - · arrows · 0 all · 1 pixels"
        facts = f"{which} · {part.size[0]}x{part.size[1]} · {scale}"
        more = one_line(told, max(1, width - cells.width(facts) - 3))
        line = Content.assemble((facts, "bold"), (f" · {more}", "$foreground 75%"))
        self.query_one("#closer-line", Static).update(line)
