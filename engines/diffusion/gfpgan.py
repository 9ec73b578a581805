"""GFPGANv1Clean, which draws a degraded face anew (Wang et al. 2021, "Towards Real-World Blind Face Restoration with
Generative Facial Prior", arXiv:2101.04061).

A U-Net looks at the face and gives two things: a latent code for each layer of a StyleGAN2 generator (Karras et al.
2020, arXiv:1912.04958) that knows faces, and for each of its resolutions a scale and a shift of its features (channel-
split spatial feature transform, eq. 5 of arXiv:2101.04061), so that the generator keeps to the face that is there. The
"clean" form resamples bilinearly where StyleGAN2 has kernels of its own: it needs nothing but torch.

Names of tensors are those of the released files (github.com/TencentARC/GFPGAN, Apache-2.0), and every size is read from
their shapes. Of what the files hold two parts serve training only, are loaded for the sake of the names and never run:
`toRGB`, the U-Net's own pictures, and `style_mlp`, StyleGAN2's way to its latents, which the U-Net takes the place of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from engines import headers
from engines.diffusion import weights
from engines.diffusion.nets import Unknown
from engines.errors import LoadError

RELEASED = "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"
"sha256 of GFPGANv1.4.pth (348,632,874 bytes), of the project's release v1.3.0."
SLOPE = 0.2
"Of every leaky ReLU, as in StyleGAN2."
EPSILON = 1e-8
"Added to a sum of squares before its root is divided by, as in StyleGAN2."
LEAST, MOST = 8, 1024
"Pixels a side between which a net's pictures can be."
WIDEST = 4096
"Channels of a layer, at most."
_OF_ALL = "stylegan_decoder.constant_input.weight"
AGAIN = "download it again, or choose GFPGANv1.4.pth"


@dataclass(frozen=True, slots=True)
class Shape:
    """What tells one net from another. Both tuples are by resolution, from 4 px on, doubling."""

    encoder: tuple[int, ...]
    "Channels of the U-Net; 256 up to 64 px, then 128, 64 and 32 at 512 px in the released ones."
    decoder: tuple[int, ...]
    "Channels of the generator; 512 up to 64 px, then 256, 128 and 64."
    style: int
    "Numbers in a latent code; 512."
    mapping: int
    "Layers of `style_mlp`; 8."
    modulated: tuple[int, ...]
    "Channels that are scaled and shifted, from 8 px on: the second half of the decoder's in the released ones."

    @property
    def side(self) -> int:
        """Pixels a side of the picture; 512."""
        return int(4 * 2 ** (len(self.decoder) - 1))

    @property
    def latents(self) -> int:
        """Latent codes: one for each layer that takes one, 16 at 512 px."""
        return 2 * len(self.decoder)


FULL = Shape(
    encoder=(256, 256, 256, 256, 256, 128, 64, 32),
    decoder=(512, 512, 512, 512, 512, 256, 128, 64),
    style=512,
    mapping=8,
    modulated=(256, 256, 256, 256, 128, 64, 32),
)
"Of the released v1.2, v1.3 and v1.4."


# ── the net ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Gfpgan(nn.Module):
    """A face in, a better one out.

    Args:
        shape: of the net.
    """

    def __init__(self, shape: Shape = FULL) -> None:
        super().__init__()
        self.shape = shape
        encoder = shape.encoder
        self.conv_body_first = nn.Conv2d(3, encoder[-1], 1)
        self.conv_body_down = nn.ModuleList(Resampling(a, b, 0.5) for a, b in pairwise(encoder[::-1]))
        self.final_conv = nn.Conv2d(encoder[0], encoder[0], 3, padding=1)
        self.final_linear = nn.Linear(encoder[0] * 16, shape.latents * shape.style)
        self.conv_body_up = nn.ModuleList(Resampling(a, b, 2.0) for a, b in pairwise(encoder))
        self.toRGB = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in encoder[1:])  # never run
        both = list(zip(encoder[1:], shape.modulated, strict=True))
        self.condition_scale = nn.ModuleList(_condition(*widths) for widths in both)
        self.condition_shift = nn.ModuleList(_condition(*widths) for widths in both)
        self.stylegan_decoder = Decoder(shape)

    def forward(self, face: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        """Both of (batch, 3, side, side), RGB, about −1 … 1.

        What the U-Net says of a resolution is used at once and let go of, so that nothing of it is held for later.

        Args:
            face: of the net's own dtype, on its device.
            seed: of the noise that the generator adds for what is random in a face, such as pores; None takes the noise
                that came with the weights. Either way the same face gives the same face.
        """
        seen = functional.leaky_relu_(self.conv_body_first(face), SLOPE)
        skips = [seen := down(seen) for down in self.conv_body_down]
        seen = functional.leaky_relu_(self.final_conv(seen), SLOPE)
        latents = self.final_linear(seen.flatten(1)).unflatten(1, (self.shape.latents, self.shape.style))

        decoder = self.stylegan_decoder
        noise = decoder.noise(seed, face)
        features, image = decoder.first(latents[:, 0], latents[:, 1], noise[0])
        for i, up in enumerate(self.conv_body_up):
            seen = up(seen + skips.pop())
            scale, shift = self.condition_scale[i](seen), self.condition_shift[i](seen)
            n = 2 * i + 1
            features, image = decoder.level(
                i, features, image, latents[:, n : n + 3], (scale, shift), (noise[n], noise[n + 1])
            )
        return image


class Resampling(nn.Module):
    """A residual block of the U-Net that halves or doubles the resolution between its convolutions."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, h, w) → (batch, outputs, factor·h, factor·w)."""
        inner = _resampled(functional.leaky_relu_(self.conv1(x), SLOPE), self.factor)
        inner = functional.leaky_relu_(self.conv2(inner), SLOPE)
        return inner.add_(self.skip(_resampled(x, self.factor)))


