"""Pictures fitted into the room of a view, in the terminal's way: what is heavy about showing one, for a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import PurePath

from textual.strip import Strip

from engines.events import Pixels
from tui.clean import one_line
from tui.pictures import graphics, kitty, sixels
from tui.pictures.deciding import Mode
from tui.pictures.halfblocks import Colours, coarse_strips, strips_of
from tui.pictures.images import load

KEPT = 1024
"A shown file is kept at most this many pixels a side: more than any terminal has half-blocks, and 3 MB at most."

SIZES = (192, 256, 384, 512, 768, KEPT)
"Pixels a side that the terminal is sent: the least that is enough. Room that grows a little costs no new upload."
PREVIEW, PREVIEW_COLOURS = 128, 64
"Pixels a side, and colours, of a preview that a terminal enlarges by itself: at most 15 kB."


@dataclass(frozen=True, slots=True)
class Order:
    """What the worker is to do."""

    ticket: int
    "Counts what was asked to be shown."
    source: Pixels | str
    "Pixels, or the path of a file that is not read yet."
    cols: int
    "Cells."
    rows: int
    "Cells."
    colours: Colours
    "What the terminal can show."
    dark: bool
    "What characters stand on."
    mode: Mode = "halfblocks"
    "How it is shown."
    cell: tuple[int, int] = (1, 2)
    "Pixels of a cell."
    preview: bool = False
    "Whether it is one of many that follow each other."
    whole: bool = False
    "Whether all of its colours are wanted."
    ground: tuple[int, int, int] = (0, 0, 0)
    "What it stands on."


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the worker made of it."""

    order: Order
    "What was asked."
    pixels: Pixels | None
    "The source, read; None if that failed."
    strips: tuple[Strip, ...] = ()
    "The picture's rows, without margins."
    error: str = ""
    "Why there is no picture."
    cells: tuple[int, int] = (0, 0)
    "Columns and rows that a picture in the terminal's own pixels takes."
    key: Hashable = None
    "Which picture the terminal is to show in its cells."
    png: bytes | None = None
    "That picture; None if the terminal had it when it was looked for."
    sixels: str = ""
    "What draws it over the cells."


def fitted(order: Order) -> Fitted:
    """The heavy part, for a thread. What is wrong with a picture becomes the error of what is returned."""
    try:
        pixels = order.source if isinstance(order.source, Pixels) else load(order.source, KEPT)
        if order.mode == "kitty":
            return _for_kitty(order, pixels)
        cells, size = _box(pixels, order)
        if order.mode == "sixel" and order.preview:
            return Fitted(order, pixels, tuple(coarse_strips(pixels, order.cols, order.rows, cells)), cells=cells)
        strips = strips_of(pixels, order.cols, order.rows, order.colours, dark=order.dark, cells=cells)
    except ValueError as error:
        name = PurePath(order.source).name if isinstance(order.source, str) else "the picture"
        return Fitted(order, None, error=f"Cannot show {one_line(name, 60)}: {error}")
    if order.mode == "sixel" and not order.preview:
        room = cells[0] * order.cell[0], cells[1] * order.cell[1]
        drawn = sixels.encode(pixels, size, room, order.ground)
        return Fitted(order, pixels, tuple(strips), cells=cells, sixels=drawn)
    return Fitted(order, pixels, tuple(strips))


def _for_kitty(order: Order, pixels: Pixels) -> Fitted:
    """With the picture as the terminal takes it, if it has to be sent."""
    cells, size = _box(pixels, order)
    if order.preview:
        data = kitty.png(pixels, (PREVIEW, PREVIEW), PREVIEW_COLOURS)
        return Fitted(order, pixels, cells=cells, key="preview", png=data)
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=b"%d" % order.whole).digest()
    enough = [side for side in SIZES if side >= max(size)] or [KEPT]
    for side in enough:  # a larger one than is needed now is there already, perhaps
        if graphics.current.uploads.number((digest, side)) is not None:
            return Fitted(order, pixels, cells=cells, key=(digest, side))
    side, key = enough[0], (digest, enough[0])
    return Fitted(order, pixels, cells=cells, key=key, png=kitty.png(pixels, (side, side), 0 if order.whole else 256))


def _box(pixels: Pixels, order: Order) -> tuple[tuple[int, int], tuple[int, int]]:
    """(columns, rows) and (width, height) in pixels that a picture takes where all of it is to be seen."""
    wide, high = order.cell
    most = len(kitty.MARKS) if order.mode == "kitty" else max(order.cols, order.rows)
    cols, rows = min(order.cols, most), min(order.rows, most)
    scale = min(cols * wide / pixels.width, rows * high / pixels.height)
    size = max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale))
    if order.mode == "halfblocks":  # which fill their cells: the nearest shape
        shape = round(pixels.width * scale / wide), round(pixels.height * scale / high)
        return (min(cols, max(1, shape[0])), min(rows, max(1, shape[1]))), size
    return (min(cols, -(-size[0] // wide)), min(rows, -(-size[1] // high))), size
