"""What line mode works on: the form, the history and the engine, and what can be done with them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from engines.catalogue import Catalogue
from engines.entries import Entry
from engines.errors import InvalidRequest, SafelightError
from engines.requests import Finish, Job, Picture, Pull, Request, Warm
from engines.steps import Hires
from tui import draft as drafting
from tui import fields, finishes, shares, shelf, stack, stocking, wording
from tui.clean import one_line
from tui.draft import Draft
from tui.fetching import Fetches
from tui.plain import form
from tui.plain.reading import Lines
from tui.plain.voice import Voice, listed
from tui.plain.work import Work


class History(Protocol):
    """What line mode asks of the store."""

    def pictures(self, before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        """Newest first."""
        ...

    def picture(self, id: int) -> Picture:
        """Of that id. Raises InvalidRequest."""
        ...

    def last(self) -> Picture:
        """The newest. Raises InvalidRequest."""
        ...

    def rate(self, id: int, rating: int | None) -> None:
        """A person's judgement. Raises InvalidRequest."""
        ...

    def queued(self) -> list[Job]:
        """What runs and waits, of all programs."""
        ...


class Bench:
    """The form and what acts on it.

    Args:
        default: the form where nothing was typed yet.
        blank: what a blank negative prompt is where the form doesn't say.
        wildcards: the folder of the files that variants name.
    """

    def __init__(
        self,
        work: Work,
        history: History,
        catalogue: Catalogue,
        lines: Lines,
        voice: Voice,
        default: Draft,
        blank: str = "",
        wildcards: Path | None = None,
    ) -> None:
        self.work = work
        self.history = history
        self.catalogue = catalogue
        self.voice = voice
        self.draft = self.default = default
        self.leaving = False
        self._lines = lines
        self._blank = blank
        self._wildcards = wildcards
        self._noted: tuple[str, ...] = ()

    # ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────

    def make(self, draft: Draft) -> None:
        """Makes the pictures of a draft; what it names and isn't here is fetched if somebody agrees."""
        draft = replace(stack.active(draft), blank_negative=draft.blank_negative or self._blank)
        if not self.fetched(Fetches(self.catalogue).wanted(draft)):
            return
        asked = drafting.read(draft, self.catalogue, wildcards=self._wildcards)
        self._note(asked.notes)
        self.work.do(asked.requests, secrets.token_hex(4) if len(asked.requests) > 1 else None)

    def finish(self, picture: Picture, text: str) -> None:
        """Does steps of finishing to a picture; one that tells no model is drawn over by the form's."""
        if not self.fetched(finishes.needs(text, self.catalogue)):
            return
        steps = finishes.read(text, self.catalogue)
        notes = finishes.idle(steps, self.catalogue)
        steps = finishes.told(steps, picture.request.prompt)
        scorer, own = next(iter(picture.scores), None), picture.request.model
        request: Request = Finish(picture.path, steps, score=scorer)
        if not own and any(isinstance(step, Hires) for step in steps):
            bare = replace(self.draft, init="", strength="", size="", finish="", count="", batch="")
            (drawn,) = drafting.read(stack.active(bare), self.catalogue).requests
            request = replace(drawn, init=picture.path, strength=0.0, finish=steps, score=scorer)
        if (model := self.catalogue.models.get(own or self.draft.model)) is not None:
            notes += finishes.beyond(steps, (picture.width, picture.height), model)
        self._note(tuple(notes))
        self.work.do([request])

    def fetched(self, entries: Sequence[Entry]) -> bool:
        """Whether all of these are here in the end; what can be had is fetched after one question."""
        catalogue = self.catalogue
        wanted = [e for e in entries if catalogue.missing(e) and catalogue.can_be_had(e)]
        if not wanted:
            return True
        sizes = [shelf.to_fetch(catalogue, entry) for entry in wanted]
        size = f", {wording.bytes_(sum(sizes))} to download" if all(sizes) else ""
        names = listed([entry.id for entry in wanted])
        told = f"{names} {'is' if len(wanted) == 1 else 'are'} not on this machine{size}"
        self.voice.note(*dict.fromkeys(note for entry in wanted for note in stocking.notices(catalogue, entry)))
        if not self._lines.asked:
            raise InvalidRequest(told, f"safelight models pull {wanted[0].id} fetches it")
        self.voice.tell(told)
        if not self._lines.agree("Fetch?"):
            self.voice.tell("nothing was fetched")
            return False
        self.work.do([Pull(entry.id) for entry in wanted])
        return not any(catalogue.missing(entry) for entry in wanted)

    def warm(self) -> None:
        """Gets the form's model ready while somebody types; what is wrong with it is told when it is wanted."""
        if not self._lines.asked:
            return
        try:
            model = self.catalogue.require(self.draft.model)
            mix = shares.read(self.draft.mix, model)
            self.work.warm(Warm(model.id, fields.precision(self.draft.precision), mix))
        except SafelightError:
            pass

    def picture(self, typed: str) -> Picture:
        """The picture of a number, the newest for none or 'last'. Raises InvalidRequest."""
        text = typed.strip().lower()
        if text in ("", "last"):
            return self.history.last()
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise InvalidRequest(f"'{one_line(text, 40)}' is no picture's number", "/history lists them; or write last")
        return self.history.picture(int(text))

    def _note(self, notes: tuple[str, ...]) -> None:
        """Says what was not said of the picture before."""
        self.voice.note(*(note for note in dict.fromkeys(notes) if note not in self._noted))
        self._noted = notes

    def set(self, field: form.Field, text: str, told: str = "") -> None:
        """Another value in the form, if it can be used; `told` says so in other words than the form's."""
        if field.name == "init" and text.strip().isdigit():
            text = self.picture(text).path
        after = form.put(self.draft, field, text)
        form.check(self.draft, after, field, self.catalogue)
        before, self.draft = form.notes(self.draft, self.catalogue), after
        self.voice.tell(told or form.line(after, field, self.catalogue))
        self.voice.note(*(note for note in form.notes(after, self.catalogue) if note not in before))
