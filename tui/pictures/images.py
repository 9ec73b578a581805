"""Picture files and bytes, read with care: whatever is wrong with one becomes one line of text."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.events import Pixels
from engines.limits import MAX_IMAGE

if TYPE_CHECKING:
    from PIL.Image import Image

_BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
"What PIL's readers raise for a damaged file."


def load(source: str | bytes, largest: int) -> Pixels:
    """The picture in a file, or in the bytes of one, upright, in sRGB and at most `largest` pixels a side.

    ValueError says in one line why not.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, str):
        try:
            # Opening a pipe would wait for ever.
            if not stat.S_ISREG(Path(source).stat().st_mode):
                raise ValueError("it is no file")
        except OSError as error:
            raise ValueError("the file is gone" if isinstance(error, FileNotFoundError) else _why(error)) from None
    try:
        with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
            if image.width * image.height > MAX_IMAGE:
                raise Image.DecompressionBombError
            image.draft("RGB", (largest, largest))  # a large JPEG is decoded small: much faster
            rgb = _as_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise ValueError(f"it has more than {MAX_IMAGE // 1_000_000} million pixels") from None
    except UnidentifiedImageError:
        raise ValueError("it is no picture") from None
    except PermissionError as error:
        raise ValueError(_why(error)) from None
    except _BROKEN:
        raise ValueError("the picture is damaged") from None
    rgb.thumbnail((largest, largest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return Pixels(rgb.width, rgb.height, rgb.tobytes())


def _as_rgb(image: Image) -> Image:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 bits a channel; convert("RGB") would clip all but the darkest to white
        image = image.convert("F").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (48, 48, 48, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image.convert("RGB")


def _why(error: OSError) -> str:
    return (error.strerror or "it cannot be read").lower()


@dataclass(frozen=True, slots=True)
class Wish:
    """Which part of a picture is wanted."""

    size: tuple[int, int]
    "Pixels that there is room for."
    zoom: float
    "How much larger than the room the whole is shown: 1 fits it; 0 shows a pixel as a pixel."
    centre: tuple[float, float]
    "What is in the middle, 0 … 1 across and down."
    ground: tuple[int, int, int] = (0, 0, 0)
    "What stands around a picture that is shown pixel for pixel and is smaller than the room."


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a picture."""

    pixels: Pixels
    "As it is shown."
    size: tuple[int, int]
    "Pixels of the whole picture."
    scale: float
    "Shown pixels for one of the picture's."
    seen: tuple[float, float]
    "Of the whole, how much is in sight across and down, 0 … 1."
    centre: tuple[float, float]
    "What is in the middle; nothing beyond an edge is in sight."


class Opened:
    """Pictures as they are, the last few that were looked at; for one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[str, Image] = {}

    def part(self, path: str, paths: tuple[str, ...], wish: Wish) -> Part:
        """A part of a picture file. Of several files the same part is shown at the same size: the zoom that shows a
        pixel as a pixel is that of the largest of them. ValueError says in one line why not."""
        from PIL.Image import Resampling
        from PIL.Image import new as new_image

        self._known = {known: image for known, image in self._known.items() if known in paths}
        image = self._open(path)
        others = [self._open(one) for one in paths if wish.zoom == 0]
        room = min(wish.size[0] / image.width, wish.size[1] / image.height)
        scale = room * wish.zoom if wish.zoom else max([image.width, *(o.width for o in others)]) / image.width
        seen = tuple(min(1.0, have / (side * scale)) for have, side in zip(wish.size, image.size, strict=True))
        centre = tuple(min(max(at, s / 2), 1 - s / 2) for at, s in zip(wish.centre, seen, strict=True))
        box = tuple(side * (at - s / 2) for side, at, s in zip(image.size, centre, seen, strict=True))
        box += tuple(side * (at + s / 2) for side, at, s in zip(image.size, centre, seen, strict=True))
        wide, high = (max(1, round(side * s * scale)) for side, s in zip(image.size, seen, strict=True))
        # enlarged, a pixel is to be seen as what it is
        how = Resampling.NEAREST if scale >= 1 else Resampling.LANCZOS
        shown = image.resize((wide, high), how, (box[0], box[1], box[2], box[3]), reducing_gap=3.0)
        if not wish.zoom and (wide < wish.size[0] or high < wish.size[1]):  # else it would be enlarged to fit
            canvas = new_image("RGB", (max(wide, wish.size[0]), max(high, wish.size[1])), wish.ground)
            canvas.paste(shown, ((canvas.width - wide) // 2, (canvas.height - high) // 2))
            shown = canvas
        pixels = Pixels(shown.width, shown.height, shown.tobytes())
        return Part(pixels, image.size, scale, (seen[0], seen[1]), (centre[0], centre[1]))

    def _open(self, path: str) -> Image:
        if path not in self._known:
            from PIL import Image

            pixels = load(path, MAX_IMAGE)
            self._known[path] = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.data)
        return self._known[path]
