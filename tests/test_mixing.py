"""Models mixed in memory: the same as in a file, in place, and nothing else touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from engines import blocks
from engines.blocks import Formula
from engines.diffusion import merging, mixing
from engines.errors import InvalidRequest, LoadError, Stopped

SDXL: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "attention_head_dim": [1, 2, 2],
    "block_out_channels": [4, 8, 8],
    "cross_attention_dim": 6,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 2,
    "norm_num_groups": 2,
    "projection_class_embeddings_input_dim": 12,
    "transformer_layers_per_block": [1, 2, 3],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
"SDXL's UNet, narrow."
MINI = SDXL | {"layers_per_block": 1}
ALL = Formula("weighted-sum", (1, 1), tuple((block, i / 24) for i, block in enumerate(blocks.NAMES)))


def unet(seed: int, config: dict[str, Any] = SDXL, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(seed)
    return UNet2DConditionModel.from_config(config).to(dtype).requires_grad_(False)


class Layers(torch.nn.Module):
    """A text encoder, as far as a mix is concerned."""

    def __init__(self, seed: int, **sizes: tuple[int, ...]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, size in ({"one": (3, 4), "two": (5,), "scale": ()} | sizes).items():
            self.register_parameter(name, torch.nn.Parameter(torch.randn(size, generator=generator)))
        self.register_buffer("positions", torch.arange(5) + seed)


class Counting(Mapping[str, torch.Tensor]):
    """Tensors that are there only when they are asked for."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        self.asked.append(name)
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@pytest.mark.parametrize("config", [SDXL, MINI])
def test_a_unet_is_mixed_in_memory_as_in_a_file(tmp_path: Path, config: dict[str, Any]) -> None:
    models = [unet(seed, config, torch.float16) for seed in (1, 2)]
    before = [{name: x.clone() for name, x in model.state_dict().items()} for model in models]
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, tensors in zip(files, before, strict=True):
        save_file(tensors, path)
    for _ in merging.to_file(files, ALL, tmp_path / "out.safetensors"):
        pass
    places = {name: x.data_ptr() for name, x in models[0].state_dict().items()}
    tally = mixing.mix(models[0], "unet", [models[1]], ALL)

    expected, made = load_file(tmp_path / "out.safetensors"), models[0].state_dict()
    assert tally == mixing.Tally(mixed=len(made), copied=0, kept=0, dropped=0)
    assert all(torch.equal(made[name], expected[name]) for name in expected)
    assert places == {name: x.data_ptr() for name, x in made.items()}
    assert all(torch.equal(x, before[1][name]) for name, x in models[1].state_dict().items())
    shares, layers = dict(ALL.blocks), config["layers_per_block"]
    for name, tensor in made.items():
        share = shares[blocks.of(name, "unet", layers)]
        exact = (1 - share) * before[0][name].double() + share * before[1][name].double()
        torch.testing.assert_close(tensor.double(), exact, rtol=1e-3, atol=1e-4)


def test_a_difference_is_added_in_memory() -> None:
    a, b, c = (Layers(seed) for seed in range(3))
    expected = a.one + 0.5 * (b.one - c.one)
    mixing.mix(a, "text_encoder", [b, c], Formula("add-difference", (1, 0.5, 1)))
    torch.testing.assert_close(a.one, expected)


def test_what_has_no_share_is_not_asked_for() -> None:
    module, other = Layers(0), Counting(dict(Layers(1).state_dict()))
    kept = module.two.clone()
    assert mixing.mix(module, "vae", [other], Formula("weighted-sum", (1, 1), (("vae", 0.0),))).mixed == 3
    assert other.asked == [] and torch.equal(module.two, kept)
    tally = mixing.mix(module, "vae", [other], Formula("weighted-sum", (0, 1)))
    assert sorted(other.asked) == ["one", "scale", "two"] and torch.equal(module.two, other.tensors["two"])
    assert tally.copied == 1 and torch.equal(module.positions, torch.arange(5))


def test_other_types_and_layouts_in_memory_are_mixed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "PIECE", 9)
    module = torch.nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last).requires_grad_(False)
    other = {name: torch.randn(x.shape).to(torch.bfloat16) for name, x in module.state_dict().items()}
    expected = {name: 0.75 * x + 0.25 * other[name].float() for name, x in module.state_dict().items()}
    mixing.mix(module, "vae", [other], Formula("weighted-sum", (3, 1)))
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(module.weight, torch.nn.Parameter(expected["weight"], requires_grad=False))
    torch.testing.assert_close(module.bias.data, expected["bias"])


