"""What is done to a picture that is there: in one request with its drawing, or to a file; each result is a picture."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engines import catalogue, folders, metadata, planning
from engines.diffusion import detecting, gfpgan, mosaic, sampling, upscaling
from engines.diffusion.aligning import TEMPLATE
from engines.diffusion.darkroom import Darkroom
from engines.entries import FaceDetector, FaceRestorer, Local, Upscaler
from engines.errors import CatalogueError, InvalidRequest, LoadError, OutOfMemory, SafelightError, Stopped
from engines.events import Done, Event, Failed, Finishing, Kept, Noted, Previewed, Stepped
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Finish, Generate, Job, Picture, Request, from_json, to_json
from engines.steps import Hires, Restore, Step, Upscale
from engines.store import Made, Store

APPLE = Generate(
    "a red apple on a blue background", "mini-lightning-4step-unet", 7, 64, 64, 4, 0.0, timestep_spacing="trailing"
)
X4 = Upscale("mini-x4")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Darkroom:
    home = tmp_path_factory.mktemp("darkroom")
    return Darkroom(
        catalogue.load(), Options(home / "pictures", device="cpu", threads=1), home / "cache", home / "data"
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file that is none of ours: soft stripes."""
    x = np.linspace(0, 6, 52)[None, :, None] + np.linspace(0, 4, 40)[:, None, None] + np.array([0, 2, 4])
    Image.fromarray((np.sin(x) * 100 + 128).astype(np.uint8)).save(tmp_path / "stripes.png")
    return tmp_path / "stripes.png"


def drain(
    room: Darkroom,
    request: Request,
    stop: Callable[[list[Any]], bool] = lambda events: False,
    kept: tuple[Picture, ...] = (),
) -> tuple[list[Event], list[Made]]:
    """Events, and all that was made, at once or in the end."""
    events: list[Event] = []
    made: list[Made] = []
    seen: list[Any] = []
    job = Job(1, request, None, time.time(), kept=kept)
    development = room.develop(job, lambda: stop(seen), time.perf_counter())
    while True:
        try:
            item = next(development)
        except StopIteration as end:
            return events, [*made, *end.value]
        seen.append(item)
        (made if isinstance(item, Made) else events).append(item)  # type: ignore[attr-defined]


def opened(made: Made) -> Image.Image:
    with Image.open(made.path) as image:
        return image.copy()


# ── in one request ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_step_is_a_picture_of_its_own_that_says_what_it_was_made_of(room: Darkroom) -> None:
    steps: tuple[Step, ...] = (Hires(2, 0.5), Upscale("mini-x4", 3))
    events, (base, hires, large) = drain(room, replace(APPLE, finish=steps, score="mini-clip"))
    assert [opened(m).size for m in (base, hires, large)] == [(64, 64), (128, 128), (384, 384)]
    assert [m.request.finish for m in (base, hires, large)] == [(), steps[:1], steps]
    assert [m.source for m in (base, hires, large)] == ["", base.path, hires.path]
    assert all("mini-clip" in m.scores for m in (base, hires, large))
    assert [Path(m.path).name.removeprefix(Path(base.path).stem) for m in (hires, large)] == [
        "-hires.png", "-hires-x3.png",
    ]  # fmt: skip
    assert "upscaler mini-x4 sha256" in large.made_with and "upscaler mini-x4 sha256" not in hires.made_with
    assert hires.seconds.finish > 0 and hires.seconds.denoise > 0
    told = metadata.read(Path(large.path))
    assert told is not None and told[0] == large.request and told[1]["source"] == Path(hires.path).name
    assert [e.of for e in events if isinstance(e, Stepped)] == [4] * 4 + [2] * 2
    assert any(isinstance(e, Finishing) and e.what == "upscaling to 384x384" and e.fraction == 1 for e in events)
    assert any(isinstance(e, Previewed) for e in events)


def test_a_picture_without_steps_is_what_it_was(room: Darkroom) -> None:
    _, (plain,) = drain(room, APPLE)
    _, (base, _) = drain(room, replace(APPLE, finish=(X4,)))
    assert np.array_equal(np.asarray(opened(plain)), np.asarray(opened(base)))


