"""Networks that spandrel knows; a stand-in gives what it gives, for it can't be installed beside every torch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import upscalers
from PIL import Image
from safetensors.torch import save_file

from engines import catalogue, identify, proposing
from engines.diffusion import finishing, gfpgan, nets, others, upscaling
from engines.diffusion.device import Device
from engines.diffusion.gfpgan import Gfpgan, Shape
from engines.entries import Local
from engines.errors import LoadError

CPU = Device(torch.device("cpu"), "cpu")
LACKS = "strange.safetensors is of no upscaler's architecture that safelight has itself; spandrel, which knows others, "


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    save_file({"patch_embed.proj.weight": torch.ones(4)}, tmp_path / "strange.safetensors")
    return tmp_path / "strange.safetensors"


class Twice(torch.nn.Module):
    """Makes each pixel four."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, weight: float = 1.0) -> Any:
        if weight != 1.0:  # a face net
            return -x * self.one, weight
        return torch.nn.functional.interpolate(x * self.one, scale_factor=2.0, mode="nearest")


class Descriptor:
    def __init__(self, **more: Any) -> None:
        self.model = Twice()
        self.scale, self.input_channels, self.output_channels, self.purpose = 2, 3, 3, "SR"
        self.architecture = SimpleNamespace(id="Twice", name="Twice")
        self.size_requirements = SimpleNamespace(multiple_of=4, minimum=0, square=False)
        self.supports_half = False
        self.__dict__.update(more)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.model(x)
        return made


def install(monkeypatch: pytest.MonkeyPatch, descriptor: Any) -> None:
    """A spandrel that makes this of any tensors; what is an exception is raised."""

    class Loader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, tensors: dict[str, torch.Tensor]) -> Any:
            assert list(tensors) == ["patch_embed.proj.weight"]
            if isinstance(descriptor, Exception):
                raise descriptor
            return descriptor

    stand_in = ModuleType("spandrel")
    stand_in.ModelLoader = Loader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel", stand_in)
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)


def test_a_network_of_its_enlarges_in_tiles_as_ours_do(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Descriptor())
    with pytest.raises(nets.Unknown):
        nets.load(strange)
    net = finishing._known(strange, "")
    assert isinstance(net, others.Other) and (net.kind, net.scale, net.align, net.halves) == ("Twice", 2, 4, False)
    picture = Image.linear_gradient("L").convert("RGB").resize((71, 46))
    work = upscaling.upscale(picture, upscaling.place(net, CPU, torch.float32), CPU, tile=(40, 40))
    while True:
        try:
            next(work)
        except StopIteration as end:
            made = end.value
            break
    assert made.tobytes() == picture.resize((142, 92), Image.Resampling.NEAREST).tobytes()


def test_codeformer_takes_and_gives_what_gfpgan_does(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Descriptor(architecture=SimpleNamespace(id="CodeFormer", name="CodeFormer")))
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(finishing._face_net(strange, "")(x), -x)
    install(monkeypatch, Descriptor())
    with pytest.raises(LoadError, match=r"strange.safetensors is a Twice: GFPGAN and CodeFormer mend faces"):
        others.face_restorer(strange)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (ValueError("no architecture\nfits"), "is no network that spandrel knows: no architecture fits"),
        (Descriptor(purpose="Inpainting"), "is a Twice, which enlarges no pictures"),
        (Descriptor(output_channels=1), "is a Twice, which enlarges no pictures"),
        (Descriptor(input_channels=4, output_channels=4), "takes 4 channels"),
    ],
)
def test_what_enlarges_nothing_is_told(strange: Path, monkeypatch: pytest.MonkeyPatch, made: Any, says: str) -> None:
    install(monkeypatch, made)
    with pytest.raises(LoadError, match=says) as told:
        others.upscaler(strange)
    assert "\n" not in told.value.message


def test_damaged_weights_are_told(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Descriptor()
    made.model.one.data.fill_(torch.nan)
    install(monkeypatch, made)
    with pytest.raises(LoadError, match="not finite"):
        others.upscaler(strange)


def test_why_spandrel_can_not_be_had_is_one_line(
    strange: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "site").mkdir()
    broken = tmp_path / "site" / "spandrel.py"
    broken.write_text("raise RuntimeError('operator torchvision::nms does not exist\\nand more')")
    with pytest.raises(LoadError) as told:
        others.upscaler(strange)
    assert told.value.message == f"{LACKS}can't be imported: operator torchvision::nms does not exist"
    assert "torchvision for this very build of torch" in told.value.hint
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    broken.write_text("raise ModuleNotFoundError(\"No module named 'spandrel'\", name='spandrel')")
    with pytest.raises(LoadError) as told:
        others.upscaler(strange)
    assert told.value.message == f"{LACKS}is not installed" and "'safelight[spandrel]'" in told.value.hint


def test_a_damaged_file_of_ours_is_not_given_to_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, AssertionError("asked"))
    state = upscalers.rrdb(1).state_dict()
    save_file({k: v for k, v in state.items() if k != "conv_hr.bias"}, tmp_path / "half.safetensors")
    with pytest.raises(LoadError, match="is no whole RRDBNet"):
        finishing._known(tmp_path / "half.safetensors", "")
    older = {"conv_body_first.0.weight": torch.ones(4), "stylegan_decoder.constant_input.weight": torch.ones(4)}
    save_file(older, tmp_path / "old.safetensors")
    with pytest.raises(LoadError, match="it is the first form"):
        finishing._face_net(tmp_path / "old.safetensors", "")


def test_a_gfpgan_of_ones_own_is_identified_and_listed(tmp_path: Path) -> None:
    net = Gfpgan(Shape((8,) * 4, (16,) * 4, style=16, mapping=2, modulated=(8, 8, 8)))
    path = tmp_path / "my-faces.safetensors"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    found = identify.path(path)
    assert (found.kind, found.architecture, found.supported) == ("face_restorer", "gfpgan", True)
    assert found.architecture_title == "GFPGAN's clean network"
    (tmp_path / "models.toml").write_text(proposing.entry(found, proposing.Place(path), ()))
    known = catalogue.load(tmp_path / "models.toml")
    assert not known.problems and known.require_face_restorer("my-faces").file == Local(path)
    assert isinstance(gfpgan.load(path), Gfpgan)
