"""How long pictures take here, learned from those that were made: of what is not known nothing is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeAlias

from engines import schedulers
from engines.errors import SafelightError
from engines.requests import Finish, Generate, Picture
from engines.steps import Hires, Restore, Upscale
from tui.wording import duration

LATELY = 3
"Of how many times the median is taken: one that is off is passed over, and a machine that got slower is followed."
A_LOAD = 0.25
"""Seconds of loading above which a model was hardly held already; how long it took then says little about this session,
where torch is imported."""

Size: TypeAlias = tuple[int, int]
"Pixels of a picture, and pictures that are drawn together."


ONE: Size = (1, 1)
"Of what doesn't depend on the size."


@dataclass(frozen=True, slots=True)
class Guess:
    """A time to come."""

    seconds: float
    "From now."
    about: bool = False
    "Reckoned from what is only alike, such as another size."

    def __add__(self, other: Guess) -> Guess:
        return Guess(self.seconds + other.seconds, self.about or other.about)

    def times(self, factor: float, about: bool = False) -> Guess:
        """So many of it."""
        return Guess(self.seconds * factor, self.about or about)

    def less(self, seconds: float) -> Guess:
        """What is left of it when so much has gone by."""
        return Guess(max(0.0, self.seconds - max(0.0, seconds)), self.about)

    @property
    def told(self) -> str:
        """'40 s', or 'about 40 s'."""
        return f"{'about ' if self.about else ''}{duration(self.seconds)}"


NONE = Guess(0.0)


class Lately:
    """What things of one kind took in the last few times, by their size."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, dict[Size, deque[float]]] = {}
        self._earlier: set[tuple[Hashable, Size]] = set()

    def add(self, key: Hashable, size: Size, seconds: float, earlier: bool = False) -> None:
        """One more time; the first of this session takes the place of all `earlier` ones."""
        times = self._seen.setdefault(key, {}).setdefault(size, deque(maxlen=LATELY))
        if earlier:
            self._earlier.add((key, size))
        elif (key, size) in self._earlier:
            self._earlier.remove((key, size))
            times.clear()
        times.append(seconds)

    def get(self, key: Hashable, size: Size) -> Guess | None:
        """The median; where this size was never seen, the nearest one's in proportion to the pixels, and about."""
        sizes = self._seen.get(key)
        if not sizes:
            return None
        if size in sizes:
            return Guess(median(sizes[size]))
        ratios = {seen: (size[0] * size[1]) / (seen[0] * seen[1]) for seen in sizes}
        nearest = min(ratios, key=lambda seen: max(ratios[seen], 1 / ratios[seen]))
        return Guess(median(sizes[nearest]) * ratios[nearest], about=True)


