"""A request's latents: model in memory, prompt encoded, steps done; with less memory wherever it runs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from PIL import Image

from engines import planning
from engines.diffusion import decoding, loading, mosaic, sampling
from engines.diffusion import device as devices
from engines.diffusion.previews import Previews
from engines.diffusion.room import Room
from engines.errors import Stopped
from engines.events import Event, Noted, Previewed, Stepped
from engines.planning import Plan
from engines.prompt import Prompt
from engines.requests import Generate, Job

Start: TypeAlias = Image.Image | tuple[Image.Image, tuple[int, int]]
"A picture to begin with; or one, and the size that its latents are brought to."


class DrawingRoom(Room):
    """A room in which latents are made."""

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
            self.forget()
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
            self.forget(box[0].keys)
            if not again:
                raise devices.out_of_memory(self.device)
            how = "one picture at a time and " * (request.batch_size > 1)
            yield Noted("warning", f"memory ran out while {phase}: again, {how}with nothing else held", job.id)
            box[0] = replace(box[0], plan=replace(box[0].plan, together=1))
            return
        yield Noted("warning", lower.reasons[-1], job.id)
        before = box[0].plan
        if (lower.storage, lower.denoiser) != (before.storage, before.denoiser):
            self.forget(box.pop().keys)
            self.residency.forget()
            devices.release(self.device)
            box.append((yield from self._load(job, request, stop, lower)))
            return
        self.forget(box[0].keys)
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
        begin: torch.Tensor | None = None,
        tile: int = 0,
    ) -> Generator[Event, None, torch.Tensor]:
        """The finished latents; over those in `begin`, if there are any; in tiles of so many pixels, if not 0.

        Memory that runs out is met by letting go of everything else, then rung by rung by plans that need less.
        """
        singles = [request.single(i) for i in range(request.batch_size)]
        again = True
        while True:
            finished: list[torch.Tensor] = []
            try:
                for part in singles if box[0].plan.together < request.batch_size else [request]:
                    finished.append((yield from self._denoise(job, part, box[0], conditioning, stop, begin, tile)))
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
        begin: torch.Tensor | None,
        tile: int,
    ) -> Generator[Event, None, torch.Tensor]:
        recipe = components.model.recipe
        scheduler = sampling.make_scheduler(
            request.scheduler, components.scheduler_config, recipe, request.timestep_spacing
        )
        previews = Previews(components.preview, self.device.torch, request.preview_every)
        unet = mosaic.Mosaic(components.unet, tile // mosaic.SCALE, stop) if tile else components.unet
        steps = sampling.denoise(unet, scheduler, conditioning, request, self.device.torch, components.dtype, begin)
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

    def _begin(self, components: loading.Components, start: Start) -> tuple[torch.Tensor, str]:
        """The latents of what a picture begins with, (1, 4, height / 8, width / 8) in the denoiser's dtype; and what is
        to be told of it."""
        image, size = start if isinstance(start, tuple) else (start, start.size)
        with torch.inference_mode(), self.memory():
            latents, note = decoding.encode(components, image, self.device, lambda: self.forget(components.keys))
            if size != image.size:
                shape = (size[1] // 8, size[0] // 8)
                latents = torch.nn.functional.interpolate(latents, shape, mode="bicubic", align_corners=False)
        return latents.to(components.dtype), note
