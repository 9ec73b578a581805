"""The settings grid: one line a field, empty fields show the recipe behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.widgets import Input, Label, Static

from engines.requests import MAX_SEED
from engines.schedulers import TABLE
from tui.choice import Choice
from tui.clean import clean
from tui.messages import DraftChanged, MakeRequested
from tui.offers import Offer

STEPS: dict[str, tuple[float, float, float]] = {
    "steps": (1, 1, 1000),
    "guidance": (0.5, 0, 100),
    "rescale": (0.05, 0, 1),
    "count": (1, 1, 10_000),
    "seed": (1, 0, MAX_SEED),
}
"How far an arrow key moves a number, and its ends."


class FieldInput(Input):
    """A borderless input whose up and down keys change its value."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "nudge(1)", "more", show=False),
        Binding("down", "nudge(-1)", "less", show=False),
    ]

    def __init__(self, name: str) -> None:
        super().__init__(id=f"input-{name}", name=name, compact=True, max_length=64)
        self.cursor_blink = False
        self.sizes: Sequence[str] = ()
        self.recipe = ""

    def action_nudge(self, by: int) -> None:
        """The next value: of the recipe's sizes, or a number a step away."""
        if self.name == "size":
            self.value = _beside(self.value or self.recipe, self.sizes, -by) if self.sizes else self.value
        else:
            self.value = _moved(self.name or "", self.value or self.recipe, by)

    def _on_paste(self, event: events.Paste) -> None:
        """Nothing that a terminal would obey gets in."""
        event.stop()
        event.prevent_default()
        line = clean(event.text).strip().splitlines()
        if line:
            self.insert_text_at_cursor(line[0][:64])


class Field(Horizontal):
    """A label and an input."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(id=f"field-{name}", classes="field")
        self.label = label
        self.input = FieldInput(name)

    def compose(self) -> ComposeResult:
        """Label left, input right."""
        yield Label(self.label, markup=False)
        yield self.input

    def mark(self, bad: bool) -> None:
        """A field that can't be used is told by a sign, too, not by colour alone."""
        self.set_class(bad, "-bad")
        self.query_one(Label).update(f"{self.label} !" if bad else self.label)


class SettingsPane(Vertical):
    """All settings of the draft but prompt and model."""

    def __init__(self) -> None:
        super().__init__(id="settings")
        self.border_title = "settings"
        self._shown: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """A grid of two columns, and two rows as wide as both."""
        with Grid():
            yield Field("steps", "steps")
            yield Field("guidance", "guidance")
            yield Field("size", "size")
            yield Field("rescale", "rescale")
            yield Field("count", "count")
            with Horizontal(classes="field"):
                yield Label("score", markup=False)
                yield Choice("score", [Offer("yes", "on"), Offer("no", "off")], id="score")
        with Horizontal(classes="field", id="field-scheduler"):
            yield Label("scheduler", markup=False)
            yield Choice("scheduler", id="scheduler")
        yield Field("seed", "seed")

    def on_mount(self) -> None:
        """The lock stands beside the seed."""
        self.query_one("#field-seed").mount(Static("random", id="lock", markup=False))

    def field(self, name: str) -> Field:
        """One of the typed fields."""
        return self.query_one(f"#field-{name}", Field)

    def choice(self, name: str) -> Choice:
        """Scheduler or score."""
        return self.query_one(f"#{name}", Choice)

    @property
    def values(self) -> dict[str, str]:
        """What is typed, by Draft's field names."""
        typed = {field.input.name or "": field.input.value for field in self.query(Field)}
        return typed | {name: self.choice(name).value for name in ("scheduler", "score")}

    def show(self, values: Mapping[str, str]) -> None:
        """Fills the fields; nobody is told."""
        for field in self.query(Field):
            field.mark(False)
            value = values.get(field.input.name or "", "")
            self._shown[field.input.name or ""] = value
            field.input.value = value
        self.choice("scheduler").show(values.get("scheduler", ""))
        self.choice("score").show("yes" if values.get("score", "") not in ("", "no") else "no")
        self._show_lock()

    def show_recipe(self, recipe: Mapping[str, str], sizes: Sequence[str], locked: Collection[str] = ()) -> None:
        """What stands behind empty fields, and which of them the recipe fixes."""
        for field in self.query(Field):
            name = field.input.name or ""
            field.input.recipe = recipe.get(name, "")
            field.input.placeholder = _locked(field.input.recipe, name in locked)
        self.field("size").input.sizes = sizes
        scheduler = self.choice("scheduler")
        first = Offer("", _locked(f"recipe: {recipe.get('scheduler', '')}", "scheduler" in locked))
        scheduler.show(scheduler.value, [first, *(Offer(row.name, row.name, row.title) for row in TABLE)])

    def set_seed(self, seed: str) -> None:
        """As if it had been typed."""
        self.field("seed").input.value = seed

    def mark(self, name: str, bad: Collection[str] = ()) -> bool:
        """Marks fields as bad and goes to one of them; False if that one isn't here."""
        for field in self.query(Field):
            field.mark(field.input.name == name or field.input.name in bad)
        if name in ("scheduler", "score"):
            self.choice(name).focus()
        elif name in {field.input.name for field in self.query(Field)}:
            self.field(name).input.focus()
        else:
            return False
        return True

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tells of what was typed, not of what was shown."""
        event.stop()
        name = event.input.name or ""
        self._show_lock()
        if self._shown.get(name, "") != event.value:
            self._shown[name] = event.value
            self.field(name).mark(False)
            self.post_message(DraftChanged())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter makes the picture from here, too."""
        event.stop()
        self.post_message(MakeRequested())

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Another scheduler, or scoring switched."""
        event.stop()
        self.post_message(DraftChanged())

    def _show_lock(self) -> None:
        locked = bool(self.field("seed").input.value.strip())
        for lock in self.query("#lock").results(Static):
            lock.update("locked" if locked else "random")
            lock.set_class(locked, "-locked")


def _locked(text: str, locked: bool) -> str:
    return f"{text} · locked" if locked else text


def _beside(value: str, sizes: Sequence[str], by: int) -> str:
    at = sizes.index(value) if value in sizes else -by
    return sizes[(at + by) % len(sizes)]


def _moved(name: str, text: str, by: int) -> str:
    """A number a step further, kept within its ends; what is no number stays as it is."""
    step, low, high = STEPS[name]
    if step == 1 and text.strip().isdecimal():
        return str(min(int(high), max(int(low), int(text) + by)))  # seeds are too long for floating point
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return "0" if text == "random" else text
    return f"{min(high, max(low, round(value + by * step, 4))):g}"
