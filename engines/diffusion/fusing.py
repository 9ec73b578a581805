"""LoRAs, added to the weights of what they change (arXiv:2106.09685): W ← W + weight · (alpha / rank) · B·A.

The many spellings of the files (peft, diffusers, kohya, with blocks named as in diffusers or as in the original SDXL)
are read by diffusers; what is added, and whether it fits, is decided here, before any weight is touched.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engines.diffusion import device as devices
from engines.errors import LoadError

log = logging.getLogger(__name__)

MAX_HEADER = 100_000_000
"Bytes; safetensors' own limit."
PARTS = ("unet", "text_encoder", "text_encoder_2")

_LAYER = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.[\w-]+)?\.weight")

_SIDES = {"down": "A", "up": "B"}
_UNET_LAYERS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
_TEXT_LAYERS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


@dataclass(frozen=True, slots=True)
class Update:
    """The change of one layer."""

    down: torch.Tensor
    "A: (rank, in, …) of any float type."
    up: torch.Tensor
    "B: (out, rank, …) of any float type."
    scale: float
    "alpha / rank; 1 where the file has no alpha."

    def delta(self, shape: torch.Size, device: torch.device) -> torch.Tensor:
        """What is added at weight 1: `shape`, fp32, for linear layers and for convolutions."""
        up, down = (x.to(device, torch.float32).flatten(1) for x in (self.up, self.down))
        return (self.scale * (up @ down)).reshape(shape)


def has_text(file: Path) -> bool:
    """Whether a LoRA file changes text encoders, from the names in its header. Raises LoadError if it has none."""
    try:
        with file.open("rb") as f:
            names = json.loads(f.read(min(int.from_bytes(f.read(8), "little"), MAX_HEADER)))
        return any(name.startswith(("text_encoder", "lora_te")) for name in names)
    except (OSError, ValueError, AttributeError, RecursionError) as e:
        raise LoadError(f"LoRA {file.name} can't be read: no safetensors header", "download it again") from e


@torch.no_grad()
def fuse(module: Any, part: str, file: Path, weight: float) -> None:
    """Adds a LoRA file's update of one part (a name of PARTS) to a module, in place; all of it or none.

    The sum is made in fp32 and rounded once to the module's type.

    Raises:
        LoadError: the file is no LoRA, is damaged, or was made for another architecture.
    """
    updates = read(file, part, module)
    weights = {}
    for layer, update in updates.items():
        try:
            target = module.get_submodule(layer).weight
        except AttributeError:
            raise LoadError(
                f"LoRA {file.name} does not fit this model: it has no {part} layer {layer}",
                "it was made for another architecture",
            ) from None
        _check(file, layer, update, target)
        weights[layer] = target
    for layer, target in weights.items():
        delta = updates[layer].delta(target.shape, target.device)
        target.copy_((target.float() + weight * delta).to(target.dtype))
    log.info("LoRA %s at %g: %d layers of %s", file.name, weight, len(updates), part)


def read(file: Path, part: str, module: Any) -> dict[str, Update]:
    """The updates of one part in a LoRA file, by the module's own layer names; empty if the file has none for it.

    Raises:
        LoadError: the file can't be read as a LoRA.
    """
    from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin as Loras

    config = getattr(module, "config", None) if part == "unet" else None
    try:
        state, alphas = Loras.lora_state_dict(
            file.parent, weight_name=file.name, unet_config=config, local_files_only=True, use_safetensors=True
        )
    except Exception as e:  # safetensors' own error is no subclass of anything more exact
        if devices.is_out_of_memory(e):
            raise
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        raise LoadError(f"LoRA {file.name} can't be read: {reason}", "download it again") from e
    if not any(key.startswith(f"{known}.") for key in state for known in PARTS):
        raise LoadError(f"{file.name} holds no LoRA for an SDXL model", "a LoRA has weights for unet or text_encoder")

    sides: dict[str, dict[str, torch.Tensor]] = {}
    alphas = dict(alphas or {})
    for key, value in state.items():
        if not key.startswith(f"{part}."):
            continue
        if key.endswith(".alpha"):  # as some trainers add it to peft's names
            alphas[key] = value
            continue
        found = _LAYER.fullmatch(_peft_name(key.removeprefix(f"{part}."), part))
        if found is None:
            kind = key.rpartition(".")[2]
            raise LoadError(
                f"LoRA {file.name} has weights of another kind ({kind})", "plain LoRAs are added; DoRA and LoKr are not"
            )
        sides.setdefault(_layer(found["layer"], module), {})[found["side"]] = value
    scales = {}
    for key, value in alphas.items():
        if key.startswith(f"{part}."):
            name = _peft_name(key.removeprefix(f"{part}.").removesuffix(".alpha"), part)
            found = _LAYER.fullmatch(name)
            scales[_layer(found["layer"] if found else name, module)] = float(value)
    updates = {}
    for layer, pair in sides.items():
        if pair.keys() != {"A", "B"}:
            raise LoadError(f"LoRA {file.name} is incomplete at {layer}", "download it again")
        rank = pair["A"].shape[0]
        updates[layer] = Update(pair["A"], pair["B"], scales.get(layer, float(rank)) / rank)
    return updates


def _peft_name(key: str, part: str) -> str:
    """A key as peft spells it: …to_q.lora_A.weight, where diffusers' older forms say …processor.to_q_lora.down.weight,
    …to_q.lora.down.weight or …q_proj.lora_linear_layer.down.weight."""
    key = re.sub(r"\.(?:lora|lora_linear_layer)\.(down|up)\.", lambda m: f".lora_{_SIDES[m[1]]}.", key)
    names = _UNET_LAYERS if part == "unet" else _TEXT_LAYERS
    return re.sub(
        r"\.(?:processor\.)?to_(q|k|v|out)_lora\.(down|up)\.", lambda m: f".{names[m[1]]}.lora_{_SIDES[m[2]]}.", key
    )


def _layer(name: str, module: Any) -> str:
    """The layer's name in this module: transformers 5 dropped the text_model that older files name."""
    return name if hasattr(module, "text_model") else name.removeprefix("text_model.")


def _check(file: Path, layer: str, update: Update, target: torch.Tensor) -> None:
    """Raises LoadError unless the update fits the layer and is made of finite numbers."""
    into, out = update.down.shape[1], update.up.shape[0]
    if (out, into) != tuple(target.shape[:2]) or update.up.shape[1] != update.down.shape[0]:
        raise LoadError(
            f"LoRA {file.name} does not fit this model: {layer} is {out}x{into} in it and "
            f"{target.shape[0]}x{target.shape[1]} in the model",
            "it was made for another architecture",
        )
    if update.up.numel() // (out * update.up.shape[1]) != 1 or update.down[0].numel() != target[0].numel():
        raise LoadError(f"LoRA {file.name} does not fit this model: another kernel at {layer}", "try another LoRA")
    if not (torch.isfinite(update.up).all() and torch.isfinite(update.down).all()):
        raise LoadError(f"LoRA {file.name} has numbers that are not finite at {layer}", "download it again")
