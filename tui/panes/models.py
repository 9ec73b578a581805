"""The model picker: what is chosen, and its recipe in a line."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from engines.catalogue import Catalogue
from engines.entries import Model
from tui.choice import Choice, Offer
from tui.clean import one_line
from tui.messages import ModelChanged
from tui.wording import plural


class ModelPane(Vertical):
    """One line to choose from, one line of recipe."""

    def __init__(self) -> None:
        super().__init__(id="model")
        self.border_title = "model"

    def compose(self) -> ComposeResult:
        """The choice and what it means."""
        yield Choice("model", id="model-choice")
        yield Static(id="model-recipe", markup=False)

    @property
    def choice(self) -> Choice:
        """Where the model is chosen."""
        return self.query_one(Choice)

    @property
    def value(self) -> str:
        """The chosen model's id."""
        return self.choice.value

    def show(self, catalogue: Catalogue, model: str) -> None:
        """All models of the catalogue, and the chosen one's recipe."""
        offers = [_offer(m, catalogue) for m in catalogue.models.values()]
        self.choice.show(model, offers)
        known = catalogue.models.get(model)
        self.query_one("#model-recipe", Static).update(
            recipe(known) if known else f"no model {one_line(model, 30)} here" if model else "no model on this machine"
        )

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Another model means another recipe."""
        event.stop()
        self.post_message(ModelChanged())


def recipe(model: Model) -> str:
    """'25 steps · guidance 4.5 · euler · 128x128'."""
    r = model.recipe
    steps = plural(r.num_inference_steps, "step")
    return f"{steps} · guidance {r.guidance_scale:g} · {r.scheduler} · {r.size[0]}x{r.size[1]}"


def _offer(model: Model, catalogue: Catalogue) -> Offer:
    missing = catalogue.missing(model)
    return Offer(
        model.id,
        f"{model.title} · {model.id}" if model.title.lower() != model.id else model.title,
        recipe(model),
        f"not on this machine: {missing[0].name} is missing" if missing else "",
    )
