"""Where the faces are in a picture, and five points of each: YuNet through OpenCV.

YuNet (Wu, Peng & Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20;
opencv_zoo's face_detection_yunet, MIT) was trained on faces of about 10 … 300 px that stand upright. So a picture is
searched at full size and halved again and again until no face in it can be larger than that, in windows where it is
large, and turned by quarters. A face that is rolled by 45° scores 0.65 … 0.93 then, where it has 0.93 upright (measured
on four photographs), and so does what is none: whatever looks like a face at first is cut out, brought upright and to
one size, and looked at once more. What stands that is a face, with the points of that second look. What is found more
than once is merged.

OpenCV is no dependency of safelight: it is imported when a detector is made.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines import headers
from engines.diffusion import weights
from engines.diffusion.aligning import SIDE, TEMPLATE, Point, Similarity, similarity
from engines.errors import LoadError, Stopped

Detect: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"(height, width, 3) of RGB → (faces, 15) as cv2.FaceDetectorYN.detect gives them; none is (0, 15)."

REACH = 300
"Pixels of the largest face that YuNet was trained on (opencv_zoo's README)."
WINDOW = 1280
"Pixels a side of what is searched at once: what a detector's memory is bounded by."
OVERLAP = REACH + 20
"Pixels that neighbouring windows share, so that every face within reach is whole in one of them."
CUT = 4
"Pixels from a window's inner border at which a face counts as cut by it."
GLANCE = 0.5
"The least score of what is looked at once more; YuNet's are 0 … 1."
SCORE = 0.8
"The least score that counts as a face."
SAME = 0.3
"Intersection over union from which two boxes are of one face, as in opencv_zoo's demo."
WITHIN = 0.7
"How much of a box must lie in another for both to be of one face."
LOOKS = 5
"How often a face is looked at once more, at most."
STILL = 0.05
"How much a face may still turn, in radians, or grow, as a share, to count as standing still."
STUDY = 320
"Pixels a side of a second look, in whose middle the frame of the face takes one half."


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a picture."""

    box: tuple[float, float, float, float]
    "x, y, width and height in pixels; it may reach over the picture's edge."
    points: tuple[Point, Point, Point, Point, Point]
    """Right eye, left eye, nose, right and left corner of the mouth, as the person would say: in an upright face the
    right eye is on the left of the picture."""
    score: float
    "How sure the detector is, 0 … 1."

    @property
    def size(self) -> float:
        """Pixels of the box's longer side."""
        return max(self.box[2:])


def find(
    picture: Image.Image, detect: Detect, stop: Callable[[], bool] = lambda: False, turned: bool = True
) -> list[Face]:
    """The faces of a picture, as `search` finds them."""
    work = search(picture, detect, stop, turned)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def search(
    picture: Image.Image, detect: Detect, stop: Callable[[], bool] = lambda: False, turned: bool = True
) -> Generator[tuple[int, int], None, list[Face]]:
    """The faces of a picture, the largest first; yields (looks done, looks in all), of which there may be more as more
    is found.

    Args:
        picture: of any mode; transparency is not looked at.
        detect: the detector; what it tells may score as little as GLANCE.
        stop: looked at before each window.
        turned: look for faces that are rolled by any angle, in copies that fit into one window: in a picture of 8192 px
            those of at least 64 px.

    Raises:
        Stopped: `stop` said so.
    """
    rgb = picture.convert("RGB")
    seen: list[Face] = []
    halvings = max(math.ceil(math.log2(max(rgb.size) / OVERLAP)), 0)
    done, of = 0, sum(_looks(rgb.size, 2**level, turned) for level in range(halvings + 1))
    for level in range(halvings + 1):
        small = rgb.reduce(2**level) if level else rgb
        pixels: NDArray[np.uint8] = np.asarray(small)
        for x, y, window in _windows(pixels):
            for quarters in range(4 if turned and window.shape == pixels.shape else 1):
                yield done, of
                done += 1
                if stop():
                    raise Stopped
                for face in decode(detect(np.ascontiguousarray(np.rot90(window, quarters))), GLANCE):
                    face = _turned_back(face, quarters, window.shape[1], window.shape[0])
                    if _cut((x, y), window.shape, pixels.shape, face) or (face.size > REACH and level < halvings):
                        continue  # whole in the next window, or small enough in the next copy
                    seen.append(_moved(face, 2**level, (x, y)))
    studied: list[Face] = []
    of += len(maybe := merge(seen))
    for face in maybe:
        yield done, of
        done += 1
        if stop():
            raise Stopped
        if (known := _studied(rgb, face, detect)) is not None:
            studied.append(known)
    return sorted(merge(studied), key=lambda face: -face.size)


