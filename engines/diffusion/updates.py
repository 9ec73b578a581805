"""What LoRA files hold: which layers they change, in any spelling, by how much, and what they were made for.

Names come from the header alone; a tensor is read only once its layer is known to fit. A layer is known here by its
flat name: dots are underscores, as in kohya's files (github.com/kohya-ss/sd-scripts, networks/lora.py), so that all
spellings meet: kohya's, peft's and both of diffusers'. Blocks named as in the original SDXL (input_blocks_4_1_…) are
renamed as in diffusers' UNet.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from engines import headers, keys
from engines.diffusion import device as devices
from engines.errors import LoadError

PARTS = ("unet", "text_encoder", "text_encoder_2")
REMEMBERED_BYTES = 2 << 30
"Of updates that were read, so that another weight reads no disk; a LoRA of rank 64 for all of SDXL has 0.4 GB."
REMEMBERED_HEADERS = 32

Stamp: TypeAlias = tuple[str, int, int]
"A file as it is now: where it leads to, when it was changed in ns, bytes."

_BIASED = re.compile(r"\.lora_(A|B|up|down)")
"What a tensor's name has that is of a pair and no half of it."
_TRANSFORMERS = ("transformer_", "single_", "double_blocks", "joint_blocks", "blocks_", "layers_")
_IGNORED = ("bundle_emb.",)
"Textual inversions that some trainers put beside a LoRA."

CROSS_ATTENTION = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL's refiner", 2048: "SDXL"}
"Width of the text that a UNet attends to, by model (unet/config.json of their repositories)."
ENCODERS = {768: "CLIP ViT-L", 1024: "OpenCLIP ViT-H", 1280: "OpenCLIP ViT-bigG"}
"Width of a text encoder."


@dataclass(frozen=True, slots=True)
class Pair:
    """One layer's tensors in a file, by their names there."""

    down: str
    "A, (rank, in, …)."
    up: str
    "B, (out, rank, …)."
    alpha: str | None
    "A single number; None where the file has none."


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The change of one layer."""

    down: torch.Tensor
    "A: (rank, in, …) of any float type, on the CPU."
    up: torch.Tensor
    "B: (out, rank, …) of any float type, on the CPU."
    scale: float
    "alpha / rank; 1 where the file has no alpha."

    def add_to(self, total: torch.Tensor, weight: float) -> None:
        """Adds it to a linear layer's or a convolution's weight, in place; `total` is fp32 and contiguous."""
        up, down = (x.to(total.device, torch.float32).flatten(1) for x in (self.up, self.down))
        total.view(len(total), -1).addmm_(up, down, alpha=weight * self.scale)

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.down.nbytes + self.up.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a LoRA file says of itself."""

    file: Path
    "Where it is."
    stamp: Stamp
    "As it was when its header was read."
    header: headers.Header
    "Names and shapes."
    parts: Mapping[str, Mapping[str, Pair]]
    "Name of PARTS → flat name of a layer → its tensors; blocks may still be named as in the original SDXL."
    settings: Mapping[str, Any]
    "What diffusers writes beside the tensors of peft's LoRAs: 'unet.lora_alpha', 'unet.r', …; empty elsewhere."

    def made_for(self, part: str) -> str:
        """The architecture that a part's shapes are of, for people: 'SD 1.x (cross-attention 768)'."""
        width = self.width(part)
        if part == "unet" and width is not None:
            known = CROSS_ATTENTION.get(width)
            return f"{known} (cross-attention {width})" if known else f"a model of cross-attention {width}"
        if width is not None:
            return f"{ENCODERS.get(width, 'a text encoder')} ({width} wide)"
        if any(name.startswith(_TRANSFORMERS) for name in self.parts["unet"]):
            return "a diffusion transformer such as Flux or SD 3"
        return "another architecture"

    def width(self, part: str) -> int | None:
        """Of the text that the UNet attends to, or of a text encoder; None if no layer shows it."""
        ends = ("attn2_to_k", "attn2_to_v") if part == "unet" else ("_q_proj", "_k_proj", "_v_proj", "_fc1")
        shows = (pair for name, pair in self.parts[part].items() if name.endswith(ends))
        return next((self.header.tensors[pair.down].shape[1] for pair in shows), None)


def stamp(file: Path) -> Stamp:
    """The file as it is now. Raises LoadError if it can't be looked at."""
    headers.check_regular(file)
    found = file.stat()
    return str(file.resolve()), found.st_mtime_ns, found.st_size


def look(file: Path, now: Stamp | None = None) -> Contents:
    """Reads a LoRA's header.

    Raises:
        LoadError: it is no LoRA, is damaged, or is of a kind that isn't added.
    """
    header = headers.read(file)
    pairs: dict[str, dict[str, dict[str, str]]] = {part: {} for part in PARTS}
    alphas: dict[tuple[str, str], str] = {}
    strange = ""
    for key, tensor in header.tensors.items():
        if key.endswith(".alpha"):
            alphas[keys.placed(key.removesuffix(".alpha"))] = key
        elif found := keys.sided(key):
            layer, side = found
            part, name = keys.placed(layer)
            if len(tensor.shape) < 2 or not tensor.count:
                raise LoadError(f"LoRA {file.name} is damaged at {headers.shown(key)}", headers.AGAIN)
            pairs[part].setdefault(name, {})[side] = key
        elif not key.startswith(_IGNORED):
            strange = strange or key
    if strange:
        kind = keys.other_kind((strange,)) or ("LoRA with biases" if _BIASED.search(strange) else "")
        if kind:
            raise LoadError(f"LoRA {file.name} is of another kind: {kind}", "plain LoRAs and LoCon are added")
        if any(pairs.values()):
            raise LoadError(
                f"LoRA {file.name} has weights of another kind ({headers.shown(strange)})",
                "plain LoRAs and LoCon are added",
            )
    if not any(pairs.values()):
        raise LoadError(f"{file.name} holds no LoRA for an SDXL model", "a LoRA has weights for unet or text_encoder")
    parts = {}
    for part, layers in pairs.items():
        parts[part] = {name: _pair(file, name, sides, alphas.get((part, name))) for name, sides in layers.items()}
    return Contents(file, now or stamp(file), header, parts, _settings(file, header))


