"""One request, developed: `Darkroom.develop` is a generator of events, in numbered steps.

It mirrors the workbench: it only orchestrates. Whoever runs it drains it, and gets what was made as its return value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image

from engines import files, metadata, pictures, planning, tokens
from engines.diffusion import decoding, filing, finishing, judging, keeping, loading, mosaic
from engines.diffusion import device as devices
from engines.diffusion.drawing import DrawingRoom, Start
from engines.diffusion.previews import decode_tiny, to_pixels
from engines.errors import InvalidRequest, OutOfMemory, SafelightError, Stopped, StorageError
from engines.events import Event, Finishing, Noted, Pixels, Sketched
from engines.prompt import Prompt, parse
from engines.requests import Convert, Finish, Generate, Job, Merge, Picture, Pull, Score, Seconds, Warm, taken
from engines.steps import Hires, Restore, Step, Upscale, check
from engines.store import Made

SKETCH_SIDE = 1024
"Pixels of a sketch's longer side, at most: more than a terminal shows."

Development: TypeAlias = Generator[Event | Made, None, tuple[Made, ...]]


@dataclass(slots=True)
class Clock:
    """Adds up where the time of one job goes."""

    began: float
    "time.perf_counter() at the start of the job."
    spent: dict[str, float] = field(default_factory=dict)
    "Field of Seconds → seconds."

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] = self.spent.get(what, 0.0) + time.perf_counter() - start

    def seconds(self, share: int) -> Seconds:
        """The seconds of one of `share` pictures that were made together."""
        total = time.perf_counter() - self.began
        return Seconds(**{k: v / share for k, v in self.spent.items()}, total=total / share)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures of one run of the denoiser."""

    images: list[Image.Image]
    "In the order of the seeds."
    made_with: dict[str, str]
    "As in Picture."
    peak: int
    "As in Picture."


@dataclass(frozen=True, slots=True)
class Base:
    """A picture file that is to be finished, and what is known of it."""

    path: str
    "Absolute."
    image: Image.Image | None
    "Its pixels; None if they have to be read."
    request: Generate
    "What it came from, for this picture alone."
    made_with: dict[str, str]
    "As in Picture."


