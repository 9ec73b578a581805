"""The picture, as it grows and when it is done, with two lines under it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from engines.events import Pixels
from engines.requests import Picture
from tui import cells, keys, shares
from tui.clean import one_line
from tui.estimates import Guess
from tui.jobs import Progress
from tui.pictures.deciding import Mode
from tui.pictures.view import PictureView
from tui.welcome import Paragraph, Welcome
from tui.wording import bar, duration

EMPTY = "No picture yet.\n\nType a prompt and press Enter."
"Where something was to come and did not; a first start says more (Welcome)."


class PicturePane(Vertical, can_focus=True):
    """Shows one thing at a time: a job's preview, a finished picture, or a message."""

    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("picture")

    def __init__(self, mode: Mode = "halfblocks") -> None:
        super().__init__(id="centre")
        self.border_title = "picture"
        self._mode: Mode = mode

    def compose(self) -> ComposeResult:
        """The picture takes what the caption leaves."""
        yield PictureView("", id="view", mode=self._mode)
        yield Welcome()
        yield Static(id="caption", markup=False)

    @property
    def view(self) -> PictureView:
        """Where the pixels go."""
        return self.query_one(PictureView)

    @property
    def welcomes(self) -> bool:
        """Whether the welcome stands in the picture's place."""
        return self.query_one(Welcome).display

    def show_welcome(self, paragraphs: Sequence[Paragraph]) -> None:
        """What a first start says, until something else is shown."""
        if self.query(Welcome):  # else the window is closing, and this pane is being taken apart
            self.query_one(Welcome).show(paragraphs)
            self._stage(welcome=True)

    def _stage(self, welcome: bool = False) -> None:
        self.query_one(Welcome).display, self.view.display = welcome, not welcome
        self.query_one("#caption").display = not welcome

    def show_preview(self, pixels: Pixels) -> None:
        """How the picture looks so far."""
        self._stage()
        self.view.show_pixels(pixels)

    def show_progress(self, progress: Progress, left: Guess | None) -> None:
        """How far the running job is."""
        facts = [f"{progress.step}/{progress.of}"] if progress.step else []
        if progress.doing:
            facts.append(progress.doing)
        if left is not None:
            facts.append(f"{left.told} left")
        pace = f"{progress.pace} · " if progress.pace else ""
        width = max(10, self.size.width - 4)
        text = " · ".join(facts) or "starting"
        room = min(30, max(6, width - cells.width(text) - 2))
        self._caption(
            Content.assemble((bar(progress.share, room), "$primary on $panel"), "  ", (one_line(text), "bold")),
            Content.styled(one_line(pace + (progress.prompt or "no prompt"), width), "$foreground 70%"),
        )

    def show_picture(self, picture: Picture, model: str, note: str = "") -> None:
        """A finished picture with what is known of it; `note` stands in place of its file's name."""
        self._stage()
        self.view.show_file(picture.path)
        request = picture.request
        facts = [f"score {score:.1f}" for score in list(picture.scores.values())[:1]]
        if request.model:  # a file as it was has none, and no seed
            facts.append(f"seed {request.seed}")
        if picture.seconds.total:
            facts.append(duration(picture.seconds.total))
        facts += [f"{picture.width}x{picture.height}", *([one_line(model)] if request.model else [])]
        if request.variation_strength > 0:
            facts.append(f"variation {request.variation_strength:g}")
        if request.mix:
            facts.append(f"mix {shares.told(request.mix)}")
        if request.init is not None and request.strength > 0:
            facts.append(f"over a picture at {request.strength:g}")
        facts += [step.told for step in request.finish[-1:]]
        if request.overrides:
            facts.append("against the recipe")
        self._caption(
            Content.styled(" · ".join(facts), "bold"),
            Content.styled(one_line(note or PurePath(picture.path).name), "$foreground 70%"),
        )

    def show_failure(self, prompt: str, message: str, hint: str) -> None:
        """Why there is no picture, and what to do: in its place, where there is room for all of it."""
        self._stage()
        self.view.clear(f"✗ {one_line(message)}\n\n{one_line(hint)}")
        self._caption(
            Content.styled("failed", "bold $error"),
            Content.styled(one_line(prompt), "$foreground 70%"),
        )

    def show_waiting(self, text: str, hint: str = "") -> None:
        """Nothing to see for now."""
        self._caption(Content(one_line(text)), Content.styled(one_line(hint), "$foreground 70%"))

    def clear(self, message: str = EMPTY) -> None:
        """No picture, but a message."""
        self._stage()
        self.view.clear(message)
        self._caption(Content(), Content())

    def _caption(self, first: Content, second: Content) -> None:
        self.query_one("#caption", Static).update(Content("\n").join([first, second]), layout=False)
