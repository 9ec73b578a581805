"""The real detector: YuNet's released file, in OpenCV, on pictures of all sorts."""

from __future__ import annotations

import hashlib
import math
import types
from pathlib import Path

import numpy as np
import pytest
from people import YUNET, Person, crowd
from PIL import Image, ImageDraw

from engines.diffusion import detecting
from engines.diffusion.detecting import YuNet
from engines.errors import LoadError

EYES = 0.075
"Of a head's height, how far above its middle the eyes are."


@pytest.fixture(scope="module")
def yunet() -> YuNet:
    return YuNet(YUNET)


def check(picture: Image.Image, yunet: YuNet, *people: Person) -> None:
    """All of them are found, each with its eyes where it has them, and nobody else."""
    found = detecting.find(picture, yunet)
    assert len(found) == len(people)
    for person in people:
        turn = math.radians(person.angle)
        x = person.x - EYES * person.size * math.sin(turn)
        y = person.y - EYES * person.size * math.cos(turn)
        eyes = (complex(*face.points[0]) + complex(*face.points[1]) for face in found)
        assert min(abs(pair / 2 - complex(x, y)) for pair in eyes) < 0.06 * person.size + 1, person


def test_another_file_than_the_pinned_one_is_not_opened(tmp_path: Path) -> None:
    other = tmp_path / YUNET.name
    other.write_bytes(YUNET.read_bytes() + b"\0")
    sha256 = hashlib.sha256(YUNET.read_bytes()).hexdigest()
    YuNet(YUNET, sha256)
    with pytest.raises(LoadError, match="is not the file that is meant"):
        YuNet(other, sha256)


def test_a_detector_that_fails_is_one_line(yunet: YuNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise yunet._cv2.error("(-215:Assertion failed) something in function 'f'")

    monkeypatch.setattr(yunet, "_net", types.SimpleNamespace(setInputSize=fails))
    with pytest.raises(LoadError, match=r"the face detector failed at 9x6 pixels: \(-215"):
        yunet(np.zeros((6, 9, 3), np.uint8))


def test_a_search_tells_how_far_it_is(yunet: YuNet) -> None:
    work = detecting.search(crowd((900, 500), Person(150, 300, 250), Person(100, 650, 250)), yunet)
    looks = list(work)
    assert [done for done, _ in looks] == list(range(len(looks))) and looks[-1] == (len(looks) - 1, len(looks))


def test_large_and_small_people_are_found_in_one_picture(yunet: YuNet) -> None:
    people = (Person(24, 100, 900), Person(60, 300, 200), Person(140, 700, 300), Person(300, 1200, 500))
    check(crowd((1600, 1000), *people), yunet, *people)


@pytest.mark.parametrize("angle", [30, 90, 180, 270, -45])
def test_turned_people_are_found(yunet: YuNet, angle: float) -> None:
    person = Person(160, 250, 250, angle)
    check(crowd((500, 500), person), yunet, person)


@pytest.mark.parametrize("x", [40, 60])
def test_who_is_cut_off_by_the_border_is_found(yunet: YuNet, x: int) -> None:
    check(crowd((500, 400), Person(160, x, 200)), yunet, Person(160, x, 200))


def test_a_face_that_fills_a_large_picture_is_found_in_its_reduced_copy(yunet: YuNet) -> None:
    check(crowd((3600, 3000), Person(1500, 1800, 1500)), yunet, Person(1500, 1800, 1500))


def test_where_nobody_is_nobody_is_found(yunet: YuNet) -> None:
    assert detecting.find(Image.linear_gradient("L").convert("RGB").resize((800, 600)), yunet) == []
    house = Image.new("RGB", (700, 600), "skyblue")
    pen = ImageDraw.Draw(house)
    pen.rectangle((200, 250, 500, 550), "brown")
    pen.polygon([(170, 250), (350, 100), (530, 250)], "darkred")
    for x in (250, 400):
        pen.rectangle((x, 300, x + 60, 360), "white")
    assert detecting.find(house, yunet) == []
