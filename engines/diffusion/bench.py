"""`python -m engines.diffusion.bench` measures what an engine costs beside the work itself, and prints JSON lines.

A picture through the engine (submitted → `Done`: queue, events, cancel points, checks, file names, fsync, history)
stands against `bare`, a loop in the same thread over the same loaded components that does the same work and nothing
else. `safelight bench engine` runs this in a process of its own and does the statistics. A round is: bare, engine,
engine with previews; a first one, to warm up, is not told. What is printed:

    {"progress": [parts done, parts in all]}
    {"result": {model, device, precision, threads, steps, size, scorer, bare, engine, previews, shown, difference}}
    {"error": one line, "hint": one line, "exit_code": 1 or 2}, and the process ends with that code

`bare`, `engine` and `previews` are lists, by round, of {total, encode, denoise, decode, score, save} in seconds;
`shown` is how many previews each picture had, and `difference` how far the pixels of bare and engine are apart at
most, 0 … 255. No side has the prompt in memory: every round has a prompt of its own.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from PIL import Image, ImageChops

from engines import catalogue as catalogues
from engines import folders
from engines.catalogue import Catalogue
from engines.diffusion import sampling
from engines.diffusion.darkroom import Darkroom, Development
from engines.diffusion.device import NAMES, Device
from engines.diffusion.keeping import PNG_LEVEL
from engines.diffusion.loading import Components
from engines.diffusion.previews import to_uint8
from engines.diffusion.scoring import ClipScorer
from engines.engine import Engine
from engines.errors import SafelightError
from engines.events import Cancelled, Closed, Done, Event, Failed, Previewed
from engines.options import Options
from engines.requests import Generate, Job, Precision
from engines.store import Store

PROMPT = "a red apple on a blue background"
Run: TypeAlias = Callable[[argparse.Namespace, Path, Callable[[dict[str, Any]], None]], dict[str, Any]]
"(options, an empty folder, what prints an object) → the result."
Encoded: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"Hidden states and the pooled embedding."


class Engined(Protocol):
    """What has an engine that must be closed."""

    engine: Engine


B = TypeVar("B", bound=Engined)
PHASES = ("encode", "denoise", "decode", "score", "save")


@torch.inference_mode()
def encode(components: Components, prompt: str, device: Device) -> Encoded:
    """Hidden states and the pooled embedding of a prompt, by both text encoders as they are."""
    encoders = components.text.conditioner.encoders
    hidden, pooled = [], None
    for tokenizer, encoder in (
        (encoders.tokenizer, encoders.text_encoder),
        (encoders.tokenizer_2, encoders.text_encoder_2),
    ):
        length = tokenizer.model_max_length
        ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        encoded = encoder(ids.input_ids.to(device.torch), output_hidden_states=True)
        hidden.append(encoded.hidden_states[-2])
        pooled = encoded[0]
    assert pooled is not None
    return torch.cat(hidden, dim=-1).to(components.dtype), pooled.to(components.dtype)


@torch.inference_mode()
def bare(
    components: Components,
    scorer: ClipScorer | None,
    request: Generate,
    device: Device,
    path: Path,
    texts: dict[tuple[Hashable, str], Encoded] | None = None,
) -> dict[str, float]:
    """Makes one picture with nothing around it, and returns the seconds by phase and in `total`.

    It is StableDiffusionXLPipeline's work, written out: both text encoders as they are, diffusers' scheduler, the UNet,
    the VAE; then CLIP's score and a PNG of the engine's compression, without metadata, fsync or a row in any table.

    Args:
        texts: what encoders made of prompts; only what is not in it yet is encoded. None to encode in any case.
    """
    marks = [time.perf_counter()]

    # encode
    known = {} if texts is None else texts
    at = (components.text_key, request.prompt)
    if at not in known:
        known[at] = encode(components, request.prompt, device)
    embeds, pooled = known[at]
    guided = request.guidance_scale > 1
    if guided:
        embeds = torch.cat([torch.zeros_like(embeds), embeds])
        pooled = torch.cat([torch.zeros_like(pooled), pooled])
    marks.append(time.perf_counter())

    # denoise
    scheduler = sampling.make_scheduler(
        request.scheduler, components.scheduler_config, components.model.recipe, request.timestep_spacing
    )
    scheduler.set_timesteps(request.num_inference_steps, device=device.torch)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    shape = (1, components.unet.config.in_channels, request.height // 8, request.width // 8)
    latents = torch.randn(shape, generator=generator).to(device.torch, components.dtype) * scheduler.init_noise_sigma
    size = (request.height, request.width)
    sizes = torch.tensor([[*size, 0, 0, *size]], device=device.torch, dtype=components.dtype)
    added = {"text_embeds": pooled, "time_ids": sizes.repeat(len(embeds), 1)}
    for t in scheduler.timesteps:
        doubled = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
        noise = components.unet(doubled, t, encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False)[0]
        if guided:
            away, towards = noise.chunk(2)
            noise = away + request.guidance_scale * (towards - away)
            if request.guidance_rescale > 0:
                noise = sampling.rescale(noise, towards, request.guidance_rescale)
        latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0].to(components.dtype)
    marks.append(time.perf_counter())

    # decode
    vae = components.vae
    z = latents.to(vae.dtype) / vae.config.scaling_factor
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is not None and std is not None:
        z = z * z.new_tensor(std).view(1, -1, 1, 1) + z.new_tensor(mean).view(1, -1, 1, 1)
    image = Image.fromarray(to_uint8(vae.decode(z, return_dict=False)[0])[0].numpy())
    marks.append(time.perf_counter())

    # score
    if scorer is not None:
        text = scorer.tokenizer([request.prompt], padding=True, return_tensors="pt").to(device.torch)
        pixels = scorer.processor(images=[image], return_tensors="pt")["pixel_values"]
        judged = scorer.model(**text, pixel_values=pixels.to(device.torch, scorer.model.dtype))
        float(torch.cosine_similarity(judged.image_embeds.float(), judged.text_embeds.float())[0])
    marks.append(time.perf_counter())

    # save
    image.save(path, "PNG", compress_level=PNG_LEVEL)
    marks.append(time.perf_counter())
    spent = {name: after - before for name, before, after in zip(PHASES, marks, marks[1:], strict=False)}
    return {**spent, "total": marks[-1] - marks[0]}


class Rigged(Darkroom):
    """A darkroom that can also do a job the bare way, in the same thread.

    Not in another one: OpenMP keeps a team of threads for every thread that computes, and two teams on the same cores
    slow each other down.
    """

    bare_path: Path | None = None
    "Where the next job's picture goes if `bare` is to make it; with None the engine does, in its own way."
    texts: dict[tuple[Hashable, str], Encoded] | None = None
    "As `bare` takes them."
    spent: dict[str, float]
    "Seconds of the last bare picture."
    told: dict[str, Any]
    "Device and precision of the last job."

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Development:
        """As in Darkroom."""
        request = job.request
        assert isinstance(request, Generate)
        if self.bare_path is None:
            return (yield from super().develop(job, stop, began))
        components = yield from self._load(job, request, stop)
        scorer = self.scorer(request.score) if request.score is not None else None
        assert scorer is None or isinstance(scorer, ClipScorer)
        self.spent = bare(components, scorer, request, self.device, self.bare_path, self.texts)
        self.told = {
            "device": self.device.title,
            "precision": NAMES[components.dtype],
            "threads": torch.get_num_threads(),
        }
        return ()


class Bench:
    """An engine over a rigged darkroom, and the rounds."""

    def __init__(
        self, kind: Callable[..., Engine], catalogue: Catalogue, home: Path, options: Options, store: Store
    ) -> None:
        self.bare_path = home / "bare.png"
        "Where the next bare picture goes."
        self.texts: dict[tuple[Hashable, str], Encoded] | None = None
        "What bare pictures share, as `bare` takes it."
        self._rigged: Rigged | None = None

        def build() -> Rigged:
            # called in the engine's thread, at its first job
            self._rigged = Rigged(catalogue, options, home / "cache", home / "data")
            self._rigged.bare_path, self._rigged.texts = self.bare_path, self.texts
            return self._rigged

        places = folders.find({"SAFELIGHT_HOME": str(home)})
        self.engine = kind(catalogue, places, options, store, "command", darkroom=build)
        self.events: Iterator[Event] = self.engine.events()

    def bare(self, request: Generate) -> dict[str, float]:
        """Seconds by phase of one bare picture."""
        if self._rigged is not None:
            self._rigged.bare_path, self._rigged.texts = self.bare_path, self.texts
        self._follow(request)
        assert self._rigged is not None
        self._rigged.bare_path = None
        return self._rigged.spent

    def through(self, request: Generate) -> tuple[dict[str, float], int, Path]:
        """Seconds by phase of one picture through the engine (`total` is what the caller waits), how many previews it
        had, and where it is."""
        start = time.perf_counter()
        done, shown = self._follow(request)
        total = time.perf_counter() - start
        (picture,) = done.pictures
        return {**{name: getattr(picture.seconds, name) for name in PHASES}, "total": total}, shown, Path(picture.path)

    @property
    def told(self) -> dict[str, Any]:
        """Device, precision and CPU threads."""
        assert self._rigged is not None
        return self._rigged.told

    def _follow(self, request: Generate) -> tuple[Done, int]:
        shown = 0
        job = self.engine.submit(request)
        for event in self.events:
            match event:
                case Previewed():
                    shown += 1
                case Done(job_id) if job_id == job:
                    return event, shown
                case Failed(message=message, hint=hint):
                    raise SafelightError(message, hint)
                case Cancelled() | Closed():
                    break
                case _:
                    pass
        raise SafelightError("the engine ended before its picture was done", "its log tells why")


def measure(bench: Bench, request: Generate, rounds: int, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The result object above, but for what `request` says; `tell` gets the progress objects."""
    sides: dict[str, list[dict[str, float]]] = {"bare": [], "engine": [], "previews": []}
    shown: list[int] = []
    difference = 0
    parts = 3 * (rounds + 1)
    for number in range(rounds + 1):
        # Numbers of three digits: every prompt has as many tokens as the others, and none was encoded before.
        first, second = (
            replace(request, prompt=f"{PROMPT}, {100 + 2 * number + i}", seed=request.seed + number) for i in range(2)
        )
        plain = bench.bare(first)
        tell({"progress": [3 * number + 1, parts]})
        ours, _, path = bench.through(first)
        tell({"progress": [3 * number + 2, parts]})
        with_previews, count, _ = bench.through(replace(second, preview_every=1))
        tell({"progress": [3 * number + 3, parts]})
        if number:
            sides["bare"].append(plain)
            sides["engine"].append(ours)
            sides["previews"].append(with_previews)
            shown.append(count)
            difference = max(difference, apart(bench.bare_path, path))
    return {**bench.told, **sides, "shown": shown, "difference": difference}


