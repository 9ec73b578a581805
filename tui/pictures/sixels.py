"""Pictures as sixels, for terminals that take them (DEC's; VT330/340 Programmer Reference Manual, chapter 14)."""

from __future__ import annotations

import re

from engines.events import Pixels
from tui.pictures.halfblocks import to_image

COLOURS = 256
"Of a picture's palette, at most; more have no register in most terminals."

_DEFINED = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)")


def encode(pixels: Pixels, size: tuple[int, int], room: tuple[int, int], ground: tuple[int, int, int]) -> str:
    """A picture in exactly so many pixels, in the middle of a room of whole cells; 50 to 180 ms for 512x512, in a
    thread.

    Every definition of a colour is followed by its choice: xterm draws with the pen before, else.

    Args:
        pixels: the picture.
        size: its width and height, as it is drawn.
        room: width and height of all that is drawn.
        ground: the colour around it, 0 … 255 each.
    """
    from PIL import Image
    from textual_image._sixel import SixelOptions, image_to_sixels  # its table of runs and palettes; asks no terminal

    image = to_image(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if room != size:
        canvas = Image.new("RGB", room, ground)
        canvas.paste(image, ((room[0] - size[0]) // 2, (room[1] - size[1]) // 2))
        image = canvas
    return _DEFINED.sub(r"\g<0>#\1", image_to_sixels(image, SixelOptions(colors=COLOURS)))


def at(column: int, row: int, sixels: str) -> str:
    """What draws them with the first pixel in a cell, counted from 0, in one frame; the cursor stays where it is."""
    return f"\x1b[?2026h\x1b7\x1b[{row + 1};{column + 1}H{sixels}\x1b8\x1b[?2026l"