class Decoder(nn.Module):
    """StyleGAN2's generator, with features that can be scaled and shifted from without."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.decoder
        self.style_mlp = _mapping(shape.style, shape.mapping)  # never run
        self.constant_input = Constant(width[0])
        self.style_conv1 = Styled(width[0], width[0], shape.style)
        self.to_rgb1 = ToRgb(width[0], shape.style)
        self.style_convs = nn.ModuleList(
            Styled(inputs, outputs, shape.style, doubling=doubling)
            for a, b in pairwise(width)
            for inputs, outputs, doubling in ((a, b, True), (b, b, False))
        )
        self.to_rgbs = nn.ModuleList(ToRgb(outputs, shape.style) for outputs in width[1:])
        self.noises = nn.Module()
        for i in range(2 * len(width) - 1):
            side = 4 * 2 ** ((i + 1) // 2)
            self.noises.register_buffer(f"noise{i}", torch.randn(1, 1, side, side))

    def noise(self, seed: int | None, like: torch.Tensor) -> list[torch.Tensor]:
        """For every layer in order (1, 1, h, w) of standard normal numbers: those of the file, or drawn on the CPU from
        a seed, so that it means the same on every device."""
        stored: list[torch.Tensor] = [self.noises.get_buffer(f"noise{i}") for i in range(len(self.style_convs) + 1)]
        if seed is None:
            return stored
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(n.shape, generator=generator).to(like.device, like.dtype) for n in stored]

    def first(
        self, style: torch.Tensor, of_rgb: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and the picture at 4 px, from two latent codes (batch, style)."""
        features = self.style_conv1(self.constant_input.weight.expand(len(style), -1, -1, -1), style, noise)
        return features, self.to_rgb1(features, of_rgb)

    def level(
        self,
        i: int,
        features: torch.Tensor,
        image: torch.Tensor,
        styles: torch.Tensor,
        conditions: tuple[torch.Tensor, torch.Tensor],
        noise: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and the picture at twice the resolution.

        Args:
            i: 0 for 8 px, 1 for 16 px, …
            features: (batch, channels, h, w).
            image: (batch, 3, h, w).
            styles: (batch, 3, style), for the two convolutions and the picture.
            conditions: scale and shift of the last channels, (batch, modulated, 2h, 2w) each.
            noise: for the two convolutions, (1, 1, 2h, 2w).
        """
        scale, shift = conditions
        features = self.style_convs[2 * i](features, styles[:, 0], noise[0])
        features[:, features.shape[1] - scale.shape[1] :].mul_(scale).add_(shift)
        features = self.style_convs[2 * i + 1](features, styles[:, 1], noise[1])
        return features, _resampled(image, 2.0).add_(self.to_rgbs[i](features, styles[:, 2]))


class Constant(nn.Module):
    """What the generator starts from, whatever face it draws."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, 4, 4))


class Modulated(nn.Module):
    """A convolution whose weights a latent code scales, input channel by input channel; with `demodulated` each output
    channel is then brought back to unit variance (arXiv:1912.04958, section 2.2, eqs. 1 and 3).

    The weights are scaled in float32 whatever the features are in: a sum of 4,608 squares doesn't fit into half
    precision.
    """

    def __init__(self, inputs: int, outputs: int, side: int, style: int, demodulated: bool) -> None:
        super().__init__()
        self.demodulated = demodulated
        self.modulation = nn.Linear(style, inputs)
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, side, side) / math.sqrt(inputs * side**2))
        nn.init.ones_(self.modulation.bias)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, h, w) and (batch, style) → (batch, outputs, h, w)."""
        batch, side = len(x), self.weight.shape[-1]
        weight = self.weight.float() * self.modulation(style).float()[:, None, :, None, None]
        if self.demodulated:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + EPSILON)
        # one group of channels for each picture of the batch, since each has weights of its own
        out = functional.conv2d(
            x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1).to(x.dtype), padding=side // 2, groups=batch
        )
        return out.view(batch, -1, *out.shape[2:])


class Styled(nn.Module):
    """A layer of the generator: a modulated convolution, at twice the resolution with `doubling`, noise, a bias."""

    def __init__(self, inputs: int, outputs: int, style: int, doubling: bool = False) -> None:
        super().__init__()
        self.doubling = doubling
        self.modulated_conv = Modulated(inputs, outputs, 3, style, demodulated=True)
        self.weight = nn.Parameter(torch.zeros(1))
        "How much of the noise."
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: torch.Tensor, style: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, h, w) → (batch, outputs, h, w), or 2h and 2w. The gain √2 is StyleGAN2's for a leaky ReLU;
        the clean form applies it before the noise."""
        x = self.modulated_conv(_resampled(x, 2.0) if self.doubling else x, style)
        x = x.mul_(math.sqrt(2)).add_(self.weight * noise).add_(self.bias)
        return functional.leaky_relu_(x, SLOPE)


