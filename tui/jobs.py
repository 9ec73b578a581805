"""The queue as the workbench knows it: what the events so far add up to, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

from engines import events as ev
from engines.requests import Finish, Generate, Job, JobId, Picture, Pull, Request
from engines.steps import Hires
from tui import wording
from tui.estimates import NONE, Estimates, Guess, steps_of

TELLING = 0.2
"Of what tells how far it is: the share from which on its own pace is worth an estimate."
FEW = 3
"Steps after which a job's own pace is better than what was seen before; the first may take ten times as long."


@dataclass(slots=True)
class Progress:
    """How one job stands."""

    job: Job
    "What was asked."
    state: Literal["waiting", "running", "failed"] = "waiting"
    "A job that is done or cancelled is gone."
    step: int = 0
    "Steps done."
    of: int = 0
    "Steps in all; 0 until the first is done."
    seconds: float = 0.0
    "Seconds a step, the median so far."
    doing: str = ""
    "What goes on besides steps, in words."
    fraction: float | None = None
    "How far that is, where it is known."
    at: float = 0.0
    "When the last step was done, in seconds since 1970."
    since: float = 0.0
    "When this stretch of it began: the job, what follows the loading, what is done to a picture."
    stage: Literal["before", "steps", "after"] = "before"
    "Where that is."
    first: int = 0
    "The step by which these steps were first heard of."
    first_at: float = 0.0
    "When that was done."
    passes: int = 0
    "How many times all steps were taken before these: for each of a batch's pictures, where they are drawn one by one."
    what: str = ""
    "What is done besides steps, as the engine told it."
    what_at: float = 0.0
    "When that was begun."
    cold: bool = False
    "Its model was not in memory when it began."
    loading: bool = False
    "It is not there yet."
    kept: int = 0
    "Pictures of it that are on disk already."
    alike: Hashable = None
    "What its time depends on: of a thousand that are alike one is reckoned."
    title: str = ""
    "What people call that which is fetched, or the sweep."
    pulled: ev.Pulling | None = None
    "How far a download is."
    message: str = ""
    "What went wrong."
    hint: str = ""
    "What to do about it."

    @property
    def prompt(self) -> str:
        """What is drawn, or what else is done."""
        match self.job.request:
            case _ if self.is_sweep:
                return self.title
            case Generate(prompt=prompt):
                return prompt
            case Finish(picture=path, finish=steps):
                return f"{steps[0].told} · {path.rpartition('/')[2]}"
            case Pull(id=id):
                return f"fetch {self.title or id}"
            case request:
                return f"get {getattr(request, 'model', 'it')} ready"

    @property
    def is_sweep(self) -> bool:
        """All of a sweep, whose jobs are no rows of their own."""
        return self.job.id < 0

    @property
    def is_pull(self) -> bool:
        """A download: it goes on beside the pictures."""
        return isinstance(self.job.request, Pull)

    # ── what the engine tells of it ─────────────────────────────────────────────────────────────────────────────

    def started(self, now: float, cold: bool) -> None:
        """It has begun; a `cold` one's model has to be loaded first."""
        self.state, self.stage, self.cold, self.loading = "running", "before", cold, cold
        self.at = self.since = now

    def loads(self, what: str, fraction: float | None) -> None:
        """Something is made ready."""
        self.doing, self.fraction = f"loading {what}{_percent(fraction)}", fraction

    def loaded(self, now: float) -> None:
        """Everything is in memory."""
        if self.loading:
            self.loading, self.since = False, now

    def stepped(self, step: int, of: int, seconds: float, now: float) -> None:
        """A step is done."""
        if self.stage != "steps" or step <= self.step:
            again = self.stage == "steps" and self.step == self.of  # pictures of a batch that are drawn one by one
            self.stage, self.passes = "steps", self.passes + 1 if again else 0
            self.first, self.first_at = step, now
        self.step, self.of, self.seconds, self.at, self.loading = step, of, seconds, now, False
        self.doing = self.doing if self.doing == "cancelling" else ""

    def finishes(self, what: str, fraction: float | None, now: float) -> None:
        """What comes before or after the steps goes on."""
        if self.stage == "steps":
            self.stage = "after"
        if self.what != what:
            self.what, self.what_at = what, now
        self.step, self.doing, self.fraction, self.loading = self.of, f"{what}{_percent(fraction)}", fraction, False

    def keeps(self, now: float) -> None:
        """A picture of it is on disk, and more of it follows."""
        self.kept += 1
        self.stage, self.since, self.what, self.fraction = "before", now, "", None

    @property
    def drawn(self) -> int:
        """Pictures that are drawn before anything is done to them."""
        request = self.job.request
        return request.batch_size if isinstance(request, Generate) and request.drawn else 0

    @property
    def step_seconds(self) -> float:
        """Seconds a step with all that is done between two; 0 while that isn't known."""
        done = self.step - self.first
        mean = (self.at - self.first_at) / done if done >= 2 else 0.0
        return mean if mean > self.seconds / 2 else self.seconds  # less than that is a clock that was set back

    @property
    def pace(self) -> str:
        """How fast steps go, in words: '3.2 steps/s', '1.8 s/step'; empty while none are taken."""
        return wording.pace(self.seconds) if self.state == "running" and self.stage == "steps" else ""

    @property
    def share(self) -> float | None:
        """0 … 1, or None where it can't be known."""
        if self.pulled is not None:
            return self.pulled.done / self.pulled.of if self.pulled.of else None
        return self.step / self.of if self.of else self.fraction


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f" {fraction:.0%}"


