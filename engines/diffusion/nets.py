"""Small convolutional networks that enlarge pictures, each configured from the names and shapes of its own weights.

    RRDBNet           ESRGAN (Wang et al. 2018, arXiv:1809.00219) and Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833)
    SRVGGNetCompact   Real-ESRGAN's small ones, realesr-general-x4v3 among them, and the embedded mini_x4

Weights are released by github.com/xinntao/Real-ESRGAN (BSD-3-Clause) and github.com/xinntao/ESRGAN (Apache-2.0). They
are named there as here; ESRGAN's two older spellings are converted. All take and give RGB in 0 … 1.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from engines import headers
from engines.diffusion.weights import read
from engines.errors import LoadError
from engines.headers import shown

DEEPEST, WIDEST = 256, 4096
"Blocks, or convolutions in a row, and channels of a network, at most; 32 and 64 in what was released."
KNOWN = "ESRGAN's and Real-ESRGAN's RRDBNet and SRVGGNetCompact are known"


class Unknown(LoadError):
    """A file that is of neither of these architectures."""


State = Mapping[str, torch.Tensor]
"A network's weights by name."
Step = tuple[str, int]
"""What a layer does to places: ("conv", n) for n convolutions of 3×3 one after another, ("up", k) and ("down", k) for
k×k places that are made of one, and one that is made of k×k."""


# ── the networks ────────────────────────────────────────────────────────────────────────────────────────────────────


class Net(nn.Module):
    """A network that makes k×k pixels of each: (batch, colours, h, w) → (batch, colours, k·h, k·w), both in 0 … 1.

    It sees a picture's border as zeros, and what is farther than `radius` pixels away not at all.
    """

    kind: ClassVar[str]
    "The architecture's name."

    def __init__(self, scale: int, colours: int, align: int, steps: list[Step]) -> None:
        super().__init__()
        self.scale = scale
        "k."
        self.colours = colours
        "Channels of its pictures: 3, or 1."
        self.align = align
        "Sides of what it takes are multiples of this, in pixels."
        self.radius = reach(steps)
        "How many input pixels away from an output pixel's own the farthest one is that it depends on."

    @property
    @abstractmethod
    def alive(self) -> int:
        """Numbers for each input pixel that are in memory at once when most are, the picture's and the result's own
        among them: what its feature maps hold, counted from the layers."""

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""

    def check(self, x: torch.Tensor) -> None:
        """Raises ValueError unless `x` has channels and sides that the network can take."""
        if x.ndim != 4 or x.shape[1] != self.colours or x.shape[2] % self.align or x.shape[3] % self.align:
            raise ValueError(
                f"(n, {self.colours}, h, w) with sides that are multiples of {self.align}, not {tuple(x.shape)}"
            )


class RRDBNet(Net):
    """Residual-in-residual dense blocks, then doublings (arXiv:1809.00219, section 3.1 and figure 4).

    For factors 2 and 1, Real-ESRGAN folds blocks of 2×2 and 4×4 pixels into channels first (arXiv:2107.10833, section
    3.2), so that the blocks see a smaller picture and the two doublings stay.

    Args:
        colours: 3 or 1.
        features: channels between the blocks; 64 in what was released.
        growth: channels that each convolution of a dense block adds; 32.
        blocks: 23, or 6 (anime_6B).
        ups: doublings at the end; 2. Networks of others have 0 to 3.
        fold: sides of the blocks that are folded into channels: 1, 2 or 4.
    """

    kind = "RRDBNet"

    def __init__(self, colours: int, features: int, growth: int, blocks: int, ups: int, fold: int) -> None:
        steps: list[Step] = [
            ("down", fold),
            ("conv", 1 + 15 * blocks + 1),
            *[("up", 2), ("conv", 1)] * ups,
            ("conv", 2),
        ]
        super().__init__(2**ups // fold, colours, fold, steps)
        self.ups, self.fold, self.features, self.growth = ups, fold, features, growth
        self.conv_first = _conv(colours * fold**2, features)
        self.body = nn.Sequential(*(_RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = _conv(features, features)
        for i in range(1, ups + 1):
            self.add_module(f"conv_up{i}", _conv(features, features))
        self.conv_hr = _conv(features, features)
        self.conv_last = _conv(features, colours)

    @property
    def alive(self) -> int:
        # In a dense block: what was before the blocks, before the three and before this one, its four growths, all of
        # it side by side, and the result. At the end, where places are more by 4 for each doubling: what is doubled,
        # doubled, and convolved.
        block = 4 * self.features + 4 * self.growth + self.features + 4 * self.growth
        places = 1 << 2 * self.ups
        end = 2 * places * self.features + (places // 4) * self.features
        return -(-max(block, end) // self.fold**2) + self.colours

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.check(x)
        if self.fold > 1:
            x = functional.pixel_unshuffle(x, self.fold)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for i in range(1, self.ups + 1):
            x = _leaky(self.get_submodule(f"conv_up{i}")(functional.interpolate(x, scale_factor=2.0, mode="nearest")))
        x = _leaky(self.conv_hr(x))
        return self.conv_last(x)  # type: ignore[no-any-return]


class _RRDB(nn.Module):
    """Three dense blocks, of which a fifth is added to what came in."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = _DenseBlock(features, growth)
        self.rdb2 = _DenseBlock(features, growth)
        self.rdb3 = _DenseBlock(features, growth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=0.2)