class Darkroom(DrawingRoom):
    """A device, the components that it holds, and what can be made with them. For one thread.

    Raises:
        InvalidRequest, LoadError: the device that the options name can't be had.
    """

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Development:
        """Does what a job asks, yielding events on the way, and returns the pictures that are on disk.

        Where a picture is finished after it was drawn, each result is yielded as soon as it is on disk.

        Args:
            job: what to do.
            stop: looked at before and after every step, and between the parts of a model that is loaded.
            began: time.perf_counter() when the job was started, so that torch's import counts.

        Raises:
            Stopped: `stop` said so; what was not yielded was not saved.
            SafelightError: what the user is told.
        """
        match job.request:
            case Generate():
                return (yield from self._generate(job, job.request, stop, Clock(began)))
            case Finish():
                return (yield from self._finish(job, job.request, stop))
            case Warm():
                size = self.catalogue.model(job.request.model).recipe.size
                warm = Generate("", job.request.model, 0, *size, 1, 7.0, precision=job.request.precision)
                yield from self._load(job, replace(warm, mix=job.request.mix), stop)
            case Score():
                yield from judging.score(self, job.id, job.request, stop)
            case Merge():
                yield from filing.merge(job.id, job.request, self.loader.hashes.digest, stop)
            case Convert():
                yield from filing.convert(job.id, job.request, stop)
            case Pull():
                raise InvalidRequest("downloads are not the darkroom's work")
        yield self.vitals()
        return ()

    # ── a picture ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _generate(self, job: Job, request: Generate, stop: Callable[[], bool], clock: Clock) -> Development:
        # 0 refuse what would be lost at the end
        folder = self._folder(request.folder)
        if not request.sketch:
            files.check_folder(folder)
            finishing.check(self, request.finish)
        prompt = parse(request.prompt)

        bases = self._bases(job, request)
        if not bases and not request.drawn:
            bases = [self._taken(request)]
        if not bases:
            # 1 … 5 draw; a sketch is shown, and that is all
            drawn = yield from self._drawn(job, request, stop, clock)
            if drawn is None:
                return ()

            # 6 score
            scores = [dict[str, float]() for _ in drawn.images]
            with clock.measure("score"):
                scores = yield from self._scored(job, request.score, drawn.images, prompt)

            # 7 save: from here on the picture is finished whatever is asked
            if stop():
                raise Stopped
            yield Finishing(job.id, "saving")
            made = []
            for i, image in enumerate(drawn.images):
                alone = replace(request.single(i), finish=())
                with clock.measure("save"):
                    stem = files.name(alone, prompt.plain, self.options.file_name)
                    made.append(self._saved(folder, stem, image, alone, drawn.made_with, scores[i]))
            seconds = clock.seconds(len(made))
            made = [replace(m, seconds=seconds, peak=drawn.peak) for m in made]
            yield self.vitals()
            if not request.finish:
                return tuple(made)
            yield from made
            bases = [Base(m.path, image, m.request, m.made_with) for m, image in zip(made, drawn.images, strict=True)]

        # 8 finish: each result is a picture of its own
        yield from self._all_finished(job, bases, request.finish, folder, request.score, stop)
        yield self.vitals()
        return ()

    def _drawn(
        self,
        job: Job,
        request: Generate,
        stop: Callable[[], bool],
        clock: Clock,
        start: Start | None = None,
        tile: int = 0,
    ) -> Generator[Event, None, Drawn | None]:
        """The pictures of a request; None of a sketch, which is shown.

        Args:
            start: what to begin with, in place of the request's `init`.
            tile: pixels of the tiles that the denoiser sees; 0 for the whole.
        """
        prompt = parse(request.prompt)
        negative = None if request.negative_prompt is None else parse(request.negative_prompt)
        if start is None and request.init is not None:
            start = finishing.fitted(self._pixels(request.init), (request.width, request.height))

        # 1 find the model, 2 hold its components in memory
        seen = replace(request, width=min(tile, request.width), height=min(tile, request.height)) if tile else request
        components = yield from self._load(job, seen, stop)
        clock.spent["load"] = time.perf_counter() - clock.began
        peak, others = devices.Peak(self.device), self.residency.used_besides(components.keys)
        yield self.vitals()

        # 3 encode the prompt; `box` alone holds the components, so that what is let go in need is gone
        if stop():
            raise Stopped
        if start is not None:
            yield Finishing(job.id, "encoding the picture to begin with")
        box = [components]
        del components
        with clock.measure("encode"):
            conditioning = yield from self._conditioning(job, request, box, prompt, negative, stop)
            begin, note = (None, "") if start is None else self._begin(_over(box[0], request), start)
        if note:
            yield Noted("warning", note, job.id)

        for name in tokens.unknown(prompt, box[0].embeddings):
            yield Noted("warning", f"no embedding {name} is here: it is read as words", job.id)

        # 4 sample
        began = time.perf_counter()
        latents = yield from self._sample(job, request, box, conditioning, stop, begin, tile)
        clock.spent["denoise"] = clock.spent.get("denoise", 0.0) + time.perf_counter() - began
        decoding.check(box[0], latents)
        # what follows needs neither denoiser nor encoders, and must not keep them alive
        components = replace(_over(box.pop(), request), unet=None, text=None)  # type: ignore[arg-type]

        # 5 decode
        if request.sketch:
            if stop():
                raise Stopped
            yield Sketched(job.id, self._sketch(components, latents))
            return None
        yield Finishing(job.id, "decoding")
        with clock.measure("decode"), torch.inference_mode():
            pixels, note = decoding.finish(components, latents, self.device, lambda: self.forget({components.vae_key}))
        most = max(0, peak.read() - others)  # without the scorer
        if note:
            yield Noted("warning", note, job.id)
        images = [Image.fromarray(p.numpy()) for p in pixels]
        if any(image.getextrema() == ((0, 0), (0, 0), (0, 0)) for image in images):
            yield Noted("warning", "the picture is black all over; another VAE or precision may mend it", job.id)
        return Drawn(images, keeping.made_with(self, components, prompt, negative), most)

    def _sketch(self, components: loading.Components, latents: torch.Tensor) -> Pixels:
        """The first picture, by the small decoder if there is one for these latents."""
        with torch.inference_mode(), self.memory():
            if components.preview is not None:
                return to_pixels(decode_tiny(components.preview, latents[:1]), SKETCH_SIDE)
            pixels, _ = decoding.finish(components, latents[:1], self.device, lambda: self.forget({components.vae_key}))
        image = Image.fromarray(pixels[0].numpy())
        image.thumbnail((SKETCH_SIDE, SKETCH_SIDE))
        return Pixels(image.width, image.height, image.tobytes())

    def _scored(
        self, job: Job, scorer: str | None, images: list[Image.Image], prompt: Prompt
    ) -> Generator[Event, None, list[dict[str, float]]]:
        """Scores by scorer, for each picture; none where none are asked for, or no prompt to hold it against."""
        if scorer is None or not (prompt.plain.strip() or not self.catalogue.scorer(scorer).reads):
            return [{} for _ in images]
        yield Finishing(job.id, "scoring")
        values, said = judging.judged(self, scorer, images, prompt.plain)
        if said:
            yield Noted("info" if values else "warning", said, job.id)
        return [{scorer: round(v, 4)} for v in values] or [{} for _ in images]

    def _saved(
        self,
        folder: Path,
        stem: str,
        image: Image.Image,
        request: Generate,
        made_with: dict[str, str],
        scores: dict[str, float],
        source: str = "",
    ) -> Made:
        """A picture on disk, on its way into the history."""
        path = keeping.save(self, folder, stem, image, metadata.texts(request, made_with, scores, source))
        thumbnail = metadata.thumbnail(image)
        return Made(
            str(path), request, image.width, image.height, Seconds(), made_with, thumbnail, scores, source=source
        )

    def _folder(self, asked: str | None) -> Path:
        return Path(asked) if asked else self.options.pictures

    # ── what comes after it ─────────────────────────────────────────────────────────────────────────────────────────

    def _finish(self, job: Job, request: Finish, stop: Callable[[], bool]) -> Development:
        folder = self._folder(request.folder)
        files.check_folder(folder)
        finishing.check(self, request.finish)
        yield from self._finished(job, self._opened(request.picture), request.finish, folder, request.score, stop)
        yield self.vitals()
        return ()

    def _all_finished(
        self,
        job: Job,
        bases: list[Base],
        steps: tuple[Step, ...],
        folder: Path,
        scorer: str | None,
        stop: Callable[[], bool],
    ) -> Generator[Event | Made, None, None]:
        """Each picture's steps; one that fails keeps no other from its own, and is told at the end. Empties `bases`."""
        failed: list[SafelightError] = []
        count = len(bases)
        while bases:
            try:
                yield from self._finished(job, bases.pop(0), steps, folder, scorer, stop)
            except StorageError:
                raise  # a full disk fails them all
            except SafelightError as e:
                failed.append(e.with_traceback(None))  # its frames hold what the next picture needs room for
        if len(failed) > 1:
            failed[0].message = f"{len(failed)} of {count} pictures are not finished; the first: {failed[0].message}"
        if failed:
            raise failed[0]

    def _finished(
        self,
        job: Job,
        base: Base,
        steps: tuple[Step, ...],
        folder: Path,
        scorer: str | None,
        stop: Callable[[], bool],
    ) -> Generator[Event | Made, None, None]:
        """Each step's result, from the last that an earlier try left."""
        prompt = parse(base.request.prompt)
        for number, step in enumerate(steps, 1):
            request = replace(base.request, finish=(*base.request.finish, step))
            check(request.finish)
            if (there := _left(job.kept, request)) is not None:
                base = Base(there.path, None, there.request, there.made_with)
                continue
            if stop():
                raise Stopped
            clock = Clock(time.perf_counter())
            image = base.image or self._pixels(base.path)
            try:
                with clock.measure("finish"):
                    result, told = yield from self._stepped(job, step, image, base.request, stop, clock)
            except Stopped:
                raise
            except SafelightError as e:
                if Path(base.path).is_file():
                    e.hint = f"{e.hint}; " * bool(e.hint) + f"the picture before it is saved: {base.path}"
                raise
            if result is image:
                base = replace(base, image=image)
                continue  # left alone, which was told
            made_with = {**base.made_with, **told}
            with clock.measure("score"):
                (scores,) = yield from self._scored(job, scorer, [result], prompt)
            yield Finishing(job.id, "saving")
            with clock.measure("save"):
                stem = f"{Path(base.path).stem[: files.MAX_NAME - 20]}-{finishing.suffix(step, image, result)}"
                made = self._saved(folder, stem, result, request, made_with, scores, base.path)
            yield replace(made, seconds=clock.seconds(1))
            base = Base(made.path, result, request, made_with)
            if number < len(steps):
                yield self.vitals()

    def _stepped(
        self, job: Job, step: Step, image: Image.Image, request: Generate, stop: Callable[[], bool], clock: Clock
    ) -> Generator[Event, None, tuple[Image.Image, dict[str, str]]]:
        """What a step makes of a picture, the same one where there is nothing to do; and what that was made with."""
        match step:
            case Upscale():
                return (yield from finishing.upscale(self, job.id, image, step, request, stop))
            case Restore():
                return (yield from finishing.restore(self, job.id, image, step, stop))
            case Hires():
                return (yield from self._hires(job, step, image, request, stop, clock))

    def _hires(
        self, job: Job, step: Hires, image: Image.Image, request: Generate, stop: Callable[[], bool], clock: Clock
    ) -> Generator[Event, None, tuple[Image.Image, dict[str, str]]]:
        """Enlarged, and drawn once more over that."""
        if not request.model:
            raise InvalidRequest(
                "the file tells no model and prompt to draw it once more by",
                "safelight generate PROMPT --init FILE --strength 0.4 draws over any picture",
                "finish",
            )
        width, height = (max(round(side * step.scale / 8) * 8, 16) for side in image.size)
        again = replace(
            request,
            width=width,
            height=height,
            num_inference_steps=step.num_inference_steps or request.num_inference_steps,
            strength=step.strength,
            batch_size=1,
            init=None,
            finish=(),
        )
        again.validate()  # before anything as large as that is made
        made_with: dict[str, str] = {}
        start: Start
        if step.upscaler == "latent":
            small = tuple(max(round(side / 8) * 8, 16) for side in image.size)
            start = (finishing.fitted(image, (small[0], small[1])), (width, height))
        elif step.upscaler:
            by = Upscale(step.upscaler, step.scale)
            larger, made_with = yield from finishing.upscale(self, job.id, image, by, request, stop)
            start = finishing.fitted(larger, (width, height))
        else:
            start = finishing.fitted(image, (width, height))
        drawn = yield from self._large(job, again, step.tile, stop, clock, start)
        return drawn.images[0], {**made_with, **drawn.made_with}

    def _large(
        self, job: Job, request: Generate, tile: int, stop: Callable[[], bool], clock: Clock, start: Start
    ) -> Generator[Event, None, Drawn]:
        """A picture that may be too large for the denoiser to see whole: then it is drawn in tiles of the size that the
        model was trained for, or of `tile` pixels."""
        model = self.catalogue.require(request.model).mixed(request.mix)
        side = tile or max(model.recipe.size)
        large = max(request.width, request.height) > side
        if large and (tile or not self.loader.prepare(model, request).plan.fits):
            tile = side
        elif large:
            try:
                return _whole((yield from self._drawn(job, request, stop, clock, start)))
            except OutOfMemory:
                tile = side
            self.forget()  # past the except, so that what its frames held is gone
        if tile and large:
            count = mosaic.count(request.width, request.height, tile)
            yield Noted("info", f"{request.width}x{request.height} is drawn in {count} tiles of {tile} px", job.id)
        return _whole((yield from self._drawn(job, request, stop, clock, start, tile if large else 0)))

    def _pixels(self, path: str) -> Image.Image:
        """A file's picture, upright. Raises InvalidRequest."""
        with judging.opened(Path(path)) as image:
            return pictures.prepare(image, path)

    def _opened(self, path: str) -> Base:
        """A file, and what it tells of itself. Raises InvalidRequest."""
        place = Path(path).absolute()
        ready = self._pixels(path)
        told = metadata.read(place)
        if told is None:
            return Base(str(place), ready, taken(str(place), ready.width, ready.height), {})
        return Base(str(place), ready, replace(told[0], batch_size=1), told[1]["made_with"])

    def _taken(self, request: Generate) -> Base:
        """The file that a request begins with and leaves as it is. What its steps draw by is the request's prompt and
        model, or, where that has no words, what the file tells of itself."""
        base = self._opened(str(request.init))
        if not parse(request.prompt).plain.strip() and base.request.model:
            return base
        assert base.image is not None
        there = taken(base.path, base.image.width, base.image.height)
        own = replace(request.single(0), init=base.path, width=there.width, height=there.height, finish=())
        return replace(base, request=own, made_with={})

    def _bases(self, job: Job, request: Generate) -> list[Base]:
        """The pictures that an earlier try of the job drew, if all of them are still there."""
        alone = [replace(request.single(i), finish=()) for i in range(request.batch_size)]
        found = [_left(job.kept, one) for one in alone] if request.finish else []
        there = [one for one in found if one is not None]
        return [Base(p.path, None, p.request, p.made_with) for p in there] if len(there) == len(alone) else []


def _whole(drawn: Drawn | None) -> Drawn:
    assert drawn is not None, "no sketch"
    return drawn


def _over(components: loading.Components, request: Generate) -> loading.Components:
    """The components with a plan for the whole of a picture, where the denoiser's is for a tile of it."""
    ask = components.plan.ask
    if ask.pixels >= request.width * request.height:
        return components
    return replace(components, plan=planning.plan(replace(ask, width=request.width, height=request.height)))


def _left(kept: Sequence[Picture], request: Generate) -> Picture | None:
    """The picture that an earlier try made of a request, if its file is there."""
    for picture in kept:
        same = (picture.request.seed, picture.request.finish) == (request.seed, request.finish)
        if same and Path(picture.path).is_file():
            return picture
    return None
