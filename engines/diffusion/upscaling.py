"""Pictures enlarged by a small network, tile by tile, to any size.

What the device holds is bounded by the tile; the picture is put together in main memory, in the bytes that it has
itself. A tile is read with a halo (see `engines.diffusion.tiling`). With a halo of the network's radius or more the
result is that of the whole picture at once, but for rounding; with less, tiles are blended over half of it.

Memory. On the device, per pixel of a tile (`pixel_bytes`):

    max(alive · b, out · 22/3)        out = colours · k²

`alive` is the most numbers that the network holds at once (`Net.alive`, counted from its layers), b the bytes of one (4
in fp32, 2 in fp16 and bf16), k its factor. The other is the result: in fp32, in bytes, and in Pillow's hands twice. To
that come the weights, and on a CPU what its allocator keeps. On CUDA, cuDNN may take as much again as the largest layer
for its workspace; PyTorch then tries an algorithm that takes less. In main memory, whatever the tile: Pillow's 4 bytes
for each pixel of the picture, of each pass's result and, where a last resample follows, of its result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from engines import pictures
from engines.diffusion import device as devices
from engines.diffusion import tiling
from engines.diffusion.device import Device
from engines.diffusion.mixing import never
from engines.diffusion.nets import Net
from engines.errors import InvalidRequest, LoadError, OutOfMemory, Stopped
from engines.limits import MAX_IMAGE

HALO = 16
"""Pixels. Measured with the only trained network that is at hand, the embedded one (radius 12), on a picture of sixteen
shapes in tiles of 64 px beside their halos: the largest difference from the whole picture at once is 14 levels of 255
at 2 px, 4 at 4, 1 at 8, none at 16, 32 and 64. Deeper networks see farther, and theirs is to be measured when one is at
hand."""
HEAP = 40 << 20
"""Bytes that a CPU's allocator keeps beside what is in use, about: glibc gives blocks of less than 32 MiB back when it
sees fit. Measured in eleven processes that took 70 to 660 MiB: 6 to 81, 41 on average; with its mmap threshold fixed at
1 MiB, so that it keeps nothing, the rest of the formula is within 8 % of what those above 60 MiB took."""
INNER = 16
"Pixels of a tile beside its halos, at least: below, nearly all that is computed is thrown away."
LARGEST = 512
"Pixels of a tile beside its halos, at most: a GPU is busy with that, and a stop is looked at between tiles."
LUMA = (0.299, 0.587, 0.114)
"What a grey picture's three bands become one by, as Pillow does it (ITU-R BT.601)."

_SMALLER = f"at most {MAX_IMAGE // 10**6} megapixels are made: ask for a smaller factor"

Alpha = Literal["lanczos", "net"]
"How transparency is enlarged: by resampling, or by the network as a grey picture."


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a picture is."""

    done: int
    "Tiles that are done."
    of: int
    "Tiles in all; more than before when memory ran out and tiles became smaller, and then `done` starts anew."


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that an enlargement takes at most; on a CPU the sum of all."""

    weights: int
    "The network's, on the device."
    tile: int
    "What is computed with, on the device."
    pictures: int
    "The picture and its results while the network works, in main memory."
    resampling: int
    "The same while the last resample is made, in main memory; 0 if none is."
    heap: int
    "What main memory's allocator keeps, about; 0 where the network is on a GPU."

    @property
    def all(self) -> int:
        """Of a machine whose CPU computes."""
        return self.weights + max(self.tile + self.pictures + self.heap, self.resampling)


def upscale(
    picture: Image.Image,
    net: Net,
    device: Device,
    *,
    size: tuple[int, int] | None = None,
    tile: tuple[int, int] | None = None,
    budget: int = 1 << 30,
    halo: int = HALO,
    feather: int | None = None,
    alpha: Alpha = "lanczos",
    stop: Callable[[], bool] = never,
) -> Generator[Progress, None, Image.Image]:
    """Enlarges a picture; yields how far it is, and returns the result, in mode RGB, RGBA, L or LA.

    The network is applied until the wanted size is reached or passed, at least once; if passed, one Lanczos resample
    gives the exact size.

    Args:
        picture: of any mode (see `engines.pictures`); it is not changed.
        net: on `device` and in the type to compute in: see `place`.
        device: for the words when its memory is used up.
        size: pixels wanted; None for the network's own factor.
        tile: pixels of a tile's width and height, halos included; None for what `budget` allows.
        budget: bytes of the device's memory that a tile may take, without the weights.
        halo: pixels around a tile.
        feather: pixels over which tiles are blended; None for `halo`, or 0 where the halo is as wide as the radius.
        alpha: how transparency is enlarged.
        stop: looked at before every tile.

    Raises:
        InvalidRequest: the picture is animated or damaged, or the size can't be made.
        OutOfMemory: the smallest tile is too large.
        LoadError: the network gave numbers that are not finite.
        Stopped: `stop` said so.
        ValueError: `tile` leaves nothing beside its halos.
    """
    picture = pictures.prepare(picture)
    size = (picture.width * net.scale, picture.height * net.scale) if size is None else size
    check(picture.size, net.scale, size)
    sizes = passes(picture.size, net.scale, size)
    if feather is None:
        feather = 0 if halo >= net.radius else halo
    if tile is None:
        tile = tile_for(net, sizes[-2], budget, halo, 3 if "RGB" in picture.mode else 1)
    made: Image.Image | None = None
    while made is None:
        run = _Run(net, tile, halo, feather, stop)
        try:
            made = yield from run.all(picture, sizes, size, alpha)
        except Exception as e:
            if not devices.is_out_of_memory(e):
                raise
        # past the except, so that the frames of the failure are gone before their memory is asked for
        if made is None:
            del run
            devices.release(device)
            smaller = shrunk(tile, sizes[-2], halo, net.align)
            if smaller is None:
                raise devices.out_of_memory(device)
            tile = smaller
    made.info = dict(picture.info)
    return made


def place(net: Net, device: Device, dtype: torch.dtype) -> Net:
    """Moves a network to where it computes, and to the type that it computes in; gives it back.

    Its weights are laid out with their channels side by side where convolutions are quickest so: on a CPU, where the
    other layout also takes as much memory again for each layer (measured: oneDNN, one third slower), and in half
    precision on CUDA.

    Raises:
        InvalidRequest: fp16 on a CPU, which takes ten times the memory and a hundred times as long.
    """
    if device.torch.type == "cpu" and dtype == torch.float16:
        raise InvalidRequest("fp16 is slow and inexact on a CPU", "use bf16 or fp32", "precision")
    return net.to(device.torch, dtype).to(memory_format=_layout(device.torch, dtype))  # type: ignore[call-overload, no-any-return]


def _layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    sideways = device.type == "cpu" or (device.type == "cuda" and dtype != torch.float32)
    return torch.channels_last if sideways else torch.contiguous_format


# ── sizes and memory ────────────────────────────────────────────────────────────────────────────────────────────────


def passes(size: tuple[int, int], scale: int, wanted: tuple[int, int]) -> list[tuple[int, int]]:
    """The sizes of a picture as it is and after each time that a network of factor `scale` is applied: once at least,
    and until both sides are as long as is wanted; once only for a network that doesn't enlarge."""
    sizes = [size, (size[0] * scale, size[1] * scale)]
    while scale > 1 and (sizes[-1][0] < wanted[0] or sizes[-1][1] < wanted[1]):
        sizes.append((sizes[-1][0] * scale, sizes[-1][1] * scale))
    return sizes


