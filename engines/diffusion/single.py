"""Parts of a model from one .safetensors file: a checkpoint in the original implementation's names, or a part alone.

A part is built empty from its configuration, and each of its tensors is read from where the file maps it into memory,
renamed by `engines.layouts`. Names and shapes are compared before a weight is read, so that a file that doesn't fit is
told by what doesn't. Nothing is fetched, and nothing but safetensors is opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.initialization import no_init_weights

from engines import headers, layouts
from engines.errors import LoadError
from engines.layouts import TITLES, Piece

AGAIN = "download it again, or choose another"
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"Types of weights that can be computed with once they are converted. Other types are quantised by rules of their own."


def unet(file: Path, dtype: torch.dtype, config: Mapping[str, Any] | None = None) -> UNet2DConditionModel:
    """The UNet of a checkpoint, on the CPU.

    Args:
        file: a .safetensors file.
        dtype: of the weights as they are used.
        config: its config.json; None derives it from the shapes.

    Raises:
        LoadError: the file has no UNet, or another one, or weights that are no numbers.
    """
    return _part("unet", file, dtype, config)


def vae(file: Path, dtype: torch.dtype, config: Mapping[str, Any] | None = None) -> AutoencoderKL:
    """The VAE of a checkpoint; as `unet`."""
    return _part("vae", file, dtype, config)


def text_encoder(file: Path, dtype: torch.dtype, config: Mapping[str, Any] | None = None) -> CLIPTextModel:
    """The first text encoder of a checkpoint, CLIP ViT-L; as `unet`."""
    return _part("text_encoder", file, dtype, config)


def text_encoder_2(
    file: Path, dtype: torch.dtype, config: Mapping[str, Any] | None = None
) -> CLIPTextModelWithProjection:
    """The second text encoder of a checkpoint, OpenCLIP bigG with its projection; as `unet`."""
    return _part("text_encoder_2", file, dtype, config)


def unet_file(file: Path, dtype: torch.dtype, config: Mapping[str, Any]) -> UNet2DConditionModel:
    """A UNet in place of a base model's, on the CPU.

    Args:
        file: a file of a UNet only, in diffusers' names or the original's (with or without model.diffusion_model. in
            front), or a checkpoint, of which the UNet is taken.
        dtype: of the weights as they are used.
        config: the base UNet's config.json.

    Raises:
        LoadError: the file's UNet is not built as the base's.
    """
    return _part("unet", file, dtype, config, "the base's UNet")


def vae_file(file: Path, dtype: torch.dtype) -> AutoencoderKL:
    """A VAE from a file of a VAE only, in diffusers' names or the original's, or from a checkpoint; on the CPU. Raises
    LoadError as `unet`."""
    return _part("vae", file, dtype, None)


def tokenizers() -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """SDXL's two tokenizers from the shipped vocabulary. They differ in what they pad with."""
    first, second = (
        CLIPTokenizer.from_pretrained(
            layouts.VOCABULARY,
            local_files_only=True,
            pad_token=told["pad_token"],
            model_max_length=told["model_max_length"],
        )
        for told in (layouts.shipped(f"sdxl/{name}/tokenizer_config.json") for name in ("tokenizer", "tokenizer_2"))
    )
    return first, second


# ── building ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _part(part: str, file: Path, dtype: torch.dtype, config: Mapping[str, Any] | None, base: str = "") -> Any:
    """The module of a part; `base` is what it has to fit, for messages."""
    header = headers.read(file)
    shapes = header.shapes
    pieces = layouts.pieces(part, shapes)
    if not pieces:
        raise LoadError(f"{file.name} holds no {TITLES[part]}", "choose a whole SDXL checkpoint, or one for that part")
    for piece in pieces.values():
        if (kind := header.tensors[piece.name].dtype) not in FLOATS:
            raise LoadError(
                f"{file.name} is quantised: {headers.shown(piece.name)} is {kind}", "choose its fp16 or fp32 version"
            )
    module = _empty(part, layouts.config(part, shapes, file.name) if config is None else config)
    whole = "text_model." if part == "text_encoder" and not hasattr(module, "text_model") else ""
    named = {ours.removeprefix(whole): piece for ours, piece in pieces.items()}
    _check(file, shapes, named, module.state_dict(), base or f"the expected {TITLES[part]}")
    module.load_state_dict(_read(file, named, dtype), strict=True, assign=True)
    return module.eval().requires_grad_(False)