def apart(one: Path, other: Path) -> int:
    """How far the pixels of two pictures are apart at most, 0 … 255."""
    with Image.open(one) as a, Image.open(other) as b:
        return max(ImageChops.difference(a.convert("RGB"), b.convert("RGB")).tobytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures as the command line says, and returns the exit code."""
    options = parser("engines.diffusion.bench", __doc__)
    options.add_argument("--model", default="")
    options.add_argument("--precision", default="auto")
    options.add_argument("--runs", type=int, default=5)
    return carry_out(options.parse_args(arguments), _run)


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """The options that all benches of an engine have."""
    options = argparse.ArgumentParser(prog=name, description=about.partition("\n")[0])
    # Named, not imported: an engine stands above this layer, and other engines are measured the same way.
    options.add_argument("--engine", default="engines.local:LocalEngine", metavar="MODULE:CLASS")
    options.add_argument(
        "--home", type=Path, help="an empty folder for all that is written; a temporary one if not given"
    )
    options.add_argument("--models", type=Path, help="the user's own models.toml")
    options.add_argument("--device", default="")
    options.add_argument("--threads", type=int, default=0)
    return options


def carry_out(given: argparse.Namespace, run: Run) -> int:
    """Measures in a folder of its own, prints what comes of it as JSON lines, and returns the exit code."""
    out = stdout()

    def tell(value: dict[str, Any]) -> None:
        out(json.dumps(value) + "\n")

    try:
        with tempfile.TemporaryDirectory(prefix="safelight-bench-") as spare:
            tell({"result": run(given, (given.home or Path(spare)).absolute(), tell)})
    except SafelightError as e:
        tell({"error": e.message, "hint": e.hint, "exit_code": e.exit_code})
        return e.exit_code
    return 0


@contextmanager
def opened(
    kind: Callable[..., B], given: argparse.Namespace, catalogue: Catalogue, home: Path
) -> Iterator[tuple[B, Store]]:
    """A bench over an engine of its own, as the command line says, and its store."""
    store = Store(home / "data" / "safelight.db")
    try:
        options = Options(home / "pictures", given.device, given.threads)
        bench = kind(pkgutil.resolve_name(given.engine), catalogue, home, options, store)
        try:
            yield bench, store
        finally:
            bench.engine.close()
    finally:
        store.close()


def judge(catalogue: Catalogue) -> str | None:
    """The best scorer that is here and that the bare loop knows, which computes CLIP's cosine itself."""
    judges = [s for s in catalogue.scorers.values() if s.kind == "clip" and not catalogue.missing(s)]
    return max(judges, key=lambda s: s.rank).id if judges else None


def _run(given: argparse.Namespace, home: Path, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    catalogue = catalogues.load(given.models)
    model = catalogue.require(given.model) if given.model else catalogue.default_model()
    scorer = judge(catalogue)
    recipe = model.recipe
    precision: Precision = given.precision
    request = Generate(
        PROMPT, model.id, 7, *recipe.size, recipe.num_inference_steps, recipe.guidance_scale, recipe.guidance_rescale,
        recipe.scheduler, recipe.timestep_spacing, precision=precision, score=scorer, preview_every=0,
    )  # fmt: skip
    with opened(Bench, given, catalogue, home) as (bench, _):
        found = measure(bench, request, given.runs, tell)
    size = "{}x{}".format(*recipe.size)
    return {"model": model.id, "steps": recipe.num_inference_steps, "size": size, "scorer": scorer, **found}


def stdout() -> Callable[[str], None]:
    """Writes to what descriptor 1 was; from here on libraries that print do so on stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return lambda text: (os.write(kept, text.encode()), None)[1]


if __name__ == "__main__":
    sys.exit(main())
