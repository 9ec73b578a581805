"""What is chosen beside the model, from lists over the workbench: LoRAs, embeddings, VAE, precision, override."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from textual import on

from engines import dialects, folders, variants
from engines.catalogue import Catalogue
from engines.entries import Entry
from engines.errors import SafelightError
from tui import completing, picking, snippets
from tui.choice import ChoiceList
from tui.clean import clean, one_line
from tui.completing import Wish
from tui.draft import Draft
from tui.form import Form
from tui.names import NameList
from tui.offers import Offer
from tui.paging import PagedScreen
from tui.panes.loras import LoraPane
from tui.panes.prompt import PromptEditor
from tui.stock import NOTHING, Stocks


class ChoosingScreen(PagedScreen):
    """Opens the lists and puts what is taken into the form."""

    library: Path = Path("snippets.toml")
    "The user's own snippets; set before it is shown."
    stocks: Stocks = NOTHING
    "What was last found on this machine."

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue
        self._wildcards: tuple[str, ...] = ()
        self._listing = False
        self._complaints: Sequence[str] = ()
        "What was last told of the library of snippets."

    @property
    def names(self) -> NameList:
        """The list under a prompt's cursor."""
        return self.query_one(NameList)

    @property
    def form(self) -> Form:
        """The left column."""
        return self.query_one(Form)

    @property
    def gone(self) -> bool:
        """Whether the panes are closed already, while something was waited for."""
        return not self.is_running or not self.query(Form)

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

    def on_mount(self) -> None:
        """Both editors share the list of names."""
        for editor in (self.form.prompt, self.form.negative):
            editor.names, editor.namer = self.names, self._named
        self.form.negative.unnamed = frozenset({"lora", "a1111-lora"})

    def _named(self, wish: Wish) -> list[Offer]:
        return completing.offers(wish, self.catalogue, self.form.draft, self.stocks, self._wildcards)

    @on(PromptEditor.FilesWanted)
    def _list_files(self, message: PromptEditor.FilesWanted) -> None:
        if not self._listing:
            self._listing = True
            self.run_worker(self._look_for_files(message.editor), group="names")

    async def _look_for_files(self, editor: PromptEditor) -> None:
        found = await asyncio.to_thread(lambda: variants.available(folders.find().wildcards))
        self._listing = False
        if found != self._wildcards and not self.gone:
            self._wildcards = found
            editor.look_again()

    @on(NameList.Clicked)
    def _name_clicked(self, message: NameList.Clicked) -> None:
        for editor in (self.form.prompt, self.form.negative):
            if editor.wish is not None:
                editor.take_name()

    @on(PromptEditor.Named)
    def _name_taken(self, message: PromptEditor.Named) -> None:
        """An embedding that is not here is asked about, as from its own list."""
        embedding = self.catalogue.embeddings.get(message.name)
        if embedding is not None and self.catalogue.missing(embedding):
            self.ask([embedding], None)

    def action_translate(self) -> None:
        """Both prompts from A1111's dialect into compel's, in one step each that undo takes back."""
        told: list[str] = []
        changed = False
        foreign = self.form.draft.syntax == "a1111"
        for editor in (self.form.prompt, self.form.negative):
            if not foreign and not any(sign.strong for sign in dialects.signs(editor.text)):
                continue  # compel's already: read as A1111's it would be spoilt
            translation = dialects.translate(editor.text)
            if translation.text != editor.text:
                changed = True
                editor.take(translation.text)
            told += [problem.message for problem in translation.problems]
        if not changed:
            self.notify("nothing here is written as A1111 writes it", timeout=3, markup=False)
            return
        self.form.choose(syntax="")
        lines = ["translated; ctrl+z in the prompt brings the text back", *dict.fromkeys(told)]
        self.notify(clean("\n".join(lines[:4])), severity="warning" if told else "information", timeout=8, markup=False)

    def past_prompts(self) -> Sequence[str]:
        """Prompts of earlier pictures, the newest first, each once; waits for the disk. Raises SafelightError."""
        raise NotImplementedError

    def action_past_prompts(self) -> None:
        """A prompt of an earlier picture comes back; undo brings this one back."""

        def taken(text: str) -> None:
            self.form.prompt.take(text)
            self.go("form", self.form.prompt)

        # at once, for what is typed next shall not go into the prompt; what is in it comes later
        opened = self._open("earlier prompt", None, self.form.draft.prompt, taken)
        self.run_worker(self._recall(opened), group="past", exclusive=True)

    async def _recall(self, opened: ChoiceList | None) -> None:
        try:
            past = await asyncio.to_thread(self.past_prompts)
        except SafelightError as e:
            self._fill(opened, (), clean(e.message))
            return
        self._fill(opened, [Offer(text, one_line(text, 400)) for text in past], "no prompt was used yet")

    def action_snippet(self) -> None:
        """Words from the library go to the cursor, negative ones into the negative prompt."""
        by_name: dict[str, snippets.Snippet] = {}

        def taken(name: str) -> None:
            one = by_name[name]
            editor = self.form.negative if one.kind == "negative" else self.form.prompt
            if one.kind == "whole":
                editor.take(one.text)
            else:
                editor.add_phrase(one.text)
            self.go("form", editor)

        opened = self._open("snippet", None, "", taken)
        self.run_worker(self._library(opened, by_name), group="snippets", exclusive=True)

    async def _library(self, opened: ChoiceList | None, by_name: dict[str, snippets.Snippet]) -> None:
        known, problems = await asyncio.to_thread(snippets.load, self.library)
        if problems != self._complaints:  # once, not at every opening
            self._complaints = problems
            for problem in problems:
                self.notify(clean(problem), severity="warning", timeout=6, markup=False)
        by_name |= {one.name: one for one in known}
        offers = [Offer(one.name, one.name, detail=one_line(one.text, 200), note=one.kind) for one in known]
        self._fill(opened, offers, "there are no snippets")

    def _fill(self, opened: ChoiceList | None, offers: Sequence[Offer], why: str) -> None:
        """What a list that is open already has to offer; without anything it closes, and says why."""
        if opened is None or not opened.is_current:
            return  # closed meanwhile
        if offers:
            opened.show(offers)
        else:
            opened.dismiss(None)
            self.notify(why, timeout=4, markup=False)

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

    def action_syntax(self) -> None:
        """Which dialect the prompts are in; the texts stay as they are."""
        value = self.form.draft.syntax.strip().lower() or "compel"

        def taken(name: str) -> None:
            self.form.choose(syntax="" if name == "compel" else name)

        self._open("syntax", picking.syntaxes(), value, taken)

    def _open(
        self, title: str, offers: Sequence[Offer] | None, value: str, taken: Callable[[str], None]
    ) -> ChoiceList | None:
        """A list to choose from; for None one that is filled later."""
        if offers is not None and not offers:
            self.notify(f"there is no {title} for this model", timeout=4, markup=False)
            return None

        def chosen(value: str | None) -> None:
            if value is not None:
                taken(value)

        opened = ChoiceList(title, offers or (), value)
        self.app.push_screen(opened, chosen)
        return opened