def test_a_batch_is_finished_picture_by_picture(room: Darkroom) -> None:
    _, made = drain(room, replace(APPLE, batch_size=2, finish=(X4,)))
    assert [(m.request.seed, m.width) for m in made] == [(7, 64), (8, 64), (7, 256), (8, 256)]


def test_an_upscaled_picture_is_what_the_network_makes(room: Darkroom, picture: Path) -> None:
    from engines.diffusion import nets

    _, (made,) = drain(room, Finish(str(picture), (X4,)))
    net = upscaling.place(nets.load(room.catalogue.upscaler("mini-x4").source.path), room.device, torch.float32)
    work = upscaling.upscale(Image.open(picture), net, room.device)
    while True:
        try:
            next(work)
        except StopIteration as end:
            wanted = end.value
            break
    assert np.abs(np.asarray(opened(made)).astype(int) - np.asarray(wanted).astype(int)).max() <= 1


def test_a_tile_that_would_be_all_halo_is_made_larger(room: Darkroom, picture: Path) -> None:
    _, (made,) = drain(room, Finish(str(picture), (replace(X4, tile=32),)))
    assert opened(made).size == (208, 160)


def test_shrunk_first_it_has_the_same_size(room: Darkroom, picture: Path) -> None:
    _, (made,) = drain(room, Finish(str(picture), (replace(X4, shrink=0.5, scale=2),)))
    assert opened(made).size == (104, 80)
    _, (made,) = drain(room, Finish(str(picture), (replace(X4, shrink=0.5),)))
    assert opened(made).size == (104, 80), "its own factor, of what was left"


@pytest.mark.parametrize("upscaler", ["", "latent", "mini-x4"])
def test_a_hires_pass_keeps_the_picture_and_its_size_is_a_multiple_of_eight(room: Darkroom, upscaler: str) -> None:
    _, (base, hires) = drain(room, replace(APPLE, finish=(Hires(1.7, 0.3, upscaler),)))
    assert opened(hires).size == (112, 112)  # 108.8 rounded
    before = opened(base).resize((112, 112))
    apart = np.abs(np.asarray(opened(hires)).astype(int) - np.asarray(before).astype(int)).mean()
    assert 0 < apart < 40


def seen(events: list[Event]) -> list[str]:
    return [e.text for e in events if isinstance(e, Noted) and "tiles" in e.text]


def test_a_hires_pass_in_tiles_is_nearly_that_of_the_whole(room: Darkroom) -> None:
    wanted = Hires(3, 0.3, "mini-x4")
    events, (_, whole) = drain(room, replace(APPLE, finish=(wanted,)))
    assert not seen(events), "there is memory for it"
    events, (_, tiled) = drain(room, replace(APPLE, finish=(replace(wanted, tile=96),)))
    assert seen(events) == ["192x192 is drawn in 9 tiles of 96 px"]
    apart = np.abs(np.asarray(opened(tiled)).astype(int) - np.asarray(opened(whole)).astype(int))
    assert opened(tiled).size == (192, 192) and 0 < apart.mean() < 20
    assert [e.of for e in events if isinstance(e, Stepped)][-1] == 1, "steps are the whole's"


