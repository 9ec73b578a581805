"""Faces: their geometry, where they are found, and how they are put back.

OpenCV and the detector's file are not here. Rows that YuNet gave for two photographs are recorded, and pictures are
searched with a detector of the tests' own, which knows faces that are drawn as five spots of five colours.
"""

from __future__ import annotations

import cmath
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engines.diffusion import detecting, faces
from engines.diffusion.aligning import SIDE, TEMPLATE, Similarity, similarity
from engines.diffusion.detecting import Face, YuNet, decode, find, merge
from engines.diffusion.device import Device
from engines.diffusion.faces import Restored, cut, paste, restore
from engines.errors import InvalidRequest, LoadError, Stopped

CPU = Device(torch.device("cpu"), "cpu")
ALIGNED = [101.9, 91.5, 287.6, 388.8, 188.4, 244.0, 318.1, 244.3, 255.9, 320.4, 190.9, 367.6, 315.7, 367.4, 0.943]
"""What face_detection_yunet_2026may.onnx (sha256 ebafce4e…) gave in OpenCV 5.0.0 for cropped_faces/Adele_crop.png of
github.com/TencentARC/GFPGAN, a face that its authors had aligned to 512 px already."""
GROUP = [
    [371.3, 432.4, 63.4, 86.4, 391.1, 466.1, 422.1, 466.7, 408.1, 483.7, 392.3, 494.8, 418.2, 495.7, 0.932],
    [173.5, 107.5, 76.9, 103.3, 197.1, 146.4, 232.5, 147.0, 216.4, 166.4, 199.0, 184.8, 228.1, 182.7, 0.908],
    [380.5, 131.5, 72.1, 90.5, 401.2, 165.3, 433.6, 165.2, 419.2, 183.4, 405.2, 197.7, 432.0, 198.2, 0.907],
    [595.2, 436.8, 21.3, 26.9, 601.9, 446.8, 609.4, 446.1, 605.3, 451.6, 602.6, 457.0, 608.3, 456.7, 0.687],
]
"The same for whole_imgs/10045.png, 783 × 1146 px: three faces, and a small one that is none."
HALF = [
    [86.9, 52.6, 37.0, 55.1, 100.4, 74.2, 118.5, 74.1, 112.0, 85.1, 100.7, 92.2, 115.7, 93.5, 0.910],
    [190.0, 66.7, 36.5, 44.6, 201.9, 81.7, 217.9, 81.7, 210.6, 89.6, 202.1, 97.9, 216.1, 97.8, 0.907],
    [185.2, 216.0, 32.1, 41.7, 196.1, 232.8, 210.6, 233.0, 204.3, 240.9, 196.7, 247.6, 208.0, 247.6, 0.894],
]
"The same at half its size."


def placed(size: float, angle: float, x: float, y: float) -> Similarity:
    """From the frame to a picture: a frame of `size` pixels, turned by `angle` degrees, whose middle is at x, y."""
    a = size / SIDE * cmath.exp(1j * np.radians(angle))
    middle = complex(SIDE / 2 - 0.5, SIDE / 2 - 0.5)
    return Similarity(a, complex(x, y) - a * middle)


