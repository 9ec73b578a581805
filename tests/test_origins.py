"""Every source of a catalogue through the loader, with tiny random-weight models in the true SDXL layouts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import tiny
import torch
from zoo import ZOO, Beast

from engines import catalogue, planning
from engines.diffusion import origins, residency, single
from engines.diffusion.darkroom import Darkroom
from engines.diffusion.loading import read
from engines.errors import LoadError, SafelightError, Stopped
from engines.events import Event, Loading, Noted
from engines.options import Options
from engines.requests import Generate, Job, Lora
from engines.store import Made

ENTRY = """
[[model]]
id = "{id}"
title = "{id}"
family = "{family}"
licence = "x"
latents = "sdxl"
source = {{ {source} }}
[model.recipe]
num_inference_steps = 2
guidance_scale = 0.0
scheduler = "euler"
timestep_spacing = "trailing"
sizes = [[64, 64]]
"""
REQUEST = Generate("a red apple", "base", 7, 64, 64, 1, 0.0, timestep_spacing="trailing")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models as folders and as files, a UNet, a VAE, LoRAs and an embedding."""
    place = tmp_path_factory.mktemp("models")
    tiny.folder(place / "base", variant="fp16", seed=1)
    tiny.single_file(place / "one.safetensors", seed=1)
    tiny.single_file(place / "two.safetensors", seed=2)
    tiny.unet_file(place / "unet.safetensors", seed=3)
    tiny.unet_file(place / "ldm.safetensors", seed=3, keys="ldm")
    tiny.vae_file(place / "vae.safetensors", seed=4)
    tiny.lora(place / "lora.safetensors", spelling="kohya", seed=5)
    tiny.lora(place / "sd1.safetensors", spelling="kohya", seed=5, architecture="sd1", true=True)
    tiny.embedding(place / "word.safetensors", vectors=3)
    tiny.folder(place / "pruned", architecture="ssd-1b", seed=1)
    tiny.single_file(place / "pruned.safetensors", architecture="ssd-1b", seed=1)
    return place


SOURCES = {
    "base": 'folder = "base", variant = "fp16"',
    "one": 'file = "one.safetensors"',
    "two": 'file = "two.safetensors"',
    "unet": 'base = "base", unet = "unet.safetensors"',
    "ldm": 'base = "one", unet = "ldm.safetensors"',
    "lora": 'base = "base", lora = "lora.safetensors"',
    "mix": 'merge = [{ model = "one", weight = 0.5 }, { model = "two", weight = 0.5 }]',
    "same": 'merge = [{ model = "one", weight = 0.5 }, { model = "base", weight = 0.5 }]',
    "all-two": 'merge = [{ model = "one", weight = 0.0 }, { model = "two", weight = 1.0 }]',
}


