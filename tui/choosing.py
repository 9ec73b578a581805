"""What is chosen beside the model, from lists over the workbench: LoRAs, embeddings, VAE, precision, override."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import on

from engines.catalogue import Catalogue
from engines.entries import Entry
from tui import picking
from tui.choice import ChoiceList
from tui.clean import clean
from tui.draft import Draft
from tui.form import Form
from tui.offers import Offer
from tui.paging import PagedScreen
from tui.panes.loras import LoraPane
from tui.panes.prompt import PromptEditor
from tui.stock import NOTHING, Stocks


class ChoosingScreen(PagedScreen):
    """Opens the lists and puts what is taken into the form."""

    stocks: Stocks = NOTHING
    "What was last found on this machine."

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue

    @property
    def form(self) -> Form:
        """The left column."""
        return self.query_one(Form)

    def ask(self, wanted: Sequence[Entry], draft: Draft | None) -> None:
        """Whether to fetch entries; the draft, if there is one, becomes a picture when they are here."""
        raise NotImplementedError

    def warm(self) -> None:
        """Gets what is picked ready."""
        raise NotImplementedError

    def action_override(self) -> None:
        """Steps and scheduler against the recipe: allowed, or not any more."""
        allowed = self.form.override()
        told = "the recipe may be overridden; the picture says so" if allowed else "the recipe holds"
        self.notify(told, timeout=3, markup=False)

    def action_loras(self) -> None:
        """To the stack; on it, or where it is empty, to the list of what can be added."""
        if self.form.loras.can_focus and not self.form.loras.has_focus:
            self.go("form", self.form.loras)
        else:
            self._add_lora()

    @on(LoraPane.AddRequested)
    def _add_lora(self) -> None:
        offers = picking.loras(self.catalogue, self.form.draft, self.stocks.adapters)

        def taken(name: str) -> None:
            self.form.add_lora(name)
            self.go("form", self.form.loras)

        self._open("LoRA", offers, "", taken)

    @on(LoraPane.WordsRequested)
    def _insert_words(self, message: LoraPane.WordsRequested) -> None:
        adapter = self.catalogue.adapters.get(message.name)
        if adapter is not None and adapter.words:
            self.form.prompt.put_in(clean(adapter.words))
            self.notify(f"{clean(adapter.words)} is in the prompt", timeout=3, markup=False)
        else:
            self.notify(f"{message.name} needs no words", timeout=3, markup=False)

    def action_embedding(self) -> None:
        """Its name goes to the cursor of the prompt, or of the negative prompt if that has the focus."""
        editor = self.focused if isinstance(self.focused, PromptEditor) else self.form.prompt

        def taken(name: str) -> None:
            editor.put_in(picking.word(name))
            self.go("form", editor)
            embedding = self.catalogue.embeddings[name]
            if self.catalogue.missing(embedding):
                self.ask([embedding], None)

        self._open("embedding", picking.embeddings(self.catalogue, self.form.draft, self.stocks.embeddings), "", taken)

    def action_vae(self) -> None:
        """Which VAE decodes."""
        offers = picking.vaes(self.catalogue, self.form.draft, self.stocks.vaes)
        self._open("VAE", offers, self.form.draft.vae, lambda id: self.form.choose(vae=id))

    def action_precision(self) -> None:
        """Which arithmetic."""
        value = self.form.draft.precision.strip() or "auto"

        def taken(name: str) -> None:
            self.form.choose(precision="" if name == "auto" else name)
            self.warm()

        self._open("precision", picking.precisions(), value, taken)

    def _open(self, title: str, offers: Sequence[Offer], value: str, taken: Callable[[str], None]) -> None:
        """A list to choose from."""
        if not offers:
            self.notify(f"there is no {title} for this model", timeout=4, markup=False)
            return

        def chosen(value: str | None) -> None:
            if value is not None:
                taken(value)

        self.app.push_screen(ChoiceList(title, offers, value), chosen)
