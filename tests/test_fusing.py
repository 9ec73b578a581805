"""LoRAs put on and taken off: against the weights of diffusers' own loading, and bit for bit against the base."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from engines import catalogue
from engines.errors import LoadError

MINI = Path(catalogue.__file__).with_name("mini")
PIXEL = MINI / "style_lora" / "mini_pixel_lora.safetensors"
FOUR_STEPS = MINI / "lightning" / "mini_lightning_4step_lora.safetensors"
CONFIGS = Path(catalogue.__file__).with_name("configs")
PARTS = ("unet", "text_encoder", "text_encoder_2")
ATTENTION = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn1.to_out.0")
TEXT = tuple(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out"))
MORE = ("ff.net.2", "proj_in", "conv1", "conv_in", "time_emb_proj", "conv_shortcut", "samplers.0.conv")
PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pipe(torch: Any) -> Any:
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline.from_pretrained(MINI / "base", dtype=torch.float32, add_watermarker=False)


@pytest.fixture(scope="module")
def fusing(torch: Any) -> Any:
    from engines.diffusion import fusing

    return fusing


@pytest.fixture
def parts(pipe: Any, fusing: Any) -> tuple[Any, ...]:
    """Copies of the embedded model's parts, ready to be dressed."""
    shelf = fusing.Shelf()
    return tuple(fusing.Dressed(copy.deepcopy(getattr(pipe, part)), part, shelf) for part in PARTS)


@pytest.fixture
def unet(parts: tuple[Any, ...]) -> Any:
    return parts[0]


def lora(pipe: Any, seed: int = 0, ends: tuple[str, ...] = ATTENTION, text: tuple[str, ...] = TEXT) -> dict[str, Any]:
    """Rank-2 updates of some layers, in peft's spelling."""
    import torch

    dice = torch.Generator().manual_seed(seed)
    state = {}
    for part in PARTS:
        for name, layer in getattr(pipe, part).named_modules():
            if not name.endswith(ends if part == "unet" else text) or not hasattr(layer, "weight"):
                continue
            if part != "unet" and not name.startswith("text_model."):
                name = f"text_model.{name}"  # files have what transformers 5 has dropped
            out, into, *kernel = layer.weight.shape
            state[f"{part}.{name}.lora_A.weight"] = torch.randn(2, into, *kernel, generator=dice) * 0.1
            state[f"{part}.{name}.lora_B.weight"] = torch.randn(out, 2, *[1] * len(kernel), generator=dice) * 0.1
    return state


def each(state: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """(part, layer, "A" or "B", tensor) of a LoRA in peft's spelling."""
    for key, value in state.items():
        found = re.fullmatch(r"(\w+?)\.(.+)\.lora_([AB])\.weight", key)
        assert found
        yield found[1], found[2], found[3], value


def kohya(state: dict[str, Any], alpha: float = 1.5, original: bool = False) -> dict[str, Any]:
    import torch

    made = {}
    for part, layer, side, value in each(state):
        name = f"{PREFIXES[part]}_{(as_in_the_original(layer) if original else layer).replace('.', '_')}"
        made[f"{name}.lora_{'down' if side == 'A' else 'up'}.weight"] = value
        made[f"{name}.alpha"] = torch.tensor(alpha)
    return made


def as_in_the_original(layer: str) -> str:
    """The embedded UNet's blocks, one layer each, as the original implementation numbers them."""
    places = {
        "conv_in": "input_blocks.0.0",
        "down_blocks.0.resnets.0": "input_blocks.1.0",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
        "down_blocks.1.resnets.0": "input_blocks.3.0",
        "down_blocks.1.attentions.0": "input_blocks.3.1",
        "down_blocks.1.downsamplers.0.conv": "input_blocks.4.0.op",
        "down_blocks.2.resnets.0": "input_blocks.5.0",
        "down_blocks.2.attentions.0": "input_blocks.5.1",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
        "up_blocks.1.upsamplers.0.conv": "output_blocks.3.2.conv",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        **{f"up_blocks.{i // 2}.resnets.{i % 2}": f"output_blocks.{i}.0" for i in range(6)},
        **{f"up_blocks.{i // 2}.attentions.{i % 2}": f"output_blocks.{i}.1" for i in range(4)},
    }
    inside = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    for known, place in places.items():
        if layer == known or layer.startswith(f"{known}."):
            rest = layer.removeprefix(known).removeprefix(".")
            return f"{place}.{inside.get(rest, rest)}".removesuffix(".")
    assert layer.startswith("text_model."), layer
    return layer


def first_diffusers(state: dict[str, Any]) -> dict[str, Any]:
    """As diffusers wrote them before peft."""
    made = {}
    for part, layer, side, value in each(state):
        way = "down" if side == "A" else "up"
        if part == "unet":
            layer = re.sub(r"(attn\d)\.to_(\w+)(\.0)?$", r"\1.processor.to_\2", layer)
        else:
            layer = re.sub(r"\.(q|k|v|out)_proj$", r".to_\1", layer)
        made[f"{part}.{layer}_lora.{way}.weight"] = value
    return made


def later_diffusers(state: dict[str, Any]) -> dict[str, Any]:
    made = {}
    for part, layer, side, value in each(state):
        kind = "lora" if part == "unet" else "lora_linear_layer"
        made[f"{part}.{layer}.{kind}.{'down' if side == 'A' else 'up'}.weight"] = value
    return made


def save(state: dict[str, Any], path: Path, **metadata: str) -> Path:
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in state.items()}, path, metadata or None)
    return path


