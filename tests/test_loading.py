"""Models in the layouts that the real SDXL family has: variants, shards, old tokenizers, kohya and peft LoRAs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from engines import catalogue
from engines.diffusion import device as devices
from engines.diffusion.darkroom import Darkroom
from engines.errors import LoadError
from engines.options import Options
from engines.requests import Generate, Job, Lora
from engines.store import Made

MINI = Path(catalogue.__file__).with_name("mini")
REQUEST = Generate("a red apple on a blue background", "mini", 7, 128, 128, 4, 4.5, timestep_spacing="leading")

ENTRY = """
[[model]]
id = "{id}"
title = "{id}"
family = "mini"
licence = "x"
source = {{ folder = "{id}"{more} }}
[model.recipe]
num_inference_steps = 4
guidance_scale = 4.5
scheduler = "euler"
sizes = [[128, 128]]
"""
TEXT = tuple(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out"))  # all four, or diffusers can't tell the spelling
LORA = '[[lora]]\nid = "{id}"\ntitle = "{id}"\nfamily = "mini"\nlicence = "x"\nfile = "{id}.safetensors"\n'


@pytest.fixture(scope="module")
def pipe() -> Any:
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline.from_pretrained(MINI / "base", dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def darkroom(home: Path, entries: str) -> Darkroom:
    (home / "models.toml").write_text(entries)
    known = catalogue.load(home / "models.toml")
    assert known.problems == ()
    return Darkroom(known, Options(home / "pictures", device="cpu", threads=1), home / "cache", home / "data")


def make(room: Darkroom, request: Generate) -> np.ndarray:
    development = room.develop(Job(1, request, None, 0.0), lambda: False, time.perf_counter())
    while True:
        try:
            next(development)
        except StopIteration as end:
            (made,) = end.value
            assert isinstance(made, Made)
            with Image.open(made.path) as image:
                return np.asarray(image).astype(int)


def theirs(pipe: Any, request: Generate = REQUEST) -> np.ndarray:
    image = pipe(
        request.prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        width=request.width,
        height=request.height,
        generator=torch.Generator().manual_seed(request.seed),
    ).images[0]
    return np.asarray(image).astype(int)


def save(pipe: Any, folder: Path, **more: Any) -> None:
    """The pipeline in a folder, with tokenizers as the older repositories have them."""
    pipe.save_pretrained(folder, **more)
    for name in ("tokenizer", "tokenizer_2"):
        (folder / name / "tokenizer.json").unlink(missing_ok=True)
        for file in ("vocab.json", "merges.txt"):
            (folder / name / file).write_bytes((MINI / "base" / name / file).read_bytes())


def test_a_folder_with_an_fp16_variant(pipe: Any, tmp_path: Path) -> None:
    save(pipe, tmp_path / "variant", variant="fp16")
    assert (tmp_path / "variant" / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    room = darkroom(tmp_path, ENTRY.format(id="variant", more=', variant = "fp16"'))
    assert np.abs(make(room, replace(REQUEST, model="variant")) - theirs(pipe)).max() <= 1


def test_a_folder_whose_unet_is_in_shards(pipe: Any, tmp_path: Path) -> None:
    save(pipe, tmp_path / "sharded", max_shard_size="4MB")
    assert list((tmp_path / "sharded" / "unet").glob("*-of-*.safetensors"))
    room = darkroom(tmp_path, ENTRY.format(id="sharded", more=""))
    assert np.abs(make(room, replace(REQUEST, model="sharded")) - theirs(pipe)).max() <= 1


def test_pickled_weights_are_not_opened(pipe: Any, tmp_path: Path) -> None:
    save(pipe, tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(LoadError) as told:
        make(darkroom(tmp_path, ENTRY.format(id="pickled", more="")), replace(REQUEST, model="pickled"))
    assert "\n" not in told.value.message


def peft_lora(pipe: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    """Rank-2 updates of attention layers in the UNet and in both text encoders, in peft's spelling."""
    dice = torch.Generator().manual_seed(seed)
    layers = {
        "unet": (pipe.unet, ("attn2.to_q", "attn2.to_v", "attn1.to_out.0", "ff.net.2", "proj_in")),
        "text_encoder": (pipe.text_encoder, TEXT),
        "text_encoder_2": (pipe.text_encoder_2, TEXT),
    }
    state = {}
    for part, (module, ends) in layers.items():
        for name, layer in module.named_modules():
            if name.endswith(ends):
                # files name the text_model that transformers 5 has dropped
                if part != "unet" and not name.startswith("text_model."):
                    name = f"text_model.{name}"
                out, into = layer.weight.shape
                state[f"{part}.{name}.lora_A.weight"] = torch.randn(2, into, generator=dice) * 0.2
                state[f"{part}.{name}.lora_B.weight"] = torch.randn(out, 2, generator=dice) * 0.2
    return state