class _DenseBlock(nn.Module):
    """Five convolutions, each of which sees what came in and what all before it made; a fifth of the last is added."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 5):
            self.add_module(f"conv{i}", _conv(features + (i - 1) * growth, growth))
        self.conv5 = _conv(features + 4 * growth, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for i in range(1, 5):
            seen.append(_leaky(self.get_submodule(f"conv{i}")(torch.cat(seen, 1))))
        return torch.add(x, self.conv5(torch.cat(seen, 1)), alpha=0.2)


class SRVGGNetCompact(Net):
    """A row of convolutions at the picture's own size; the last one's channels are unfolded into pixels, and the
    picture itself is added with its pixels repeated. Real-ESRGAN's authors describe it in their repository only.

    Args:
        colours: 3 or 1.
        features: channels of the row; 64 in what was released.
        convs: convolutions between the first and the last; 32 (general-x4v3) or 16 (animevideov3).
        scale: k.
    """

    kind = "SRVGGNetCompact"

    def __init__(self, colours: int, features: int, convs: int, scale: int) -> None:
        super().__init__(scale, colours, 1, [("conv", convs + 2), ("up", scale)])
        self.features = features
        self.body = nn.ModuleList([_conv(colours, features), nn.PReLU(features)])
        for _ in range(convs):
            self.body.extend((_conv(features, features), nn.PReLU(features)))
        self.body.append(_conv(features, colours * scale**2))

    @property
    def alive(self) -> int:
        # A layer's input and output; at the end the channels and the pixels that they become, or the pixels and the
        # picture that is added.
        end = self.colours * self.scale**2
        return max(2 * self.features, self.features + end, 2 * end) + self.colours

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.check(x)
        y = x
        for layer in self.body:
            y = layer(y)
        y = functional.pixel_shuffle(y, self.scale)
        return y.add_(functional.interpolate(x, scale_factor=float(self.scale), mode="nearest"))


def _conv(into: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1)


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(x, 0.2, inplace=not torch.is_grad_enabled())


def reach(steps: list[Step]) -> int:
    """How many input pixels away from its own an output pixel can depend on, at most, over all output pixels.

    The interval of places that one output place depends on is followed back through the layers: a 3×3 convolution
    widens it by one on both sides, an enlargement by repeated pixels divides its ends by k, rounding down, and a
    folding multiplies them, so that the answer differs between the pixels that are made of one. For what was released:

        RRDBNet, 23 blocks, ×4: 349 (1 + 345 + 1 before the doublings, 2 through them)   ×2: 698   6 blocks: 94
        SRVGGNetCompact with 32 convolutions: 34
    """
    unfold = math.prod(k for step, k in steps if step == "up")
    fold = math.prod(k for step, k in steps if step == "down")
    farthest = 0
    for place in range(unfold):  # of those that one folded place becomes
        low = high = place
        for step, k in reversed(steps):
            if step == "conv":
                low, high = low - k, high + k
            elif step == "up":
                low, high = low // k, high // k
            else:
                low, high = low * k, high * k + k - 1
        own = place * fold // unfold
        farthest = max(farthest, own - low, high - own)
    return farthest


# ── from a file ─────────────────────────────────────────────────────────────────────────────────────────────────────


def load(path: Path, sha256: str = "") -> Net:
    """The network of a file, on the CPU in fp32, for inference.

    Args:
        path: a .safetensors file, or a pickled one (.pth), which is read as weights only and only with a hash.
        sha256: what the file must have, 64 hex digits; empty if that doesn't matter, which it does for .pth.

    Raises:
        LoadError: the file is missing, damaged, another than was pinned, or of no known architecture.
    """
    return build(read(path, sha256), shown(path.name))


def load_pair(strong: Path, weak: Path, denoise: float, sha256: tuple[str, str] = ("", "")) -> Net:
    """One network between two of the same shapes, by how much of the first it has.

    Real-ESRGAN's realesr-general-x4v3 takes noise away and its companion realesr-general-wdn-x4v3 leaves it; what lies
    between them is mixed from their weights (deep network interpolation, Wang et al. 2018, arXiv:1811.10515).

    Args:
        strong: the file that denoises.
        weak: the file that doesn't.
        denoise: 0 for `weak` alone, 1 for `strong` alone.
        sha256: of the two, as `load` takes it.

    Raises:
        LoadError: as `load`, or the two are not of the same shapes.
        ValueError: `denoise` is outside of 0 … 1.
    """
    first, second = read(strong, sha256[0]), read(weak, sha256[1])
    names = f"{shown(strong.name)} and {shown(weak.name)}"
    return build(interpolate(first, second, denoise, names), shown(strong.name))


def interpolate(first: State, second: State, share: float, names: str = "the two files") -> dict[str, torch.Tensor]:
    """`share` of the first weights and the rest of the second ones, in fp32. Raises as `load_pair`."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share is 0 to 1, not {share}")
    first, second = current(first), current(second)
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise LoadError(f"{names} are networks of different shapes", "take two that were trained as a pair")
    return {name: torch.lerp(second[name].float(), first[name].float(), share) for name in first}


