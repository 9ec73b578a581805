"""One picture from request to file, on the embedded family: what is promised, and what is done when things go wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engines import catalogue, files, metadata, planning
from engines.diffusion import device as devices
from engines.diffusion import pieces
from engines.diffusion.darkroom import Darkroom
from engines.diffusion.residency import size
from engines.errors import DiskFull, InvalidRequest, LoadError, OutOfMemory, SafelightError, Stopped, StorageError
from engines.events import Event, Finishing, Loading, Noted, Previewed, Scored, Sketched, Stepped, Vitals
from engines.options import Options
from engines.requests import Generate, Job, Lora, Request, Score, Warm
from engines.store import Made

APPLE = Generate(
    "a red apple on a blue background", "mini-lightning-4step-unet", 7, 128, 128, 4, 0.0, timestep_spacing="trailing"
)
BASE = replace(APPLE, model="mini", num_inference_steps=6, guidance_scale=4.5, timestep_spacing="leading")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Darkroom:
    home = tmp_path_factory.mktemp("darkroom")
    made = Darkroom(
        catalogue.load(), Options(home / "pictures", device="cpu", threads=1), home / "cache", home / "data"
    )
    drain(made, Warm("mini"))
    return made


def drain(
    room: Darkroom, request: Request, stop: Callable[[list[Event]], bool] = lambda events: False
) -> tuple[list[Event], tuple[Made, ...]]:
    events: list[Event] = []
    development = room.develop(Job(1, request, None, time.time()), lambda: stop(events), time.perf_counter())
    while True:
        try:
            events.append(next(development))
        except StopIteration as end:
            return events, end.value


def pixels(made: Made) -> np.ndarray:
    with Image.open(made.path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def of(kind: type, events: list[Event]) -> list[Any]:
    return [e for e in events if isinstance(e, kind)]


def test_a_picture_is_made_and_says_what_made_it(room: Darkroom) -> None:
    events, (made,) = drain(room, replace(APPLE, score="mini-clip", negative_prompt="blurry"))
    assert [e.step for e in of(Stepped, events)] == [1, 2, 3, 4]
    assert [e.what for e in of(Finishing, events)] == ["decoding", "scoring", "saving"]
    assert made.scores["mini-clip"] > 30
    assert (made.width, made.height) == (128, 128)
    path = Path(made.path)
    assert path.parent == room.options.pictures
    assert path.name.endswith("-7-mini-lightning-4step-unet-a-red-apple-on-a-blue-background.png")
    with Image.open(path) as image:
        assert image.size == (128, 128)
        texts = dict(image.text)
    assert "Steps: 4" in texts["parameters"] and "Negative prompt: blurry" in texts["parameters"]
    told = metadata.read(path)
    assert told is not None
    request, ours = told
    assert request == made.request
    assert len(ours["made_with"]["unet_sha256"]) == 16
    assert ours["made_with"]["precision"] == "fp32"
    assert ours["scores"] == made.scores


def test_a_picture_tells_how_much_memory_it_took(room: Darkroom) -> None:
    sizes = [drain(room, replace(APPLE, width=side, height=side))[1][0].peak for side in (64, 512)]
    assert 0 < sizes[0] < sizes[1] or sizes == [0, 0], "a larger one takes more, where the system tells"
    held = room.residency.used
    assert sizes[1] + held > 100e6 or sizes == [0, 0]


def test_red_is_red_and_blue_is_blue(room: Darkroom) -> None:
    _, (made,) = drain(room, replace(BASE, num_inference_steps=12))
    picture = pixels(made)
    corners = np.stack([picture[4, 4], picture[4, -5], picture[-5, 4], picture[-5, -5]]).mean(0)
    middle = picture[56:72, 56:72].reshape(-1, 3).mean(0)
    assert corners.argmax() == 2 and middle.argmax() == 0


def test_the_same_command_gives_the_same_pixels_and_another_seed_others(room: Darkroom) -> None:
    _, (one,) = drain(room, APPLE)
    _, (two,) = drain(room, APPLE)
    _, (other,) = drain(room, replace(APPLE, seed=8))
    assert one.path != two.path
    assert np.array_equal(pixels(one), pixels(two))
    assert np.abs(pixels(one) - pixels(other)).max() > 20


def test_a_batch_is_saved_picture_by_picture_with_seeds_of_their_own(room: Darkroom) -> None:
    _, batch = drain(room, replace(APPLE, batch_size=3))
    assert [m.request.seed for m in batch] == [7, 8, 9]
    assert all(m.request.batch_size == 1 for m in batch)
    for made in batch:
        _, (alone,) = drain(room, made.request)
        assert np.abs(pixels(made) - pixels(alone)).max() <= 2


def test_a_varied_batch_is_saved_picture_by_picture_with_both_seeds(room: Darkroom) -> None:
    varied = replace(APPLE, variation_seed=90, variation_strength=0.5)
    _, batch = drain(room, replace(varied, batch_size=2))
    assert [(m.request.seed, m.request.variation_seed) for m in batch] == [(7, 90), (8, 91)]
    for made in batch:
        told = metadata.read(Path(made.path))
        assert told is not None and told[0] == made.request
        _, (alone,) = drain(room, made.request)
        assert np.abs(pixels(made) - pixels(alone)).max() <= 2
    _, (plain,) = drain(room, APPLE)
    _, (none,) = drain(room, replace(varied, variation_strength=0.0))
    assert np.array_equal(pixels(plain), pixels(none))
    assert np.abs(pixels(plain) - pixels(batch[0])).max() > 8


def test_an_empty_negative_prompt_is_another_picture_than_none(room: Darkroom) -> None:
    base = replace(BASE, num_inference_steps=3)
    _, (zeros,) = drain(room, base)
    _, (empty,) = drain(room, replace(base, negative_prompt=""))
    assert np.abs(pixels(zeros) - pixels(empty)).max() > 8
    told = metadata.read(Path(empty.path))
    assert told is not None and told[0].negative_prompt == ""


def test_timings_add_up(room: Darkroom) -> None:
    _, (made,) = drain(room, replace(APPLE, score="mini-clip"))
    s = made.seconds
    parts = s.load + s.encode + s.denoise + s.decode + s.score + s.save
    assert 0 < parts <= s.total
    assert min(s.denoise, s.decode, s.save) > 0


def test_previews_come_at_least_twice_and_look_like_the_picture(room: Darkroom) -> None:
    events, (made,) = drain(room, APPLE)
    previews = of(Previewed, events)
    assert len(previews) >= 2
    last = previews[-1].image
    small = np.frombuffer(last.data, np.uint8).reshape(last.height, last.width, 3).astype(int)
    assert np.abs(small - pixels(made)).mean() < 25
    events, _ = drain(room, replace(APPLE, preview_every=0))
    assert not of(Previewed, events)


@pytest.mark.parametrize(
    "fault", [LoadError("scorer x can't be loaded: no", "h"), ZeroDivisionError("division")], ids=repr
)
def test_a_scorer_that_fails_does_not_cost_the_picture(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails(id: str) -> Any:
        raise fault

    monkeypatch.setattr(room, "scorer", fails)
    events, (made,) = drain(room, replace(APPLE, score="mini-clip"))
    assert Path(made.path).is_file() and made.scores == {}
    assert any("saved without a score" in note.text and note.level == "warning" for note in of(Noted, events))


def test_two_scorers_over_one_folder_are_two(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = room.catalogue.scorers["mini-clip"]
    monkeypatch.setitem(room.catalogue.scorers, "liked", replace(clip, id="liked", kind="preference"))
    one, other = room.scorer("mini-clip"), room.scorer("liked")
    assert (one.kind, other.kind) == ("clip", "preference")


def test_a_sketch_looks_like_the_picture_and_leaves_nothing_behind(room: Darkroom) -> None:
    before = set(room.options.pictures.glob("*"))
    events, made = drain(room, replace(APPLE, sketch=True, score="mini-clip"))
    (sketch,) = of(Sketched, events)
    assert made == () and set(room.options.pictures.glob("*")) == before
    small = np.frombuffer(sketch.image.data, np.uint8).reshape(sketch.image.height, sketch.image.width, 3).astype(int)
    _, (picture,) = drain(room, APPLE)
    assert small.shape == pixels(picture).shape and np.abs(small - pixels(picture)).mean() < 25
    events, made = drain(room, replace(APPLE, sketch=True, folder="/proc/nothing/can/be/written/here"))
    assert of(Sketched, events) and made == ()


def test_a_sketch_without_a_small_decoder_is_decoded_by_the_vae(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = room.loader.load

    def without(*given: Any) -> Any:
        return replace((yield from load(*given)), preview=None)

    monkeypatch.setattr(room.loader, "load", without)
    events, _ = drain(room, replace(APPLE, sketch=True, preview_every=0))
    monkeypatch.undo()
    (sketch,) = of(Sketched, events)
    _, (picture,) = drain(room, APPLE)
    small = np.frombuffer(sketch.image.data, np.uint8).reshape(128, 128, 3).astype(int)
    assert np.abs(small - pixels(picture)).max() <= 1


@pytest.mark.parametrize(
    "model",
    [
        "mini-lightning-2step-lora",
        "mini-lightning-4step-lora",
        "mini-lightning-8step-lora",
        "mini-lightning-4step-unet",
    ],
)
def test_every_student_draws_the_apple(room: Darkroom, model: str) -> None:
    recipe = room.catalogue.model(model).recipe
    request = replace(
        APPLE, model=model, num_inference_steps=recipe.num_inference_steps, score="mini-clip", prompt="a red apple"
    )
    _, (made,) = drain(room, request)
    _, (wrong,) = drain(room, replace(request, prompt="a blue whale"))
    with Image.open(wrong.path) as image:
        unlike, _ = room.scorer("mini-clip").score([image], "a red apple")
    assert made.scores["mini-clip"] > unlike[0] + 5


def test_a_lora_changes_the_picture_by_its_weight_and_leaves_the_model_alone(room: Darkroom) -> None:
    _, (before,) = drain(room, BASE)
    far = []
    for weight in (0.5, 1.0):
        _, (made,) = drain(room, replace(BASE, loras=(Lora("mini-pixel", weight),)))
        far.append(np.abs(pixels(made) - pixels(before)).mean())
    assert 0 < far[0] < far[1]
    _, (after,) = drain(room, BASE)
    assert np.array_equal(pixels(before), pixels(after))


def test_a_model_that_is_held_is_not_loaded_again(room: Darkroom) -> None:
    drain(room, APPLE)
    events, _ = drain(room, APPLE)
    assert not of(Loading, events)
    assert of(Vitals, events)[-1].resident


@pytest.mark.parametrize("after", [0, 1, 3])
def test_cancel_takes_effect_within_a_step(room: Darkroom, after: int) -> None:
    before = set(room.options.pictures.glob("*"))
    request = replace(BASE, num_inference_steps=30)
    seen: list[Event] = []

    def stop(events: list[Event]) -> bool:
        seen[:] = events
        return len(of(Stepped, events)) >= after

    with pytest.raises(Stopped):
        drain(room, request, stop)
    assert len(of(Stepped, seen)) == after
    assert set(room.options.pictures.glob("*")) == before


def test_cancel_takes_effect_while_loading(tmp_path: Path) -> None:
    fresh = Darkroom(
        catalogue.load(), Options(tmp_path, device="cpu", threads=1), tmp_path / "cache", tmp_path / "data"
    )
    with pytest.raises(Stopped):
        drain(fresh, APPLE, lambda events: len(of(Loading, events)) >= 2)
    assert not list(tmp_path.glob("*.png"))


def test_scoring_a_file(room: Darkroom, tmp_path: Path) -> None:
    _, (made,) = drain(room, APPLE)
    events, _ = drain(room, Score((made.path,), "a (red)1.5 apple++ on a blue background", "mini-clip"))
    (scored,) = of(Scored, events)
    _, (again,) = drain(room, replace(APPLE, score="mini-clip"))
    assert scored.score == pytest.approx(again.scores["mini-clip"], abs=0.01)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_refused_in_one_line(room: Darkroom, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="can't be read as a picture"):
        drain(room, Score((str(path),), "an apple", "mini-clip"))


def test_a_bomb_is_refused_by_its_header(room: Darkroom, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    with pytest.raises(InvalidRequest, match="30000x30000"):
        drain(room, Score((str(path),), "an apple", "mini-clip"))


def test_what_has_to_give_for_memory_is_told_once_a_model(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {APPLE.model: "the VAE works in tiles of 256 px: it is large", BASE.model: "layer by layer: it is small"}
    prepare = room.loader.prepare

    def short(model: Any, request: Generate) -> Any:
        wanted = prepare(model, request)
        return replace(wanted, plan=replace(wanted.plan, reasons=(reasons[model.id],)))

    def notes(request: Generate) -> list[str]:
        return [e.text for e in of(Noted, drain(room, request)[0]) if e.text.startswith("memory: ")]

    monkeypatch.setattr(room.loader, "prepare", short)
    monkeypatch.setattr(room, "_told", {})
    sketch = replace(APPLE, sketch=True)
    for request in (sketch, BASE):
        assert notes(request)[1:] == [f"memory: {reasons[request.model]}"]
    for request in (sketch, BASE, sketch):
        assert notes(request) == [], "the other model's turn does not make it news"
    reasons[APPLE.model] = "the VAE works in tiles of 128 px: it is large"
    assert notes(sketch)[1:] == [f"memory: {reasons[APPLE.model]}"] and notes(BASE) == []


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Faulty:
    """A component that fails the first `times` calls of one method, and is itself otherwise."""

    def __init__(self, real: Any, method: str, times: int, fault: Callable[..., Any]) -> None:
        self.__dict__.update(_real=real, _method=method, _left=times, _fault=fault)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value) if name != "_left" else self.__dict__.update(_left=value)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        return self._guard(value) if name == self._method else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._guard(self._real)(*args, **kwargs) if self._method == "__call__" else self._real(*args, **kwargs)

    def _guard(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self._left > 0:
                self._left -= 1
                return self._fault(work, *args, **kwargs)
            return work(*args, **kwargs)

        return guarded


def out_of_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def not_a_number(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    out = work(*args, **kwargs)
    return tuple(x * float("nan") for x in out)


def broken(room: Darkroom, part: str, method: str, times: int, fault: Callable[..., Any]) -> Any:
    """A room whose loader hands out one faulty component."""
    real = room.loader.load

    def load(*args: Any) -> Any:
        components = yield from real(*args)
        return replace(components, **{part: faulty(getattr(components, part))})

    kept: dict[int, Faulty] = {}

    def faulty(component: Any) -> Faulty:
        return kept.setdefault(id(component), Faulty(component, method, times, fault))

    return load


def test_out_of_memory_in_the_decoder_is_tried_again_in_tiles(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = []
    monkeypatch.setattr(planning, "LEAST_TILE", 64)
    real = pieces.decode
    monkeypatch.setattr(pieces, "decode", lambda *a, **k: tiles.append(1) or real(*a, **k))
    monkeypatch.setattr(room.loader, "load", broken(room, "vae", "decode", 1, out_of_memory))
    events, (made,) = drain(room, APPLE)
    assert any("tiles" in e.text for e in of(Noted, events))
    assert tiles
    monkeypatch.undo()
    _, (plain,) = drain(room, APPLE)
    assert np.abs(pixels(made) - pixels(plain)).mean() < 10


def test_out_of_memory_while_denoising_a_batch_draws_one_at_a_time(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.loader, "load", broken(room, "unet", "__call__", 1, out_of_memory))
    events, made = drain(room, replace(APPLE, batch_size=2))
    assert len(made) == 2
    assert any("at a time" in e.text for e in of(Noted, events)), of(Noted, events)


def test_out_of_memory_that_stays_fails_the_job_and_not_the_next(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.loader, "load", broken(room, "unet", "__call__", 99, out_of_memory))
    with pytest.raises(OutOfMemory) as told:
        drain(room, APPLE)
    assert told.value.hint and "Tried to allocate" not in told.value.message
    monkeypatch.undo()
    _, made = drain(room, APPLE)
    assert len(made) == 1


def test_out_of_memory_while_loading_lets_go_of_the_rest_and_tries_again(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = room.loader.load, []

    def load(*args: Any) -> Any:
        calls.append(len(room.residency.held()))
        if len(calls) == 1:
            out_of_memory()
        return (yield from real(*args))

    drain(room, APPLE)
    monkeypatch.setattr(room.loader, "load", load)
    events, made = drain(room, APPLE)
    assert len(made) == 1 and calls[0] > 0 and calls[1] == 0
    assert any("let go" in e.text for e in of(Noted, events))


def test_nan_from_the_denoiser_is_never_saved(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(room.options.pictures.glob("*"))
    monkeypatch.setattr(room.loader, "load", broken(room, "unet", "__call__", 1, not_a_number))
    with pytest.raises(SafelightError, match="not finite"):
        drain(room, APPLE)
    assert set(room.options.pictures.glob("*")) == before


def test_a_vae_that_overflows_is_tried_once_more_in_fp32(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.loader, "load", broken(room, "vae", "decode", 1, not_a_number))
    events, (made,) = drain(room, replace(APPLE, precision="bf16"))
    assert any("fp32" in e.text for e in of(Noted, events))
    assert pixels(made).max() > 100


def test_a_vae_that_overflows_and_then_runs_out_is_told_as_memory(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [not_a_number, out_of_memory, out_of_memory]
    monkeypatch.setattr(room.loader, "load", broken(room, "vae", "decode", 3, lambda *a, **k: faults.pop(0)(*a, **k)))
    with pytest.raises(OutOfMemory):
        drain(room, replace(APPLE, precision="bf16"))


def test_what_is_let_go_is_gone_and_what_is_held_is_counted(tmp_path: Path) -> None:
    import gc
    import weakref

    home = tmp_path
    fresh = Darkroom(catalogue.load(), Options(home, device="cpu", threads=1), home / "cache", home / "data")
    fresh.residency.limit = 0
    alive = []
    for model in ("mini", "mini-lightning-4step-unet", "mini-lightning-2step-lora"):
        drain(fresh, Warm(model))
        held = fresh.residency.held()
        unets = [v.dressed.module for k, v in held.items() if k[0] == "unet"]
        (text,) = [v for k, v in held.items() if k[0] == "text"]
        assert size(text) > 3_000_000, "text encoders count"
        alive.append(weakref.ref(unets[-1]))
        del unets, text, held
    gc.collect()
    assert [ref() is not None for ref in alive] == [False, False, True]
    assert fresh.vitals().resident == ("mini", "mini-lightning-2step-lora"), "they share all that is loaded"


def test_students_share_the_text_encoders_of_their_base(room: Darkroom) -> None:
    for model in ("mini", "mini-lightning-4step-unet", "mini-lightning-2step-lora"):
        drain(room, Warm(model))
    kinds = [key[0] for key in room.residency.held() if torch.float32 in key]
    assert kinds.count("text") == 1 and kinds.count("vae") == 1
    assert kinds.count("unet") == 2, "the base's, dressed in LoRAs as they are asked for, and the UNet of its own"


def test_a_black_picture_is_saved_and_flagged(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    def black(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return (torch.full_like(work(*args, **kwargs)[0], -1.0),)

    monkeypatch.setattr(room.loader, "load", broken(room, "vae", "decode", 1, black))
    events, made = drain(room, APPLE)
    assert len(made) == 1 and any("black" in e.text for e in of(Noted, events))


def test_a_full_disk_at_the_end_keeps_the_picture_elsewhere(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = files.save

    def save(folder: Path, *args: Any, **kwargs: Any) -> Path:
        if folder == tmp_path:
            raise DiskFull(f"the disk that holds {folder} is full", "free some space")
        return real(folder, *args, **kwargs)

    monkeypatch.setattr(files, "save", save)
    with pytest.raises(DiskFull) as told:
        drain(room, replace(APPLE, folder=str(tmp_path)))
    kept = Path(told.value.hint.partition("kept as ")[2])
    assert kept.is_file() and metadata.read(kept) is not None


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_made(room: Darkroom, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        drain(room, replace(APPLE, folder=str(tmp_path / "file" / "folder")))


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:20],
        lambda b: b[: len(b) // 2],
        lambda b: (2**60).to_bytes(8, "little") + b[8:],
        lambda b: b"PK\x03\x04" + b[4:],
    ],
)
def test_damaged_weights_are_told_in_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    import shutil

    shipped = Path(catalogue.__file__).with_name("mini") / "base"
    shutil.copytree(shipped, tmp_path / "base")
    weights = tmp_path / "base" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    (tmp_path / "models.toml").write_text(
        '[[model]]\nid = "damaged"\ntitle = "x"\nfamily = "mini"\nlicence = "x"\nsource = { folder = "base" }\n'
        '[model.recipe]\nnum_inference_steps = 2\nguidance_scale = 0.0\nscheduler = "euler"\nsizes = [[128, 128]]\n'
    )
    known = catalogue.load(tmp_path / "models.toml")
    fresh = Darkroom(known, Options(tmp_path, device="cpu", threads=1), tmp_path / "cache", tmp_path / "data")
    with pytest.raises(LoadError) as told:
        drain(fresh, replace(APPLE, model="damaged", num_inference_steps=2))
    assert "VAE" in told.value.message and "\n" not in told.value.message and told.value.hint


def test_who_fills_the_card_is_told_apart() -> None:
    small = devices.blame("cuda:0 X", free=0, total=8 << 30, ours=8 << 30)
    filled = devices.blame("cuda:0 X", free=0, total=8 << 30, ours=1 << 30)
    assert "too small" in small.message
    assert "other programs hold 7.0 GiB" in filled.message


def test_the_thumbnail_and_the_hash_cache(room: Darkroom, tmp_path: Path) -> None:
    import io

    _, (made,) = drain(room, APPLE)
    with Image.open(io.BytesIO(made.thumbnail)) as small:
        assert max(small.size) <= metadata.THUMBNAIL
    hashes = json.loads((room.cache / "hashes.json").read_text())
    assert made.made_with["unet_sha256"] in {digest[:16] for digest in hashes.values()}


def test_out_of_memory_while_encoding_is_tried_again(room: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.diffusion.conditioning import Conditioner

    faults = [out_of_memory]
    real = Conditioner.encode
    monkeypatch.setattr(Conditioner, "encode", lambda *a, **k: faults.pop()() if faults else real(*a, **k))
    events, made = drain(room, APPLE)
    assert len(made) == 1 and any("while encoding" in e.text for e in of(Noted, events))


def test_what_was_encoded_with_a_lora_is_forgotten_when_dressing_fails(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.diffusion import fusing
    from engines.diffusion.conditioning import Conditioner

    forgotten = []
    real, faults = fusing.dress, [out_of_memory]
    monkeypatch.setattr(fusing, "dress", lambda *a: faults.pop()() if faults else real(*a))
    monkeypatch.setattr(Conditioner, "forget", lambda self: forgotten.append(self))
    _, made = drain(room, replace(APPLE, loras=(Lora("mini-pixel", 1.0),)))
    assert len(made) == 1 and forgotten


def test_out_of_memory_in_the_scorer_costs_the_score_and_not_the_picture(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.diffusion.scoring import ClipScorer

    monkeypatch.setattr(ClipScorer, "score", out_of_memory)
    events, (made,) = drain(room, replace(APPLE, score="mini-clip"))
    assert made.scores == {} and Path(made.path).is_file()
    assert any("without a score" in e.text for e in of(Noted, events))


def test_pictures_are_judged_together_and_what_can_not_be_read_keeps_no_other_from_its_score(
    room: Darkroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(7)]
    for i, path in enumerate(paths):
        Image.new("RGB", (40 + i, 40), (i * 30, 80, 200 - i * 20)).save(path)
    one_by_one = [drain(room, Score((path,), "an apple", "mini-clip"))[0] for path in paths]
    monkeypatch.setattr("engines.diffusion.judging.JUDGED", 3)
    events, _ = drain(room, Score(tuple(paths), "an apple", "mini-clip"))
    scored = [event for event in events if isinstance(event, Scored)]
    assert [event.path for event in scored] == paths
    alone = [event.score for some in one_by_one for event in some if isinstance(event, Scored)]
    assert [event.score for event in scored] == pytest.approx(alone, rel=1e-3, abs=1e-3)
    monkeypatch.setattr("engines.diffusion.judging.JUDGED_PIXELS", 1)
    assert len([e for e in drain(room, Score(tuple(paths), "an apple", "mini-clip"))[0] if isinstance(e, Scored)]) == 7
    Path(paths[4]).write_bytes(b"nothing")
    monkeypatch.setattr("engines.diffusion.judging.JUDGED_PIXELS", 10**9)
    told: list[Event] = []
    judged = room.develop(Job(1, Score(tuple(paths), "an apple", "mini-clip"), None, 0), lambda: False, 0)
    with pytest.raises(InvalidRequest, match=r"4\.png can't be read"):
        told.extend(judged)
    assert [event.path for event in told if isinstance(event, Scored)] == [*paths[:4], *paths[5:]]
    Path(paths[0]).unlink()
    with pytest.raises(InvalidRequest, match=r"2 pictures are not scored; the first: .*0\.png is gone"):
        drain(room, Score(tuple(paths), "an apple", "mini-clip"))
