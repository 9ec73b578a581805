"""What a set of tensors is, from their names and shapes alone: an SDXL checkpoint, a UNet, a VAE, a LoRA, and so on.

The names are those that the models' own implementations save. Which of them tell one model from another was learnt from
ComfyUI (comfy/model_detection.py, comfy/supported_models.py), diffusers (loaders/single_file_utils.py) and InvokeAI's
model probe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

TITLES = {
    "sdxl": "SDXL",
    "ssd-1b": "SSD-1B",
    "segmind-vega": "Segmind Vega",
    "sdxl-shaped": "a small model of SDXL's shape",
    "sdxl-refiner": "the SDXL refiner",
    "sdxl-inpainting": "SDXL for inpainting",
    "sdxl-edit": "SDXL for editing by instruction",
    "playground": "Playground v2.5",
    "koala": "KOALA",
    "sd1": "Stable Diffusion 1.x",
    "sd1-inpainting": "Stable Diffusion 1.x for inpainting",
    "sd2": "Stable Diffusion 2.x",
    "sd2-inpainting": "Stable Diffusion 2.x for inpainting",
    "sd2-depth": "Stable Diffusion 2.x with depth",
    "sd-x4-upscaler": "the Stable Diffusion x4 upscaler",
    "sd3": "Stable Diffusion 3",
    "flux": "Flux",
    "cascade": "Stable Cascade",
    "transformer": "a diffusion transformer",
    "clip": "CLIP",
    "preference": "CLIP tuned on what people preferred",
    "aesthetic": "layers over CLIP that expect a rating",
    "t5": "T5",
    "rrdb": "ESRGAN's RRDBNet",
    "compact": "Real-ESRGAN's compact network",
    "gfpgan": "GFPGAN's clean network",
    "unknown": "of no known architecture",
}
"What people call an architecture."
RUN = ("sdxl", "ssd-1b", "segmind-vega", "sdxl-shaped")
"The architectures that safelight draws with."
PREFIXES = (
    ("model.diffusion_model.", "unet"),
    ("first_stage_model.", "vae"),
    ("conditioner.embedders.0.", "text_encoder"),
    ("conditioner.embedders.1.", "text_encoder_2"),
    ("cond_stage_model.", "text_encoder"),
    ("text_encoders.", "text_encoder"),
    ("model_ema.", "ema"),
    ("control_model.", "controlnet"),
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
)
"How the names of a component's tensors begin in a file that holds several."
_TRANSFORMERS = (
    ("sd3", ("joint_blocks.0.", "joint_blocks_0_")),
    ("flux", ("double_blocks.0.", "double_blocks_0_", "single_transformer_blocks.0.", "single_transformer_blocks_0_")),
    ("cascade", ("clip_txt_mapper.", "down_blocks.0.0.channelwise.", "down_blocks.1.0.channelwise.")),
)
"Words in the names of other models' tensors."
_OTHER_TRANSFORMER = re.compile(
    r"(model\.diffusion_model\.|diffusion_model\.|transformer\.|net\.)?"
    r"(transformer_blocks|double_layers|blocks|layers|double_stream_blocks|vace_blocks)\.0\."
    r"|lora_transformer_|lora_unet_(transformer_blocks|blocks|layers)_\d"
)
_LORA = re.compile(
    r"[._]lora_(A|B|up|down|mid)\b|[._]lora(_linear_layer)?\.(up|down)\.|\.(hada|lokr|oft|boft)_|\.lora_mid\."
    r"|\.dora_scale$|\.lora_magnitude_vector|\.oft_blocks$|\.diff(_b)?$|\.(w1|w2)_[ab]$"
)


@dataclass(frozen=True, slots=True)
class Unet:
    """What a UNet's tensors tell."""

    prefix: str
    "In front of its tensors' names."
    original: bool
    "Whether names are those of the original implementation (input_blocks.…), not diffusers' (down_blocks.…)."
    in_channels: int
    "Of the first convolution."
    channels: int
    "Of the first level."
    width: int | None
    "Of the text that it attends to."
    added: int | None
    "Numbers that sizes and pooled text are given in; None for models before SDXL."
    depths: tuple[int, ...]
    "Transformer blocks in each attention on the way down."


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    kind: str
    "model, unet, lora, embedding, vae, preview_decoder, text_encoder, upscaler, scorer, controlnet, … or unknown."
    architecture: str
    "A key of TITLES."
    width: int | None = None
    "Of the text that is attended to: 768, 1024, 1280, 2048 or another."
    unet: Unet | None = None
    "Of a model or a UNet."
    scale: int = 0
    "Of an upscaler: how many times as wide and high; 0 where that isn't plain."


