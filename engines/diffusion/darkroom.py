"""One request, developed: `Darkroom.develop` is a generator of events, in numbered steps.

It mirrors the workbench: it only orchestrates. Whoever runs it drains it, and gets what was made as its return value.
"""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image

from engines import files, metadata
from engines.catalogue import Catalogue
from engines.diffusion import device as devices
from engines.diffusion import loading, sampling, scoring
from engines.diffusion.previews import Previews, to_uint8
from engines.diffusion.residency import Residency
from engines.errors import InvalidRequest, LoadError, OutOfMemory, SafelightError, Stopped, StorageError
from engines.events import Event, Finishing, Loading, Noted, Previewed, Scored, Stepped, Vitals
from engines.options import Options
from engines.prompt import parse
from engines.requests import Generate, Job, Score, Seconds, Warm
from engines.store import Made

log = logging.getLogger(__name__)

Development: TypeAlias = Generator[Event, None, tuple[Made, ...]]

HELD_SHARE = 0.6
"Of the memory that is free at the start, how much may be held in weights between jobs."
PNG_LEVEL = 1
"Level 6 takes three times as long for files that are a tenth smaller."
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
        self.residency = Residency(int(devices.free_memory(self.device) * HELD_SHARE))
        self.loader = loading.Loader(catalogue, self.device, self.residency, cache)
        self._precision = ""
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
                yield from self._load(
                    job, Generate("", job.request.model, 0, 8, 8, 1, 0, precision=job.request.precision), stop
                )
            case Score():
                yield from self._score(job, job.request, stop)
        yield self.vitals()
        return ()

    def _generate(self, job: Job, request: Generate, stop: Callable[[], bool], clock: Clock) -> Development:
        # 0 refuse what would be lost at the end
        folder = Path(request.folder) if request.folder else self.options.pictures
        files.check_folder(folder)
        prompt = parse(request.prompt)
        negative = None if request.negative_prompt is None else parse(request.negative_prompt)

        # 1 find the model, 2 hold its components in memory
        components = yield from self._load(job, request, stop)
        clock.spent["load"] = time.perf_counter() - clock.began
        yield self.vitals()

        # 3 encode the prompt
        if stop():
            raise Stopped
        with clock.measure("encode"), torch.inference_mode(), self._memory():
            conditioning = components.conditioner.encode(
                prompt,
                negative,
                guided=request.guidance_scale > 1,
                clip_skip=request.clip_skip,
                blank_is_zeros=components.blank_is_zeros,
            )

        # 4 sample
        start = time.perf_counter()
        latents = yield from self._sample(job, request, components, conditioning, stop)
        clock.spent["denoise"] = time.perf_counter() - start

        # 5 decode
        yield Finishing(job.id, "decoding")
        with clock.measure("decode"), torch.inference_mode():
            pixels, note = self._decode(components.vae, latents)
        if note:
            yield Noted("warning", note, job.id)
        images = [Image.fromarray(p.numpy()) for p in pixels]
        if any(image.getextrema() == ((0, 0), (0, 0), (0, 0)) for image in images):
            yield Noted("warning", "the picture is black all over; another VAE or precision may mend it", job.id)

        # 6 score
        scores: list[dict[str, float]] = [{} for _ in images]
        if request.score is not None and prompt.plain.strip():
            yield Finishing(job.id, "scoring")
            with clock.measure("score"), self._memory():
                values, chunks = self._scorer(request.score).score(images, prompt.plain)
            scores = [{request.score: round(v, 4)} for v in values]
            if chunks > 1:
                yield Noted("info", f"{request.score} read the prompt in {chunks} chunks: it takes 77 tokens", job.id)

        # 7 save: from here on the picture is finished whatever is asked
        if stop():
            raise Stopped
        yield Finishing(job.id, "saving")
        made_with = self._made_with(components)
        made = []
        for i, image in enumerate(images):
            alone = replace(request, seed=request.seed + i, batch_size=1)
            with clock.measure("save"):
                chunks_of_text = metadata.texts(alone, made_with, scores[i])
                path = self._save(
                    folder, files.name(alone, prompt.plain, self.options.file_name), image, chunks_of_text
                )
                thumbnail = metadata.thumbnail(image)
            made.append(Made(str(path), alone, image.width, image.height, Seconds(), made_with, thumbnail, scores[i]))
        seconds = clock.seconds(len(images))
        yield self.vitals()
        return tuple(replace(m, seconds=seconds) for m in made)

    def _load(
        self, job: Job, request: Generate, stop: Callable[[], bool]
    ) -> Generator[Event, None, loading.Components]:
        """The components of a request's model, with events only if something has to be loaded."""
        model = self.catalogue.require(request.model)
        for attempt in (1, 2):
            try:
                components = yield from self.loader.load(job.id, model, request.loras, request.precision, stop)
                self._precision = devices.NAMES[components.dtype]
                self._ready[model.id] = components.keys
                return components
            except Exception as e:
                if not devices.is_out_of_memory(e):
                    raise
                if attempt == 2:
                    raise devices.out_of_memory(self.device) from None
            # reached with the exception and its frames gone, so that what they held can be freed
            self._forget()
            yield Noted("warning", "memory ran out while loading; other models were let go", job.id)
        raise AssertionError("unreachable")

    def _sample(
        self,
        job: Job,
        request: Generate,
        components: loading.Components,
        conditioning: Any,
        stop: Callable[[], bool],
    ) -> Generator[Event, None, torch.Tensor]:
        """The finished latents; a batch that memory doesn't allow is drawn one picture at a time."""
        singles = [replace(request, seed=request.seed + i, batch_size=1) for i in range(request.batch_size)]
        for parts in ([request], singles):
            finished: list[torch.Tensor] = []
            try:
                for part in parts:
                    finished.append((yield from self._denoise(job, part, components, conditioning, stop)))
                return torch.cat(finished)
            except Exception as e:
                if not devices.is_out_of_memory(e):
                    raise
            finished.clear()
            self._forget(components)
            if parts is singles:
                break
            yield Noted("warning", "memory ran out; trying again with nothing else held, one picture at a time", job.id)
        raise devices.out_of_memory(self.device)

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

    def _decode(self, vae: Any, latents: torch.Tensor) -> tuple[torch.Tensor, str]:
        """(batch, height, width, 3) uint8 on the CPU, and a note if it took a second try.

        Non-finite latents or pixels are never saved: `astype(uint8)` would make them black with no more than a
        warning. An overflow in the VAE gets one more try in fp32, memory that runs out one more in tiles.
        """
        if not torch.isfinite(latents).all():
            raise LoadError(
                "the denoiser gave numbers that are not finite; no picture was saved",
                "try --precision fp32, or a LoRA weight nearer to 0",
            )
        tiled, dtype, note = False, vae.dtype, ""
        for _ in range(3):  # as it is, in tiles, in fp32
            image = None
            try:
                image = _decode(vae, latents, dtype, tiled)
            except Exception as e:
                if not devices.is_out_of_memory(e):
                    raise
            # past the except, so that the frames of the failure are gone before their memory is asked for
            if image is None:
                devices.release(self.device)
                if tiled:
                    break
                tiled, note = True, "memory ran out while decoding; decoded in tiles instead"
            elif torch.isfinite(image).all():
                return to_uint8(image), note
            elif dtype == torch.float32:
                raise LoadError("the VAE gave numbers that are not finite; no picture was saved", "try another VAE")
            else:
                dtype, note = torch.float32, "the VAE overflowed; decoded again in fp32"
        raise devices.out_of_memory(self.device)

    def _score(self, job: Job, request: Score, stop: Callable[[], bool]) -> Iterator[Event]:
        text = parse(request.prompt).plain
        yield Loading(job.id, self.catalogue.scorer(request.scorer).title)
        with self._memory():
            scorer = self._scorer(request.scorer)
        told = False
        for path in request.pictures:
            if stop():
                raise Stopped
            with _open(Path(path)) as image, self._memory():
                (value,), chunks = scorer.score([image], text)
            if chunks > 1 and not told:
                yield Noted("info", f"{request.scorer} read the prompt in {chunks} chunks: it takes 77 tokens", job.id)
                told = True
            yield Scored(job.id, path, request.scorer, round(value, 4))

    def _scorer(self, id: str) -> scoring.ClipScorer:
        entry = self.catalogue.scorer(id)
        return self.residency.get(("scorer", str(entry.folder)), lambda: scoring.load(entry, self.device))

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

    def _made_with(self, components: loading.Components) -> dict[str, str]:
        packages = ("safelight", "torch", "diffusers", "transformers", "compel")
        return {
            **{name: _version(name) for name in packages},
            "device": self.device.title,
            "precision": devices.NAMES[components.dtype],
            "vae_precision": devices.NAMES.get(components.vae.dtype, str(components.vae.dtype)),
            "unet_sha256": self.loader.hashes.get(components.unet_files),
            **{f"lora {file.stem} sha256": self.loader.hashes.get((file,)) for file in components.lora_files},
        }

    def vitals(self) -> Vitals:
        """How the device is now."""
        used, total = devices.memory(self.device)
        ready = tuple(id for id, keys in self._ready.items() if all(key in self.residency for key in keys))
        return Vitals(self.device.title, self._precision, used, total, ready)

    def _forget(self, but: loading.Components | None = None) -> None:
        """Lets go of all that is held, except what `but` uses, and gives the memory back."""
        self._ready = {but.model.id: but.keys} if but is not None else {}
        self.residency.free(set(but.keys) if but is not None else None)
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


