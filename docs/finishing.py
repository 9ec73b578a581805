"""Makes the pictures of docs/finishing.md, on the embedded family: PYTHONPATH=.:tests python docs/finishing.py"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from people import head
from PIL import Image

from engines import catalogue
from engines.diffusion import decoding, device, nets, placing, upscaling

HERE = Path(__file__).parent
SIDE = 384


def beside(name: str, *pictures: Image.Image) -> None:
    """Writes pictures side by side."""
    sheet = Image.new("RGB", (len(pictures) * (SIDE + 8) - 8, SIDE), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (i * (SIDE + 8), 0))
    sheet.save(HERE / name, quality=92)


def enlarged() -> None:
    """96 px: each pixel as a square, bicubic, and the embedded upscaler."""
    small = head().resize((96, 96), Image.Resampling.LANCZOS)
    cpu = device.choose("cpu")
    net = upscaling.place(nets.load(catalogue.load().upscaler("mini-x4").source.path), cpu, torch.float32)
    work = upscaling.upscale(small, net, cpu)
    while True:
        try:
            next(work)
        except StopIteration as end:
            large: Image.Image = end.value
            break
    plain = (small.resize(large.size, how) for how in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
    beside("finishing-enlarged.jpg", *plain, large)


def tiles() -> None:
    """A smooth picture: decoded whole, in tiles that are normalized by themselves, and in ours."""
    vae = AutoencoderKL.from_pretrained(catalogue.load().model("mini").source.path / "vae").eval()
    y, x = torch.meshgrid(torch.linspace(-0.6, 0.6, 768), torch.linspace(-0.6, 0.6, 768), indexing="ij")
    with torch.inference_mode():
        z = vae.encode(torch.stack([x, y, (x + y) / 2])[None]).latent_dist.mode() * vae.config.scaling_factor
        whole = decoding.decode(vae, z)
        with placing.decoding(vae, 256):
            theirs = decoding.decode(vae, z)
        ours = decoding.decode(vae, z, None, 256)
    for name, made in (("each by itself", theirs), ("one for all", ours)):
        off = (made - whole) * 127.5
        blocks = off.reshape(3, 8, 96, 8, 96).mean((2, 4))
        print(f"{name}: mean {off.abs().mean():.2f}, blocks' means differ by {blocks.max() - blocks.min():.1f} of 255")
    levels = (
        ((t[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy() for t in (whole, theirs, ours)
    )
    beside("finishing-tiles.jpg", *(Image.fromarray(level) for level in levels))


if __name__ == "__main__":
    enlarged()
    tiles()
