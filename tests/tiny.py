"""Models of random numbers in the layouts of real ones, small enough for tests.

Names of tensors and depths are those of the real models: 70 transformer blocks of an SDXL UNet, 12 and 32 layers of its
text encoders, 49,408 words. Only widths are shrunk, so that a whole SDXL takes 40 MB. The same seed gives the same
weights, in a folder as in a single file.

Two kinds of builders:

* to be loaded, with shrunk widths: `folder`, `single_file`, `unet_file`, `lora` of the SDXL family, `embedding`,
  `vae_file`, `vae_folder`, `taesd_folder` (whose widths are the true ones), `clip_folder`.
* to be identified and never loaded, with the true names and the true shapes of every tensor: `header` and what is made
  with it (`sd1_file`, `sd2_file`, `refiner_file`, `inpainting_file`, `upscaler`, `lora` of sd1 and sd2, anything with
  `true=True`). These are sparse files of zeros: they say gigabytes and take kilobytes, so don't copy or hash them.

Every builder returns the path it wrote. `shared` builds once per process, for tests that only read.
"""

from __future__ import annotations

import atexit
import copy
import functools
import itertools
import json
import math
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[1] / "engines" / "configs"
WIDTHS = (32, 64, 64)
"Channels of the UNet's levels in place of 320, 640 and 1280. A head of attention has 64 channels, as in SDXL."
TEXT = 64
"Width of both text encoders, in place of 768 and 1280: one head."
VAE_WIDTHS = (32, 32, 64, 64)
"Channels of the VAE's levels in place of 128, 256, 512 and 512."
DTYPES = {"fp16": ("F16", 2), "bf16": ("BF16", 2), "fp32": ("F32", 4)}

Shapes = dict[str, tuple[int, ...]]