def _looks(size: tuple[int, int], factor: int, turned: bool) -> int:
    """How often a copy of a picture that is reduced by `factor` is looked at."""
    width, height = (-(-side // factor) for side in size)
    windows = len(_starts(width)) * len(_starts(height))
    return windows * (4 if turned and windows == 1 else 1)


def decode(rows: NDArray[np.float32], least: float = SCORE) -> list[Face]:
    """The faces of a detector's rows: x, y, width, height, five points of two numbers, score. Rows are left out whose
    score is below `least`, or whose numbers make no face: not finite, without area, or with all points in one place."""
    faces = []
    for row in np.asarray(rows, dtype=np.float64).reshape(-1, 15):
        box, points, score = row[:4], row[4:14].reshape(5, 2), float(row[14])
        if not np.isfinite(row).all() or score < least or min(box[2:]) <= 0 or np.ptp(points, axis=0).max() < 1:
            continue
        x, y, width, height = box.tolist()
        a, b, c, d, e = ((float(px), float(py)) for px, py in points)
        faces.append(Face((x, y, width, height), (a, b, c, d, e), min(score, 1.0)))
    return faces


def merge(faces: Sequence[Face]) -> list[Face]:
    """Non-maximum suppression: the most certain of every group of faces that are the same; of equals the first one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(same(face, other) for other in kept):
            kept.append(face)
    return kept


def same(a: Face, b: Face) -> bool:
    """Whether two boxes are of one face: they overlap by more than SAME, or one lies in the other by more than
    WITHIN."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    both = max(width, 0.0) * max(height, 0.0)
    return both > SAME * (aw * ah + bw * bh - both) or both > WITHIN * min(aw * ah, bw * bh)


def _studied(rgb: Image.Image, face: Face, detect: Detect) -> Face | None:
    """What a face is when it is looked at upright and in a size that suits the detector; None if it is none.

    A detector that was trained on upright faces tells the points of a rolled one as if it were rolled less. So each
    look is a better start for the next one, until the face stands still; the most certain one counts.
    """
    frame = [(STUDY / 4 + x * STUDY / 2 / SIDE, STUDY / 4 + y * STUDY / 2 / SIDE) for x, y in TEMPLATE]
    best: Face | None = None
    try:
        for _ in range(LOOKS):
            there = similarity(face.points, frame)
            back, expected = there.inverse, _around(face, there)
            found = [f for f in decode(detect(_upright(rgb, back)), GLANCE) if same(f, expected)]
            if not found:
                break
            nearest = min(found, key=lambda f: abs(_middle(f) - _middle(expected)))
            a, b, c, d, e = back(nearest.points)
            face = replace(_around(nearest, back), points=(a, b, c, d, e), score=nearest.score)
            if best is None or face.score > best.score:
                best = face
            if abs(similarity(nearest.points, frame).a - 1) < STILL:
                break
    except ValueError:
        pass  # the points of this look make no sense
    return best if best is not None and best.score >= SCORE else None


def _middle(face: Face) -> complex:
    x, y, w, h = face.box
    return complex(x + w / 2, y + h / 2)


def _upright(rgb: Image.Image, back: Similarity) -> NDArray[np.uint8]:
    """STUDY × STUDY pixels, each from where `back` says; black outside of the picture."""
    corners = back([(0, 0), (STUDY, 0), (STUDY, STUDY), (0, STUDY)])
    factor = max(int(back.scale), 1)
    left, top = (max(math.floor(min(c[i] for c in corners)) - 2 * factor, 0) for i in (0, 1))
    right, bottom = (min(math.ceil(max(c[i] for c in corners)) + 2 * factor, rgb.size[i]) for i in (0, 1))
    if right <= left or bottom <= top:
        return np.zeros((STUDY, STUDY, 3), np.uint8)
    part = rgb.crop((left, top, right, bottom)).reduce(factor)
    # Pillow counts from the corner of a pixel, not from its middle
    a, half = back.a / factor, 0.5 + 0.5j
    b = (back.b + half - complex(left, top)) / factor - a * half
    turned = part.transform(
        (STUDY, STUDY), Image.Transform.AFFINE, (a.real, -a.imag, b.real, a.imag, a.real, b.imag),
        Image.Resampling.BICUBIC,
    )  # fmt: skip
    return np.asarray(turned)


def _around(face: Face, by: Similarity) -> Face:
    """The face with the box around its box, where that goes."""
    x, y, w, h = face.box
    corners = by([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    low, high = (tuple(pick(c[i] for c in corners) for i in (0, 1)) for pick in (min, max))
    return replace(face, box=(low[0], low[1], high[0] - low[0], high[1] - low[1]))


def _windows(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """x, y and pixels of windows that cover a picture."""
    for y in _starts(pixels.shape[0]):
        for x in _starts(pixels.shape[1]):
            yield x, y, pixels[y : y + WINDOW, x : x + WINDOW]


def _starts(length: int) -> list[int]:
    """Where windows begin along a side, evenly spread, with OVERLAP at least between neighbours."""
    if length <= WINDOW:
        return [0]
    steps = math.ceil((length - WINDOW) / (WINDOW - OVERLAP))
    return [round(i * (length - WINDOW) / steps) for i in range(steps + 1)]


def _cut(at: tuple[int, int], window: tuple[int, ...], whole: tuple[int, ...], face: Face) -> bool:
    """Whether a face of a window reaches a border of it that is not the picture's."""
    for start, side, length, low, extent in zip(
        at, (window[1], window[0]), (whole[1], whole[0]), face.box[:2], face.box[2:], strict=True
    ):
        if (start > 0 and low < CUT) or (start + side < length and low + extent > side - CUT):
            return True
    return False


def _turned_back(face: Face, quarters: int, width: int, height: int) -> Face:
    """A face of np.rot90(pixels, quarters), where it is in the pixels, which are width × height."""
    for i in reversed(range(quarters)):  # undo one quarter after another, from a picture of this width:
        across = width if i % 2 == 0 else height
        x, y, w, h = face.box
        a, b, c, d, e = ((across - 1 - py, px) for px, py in face.points)
        face = replace(face, box=(across - 1 - y - h, x, h, w), points=(a, b, c, d, e))
    return face


def _moved(face: Face, factor: int, at: tuple[int, int]) -> Face:
    """A face of a window at (x, y) of a copy that was reduced by `factor`, where it is in the picture."""
    (x, y, w, h), middle = face.box, (factor - 1) / 2
    a, b, c, d, e = ((factor * (px + at[0]) + middle, factor * (py + at[1]) + middle) for px, py in face.points)
    box = (factor * (x + at[0]) + middle, factor * (y + at[1]) + middle, factor * w, factor * h)
    return replace(face, box=box, points=(a, b, c, d, e))


class YuNet:
    """A `Detect` that runs on the CPU.

    Args:
        file: opencv_zoo's face_detection_yunet_2026may.onnx, which OpenCV 5.0 was tried with.
        sha256: what it must have, in hex; empty if that doesn't matter.
        score: the least that is told.

    Raises:
        LoadError: OpenCV is not installed, or the file is missing, not the one that is meant, or not YuNet's.
    """

    def __init__(self, file: Path, sha256: str = "", score: float = GLANCE) -> None:
        self._cv2 = _opencv()
        headers.check_regular(file)
        if sha256:
            weights.check_file(file, sha256)
        try:
            self._net: Any = self._cv2.FaceDetectorYN.create(str(file), "", (32, 32), score, SAME)
            self._net.detect(np.zeros((32, 32, 3), np.uint8))  # whether it gives what a YuNet gives
        except self._cv2.error as e:
            raise LoadError(
                f"{headers.shown(file.name)} can't be used as a face detector: {_reason(e)}",
                "download face_detection_yunet_2026may.onnx",
            ) from e

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As in Detect; it is shown the picture in OpenCV's order of channels, blue first. Raises LoadError."""
        height, width = pixels.shape[:2]
        try:
            self._net.setInputSize((width, height))
            _, rows = self._net.detect(np.ascontiguousarray(pixels[..., ::-1]))
        except self._cv2.error as e:
            told = f"the face detector failed at {width}x{height} pixels: {_reason(e)}"
            raise LoadError(told, "safelight models verify tells whether its file is damaged") from e
        return np.zeros((0, 15), np.float32) if rows is None else np.asarray(rows, np.float32)


def _opencv() -> Any:
    """The module, told to write nothing but errors: its warnings would go straight over the screen."""
    try:
        cv2: Any = importlib.import_module("cv2")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        _ = cv2.FaceDetectorYN
    except (ImportError, AttributeError) as e:
        install = f"{sys.executable} -m pip install 'opencv-python-headless>=5'"
        if isinstance(e, ModuleNotFoundError) and e.name == "cv2":
            raise LoadError("faces are found with OpenCV, which is not installed", install) from e
        raise LoadError(f"faces are found with OpenCV, which can't be used: {_reason(e)}", install) from e
    return cv2


def _reason(error: Exception) -> str:
    """The first line of what was said; of OpenCV's errors without the place in its source."""
    said = str(getattr(error, "err", "") or error).strip()
    return (said or type(error).__name__).splitlines()[0][:160]
