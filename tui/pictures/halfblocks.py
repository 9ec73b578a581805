"""Pixels to lines of half-blocks: every cell shows two pixels, one above the other, as '▀' in two colours.

Everything here is plain functions for a worker thread: resizing (in PIL, which lets other threads run meanwhile),
building the segments, and writing down beforehand what the terminal will be sent. The thread of the interface only
swaps one list of strips for another.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.color import Color, ColorType
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engines.events import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

Colours: TypeAlias = Literal["truecolor", "256", "none"]
"What the terminal can show; with 'none' pictures are made of characters."

UPPER = "▀"
RAMP = " .:-=+*#%@"
"Characters from dark to bright, on a dark background."


def fit(width: int, height: int, cols: int, rows: int) -> tuple[int, int]:
    """The cells (columns, rows) that a picture of `width` by `height` pixels takes in a box of `cols` by `rows` cells.

    A cell is one pixel wide and two high. At least one cell, so that the thinnest picture is seen, but none in a box
    without cells.
    """
    if min(width, height, cols, rows) <= 0:
        return 0, 0
    scale = min(cols / width, 2 * rows / height)
    return min(cols, max(1, round(width * scale))), min(rows, max(1, round(height * scale / 2)))


def to_image(pixels: Pixels) -> Image:
    """The pixels as a PIL image; they are not copied. ValueError if there are too few or too many bytes."""
    from PIL import Image

    if pixels.width <= 0 or pixels.height <= 0 or len(pixels.data) != pixels.width * pixels.height * 3:
        raise ValueError(f"{len(pixels.data)} bytes are no picture of {pixels.width} by {pixels.height}")
    return Image.frombuffer("RGB", (pixels.width, pixels.height), pixels.data, "raw", "RGB", 0, 1)


def strips_of(
    source: Pixels | Image,
    cols: int,
    rows: int,
    colours: Colours = "truecolor",
    *,
    dark: bool = True,
    cells: tuple[int, int] | None = None,
) -> list[Strip]:
    """The picture as large as it fits into `cols` by `rows` cells: a strip a row, all of one length, without margins.

    `dark` is the background that characters stand on, where `colours` is "none"; `cells` are the columns and rows that
    it takes, where a cell has another shape than one by two.
    """
    image = to_image(source) if isinstance(source, Pixels) else source
    width, height = cells or fit(image.width, image.height, cols, rows)
    if not width:
        return []
    if colours == "none":
        return _characters(_resized(image, width, height), dark)
    image = _resized(image, width, height * 2)
    pixels = _pixels_256(image) if colours == "256" else _pixels_truecolor(image)
    strips = []
    for start in range(0, len(pixels), 2 * width):
        strips.append(_line(pixels[start : start + width], pixels[start + width : start + 2 * width]))
        time.sleep(0)  # lets the interface's thread in after half a millisecond instead of Python's five
    return strips


COARSE_COLOURS = 20
"Of a picture in coarse strips."


def coarse_strips(source: Pixels, cols: int, rows: int, cells: tuple[int, int] | None = None) -> list[Strip]:
    """The picture in squares of two cells and few of xterm's colours: a tenth of the bytes of half-blocks, for what is
    looked at for a moment. Else as `strips_of`."""
    from PIL import Image

    image = to_image(source)
    width, height = cells or fit(image.width, image.height, cols, rows)
    if not width:
        return []
    across = -(-width // 2)
    image = _resized(image, across, height)
    image = image.quantize(COARSE_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
    table = _xterm_pixels()
    squares = [table[n] for n in image.quantize(palette=_xterm_palette(), dither=Image.Dither.NONE).tobytes()]
    strips = []
    for start in range(0, len(squares), across):
        row = [square for square in squares[start : start + across] for _ in range(2)][:width]
        strips.append(_line(row, row))
    return strips


_Pixel: TypeAlias = tuple[Color, str]
"""One colour, ready for rich, and what follows 38; or 48; in an SGR sequence; the same colour is the same object."""


def _pixels_truecolor(image: Image) -> list[_Pixel]:
    raw = image.tobytes()
    known: dict[tuple[int, int, int], _Pixel] = {}
    pixels = []
    for rgb in zip(raw[0::3], raw[1::3], raw[2::3], strict=True):
        pixel = known.get(rgb)
        if pixel is None:
            red, green, blue = rgb
            code = f"2;{red};{green};{blue}"
            pixel = known[rgb] = (Color(code, ColorType.TRUECOLOR, None, ColorTriplet(red, green, blue)), code)
        pixels.append(pixel)
    return pixels


def _pixels_256(image: Image) -> list[_Pixel]:
    from PIL import Image

    palette = _xterm_palette()
    table = _xterm_pixels()
    return [table[n] for n in image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).tobytes()]


def _line(top: list[_Pixel], bottom: list[_Pixel]) -> Strip:
    """One row of cells, equal neighbours merged, and what the terminal is sent for it.

    Textual would write both colours and a reset for every segment. The strip is given its text beforehand, with a
    colour only where it changes: a fifth less for the terminal to read, and nothing left to do for the interface.
    Where something lies over the picture, Textual cuts the strip and falls back on the segments, whose styles are
    given their codes, too.
    """
    segments: list[Segment] = []
    sent: list[str] = []
    fg_sent = bg_sent = None
    start, end = 0, len(top)
    while start < end:
        fg, bg = top[start], bottom[start]
        stop = start + 1
        while stop < end and top[stop] is fg and bottom[stop] is bg:
            stop += 1
        count = stop - start
        start = stop
        (fg_color, fg_code), (bg_color, bg_code) = fg, bg
        style = Style.from_color(fg_color, bg_color)
        style._ansi = f"38;{fg_code};48;{bg_code}"
        segments.append(Segment(UPPER * count, style))
        if fg is bg or fg is fg_sent:
            sent.append("" if bg is bg_sent else f"\x1b[48;{bg_code}m")
        else:
            sent.append(f"\x1b[38;{fg_code}m" if bg is bg_sent else f"\x1b[{style._ansi}m")
            fg_sent = fg
        bg_sent = bg
        sent.append((" " if fg is bg else UPPER) * count)
    sent.append("\x1b[0m")
    strip = Strip(segments, len(top))
    strip._render_cache = "".join(sent)
    return strip


def _characters(image: Image, dark: bool) -> list[Strip]:
    """Brightness as characters without a style; `image` has one pixel a cell."""
    from PIL import ImageOps

    ramp = RAMP if dark else RAMP[::-1]
    # The whole ramp is used: a dim picture would be three dots otherwise.
    raw = ImageOps.autocontrast(image.convert("L"), cutoff=1).tobytes()
    text = "".join([ramp[value * len(ramp) >> 8] for value in raw])
    return [Strip([Segment(text[i : i + image.width])], image.width) for i in range(0, len(text), image.width)]


def _resized(image: Image, width: int, height: int) -> Image:
    """Lanczos keeps a small picture crisp in both directions; `reducing_gap` makes a large one cheap."""
    from PIL import Image

    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _xterm() -> list[tuple[int, int, int]]:
    """xterm's 256 colours; the first 16 are the user's own, so black stands in for them."""
    levels = (0, 95, 135, 175, 215, 255)
    cube = [(red, green, blue) for red in levels for green in levels for blue in levels]
    return [(0, 0, 0)] * 16 + cube + [(grey, grey, grey) for grey in range(8, 239, 10)]


_XTERM = _xterm()


def _xterm_palette() -> Image:
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for pixel in _XTERM for channel in pixel])
    return palette


@lru_cache(1)
def _xterm_pixels() -> list[_Pixel]:
    pixels: list[_Pixel] = []
    for number, rgb in enumerate(_XTERM):
        pixels.append((Color(f"5;{number}", ColorType.TRUECOLOR, None, ColorTriplet(*rgb)), f"5;{number}"))
    return [pixels[16]] * 16 + pixels[16:]
