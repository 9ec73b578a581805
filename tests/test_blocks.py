"""Which block a weight is in, by either of its names; and what people write for a mix."""

from __future__ import annotations

from typing import Any

import pytest

from engines import blocks
from engines.blocks import Formula
from engines.errors import InvalidRequest

SDXL: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 2,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
"stabilityai/stable-diffusion-xl-base-1.0, unet/config.json."


def original_names(transformers: dict[str, int]) -> list[str]:
    """Names of an SDXL UNet in the original layout; `transformers` gives the depth of those blocks that attend."""
    names = [f"{at}.{kind}" for at in ("time_embed.0", "time_embed.2") for kind in ("weight", "bias")]
    names += [
        f"{at}.{kind}" for at in ("label_emb.0.0", "label_emb.0.2", "out.0", "out.2") for kind in ("weight", "bias")
    ]
    names += ["input_blocks.0.0.weight", "input_blocks.0.0.bias"]

    def both(at: str) -> list[str]:
        return [f"{at}.weight", f"{at}.bias"]

    def residual(at: str, skips: bool) -> list[str]:
        inner = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
        return [x for part in (*inner, *(("skip_connection",) if skips else ())) for x in both(f"{at}.{part}")]

    def attention(at: str, depth: int) -> list[str]:
        found = [x for part in ("norm", "proj_in", "proj_out") for x in both(f"{at}.{part}")]
        for i in range(depth):
            block = f"{at}.transformer_blocks.{i}"
            for attn in ("attn1", "attn2"):
                found += [f"{block}.{attn}.to_{side}.weight" for side in "qkv"] + both(f"{block}.{attn}.to_out.0")
            for part in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"):
                found += both(f"{block}.{part}")
        return found

    for number in range(1, 9):
        at = f"input_blocks.{number}"
        if number in (3, 6):
            names += both(f"{at}.0.op")
            continue
        names += residual(f"{at}.0", skips=number in (4, 7))
        names += attention(f"{at}.1", transformers[at]) if at in transformers else []
    names += residual("middle_block.0", False) + residual("middle_block.2", False)
    names += attention("middle_block.1", transformers["middle_block"])
    for number in range(9):
        at = f"output_blocks.{number}"
        names += residual(f"{at}.0", skips=True)
        names += attention(f"{at}.1", transformers[at]) if at in transformers else []
        names += both(f"{at}.2.conv") if number in (2, 5) else []
    return [f"model.diffusion_model.{name}" for name in names]


DEPTHS = (
    {f"input_blocks.{i}": 2 for i in (4, 5)}
    | {f"input_blocks.{i}": 10 for i in (7, 8)}
    | {"middle_block": 10}
    | {f"output_blocks.{i}": 10 for i in (0, 1, 2)}
    | {f"output_blocks.{i}": 2 for i in (3, 4, 5)}
)


def test_every_weight_of_sdxl_is_in_the_same_block_by_both_of_its_names() -> None:
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from diffusers.models import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(SDXL)
    given = {name: torch.empty(0) for name in original_names(DEPTHS)}
    before = {id(tensor): name for name, tensor in given.items()}
    converted = convert_ldm_unet_checkpoint(dict(given), dict(unet.config))
    pairs = {name: before[id(tensor)] for name, tensor in converted.items()}
    assert pairs.keys() == unet.state_dict().keys() and len(pairs) == 1680

    found = {new: (blocks.of(old), blocks.of(new, "unet"), blocks.of(new)) for new, old in pairs.items()}
    assert not {new: three for new, three in found.items() if len(set(three)) > 1}
    assert {three[0] for three in found.values()} == set(blocks.NAMES) - {"vae", *blocks.TEXT}
    assert blocks.layers(pairs) == 2
    assert {blocks.part(name) for name in (*pairs, *given)} == {"unet"}
    assert blocks.of("input_blocks.4.1.proj_in.weight") == "in4"  # a UNet alone, without the checkpoint's prefix


def test_blocks_are_counted_with_the_layers_that_a_unet_has() -> None:
    names = ["down_blocks.1.resnets.0.norm1.weight", "up_blocks.1.upsamplers.0.conv.bias", "mid_block.resnets.0.x"]
    assert blocks.layers(names) == 1
    assert [blocks.of(name, layers=1) for name in names] == ["in3", "out3", "mid"]
    assert blocks.of("down_blocks.0.downsamplers.0.conv.bias", layers=1) == "in2"
    assert blocks.layers(["input_blocks.1.0.x"]) == 2


