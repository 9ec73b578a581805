"""A VAE in tiles that no tone step gives away.

Each tile of a picture has statistics of its own, and a decoder normalizes by them (GroupNorm): so the same sky comes
out lighter in one tile than in the next. Here the statistics are taken once, from samples that are spread over the
whole picture, at its own resolution, as if they were one; every tile is then normalized by these. What the decoder's
attention sees is a tile at most, so that nothing grows with the square of the picture, whatever computes it. The
encoder is the decoder turned round, and is treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from engines.diffusion import tiling
from engines.diffusion.mixing import never
from engines.errors import Stopped

HALO = 12
"Latents around a tile, which it sees and which are thrown away."
FEATHER = 8
"Latents over which tiles are blended."
SAMPLE = 24
"Latents a side of a sample."
SAMPLES = 25
"Samples at most: together they are about as large as a tile of 128."


def decode(
    vae: Any, z: torch.Tensor, tile: int, stop: Callable[[], bool] = never, area: int = 0
) -> Generator[tuple[int, int], None, torch.Tensor]:
    """(1, c, h, w) latents as the VAE has them → (1, 3, k·h, k·w) in −1 … 1, float32 on the CPU, where k is the VAE's
    factor; yields (tiles done, tiles in all).

    Args:
        vae: an AutoencoderKL; it is left as it was.
        z: on its device and in its dtype.
        tile: latents of a tile's side, halos included; what is no larger is decoded whole.
        stop: looked at before every tile.
        area: latents that the statistics are taken from, at most about: they are decoded at once. 0 for what suits a
            tile of 128; the more, the nearer to the whole.

    Raises:
        Stopped: `stop` said so.
    """

    def run(part: torch.Tensor) -> torch.Tensor:
        return vae.decode(part, return_dict=False)[0].float().cpu()  # type: ignore[no-any-return]

    size = z.shape[-1], z.shape[-2]
    return (yield from _tiled(vae, vae.decoder, z, size, tile, run, stop, area))


def encode(
    vae: Any, levels: torch.Tensor, tile: int, stop: Callable[[], bool] = never, area: int = 0
) -> Generator[tuple[int, int], None, torch.Tensor]:
    """(1, 3, k·h, k·w) in −1 … 1 → (1, c, h, w) latents as the VAE has them, the most likely ones, float32 on the CPU.

    All else as in `decode`: the encoder normalizes as the decoder does.

    Args:
        levels: on the VAE's device and in its dtype, its sides multiples of k.
    """

    def run(part: torch.Tensor) -> torch.Tensor:
        return vae.encode(part).latent_dist.mode().float().cpu()  # type: ignore[no-any-return]

    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    size = levels.shape[-1] // factor, levels.shape[-2] // factor
    return (yield from _tiled(vae, vae.encoder, levels, size, tile, run, stop, area))


def _tiled(
    vae: Any,
    network: nn.Module,
    source: torch.Tensor,
    size: tuple[int, int],
    tile: int,
    run: Callable[[torch.Tensor], torch.Tensor],
    stop: Callable[[], bool],
    area: int,
) -> Generator[tuple[int, int], None, torch.Tensor]:
    """What `run` makes of the source, put together from tiles; places are counted in latents.

    Args:
        network: the part of the VAE that runs, whose norms are given their statistics.
        source: (1, c, i·h, i·w), where i is 1 for latents and the VAE's factor for pixels.
        size: (w, h) in latents.
    """
    width, height = size
    into = source.shape[-1] // width
    if max(size) <= tile:
        yield 0, 1
        with torch.inference_mode():
            whole = run(source)
        yield 1, 1
        return whole
    halo = min(HALO, (tile - 1) // 3)
    parts = list(tiling.tiles(size, (tile, tile), halo, min(FEATHER, halo)))
    measured = _Statistics([module for module in network.modules() if isinstance(module, nn.GroupNorm)])
    slicing, vae.use_slicing = vae.use_slicing, False  # one sample after another, each would be measured alone
    try:
        with torch.inference_mode():
            measured(lambda: run(_samples(source, size, *_squares(area))))
    finally:
        vae.use_slicing = slicing
    canvas: torch.Tensor | None = None
    # between tiles the network is itself again: whoever drains this may do other things meanwhile
    for number, part in enumerate(parts):
        yield number, len(parts)
        if stop():
            raise Stopped
        x, y = part.x, part.y
        with torch.inference_mode(), measured.applied():
            made = run(source[..., y.start * into : y.end * into, x.start * into : x.end * into])
        factor = made.shape[-1] // (x.end - x.start)
        if canvas is None:
            canvas = torch.zeros(1, made.shape[1], height * factor, width * factor)
        across, down = (torch.from_numpy(tiling.weights(span, factor)) for span in (x, y))
        kept = made[
            ...,
            (y.low - y.start) * factor : (y.high - y.start) * factor,
            (x.low - x.start) * factor : (x.high - x.start) * factor,
        ]
        place = canvas[..., y.low * factor : y.high * factor, x.low * factor : x.high * factor]
        place += kept * down[:, None] * across
    yield len(parts), len(parts)
    assert canvas is not None
    return canvas


def _squares(area: int) -> tuple[int, int]:
    """(how many in a row and in a column, latents a side) of the samples: many small ones tell more than few large."""
    if not area or area >= SAMPLES * SAMPLE**2:
        return math.isqrt(SAMPLES), SAMPLE
    return 4, max(8, math.isqrt(area) // 4)


def _samples(source: torch.Tensor, size: tuple[int, int], many: int, side: int) -> torch.Tensor:
    """Squares of the source, evenly spread, each of `side` latents a side, (n, c, i·side, i·side)."""
    width, height = size
    into = source.shape[-1] // width

    def starts(length: int, own: int) -> list[int]:
        count = min(many, -(-length // own))
        return [round(i * (length - own) / max(count - 1, 1)) for i in range(count)]

    high, wide = min(side, height), min(side, width)
    return torch.cat(
        [
            source[..., y * into : (y + high) * into, x * into : (x + wide) * into]
            for y in starts(height, high)
            for x in starts(width, wide)
        ]
    )


class _Statistics:
    """What a network's norms measured, and how it is used."""

    def __init__(self, norms: list[nn.GroupNorm]) -> None:
        self._norms = norms
        self._known: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._measuring = True

    def __call__(self, run: Callable[[], object]) -> None:
        """Measures while something runs."""
        with self.applied():
            run()
        self._measuring = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The norms measure, or use what was measured, inside the block."""
        before = [norm.forward for norm in self._norms]
        try:
            for number, norm in enumerate(self._norms):
                norm.forward = self._normed(number, norm)  # type: ignore[method-assign, assignment]
            yield
        finally:
            for norm in self._norms:
                del norm.forward
            assert [norm.forward for norm in self._norms] == before

    def _normed(self, number: int, norm: nn.GroupNorm) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(x: torch.Tensor) -> torch.Tensor:
            groups = x.float().reshape(x.shape[0], norm.num_groups, -1)
            if self._measuring:
                self._known[number] = groups.mean((0, 2)), groups.var((0, 2), unbiased=False)
            mean, variance = self._known[number]
            groups = (groups - mean[:, None]) * torch.rsqrt(variance[:, None] + norm.eps)
            shape = (1, -1, *([1] * (x.ndim - 2)))
            made = groups.reshape(x.shape)
            if norm.affine:
                made = made * norm.weight.float().view(shape) + norm.bias.float().view(shape)
            return made.to(x.dtype)

        return forward
