"""A denoiser that sees a large picture in tiles, and says what it would of the whole.

The predictions of all tiles are blended at every step, and one step is taken for the whole (MultiDiffusion, Bar-Tal et
al. 2023, arXiv:2302.08113): so tiles agree where they meet. Each tile is told to be a picture of its own size, from its
corner (SDXL's micro-conditioning, arXiv:2307.01952, section 2.2): a size that the model was trained for, whatever the
picture's is. So memory and the time of a pixel don't grow with the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from engines.diffusion import tiling
from engines.diffusion.mixing import never
from engines.errors import Stopped

HALO, FEATHER = 16, 16
"Latents around a tile that are thrown away, and over which tiles are blended; less in tiles that are small."
LEAST = 8
"Latents of a tile's side, at least."
SCALE = 8
"Pixels of a latent's side."


class Mosaic:
    """In the place of a UNet2DConditionModel, for latents that are larger than a tile; others go to it as they are.

    Args:
        unet: of SDXL's kind.
        side: latents of a tile's side.
        stop: looked at before every tile; Stopped is raised when it says so.
    """

    def __init__(self, unet: Any, side: int, stop: Callable[[], bool] = never) -> None:
        self.config = unet.config
        self._unet = unet
        self._side = max(side, LEAST)
        self._stop = stop

    def __call__(
        self,
        sample: torch.Tensor,
        timestep: Any,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: dict[str, torch.Tensor],
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """The prediction for (batch, 4, height, width) latents, of the same shape and dtype; as the UNet's own call
        with `return_dict=False`."""
        height, width = sample.shape[-2:]
        parts = tiles(width, height, self._side)
        if len(parts) == 1:
            return self._unet(  # type: ignore[no-any-return]
                sample, timestep, encoder_hidden_states=encoder_hidden_states, added_cond_kwargs=added_cond_kwargs,
                return_dict=False,
            )  # fmt: skip
        said = torch.zeros(sample.shape, device=sample.device, dtype=torch.float32)
        for part in parts:
            if self._stop():
                raise Stopped
            x, y = part.x, part.y
            size = torch.tensor([y.end - y.start, x.end - x.start]) * SCALE
            ids = torch.cat([size, torch.zeros(2, dtype=size.dtype), size]).to(added_cond_kwargs["time_ids"])
            one = self._unet(
                sample[..., y.start : y.end, x.start : x.end],
                timestep,
                encoder_hidden_states=encoder_hidden_states,
                added_cond_kwargs={**added_cond_kwargs, "time_ids": ids.repeat(len(sample), 1)},
                return_dict=False,
            )[0].float()
            across, down = (torch.from_numpy(tiling.weights(span)).to(said.device) for span in (x, y))
            kept = one[..., y.low - y.start : y.high - y.start, x.low - x.start : x.high - x.start]
            said[..., y.low : y.high, x.low : x.high] += kept * down[:, None] * across
        return (said.to(sample.dtype),)


def tiles(width: int, height: int, side: int) -> list[tiling.Tile]:
    """Of latents of that size; one if `side` is no less. They begin and end at as round numbers as the sides allow:
    the UNet halves them twice."""
    if max(width, height) <= side:
        side = max(width, height)
    align = next(a for a in (8, 4, 2, 1) if a <= max(1, side // 16) and math.gcd(width, height) % a == 0)
    halo = min(HALO, side // 4 // align * align)
    return list(tiling.tiles((width, height), (side, side), halo, min(FEATHER, halo), align))


def count(width: int, height: int, side: int) -> int:
    """How many tiles of `side` pixels a picture of that size is drawn in."""
    return len(tiles(width // SCALE, height // SCALE, max(side // SCALE, LEAST)))
