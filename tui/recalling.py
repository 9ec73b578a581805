"""What was made is there again: at the start, under the cursor of the history, and back in the form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from textual import on

from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.errors import SafelightError
from engines.requests import Picture
from engines.store import Store
from tui import keys, welcoming
from tui.clean import clean, one_line
from tui.draft import Draft
from tui.following import FollowingScreen
from tui.messages import CopyRequested, PictureChosen, RateRequested, TakeBack
from tui.pages import Shelf
from tui.panes.footer import KeyLine

NEWEST = "the newest"
"What is said of the picture that is there at the start."
NEXT = 20.0
"Seconds that it is told what one may do after the first picture, unless a key is pressed."


class RecallingScreen(FollowingScreen):
    """Knows the shelf of what was made, and what a first start says where it is empty."""

    def __init__(
        self, engine: Engine, catalogue: Catalogue, clock: Callable[[], float], sweeps: Store, pictures: Path,
        shelf: Shelf, keymap: Mapping[str, str],
    ) -> None:  # fmt: skip
        super().__init__(engine, catalogue, clock, sweeps, pictures)
        self._shelf = shelf
        self._keymap = keymap
        self._subjects: Sequence[str] = ()
        self._new = False
        "Whether nothing was ever made."

    # ── the start ───────────────────────────────────────────────────────────────────────────────────────────────

    async def learn(self) -> None:
        """What pictures took here before is what they will take; the newest is shown, or what a first start says."""
        try:
            made = await asyncio.to_thread(self._shelf.pictures)
        except SafelightError:
            return  # the history pane reads the same table and tells
        for picture in reversed(made):
            self._jobs.estimates.learn(picture, earlier=True)
        subjects = () if made else await asyncio.to_thread(welcoming.subjects)
        if self.gone or self.shown is not None or len(self._jobs):
            return
        if made:
            self._show_picture(made[0], NEWEST)
        else:
            self._subjects, self._new = subjects, True
            self.welcome()

    def welcome(self) -> None:
        """What a first start says; of the model that is picked."""
        model = self.catalogue.models.get(self.draft.model)
        self.picture.show_welcome(welcoming.words(self.catalogue, model, self._subjects, self.first_key))

    def made_first(self, picture: Picture) -> None:
        """What one does next is told once, in the line of keys: there it covers nothing."""
        if self._new:
            self._new = False
            told = (
                f"Enter makes another · {self.first_key('raise-weight')} weighs a word · "
                f"{self.first_key('lock-seed')} keeps the seed"
            )
            self.query_one(KeyLine).say(told, NEXT)

    def key(self, action: str) -> str:
        """All keys of an action in words."""
        return keys.shown(keys.BY_ID[action], self._keymap)

    def first_key(self, action: str) -> str:
        """One of them."""
        return keys.first(action, self._keymap)

    def show_form(self) -> None:
        """Where there is room for a page only, it is the form's."""
        raise NotImplementedError

    # ── the history ─────────────────────────────────────────────────────────────────────────────────────────────

    def older(self, id: int | None) -> Picture | None:
        """As in ComparingScreen."""
        return next(iter(self._shelf.pictures(before=id, limit=1)), None)

    def made_of(self, picture: Picture) -> Picture | None:
        """As in FinishingScreen."""
        if picture.parent is None:
            return None
        found = next(iter(self._shelf.pictures(before=picture.parent + 1, limit=1)), None)
        return found if found is not None and found.id == picture.parent else None

    @on(PictureChosen)
    def _look_at(self, message: PictureChosen) -> None:
        self.show_chosen(message.picture)

    @on(TakeBack)
    def _take_back(self, message: TakeBack) -> None:
        request, draft = message.picture.request, self.draft
        if not request.model:
            told = "this picture is a file as it was: it has no settings to take"
            self.notify(f"{told} · {self.first_key('draw-over')} begins with the shown one", timeout=4, markup=False)
            return
        whole = Draft.from_request(request, keep=draft)
        if request.drawn:  # what was done to it afterwards is no setting of its drawing
            whole = replace(whole, finish=draft.finish)
        match message.what:
            case "all":
                told, taken = "settings", whole
            case "prompt":
                told = "prompt"
                taken = replace(draft, prompt=whole.prompt, negative_prompt=whole.negative_prompt)
                taken = replace(taken, blank_negative=whole.blank_negative, syntax=whole.syntax)
            case "seed":
                told, taken = f"seed {request.seed}", replace(draft, seed=whole.seed)
                # the noise is what a seed is for, and of a variation it is that of both
                taken = replace(taken, variation_seed=whole.variation_seed, variation_strength=whole.variation_strength)
        self.form.replace(taken)
        if message.what == "all" and not self.roomy:
            self.show_form()  # where there is no room for both, what was taken is to be seen
        self.notify(f"{told} taken · {self.first_key('previous-draft')} brings the form back", timeout=3, markup=False)

    @on(CopyRequested)
    def _copy(self, message: CopyRequested) -> None:
        if message.words:
            self._copy_words(message.picture)
        else:
            self._copy_path(message.picture)

    def action_walk(self, by: int) -> None:
        """To a neighbour of the picture in the history."""
        self.history.walk(by)

    def action_take_shown(self) -> None:
        """The settings of the shown picture."""
        if self.shown is None:
            self.notify("no picture yet whose settings could be taken", timeout=3, markup=False)
        else:
            self.post_message(TakeBack(self.shown, "all"))

    def action_copy_words(self) -> None:
        """The shown picture's prompt."""
        if self.shown is None:
            self.notify("no picture yet", timeout=3, markup=False)
        else:
            self._copy_words(self.shown)

    def _copy_words(self, picture: Picture) -> None:
        words = picture.request.template or picture.request.prompt
        if not words.strip():
            self.notify("this picture has no prompt", timeout=3, markup=False)
            return
        self.app.copy_to_clipboard(words)
        self.notify(f"copied {one_line(words, 60)}", timeout=3, markup=False)

    def action_copy_path(self) -> None:
        """The shown picture's."""
        if self.shown is None:
            self.notify("no picture yet", timeout=3, markup=False)
        else:
            self._copy_path(self.shown)

    def _copy_path(self, picture: Picture) -> None:
        self.app.copy_to_clipboard(picture.path)
        self.notify(f"copied {clean(picture.path)}", timeout=3, markup=False)

    @on(RateRequested)
    def _rate(self, message: RateRequested) -> None:
        self.run_worker(self._put_stars(message.picture, message.rating), group="store")

    async def _put_stars(self, picture: Picture, rating: int) -> None:
        try:
            await asyncio.to_thread(self._shelf.rate, picture.id, rating or None)
        except SafelightError as e:
            self.tell(e)
            return
        if not self.gone:
            self.history.show([replace(picture, rating=rating or None)])
