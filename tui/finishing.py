"""What is done to the picture that is shown: enlarged, its faces mended, drawn over; and a close look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from textual import on

from engines.entries import Entry
from engines.errors import InvalidRequest, SafelightError
from engines.requests import Finish, Picture, Request
from engines.steps import Hires, Step, Upscale
from tui import draft as drafting
from tui import finishes, picking
from tui.clean import clean
from tui.comparing import ComparingScreen
from tui.draft import Draft
from tui.messages import FinishRequested
from tui.offers import Offer
from tui.panes.closer import Closer, Look

FACES = "faces 0.8"
"What one press asks for: a new face wholly put over the old one looks pasted."
HIRES = "hires x2 0.4"
"The same."
LINE = 8
"Pictures that a close look flips back through, at most."


class FinishingScreen(ComparingScreen):
    """Steps of finishing for the shown picture at once, and for those that are made from now on."""

    def order(self, *requests: Request) -> None:
        """Hands requests to the engine."""
        raise NotImplementedError

    def made_of(self, picture: Picture) -> Picture | None:
        """The picture that a picture was made of by its last step; waits for the disk. Raises SafelightError."""
        raise NotImplementedError

    def action_upscale(self) -> None:
        """By the only upscaler that is here, or by one from a list."""
        if (picture := self._wanted()) is not None:
            self._choose_upscaler(picture)

    def action_faces(self) -> None:
        """All that are found."""
        if (picture := self._wanted()) is not None:
            self._finish(picture, FACES)

    def action_hires(self) -> None:
        """Twice as large, drawn over."""
        if (picture := self._wanted()) is not None:
            self._finish(picture, HIRES)

    @on(FinishRequested)
    def _finish_chosen(self, message: FinishRequested) -> None:
        match message.what:
            case "upscale":
                self._choose_upscaler(message.picture)
            case "faces":
                self._finish(message.picture, FACES)
            case "hires":
                self._finish(message.picture, HIRES)

    def _wanted(self) -> Picture | None:
        if self.shown is None:
            self.notify("no picture yet that something could be done to", timeout=3, markup=False)
        return self.shown

    def _choose_upscaler(self, picture: Picture) -> None:
        def taken(text: str) -> None:
            self._finish(picture, text)

        self._offer("upscaler", lambda: picking.upscalers(self.catalogue), taken, alone=True)

    def _finish(self, picture: Picture, text: str) -> None:
        self.run_worker(self._ask_to_finish(picture, text), group="engine")

    async def _ask_to_finish(self, picture: Picture, text: str) -> None:
        def away() -> list[Entry]:
            known = self.catalogue
            return [e for e in finishes.needs(text, known) if known.missing(e) and known.can_be_had(e)]

        if wanted := await asyncio.to_thread(away):
            if not self.gone:
                self.ask(wanted, None)
            return
        try:
            request, steps, notes = await asyncio.to_thread(self._requested, picture, text, self.form.draft)
        except SafelightError as e:
            self.tell(e)
            return
        if self.gone:
            return
        self.order(request)
        told = "\n".join([f"{steps[0].told} · it comes into the history", *notes])
        self.notify(clean(told), timeout=6 if notes else 3, markup=False)

    def _requested(self, picture: Picture, text: str, draft: Draft) -> tuple[Request, tuple[Step, ...], list[str]]:
        """What is done to a picture, by which steps, and what is worth knowing. One that tells no model is drawn over
        by the form's, and its prompt. Waits for the disk. Raises SafelightError."""
        if not Path(picture.path).is_file():
            raise InvalidRequest(f"{PurePath(picture.path).name} is gone", "somebody deleted or moved it", "picture")
        asked = finishes.read(text, self.catalogue)
        # the picture's prompt is for who reads one, and is nothing that was asked for
        steps = tuple(replace(s, prompt=picture.request.prompt) if isinstance(s, Upscale) else s for s in asked)
        scorer, own = next(iter(picture.scores), None), picture.request.model
        request: Request = Finish(picture.path, steps, score=scorer)
        if not own and any(isinstance(step, Hires) for step in steps):
            plain = replace(draft, init="", strength="", size="", finish="", count="", batch="")
            (drawn,) = drafting.read(plain, self.catalogue).requests
            request = replace(drawn, init=picture.path, strength=0.0, finish=steps, score=scorer)
        notes = finishes.idle(asked, self.catalogue)
        if (model := self.catalogue.models.get(own or draft.model)) is not None:
            notes += finishes.beyond(steps, (picture.width, picture.height), model)
        return request, steps, notes

    # ── for pictures that are made from now on ──────────────────────────────────────────────────────────────────

    def action_finish(self) -> None:
        """What shall be done to every picture when it is drawn."""
        self._offer(
            "finish",
            lambda: picking.finishes(self.catalogue, self.form.draft.finish),
            lambda text: self.form.choose(finish=text),
            value=self.form.draft.finish,
        )

    def action_draw_over(self) -> None:
        """Begins with the shown picture instead of noise alone; or not any more."""
        if (picture := self._wanted()) is None:
            return

        def taken(strength: str) -> None:
            self.form.choose(init=picture.path if strength else "", strength=strength)

        self._offer("strength", picking.strengths, taken, value=self.form.draft.strength)

    def _offer(
        self,
        title: str,
        offers: Callable[[], Sequence[Offer]],
        taken: Callable[[str], None],
        value: str = "",
        alone: bool = False,
    ) -> None:
        """A list that is filled when the disk was asked; `alone` takes the only one that is offered without it."""

        async def fill() -> None:
            found = await asyncio.to_thread(offers)
            if self.gone:
                return
            if alone and len({offer.value.split()[1] for offer in found}) == 1:
                taken(found[0].value)
            else:
                self._open(title, found, value, taken)

        self.run_worker(fill(), group="offers", exclusive=True)

    # ── a close look ────────────────────────────────────────────────────────────────────────────────────────────

    def action_closer(self) -> None:
        """The shown picture as large as the terminal, and in its place what it was made of."""
        if self.shown is not None:
            self.run_worker(self._look_closer(self.shown), group="closer", exclusive=True)
        else:
            self.notify("no picture yet to look at", timeout=3, markup=False)

    async def _look_closer(self, picture: Picture) -> None:
        try:
            others = await asyncio.to_thread(self._line_of, picture)
        except SafelightError as e:
            self.notify(clean(e.message), severity="warning", timeout=4, markup=False)
            others = []
        if not self.gone:
            named = [Look(one.path, f"{n} before" if n > 1 else "before") for n, one in enumerate(others, 1)]
            self.app.push_screen(Closer([Look(picture.path, "this"), *named], self.mode))

    def _line_of(self, picture: Picture) -> list[Picture]:
        """What a picture was made of, and that of what, the nearest first."""
        found: list[Picture] = []
        while len(found) < LINE and (before := self.made_of(found[-1] if found else picture)) is not None:
            found.append(before)
        return found
