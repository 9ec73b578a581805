"""Weights in 8 bits, or layer by layer; a VAE in pieces: what each does to the result, and its undoing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel

import engines
from engines.diffusion import placing
from engines.diffusion.residency import CPU, move, size

BASE = Path(engines.__file__).parent / "mini" / "base"


@pytest.fixture(scope="module")
def trained() -> Any:
    unet = UNet2DConditionModel.from_pretrained(BASE / "unet", use_safetensors=True)
    return unet.eval().requires_grad_(False)


@pytest.fixture
def unet(trained: Any) -> Any:
    return copy.deepcopy(trained)


@pytest.fixture
def vae() -> Any:
    return AutoencoderKL.from_pretrained(BASE / "vae", use_safetensors=True).eval().requires_grad_(False)


def run(unet: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What a UNet of the mini family predicts for fixed noise."""
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(2, 4, 16, 16, generator=generator).to(dtype)
    embeds = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator).to(dtype)
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    added = {
        "text_embeds": torch.randn(2, pooled, generator=generator).to(dtype),
        "time_ids": torch.tensor([[128, 128, 0, 0, 128, 128]] * 2).to(dtype),
    }
    with torch.inference_mode():
        return unet(
            latents, torch.tensor(500), encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False
        )[0]


def rounded(unet: Any) -> Any:
    """The same UNet with weights that went through 8 bits, by hand."""
    for name, layer in unet.named_modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) and not placing.KEPT.search(name):
            layer.weight.data = layer.weight.data.to(placing.FP8).to(layer.weight.dtype)
    return unet


def error(made: torch.Tensor, right: torch.Tensor) -> float:
    return float((made.float() - right.float()).norm() / right.float().norm())


# ── 8 bits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.5), (torch.float32, 0.25)])
def test_weights_in_8_bits_only_lose_what_rounding_loses(trained: Any, dtype: torch.dtype, share: float) -> None:
    plain = copy.deepcopy(trained).to(dtype)
    stored = copy.deepcopy(plain)
    placing.store_in_fp8(stored)
    assert placing.stored_in_fp8(stored) and not placing.stored_in_fp8(plain)
    assert size(stored) < (share + 0.05) * size(plain)
    by_hand = run(rounded(copy.deepcopy(plain)), dtype)
    assert torch.equal(run(stored, dtype), by_hand)
    assert torch.equal(run(stored, dtype), by_hand)
    assert error(by_hand, run(plain, dtype)) < 0.03
    assert stored.dtype == dtype


def test_8_bits_lose_no_more_than_the_casting_of_diffusers(unet: Any, trained: Any) -> None:
    theirs = copy.deepcopy(trained)
    theirs.enable_layerwise_casting(storage_dtype=placing.FP8, compute_dtype=torch.float32)
    placing.store_in_fp8(unet)
    right = run(trained)
    assert error(run(unet), right) <= error(run(theirs), right)


def test_weights_in_8_bits_are_never_changed_by_running(unet: Any) -> None:
    placing.store_in_fp8(unet)
    before = {name: (id(p), p.dtype) for name, p in unet.named_parameters()}
    run(unet)
    assert {name: (id(p), p.dtype) for name, p in unet.named_parameters()} == before
    assert not any(p.is_inference() for p in unet.parameters())