class Estimates:
    """What the parts of a picture took here: a step, what comes before and after all steps, what is done to it then.

    Each is known for a model and a size. Another size of the same model is reckoned in proportion, and so is what takes
    the denoiser twice; another model is not known at all.
    """

    def __init__(self) -> None:
        self.ready: frozenset[str] = frozenset()
        "Ids of the models that are in memory."
        self._load = Lately()
        self._before = Lately()
        self._step = Lately()
        self._after = Lately()
        self._score = Lately()
        self._finish = Lately()
        self._whole = Lately()
        self._grown: dict[str, float] = {}
        self._files: dict[str, Picture] = {}

    # ── learning ────────────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, picture: Picture, batch: int = 1, cold: bool | None = None, earlier: bool = False) -> None:
        """Takes a finished picture's times.

        Args:
            picture: with its share of the times of all that were drawn together.
            batch: how many they were.
            cold: whether its model had to be loaded first; None if that isn't known.
            earlier: it was made in another session, perhaps without previews or beside other work.
        """
        r, s = picture.request, picture.seconds
        self._files[picture.path] = picture
        if r.score and s.score > 0:
            self._score.add(r.score, ONE, s.score, earlier)
        if r.finish:
            self._learn_finish(picture, earlier)
            return
        steps = steps_of(r)
        if not r.drawn or s.denoise <= 0 or not steps:
            return  # other work than a picture of its model and size
        size = (r.width * r.height, batch)
        after = s.decode + s.save
        before = max(0.0, s.total - s.load - s.denoise - s.score - after)
        if cold:
            self._load.add(r.model, ONE, s.load * batch)
        elif cold is False or s.load < A_LOAD:
            before += s.load
        self._step.add(_pace(r), size, s.denoise * batch / steps, earlier)
        self._before.add(r.model, size, before * batch, earlier)
        self._after.add(r.model, size, after * batch, earlier)
        self._whole.add(r.model, (r.width * r.height, 1), s.total - s.load, earlier)

    def _learn_finish(self, picture: Picture, earlier: bool) -> None:
        r, s, step = picture.request, picture.seconds, picture.request.finish[-1]
        out = picture.width * picture.height
        if isinstance(step, Hires):
            again = _again(r, step, out)
            size = (out, 1)
            after = s.decode + s.save
            if s.denoise > 0:
                self._step.add(_pace(again), size, s.denoise / steps_of(again), earlier)
            self._after.add(r.model, size, after, earlier)
            self._before.add(_enlarged(r, step), size, max(0.0, s.total - s.denoise - s.score - after), earlier)
            return
        taken = out if isinstance(step, Restore) else self._taken(picture, step)
        if taken:
            self._finish.add(_done(step), (taken, 1), max(0.0, s.total - s.score), earlier)

    def _taken(self, picture: Picture, step: Upscale) -> int:
        """Pixels that a step was given; 0 where that can't be told."""
        out, r = picture.width * picture.height, picture.request
        if step.scale:
            return max(1, round(out / step.scale**2))
        if len(r.finish) == 1:
            self._grown[step.upscaler] = out / (r.width * r.height)
        grown = self._grown.get(step.upscaler)
        return max(1, round(out / grown)) if grown else 0

    # ── guessing ────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, model: str) -> Guess | None:
        """Until a model that is not in memory is there."""
        return self._load.get(model, ONE)

    def drawing(self, request: Generate) -> tuple[Guess, Guess, Guess] | None:
        """What comes before the steps, with no loading; one step; what comes after all of them."""
        size = (request.width * request.height, request.batch_size)
        step, after = self.step(request), self._after.get(request.model, size)
        before = self._before.get(request.model, size)
        if step is None or after is None or before is None:
            return None
        return before, step, after + self._scored(request.score, request.batch_size)

    def step(self, request: Generate) -> Guess | None:
        """One step of the denoiser, for all that is drawn together."""
        size = (request.width * request.height, request.batch_size)
        pace = _pace(request)
        if found := self._step.get(pace, size):
            return found
        # the denoiser's work is what it is given: both halves of guidance, and twice a step by some samplers
        model, guided, evaluations = pace
        for halves, times in ((not guided, evaluations), (guided, 3 - evaluations), (not guided, 3 - evaluations)):
            if found := self._step.get((model, halves, times), size):
                return found.times((1 + guided) * evaluations / ((1 + halves) * times), about=True)
        return None

    def units(self, request: Generate | Finish) -> list[Guess | None]:
        """What each step of finishing takes, of each picture, in the order in which they are done."""
        pixels = self._sizes(request)
        each: list[Guess | None] = []
        for number, step in enumerate(request.finish):
            if not isinstance(step, Hires):
                known = self._finish.get(_done(step), (pixels[number], 1)) if pixels[number] else None
            else:
                parts = self.hires_at(request, number)
                known = parts and parts[0] + parts[1].times(parts[3]) + parts[2]
            each.append(known and known + self._scored(request.score, 1))
        return each * (request.batch_size if isinstance(request, Generate) and request.drawn else 1)

    def _sizes(self, request: Generate | Finish) -> list[int]:
        """Pixels that each step of finishing is given; 0 from where on they are not known."""
        _, pixels = self._begun(request)
        found = []
        for step in request.finish:
            found.append(pixels)
            if isinstance(step, Upscale | Hires):
                own = self._grown.get(step.upscaler, 0.0) if isinstance(step, Upscale) else 1.0
                pixels = round(pixels * (step.scale**2 or own))
        return found

    def _begun(self, request: Generate | Finish) -> tuple[Generate | None, int]:
        """What the first step of finishing is given: the request that it came from, and its pixels. 0 of a stranger's
        file."""
        if isinstance(request, Generate) and request.drawn:
            return request, request.width * request.height
        known = self._files.get(request.picture if isinstance(request, Finish) else request.init or "")
        if known is None:
            return None, 0
        own = request if isinstance(request, Generate) and request.prompt.strip() else known.request
        return replace(own, finish=()), known.width * known.height

    def hires_at(self, request: Generate | Finish, number: int) -> tuple[Guess, Guess, Guess, int] | None:
        """Of the hires pass that is a request's step `number`: before its own steps, one of them, after them, and how
        many they are."""
        step, pixels = request.finish[number], self._sizes(request)[number]
        begun, _ = self._begun(request)
        return self._hires(begun, step, pixels) if begun and pixels and isinstance(step, Hires) else None

    def _hires(self, request: Generate, step: Hires, pixels: int) -> tuple[Guess, Guess, Guess, int] | None:
        size = (round(pixels * step.scale**2), 1)
        again = _again(request, step, size[0])
        pace, after = self.step(again), self._after.get(request.model, size)
        before = self._before.get(_enlarged(request, step), size)
        if before is None and step.upscaler in ("", "latent"):
            # the first guess: it is encoded as it is decoded, and read as any prompt
            first = self._before.get(request.model, (request.width * request.height, 1))
            before = None if first is None or after is None else (first + after).times(1, about=True)
        if pace is None or after is None or before is None:
            return None
        return before, pace, after, steps_of(again)

    def _scored(self, scorer: str | None, count: int) -> Guess:
        if scorer is None:
            return NONE
        found = self._score.get(scorer, ONE)
        return Guess(0.0, about=True) if found is None else found.times(count)

    def whole(self, request: Generate | Finish, ready: Collection[str] | None = None) -> Guess | None:
        """All of a job; None if nothing like it was made.

        Args:
            request: the job's.
            ready: models that will be in memory then; None for those that are now.
        """
        total = NONE
        if isinstance(request, Generate) and request.drawn:
            loaded = NONE if request.model in (self.ready if ready is None else ready) else self.load(request.model)
            parts = self.drawing(request)
            if loaded is None or parts is None:
                return None
            before, step, after = parts
            total = loaded + before + step.times(steps_of(request)) + after
        for unit in self.units(request):
            if unit is None:
                return None
            total += unit
        return total

    def usual(self, model: str, width: int, height: int) -> float | None:
        """Seconds that a picture of a model and size takes lately, with no loading and no finishing."""
        found = self._whole.get(model, (width * height, 1))
        return None if found is None or found.about else found.seconds


def steps_of(request: Generate) -> int:
    """Steps that are run: over a picture, the strength's share of them."""
    steps = request.num_inference_steps
    return steps if request.init is None else min(max(int(steps * request.strength), 1), steps)


def _pace(request: Generate) -> tuple[str, bool, int]:
    """What a step's time depends on besides the size."""
    try:
        evaluations = schedulers.find(request.scheduler).evaluations
    except SafelightError:
        evaluations = 1
    return request.model, request.guidance_scale > 1, evaluations


def _again(request: Generate, step: Hires, pixels: int) -> Generate:
    """A hires pass as a request of as many pixels."""
    steps = step.num_inference_steps or request.num_inference_steps
    return replace(
        request,
        width=pixels,
        height=1,
        num_inference_steps=steps,
        init="enlarged",
        strength=step.strength,
        batch_size=1,
    )


def _enlarged(request: Generate, step: Hires) -> Hashable:
    return "hires", request.model, step.upscaler, step.scale


def _done(step: Upscale | Restore) -> Hashable:
    """What a step's time depends on besides the size of what it is given."""
    if isinstance(step, Restore):
        return "restore", step.restorer, step.detector
    return replace(step, prompt=None)
