"""Weights in 8 bits, weights that come layer by layer, and a VAE in pieces: what makes a model fit a smaller device.

Each is switched on for one component and off again, and the pictures are those without it, but for what fp8 rounds and
what a tile doesn't see. When to use which is `engines.planning`'s affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from engines.diffusion.residency import CPU, move

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
"448; what is larger would become NaN."
KEPT = re.compile(r"norm|embed|^conv_in$|^conv_out$")
"""Layers of a UNet that keep their precision. diffusers' layerwise casting leaves out norms and patch and position
embeddings for quality's sake; with the time embeddings, the first and the last layer it is still only 0.3 % of SDXL's
weights."""
_CAST = "safelight_cast"


# ── weights in 8 bits ───────────────────────────────────────────────────────────────────────────────────────────────


class _Cast:
    """The hooks of one layer, kept beside it: its weight is widened for the moment that it runs."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.stored: nn.Parameter | None = None
        self.handles = (
            layer.register_forward_pre_hook(self.before),
            layer.register_forward_hook(self.after, always_call=True),  # memory that runs out inside leaves it whole
        )

    def before(self, layer: nn.Module, inputs: object) -> None:
        self.stored = layer._parameters["weight"]
        assert self.stored is not None
        layer._parameters["weight"] = nn.Parameter(self.stored.to(self.dtype), requires_grad=False)

    def after(self, layer: nn.Module, inputs: object, output: object) -> None:
        if self.stored is not None:
            layer._parameters["weight"] = self.stored
        self.stored = None


def store_in_fp8(unet: nn.Module) -> None:
    """Stores the weights of linear and convolutional layers in 8 bits (e4m3), in place; each is widened when it runs.

    They take half of fp16's memory, and what is computed in stays as it was. Parameters are never changed by running,
    so it works under inference mode, which diffusers' own hooks don't. Layers of `KEPT`, and those
    with weights beyond LARGEST, stay as they are.

    LoRAs go in before: nothing must be added to weights in 8 bits, where most of it would be rounded away. Only for
    UNets: compel takes an encoder's dtype for its conditioning.
    """
    if stored_in_fp8(unet):
        return
    with torch.inference_mode(False), torch.no_grad():
        for name, layer in unet.named_modules():
            if not isinstance(layer, (nn.Linear, nn.Conv2d)) or KEPT.search(name):
                continue
            if not bool(layer.weight.abs().max() <= LARGEST):  # NaN stays too, for whoever looks for it
                continue
            dtype = layer.weight.dtype
            layer.weight = nn.Parameter(layer.weight.to(FP8), requires_grad=False)
            layer.__dict__[_CAST] = _Cast(layer, dtype)


def stored_in_fp8(module: nn.Module) -> bool:
    """Whether some of its weights are in 8 bits."""
    return any(parameter.dtype == FP8 for parameter in module.parameters())


# ── weights in main memory ──────────────────────────────────────────────────────────────────────────────────────────


def bring_by_layer(module: nn.Module, device: torch.device) -> None:
    """Keeps a module's weights in main memory, and brings each layer's to the device for the moment that it runs.

    The least memory that a UNet can run in, and the slowest: all of its weights cross the bus in each step. It is
    accelerate's `cpu_offload`, which makes no copy in main memory and gives the weights back.

    Raises:
        ValueError: its weights are stored in 8 bits.
    """
    if stored_in_fp8(module):
        raise ValueError("weights in 8 bits can't come layer by layer")
    if comes_by_layer(module):
        bring_whole(module)
    import accelerate

    move(module, CPU)
    with torch.inference_mode(False):
        accelerate.cpu_offload(module, execution_device=device, offload_buffers=True)


def comes_by_layer(module: nn.Module) -> bool:
    """Whether `bring_by_layer` is on: its parameters are empty then, and it can't be moved."""
    return hasattr(module, "_hf_hook")


def bring_whole(module: nn.Module) -> None:
    """Takes `bring_by_layer` off: the weights are the module's own again, in main memory."""
    from accelerate.hooks import remove_hook_from_module

    with torch.inference_mode(False):
        remove_hook_from_module(module, recurse=True)


# ── the VAE ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def decoding(vae: Any, tile: int = 0, sliced: bool = False) -> Iterator[None]:
    """Makes an AutoencoderKL decode in pieces inside the block; it is left as it was.

    Args:
        vae: for pictures eight times the size of its latents.
        tile: pixels of a tile's side, overlapping by a quarter; 0 for none. A picture that is no larger stays whole.
        sliced: one picture of a batch after another.

    Raises:
        ValueError: a tile's latents are not a multiple of four. A quarter of them is no whole number then, and
            diffusers pieces the tiles together askew.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    if tile % (4 * scale):
        raise ValueError(f"a tile of {tile} px is no multiple of {4 * scale}")
    names = ("tile_latent_min_size", "tile_sample_min_size", "use_tiling", "use_slicing")
    before = {name: getattr(vae, name) for name in names}
    try:
        if tile:
            vae.tile_latent_min_size, vae.tile_sample_min_size, vae.use_tiling = tile // scale, tile, True
        vae.use_slicing = sliced or vae.use_slicing
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)