def build(state: State, name: str = "the file") -> Net:
    """The network that weights are for, in fp32 and for inference.

    Args:
        state: weights in any spelling that `current` knows, of any float type.
        name: of the file, for messages.

    Raises:
        LoadError: they are of no known architecture, incomplete, of shapes that don't fit each other, or not finite.
    """
    named = current(state)
    with torch.device("meta"):
        net = _empty(named, name)
    wanted = net.state_dict()
    for problem, keys in (
        ("lacks", wanted.keys() - named.keys()),
        ("has, as no such network does,", named.keys() - wanted.keys()),
    ):
        if keys:
            more = f" and {len(keys) - 1:,} more" if len(keys) > 1 else ""
            raise LoadError(f"{name} is no whole {net.kind}: it {problem} {shown(min(keys))}{more}", KNOWN)
    for key, tensor in named.items():
        if tensor.shape != wanted[key].shape:
            sides, other = ("×".join(map(str, shape)) or "a number" for shape in (tensor.shape, wanted[key].shape))
            raise LoadError(f"{name} doesn't fit together: {shown(key)} is {sides}, not {other}", KNOWN)
        if not tensor.is_floating_point() or not torch.isfinite(tensor.float()).all():
            raise LoadError(f"{name} is damaged: {shown(key)} has numbers that are not finite", headers.AGAIN)
    net.load_state_dict({key: named[key].detach().float() for key in wanted}, strict=True, assign=True)
    return net.eval().requires_grad_(False)


