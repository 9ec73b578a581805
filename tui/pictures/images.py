"""Picture files and bytes, read with care: whatever is wrong with one becomes one line of text."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from engines.events import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
"A header that promises more is not believed: a file of a few kilobytes could fill the memory."
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
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft("RGB", (largest, largest))  # a large JPEG is decoded small: much faster
            rgb = _as_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise ValueError(f"it has more than {MAX_PIXELS // 1_000_000} million pixels") from None
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