def test_weights_that_are_shared_are_mixed_once() -> None:
    module, other = (torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False) for _ in range(2)]) for _ in range(2))
    for layers in (module, other):
        layers[1].weight = layers[0].weight
    expected = 0.5 * (module[0].weight + other[0].weight)
    assert mixing.mix(module, "text_encoder", [other], Formula("weighted-sum", (1, 1))).mixed == 1
    torch.testing.assert_close(module[1].weight, expected)


def test_what_only_one_model_has_in_memory_is_told() -> None:
    other = dict(Layers(1).state_dict()) | {"more": torch.ones(2)}
    del other["two"]
    tally = mixing.mix(Layers(0), "text_encoder", [other], Formula("weighted-sum", (1, 1)))
    assert tally == mixing.Tally(mixed=2, copied=1, kept=1, dropped=1) and len(tally.notes) == 2


def test_what_does_not_fit_in_memory_is_refused() -> None:
    halves = Formula("weighted-sum", (1, 1))
    pruned = SDXL | {"transformer_layers_per_block": [1, 2, 2]}
    for first, second in ((SDXL, pruned), (pruned, SDXL)):
        with pytest.raises(LoadError, match="model 2 is of another architecture"):
            mixing.mix(unet(0, first), "unet", [unet(1, second)], halves)
    with pytest.raises(LoadError, match="one is 3x4 in the first model and 3x5 in model 2"):
        mixing.mix(Layers(0), "vae", [Layers(1, one=(3, 5))], halves)
    with pytest.raises(LoadError, match="scale is one number in the first model and 1 in model 2"):
        mixing.mix(Layers(0), "vae", [Layers(1, scale=(1,))], halves)
    broken = Layers(1)
    broken.two.data[2] = float("-inf")
    with pytest.raises(LoadError, match="two of the mix has numbers that are not finite"):
        mixing.mix(Layers(0), "vae", [broken], halves)
    with pytest.raises(InvalidRequest, match="3 models have 2 weights"):
        mixing.mix(Layers(0), "vae", [Layers(1), Layers(2)], halves)
    with pytest.raises(Stopped):
        mixing.mix(Layers(0), "vae", [Layers(1)], halves, stop=lambda: True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_one_broken_number_among_many_is_found(bad: float, dtype: torch.dtype) -> None:
    numbers = torch.linspace(-2, 2, 1001).to(dtype)
    mixing.check_finite("x", numbers)
    numbers[500] = bad
    with pytest.raises(LoadError):
        mixing.check_finite("x", numbers)


def test_results_and_block_names_are_those_of_sd_mecha(tmp_path: Path) -> None:
    """Runs where sd-mecha is installed (pip install sd-mecha); its SDXL layout with two numbers a side."""
    sd_mecha = pytest.importorskip("sd_mecha")
    from sd_mecha.extensions import model_configs
    from tqdm import tqdm

    class Quiet(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})

    keys = model_configs.resolve("sdxl-sgm").keys()
    names = list(model_configs.resolve("sdxl-supermerger_blocks").keys())
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in paths:
        tensors = {name: torch.randn([min(2, side) for side in meta.shape]).half() for name, meta in keys.items()}
        save_file(
            tensors | {name: torch.arange(2)[None] for name in keys if "position_ids" in name}, path, {"format": "pt"}
        )
    shares = {name: i / 21 for i, name in enumerate(names)}

    def compare(formula: Formula, recipe: Any) -> None:
        theirs = sd_mecha.merge(recipe, output_dtype=torch.float16, threads=0, tqdm=Quiet)
        for _ in merging.to_file(paths[: len(formula.weights)], formula, tmp_path / "out.safetensors", overwrite=True):
            pass
        made = load_file(tmp_path / "out.safetensors")
        assert len(made) == len(keys) and not [x for x in made if not torch.equal(made[x], theirs[x].to(made[x].dtype))]

    a, b, c = (sd_mecha.model(path) for path in paths)
    literal = sd_mecha.model({name: torch.tensor(x) for name, x in shares.items()}, "sdxl-supermerger_blocks", "param")
    each = sd_mecha.convert(literal, "sdxl-sgm")
    own = tuple(shares.items())
    compare(Formula("weighted-sum", (1, 1), own), sd_mecha.weighted_sum(a, b, alpha=each))
    compare(Formula("weighted-sum", (1, 1, 1)), sd_mecha.n_average(a, b, c))
    compare(Formula("add-difference", (1, 1, 1), own), sd_mecha.add_difference(a, b, c, alpha=each))
