"""Networks that enlarge: the true names, what is read and what is refused, and how far they see."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import upscalers
from safetensors.torch import save_file
from torch.nn import functional

from engines import catalogue, identify, kinds, proposing
from engines.diffusion import nets
from engines.diffusion.nets import Net, RRDBNet, SRVGGNetCompact
from engines.entries import Local
from engines.errors import LoadError

MINI = Path(nets.__file__).parent.parent / "mini" / "upscaler" / "mini_x4.safetensors"


def shapes_of(net: Net) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The least that has those shapes."""
    return {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}


# ── names and shapes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("blocks", "into", "scale"), [(23, 3, 4), (6, 3, 4), (23, 12, 2), (23, 48, 1)])
def test_rrdbnet_has_the_released_names(blocks: int, into: int, scale: int) -> None:
    """RealESRGAN_x4plus (702 tensors, 16.7 million numbers), its anime_6B, its x2plus, and a factor of one."""
    wanted = upscalers.rrdb_shapes(blocks, into=into)
    net = nets.build(filled(wanted))
    assert shapes_of(net) == wanted
    assert isinstance(net, RRDBNet)
    assert (net.scale, net.align, net.colours, net.features, net.growth) == (scale, 4 // scale, 3, 64, 32)
    if (blocks, into) == (23, 3):
        assert len(wanted) == 702
        assert sum(tensor.numel() for tensor in net.state_dict().values()) == 16_697_987


@pytest.mark.parametrize(("convs", "numbers"), [(32, 1_213_296), (16, 621_424)])
def test_compact_has_the_released_names(convs: int, numbers: int) -> None:
    """realesr-general-x4v3 (4.9 MB) and realesr-animevideov3 (2.5 MB)."""
    wanted = upscalers.compact_shapes(convs)
    net = nets.build(filled(wanted))
    assert shapes_of(net) == wanted
    assert isinstance(net, SRVGGNetCompact) and net.scale == 4
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == numbers


@pytest.mark.parametrize(
    "shapes",
    [
        {f"body.{i}.rdb1.conv1.weight": (1, 1, 3, 3) for i in range(5000)}
        | {"conv_first.weight": (1, 3, 3, 3), "conv_last.weight": (3, 1, 3, 3)},
        {
            "conv_first.weight": (10**6, 3, 1, 1),
            "body.0.rdb1.conv1.weight": (1, 1, 3, 3),
            "conv_last.weight": (3, 1, 3, 3),
        },
        {"body.0.weight": (1, 3, 3, 3), "body.1.weight": (1,), "body.9998.weight": (48, 1, 3, 3)},
    ],
)
def test_what_a_header_makes_up_is_not_built(
    shapes: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets.nn, "Conv2d", lambda *a, **k: pytest.fail("a layer was built"))
    with pytest.raises(LoadError, match="tells of"):
        nets.build(filled(shapes))


@pytest.mark.parametrize("spell", [lambda state: upscalers.first_spelling(state, 2), upscalers.second_spelling])
def test_older_spellings(spell: Callable[[Any], Any]) -> None:
    net = upscalers.rrdb(blocks=2)
    spelled = spell(net.state_dict())
    assert "conv_hr.weight" not in spelled and len(spelled) == len(net.state_dict())
    again = nets.build(spelled)
    picture = torch.rand(1, 3, 9, 7)
    assert torch.equal(again(picture), net(picture))


@pytest.mark.parametrize("ups", [0, 1, 3])
def test_first_spelling_of_other_factors(ups: int) -> None:
    """The community's, where the last layers have other numbers."""
    net = RRDBNet(3, 4, 2, 1, ups, 1)
    names = {f"conv_up{i}": f"model.{3 * i}" for i in range(1, ups + 1)}
    names |= {"conv_hr": f"model.{3 * ups + 2}", "conv_last": f"model.{3 * ups + 4}"}
    spelled = upscalers.first_spelling({k: v for k, v in net.state_dict().items() if k.split(".")[0] not in names}, 1)
    for name, other in names.items():
        for kind in ("weight", "bias"):
            spelled[f"{other}.{kind}"] = net.state_dict()[f"{name}.{kind}"]
    assert nets.build(spelled).scale == 2**ups


def test_embedded() -> None:
    net = nets.load(MINI)
    assert isinstance(net, SRVGGNetCompact)
    assert (net.scale, net.features, net.radius) == (4, 48, 12)
    assert net.body[0].weight.dtype == torch.float32


# ── what is computed ────────────────────────────────────────────────────────────────────────────────────────────────


def test_rrdbnet_computes_what_the_paper_says() -> None:
    """Written out once more, layer by layer, from figure 4 of arXiv:1809.00219."""
    net = upscalers.rrdb(blocks=2, fold=2)
    state = net.state_dict()

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def active(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    picture = torch.rand(1, 3, 12, 10)
    folded = picture.reshape(1, 3, 6, 2, 5, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 12, 6, 5)
    first = x = conv("conv_first", folded)
    for i in range(2):
        block = x
        for j in (1, 2, 3):
            seen = x
            for k in (1, 2, 3, 4):
                seen = torch.cat((seen, active(conv(f"body.{i}.rdb{j}.conv{k}", seen))), 1)
            x = x + 0.2 * conv(f"body.{i}.rdb{j}.conv5", seen)
        x = block + 0.2 * x
    x = first + conv("conv_body", x)
    for i in (1, 2):
        x = active(conv(f"conv_up{i}", x.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    x = conv("conv_last", active(conv("conv_hr", x)))
    assert x.shape == (1, 3, 24, 20)
    torch.testing.assert_close(net(picture), x, atol=1e-5, rtol=1e-4)


def test_compact_computes_what_it_should() -> None:
    net = upscalers.compact(convs=1, scale=2)
    state = net.state_dict()
    x = picture = torch.rand(1, 3, 5, 4)
    for i in (0, 2, 4):
        x = functional.conv2d(x, state[f"body.{i}.weight"], state[f"body.{i}.bias"], padding=1)
        if i < 4:
            x = torch.where(x > 0, x, state[f"body.{i + 1}.weight"][:, None, None] * x)
    unfolded = x.reshape(1, 3, 2, 2, 5, 4).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 10, 8)
    wanted = unfolded + picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(net(picture), wanted)


def test_sides_that_dont_fit() -> None:
    net = upscalers.rrdb(fold=2)
    with pytest.raises(ValueError, match="multiples of 2"):
        net(torch.zeros(1, 3, 7, 8))


# ── how far they see ────────────────────────────────────────────────────────────────────────────────────────────────


def measured(net: Net, vertical: bool = False) -> int:
    """The farthest that a change of one pixel is felt, in input pixels, over all places in a fold.

    All weights are one positive number, so that nothing cancels and no slope is zero, and the picture is black but for
    that pixel, so that nothing is lost beside larger numbers. With a half, what arrives stays within fp64's range.
    """
    net = net.double()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.fill_(0 if name.endswith("bias") else 0.5)
    farthest = 0
    for place in range(net.align):
        lit = net.radius + 2 * net.align
        lit += place - lit % net.align
        length = -(-(2 * lit + 2 * net.align) // net.align) * net.align
        picture = torch.zeros(1, 3, net.align, length, dtype=torch.float64)
        picture[..., lit] = 1
        with torch.inference_mode():
            made = net(picture.transpose(2, 3)).transpose(2, 3) if vertical else net(picture)
        assert torch.isfinite(made).all()
        felt = torch.nonzero(made[0].abs().amax((0, 1))).flatten() // net.scale
        assert felt.min() > 0 and felt.max() < length - 1
        farthest = max(farthest, lit - int(felt.min()), int(felt.max()) - lit)
    return farthest


@pytest.mark.parametrize(
    ("net", "radius"),
    [
        (RRDBNet(3, 2, 1, 23, 2, 1), 349),  # RealESRGAN_x4plus
        (RRDBNet(3, 2, 1, 23, 2, 2), 698),  # x2plus
        (RRDBNet(3, 2, 1, 6, 2, 1), 94),  # anime_6B
        (RRDBNet(3, 2, 1, 1, 2, 4), 76),
        (RRDBNet(3, 2, 1, 1, 3, 1), 19),
        (RRDBNet(3, 2, 1, 1, 1, 1), 19),
        (RRDBNet(3, 2, 1, 1, 0, 1), 19),
        (SRVGGNetCompact(3, 2, 32, 4), 34),  # realesr-general-x4v3
        (SRVGGNetCompact(3, 2, 16, 4), 18),
        (SRVGGNetCompact(3, 2, 8, 2), 10),
    ],
)
def test_radius(net: Net, radius: int) -> None:
    assert net.radius == radius
    assert measured(net) == radius


def test_radius_is_the_same_down() -> None:
    assert measured(RRDBNet(3, 2, 1, 2, 2, 2), vertical=True) == RRDBNet(3, 2, 1, 2, 2, 2).radius


def test_alive_grows_with_the_layers() -> None:
    """The figures of the released networks by hand; memory is measured in test_upscaling.py."""
    assert nets.build(filled(upscalers.rrdb_shapes())).alive == (16 + 16 + 4) * 64 + 3
    assert nets.build(filled(upscalers.rrdb_shapes(into=12))).alive == (16 + 16 + 4) * 64 // 4 + 3
    assert nets.build(filled(upscalers.compact_shapes())).alive == 2 * 64 + 3


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrapped", ["", "params", "params_ema"])
def test_pickled(tmp_path: Path, wrapped: str) -> None:
    net = upscalers.compact(3)
    digest = upscalers.saved(net, tmp_path / "a.pth", wrapped)
    again = nets.load(tmp_path / "a.pth", digest.upper())
    picture = torch.rand(1, 3, 6, 5)
    assert torch.equal(again(picture), net(picture))
    assert not again.training and not any(weight.requires_grad for weight in again.parameters())


def test_averaged_weights_go_first(tmp_path: Path) -> None:
    """Files of a training have both."""
    plain, averaged = upscalers.compact(1), upscalers.compact(2)
    file = tmp_path / "a.pth"
    torch.save({"params": plain.state_dict(), "params_ema": averaged.state_dict()}, file)
    again = nets.load(file, hashlib.sha256(file.read_bytes()).hexdigest())
    assert torch.equal(again.state_dict()["body.0.weight"], averaged.state_dict()["body.0.weight"])


def test_safetensors(tmp_path: Path) -> None:
    net = upscalers.rrdb(blocks=2, fold=2)
    digest = upscalers.saved(net, tmp_path / "a.safetensors")
    for sha256 in ("", digest):
        assert shapes_of(nets.load(tmp_path / "a.safetensors", sha256)) == shapes_of(net)
    with pytest.raises(LoadError, match="not the file that is meant"):
        nets.load(tmp_path / "a.safetensors", "0" * 64)


def test_pickled_without_a_hash_or_with_another(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    digest = upscalers.saved(upscalers.compact(), file)
    with pytest.raises(LoadError, match="sha256"):
        nets.load(file)
    with pytest.raises(LoadError, match=f"sha256 is {digest[:16]}"):
        nets.load(file, "f" * 64)


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("sprung"),))


def test_a_pickle_that_would_run_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.pth"
    torch.save({"params": {"x": _Trap()}}, file)
    with pytest.raises(LoadError, match=r"holds more than weights \(getattr\); it was not run"):
        nets.load(file, hashlib.sha256(file.read_bytes()).hexdigest())
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", b"\x80\x02", pickle.dumps([1, 2]), b"PK\x03\x04" + bytes(100), b"<html>"],
    ids=["empty", "text", "cut", "list", "zip", "page"],
)
def test_damaged_pickles(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.pth"
    file.write_bytes(content)
    with pytest.raises(LoadError) as told:
        nets.load(file, hashlib.sha256(content).hexdigest())
    assert "a.pth" in told.value.message and "\n" not in told.value.message and told.value.hint


def test_cut_short(tmp_path: Path) -> None:
    for name in ("a.pth", "a.safetensors"):
        file = tmp_path / name
        upscalers.saved(upscalers.compact(), file)
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(LoadError, match=name):
            nets.load(file, hashlib.sha256(file.read_bytes()).hexdigest())


def test_missing(tmp_path: Path) -> None:
    for name in ("a.pth", "a.safetensors"):
        with pytest.raises(LoadError, match="can't be read"):
            nets.load(tmp_path / name, "0" * 64)


def without(state: dict[str, torch.Tensor], *keys: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in state.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: without(s, "body.0.rdb2.conv3.bias"), "lacks body.0.rdb2.conv3.bias"),
        (lambda s: without(s, "conv_last.weight"), "no upscaler of a known architecture"),
        (lambda s: without(s, "conv_first.weight"), "no upscaler of a known architecture"),
        (
            lambda s: s | {"body.0.rdb1.conv1x1.weight": torch.ones(1)},
            "has, as no such network does, body.0.rdb1.conv1x1",
        ),
        (lambda s: s | {"body.7.rdb1.conv1.bias": s["conv_hr.bias"]}, "lacks body.1.rdb1.conv1.bias and 29 more"),
        (lambda s: s | {"conv_body.weight": torch.ones(6, 6, 1, 1)}, "conv_body.weight is 6×6×1×1, not 6×6×3×3"),
        (lambda s: s | {"conv_first.weight": torch.ones(6, 5, 3, 3)}, "from 5 channels to 3"),
        (lambda s: s | {"conv_first.weight": torch.ones(())}, "no upscaler of a known architecture"),
        (lambda s: s | {"conv_hr.bias": torch.full((6,), torch.nan)}, "conv_hr.bias has numbers that are not finite"),
        (lambda s: s | {"conv_hr.bias": torch.ones(6, dtype=torch.int64)}, "conv_hr.bias has numbers that"),
        (lambda s: {}, "no upscaler of a known architecture"),
        (
            lambda s: {"model.0.weight": s["conv_hr.bias"], "model.1.sub.0.x": s["conv_hr.bias"]},
            "no upscaler of a known",
        ),
    ],
)
def test_weights_that_dont_fit(change: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(LoadError) as error:
        nets.build(change(upscalers.rrdb().state_dict()), "x.pth")
    assert told in error.value.message and "x.pth" in error.value.message and "\n" not in error.value.message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: without(s, "body.1.weight", "body.3.weight", "body.5.weight"), "no upscaler of a known"),
        (lambda s: without(s, "body.2.weight"), "lacks body.2.weight"),
        (lambda s: s | {"body.6.weight": torch.ones(50, 6, 3, 3)}, "body.6.weight is 50×6×3×3, not 48×6×3×3"),
        (lambda s: s | {"body.9999.weight": torch.ones(6)}, "no upscaler of a known"),
        (lambda s: s | {"body.0.weight": torch.ones(6, 2, 3, 3)}, "no upscaler of a known"),
    ],
)
def test_compact_weights_that_dont_fit(change: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(LoadError) as error:
        nets.build(change(upscalers.compact().state_dict()))
    assert told in error.value.message


# ── between two networks ────────────────────────────────────────────────────────────────────────────────────────────


def test_pair(tmp_path: Path) -> None:
    """At 1 the denoiser, at 0 its companion, and between them what lies between their weights."""
    strong, weak = upscalers.compact(1), upscalers.compact(2)
    files = tmp_path / "realesr-general-x4v3.pth", tmp_path / "realesr-general-wdn-x4v3.pth"
    digests = upscalers.saved(strong, files[0], "params"), upscalers.saved(weak, files[1], "params")
    for denoise in (0.0, 0.25, 1.0):
        state = nets.load_pair(*files, denoise, digests).state_dict()
        for name, first in strong.state_dict().items():
            second = weak.state_dict()[name]
            torch.testing.assert_close(state[name], denoise * first + (1 - denoise) * second, atol=1e-6, rtol=1e-6)
    assert torch.equal(nets.load_pair(*files, 1, digests).state_dict()["body.0.weight"], strong.body[0].weight)
    assert torch.equal(nets.load_pair(*files, 0, digests).state_dict()["body.0.weight"], weak.body[0].weight)
    with pytest.raises(LoadError, match="sha256"):
        nets.load_pair(*files, 0.5)
    with pytest.raises(ValueError, match="0 to 1"):
        nets.load_pair(*files, 1.1, digests)


def test_no_pair() -> None:
    with pytest.raises(LoadError, match="different shapes"):
        nets.interpolate(upscalers.compact(convs=1).state_dict(), upscalers.compact(convs=2).state_dict(), 0.5)


@pytest.mark.parametrize("spelling", ["rrdb x4", "rrdb x2", "rrdb x1", "first", "second", "compact x4", "compact x2"])
def test_a_file_of_ones_own_becomes_an_entry_without_its_weights_being_read(spelling: str, tmp_path: Path) -> None:
    kind, _, scale = spelling.partition(" ")
    if kind == "compact":
        shapes = upscalers.compact_shapes(2, 4, int(scale[1:]))
    else:
        shapes = upscalers.rrdb_shapes(2, 4, 2, {"x2": 12, "x1": 48}.get(scale, 3))
    state = {name: torch.full(shape, 0.01) for name, shape in shapes.items()}
    if kind in ("first", "second"):
        state = upscalers.first_spelling(state, 2) if kind == "first" else upscalers.second_spelling(state)
    file = tmp_path / "4x-Own.safetensors"
    save_file(state, file)
    found = identify.path(file)
    assert (found.kind, found.supported, found.scale) == ("upscaler", True, nets.load(file).scale)
    (tmp_path / "models.toml").write_text(proposing.entry(found, proposing.Place(file)))
    entry = catalogue.load(tmp_path / "models.toml").require_upscaler("4x-own")
    assert entry.scale == found.scale and entry.source == Local(file)


def test_an_upscaler_whose_layers_do_not_tell_its_scale_is_refused(tmp_path: Path) -> None:
    shapes = upscalers.compact_shapes(2, 4, 4)
    last = max(shapes, key=lambda name: int(name.split(".")[1]))
    shapes[f"{last.rpartition('.')[0]}.weight"] = (47, 4, 3, 3)
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "odd.safetensors")
    found = identify.path(tmp_path / "odd.safetensors")
    assert (found.kind, found.supported) == ("upscaler", False) and "don't tell how much" in found.why_not


@pytest.mark.parametrize("name", ["body.05.weight", "body.3.weight", "body.٣.weight"])
def test_a_crafted_header_is_no_crash(name: str) -> None:
    shapes = {"body.0.weight": (4, 3, 3, 3), "body.1.weight": (4,), name: ()}
    assert kinds.of(shapes).kind == "upscaler" and kinds.of(shapes).scale in (0, 1)