@pytest.fixture(scope="module")
def room(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Darkroom:
    text = "".join(ENTRY.format(id=id, source=source, family="sdxl") for id, source in SOURCES.items())
    text += ENTRY.format(id="pruned", source='folder = "pruned"', family="ssd-1b")
    text += ENTRY.format(id="pruned-file", source='file = "pruned.safetensors"', family="ssd-1b")
    for kind, id, file in (("lora", "plain", "lora"), ("lora", "sd1", "sd1"), ("embedding", "word", "word")):
        text += f'[[{kind}]]\nid = "{id}"\ntitle = "x"\nfamily = "sdxl"\nlicence = "x"\nfile = "{file}.safetensors"\n'
    text += '[[vae]]\nid = "smooth"\ntitle = "x"\nlatents = "sdxl"\nlicence = "x"\nfile = "vae.safetensors"\n'
    (place / "models.toml").write_text(text)
    known = catalogue.load(place / "models.toml")
    assert known.problems == ()
    home = tmp_path_factory.mktemp("home")
    return Darkroom(known, Options(home, device="cpu", threads=1), home / "cache", home / "data")


def drain(room: Darkroom, request: Generate) -> tuple[list[Event], tuple[Made, ...]]:
    events: list[Event] = []
    work = room.develop(Job(1, request, None, 0.0), lambda: False, 0.0)
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def loaded(events: list[Event]) -> list[str]:
    return [e.what.partition(": ")[2] for e in events if isinstance(e, Loading)]


def of(room: Darkroom, id: str, **more: Any) -> origins.Origins:
    return origins.of(room.catalogue, room.catalogue.model(id), **more)


def tensors(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    return iter(module.state_dict().items())


def assert_equal(one: Any, other: Any) -> None:
    mine, theirs = dict(tensors(one)), dict(tensors(other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("pair", [("base", "one"), ("pruned", "pruned-file"), ("unet", "ldm"), ("all-two", "two")])
def test_two_ways_to_write_a_model_give_the_same_weights(room: Darkroom, pair: tuple[str, str]) -> None:
    first, second = (of(room, id) for id in pair)
    for one, other in zip(first.parts, second.parts, strict=True):
        assert 0 <= other.numbers - one.numbers <= 77, "old files have position ids beside the weights"
        assert_equal(read(one, torch.float32), read(other, torch.float32))


@pytest.mark.parametrize("id", [*SOURCES, "pruned", "pruned-file"])
def test_a_model_of_every_source_draws(room: Darkroom, id: str) -> None:
    _, (made,) = drain(room, replace(REQUEST, model=id))
    assert Path(made.path).is_file() and made.made_with["unet_sha256"]


def test_a_mix_lies_between_its_parents(room: Darkroom) -> None:
    one, two, mix = (read(of(room, id).unet, torch.float32).conv_in.weight for id in ("one", "two", "mix"))
    assert torch.allclose(mix, (one + two) / 2, atol=1e-6) and not torch.equal(one, two)


@pytest.mark.parametrize("after", [0, 1, 2, 20])
def test_a_mix_that_is_being_made_can_be_stopped(room: Darkroom, after: int) -> None:
    looks = iter(range(10_000))
    with pytest.raises(Stopped):
        read(of(room, "mix").unet, torch.float32, lambda: next(looks) >= after)
    assert next(looks) == after + 1, "at the first look that said so"


def test_what_is_equal_is_held_once_and_what_is_held_is_not_read_again(room: Darkroom) -> None:
    room.residency.forget()
    events, _ = drain(room, replace(REQUEST, model="base"))
    assert loaded(events)[:3] == ["text encoders", "denoiser", "VAE"]
    for id, what in (("unet", ["denoiser"]), ("lora", ["LoRAs"]), ("base", ["LoRAs"]), ("unet", []), ("base", [])):
        events, _ = drain(room, replace(REQUEST, model=id))
        assert loaded(events) == what, id


def test_the_weight_of_a_lora_changes_without_loading(room: Darkroom) -> None:
    request = replace(REQUEST, model="one", loras=(Lora("plain", 0.5),))
    drain(room, request)
    with pytest.MonkeyPatch.context() as patch:
        for module in (single, safetensors):
            patch.setattr(module, "safe_open", None)
        events, _ = drain_without_saving(room, replace(request, loras=(Lora("plain", 0.8),)))
    assert loaded(events) == ["LoRAs"]


def drain_without_saving(room: Darkroom, request: Generate) -> tuple[list[Event], Any]:
    """Up to the components."""
    wanted = room.loader.prepare(room.catalogue.model(request.model), request)
    events: list[Event] = []
    work = room.loader.load(1, wanted, lambda: False)
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def test_how_much_of_a_lora_fits_is_told_once(room: Darkroom) -> None:
    request = replace(REQUEST, model="pruned", loras=())
    fresh = Darkroom(room.catalogue, room.options, room.cache, room.data)
    events, _ = drain(fresh, replace(request, model="base", loras=(Lora("plain", 1.0),)))
    told = [e.text for e in events if isinstance(e, Noted)]
    assert any("100 % of its" in text for text in told), told
    events, _ = drain(fresh, replace(request, model="base", loras=(Lora("plain", 0.3),)))
    assert not [e for e in events if isinstance(e, Noted)]


def test_a_lora_for_sd1_names_both_sides(room: Darkroom) -> None:
    with pytest.raises(LoadError, match=r"sd1.*Stable Diffusion 1|SD 1") as told:
        drain(room, replace(REQUEST, model="base", loras=(Lora("sd1", 1.0),)))
    assert "768" in told.value.message and "\n" not in told.value.message
    drain(room, replace(REQUEST, model="base"))


def test_another_vae_decodes(room: Darkroom) -> None:
    own = of(room, "base").vae
    other = of(room, "base", vae=room.catalogue.vae("smooth")).vae
    assert own.key != other.key
    assert not torch.equal(
        read(own, torch.float32).post_quant_conv.weight, read(other, torch.float32).post_quant_conv.weight
    )
    _, (made,) = drain(room, replace(REQUEST, vae="smooth"))
    _, (plain,) = drain(room, REQUEST)
    assert made.made_with["vae_sha256"] != plain.made_with["vae_sha256"]


def test_an_embedding_acts_by_its_name_and_is_kept_with_the_picture(room: Darkroom) -> None:
    events, (made,) = drain(room, replace(REQUEST, prompt="a red apple, word"))
    assert made.made_with["embedding word sha256"]
    _, (plain,) = drain(room, REQUEST)
    assert "embedding word sha256" not in plain.made_with
    events, _ = drain(room, replace(REQUEST, prompt="a red apple, embedding:wrod"))
    assert any("no embedding wrod" in e.text for e in events if isinstance(e, Noted))


def test_a_file_that_was_replaced_is_read_anew(room: Darkroom, place: Path, tmp_path: Path) -> None:
    text = ENTRY.format(id="mine", source=f'file = "{tmp_path}/mine.safetensors"', family="sdxl")
    (tmp_path / "models.toml").write_text(text)
    known = catalogue.load(tmp_path / "models.toml")
    fresh = Darkroom(known, Options(tmp_path, device="cpu", threads=1), tmp_path / "cache", tmp_path / "data")
    tiny.single_file(tmp_path / "mine.safetensors", seed=1)
    _, (first,) = drain(fresh, replace(REQUEST, model="mine"))
    (tmp_path / "mine.safetensors").unlink()
    tiny.single_file(tmp_path / "mine.safetensors", seed=2)
    events, (second,) = drain(fresh, replace(REQUEST, model="mine"))
    assert "denoiser" in loaded(events)
    assert first.made_with["unet_sha256"] != second.made_with["unet_sha256"]


def test_a_checkpoint_is_like_another_model_where_it_says_so(tmp_path: Path) -> None:
    """The embedded model as one file: its configurations and vocabulary can't be guessed."""
    import json

    from safetensors.torch import load_file, save_file

    base = catalogue.SHIPPED.parent / "mini" / "base"
    whole: dict[str, torch.Tensor] = {}
    for name, front in (("unet", "model.diffusion_model."), ("vae", "first_stage_model.")):
        state = load_file(base / name / "diffusion_pytorch_model.safetensors")
        whole |= {front + key: value for key, value in state.items()}
    assert json.loads((base / "unet" / "config.json").read_text())["layers_per_block"] == 1
    save_file(whole, tmp_path / "mini.safetensors")
    text = ENTRY.format(id="file", source='file = "mini.safetensors", like = "mini"', family="mini")
    (tmp_path / "models.toml").write_text(text)
    known = catalogue.load(tmp_path / "models.toml")
    made, shipped = (origins.of(known, known.model(id)) for id in ("file", "mini"))
    assert made.tokenizers == shipped.tokenizers and made.text_encoder.key == shipped.text_encoder.key
    assert_equal(read(made.unet, torch.float32), read(shipped.unet, torch.float32))
    assert_equal(read(made.vae, torch.float32), read(shipped.vae, torch.float32))


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_leaves_the_device_comes_back_without_the_disk(
    room: Darkroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tiers, as on a GPU, with a device that has room for one UNet and the rest; moves are only told."""
    fresh = Darkroom(room.catalogue, room.options, tmp_path / "cache", tmp_path / "data")
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(residency.Residency, "_two", True)
    monkeypatch.setattr(planning, "ALLOWANCE", 0)
    whole = sum(part.numbers * 4 for part in of(room, "base").parts)
    fresh.residency = fresh.loader.residency = residency.Residency(
        limit=int(whole * 1.5),
        ram=10 * whole,
        mover=lambda component, device: None,
        moved=lambda key, what: told.append((key[0], what)),  # type: ignore[index]
    )
    for id in ("base", "unet"):
        drain(fresh, replace(REQUEST, model=id))
    assert told.count(("unet", "built")) == 2 and told.count(("text", "built")) == 1
    assert ("unet", "ram") in told, "the base's made room"
    told.clear()
    monkeypatch.setattr(origins, "read_json", origins.read_json)
    monkeypatch.setattr(single, "safe_open", None)
    monkeypatch.setattr(origins.UNet2DConditionModel, "from_pretrained", None)
    drain(fresh, replace(REQUEST, model="base"))
    assert told.count(("unet", "device")) == 1 and not [what for _, what in told if what == "built"]


def test_fp8_keeps_its_precision_for_another_lora_weight(room: Darkroom) -> None:
    request = replace(REQUEST, model="base", precision="fp8", loras=(Lora("plain", 0.5),))
    events, (first,) = drain(room, request)
    assert "denoiser" in loaded(events) and "fp8" in first.made_with["precision"]
    events, _ = drain(room, replace(request, loras=(Lora("plain", 0.9),)))
    assert loaded(events) == ["LoRAs"], "another weight reads nothing"
    events, (again,) = drain(room, request)
    assert loaded(events) == ["LoRAs"]
    assert Path(first.path).read_bytes()[-2000:-500] == Path(again.path).read_bytes()[-2000:-500]


def damaged(place: Path, damage: str) -> Path:
    """A model's folder with a weight that is no number."""
    from safetensors.torch import load_file, save_file

    folder = tiny.folder(place / "nan", seed=1)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state[damage].view(-1)[0] = float("nan")
    save_file(state, file)
    return folder


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    damaged(tmp_path, "mid_block.resnets.0.conv1.weight")
    (tmp_path / "models.toml").write_text(ENTRY.format(id="nan", source='folder = "nan"', family="sdxl"))
    known = catalogue.load(tmp_path / "models.toml")
    fresh = Darkroom(known, Options(tmp_path, device="cpu", threads=1), tmp_path / "cache", tmp_path / "data")
    with pytest.raises(LoadError, match=r"not finite in mid_block\.resnets\.0\.conv1\.weight") as told:
        drain(fresh, replace(REQUEST, model="nan"))
    assert "models verify" in told.value.hint and not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("beast", ZOO, ids=lambda beast: beast.name)
@pytest.mark.parametrize("kind", ["file", "lora"])
def test_a_corrupt_file_is_one_line_and_the_next_picture_is_made(
    beast: Beast, kind: str, room: Darkroom, tmp_path: Path
) -> None:
    path = beast.make(tmp_path)
    if path.is_dir():
        pytest.skip("a folder is no file")
    text = ENTRY.format(id="beast", source=f"file = {str(path)!r}", family="sdxl")
    text += f'[[lora]]\nid = "wild"\ntitle = "x"\nfamily = "sdxl"\nlicence = "x"\nfile = {str(path)!r}\n'
    (tmp_path / "models.toml").write_text(text)
    found = catalogue.load(tmp_path / "models.toml")
    assert found.problems == ()
    known = replace(found, models={**room.catalogue.models, **found.models})
    fresh = room.catalogue, room.loader.catalogue
    room.catalogue = room.loader.catalogue = known
    request = REQUEST if kind == "lora" else replace(REQUEST, model="beast")
    try:
        with pytest.raises(SafelightError) as told:
            drain(room, replace(request, loras=(Lora("wild", 1.0),) if kind == "lora" else ()))
        assert told.value.message and "\n" not in told.value.message and "\x1b" not in told.value.message
        if kind == "lora":
            drain(room, REQUEST)
    finally:
        room.catalogue, room.loader.catalogue = fresh
