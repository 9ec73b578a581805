"""The model picker: what is chosen, its recipe in a line, and what departs from how it is usually run."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from engines.catalogue import Catalogue
from engines.entries import Model
from tui.choice import Choice
from tui.clean import one_line
from tui.messages import LookRequested, ModelChanged
from tui.offers import Offer
from tui.stock import Stock
from tui.wording import plural


class ModelPane(Vertical):
    """One line to choose from, one line of recipe, and one more only where something departs."""

    def __init__(self) -> None:
        super().__init__(id="model")
        self.border_title = "model"
        self._departs: Content | None = None

    def compose(self) -> ComposeResult:
        """The choice and what it means."""
        yield Choice("model", id="model-choice")
        yield Static(id="model-recipe", markup=False)
        yield Static(id="model-departs", markup=False)

    @property
    def choice(self) -> Choice:
        """Where the model is chosen."""
        return self.query_one(Choice)

    @property
    def value(self) -> str:
        """The chosen model's id."""
        return self.choice.value

    def offer(self, catalogue: Catalogue, stock: Stock) -> None:
        """What can be picked, as far as it is known: what is here first, then what can be had."""
        offers = [_offer(m, stock) for m in catalogue.models.values()]
        places = {id: having.place for id, having in stock.items()}
        self.choice.show(self.value, sorted(offers, key=lambda o: places.get(o.value, 0)))

    def show(self, catalogue: Catalogue, model: str) -> None:
        """The chosen model and its recipe."""
        self.choice.show(model)
        known = catalogue.models.get(model)
        self.query_one("#model-recipe", Static).update(
            recipe(known) if known else f"no model {one_line(model, 30)} here" if model else "no model on this machine"
        )

    def show_departures(self, quiet: Sequence[str], override: str) -> None:
        """VAE and precision if they are not the usual ones; and, plainly, that the recipe is overridden."""
        told = Content.assemble(
            (" · ".join(one_line(text) for text in quiet), "$foreground 70%"),
            "\n" if quiet and override else "",
            (override, "bold $warning"),
        )
        if told != self._departs:  # this is called at every key
            self._departs = told
            line = self.query_one("#model-departs", Static)
            line.display = bool(quiet or override)
            line.update(told)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Another model means another recipe."""
        event.stop()
        self.post_message(ModelChanged())

    def on_choice_opened(self, event: Choice.Opened) -> None:
        """What others have fetched meanwhile belongs into the list."""
        event.stop()
        self.post_message(LookRequested())


def recipe(model: Model) -> str:
    """'25 steps · guidance 4.5 · euler · 128x128'."""
    r = model.recipe
    steps = plural(r.num_inference_steps, "step")
    return f"{steps} · guidance {r.guidance_scale:g} · {r.scheduler} · {r.size[0]}x{r.size[1]}"


def _offer(model: Model, stock: Stock) -> Offer:
    having = stock.get(model.id)
    title = f"{model.title} · {model.id}" if model.title.lower() != model.id else model.title
    if having is None:
        return Offer(model.id, title, recipe(model))
    if having.place == 2:
        return Offer(model.id, title, recipe(model), having.told, aside=True)
    return Offer(model.id, title, recipe(model), "", having.told, having.fit, not having.here)
