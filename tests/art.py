"""Pictures of emoji-like shapes, drawn large and reduced: art that nothing here was trained on."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

GROUNDS = ("white", "#222222", "#f2c14e", "#3a7ca5", "#81b29a", "#e07a5f", "#6d597a", "#b5e2fa")
INKS = ("#e63946", "#1d3557", "#ffb703", "#2a9d8f", "#8338ec", "#fb8500", "#606c38", "#ff70a6", "#f8f9fa", "#111111")
FINE = 4
"How many times larger a picture is drawn than it is given, for smooth edges."


def picture(seed: int, side: int = 256) -> Image.Image:
    """A face, a flower, a star, a house or a target on a plain ground, in RGB: which, and how, the seed says."""
    dice = random.Random(seed)
    size = side * FINE
    made = Image.new("RGB", (size, size), dice.choice(GROUNDS))
    pen = ImageDraw.Draw(made)
    inks = dice.sample(INKS, 5)
    mid, big = size / 2, size * dice.uniform(0.3, 0.46)
    (_face, _flower, _star, _house, _target)[seed % 5](pen, mid, big, inks, dice)
    return made.reduce(FINE)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, ink: str, edge: str = "", wide: float = 0) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=ink, outline=edge or None, width=int(wide))


def _around(x: float, y: float, r: float, angle: float) -> tuple[float, float]:
    return x + r * math.cos(angle), y + r * math.sin(angle)


def _face(pen: ImageDraw.ImageDraw, mid: float, big: float, inks: list[str], dice: random.Random) -> None:
    _disc(pen, mid, mid, big, inks[0], inks[1], big / 14)
    for side in (-1, 1):
        x = mid + side * big * 0.38
        _disc(pen, x, mid - big * 0.2, big * 0.17, "white", inks[1], big / 30)
        _disc(pen, x + big * 0.05, mid - big * 0.17, big * 0.08, inks[2])
        _disc(pen, x + side * big * 0.2, mid + big * 0.2, big * 0.12, inks[3])
    turn = dice.uniform(0, 40)
    box = (mid - big * 0.5, mid - big * 0.3, mid + big * 0.5, mid + big * 0.6)
    pen.arc(box, 20 + turn / 2, 160 - turn / 2, fill=inks[1], width=int(big / 10))


def _flower(pen: ImageDraw.ImageDraw, mid: float, big: float, inks: list[str], dice: random.Random) -> None:
    petals, turn = dice.randrange(5, 10), dice.uniform(0, math.tau)
    pen.line((mid, mid, mid + big * 0.1, mid + big), fill=inks[3], width=int(big / 9))
    for i in range(petals):
        x, y = _around(mid, mid - big * 0.15, big * 0.55, turn + math.tau * i / petals)
        _disc(pen, x, y, big * 0.27, inks[0], inks[1], big / 24)
    _disc(pen, mid, mid - big * 0.15, big * 0.32, inks[2], inks[1], big / 24)
    for i in range(7):
        _disc(pen, *_around(mid, mid - big * 0.15, big * 0.18, math.tau * i / 7), big * 0.03, inks[4])


def _star(pen: ImageDraw.ImageDraw, mid: float, big: float, inks: list[str], dice: random.Random) -> None:
    points, turn, deep = dice.randrange(5, 9), dice.uniform(0, math.tau), dice.uniform(0.4, 0.6)
    for r, ink in ((1.0, inks[0]), (0.8, inks[1]), (0.35, inks[2])):
        corners = [
            _around(mid, mid, big * r * (deep if i % 2 else 1), turn + math.pi * i / points) for i in range(2 * points)
        ]
        pen.polygon(corners, fill=ink)


def _house(pen: ImageDraw.ImageDraw, mid: float, big: float, inks: list[str], dice: random.Random) -> None:
    pen.rectangle((mid - big * 0.7, mid - big * 0.1, mid + big * 0.7, mid + big), fill=inks[0])
    pen.polygon(
        [(mid - big * 0.9, mid - big * 0.1), (mid, mid - big), (mid + big * 0.9, mid - big * 0.1)], fill=inks[1]
    )
    door = dice.uniform(-0.4, 0.1)
    pen.rectangle((mid + big * door, mid + big * 0.4, mid + big * (door + 0.3), mid + big), fill=inks[2])
    for x in (-0.5, 0.3):
        box = (mid + big * x, mid + big * 0.05, mid + big * (x + 0.25), mid + big * 0.3)
        pen.rectangle(box, fill="#b5e2fa", outline=inks[3], width=int(big / 25))
        pen.line((box[0], (box[1] + box[3]) / 2, box[2], (box[1] + box[3]) / 2), fill=inks[3], width=int(big / 40))


def _target(pen: ImageDraw.ImageDraw, mid: float, big: float, inks: list[str], dice: random.Random) -> None:
    rings = dice.randrange(3, 6)
    for i in range(rings):
        _disc(pen, mid, mid, big * (1 - i / rings), inks[i % 2])
    angle = dice.uniform(0, math.tau)
    pen.line((*_around(mid, mid, big * 1.05, angle), mid, mid), fill=inks[2], width=int(big / 16))
    _disc(pen, mid, mid, big / 12, inks[3])