def _empty(part: str, config: Mapping[str, Any]) -> Any:
    """The module without weights."""
    told = {key: value for key, value in config.items() if not key.startswith("_")}
    with init_empty_weights(), no_init_weights():  # even of nothing, drawing numbers takes two thirds of the time
        match part:
            case "unet":
                return UNet2DConditionModel.from_config(told)
            case "vae":
                return AutoencoderKL.from_config(told)
            case "text_encoder":
                return CLIPTextModel(CLIPTextConfig(**told))
    with init_empty_weights(), no_init_weights():
        return CLIPTextModelWithProjection(CLIPTextConfig(**told))


def _check(
    file: Path, shapes: layouts.Shapes, pieces: Mapping[str, Piece], wanted: Mapping[str, Any], other: str
) -> None:
    """Raises LoadError unless the file's tensors are those that the module has, in their shapes; `other` names it."""
    hint = "choose a file that was made for this base" if "base" in other else AGAIN
    for ours, value in wanted.items():
        if ours in pieces:
            there, right = pieces[ours].shape(shapes[pieces[ours].name]), tuple(value.shape)
            if there != right:
                raise LoadError(
                    f"{file.name} doesn't fit: {headers.shown(pieces[ours].name)} is {_sides(there)} in it, "
                    f"{_sides(right)} in {other}",
                    hint,
                )
    missing = [ours for ours in wanted if ours not in pieces]
    if missing:
        raise LoadError(f"{file.name} lacks {_some(missing)} of {other}", hint)
    unknown = [piece.name for ours, piece in pieces.items() if ours not in wanted]
    if unknown:
        raise LoadError(f"{file.name} has {_some(unknown)}, which {other} doesn't have", hint)


def _sides(shape: layouts.Shape) -> str:
    return "×".join(str(side) for side in shape) or "one number"


def _some(names: list[str]) -> str:
    """ "4 tensors (the first is conv_in.weight)", or the name of the only one."""
    first = headers.shown(names[0])
    return first if len(names) == 1 else f"{len(names)} tensors (the first is {first})"


def _read(file: Path, pieces: Mapping[str, Piece], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors of a module. Those that need no change stay where the file is mapped."""
    made = {}
    with safe_open(file, framework="pt") as f:
        for ours, piece in pieces.items():
            if piece.change in ("q", "k", "v"):
                rows = f.get_slice(piece.name)
                third = rows.get_shape()[0] // 3
                at = "qkv".index(piece.change) * third
                value = rows[at : at + third]
            else:
                value = f.get_tensor(piece.name)
                if piece.change == "turned":
                    value = value.T
                elif piece.change == "flat":
                    value = value.flatten(1)
            stored = value.dtype
            value = value.to(dtype).contiguous()
            if not _finite(value):
                raise LoadError(
                    f"{file.name} can't be used: {headers.shown(piece.name)} has {_wrong(value)} in {_name(dtype)}",
                    AGAIN if stored == dtype else "try precision fp32, or choose another",
                )
            made[ours] = value
    return made


def _finite(value: torch.Tensor) -> bool:
    """Whether all are numbers. A sum is the quickest way over all of them, and is one if they are, or too large for the
    type: only then the extremes are looked for. (600 MB take 0.05 s; isfinite takes ten times that.)"""
    if not value.numel() or math.isfinite(value.sum().item()):
        return True
    low, high = torch.aminmax(value)
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _wrong(value: torch.Tensor) -> str:
    return "values that are no numbers (NaN)" if bool(value.isnan().any()) else "infinite values"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
