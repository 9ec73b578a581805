"""Pictures beside one another: the last two, in one place or in two, neighbours of one, one at several guidances."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from textual import on

from engines.errors import SafelightError
from engines.requests import Picture
from tui import differing, fields, series, stack
from tui import draft as drafting
from tui.choosing import ChoosingScreen
from tui.draft import Draft
from tui.panes.beside import BesideScreen
from tui.panes.strip import PictureStrip
from tui.pictures.deciding import Mode

NEIGHBOURS = 4
"Pictures that one press of vary makes."
NEARBY = 0.25
"How far they are from the picture: the share of the way to another seed's noise."


class ComparingScreen(ChoosingScreen):
    """Which picture is shown and which was before it; what is made of the one that is shown."""

    shown: Picture | None = None
    "In the middle."
    before: Picture | None = None
    "What was there before it."
    mode: Mode = "halfblocks"
    "How pictures are shown."

    def title_of(self, model: str) -> str:
        """What people call a model."""
        raise NotImplementedError

    def older(self, id: int | None) -> Picture | None:
        """The picture that was made before this one, the newest for None; waits for the disk, and may raise
        SafelightError."""
        raise NotImplementedError

    def show_one(self, picture: Picture, note: str = "") -> None:
        """Puts a picture into the middle; `note` stands below it in place of its file's name."""
        raise NotImplementedError

    def make_all(self, drafts: Sequence[tuple[str, Draft]], first: tuple[str, Picture] | None = None) -> None:
        """Makes a picture of each, together, in a strip under these names, after one that is there already."""
        raise NotImplementedError

    def tell(self, error: SafelightError) -> None:
        """What went wrong, and what to do."""
        raise NotImplementedError

    def keep_shown(self, picture: Picture) -> None:
        """This one is in the middle from now on."""
        if self.shown is None or picture.path != self.shown.path:
            self.shown, self.before = picture, self.shown
        self.query_one(PictureStrip).look(picture.path)

    def action_flip(self) -> None:
        """The picture before, in the same place; again for this one."""
        self._with_two(self._flip)

    def _flip(self, other: Picture, one: Picture) -> None:
        self.show_one(other, f"⇄ {differing.line(one.request, other.request)}")

    def _with_two(self, then: Callable[[Picture, Picture], None]) -> None:
        """Does something with the picture before and the shown one; where there were none yet, with the last two."""
        if self.before is not None and self.shown is not None:
            then(self.before, self.shown)
        else:
            self.run_worker(self._look_back(then), group="two", exclusive=True)

    async def _look_back(self, then: Callable[[Picture, Picture], None]) -> None:
        try:
            shown = self.shown or await asyncio.to_thread(self.older, None)
            before = await asyncio.to_thread(self.older, shown.id) if shown is not None else None
        except SafelightError as e:
            self.tell(e)
            return
        if shown is None or before is None:
            self.notify("there are no two pictures yet", timeout=3, markup=False)
        elif not self.gone:
            self.shown, self.before = shown, before
            then(before, shown)

    def action_beside(self) -> None:
        """The picture before and this one, side by side, with what differs; one may be kept in the middle."""
        self._with_two(self._beside)

    def _beside(self, before: Picture, shown: Picture) -> None:
        def kept(picture: Picture | None) -> None:
            if picture is not None:
                self.show_one(picture)

        self.app.push_screen(BesideScreen(before, shown, self.title_of, self.older, self.mode), kept)

    def action_vary(self) -> None:
        """Four pictures near the one that is shown."""
        if self.shown is None:
            self.notify("no picture yet that could be varied", timeout=3, markup=False)
            return
        base = replace(Draft.from_request(self.shown.request, keep=self.form.draft), count="", batch="", finish="")
        seeds = [str(secrets.randbelow(2**32)) for _ in range(NEIGHBOURS)]
        near = [replace(base, variation_seed=seed, variation_strength=fields.exact(NEARBY)) for seed in seeds]
        self.make_all([(f"near {i}", draft) for i, draft in enumerate(near, 1)], ("this", self.shown))

    def action_guidance_series(self) -> None:
        """One picture at five guidances."""
        self._spread("guidance")

    def action_rescale_series(self) -> None:
        """One picture at five rescales."""
        self._spread("rescale")

    def _spread(self, field: series.Field) -> None:
        draft = replace(stack.active(self.form.draft), count="", batch="")
        if not draft.seed.strip():
            seed = self.shown.request.seed if self.shown is not None else secrets.randbelow(2**32)
            draft = replace(draft, seed=str(seed))
        try:
            model = self.catalogue.model(draft.model)
            values = series.default_values(draft, model.recipe, field)
            drafts = series.spread(
                series.seeded(draft, drafting.read(draft, self.catalogue, look=False)), field, values
            )
        except SafelightError as e:
            self.tell(e)
            return
        names = (f"{field} {fields.exact(value)}" for value in values)
        self.make_all(list(zip(names, drafts, strict=True)))

    def action_strip_next(self) -> None:
        """The next picture of the strip, from the last one to the first."""
        self._step(1)

    def action_strip_previous(self) -> None:
        """The one before it."""
        self._step(-1)

    def _step(self, by: int) -> None:
        if not self.query_one(PictureStrip).step(by):
            self.notify("there is no strip of pictures; vary and the series make one", timeout=3, markup=False)

    @on(PictureStrip.Chosen)
    def _show_of_strip(self, message: PictureStrip.Chosen) -> None:
        self.show_one(message.picture, message.label)