def _empty(state: State, name: str) -> Net:
    """A network of the layers that the names and shapes of its weights tell."""
    unknown = Unknown(f"{name} is no upscaler of a known architecture", KNOWN)

    def sides(key: str, count: int = 4) -> Any:
        if key not in state or state[key].ndim != count or 0 in state[key].shape:
            raise unknown
        return state[key].shape

    if "conv_first.weight" in state:
        features, into = sides("conv_first.weight")[:2]
        growth, colours = sides("body.0.rdb1.conv1.weight")[0], sides("conv_last.weight")[0]
        blocks = len({key.split(".")[1] for key in state if key.startswith("body.")})
        ups = len({key.split(".")[0] for key in state if key.startswith("conv_up")})
        fold = {colours: 1, 4 * colours: 2, 16 * colours: 4}.get(into, 0)
        if colours not in (1, 3) or not fold or ups > 4 or fold > 2**ups:
            raise LoadError(f"{name} is an RRDBNet from {into} channels to {colours}: of what, isn't known", KNOWN)
        if not 1 <= blocks <= DEEPEST or max(features, growth) > WIDEST:
            raise LoadError(f"{name} tells of {blocks:,} blocks of {features:,} channels", KNOWN)
        return RRDBNet(colours, features, growth, blocks, ups, fold)
    features, colours = sides("body.0.weight")[:2]
    sides("body.1.weight", 1)
    last = max((int(i[1]) for key in state if (i := re.fullmatch(r"body\.(\d{1,4})\.weight", key))), default=0)
    scale = math.isqrt(max(sides(f"body.{last}.weight")[0] // colours, 1))
    if colours not in (1, 3) or last < 2 or last % 2:
        raise unknown
    if last > 2 * DEEPEST or features > WIDEST:
        raise LoadError(f"{name} tells of {last:,} layers of {features:,} channels", KNOWN)
    return SRVGGNetCompact(colours, features, last // 2 - 1, scale)


def current(state: State) -> dict[str, torch.Tensor]:
    """The same weights under the names that Real-ESRGAN's files have; what is in no older spelling stays as it is."""
    if "model.0.weight" in state and any(key.startswith("model.1.sub.") for key in state):
        return {_from_first(key, state): tensor for key, tensor in state.items()}
    if any(key.startswith("RRDB_trunk.") for key in state):
        return {_from_second(key): tensor for key, tensor in state.items()}
    return dict(state)


def _from_first(key: str, state: State) -> str:
    """ESRGAN's first files number all layers of one row, those without weights too: a doubling, its convolution and its
    activation take three places, what is left at the end three, of which the middle one is an activation."""
    if found := re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0\.(weight|bias)", key):
        return f"body.{found[1]}.rdb{found[2]}.conv{found[3]}.{found[4]}"
    if found := re.fullmatch(r"model\.1\.sub\.\d+\.(weight|bias)", key):
        return f"conv_body.{found[1]}"
    if not (found := re.fullmatch(r"model\.(\d{1,2})\.(weight|bias)", key)):
        return key
    place = int(found[1])
    last = max(int(i[1]) for other in state if (i := re.fullmatch(r"model\.(\d{1,2})\.weight", other)))
    names = {0: "conv_first", last - 2: "conv_hr", last: "conv_last"}
    if place not in names and place % 3 == 0:
        return f"conv_up{place // 3}.{found[2]}"
    return f"{names[place]}.{found[2]}" if place in names else key


def _from_second(key: str) -> str:
    """ESRGAN's later files have the layers of today under other names."""
    key = re.sub(r"^RRDB_trunk\.(\d+)\.RDB([123])\.", r"body.\1.rdb\2.", key)
    for old, new in (("trunk_conv.", "conv_body."), ("HRconv.", "conv_hr.")):
        key = re.sub(f"^{re.escape(old)}", new, key)
    return re.sub(r"^upconv(\d)\.", r"conv_up\1.", key)