def of(shapes: Shapes) -> Kind:
    """What tensors of these names and shapes are."""
    if any(_LORA.search(name) for name in shapes):
        return _lora(shapes)
    if found := _embedding(shapes):
        return found
    if other := _other(shapes):
        return other
    if unet := unet_of(shapes):
        whole = any(name.startswith(("conditioner.", "cond_stage_model.")) for name in shapes)
        architecture = _playground(shapes) or of_unet(unet)
        return Kind("model" if whole else "unet", architecture, unet.width, unet)
    if architecture := _transformer(shapes):
        return Kind("unet", architecture)
    return _part(shapes)


def unet_of(shapes: Shapes) -> Unet | None:
    """The UNet among these tensors, in the original implementation's names or in diffusers'."""
    for prefix in ("model.diffusion_model.", "", "unet.", "diffusion_model."):
        for original, first in ((True, "input_blocks.0.0.weight"), (False, "conv_in.weight")):
            shape = shapes.get(prefix + first)
            more = "time_embed.0.weight" if original else "time_embedding.linear_1.weight"
            if shape is None or len(shape) != 4 or prefix + more not in shapes:
                continue
            own = {n[len(prefix) :]: s for n, s in shapes.items() if n.startswith(prefix)} if prefix else shapes
            return Unet(
                prefix, original, shape[1], shape[0], _width(own), _added(own, original), _depths(own, original)
            )
    return None


def of_unet(unet: Unet) -> str:
    """Which architecture a UNet is of.

    Depths by ComfyUI's supported_models.py; widths by unet/config.json of the models' repositories.
    """
    if unet.added is not None and (unet.width, unet.channels, unet.added) == (1280, 384, 2560):
        return "sdxl-refiner"
    if unet.added is not None and unet.width is not None:
        if (unet.width, unet.channels) != (2048, 320):
            return "sdxl-shaped" if unet.in_channels == 4 else "unknown"
        if unet.in_channels != 4:
            return {9: "sdxl-inpainting", 8: "sdxl-edit"}.get(unet.in_channels, "unknown")
        if len(unet.depths) == 2:  # one attention per level
            return "koala"
        known: dict[tuple[int, ...], str] = {
            (2, 2, 10, 10): "sdxl",
            (2, 2, 4, 4): "ssd-1b",
            (1, 1, 2, 2): "segmind-vega",
        }
        return known.get(unet.depths, "unknown")
    if unet.in_channels == 7:
        return "sd-x4-upscaler"
    base = {768: "sd1", 1024: "sd2"}.get(unet.width or 0, "unknown")
    suffix = {9: "-inpainting", 5: "-depth"}.get(unet.in_channels, "")
    return f"{base}{suffix}" if f"{base}{suffix}" in TITLES else base


def component(name: str, kind: str) -> str:
    """Which component a tensor belongs to; what is not one of several is of its file's kind."""
    for prefix, part in PREFIXES:
        if name.startswith(prefix):
            return part
    if kind == "lora" and name.startswith("base_model.model."):
        return "unet"
    return "unet" if kind in ("model", "unet") else kind


def _width(own: Shapes) -> int | None:
    return next((s[1] for n, s in own.items() if n.endswith("attn2.to_k.weight") and len(s) == 2), None)


def _added(own: Shapes, original: bool) -> int | None:
    shape = own.get("label_emb.0.0.weight" if original else "add_embedding.linear_1.weight")
    return shape[1] if shape is not None and len(shape) == 2 else None


