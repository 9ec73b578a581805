"""The denoising loop of SDXL, and the scheduler that drives it.

`denoise` follows Algorithm 1 of "SDXL: Improving Latent Diffusion Models" (arXiv:2307.01952) as diffusers'
StableDiffusionXLPipeline does it: size and crop conditioning, classifier-free guidance above 1 (arXiv:2207.12598)
and its rescale (arXiv:2305.08891, section 3.4). A test holds it against that pipeline pixel by pixel.

A variation begins with noise on the way from one seed's to another's, as A1111's "variation seed" does
(github.com/AUTOMATIC1111/stable-diffusion-webui, modules/rng.py).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engines import schedulers
from engines.diffusion import solvers
from engines.diffusion.conditioning import Conditioning
from engines.entries import Recipe
from engines.errors import CatalogueError
from engines.requests import Generate

NEARLY_PARALLEL = 0.9995
"Of two vectors' cosine; above it, an arc is longer than its chord by at most 5 parts in 100,000."


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


# What a scheduler's configuration says of the model. The rest is about a sampler, and that is the row's to say: several
# repositories ship one with Karras levels or an SDE, which would turn every other row into something else.
_OF_THE_MODEL = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr", "timestep_spacing", "steps_offset",
)  # fmt: skip


def make_scheduler(name: str, config: dict[str, Any], recipe: Recipe, timestep_spacing: str | None) -> Any:
    """A fresh diffusers scheduler: the model's configuration, the row's arguments over it, the recipe's over both.

    It is of the row's class, with what that class gets wrong put right: see `engines.diffusion.solvers`.

    Args:
        name: a name from engines.schedulers.
        config: the model's scheduler_config.json; only what it says of the model is taken.
        recipe: its prediction_type and rescale_betas_zero_snr come before everything.
        timestep_spacing: leading, trailing or linspace; without effect where the row's name means one.

    Raises:
        CatalogueError: the row can't be run with a model of this kind.
    """
    row = schedulers.find(name)
    own = {key: config[key] for key in _OF_THE_MODEL if key in config}
    if timestep_spacing is not None:
        own["timestep_spacing"] = timestep_spacing
    own |= row.arguments
    if recipe.prediction_type is not None:
        own["prediction_type"] = recipe.prediction_type
    if recipe.rescale_betas_zero_snr is not None:
        own["rescale_betas_zero_snr"] = recipe.rescale_betas_zero_snr
    if config.get("timestep_type") == "continuous" or str(config.get("_class_name", "")).startswith(("EDM", "Flow")):
        what = config.get("_class_name", "a continuous one")
        raise CatalogueError(
            f"the model wants its noise in another formulation ({what}) than SDXL's schedulers give",
            "such models (Playground 2.5, CosXL, flow matching) can't be run",
            "scheduler",
        )
    if why := schedulers.refusal(row, own.get("prediction_type"), own.get("rescale_betas_zero_snr")):
        able = schedulers.able(own.get("prediction_type"), own.get("rescale_betas_zero_snr"))
        hint = f"take {', '.join(one.name for one in able[:3])}, …" if able else "no scheduler here can do that"
        raise CatalogueError(why, hint, "scheduler")
    kind = solvers.kind(row.class_name)
    # what another scheduler's configuration says that this one doesn't know would only be warned about
    known = inspect.signature(kind.__init__).parameters
    made = kind.from_config({k: v for k, v in own.items() if k in known})
    made.schedule = row.schedule
    return made


def generators(seed: int, count: int) -> list[torch.Generator]:
    """One generator a picture, seeded with seed + i, on the CPU so that every device draws the same noise."""
    return [torch.Generator("cpu").manual_seed(seed + i) for i in range(count)]


def initial_latents(
    request: Generate, noise: Sequence[torch.Generator], channels: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Unit noise of shape (batch, channels, height / 8, width / 8), drawn in fp32 and then cast.

    A variation's other noise comes from generators of its own: those in `noise` go on to what a scheduler adds on the
    way, which stays the seed's at every strength.
    """
    shape = (1, channels, request.height // 8, request.width // 8)
    drawn = [torch.randn(shape, generator=g, dtype=torch.float32) for g in noise]
    if request.variation_seed is not None and request.variation_strength > 0:
        others = generators(request.variation_seed, len(noise))
        drawn = [
            slerp(request.variation_strength, one, torch.randn(shape, generator=g, dtype=torch.float32))
            for one, g in zip(drawn, others, strict=True)
        ]
    return torch.cat(drawn).to(device=device, dtype=dtype)


def slerp(amount: float, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """The point `amount` (0 … 1) of the way along the arc from `start` to `end`, each taken as one vector.

    Its length is as far on the way from the one's to the other's.

    Spherical linear interpolation (Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985): a straight
    mix of two noises would be weaker than either, halfway by 29 %, and the model was trained on none that is. The ends
    are exact. Vectors that are nearly parallel leave the formula 0 / 0, and a straight line is the arc there.
    """
    if amount <= 0 or amount >= 1:
        return start if amount <= 0 else end
    a, b = start.double().flatten(), end.double().flatten()
    lengths = float(a.norm()), float(b.norm())
    cosine = float(torch.dot(a, b) / (a.norm() * b.norm()))
    if not abs(cosine) < NEARLY_PARALLEL:  # nor if one of them is nothing
        return torch.lerp(start, end, amount)
    angle = math.acos(cosine)
    length = ((1 - amount) * lengths[0] + amount * lengths[1]) / math.sin(angle)
    of_start = math.sin((1 - amount) * angle) * length / lengths[0]
    of_end = math.sin(amount * angle) * length / lengths[1]
    return of_start * start + of_end * end


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
    begin: torch.Tensor | None = None,
) -> Iterator[Step]:
    """Yields the state after every step; the last one's `latents` are the picture.

    With `begin`, latents of shape (1, 4, height / 8, width / 8), the request's strength says from which step on they
    are drawn over, with the noise of that step upon them (SDEdit, arXiv:2108.01073, as diffusers'
    StableDiffusionXLImg2ImgPipeline does it, but that one step at least is run).

    Whoever iterates may stop at any step. Runs under the caller's inference mode.
    """
    batch = request.batch_size
    noise = generators(request.seed, batch)
    guided = request.guidance_scale > 1

    scheduler.set_timesteps(request.num_inference_steps, device=device)
    order = int(getattr(scheduler, "order", 1))
    count = request.num_inference_steps if begin is None else steps_of(request)
    skipped = (request.num_inference_steps - count) * order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    timesteps = scheduler.timesteps[skipped:]
    latents = initial_latents(request, noise, unet.config.in_channels, device, dtype)
    if begin is None:
        latents = latents * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(begin.repeat(batch, 1, 1, 1).to(latents), latents, timesteps[:1].repeat(batch))

    sizes = time_ids(request, device, dtype)
    if guided:
        embeds = torch.cat([_repeat(conditioning.negative_embeds, batch), _repeat(conditioning.embeds, batch)])
        pooled = torch.cat([_repeat(conditioning.negative_pooled, batch), _repeat(conditioning.pooled, batch)])
    else:
        embeds, pooled = _repeat(conditioning.embeds, batch), _repeat(conditioning.pooled, batch)
    added = {"text_embeds": pooled, "time_ids": sizes.repeat(embeds.shape[0], 1)}
    wanted = inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"generator": noise if batch > 1 else noise[0]} if "generator" in wanted else {}

    warmup = max(len(timesteps) - count * order, 0)
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
            number = count if last else (i + 1 - warmup) // order
            yield Step(number, count, latents, latents if last else _clean(scheduler, out, before))


def steps_of(request: Generate) -> int:
    """Steps that are run over a picture: the strength's share of num_inference_steps, one at least."""
    return min(max(int(request.num_inference_steps * request.strength), 1), request.num_inference_steps)


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
    if not kept:
        return out.prev_sample  # type: ignore[no-any-return]
    config = scheduler.config
    if config.get("predict_x0") or config.get("algorithm_type", "").endswith(("dpmsolver++", "data_prediction")):
        return kept[-1]  # type: ignore[no-any-return]
    if config.get("algorithm_type") == "deis":
        level = 1 / (1 + scheduler.sigmas[scheduler.step_index - 1] ** 2)
        return solvers.clean_from("epsilon", kept[-1], before, level)
    return out.prev_sample  # type: ignore[no-any-return]


def _repeat(x: torch.Tensor | None, batch: int) -> torch.Tensor:
    assert x is not None, "guidance above 1 needs negative embeddings"
    return x if batch == 1 else x.repeat(batch, *([1] * (x.ndim - 1)))