_OTHERS: dict[str, dict[str, Any]] = {
    "sd1": {
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "use_linear_projection": False,
    },
    "sd2": {
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    "refiner": {
        "block_out_channels": [384, 768, 1536, 1536],
        "cross_attention_dim": 1280,
        "attention_head_dim": [6, 12, 24, 24],
        "use_linear_projection": True,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2560,
    },
}


# ── to be loaded ────────────────────────────────────────────────────────────────────────────────────────────────────


def folder(
    path: Path, variant: str | None = None, architecture: str = "sdxl", seed: int = 0, dtype: str = "fp16"
) -> Path:
    """A whole model in diffusers' layout, as its hub repository has it.

    Args:
        path: of the folder; made if it is not there.
        variant: what marks the weights files: model.fp16.safetensors and so on.
        architecture: "sdxl", "ssd-1b" or "segmind-vega". The UNets of the two smaller ones follow the depths that
            ComfyUI's model_detection.py lists for them; that their config.json spells them so was not seen.
        seed: of the weights; the same as of `single_file`.
        dtype: "fp16", "bf16" or "fp32".
    """
    mark = f".{variant}" if variant else ""
    _json(path / "model_index.json", _shipped("sdxl/model_index.json"))
    _json(path / "scheduler" / "scheduler_config.json", _shipped("sdxl/scheduler/scheduler_config.json"))
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer_folder(path / name, name)
    for name in ("text_encoder", "text_encoder_2", "unet", "vae"):
        file = "model" if name.startswith("text") else "diffusion_pytorch_model"
        _json(path / name / "config.json", config(name, architecture))
        _save(state(name, architecture, seed, dtype), path / name / f"{file}{mark}.safetensors")
    return path


def single_file(
    path: Path,
    seed: int = 0,
    architecture: str = "sdxl",
    dtype: str = "fp16",
    without: Iterable[str] = (),
    metadata: dict[str, str] | None = None,
    true: bool = False,
) -> Path:
    """The same model as one file in the names of the original implementation.

    Args:
        path: of the .safetensors file.
        seed: with `architecture` and `dtype`: the weights are those of the `folder` of the same.
        architecture: as of `folder`.
        dtype: as of `folder`.
        without: parts to leave out: "unet", "vae", "text_encoder", "text_encoder_2".
        metadata: of the file.
        true: true shapes in place of shrunk ones, and no weights: only to be identified.
    """
    parts = [p for p in ("unet", "text_encoder", "text_encoder_2", "vae") if p not in set(without)]
    if true:
        shapes: Shapes = {}
        for part in parts:
            shapes |= _original_shapes(part, _shapes(part, json.dumps(config(part, architecture, true=True))))
        return header(path, shapes, dtype, metadata)
    whole: dict[str, Any] = {}
    for part in parts:
        whole |= original(part, state(part, architecture, seed, dtype))
    return _save(whole, path, metadata)


def unet_file(
    path: Path,
    seed: int = 0,
    keys: str = "diffusers",
    architecture: str = "sdxl",
    dtype: str = "fp16",
    in_channels: int = 4,
) -> Path:
    """A UNet alone, to be put over a base model.

    Args:
        path: of the .safetensors file.
        seed: of its weights.
        keys: "diffusers" (as SDXL-Lightning's files), "ldm" (model.diffusion_model. in front) or "bare-ldm" (nothing).
        architecture: as of `folder`.
        dtype: as of `folder`.
        in_channels: of the first convolution; 9 makes one for inpainting.
    """
    tensors = state("unet", architecture, seed, dtype, in_channels=in_channels)
    if keys != "diffusers":
        tensors = original("unet", tensors)
    if keys == "bare-ldm":
        tensors = {name.removeprefix("model.diffusion_model."): value for name, value in tensors.items()}
    return _save(tensors, path)


def vae_file(path: Path, seed: int = 0, keys: str = "diffusers", dtype: str = "fp16") -> Path:
    """A VAE alone: keys "diffusers", "ldm" (encoder.down.0…, as sdxl_vae.safetensors) or "prefixed" (first_stage_model.
    in front of these)."""
    tensors = state("vae", "sdxl", seed, dtype)
    if keys != "diffusers":
        tensors = original("vae", tensors)
    if keys == "ldm":
        tensors = {name.removeprefix("first_stage_model."): value for name, value in tensors.items()}
    return _save(tensors, path)


def vae_folder(
    path: Path, force_upcast: bool = True, seed: int = 0, dtype: str = "fp16", scaling_factor: float = 0.13025
) -> Path:
    """A VAE in diffusers' layout, such as madebyollin/sdxl-vae-fp16-fix (whose force_upcast is false)."""
    more = {"force_upcast": force_upcast, "scaling_factor": scaling_factor}
    _json(path / "config.json", config("vae") | more)
    _save(state("vae", "sdxl", seed, dtype), path / "diffusion_pytorch_model.safetensors")
    return path


def taesd_folder(path: Path, seed: int = 0, dtype: str = "fp16", levels: int = 4) -> Path:
    """A preview decoder as madebyollin/taesdxl, in its true widths (5 MB), or with three levels as taesd-x4-upscaler,
    which enlarges by four."""
    told = {
        "_class_name": "AutoencoderTiny", "act_fn": "relu", "decoder_block_out_channels": [64] * levels,
        "encoder_block_out_channels": [64] * levels, "force_upcast": False,
        "in_channels": 3, "latent_channels": 4, "latent_magnitude": 3, "latent_shift": 0.5,
        "num_decoder_blocks": [3] * (levels - 1) + [1], "num_encoder_blocks": [1] + [3] * (levels - 1),
        "out_channels": 3, "scaling_factor": 1.0, "upsampling_scaling_factor": 2,
    }  # fmt: skip
    _json(path / "config.json", told)
    _save(_filled("taesd", json.dumps(told), seed, dtype), path / "diffusion_pytorch_model.safetensors")
    return path


def clip_folder(path: Path, seed: int = 0, dtype: str = "fp16", size: int = 32) -> Path:
    """A CLIP model that scores pictures against words, as transformers' repositories have it, with the full vocabulary
    and pictures of `size` pixels."""
    shared_ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    tower = {"hidden_size": TEXT, "intermediate_size": 4 * TEXT, "num_attention_heads": 1, "projection_dim": 32}
    told = {
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 32,
        "text_config": {"model_type": "clip_text_model", "num_hidden_layers": 12, **tower, **shared_ends},
        "vision_config": {
            "model_type": "clip_vision_model", "num_hidden_layers": 12, "image_size": size, "patch_size": 16, **tower
        },
    }  # fmt: skip
    _json(path / "config.json", told)
    _json(
        path / "preprocessor_config.json",
        {
            "crop_size": {"height": size, "width": size}, "do_center_crop": True, "do_convert_rgb": True,
            "do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255, "resample": 3,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": size},
        },
    )  # fmt: skip
    tokenizer_folder(path, "tokenizer")
    _save(_filled("clip", json.dumps(told), seed, dtype), path / "model.safetensors")
    return path


