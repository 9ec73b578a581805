"""Pictures beside one another: the last two in one place, neighbours of one, and one at several guidances."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from engines.errors import SafelightError
from engines.requests import Generate, Picture
from tui import draft as drafting
from tui import fields, series, shares, stack
from tui.choosing import ChoosingScreen
from tui.draft import Draft

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

    def show_one(self, picture: Picture, note: str = "") -> None:
        """Puts a picture into the middle; `note` stands below it in place of its file's name."""
        raise NotImplementedError

    def make_all(self, drafts: Sequence[Draft]) -> None:
        """Makes a picture of each, together."""
        raise NotImplementedError

    def tell(self, error: SafelightError) -> None:
        """What went wrong, and what to do."""
        raise NotImplementedError

    def keep_shown(self, picture: Picture) -> None:
        """This one is in the middle from now on."""
        if self.shown is None or picture.path != self.shown.path:
            self.shown, self.before = picture, self.shown

    def action_flip(self) -> None:
        """The picture before, in the same place; again for this one."""
        if self.shown is None or self.before is None:
            self.notify("there are no two pictures yet", timeout=3, markup=False)
            return
        one, other = self.shown, self.before
        self.show_one(other, f"⇄ {differences(one.request, other.request)}")

    def action_vary(self) -> None:
        """Four pictures near the one that is shown."""
        if self.shown is None:
            self.notify("no picture yet that could be varied", timeout=3, markup=False)
            return
        base = replace(Draft.from_request(self.shown.request, keep=self.form.draft), count="", batch="")
        self.make_all(
            [
                replace(base, variation_seed=str(secrets.randbelow(2**32)), variation_strength=fields.exact(NEARBY))
                for _ in range(NEIGHBOURS)
            ]
        )

    def action_guidance_series(self) -> None:
        """One picture at five guidances."""
        self._spread("guidance")

    def action_rescale_series(self) -> None:
        """One picture at five rescales."""
        self._spread("rescale")

    def _spread(self, field: series.Field) -> None:
        draft = stack.active(self.form.draft)
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
        self.make_all(drafts)


def differences(before: Generate, after: Generate) -> str:
    """What differs between two requests, as short as it can be told: 'seed 7 → 8 · guidance 4.5 → 6'."""
    told = []
    for name, field in (
        ("model", "model"), ("seed", "seed"), ("steps", "num_inference_steps"), ("guidance", "guidance_scale"),
        ("rescale", "guidance_rescale"), ("sampler", "scheduler"), ("VAE", "vae"), ("precision", "precision"),
        ("variation", "variation_strength"), ("to seed", "variation_seed"), ("negative", "negative_prompt"),
    ):  # fmt: skip
        one, other = getattr(before, field), getattr(after, field)
        if one != other:
            told.append(f"{name} {_short(one)} → {_short(other)}")
    if (before.width, before.height) != (after.width, after.height):
        told.append(f"size {before.width}x{before.height} → {after.width}x{after.height}")
    if before.mix != after.mix:
        told.append(f"mix {' → '.join(shares.told(each) or 'its own' for each in (before.mix, after.mix))}")
    if before.loras != after.loras:
        told.append("LoRAs")
    if before.prompt != after.prompt:
        told.append(f"prompt {_changed(before.prompt, after.prompt)}")
    return " · ".join(told) or "the same request"


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def _changed(one: str, other: str) -> str:
    """The words in which two prompts differ, from the first to the last one that does."""
    left, right = one.split(), other.split()
    while left and right and left[0] == right[0]:
        left, right = left[1:], right[1:]
    while left and right and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    return f"{_short(' '.join(left) or '∅')} → {_short(' '.join(right) or '∅')}"
