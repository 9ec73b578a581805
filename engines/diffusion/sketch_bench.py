"""`python -m engines.diffusion.sketch_bench FILE` measures what a sketch costs beside the bare work, in JSON lines.

FILE has the requests, one a line as `engines.requests.to_json` writes them: all of one model and one size. The first
one warms up, and tells what the bare work is: every call of the UNet is noted with what it was given. The others are
done in turns, bare and through the engine, and both sides are told. `safelight bench live` runs this in a process of
its own with the requests that live would make, and does the statistics.

    {"progress": [requests done, requests in all]}
    {"result": {model, device, precision, threads, width, height, evaluations, batch, decoder, bare, engine}}
    {"error": one line, "hint": one line, "exit_code": 1 or 2}, and the process ends with that code

`bare` is the seconds of the noted calls of the same UNet (a plain diffusers module), one after another, and of one
decode of what the last one returned into pixels in main memory: no encoding, no scheduler, no queue. `engine` is the
seconds from `submit` to `Sketched`. `evaluations` is how often the UNet is called, `batch` how many latents it is given
at once (two where there is guidance), `decoder` what decodes: "preview" or "vae".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from engines import catalogue as catalogues
from engines import folders, requests
from engines.catalogue import Catalogue
from engines.diffusion.bench import carry_out, opened, parser
from engines.diffusion.darkroom import Darkroom, Development
from engines.diffusion.device import NAMES
from engines.diffusion.loading import Components
from engines.diffusion.previews import decode_tiny, to_uint8
from engines.engine import Engine
from engines.errors import InvalidRequest, SafelightError
from engines.events import Cancelled, Closed, Done, Event, Failed, Sketched
from engines.options import Options
from engines.requests import Generate, Job
from engines.store import Store

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"What the UNet was given, by place and by name."


@torch.inference_mode()
def bare(components: Components, calls: Sequence[Call]) -> float:
    """Seconds of the UNet's calls and of one decode of the last one's outcome, with nothing around them."""
    start = time.perf_counter()
    latents = torch.empty(0)
    for given, named in calls:
        latents = components.unet(*given, **named)[0][:1]
    if components.preview is not None:
        image = decode_tiny(components.preview, latents)
    else:
        image = components.vae.decode(latents.to(components.vae.dtype), return_dict=False)[0]
    to_uint8(image)
    return time.perf_counter() - start


class Watched(Darkroom):
    """A darkroom that notes the UNet's calls during its first job, and can do them again with nothing around them.

    In the same thread, as in `engines.diffusion.bench`: two OpenMP teams on the same cores slow each other down.
    """

    stripped = False
    "Whether the next job is done bare."
    calls: list[Call]
    "Of the UNet, during the first job."
    spent = 0.0
    "Seconds of the last bare job."
    told: dict[str, Any]
    "How the first job was done."

    def develop(self, job: Job, stop: Callable[[], bool], began: float) -> Development:
        """As in Darkroom."""
        request = job.request
        assert isinstance(request, Generate)
        if hasattr(self, "calls") and not self.stripped:
            return (yield from super().develop(job, stop, began))
        components = yield from self._load(job, request, stop)
        if self.stripped:
            self.spent = bare(components, self.calls)
            return ()
        self.calls = []
        hook = components.unet.register_forward_pre_hook(
            lambda _, given, named: self.calls.append((given, named)), with_kwargs=True
        )
        try:
            made = yield from super().develop(job, stop, began)
        finally:
            hook.remove()
        self.told = {
            "device": self.device.title,
            "precision": NAMES[components.dtype],
            "threads": torch.get_num_threads(),
            "evaluations": len(self.calls),
            "batch": len(self.calls[0][0][0]),
            "decoder": "vae" if components.preview is None else "preview",
        }
        return made


class Bench:
    """An engine over a watched darkroom."""

    def __init__(
        self, kind: Callable[..., Engine], catalogue: Catalogue, home: Path, options: Options, store: Store
    ) -> None:
        self.room: Watched | None = None

        def build() -> Watched:
            # called in the engine's thread, at its first job
            self.room = Watched(catalogue, options, home / "cache", home / "data")
            return self.room

        places = folders.find({"SAFELIGHT_HOME": str(home)})
        self.engine = kind(catalogue, places, options, store, "workbench", darkroom=build)
        self._events: Iterator[Event] = self.engine.events()

    def bare(self, request: Generate) -> float:
        """Seconds of the bare work; after a first job."""
        assert self.room is not None
        self.room.stripped = True
        try:
            self._follow(request)
        finally:
            self.room.stripped = False
        return self.room.spent

    def through(self, request: Generate) -> float:
        """Seconds until a sketch is there that the engine makes."""
        start = time.perf_counter()
        seen = self._follow(request)
        if seen is None:
            raise SafelightError("the engine made no sketch", "its log tells why")
        return seen - start

    def _follow(self, request: Generate) -> float | None:
        """Waits for the end of a job, and returns when its sketch was there."""
        seen: float | None = None
        job = self.engine.submit(request)
        for event in self._events:
            match event:
                case Sketched():
                    seen = time.perf_counter()
                case Done(job_id) if job_id == job:
                    return seen
                case Failed(message=message, hint=hint):
                    raise SafelightError(message, hint)
                case Cancelled() | Closed():
                    break
                case _:
                    pass
        raise SafelightError("the engine ended before its sketch was done", "its log tells why")


def measure(bench: Bench, asked: Sequence[Generate], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The result object above, but for what the requests say; `tell` gets the progress objects."""
    first, *others = asked
    bench.through(first)
    bench.bare(first)
    assert bench.room is not None
    sides: dict[str, list[float]] = {"bare": [], "engine": []}
    for number, request in enumerate(others):
        tell({"progress": [number + 1, len(asked)]})
        sides["bare"].append(bench.bare(request))
        sides["engine"].append(bench.through(request))
    return {**bench.room.told, **sides}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures as the command line says, and returns the exit code."""
    options = parser("engines.diffusion.sketch_bench", __doc__)
    options.add_argument("file", type=Path, help="sketches to make, one request a line; at least two")
    return carry_out(options.parse_args(arguments), _run)


def _run(given: argparse.Namespace, home: Path, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    asked = _sketches(given.file)
    catalogue = catalogues.load(given.models)
    with opened(Bench, given, catalogue, home) as (bench, _):
        found = measure(bench, asked, tell)
    return {"model": asked[0].model, "width": asked[0].width, "height": asked[0].height, **found}


def _sketches(file: Path) -> list[Generate]:
    """Raises InvalidRequest where they are not sketches of one model and size, two or more."""
    read = [requests.from_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    asked = [request for request in read if isinstance(request, Generate) and request.sketch]
    kinds = {(one.model, one.width, one.height, one.num_inference_steps, one.guidance_scale) for one in asked}
    if len(asked) < 2 or len(asked) < len(read) or len(kinds) > 1:
        raise InvalidRequest("two or more sketches of one model, size and number of steps are needed", "", "file")
    return asked


if __name__ == "__main__":
    sys.exit(main())