class ToRgb(nn.Module):
    """What the features of one resolution add to the picture."""

    def __init__(self, inputs: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = Modulated(inputs, 3, 1, style, demodulated=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, h, w) → (batch, 3, h, w)."""
        out: torch.Tensor = self.modulated_conv(x, style)
        return out.add_(self.bias)


def _condition(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True),
        nn.Conv2d(inputs, outputs, 3, padding=1),
    )  # fmt: skip


def _mapping(width: int, layers: int) -> nn.Sequential:
    """Linear layers in the places 1, 3, 5, … where the files have them."""
    pairs = ((nn.Identity() if i == 0 else nn.LeakyReLU(SLOPE), nn.Linear(width, width)) for i in range(layers))
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def _resampled(x: torch.Tensor, factor: float) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


# ── its files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def load(path: Path, dtype: torch.dtype = torch.float32, sha256: str = "") -> Gfpgan:
    """The net of a file, on the CPU, for inference.

    Args:
        path: a .safetensors file, or a .pth of the project's own, whose tensors may stand under params_ema or params.
        dtype: of the weights as they are used.
        sha256: what the file must have, in hex; a .pth is not opened without one.

    Raises:
        LoadError: the file is missing, is not the one that was pinned, or holds no GFPGANv1Clean.
    """
    tensors = weights.read(path, sha256)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    name = headers.shown(path.name)
    with torch.device("meta"):
        net = Gfpgan(shape_of(found, name))
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    if missing := [key for key in wanted if key not in found]:
        raise LoadError(f"{name} is no whole GFPGAN: it lacks {_some(missing)}", AGAIN)
    if unknown := [key for key in found if key not in wanted]:
        raise LoadError(f"{name} has {_some(unknown)}, which GFPGANv1Clean doesn't have", AGAIN)
    for key, shape in wanted.items():
        if found[key] != shape:
            raise LoadError(f"{name} doesn't fit: {key} is {_sides(found[key])} in it and not {_sides(shape)}", AGAIN)
    made = {key: tensors.pop(key).to(dtype).contiguous() for key in wanted}
    for key, value in made.items():
        low, high = value.aminmax()
        if not math.isfinite(low.item()) or not math.isfinite(high.item()):
            raise LoadError(f"{name} can't be used: {key} has values that are no finite numbers", AGAIN)
    net.load_state_dict(made, strict=True, assign=True)
    return net.eval().requires_grad_(False)


def shape_of(found: Mapping[str, tuple[int, ...]], name: str) -> Shape:
    """The sizes of the net whose tensors have these shapes; `name` is the file's, for messages. The shapes that are not
    looked at here may still not fit.

    Raises:
        LoadError: they are of no GFPGANv1Clean.
    """

    def side(key: str, number: int, rank: int) -> int:
        shape = found.get(key)
        if shape is None:
            older = (
                "; it is the first form, with StyleGAN2's own kernels" if "conv_body_first.0.weight" in found else ""
            )
            kind = LoadError if older or _OF_ALL in found else Unknown
            raise kind(f"{name} is no GFPGANv1Clean: it lacks {key}{older}", "choose GFPGANv1.4.pth")
        if len(shape) != rank or 0 in shape:
            raise LoadError(f"{name} is no GFPGANv1Clean: {key} is {_sides(shape)} in it", "choose GFPGANv1.4.pth")
        return shape[number]

    first = side("conv_body_first.weight", 0, 4)
    levels = sum(key.startswith("toRGB.") and key.endswith(".weight") for key in found)
    if not LEAST <= 4 * 2**levels <= MOST:
        raise LoadError(f"{name} is no GFPGANv1Clean: it has {levels} resolutions", "choose GFPGANv1.4.pth")
    down = [side(f"conv_body_down.{i}.conv2.weight", 0, 4) for i in range(levels)]
    constant = side(_OF_ALL, 1, 4)
    wide = [side(f"stylegan_decoder.style_convs.{2 * i}.modulated_conv.weight", 1, 5) for i in range(levels)]
    style = side("stylegan_decoder.style_conv1.modulated_conv.modulation.weight", 1, 2)
    mapping = sum(key.startswith("stylegan_decoder.style_mlp.") and key.endswith(".weight") for key in found)
    shape = Shape(
        encoder=(*down[::-1], first),
        decoder=(constant, *wide),
        style=style,
        mapping=mapping,
        modulated=tuple(side(f"condition_scale.{i}.2.weight", 0, 4) for i in range(levels)),
    )
    widths = (*shape.encoder, *shape.decoder, style, mapping)
    if max(widths) > WIDEST or any(a > b for a, b in zip(shape.modulated, shape.decoder[1:], strict=True)):
        raise LoadError(f"{name} is no GFPGANv1Clean: its layers don't fit each other", "choose GFPGANv1.4.pth")
    if side("final_linear.weight", 0, 2) == style:
        raise LoadError(
            f"{name} has one latent code for all layers, as no released GFPGANv1Clean has", "choose GFPGANv1.4.pth"
        )
    return shape


def _sides(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _some(names: list[str]) -> str:
    first = headers.shown(names[0])
    return first if len(names) == 1 else f"{len(names)} tensors (the first is {first})"