def weights(parts: tuple[Any, ...]) -> dict[str, Any]:
    return {f"{p.part}.{k}": v.clone() for p in parts for k, v in p.module.state_dict().items()}


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(bool((one[k] == two[k]).all()) for k in one)


def theirs(pipe: Any, stack: list[tuple[Path, float]]) -> dict[str, Any]:
    """The weights with LoRAs, as diffusers and peft apply them."""
    names = [f"lora{i}" for i in range(len(stack))]
    made = {}
    try:
        for name, (file, _) in zip(names, stack, strict=True):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")
                pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
        pipe.set_adapters(names, [weight for _, weight in stack])
        for part in PARTS:
            for name, layer in getattr(pipe, part).named_modules():
                if hasattr(layer, "lora_A"):
                    deltas = [layer.get_delta_weight(x) for x in names if x in layer.lora_A]
                    made[f"{part}.{name}.weight"] = (layer.base_layer.weight + sum(deltas)).detach().clone()
    finally:
        pipe.unload_lora_weights()
    return made


def agree(parts: tuple[Any, ...], wanted: dict[str, Any]) -> None:
    """Holds that all layers that diffusers changed are here as there, and the others as they were."""
    ours = weights(parts)
    assert wanted
    for name, value in wanted.items():
        assert float((ours[name] - value).abs().max()) < 1e-5, name