def aesthetic_folder(path: Path, seed: int = 0, dtype: str = "fp32", size: int = 32) -> Path:
    """An aesthetic predictor as shunk031's repositories have it: a vision tower, the five linear layers over it, and a
    configuration that asks for code of the repository's own. Its head has the true widths but for the first."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    clip_folder(path, seed, dtype, size)
    kept = load_file(path / "model.safetensors")
    kept = {k: v for k, v in kept.items() if k.startswith(("vision_model.", "visual_projection."))}
    dice = np.random.default_rng(seed)
    widths = (32, 1024, 128, 64, 16, 1)
    for number, (wide, narrow) in zip((0, 2, 4, 6, 7), itertools.pairwise(widths), strict=True):
        kept[f"layers.{number}.weight"] = dice.normal(0, wide**-0.5, (narrow, wide)).astype(np.float32)
        kept[f"layers.{number}.bias"] = np.full(narrow, 0.5, np.float32)
    kept["vision_model.embeddings.position_ids"] = np.arange((size // 16) ** 2 + 1)[None]
    save_file(kept, path / "model.safetensors")
    both = json.loads((path / "config.json").read_text())
    told = both["vision_config"] | {
        "architectures": ["AestheticsPredictorV2Linear"], "model_type": "aesthetics_predictor",
        "torch_dtype": "float32",
        "auto_map": {"AutoModel": "modeling_v2.AestheticsPredictorV2Linear"}, "transformers_version": "4.41.2",
    }  # fmt: skip
    _json(path / "config.json", told)
    return path


def tokenizer_folder(path: Path, name: str = "tokenizer") -> Path:
    """CLIP's tokenizer as SDXL's repository has it: vocab.json and merges.txt, no tokenizer.json. `name` is "tokenizer"
    or "tokenizer_2", which pads with "!"."""
    path.mkdir(parents=True, exist_ok=True)
    told = _shipped(f"sdxl/{name}/tokenizer_config.json")
    for file in ("vocab.json", "merges.txt"):
        (path / file).write_bytes((CONFIGS / "clip" / file).read_bytes())
    _json(path / "tokenizer_config.json", told)
    _json(path / "special_tokens_map.json", {k: v for k, v in told.items() if k in ("bos_token", "eos_token")} | {
        "pad_token": told["pad_token"], "unk_token": told["unk_token"]
    })  # fmt: skip
    return path


def lora(
    path: Path,
    spelling: str = "kohya",
    rank: int = 4,
    seed: int = 0,
    text: bool = False,
    architecture: str = "sdxl",
    alpha: float | None = None,
    dtype: str = "fp16",
    only: str = "",
    metadata: dict[str, str] | None = None,
    true: bool = False,
) -> Path:
    """A LoRA of every linear layer in the UNet's transformers, 722 of them in SDXL.

    Args:
        path: of the .safetensors file.
        spelling: "kohya" (lora_unet_…, for SDXL in the original implementation's names: input_blocks_4_1_…),
            "kohya-diffusers" (lora_unet_down_blocks_…), "peft" (unet.….lora_A.weight) or "diffusers"
            (unet.….lora.down.weight, text_encoder.….lora_linear_layer.down.weight).
        rank: of the updates.
        seed: of their values.
        text: layers of the text encoders as well.
        architecture: as of `folder`, to be loaded over it; "sd1" and "sd2" have true shapes, to be identified only.
        alpha: of kohya's files, in a tensor beside each pair; None is the rank.
        dtype: as of `folder`.
        only: a regular expression that a layer's name (in diffusers' spelling, unet. or text_encoder. in front) must
            contain; "" takes all.
        metadata: of the file.
        true: true shapes for "sdxl" too, and no weights.
    """
    true = true or architecture in _OTHERS
    tensors: Shapes = {}
    for part, name, out, into, kernel in _lora_layers(architecture, text, true):
        if re.search(only, f"{part}.{name}"):
            down, up = _lora_names(spelling, part, name, architecture)
            tensors[down], tensors[up] = (rank, into, *kernel), (out, rank, *kernel)
            if spelling.startswith("kohya"):
                tensors[down.replace(".lora_down.weight", ".alpha")] = ()
    if true:
        return header(path, tensors, dtype, metadata)
    import torch

    dice = torch.Generator().manual_seed(seed)
    made = {}
    for key, shape in tensors.items():
        value = torch.randn(shape, generator=dice) * 0.05 if shape else torch.tensor(float(alpha or rank))
        made[key] = value.to(_torch_dtype(dtype))
    return _save(made, path, metadata)


def embedding(
    path: Path, vectors: int = 2, kind: str = "sdxl", seed: int = 0, true: bool = False, dtype: str = "fp32"
) -> Path:
    """A textual inversion.

    Args:
        path: of the .safetensors file.
        vectors: tokens that it takes the place of.
        kind: "sdxl" (clip_l and clip_g), "sd1" or "sd2" (emb_params, of 768 or 1024 numbers), "sd1-name" (one tensor
            called `<word>`, as diffusers' training saves it).
        seed: of its values.
        true: for "sdxl", vectors of 768 and 1280 numbers; else they fit the shrunk encoders.
        dtype: as of `folder`.
    """
    import torch

    widths = {
        "sdxl": {"clip_l": 768 if true else TEXT, "clip_g": 1280 if true else TEXT},
        "sd1": {"emb_params": 768},
        "sd2": {"emb_params": 1024},
        "sd1-name": {"<word>": 768},
    }[kind]
    dice = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(vectors, width, generator=dice) * 0.02 for name, width in widths.items()}
    return _save({name: value.to(_torch_dtype(dtype)) for name, value in made.items()}, path)


@functools.cache
def shared(build: Callable[..., Path], **how: Any) -> Path:
    """What `build(path, **how)` writes, made once per process, for tests that only read: shared(folder, seed=1)."""
    place = Path(_room()) / f"{build.__name__}-{zlib.crc32(repr(sorted(how.items())).encode()):08x}"
    return build(place if build.__name__.endswith("folder") else place.with_suffix(".safetensors"), **how)


# ── to be identified ────────────────────────────────────────────────────────────────────────────────────────────────


def header(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "fp16", metadata: dict[str, str] | None = None
) -> Path:
    """A sparse file with that header and zeros behind it. Says its full size, takes what the header takes."""
    word, size = DTYPES[dtype]
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * size
        table[name] = {"dtype": word, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + at)
    return path


def sd1_file(path: Path, dtype: str = "fp16") -> Path:
    """The header of a Stable Diffusion 1.5 checkpoint: all names and shapes of UNet, VAE and CLIP ViT-L."""
    text = _shapes("text_encoder", json.dumps(config("text_encoder", true=True)))
    words = {f"cond_stage_model.transformer.{name}": shape for name, shape in text.items()}
    return header(path, _original_unet("sd1") | _original_vae() | words, dtype)


def sd2_file(path: Path, dtype: str = "fp16") -> Path:
    """The header of a Stable Diffusion 2.1 checkpoint, whose text encoder is OpenCLIP ViT-H in its own names."""
    words = _open_clip("cond_stage_model.model.", 1024, 24)
    return header(path, _original_unet("sd2") | _original_vae() | words, dtype)


def refiner_file(path: Path, dtype: str = "fp16") -> Path:
    """The header of the SDXL refiner: a wider UNet and the second text encoder only."""
    words = _open_clip("conditioner.embedders.0.model.", 1280, 32)
    return header(path, _original_unet("refiner") | _original_vae() | words, dtype)


def inpainting_file(path: Path, dtype: str = "fp16") -> Path:
    """The header of an SDXL inpainting checkpoint: SDXL with nine input channels."""
    told = config("unet", true=True) | {"in_channels": 9}
    shapes = _original_shapes("unet", _shapes("unet", json.dumps(told)))
    for part in ("text_encoder", "text_encoder_2", "vae"):
        shapes |= _original_shapes(part, _shapes(part, json.dumps(config(part, true=True))))
    return header(path, shapes, dtype)


def upscaler(path: Path, kind: str = "rrdb", dtype: str = "fp32") -> Path:
    """The header of a 4x upscaler: "rrdb" (Real-ESRGAN's names), "old-rrdb" (ESRGAN's) or "compact" (SRVGGNet)."""
    shapes: Shapes = {}

    def conv(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into, 3, 3), (out,)

    if kind == "compact":
        conv("body.0", 64, 3)
        for i in range(1, 66):
            if i % 2:
                shapes[f"body.{i}.weight"] = (64,)
            else:
                conv(f"body.{i}", 64, 64)
        conv("body.66", 48, 64)
        return header(path, shapes, dtype)
    old = kind == "old-rrdb"
    conv("model.0" if old else "conv_first", 64, 3)
    for i in range(23):
        for j in (1, 2, 3):
            for k in range(1, 6):
                name = f"model.1.sub.{i}.RDB{j}.conv{k}.0" if old else f"body.{i}.rdb{j}.conv{k}"
                conv(name, 64 if k == 5 else 32, 64 + 32 * (k - 1))
    last = ("model.1.sub.23", "model.3", "model.6", "model.8") if old else (
        "conv_body", "conv_up1", "conv_up2", "conv_hr"
    )  # fmt: skip
    for name in last:
        conv(name, 64, 64)
    conv("model.10" if old else "conv_last", 3, 64)
    return header(path, shapes, dtype)


# ── configurations ──────────────────────────────────────────────────────────────────────────────────────────────────


def config(part: str, architecture: str = "sdxl", true: bool = False) -> dict[str, Any]:
    """config.json of "unet", "vae", "text_encoder" or "text_encoder_2", shrunk unless `true`."""
    if part == "unet":
        if architecture in _OTHERS:
            return {"_class_name": "UNet2DConditionModel", **_OTHERS[architecture]}
        told = _shipped(f"{architecture}/unet/config.json")
        if not true:
            told |= {
                "block_out_channels": list(WIDTHS),
                "attention_head_dim": [max(1, width // 64) for width in WIDTHS],
                "cross_attention_dim": 2 * TEXT,
                "projection_class_embeddings_input_dim": TEXT + 6 * 256,
            }
        return told
    told = _shipped(f"sdxl/{part}/config.json")
    if part == "vae":
        return told if true else told | {"block_out_channels": list(VAE_WIDTHS)}
    small = {"hidden_size": TEXT, "intermediate_size": 4 * TEXT, "num_attention_heads": 1, "projection_dim": TEXT}
    return told if true else told | small


def _shipped(name: str) -> dict[str, Any]:
    return json.loads((CONFIGS / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def state(
    part: str, architecture: str = "sdxl", seed: int = 0, dtype: str = "fp16", in_channels: int = 4
) -> dict[str, Any]:
    """The tensors of one part in the names of its diffusers folder."""
    told = config(part, architecture)
    if part == "unet":
        told = told | {"in_channels": in_channels}
    return dict(_filled(part, json.dumps(told), seed, dtype))


@functools.cache
def _filled(part: str, told: str, seed: int, dtype: str) -> dict[str, Any]:
    import torch

    dice = torch.Generator().manual_seed(1000 * seed + zlib.crc32(part.encode()) % 1000)
    made = {}
    for name, shape in _shapes(part, told).items():
        if name.endswith("logit_scale"):
            value = torch.tensor(4.6052)
        elif len(shape) < 2:
            value = torch.randn(shape, generator=dice) * 0.02 + (name.endswith("weight") and _is_norm(name))
        else:
            spread = 0.02 if "embedding." in name and "time_embedding" not in name else math.prod(shape[1:]) ** -0.5
            value = torch.randn(shape, generator=dice) * spread
        made[name] = value.to(_torch_dtype(dtype))
    return made


def _is_norm(name: str) -> bool:
    return "norm" in name.split(".")[-2] or "layrnorm" in name


@functools.cache
def _shapes(part: str, told: str) -> Shapes:
    """Names and shapes of a part's tensors, from an empty model of that configuration."""
    import diffusers
    import torch
    import transformers

    read = json.loads(told)
    read.pop("_class_name", None)
    with torch.device("meta"):
        if part == "unet":
            model: Any = diffusers.UNet2DConditionModel(**read)
        elif part == "vae":
            model = diffusers.AutoencoderKL(**read)
        elif part == "taesd":
            model = diffusers.AutoencoderTiny(**read)
        elif part == "clip":
            model = transformers.CLIPModel(transformers.CLIPConfig(**read))
        else:
            kind = read["architectures"][0]
            model = getattr(transformers, kind)(transformers.CLIPTextConfig(**read))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if part in ("text_encoder", "text_encoder_2"):  # real files have what transformers 5 has dropped
        whole = ("text_model.", "text_projection.")
        shapes = {(n if n.startswith(whole) else f"text_model.{n}"): shape for n, shape in shapes.items()}
    return shapes


def _torch_dtype(dtype: str) -> Any:
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]


