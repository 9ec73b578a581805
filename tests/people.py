"""Faces that are drawn, for a real detector to find: it takes them for people's, and nobody's picture is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

YUNET = Path(__file__).with_name("yunet") / "face_detection_yunet_2026may.onnx"
"opencv_zoo's file (MIT, see LICENSE beside it), as its hub has it."
SHARP = 320
"Pixels of a head's height as it is drawn."


@dataclass(frozen=True)
class Person:
    """A head in a picture."""

    size: int
    "Pixels of its height, about."
    x: int
    "Of its middle."
    y: int
    "The same."
    angle: float = 0.0
    "Degrees, against the clock."


def head(skin: tuple[int, int, int] = (224, 172, 135)) -> Image.Image:
    """A head with shoulders before a wall, twice as wide and high as the face."""
    side = 2 * SHARP
    picture = Image.new("RGB", (2 * side, 2 * side), (90, 120, 150))
    pen = ImageDraw.Draw(picture)

    def spot(x: float, y: float, width: float, height: float, colour: tuple[int, ...]) -> None:
        left, top = side + (x - width / 2) * side / 100, side + (y - height / 2) * side / 100
        pen.ellipse((left, top, left + width * side / 100, top + height * side / 100), fill=colour)

    def shade(share: float) -> tuple[int, ...]:
        return tuple(min(255, int(c * share)) for c in skin)

    hair = (60, 38, 25)
    for x, y, width, height, colour in (
        (0, -12, 92, 112, hair), (0, 85, 150, 80, (50, 60, 110)), (0, 45, 34, 50, shade(0.8)), (0, 0, 74, 98, skin),
        (-37, 2, 10, 22, skin), (37, 2, 10, 22, skin),
    ):  # fmt: skip
        spot(x, y, width, height, colour)
    for way in (-1, 1):
        spot(way * 16, -8, 20, 11, shade(0.85))
        spot(way * 16, -7, 16, 8, (245, 245, 245))
        spot(way * 16, -7, 8, 8, (70, 45, 30))
        spot(way * 16, -7, 4, 4, (10, 10, 10))
        spot(way * 16, -16, 22, 4, hair)
        spot(way * 4, 13, 5, 4, shade(0.6))
    for x, y, width, height, colour in (
        (0, 6, 9, 20, shade(1.06)), (0, 14, 13, 6, shade(0.9)), (0, 28, 28, 9, (170, 80, 80)),
        (0, 27, 26, 2, (110, 40, 45)), (0, -44, 70, 26, hair),
    ):  # fmt: skip
        spot(x, y, width, height, colour)
    soft = picture.filter(ImageFilter.GaussianBlur(side / 110)).resize((side, side), Image.Resampling.LANCZOS)
    light = (1.08 - 0.25 * np.linspace(0, 1, side))[None, :, None]
    return Image.fromarray((np.asarray(soft) * light).clip(0, 255).astype(np.uint8))


def crowd(size: tuple[int, int], *people: Person) -> Image.Image:
    """People before a wall."""
    picture = Image.new("RGB", size, (90, 120, 150))
    one = head()
    for person in people:
        small = one.resize((2 * person.size, 2 * person.size), Image.Resampling.LANCZOS)
        mask = Image.new("L", small.size, 255)
        turned = small.rotate(person.angle, Image.Resampling.BICUBIC, expand=True)
        cover = mask.rotate(person.angle, expand=True)
        picture.paste(turned, (person.x - turned.width // 2, person.y - turned.height // 2), cover)
    return picture