def test_an_error_inside_a_layer_leaves_its_weight_in_8_bits(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    placing.store_in_fp8(unet)
    right = run(unet)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(unet.mid_block.resnets[0].conv2, "_conv_forward", full)
        with pytest.raises(torch.OutOfMemoryError):
            run(unet)
    assert unet.mid_block.resnets[0].conv2.weight.dtype == placing.FP8
    assert torch.equal(run(unet), right)


def test_weights_that_8_bits_can_not_hold_stay_as_they_are(unet: Any) -> None:
    layer = unet.mid_block.resnets[0].conv1
    layer.weight[0, 0, 0, 0] = 1000.0
    placing.store_in_fp8(unet)
    assert layer.weight.dtype == torch.float32 and unet.mid_block.resnets[0].conv2.weight.dtype == placing.FP8
    assert torch.isfinite(run(unet)).all()


def test_norms_and_embeddings_keep_their_precision(unet: Any) -> None:
    placing.store_in_fp8(unet)
    kept = {name for name, p in unet.named_parameters() if p.dtype == torch.float32 and name.endswith("weight")}
    assert "time_embedding.linear_1.weight" in kept and "conv_in.weight" in kept
    assert all(placing.KEPT.search(name.removesuffix(".weight")) for name in kept)


# ── layer by layer ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_layer_by_layer_gives_the_same_and_holds_nothing_between(unet: Any, trained: Any) -> None:
    right = run(trained)
    placing.bring_by_layer(unet, CPU)
    assert placing.comes_by_layer(unet) and size(unet) == 0
    seen: list[tuple[str, str]] = []
    first, last = unet.down_blocks[0].resnets[0].conv1, unet.mid_block.resnets[0].conv1
    # inside the layer its weight is there, and that of a layer that ran before is gone again
    forward = last._conv_forward

    def watch(*args: Any) -> torch.Tensor:
        seen.append((last.weight.device.type, first.weight.device.type))
        return forward(*args)

    last._conv_forward = watch
    assert torch.equal(run(unet), right)
    assert seen == [("cpu", "meta")] and all(p.is_meta for p in unet.parameters())


def test_layer_by_layer_comes_off_again(unet: Any, trained: Any) -> None:
    placing.bring_by_layer(unet, CPU)
    placing.bring_by_layer(unet, CPU)  # twice is once
    run(unet)
    placing.bring_whole(unet)
    assert not placing.comes_by_layer(unet) and size(unet) == size(trained)
    assert torch.equal(run(unet), run(trained))
    assert not any(p.is_inference() for p in unet.parameters())


def test_layer_by_layer_takes_no_second_copy_in_main_memory(unet: Any) -> None:
    before = {name: p.data_ptr() for name, p in unet.named_parameters()}
    placing.bring_by_layer(unet, CPU)
    placing.bring_whole(unet)
    assert {name: p.data_ptr() for name, p in unet.named_parameters()} == before


def test_weights_in_8_bits_do_not_come_layer_by_layer(unet: Any) -> None:
    placing.store_in_fp8(unet)
    with pytest.raises(ValueError, match="8 bits"):
        placing.bring_by_layer(unet, CPU)


def test_a_module_that_comes_layer_by_layer_is_not_moved(unet: Any) -> None:
    placing.bring_by_layer(unet, CPU)

    move(unet, torch.device("meta"))
    assert torch.isfinite(run(unet)).all()


# ── the VAE ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return vae.decode(latents, return_dict=False)[0]


def smooth(*size: int) -> torch.Tensor:
    """Latents without the noise that no picture has: what a tile doesn't see matters little then."""
    coarse = torch.randn(size[0], 4, 3, 3, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=size[1:], mode="bicubic")


def test_slices_are_the_same_picture(vae: Any) -> None:
    latents = smooth(3, 8, 8)
    calls: list[int] = []
    hook = vae.decoder.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    with placing.decoding(vae, sliced=True):
        sliced = decode(vae, latents)
    hook.remove()
    assert calls == [1, 1, 1]
    assert torch.allclose(sliced, decode(vae, latents), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 26), (16, 25)])
def test_tiles_are_nearly_the_same_picture_of_the_same_size(vae: Any, height: int, width: int) -> None:
    latents = smooth(1, height, width)
    whole = decode(vae, latents)
    sizes: list[tuple[int, ...]] = []
    hook = vae.decoder.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    with placing.decoding(vae, tile=64):
        tiled = decode(vae, latents)
    hook.remove()
    assert max(max(size) for size in sizes) == 8 and tiled.shape == whole.shape
    assert error(tiled, whole) < 0.2


def test_a_picture_no_larger_than_a_tile_stays_whole(vae: Any) -> None:
    latents = smooth(1, 8, 8)
    with placing.decoding(vae, tile=64):
        assert torch.equal(decode(vae, latents), decode(vae, latents))
        tiled = decode(vae, latents)
    assert torch.equal(tiled, decode(vae, latents))


def test_the_vae_is_left_as_it_was(vae: Any) -> None:
    before = (vae.tile_latent_min_size, vae.tile_sample_min_size, vae.use_tiling, vae.use_slicing)
    with pytest.raises(MemoryError), placing.decoding(vae, tile=64, sliced=True):
        raise MemoryError
    assert (vae.tile_latent_min_size, vae.tile_sample_min_size, vae.use_tiling, vae.use_slicing) == before


def test_a_tile_that_would_be_pieced_askew_is_refused(vae: Any) -> None:
    with pytest.raises(ValueError, match="104"), placing.decoding(vae, tile=104):
        pass