def there(to_picture: Similarity, score: float = 0.9) -> Face:
    """A face whose points lie exactly where a frame has them."""
    points = to_picture(TEMPLATE)
    corners = to_picture(((110, 90), (400, 90), (400, 480), (110, 480)))
    x, y = (min(c[i] for c in corners) for i in (0, 1))
    right, bottom = (max(c[i] for c in corners) for i in (0, 1))
    a, b, c, d, e = points
    return Face((x, y, right - x, bottom - y), (a, b, c, d, e), score)


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """A picture of slow waves: what is taken from between its pixels is known to a step or so."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [np.sin(x / 31 + y / 57), np.cos(x / 43 - y / 37), np.sin(x / 71) * np.cos(y / 29)]
    return np.asarray(np.stack(waves, -1) * 100 + 128, dtype=np.uint8)


def drain(work: Iterable[Restored]) -> tuple[list[Restored], Image.Image]:
    told, generator = [], iter(work)
    while True:
        try:
            told.append(next(generator))
        except StopIteration as end:
            return told, end.value


def run(
    picture: Image.Image,
    found: list[Face],
    strength: float = 1.0,
    net: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Restored], Image.Image]:
    return drain(restore(picture, found, net, strength, CPU, dtype, lambda: False))


angles = st.floats(0, 360)
pictures = st.fixed_dictionaries(
    {"size": st.floats(12, 900), "angle": angles, "x": st.floats(0, 239), "y": st.floats(0, 179)}
)


# ── the similarity ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(scale=st.floats(0.01, 100), angle=angles, x=st.floats(-1e4, 1e4), y=st.floats(-1e4, 1e4))
def test_a_known_similarity_is_recovered(scale: float, angle: float, x: float, y: float) -> None:
    known = Similarity(scale * cmath.exp(1j * np.radians(angle)), complex(x, y))
    found = similarity(known(TEMPLATE))
    assert abs(found.a * known.a - 1) < 1e-6 and found.scale == pytest.approx(1 / scale)
    np.testing.assert_allclose(found(known(TEMPLATE)), TEMPLATE, atol=1e-4)
    np.testing.assert_allclose(found.inverse(TEMPLATE), known(TEMPLATE), rtol=1e-6, atol=1e-4)


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=5, max_size=5))
def test_it_is_umeyamas(points: list[tuple[float, float]]) -> None:
    """Against his own form of it, with a singular value decomposition; which mirrors where that fits better, and then
    is told not to."""
    x, y = np.array(points).T, np.array(TEMPLATE).T
    mx, my = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    u, d, vt = np.linalg.svd((y - my) @ (x - mx).T / 5)
    if d[0] < 1 or d[0] - d[1] < 0.05 * d[0]:
        return  # nearly all points in one place, or no direction is better than another
    s = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = np.trace(np.diag(d) @ s) / ((x - mx) ** 2).sum() * 5
    matrix = scale * u @ s @ vt
    found = similarity(points)
    ours = np.array([[found.a.real, -found.a.imag], [found.a.imag, found.a.real]])
    np.testing.assert_allclose(ours, matrix, atol=1e-6)
    np.testing.assert_allclose((found.b.real, found.b.imag), (my - matrix @ mx)[:, 0], atol=1e-4)


def test_points_in_one_place_give_none() -> None:
    for points in ([(3.0, 4.0)] * 5, [(float("nan"), 1.0)] * 5):
        with pytest.raises(ValueError, match="no similarity"):
            similarity(points)


def test_a_face_that_was_aligned_before_stays_where_it_is() -> None:
    """The order of the points is right, and so are the template and YuNet's own idea of where they are."""
    (face,) = decode(np.array([ALIGNED], np.float32))
    found = similarity(face.points)
    assert found.scale == pytest.approx(1, abs=0.05) and abs(np.degrees(cmath.phase(found.a))) < 2
    assert np.abs(np.array(found(face.points)) - TEMPLATE).max() < 8
    mirrored = [face.points[i] for i in (1, 0, 2, 4, 3)]
    assert similarity(mirrored).scale < 0.5


# ── rows of the detector ────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_become_faces() -> None:
    found = decode(np.array(GROUP, np.float32))
    assert [round(face.score, 3) for face in found] == [0.932, 0.908, 0.907]
    assert found[0].box == pytest.approx((371.3, 432.4, 63.4, 86.4), abs=0.01) and found[0].size == pytest.approx(86.4)
    right, left, nose, _, corner = found[0].points
    assert right == pytest.approx((391.1, 466.1)) and left[0] > right[0] and corner[1] > nose[1] > left[1]
    assert len(decode(np.array(GROUP, np.float32), 0.6)) == 4
    assert decode(np.zeros((0, 15), np.float32)) == []