SPELLINGS = {
    "peft": lambda state: state,
    "peft, a model by itself": lambda state: {
        f"{k[: k.index('.')]}.base_model.model{k[k.index('.') :]}": state[k] for k in state
    },
    "kohya": kohya,
    "kohya, blocks as in the original": lambda state: kohya(state, original=True),
    "diffusers": later_diffusers,
    "diffusers, the first form": first_diffusers,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_weights_that_diffusers_gives(
    spelling: str, pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path
) -> None:
    ends = ATTENTION if "first" in spelling else ATTENTION + MORE
    state = lora(pipe, ends=ends)
    file = save(SPELLINGS[spelling](state), tmp_path / "style.safetensors")
    readable = file if "by itself" not in spelling else save(state, tmp_path / "readable.safetensors")
    report = fusing.dress(parts, [(file, 0.7)])
    assert report.changed == set(PARTS)
    (fit,) = report.fits
    assert (fit.layers, fit.matched, fit.percent, fit.warning) == (len(state) // 2, len(state) // 2, 100, "")
    assert fit.sentence == f"LoRA style.safetensors: 100 % of its {len(state) // 2} layers match this model"
    wanted = theirs(pipe, [(readable, 0.7)])
    assert len(wanted) == len(state) // 2
    agree(parts, wanted)


def test_names_without_a_part_are_the_unets(pipe: Any, unet: Any, tmp_path: Path) -> None:
    state = {k: v for k, v in lora(pipe).items() if k.startswith("unet.")}
    unet.wear([(save(state, tmp_path / "a.safetensors"), 1.0)])
    wanted = weights((unet,))
    for number, prefix in enumerate(("", "base_model.model.", "diffusion_model.")):
        other = {prefix + k.removeprefix("unet."): v for k, v in state.items()}
        assert unet.wear([(save(other, tmp_path / f"{number}.safetensors"), 1.0)]).fits[0].percent == 100
        assert same(weights((unet,)), wanted)


@pytest.mark.parametrize("slora", [False, True])
def test_the_alpha_that_diffusers_writes_beside_the_tensors_counts(
    slora: bool, pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path
) -> None:
    state = lora(pipe)
    settings = {f"{part}.{k}": v for part in PARTS for k, v in {"r": 2, "lora_alpha": 7, "use_rslora": slora}.items()}
    settings["unet.alpha_pattern"] = {"down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q": 3}
    for part in PARTS:
        names = {layer for p, layer, _, _ in each(state) if p == part}
        settings[f"{part}.target_modules"] = sorted(names)
    file = save(state, tmp_path / "alpha.safetensors", lora_adapter_metadata=json.dumps(settings), format="pt")
    fusing.dress(parts, [(file, 1.0)])
    scale = 7 / (2**0.5 if slora else 2)
    ours = weights(parts)
    for part, layer, side, down in each(state):
        if side == "B":
            continue
        delta = state[f"{part}.{layer}.lora_B.weight"] @ down
        apart = part == "unet" and layer in settings["unet.alpha_pattern"]
        wanted = (scale * 3 / 7 if apart else scale) * delta
        name = layer if f"{part}.{layer}.weight" in ours else layer.removeprefix("text_model.")
        base = getattr(pipe, part).get_submodule(name).weight.detach()
        assert float((ours[f"{part}.{name}.weight"] - base - wanted).abs().max()) < 1e-5
    # diffusers finds no text encoder's layers by the names that peft has written into its settings
    alone = {k: v for k, v in state.items() if k.startswith("unet.")}
    theirs_settings = json.dumps({k: v for k, v in settings.items() if k.startswith("unet.")})
    readable = save(alone, tmp_path / "unet.safetensors", lora_adapter_metadata=theirs_settings, format="pt")
    agree(parts, theirs(pipe, [(readable, 1.0)]))


def test_a_stack_is_the_sum_whatever_the_signs(pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path) -> None:
    own = save(kohya(lora(pipe, 3)), tmp_path / "own.safetensors")
    stack = [(FOUR_STEPS, 1.0), (PIXEL, -0.6), (own, 0.25)]
    fusing.dress(parts, stack)
    agree(parts, theirs(pipe, stack))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_what_was_worn_before_leaves_no_trace(kind: str, pipe: Any, torch: Any, fusing: Any, tmp_path: Path) -> None:
    own = save(kohya(lora(pipe, 3)), tmp_path / "own.safetensors")
    shelf = fusing.Shelf()

    def fresh() -> tuple[Any, ...]:
        made = [copy.deepcopy(getattr(pipe, part)).to(getattr(torch, kind)) for part in PARTS]
        return tuple(fusing.Dressed(module, part, shelf) for module, part in zip(made, PARTS, strict=True))

    parts = fresh()
    bare = weights(parts)
    for stack in (
        [(FOUR_STEPS, 1.0)],
        [(FOUR_STEPS, 1.0), (own, 0.3)],
        [(FOUR_STEPS, 1.0), (own, -2.0)],
        [(own, 0.3), (FOUR_STEPS, 1.0), (own, 0.1)],
        [(PIXEL, 0.8)],
    ):
        fusing.dress(parts, stack)
        untouched = fresh()
        fusing.dress(untouched, stack)
        assert same(weights(parts), weights(untouched))
        assert not same(weights(parts), bare)
    fusing.dress(parts, [])
    assert same(weights(parts), bare)
    assert all(part.bare and part.bytes == 0 for part in parts)


def test_only_what_changes_is_worked_on(
    pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = save(lora(pipe, 1, ("attn2.to_q",)), tmp_path / "own.safetensors")
    fusing.dress(parts, [(FOUR_STEPS, 1.0), (own, 0.5)])
    summed: list[str] = []
    sums = fusing.Dressed._sum
    monkeypatch.setattr(
        fusing.Dressed, "_sum", lambda self, layer, *rest: (summed.append(layer), sums(self, layer, *rest))
    )
    before = fusing.dress(parts, [(FOUR_STEPS, 1.0), (own, 0.5)])
    with monkeypatch.context() as patch:
        patch.setattr(fusing.Dressed, "_fit", lambda *_: pytest.fail("what is worn was held against its layers again"))
        report = fusing.dress(parts, [(FOUR_STEPS, 1.0), (own, 0.5)])
    assert summed == [] and report.changed == set() and report.fits == before.fits
    report = fusing.dress(parts, [(FOUR_STEPS, 1.0), (own, 0.6)])
    assert report.changed == set(PARTS)
    assert all(layer.endswith(("attn2.to_q", *TEXT)) for layer in summed)
    summed.clear()
    report = fusing.dress(parts, [(FOUR_STEPS, 0.9), (own, 0.6)])
    assert report.changed == {"unet"}, "this one leaves the text encoders alone"


def test_another_weight_reads_no_disk(parts: tuple[Any, ...], fusing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fusing.dress(parts, [(PIXEL, 1.0)])
    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr("pathlib.Path.open", refused)
    monkeypatch.setattr("safetensors.safe_open", refused)
    fusing.dress(parts, [(PIXEL, 0.5)])
    fusing.dress(parts, [])
    fusing.dress(parts, [(PIXEL, 0.25)])


def refused(*_: object, **__: object) -> None:
    raise AssertionError("a file was opened")


def test_what_is_remembered_is_bounded_and_a_changed_file_is_read_anew(pipe: Any, fusing: Any, tmp_path: Path) -> None:
    state = lora(pipe, 1, ("attn2.to_q",), ())
    one, two = (save(state, tmp_path / f"{i}.safetensors") for i in (1, 2))
    size = sum(value.nbytes for value in state.values())
    shelf = fusing.Shelf(limit=size)
    for file in (one, two):
        shelf.updates(shelf.contents(file), "unet")
        assert shelf.used == size
    small = fusing.Shelf(limit=size - 1)
    unet = fusing.Dressed(copy.deepcopy(pipe.unet), "unet", small)
    unet.wear([(one, 1.0)])
    assert small.used == 0
    before = weights((unet,))
    save({k: 2 * v for k, v in state.items()}, one)
    assert unet.wear([(one, 1.0)]).changed == {"unet"}
    assert not same(weights((unet,)), before)


def test_nothing_is_left_on_when_it_fails_midway(
    pipe: Any, parts: tuple[Any, ...], fusing: Any, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = weights(parts)
    fusing.dress(parts, [(FOUR_STEPS, 0.5)])
    add_to = fusing.Update.add_to
    left = 40

    def until_memory_ends(self: Any, *args: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise torch.OutOfMemoryError("out of memory")
        return add_to(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fusing.Update, "add_to", until_memory_ends)
        with pytest.raises(torch.OutOfMemoryError):
            fusing.dress(parts, [(FOUR_STEPS, 1.0), (PIXEL, 1.0)])
    assert same(weights(parts), bare) and all(part.bare for part in parts)
    fusing.dress(parts, [(PIXEL, 1.0)])
    assert not parts[0].bare


def test_every_lora_is_checked_before_any_weight_is_changed(
    pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path
) -> None:
    state = lora(pipe)
    key = next(k for k in state if k.startswith("text_encoder_2"))
    state[key][0, 0] = float("nan")
    broken = save(state, tmp_path / "broken.safetensors")
    fusing.dress(parts, [(FOUR_STEPS, 1.0)])
    before = weights(parts)
    with pytest.raises(LoadError, match=r"broken\.safetensors has numbers that are not finite at encoder_layers_0"):
        fusing.dress(parts, [(PIXEL, 1.0), (broken, 1.0)])
    assert same(weights(parts), before)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("where", ["lora_down", "lora_up", "alpha"])
def test_numbers_that_are_not_finite_are_refused(value: str, where: str, pipe: Any, unet: Any, tmp_path: Path) -> None:
    state = kohya(lora(pipe))
    state[next(k for k in state if where in k)].view(-1)[0] = float(value)
    with pytest.raises(LoadError, match="not finite at down_blocks_1"):
        unet.wear([(save(state, tmp_path / "odd.safetensors"), 0.0)])
    assert unet.bare


def sized(state: dict[str, Any], width: int) -> dict[str, Any]:
    """The LoRA, with another cross-attention width."""
    import torch

    made = {}
    for key, value in state.items():
        if re.search(r"attn2.to_[kv]", key) and key.endswith(("lora_A.weight", "lora_down.weight")):
            value = torch.ones(value.shape[0], width)
        made[key] = value
    return made


@pytest.mark.parametrize("spelling", ["peft", "kohya", "kohya, blocks as in the original"])
@pytest.mark.parametrize(
    ("width", "name"), [(768, "SD 1.x (cross-attention 768)"), (1024, "SD 2.x (cross-attention 1024)")]
)
def test_a_lora_for_another_architecture_is_refused_with_both_named(
    spelling: str, width: int, name: str, pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path
) -> None:
    before = weights(parts)
    file = save(sized(SPELLINGS[spelling](lora(pipe)), width), tmp_path / "old.safetensors")
    with pytest.raises(LoadError) as told:
        fusing.dress(parts, [(PIXEL, 1.0), (file, 1.0)])
    assert told.value.message == f"LoRA old.safetensors is for {name}; the model is one of 224"
    assert told.value.hint and same(weights(parts), before)


def test_weights_that_are_elsewhere_cannot_be_changed(true_unets: dict[str, Any], fusing: Any, tmp_path: Path) -> None:
    file = tiny.lora(tmp_path / "fits.safetensors", only=r"down_blocks\.1\.attentions\.0", true=True)
    with pytest.raises(LoadError, match="not in memory"):
        fusing.Dressed(true_unets["sdxl"], "unet").wear([(file, 1.0)])


def test_a_lora_for_another_text_encoder_is_refused_with_both_named(
    pipe: Any, parts: tuple[Any, ...], fusing: Any, torch: Any, tmp_path: Path
) -> None:
    state = {k: torch.ones(2, 1024) if "lora_A" in k else v for k, v in lora(pipe, 0, ()).items()}
    with pytest.raises(
        LoadError, match=r"is for OpenCLIP ViT-H \(1024 wide\); the model is one \(96 wide\) in its text_enc"
    ):
        fusing.dress(parts, [(save(state, tmp_path / "text.safetensors"), 1.0)])


def test_a_layer_of_another_size_is_named(pipe: Any, unet: Any, torch: Any, tmp_path: Path) -> None:
    state = lora(pipe, 0, ("conv1",), ())
    wide = {k: torch.cat([v, v], dim=1) if "lora_A" in k else v for k, v in state.items()}
    kernel = {k: v[..., :1] if "lora_A" in k else v for k, v in state.items()}
    for number, odd in enumerate((wide, kernel)):
        with pytest.raises(
            LoadError, match=r"does not fit this model: \S+conv1 is \d+x\d+x3x\d in it and \d+x\d+x3x3 in"
        ):
            unet.wear([(save(odd, tmp_path / f"{number}.safetensors"), 1.0)])


def test_a_transformers_lora_matches_nothing(unet: Any, torch: Any, tmp_path: Path) -> None:
    state = {
        f"transformer.single_transformer_blocks.{i}.attn.to_q.lora_{x}.weight": torch.ones(2, 2)
        for i in (0, 1)
        for x in "AB"
    }
    with pytest.raises(LoadError) as told:
        unet.wear([(save(state, tmp_path / "flux.safetensors"), 1.0)])
    assert told.value.message == (
        "LoRA flux.safetensors is for a diffusion transformer such as Flux or SD 3; the model is one of 224, "
        "and has none of its 2 layers"
    )


def test_layers_that_a_pruned_model_lacks_are_left_out_and_told(
    pipe: Any, parts: tuple[Any, ...], fusing: Any, tmp_path: Path
) -> None:
    from diffusers import UNet2DConditionModel

    pruned = UNet2DConditionModel.from_config({**pipe.unet.config, "mid_block_type": "UNetMidBlock2D"})
    state = lora(pipe)
    file = save(kohya(state), tmp_path / "whole.safetensors")
    dressed = (fusing.Dressed(pruned, "unet"), *parts[1:])
    (fit,) = fusing.dress(dressed, [(file, 1.0)]).fits
    layers = len(state) // 2
    gone = len({layer for _, layer, _, _ in each(state) if layer.startswith("mid_block")})
    assert 0 < gone < layers and (fit.layers, fit.matched) == (layers, layers - gone)
    assert len(fit.missing) == min(gone, fusing.MANY) and all(name.startswith("mid_block_att") for name in fit.missing)
    percent = int(100 * (layers - gone) / layers)
    told = (
        f"LoRA whole.safetensors: {percent} % of its {layers} layers match this model; left out: mid_block_attentions"
    )
    assert (
        fit.warning == fit.sentence and fit.sentence.startswith(told) and fit.sentence.endswith(f" and {gone - 1} more")
    )
    assert fusing.Fit(file, 1000, 999, ("x",)).warning.endswith(
        ": 99 % of its 1000 layers match this model; left out: x"
    )


@pytest.mark.parametrize("config", ["sdxl", "ssd-1b", "segmind-vega"])
def test_blocks_named_as_in_the_original_are_those_that_diffusers_reads(
    config: str, true_unets: dict[str, Any], fusing: Any
) -> None:
    from types import SimpleNamespace

    from diffusers.loaders import lora_conversion_utils as judge

    from engines.keys import renamed

    settings = true_unets[config].config
    unet = fusing.Dressed(true_unets[config], "unet")
    attentions = ("transformer_blocks_0_attn2_to_out_0", "transformer_blocks_1_ff_net_0_proj", "proj_in", "proj_out")
    residual = ("in_layers_2", "out_layers_3", "emb_layers_1", "skip_connection")
    names = ["input_blocks_0_0", "out_2", "time_embed_0", "time_embed_2", "label_emb_0_0", "label_emb_0_2"]
    names += [f"middle_block_{i}_{x}" for i in (0, 2) for x in residual]
    names += [f"middle_block_1_{x}" for x in attentions]
    for side in ("input", "output"):
        for i in range(9):
            if side == "output" or i % 3:
                names += [f"{side}_blocks_{i}_0_{x}" for x in residual]
                names += [f"{side}_blocks_{i}_1_{x}" for x in attentions]
    names += ["input_blocks_3_0_op", "input_blocks_6_0_op", "output_blocks_2_2_conv", "output_blocks_5_2_conv"]
    state = {f"lora_unet_{name}.lora_down.weight": name for name in names}
    read = judge._maybe_map_sgm_blocks_to_diffusers(
        dict(state), SimpleNamespace(layers_per_block=settings["layers_per_block"])
    )
    assert len(read) == len(names)
    for key, name in read.items():
        there = judge._convert_unet_lora_key(key).replace(".processor.", ".")
        flat = re.sub(r"[._]lora\.down\.weight$", "", there).replace(".", "_")
        assert renamed(name, settings["layers_per_block"]) == (f"{flat}_0" if flat.endswith("_to_out") else flat)
    known = sum(renamed(name, settings["layers_per_block"]) in unet._names for name in names)
    assert known > len(names) / 2, "most of these are layers of the model; a pruned one lacks some"


@pytest.fixture(scope="module")
def true_unets(torch: Any) -> dict[str, Any]:
    """UNets of true shapes without weights, by their folder in CONFIGS."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return {
            name: UNet2DConditionModel.from_config(json.loads((CONFIGS / name / "unet" / "config.json").read_text()))
            for name in ("sdxl", "ssd-1b", "segmind-vega")
        }


@pytest.mark.parametrize("spelling", ["kohya", "kohya-diffusers", "peft", "diffusers"])
def test_every_layer_of_sdxl_is_found_in_every_spelling(
    spelling: str, true_unets: dict[str, Any], fusing: Any, tmp_path: Path
) -> None:
    file = tiny.lora(tmp_path / "sdxl.safetensors", spelling, true=True)
    matched = {}
    for name, unet in true_unets.items():
        (fit,) = fusing.Dressed(unet, "unet").wear([(file, 0.0)]).fits
        assert fit.layers == 722
        matched[name] = fit.matched
    assert matched["sdxl"] == 722 > matched["ssd-1b"] > matched["segmind-vega"] > 0


@pytest.mark.parametrize("spelling", ["kohya", "peft", "diffusers"])
@pytest.mark.parametrize(
    ("kind", "name"), [("sd1", "SD 1.x (cross-attention 768)"), ("sd2", "SD 2.x (cross-attention 1024)")]
)
def test_both_architectures_are_named_for_sdxl(
    spelling: str, kind: str, name: str, true_unets: dict[str, Any], fusing: Any, tmp_path: Path
) -> None:
    file = tiny.lora(tmp_path / "old.safetensors", spelling, architecture=kind)
    with pytest.raises(LoadError) as told:
        fusing.Dressed(true_unets["sdxl"], "unet").wear([(file, 1.0)])
    assert told.value.message == f"LoRA old.safetensors is for {name}; the model is SDXL (2048)"


KINDS = {
    "dora_scale": "DoRA",
    "lokr_w1": "LoKr",
    "hada_w1_a": "LoHa",
    "lora_mid.weight": "LoCon in Tucker form",
    "diff": "whole differences",
    "oft_blocks": "OFT",
    "surprise": r"\(lora_unet_conv_in\.surprise\)",
}


@pytest.mark.parametrize("tensor", KINDS)
def test_other_kinds_are_refused_by_name(tensor: str, pipe: Any, unet: Any, torch: Any, tmp_path: Path) -> None:
    file = save({**kohya(lora(pipe)), f"lora_unet_conv_in.{tensor}": torch.ones(2, 2)}, tmp_path / "kind.safetensors")
    with pytest.raises(LoadError, match=f"another kind.*{KINDS[tensor]}"):
        unet.wear([(file, 1.0)])


def test_what_is_no_lora_is_one_line(pipe: Any, unet: Any, torch: Any, tmp_path: Path) -> None:
    state = lora(pipe)
    one = next(iter(state))
    odd = {
        "no LoRA": save({"nothing": torch.ones(2)}, tmp_path / "0.safetensors"),
        "incomplete at": save({k: v for k, v in state.items() if k != one}, tmp_path / "1.safetensors"),
        "damaged at": save({**state, one: torch.ones(0, 64)}, tmp_path / "2.safetensors"),
        "alpha that is a number": save(
            state, tmp_path / "3.safetensors", lora_adapter_metadata='{"unet.lora_alpha": "x"}'
        ),
        "metadata can't be read": save(state, tmp_path / "4.safetensors", lora_adapter_metadata="[1"),
        "DoRA": save(state, tmp_path / "5.safetensors", lora_adapter_metadata='{"unet.use_dora": true}'),
        "cut short": tmp_path / "6.safetensors",
        "can't be read": tmp_path / "missing.safetensors",
        "a pickle": tmp_path / "7.safetensors",
    }
    odd["cut short"].write_bytes(PIXEL.read_bytes()[:-100])
    odd["a pickle"].write_bytes(b"\x80\x02}q\x00." + b"\0" * 20)
    for what, file in odd.items():
        with pytest.raises(LoadError, match=what) as told:
            unet.wear([(file, 1.0)])
        assert "\n" not in told.value.message and told.value.hint
    assert unet.bare


def test_originals_may_be_kept_elsewhere_or_come_from_elsewhere(pipe: Any, unet: Any, torch: Any, fusing: Any) -> None:
    base = pipe.unet
    unet.wear([(PIXEL, 0.5)])
    assert 0 < unet.bytes <= sum(p.nbytes for p in base.parameters())
    given = fusing.Dressed(copy.deepcopy(base), "unet", originals=lambda name: base.get_submodule(name).weight)
    given.wear([(PIXEL, 1.0)])
    given.wear([(PIXEL, 0.5)])
    assert given.bytes == 0 and same(weights((unet,)), weights((given,)))
    kept = fusing.Dressed(copy.deepcopy(base), "unet", keep=torch.device("cpu"))
    kept.wear([(PIXEL, 0.5)])
    kept.to("cpu")
    assert same(weights((unet,)), weights((kept,)))


def test_nothing_is_added_to_eight_bits(pipe: Any, torch: Any, fusing: Any) -> None:
    half = copy.deepcopy(pipe.unet).to(torch.bfloat16)
    stored = copy.deepcopy(half)
    stored.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    layers = {
        f"{k}.weight" for k, m in stored.named_modules() if getattr(getattr(m, "weight", None), "itemsize", 2) == 1
    }
    assert layers
    with pytest.raises(LoadError, match="in 8 bits"):
        fusing.Dressed(stored, "unet").wear([(PIXEL, 1.0)])
    before = {k: v.clone().view(torch.uint8) for k, v in stored.state_dict().items() if k in layers}
    dressed = fusing.Dressed(stored, "unet", originals=lambda name: half.get_submodule(name).weight)
    dressed.wear([(PIXEL, 1.0)])
    dressed.wear([(FOUR_STEPS, 0.5), (PIXEL, 1.0)])
    wanted = fusing.Dressed(copy.deepcopy(half), "unet")
    wanted.wear([(FOUR_STEPS, 0.5), (PIXEL, 1.0)])
    for name, value in wanted.module.state_dict().items():
        ours = stored.state_dict()[name]
        assert torch.equal(ours.float(), value.to(ours.dtype).float()), name
    dressed.wear([])
    assert all(torch.equal(v.view(torch.uint8), before[k]) for k, v in stored.state_dict().items() if k in layers)


def test_what_was_dressed_before_it_went_to_eight_bits_can_change(pipe: Any, torch: Any, fusing: Any) -> None:
    half = copy.deepcopy(pipe.unet).to(torch.bfloat16)
    dressed = fusing.Dressed(half, "unet")
    dressed.wear([(PIXEL, 1.0)])
    half.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    for weight in (0.5, 0.0, -1.0):
        dressed.wear([(PIXEL, weight)])
        other = copy.deepcopy(pipe.unet).to(torch.bfloat16)
        fusing.Dressed(other, "unet").wear([(PIXEL, weight)])
        other.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
        assert all(
            torch.equal(a.float(), b.float()) for a, b in zip(half.parameters(), other.parameters(), strict=True)
        )


def test_what_was_held_can_change_in_eight_bits_and_nothing_becomes_nan(pipe: Any, torch: Any, fusing: Any) -> None:
    half = copy.deepcopy(pipe.unet).to(torch.float16)
    dressed = fusing.Dressed(half, "unet")
    dressed.wear([(PIXEL, 0.0)])
    assert dressed.bytes == 0
    dressed.hold([(PIXEL, 0.0)])
    assert dressed.bytes > 0 and dressed.bare
    half.enable_layerwise_casting(torch.float8_e4m3fn, torch.float16)
    before = [p.clone() for p in half.parameters()]
    dressed.wear([(PIXEL, 10000.0)])
    assert not dressed.bare and all(bool(p.float().isfinite().all()) for p in half.parameters())
    dressed.wear([])
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(half.parameters(), before, strict=True))


def test_how_weights_lie_in_memory_makes_no_difference(pipe: Any, unet: Any, torch: Any, fusing: Any) -> None:
    unet.wear([(PIXEL, 0.7)])
    other = fusing.Dressed(copy.deepcopy(pipe.unet).to(memory_format=torch.channels_last), "unet")
    other.wear([(PIXEL, 0.7)])
    assert same(weights((unet,)), weights((other,)))
    assert other.module.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_it_works_within_inference_mode(parts: tuple[Any, ...], fusing: Any, torch: Any) -> None:
    bare = weights(parts)
    with torch.inference_mode():
        fusing.dress(parts, [(PIXEL, 1.0)])
    fusing.dress(parts, [])
    assert same(weights(parts), bare)
