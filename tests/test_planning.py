"""What fits into memory: the estimate, the ladder down from it, and where it leads when memory runs out anyway."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from engines.planning import (
    ALLOWANCE,
    LEAST_TILE,
    PHASES,
    PREVIEW_VALUES,
    SCRATCH,
    TILE_STEP,
    UNET_VALUES,
    VAE_VALUES,
    Ask,
    Phase,
    Plan,
    Weights,
    fits,
    next_rung,
    plan,
)

GIB = 2**30
SDXL = Weights(5_135_149_760, 1_635_527_040, 167_335_342, 9_793_292)
"The hub's file sizes of sdxl-base and taesdxl in fp16."
ROOMY = Ask(1024, 1024, 1, True, SDXL, 80 * GIB, "cuda", "fp16", "bf16")


def ask(gib: float, **changes: Any) -> Ask:
    return replace(ROOMY, free=int(gib * GIB), **changes)


def rungs(made: Plan | None, during: Phase | None = None) -> list[Plan]:
    """All rungs from there down."""
    found = []
    while made is not None:
        found.append(made)
        made = next_rung(made, during)
    return found


def test_planning_needs_no_torch() -> None:
    code = "import sys, engines.planning; print(sorted({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_with_room_everything_stays() -> None:
    made = plan(ROOMY)
    assert made.fits and made.reasons == ()
    assert (made.storage, made.encoders, made.vae, made.tile, made.denoiser) == ("own", "stay", "whole", 0, "stay")
    assert made.told == "fp16, VAE in bf16; needs 11.1 GiB of 80.0 GiB"


def test_the_estimate_is_weights_and_activations_phase_by_phase() -> None:
    """Written out once by hand: values a pixel × pixels × two bytes, beside what is held."""
    weights = replace(SDXL, preview=0)
    made = plan(replace(ROOMY, weights=weights))
    held = weights.whole + ALLOWANCE
    assert made.needs("encoding") == held + 64 * 2**20
    assert made.needs("denoising") == held + 2 * 131 * 2**20 * 2  # guided: two pictures
    assert made.needs("decoding") == held + 2178 * 2**20 * 2 + 48 * 2**20
    assert made.phase == "decoding" and made.needed == made.needs("decoding")
    assert made.working == made.needed - weights.whole


@pytest.mark.parametrize(
    ("change", "phase", "factor"),
    [
        ({"width": 2048}, "denoising", 2.0),
        ({"width": 2048}, "decoding", 2.0),
        ({"batch": 3}, "denoising", 3.0),
        ({"batch": 3}, "decoding", 3.0),
        ({"dtype": "fp32", "vae_dtype": "fp32"}, "denoising", 2.0),
        ({"vae_dtype": "fp32"}, "decoding", 2.0),
    ],
)
def test_activations_grow_with_pixels_pictures_and_bytes(change: dict[str, Any], phase: Phase, factor: float) -> None:
    weights = replace(SDXL, preview=0)
    before = replace(ROOMY, weights=weights)
    held = weights.whole + ALLOWANCE
    small, large = (plan(each).needs(phase) - held for each in (before, replace(before, **change)))
    assert large == pytest.approx(small * factor, rel=0.02)


def test_without_guidance_the_preview_needs_more_than_the_denoiser() -> None:
    """TAESD keeps more values a pixel than a UNet that sees each picture once."""
    alone, shown = replace(SDXL, preview=0), SDXL
    needs = [plan(replace(ROOMY, guided=False, weights=w)).needs("denoising") - w.whole for w in (alone, shown)]
    assert needs[0] < needs[1]


def test_the_ladder_goes_from_what_costs_least() -> None:
    """One picture of 1024² with guidance, on cards of fewer and fewer bytes."""
    seen = [plan(ask(gib)) for gib in (12, 10, 7, 4, 3)]
    assert all(made.fits for made in seen)
    assert [made.vae for made in seen] == ["whole"] + ["tiled"] * 4
    assert [made.encoders for made in seen] == ["stay", "stay", "leave", "leave", "leave"]
    assert [made.storage for made in seen] == ["own", "own", "own", "fp8", "own"]
    assert [made.denoiser for made in seen] == ["stay", "stay", "stay", "stay", "sequential"]


def test_each_change_has_its_reason_and_none_is_out_of_date() -> None:
    made = plan(ask(3))
    assert [reason.split(":")[0] for reason in made.reasons] == [
        "the text encoders leave after encoding",
        "the UNet's weights stay in main memory and come layer by layer, which is slow",
        "the VAE decodes in tiles of 512 px",
    ]
    assert all("GiB" in reason and not reason.endswith(".") and "\n" not in reason for reason in made.reasons)
    assert made.told == (
        "fp16, VAE in bf16, VAE in tiles of 512 px, encoders leave after encoding, UNet layer by layer; "
        "needs 2.1 GiB of 3.0 GiB"
    )


def test_what_helps_no_phase_in_need_is_left_out() -> None:
    """At 512² the decoder is cheap; when it is the weights that don't fit, tiles would only cost quality."""
    made = plan(ask(6.7, width=512, height=512))
    assert made.fits and made.vae == "whole" and made.encoders == "leave"


