"""The queue as the workbench knows it: what the events so far add up to, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engines.events import Pulling
from engines.requests import Finish, Generate, Job, JobId, Picture, Pull

_Kind: TypeAlias = tuple[str, int, int]


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
    "Seconds a step."
    doing: str = ""
    "What goes on besides steps, in words."
    fraction: float | None = None
    "How far that is, where it is known."
    at: float = 0.0
    "When the last step was done, in seconds since 1970."
    title: str = ""
    "What people call that which is fetched, or the sweep."
    pulled: Pulling | None = None
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

    @property
    def share(self) -> float | None:
        """0 … 1, or None where it can't be known."""
        if self.pulled is not None:
            return self.pulled.done / self.pulled.of if self.pulled.of else None
        return self.step / self.of if self.of else self.fraction


class Estimates:
    """Seconds that pictures of a model and size took here; nothing is guessed about others."""

    def __init__(self) -> None:
        self._step: dict[_Kind, float] = {}
        self._rest: dict[_Kind, float] = {}

    def learn(self, picture: Picture) -> None:
        """Takes a finished picture's times; later ones count as much as all before them."""
        r, s = picture.request, picture.seconds
        if r.finish or not r.drawn:
            return  # other work than a picture of its model and size
        kind = (r.model, r.width, r.height)
        if s.denoise > 0 and r.num_inference_steps:
            step, rest = s.denoise / r.num_inference_steps, s.encode + s.decode + s.score + s.save
            self._step[kind] = (self._step.get(kind, step) + step) / 2
            self._rest[kind] = (self._rest.get(kind, rest) + rest) / 2

    def whole(self, request: Generate) -> float | None:
        """Seconds that a job takes, or None if nothing like it was made."""
        kind = (request.model, request.width, request.height)
        if kind not in self._step:
            return None
        return request.batch_size * (self._step[kind] * request.num_inference_steps + self._rest[kind])

    def left(self, progress: Progress, now: float) -> float | None:
        """Seconds until a running job is done, from its own pace; None while that isn't known."""
        request = progress.job.request
        if (p := progress.pulled) is not None:
            return (p.of - p.done) / p.rate if p.rate > 0 else None
        if not isinstance(request, Generate):
            return None
        if not progress.step or not progress.seconds:
            return self.whole(request)
        rest = self._rest.get((request.model, request.width, request.height), 0.0) * request.batch_size
        steps = (progress.of - progress.step) * progress.seconds
        return max(0.0, steps + rest - max(0.0, now - progress.at))


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
        return self._jobs.setdefault(job.id, Progress(job))

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

    def ends(self, now: float) -> dict[JobId, float]:
        """Seconds from now until each job will be done, as far as all before it are known; downloads by themselves."""
        total = 0.0
        found: dict[JobId, float] = {}
        for progress in sorted(self.open, key=lambda p: p.state != "running"):
            request = progress.job.request
            if not isinstance(request, Generate):
                continue
            own = self.estimates.left(progress, now) if progress.state == "running" else self.estimates.whole(request)
            if own is None:
                break
            total += own
            found[progress.job.id] = total
        for pull in self.pulls:
            if (own := self.estimates.left(pull, now)) is not None:
                found[pull.job.id] = own
        return found