def _depths(own: Shapes, original: bool) -> tuple[int, ...]:
    """Transformer blocks of each attention on the way down, in their order."""
    pattern = (
        re.compile(r"input_blocks\.(\d{1,3})\.(1)\.transformer_blocks\.(\d{1,3})\.")
        if original
        else re.compile(r"down_blocks\.(\d{1,3})\.attentions\.(\d{1,3})\.transformer_blocks\.(\d{1,3})\.")
    )
    found: dict[tuple[int, int], int] = {}
    for name in own:
        if match := pattern.match(name):
            at = int(match[1]), int(match[2])
            found[at] = max(found.get(at, 0), int(match[3]) + 1)
    return tuple(found[at] for at in sorted(found))


def _playground(shapes: Shapes) -> str:
    """Models whose noise is not SDXL's, by the numbers that they carry (ComfyUI, SDXL.model_type)."""
    return "playground" if "edm_mean" in shapes or "edm_vpred.sigma_max" in shapes else ""


def _transformer(shapes: Shapes) -> str:
    """The kind of diffusion transformer that these names are of; empty if they are of none."""
    names = "\n".join(shapes)  # one search instead of thousands
    for known, words in _TRANSFORMERS:
        if any(word in names for word in words):
            return known
    other = any(_OTHER_TRANSFORMER.match(name.removeprefix("base_model.model.")) for name in shapes)
    return "transformer" if other else ""


def _lora(shapes: Shapes) -> Kind:
    if architecture := _transformer(shapes):
        return Kind("lora", architecture)
    # the width of the text shows where keys and values of it are made: A is (rank, width)
    text = re.compile(r"attn2[._](processor\.)?to_[kv](_lora)?\.(.*\b)?(lora_A|lora_down|down|hada_w1_b|lokr)")
    for name, shape in shapes.items():
        if len(shape) >= 2 and text.search(name):
            return Kind("lora", _of_width(shape[1], shapes), shape[1])
    if any(name.startswith(("lora_te2_", "lora_te1_", "text_encoder_2.")) for name in shapes):
        return Kind("lora", "sdxl")
    old = re.compile(r"^(lora_te_|text_encoder\.).*[qkv]_proj\.(.*\b)?(lora_A|lora_down|down)")
    for name, shape in shapes.items():
        if len(shape) >= 2 and old.search(name) and shape[1] in (768, 1024):
            return Kind("lora", "sd1" if shape[1] == 768 else "sd2", shape[1])
    return Kind("lora", "unknown")


def _of_width(width: int, shapes: Shapes) -> str:
    """A LoRA's architecture; SDXL and its pruned descendants attend to text of one width and differ in depth."""
    known = {768: "sd1", 1024: "sd2", 1280: "sdxl-refiner"}
    if width != 2048:
        return known.get(width, "sdxl-shaped")
    blocks = [int(m[1]) for n in shapes if (m := re.search(r"transformer_blocks[._](\d{1,3})[._]", n))]
    deepest = max(blocks, default=0)
    if deepest >= 4 or len(blocks) < 200:  # one that was trained on few layers says nothing by lacking others
        return "sdxl"
    return "ssd-1b" if deepest >= 2 else "segmind-vega"


def _embedding(shapes: Shapes) -> Kind | None:
    if {"clip_l", "clip_g"} <= shapes.keys():
        if len(shapes["clip_l"]) != 2 or len(shapes["clip_g"]) != 2:
            return Kind("embedding", "unknown")
        width = shapes["clip_l"][1] + shapes["clip_g"][1]
        return Kind("embedding", "sdxl" if width == 2048 else "sdxl-shaped", width)
    if not shapes or len(shapes) > 2 or any(len(shape) not in (1, 2) for shape in shapes.values()):
        return None
    widths = {shape[-1] for shape in shapes.values()}
    named = "emb_params" in shapes or all(re.fullmatch(r"<.*>|\*|[^.]+", name) for name in shapes)
    if len(widths) != 1 or not named:
        return None
    width = widths.pop()
    if width not in (768, 1024, 1280) and "emb_params" not in shapes:
        return None
    return Kind("embedding", {768: "sd1", 1024: "sd2"}.get(width, "unknown"), width)


