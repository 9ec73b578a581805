"""How LoRA files name the layers that they change, and how much of a LoRA a UNet has use for; from headers alone.

A layer is known by its flat name: dots are underscores, as in kohya's files (github.com/kohya-ss/sd-scripts,
networks/lora.py), so that kohya's, peft's and both of diffusers' spellings meet. Names of the original SDXL
(input_blocks_4_1_…) are renamed as in diffusers' UNet, on both sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engines.headers import shown
from engines.kinds import PREFIXES, Shapes

MANY = 5
"Names of layers that are told."
_SIDES = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<peft>[AB])(?:\.(?!weight$)[\w-]+)?|\.lora_(?P<kohya>down|up)"
    r"|[._]lora(?:_linear_layer)?\.(?P<old>down|up))\.weight"
)
_OTHERS = (
    (("dora_scale", "lora_magnitude_vector"), "DoRA"),
    (("lokr_",), "LoKr"),
    (("hada_",), "LoHa"),
    (("oft_", "boft_"), "OFT"),
    (("lora_mid",), "LoCon in Tucker form"),
    (("diff", "diff_b"), "whole differences"),
)
"What else files add to layers: how the last word of a tensor's name begins, and what it is called."
_OUTSIDE = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
_INSIDE = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """How much of a LoRA a model has use for."""

    total: int
    "Layers that the file changes, in the parts that were looked at."
    matched: int
    "How many of them the model has, in the same shape."
    missing: tuple[str, ...] = ()
    "The first MANY that it doesn't have."
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    "The first MANY that have another shape there: name, the LoRA's, the model's."

    @property
    def percent(self) -> float:
        """0 … 100; 100 where the file changes nothing in these parts."""
        return 100 * self.matched / self.total if self.total else 100.0


def other_kind(names: Iterable[str]) -> str:
    """What a LoRA-like file is called if it adds more than plain pairs: LoHa, LoKr, DoRA …; empty if it doesn't."""
    last = {part for name in names for part in name.rsplit(".", 3)[1:]}
    for starts, kind in _OTHERS:
        if any(part.startswith(starts) if starts[0] != "diff" else part in starts for part in last):
            return kind
    return ""


def layers(shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Part (unet, text_encoder, text_encoder_2) → flat name → shape of the change; whole pairs only."""
    sides: dict[tuple[str, str], dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        if (found := sided(key)) and len(shape) >= 2:
            layer, side = found
            sides.setdefault(placed(layer), {})[side] = shape
    made: dict[str, dict[str, tuple[int, ...]]] = {"unet": {}, "text_encoder": {}, "text_encoder_2": {}}
    for (part, name), pair in sides.items():
        if pair.keys() == {"down", "up"}:
            made[part][name] = (pair["up"][0], *pair["down"][1:])
    return made


def sided(name: str) -> tuple[str, str] | None:
    """(layer as the file names it, "down" or "up") of a tensor that is half of a pair; None for any other."""
    found = _SIDES.fullmatch(name)
    if found is None:
        return None
    return found["layer"], {"A": "down", "B": "up"}.get(found["peft"], found["kohya"] or found["old"])


def placed(layer: str) -> tuple[str, str]:
    """(part, flat name) of a layer as a file names it."""
    layer = layer.removeprefix("base_model.model.")
    known = (*PREFIXES, ("diffusion_model.", "unet"))
    prefix, part = next(((p, part) for p, part in known if layer.startswith(p)), ("", "unet"))
    part = part if part in ("unet", "text_encoder", "text_encoder_2") else "unet"
    name = layer.removeprefix(prefix).removeprefix("base_model.model.").replace(".processor.", ".").replace(".", "_")
    if part == "unet":  # diffusers' first form says to_out, where the layer is to_out.0
        return part, f"{name}_0" if name.endswith("_to_out") else name
    return part, re.sub(r"_to_(q|k|v|out)$", r"_\1_proj", name).removeprefix("text_model_")


def fits(lora: Shapes, unet: Shapes, encoders: Mapping[str, Shapes] | None = None) -> Fit:
    """How much of a LoRA a model has use for.

    Args:
        lora: the shapes of its file.
        unet: those of the model's UNet, in diffusers' names or the original's, with or without a prefix.
        encoders: those of its text encoders, by part, in transformers' names; what isn't given is not counted.
    """
    theirs = layers(lora)
    ours = {"unet": _flat(unet)}
    for part, shapes in (encoders or {}).items():
        ours[part] = {n.removeprefix("text_model_"): s for n, s in _flat(shapes).items()}
    per_block = _per_block(unet)
    total = matched = 0
    missing: list[str] = []
    wrong: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for part, own in ours.items():
        for name, shape in theirs[part].items():
            total += 1
            target = own.get(name) or (own.get(renamed(name, per_block)) if part == "unet" else None)
            if target is None:
                missing.append(shown(name))
            elif shape[:2] != target[:2] or math.prod(shape) != math.prod(target):
                wrong.append((shown(name), shape, target))
            else:
                matched += 1
    return Fit(total, matched, tuple(missing[:MANY]), tuple(wrong[:MANY]))


def _flat(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Flat names, as in diffusers, of a model's layers."""
    per_block = _per_block(shapes)
    prefix = next((p for p in ("model.diffusion_model.", "diffusion_model.", "unet.") if _begins(shapes, p)), "")
    made = {}
    for name, shape in shapes.items():
        if name.startswith(prefix) and name.endswith(".weight") and len(shape) >= 2:
            flat = name[len(prefix) : -len(".weight")].replace(".", "_")
            made[renamed(flat, per_block)] = shape
    return made


def _begins(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _per_block(shapes: Shapes) -> int:
    """Residual layers in each block of a UNet: 2 in SDXL."""
    first = [int(m[1]) for n in shapes if (m := re.search(r"input_blocks\.(\d{1,3})\.0\.op\.weight$", n))]
    if first:
        return max(1, min(first) - 1)
    resnets = {m[1] for n in shapes if (m := re.search(r"down_blocks\.0\.resnets\.(\d{1,3})\.", n))}
    return len(resnets) or 2


def renamed(name: str, per_block: int) -> str:
    """The flat name in diffusers' UNet of a layer that is named as in the original SDXL; any other name as it is.

    Args:
        name: such as input_blocks_4_1_transformer_blocks_0_attn1_to_q.
        per_block: residual layers in each block; each block has one place more for what changes the size.
    """
    if outside := _OUTSIDE.get(name):
        return outside
    if middle := re.fullmatch(r"middle_block_([012])_(.+)", name):
        place = ("resnets_0", "attentions_0", "resnets_1")[int(middle[1])]
        return f"mid_block_{place}_{_INSIDE.get(middle[2], middle[2])}"
    if not (found := re.fullmatch(r"(input|output)_blocks_(\d{1,3})_(\d)_(.+)", name)):
        return name
    side, rest = ("down" if found[1] == "input" else "up"), found[4]
    block, layer = divmod(int(found[2]) - (side == "down"), per_block + 1)
    if rest in ("op", "conv"):
        return f"{side}_blocks_{block}_{side}samplers_0_conv"
    kind = "attentions" if int(found[3]) else "resnets"
    return f"{side}_blocks_{block}_{kind}_{layer}_{_INSIDE.get(rest, rest)}"
