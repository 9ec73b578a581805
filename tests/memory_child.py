"""How much memory an enlargement takes, in a process that does nothing else:

    python tests/memory_child.py NET DTYPE SIDE TILE [WANTED] [, NET DTYPE SIDE TILE [WANTED]]…

NET is mini, compact (realesr-general-x4v3's size), rrdb, rrdb2 or rrdb1 (Real-ESRGAN's width with two blocks, which
has the peak of one with 23; factors 4, 2 and 1). For each it prints one JSON object on a line: MiB of the peak above
what the process had, of what `need` says, and of the pictures.

NET may also be x4: the diffusion upscaler with its decoder's true widths and a quarter of its UNet's, for one step,
with attention that is materialised; `need` is then what one evaluation is reckoned with. x4narrow has a tiny one's
widths: what is left is what grows with the picture, if anything does.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from engines.diffusion import device, nets, upscaling, x4

torch.set_num_threads(1)
HALO = 16
MINI = Path(nets.__file__).parent.parent / "mini" / "upscaler" / "mini_x4.safetensors"
NETS = {
    "mini": lambda: nets.load(MINI),
    "compact": lambda: nets.SRVGGNetCompact(3, 64, 32, 4).eval().requires_grad_(False),
    "rrdb": lambda: nets.RRDBNet(3, 64, 32, 2, 2, 1).eval().requires_grad_(False),
    "rrdb2": lambda: nets.RRDBNet(3, 64, 32, 2, 2, 2).eval().requires_grad_(False),
    "rrdb1": lambda: nets.RRDBNet(3, 64, 32, 2, 2, 4).eval().requires_grad_(False),
}


def diffusion(side: int, tile: int, wide: bool) -> None:
    """As `main`, of the diffusion upscaler, in fp32."""
    import tiny_x4
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch.nn.attention import SDPBackend, sdpa_kernel

    cpu = device.choose("cpu")
    with tempfile.TemporaryDirectory() as folder:
        tiny = x4.load(tiny_x4.folder(Path(folder)), None, torch.float32, torch.float32)
    more: dict[str, object] = {"block_out_channels": (64, 128, 128, 256), "layers_per_block": 2, "norm_num_groups": 32}
    unet = UNet2DConditionModel.from_config({**tiny.unet.config, **more})
    true = {"block_out_channels": (128, 256, 512), "layers_per_block": 2, "norm_num_groups": 32}
    vae = AutoencoderKL.from_config({**tiny.vae.config, **true})
    model = tiny
    if wide:
        model = replace(tiny, unet=unet.eval().requires_grad_(False), vae=vae.eval().requires_grad_(False))
    picture = Image.frombytes("RGB", (side,) * 2, np.random.default_rng(0).bytes(3 * side**2))

    def make(small: Image.Image, tile: int) -> None:
        with sdpa_kernel(SDPBackend.MATH):
            for _ in x4.refine(model, small, cpu, num_inference_steps=1, tile=tile, budget=1):
                pass

    make(picture.crop((0, 0, 48, 48)), 32)
    ctypes.CDLL(None).malloc_trim(0)
    before, peak, start = psutil.Process().memory_info().rss, device.Peak(cpu), time.perf_counter()
    make(picture, tile)
    seconds, took = time.perf_counter() - start, peak.read() - before
    told = {"took": took, "need": x4._needs(model, tile, 9.0), "pictures": 4 * 3 * (4 * side) ** 2}
    print(json.dumps({key: round(value / 2**20, 1) for key, value in told.items()} | {"seconds": round(seconds, 1)}))


def main(name: str, dtype: str, side: str, tile: str, wanted: str = "") -> None:
    if name in ("x4", "x4narrow"):
        diffusion(int(side), int(tile), name == "x4")
        return
    cpu = device.choose("cpu")
    net = upscaling.place(NETS[name](), cpu, device.DTYPES[dtype])
    picture = Image.frombytes("RGB", (int(side),) * 2, np.random.default_rng(0).bytes(3 * int(side) ** 2))
    size = (int(wanted),) * 2 if wanted else (picture.width * net.scale,) * 2
    tiles = int(tile), int(tile)

    def make(small: Image.Image, size: tuple[int, int] | None) -> None:
        for _ in upscaling.upscale(small, net, cpu, size=size, tile=tiles, halo=HALO):
            pass

    make(picture.crop((0, 0, 48, 48)), None)  # what is loaded and compiled at first use
    ctypes.CDLL(None).malloc_trim(0)
    before, peak, start = psutil.Process().memory_info().rss, device.Peak(cpu), time.perf_counter()
    make(picture, size)
    seconds, took = time.perf_counter() - start, peak.read() - before
    need = upscaling.need(net, picture.size, size, tiles, HALO)
    pictures = max(need.pictures, need.resampling)
    told = {
        "took": took,
        "need": need.all - need.weights,
        "heap": need.heap,
        "pictures": pictures,
        "beyond": took - pictures,
    }
    print(json.dumps({key: round(value / 2**20, 1) for key, value in told.items()} | {"seconds": round(seconds, 1)}))


if __name__ == "__main__":
    for case in " ".join(sys.argv[1:]).split(","):
        main(*case.split())