def test_tiles_are_as_large_as_what_left_allows() -> None:
    """Tiles of 256 px would have been chosen while the encoders still stood there."""
    made = plan(ask(7))
    assert made.encoders == "leave" and made.tile == 512


def test_a_batch_is_decoded_one_by_one_before_it_is_cut_into_tiles() -> None:
    made = plan(ask(16, batch=4))
    assert made.fits and made.vae == "sliced" and made.together == 4
    assert plan(ask(8.2, batch=4)).vae == "tiled"


def test_a_batch_that_the_denoiser_has_no_room_for_is_drawn_one_by_one() -> None:
    made = plan(ask(10, batch=16))
    assert made.fits and made.together == 1 and made.encoders == "stay"
    assert "one picture at a time" in made.told


def test_fp8_is_chosen_only_where_the_precision_was_left_open() -> None:
    assert plan(ask(4.5)).storage == "fp8"
    fixed = plan(ask(4.5, precision="fp16"))
    assert fixed.storage == "own" and fixed.denoiser == "sequential"


def test_fp8_that_is_asked_for_comes_first() -> None:
    made = plan(ask(80, precision="fp8"))
    assert made.storage == "fp8" and made.reasons == ("the UNet's weights are stored in fp8, as was asked",)
    assert made.needed < plan(ROOMY).needed - 2 * GIB
    assert made.precision == "fp16, UNet stored in fp8, VAE in bf16"


def test_layer_by_layer_the_weights_stay_as_they_are() -> None:
    made = plan(ask(3, precision="fp8"))
    assert made.denoiser == "sequential" and made.storage == "own"
    assert not any("fp8" in reason for reason in made.reasons)


def test_what_does_not_fit_says_what_would() -> None:
    made = plan(ask(2.5, width=8192, height=8192))
    assert not made.fits
    assert made.reasons[-1].endswith(", one picture at a time, would fit")
    size = made.reasons[-1].split(": ")[1].split(",")[0]
    width, height = (int(n) for n in size.split("x"))
    assert width < 8192 and plan(ask(2.5, width=width, height=height)).fits


def test_where_no_size_fits_that_is_said() -> None:
    made = plan(ask(1))
    assert not made.fits and made.reasons[-1].endswith("no size would fit")


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_one_pool_of_memory_has_nowhere_to_put_things(kind: Any) -> None:
    whole = Weights(10_270_299_520, 3_271_054_080, 334_670_684)
    made = plan(ask(15, kind=kind, weights=whole, dtype="fp32", vae_dtype="fp32", width=2048, height=2048, batch=2))
    assert (made.encoders, made.denoiser, made.storage) == ("stay", "stay", "own")
    assert (made.vae, made.together) == ("tiled", 1)
    roomy = plan(ask(64, kind=kind, weights=whole, dtype="fp32", vae_dtype="fp32"))
    assert roomy.fits and roomy.vae == "whole"
    tight = plan(ask(10, kind=kind, weights=whole, dtype="fp32", vae_dtype="fp32"))
    assert not tight.fits and "10.0 GiB can be had" in tight.reasons[-1]


def test_a_cpu_takes_less_scratch_than_a_gpu() -> None:
    gpu, cpu = plan(ROOMY), plan(ask(80, kind="cpu"))
    assert cpu.needs("decoding") < gpu.needs("decoding")


@pytest.mark.parametrize("during", [None, *PHASES])
def test_every_rung_needs_less_and_the_ladder_ends(during: Phase | None) -> None:
    found = rungs(plan(ask(80, batch=4, width=2048, height=1536)), during)
    assert 2 <= len(found) <= 12
    for before, after in pairwise(found):
        phase = during or before.phase
        assert after.needs(phase) < before.needs(phase)
        assert after.reasons[-1].endswith(f": memory ran out while {phase}")
    assert found[-1].encoders == "leave"
    if during != "encoding":
        assert found[-1].denoiser == "sequential"


def test_memory_that_runs_out_while_decoding_gives_tiles_first() -> None:
    one, two, three = rungs(plan(ROOMY), "decoding")[1:4]
    assert (one.tile, two.tile) == (512, LEAST_TILE) and one.encoders == two.encoders == "stay"
    assert three.encoders == "leave"


def test_memory_that_runs_out_while_loading_moves_weights_only() -> None:
    found = rungs(plan(ask(80, batch=2)), "loading")
    assert [(made.encoders, made.storage, made.denoiser) for made in found] == [
        ("stay", "own", "stay"),
        ("leave", "own", "stay"),
        ("leave", "fp8", "stay"),
        ("leave", "own", "sequential"),
    ]
    assert all(made.vae == "whole" and made.together == 2 for made in found)
    assert all(made.needs("loading") <= made.needed for made in found)


