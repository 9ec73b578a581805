"""Live: while it is on, every change of the form becomes a sketch of the same seed, and a picture when the hands rest.

What is asked for is decided here; the workbench submits it and shows what comes. A sketch that is out of date is
cancelled, never queued up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from engines.catalogue import Catalogue
from engines.entries import Model
from engines.errors import SafelightError
from engines.requests import Generate, JobId
from tui import draft as drafting
from tui.draft import Draft
from tui.stock import Having

SETTLE = 0.1
"Seconds without a change after which a sketch is asked for."
PATIENCE = 0.3
"Seconds of steady changes after which one is asked for all the same."
FEWER = 3
"A sketch by a slow model takes so many times fewer steps."
LEAST = 4
"But at least so many."
OF_ITS_OWN = ("model", "guidance", "rescale", "negative_prompt", "steps", "scheduler", "size", "vae", "override", "mix")
"What a quick student has its own mind about: where one of these was changed, the model itself sketches."


def quickest(catalogue: Catalogue, model: Model, stocks: Mapping[str, Having]) -> Model:
    """The model that sketches for another one: of its family, here, within memory, with least steps and pixels.

    Args:
        stocks: what is on this machine, by id; a model that isn't in it is not known to be here.
    """

    def cost(one: Model) -> tuple[float, int]:
        width, height = one.recipe.size
        return one.recipe.num_inference_steps * width * height * (2 if one.recipe.guidance_scale > 1 else 1), -one.rank

    def fits(one: Model) -> bool:
        having = stocks.get(one.id)
        return having is not None and having.here and "not" not in having.fit

    others = (one for one in catalogue.models.values() if one.family == model.family and fits(one))
    return min((model, *others), key=cost)


@dataclass(slots=True)
class Live:
    """What was sketched last, and what is on its way."""

    on: bool = False
    "Whether changes are sketched."
    job: JobId | None = None
    "The sketch that is wanted; all others are out of date."
    made: Draft | None = None
    "The draft of which the picture itself was last asked for."
    sketched: Draft | None = None
    "The draft of which the last sketch was asked for."
    waiting: float = 0.0
    "Since when a change waits to be sketched; 0 for none."
    seed: str = ""
    "What all sketches and pictures are drawn from where the form names none."

    def due(self, now: float, busy: bool = False) -> float:
        """Seconds until a sketch shall be asked for, after a change at this moment. While one is made and changes go
        on, it is not driven away by the next: only when they have settled."""
        self.waiting = self.waiting or now
        return SETTLE if busy else max(0.0, min(SETTLE, self.waiting + PATIENCE - now))

    def plain(self, draft: Draft) -> Draft:
        """The draft as live takes it: one picture of one seed, and of one variation."""
        varied = draft.variation_strength.strip() and not draft.variation_seed.strip()
        return replace(
            draft, seed=draft.seed.strip() or self.seed, count="", batch="", finish="",
            variation_seed=self.seed if varied else draft.variation_seed,
        )  # fmt: skip

    def sketch(self, draft: Draft, catalogue: Catalogue, stocks: Mapping[str, Having]) -> Generate | None:
        """The request for a sketch of a draft; None where nothing that is seen was changed, or where it can't be read
        as it stands: what is wrong is told when the picture is asked for. It may wait for the disk."""
        plain = self._seen(draft)
        if plain == self.sketched:
            return None
        try:
            # only what variants name in files is looked for on the disk
            look = "__" in plain.prompt
            (asked,) = drafting.read(plain, catalogue, look=look).requests
            model = catalogue.model(asked.model)
            own = self._by_itself(plain)
            by = model if own else quickest(catalogue, model, stocks)
            if by is not model:
                aspect = f"{asked.width}:{asked.height}"
                quick = replace(
                    plain, model=by.id, steps="", guidance="", rescale="", scheduler="", size=aspect, vae="",
                    override="", mix="",
                )  # fmt: skip
                (asked,) = drafting.read(quick, catalogue, look=look).requests
            elif not model.recipe.fixed_steps and asked.num_inference_steps > LEAST:
                asked = replace(asked, num_inference_steps=max(LEAST, asked.num_inference_steps // FEWER))
        except (SafelightError, ValueError):
            return None
        return replace(asked, sketch=True, preview_every=0, score=None)

    def asked(self, draft: Draft) -> None:
        """The sketch of this draft is asked for now."""
        self.sketched = self._seen(draft)

    def picture(self, draft: Draft) -> bool:
        """Whether the picture itself shall be made now that the hands rest."""
        if not self.on or self.plain(draft) == self.made or not draft.prompt.strip():
            return False
        self.made = self.plain(draft)
        return True

    def queued(self, job_id: JobId, open_ones: Iterable[JobId]) -> list[JobId]:
        """A sketch that came into the queue is the wanted one if it is the newest; which are out of date now."""
        self.job = job_id if self.job is None else max(self.job, job_id)
        return [one for one in open_ones if one < self.job]

    def _seen(self, draft: Draft) -> Draft:
        """A draft without what a sketch doesn't show."""
        return replace(self.plain(draft), score="no")

    def _by_itself(self, draft: Draft) -> bool:
        """Whether something was changed that only the model itself can show."""
        before = self.made or self.sketched
        return before is not None and any(getattr(before, name) != getattr(draft, name) for name in OF_ITS_OWN)