@pytest.mark.parametrize(("place", "value"), [(0, np.nan), (7, np.inf), (2, 0.0), (3, -5.0), (14, np.nan)])
def test_rows_that_make_no_face_are_left_out(place: int, value: float) -> None:
    row = np.array([ALIGNED], np.float32)
    row[0, place] = value
    assert decode(row) == []
    row = np.array([ALIGNED], np.float32)
    row[0, 4:14] = 100
    assert decode(row) == []


def test_what_is_found_in_a_part_of_a_copy_is_where_it_is_in_the_picture() -> None:
    """The first pixel of a copy that is four times smaller is the mean of four: its middle is at 1.5."""
    face = Face((0, 0, 10, 20), ((0, 0), (1, 0), (0, 1), (2, 2), (3, 3)), 0.9)
    moved = detecting._moved(face, 4, (100, 50))
    assert moved.points == ((401.5, 201.5), (405.5, 201.5), (401.5, 205.5), (409.5, 209.5), (413.5, 213.5))
    assert moved.box == (401.5, 201.5, 40, 80)


def test_what_is_found_at_two_sizes_is_merged() -> None:
    large = decode(np.array(GROUP, np.float32))
    small = [detecting._moved(face, 2, (0, 0)) for face in decode(np.array(HALF, np.float32))]
    merged = merge(small + large)
    assert len(merged) == 3
    assert merged[0] == large[0] and merged[1] == small[0]  # the more certain of both
    for face in merged:
        assert all(other is face or not detecting.same(face, other) for other in merged)
    assert merge([]) == [] and merge(large) == large
    inner = Face((380, 440, 30, 40), large[0].points, 0.85)
    assert merge([*large, inner]) == large  # in another, if small against it


# ── searching ───────────────────────────────────────────────────────────────────────────────────────────────────────

COLOURS = np.array([(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250)])
GREY = (90, 90, 90)


def draw(picture: Image.Image, to_picture: Similarity) -> Face:
    """Five spots in the colours of the five points."""
    pen, radius = ImageDraw.Draw(picture), 24 * to_picture.scale
    for (x, y), colour in zip(to_picture(TEMPLATE), COLOURS, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(map(int, colour)))
    return there(to_picture)