def _pair(file: Path, name: str, sides: dict[str, str], alpha: str | None) -> Pair:
    if sides.keys() != {"down", "up"}:
        raise LoadError(f"LoRA {file.name} is incomplete at {headers.shown(name)}", headers.AGAIN)
    return Pair(sides["down"], sides["up"], alpha)


def _settings(file: Path, header: headers.Header) -> dict[str, Any]:
    written = header.metadata.get("lora_adapter_metadata")
    if written is None:
        return {}
    try:
        settings = json.loads(written)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise LoadError(f"LoRA {file.name} is damaged: its lora_adapter_metadata can't be read", headers.AGAIN)
    return settings


class Shelf:
    """Headers and updates that were read lately, by file as it was then; safe to keep while files change.

    Args:
        limit: bytes of updates to hold; one part of a file that is larger is read anew each time.
    """

    def __init__(self, limit: int = REMEMBERED_BYTES) -> None:
        self.limit = limit
        self._headers: OrderedDict[Stamp, Contents] = OrderedDict()
        self._updates: OrderedDict[tuple[Stamp, str], tuple[dict[str, Update], int]] = OrderedDict()

    def contents(self, file: Path) -> Contents:
        """The header of a LoRA. Raises LoadError as `look` does."""
        now = stamp(file)
        if now not in self._headers:
            self._headers[now] = look(file, now)
            while len(self._headers) > REMEMBERED_HEADERS:
                self._headers.popitem(last=False)
        self._headers.move_to_end(now)
        return self._headers[now]

    def updates(self, contents: Contents, part: str) -> dict[str, Update]:
        """Flat name → update, of one part of a file.

        Raises:
            LoadError: a tensor can't be read, or has numbers that are not finite.
        """
        key = contents.stamp, part
        if key in self._updates:
            self._updates.move_to_end(key)
            return self._updates[key][0]
        made = read(contents, part)
        size = sum(update.bytes for update in made.values())
        if size <= self.limit:
            self._updates[key] = made, size
            while self.used > self.limit:
                self._updates.popitem(last=False)
        return made

    @property
    def used(self) -> int:
        """Bytes of updates that are held."""
        return sum(size for _, size in self._updates.values())

    def clear(self) -> None:
        """Lets go of everything."""
        self._updates.clear()
        self._headers.clear()


def read(contents: Contents, part: str) -> dict[str, Update]:
    """All updates of one part of a file, by flat name; the tensors are copies, not views of the file.

    Raises:
        LoadError: a tensor can't be read, or has numbers that are not finite.
    """
    pairs = contents.parts[part]
    if not pairs:
        return {}
    from safetensors import safe_open

    made = {}
    file = contents.file
    try:
        with safe_open(file, framework="pt") as tensors:
            for name, pair in pairs.items():
                down, up = (tensors.get_tensor(key).clone() for key in (pair.down, pair.up))
                alpha = None if pair.alpha is None else tensors.get_tensor(pair.alpha)
                scale = _scale(contents, part, name, down.shape[0], alpha)
                if not (_finite(down) and _finite(up) and math.isfinite(scale)):
                    raise LoadError(
                        f"LoRA {file.name} has numbers that are not finite at {headers.shown(name)}", headers.AGAIN
                    )
                made[name] = Update(down, up, scale)
    except LoadError:
        raise
    except Exception as e:  # safetensors' own error is no subclass of anything more exact
        if devices.is_out_of_memory(e):
            raise
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        raise LoadError(f"LoRA {file.name} can't be read: {reason}", headers.AGAIN) from e
    return made


def _finite(tensor: torch.Tensor) -> bool:
    # a sum is finite only if all that it is made of are, and in double precision nothing else overflows
    return bool(tensor.sum(dtype=torch.float64).isfinite())


def _scale(contents: Contents, part: str, name: str, rank: int, alpha: torch.Tensor | None) -> float:
    """alpha / rank, from the tensor, else from peft's settings (peft.LoraConfig), else 1."""
    if alpha is not None:
        return float(alpha.flatten()[0]) / rank if alpha.numel() else math.nan
    settings = {k.partition(".")[2]: v for k, v in contents.settings.items() if k.startswith(f"{part}.")}
    if not settings and not any(k.startswith(f"{known}.") for known in PARTS for k in contents.settings):
        settings = dict(contents.settings) if part == "unet" else {}
    if settings.get("use_dora"):
        raise LoadError(f"LoRA {contents.file.name} is of another kind: DoRA", "plain LoRAs and LoCon are added")
    try:
        wanted = float(_patterned(settings.get("alpha_pattern") or {}, name, settings.get("lora_alpha", rank)))
    except (TypeError, ValueError, AttributeError):
        raise LoadError(
            f"LoRA {contents.file.name} is damaged: its lora_adapter_metadata has no alpha that is a number",
            headers.AGAIN,
        ) from None
    return wanted / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _patterned(patterns: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """peft's way of setting one layer apart: by the end of its name."""
    flat: Iterable[tuple[str, Any]] = (
        (k.replace(".", "_").removeprefix("text_model_"), v) for k, v in patterns.items()
    )
    return next((v for k, v in flat if name == k or name.endswith(f"_{k}")), otherwise)
