"""The diffusion upscaler, held against diffusers' pipeline; tiles against the whole; and its decoder's tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_x4
import torch
from PIL import Image

from engines.diffusion import pieces, placing, x4
from engines.diffusion.device import Device
from engines.errors import LoadError, OutOfMemory, Stopped

CPU = Device(torch.device("cpu"), "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_x4.folder(tmp_path_factory.mktemp("x4"))


@pytest.fixture(scope="module")
def model(folder: Path) -> x4.Parts:
    return x4.load(folder, None, torch.float32, torch.float32)


def art(width: int, height: int) -> Image.Image:
    """Soft waves and one hard disc."""
    x, y = np.linspace(0, 5, width)[None, :, None], np.linspace(0, 4, height)[:, None, None]
    levels = np.sin(x + y + np.array([0, 2, 4])) * 90 + 128
    levels[((x - 2.5) ** 2 + (y - 2) ** 2)[..., 0] < 0.6] = (240, 30, 40)
    return Image.fromarray(levels.astype(np.uint8))


def drained(model: x4.Parts, picture: Image.Image, **how: Any) -> tuple[np.ndarray, list[x4.Progress]]:
    work = x4.refine(model, picture, CPU, **{"num_inference_steps": 3, **how})
    seen = []
    while True:
        try:
            seen.append(next(work))
        except StopIteration as end:
            return np.asarray(end.value).astype(int), seen


@pytest.mark.parametrize(
    ("guidance_scale", "noise_level", "negative"), [(9.0, 20, ""), (1.0, 100, ""), (4.0, 0, "blurry")]
)
def test_a_picture_of_one_tile_is_the_pipelines(
    folder: Path, model: x4.Parts, guidance_scale: float, noise_level: int, negative: str
) -> None:
    from diffusers import StableDiffusionUpscalePipeline

    pipeline = StableDiffusionUpscalePipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = art(48, 32)
    theirs = pipeline(
        "a cat", picture, num_inference_steps=3, guidance_scale=guidance_scale, noise_level=noise_level,
        negative_prompt=negative, generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    ours, seen = drained(
        model, picture, prompt="a cat", negative_prompt=negative, guidance_scale=guidance_scale,
        noise_level=noise_level, seed=7,
    )  # fmt: skip
    assert ours.shape == (128, 192, 3)
    assert np.abs(ours - np.asarray(theirs).astype(int)).max() <= 1
    assert (seen[-1].done, seen[-1].of) == (4, 4)


def test_words_are_weighed_and_long_prompts_read_to_their_end(model: x4.Parts) -> None:
    picture, how = art(48, 32), {"guidance_scale": 7.0, "seed": 7, "num_inference_steps": 2}
    plain, _ = drained(model, picture, prompt="a cat", **how)
    same, _ = drained(model, picture, prompt="a (cat)1.0", **how)
    heavy, _ = drained(model, picture, prompt="a (cat)1.6", **how)
    assert np.array_equal(plain, same) and not np.array_equal(plain, heavy)
    long = "a cat " + "in a wide meadow " * 30
    one, _ = drained(model, picture, prompt=long + "at dawn", **how)
    other, _ = drained(model, picture, prompt=long + "of dust", **how)
    assert one.shape == plain.shape and not np.array_equal(one, other), "what stands behind 77 tokens counts"


def test_tiles_are_drawn_together_or_one_by_one_alike(model: x4.Parts) -> None:
    picture = art(80, 56)
    one, seen = drained(model, picture, tile=40, budget=1, num_inference_steps=1)
    many, together = drained(model, picture, tile=40, budget=1 << 40, num_inference_steps=1)
    assert len(seen) > len(together) and one.shape == (224, 320, 3)
    assert np.abs(one - many).max() <= 1
    again, _ = drained(model, picture, tile=40, budget=1, num_inference_steps=1)
    assert np.array_equal(one, again)


def test_tiles_leave_no_seam(model: x4.Parts) -> None:
    """Across the borders of tiles, levels change as much as within them."""
    picture = Image.linear_gradient("L").convert("RGB").resize((96, 64))
    tiled, _ = drained(model, picture, tile=48, seed=3)
    whole, _ = drained(model, picture, tile=256, seed=3)
    steps = np.abs(np.diff(tiled.mean(2), axis=1)).mean(0)
    apart = np.abs(np.diff(whole.mean(2), axis=1)).mean(0)
    assert steps.max() < 1.5 * apart.max()


@pytest.mark.parametrize("size", [(1, 1), (9, 3), (33, 17), (7, 70)])
def test_any_size_becomes_four_times_as_large(model: x4.Parts, size: tuple[int, int]) -> None:
    made, _ = drained(model, art(*size), num_inference_steps=1, tile=40)
    assert made.shape == (4 * size[1], 4 * size[0], 3)


def test_transparency_is_kept(model: x4.Parts) -> None:
    picture = art(16, 16).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((16, 16)))
    made, _ = drained(model, picture, num_inference_steps=1)
    assert made.shape == (64, 64, 4) and made[0, :, 3].max() < 20 < 200 < made[-1, :, 3].min()


def test_it_stops_between_evaluations(model: x4.Parts) -> None:
    asked: list[int] = []
    with pytest.raises(Stopped):
        drained(model, art(80, 56), tile=40, budget=1, stop=lambda: asked.append(1) or len(asked) > 3)
    assert len(asked) == 4


def test_memory_that_runs_out_is_met_with_fewer_and_smaller_tiles(
    model: x4.Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = x4._Run._predict
    seen: list[tuple[int, int]] = []

    def short(most: int) -> Callable[..., None]:
        def predict(self: Any, into: Any, batch: Any, *rest: Any) -> None:
            seen.append((len(batch), self.side))
            if len(batch) * self.side > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            real(self, into, batch, *rest)

        return predict

    monkeypatch.setattr(x4._Run, "_predict", short(100))
    made, _ = drained(model, art(160, 96), tile=128, budget=1 << 40, num_inference_steps=1)
    assert made.shape == (384, 640, 3) and seen[0] == (2, 128) and seen[-1][1] == 64
    monkeypatch.setattr(x4._Run, "_predict", short(0))
    with pytest.raises(OutOfMemory):
        drained(model, art(160, 96), tile=128, num_inference_steps=1)


def test_what_is_drawn_stays_when_the_decoder_runs_out_of_memory(
    model: x4.Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sides, looks = pieces.decode, [], []
    predict = x4._Run._predict
    monkeypatch.setattr(x4._Run, "_predict", lambda *a: looks.append(1) or predict(*a))

    def decode(vae: Any, z: torch.Tensor, tile: int, *rest: Any) -> Any:
        sides.append(tile)
        if tile > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (yield from real(vae, z, tile, *rest))

    monkeypatch.setattr(pieces, "decode", decode)
    made, seen = drained(model, art(160, 96), tile=256, num_inference_steps=2)
    assert made.shape == (384, 640, 3) and sides == [96, 48, 32] and len(looks) == 2
    assert seen[-1].done == seen[-1].of
    monkeypatch.setattr(pieces, "decode", lambda *a: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemory):
        drained(model, art(40, 40), num_inference_steps=1)


def test_it_is_shown_on_the_way_and_the_picture_is_the_same(model: x4.Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = drained(model, art(160, 96), num_inference_steps=6)
    assert not any(progress.shown for progress in seen)
    made, seen = drained(model, art(160, 96), num_inference_steps=6, preview_every=1)
    shown = [progress.shown for progress in seen if progress.shown]
    assert len(shown) >= 2 and {(p.width, p.height) for p in shown} == {(256, 152)} and np.array_equal(made, plain)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    last = np.frombuffer(shown[-1].data, np.uint8).reshape(152, 256, 3).astype(int)
    small = np.asarray(Image.fromarray(made.astype(np.uint8)).resize((256, 152), Image.Resampling.BOX)).astype(int)
    assert np.abs(last - small).mean() < 60
    monkeypatch.setattr(x4._Small, "decode", lambda *a, **k: (_ for _ in ()).throw(MemoryError()))
    made, seen = drained(model, art(160, 96), num_inference_steps=6, preview_every=1)
    assert np.array_equal(made, plain) and not any(progress.shown for progress in seen)


def test_a_card_however_large_looks_at_few_tiles_at_once(model: x4.Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    many = []
    predict = x4._Run._predict
    monkeypatch.setattr(
        x4._Run, "_predict", lambda s, into, batch, *a: many.append(len(batch)) or predict(s, into, batch, *a)
    )
    drained(model, art(160, 160), tile=40, budget=1 << 44, num_inference_steps=1)
    assert max(many) == x4.TOGETHER == 8 < sum(many)


def test_the_side_of_a_tile_follows_the_budget_and_what_is_asked(model: x4.Parts) -> None:
    assert x4.side_for(model, 0, 1, 9.0) == x4.TILE and x4.side_for(model, 0, 1 << 40, 9.0) == x4.LARGEST
    assert x4.side_for(model, 100, 1, 9.0) == 96 and x4.side_for(model, 8, 1, 9.0) == 32


def test_another_model_is_told_apart(tmp_path: Path, folder: Path) -> None:
    import json
    import shutil

    with pytest.raises(LoadError, match="unet can't be loaded"):
        x4.load(tmp_path, None, torch.float32, torch.float32)
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "unet" / "config.json").read_text())
    from diffusers import UNet2DConditionModel

    config["in_channels"] = 4
    UNet2DConditionModel.from_config(config).save_pretrained(other / "unet")
    with pytest.raises(LoadError, match="takes 4 channels and not 7"):
        x4.load(other, None, torch.float32, torch.float32)


def test_evaluations_are_counted() -> None:
    assert x4.evaluations((128, 128), 128, 25) == 25
    assert x4.evaluations((512, 512), 128, 10) == 10 * 25
    assert x4.evaluations((256, 256), 128, 10) == 10 * 9, "shrunk by half, about a third of the work"


# ── the decoder's tiles ─────────────────────────────────────────────────────────────────────────────────────────────


def decoded(vae: Any, z: torch.Tensor, tile: int) -> np.ndarray:
    work = pieces.decode(vae, z, tile)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value.numpy()  # type: ignore[no-any-return]


def gradient(height: int, width: int) -> torch.Tensor:
    """Latents that go smoothly from one corner to the other."""
    slope = torch.linspace(-1, 1, width)[None, :] + torch.linspace(-1, 1, height)[:, None]
    return torch.stack([slope, -slope, slope * 0.5, slope**2 - 0.5])[None]


def test_a_smooth_gradient_has_no_step_between_tiles(model: x4.Parts) -> None:
    z = gradient(96, 96)
    with torch.inference_mode():
        whole = model.vae.decode(z, return_dict=False)[0].numpy()
    tiled = decoded(model.vae, z, 48)
    spread = whole.max() - whole.min()
    assert tiled.shape == whole.shape
    # what is left is one tone for all, and no steps between tiles
    apart = (tiled - whole)[0].mean(0)
    blocks = np.stack([b.mean() for rows in np.array_split(apart, 4) for b in np.array_split(rows, 4, axis=1)])
    assert np.ptp(blocks) < 0.03 * spread and np.abs(apart).mean() < 0.05 * spread
    own = torch.cat([torch.from_numpy(_apart(model.vae, z, 48, x)) for x in (0, 48)], dim=-1).numpy()
    step = np.abs(own[..., 191] - own[..., 192]).mean()
    assert np.abs(np.diff(tiled[..., 180:204], axis=-1)).mean(axis=(0, 1, 2)).max() < step, "as each by itself has"


def _apart(vae: Any, z: torch.Tensor, side: int, x: int) -> np.ndarray:
    with torch.inference_mode():
        return vae.decode(z[..., x : x + side], return_dict=False)[0].numpy()  # type: ignore[no-any-return]


def test_the_decoder_is_itself_again(model: x4.Parts) -> None:
    z = gradient(40, 40)
    with torch.inference_mode():
        before = model.vae.decode(z, return_dict=False)[0]
        decoded(model.vae, z, 24)
        after = model.vae.decode(z, return_dict=False)[0]
    assert torch.equal(before, after)
    assert np.array_equal(decoded(model.vae, z, 64), after.numpy()), "what fits into one tile is decoded whole"


def test_the_encoders_tiles_have_no_step_either(model: x4.Parts) -> None:
    """Each tile by itself has statistics of its own: their latents are apart; these are not."""
    vae, side, tile = model.vae, 96, 32
    slope = torch.linspace(-1, 1, 4 * side)[None, :] + torch.linspace(-1, 1, 4 * side)[:, None]
    levels = torch.stack([slope, -slope, slope**2 - 1])[None] / 2
    with torch.inference_mode():
        whole = vae.encode(levels).latent_dist.mode()
    tiled = emptied(pieces.encode(vae, levels, tile))
    assert tiled.shape == whole.shape
    spread = float(whole.max() - whole.min())
    apart = (tiled - whole)[0].mean(0).numpy()
    blocks = np.stack([b.mean() for rows in np.array_split(apart, 4) for b in np.array_split(rows, 4, axis=1)])
    with torch.inference_mode(), placing.decoding(vae, 4 * tile):
        theirs = (vae.encode(levels).latent_dist.mode() - whole)[0].mean(0).numpy()
    others = np.stack([b.mean() for rows in np.array_split(theirs, 4) for b in np.array_split(rows, 4, axis=1)])
    assert np.ptp(blocks) < 0.03 * spread and np.ptp(blocks) < np.ptp(others) / 2
    assert torch.equal(emptied(pieces.encode(vae, levels, side)), whole), "what fits into one tile is encoded whole"


def emptied(work: Any) -> torch.Tensor:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def test_attention_never_sees_more_than_a_tile(model: x4.Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def attend(query: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        seen.append(query.shape[-2])
        return real(query, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    decoded(model.vae, gradient(120, 120), 48)
    assert seen and max(seen) <= 48 * 48
