"""Sweeps in the workbench: marked over the form, written down, made beside everything else, and looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import on

from engines import schedulers, sweep
from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.entries import Model, Scorer
from engines.errors import SafelightError
from engines.requests import JobId
from engines.store import Store
from tui import grids, marking, picking, runs, stack
from tui.clean import clean, one_line
from tui.conductor import Conductor
from tui.draft import Draft
from tui.getting import GettingScreen
from tui.marking import Marked
from tui.messages import SweepWanted
from tui.offers import Offer


class SweepsScreen(GettingScreen):
    """Opens the screens of sweeps, and keeps what is marked for the next one."""

    def __init__(
        self, engine: Engine, catalogue: Catalogue, clock: Callable[[], float], sweeps: Store, pictures: Path
    ) -> None:
        super().__init__(engine, catalogue, clock)
        self.conductor = Conductor(
            engine, sweeps, self._spawn, self.tell, self._say, self.sweep_turned, pictures, runs.wordless(catalogue)
        )
        self._pictures = pictures
        self._keymap: Mapping[str, str] = {}
        self._marked: Marked | None = None
        self._looked_at: int | None = None
        "The sweep that was looked at last."
        self._at: tuple[int, int] | None = None
        "(contender, row) of it that the cursor was on."

    def cancel(self, *job_ids: JobId) -> None:
        """Ends jobs."""
        raise NotImplementedError

    def sweep_turned(self) -> None:
        """One has begun, was paused or is over."""
        raise NotImplementedError

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self.gone:
            work.close()
        else:
            self.run_worker(work, group="sweep")

    def _say(self, text: str) -> None:
        self.notify(clean(text), timeout=5, markup=False)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def action_sweeps(self) -> None:
        """The sweep that is made, the one that was looked at last, or the newest."""
        self._open_sweep(None if self.conductor.busy else self._looked_at)

    def _open_sweep(self, id: int | None) -> None:
        from tui.sweep_screen import SweepScreen  # nobody waits for it to see the workbench

        for screen in self.app.screen_stack:
            if isinstance(screen, SweepScreen):
                screen.look_at(id)
                return
        screen = SweepScreen(self.conductor, self.post_message, self.mode, self._keymap, id, self._at)

        def left(_: None) -> None:
            if screen.shown is not None:
                self._looked_at, self._at = screen.shown.sweep.id, screen.at

        self.app.push_screen(screen, left)

    # ── marking ─────────────────────────────────────────────────────────────────────────────────────────────────

    @on(SweepWanted)
    def action_new_sweep(self) -> None:
        """A line for each axis, over the form as it stands."""
        from tui.grid_screen import Counted, GridScreen

        draft = self._form_of_any()
        marked = self._marked or Marked(scorers=(self.catalogue.default_scorer().id,) if self.catalogue.scorers else ())
        marked = replace(marked, models=marked.models or ((draft.model,) if draft.model else ()))

        def keep(left: Marked) -> None:
            self._marked = left

        def chosen(wanted: Marked | None) -> None:
            if wanted is not None:
                self._marked = wanted
                self.run_worker(self._begin_sweep(wanted), group="sweep")

        def count(wanted: Marked) -> Counted:
            planned = grids.plan(marking.grid(wanted, draft), self.catalogue, str(self._pictures))
            left_out = (f"left out: {who}: {why}" for who, why in planned.left_out)
            told = runs.estimate(self.conductor.store, planned.cells)
            return Counted(told, (*left_out, *planned.notes), len(planned.cells))

        self.app.push_screen(GridScreen(draft, marked, self._offers(), count, keep), chosen)

    def _form_of_any(self) -> Draft:
        """The form, as it is for any model."""
        draft = stack.active(self.form.draft)
        model = self.catalogue.models.get(draft.model)
        return draft if model is None else marking.unpinned(draft, model.recipe)

    def _offers(self) -> Mapping[str, Callable[[], Sequence[Offer]]]:
        draft, known = self.form.draft, self.catalogue

        def here(entry: Model | Scorer, title: str) -> Offer:
            reason = "it is not on this machine" if known.missing(entry) else ""
            return Offer(entry.id, entry.id, title, reason, "not here" if reason else "")

        def first(offers: Sequence[Offer]) -> list[Offer]:
            return sorted(offers, key=lambda offer: bool(offer.reason))

        def prompts() -> list[Offer]:
            texts = dict.fromkeys([draft.prompt, *self.past_prompts()])
            return [Offer(text, one_line(text, 400)) for text in texts if text.strip()]

        return {
            "prompts": prompts,
            "models": lambda: first([here(model, model.title) for model in known.models.values()]),
            "scheduler": lambda: [Offer(each.name, each.name, each.title) for each in schedulers.TABLE],
            "precision": picking.precisions,
            "vae": lambda: [o for o in picking.vaes(known, draft, self.stocks.vaes) if o.value],
            "scorers": lambda: first([here(scorer, scorer.title) for scorer in known.scorers.values()]),
        }

    async def _begin_sweep(self, wanted: Marked) -> None:
        """Written down before anything is made."""
        draft = self._form_of_any()

        def begun() -> tuple[int, Sequence[str]]:
            grid = marking.grid(wanted, draft)
            planned = grids.plan(grid, self.catalogue, str(self._pictures))
            again = marking.command(grid, wanted.scorers)
            written = sweep.begin(
                self.conductor.store, planned.cells, marking.title(grid), again, wanted.scorers, grid.axes,
                planned.left_out,
            )  # fmt: skip
            return written.id, planned.notes

        try:
            id, notes = await asyncio.to_thread(begun)
        except SafelightError as e:
            self.tell(e)
            return
        if self.gone:
            return
        if notes:
            self._say("\n".join(notes[:3]))
        if self.conductor.busy:
            self._say(f"sweep {id} is written down; it can be made when the other one is done or paused")
        else:
            self.conductor.go_on(id)
        self._open_sweep(id)
