"""Tiles: everything is covered, halos are wide enough, weights sum to one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engines.diffusion import tiling
from engines.diffusion.tiling import Span


def covered(made: tuple[Span, ...], length: int, scale: int = 1) -> np.ndarray:
    """The sum of weights at each pixel."""
    total = np.zeros(length * scale, np.float32)
    for span in made:
        total[span.low * scale : span.high * scale] += tiling.weights(span, scale)
    return total


@given(
    length=st.integers(1, 600),
    inner=st.integers(1, 120),
    halo=st.integers(0, 40),
    feather=st.integers(0, 90),
    align=st.sampled_from([1, 2, 4, 8]),
    scale=st.integers(1, 4),
)
def test_spans(length: int, inner: int, halo: int, feather: int, align: int, scale: int) -> None:
    length *= align
    around = -(-halo // align) * align
    tile = inner * align + 2 * around + (align - 1)
    made = tiling.spans(length, tile, halo, feather, align)

    assert (covered(made, length, scale) == 1).all()
    assert made[0].start == made[0].low == 0 and made[-1].end == made[-1].high == length
    assert len({span.end - span.start for span in made}) == 1, "tiles are of one size"
    assert made[0].end - made[0].start <= tile
    for i, span in enumerate(made):
        assert span.start % align == 0 and span.end % align == 0
        assert span.start <= span.low < span.high <= span.end
        assert (span.before == 0 or i > 0) and (span.after == 0 or i < len(made) - 1)
        assert max(span.before, span.after) <= feather
        # what is its own alone is a halo away from where it ends, unless the picture ends there, too
        if span.start:
            assert span.low + span.before / 2 - span.start >= around
        if span.end < length:
            assert span.end - (span.high - span.after / 2) >= around
        assert span.before + span.after <= span.high - span.low
    for one, two in pairwise(made):
        assert one.start < two.start and one.high - one.after == two.low and one.after == two.before
    for one, three in zip(made, made[2:], strict=False):
        assert one.high <= three.low, "at most two share a pixel"


@given(length=st.integers(1, 400), inner=st.integers(1, 60), halo=st.integers(0, 20))
def test_no_tile_too_many(length: int, inner: int, halo: int) -> None:
    """As few as their size allows, and no larger than their number asks for."""
    tile = inner + 2 * halo
    made = tiling.spans(length, tile, halo)
    assume(len(made) > 1)
    assert len(made) == -(-(length - 2 * halo) // inner)
    size = made[0].end - made[0].start
    assert (size - 1 - 2 * halo) * len(made) < length - 2 * halo
    assert tiling.fitted((length, 7), (tile, 9), halo) == (size, 7)


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    inner=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    halo=st.integers(0, 9),
    feather=st.integers(0, 20),
)
def test_weights_of_a_picture_sum_to_one(
    size: tuple[int, int], inner: tuple[int, int], halo: int, feather: int
) -> None:
    """Exactly, in fp32, where four tiles meet, too."""
    tile = inner[0] + 2 * halo, inner[1] + 2 * halo
    total = np.zeros((size[1], size[0]), np.float32)
    number = 0
    for each in tiling.tiles(size, tile, halo, feather):
        left, top, right, bottom = each.keep
        total[top:bottom, left:right] += tiling.weights(each.y)[:, None] * tiling.weights(each.x)
        assert 0 <= each.read[0] <= left and right <= each.read[2] <= size[0]
        number += 1
    assert (total == 1).all()
    assert number == tiling.count(size, tile, halo)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 1000])
def test_rising(length: int) -> None:
    line = tiling.rising(length)
    assert (np.diff(line) >= 0).all() and line[0] >= 0 and line[-1] <= 1
    assert (line + (1 - line) == 1).all()
    np.testing.assert_allclose(line, 1 - line[::-1], atol=1 / tiling.STEPS)


def test_small_and_narrow_pictures() -> None:
    assert [tile.read for tile in tiling.tiles((1, 1), (64, 64), 16)] == [(0, 0, 1, 1)]
    assert [tile.read for tile in tiling.tiles((64, 64), (64, 64), 32)] == [(0, 0, 64, 64)]
    narrow = list(tiling.tiles((30000, 1), (512, 512), 16, 16))
    assert len(narrow) == -(-(30000 - 32) // 480) == tiling.count((30000, 1), (512, 512), 16)
    assert {tile.read[3] for tile in narrow} == {1}
    assert (covered(tiling.spans(30000, 512, 16, 16), 30000) == 1).all()


@pytest.mark.parametrize(
    ("length", "tile", "halo", "feather", "align"),
    [(100, 32, 16, 0, 1), (100, 0, 0, 0, 1), (0, 8, 1, 0, 1), (10, 8, -1, 0, 1), (10, 8, 1, -1, 1), (9, 8, 1, 0, 2),
     (100, 33, 15, 0, 4)],
)  # fmt: skip
def test_what_cant_be_covered(length: int, tile: int, halo: int, feather: int, align: int) -> None:
    with pytest.raises(ValueError, match=r"covered|nothing left"):
        tiling.spans(length, tile, halo, feather, align)