def _alike(request: Request) -> Hashable:
    """What a job's time depends on, besides what is in memory then."""
    if not isinstance(request, Generate):
        return request
    r = request
    drawn = (r.model, r.width, r.height, r.num_inference_steps, r.guidance_scale > 1, r.scheduler, r.batch_size)
    return hash((*drawn, r.init, r.strength, r.score, r.finish, bool(r.prompt.strip())))


class Jobs:
    """All jobs that wait, run, or failed and were not dismissed, in the order of the queue."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, Progress] = {}
        self.estimates = Estimates()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Progress]:
        return iter(self._jobs.values())

    def get(self, job_id: JobId) -> Progress | None:
        """One of them."""
        return self._jobs.get(job_id)

    def add(self, job: Job) -> Progress:
        """A job that was queued; one that is known already stays as it is."""
        return self._jobs.setdefault(job.id, Progress(job, alike=_alike(job.request)))

    def drop(self, job_id: JobId) -> Progress | None:
        """Forgets one that is done, cancelled or dismissed."""
        return self._jobs.pop(job_id, None)

    @property
    def running(self) -> Progress | None:
        """The picture at work; downloads run beside it."""
        return next((p for p in self._jobs.values() if p.state == "running" and not p.is_pull), None)

    @property
    def pulls(self) -> list[Progress]:
        """Downloads that run or wait."""
        return [p for p in self._jobs.values() if p.is_pull and p.state != "failed"]

    @property
    def pictures(self) -> list[Progress]:
        """All else that runs or waits."""
        return [p for p in self._jobs.values() if not p.is_pull and p.state != "failed"]

    @property
    def open(self) -> list[Progress]:
        """What runs or waits."""
        return [p for p in self._jobs.values() if p.state != "failed"]

    def follow(self, event: ev.Event, now: float) -> None:
        """Takes what an event tells of a job's progress; whoever calls adds and drops the jobs."""
        progress = self._jobs.get(getattr(event, "job_id", None) or 0)
        match event:
            case ev.Vitals(resident=resident):
                self.estimates.ready = frozenset(resident)
                if running := self.running:
                    running.loaded(now)
            case _ if progress is None:
                pass
            case ev.Started():
                request = progress.job.request
                cold = isinstance(request, Generate) and request.drawn and request.model not in self.estimates.ready
                progress.started(now, cold)
            case ev.Loading(what=what, fraction=fraction):
                progress.loads(what, fraction)
            case ev.Stepped(step=step, of=of, seconds=seconds):
                progress.stepped(step, of, seconds, now)
            case ev.Finishing(what=what, fraction=fraction):
                progress.finishes(what, fraction, now)
            case ev.Kept():
                progress.keeps(now)
            case ev.Pulling():
                progress.pulled = event
                progress.doing = progress.doing if progress.doing == "cancelling" else ""
            case _:
                pass

    def learn(self, picture: Picture, progress: Progress | None) -> None:
        """Takes the times of a picture that was just made, by a job if that is known."""
        drawn, cold = (progress.drawn, progress.cold) if progress else (1, None)
        self.estimates.learn(picture, max(1, drawn), cold)

    # ── the time that is left ───────────────────────────────────────────────────────────────────────────────────

    def left(self, progress: Progress, now: float) -> Guess | None:
        """Until a running job is done; None while that isn't known."""
        request = progress.job.request
        if (p := progress.pulled) is not None:
            return Guess((p.of - p.done) / p.rate) if p.rate > 0 else None
        if not isinstance(request, Generate | Finish):
            return None
        units = self.estimates.units(request)
        at = progress.kept - progress.drawn
        if at < 0:
            total = self._drawing_left(request, progress, now) if isinstance(request, Generate) else None
            if progress.kept:
                total = NONE  # one by one they are entered into the history
        elif units:
            at = min(at, len(units) - 1)
            total = self._unit_left(request, progress, units[at], now)
        else:
            total = NONE
        for unit in units[max(at + 1, 0) :]:
            total = None if total is None or unit is None else total + unit
        return total

    def _drawing_left(self, request: Generate, progress: Progress, now: float) -> Guess | None:
        parts = self.estimates.drawing(request)
        if progress.stage == "before":
            load = self.estimates.load(request.model) if progress.loading else NONE
            if load is None or parts is None:
                return None
            before, step, after = parts
            rest = before + step.times(steps_of(request)) + after
            return load.less(now - progress.since) + (rest if progress.loading else rest.less(now - progress.since))
        passes = max(0, request.batch_size - 1 - progress.passes) if progress.passes else 0
        return self._steps_left(progress, parts and parts[1], parts and parts[2], now, passes)

    def _steps_left(
        self, progress: Progress, step: Guess | None, after: Guess | None, now: float, passes: int = 0
    ) -> Guess | None:
        gone = now - progress.at
        if progress.stage == "after":
            return None if after is None else after.less(gone)
        own = Guess(progress.step_seconds, about=after is None)  # of what follows nothing is known yet
        if step is not None and not step.about and progress.step - progress.first < FEW:
            own = step
        steps = progress.of - progress.step + passes * progress.of
        return (own.times(steps) + (after or NONE)).less(gone)

    def _unit_left(
        self, request: Generate | Finish, progress: Progress, unit: Guess | None, now: float
    ) -> Guess | None:
        steps = request.finish
        step = steps[(progress.kept - progress.drawn) % len(steps)]
        if isinstance(step, Hires) and progress.stage != "before":
            number = (progress.kept - progress.drawn) % len(steps)
            parts = self.estimates.hires_at(request, number)
            return self._steps_left(progress, parts and parts[1], parts and parts[2], now)
        gone = now - progress.since
        if unit is not None and unit.seconds > gone:
            return unit.less(gone)
        if progress.fraction is not None and progress.fraction >= TELLING and not isinstance(step, Hires):
            return Guess((now - progress.what_at) * (1 / progress.fraction - 1), about=True)
        return None if unit is None else NONE

    def ends(self, now: float) -> dict[JobId, Guess]:
        """Until each job will be done, as far as all before it are known; downloads by themselves."""
        total = NONE
        found: dict[JobId, Guess] = {}
        ready = set(self.estimates.ready)
        known: dict[tuple[Hashable, bool], Guess | None] = {}
        for progress in sorted(self.pictures, key=lambda p: p.state != "running"):
            request = progress.job.request
            if not isinstance(request, Generate | Finish):
                break
            if progress.state == "running":
                own = self.left(progress, now)
            elif (kind := (progress.alike, isinstance(request, Generate) and request.model in ready)) in known:
                own = known[kind]
            else:
                own = known[kind] = self.estimates.whole(request, ready)
            if own is None:
                break
            if isinstance(request, Generate) and request.drawn:
                ready.add(request.model)
            total += own
            found[progress.job.id] = total
        for pull in self.pulls:
            if (own := self.left(pull, now)) is not None:
                found[pull.job.id] = own
        return found

    def all_left(self, now: float) -> Guess | None:
        """Until all pictures are made; None if there are none, or for one of them it isn't known."""
        ends = self.ends(now)
        pictures = [ends.get(p.job.id) for p in self.pictures]
        known = [guess for guess in pictures if guess is not None]
        return max(known, key=lambda guess: guess.seconds) if known and len(known) == len(pictures) else None
