"""Small pictures on the way, from a tiny decoder, within a share of the time."""

from __future__ import annotations

import time
from typing import Any

import torch

from engines.diffusion.sampling import Step
from engines.events import Pixels

SHARE = {"cpu": 0.10}
"Of the denoising time, what previews may cost, by device type."
SHARE_ELSEWHERE = 0.03
LEAST = 2
"Previews of a picture of four steps or more."
SIDE = 256
"Pixels of a preview's longer side, at most."


class Previews:
    """Decides after each step whether a preview is due, and makes it.

    A preview is due while its cost, as measured so far, stays within the share of the time that denoising has taken;
    at a third and two thirds of the way one is made whatever it costs, so that there are never fewer than LEAST.

    Args:
        decoder: an AutoencoderTiny for the latents at hand, or None for no previews.
        every: offer one every so many steps; 0 for none.
    """

    def __init__(self, decoder: Any | None, device: torch.device, every: int) -> None:
        self.decoder = decoder
        self.share = SHARE.get(device.type, SHARE_ELSEWHERE)
        self.every = every
        self.made = 0
        self.spent = 0.0
        "Seconds that previews took."
        self._start = time.perf_counter()
        self._device = device

    def after(self, step: Step) -> Pixels | None:
        """The preview of the first picture in the batch, if one is due after this step; never after the last."""
        if self.decoder is None or not self.every or step.number >= step.of:
            return None
        if not self._due(step):
            return None
        start = time.perf_counter()
        image = to_pixels(decode_tiny(self.decoder, step.clean[:1]), SIDE)
        self.spent += time.perf_counter() - start
        self.made += 1
        return image

    def _due(self, step: Step) -> bool:
        if step.of >= 4 and self.made < LEAST and step.number >= step.of * (self.made + 1) // (LEAST + 1):
            return True
        if step.number % self.every:
            return False
        denoising = time.perf_counter() - self._start - self.spent
        cost = self.spent / self.made if self.made else 0.0
        return self.spent + cost <= self.share * denoising


def decode_tiny(decoder: Any, latents: torch.Tensor) -> torch.Tensor:
    """(1, 4, h, w) latents as the denoiser has them → (1, 3, 8h, 8w) in −1 … 1."""
    dtype = next(decoder.parameters()).dtype
    return decoder.decode(latents.to(dtype), return_dict=False)[0]  # type: ignore[no-any-return]


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """(batch, 3, height, width) in −1 … 1 → (batch, height, width, 3) uint8 on the CPU, rounded on the device and
    copied once."""
    scaled = (image.float() * 127.5 + 127.5).clamp_(0, 255).round_().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu()


def to_pixels(image: torch.Tensor, side: int) -> Pixels:
    """(1, 3, height, width) in −1 … 1 → Pixels of at most `side` px."""
    height, width = image.shape[-2:]
    longest = max(height, width)
    if longest > side:
        target = (max(round(height * side / longest), 1), max(round(width * side / longest), 1))
        image = torch.nn.functional.interpolate(image.float(), size=target, mode="area")
    rows = to_uint8(image)[0]
    return Pixels(rows.shape[1], rows.shape[0], rows.numpy().tobytes())
