"""Pictures as sixels, for terminals that take them (DEC's; VT330/340 Programmer Reference Manual, chapter 14)."""

from __future__ import annotations

import math
import re

from engines.events import Pixels
from tui.pictures.halfblocks import to_image

COLOURS = 256
"Of a picture's palette, at most; more have no register in most terminals."

LINE = 6
"Pixels of height that a line of sixels has."

_DEFINED = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)")
_CHOSEN = re.compile(r"#(\d+)")
_WHOLE = re.compile(r'(\x1bP[\d;]*q)"\d+;\d+;(\d+);(\d+)([^\x1b]*)(\x1b\\)')


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


def parts(sixels: str, cell: int) -> list[tuple[int, str]]:
    """A picture in as many as there are: each begins at a cell, and can be drawn by itself. Together they are a fifth
    longer, for each defines its colours.

    Args:
        sixels: what `encode` gave.
        cell: pixels of height that a cell has.

    Returns:
        For each its first row of cells, counted from that of the picture, and its sixels.
    """
    found = _WHOLE.fullmatch(sixels)
    if found is None:
        return [(0, sixels)]
    begins, wide, high, body, ends = found[1], found[2], int(found[3]), found[4], found[5]
    colours = {number: f"#{number};2;{r};{g};{b}" for number, r, g, b in _DEFINED.findall(body)}
    lines = _DEFINED.sub("", body).split("-")
    every = cell // math.gcd(cell, LINE)
    some = []
    for first in range(0, -(-high // LINE), every):
        drawn = "-".join(lines[first : first + every])
        used = dict.fromkeys(_CHOSEN.findall(drawn))
        defined = "".join(colours[number] for number in used if number in colours)
        height = min(every * LINE, high - first * LINE)
        some.append((first * LINE // cell, f'{begins}"1;1;{wide};{height}{defined}{drawn}{ends}'))
    return some


def at(column: int, row: int, sixels: str) -> str:
    """What draws them with the first pixel in a cell, counted from 0, in one frame; the cursor stays where it is."""
    return f"\x1b[?2026h\x1b7\x1b[{row + 1};{column + 1}H{sixels}\x1b8\x1b[?2026l"