def check(size: tuple[int, int], scale: int, wanted: tuple[int, int]) -> None:
    """Raises InvalidRequest if a network of factor `scale` would make more than MAX_IMAGE pixels of a picture, for a
    result or on the way to it."""
    if min(wanted) < 1 or math.prod(wanted) > MAX_IMAGE:
        raise InvalidRequest(f"a picture of {wanted[0]}x{wanted[1]} can't be made", _SMALLER, "size")
    way = passes(size, scale, wanted)[-1]
    if math.prod(way) > MAX_IMAGE:
        raise InvalidRequest(f"{way[0]}x{way[1]} pixels would be made on the way", _SMALLER, "size")


def pixel_bytes(net: Net, bands: int = 3) -> int:
    """Bytes of the device's memory for each pixel of a tile of a picture of so many bands; see the top of this file."""
    size = _dtype(net).itemsize
    return max(net.alive * size, net.colours * net.scale**2 * 22 // 3) * _batch(net, bands)


def weight_bytes(net: Net) -> int:
    """Bytes of a network's weights."""
    return sum(weight.numel() * weight.element_size() for weight in net.parameters())


def tile_for(net: Net, size: tuple[int, int], budget: int, halo: int, bands: int = 3) -> tuple[int, int]:
    """The width and height of the largest tiles that fit in `budget` bytes, halos included.

    They are square unless the picture is narrower than that, and no more than LARGEST beside their halos.

    Args:
        size: of the largest picture that goes through the network.
        budget: for what a tile takes, without the weights.
        bands: of the picture, without transparency: 3 or 1.

    Raises:
        OutOfMemory: `budget` is too little for INNER pixels with their halos.
    """
    align, around = net.align, 2 * _up(halo, net.align)
    width, height = _padded(size, align)
    least, most = around + _up(INNER, align), around + LARGEST
    pixels = budget // pixel_bytes(net, bands)
    side = max(math.isqrt(pixels), 1)
    tall = min(side, height, most) // align * align
    wide = min(pixels // max(tall, 1), width, most) // align * align
    tall = min(pixels // max(wide, 1), height, most) // align * align
    if wide < min(least, width) or tall < min(least, height):
        needed = min(least, width) * min(least, height) * pixel_bytes(net, bands)
        raise OutOfMemory(
            f"{budget / 2**20:,.0f} MiB are too little for a tile with a halo of {halo} px: "
            f"it takes {needed / 2**20:,.0f} MiB",
            "take a narrower halo, or fp16 or bf16 instead of fp32",
        )
    return wide, tall


def least(net: Net) -> int:
    """Pixels of the smallest tile that leaves anything beside halos of HALO."""
    return 2 * _up(HALO, net.align) + _up(INNER, net.align)


def shrunk(tile: tuple[int, int], size: tuple[int, int], halo: int, align: int) -> tuple[int, int] | None:
    """The next smaller tiles for a picture of `size`: half as wide and half as high beside their halos, or None when
    that is INNER or less already."""
    around, inner = 2 * _up(halo, align), _up(INNER, align)
    was = tiling.fitted(_padded(size, align), tile, halo, align)
    sides = tuple(min(side, max((side - around) // 2 // align * align, inner) + around) for side in was)
    return None if sides == was else cast("tuple[int, int]", sides)


def need(
    net: Net,
    size: tuple[int, int],
    wanted: tuple[int, int],
    tile: tuple[int, int],
    halo: int = HALO,
    mode: str = "RGB",
) -> Need:
    """What enlarging a picture takes at most.

    Args:
        net: in the type that it computes in.
        size: of the picture.
        wanted: of the result.
        tile: in pixels, halos included.
        halo: in pixels.
        mode: of the picture, as `engines.pictures` gives it.
    """
    sizes = passes(size, net.scale, wanted)
    pixels = max(math.prod(tiling.fitted(_padded(each, net.align), tile, halo, net.align)) for each in sizes[:-1])
    area = [math.prod(each) for each in sizes]
    first, last, final = area[0], area[-1], math.prod(wanted)
    band = 4 if "RGB" in mode else 1  # Pillow's bytes for a pixel of colour; where there is transparency, always 4
    whole = 4 if mode != "L" else 1
    # what came, and the results before and after each pass; then transparency, beside the finished colours
    held = first * whole + max((area[i] if i else 0) + area[i + 1] for i in range(len(area) - 1)) * band
    if mode in ("RGBA", "LA"):
        held = first + max(held, first * whole + final * band + area[-2] + last)
    # by columns first, then by rows
    resampling = first * whole + (last + wanted[0] * sizes[-1][1] + final) * band if sizes[-1] != wanted else 0
    cpu = next(net.parameters()).device.type == "cpu"
    tiles = pixels * pixel_bytes(net, 3 if "RGB" in mode else 1)
    return Need(weight_bytes(net), tiles, held, resampling, HEAP if cpu else 0)


def _padded(size: tuple[int, int], align: int) -> tuple[int, int]:
    return _up(size[0], align), _up(size[1], align)


def _up(number: int, align: int) -> int:
    return -(-number // align) * align


def _dtype(net: Net) -> torch.dtype:
    return next(net.parameters()).dtype


def _batch(net: Net, bands: int) -> int:
    """Pictures that a picture is for a network: a grey one sees the bands of a coloured picture one by one."""
    return max(bands // net.colours, 1)


# ── the work ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Run:
    """One try, with tiles of one size."""

    def __init__(self, net: Net, tile: tuple[int, int], halo: int, feather: int, stop: Callable[[], bool]) -> None:
        self.net, self.tile, self.halo, self.feather, self.stop = net, tile, halo, feather, stop
        self.done = self.of = 0

    def all(
        self, picture: Image.Image, sizes: list[tuple[int, int]], wanted: tuple[int, int], alpha: Alpha
    ) -> Generator[Progress, None, Image.Image]:
        """The picture in the size that is wanted; errors as `upscale`."""
        clear = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
        opaque = clear is not None and clear.getextrema() == (255, 255)
        through = clear is not None and not opaque and alpha == "net"
        for each in sizes[:-1]:
            count = tiling.count(_padded(each, self.net.align), self.tile, self.halo, self.net.align)
            self.of += count * (2 if through else 1)
        yield Progress(0, self.of)
        made = yield from self._applied(picture, len(sizes) - 1, wanted)
        if clear is None:
            return made
        if through:
            clear = yield from self._applied(clear, len(sizes) - 1, wanted)
        elif opaque:
            clear = Image.new("L", wanted, 255)
        else:
            clear = clear.resize(wanted, Image.Resampling.LANCZOS)
        made.putalpha(clear)
        return made

    def _applied(
        self, picture: Image.Image, times: int, wanted: tuple[int, int]
    ) -> Generator[Progress, None, Image.Image]:
        for _ in range(times):
            picture = yield from self._enlarged(picture)
        return picture if picture.size == wanted else picture.resize(wanted, Image.Resampling.LANCZOS)

    def _enlarged(self, source: Image.Image) -> Generator[Progress, None, Image.Image]:
        """`source` without transparency, each pixel made into k×k, in mode RGB or L."""
        k, width, height = self.net.scale, source.width * self.net.scale, source.height * self.net.scale
        result = Image.new("RGB" if "RGB" in source.mode else "L", (width, height))
        size = _padded(source.size, self.net.align)
        carried: npt.NDArray[np.float32] | None = None
        for tile in tiling.tiles(size, self.tile, self.halo, self.feather, self.net.align):
            if self.stop():
                raise Stopped
            x, y = tile.x, tile.y
            levels = self._levels(source, tile.read)
            levels = levels[
                (y.low - y.start) * k : (y.high - y.start) * k, (x.low - x.start) * k : (x.high - x.start) * k
            ]
            # Each pixel that is shared waits for the tile that comes last: across, in fp32, until the next tile; down,
            # where a whole row of tiles comes between, in the picture itself.
            if x.before:
                weight = tiling.rising(x.before * k)[None, :, None]
                assert carried is not None
                levels[:, : x.before * k] = levels[:, : x.before * k] * weight + carried * (1 - weight)
            if x.after:
                carried = levels[:, -x.after * k :].copy()
                levels = levels[:, : -x.after * k]
            left, top = x.low * k, y.low * k
            if y.before:
                weight = tiling.rising(y.before * k)[:, None, None]
                box = (left, top, min(left + levels.shape[1], width), min(top + y.before * k, height))
                above = _array(result.crop(box)).astype(np.float32)
                shared = levels[: above.shape[0], : above.shape[1]]
                shared[:] = shared * weight[: above.shape[0]] + above * (1 - weight[: above.shape[0]])
            levels = levels[: height - top, : width - left]  # what was padded goes
            if levels.size:
                np.rint(levels, out=levels)
                pixels = np.ascontiguousarray(levels.astype(np.uint8))
                result.paste(Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]), (left, top))
            del levels
            self.done += 1
            yield Progress(self.done, self.of)
        return result

    @torch.inference_mode()
    def _levels(self, source: Image.Image, box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
        """(k · height, k · width, 3 or 1) fp32 levels in 0 … 255 of a part of a picture, which ends where it must be
        padded: the last row and the last column are repeated.

        Raises:
            LoadError: the network gave numbers that are not finite.
        """
        net, dtype = self.net, _dtype(self.net)
        left, top, right, bottom = box
        seen = _array(source.crop((left, top, min(right, source.width), min(bottom, source.height))))
        bands = 3 if seen.shape[2] >= 3 else 1
        seen = seen[..., :bands]
        if seen.shape[:2] != (bottom - top, right - left):
            seen = np.pad(
                seen, ((0, bottom - top - seen.shape[0]), (0, right - left - seen.shape[1]), (0, 0)), mode="edge"
            )
        device = next(net.parameters()).device
        tensor = torch.from_numpy(np.ascontiguousarray(seen)).to(device).permute(2, 0, 1)[None]
        if net.colours == 1:
            tensor = tensor.transpose(0, 1)
        elif bands == 1:
            tensor = tensor.expand(-1, 3, -1, -1)
        tensor = tensor.to(dtype).div_(255).contiguous(memory_format=_layout(device, dtype))
        made = net(tensor).to(torch.float32)
        del tensor
        if not torch.isfinite(made.sum()):  # which takes no memory, as a mask of the picture's size would
            raise LoadError("the upscaler gave numbers that are not finite", "try fp32")
        made.clamp_(0, 1).mul_(255)
        if net.colours == 1:
            made = made.transpose(0, 1)
        elif bands == 1:
            made = (made * made.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        levels = made[0].permute(1, 2, 0).contiguous().cpu().numpy()
        return cast("npt.NDArray[np.float32]", levels)


def _array(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """(height, width, bands)."""
    pixels = np.array(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]
