"""Many drafts by a quick model, and the best of them finished by the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engines.catalogue import Catalogue
from engines.errors import InvalidRequest
from engines.requests import MAX_COUNT, Generate, Picture
from tui import draft as drafts
from tui import fields, live, stock
from tui.draft import Draft


@dataclass(frozen=True, slots=True)
class Plan:
    """What is drawn first, and what of it is drawn again."""

    keep: int
    "How many are finished."
    drafts: tuple[Generate, ...]
    "By the quick model, of all seeds, scored."
    finals: tuple[Generate, ...]
    "By the model that was asked for: one for each seed."
    notes: tuple[str, ...]
    "Who drafts."

    def doubt(self, pictures: Sequence[Picture]) -> str:
        """What has to be said of the choice; empty if the scores chose."""
        if any(picture.scores for picture in pictures):
            return ""
        return f"no draft has a score, so the first {self.keep} are finished: a scorer needs a prompt to judge by"

    def finish(self, pictures: Sequence[Picture]) -> list[Generate]:
        """The requests for the seeds whose drafts have the highest scores; of equal ones those that came first.

        A seed whose draft has no score comes last.
        """
        scored = {p.request.seed: max(p.scores.values(), default=float("-inf")) for p in pictures}
        order = sorted(self.finals, key=lambda one: -scored.get(one.seed, float("-inf")))
        return order[: self.keep]


def best(text: str, form: Draft, requests: Sequence[Generate], catalogue: Catalogue) -> Plan:
    """The plan for the best of several seeds.

    Args:
        text: how many are kept.
        form: what was asked for; its scorer ranks.
        requests: what it comes to, with the seeds as they were drawn.

    Raises:
        InvalidRequest: there are not more seeds than are kept, or nothing here is quicker than the model itself.
    """
    keep = fields.whole("best", text, 1, MAX_COUNT, 1)
    finals = tuple(request.single(i) for request in requests for i in range(request.batch_size))
    if keep >= len(finals):
        told = f"the best {keep} of {len(finals)} are all of them"
        raise InvalidRequest(told, "draft more with --count, for instance --count 12", "best")
    model = catalogue.model(finals[0].model)
    quick = live.quickest(catalogue, model, stock.look_at_all(catalogue, None).models)
    if quick is model:
        raise InvalidRequest(
            f"nothing here draws quicker than {model.id}", "leave --best out, or fetch a student of its family", "best"
        )
    size = f"{finals[0].width}:{finals[0].height}"
    judge = form.score if form.score not in ("", "no") else "yes"
    asked = drafts.read(
        replace(
            form, model=quick.id, steps="", guidance="", rescale="", scheduler="", size=size, vae="", override="",
            mix="", finish="", seed=str(finals[0].seed), score=judge,
        ),
        catalogue,
    )  # fmt: skip
    note = f"{len(finals)} drafts by {quick.id}; the best {keep} are finished by {model.id}"
    scorer = asked.requests[0].score
    return Plan(keep, asked.requests, tuple(replace(final, score=scorer) for final in finals), (note,))
