"""A strip of small pictures under the big one: what one key has asked for together, as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engines.requests import JobId, Picture
from tui import cells
from tui.clean import one_line
from tui.pictures.view import PictureView

TALLEST = 12
"Rows that the strip may take, its words included."


@dataclass(slots=True)
class Frame:
    """One place in the strip."""

    label: str
    "What is special about it, in a word or two."
    job: JobId | None = None
    "Who makes it; None until it is in the queue, or where the picture was there before."
    picture: Picture | None = None
    "What stands in it."
    failed: bool = False
    "It will not come."


class Small(Vertical):
    """One frame as it is shown."""

    def __init__(self, number: int, label: str) -> None:
        super().__init__(classes="frame")
        self.number = number
        self._label = label
        self._frame = Frame(label)
        self._is_chosen = False

    def compose(self) -> ComposeResult:
        """Picture above, label below; always half-blocks, which cost nothing to redraw."""
        yield PictureView("·")
        yield Static(Content(one_line(self._label)), markup=False)

    def show(self, frame: Frame, chosen: bool) -> None:
        """What has become of it."""
        view = self.query_one(PictureView)
        if frame.picture is not None:
            view.show_file(frame.picture.path)
        elif frame.failed:
            view.clear("✗")
        self.mark(frame, chosen)

    def mark(self, frame: Frame, chosen: bool) -> None:
        """Whether it is the one in the middle; to be seen without colour, too."""
        self._frame, self._is_chosen = frame, chosen
        label = one_line(frame.label)
        if cells.width(label) + 1 > self.size.width > 0:
            label = label.rpartition(" ")[2]  # the number says it
        text = Content.styled(f"▸{label}" if chosen else label, "bold $primary" if chosen else "$foreground 70%")
        self.query_one(Static).update(text, layout=False)

    def on_resize(self, event: events.Resize) -> None:
        """More or less of its name fits."""
        self.mark(self._frame, self._is_chosen)


class PictureStrip(Horizontal):
    """Hidden until something is made together; the frames of the next time take the place of these."""

    class Chosen(Message):
        """A picture of the strip shall be shown."""

        def __init__(self, picture: Picture, label: str) -> None:
            super().__init__()
            self.picture = picture
            self.label = label

    def __init__(self) -> None:
        super().__init__(id="strip")
        self.display = False
        self.group = ""
        "Of the jobs whose pictures go in here."
        self._frames: list[Frame] = []
        self._chosen: int | None = None

    async def start(self, group: str, labels: Sequence[str], first: tuple[str, Picture] | None = None) -> None:
        """New frames: one for each job of a group, in the order of the queue, after one that is there already."""
        frames = [Frame(label) for label in labels]
        if first is not None:
            frames.insert(0, Frame(first[0], picture=first[1]))
        self._frames, self._chosen = [], None
        self.display = True
        await self.remove_children()
        await self.mount_all([Small(number, frame.label) for number, frame in enumerate(frames)])
        # not before: meanwhile another picture may come into the middle, which is looked for here
        self.group, self._frames = group, frames
        self._fit()
        if first is not None:
            self._chosen = 0
            self._show(0)

    @property
    def full(self) -> bool:
        """Whether all that was asked for has come."""
        return self.display and bool(self._frames) and all(f.picture is not None or f.failed for f in self._frames)

    def stop(self) -> None:
        """Away with it."""
        self.display = False
        self.group = ""

    def expect(self, job_id: JobId) -> None:
        """A job of the group is in the queue: the next free frame is its."""
        free = next((f for f in self._frames if f.job is None and f.picture is None), None)
        if free is not None:
            free.job = job_id

    def fill(self, job_id: JobId, picture: Picture | None) -> None:
        """A job of the group has ended, with a picture or without."""
        for number, frame in enumerate(self._frames):
            if frame.job == job_id:
                frame.picture, frame.failed = picture, picture is None
                self._show(number)

    def lose(self, group: str, count: int) -> None:
        """The last jobs of a group were never queued."""
        if group == self.group:
            for number in range(len(self._frames) - count, len(self._frames)):
                self._frames[number].failed = True
                self._show(number)

    def look(self, path: str) -> None:
        """The picture in the middle is this one now, which the strip may have or not."""
        before = self._chosen
        found = (i for i, f in enumerate(self._frames) if f.picture is not None and f.picture.path == path)
        self._chosen = next(found, None)
        for number in {before, self._chosen} - {None}:
            self._mark(number)  # type: ignore[arg-type]

    def step(self, by: int) -> bool:
        """Asks for the next or previous picture there is; whether there is a strip to step through."""
        able = [i for i, frame in enumerate(self._frames) if frame.picture is not None]
        if not self.display or not able:
            return False
        at = able.index(self._chosen) if self._chosen in able else (-1 if by > 0 else 0)
        self._choose(able[(at + by) % len(able)])
        return True

    def _choose(self, number: int) -> None:
        frame = self._frames[number]
        if frame.picture is not None:
            before, self._chosen = self._chosen, number  # the next key may come before it is shown
            for one in {before, number} - {None}:
                self._mark(one)  # type: ignore[arg-type]
            self.post_message(self.Chosen(frame.picture, frame.label))

    def _smalls(self) -> list[Small]:
        return list(self.query(Small))

    def _show(self, number: int) -> None:
        self._smalls()[number].show(self._frames[number], number == self._chosen)

    def _mark(self, number: int) -> None:
        self._smalls()[number].mark(self._frames[number], number == self._chosen)

    def on_resize(self, event: events.Resize) -> None:
        """As high as square pictures side by side need."""
        self._fit()

    def _fit(self) -> None:
        if isinstance(self.parent, Widget) and self._frames:
            width = self.parent.size.width // len(self._frames)
            room = self.parent.size.height // 3
            self.styles.height = max(3, min(TALLEST, width // 2 + 1, room))

    def on_click(self, event: events.Click) -> None:
        """Shows what is clicked."""
        event.stop()
        for node in event.widget.ancestors_with_self if event.widget is not None else ():
            if isinstance(node, Small):
                self._choose(node.number)
