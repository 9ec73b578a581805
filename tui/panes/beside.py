"""Two pictures beside one another, and what differs in what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engines.errors import SafelightError
from engines.requests import Picture
from tui import differing
from tui.clean import clean, one_line
from tui.differing import Words
from tui.pictures.deciding import Mode
from tui.pictures.view import PictureView

LABEL = 10
"Cells of the column of names."
CONTEXT = 3
"Words of what is alike that are shown beside what differs."
PROMPT = 3
"Lines that a prompt may take."

Older = Callable[[int | None], Picture | None]
"The picture before the one with this id, or the newest; waits for the disk, and may raise SafelightError."


class BesideScreen(ModalScreen[Picture | None]):
    """The picture before on the left, the present one on the right. An arrow keeps that one; Escape changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+q", "dismiss(None)", "close", show=False, priority=True),
        Binding("alt+c", "dismiss(None)", "close", show=False, priority=True, id="beside"),
        Binding("alt+r", "swap", "swap", show=False, priority=True, id="flip"),
        Binding("left", "keep(0)", "keep the left one", show=False),
        Binding("right", "keep(1)", "keep the right one", show=False),
        Binding("s,tab", "swap", "swap", show=False, priority=True),
        Binding("down", "older", "an older one on the left", show=False),
        Binding("up", "newer", "back", show=False),
    ]

    def __init__(
        self, left: Picture, right: Picture, titles: Callable[[str], str], older: Older, mode: Mode = "halfblocks"
    ) -> None:
        super().__init__()
        self._pair = (left, right)
        self._titles = titles
        self._older = older
        self._mode: Mode = mode
        self._newer: list[Picture] = []
        self._reading = False

    def compose(self) -> ComposeResult:
        """Two columns of a picture with its facts under it."""
        with Vertical(id="beside") as box:
            box.border_title = Content("side by side")
            box.border_subtitle = Content("← → keep one · ↓ an older one · s swap · esc close")
            with Horizontal():
                for side in ("left", "right"):
                    with Vertical(classes="side"):
                        yield PictureView("", mode=self._mode, id=f"{side}-view")
                        yield Static(id=f"{side}-facts", markup=False)

    def on_mount(self) -> None:
        """Both at once."""
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        """What differs is laid out anew."""
        self.call_after_refresh(self._tell)

    def _show(self) -> None:
        for side, picture in zip(("left", "right"), self._pair, strict=True):
            self.query_one(f"#{side}-view", PictureView).show_file(picture.path)
        self._tell()

    def _tell(self) -> None:
        width = max(12, self.query_one("#left-facts").content_size.width)
        for side, text in zip(("left", "right"), facts(*self._pair, self._titles, width), strict=True):
            self.query_one(f"#{side}-facts", Static).update(text)

    def action_keep(self, which: int) -> None:
        """That one goes into the middle of the workbench."""
        self.dismiss(self._pair[which])

    def action_swap(self) -> None:
        """Left and right."""
        self._pair = (self._pair[1], self._pair[0])
        self._newer.clear()
        self._show()

    def action_older(self) -> None:
        """The left one gives way to the picture that was made before it."""
        if not self._reading:  # a key that is held down is not faster than the disk
            self._reading = True
            self.run_worker(self._step(), group="store")

    async def _step(self) -> None:
        pair = left, right = self._pair
        try:
            older = await asyncio.to_thread(self._older, left.id)
            if older is not None and older.id == right.id:
                older = await asyncio.to_thread(self._older, older.id)
        except SafelightError as e:
            self.notify(clean(e.message), severity="warning", timeout=4, markup=False)
            return
        finally:
            self._reading = False
        if pair != self._pair:
            return  # they were swapped meanwhile
        if older is None:
            self.notify("there is no older picture", timeout=3, markup=False)
            return
        self._newer.append(left)
        self._pair = (older, right)
        self._show()

    def action_newer(self) -> None:
        """The left one that was there before `older`."""
        if self._newer:
            self._pair = (self._newer.pop(), self._pair[1])
            self._show()
        else:
            self.notify("↓ takes an older picture, ↑ comes back from it", timeout=3, markup=False)

    def on_click(self, event: events.Click) -> None:
        """A click on a picture keeps it; one beside the box closes it."""
        if event.widget is self:
            self.dismiss(None)
        for which, side in enumerate(("left", "right")):
            if event.widget is self.query_one(f"#{side}-view"):
                self.action_keep(which)


def facts(left: Picture, right: Picture, titles: Callable[[str], str], width: int) -> tuple[Content, Content]:
    """What stands under each of two pictures: its scores and name, then, line by line, only what differs.

    Args:
        width: cells of each column. Both texts have equally many lines.
    """
    sides: tuple[list[Content], list[Content]] = ([], [])
    for side, picture in zip(sides, (left, right), strict=True):
        scores = [f"{name} {score:.1f}" for name, score in picture.scores.items()]
        head = " · ".join([*scores, titles(picture.request.model), f"seed {picture.request.seed}"])
        side.append(Content.styled(one_line(head, width), "bold"))
    one, other = left.request, right.request
    rows = [(d.name, _plain(d.before), _plain(d.after)) for d in differing.differences(one, other)]
    if (one.negative_prompt or "") != (other.negative_prompt or ""):
        rows.append(("negative", *differing.words(one.negative_prompt or "", other.negative_prompt or "")))
    elif one.negative_prompt != other.negative_prompt:
        rows.append(("negative", _plain(differing.blank(one)), _plain(differing.blank(other))))
    if one.prompt != other.prompt:
        rows.append(("prompt", *differing.words(one.prompt, other.prompt)))
    for name, *texts in rows:
        lines = [_wrapped(_excerpt(text), width - LABEL) for text in texts]
        tall = max(map(len, lines))
        for side, own in zip(sides, lines, strict=True):
            for at in range(tall):
                label = (name if at == 0 else "").ljust(LABEL)
                side.append(Content.assemble((label, "$foreground 70%"), own[at] if at < len(own) else Content("")))
    if not rows:
        for side in sides:
            side.append(Content.styled("the same request", "$foreground 70%"))
    return Content("\n").join(sides[0]), Content("\n").join(sides[1])


def _plain(text: str) -> Words:
    return [(one_line(text), True)]


def _excerpt(words: Words) -> Words:
    """What differs, with a few words of what is alike on both sides of it."""
    told: Words = []
    for at, (text, changed) in enumerate(words):
        some = text.split()
        first, last = at == 0, at == len(words) - 1
        if not changed and len(some) > CONTEXT * (1 if first or last else 2):
            before = [] if first else some[:CONTEXT]
            after = [] if last else some[-CONTEXT:]
            text = " ".join([*before, "…", *after])
        told.append((text, changed))
    return told or [("∅", True)]


def _wrapped(words: Words, width: int) -> list[Content]:
    """At most PROMPT lines; what differs stands out without colour, too."""
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for text, changed in words:
        for word in text.split():
            word = one_line(word, width)
            cells = cell_len(word)
            if used and used + 1 + cells > width:
                if len(lines) == PROMPT:
                    lines[-1].append(("…", ""))
                    return [Content.assemble(*line) for line in lines]
                lines.append([])
                used = 0
            lines[-1].append((" " if used else "", ""))
            lines[-1].append((word, "bold underline $warning" if changed else ""))
            used += cells + bool(used)
    return [Content.assemble(*line) for line in lines]
