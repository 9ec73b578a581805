"""The column of the form: its panes put together as a Draft, a Draft put into its panes, and the draft kept."""

from __future__ import annotations

import asyncio

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.widget import Widget

from engines import prompt as prompts
from engines.catalogue import Catalogue
from engines.errors import CatalogueError, InvalidRequest, SafelightError
from tui import draft as drafting
from tui.clean import clean
from tui.draft import Draft
from tui.drafts import DraftFile
from tui.messages import DraftChanged, ModelChanged
from tui.panes.models import ModelPane
from tui.panes.prompt import PromptEditor
from tui.panes.settings import SettingsPane
from tui.panes.weights import WeightsPane

EXAMPLE = "a red apple on a blue background"
SAVE_AFTER = 0.5
"Seconds of typing that a crash may cost."
TYPED = ("steps", "guidance", "rescale", "size", "seed", "count")
"Fields of a draft that are typed into the settings grid."


class Form(VerticalScroll, can_focus=False):
    """Prompt, negative prompt, weights, model and settings."""

    def __init__(self, catalogue: Catalogue, file: DraftFile) -> None:
        super().__init__(id="form")
        self._catalogue = catalogue
        self._file = file
        self._draft = Draft()
        self._previous = Draft()
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom, as Tab goes."""
        yield PromptEditor("prompt", EXAMPLE, id="prompt")
        yield WeightsPane()
        yield PromptEditor("negative prompt", "what to stay away from", id="negative")
        yield ModelPane()
        yield SettingsPane()

    @property
    def prompt(self) -> PromptEditor:
        """What to draw."""
        return self.query_one("#prompt", PromptEditor)

    @property
    def negative(self) -> PromptEditor:
        """What to stay away from."""
        return self.query_one("#negative", PromptEditor)

    @property
    def model(self) -> ModelPane:
        """Which model."""
        return self.query_one(ModelPane)

    @property
    def settings(self) -> SettingsPane:
        """How."""
        return self.query_one(SettingsPane)

    @property
    def draft(self) -> Draft:
        """The form as it stands; what has no field here (batch, precision, LoRAs) is kept as it was shown."""
        values = self.settings.values
        return Draft(
            prompt=self.prompt.text,
            negative_prompt=self.negative.text,
            model=self.model.value,
            steps=values["steps"],
            guidance=values["guidance"],
            rescale=values["rescale"],
            scheduler=values["scheduler"],
            size=values["size"],
            seed=values["seed"],
            count=values["count"],
            batch=self._draft.batch,
            precision=self._draft.precision,
            # a scorer by name stays what it was; the switch only knows on and off
            score=self._draft.score
            if values["score"] == "yes" and self._draft.score not in ("", "no")
            else values["score"],
            loras=self._draft.loras,
        )

    def show(self, draft: Draft) -> None:
        """Fills all panes. A model that isn't in the catalogue is shown as it is, for the picker to mend."""
        self._draft = draft
        self.prompt.show(clean(draft.prompt))
        self.negative.show(clean(draft.negative_prompt))
        self.model.show(self._catalogue, clean(draft.model) or self._default())
        self.settings.show({name: clean(getattr(draft, name)) for name in (*TYPED, "scheduler", "score")})
        self._show_recipe()
        self._show_consequences()

    # ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, default: Draft) -> None:
        """The draft as it was left, else the default."""
        draft = Draft()
        try:
            draft = self._file.open()
        except SafelightError as e:
            self._tell(e)
        self._previous = default
        self.show(default if draft == Draft() else draft)

    def replace(self, draft: Draft) -> None:
        """Another draft; `swap` brings the present one back."""
        before, self._previous = self.draft.model, self.draft
        self.show(draft)
        self.post_message(ModelChanged() if self.model.value != before else DraftChanged())

    def swap(self) -> None:
        """The draft before the last `replace`; again for the way forth."""
        self.replace(self._previous)

    async def save(self) -> None:
        """Writes the draft to its file."""
        try:
            await asyncio.to_thread(self._file.save, self.draft)
        except SafelightError as e:
            self._tell(e)

    def _save_later(self) -> None:
        """Saves at most SAVE_AFTER seconds after the first change that isn't saved."""
        if self._timer is None:
            self._timer = self.set_timer(SAVE_AFTER, self._save_now)

    def _save_now(self) -> None:
        self._timer = None
        self.run_worker(self.save(), group="draft")

    def _tell(self, error: SafelightError) -> None:
        text = f"{clean(error.message)}\n{clean(error.hint)}".strip()
        self.notify(text, severity="warning", timeout=8, markup=False)

    # ── what follows from what is typed ─────────────────────────────────────────────────────────────────────────

    def _default(self) -> str:
        try:
            return self._catalogue.default_model().id
        except CatalogueError:
            return ""

    @on(DraftChanged)
    def _typed(self) -> None:
        self._show_consequences()
        self._save_later()

    @on(ModelChanged)
    def _picked(self) -> None:
        self.model.show(self._catalogue, self.model.value)
        self._show_recipe()
        self._show_consequences()
        self._save_later()

    def _show_recipe(self) -> None:
        if model := self._catalogue.models.get(self.model.value):
            sizes = [f"{width}x{height}" for width, height in model.recipe.sizes]
            self.settings.show_recipe(drafting.shortened(model.recipe), sizes)

    def _show_consequences(self) -> None:
        """Weights of the prompt, and one line of what has no effect or departs from the recipe."""
        draft = self.draft
        self.query_one(WeightsPane).show(prompts.parse(draft.prompt).parts if len(draft.prompt) <= 20_000 else ())
        notes: tuple[str, ...] = ()
        try:
            notes = drafting.read(draft, self._catalogue, look=False).notes
        except SafelightError:
            pass  # it is told when the picture is asked for, not while a number is half typed
        self.settings.show_note(next((note for note in notes if not note.startswith("the prompt is empty")), ""))

    def _bad_fields(self) -> list[str]:
        """Every setting that can't be used by itself."""
        draft, bad = self.draft, []
        for name in TYPED:
            try:
                drafting.read(Draft(model=draft.model, **{name: getattr(draft, name)}), self._catalogue, look=False)
            except InvalidRequest as e:
                bad += [name] if e.field == name else []
            except SafelightError:
                pass
        return bad

    def mark(self, error: SafelightError) -> None:
        """Goes to the field that can't be used, and marks it."""
        field = error.field if isinstance(error, InvalidRequest) else ""
        places: dict[str, Widget] = {"prompt": self.prompt, "negative_prompt": self.negative}
        named = {"num_inference_steps": "steps", "guidance_scale": "guidance", "guidance_rescale": "rescale"}
        if not self.settings.mark(named.get(field, field), self._bad_fields()):
            places.get(field, self.model.choice if field == "model" else self.prompt).focus()