def test_memory_that_runs_out_while_denoising_leaves_the_vae_alone() -> None:
    found = rungs(plan(ask(80, batch=2)), "denoising")
    assert [made.vae for made in found] == ["whole"] * len(found)
    assert [(made.together, made.encoders, made.storage, made.denoiser) for made in found] == [
        (2, "stay", "own", "stay"),
        (1, "stay", "own", "stay"),
        (1, "leave", "own", "stay"),
        (1, "leave", "fp8", "stay"),
        (1, "leave", "own", "sequential"),
    ]


def test_memory_that_runs_out_on_a_cpu_ends_with_tiles_and_single_pictures() -> None:
    last = rungs(plan(ask(80, kind="cpu", batch=2)))[-1]
    assert (last.tile, last.together, last.encoders, last.denoiser) == (LEAST_TILE, 1, "stay", "stay")


@pytest.mark.parametrize("side", [64, 128, 256, 264, 512, 1000, 1024, 1344, 2048, 8192])
def test_tiles_can_be_pieced_together_and_are_smaller_than_the_picture(side: int) -> None:
    tiles = [made.tile for made in rungs(plan(ask(80, width=side, height=64)), "decoding") if made.tile]
    assert all(tile % TILE_STEP == 0 and LEAST_TILE <= tile < side for tile in tiles)
    assert bool(tiles) == (side > LEAST_TILE)
    assert tiles == sorted(tiles, reverse=True)
    if tiles:
        assert tiles[-1] < 2 * LEAST_TILE


def test_the_embedded_family_fits_anywhere() -> None:
    mini = Weights(21_000_000, 5_000_000, 3_000_000, 200_000)
    made = plan(Ask(128, 128, 4, True, mini, GIB, "cpu", "fp32", "fp32"))
    assert made.fits and made.reasons == ()


def test_a_list_of_models_can_say_what_fits() -> None:
    sdxl, ssd = 6_940_000_000, 4_470_000_000
    assert fits(sdxl, 24 * GIB, 1024, 1024) == "whole"
    assert fits(sdxl, 6 * GIB, 1024, 1024) == "with offload"
    assert fits(ssd, 6 * GIB, 1024, 1024) == "whole"
    assert fits(sdxl, 1 * GIB, 1024, 1024) == "no"
    assert fits(sdxl, 6 * GIB, 1024, 1024, "cpu") == "no"
    assert fits(2 * sdxl, 8 * GIB, 1024, 1024) == "with offload"


@pytest.mark.parametrize("what", ["UNet", "VAE", "TAESD"])
def test_the_values_a_pixel_are_those_of_the_full_size_architecture(what: str) -> None:
    """Counted anew on tensors without data, so that another diffusers can't make the estimate wrong unseen."""
    import torch
    from diffusers.models import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

    side, n = 1024, 2
    latents = torch.empty(n, 4, side // 8, side // 8, device="meta")
    with torch.device("meta"), torch.no_grad():
        if what == "UNet":
            # of SDXL, but one transformer layer a block for 2 and 10: they run one after another
            unet = UNet2DConditionModel(
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(320, 640, 1280),
                attention_head_dim=(5, 10, 20),
                cross_attention_dim=2048,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            ).eval()
            added = {"text_embeds": torch.empty(n, 1280), "time_ids": torch.empty(n, 6)}
            embeds = torch.empty(n, 77, 2048)
            peak = live_peak(lambda: unet(latents, torch.tensor(1), embeds, added_cond_kwargs=added, return_dict=False))
            assert peak / (n * side**2) == pytest.approx(UNET_VALUES["cpu"] / SCRATCH, rel=0.01)
        elif what == "VAE":
            vae = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
            ).eval()
            peak = live_peak(lambda: vae.decode(latents[:1], return_dict=False))
            assert peak / side**2 == pytest.approx(VAE_VALUES["cpu"] / SCRATCH, rel=0.01)
        else:
            tiny = AutoencoderTiny().eval()
            peak = live_peak(lambda: tiny.decode(latents[:1], return_dict=False))
            assert peak / side**2 == pytest.approx(PREVIEW_VALUES / SCRATCH, rel=0.01)


def live_peak(run: Callable[[], object]) -> float:
    """The most values that tensors made by `run` hold at one time; attention keeps no scores, as in fused kernels."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Live(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.most = 0
            self.known: set[int] = set()

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            taken = {t.untyped_storage()._cdata for t in args if isinstance(t, torch.Tensor)}
            for tensor in made if isinstance(made, (tuple, list)) else (made,):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    if storage._cdata not in self.known | taken:
                        self.known.add(storage._cdata)
                        self.now += storage.nbytes()
                        self.most = max(self.most, self.now)
                        weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
            return made

        def gone(self, storage: int, n: int) -> None:
            self.known.discard(storage)
            self.now -= n

    def attention(query: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return torch.empty_like(query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
        with Live() as live:
            run()
    return live.most / 4


@pytest.mark.parametrize("whole", [0, 1, 30_000_000, 3_300_000_000, 6_940_000_000, 14_000_000_000])
def test_parts_that_are_guessed_add_up(whole: int) -> None:
    parts = Weights.guess(whole)
    assert parts.whole == whole and min(parts.unet, parts.text, parts.vae) >= 0