@pytest.mark.parametrize(
    ("key", "component", "block"),
    [
        ("conditioner.embedders.0.transformer.text_model.embeddings.position_ids", "", "text_encoder"),
        ("conditioner.embedders.1.model.transformer.resblocks.3.ln_1.bias", "", "text_encoder_2"),
        ("first_stage_model.encoder.mid_block.x", "", "vae"),
        ("encoder.mid_block.resnets.0.norm1.weight", "vae", "vae"),
        ("text_model.encoder.layers.0.layer_norm1.bias", "text_encoder_2", "text_encoder_2"),
        ("model.diffusion_model.out.2.weight", "", "out8"),
        ("model_ema.decay", "", "base"),
    ],
)
def test_what_is_not_in_the_unet_has_a_block_too(key: str, component: str, block: str) -> None:
    assert blocks.of(key, component) == block


@pytest.mark.parametrize(
    ("text", "name"), [("IN04", "in4"), ("in_4", "in4"), ("M00", "mid"), ("MID", "mid"), ("OUT00", "out0"),
                       ("BASE", "base"), (" VAE ", "vae"), ("clip_g", "text_encoder_2")],
)  # fmt: skip
def test_other_programs_names_are_understood(text: str, name: str) -> None:
    assert blocks.name(text) == name


def test_blocks_are_read_from_what_people_write() -> None:
    assert blocks.parse(["out3=.5", "in0=0.2, MID=1"]) == (("in0", 0.2), ("mid", 1.0), ("out3", 0.5))
    assert blocks.parse(["in=0.1,IN02=0.9"])[:4] == (("in0", 0.1), ("in1", 0.1), ("in2", 0.9), ("in3", 0.1))
    assert len(blocks.parse(["unet=0"])) == 19 and blocks.parse([]) == ()
    numbers = blocks.parse([",".join(str(i / 20) for i in range(20))])
    assert numbers[0] == ("base", 0.0) and numbers[10] == ("mid", 0.5) and numbers[19] == ("out8", 0.95)
    for bad, said in (("in9=1", "'in9'"), ("in4", "gives no block"), ("in4=x", "no number"), ("=1", "''")):
        with pytest.raises(InvalidRequest, match=said) as error:
            blocks.parse([bad])
        assert error.value.hint
    with pytest.raises(InvalidRequest, match="txet") as error:
        blocks.name("txet_encoder")
    assert "text_encoder" in error.value.hint


def test_only_the_proportion_of_weights_counts() -> None:
    assert Formula("weighted-sum", (1, 3)).at("mid") == Formula("weighted-sum", (0.25, 0.75)).at("mid") == (0.25, 0.75)
    assert sum(Formula("weighted-sum", (0.3, 0.3, 0.3)).at("in0")) == pytest.approx(1)


def test_a_blocks_share_is_the_second_models() -> None:
    two = Formula("weighted-sum", (0.5, 0.5), (("IN04", 0.2),))
    assert two.at("in4") == (0.8, 0.2) and two.at("in5") == (0.5, 0.5)
    three = Formula("weighted-sum", (0.5, 0.25, 0.25), (("in", 0.5),))
    assert three.at("in4") == (0.25, 0.5, 0.25) and three.at("out0") == (0.5, 0.25, 0.25)
    difference = Formula("add-difference", (1, 0.7, 1), (("out0", -1.0),))
    assert difference.at("in0") == (1, 0.7, -0.7) and difference.at("out0") == (1, -1, 1)


def test_text_encoders_follow_base_unless_they_have_a_share() -> None:
    formula = Formula("weighted-sum", (0.5, 0.5), (("base", 0.0), ("text_encoder_2", 0.9)))
    assert formula.at("text_encoder") == (1.0, 0.0)
    assert formula.at("text_encoder_2")[1] == 0.9
    assert formula.at("vae") == (0.5, 0.5)


@pytest.mark.parametrize(
    ("method", "weights", "given", "said"),
    [
        ("sum", (1, 1), (), "'sum'"),
        ("weighted-sum", (1,), (), "two or three"),
        ("weighted-sum", (1, 1, 1, 1), (), "two or three"),
        ("weighted-sum", (0, 0), (), "all zero"),
        ("weighted-sum", (1.5, -0.5), (), "-0.5"),
        ("weighted-sum", (1, float("nan")), (), "nan"),
        ("weighted-sum", (1, 1), (("in4", 1.5),), "in4"),
        ("weighted-sum", (1, 1, 2), (("in4", 0.6),), "in4"),
        ("weighted-sum", (1, 1), (("in12", 0.5),), "in12"),
        ("add-difference", (1, 1), (), "three models"),
        ("add-difference", (1, 3, 1), (), "3"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(
    method: str, weights: tuple[float, ...], given: tuple[tuple[str, float], ...], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said) as error:
        Formula(method, weights, given)
    assert error.value.hint and "\n" not in str(error.value)


def test_a_formula_is_told_in_one_line() -> None:
    assert str(Formula("weighted-sum", (0.7, 0.3), (("in4", 0.5),))) == "weighted-sum 0.7 : 0.3, in4 0.5"
    assert str(Formula("add-difference", (1, 0.5, 1))) == "add-difference 0.5"
