"""Finished pictures on their way to the disk: names, what their files tell, and where they go if a folder fails."""

from __future__ import annotations

import io
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image

from engines import files, folders, tokens
from engines.diffusion import device as devices
from engines.diffusion import loading
from engines.diffusion.room import Room
from engines.entries import Merged
from engines.errors import StorageError
from engines.prompt import Prompt

PNG_LEVEL = 1
"Level 6 takes three times as long for files that are a tenth smaller."


def save(room: Room, folder: Path, stem: str, image: Image.Image, texts: dict[str, str]) -> Path:
    """Writes the PNG; where the folder fails at the last moment, the picture is kept elsewhere and that is told."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=PNG_LEVEL)
    try:
        return files.save(folder, stem, buffer.getvalue())
    except StorageError as e:
        for refuge in folders.refuges(room.options.pictures, room.data):
            if refuge == folder:
                continue
            try:
                kept = files.save(refuge, stem, buffer.getvalue())
            except StorageError:
                continue
            raise type(e)(e.message, f"the picture is not lost: it was kept as {kept}") from e
        raise


def made_with(room: Room, components: loading.Components, prompt: Prompt, negative: Prompt | None) -> dict[str, str]:
    texts = [prompt] if negative is None else [prompt, negative]
    named = sorted({name for text in texts for name in tokens.named(text, components.embeddings)})
    packages = ("safelight", "torch", "diffusers", "transformers", "compel")
    return {
        **{name: _version(name) for name in packages},
        "device": room.device.title,
        "precision": devices.NAMES[components.dtype] + (", fp8 weights" if components.plan.storage == "fp8" else ""),
        "vae_precision": devices.NAMES.get(components.vae.dtype, str(components.vae.dtype)),
        **({"mix": source.told} if isinstance(source := components.model.source, Merged) else {}),
        "unet_sha256": room.loader.hashes.get(components.unet_files),
        "vae_sha256": room.loader.hashes.get(components.vae_files),
        **{f"lora {file.stem} sha256": room.loader.hashes.get((file,)) for file in components.lora_files},
        **{f"embedding {name} sha256": room.loader.hashes.get((components.embeddings[name],)) for name in named},
    }


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
