"""A denoiser that sees a picture in tiles: what it says of the whole, and what the whole says of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given
from hypothesis import strategies as st

from engines import catalogue
from engines.diffusion import decoding, mosaic, placing
from engines.diffusion.mosaic import Mosaic
from engines.errors import Stopped

ADDED = {"text_embeds": torch.zeros(2, 8), "time_ids": torch.tensor([[512.0, 768, 0, 0, 512, 768]] * 2)}


class Seeing:
    """In a UNet's place: a convolution that sees a few latents around each, and what it was asked."""

    def __init__(self, radius: int = 3) -> None:
        self.config = SimpleNamespace(in_channels=4)
        self.asked: list[tuple[tuple[int, ...], list[float]]] = []
        torch.manual_seed(1)
        self._layer = torch.nn.Conv2d(4, 4, 2 * radius + 1, padding=radius)

    def __call__(
        self, sample: torch.Tensor, t: Any, encoder_hidden_states: Any, added_cond_kwargs: Any, return_dict: bool
    ) -> tuple[torch.Tensor]:
        assert len(added_cond_kwargs["time_ids"]) == len(sample) and not return_dict
        self.asked.append((tuple(sample.shape), added_cond_kwargs["time_ids"][0].tolist()))
        with torch.inference_mode():
            return (self._layer(sample),)


def said(unet: Any, sample: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = unet(
        sample, torch.tensor(500), encoder_hidden_states=None, added_cond_kwargs=ADDED, return_dict=False
    )[0]
    return made


@given(st.integers(40, 90), st.integers(17, 90), st.integers(24, 48))
def test_what_sees_no_further_than_a_halo_says_the_same_of_tiles(width: int, height: int, side: int) -> None:
    unet = Seeing(1)
    sample = torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(0))
    whole = said(unet, sample)
    unet.asked.clear()
    assert torch.allclose(said(Mosaic(unet, side), sample), whole, atol=1e-5)
    assert all(max(shape[-2:]) <= side for shape, _ in unet.asked)
    assert len(unet.asked) == 1 or all(
        ids == [8 * shape[2], 8 * shape[3], 0, 0, 8 * shape[2], 8 * shape[3]] for shape, ids in unet.asked
    )
    assert len(unet.asked) == mosaic.count(8 * width, 8 * height, 8 * side)


def test_what_is_no_larger_than_a_tile_is_seen_whole() -> None:
    unet = Seeing()
    sample = torch.randn(2, 4, 64, 96)
    assert torch.equal(said(Mosaic(unet, 96), sample), said(unet, sample))
    assert unet.asked == [((2, 4, 64, 96), ADDED["time_ids"][0].tolist())] * 2


def test_tiles_begin_and_end_at_round_numbers_where_the_sides_do() -> None:
    for part in mosaic.tiles(256, 192, 128):
        assert all(n % 8 == 0 for span in (part.x, part.y) for n in (span.start, span.end))
    assert {part.x.end - part.x.start for part in mosaic.tiles(256, 192, 128)} == {112}


def test_it_stops_between_tiles() -> None:
    unet = Seeing()
    asked: Callable[[], bool] = lambda: len(unet.asked) == 2  # noqa: E731
    with pytest.raises(Stopped):
        said(Mosaic(unet, 32, asked), torch.zeros(2, 4, 64, 64))
    assert len(unet.asked) == 2


# ── the VAE in tiles ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_smooth_picture_that_is_decoded_in_tiles_has_no_tone_steps() -> None:
    """A decoder normalizes every tile by itself, which shows where nothing else does: a third of what diffusers' own
    tiles are off, at most."""
    vae = AutoencoderKL.from_pretrained(catalogue.load().model("mini").source.path / "vae").eval()
    y, x = torch.meshgrid(torch.linspace(-0.6, 0.6, 384), torch.linspace(-0.6, 0.6, 512), indexing="ij")
    with torch.inference_mode():
        latents = vae.encode(torch.stack([x, y, (x + y) / 2])[None]).latent_dist.mode() * vae.config.scaling_factor
        whole = decoding.decode(vae, latents)
        ours = decoding.decode(vae, latents, None, 256)
        with placing.decoding(vae, 256):
            theirs = decoding.decode(vae, latents)

    def spread(tiled: torch.Tensor) -> float:
        blocks = ((tiled - whole) * 127.5).reshape(3, 6, 64, 8, 64).mean((2, 4))
        return float(blocks.max() - blocks.min())

    assert ours.shape == whole.shape and spread(ours) < spread(theirs) / 3
    with torch.inference_mode(), placing.decoding(vae, sliced=True):  # as the engine decodes
        assert torch.equal(decoding.decode(vae, latents, None, 256), ours) and vae.use_slicing
    pair = torch.cat([latents, latents.flip(-1)])
    with torch.inference_mode():
        assert torch.equal(decoding.decode(vae, pair, None, 256)[:1], ours)