def spots(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A detector that finds one face of spots, of 10 … 300 px and rolled by at most 50°; and, as YuNet does, is the
    less sure of it and the less right about its roll, the more it is rolled."""
    assert pixels.flags.c_contiguous and pixels.dtype == np.uint8 and max(pixels.shape) <= detecting.WINDOW
    points = []
    light, dark = pixels > 190, pixels < 60
    clear = (light | dark).all(-1)
    for colour in COLOURS:
        rows, columns = np.nonzero(clear & (light == (colour > 100)).all(-1))
        if not len(rows):
            return np.zeros((0, 15), np.float32)
        points.append((float(columns.mean()), float(rows.mean())))
    back = similarity(points).inverse
    face = there(back)
    roll = abs(np.degrees(cmath.phase(back.a)))
    if not 10 <= face.size <= 300 or roll > 50:
        return np.zeros((0, 15), np.float32)
    middle = np.mean(points, axis=0) @ (1, 1j)
    under = cmath.exp(-0.6j * cmath.phase(back.a))
    told = [middle + (complex(*p) - middle) * under for p in points]
    row = [*face.box, *(n for z in told for n in (z.real, z.imag)), 0.95 - roll / 150]
    return np.array([row], np.float32)


def check_found(picture: Image.Image, drawn: Face, tolerance: float) -> None:
    """The points are right to a share of the face, and to the pixel by which a spot of whole pixels may be off."""
    (found,) = find(picture, spots)
    apart = np.abs(np.array(found.points) - np.array(drawn.points)).max()
    assert apart < tolerance * drawn.size + 1
    assert detecting.same(found, drawn)


@settings(max_examples=20, deadline=None)
@given(size=st.floats(60, 420), angle=angles, x=st.floats(250, 450), y=st.floats(250, 350))
def test_faces_are_found_however_they_are_rolled(size: float, angle: float, x: float, y: float) -> None:
    picture = Image.new("RGB", (700, 600), GREY)
    check_found(picture, draw(picture, placed(size, angle, x, y)), 0.025)


@pytest.mark.parametrize(("size", "x", "y"), [(60, 3100, 1250), (700, 1200, 1300), (2300, 1800, 1250), (90, 30, 2400)])
def test_faces_are_found_in_large_pictures(size: float, x: float, y: float) -> None:
    picture = Image.new("RGB", (3600, 2500), GREY)
    check_found(picture, draw(picture, placed(size, 8, x, y)), 0.06)


@settings(max_examples=10, deadline=None)
@given(x=st.floats(900, 1700), y=st.floats(100, 500))
def test_no_face_is_lost_between_windows(x: float, y: float) -> None:
    picture = Image.new("RGB", (2600, 640), GREY)
    check_found(picture, draw(picture, placed(200, 0, x, y)), 0.06)


def test_what_is_no_face_when_it_is_looked_at_again_is_none() -> None:
    glances = 0

    def unsure(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal glances
        glances += 1
        if pixels.shape[:2] == (300, 300):
            return np.array([[*ALIGNED[:14], 0.99]], np.float32)
        return np.zeros((0, 15), np.float32)

    assert find(Image.new("RGB", (300, 300)), unsure, turned=False) == []
    assert glances == 2


def test_odd_pictures_are_searched_too() -> None:
    for picture in (
        Image.new("RGB", (1, 1)), Image.new("L", (3, 2000)), Image.new("RGBA", (7, 5)), Image.new("CMYK", (40, 40))
    ):  # fmt: skip
        assert find(picture, spots) == []


def test_a_search_can_be_stopped() -> None:
    with pytest.raises(Stopped):
        find(Image.new("RGB", (64, 64)), spots, lambda: True)


def test_quarter_turns_are_undone_exactly() -> None:
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[7, 41] = 255
    for quarters in range(4):
        y, x = (int(n[0]) for n in np.nonzero(np.rot90(pixels, quarters)[..., 0]))
        face = Face((x - 2, y - 1, 4, 2), ((x, y), (0, 0), (0, 0), (0, 0), (0, 0)), 1.0)
        back = detecting._turned_back(face, quarters, 50, 30)
        assert back.points[0] == (41, 7)
        assert (back.box[0] + back.box[2] / 2, back.box[1] + back.box[3] / 2) == (41, 7)


def test_without_opencv_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(LoadError) as told:
        YuNet(tmp_path / "yunet.onnx")
    assert told.value.message == "faces are found with OpenCV, which is not installed"
    assert told.value.hint == f"{sys.executable} -m pip install 'opencv-python-headless>=5'"
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))
    with pytest.raises(LoadError, match="OpenCV, which can't be used: module 'cv2' has no attribute"):
        YuNet(tmp_path / "yunet.onnx")


# ── cutting and putting back ────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(pictures)
def test_a_net_that_changes_nothing_changes_nearly_nothing(place: dict[str, float]) -> None:
    """Any angle, any size, over any edge: what was cut out goes back to where it was."""
    before = smooth(240, 180)
    told, after = run(Image.fromarray(before), [there(placed(**place))])
    assert told == [Restored(1, 1)]
    assert np.abs(np.asarray(after).astype(int) - before).max() <= 3


@settings(max_examples=60, deadline=None)
@given(pictures, st.floats(0.05, 1))
def test_outside_of_the_face_nothing_changes(place: dict[str, float], strength: float) -> None:
    before, to_picture = smooth(240, 180), placed(**place)
    _, after = run(Image.fromarray(before), [there(to_picture)], strength, lambda x: -torch.ones_like(x))
    x, y = np.meshgrid(np.arange(240), np.arange(180))
    frame = (x + 1j * y) * to_picture.inverse.a + to_picture.inverse.b
    away = np.maximum(np.abs(frame.real - 255.5), np.abs(frame.imag - 255.5)) / 256
    changed = np.abs(np.asarray(after).astype(int) - before)
    assert not changed[away > faces.RIM].any()
    within = np.abs(frame - (255.5 + 255.5j)) / 256 < faces.WHOLE - 0.1
    expected = before * (1 - strength)
    assert np.abs(np.asarray(after) - expected)[within].max(initial=0) <= 1


@settings(max_examples=30, deadline=None)
@given(pictures)
def test_where_a_spot_is_put_in_the_frame_it_appears_in_the_picture(place: dict[str, float]) -> None:
    """Up is up and left is left: a spot at the frame's right eye appears at the face's."""
    place = place | {"size": max(place["size"], 60)}
    face, seen = there(placed(**place)), np.full((180, 240, 3), 20, np.uint8)
    x, y = face.points[0]
    new = torch.zeros(1, 3, SIDE, SIDE)
    new[:, :, 225:256, 178:209] = 1
    paste(seen, new, similarity(face.points), 1.0)
    if 20 < x < 220 and 20 < y < 160 and abs(place["size"]) < 300:
        weights = seen[..., 0].astype(float).clip(40) - 40
        rows, columns = np.mgrid[:180, :240]
        found = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
        assert np.abs(found - (x, y)).max() < 2


def test_a_large_face_is_reduced_without_aliasing() -> None:
    """A checkerboard of single pixels is grey from afar, not a moiré."""
    board = np.indices((1536, 1536)).sum(0) % 2 * 255
    pixels = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    seen = cut(pixels, placed(1536, 3, 767.5, 767.5).inverse)
    assert (seen[..., 8:-8, 8:-8] - 0.5).abs().max() < 0.1


def test_a_small_face_is_put_back_without_aliasing() -> None:
    board = np.indices((SIDE, SIDE)).sum(0) % 2
    new = torch.tensor(np.repeat(board[None, None], 3, 1)).float()
    pixels = np.full((64, 64, 3), 128, np.uint8)
    paste(pixels, new, placed(40, 3, 31, 31).inverse, 1.0)
    assert np.abs(pixels.astype(int) - 128).max() < 12


def test_beyond_the_edge_the_picture_is_mirrored() -> None:
    pixels = smooth(200, 200)
    to_frame = placed(SIDE, 0, -0.5, 100).inverse  # the picture's left edge is the frame's middle
    seen = cut(pixels, to_frame)[0, :, :, 156:356]
    assert (seen - seen.flip(-1)).abs().max() < 0.02


def test_the_net_sees_rgb_from_minus_one_to_one() -> None:
    seen: list[torch.Tensor] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    run(Image.new("RGB", (600, 600), (255, 0, 128)), [there(placed(300, 0, 300, 300))], net=look, dtype=torch.bfloat16)
    (x,) = seen
    assert x.shape == (1, 3, SIDE, SIDE) and x.dtype == torch.bfloat16
    assert x.float().mean((0, 2, 3)).tolist() == pytest.approx([1, -1, 0.004], abs=0.01)


# ── the whole of it ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_face_the_picture_is_left_alone() -> None:
    picture = Image.fromarray(smooth(50, 40))
    told, after = run(picture, [])
    assert after is picture
    assert told == [Restored(0, 0, "no face was found; the picture is left as it was")]


def test_strength_nothing_changes_nothing() -> None:
    picture = Image.fromarray(smooth(240, 180))
    face = there(placed(100, 20, 120, 90))

    def never(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the net was asked")

    told, after = run(picture, [face], 0.0, never)
    assert after is picture and told[-1].number == told[-1].of == 1
    pixels = smooth(240, 180)
    paste(pixels, torch.zeros(1, 3, SIDE, SIDE), similarity(face.points), 0.0)
    assert np.array_equal(pixels, smooth(240, 180))


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strengths_out_of_range_are_refused(strength: float) -> None:
    with pytest.raises(InvalidRequest, match="out of range"):
        run(Image.new("RGB", (8, 8)), [there(placed(8, 0, 4, 4))], strength)


def test_alpha_is_kept() -> None:
    pixels = np.dstack([smooth(240, 180), np.arange(240 * 180).reshape(180, 240) % 256]).astype(np.uint8)
    _, after = run(Image.fromarray(pixels), [there(placed(100, 0, 120, 90))], net=lambda x: -x)
    assert after.mode == "RGBA" and np.array_equal(np.asarray(after)[..., 3], pixels[..., 3])
    assert not np.array_equal(np.asarray(after)[..., :3], pixels[..., :3])
    palette = Image.fromarray(smooth(240, 180)).quantize(16)
    palette.info["transparency"] = 3
    alpha = np.asarray(palette.convert("RGBA"))[..., 3]
    assert np.array_equal(np.asarray(run(palette, [there(placed(100, 0, 120, 90))])[1])[..., 3], alpha)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1"])
def test_pictures_of_other_modes_become_rgb(mode: str) -> None:
    picture = Image.fromarray(smooth(240, 180)).convert(mode)
    _, after = run(picture, [there(placed(60, 0, 120, 90))])
    assert after.mode == "RGB" and np.array_equal(np.asarray(after)[:30], np.asarray(picture.convert("RGB"))[:30])


def test_many_faces_are_restored_each_from_the_picture_as_it_came() -> None:
    before = smooth(240, 180)
    found = [there(placed(40, 30 * i, 20 + 25 * (i % 9), 20 + 45 * (i // 9))) for i in range(27)]
    inputs: list[torch.Tensor] = []

    def note(x: torch.Tensor) -> torch.Tensor:
        inputs.append(x.clone())
        return -x

    told, after = run(Image.fromarray(before), found, net=note)
    assert told == [Restored(number, 27) for number in range(1, 28)]
    for face, seen in zip(found, inputs, strict=True):
        assert torch.equal(seen, cut(before, similarity(face.points)) * 2 - 1)
    assert np.array_equal(before, smooth(240, 180)) and not np.array_equal(np.asarray(after), before)


def test_it_stops_between_faces() -> None:
    found = [there(placed(40, 0, 60, 60)), there(placed(40, 0, 150, 60))]
    work = restore(
        Image.fromarray(smooth(240, 180)), found, lambda x: x, 1.0, CPU, torch.float32, iter([False, True]).__next__
    )
    assert next(work) == Restored(1, 2)
    with pytest.raises(Stopped):
        next(work)


def test_numbers_that_are_none_never_reach_the_picture() -> None:
    before = smooth(240, 180)

    def overflow(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[0, 0, 9, 9] = float("inf")
        return x

    found = [there(placed(90, 0, 120, 90))]
    told, after = run(Image.fromarray(before), found, net=overflow, dtype=torch.float16)
    assert np.array_equal(np.asarray(after), before)
    assert told == [Restored(1, 1, "face 1 was left as it was: the net overflows in float16")]
    with pytest.raises(LoadError, match="not finite"):
        run(Image.fromarray(before), found, net=overflow)


def test_a_face_whose_points_make_no_sense_is_told_and_left() -> None:
    before = smooth(240, 180)
    bad = Face((0, 0, 10, 10), ((5.0, 5.0),) * 5, 0.9)
    told, after = run(Image.fromarray(before), [bad, there(placed(90, 0, 120, 90))], net=lambda x: -x)
    assert told == [Restored(1, 2, "face 1 was left as it was: its points make no sense"), Restored(2, 2)]
    assert not np.array_equal(np.asarray(after), before)


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 2)])
def test_the_smallest_pictures_are_no_trouble(size: tuple[int, int]) -> None:
    before = smooth(*size)
    for middle in ((0.0, 0.0), (size[0] * 2.0, size[1] * 3.0)):
        _, after = run(Image.fromarray(before), [there(placed(50, 33, *middle))])
        assert np.abs(np.asarray(after).astype(int) - before).max() <= 3


def test_a_colour_profile_is_kept() -> None:
    picture = Image.new("RGB", (700, 600), GREY)
    face = draw(picture, placed(200, 0, 350, 300))
    picture.info["icc_profile"] = b"a profile"
    _, made = run(picture, [face])
    assert made is not picture and made.info["icc_profile"] == b"a profile"