def _other(shapes: Shapes) -> Kind | None:
    """What goes beside a UNet and may look like one."""
    for kind, starts in (
        (
            "controlnet",
            ("control_model.", "controlnet_cond_embedding.", "input_hint_block.", "controlnet_down_blocks."),
        ),
        ("ip_adapter", ("ip_adapter.", "image_proj.")),
        ("t2i_adapter", ("adapter.body.", "adapter.conv_in.")),
    ):
        if any(name.startswith(starts) for name in shapes):
            width = _width(shapes) or next(
                (s[1] for n, s in shapes.items() if n.startswith("ip_adapter.") and "to_k" in n and len(s) == 2), None
            )
            return Kind(kind, {768: "sd1", 1024: "sd2", 2048: "sdxl"}.get(width or 0, "unknown"), width)
    if any(".motion_modules." in name or name.startswith("motion_modules.") for name in shapes):
        return Kind("motion_module", "sd1")
    return None


def _part(shapes: Shapes) -> Kind:
    """A component that stands alone."""
    names = shapes.keys()

    def begins(*starts: str) -> bool:
        return any(name.startswith(starts) for name in names)

    if begins("decoder.layers."):
        return Kind("preview_decoder", "unknown")
    for prefix in ("", "first_stage_model.", "vae."):
        first = shapes.get(f"{prefix}decoder.conv_in.weight")
        if first is not None and len(first) == 4:
            if first[1] != 4:
                return Kind("vae", "flux" if first[1] == 16 else "unknown")
            return Kind("vae", "sdxl" if first[0] == 512 else "sdxl-shaped")
    if begins("vision_model.") and begins("text_model."):
        return Kind("scorer", "clip")
    if begins("text_model.", "transformer.resblocks.", "encoder.layers.0.", "transformer.text_model."):
        return Kind("text_encoder", "clip")
    if begins("encoder.block.0.layer.0.SelfAttention"):
        return Kind("text_encoder", "t5")
    if {"conv_body_first.weight", "stylegan_decoder.constant_input.weight", "final_linear.weight"} <= names:
        return Kind("face_restorer", "gfpgan")
    if begins("body.0.rdb1.", "model.1.sub.0.RDB1.", "RRDB_trunk.0.") or (
        len(shapes.get("body.0.weight", ())) == 4 and len(shapes.get("body.1.weight", ())) == 1
    ):
        return Kind("upscaler", "compact" if "body.0.weight" in shapes else "rrdb", scale=_enlargement(shapes))
    return Kind("unknown", "unknown")


def _enlargement(shapes: Shapes) -> int:
    """How many times as wide and high a network's pictures are; 0 if its layers don't tell. The same as
    engines.diffusion.nets would say, without reading a weight."""
    if (first := shapes.get("body.0.weight")) is not None and len(first) == 4 and first[1]:
        numbers = (re.fullmatch(r"body\.(0|[1-9][0-9]{0,3})\.weight", name) for name in shapes)
        end = shapes[f"body.{max(int(number[1]) for number in numbers if number)}.weight"]
        scale = math.isqrt(end[0] // first[1]) if end else 0
        return scale if scale > 0 and end[0] == first[1] * scale**2 else 0
    numbered = [int(i[1]) for name in shapes if (i := re.fullmatch(r"model\.(\d{1,2})\.weight", name))]
    if numbered:  # a doubling, its convolution and its activation take three places; two convolutions end the row
        doublings = sum(place % 3 == 0 for place in numbered if 0 < place < max(numbered) - 2)
        return int(2**doublings)
    ups = {name.split(".")[0] for name in shapes if re.match(r"(conv_up|upconv)\d\.", name)}
    into = shapes.get("conv_first.weight", ())
    out = shapes.get("conv_last.weight", ())
    if len(into) != 4 or len(out) != 4 or not out[0]:
        return 0
    fold = {1: 1, 4: 2, 16: 4}.get(into[1] // out[0], 0)
    return int(2 ** len(ups)) // fold if fold else 0
