"""The layout of an SDXL checkpoint: its tensors by the names that diffusers gives them, and its configuration.

A checkpoint in one file says nothing of its configuration but the shapes of its tensors. What these show is put over
the configuration of SDXL base 1.0, which is shipped in `configs/sdxl` with the other facts of that repository
(huggingface.co/stabilityai/stable-diffusion-xl-base-1.0). So narrower, deeper and pruned UNets come out as they are.

Two spellings of names are read: that of the original implementation (github.com/Stability-AI/generative-models, with
OpenCLIP's for the second text encoder), and diffusers'. Nothing is read from a file here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engines import headers
from engines.errors import LoadError

CONFIGS = Path(__file__).with_name("configs")
"The shipped configurations, in diffusers' layout."
VOCABULARY = CONFIGS / "clip"
"Folder of vocab.json and merges.txt, which both of SDXL's tokenizers read."
TITLES = {"unet": "UNet", "vae": "VAE", "text_encoder": "CLIP text encoder", "text_encoder_2": "OpenCLIP text encoder"}
"The parts of a model, as they are called in messages."
HEAD = 64
"Channels of a head of attention in SDXL, on every level of its UNet and in both text encoders."
LATENTS = 4
"Channels of a picture in the VAE's space."

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one tensor of a module is made of."""

    name: str
    "The tensor in the file."
    change: Literal["", "turned", "flat", "q", "k", "v"] = ""
    "What is done to it: transposed, a 1×1 convolution as a matrix, or one third of its rows."

    def shape(self, whole: Shape) -> Shape:
        """The shape after the change, of a tensor that has the shape `whole` before."""
        match self.change:
            case "turned":
                return whole[::-1]
            case "flat":
                return whole[:2]
            case "q" | "k" | "v" if whole and whole[0] % 3 == 0:
                return (whole[0] // 3, *whole[1:])
        return whole


def shipped(name: str) -> dict[str, Any]:
    """A shipped configuration, such as "sdxl/unet/config.json"; the caller's to change."""
    told: dict[str, Any] = json.loads((CONFIGS / name).read_text(encoding="utf-8"))
    return told


def scheduler(shapes: Shapes | None = None) -> dict[str, Any]:
    """scheduler_config.json of SDXL base 1.0. Checkpoints that predict velocity carry an empty tensor `v_pred`, and
    those trained down to pure noise one called `ztsnr` (github.com/comfyanonymous/ComfyUI, supported_models.py)."""
    told = shipped("sdxl/scheduler/scheduler_config.json")
    if shapes and "v_pred" in shapes:
        told["prediction_type"] = "v_prediction"
    if shapes and "ztsnr" in shapes:
        told |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return told


def config(part: str, shapes: Shapes, file: str = "the file") -> dict[str, Any]:
    """The config.json of one part of a file.

    Args:
        part: "unet", "vae", "text_encoder" or "text_encoder_2".
        shapes: of all tensors of the file, by name; names of other parts are passed over.
        file: what it is called, for messages.

    Raises:
        LoadError: the file doesn't hold that part, or in a shape that SDXL's doesn't have.
    """
    shown = {ours: piece.shape(shapes[piece.name]) for ours, piece in pieces(part, shapes).items()}
    if not shown:
        raise LoadError(
            f"{file} holds no {TITLES[part]}", "choose a whole SDXL checkpoint, or complete it with like = …"
        )
    try:
        match part:
            case "unet":
                return _unet(shown)
            case "vae":
                return _vae(shown)
        return _text(part, shown)
    except _Other as e:
        why = str(e)
    except KeyError as e:
        why = f"it lacks {headers.shown(str(e.args[0]))}"
    except (IndexError, ValueError, ZeroDivisionError):
        why = "its tensors have other sides"
    raise LoadError(f"the {TITLES[part]} in {file} is not one of SDXL's family: {why}", "choose an SDXL checkpoint")


def unet(shapes: Shapes, file: str = "the file") -> dict[str, Any]:
    """`config` of a UNet: of a checkpoint, or of a file that is a UNet only."""
    return config("unet", shapes, file)


def vae(shapes: Shapes, file: str = "the file") -> dict[str, Any]:
    """`config` of a VAE: of a checkpoint, or of a file that is a VAE only."""
    return config("vae", shapes, file)


def pieces(part: str, shapes: Shapes) -> dict[str, Piece]:
    """What each tensor of a module is made of: its name in diffusers (or transformers, `text_model.` in front), and
    the piece of the file. Names of the part that are in neither spelling stay what they are; what real files carry
    beside the weights (position ids, training's losses) is left out. Empty if the file doesn't hold that part."""
    match part:
        case "unet":
            return _unet_pieces(shapes)
        case "vae":
            return _vae_pieces(shapes)
        case "text_encoder":
            return dict(_clip_pieces(shapes))
        case "text_encoder_2":
            return dict(_open_clip_pieces(shapes))
    raise AssertionError(part)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {
    "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0", "norm": "group_norm",
    # diffusers' own until 0.18
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0",
}  # fmt: skip
_OPEN_CLIP = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection.weight": "text_projection.weight",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def _inside(shapes: Shapes, *fronts: str) -> dict[str, str]:
    """Names behind the first of `fronts` that a file has, to their whole names."""
    for front in fronts:
        found = {name.removeprefix(front): name for name in shapes if name.startswith(front)}
        if found:
            return found
    return {}


def _unet_pieces(shapes: Shapes) -> dict[str, Piece]:
    bare = _inside(shapes, "model.diffusion_model.")
    if not bare and any(name.startswith(("input_blocks.", "down_blocks.")) for name in shapes):
        bare = {name: name for name in shapes}
    if not any(name.startswith("input_blocks.") for name in bare):
        return {name: Piece(whole) for name, whole in bare.items()}
    # the first convolution that halves the picture ends the first level
    halves = [int(m[1]) for name in bare if (m := re.match(r"input_blocks\.(\d{1,3})\.0\.op\.weight$", name))]
    level = min((at for at in halves if at), default=3)
    return {_unet_name(name, level): Piece(whole) for name, whole in bare.items()}


def _unet_name(name: str, level: int) -> str:
    """diffusers' name for one of the original's; `level` is how many of its blocks make one of diffusers'."""
    for theirs, ours in _UNET_ENDS.items():
        if name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    if found := re.match(r"middle_block\.([012])\.(.+)", name):
        at = int(found[1])
        return f"mid_block.attentions.0.{found[2]}" if at == 1 else f"mid_block.resnets.{at // 2}.{_resnet(found[2])}"
    found = re.match(r"(input|output)_blocks\.(\d{1,3})\.([012])\.(.+)", name)
    if found is None:
        return name
    side, at, place, rest = found[1], int(found[2]), int(found[3]), found[4]
    at -= side == "input"
    block = f"{'down' if side == 'input' else 'up'}_blocks.{at // level}"
    if rest.startswith("op."):
        return f"{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    if rest.startswith("conv."):
        return f"{block}.upsamplers.0.{rest}"
    return f"{block}.resnets.{at % level}.{_resnet(rest)}" if place == 0 else f"{block}.attentions.{at % level}.{rest}"


def _resnet(rest: str) -> str:
    inner, _, kind = rest.rpartition(".")
    return f"{_RESNET.get(inner, inner)}.{kind}"


def _vae_pieces(shapes: Shapes) -> dict[str, Piece]:
    bare = _inside(shapes, "first_stage_model.")
    if not bare and any(name.startswith("decoder.") for name in shapes):
        bare = {name: name for name in shapes}
    bare = {name: whole for name, whole in bare.items() if not name.startswith(("loss.", "model_ema."))}
    levels = 1 + max((int(m[1]) for name in bare if (m := re.match(r"decoder\.up\.(\d{1,3})\.", name))), default=0)
    made = {}
    for name, whole in bare.items():
        ours = _vae_name(name, levels)
        matrix = ".attentions." in ours and ours.endswith(".weight") and len(shapes[whole]) == 4
        made[ours] = Piece(whole, "flat" if matrix else "")
    return made


def _vae_name(name: str, levels: int) -> str:
    """diffusers' name for one of the original's, whose decoder counts its levels from the other end."""
    if found := re.match(r"(?:en|de)coder\.mid(?:\.attn_1|_block\.attentions\.0)\.(\w+)\.(\w+)$", name):
        side = name.partition(".")[0]
        return f"{side}.mid_block.attentions.0.{_ATTENTION.get(found[1], found[1])}.{found[2]}"
    name = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
    name = re.sub(r"^encoder\.down\.(\d{1,3})\.", r"encoder.down_blocks.\1.", name)
    name = re.sub(r"^decoder\.up\.(\d{1,3})\.", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", name)
    name = re.sub(r"(_blocks\.\d+)\.block\.", r"\1.resnets.", name)
    name = name.replace(".downsample.", ".downsamplers.0.").replace(".upsample.", ".upsamplers.0.")
    name = name.replace(".nin_shortcut.", ".conv_shortcut.")
    return re.sub(r"coder\.norm_out\.", "coder.conv_norm_out.", name)


def _clip_pieces(shapes: Shapes) -> Iterator[tuple[str, Piece]]:
    for name, whole in _inside(shapes, "conditioner.embedders.0.transformer.").items():
        name = f"text_model.{name.removeprefix('text_model.')}"
        if not name.endswith((".position_ids", ".logit_scale", ".text_projection.weight")):
            yield name, Piece(whole)


def _open_clip_pieces(shapes: Shapes) -> Iterator[tuple[str, Piece]]:
    for name, whole in _inside(shapes, "conditioner.embedders.1.model.").items():
        if name in ("logit_scale", "attn_mask"):
            continue
        if name == "text_projection":
            yield "text_projection.weight", Piece(whole, "turned")
        elif found := re.match(r"transformer\.resblocks\.(\d{1,3})\.(.+)[._](weight|bias)$", name):
            layer, inner, kind = f"text_model.encoder.layers.{found[1]}", found[2], found[3]
            if inner == "attn.in_proj":
                yield f"{layer}.self_attn.q_proj.{kind}", Piece(whole, "q")
                yield f"{layer}.self_attn.k_proj.{kind}", Piece(whole, "k")
                yield f"{layer}.self_attn.v_proj.{kind}", Piece(whole, "v")
            else:
                yield f"{layer}.{_BLOCK.get(inner, inner)}.{kind}", Piece(whole)
        else:
            yield _OPEN_CLIP.get(name, name), Piece(whole)


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Other(Exception):
    """Why a part is not one of SDXL's family."""


def _count(shapes: Shapes, front: str) -> int:
    """How many different numbers follow `front` in the names: layers of a block, blocks of a module."""
    pattern = re.compile(re.escape(front) + r"\.(\d{1,3})\.")
    return len({m[1] for name in shapes if (m := pattern.match(name))})


def _depths(shapes: Shapes, block: str, layers: int) -> list[int]:
    """Transformer blocks of each of a block's attentions; empty where it has none."""
    depths = [_count(shapes, f"{block}.attentions.{i}.transformer_blocks") for i in range(layers)]
    if any(depths) and not all(depths):
        raise _Other(f"some layers of {block} have no attention")
    return depths if any(depths) else []


def _unet(shapes: Shapes) -> dict[str, Any]:
    if "add_embedding.linear_1.weight" not in shapes:
        raise _Other("it isn't told a picture's size")
    levels, layers = _count(shapes, "down_blocks"), _count(shapes, "down_blocks.0.resnets")
    widths = [shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in range(levels)]
    down = [_depths(shapes, f"down_blocks.{i}", layers) for i in range(levels)]
    up = [_depths(shapes, f"up_blocks.{i}", layers + 1) for i in range(levels)]
    cross = next((n for n in shapes if n.endswith(".attn2.to_k.weight")), None)
    if cross is None or any(width % 32 for width in widths):
        raise _Other("it doesn't look at words" if cross is None else "its widths are no multiples of 32")
    told = shipped("sdxl/unet/config.json")
    told |= _depth(shapes, down, up)
    return told | {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": widths,
        "attention_head_dim": [max(1, width // HEAD) for width in widths],  # by a slip of diffusers, how many heads
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if depths else "DownBlock2D" for depths in down],
        "up_block_types": ["CrossAttnUpBlock2D" if depths else "UpBlock2D" for depths in up],
        "cross_attention_dim": shapes[cross][1],
        "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
        "use_linear_projection": len(shapes[cross.partition(".transformer_blocks.")[0] + ".proj_in.weight"]) == 2,
    }


def _depth(shapes: Shapes, down: list[list[int]], up: list[list[int]]) -> dict[str, Any]:
    """Where and how deep the attention is: per level, or per layer where a level's layers or both sides differ."""
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks")
    resnets = _count(shapes, "mid_block.resnets")
    if (resnets, bool(middle)) not in ((2, True), (1, False), (0, False)):
        raise _Other(f"its middle has {resnets} resnets and {'an' if middle else 'no'} attention")
    told: dict[str, Any] = {
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D" if resnets else None
    }
    levels = [set(a + b) for a, b in zip(down, reversed(up), strict=True)]
    if all(len(depths) < 2 for depths in levels):
        deep: list[Any] = [next(iter(depths), 1) for depths in levels]
    else:
        deep = [depths or 1 for depths in down]
        told["reverse_transformer_layers_per_block"] = [depths or 1 for depths in up]
    if not levels[-1]:
        deep[-1] = middle or 1
    last = deep[-1][0] if isinstance(deep[-1], list) else deep[-1]
    if middle and middle != last:
        raise _Other(f"{middle} transformer blocks in its middle follow {last} before it")
    return told | {"transformer_layers_per_block": deep}


def _vae(shapes: Shapes) -> dict[str, Any]:
    levels = _count(shapes, "encoder.down_blocks")
    latents = shapes["decoder.conv_in.weight"][1]
    if latents != LATENTS:
        raise _Other(f"its pictures have {latents} channels in place of {LATENTS}")
    return shipped("sdxl/vae/config.json") | {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": latents,
        "block_out_channels": [shapes[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"][0] for i in range(levels)],
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets"),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "mid_block_add_attention": "decoder.mid_block.attentions.0.to_q.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def _text(part: str, shapes: Shapes) -> dict[str, Any]:
    words, width = shapes["text_model.embeddings.token_embedding.weight"]
    if width % HEAD:
        raise _Other(f"its width {width} is no multiple of {HEAD}")
    projection = shapes["text_projection.weight"][0] if part == "text_encoder_2" else width
    return shipped(f"sdxl/{part}/config.json") | {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, "text_model.encoder.layers"),
        "num_attention_heads": width // HEAD,
        "max_position_embeddings": shapes["text_model.embeddings.position_embedding.weight"][0],
        "projection_dim": projection,
    }
