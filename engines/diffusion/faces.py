"""Faces of a picture, drawn anew by a net that knows faces, and put back where they were.

Each face is turned, scaled and moved so that its five points come to lie where the net expects them, which is the frame
of FFHQ (Karras et al. 2019, arXiv:1812.04948), the pictures that GFPGAN was trained on. What the net makes of it goes
back by the inverse, under a mask that is soft at its rim. Pixels outside of the mask are never touched.

Points and pixels are those of `aligning`: the middle of the first pixel is 0, 0.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from engines.diffusion.aligning import SIDE, Similarity, similarity
from engines.diffusion.detecting import Face
from engines.diffusion.device import Device
from engines.errors import InvalidRequest, LoadError, Stopped

WHOLE, RIM = 0.70, 0.95
"""Of the way from the middle of the frame to its side: up to where the new face shows wholly, and where it ends.
Between them it fades."""
ROUNDNESS = 4.0
"Exponent of the mask's rounded square (a superellipse): 2 is a circle, and cuts chins; 8 is nearly a square."
BAND = 1 << 18
"Pixels that are put back at once, so that memory does not grow with the face."


@dataclass(frozen=True, slots=True)
class Restored:
    """A face is done; or, once and with `of` 0, there is none."""

    number: int
    "1 … of."
    of: int
    "Faces in all."
    note: str = ""
    "One line for the user, where there is something to say."


def cut(pixels: NDArray[np.uint8], to_frame: Similarity, side: int = SIDE) -> torch.Tensor:
    """The frame of a face, (1, 3, side, side) float32 of 0 … 1, taken bicubically, and of a copy that is reduced
    without aliasing where the face is larger than the frame. Beyond the picture's edges it is mirrored, as in FFHQ.

    Args:
        pixels: (height, width, 3), RGB.
        to_frame: from the picture to the frame.
        side: pixels of the frame.
    """
    height, width = pixels.shape[:2]
    frame = to_frame.inverse(((-0.5, -0.5), (side - 0.5, -0.5), (side - 0.5, side - 0.5), (-0.5, side - 0.5)))
    margin = 4 * max(1 / to_frame.scale, 1)
    left, right = _span([x for x, _ in frame], margin, width)
    top, bottom = _span([y for _, y in frame], margin, height)
    step = 1 / to_frame.scale
    # what is large is made smaller by a whole number first, so that memory does not grow with the face
    factor = min(max(int(step), 1), bottom - top, right - left)
    image = _boxed(pixels[top:bottom, left:right], factor).permute(2, 0, 1)[None] / 255
    z = _grid(range(side), range(side), to_frame.inverse) - complex(left, top)
    half = 0.5 + 0.5j
    return _sample(image, (z + half) / factor - half, step / factor).clamp_(0, 1)


def paste(pixels: NDArray[np.uint8], face: torch.Tensor, to_frame: Similarity, strength: float) -> None:
    """Puts a face back into the pixels, in place: p + strength · mask · (face − p) in float32, rounded once.

    Args:
        pixels: (height, width, 3), RGB.
        face: (1, 3, side, side) float32 of 0 … 1, on the CPU.
        to_frame: from the picture to the frame, as it was cut.
        strength: 0 … 1. With 0 nothing changes.
    """
    height, width = pixels.shape[:2]
    side = face.shape[-1]
    middle = to_frame.inverse((((side - 1) / 2, (side - 1) / 2),))[0]
    # the mask lies within a square however it is turned, and so within this circle's square
    radius = RIM * side / 2 * 2**0.5 / to_frame.scale
    left, right = _span([middle[0] - radius, middle[0] + radius], 1, width)
    top, bottom = _span([middle[1] - radius, middle[1] + radius], 1, height)
    rows = max(BAND // max(right - left, 1), 1)
    smaller = _reduced(face, to_frame.scale)
    for y in range(top, bottom if strength > 0 else top, rows):
        band = pixels[y : min(y + rows, bottom), left:right]
        z = _grid(range(left, right), range(y, y + band.shape[0]), to_frame)
        mask = strength * _mask(z, side)
        inside = mask > 0
        if not inside.any():
            continue
        # in the smaller copy the frame has the same middle and fewer pixels
        new = _sample(smaller, (z + (0.5 + 0.5j)) * (smaller.shape[-1] / side) - (0.5 + 0.5j), 1.0)[0]
        new = new.clamp_(0, 1).permute(1, 2, 0) * 255
        old = torch.tensor(band).float()
        mixed = (old + mask[..., None] * (new - old)).round_().to(torch.uint8)
        band[inside.numpy()] = mixed[inside].numpy()


def restore(
    picture: Image.Image,
    faces: Sequence[Face],
    net: Callable[[torch.Tensor], torch.Tensor],
    strength: float,
    device: Device,
    dtype: torch.dtype,
    stop: Callable[[], bool],
) -> Generator[Restored, None, Image.Image]:
    """Restores the faces of a picture one by one, and returns the picture: a new one, RGB or RGBA, whose alpha is as it
    was; or the very same, where there is no face or the strength is 0.

    Every face is cut from the picture as it came, so that faces that overlap don't depend on each other's new looks.

    Args:
        picture: of any mode with 8 bits a channel.
        faces: as `detecting.find` gives them. One whose points make no sense is left alone and told.
        net: takes and gives (1, 3, SIDE, SIDE), RGB, −1 … 1, in `dtype` on the device; as Gfpgan does.
        strength: 0 … 1, how much of the new face shows.
        device: where the net is. All else is done on the CPU.
        dtype: what the net computes in.
        stop: looked at before each face.

    Raises:
        InvalidRequest: the strength is out of range.
        LoadError: the net gave numbers that are not finite, in fp32.
        Stopped: `stop` said so.
    """
    if not 0 <= strength <= 1:  # which a NaN isn't either
        raise InvalidRequest(f"a strength of {strength:g} is out of range", "0 … 1", "restore_faces")
    if not faces:
        yield Restored(0, 0, "no face was found; the picture is left as it was")
        return picture
    if strength == 0:
        yield Restored(len(faces), len(faces), "with strength 0 the picture is left as it was")
        return picture
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    before: NDArray[np.uint8] = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    after = before.copy()
    for number, face in enumerate(faces, 1):
        if stop():
            raise Stopped
        try:
            to_frame = similarity(face.points)
        except ValueError:
            yield Restored(number, len(faces), f"face {number} was left as it was: its points make no sense")
            continue
        shown = cut(before[..., :3], to_frame) * 2 - 1
        with torch.inference_mode():
            made = net(shown.to(device.torch, dtype)).float().cpu()
        if not torch.isfinite(made).all():
            if dtype == torch.float32:
                raise LoadError("the face net gave numbers that are not finite", "download its file again")
            note = f"face {number} was left as it was: the net overflows in {str(dtype).removeprefix('torch.')}"
            yield Restored(number, len(faces), note)
            continue
        paste(after[..., :3], made.clamp(-1, 1) / 2 + 0.5, to_frame, strength)
        yield Restored(number, len(faces))
    del before  # the picture that is returned takes its place in memory
    result = Image.fromarray(after)
    result.info = dict(picture.info)  # a colour profile, above all
    return result


def _mask(z: torch.Tensor, side: int) -> torch.Tensor:
    """How much of the new face shows at places of the frame: 1 within, 0 from its rim on, a cubic between (smoothstep,
    which has no edge at either end)."""
    half = side / 2
    x, y = (z.real - (half - 0.5)) / half, (z.imag - (half - 0.5)) / half
    away = (x.abs() ** ROUNDNESS + y.abs() ** ROUNDNESS) ** (1 / ROUNDNESS)
    t = ((RIM - away) / (RIM - WHOLE)).clamp(0, 1)
    return (t * t * (3 - 2 * t)).float()


def _grid(columns: range, rows: range, by: Similarity) -> torch.Tensor:
    """Where each pixel of a rectangle goes, (rows, columns) complex128: in single precision a place in a large picture
    is a thousandth of a pixel off."""
    x = torch.arange(columns.start, columns.stop, dtype=torch.float64)
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    return (x[None, :] + 1j * y[:, None]) * by.a + by.b


def _sample(image: torch.Tensor, z: torch.Tensor, step: float) -> torch.Tensor:
    """(1, 3, h, w) at places, (1, 3, rows, columns), bicubically, mirrored beyond the edges. `step` is how many pixels
    of it lie between two places: with more than one it is reduced first."""
    height, width = image.shape[-2:]
    # from −1 on the outer edge of the first pixel to 1 on that of the last, whatever the image is reduced to
    places = torch.stack(((2 * z.real + 1) / width - 1, (2 * z.imag + 1) / height - 1), -1)[None].float()
    return functional.grid_sample(
        _reduced(image, step), places, mode="bicubic", padding_mode="reflection", align_corners=False
    )


def _boxed(pixels: NDArray[np.uint8], factor: int) -> torch.Tensor:
    """The means of squares of pixels, (height // factor, width // factor, 3) float32."""
    height, width = (length // factor for length in pixels.shape[:2])
    made = np.empty((height, width, 3), np.float32)
    for row in range(height):
        square = pixels[row * factor : (row + 1) * factor, : width * factor].reshape(factor, width, factor, 3)
        square.mean((0, 2), dtype=np.float32, out=made[row])
    return torch.from_numpy(made)


def _reduced(image: torch.Tensor, step: float) -> torch.Tensor:
    """The image with one pixel where `step` were; as it is where that is not more than one."""
    if step <= 1:
        return image
    size = [max(round(length / step), 1) for length in image.shape[-2:]]
    return functional.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False)


def _span(ends: Sequence[float], margin: float, length: int) -> tuple[int, int]:
    """The pixels of a side that a stretch covers with a margin; one at least, and none outside of it."""
    low = min(max(int(np.floor(min(ends) - margin)), 0), length - 1)
    high = max(min(int(np.ceil(max(ends) + margin)) + 1, length), low + 1)
    return low, high
