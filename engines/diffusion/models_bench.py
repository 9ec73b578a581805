"""What loading and switching models costs, for `safelight bench models`, which runs this in processes of its own.

Four commands, each of which prints JSON, one object a line, and does one thing:

    make FOLDER     writes what is loaded: `base`, a model in diffusers' layout with random weights in fp16;
                    `lightning.safetensors`, a UNet of its own over it; `style.safetensors`, a LoRA for it;
                    `models.toml` with all of them; and `large.safetensors`, the header of SDXL's UNet in true size
                    over a hole of 5 GB that takes no room on the disk
    bare FOLDER     loads `base` with diffusers' `from_pretrained`, once
    ours FOLDER     loads `base` as the engine does: `Loader.prepare` and `Loader.load` with nothing held
    switch FOLDER   loads `base`, the UNet over it and the LoRA, then goes to and fro between them

    {"progress": words}
    {"result": …}: of make {bytes}, of bare and ours {seconds, load, device, precision}, of switch {unet, base, lora,
    added}
    {"error": one line, "hint": one line, "exit_code": 1 or 2}, and the process ends with that code

Seconds begin when everything is imported and end when every weight was read once: a file that is mapped into memory
counts as loaded only then. `load` is the part before that last reading.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from engines import catalogue as catalogues
from engines import folders, layouts
from engines.diffusion import device as devices
from engines.diffusion.darkroom import Darkroom
from engines.errors import SafelightError
from engines.options import Options
from engines.requests import Generate, Lora, Precision

HEAD = layouts.HEAD
RANK = 16
"Of the LoRA."
ATTENTION = (".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight")
SIZE = 512
"Pixels of the pictures that are not made: they decide how memory is shared."
ENTRIES = """
[[model]]
id = "bench-base"
title = "Base"
family = "bench"
licence = "none"
rank = 1000
source = { folder = "base" }
recipe = { num_inference_steps = 25, guidance_scale = 5.0, scheduler = "euler", sizes = [[512, 512]] }

[[model]]
id = "bench-unet"
title = "A UNet of its own"
family = "bench"
licence = "none"
source = { base = "bench-base", unet = "lightning.safetensors" }
recipe = { num_inference_steps = 4, guidance_scale = 0.0, scheduler = "euler", sizes = [[512, 512]] }