def test_a_hires_pass_that_runs_out_of_memory_goes_on_in_tiles(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the size that the model was trained for: 128 px of it at a time."""
    real = sampling.denoise

    def small(unet: Any, *args: Any) -> Any:
        if args[2].width > 128 and not isinstance(unet, mosaic.Mosaic):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(unet, *args)

    monkeypatch.setattr(sampling, "denoise", small)
    events, (_, hires) = drain(room, replace(APPLE, finish=(Hires(4, 0.3),)))
    assert opened(hires).size == (256, 256) and seen(events) == ["256x256 is drawn in 9 tiles of 128 px"]
    with pytest.raises(OutOfMemory):
        drain(room, replace(APPLE, width=256, height=256))


def test_a_hires_pass_that_is_known_not_to_fit_is_drawn_in_tiles_at_once(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = room.loader.prepare

    def cramped(model: Any, request: Generate) -> Any:
        made = real(model, request)
        free = 0 if request.width > 128 else made.plan.ask.free
        return replace(made, plan=planning.plan(replace(made.plan.ask, free=free)))

    monkeypatch.setattr(room.loader, "prepare", cramped)
    events, (_, hires) = drain(room, replace(APPLE, finish=(Hires(4, 0.3),)))
    assert opened(hires).size == (256, 256) and seen(events) == ["256x256 is drawn in 9 tiles of 128 px"]


# ── to a file ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_ours_keeps_its_request_and_what_is_done_to_it_again_adds_to_it(room: Darkroom) -> None:
    _, (base,) = drain(room, APPLE)
    _, (twice,) = drain(room, Finish(base.path, (Upscale("mini-x4", 2),)))
    assert twice.request == replace(base.request, finish=(Upscale("mini-x4", 2),)) and twice.source == base.path
    assert twice.made_with["unet_sha256"] == base.made_with["unet_sha256"]
    _, (again,) = drain(room, Finish(twice.path, (Hires(1, 0.3),)))
    assert again.request.finish == (Upscale("mini-x4", 2), Hires(1, 0.3)) and opened(again).size == (128, 128)


def test_a_strangers_file_is_told_to_be_taken_as_it_is(room: Darkroom, picture: Path) -> None:
    picture = picture.rename(picture.with_name("lines.png"))  # others of this module are called stripes
    _, (made,) = drain(room, Finish(str(picture), (X4,)))
    request = made.request
    assert (request.init, request.strength, request.drawn, request.model) == (str(picture), 0.0, False, "")
    assert Path(made.path).name == "lines-x4.png" and opened(made).size == (208, 160)
    told = metadata.read(Path(made.path))
    assert told is not None and told[0].init == "lines.png", "no folder is told to others"
    _, (again,) = drain(room, request)  # the request makes the same once more
    assert np.array_equal(np.asarray(opened(again)), np.asarray(opened(made)))
    with pytest.raises(InvalidRequest, match="tells no model"):
        drain(room, Finish(str(picture), (Hires(),)))


def test_transparency_and_a_photographs_turn_are_kept(room: Darkroom, tmp_path: Path) -> None:
    alpha = Image.new("RGBA", (24, 16), (200, 30, 30, 0))
    alpha.paste((30, 200, 30, 255), (0, 0, 12, 16))
    alpha.save(tmp_path / "alpha.png")
    _, (made,) = drain(room, Finish(str(tmp_path / "alpha.png"), (X4,)))
    image = opened(made)
    assert image.mode == "RGBA" and image.getpixel((5, 5))[3] == 255 and image.getpixel((90, 5))[3] == 0  # type: ignore[index]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / "turned.jpg", exif=exif)
    _, (made,) = drain(room, Finish(str(tmp_path / "turned.jpg"), (X4,)))
    assert opened(made).size == (64, 96)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_what_is_no_picture_is_one_line(room: Darkroom, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InvalidRequest, match="is gone" if content is None else "can't be read as a picture"):
        drain(room, Finish(str(tmp_path / "bad.png"), (X4,)))


# ── over a picture ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_to_begin_with_is_covered_cut_and_drawn_over(room: Darkroom, picture: Path) -> None:
    over = replace(APPLE, init=str(picture), strength=0.25)
    events, (faint,) = drain(room, over)
    assert [(e.step, e.of) for e in events if isinstance(e, Stepped)] == [(1, 1)]
    _, (strong,) = drain(room, replace(over, strength=1.0))
    with Image.open(picture) as image:
        wanted = np.asarray(image.resize((83, 64)).crop((9, 0, 73, 64))).astype(int)
    near, far = (np.abs(np.asarray(opened(m)).astype(int) - wanted).mean() for m in (faint, strong))
    assert near < far / 2 and near < 50
    _, (untouched,) = drain(room, replace(over, strength=0.0, finish=(X4,)))
    assert opened(untouched).size == (208, 160)


def test_a_batch_begins_with_one_picture(room: Darkroom, picture: Path) -> None:
    _, (alone,) = drain(room, replace(APPLE, init=str(picture), strength=0.5, seed=8))
    _, both = drain(room, replace(APPLE, init=str(picture), strength=0.5, batch_size=2))
    assert np.abs(np.asarray(opened(both[1])).astype(int) - np.asarray(opened(alone)).astype(int)).max() <= 1


def test_an_encoder_that_overflows_is_tried_in_fp32_and_told_if_it_does_there(
    room: Darkroom, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import AutoencoderKL

    real = AutoencoderKL.encode
    monkeypatch.setattr(AutoencoderKL, "encode", lambda self, x: real(self, x * float("nan")))
    with pytest.raises(LoadError, match="not finite for the picture to begin with"):
        drain(room, replace(APPLE, init=str(picture), strength=0.5))


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_here_is_refused_before_anything_is_drawn(room: Darkroom) -> None:
    for step, error in (
        (Upscale("nothing"), CatalogueError),
        (Hires(2, 0.5, "nothing"), CatalogueError),
        (Restore("nothing"), CatalogueError),
    ):
        seen: list[Any] = []
        with pytest.raises(error):
            drain(room, replace(APPLE, finish=(step,)), lambda events, seen=seen: seen.extend(events) or False)  # type: ignore[misc]
        assert seen == []


def test_a_step_that_fails_leaves_the_picture_before_it_and_says_where(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*a: Any, **k: Any) -> Any:
        raise OutOfMemory("the GPU's memory is used up", "make it smaller")
        yield

    monkeypatch.setattr(upscaling, "upscale", fails)
    made: list[Made] = []
    job = Job(1, replace(APPLE, finish=(Hires(1, 0.3), X4)), None, 0.0)
    development = room.develop(job, lambda: False, time.perf_counter())
    with pytest.raises(SafelightError) as failed:
        made.extend(item for item in development if isinstance(item, Made))
    assert len(made) == 2 and all(Path(m.path).is_file() for m in made)
    assert failed.value.hint == f"make it smaller; the picture before it is saved: {made[1].path}"


def test_a_stop_is_heard_between_tiles(room: Darkroom, tmp_path: Path) -> None:
    Image.new("RGB", (600, 600), "red").save(tmp_path / "red.png")
    request = Finish(str(tmp_path / "red.png"), (replace(X4, tile=96),))
    with pytest.raises(Stopped):
        drain(room, request, lambda seen: sum(isinstance(e, Finishing) and bool(e.fraction) for e in seen) >= 2)


def test_what_an_earlier_try_left_is_not_made_again(room: Darkroom) -> None:
    request = replace(APPLE, finish=(Hires(1, 0.3), X4))
    _, (base, hires, large) = drain(room, request)
    kept = [
        Picture(i, m.path, m.request, m.width, m.height, m.seconds, 0.0, m.scores, m.made_with)
        for i, m in enumerate((base, hires, large))
    ]
    events, made = drain(room, request, kept=(kept[0], kept[1]))
    assert [m.request.finish for m in made] == [request.finish] and not [e for e in events if isinstance(e, Stepped)]
    assert drain(room, request, kept=tuple(kept))[1] == []
    Path(base.path).unlink()
    assert len(drain(room, request, kept=(kept[0],))[1]) == 3, "one that is gone is drawn anew"


# ── faces ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Face:
    """A detector that sees one face, or none, and a net that paints it green."""

    def __init__(self, sees: bool) -> None:
        self.sees = sees
        self.calls = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.calls += 1
        if not self.sees:
            return np.zeros((0, 15), np.float32)
        # the face fills a picture, and half of what is cut out for a second look
        study = pixels.shape[:2] == (detecting.STUDY, detecting.STUDY)
        side = detecting.STUDY / 2 if study else min(pixels.shape[:2])
        begin, size = (detecting.STUDY / 4 if study else 0), side / 512
        points = [begin + n * size for point in TEMPLATE for n in point]
        box = (begin + 110 * size, begin + 90 * size, 290 * size, 390 * size)
        return np.array([[*box, *points, 0.95]], np.float32)


class Green(torch.nn.Module):
    shape = gfpgan.FULL

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1).expand_as(face)


@pytest.fixture
def faces(room: Darkroom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bool], Restore]:
    """Entries for both, and what stands in for a net of 330 MB and for OpenCV."""
    (tmp_path / "net.pth").touch()
    known = replace(
        room.catalogue,
        face_restorers={"green": FaceRestorer("green", "Green", Local(tmp_path / "net.pth"), "MIT")},
        face_detectors={"eye": FaceDetector("eye", "Eye", Local(tmp_path / "net.pth"), "MIT")},
    )
    monkeypatch.setattr(room, "catalogue", known)
    monkeypatch.setattr(gfpgan, "load", lambda *a: Green())

    def use(sees: bool) -> Restore:
        monkeypatch.setattr(detecting, "YuNet", lambda path, sha256: Face(sees))
        room.residency.forget()
        return Restore("green")

    return use


def test_a_face_is_drawn_anew_at_a_strength(room: Darkroom, faces: Callable[[bool], Restore], tmp_path: Path) -> None:
    Image.new("RGB", (256, 256), (90, 90, 90)).save(tmp_path / "grey.png")
    step = faces(True)
    greens = []
    for strength in (0.5, 1.0):
        events, (made,) = drain(room, Finish(str(tmp_path / "grey.png"), (replace(step, strength=strength),)))
        image = np.asarray(opened(made)).astype(int)
        greens.append(image[128, 128, 1])
        assert (image[0, 0] == 90).all() and Path(made.path).name.startswith("grey-faces")
        doing = [e for e in events if isinstance(e, Finishing)]
        assert list(dict.fromkeys(e.what for e in doing)) == ["looking for faces", "face 1 of 1", "saving"]
        looks = [e.fraction for e in doing if e.what == "looking for faces"]
        assert len(looks) > 4 and all(0 <= (fraction or 0) < 1 for fraction in looks), "each look is told"
        assert "face restorer green sha256" in made.made_with
    assert abs(greens[0] - 172) <= 1 and greens[1] == 255


def test_faces_are_tried_again_with_all_else_gone_where_memory_runs_out(
    room: Darkroom, faces: Callable[[bool], Restore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once while the net is loaded, and once while it draws."""
    Image.new("RGB", (256, 256), (90, 90, 90)).save(tmp_path / "grey.png")
    step = faces(True)
    drain(room, APPLE)
    assert room.residency.used > 0
    real, seen = Green.forward, []

    def loads(*rest: Any) -> Green:
        seen.append(("loads", room.residency.used))
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Green()

    def draws(self: Green, face: torch.Tensor) -> torch.Tensor:
        seen.append(("draws", room.residency.used))
        if len(seen) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, face)

    monkeypatch.setattr(gfpgan, "load", loads)
    monkeypatch.setattr(Green, "forward", draws)
    _, (made,) = drain(room, Finish(str(tmp_path / "grey.png"), (step,)))
    assert [what for what, _ in seen] == ["loads", "loads", "draws", "draws"]
    assert seen[0][1] > 0 == seen[1][1], "the model that drew before was let go"
    assert np.asarray(opened(made))[128, 128, 1] == 255