# ── names of the original implementation ────────────────────────────────────────────────────────────────────────────


def original(part: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a part as an SDXL checkpoint has them: other names, and for OpenCLIP and the VAE's attention other
    shapes."""
    import torch

    if part == "unet":
        bare = {i for i in range(4) if not any(name.startswith(f"up_blocks.{i}.attentions") for name in tensors)}
        return {f"model.diffusion_model.{original_name(name, bare)}": value for name, value in tensors.items()}
    if part == "vae":
        made = {}
        for name, value in tensors.items():
            new = _original_vae_name(name)
            flat = ".attn_1." in new and new.endswith("weight") and value.ndim == 2
            made[f"first_stage_model.{new}"] = value[:, :, None, None].contiguous() if flat else value
        return made
    if part == "text_encoder":
        front = "conditioner.embedders.0.transformer."
        made = {f"{front}{name}": value for name, value in tensors.items()}
        return made | {f"{front}text_model.embeddings.position_ids": torch.arange(77)[None]}
    made = {"logit_scale": torch.tensor(4.6052, dtype=next(iter(tensors.values())).dtype)}
    for name, value in tensors.items():
        new = _open_clip_name(name)
        if name == "text_projection.weight":
            made[new] = value.T.contiguous()
        elif (found := re.search(r"self_attn\.q_proj\.(weight|bias)$", name)) is not None:
            three = [tensors[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
            made[f"{new.rpartition('.attn.')[0]}.attn.in_proj_{found[1]}"] = torch.cat(three)
        elif not re.search(r"self_attn\.[kv]_proj", name):
            made[new] = value
    return {f"conditioner.embedders.1.model.{name}": value for name, value in made.items()}


def _original_shapes(part: str, shapes: Shapes) -> Shapes:
    """The same for shapes."""
    import torch

    empty = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if part == "text_encoder_2":
        front = next(v for k, v in empty.items() if k.endswith("token_embedding.weight"))
        layers = 1 + max(int(found[1]) for k in empty if (found := re.search(r"layers\.(\d+)\.", k)))
        return _open_clip("conditioner.embedders.1.model.", front.shape[1], layers)
    return {name: tuple(value.shape) for name, value in original(part, empty).items()}


def _original_unet(architecture: str) -> Shapes:
    return _original_shapes("unet", _shapes("unet", json.dumps(config("unet", architecture))))


def _original_vae() -> Shapes:
    return _original_shapes("vae", _shapes("vae", json.dumps(config("vae", true=True))))


_WHOLE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_INSIDE = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def original_name(name: str, bare: Iterable[int] = (), layers: int = 2) -> str:
    """A UNet layer's name (with or without .weight) as the original implementation has it; `bare` are the up blocks
    without attention, `layers` the resnets per down block."""
    for ours, theirs in _WHOLE.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inside(found[1], found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert found, name
    way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (block + 1)}.0.op{rest.removeprefix('conv')}"
    if kind == "upsamplers":
        place = 1 if block in set(bare) else 2  # behind a resnet, or a resnet and a transformer
        return f"output_blocks.{(layers + 1) * block + layers}.{place}.{rest}"
    place = (layers + 1) * block + layer + (way == "down")
    side = "input" if way == "down" else "output"
    return f"{side}_blocks.{place}.{int(kind == 'attentions')}.{_inside(kind, rest)}"


def _inside(kind: str, rest: str) -> str:
    first, _, last = rest.partition(".")
    if kind == "resnets":
        first = _INSIDE[first]
    return f"{first}.{last}" if last else first


def _original_vae_name(name: str) -> str:
    name = re.sub(r"^encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", name)
    name = re.sub(r"^encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"^decoder\.up_blocks\.(\d)", lambda m: f"decoder.up.{3 - int(m[1])}", name)
    name = name.replace(".resnets.", ".block.") if ".up." in name else name
    name = name.replace(".upsamplers.0.", ".upsample.").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm").replace("conv_norm_out", "norm_out")
    for ours, theirs in {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
        name = name.replace(f"mid_block.attentions.0.{ours}", f"mid.attn_1.{theirs}")
    return name


def _open_clip_name(name: str) -> str:
    known = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_projection.weight": "text_projection",
    }
    if name in known:
        return known[name]
    name = name.replace("text_model.final_layer_norm", "ln_final")
    name = name.replace("text_model.encoder.layers", "transformer.resblocks").replace("self_attn", "attn")
    return (
        name.replace("layer_norm1", "ln_1")
        .replace("layer_norm2", "ln_2")
        .replace("mlp.fc1", "mlp.c_fc")
        .replace("mlp.fc2", "mlp.c_proj")
    )


def _open_clip(front: str, width: int, layers: int) -> Shapes:
    """All names and shapes of an OpenCLIP text tower."""
    shapes: Shapes = {
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "logit_scale": (),
        "token_embedding.weight": (49408, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    for i in range(layers):
        block = f"transformer.resblocks.{i}"
        for name, shape in {
            "ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,), "ln_2.bias": (width,),
            "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
        }.items():  # fmt: skip
            shapes[f"{block}.{name}"] = shape
    return {f"{front}{name}": shape for name, shape in shapes.items()}


# ── LoRA layers ─────────────────────────────────────────────────────────────────────────────────────────────────────

_LINEAR = re.compile(r"\.(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out)\.weight$")
_TEXT_LINEAR = re.compile(r"\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)\.weight$")


def _lora_layers(
    architecture: str, text: bool, true: bool
) -> Iterable[tuple[str, str, int, int, tuple[int, ...]]]:  # part, layer, out, in, kernel
    parts = ["unet"]
    if text:
        parts += ["text_encoder"] if architecture in _OTHERS else ["text_encoder", "text_encoder_2"]
    for part in parts:
        told = config(part, architecture if part == "unet" else "sdxl", true)
        if architecture == "sd2" and part == "text_encoder":
            wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}
            told = told | wide
        pattern = _LINEAR if part == "unet" else _TEXT_LINEAR
        for name, shape in _shapes(part, json.dumps(told)).items():
            if pattern.search(name):
                yield part, name.removesuffix(".weight"), shape[0], shape[1], shape[2:]


def _lora_names(spelling: str, part: str, name: str, architecture: str) -> tuple[str, str]:
    """Names of both tensors of a layer's update."""
    if spelling.startswith("kohya"):
        family = architecture not in _OTHERS
        front = {"unet": "lora_unet", "text_encoder": "lora_te1" if family else "lora_te", "text_encoder_2": "lora_te2"}
        if part == "unet" and family and spelling == "kohya":
            name = original_name(name)
        whole = f"{front[part]}_{name.replace('.', '_')}"
        return f"{whole}.lora_down.weight", f"{whole}.lora_up.weight"
    if spelling == "peft":
        return f"{part}.{name}.lora_A.weight", f"{part}.{name}.lora_B.weight"
    assert spelling == "diffusers", spelling
    kind = "lora" if part == "unet" else "lora_linear_layer"
    return f"{part}.{name}.{kind}.down.weight", f"{part}.{name}.{kind}.up.weight"


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(copy.deepcopy(value), indent=2) + "\n", encoding="utf-8")


def _save(tensors: Mapping[str, Any], path: Path, metadata: dict[str, str] | None = None) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata or {"format": "pt"})
    return path


@functools.cache
def _room() -> str:
    room = tempfile.TemporaryDirectory(prefix="safelight-tiny-", ignore_cleanup_errors=True)
    atexit.register(room.cleanup)
    return room.name
