"""The denoising loop of SDXL, and the scheduler that drives it.

`denoise` follows Algorithm 1 of "SDXL: Improving Latent Diffusion Models" (arXiv:2307.01952) as diffusers'
StableDiffusionXLPipeline does it: size and crop conditioning, classifier-free guidance above 1 (arXiv:2207.12598)
and its rescale (arXiv:2305.08891, section 3.4). A test holds it against that pipeline pixel by pixel.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engines import schedulers
from engines.catalogue import Recipe
from engines.diffusion.conditioning import Conditioning
from engines.requests import Generate


@dataclass(frozen=True, slots=True)
class Step:
    """The state after one denoising step."""

    number: int
    "1 … of."
    of: int
    "Steps in all."
    latents: torch.Tensor
    "(batch, 4, height / 8, width / 8), the denoiser's dtype; replaced, not changed, by the next step."
    clean: torch.Tensor
    "What the denoiser thinks the finished latents are, same shape; the best thing to preview."


def make_scheduler(name: str, config: dict[str, Any], recipe: Recipe, timestep_spacing: str | None) -> Any:
    """A fresh diffusers scheduler: the model's configuration, the row's arguments over it, the recipe's over both."""
    import diffusers

    row = schedulers.find(name)
    arguments = dict(row.arguments)
    if timestep_spacing is not None:
        arguments["timestep_spacing"] = timestep_spacing
    if recipe.prediction_type is not None:
        arguments["prediction_type"] = recipe.prediction_type
    kind = getattr(diffusers, row.class_name)
    known = inspect.signature(kind.__init__).parameters
    # what another scheduler's configuration says that this one doesn't know would only be warned about
    own = {k: v for k, v in config.items() if k in known}
    return kind.from_config({**own, **{k: v for k, v in arguments.items() if k in known}})


def generators(seed: int, count: int) -> list[torch.Generator]:
    """One generator a picture, seeded with seed + i, on the CPU so that every device draws the same noise."""
    return [torch.Generator("cpu").manual_seed(seed + i) for i in range(count)]


def initial_latents(
    request: Generate, noise: Sequence[torch.Generator], channels: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Unit noise of shape (batch, channels, height / 8, width / 8), drawn in fp32 and then cast."""
    shape = (1, channels, request.height // 8, request.width // 8)
    drawn = [torch.randn(shape, generator=g, dtype=torch.float32) for g in noise]
    return torch.cat(drawn).to(device=device, dtype=dtype)


def time_ids(request: Generate, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """SDXL's micro-conditioning (arXiv:2307.01952, section 2.2), shape (1, 6): original size, crop, target size."""
    size = (request.height, request.width)
    return torch.tensor([[*size, 0, 0, *size]], device=device, dtype=dtype)


def denoise(
    unet: Any,
    scheduler: Any,
    conditioning: Conditioning,
    request: Generate,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Step]:
    """Yields the state after every step; the last one's `latents` are the picture.

    Whoever iterates may stop at any step. Runs under the caller's inference mode.
    """
    batch = request.batch_size
    noise = generators(request.seed, batch)
    guided = request.guidance_scale > 1

    scheduler.set_timesteps(request.num_inference_steps, device=device)
    timesteps = scheduler.timesteps
    latents = initial_latents(request, noise, unet.config.in_channels, device, dtype) * scheduler.init_noise_sigma
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)

    sizes = time_ids(request, device, dtype)
    if guided:
        embeds = torch.cat([_repeat(conditioning.negative_embeds, batch), _repeat(conditioning.embeds, batch)])
        pooled = torch.cat([_repeat(conditioning.negative_pooled, batch), _repeat(conditioning.pooled, batch)])
    else:
        embeds, pooled = _repeat(conditioning.embeds, batch), _repeat(conditioning.pooled, batch)
    added = {"text_embeds": pooled, "time_ids": sizes.repeat(embeds.shape[0], 1)}
    wanted = inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"generator": noise if batch > 1 else noise[0]} if "generator" in wanted else {}

    order = int(getattr(scheduler, "order", 1))
    warmup = max(len(timesteps) - request.num_inference_steps * order, 0)
    for i, t in enumerate(timesteps):
        doubled = torch.cat([latents] * 2) if guided else latents
        prediction = unet(
            scheduler.scale_model_input(doubled, t),
            t,
            encoder_hidden_states=embeds,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        if guided:
            away, towards = prediction.chunk(2)
            prediction = away + request.guidance_scale * (towards - away)
            if request.guidance_rescale > 0:
                prediction = rescale(prediction, towards, request.guidance_rescale)
        before = latents
        out = scheduler.step(prediction, t, latents, **extra, return_dict=True)
        latents = out.prev_sample.to(dtype)
        last = i == len(timesteps) - 1
        # a second-order scheduler evaluates the UNet twice a step: a step is told when it is whole
        if last or (i + 1 > warmup and (i + 1) % order == 0):
            number = request.num_inference_steps if last else (i + 1 - warmup) // order
            yield Step(
                number, request.num_inference_steps, latents, latents if last else _clean(scheduler, out, before)
            )


def rescale(guided: torch.Tensor, towards: torch.Tensor, amount: float) -> torch.Tensor:
    """Guidance rescale (arXiv:2305.08891, equations 15–16): `amount` (0 … 1) of the way to the contrast of `towards`.

    Both have shape (batch, 4, height / 8, width / 8).
    """
    axes = list(range(1, guided.ndim))
    restored = guided * (towards.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True))
    return amount * restored + (1 - amount) * guided


def _clean(scheduler: Any, out: Any, before: torch.Tensor) -> torch.Tensor:
    """The scheduler's own estimate of the finished latents, where it keeps one; else the noisy ones."""
    for name in ("pred_original_sample", "denoised"):
        estimate = getattr(out, name, None)
        if estimate is not None:
            return estimate  # type: ignore[no-any-return]
    kept = [x for x in getattr(scheduler, "model_outputs", []) if x is not None]
    if kept and scheduler.config.get("algorithm_type", "").endswith("dpmsolver++"):
        return kept[-1]  # type: ignore[no-any-return]
    return out.prev_sample  # type: ignore[no-any-return]


def _repeat(x: torch.Tensor | None, batch: int) -> torch.Tensor:
    assert x is not None, "guidance above 1 needs negative embeddings"
    return x if batch == 1 else x.repeat(batch, *([1] * (x.ndim - 1)))