def kohya(state: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """The same update in kohya's spelling, with an alpha."""
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    made = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        layer, _, side = rest.rpartition(".lora_")
        name = f"{prefixes[part]}_{layer.replace('.', '_')}"
        made[f"{name}.{'lora_down' if side.startswith('A') else 'lora_up'}.weight"] = value
        made[f"{name}.alpha"] = torch.tensor(alpha)
    return made


@pytest.mark.parametrize("spelling", ["peft", "kohya"])
@pytest.mark.parametrize(("weight", "alpha"), [(1.0, 2.0), (0.5, 2.0), (1.0, 0.7)])
def test_a_lora_of_unet_and_text_encoders_acts_as_in_the_pipeline(
    pipe: Any, tmp_path: Path, spelling: str, weight: float, alpha: float
) -> None:
    state = peft_lora(pipe)
    save_file(state if spelling == "peft" else kohya(state, alpha), tmp_path / "style.safetensors")
    plain = theirs(pipe)
    try:
        pipe.load_lora_weights(tmp_path, weight_name="style.safetensors", adapter_name="style")
        pipe.set_adapters("style", weight)
        wanted = theirs(pipe)
    finally:
        pipe.unload_lora_weights()
    assert np.abs(wanted - plain).mean() > 2, "the update is strong enough to be seen"
    room = darkroom(tmp_path, LORA.format(id="style"))
    before = make(room, REQUEST)
    ours = make(room, replace(REQUEST, loras=(Lora("style", weight),)))
    assert np.abs(ours - wanted).max() <= 2
    assert np.array_equal(make(room, REQUEST), before), "the base is untouched"


def test_a_lora_of_another_architecture_is_refused_and_the_model_works_on(pipe: Any, tmp_path: Path) -> None:
    wrong = {k: torch.cat([v, v], dim=1) if "lora_A" in k else v for k, v in peft_lora(pipe).items()}
    save_file(wrong, tmp_path / "wrong.safetensors")
    save_file({"nothing": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    room = darkroom(tmp_path, LORA.format(id="wrong") + LORA.format(id="foreign"))
    before = make(room, REQUEST)
    for name in ("wrong", "foreign"):
        with pytest.raises(LoadError) as told:
            make(room, replace(REQUEST, loras=(Lora(name),)))
        assert name in told.value.message and "\n" not in told.value.message
    assert np.array_equal(make(room, REQUEST), before)


def test_a_lora_with_numbers_that_are_not_finite_is_refused(pipe: Any, tmp_path: Path) -> None:
    state = peft_lora(pipe)
    state[next(iter(state))][0, 0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    room = darkroom(tmp_path, LORA.format(id="nan"))
    with pytest.raises(LoadError, match="nan"):
        make(room, replace(REQUEST, loras=(Lora("nan"),)))


def test_a_unet_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    state = load_file(MINI / "lightning" / "mini_lightning_4step_unet.safetensors")
    state.pop(next(iter(state)))
    save_file(state, tmp_path / "less.safetensors")
    entry = ENTRY.format(id="less", more="").replace('folder = "less"', 'base = "mini", unet = "less.safetensors"')
    with pytest.raises(LoadError, match=r"lacks .* of the base's UNet"):
        make(darkroom(tmp_path, entry), replace(REQUEST, model="less"))


def test_precision_by_device() -> None:
    cpu = devices.choose("cpu")
    cuda = replace(cpu, torch=torch.device("cuda", 0))
    assert devices.dtype_for(cpu, "auto", 128) == torch.float32
    assert devices.dtype_for(cpu, "bf16", 1280) == torch.bfloat16
    assert devices.dtype_for(cuda, "auto", 1280) == torch.float16
    assert devices.dtype_for(cuda, "fp32", 1280) == torch.float32
    assert devices.vae_dtype(cpu, torch.float32, True) == torch.float32
    assert devices.vae_dtype(replace(cpu, torch=torch.device("mps")), torch.float16, True) == torch.float32
    assert devices.vae_dtype(cuda, torch.float16, False) == torch.float16


def test_the_probe_of_a_cpu_is_asked_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def probe(dtype: torch.dtype, width: int) -> float:
        asked.append(dtype)
        return 1.0 if dtype == torch.float32 else 0.5

    monkeypatch.setattr(devices, "_probe", probe)
    cpu = devices.choose("cpu")
    assert devices.dtype_for(cpu, "auto", 1280, tmp_path) == torch.bfloat16
    monkeypatch.setattr(devices, "_probe", lambda *_: 1.0)
    assert devices.dtype_for(cpu, "auto", 1280, tmp_path) == torch.bfloat16
    assert len(asked) == 2
    assert devices.dtype_for(cpu, "auto", 640, tmp_path) == torch.float32
    (tmp_path / "cpu-precision.json").write_text("{damaged")
    assert devices.dtype_for(cpu, "auto", 1280, tmp_path) == torch.float32


def test_bf16_draws_the_same_picture_a_little_less_exactly(tmp_path: Path) -> None:
    room = darkroom(tmp_path, "")
    exact = make(room, REQUEST)
    coarse = make(room, replace(REQUEST, precision="bf16"))
    assert 0 < np.abs(exact - coarse).mean() < 12


class Cards:
    """Two GPUs, as far as choosing goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, driver: str, free: dict[int, int]) -> None:
        from types import SimpleNamespace

        from engines import machine

        self.opened: list[int] = []

        def look(index: int) -> tuple[int, int]:
            self.opened.append(index)
            if index not in free:
                raise RuntimeError("CUDA error: out of memory")
            return free[index], 80 << 30

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Card {i}")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid="ab"[i] * 8))
        monkeypatch.setattr(torch.cuda, "mem_get_info", look)
        monkeypatch.setattr(machine, "ask", lambda *_: machine.Answer(driver, 0 if driver else None))


def test_the_gpu_with_most_free_memory_is_taken_without_touching_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards(monkeypatch, "GPU-aaaaaaaa, 100\nGPU-bbbbbbbb, 900\n", {})
    assert devices.choose().torch == torch.device("cuda", 1)
    assert cards.opened == []
    assert devices.choose("cuda:0").torch == torch.device("cuda", 0)
    with pytest.raises(LoadError, match="no cuda:2"):
        devices.choose("cuda:2")


@pytest.mark.parametrize(("free", "taken"), [({0: 5, 1: 9}, 1), ({0: 5}, 0), ({1: 1}, 1), ({}, 0)])
def test_a_card_that_cannot_be_asked_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, free: dict[int, int], taken: int
) -> None:
    Cards(monkeypatch, "", free)
    assert devices.choose().torch == torch.device("cuda", taken)
