"""Tiles of a picture: what is read for each, what of it is kept, and how what overlaps is blended.

A tile is read with a halo, pixels that are only there so that those inside see their surroundings, and are thrown away.
All tiles of a picture are of one size, so that they take the same memory and one recorded graph fits them all: they are
shifted to lie within the picture instead of being cut off at its border. Halos are as wide as was asked for, or wider.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

STEPS = 1 << 10
"Blending weights are multiples of 1/STEPS: products of two of them, and their sums, are exact in fp32."


@dataclass(frozen=True, slots=True)
class Span:
    """One tile's share of one side of a picture; all in pixels from the picture's start."""

    start: int
    "Where it reads from."
    end: int
    "Where it reads to, not included."
    low: int
    "The first pixel that it gives something to."
    high: int
    "The last one, plus one."
    before: int
    "How many pixels from `low` on it shares with the tile before it; their weights are `rising(before)`."
    after: int
    "How many pixels up to `high` it shares with the tile after it; its weights there are 1 − `rising(after)`."


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of a picture: a share of each side."""

    x: Span
    "Along the width."
    y: Span
    "Along the height."

    @property
    def read(self) -> tuple[int, int, int, int]:
        """What is read, as PIL crops: left, top, right, bottom."""
        return self.x.start, self.y.start, self.x.end, self.y.end

    @property
    def keep(self) -> tuple[int, int, int, int]:
        """What it gives something to, as PIL crops."""
        return self.x.low, self.y.low, self.x.high, self.y.high


def spans(length: int, tile: int, halo: int, feather: int = 0, align: int = 1) -> tuple[Span, ...]:
    """Covers one side of a picture; in order, as few as there can be, and evenly spread.

    The pixels from `low` to `high` less those shared are a tile's alone. Two tiles at most share a pixel.

    Args:
        length: pixels of the side, a multiple of `align`.
        tile: pixels that are read at once at most, halos included. Tiles are as small as their number allows.
        halo: pixels between what a tile gives alone and where it ends, unless the picture ends there, too. Rounded up
            to a multiple of `align`.
        feather: pixels over which two tiles are blended, half of them on each side of the middle between them, so that
            half of `feather` is taken from the halo; 0 for a cut. It is less where tiles overlap less or are near each
            other.
        align: multiples at which a tile may start and end. `tile` is rounded down to one.

    Raises:
        ValueError: nothing of a tile is left beside its halos, or a number makes no sense.
    """
    if length < 1 or halo < 0 or feather < 0 or align < 1 or length % align:
        raise ValueError(f"a side of {length} px can't be covered: halo {halo}, feather {feather}, align {align}")
    size, count = _fit(length // align, tile // align, -(-halo // align))
    if count == 1:
        return (Span(0, length, 0, length, 0, 0),)
    starts = [i * (length // align - size) // (count - 1) * align for i in range(count)]
    size *= align
    # the middle of what two neighbours both read
    seams = [(after + before + size) // 2 for before, after in pairwise(starts)]
    apart = min((b - a for a, b in pairwise(seams)), default=length)
    overlap = min(before + size - after for before, after in pairwise(starts))
    shared = min(feather, apart, overlap - 1 if overlap else 0, 2 * min(seams[0], length - seams[-1])) // 2 * 2
    half = shared // 2
    lows = [0, *(seam - half for seam in seams)]
    highs = [*(seam + half for seam in seams), length]
    return tuple(
        Span(start, start + size, low, high, shared if i else 0, shared if i < count - 1 else 0)
        for i, (start, low, high) in enumerate(zip(starts, lows, highs, strict=True))
    )


def _fit(length: int, tile: int, halo: int) -> tuple[int, int]:
    """The size and the number of tiles of at most `tile`; all in units of alignment. Raises as `spans`."""
    if tile >= length:
        return length, 1
    if tile - 2 * halo < 1:
        raise ValueError(f"a tile of {tile} has nothing left beside two halos of {halo}")
    count = -(-(length - 2 * halo) // (tile - 2 * halo))
    return -(-(length - 2 * halo) // count) + 2 * halo, count


def fitted(size: tuple[int, int], tile: tuple[int, int], halo: int, align: int = 1) -> tuple[int, int]:
    """The width and height that tiles of a picture have; arguments as `tiles` takes them."""
    width, height = (
        _fit(length // align, side // align, -(-halo // align))[0] * align
        for length, side in zip(size, tile, strict=True)
    )
    return width, height


def tiles(size: tuple[int, int], tile: tuple[int, int], halo: int, feather: int = 0, align: int = 1) -> Iterator[Tile]:
    """Covers a picture, row after row from the top, each from the left.

    Args:
        size: width and height, multiples of `align`.
        tile: pixels of a tile's width and height.
        halo, feather, align: as `spans` takes them.

    Raises:
        ValueError: as `spans`, before the first.
    """
    columns = spans(size[0], tile[0], halo, feather, align)
    for row in spans(size[1], tile[1], halo, feather, align):
        for column in columns:
            yield Tile(column, row)


def count(size: tuple[int, int], tile: tuple[int, int], halo: int, align: int = 1) -> int:
    """How many tiles `tiles` makes."""
    return len(spans(size[0], tile[0], halo, 0, align)) * len(spans(size[1], tile[1], halo, 0, align))


@lru_cache(maxsize=64)
def rising(length: int) -> npt.NDArray[np.float32]:
    """(length,) fp32 weights in 0 … 1 of the later of two tiles over the pixels that they share, a straight line.

    They are multiples of 1/STEPS: with the earlier tile's, 1 − w, they sum to exactly 1 in fp32, and so do the
    products of those of two sides. Not to be written to.
    """
    line = (np.arange(length, dtype=np.float64) + 0.5) / max(length, 1)
    weights = (np.round(line * STEPS) / STEPS).astype(np.float32)
    weights.flags.writeable = False
    return weights


def weights(span: Span, scale: int = 1) -> npt.NDArray[np.float32]:
    """(scale · (high − low),) fp32 weights of a tile's pixels from `low` to `high`, each of which became `scale`."""
    made = np.ones((span.high - span.low) * scale, np.float32)
    if span.before:
        made[: span.before * scale] = rising(span.before * scale)
    if span.after:
        made[-span.after * scale :] = 1 - rising(span.after * scale)
    return made
