"""Parts from one file: equal to those of the folder that it was made from, without a network, and told if they don't
fit."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from diffusers.loaders import single_file_utils as theirs
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.diffusion import single
from engines.errors import LoadError

KINDS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
TEXTS = (
    "a photo of a cat",
    "",
    "ÆØÅ naïve café",
    "1girl, solo, (masterpiece:1.2)",
    "日本語 🍎!!",
    "it's  Red\nand blue",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def read(part: str, file: Path, dtype: torch.dtype = torch.float16) -> Any:
    return getattr(single, part)(file, dtype)


def assert_equal(found: Any, wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("part", "architecture"),
    [*((part, "sdxl") for part in KINDS), ("unet", "ssd-1b"), ("unet", "segmind-vega")],
)
def test_a_single_file_gives_the_tensors_of_its_folder(part: str, architecture: str, offline: None) -> None:
    folder = tiny.shared(tiny.folder, architecture=architecture)
    wanted = KINDS[part].from_pretrained(folder / part, dtype=torch.float16, local_files_only=True)
    found = read(part, tiny.shared(tiny.single_file, architecture=architecture))
    assert type(found) is type(wanted)
    assert_equal(found.state_dict(), wanted.state_dict())
    assert not found.training and not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize("part", KINDS)
def test_diffusers_reads_the_same_from_the_same_file(part: str) -> None:
    """The names in the files that tests make are those that diffusers knows, not only those that safelight knows."""
    whole = load_file(tiny.shared(tiny.single_file))
    found = read(part, tiny.shared(tiny.single_file))
    match part:
        case "unet":
            wanted = theirs.convert_ldm_unet_checkpoint(whole, tiny.config("unet"))
        case "vae":
            wanted = theirs.convert_ldm_vae_checkpoint(whole, tiny.config("vae"))
        case "text_encoder":
            wanted = theirs.convert_ldm_clip_checkpoint(whole)
            wanted = {k.removeprefix("text_model."): v for k, v in wanted.items() if not k.endswith("position_ids")}
        case _:
            wanted = theirs.convert_open_clip_checkpoint(found, whole, prefix="conditioner.embedders.1.model.")
    assert_equal(found.state_dict(), wanted)


def test_one_step_of_denoising_is_that_of_the_folder(offline: None) -> None:
    file, folder = tiny.shared(tiny.single_file), tiny.shared(tiny.folder)
    dice = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=dice)

    def step(first: Any, second: Any, unet: Any, vae: Any) -> torch.Tensor:
        ids = torch.tensor([single.tokenizers()[0]("a photo of a cat", padding="max_length").input_ids])
        one = first(ids, output_hidden_states=True).hidden_states[-2]
        two = second(ids, output_hidden_states=True)
        words = torch.cat([one, two.hidden_states[-2]], dim=-1)
        more = {"text_embeds": two.text_embeds, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
        noise = unet(latents, 801, encoder_hidden_states=words, added_cond_kwargs=more).sample
        return vae.decode(latents - 0.1 * noise).sample  # type: ignore[no-any-return]

    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    with torch.no_grad():
        found = step(*(read(part, file, torch.float32) for part in parts))
        wanted = step(*(KINDS[part].from_pretrained(folder / part, dtype=torch.float32).eval() for part in parts))
    assert found.isfinite().all() and found.std() > 0
    assert torch.equal(found, wanted)


def test_weights_are_converted_to_the_type_that_is_asked_for() -> None:
    vae = read("vae", tiny.shared(tiny.single_file), torch.float32)
    assert {value.dtype for value in vae.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("keys", ["diffusers", "ldm", "bare-ldm"])
def test_a_unet_alone_goes_over_a_base_in_each_spelling(keys: str, offline: None) -> None:
    file = tiny.shared(tiny.unet_file, keys=keys, seed=1)
    found = single.unet_file(file, torch.float16, tiny.config("unet"))
    assert_equal(found.state_dict(), tiny.state("unet", seed=1))


@pytest.mark.parametrize("keys", ["diffusers", "ldm", "prefixed"])
def test_a_vae_alone_is_read_in_each_spelling(keys: str, offline: None) -> None:
    found = single.vae_file(tiny.shared(tiny.vae_file, keys=keys, seed=1), torch.float16)
    assert_equal(found.state_dict(), tiny.state("vae", seed=1))
    assert found.config.scaling_factor == 0.13025


def test_the_names_of_early_diffusers_are_read(tmp_path: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in tiny.state("vae").items():
        for new, before in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
        tensors[name] = value
    save_file(tensors, tmp_path / "old.safetensors")
    assert_equal(single.vae_file(tmp_path / "old.safetensors", torch.float16).state_dict(), tiny.state("vae"))


def test_training_leftovers_in_a_vae_are_passed_over(tmp_path: Path) -> None:
    tensors = load_file(tiny.shared(tiny.vae_file, keys="ldm")) | {"loss.logvar": torch.zeros(())}
    save_file(tensors, tmp_path / "vae.safetensors")
    assert_equal(single.vae_file(tmp_path / "vae.safetensors", torch.float16).state_dict(), tiny.state("vae"))


# ── tokenizers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_vocabulary_gives_the_known_numbers(offline: None) -> None:
    first, second = single.tokenizers()
    assert first("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(first) == len(second) == 49408
    assert first("a", padding="max_length").input_ids == [49406, 320] + [49407] * 75
    assert second("a", padding="max_length").input_ids == [49406, 320, 49407] + [0] * 74


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_the_shipped_tokenizers_are_those_of_the_repository(name: str, tmp_path: Path) -> None:
    wanted = CLIPTokenizer.from_pretrained(tiny.tokenizer_folder(tmp_path, name), local_files_only=True)
    found = single.tokenizers()[name == "tokenizer_2"]
    for text in TEXTS:
        kind = {"padding": "max_length", "truncation": True}
        assert found(text, **kind).input_ids == wanted(text, **kind).input_ids
    told = (found.pad_token, found.bos_token, found.eos_token, found.unk_token, found.model_max_length)
    assert told == (wanted.pad_token, wanted.bos_token, wanted.eos_token, wanted.unk_token, wanted.model_max_length)


# ── what doesn't fit ────────────────────────────────────────────────────────────────────────────────────────────────


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(LoadError) as told:
        call()
    assert "\n" not in told.value.message and not told.value.message.endswith(".")
    assert told.value.hint and "\n" not in told.value.hint
    return told.value.message


@pytest.mark.parametrize(
    ("part", "title"),
    [("vae", "VAE"), ("text_encoder", "CLIP text encoder"), ("text_encoder_2", "OpenCLIP text encoder")],
)
def test_a_part_that_is_left_out_is_named(part: str, title: str, tmp_path: Path) -> None:
    file = tiny.single_file(tmp_path / "x.safetensors", without=[part])
    assert refused(lambda: read(part, file)) == f"x.safetensors holds no {title}"
    assert read("unet", file).config.in_channels == 4


def test_a_lora_is_no_unet() -> None:
    file = tiny.shared(tiny.lora)
    message = refused(lambda: single.unet_file(file, torch.float16, tiny.config("unet")))
    assert message == f"{file.name} holds no UNet"


def test_a_unet_of_other_widths_names_both_sides() -> None:
    message = refused(
        lambda: single.unet_file(tiny.shared(tiny.unet_file), torch.float16, tiny.config("unet", true=True))
    )
    assert message.endswith("conv_in.weight is 32×4×3×3 in it, 320×4×3×3 in the base's UNet")


def test_a_unet_for_inpainting_is_no_replacement() -> None:
    file = tiny.shared(tiny.unet_file, in_channels=9, keys="ldm")
    message = refused(lambda: single.unet_file(file, torch.float16, tiny.config("unet")))
    assert "input_blocks.0.0.weight is 32×9×3×3 in it, 32×4×3×3 in the base's UNet" in message


@pytest.mark.parametrize(
    ("inside", "base", "words"),
    [("ssd-1b", "sdxl", "lacks 736 tensors"), ("sdxl", "ssd-1b", "which the base's UNet doesn't have")],
)
def test_a_unet_of_another_depth_is_refused(inside: str, base: str, words: str) -> None:
    file = tiny.shared(tiny.unet_file, architecture=inside)
    assert words in refused(lambda: single.unet_file(file, torch.float16, tiny.config("unet", base)))


def test_a_checkpoint_of_another_kind_is_one_line() -> None:
    file = tiny.shared(tiny.sd1_file)
    assert refused(lambda: read("unet", file)).startswith(f"the UNet in {file.name} is not one of SDXL's family: ")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(wrong: float, tmp_path: Path) -> None:
    tensors = load_file(tiny.shared(tiny.vae_file, keys="ldm"))
    tensors["decoder.mid.attn_1.q.weight"][3, 4] = wrong
    save_file(tensors, tmp_path / "bad.safetensors")
    message = refused(lambda: single.vae_file(tmp_path / "bad.safetensors", torch.float16))
    kind = "values that are no numbers (NaN)" if wrong != wrong else "infinite values"
    assert message == f"bad.safetensors can't be used: decoder.mid.attn_1.q.weight has {kind} in float16"


def test_numbers_too_large_for_half_precision_are_told(tmp_path: Path) -> None:
    tensors = load_file(tiny.shared(tiny.vae_file, dtype="fp32"))
    tensors["decoder.conv_in.bias"][0] = 1e6
    save_file(tensors, tmp_path / "big.safetensors")
    assert "decoder.conv_in.bias has infinite values in float16" in refused(
        lambda: single.vae_file(tmp_path / "big.safetensors", torch.float16)
    )
    assert single.vae_file(tmp_path / "big.safetensors", torch.float32).dtype == torch.float32


def test_a_sum_that_overflows_is_no_reason_to_refuse() -> None:
    many = torch.full((1000,), 60000.0, dtype=torch.float16)
    assert many.sum().isinf() and single._finite(many)


def test_quantised_weights_are_told(tmp_path: Path) -> None:
    tensors = load_file(tiny.shared(tiny.unet_file))
    tensors["conv_in.weight"] = torch.zeros_like(tensors["conv_in.weight"], dtype=torch.int8)
    save_file(tensors, tmp_path / "q.safetensors")
    assert refused(lambda: single.unet_file(tmp_path / "q.safetensors", torch.float16, tiny.config("unet"))) == (
        "q.safetensors is quantised: conv_in.weight is I8"
    )


def test_a_checkpoint_that_lacks_a_layer_names_it(tmp_path: Path) -> None:
    tensors = load_file(tiny.shared(tiny.single_file))
    del tensors["conditioner.embedders.1.model.transformer.resblocks.30.ln_2.bias"]
    save_file(tensors, tmp_path / "x.safetensors")
    assert refused(lambda: read("text_encoder_2", tmp_path / "x.safetensors")) == (
        "x.safetensors lacks text_model.encoder.layers.30.layer_norm2.bias of the expected OpenCLIP text encoder"
    )


def test_a_file_that_is_cut_short_is_one_line(tmp_path: Path) -> None:
    whole = tiny.shared(tiny.vae_file).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1000])
    assert "cut short" in refused(lambda: single.vae_file(tmp_path / "cut.safetensors", torch.float16))


# ── the builders themselves ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_tiny_folder_is_the_same_every_time(tmp_path: Path) -> None:
    one = load_file(
        tiny.folder(tmp_path / "a", variant="fp16", seed=3) / "vae/diffusion_pytorch_model.fp16.safetensors"
    )
    assert_equal(one, tiny.state("vae", seed=3))
    assert not torch.equal(one["quant_conv.weight"], tiny.state("vae", seed=4)["quant_conv.weight"])
    assert json.loads((tmp_path / "a" / "model_index.json").read_text())["unet"] == [
        "diffusers",
        "UNet2DConditionModel",
    ]
