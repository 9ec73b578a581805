"""One request, developed: `Darkroom.develop` is a generator of events, in numbered steps.

It mirrors the workbench: it only orchestrates. Whoever runs it drains it, and gets what was made as its return value.
"""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image

from engines import files, machine, metadata, planning, tokens
from engines.catalogue import Catalogue
from engines.diffusion import decoding, filing, loading, sampling, scoring
from engines.diffusion import device as devices
from engines.diffusion.previews import Previews, decode_tiny, to_pixels
from engines.diffusion.residency import Residency
from engines.entries import Merged
from engines.errors import InvalidRequest, OutOfMemory, SafelightError, Stopped, StorageError
from engines.events import Event, Finishing, Loading, Noted, Pixels, Previewed, Scored, Sketched, Stepped, Vitals
from engines.options import Options
from engines.planning import Plan
from engines.prompt import Prompt, parse
from engines.requests import Convert, Generate, Job, Merge, Pull, Score, Seconds, Warm
from engines.store import Made

log = logging.getLogger(__name__)

SKETCH_SIDE = 1024
"Pixels of a sketch's longer side, at most: more than a terminal shows."

Development: TypeAlias = Generator[Event, None, tuple[Made, ...]]

HELD_SHARE = 0.6
"Of the memory that is free at the start, how much may be held in weights between jobs, where it is main memory."
RAM_SHARE = 0.5
"Of the main memory that is free at the start, how much may be held in weights that left the GPU."
PNG_LEVEL = 1
"Level 6 takes three times as long for files that are a tenth smaller."
JUDGED, JUDGED_PIXELS = 16, 32_000_000
"Pictures, and pixels, that are held and judged at once: 100 MB."
MAX_IMAGE = 64_000_000
"Pixels of a file that is scored; a larger one is refused by its header."


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


