"""Half-blocks: the right pixels in the right cells, in the segments and in what the terminal is sent."""

from __future__ import annotations

import random
import re

import pytest
from PIL import Image
from rich.console import Console
from textual.strip import Strip

from engines.events import Pixels
from tui.pictures.halfblocks import RAMP, Colours, fit, strips_of

RGB = tuple[int, int, int]
Cell = tuple[RGB | None, RGB | None]
"The upper and the lower half of a cell; None is the terminal's own background."


def pixels_of(image: Image.Image) -> Pixels:
    return Pixels(image.width, image.height, image.convert("RGB").tobytes())


def noise(width: int, height: int, seed: int = 1) -> Pixels:
    return Pixels(width, height, random.Random(seed).randbytes(width * height * 3))


def colour_256(number: int) -> RGB:
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    levels = (0, 95, 135, 175, 215, 255)
    number -= 16
    assert number >= 0, "the first 16 colours are the user's own"
    return levels[number // 36], levels[number // 6 % 6], levels[number % 6]


def on_screen(sent: str) -> list[Cell]:
    """What a terminal shows for one line: the SGR sequences that are in use here, and nothing else."""
    cells: list[Cell] = []
    fg: RGB | None = None
    bg: RGB | None = None
    for codes, text in re.findall(r"\x1b\[([\d;]*)m|([^\x1b])", sent):
        if text:
            assert text in "▀ "
            cells.append((fg if text == "▀" else bg, bg))
            continue
        numbers = [int(code) for code in codes.split(";")]
        while numbers:
            match numbers:
                case [0, *numbers]:
                    fg = bg = None
                case [38, 2, r, g, b, *numbers]:
                    fg = (r, g, b)
                case [48, 2, r, g, b, *numbers]:
                    bg = (r, g, b)
                case [38, 5, n, *numbers]:
                    fg = colour_256(n)
                case [48, 5, n, *numbers]:
                    bg = colour_256(n)
                case _:
                    pytest.fail(f"unknown sequence {codes}")
    return cells


def in_segments(strip: Strip) -> list[Cell]:
    cells: list[Cell] = []
    for text, style, _ in strip:
        assert style is not None
        upper, lower = [colour and colour.triplet for colour in (style.color, style.bgcolor)]
        assert upper is not None
        assert lower is not None
        cells += [(upper, lower)] * len(text)
    return cells


@pytest.mark.parametrize(
    ("picture", "box", "cells"),
    [
        ((512, 512), (100, 50), (100, 50)), ((512, 512), (40, 50), (40, 20)), ((1024, 512), (40, 20), (40, 10)),
        ((512, 1024), (40, 20), (20, 20)), ((128, 128), (200, 60), (120, 60)), ((4000, 10), (40, 20), (40, 1)),
        ((10, 4000), (40, 20), (1, 20)), ((3, 2), (1, 1), (1, 1)), ((512, 512), (0, 5), (0, 0)),
        ((512, 512), (5, -1), (0, 0)), ((0, 5), (5, 5), (0, 0)),
    ],
)  # fmt: skip
def test_fit(picture: tuple[int, int], box: tuple[int, int], cells: tuple[int, int]) -> None:
    assert fit(*picture, *box) == cells


def test_no_picture_leaves_its_box() -> None:
    random_ = random.Random(7)
    for _ in range(500):
        width, height = random_.randint(1, 3000), random_.randint(1, 3000)
        cols, rows = random_.randint(1, 250), random_.randint(1, 90)
        fitted = fit(width, height, cols, rows)
        assert 1 <= fitted[0] <= cols
        assert 1 <= fitted[1] <= rows
        assert fitted[0] == cols or fitted[1] == rows


def test_each_cell_is_two_pixels() -> None:
    source = noise(8, 6)
    strips = strips_of(source, 8, 3)  # one pixel for one: nothing is resampled
    for y, strip in enumerate(strips):
        expected = []
        for x in range(8):
            top, bottom = (3 * (8 * row + x) for row in (2 * y, 2 * y + 1))
            expected.append((tuple(source.data[top : top + 3]), tuple(source.data[bottom : bottom + 3])))
        assert in_segments(strip) == expected
        assert strip.cell_length == 8


@pytest.mark.parametrize("colours", ["truecolor", "256"])
@pytest.mark.parametrize("content", ["noise", "flat", "checks", "stripes"])
def test_what_is_sent_looks_like_the_segments(colours: Colours, content: str) -> None:
    """The text that is written beforehand leaves out what does not change; nothing may get lost by that."""
    image = Image.new("RGB", (24, 24), (200, 30, 30))
    if content == "noise":
        image = Image.frombytes("RGB", (24, 24), noise(24, 24).data)
    elif content == "checks":
        image.putdata([(0, 0, 0) if (n // 24 + n) % 2 else (255, 255, 255) for n in range(576)])
    elif content == "stripes":
        image.putdata([(0, 0, 0) if n // 24 % 2 else (255, 255, 255) for n in range(576)])
    console = Console(color_system="truecolor" if colours == "truecolor" else "256", force_terminal=True)
    for strip in strips_of(pixels_of(image), 24, 12, colours):
        sent = strip.render(console)
        assert on_screen(sent) == in_segments(strip)
        assert sent.endswith("\x1b[0m")
        # Without the text of its own (a dialog lies over a part of the picture), Textual makes it from the segments.
        assert on_screen(Strip(list(strip), strip.cell_length).render(console)) == in_segments(strip)


def test_equal_neighbours_are_one_segment() -> None:
    image = Image.new("RGB", (40, 40), (10, 20, 30))
    image.paste((200, 100, 50), (20, 0, 40, 40))
    for strip in strips_of(pixels_of(image), 40, 20):
        inner = [segment for segment in strip if len(segment.text) > 4]
        assert len(inner) == 2
        assert len(strip) <= 10  # the resampled edge between them


def test_256_colours_stay_close() -> None:
    """Dithering keeps the mean colour of an area that no palette entry matches."""
    source = pixels_of(Image.new("RGB", (64, 64), (225, 40, 45)))
    cells = [half for strip in strips_of(source, 32, 16, "256") for cell in in_segments(strip) for half in cell]
    mean = [sum(half[channel] for half in cells if half) / len(cells) for channel in range(3)]
    assert mean == pytest.approx([225, 40, 45], abs=8)


def test_without_colours_brightness_is_shown() -> None:
    ramp = Image.linear_gradient("L").rotate(90)  # black on the left
    dark = strips_of(pixels_of(ramp), 30, 15, "none")
    assert {strip.cell_length for strip in dark} == {30}
    assert all(segment.style is None for strip in dark for segment in strip)
    for on_dark, on_light in zip(dark, strips_of(pixels_of(ramp), 30, 15, "none", dark=False), strict=True):
        places = [RAMP.index(character) for character in on_dark.text]
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, 9)
        assert [RAMP.index(character) for character in on_light.text] == [9 - place for place in places]


def test_a_dim_picture_without_colours_is_still_seen() -> None:
    image = Image.new("RGB", (20, 20), (10, 10, 10))
    image.paste((30, 30, 30), (0, 0, 10, 20))
    assert len({c for strip in strips_of(pixels_of(image), 20, 10, "none") for c in strip.text}) > 1


@pytest.mark.parametrize("colours", ["truecolor", "256", "none"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 900), (900, 1), (3, 2), (37, 91)])
def test_odd_sizes(colours: Colours, width: int, height: int) -> None:
    for cols, rows in ((0, 0), (1, 1), (3, 2), (17, 9)):
        strips = strips_of(noise(width, height), cols, rows, colours)
        assert (strips[0].cell_length if strips else 0, len(strips)) == fit(width, height, cols, rows)
        assert all(strip.cell_length == strips[0].cell_length for strip in strips)


@pytest.mark.parametrize("wrong", [Pixels(2, 2, b"123"), Pixels(0, 0, b""), Pixels(-1, -1, b"123")])
def test_wrong_pixels_are_told(wrong: Pixels) -> None:
    with pytest.raises(ValueError, match="no picture"):
        strips_of(wrong, 5, 5)
