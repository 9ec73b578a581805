"""From latents to pixels: whole, in pieces or in another precision, and never a picture of numbers that are none."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines import planning
from engines.diffusion import device as devices
from engines.diffusion import pieces, placing
from engines.diffusion.device import Device
from engines.diffusion.loading import Components
from engines.diffusion.previews import to_uint8
from engines.errors import LoadError


def check(components: Components, latents: torch.Tensor) -> None:
    """Raises LoadError for latents that are not finite, naming who is to blame."""
    if not torch.isfinite(latents).all():
        raise _not_finite(components)


def finish(
    components: Components, latents: torch.Tensor, device: Device, forget: Callable[[], None]
) -> tuple[torch.Tensor, str]:
    """(batch, height, width, 3) uint8 on the CPU, and a note if it took a second try.

    Non-finite pixels are never saved: `astype(uint8)` would make them black with no more than a
    warning. An overflow in the VAE gets one more try in fp32, memory that runs out more in smaller and smaller
    tiles.

    Args:
        components: the VAE, and the plan that says in how many pieces it decodes.
        latents: (batch, 4, height / 8, width / 8) as the denoiser gives them.
        device: whose memory may run out.
        forget: lets go of everything that this picture doesn't need.

    Raises:
        LoadError: the pixels are not finite, in fp32 too.
        OutOfMemory: no tile is small enough.
    """
    vae, plan, note = components.vae, components.plan, ""
    dtype = vae.dtype
    while True:
        image = None
        try:
            with placing.decoding(vae, sliced=plan.vae != "whole"):
                image = decode(vae, latents, dtype, plan.tile if plan.vae == "tiled" else 0)
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
        # past the except, so that the frames of the failure are gone before their memory is asked for
        if image is None:
            forget()
            lower = planning.next_rung(plan, "decoding")
            if lower is None or (lower.vae == plan.vae == "tiled" and lower.tile == plan.tile):
                raise devices.out_of_memory(device)
            plan, note = lower, f"memory ran out while decoding; {lower.reasons[-1]}"
        elif torch.isfinite(image).all():
            return to_uint8(image), note
        elif dtype == torch.float32:
            raise LoadError("the VAE gave numbers that are not finite; no picture was saved", "try another VAE")
        else:
            dtype, note = torch.float32, "the VAE overflowed; decoded again in fp32"
            plan = planning.plan(replace(plan.ask, vae_dtype="fp32"))  # which takes twice as much memory


def decode(vae: Any, latents: torch.Tensor, dtype: torch.dtype | None = None, tile: int = 0) -> torch.Tensor:
    """(batch, 4, h, w) → (batch, 3, 8h, 8w) in −1 … 1, scaled as StableDiffusionXLPipeline does it; in tiles on the CPU
    and in fp32.

    Args:
        vae: an AutoencoderKL; it is left as it was.
        latents: as the denoiser gives them.
        dtype: to compute in; None for the VAE's own.
        tile: pixels of a tile's side, for pictures that are larger; 0 for none.
    """
    own = vae.dtype
    try:
        if dtype is not None and dtype != own:
            vae.to(dtype)
        z = latents.to(dtype or own)
        mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
        if mean is not None and std is not None:
            shape = (1, z.shape[1], 1, 1)
            z = z * z.new_tensor(std).view(shape) / vae.config.scaling_factor + z.new_tensor(mean).view(shape)
        else:
            z = z / vae.config.scaling_factor
        side = tile // 2 ** (len(vae.config.block_out_channels) - 1)
        if tile and max(z.shape[-2:]) > side:
            return torch.cat([_pieced(vae, one[None], side) for one in z])
        return vae.decode(z, return_dict=False)[0]  # type: ignore[no-any-return]
    finally:
        if dtype is not None and dtype != own:
            vae.to(own)


def _pieced(vae: Any, z: torch.Tensor, side: int) -> torch.Tensor:
    """One picture, decoded in tiles of so many latents."""
    return _drained(pieces.decode(vae, z, side, area=side * side))


def _drained(work: Generator[object, None, torch.Tensor]) -> torch.Tensor:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def encode(
    components: Components, picture: Image.Image, device: Device, forget: Callable[[], None]
) -> tuple[torch.Tensor, str]:
    """The latents of a picture as the denoiser has them, (1, 4, height / 8, width / 8) in fp32: the most likely ones,
    with nothing drawn, so that they depend on nothing but the picture; and a note if it took a second try.

    An overflow gets one more try in fp32, memory that runs out more in smaller and smaller tiles, as in `finish`.

    Args:
        components: the VAE, and the plan that says in how many pieces it works.
        picture: RGB, its sides multiples of 8.
        device: whose memory may run out.
        forget: lets go of everything that this picture doesn't need.

    Raises:
        LoadError: the latents are not finite, in fp32 too.
        OutOfMemory: no tile is small enough.
    """
    vae, plan, note = components.vae, components.plan, ""
    own = dtype = vae.dtype
    levels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1
    while True:
        z = None
        try:
            vae.to(dtype)
            factor = 2 ** (len(vae.config.block_out_channels) - 1)
            tile = (plan.tile if plan.vae == "tiled" else max(picture.size)) // factor
            z = _drained(pieces.encode(vae, levels.to(vae.device, dtype), tile, area=tile * tile)).to(vae.device)
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
        finally:
            vae.to(own)
        # past the except, so that the frames of the failure are gone before their memory is asked for
        if z is None:
            forget()
            lower = planning.next_rung(plan, "decoding")
            if lower is None or (lower.vae == plan.vae == "tiled" and lower.tile == plan.tile):
                raise devices.out_of_memory(device)
            plan, note = lower, f"memory ran out while reading the picture to begin with; {lower.reasons[-1]}"
            continue
        if torch.isfinite(z).all():
            mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
            if mean is not None and std is not None:
                shape = (1, z.shape[1], 1, 1)
                return (z - z.new_tensor(mean).view(shape)) * vae.config.scaling_factor / z.new_tensor(std).view(
                    shape
                ), note
            return z * vae.config.scaling_factor, note
        if dtype == torch.float32:
            raise LoadError("the VAE gave numbers that are not finite for the picture to begin with", "try another VAE")
        dtype = torch.float32
        plan = planning.plan(replace(plan.ask, vae_dtype="fp32"))  # which takes twice as much memory


def _not_finite(components: Components) -> LoadError:
    """Who is to blame for latents that are not finite: weights that are not, else the precision."""
    first, second = (dressed.module for dressed in components.text.dressed)
    for what, module in (("denoiser", components.unet), ("text encoder", first), ("second text encoder", second)):
        for name, weight in module.named_parameters():
            if not weight.is_meta and not torch.isfinite(weight.float()).all():
                return LoadError(
                    f"the {what} of {components.model.id} has numbers that are not finite in {name}; "
                    "no picture was saved",
                    f"safelight models verify {components.model.id} tells whether its files are damaged",
                )
    return LoadError(
        "the denoiser gave numbers that are not finite; no picture was saved",
        "try --precision fp32, or a LoRA weight nearer to 0",
    )