class Darkroom:
    """A device, the components that it holds, and what can be made with them. For one thread.

    Raises:
        InvalidRequest, LoadError: the device that the options name can't be had.
    """

    def __init__(self, catalogue: Catalogue, options: Options, cache: Path, data: Path) -> None:
        _quiet()
        devices.set_threads(options.threads)
        self.catalogue = catalogue
        self.options = options
        self.cache = cache
        self.data = data
        self.device = devices.choose(options.device)
        shared = self.device.torch.type != "cuda"  # with everything else on the machine
        limit = int(devices.free_memory(self.device) * (HELD_SHARE if shared else 1.0))
        ram = int(machine.memory().available * RAM_SHARE)
        self.residency = Residency(limit, ram, self.device.torch)
        self.loader = loading.Loader(catalogue, self.device, self.residency, cache)
        self._precision = ""
        self._told: dict[str, tuple[str, ...]] = {}  # by model, so that one is not told anew after another's turn
        self._ready: dict[str, frozenset[Hashable]] = {}

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Development:
        """Does what a job asks, yielding events on the way, and returns the pictures that are on disk.

        Args:
            job: what to do.
            stop: looked at before and after every step, and between the parts of a model that is loaded.
            began: time.perf_counter() when the job was started, so that torch's import counts.

        Raises:
            Stopped: `stop` said so; nothing was saved.
            SafelightError: what the user is told.
        """
        match job.request:
            case Generate():
                return (yield from self._generate(job, job.request, stop, Clock(began)))
            case Warm():
                size = self.catalogue.model(job.request.model).recipe.size
                warm = Generate("", job.request.model, 0, *size, 1, 7.0, precision=job.request.precision)
                yield from self._load(job, replace(warm, mix=job.request.mix), stop)
            case Score():
                yield from self._score(job, job.request, stop)
            case Merge():
                yield from filing.merge(job.id, job.request, self.loader.hashes.digest, stop)
            case Convert():
                yield from filing.convert(job.id, job.request, stop)
            case Pull():
                raise InvalidRequest("downloads are not the darkroom's work")
        yield self.vitals()
        return ()

    def _generate(self, job: Job, request: Generate, stop: Callable[[], bool], clock: Clock) -> Development:
        # 0 refuse what would be lost at the end
        folder = Path(request.folder) if request.folder else self.options.pictures
        if not request.sketch:
            files.check_folder(folder)
        prompt = parse(request.prompt)
        negative = None if request.negative_prompt is None else parse(request.negative_prompt)

        # 1 find the model, 2 hold its components in memory
        components = yield from self._load(job, request, stop)
        clock.spent["load"] = time.perf_counter() - clock.began
        peak, others = devices.Peak(self.device), self.residency.used_besides(components.keys)
        yield self.vitals()

        # 3 encode the prompt; `box` alone holds the components, so that what is let go in need is gone
        if stop():
            raise Stopped
        box = [components]
        del components
        with clock.measure("encode"):
            conditioning = yield from self._conditioning(job, request, box, prompt, negative, stop)

        for name in tokens.unknown(prompt, box[0].embeddings):
            yield Noted("warning", f"no embedding {name} is here: it is read as words", job.id)

        # 4 sample
        start = time.perf_counter()
        latents = yield from self._sample(job, request, box, conditioning, stop)
        clock.spent["denoise"] = time.perf_counter() - start
        decoding.check(box[0], latents)
        # what follows needs neither denoiser nor encoders, and must not keep them alive
        components = replace(box.pop(), unet=None, text=None)  # type: ignore[arg-type]

        # 5 decode; a sketch is shown, and that is all
        if request.sketch:
            if stop():
                raise Stopped
            yield Sketched(job.id, self._sketch(components, latents))
            return ()
        yield Finishing(job.id, "decoding")
        with clock.measure("decode"), torch.inference_mode():
            pixels, note = decoding.finish(components, latents, self.device, lambda: self._forget({components.vae_key}))
        most = max(0, peak.read() - others)  # without the scorer
        if note:
            yield Noted("warning", note, job.id)
        images = [Image.fromarray(p.numpy()) for p in pixels]
        if any(image.getextrema() == ((0, 0), (0, 0), (0, 0)) for image in images):
            yield Noted("warning", "the picture is black all over; another VAE or precision may mend it", job.id)

        # 6 score
        scores: list[dict[str, float]] = [{} for _ in images]
        if request.score is not None and (prompt.plain.strip() or not self.catalogue.scorer(request.score).reads):
            yield Finishing(job.id, "scoring")
            with clock.measure("score"):
                values, said = self._judged(request.score, images, prompt.plain)
            if said:
                yield Noted("info" if values else "warning", said, job.id)
            scores = [{request.score: round(v, 4)} for v in values] or scores

        # 7 save: from here on the picture is finished whatever is asked
        if stop():
            raise Stopped
        yield Finishing(job.id, "saving")
        made_with = self._made_with(components, prompt, negative)
        made = []
        for i, image in enumerate(images):
            alone = request.single(i)
            with clock.measure("save"):
                chunks_of_text = metadata.texts(alone, made_with, scores[i])
                path = self._save(
                    folder, files.name(alone, prompt.plain, self.options.file_name), image, chunks_of_text
                )
                thumbnail = metadata.thumbnail(image)
            made.append(Made(str(path), alone, image.width, image.height, Seconds(), made_with, thumbnail, scores[i]))
        seconds = clock.seconds(len(images))
        yield self.vitals()
        return tuple(replace(m, seconds=seconds, peak=most) for m in made)

    def _load(
        self, job: Job, request: Generate, stop: Callable[[], bool], plan: Plan | None = None
    ) -> Generator[Event, None, loading.Components]:
        """The components of a request's model, with events only if something has to be loaded.

        Memory that runs out is met with a plan that needs less of it, until there is none.
        """
        model = self.catalogue.require(request.model).mixed(request.mix)
        wanted = self.loader.prepare(model, request)
        if plan is not None:
            wanted = replace(wanted, plan=plan)
        again = True
        while True:
            reasons = tuple(reason for reason in wanted.plan.reasons if not reason.endswith("as was asked"))
            if reasons and reasons != self._told.get(model.id):
                self._told[model.id] = reasons
                for text in (wanted.plan.told, *reasons):
                    yield Noted("info" if wanted.plan.fits else "warning", f"memory: {text}", job.id)
            try:
                components = yield from self.loader.load(job.id, wanted, stop)
                self._precision = components.plan.precision
                self._ready[model.id] = components.keys
                return components
            except Exception as e:
                if not devices.is_out_of_memory(e):
                    raise
            # reached with the exception and its frames gone, so that what they held can be freed
            self._forget()
            if again:
                again = False
                yield Noted("warning", "memory ran out while loading; other models were let go", job.id)
                continue
            lower = planning.next_rung(wanted.plan, "loading")
            if lower is None:
                raise devices.out_of_memory(self.device)
            wanted = replace(wanted, plan=lower)

    def _conditioning(
        self,
        job: Job,
        request: Generate,
        box: list[loading.Components],
        prompt: Prompt,
        negative: Prompt | None,
        stop: Callable[[], bool],
    ) -> Generator[Event, None, Any]:
        """What the prompt is to the denoiser. Memory that runs out is met as in `_sample`."""
        again = True
        while True:
            try:
                with torch.inference_mode():
                    return self._encode(request, box[0], prompt, negative)
            except Exception as e:
                if not devices.is_out_of_memory(e):
                    raise
            yield from self._give_way(job, request, box, "encoding", again, stop)
            again = False

    def _give_way(
        self,
        job: Job,
        request: Generate,
        box: list[loading.Components],
        phase: planning.Phase,
        again: bool,
        stop: Callable[[], bool],
    ) -> Generator[Event, None, None]:
        """After memory ran out: everything else is let go, and the components in the box follow a plan that needs less.

        Args:
            again: whether the same may be tried once more where there is no such plan.

        Raises:
            OutOfMemory: there is nothing left to try.
        """
        lower = planning.next_rung(box[0].plan, phase)
        if lower is None:
            self._forget(box[0].keys)
            if not again:
                raise devices.out_of_memory(self.device)
            how = "one picture at a time and " * (request.batch_size > 1)
            yield Noted("warning", f"memory ran out while {phase}: again, {how}with nothing else held", job.id)
            box[0] = replace(box[0], plan=replace(box[0].plan, together=1))
            return
        yield Noted("warning", lower.reasons[-1], job.id)
        before = box[0].plan
        if (lower.storage, lower.denoiser) != (before.storage, before.denoiser):
            self._forget(box.pop().keys)
            self.residency.forget()
            devices.release(self.device)
            box.append((yield from self._load(job, request, stop, lower)))
            return
        self._forget(box[0].keys)
        box[0] = replace(box[0], plan=lower)
        if lower.encoders == "leave":
            self.residency.rest({box[0].text_key})

    def _encode(
        self, request: Generate, components: loading.Components, prompt: Prompt, negative: Prompt | None
    ) -> Any:
        """The conditioning; encoders that are planned to leave take the denoiser's place for this moment only."""
        leave = components.plan.encoders == "leave"
        stays = components.plan.denoiser == "stay"
        if leave:
            self.residency.rest({components.unet_key} if stays else set())
            self.residency.get(components.text_key, lambda: components.text)
        try:
            return components.text.conditioner.encode(
                prompt,
                negative,
                guided=request.guidance_scale > 1,
                clip_skip=request.clip_skip,
                blank_is_zeros=components.blank_is_zeros,
            )
        finally:
            if leave:
                self.residency.rest({components.text_key})
                if stays and components.unet_key not in self.residency:
                    raise devices.out_of_memory(self.device)  # main memory had no room for it
                if stays:
                    self.residency.get(components.unet_key, lambda: components.unet)

    def _sample(
        self,
        job: Job,
        request: Generate,
        box: list[loading.Components],
        conditioning: Any,
        stop: Callable[[], bool],
    ) -> Generator[Event, None, torch.Tensor]:
        """The finished latents.

        Memory that runs out is met by letting go of everything else, then rung by rung by plans that need less.
        """
        singles = [request.single(i) for i in range(request.batch_size)]
        again = True
        while True:
            finished: list[torch.Tensor] = []
            try:
                for part in singles if box[0].plan.together < request.batch_size else [request]:
                    finished.append((yield from self._denoise(job, part, box[0], conditioning, stop)))
                return torch.cat(finished)
            except Exception as e:
                if not devices.is_out_of_memory(e):
                    raise
            finished.clear()
            yield from self._give_way(job, request, box, "denoising", again, stop)
            again = False

    def _denoise(
        self,
        job: Job,
        request: Generate,
        components: loading.Components,
        conditioning: Any,
        stop: Callable[[], bool],
    ) -> Generator[Event, None, torch.Tensor]:
        recipe = components.model.recipe
        scheduler = sampling.make_scheduler(
            request.scheduler, components.scheduler_config, recipe, request.timestep_spacing
        )
        previews = Previews(components.preview, self.device.torch, request.preview_every)
        steps = sampling.denoise(components.unet, scheduler, conditioning, request, self.device.torch, components.dtype)
        durations: list[float] = []
        pace = devices.Pace(self.device)
        while True:
            if stop():
                raise Stopped
            start = time.perf_counter()
            # inference mode is per thread and must not leak to whoever drains this generator between steps
            with torch.inference_mode():
                step = next(steps)
                pace.step()
                preview = previews.after(step) if not stop() else None
            durations.append(time.perf_counter() - start)
            yield Stepped(job.id, step.number, step.of, sorted(durations)[len(durations) // 2])
            if preview is not None:
                yield Previewed(job.id, step.number, preview)
            if step.number == step.of:
                pace.finish()
                return step.latents

    def _sketch(self, components: loading.Components, latents: torch.Tensor) -> Pixels:
        """The first picture, by the small decoder if there is one for these latents."""
        with torch.inference_mode(), self._memory():
            if components.preview is not None:
                return to_pixels(decode_tiny(components.preview, latents[:1]), SKETCH_SIDE)
            pixels, _ = decoding.finish(
                components, latents[:1], self.device, lambda: self._forget({components.vae_key})
            )
        image = Image.fromarray(pixels[0].numpy())
        image.thumbnail((SKETCH_SIDE, SKETCH_SIDE))
        return Pixels(image.width, image.height, image.tobytes())

    def _judged(self, scorer: str, images: list[Image.Image], text: str) -> tuple[list[float], str]:
        """Scores, and what to tell of them; none where memory runs out twice: a picture is not lost for its score."""
        for _ in range(2):
            try:
                values, chunks = self._scorer(scorer).score(images, text)
                said = f"{scorer} read the prompt in {chunks} chunks: it takes 77 tokens" if chunks > 1 else ""
                return values, said
            except SafelightError as e:
                return [], f"{e.message}: the picture is saved without a score"
            except Exception as e:  # whatever a scorer does, the picture is drawn and goes to the disk
                if not devices.is_out_of_memory(e):
                    log.exception("scoring with %s", scorer)
                    return [], f"{scorer} could not score ({type(e).__name__}): the picture is saved without a score"
            self._forget()
        return [], "memory ran out while scoring: the picture is saved without a score"

    def _score(self, job: Job, request: Score, stop: Callable[[], bool]) -> Iterator[Event]:
        text = parse(request.prompt).plain
        if not text.strip() and self.catalogue.scorer(request.scorer).reads:
            raise InvalidRequest("a score needs a prompt to hold the picture against", "give --prompt TEXT", "prompt")
        yield Loading(job.id, self.catalogue.scorer(request.scorer).title)
        with self._memory():
            scorer = self._scorer(request.scorer)
        told = False
        for paths, images in _batches(request.pictures):
            if stop():
                raise Stopped
            with self._memory():
                values, chunks = scorer.score(images, text)
            if chunks > 1 and not told:
                yield Noted("info", f"{request.scorer} read the prompt in {chunks} chunks: it takes 77 tokens", job.id)
                told = True
            for path, value in zip(paths, values, strict=True):
                yield Scored(job.id, path, request.scorer, round(value, 4))

    def _scorer(self, id: str) -> scoring.Judge:
        entry = self.catalogue.scorer(id)
        key = ("scorer", entry.id, entry.kind, str(entry.source.path), entry.source.variant)
        return self.residency.get(key, lambda: scoring.load(entry, self.device))

    def _save(self, folder: Path, stem: str, image: Image.Image, texts: dict[str, str]) -> Path:
        """Writes the PNG; where the folder fails at the last moment, the picture is kept elsewhere and that is told."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for keyword, text in texts.items():
            info.add_itxt(keyword, text)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info, compress_level=PNG_LEVEL)
        try:
            return files.save(folder, stem, buffer.getvalue())
        except StorageError as e:
            for refuge in (self.options.pictures, self.data / "rescued", Path(tempfile.gettempdir())):
                if refuge == folder:
                    continue
                try:
                    kept = files.save(refuge, stem, buffer.getvalue())
                except StorageError:
                    continue
                raise type(e)(e.message, f"the picture is not lost: it was kept as {kept}") from e
            raise

    def _made_with(self, components: loading.Components, prompt: Prompt, negative: Prompt | None) -> dict[str, str]:
        texts = [prompt] if negative is None else [prompt, negative]
        named = sorted({name for text in texts for name in tokens.named(text, components.embeddings)})
        packages = ("safelight", "torch", "diffusers", "transformers", "compel")
        return {
            **{name: _version(name) for name in packages},
            "device": self.device.title,
            "precision": devices.NAMES[components.dtype]
            + (", fp8 weights" if components.plan.storage == "fp8" else ""),
            "vae_precision": devices.NAMES.get(components.vae.dtype, str(components.vae.dtype)),
            **({"mix": source.told} if isinstance(source := components.model.source, Merged) else {}),
            "unet_sha256": self.loader.hashes.get(components.unet_files),
            "vae_sha256": self.loader.hashes.get(components.vae_files),
            **{f"lora {file.stem} sha256": self.loader.hashes.get((file,)) for file in components.lora_files},
            **{f"embedding {name} sha256": self.loader.hashes.get((components.embeddings[name],)) for name in named},
        }

    def vitals(self) -> Vitals:
        """How the device is now."""
        used, total = devices.memory(self.device)
        ready = tuple(id for id, keys in self._ready.items() if all(key in self.residency for key in keys))
        return Vitals(self.device.title, self._precision, used, total, ready)

    def _forget(self, but: frozenset[Hashable] | set[Hashable] = frozenset()) -> None:
        """Lets go of all that is held, except `but`, and gives the memory back."""
        self._ready = {id: keys for id, keys in self._ready.items() if keys <= but}
        self.residency.free(but)
        devices.release(self.device)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turns an out-of-memory of any device into the one line that is told."""
        told: OutOfMemory | None = None
        try:
            yield
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
            told = devices.out_of_memory(self.device)
        if told is not None:
            self._forget()
            raise told


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """A picture file from anywhere, judged by its header before its pixels are decoded. Raises InvalidRequest."""
    Image.MAX_IMAGE_PIXELS = None  # the header is checked here, with words of our own
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_IMAGE:
                raise InvalidRequest(
                    f"{path} has {image.width}x{image.height} pixels", f"at most {MAX_IMAGE // 10**6} megapixels"
                )
            image.load()
    except SafelightError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as e:
        raise InvalidRequest(f"{path} can't be read as a picture", "PNG, JPEG and WebP files can") from e
    yield image  # outside, so that the picture is not blamed for what is done with it


def _batches(paths: Sequence[str]) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Pictures to judge at once: JUDGED of them, or fewer where they have more than JUDGED_PIXELS together. One that
    can't be read raises InvalidRequest, after those before it."""
    names: list[str] = []
    images: list[Image.Image] = []
    for path in paths:
        try:
            with _open(Path(path)) as image:
                size = image.width * image.height
                full = sum(one.width * one.height for one in images) + size > JUDGED_PIXELS
                if names and (full or len(names) == JUDGED):
                    yield names, images
                    names, images = [], []
                names.append(path)
                images.append(image.convert("RGB"))
        except SafelightError:
            if names:
                yield names, images
            raise
    if names:
        yield names, images


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _quiet() -> None:
    """Bars and chatter of the libraries go to the log file, which the root logger writes, and nowhere else."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for chatter in (diffusers_logging, transformers_logging):
        chatter.disable_progress_bar()
        chatter.disable_default_handler()
        chatter.enable_propagation()
        chatter.set_verbosity_warning()