[[lora]]
id = "bench-lora"
title = "A LoRA"
family = "bench"
licence = "none"
file = "style.safetensors"
"""

Tell = Callable[[dict[str, Any]], None]


# ── what is loaded ──────────────────────────────────────────────────────────────────────────────────────────────────


def make(folder: Path, shape: str, tell: Tell) -> dict[str, Any]:
    """Writes what is loaded into an empty folder; `shape` is as for `_builders`."""
    base = folder / "base"
    unet: dict[str, torch.Tensor] = {}
    for part, build in _builders(shape).items():
        tell({"progress": f"writing a model: {layouts.TITLES[part]}"})
        with torch.device("meta"):
            module = build().half()
        module.to_empty(device="cpu")
        _fill(module.state_dict().values())
        module.save_pretrained(base / part)
        if part == "unet":
            unet = {name: value.clone() for name, value in module.state_dict().items()}
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(layouts.CONFIGS / "sdxl" / name, base / name)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(layouts.CONFIGS / "sdxl" / name, base / name)
        for part in ("vocab.json", "merges.txt"):
            shutil.copyfile(layouts.VOCABULARY / part, base / name / part)
    tell({"progress": "writing a model: a second UNet and a LoRA"})
    from safetensors.torch import save_file

    for value in unet.values():
        value.mul_(0.5)
    save_file(unet, folder / "lightning.safetensors", {"format": "pt"})
    save_file(_lora(unet), folder / "style.safetensors", {"format": "pt"})
    (folder / "models.toml").write_text(ENTRIES, encoding="utf-8")
    _large(folder / "large.safetensors")
    files = [path for path in folder.rglob("*.safetensors") if path.name != "large.safetensors"]
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not on the disk yet can't be taken out of the page cache
    return {"bytes": sum(path.stat().st_size for path in base.rglob("*.safetensors"))}


def _builders(shape: str) -> dict[str, Callable[[], Any]]:
    """Part → what makes it, in SDXL's layout and depth with other widths: of the UNet's levels, the text encoders and
    the VAE's levels, such as 128,256,512/256,512/128,256,512,512."""
    widths, (small, large), levels = ([int(width) for width in part.split(",")] for part in shape.split("/"))
    told = {part: _config(part) for part in layouts.TITLES}
    told["unet"] |= {
        "block_out_channels": widths,
        "attention_head_dim": [max(1, width // HEAD) for width in widths],
        "cross_attention_dim": small + large,
        "projection_class_embeddings_input_dim": large + 6 * 256,
    }
    told["vae"] |= {"block_out_channels": levels}
    for part, width in (("text_encoder", small), ("text_encoder_2", large)):
        heads = max(1, width // HEAD)
        told[part] |= {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
        told[part] |= {"projection_dim": width}
    clip = transformers.CLIPTextConfig
    return {
        "unet": lambda: UNet2DConditionModel.from_config(told["unet"]),
        "vae": lambda: AutoencoderKL.from_config(told["vae"]),
        "text_encoder": lambda: transformers.CLIPTextModel(clip(**told["text_encoder"])),
        "text_encoder_2": lambda: transformers.CLIPTextModelWithProjection(clip(**told["text_encoder_2"])),
    }


def _config(part: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((layouts.CONFIGS / "sdxl" / part / "config.json").read_text(encoding="utf-8"))
    return read


def _fill(tensors: Iterable[torch.Tensor]) -> None:
    """Small random numbers, the same million again and again: what they are makes no loading slower."""
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(7)).mul_(0.02).half()
    for tensor in tensors:
        flat = tensor.view(-1)
        for start in range(0, flat.numel(), noise.numel()):
            piece = flat[start : start + noise.numel()]
            piece.copy_(noise[: piece.numel()])


def _lora(unet: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A LoRA of the attention layers, in peft's names."""
    made = {}
    for name, weight in unet.items():
        if name.endswith(ATTENTION):
            layer = f"unet.{name.removesuffix('.weight')}"
            made[f"{layer}.lora_A.weight"] = torch.empty(RANK, weight.shape[1], dtype=torch.float16)
            made[f"{layer}.lora_B.weight"] = torch.empty(weight.shape[0], RANK, dtype=torch.float16)
    _fill(made.values())
    return made


def _large(path: Path) -> None:
    """The header of SDXL's UNet in fp16 and in true size, with a hole where the weights would be."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(_config("unet"))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in unet.state_dict().items():
        start, end = end, end + 2 * value.numel()
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [start, end]}
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        file.truncate(8 + len(told) + end)


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Loads:
    """A darkroom with nothing in it, and how long it takes to load into it."""

    def __init__(self, folder: Path, home: Path, device: str, threads: int, precision: Precision) -> None:
        self.catalogue = catalogues.load(folder / "models.toml")
        self.darkroom = Darkroom(self.catalogue, Options(home / "pictures", device, threads), home, home)
        self.device = self.darkroom.device
        self.precision: Precision = precision if precision != "auto" else automatic(self.device)

    def load(self, id: str, loras: tuple[Lora, ...] = ()) -> tuple[float, float]:
        """Seconds of loading a model in LoRAs, and with the first reading of every weight."""
        model = self.catalogue.require(id)
        request = Generate("", id, 0, SIZE, SIZE, 4, 5.0, precision=self.precision, loras=loras)
        start = time.perf_counter()
        loading = self.darkroom.loader.load(0, self.darkroom.loader.prepare(model, request), lambda: False)
        while True:
            try:
                next(loading)
            except StopIteration as end:
                found = end.value
                break
        loaded = time.perf_counter() - start
        touch((found.unet, found.vae, *(dressed.module for dressed in found.text.dressed)))
        return loaded, time.perf_counter() - start


def automatic(device: devices.Device) -> Precision:
    """What both sides compute in where the user has no wish: fp32 on a CPU, without the engine's probe."""
    return "fp32" if device.torch.type == "cpu" else "fp16"


def touch(modules: Iterable[Any]) -> None:
    """Reads every weight once, and waits for it."""
    with torch.no_grad():
        sums = [weight.float().sum() for module in modules for weight in module.parameters()]
        float(torch.stack([each.to("cpu") for each in sums]).sum())


def bare(folder: Path, device: str, threads: int, precision: Precision) -> dict[str, Any]:
    """diffusers' own loading, once."""
    devices.set_threads(threads)
    where = devices.choose(device)
    precision = precision if precision != "auto" else automatic(where)
    start = time.perf_counter()
    pipe = StableDiffusionXLPipeline.from_pretrained(
        folder / "base", dtype=devices.DTYPES[precision], local_files_only=True, use_safetensors=True
    ).to(where.torch)
    loaded = time.perf_counter() - start
    touch((pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "load": loaded, "device": where.title, "precision": precision}


def ours(loads: Loads) -> dict[str, Any]:
    """The engine's loading, once."""
    loaded, seconds = loads.load("bench-base")
    return {"seconds": seconds, "load": loaded, "device": loads.device.title, "precision": loads.precision}


def switch(loads: Loads, runs: int, tell: Tell) -> dict[str, Any]:
    """To and fro between what was used before: seconds of each, without those of reading every weight anew.

    `added` is the first time that the LoRA is worn, its file's reading included, and `lora` another weight of it.
    """
    tell({"progress": "switch: loading"})
    loads.load("bench-base")
    loads.load("bench-unet")
    spent: dict[str, list[float]] = {"unet": [], "base": [], "lora": [], "added": []}
    for number in range(runs):
        tell({"progress": f"switch: run {number + 1} of {runs}"})
        spent["base"].append(loads.load("bench-base")[0])
        spent["unet"].append(loads.load("bench-unet")[0])
    loads.load("bench-base")
    spent["added"].append(loads.load("bench-base", (Lora("bench-lora", 0.5),))[0])
    for number in range(runs):
        spent["lora"].append(loads.load("bench-base", (Lora("bench-lora", 0.6 + 0.1 * (number % 3)),))[0])
    return spent


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says, and returns the exit code."""
    options = argparse.ArgumentParser(prog="engines.diffusion.models_bench", description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=("make", "bare", "ours", "switch"))
    options.add_argument("folder", type=Path)
    options.add_argument("--home", type=Path, help="where what is remembered between runs is written")
    options.add_argument("--shape", default="", help="of what is made")
    options.add_argument("--device", default="")
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--precision", default="auto")
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args(arguments)
    kept = os.dup(1)
    os.dup2(2, 1)  # libraries that print do so on stderr from here on
    for chatter in (diffusers_logging, transformers_logging):
        chatter.disable_progress_bar()

    def tell(value: dict[str, Any]) -> None:
        os.write(kept, (json.dumps(value) + "\n").encode())

    try:
        tell({"result": _run(given, tell)})
    except SafelightError as e:
        tell({"error": e.message, "hint": e.hint, "exit_code": e.exit_code})
        return e.exit_code
    return 0


def _run(given: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    folder: Path = given.folder.absolute()
    if given.what == "make":
        return make(folder, given.shape, tell)
    if given.what == "bare":
        return bare(folder, given.device, given.threads, given.precision)
    home = folders.make((given.home or folder / "home").absolute())
    loads = Loads(folder, home, given.device, given.threads, given.precision)
    return ours(loads) if given.what == "ours" else switch(loads, given.runs, tell)


if __name__ == "__main__":
    sys.exit(main())
