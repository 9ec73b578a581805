"""What the loopback hub serves for every repository that engines/models.toml names: tiny models under true names.

Each repository has, beside what is wanted, what the real one has and nobody wants: fp32 weights next to fp16 ones,
pickles, Flax, ONNX and OpenVINO files, other checkpoints, pictures. Their contents say so; to fetch one is a mistake.

The scheduler_config.json of a distilled model says the wrong thing on purpose, as several real ones do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tiny

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
TURBO = "stabilityai/sdxl-turbo"
LIGHTNING = "ByteDance/SDXL-Lightning"
JUGGERNAUT = "RunDiffusion/Juggernaut-XL-v9"
JUGGERNAUT_LIGHTNING = "RunDiffusion/Juggernaut-XL-Lightning"
REALVIS = "SG161222/RealVisXL_V5.0"
REALVIS_LIGHTNING = "SG161222/RealVisXL_V5.0_Lightning"
SSD = "segmind/SSD-1B"
VEGA = "segmind/Segmind-Vega"
VEGA_RT = "segmind/Segmind-VegaRT"
VAE = "madebyollin/sdxl-vae-fp16-fix"
TAESD = "madebyollin/taesdxl"
TAESD_X4 = "madebyollin/taesd-x4-upscaler"
CLIP = "openai/clip-vit-large-patch14"
CLIP_BASE = "openai/clip-vit-base-patch16"
PICKSCORE = "yuvalkirstain/PickScore_v1"
HPS = "adams-story/HPSv2-hf"
AESTHETIC = "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE"
REVISIONS = {CLIP_BASE: "refs/pr/10", HPS: "refs/pr/2"}
"Where a repository's main has pickled weights only, the request that adds what is wanted."

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
PIPELINE = frozenset(
    {
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(f"{folder}/config.json" for folder in ("text_encoder", "text_encoder_2", "unet", "vae")),
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        UNET,
        "vae/diffusion_pytorch_model.fp16.safetensors",
        *(
            f"{folder}/{name}"
            for folder in ("tokenizer", "tokenizer_2")
            for name in ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
        ),
    }
)
"What a model in diffusers' layout comes to when its fp16 variant is fetched."

MISLEADING: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": True,
}
"A scheduler_config.json that would spoil a distilled model."

_UNWANTED = b"nobody wants this"
_OTHER_FORMS = (
    *(
        f"{folder}/{name}"
        for folder in ("text_encoder", "text_encoder_2")
        for name in (
            "model.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin", "flax_model.msgpack", "model.onnx",
            "model.onnx_data", "openvino_model.bin", "openvino_model.xml",
        )
    ),
    *(
        f"{folder}/{name}"
        for folder in ("unet", "vae")
        for name in (
            "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin",
            "diffusion_flax_model.msgpack",
        )
    ),
    "unet/model.onnx", "unet/model.onnx_data", "unet/openvino_model.bin", "unet/openvino_model.xml",
    "vae_1_0/config.json", "vae_1_0/diffusion_pytorch_model.fp16.safetensors",
    "vae_decoder/config.json", "vae_decoder/model.onnx", "vae_encoder/config.json", "vae_encoder/model.onnx",
    "01.png", ".gitattributes",
)  # fmt: skip


def repositories(place: Path) -> dict[str, dict[str, bytes]]:
    """Repository → file → contents. `place` is built in, and left empty."""
    made: dict[str, dict[str, bytes]] = {}

    def serve(repo: str, licence: str, path: Path, unwanted: Iterable[str] = (), name: str = "") -> None:
        """Adds a folder, or one file under a name, to a repository."""
        files = made.setdefault(repo, {"README.md": f"---\nlicense: {licence}\n---\n".encode()})
        if path.is_file():
            files[name] = path.read_bytes()
            path.unlink()
        else:
            files |= {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
            shutil.rmtree(path)
        files |= dict.fromkeys(unwanted, _UNWANTED)

    def pipeline(repo: str, licence: str, seed: int, others: Iterable[str], **how: Any) -> None:
        serve(repo, licence, tiny.folder(place / "whole", variant="fp16", seed=seed, **how), [*_OTHER_FORMS, *others])

    def mislead(repo: str) -> None:
        made[repo]["scheduler/scheduler_config.json"] = json.dumps(MISLEADING).encode()

    pipeline(
        BASE, "openrail++", 1,
        ["sd_xl_base_1.0.safetensors", "sd_xl_base_1.0_0.9vae.safetensors",
         "sd_xl_offset_example-lora_1.0.safetensors", "comparison.png", "pipeline.png"],
    )  # fmt: skip
    made[BASE]["LICENSE.md"] = b"CreativeML Open RAIL++-M"
    pipeline(TURBO, "other", 2, ["sd_xl_turbo_1.0.safetensors", "sd_xl_turbo_1.0_fp16.safetensors", "output_tile.jpg"])
    made[TURBO]["LICENSE.md"] = b"not for commercial use"
    mislead(TURBO)
    pipeline(
        SSD, "apache-2.0", 3, ["SSD-1B.safetensors", "SSD-1B-A1111.safetensors", "unet/optimizer.bin"],
        architecture="ssd-1b",
    )  # fmt: skip
    pipeline(VEGA, "apache-2.0", 4, ["segmind-vega.safetensors"], architecture="segmind-vega")

    for number, steps in enumerate((1, 2, 4, 8)):
        file = tiny.unet_file(place / "unet.safetensors", seed=10 + number)
        name = f"sdxl_lightning_{steps}step_unet"
        serve(LIGHTNING, "openrail++", file, name=f"{name}{'_x0' * (steps == 1)}.safetensors")
        if steps == 1:
            made[LIGHTNING]["sdxl_lightning_1step_x0.safetensors"] = _UNWANTED
            continue
        file = tiny.lora(place / "lora.safetensors", spelling="kohya", seed=20 + number)
        serve(LIGHTNING, "openrail++", file, name=f"sdxl_lightning_{steps}step_lora.safetensors")
        file = tiny.single_file(place / "one.safetensors", seed=30 + number)
        serve(LIGHTNING, "openrail++", file, name=f"sdxl_lightning_{steps}step.safetensors")
    made[LIGHTNING] |= {"comfyui/sdxl_lightning_workflow_full.json": _UNWANTED, "sdxl_lightning_samples.jpg": _UNWANTED}

    photos = (
        (JUGGERNAUT, "creativeml-openrail-m", "Juggernaut-XL_v9_RunDiffusionPhoto_v2.safetensors"),
        (JUGGERNAUT_LIGHTNING, "creativeml-openrail-m", "Juggernaut_RunDiffusionPhoto2_Lightning_4Steps.safetensors"),
        (REALVIS, "openrail++", "RealVisXL_V5.0_fp16.safetensors"),
        (REALVIS_LIGHTNING, "openrail++", "RealVisXL_V5.0_Lightning_fp16.safetensors"),
    )
    for number, (repo, licence, name) in enumerate(photos):
        others = [*PIPELINE - {"README.md"}, *_OTHER_FORMS, name.replace("_fp16", "_fp32").replace("Photo", "Film")]
        file = tiny.single_file(place / "one.safetensors", seed=40 + number)
        serve(repo, licence, file, [other for other in others if other != name], name)
        mislead(repo)

    file = tiny.lora(place / "lora.safetensors", "kohya-diffusers", seed=50, architecture="segmind-vega")
    serve(VEGA_RT, "apache-2.0", file, ["vegart.png", "optimizer.bin"], "pytorch_lora_weights.safetensors")
    others = ["diffusion_pytorch_model.bin", "sdxl.vae.safetensors", "sdxl_vae.safetensors", "images/orig-fp16.png"]
    serve(VAE, "mit", tiny.vae_folder(place / "vae", force_upcast=False, seed=51), others)
    others = [
        "taesdxl_decoder.pth",
        "taesdxl_encoder.pth",
        "taesdxl_encoder.safetensors",
        "taesdxl_decoder.safetensors",
    ]
    serve(TAESD, "mit", tiny.taesd_folder(place / "taesd", seed=52), others)
    others = ["diffusion_pytorch_model.bin", ".gitattributes"]
    serve(TAESD_X4, "mit", tiny.taesd_folder(place / "taesd", seed=57, levels=3), others)
    others = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", ".gitattributes"]
    for number, repo in enumerate((CLIP, CLIP_BASE, PICKSCORE, HPS)):
        serve(repo, "mit", tiny.clip_folder(place / "clip", seed=53 + number), others)
    del made[HPS]["merges.txt"]  # it has a tokenizer.json in its place
    made[HPS]["tokenizer.json"] = _whole_tokenizer(made[CLIP], place / "tokenizer")
    others = ["pytorch_model.bin", "configuration_predictor.py", "modeling_v2.py", "v2.py", ".gitattributes"]
    serve(AESTHETIC, "mit", tiny.aesthetic_folder(place / "clip", seed=58), others)
    tiny._filled.cache_clear()  # half a gigabyte of weights that are in `made` now
    return made


def _whole_tokenizer(files: dict[str, bytes], place: Path) -> bytes:
    """The tokenizer.json that says what a vocabulary and its merges do."""
    from transformers import CLIPTokenizer

    place.mkdir()
    for name in ("merges.txt", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
        (place / name).write_bytes(files[name])
    CLIPTokenizer.from_pretrained(place).save_pretrained(place)
    whole = (place / "tokenizer.json").read_bytes()
    shutil.rmtree(place)
    return whole