def test_a_net_for_faces_of_another_size_is_refused(
    room: Darkroom, faces: Callable[[bool], Restore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (256, 256), (90, 90, 90)).save(tmp_path / "grey.png")
    step = faces(True)
    small = replace(
        gfpgan.FULL, encoder=gfpgan.FULL.encoder[:7], decoder=gfpgan.FULL.decoder[:7],
        modulated=gfpgan.FULL.modulated[:6],
    )  # fmt: skip
    monkeypatch.setattr(Green, "shape", small)
    with pytest.raises(LoadError, match=r"takes faces of 256 px, and they are cut out in 512 px"):
        drain(room, Finish(str(tmp_path / "grey.png"), (step,)))


def test_a_picture_without_a_face_is_left_alone_and_that_is_told(
    room: Darkroom, faces: Callable[[bool], Restore], picture: Path
) -> None:
    events, made = drain(room, Finish(str(picture), (faces(False),)))
    assert made == []
    assert [e.text for e in events if isinstance(e, Noted)] == ["no face was found; the picture is left as it was"]
    _, (made_large,) = drain(room, Finish(str(picture), (faces(False), X4)))
    assert made_large.request.finish == (X4,), "what was not done is not told"


def test_without_opencv_the_line_says_how_to_get_it(
    room: Darkroom, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    room.residency.forget()
    file = Local(tmp_path / "net")
    file.path.touch()
    known = replace(
        room.catalogue,
        face_restorers={"r": FaceRestorer("r", "R", file, "x")},
        face_detectors={"d": FaceDetector("d", "D", file, "x")},
    )
    monkeypatch.setattr(room, "catalogue", known)
    with pytest.raises(LoadError, match="faces are found with OpenCV"):
        drain(room, Finish(str(picture), (Restore("r"),)))


# ── memory, and sizes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_room_is_made_before_a_network_is_loaded(
    room: Darkroom, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.diffusion import nets

    drain(room, APPLE)
    room.residency.drop({key for key in room.residency.held() if "upscaler" in str(key)})
    real, held = nets.load, []
    monkeypatch.setattr(nets, "load", lambda *a: held.append(room.residency.used) or real(*a))
    monkeypatch.setattr(room.residency, "limit", 1)
    drain(room, Finish(str(picture), (X4,)))
    assert held == [0]


def test_what_other_work_holds_is_let_go_when_the_smallest_tile_is_too_large(
    room: Darkroom, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(room, APPLE)
    real, tries = upscaling.upscale, []

    def upscale(*rest: Any, **how: Any) -> Any:
        tries.append(room.residency.used)
        if len(tries) == 1:
            raise OutOfMemory("the GPU's memory is used up", "make it smaller")
        return (yield from real(*rest, **how))

    monkeypatch.setattr(upscaling, "upscale", upscale)
    _, (made,) = drain(room, Finish(str(picture), (X4,)))
    assert opened(made).size == (208, 160) and tries[0] > tries[1] > 0, "the network itself stays"
    tries.clear()
    with pytest.raises(OutOfMemory):  # nothing else is held now: it would fail again
        drain(room, Finish(str(picture), (X4,)))
    assert len(tries) == 1


def test_a_network_that_overflows_in_half_precision_is_not_tried_in_it_again(
    room: Darkroom, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.diffusion import finishing

    monkeypatch.setattr(finishing, "_dtypes", lambda room: (torch.bfloat16, torch.float32))
    real, seen = upscaling.upscale, []

    def upscale(picture: Any, net: Any, *rest: Any, **how: Any) -> Any:
        seen.append(next(net.parameters()).dtype)
        if seen[-1] == torch.bfloat16:
            raise LoadError("the upscaler gave numbers that are not finite", "try fp32")
        return (yield from real(picture, net, *rest, **how))

    monkeypatch.setattr(upscaling, "upscale", upscale)
    monkeypatch.setattr(room, "overflowing", set())
    events, _ = drain(room, Finish(str(picture), (X4,)))
    assert next(e.text for e in events if isinstance(e, Noted)).endswith("overflows in bf16: in fp32 from now on")
    events, _ = drain(room, Finish(str(picture), (X4,)))
    assert seen == [torch.bfloat16, torch.float32, torch.float32] and not any(isinstance(e, Noted) for e in events)


@pytest.mark.parametrize("step", [Hires(16, 0.3, "mini-x4"), Hires(16, 0.3), Upscale("mini-x4", 16), Upscale("slow")])
def test_what_would_be_too_large_is_refused_before_anything_is_made(
    room: Darkroom, tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (5000, 4000)).save(tmp_path / "wide.png")
    slow = Upscaler("slow", "Slow", "diffusion", Local(tmp_path / "wide.png"), 4, "x")
    known = replace(room.catalogue, upscalers={**room.catalogue.upscalers, "slow": slow})
    monkeypatch.setattr(room, "catalogue", known)
    monkeypatch.setattr(Image.Image, "resize", lambda *a, **k: pytest.fail("it was made larger"))
    wanted = replace(APPLE, init=str(tmp_path / "wide.png"), strength=0.0, finish=(step,))
    with pytest.raises(InvalidRequest, match=r"can't be made|made on the way|from 16 to"):
        drain(room, wanted)


def test_a_picture_of_a_batch_that_fails_keeps_no_other_from_its_steps(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = upscaling.upscale, []

    def upscale(*rest: Any, **how: Any) -> Any:
        seen.append(1)
        if len(seen) in fails:
            raise LoadError("the upscaler gave numbers that are not finite", "try fp32")
        return (yield from real(*rest, **how))

    monkeypatch.setattr(upscaling, "upscale", upscale)
    job = Job(1, replace(APPLE, batch_size=3, finish=(X4,)), None, 0.0)
    for fails, told in (({1}, "the upscaler gave"), ({1, 3}, "2 of 3 pictures are not finished; the first: the up")):
        seen.clear()
        made: list[Made] = []
        with pytest.raises(LoadError) as failed:
            made.extend(m for m in room.develop(job, lambda: False, time.perf_counter()) if isinstance(m, Made))
        assert failed.value.message.startswith(told) and "-1.png" not in told
        assert [m.width for m in made] == [64] * 3 + [256] * (3 - len(fails))


def test_a_picture_can_be_finished_often(room: Darkroom, picture: Path) -> None:
    path = str(picture)
    for _ in range(10):
        _, (made,) = drain(room, Finish(path, (Upscale("mini-x4", 1),)))
        path = made.path
    told = metadata.read(Path(path))
    assert told is not None and len(told[0].finish) == 10 and told[0] == replace(made.request, init="stripes.png")
    request = replace(made.request, finish=made.request.finish * 7)
    with pytest.raises(InvalidRequest, match="70 steps of finishing; at most 64"):
        request.validate()


# ── what is typed over a file ───────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_taken_as_it_is_is_finished_by_the_typed_prompt_and_model(room: Darkroom, picture: Path) -> None:
    _, (apple,) = drain(room, APPLE)
    for path in (str(picture), apple.path):
        typed = replace(APPLE, prompt="a blue cat", init=path, strength=0.0, finish=(Hires(1, 0.5),), seed=3)
        _, (made,) = drain(room, typed)
        told = made.request
        assert (told.prompt, told.model, told.seed, told.init) == ("a blue cat", APPLE.model, 3, path)
        assert not told.drawn and told.finish == typed.finish
    _, (made,) = drain(room, replace(APPLE, prompt="", init=apple.path, strength=0.0, finish=(Hires(1, 0.5),)))
    assert made.request.prompt == APPLE.prompt, "nothing was typed: as the file tells"


def test_what_a_camera_keeps_beside_a_picture_is_no_animation(room: Darkroom, tmp_path: Path) -> None:
    one, two = (Image.new("RGB", (24, 16), colour) for colour in ("red", "blue"))
    one.save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=[two])
    _, (made,) = drain(room, Finish(str(tmp_path / "camera.jpg"), (X4,)))
    assert opened(made).size == (96, 64) and opened(made).getpixel((40, 30))[0] > 200  # type: ignore[index]
    one.quantize(4).save(tmp_path / "moving.gif", save_all=True, append_images=[two.quantize(4)])
    with pytest.raises(InvalidRequest, match=r"moving\.gif is animated: it has 2 frames"):
        drain(room, Finish(str(tmp_path / "moving.gif"), (X4,)))


def test_a_picture_to_begin_with_is_read_in_tiles_where_memory_runs_out(
    room: Darkroom, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.diffusion import pieces

    over = replace(APPLE, width=128, height=128, init=str(picture), strength=0.3)
    _, (plain,) = drain(room, over)
    monkeypatch.setattr(planning, "LEAST_TILE", 64)
    real, sides = pieces.encode, []

    def encode(vae: Any, levels: torch.Tensor, tile: int, *rest: Any, **more: Any) -> Any:
        sides.append(tile)
        if tile >= 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(vae, levels, tile, *rest, **more)

    monkeypatch.setattr(pieces, "encode", encode)
    events, (tiled,) = drain(room, over)
    assert sides[0] == 16 > sides[-1], "latents: the whole first"
    assert any("while reading the picture" in e.text for e in events if isinstance(e, Noted))
    assert np.abs(np.asarray(opened(tiled)).astype(int) - np.asarray(opened(plain)).astype(int)).mean() < 10


# ── in the queue ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine(home: Path) -> Iterator[LocalEngine]:
    where = folders.find()
    store = Store(where.store)
    made = LocalEngine(catalogue.load(), where, Options(where.pictures, device="cpu", threads=1), store)
    yield made
    made.close()
    store.close()


def test_results_are_in_the_history_at_once_with_what_they_were_made_of(engine: LocalEngine) -> None:
    job = engine.submit(replace(APPLE, finish=(X4,)))
    kept: list[Picture] = []
    for event in engine.events():
        if isinstance(event, Kept):
            kept.append(event.picture)
            assert engine.store.picture(event.picture.id) == event.picture
        if isinstance(event, Done | Failed):
            assert isinstance(event, Done) and event.pictures == tuple(kept) and event.job_id == job
            break
    assert [p.parent for p in kept] == [None, kept[0].id]
    assert engine.store.kept(job) == tuple(kept)
    assert json.loads(json.dumps(kept[1].to_json()))["parent"] == kept[0].id


def test_a_lost_history_finds_parents_again(engine: LocalEngine) -> None:
    engine.submit(replace(APPLE, finish=(X4,)))
    for event in engine.events():
        if isinstance(event, Done):
            break
    found = metadata.found(Path(event.pictures[0].path).parent)
    other = Store(engine.store.path.with_name("other.db"))
    assert other.restore(found) == 2
    large, base = other.pictures()
    assert large.parent == base.id and base.parent is None
    other.close()


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_steps_are_written_and_read_again() -> None:
    steps: tuple[Step, ...] = (
        Hires(1.5, 0.3, "latent", 12), Restore("r", 0.7, "d"), Upscale("u", 3, 0.5, 256, 0.5, "x", 99, 4.0, 9),
    )  # fmt: skip
    request = replace(APPLE, init="/a.png", strength=0.3, finish=steps)
    assert from_json(to_json(request)) == request
    assert from_json(to_json(Finish("/a.png", steps, "/out", "clip"))) == Finish("/a.png", steps, "/out", "clip")
    values = json.loads(to_json(request))
    for wrong in ({"kind": "paint"}, {"kind": "upscale", "upscaler": 3}, 7, {"kind": "upscale"}):
        with pytest.raises(InvalidRequest):
            from_json(json.dumps({**values, "finish": [wrong]}))


@pytest.mark.parametrize(
    "step",
    [
        Upscale("u", 17), Upscale("u", float("nan")), Upscale("u", denoise=2), Upscale("u", tile=8),
        Upscale("u", noise_level=351), Upscale("u", shrink=0.01), Restore("r", -0.1), Restore("r", 1.1), Hires(0.5),
        Hires(2, 1.5), Hires(2, 0.5, "", 1001),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_refused(step: Step) -> None:
    with pytest.raises(InvalidRequest):
        replace(APPLE, finish=(step,)).validate()
    with pytest.raises(InvalidRequest):
        Finish("a.png", (step,)).validate()


def test_a_request_needs_something_to_do() -> None:
    for request in (Finish("", (X4,)), Finish("a.png", ()), Finish("a.png", (X4,) * 65), Finish("a\0", (X4,))):
        with pytest.raises(InvalidRequest):
            request.validate()
    for wrong in (replace(APPLE, init=""), replace(APPLE, init="a", strength=1.1)):
        with pytest.raises(InvalidRequest):
            wrong.validate()


def test_a_pair_is_mixed_by_how_much_it_shall_denoise(
    room: Darkroom, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    strong = catalogue.load().upscaler("mini-x4").source.path
    weak = {name: tensor * 0.5 for name, tensor in load_file(strong).items()}
    save_file(weak, tmp_path / "weak.safetensors")
    pair = Upscaler("pair", "Pair", "net", Local(strong), 4, "x", weak=Local(tmp_path / "weak.safetensors"))
    monkeypatch.setattr(room, "catalogue", replace(room.catalogue, upscalers={"pair": pair}))
    looks = []
    for denoise in (0.0, 0.5, 1.0):
        _, (made,) = drain(room, Finish(str(picture), (Upscale("pair", denoise=denoise),)))
        looks.append(np.asarray(opened(made)).astype(int))
    ends = np.abs(looks[0] - looks[2]).mean()
    assert ends > 0.05 and np.abs(looks[0] - looks[1]).mean() < ends and np.abs(looks[1] - looks[2]).mean() < ends
