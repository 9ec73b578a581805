"""Networks of all other architectures, by spandrel (github.com/chaiNNer-org/spandrel, MIT), an optional extra.

spandrel imports torchvision, whose public wheel beside a CPU build of torch can't be imported, and breaks transformers'
CLIP: so it is no dependency, is tried only where a file needs it, and what keeps it from being imported is told. Files
are read as all others are (`weights`); it is given tensors.

CodeFormer (Zhou et al. 2022, arXiv:2206.11253) is in spandrel_extra_arches, among what isn't free for every purpose.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engines import headers
from engines.diffusion import nets, weights
from engines.errors import LoadError

FAR = 1 << 20
"Pixels: further than any halo. How far such a network sees isn't known, and attention sees all of a tile."
ALIVE = 4000
"""Numbers for each input pixel that are in memory at once, about: attention over windows of 16 px asks for 3000 and
more in the largest ones. Where it is too little, tiles become smaller when memory runs out."""
FIDELITY = 0.5
"Of CodeFormer, its w: 0 draws a better face, 1 keeps nearer to what is there; its authors' default."


class Other(nets.Net):
    """A network of spandrel's as one of ours.

    Args:
        descriptor: its ImageModelDescriptor.
    """

    def __init__(self, descriptor: Any) -> None:
        requirements = descriptor.size_requirements
        super().__init__(descriptor.scale, descriptor.input_channels, max(1, requirements.multiple_of), [])
        self.radius = FAR
        self.kind = descriptor.architecture.name  # type: ignore[misc]
        self.halves = bool(descriptor.supports_half)
        "Whether it can be computed in fp16."
        self.model = descriptor.model
        self._call: Callable[[Any, torch.Tensor], torch.Tensor] = descriptor  # pads what is too small for it

    @property
    def alive(self) -> int:
        return ALIVE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.check(x)
        made: torch.Tensor = self._call(x)  # type: ignore[call-arg]
        return made


def upscaler(path: Path, sha256: str = "") -> Other:
    """The network of a file, on the CPU, for inference.

    Args:
        path, sha256: as `weights.read` takes them.

    Raises:
        LoadError: spandrel can't be used, or knows no such network, or the file can't be read.
    """
    descriptor = _described(path, sha256, "upscaler")
    name = headers.shown(path.name)
    colours = descriptor.input_channels
    if getattr(descriptor, "purpose", "") not in ("SR", "Restoration") or colours != descriptor.output_channels:
        raise LoadError(f"{name} is a {descriptor.architecture.name}, which enlarges no pictures", nets.KNOWN)
    if colours not in (1, 3) or int(descriptor.scale) != descriptor.scale:
        raise LoadError(f"{name} takes {colours} channels, {descriptor.scale} times as large", nets.KNOWN)
    return Other(descriptor).eval().requires_grad_(False)


def face_restorer(path: Path, sha256: str = "") -> torch.nn.Module:
    """A face net as `faces.restore` takes it: (1, 3, 512, 512), RGB, −1 … 1. Raises LoadError as `upscaler` does."""
    descriptor = _described(path, sha256, "face restorer")
    if descriptor.architecture.id != "CodeFormer":
        name = headers.shown(path.name)
        raise LoadError(f"{name} is a {descriptor.architecture.name}: GFPGAN and CodeFormer mend faces", "take one")
    return _Faces(descriptor.model.eval().requires_grad_(False))


class _Faces(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.model(x, weight=FIDELITY)[0]
        return made


def _described(path: Path, sha256: str, what: str) -> Any:
    """What spandrel makes of a file's tensors."""
    tensors = weights.read(path, sha256)
    name = headers.shown(path.name)
    spandrel = _spandrel(f"{name} is of no {what}'s architecture that safelight has itself")
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
    except Exception as e:  # it raises whatever the shapes of a strange file lead it to
        said = headers.shown(" ".join(str(e).split())[:120] or type(e).__name__)
        raise LoadError(f"{name} is no network that spandrel knows: {said}", nets.KNOWN) from e
    descriptor.model.float()
    if not all(bool(torch.isfinite(value).all()) for value in descriptor.model.parameters()):
        raise LoadError(f"{name} is damaged: it has numbers that are not finite", headers.AGAIN)
    return descriptor


def _spandrel(why: str) -> Any:
    """The module, with the architectures that are not free for every purpose where they are installed."""
    try:
        found = importlib.import_module("spandrel")
    except Exception as e:  # torchvision's wheel for another build of torch raises RuntimeError
        said = headers.shown((str(e).splitlines() or [type(e).__name__])[0][:100])
        if isinstance(e, ModuleNotFoundError) and e.name == "spandrel":
            hint = f"{sys.executable} -m pip install 'safelight[spandrel]', with a torchvision for this build of torch"
            raise LoadError(f"{why}; spandrel, which knows others, is not installed", hint) from e
        hint = "it needs a torchvision for this very build of torch"
        raise LoadError(f"{why}; spandrel, which knows others, can't be imported: {said}", hint) from e
    with contextlib.suppress(Exception):  # they are an extra of an extra
        importlib.import_module("spandrel_extra_arches").install(ignore_duplicates=True)
    return found
