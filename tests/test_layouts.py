"""What the shapes of a file show: the configurations of SDXL and its smaller relatives, whole, shrunk and pruned."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from engines import headers, layouts
from engines.errors import LoadError

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
TINY = {part: tiny.config(part) for part in PARTS}


@functools.cache
def shapes(build: Callable[..., Path], **how: Any) -> dict[str, tuple[int, ...]]:
    return headers.read(tiny.shared(build, **how)).shapes


def differing(found: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {key: (found.get(key), value) for key, value in known.items() if found.get(key) != value}


def blocks(config: dict[str, Any]) -> list[str]:
    """Names of a UNet's tensors, which say how deep it is where."""
    return list(tiny._shapes("unet", json.dumps(config)))


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_of_full_size_has_the_shipped_configuration(part: str) -> None:
    found = layouts.config(part, shapes(tiny.single_file, true=True))
    assert differing(found, layouts.shipped(f"sdxl/{part}/config.json")) == {}


@pytest.mark.parametrize("part", PARTS)
def test_widths_come_from_the_shapes(part: str) -> None:
    assert differing(layouts.config(part, shapes(tiny.single_file)), TINY[part]) == {}


@pytest.mark.parametrize("architecture", ["ssd-1b", "segmind-vega"])
@pytest.mark.parametrize("true", [False, True])
def test_a_pruned_unet_is_told_by_what_is_missing(architecture: str, true: bool) -> None:
    found = layouts.unet(shapes(tiny.single_file, architecture=architecture, true=true))
    known = tiny.config("unet", architecture, true)
    assert found["mid_block_type"] == "UNetMidBlock2D"
    assert blocks(found) == blocks(known)
    assert found["attention_head_dim"] == known["attention_head_dim"]


def test_layers_of_different_depth_are_told_one_by_one() -> None:
    found = layouts.unet(shapes(tiny.single_file, architecture="ssd-1b"))
    assert found["transformer_layers_per_block"] == [1, [2, 2], [4, 4]]
    assert found["reverse_transformer_layers_per_block"] == [[4, 4, 10], [2, 1, 1], 1]


@pytest.mark.parametrize("keys", ["diffusers", "ldm", "bare-ldm"])
def test_each_spelling_of_a_unet_shows_the_same(keys: str) -> None:
    assert differing(layouts.unet(shapes(tiny.unet_file, keys=keys)), TINY["unet"]) == {}


@pytest.mark.parametrize("keys", ["diffusers", "ldm", "prefixed"])
def test_each_spelling_of_a_vae_shows_the_same(keys: str) -> None:
    assert differing(layouts.vae(shapes(tiny.vae_file, keys=keys)), TINY["vae"]) == {}


def test_input_channels_come_from_the_shapes() -> None:
    assert layouts.unet(shapes(tiny.inpainting_file))["in_channels"] == 9


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    # the openvino notebook on Segmind-Vega names 247, 31 and 460 million in its down, middle and up blocks; the model
    # cards say 2.6 and 1.3 billion of SDXL and SSD-1B
    [("sdxl", 2_567_463_684), ("ssd-1b", 1_331_334_404), ("segmind-vega", 745_225_604)],
)
def test_the_shipped_unets_have_as_many_weights_as_the_real_ones(architecture: str, parameters: int) -> None:
    told = json.dumps(layouts.shipped(f"{architecture}/unet/config.json"))
    assert sum(math.prod(shape) for shape in tiny._shapes("unet", told).values()) == parameters


@pytest.mark.parametrize("build", [tiny.sd1_file, tiny.sd2_file])
def test_an_older_checkpoint_is_one_line(build: Callable[..., Path]) -> None:
    with pytest.raises(LoadError, match=r"^the UNet in x is not one of SDXL's family: it isn't told a picture's"):
        layouts.unet(shapes(build), "x")
    with pytest.raises(LoadError, match=r"^the file holds no OpenCLIP text encoder$"):
        layouts.config("text_encoder_2", shapes(build))


@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_something_else_holds_no_part(part: str) -> None:
    with pytest.raises(LoadError, match=f"^the file holds no {layouts.TITLES[part]}$"):
        layouts.config(part, shapes(tiny.upscaler))


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "it lacks conv_in.weight"),
        ("model.diffusion_model.input_blocks.4.1.", "some layers of down_blocks.1 have no attention"),
        ("model.diffusion_model.middle_block.1.", "its middle has 2 resnets and no attention"),
        ("model.diffusion_model.middle_block.1.transformer_blocks.9.", "9 transformer blocks in its middle follow 10"),
    ],
)
def test_a_unet_that_diffusers_cannot_build_is_one_line(gone: str, why: str) -> None:
    rest = {name: shape for name, shape in shapes(tiny.single_file).items() if not name.startswith(gone)}
    with pytest.raises(LoadError, match=why) as told:
        layouts.unet(rest)
    assert "\n" not in told.value.message and not told.value.message.endswith(".")


def test_another_space_of_pictures_is_one_line() -> None:
    there = dict(shapes(tiny.vae_file))
    there["decoder.conv_in.weight"] = (64, 16, 3, 3)
    with pytest.raises(LoadError, match=r"its pictures have 16 channels in place of 4$"):
        layouts.vae(there)


@pytest.mark.parametrize(
    "strange",
    [
        {"model.diffusion_model.input_blocks.0.0.op.weight": (1,)},
        {"model.diffusion_model.input_blocks.99999999999999999999.0.op.weight": (1,)},
        {"model.diffusion_model.output_blocks.999.0.in_layers.2.weight": ()},
        {"model.diffusion_model.input_blocks.1.0.in_layers.2.weight": ()},
        {"model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (3,)},
        {"first_stage_model.encoder.down.999.block.0.conv1.weight": (0,)},
        {"first_stage_model.decoder.conv_in.weight": ()},
        {"conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": ()},
        {"conditioner.embedders.1.model.transformer.resblocks.999.attn.in_proj_bias": (7,)},
        {"conditioner.embedders.1.model.token_embedding.weight": (64,)},
        {"conditioner.embedders.1.model.text_projection": ()},
    ],
)
def test_strange_shapes_and_numbers_end_in_a_configuration_or_in_one_line(strange: dict[str, tuple[int, ...]]) -> None:
    there = shapes(tiny.single_file) | strange
    told = []
    for part in PARTS:
        try:
            layouts.config(part, there)
        except LoadError as e:
            told.append(e.message)
    assert "\n" not in "".join(told)


def test_marks_of_the_prediction_reach_the_scheduler() -> None:
    assert layouts.scheduler()["prediction_type"] == "epsilon"
    assert layouts.scheduler({"v_pred": (0,)})["prediction_type"] == "v_prediction"
    assert layouts.scheduler({"v_pred": (0,), "ztsnr": (0,)})["rescale_betas_zero_snr"] is True


def test_a_shipped_configuration_may_be_changed_by_its_reader() -> None:
    layouts.shipped("sdxl/unet/config.json")["in_channels"] = 9
    assert layouts.shipped("sdxl/unet/config.json")["in_channels"] == 4


def test_what_is_shipped_is_small_and_has_its_licence() -> None:
    assert sum(path.stat().st_size for path in layouts.CONFIGS.rglob("*") if path.is_file()) < 2_500_000
    assert "Copyright (c) 2021 OpenAI" in (layouts.VOCABULARY / "LICENSE").read_text(encoding="utf-8")
