"""Five points of a face, and the similarity that lays them where a net expects them.

Points and pixels: the middle of the first pixel is 0, 0. A similarity x ↦ a·x + b takes points as complex numbers
x + iy: the length of `a` is its scale and the angle of `a` its rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Point: TypeAlias = tuple[float, float]
"x, y in pixels."

SIDE = 512
"Pixels a side of what the net is shown."
TEMPLATE: tuple[Point, ...] = (
    (192.98138, 239.94708),
    (318.90277, 240.19360),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
"""Where right eye, left eye, nose, right and left corner of the mouth are in a face of FFHQ at 512 px: the means that
facexlib and GFPGAN align to (facexlib's FaceRestoreHelper, MIT), which is what the released weights expect."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """A rotation, an even scale and a move in the plane, x ↦ a·x + b. It never mirrors."""

    a: complex
    "Scale and rotation; never 0."
    b: complex
    "Where 0, 0 goes."

    @property
    def scale(self) -> float:
        """How much longer things get."""
        return abs(self.a)

    @property
    def inverse(self) -> Similarity:
        """The way back."""
        return Similarity(1 / self.a, -self.b / self.a)

    def __call__(self, points: Sequence[Point]) -> tuple[Point, ...]:
        """Where the points go."""
        return tuple((z.real, z.imag) for z in (self.a * complex(*point) + self.b for point in points))


def similarity(points: Sequence[Point], target: Sequence[Point] = TEMPLATE) -> Similarity:
    """The similarity that brings the points nearest to the target, by the sum of squared distances (Umeyama 1991,
    "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI 13 (4), eqs. 40–42).
    In the plane its rotation and scale are one complex number, a least-squares quotient of what is left of both
    patterns when their means are taken away.

    Raises:
        ValueError: the points are all in one place, on either side, or leave no direction.
    """
    x, y = (np.asarray(p, dtype=np.float64) @ (1, 1j) for p in (points, target))
    from_mean, to_mean = x - x.mean(), y - y.mean()
    spread = float(np.vdot(from_mean, from_mean).real)
    a = complex(np.vdot(from_mean, to_mean)) / spread if spread > 0 else 0j
    if not np.isfinite(a) or abs(a) < 1e-9:
        raise ValueError("the points give no similarity")
    return Similarity(a, complex(y.mean() - a * x.mean()))
