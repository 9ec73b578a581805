"""The screen: what panes ask becomes requests.

Nothing here waits: engine, store and disk are spoken to in threads.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engines.catalogue import Catalogue
from engines.engine import Engine
from engines.errors import InvalidRequest, SafelightError
from engines.requests import Finish, Generate, JobId, Picture, Request, Warm
from engines.store import Store
from tui import draft as drafting
from tui import fields, keys, shares, stack, welcoming
from tui.clean import clean
from tui.draft import Draft
from tui.drafts import DraftFile
from tui.form import Form
from tui.messages import (
    CancelRequested,
    MakeRequested,
    ModelChanged,
    Page,
)
from tui.names import NameList
from tui.pages import Shelf
from tui.panes.footer import KeyLine
from tui.panes.header import Header
from tui.panes.history import HistoryPane
from tui.panes.picture import PicturePane
from tui.panes.queue import QueuePane
from tui.panes.strip import PictureStrip
from tui.panes.tabs import Tabs
from tui.pictures.deciding import Mode
from tui.recalling import RecallingScreen
from tui.wording import plural

PAST = 1000
"Pictures whose prompts are offered again."
WARM_AFTER = 0.4
"Seconds that a model must stay picked before it is loaded."


class Workbench(RecallingScreen):
    """All panes. Wide screens show them at once, narrow ones a page of them."""

    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("workbench")
    AUTO_FOCUS = "#prompt"

    def __init__(
        self,
        engine: Engine,
        shelf: Shelf,
        catalogue: Catalogue,
        file: DraftFile,
        default: Draft,
        sweeps: Store,
        pictures: Path,
        mode: Mode = "halfblocks",
        clock: Callable[[], float] = time.time,
        keymap: Mapping[str, str] | None = None,
    ) -> None:
        # the keymap changes while it is open
        super().__init__(engine, catalogue, clock, sweeps, pictures, shelf, {} if keymap is None else keymap)
        self.signs = False
        "Whether the keys for weights write + and -; set before it is shown."
        self._file = file
        self._default = default
        self.mode = mode
        self._ready = False
        self._lane = asyncio.Lock()
        self._sending = 0
        self._warm_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Form, queue and history, picture: the order in which Tab goes."""
        self.fit(self.app.size)
        yield Header()
        yield Tabs(self.pages)
        with Container(id="body"):
            yield Form(self.catalogue, self._file, self._keymap, self.signs)
            with Container(id="side"):
                yield QueuePane()
                yield HistoryPane(self._shelf, self.title_of, self._clock)
            with Container(id="middle"):
                yield PicturePane(self.mode)
                yield PictureStrip()
        yield Static("terminal too small", id="too-small", markup=False)
        yield KeyLine()
        yield NameList()

    def on_mount(self) -> None:
        """The draft is there before the first paint; everything that waits comes after it."""
        self.form.open(self._default)
        self.query_one(Header).show_model(self.title_of(self.draft.model))
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self._begin)
        self._ready = True

    def on_unmount(self) -> None:
        """Other programs may make the sweep now."""
        self.conductor.leave()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key does anything before all panes are there."""
        return self._ready and super().check_action(action, parameters)

    def action_after(self, name: str) -> None:
        """An action that reads the form, when what was typed before its key is in it."""
        (self.focused or self).call_later(getattr(self, f"action_{name}"))

    def _begin(self) -> None:
        self.warm()
        self.run_worker(self.learn(), group="store")
        self.look()
        self.conductor.go_on_by_itself()

    # ── what is asked of the engine ─────────────────────────────────────────────────────────────────────────────

    @on(MakeRequested)
    def action_make(self) -> None:
        """The draft becomes requests; where nothing was made yet and nothing is written, the example is taken."""
        if self.picture.welcomes and not self.draft.prompt.strip():
            self.form.prompt.take(welcoming.example(self.catalogue, self.catalogue.models.get(self.draft.model)))
        self._make(self.draft)

    def action_make_again(self) -> None:
        """The same with another seed."""
        self._make(replace(self.draft, seed=""))

    def _make(self, draft: Draft, pressed: bool = True, group: str | None = None) -> None:
        """Reads a draft and submits it; what is made later than its key was `pressed` moves no focus."""
        draft = stack.active(draft)
        self.run_worker(self._ask_for(draft, pressed, group), group="engine")

    async def _ask_for(self, draft: Draft, pressed: bool, group: str | None) -> None:
        """Draft after draft, in the order of their keys: reading one may wait for the disk."""
        ticket = self._sending
        async with self._lane:
            try:
                wanted = await asyncio.to_thread(self._fetches.wanted, draft)
                asked = await asyncio.to_thread(drafting.read, draft, self.catalogue, look=not wanted)
            except SafelightError as e:
                self.tell(e)
                if pressed and not self.gone:
                    self.show_page("form")
                    self.form.mark(e)
                return
            if self.gone or ticket != self._sending:
                return
            if wanted:
                self.ask(wanted, draft)
                return
            self._following = self._following or pressed
            if pressed and not draft.prompt.strip():
                self.notify("the prompt is empty: the model draws whatever it likes", timeout=4, markup=False)
            if pressed:
                self.pressed(draft)
                self.strip.stop()
            if not self._jobs.pictures and self._following:
                self.picture.show_waiting("queued")
            if self.single and pressed:
                self.go("picture")
            group = group or (secrets.token_hex(4) if len(asked.requests) > 1 else None)
            await self._send(asked.requests, group, ticket, pressed)

    def make_all(self, drafts: Sequence[tuple[str, Draft]], first: tuple[str, Picture] | None = None) -> None:
        """As in ComparingScreen."""
        self.run_worker(self._ask_for_all(drafts, first), group="engine")

    async def _ask_for_all(self, drafts: Sequence[tuple[str, Draft]], first: tuple[str, Picture] | None) -> None:
        def read() -> list[tuple[str, Generate]]:
            return [(name, one) for name, draft in drafts for one in drafting.read(draft, self.catalogue).requests]

        ticket = self._sending
        async with self._lane:
            try:
                asked = await asyncio.to_thread(read)
            except SafelightError as e:
                self.tell(e)
                return
            if self.gone or ticket != self._sending:
                return
            self._following = True
            if self.single:
                self.go("picture")
            group = secrets.token_hex(4)
            await self.strip.start(group, [name for name, _ in asked], first)
            self.notify(f"{plural(len(asked), 'picture')} of one seed", timeout=3, markup=False)
            sent = await self._send([request for _, request in asked], group, ticket, pressed=True)
            if not self.gone:
                self.strip.lose(group, len(asked) - sent)

    async def _send(self, requests: Sequence[Request], group: str | None, ticket: int, pressed: bool = False) -> int:
        """Hands requests to the engine, until all is cancelled; `_lane` is held meanwhile. How many it has taken."""
        taken = 0

        def send() -> None:
            nonlocal taken
            for request in requests:
                if ticket != self._sending:
                    return
                id = self._engine.submit(request, group)
                taken += 1
                if ticket != self._sending:  # all was cancelled while it was written down
                    self._engine.cancel(id)

        try:
            await asyncio.to_thread(send)
        except SafelightError as e:
            self.tell(e)
            if pressed and not self.gone:
                self.form.mark(e)
        return taken

    async def _submit(self, *requests: Request) -> None:
        ticket = self._sending
        async with self._lane:
            await self._send(requests, None, ticket)

    def warm(self) -> None:
        """Gets the picked model ready; one that was picked before it need not be."""
        try:
            model = self.catalogue.require(self.draft.model)
        except SafelightError:
            self._show_state()
            return  # told when a picture is asked for
        for job_id in self._warming:
            self.cancel(job_id)
        precision = self.draft.precision
        try:
            warm = Warm(model.id, fields.precision(precision), shares.read(self.draft.mix, model))
        except SafelightError:
            return  # told then, too
        self.run_worker(self._submit(warm), group="engine")

    def cancel(self, *job_ids: JobId) -> None:
        """As in SketchingScreen."""

        async def send() -> None:
            for job_id in job_ids:
                await asyncio.to_thread(self._engine.cancel, job_id)

        for job_id in job_ids:
            if (progress := self._jobs.get(job_id)) and progress.state == "running":
                progress.doing = "cancelling"
        self._show_progress()
        self.run_worker(send(), group="engine")

    def action_cancel(self) -> None:
        """The running picture; a download goes on until it is cancelled in the queue."""
        if running := self._jobs.running:
            self.cancel(running.job.id)
        elif self.conductor.busy:
            self.notify(f"{self.key('cancel-job')} in the queue pauses the sweep", timeout=3, markup=False)
        elif self._jobs.pulls:
            self.notify(f"{self.key('cancel-job')} in the queue cancels the download", timeout=3, markup=False)

    def action_cancel_all(self) -> None:
        """Every job, and those that are still being queued."""
        self._sending += 1
        self.end_live()
        self.conductor.pause()
        self.cancel(*[progress.job.id for progress in self._jobs.open][::-1])

    @on(CancelRequested)
    def _cancel_one(self, message: CancelRequested) -> None:
        progress = self._jobs.get(message.job_id)
        if message.job_id < 0:
            self.conductor.pause()
        elif progress is not None and progress.state == "failed":
            self._jobs.drop(message.job_id)
            self._show_queue()
        else:
            self.cancel(message.job_id)

    # ── what live and downloads ask for: as in SketchingScreen and GettingScreen ────────────────────────────────

    def submit(self, *requests: Generate) -> None:
        """In the order in which they were asked for."""
        self.run_worker(self._submit(*requests), group="engine")

    def order(self, *requests: Request) -> None:
        """As in FinishingScreen."""
        self._following = True
        self.run_worker(self._submit(*requests), group="engine")

    def make(self, draft: Draft, group: str | None = None) -> None:
        """No focus moves."""
        self._make(draft, pressed=False, group=group)

    def wait_for(self, text: str, hint: str) -> None:
        """In the caption."""
        self.picture.show_waiting(text, hint)

    def show_held(self, names: str, draft: Draft) -> None:
        """In the caption, unless another picture grows there."""
        if not self._jobs.running:
            self._following = True
            self.picture.show_waiting(f"made when {names} is here", draft.prompt)
        else:
            self.notify(f"the picture is made when {names} is here", timeout=4, markup=False)

    def show_not_made(self) -> None:
        """The picture before it comes back."""
        if not self._jobs.running and self._following:
            self._show_last("not made")

    def show_again(self, picture: Picture) -> None:
        """In the middle."""
        self._show_picture(picture)

    # ── the form ────────────────────────────────────────────────────────────────────────────────────────────────

    @on(ModelChanged)
    def _picked(self) -> None:
        self.query_one(Header).show_model(self.title_of(self.draft.model))
        if self.picture.welcomes:
            self.welcome()
        if self._warm_timer is not None:
            self._warm_timer.stop()
        self._warm_timer = self.set_timer(WARM_AFTER, self.warm)

    def past_prompts(self) -> Sequence[str]:
        """As in ChoosingScreen."""
        made = self._shelf.pictures(limit=PAST)
        typed = (clean(p.request.template or p.request.prompt) for p in made)
        return tuple(dict.fromkeys(text for text in typed if text.strip()))

    def action_previous_draft(self) -> None:
        """The form before settings were taken; again for the way forth."""
        self.form.swap()
        self.notify("previous draft", timeout=3, markup=False)

    def action_clear_form(self) -> None:
        """An empty form with the same model."""
        seed = self._live.seed if self.live else ""  # which live goes on with
        self.form.replace(replace(self._default, model=self.draft.model, seed=seed))
        self.notify(f"new draft · {self.first_key('previous-draft')} brings the old one back", timeout=3, markup=False)
        self.go("form")

    def settle(self, default: Draft, signs: bool) -> None:
        """Settings that act at once: on the form as it stands, and on every new draft."""
        other = default.precision != self._default.precision
        self._default, self.signs = default, signs
        self.form.settle(default, signs)
        if other:
            self.warm()

    def action_lock_seed(self) -> None:
        """Keeps the shown picture's seed, or lets the next be random."""
        if self.draft.seed.strip():
            self.form.settings.set_seed("")
        elif self.shown is not None:
            self.form.settings.set_seed(str(self.shown.request.seed))
        else:
            self.notify("no picture yet whose seed could be kept", timeout=3, markup=False)

    @property
    def fetching(self) -> int:
        """Downloads that go on the next time."""
        return len(self._jobs.pulls)

    @property
    def waiting(self) -> int:
        """Jobs that a quit leaves in the queue."""
        return sum(isinstance(p.job.request, Generate | Finish) for p in self._jobs.open)

    # ── places ──────────────────────────────────────────────────────────────────────────────────────────────────

    def first_of(self, page: Page) -> Widget:
        """The prompt, the picture, the history."""
        inside: dict[Page, Widget] = {"form": self.form.prompt, "picture": self.picture, "history": self.history}
        return inside[page]

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Who comes to the history sees what others have made meanwhile, too."""
        # PagedScreen's own handler is called by Textual as well
        if event.widget is self.history:
            self.history.look_again()

    @property
    def beyond(self) -> Sequence[tuple[str, str]]:
        """As in PagedScreen."""
        return (
            ("prompt", "go_prompt"), ("model", "go_model"), ("steps", "go_settings"), ("queue", "go_queue"),
            ("history", "go_history"), ("picture", "go_picture"),
        )  # fmt: skip

    def action_go_picture(self) -> None:
        """To the picture."""
        self.go("picture", self.picture)

    def action_go_prompt(self) -> None:
        """To the prompt."""
        self.go("form", self.form.prompt)

    def action_go_model(self) -> None:
        """To the model."""
        self.go("form", self.form.model.choice)

    def action_go_settings(self) -> None:
        """To the first setting."""
        self.go("form", self.form.settings.field("steps").input)

    def action_weights(self) -> None:
        """To the sliders, which unfold."""
        self.form.weights.display = True  # what is not shown can't have the focus
        self.go("form", self.form.weights)

    def action_go_queue(self) -> None:
        """To the queue."""
        self.go("history", self.queue)

    def action_go_history(self) -> None:
        """To the history."""
        self.go("history", self.history)

    def show_form(self) -> None:
        """As in RecallingScreen."""
        self.go("form")

    def tell(self, error: SafelightError) -> None:
        hint = error.hint
        if isinstance(error, InvalidRequest) and error.field in ("steps", "scheduler"):
            hint = hint.replace("--override", self.key("override"))
        text = f"{clean(error.message)}\n{clean(hint)}".strip()
        self.notify(text, severity="error", timeout=8, markup=False)
