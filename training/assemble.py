"""A finished WORK folder as the family that is shipped.   python -m training.assemble WORK OUT

OUT/base is a StableDiffusionXLPipeline folder in half precision; the companions, MANIFEST.json and subjects.txt lie
beside it. What a run has not made is left out, and named.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers import UNet2DConditionModel as Unet
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from training import artwork, common
from training.denoiser import SIDE

LIMIT = 48 << 20
"Bytes of all of it, at most."
FULL = {"scheduler": "EulerDiscrete", "steps": 25, "guidance_scale": 4.5, "width": SIDE, "height": SIDE}
QUICK = {
    "scheduler": "EulerDiscrete",
    "timestep_spacing": "trailing",
    "guidance_scale": 0,
    "width": SIDE,
    "height": SIDE,
}
# beginning of a path in OUT -> (role, recommended settings)
ROLES: dict[str, tuple[str, dict]] = {
    "base/model_index.json": ("base", FULL),
    "base/": ("base", {}),
    **{
        f"lightning/mini_lightning_{n}step_{kind}": (f"lightning-{kind}", {**QUICK, "steps": n})
        for n, kind in ((1, "lora"), (2, "lora"), (4, "lora"), (8, "lora"), (4, "unet"))
    },
    "studio/": ("fine-tune", FULL),
    "pruned/": ("pruned-base", FULL),
    "clip/": ("scorer", {}),
    "taesd/": ("preview-decoder", {}),
    "upscaler/": ("upscaler", {"scale": 4, "architecture": "SRVGGNetCompact"}),
    "style_lora/": ("style-lora", {"scale": 1.0}),
    "embeddings/": ("textual-inversion", {"vectors": 3}),
}


def base(work: Path, out: Path) -> None:
    tokenizers = [CLIPTokenizer.from_pretrained(work / n) for n in ("tokenizer", "tokenizer_2")]
    pipeline = StableDiffusionXLPipeline(
        AutoencoderKL.from_pretrained(work / "vae"),
        CLIPTextModel.from_pretrained(work / "text_encoder"),
        CLIPTextModelWithProjection.from_pretrained(work / "text_encoder_2"),
        *tokenizers,
        Unet.from_pretrained(work / "unet"),
        EulerDiscreteScheduler(**common.SCHEDULE),
        add_watermarker=False,
    )
    pipeline.to(torch.float16)
    pipeline.save_pretrained(out / "base", safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        for part in ("vocab.json", "merges.txt"):
            shutil.copy(work / name / part, out / "base" / name / part)


def companions(work: Path, out: Path) -> None:
    CLIPModel.from_pretrained(work / "clip").half().save_pretrained(out / "clip")
    shutil.copy(work / "clip" / "preprocessor_config.json", out / "clip")
    for part in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(work / "tokenizer" / part, out / "clip" / part)
    if (work / "taesd").is_dir():
        AutoencoderTiny.from_pretrained(work / "taesd").half().save_pretrained(out / "taesd")
    for name in ("studio", "pruned"):
        if (work / name).is_dir():
            Unet.from_pretrained(work / name).half().save_pretrained(out / name)
    for name in ("lightning", "upscaler", "style_lora", "embeddings"):
        for file in sorted((work / name).glob("*.safetensors")):
            (out / name).mkdir(exist_ok=True)
            save_file({k: v.half() for k, v in load_file(file).items()}, out / name / file.name, {"format": "pt"})


def manifest(out: Path) -> dict:
    """Every file with its sha256, bytes, role and what is recommended; written as MANIFEST.json."""
    files = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name == "MANIFEST.json":
            continue
        path.chmod(0o644)
        found = next((role for start, role in ROLES.items() if name.startswith(start)), ("documentation", {}))
        told = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size, "role": found[0]}
        if path.suffix == ".safetensors":
            told["parameters"] = sum(v.numel() for v in load_file(path).values())
        if found[1]:
            told["recommended"] = found[1]
        files[name] = told
    whole = {"name": "mini SDXL family", "size": [SIDE, SIDE], "latent_scale": 8, "files": files}
    whole["bytes"] = sum(told["bytes"] for told in files.values())
    (out / "MANIFEST.json").write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def main() -> None:
    work, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    base(work, out)
    companions(work, out)
    for config in out.rglob("config.json"):
        told = json.loads(config.read_text())
        told.pop("_name_or_path", None)
        config.write_text(json.dumps(told, indent=2) + "\n")
    (out / "subjects.txt").write_text("\n".join(", ".join(names) for _, names in artwork.subjects()) + "\n")
    whole = manifest(out)
    for name, told in whole["files"].items():
        if told["bytes"] > 100_000:
            print(f"{told['bytes'] / 2**20:7.2f} MiB {told.get('parameters', ''):>9} {name}")
    there = {told["role"] for told in whole["files"].values()}
    missing = sorted({role for role, _ in ROLES.values()} - there)
    print(
        f"{len(whole['files'])} files, {whole['bytes'] / 2**20:.2f} MiB",
        *[f"without {role}" for role in missing],
        sep="\n",
    )
    if whole["bytes"] > LIMIT:
        raise SystemExit(f"more than {LIMIT >> 20} MiB")


if __name__ == "__main__":
    main()
