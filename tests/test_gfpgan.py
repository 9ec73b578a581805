"""GFPGAN's net: its names and shapes, its arithmetic, and the files that it is read from.

The released file is not here. What is known of it is checked: the names and shapes of its tensors, its size in bytes,
and numbers that its authors' implementation gives for weights that are made by a formula.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engines.diffusion import gfpgan
from engines.diffusion.gfpgan import FULL, Gfpgan, Modulated, Shape
from engines.errors import LoadError

TINY = Shape((8, 8, 8, 8), (16, 16, 16, 16), style=16, mapping=8, modulated=(8, 8, 8))
"A net of 32 px: the released one's proportions with 1/32 of its channels."
FIRST = (-0.3523275554, 0.0140729547, 0.6748328805)
"RGB in column 7 of row 5 of the first picture."
SECOND = (-0.4216202497, -0.2080280781, 0.5091222525)
"RGB in column 0 of row 31 of the second picture."
UNEVEN = Shape((6, 8, 4), (12, 16, 8), style=10, mapping=2, modulated=(8, 3))


def filled(net: Gfpgan) -> Gfpgan:
    """The net with weights that anybody can make again."""
    made = {}
    for i, (key, value) in enumerate(sorted(net.state_dict().items())):
        n = torch.arange(value.numel(), dtype=torch.float64)
        x = (torch.sin(12.9898 * n + 78.233 * i) * 43758.5453).frac()
        fan = value[0].numel() if value.shape[0] != 1 else value.numel()
        x = x * (0.3 if value.ndim < 2 or "noise" in key else (2 / fan) ** 0.5)
        made[key] = (x + key.endswith("modulation.bias")).view(value.shape).float()
    net.load_state_dict(made)
    return net.eval().requires_grad_(False)


@pytest.fixture
def tiny() -> Gfpgan:
    return filled(Gfpgan(TINY))


def face(side: int, batch: int = 1) -> torch.Tensor:
    n = torch.arange(batch * 3 * side * side, dtype=torch.float64)
    return torch.sin(n * 0.11).view(batch, 3, side, side).float()


def written(folder: Path, net: Gfpgan, wrapper: str | None = "params_ema") -> tuple[Path, str]:
    """The net as the project's releases are written, and the file's sha256."""
    path = folder / "GFPGANv1.4.pth"
    torch.save(net.state_dict() if wrapper is None else {wrapper: net.state_dict()}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


# ── names, shapes, arithmetic ───────────────────────────────────────────────────────────────────────────────────────


def released() -> dict[str, tuple[int, ...]]:
    """Names and shapes of GFPGANv1.4.pth, written out from its authors' configuration: 512 px, 512 numbers of style, a
    channel multiplier of 2, a latent code for every layer, and half of the channels modulated."""
    narrow = [256, 256, 256, 256, 256, 128, 64, 32]  # 4 … 512 px
    wide = [512, 512, 512, 512, 512, 256, 128, 64]
    made: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        made[f"{name}.weight"] = shape
        if bias:
            made[f"{name}.bias"] = shape[:1]

    def block(name: str, a: int, b: int) -> None:
        layer(f"{name}.conv1", a, a, 3, 3)
        layer(f"{name}.conv2", b, a, 3, 3)
        layer(f"{name}.skip", b, a, 1, 1, bias=False)

    def modulated(name: str, a: int, b: int, side: int) -> None:
        made[f"{name}.modulated_conv.weight"] = (1, b, a, side, side)
        layer(f"{name}.modulated_conv.modulation", a, 512)
        made[f"{name}.bias"] = (1, b, 1, 1)
        if side == 3:
            made[f"{name}.weight"] = (1,)

    layer("conv_body_first", 32, 3, 1, 1)
    layer("final_conv", 256, 256, 3, 3)
    layer("final_linear", 16 * 512, 256 * 4 * 4)
    for i in range(7):
        block(f"conv_body_down.{i}", narrow[7 - i], narrow[6 - i])
        block(f"conv_body_up.{i}", narrow[i], narrow[i + 1])
        layer(f"toRGB.{i}", 3, narrow[i + 1], 1, 1)
        for what in ("scale", "shift"):
            layer(f"condition_{what}.{i}.0", narrow[i + 1], narrow[i + 1], 3, 3)
            layer(f"condition_{what}.{i}.2", wide[i + 1] // 2, narrow[i + 1], 3, 3)
    decoder = "stylegan_decoder"
    for i in range(1, 17, 2):
        layer(f"{decoder}.style_mlp.{i}", 512, 512)
    made[f"{decoder}.constant_input.weight"] = (1, 512, 4, 4)
    modulated(f"{decoder}.style_conv1", 512, 512, 3)
    modulated(f"{decoder}.to_rgb1", 512, 3, 1)
    for i in range(7):
        modulated(f"{decoder}.style_convs.{2 * i}", wide[i], wide[i + 1], 3)
        modulated(f"{decoder}.style_convs.{2 * i + 1}", wide[i + 1], wide[i + 1], 3)
        modulated(f"{decoder}.to_rgbs.{i}", wide[i + 1], 3, 1)
    for i, side in enumerate([4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512]):
        made[f"{decoder}.noises.noise{i}"] = (1, 1, side, side)
    return made


def test_names_and_shapes_are_those_of_the_released_file() -> None:
    with torch.device("meta"):
        net = Gfpgan(FULL)
    ours = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert ours == released()
    assert gfpgan.shape_of(ours, "it") == FULL and (FULL.side, FULL.latents) == (512, 16)
    # the released file has 348,632,874 bytes: the numbers, and some 200 bytes a tensor of names and zip entries
    rest = 348_632_874 - 4 * sum(value.numel() for value in net.state_dict().values())
    assert 150 < rest / len(ours) < 350


@pytest.mark.parametrize(
    ("key", "shape"),
    [("condition_scale.0.2.weight", (700, 256, 3, 3)), ("conv_body_first.weight", (10**6, 3, 1, 1))],
)
def test_layers_that_do_not_fit_each_other_are_refused(key: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(LoadError, match="layers don't fit each other"):
        gfpgan.shape_of({**released(), key: shape}, "it")


def test_it_computes_what_its_authors_implementation_computes(tiny: Gfpgan) -> None:
    """The numbers come from GFPGANv1Clean and StyleGAN2GeneratorCSFT of github.com/TencentARC/GFPGAN with the same
    weights, the same input and the stored noise."""
    made = tiny(face(32, batch=2))
    assert made.shape == (2, 3, 32, 32)
    torch.testing.assert_close(made[0, :, 5, 7], torch.tensor(FIRST), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made[1, :, 31, 0], torch.tensor(SECOND), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [TINY, UNEVEN])
def test_a_picture_does_not_depend_on_the_others_of_its_batch(shape: Shape) -> None:
    net = filled(Gfpgan(shape))
    faces = face(shape.side, batch=3)
    together, alone = net(faces), torch.cat([net(one) for one in faces.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_the_same_face_gives_the_same_face(tiny: Gfpgan) -> None:
    for name, weight in tiny.named_parameters():
        if weight.shape == (1,):
            weight.fill_(0.5)  # how much of the noise shows
            assert "style_conv" in name
    one = face(32)
    torch.manual_seed(1)
    stored, seeded = tiny(one), tiny(one, seed=7)
    torch.manual_seed(2)
    assert torch.equal(tiny(one), stored) and torch.equal(tiny(one, seed=7), seeded)
    assert not torch.equal(stored, seeded) and not torch.equal(seeded, tiny(one, seed=8))


def test_modulated_weights_have_unit_length() -> None:
    """Eqs. 1 and 3 of arXiv:1912.04958, one output channel after another."""
    torch.manual_seed(0)
    layer = Modulated(5, 4, 3, 6, demodulated=True)
    x, style = torch.randn(2, 5, 7, 7), torch.randn(2, 6)
    made = layer(x, style)
    for n in range(2):
        scales = layer.modulation(style[n])
        for channel in range(4):
            weight = layer.weight[0, channel] * scales[:, None, None]
            weight = weight / weight.norm()
            expected = torch.nn.functional.conv2d(x[n : n + 1], weight[None], padding=1)[0, 0]
            torch.testing.assert_close(made[n, channel], expected, rtol=1e-4, atol=1e-5)


def test_conditions_change_the_second_half_of_the_features_only(tiny: Gfpgan) -> None:
    decoder = tiny.stylegan_decoder
    seen: list[torch.Tensor] = []
    decoder.style_convs[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    torch.manual_seed(0)
    features, image, styles = torch.randn(1, 16, 4, 4), torch.randn(1, 3, 4, 4), torch.randn(1, 3, 16)
    noise = (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    plain = (torch.ones(1, 8, 8, 8), torch.zeros(1, 8, 8, 8))
    decoder.level(0, features, image, styles, plain, noise)
    decoder.level(0, features, image, styles, (plain[0] * 3, plain[0] * 2), noise)
    assert torch.equal(seen[0][:, :8], seen[1][:, :8])
    torch.testing.assert_close(seen[1][:, 8:], seen[0][:, 8:] * 3 + 2)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [TINY, UNEVEN])
@pytest.mark.parametrize("wrapper", ["params_ema", "params", None])
def test_files_in_the_true_spelling_are_read(tmp_path: Path, shape: Shape, wrapper: str | None) -> None:
    net = filled(Gfpgan(shape))
    pth, sha256 = written(tmp_path, net, wrapper)
    safe = tmp_path / "face.safetensors"
    save_file(net.state_dict(), safe)
    expected = net(face(shape.side))
    for loaded in (gfpgan.load(pth, sha256=sha256.upper()), gfpgan.load(safe)):
        assert loaded.shape == shape and not loaded.training
        assert not any(weight.requires_grad for weight in loaded.parameters())
        held = loaded.state_dict()
        assert list(held) == list(net.state_dict())
        assert all(torch.equal(held[key], value) for key, value in net.state_dict().items())
        # where in memory a weight begins changes the order of a sum
        torch.testing.assert_close(loaded(face(shape.side)), expected, rtol=1e-4, atol=1e-5)


def test_it_computes_in_bf16(tmp_path: Path, tiny: Gfpgan) -> None:
    pth, sha256 = written(tmp_path, tiny)
    net = gfpgan.load(pth, torch.bfloat16, sha256)
    made, expected = net(face(32).bfloat16()), tiny(face(32))
    assert made.dtype == torch.bfloat16
    assert (made - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_a_pickle_is_opened_only_if_it_is_the_pinned_one(tmp_path: Path, tiny: Gfpgan) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (marker,)

    path = tmp_path / "evil.pth"
    torch.save({"params_ema": Evil()}, path)
    with pytest.raises(LoadError, match="what sha256 it should have is not known"):
        gfpgan.load(path)
    with pytest.raises(LoadError, match=r"not the file that is meant: its sha256 is .{16}…"):
        gfpgan.load(path, sha256=gfpgan.RELEASED)
    with pytest.raises(LoadError, match="holds more than weights"):
        gfpgan.load(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert not marker.exists()


def test_other_files_are_refused_in_one_line(tmp_path: Path, tiny: Gfpgan) -> None:
    state = tiny.state_dict()
    constant = "stylegan_decoder.constant_input.weight"
    nan = state["final_conv.weight"].clone()
    nan[0, 0, 0, 0] = float("nan")
    broken = {
        "it lacks conv_body_first.weight": {"conv_first.weight": torch.zeros(3)},
        "with StyleGAN2's own kernels": {f"{key.replace('conv_body_first', 'conv_body_first.0')}": value
                                         for key, value in state.items()},
        "it lacks 2 tensors": {key: value for key, value in state.items() if "_up.0.conv1" not in key},
        "has more.bias, which": state | {"more.bias": torch.zeros(2)},
        "final_conv.weight is 8×8×1×1 in it and not 8×8×3×3": state | {"final_conv.weight": torch.zeros(8, 8, 1, 1)},
        f"{constant} is 16×4 in it": state | {constant: torch.zeros(16, 4)},
        "one latent code for all layers": state | {"final_linear.weight": torch.zeros(16, 128)},
        "final_conv.weight has values that are no finite numbers": state | {"final_conv.weight": nan},
        "it has 0 resolutions": {key: value for key, value in state.items() if not key.startswith("toRGB")},
    }  # fmt: skip
    for number, (reason, tensors) in enumerate(broken.items()):
        path = tmp_path / f"{number}.safetensors"
        save_file({key: value.clone() for key, value in tensors.items()}, path)
        with pytest.raises(LoadError) as told:
            gfpgan.load(path)
        assert reason in told.value.message and path.name in told.value.message
        assert "\n" not in told.value.message and told.value.hint


def test_what_are_no_weights_is_refused_in_one_line(tmp_path: Path, tiny: Gfpgan) -> None:
    whole, _ = written(tmp_path, tiny)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:5000])
    text, empty, archive = tmp_path / "page.pth", tmp_path / "empty.pth", tmp_path / "zip.pth"
    text.write_text("<html>not found</html>")
    empty.touch()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("readme.txt", "nothing")
    plain, numbers = tmp_path / "plain.pth", tmp_path / "numbers.pth"
    plain.write_bytes(pickle.dumps({"params_ema": [1, 2, 3]}, protocol=2))
    torch.save({"params_ema": {"conv_body_first.weight": 3}}, numbers)
    for path in (cut, text, empty, archive, plain, numbers):
        with pytest.raises(LoadError) as told:
            gfpgan.load(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        assert "\n" not in told.value.message and path.name in told.value.message and told.value.hint
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(whole.read_bytes())
    for path in (renamed, tmp_path, tmp_path / "missing.pth"):
        with pytest.raises(LoadError) as told:
            gfpgan.load(path, sha256="" if path == renamed else gfpgan.RELEASED)
        assert "\n" not in told.value.message
