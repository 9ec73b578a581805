"""The column of the form: its panes put together as a Draft, and a Draft put into its panes."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget

from engines import prompt as prompts
from engines.catalogue import Catalogue
from engines.errors import CatalogueError, InvalidRequest, SafelightError
from tui import draft as drafting
from tui.clean import clean
from tui.draft import Draft
from tui.messages import DraftChanged, ModelChanged
from tui.panes.models import ModelPane
from tui.panes.prompt import PromptEditor
from tui.panes.settings import SettingsPane
from tui.panes.weights import WeightsPane

EXAMPLE = "a red apple on a blue background"
TYPED = ("steps", "guidance", "rescale", "size", "seed", "count")
"Fields of a draft that are typed into the settings grid."


class Form(VerticalScroll, can_focus=False):
    """Prompt, negative prompt, weights, model and settings."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(id="form")
        self._catalogue = catalogue
        self._draft = Draft()

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
            score=self._draft.score if values["score"] == "yes" and self._draft.score not in ("", "no") else values["score"],
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

    def _default(self) -> str:
        try:
            return self._catalogue.default_model().id
        except CatalogueError:
            return ""

    @on(DraftChanged)
    def _typed(self) -> None:
        self._show_consequences()

    @on(ModelChanged)
    def _picked(self) -> None:
        self.model.show(self._catalogue, self.model.value)
        self._show_recipe()
        self._show_consequences()

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
            notes = drafting.read(draft, self._catalogue).notes
        except SafelightError:
            pass  # it is told when the picture is asked for, not while a number is half typed
        self.settings.show_note(next((note for note in notes if not note.startswith("the prompt is empty")), ""))

    def mark(self, error: SafelightError) -> None:
        """Goes to the field that can't be used, and marks it."""
        field = error.field if isinstance(error, InvalidRequest) else ""
        places: dict[str, Widget] = {"prompt": self.prompt, "negative_prompt": self.negative}
        named = {"num_inference_steps": "steps", "guidance_scale": "guidance", "guidance_rescale": "rescale"}
        if not self.settings.mark(named.get(field, field)):
            places.get(field, self.model.choice if field == "model" else self.prompt).focus()
