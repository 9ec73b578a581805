"""What panes tell the workbench. Panes don't know each other; the workbench answers with their `show(...)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from textual.message import Message

from engines.events import Event
from engines.requests import JobId, Picture

Taken: TypeAlias = Literal["all", "prompt", "seed"]
Finishes: TypeAlias = Literal["upscale", "faces", "hires"]
"What is done to it."
Page: TypeAlias = Literal["form", "picture", "history"]


class FromEngine(Message):
    """Events that the engine sent since the last message, in order, superseded progress left out."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self.events = events


class MakeRequested(Message):
    """The draft shall become a picture."""


class DraftChanged(Message):
    """Something in the form was changed by its user."""


class ModelChanged(Message):
    """Another model was picked."""


class LookRequested(Message):
    """What is on this machine shall be looked at again."""


class CancelRequested(Message):
    """A job in the queue shall end, or a failed one go away."""

    def __init__(self, job_id: JobId) -> None:
        super().__init__()
        self.job_id = job_id


class PictureChosen(Message):
    """The history's cursor rests on a picture."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self.picture = picture


class TakeBack(Message):
    """A picture's settings shall come back into the form."""

    def __init__(self, picture: Picture, what: Taken) -> None:
        super().__init__()
        self.picture = picture
        self.what: Taken = what


class CopyRequested(Message):
    """A picture's path, or its prompt, shall go to the clipboard."""

    def __init__(self, picture: Picture, words: bool = False) -> None:
        super().__init__()
        self.picture = picture
        self.words = words


class RateRequested(Message):
    """A picture gets stars by hand, 1 to 5; 0 takes them back."""

    def __init__(self, picture: Picture, rating: int) -> None:
        super().__init__()
        self.picture = picture
        self.rating = rating


class FinishRequested(Message):
    """Something shall be done to a picture."""

    def __init__(self, picture: Picture, what: Finishes) -> None:
        super().__init__()
        self.picture = picture
        self.what: Finishes = what


class CloserWanted(Message):
    """A picture shall be looked at closely, with what it was made of."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self.picture = picture


class Rated(Message):
    """A picture has other stars now."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self.picture = picture


class SweepWanted(Message):
    """A new sweep shall be marked."""


class PageRequested(Message):
    """A tab was chosen."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page: Page = page
