"""The column of the form: its panes put together as a Draft, a Draft put into its panes, and the draft kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engines import folders, variants
from engines.catalogue import Catalogue
from engines.editing import Edit
from engines.errors import CatalogueError, InvalidRequest, SafelightError
from tui import draft as drafting
from tui import keys, lengths, sliders, stack
from tui.clean import clean
from tui.draft import Draft
from tui.drafts import DraftFile
from tui.messages import DraftChanged, MakeRequested, ModelChanged
from tui.panes.loras import LoraPane, Row
from tui.panes.models import ModelPane
from tui.panes.prompt import PromptEditor
from tui.panes.settings import SettingsPane
from tui.panes.weights import WeightsPane
from tui.sliders import Slider
from tui.stock import NOTHING, Stocks

SAVE_AFTER = 0.5
"Seconds of typing that a crash may cost."
MEASURE_AFTER = 0.15
"Seconds without a change after which a prompt's tokens are counted."
TYPED = ("steps", "guidance", "rescale", "size", "seed", "count")
"Fields of a draft that are typed into the settings grid."
LOCKED = ("steps", "scheduler")
"Fields that a distilled model's recipe fixes."


class Form(VerticalScroll, can_focus=False):
    """Prompt, negative prompt, weights, model, LoRAs and settings."""

    def __init__(self, catalogue: Catalogue, file: DraftFile, keymap: Mapping[str, str], signs: bool = False) -> None:
        super().__init__(id="form")
        self._catalogue = catalogue
        self._file = file
        self._keymap = keymap
        self._signs = signs
        self._stocks = NOTHING
        self._draft = Draft()
        self._previous = Draft()
        self._blank = ""
        self._default_draft = Draft()
        self._noted = ""
        self._timer: Timer | None = None
        self._measuring: Timer | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom, as Tab goes."""
        yield PromptEditor("prompt", "what to draw, say a red apple", self._signs, id="prompt")
        yield Static(id="note", markup=False)
        yield WeightsPane()
        yield PromptEditor("negative prompt", "what to stay away from", self._signs, id="negative")
        yield ModelPane()
        yield LoraPane()
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
    def weights(self) -> WeightsPane:
        """Every number that can be slid."""
        return self.query_one(WeightsPane)

    @property
    def loras(self) -> LoraPane:
        """What is added to it."""
        return self.query_one(LoraPane)

    @property
    def settings(self) -> SettingsPane:
        """How."""
        return self.query_one(SettingsPane)

    def on_show(self) -> None:
        """What has the focus was out of reach of scrolling while its page was not shown."""
        focus = self.screen.focused
        if focus is not None and self in focus.ancestors:
            self.scroll_to_widget(focus, animate=False)

    @property
    def draft(self) -> Draft:
        """The form as it stands, LoRAs that are off included; what has no field here (batch) is kept as it was."""
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
            loras=self.loras.texts,
            vae=self._draft.vae,
            override=self._draft.override,
            variation_seed=self._draft.variation_seed,
            variation_strength=self._draft.variation_strength,
            blank_negative=self._draft.blank_negative or self._blank,
            syntax=self._draft.syntax,
            # a ratio is one model's: another has none of it, and the way back finds it
            mix=self._draft.mix if self._draft.model == self.model.value else "",
            init=self._draft.init,
            strength=self._draft.strength,
            finish=self._draft.finish,
        )

    def show(self, draft: Draft) -> None:
        """Fills all panes. A model that isn't in the catalogue is shown as it is, for the picker to mend."""
        # only what departs from the setting is kept, so that another setting acts on the draft too
        usual = (draft.blank_negative or "zeros") == (self._blank or "zeros")
        model = clean(draft.model) or self._default()
        self._draft = replace(draft, model=model, blank_negative="" if usual else draft.blank_negative)
        self.prompt.show(clean(draft.prompt))
        self.negative.show(clean(draft.negative_prompt))
        self.model.show(self._catalogue, model)
        self.settings.show({name: clean(getattr(draft, name)) for name in (*TYPED, "scheduler", "score")})
        self._show_loras(stack.read([clean(text) for text in draft.loras]))
        self._show_recipe()
        self._show_consequences()

    def show_stocks(self, stocks: Stocks) -> None:
        """What is on this machine, as somebody found it."""
        if stocks != self._stocks:
            self._stocks = stocks
            self.model.offer(self._catalogue, stocks.models)
            self._show_loras(stack.read(self.loras.texts))

    def choose(self, **chosen: str) -> None:
        """What has no field here, by Draft's names: another VAE, another precision, another dialect of the prompts,
        a picture to begin with and its strength, what is done at the end."""
        self._draft = replace(self._draft, **chosen)  # type: ignore[arg-type]
        self.post_message(DraftChanged())

    def settle(self, default: Draft, signs: bool) -> None:
        """Another default: what differs from the one before is taken over, and nothing else."""
        before, self._default_draft = self._default_draft, default
        self._blank = default.blank_negative
        for editor in (self.prompt, self.negative):
            editor.signs = signs
        if default.score != before.score:
            self._draft = replace(self._draft, score=default.score)
            self.settings.choice("score").show(default.score)
        if default.precision != before.precision:
            self._draft = replace(self._draft, precision=default.precision)
        self.post_message(DraftChanged())

    def override(self) -> bool:
        """Allows what the recipe rules out, or forbids it again; whether it is allowed now."""
        allowed = self._draft.override != "yes"
        self._draft = replace(self._draft, override="yes" if allowed else "")
        self._show_recipe()
        self.post_message(DraftChanged())
        return allowed

    def add_lora(self, name: str) -> None:
        """One LoRA more; one that is there already is gone to."""
        items = stack.read(self.loras.texts)
        if name not in [item.name for item in items]:
            items = (*items, stack.Item(name))
        self._show_loras(items, name)
        self.post_message(DraftChanged())

    # ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, default: Draft) -> None:
        """The draft as it was left, else the default."""
        draft = Draft()
        try:
            draft = self._file.open()
        except SafelightError as e:
            self._tell(e)
        self._previous, self._blank, self._default_draft = default, default.blank_negative, default
        self.model.offer(self._catalogue, {})
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
            draft = replace(self.draft, blank_negative=self._draft.blank_negative)
            await asyncio.to_thread(self._file.save, draft)
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
        self._let_go()
        self._show_loras(stack.read(self.loras.texts))  # one line less may have left it empty
        self._show_consequences()
        self._save_later()

    @on(ModelChanged)
    def _picked(self) -> None:
        self.model.show(self._catalogue, self.model.value)
        self._show_loras(stack.read(self.loras.texts))
        self._show_recipe()
        self._show_consequences()
        self._save_later()

    def _let_go(self) -> None:
        """What was taken from a picture and has no field here goes with the field that it belongs to."""
        if self.negative.text.strip():
            self._draft = replace(self._draft, blank_negative="")
        if not self.settings.values["seed"].strip():
            self._draft = replace(self._draft, variation_seed="", variation_strength="")

    def _show_recipe(self) -> None:
        if model := self._catalogue.models.get(self.model.value):
            sizes = [f"{width}x{height}" for width, height in model.recipe.sizes]
            fixed = model.recipe.fixed_steps and self._draft.override != "yes"
            self.settings.show_recipe(drafting.shortened(model.recipe), sizes, LOCKED if fixed else ())

    def _show_loras(self, items: tuple[stack.Item, ...], name: str = "") -> None:
        """The stack against the model that is picked. A catalogue without LoRAs has no line for them."""
        rows = []
        for item in items:
            having = self._stocks.adapters.get(item.name)
            reason = stack.unfit(item.name, self.model.value, self._catalogue)
            if not reason and having is not None and having.place == 2:
                reason = having.told
            note = having.told if having is not None and having.place == 1 else ""
            rows.append(Row(item, reason, note))
        model = self._catalogue.models.get(self.model.value)
        some = any(a.family == model.family for a in self._catalogue.adapters.values()) if model else False
        self.loras.show(rows, f"no LoRAs · {self._key('loras')} adds one" if some else "", name)

    def _key(self, action: str) -> str:
        return keys.shown(keys.BY_ID[action], self._keymap)

    def _show_consequences(self) -> None:
        """Weights of the prompt, and one line of what has no effect or departs from the recipe."""
        draft = self.draft
        idle = self._unguided(draft)
        self.negative.show_idle(idle)
        self.settings.field("rescale").set_class(bool(idle), "-idle")
        self._show_sliders(draft)
        self._measure_later()
        if not variants.names(draft.prompt):
            self._show_note(self._note(stack.active(draft)))
        quiet = [f"VAE {draft.vae}"] if draft.vae else []
        quiet += [f"precision {draft.precision}"] if draft.precision.strip() not in ("", "auto") else []
        quiet += [f"mix {draft.mix}"] if draft.mix.strip() else []
        if draft.variation_strength:
            quiet.append(f"variation {draft.variation_strength} to seed {draft.variation_seed or 'random'}")
        if self._draft.blank_negative and not draft.negative_prompt.strip():
            quiet.append(f"blank negative {'encoded' if draft.blank_negative == 'empty' else 'zeros'}")
        if draft.init:
            quiet.append(f"over {draft.init.rpartition('/')[2][:24]} at {draft.strength or drafting.STRENGTH}")
        quiet += [f"then {draft.finish}"] if draft.finish.strip() else []
        quiet += [f"syntax {draft.syntax}"] if draft.syntax.strip() not in ("", "compel") else []
        overridden = "override on · nothing is locked"
        self.model.show_departures(quiet, overridden if draft.override == "yes" else "")

    def _unguided(self, draft: Draft) -> str:
        """Why negative prompt and rescale have no effect; empty if they have."""
        model = self._catalogue.models.get(draft.model)
        guidance = sliders.number(draft.guidance, model.recipe.guidance_scale if model else 1.0)
        return f"no effect at guidance {guidance:g}" if guidance <= 1 else ""

    def _measure_later(self) -> None:
        if self._measuring is not None:
            self._measuring.stop()
        self._measuring = self.set_timer(MEASURE_AFTER, self._measure_now)

    def _measure_now(self) -> None:
        self.run_worker(self._measure(), group="lengths", exclusive=True)

    async def _measure(self) -> None:
        """What waits for the disk: tokenizers, and the files that variants name."""
        draft = self.draft
        if variants.names(draft.prompt):
            note = await asyncio.to_thread(self._note, stack.active(draft), folders.find().wildcards)
            if self.prompt.text == draft.prompt:
                self._show_note(note)
        for editor, text in ((self.prompt, draft.prompt), (self.negative, draft.negative_prompt)):
            told = await asyncio.to_thread(lengths.look, self._catalogue, draft, editor.id == "negative")
            if editor.text == text:
                editor.show_length(told.words, told.borders)

    def _show_sliders(self, draft: Draft) -> None:
        foreign = f"this is in A1111's syntax; {self._key('translate')} makes it compel's"
        foreign = foreign if draft.syntax == "a1111" else ""  # weights are written otherwise there
        for editor in (self.prompt, self.negative):
            editor.foreign = foreign
        if foreign:
            draft = replace(draft, prompt="", negative_prompt="")
        model = self._catalogue.models.get(draft.model)
        pane = self.weights
        pane.show(sliders.read(draft, model, settings=pane.has_focus))

    @on(WeightsPane.Folded)
    def _fold(self) -> None:
        self._show_sliders(self.draft)

    @on(WeightsPane.Made)
    def _made(self) -> None:
        self.post_message(MakeRequested())

    @on(WeightsPane.Moved)
    def _slide(self, message: WeightsPane.Moved) -> None:
        draft = self.draft
        changed = sliders.change(draft, message.slider, message.value, self._catalogue.models.get(draft.model))
        if isinstance(changed, str) and message.slider.field == "mix":
            self._draft = replace(self._draft, model=draft.model, mix=changed)
            self.post_message(DraftChanged())
        elif isinstance(changed, str):
            self.settings.field(message.slider.field).input.value = changed
        else:
            self._edit(message.slider, changed)

    @on(WeightsPane.Restored)
    def _restore(self, message: WeightsPane.Restored) -> None:
        (self.negative if message.slider.field == "negative_prompt" else self.prompt).action_undo()

    @on(WeightsPane.Removed)
    def _bare(self, message: WeightsPane.Removed) -> None:
        self._edit(message.slider, sliders.remove(self.draft, message.slider))

    def _edit(self, slider: Slider, edit: Edit | None) -> None:
        """A slider's edit of its text, where the cursor stays."""
        if edit is None:
            self.notify("this can't be written there: see the prompt", timeout=3, markup=False)
            return
        (self.prompt if slider.field == "prompt" else self.negative).edit_text(edit)

    def _show_note(self, text: str) -> None:
        """Right under the prompt, where the eyes are; it takes no room if empty."""
        if text != self._noted:  # every update lays the screen out anew, and this is called at every key
            self._noted = text
            note = self.query_one("#note", Static)
            note.display = bool(text)
            note.update(text)

    def _note(self, draft: Draft, wildcards: Path | None = None) -> str:
        """One sentence about what is typed. What is wrong is told when the picture is asked for, not while a number is
        half typed; but that a recipe fixes a field is told at once."""
        try:
            asked = drafting.read(draft, self._catalogue, look=False, wildcards=wildcards)
        except InvalidRequest as e:
            if e.field == "prompt":  # a name that is whole, and that nothing has
                return e.message
            return f"{e.message}; {self._key('override')} overrides" if self.is_locked(e, draft) else ""
        except SafelightError:
            return ""
        told = [note for note in asked.notes if not note.startswith("the prompt is empty")]
        # one thing at a time, but what becomes of a text that is translated is always to be seen
        shown = [*told[:1], *(note for note in asked.translations if note not in told[:1])]
        return "\n".join(shown).replace("--syntax a1111", self._key("translate"))

    def is_locked(self, error: InvalidRequest, draft: Draft) -> bool:
        """Whether a draft is refused only because its model's recipe fixes a field."""
        if error.field not in LOCKED or draft.override == "yes":
            return False
        try:
            drafting.read(replace(draft, override="yes"), self._catalogue, look=False)
        except SafelightError:
            return False
        return True

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
        if self.loras.can_focus:
            places |= {"loras": self.loras, "lora": self.loras}
        named = {"num_inference_steps": "steps", "guidance_scale": "guidance", "guidance_rescale": "rescale"}
        if not self.settings.mark(named.get(field, field), self._bad_fields()):
            places.get(field, self.model.choice if field in ("model", "vae", "mix") else self.prompt).focus()