def _decode(vae: Any, latents: torch.Tensor, dtype: torch.dtype | None = None, tiled: bool = False) -> torch.Tensor:
    """(batch, 4, h, w) → (batch, 3, 8h, 8w) in −1 … 1, scaled as StableDiffusionXLPipeline does it.

    Args:
        vae: an AutoencoderKL; it is left as it was.
        latents: as the denoiser gives them.
        dtype: to compute in; None for the VAE's own.
        tiled: in overlapping tiles of half the picture's longer side, one at a time.
    """
    own, sizes = vae.dtype, (vae.tile_latent_min_size, vae.tile_sample_min_size)
    try:
        if dtype is not None and dtype != own:
            vae.to(dtype)
        if tiled:
            # diffusers tiles only what is larger than the size that the VAE was trained for
            side = max(max(latents.shape[-2:]) // 2, 8)
            scale = 2 ** (len(vae.config.block_out_channels) - 1)
            vae.tile_latent_min_size, vae.tile_sample_min_size = side, side * scale
            vae.enable_tiling()
        z = latents.to(dtype or own)
        mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
        if mean is not None and std is not None:
            shape = (1, z.shape[1], 1, 1)
            z = z * z.new_tensor(std).view(shape) / vae.config.scaling_factor + z.new_tensor(mean).view(shape)
        else:
            z = z / vae.config.scaling_factor
        return vae.decode(z, return_dict=False)[0]  # type: ignore[no-any-return]
    finally:
        if tiled:
            vae.disable_tiling()
            vae.tile_latent_min_size, vae.tile_sample_min_size = sizes
        if dtype is not None and dtype != own:
            vae.to(own)


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
            yield image
    except SafelightError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as e:
        raise InvalidRequest(f"{path} can't be read as a picture", "PNG, JPEG and WebP files can") from e


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
