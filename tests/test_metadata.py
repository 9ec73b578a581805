"""What pictures say of themselves: ours come back as they were, a stranger's spoils nothing."""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engines import metadata
from engines.errors import InvalidRequest
from engines.requests import Generate, Lora, Picture, Score, Seconds, Warm, from_json, to_json
from engines.steps import Upscale
from engines.store import Store

APPLE = Generate("a red apple", "mini", 7, 64, 64, 2, 4.5, loras=(Lora("mini-pixel", 0.5),))


def picture(path: Path, text: str | None = None, mode: str = "RGB", time: float = 1e9, **said: Any) -> Path:
    """A PNG that says `text`, or what ours says with some of it replaced."""
    if text is None:
        text = metadata.texts(APPLE, {"torch": "2"}, {"clip": 30.0})["safelight"]
        if said:
            ours = json.loads(text)
            for key, value in said.items():
                (ours if key in ours else ours["request"])[key] = value
            text = json.dumps(ours)
    info = PngInfo()
    info.add_itxt("safelight", text)
    Image.new(mode, (64, 48)).save(path, pnginfo=info)
    os.utime(path, (time, time))
    return path


def claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    text = b"safelight\0" + json.dumps({"request": json.loads(to_json(APPLE))}).encode()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"tEXt", text)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    told = metadata.read(picture(tmp_path / "a.png"))
    assert told == (APPLE, {"made_with": {"torch": "2"}, "scores": {"clip": 30.0}, "source": ""})
    typed = {"template": "a {red|blue} apple", "negative_template": "(x:1.2)", "syntax": "a1111"}
    again = metadata.read(picture(tmp_path / "b.png", **typed))
    assert again is not None and again[0] == replace(APPLE, **typed)
    assert metadata.read(picture(tmp_path / "c.png", syntax="\x1b[0m")) is None
    assert metadata.read(picture(tmp_path / "d.png", template="x" * 30_000)) is None


def test_a_variation_and_an_empty_negative_are_written_and_read_again(tmp_path: Path) -> None:
    varied = replace(APPLE, variation_seed=2**63 - 1, variation_strength=0.25, negative_prompt="")
    texts = metadata.texts(varied, {}, {})
    told = metadata.read(picture(tmp_path / "a.png", texts["safelight"]))
    assert told is not None and told[0] == varied
    assert f"Variation seed: {2**63 - 1}, Variation seed strength: 0.25" in texts["parameters"]
    assert "Negative prompt" not in texts["parameters"], "as A1111 writes it"
    assert "ariation" not in metadata.texts(replace(APPLE, variation_seed=9), {}, {})["parameters"]
    json = Picture(1, "/p.png", varied, 64, 64, Seconds(), 0.0).to_json()
    assert (json["variation_seed"], json["variation_strength"], json["negative_prompt"]) == (2**63 - 1, 0.25, "")
    plain = Picture(1, "/p.png", APPLE, 64, 64, Seconds(), 0.0).to_json()
    assert plain["variation_seed"] is plain["variation_strength"] is plain["negative_prompt"] is None


def test_a_mix_is_written_and_read_again(tmp_path: Path) -> None:
    mixed = replace(APPLE, mix=(0.3, 0.7))
    texts = metadata.texts(mixed, {}, {})
    told = metadata.read(picture(tmp_path / "a.png", texts["safelight"]))
    assert told is not None and told[0] == mixed
    assert f'Model: {APPLE.model}, Mix: "0.3, 0.7"' in texts["parameters"]
    assert "Mix" not in metadata.texts(APPLE, {}, {})["parameters"]
    assert Picture(1, "/p.png", mixed, 64, 64, Seconds(), 0.0).to_json()["mix"] == [0.3, 0.7]
    assert Picture(1, "/p.png", APPLE, 64, 64, Seconds(), 0.0).to_json()["mix"] is None


def test_what_was_stored_before_there_were_ratios_is_read() -> None:
    for request in (replace(APPLE, mix=(0.3, 0.7)), Warm("mini", mix=(1.0, 0.5, 1.0))):
        assert from_json(to_json(request)) == request
        before = json.loads(to_json(request))
        del before["mix"]
        assert from_json(json.dumps(before)) == replace(request, mix=())


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ((0.5,), "a mix of 1 models"),
        ((0.25,) * 4, "a mix of 4 models"),
        ((0.5, float("nan")), "a weight of the mix must be"),
        ((float("inf"), 0.5), "a weight of the mix must be"),
        ((1e7, 0.5), "a weight of the mix must be"),
    ],
)
def test_a_mix_of_no_model_is_refused(mix: tuple[float, ...], says: str) -> None:
    for request in (replace(APPLE, mix=mix), Warm("mini", mix=mix)):
        with pytest.raises(InvalidRequest, match=says) as told:
            request.validate()
        assert told.value.field == "mix"


def test_a_blank_negative_from_before_variations_is_what_it_was_drawn_with() -> None:
    for blank in ("", "  "):
        now = replace(APPLE, negative_prompt=blank)
        assert from_json(to_json(now)) == now
        before = json.loads(to_json(now))
        del before["variation_seed"], before["variation_strength"]
        assert from_json(json.dumps(before)) == APPLE
    assert from_json(json.dumps(before | {"negative_prompt": "fog"})) == replace(APPLE, negative_prompt="fog")


@pytest.mark.parametrize(
    ("change", "says", "field"),
    [
        ({"variation_strength": 1.5, "variation_seed": 1}, "variation strength must be 0 to 1", "variation_strength"),
        ({"variation_strength": float("nan")}, "variation strength must be", "variation_strength"),
        ({"variation_strength": -0.1, "variation_seed": 1}, "variation strength must be", "variation_strength"),
        ({"variation_strength": 0.1}, "needs a variation seed", "variation_seed"),
        ({"variation_seed": -1}, "variation seed must be 0 to", "variation_seed"),
        ({"variation_seed": 2**63}, "variation seed must be 0 to", "variation_seed"),
        ({"variation_seed": 2**63 - 1, "batch_size": 2}, "no room for 2 pictures", "variation_seed"),
    ],
)
def test_a_variation_that_cannot_be_drawn_is_refused(change: dict[str, Any], says: str, field: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        replace(APPLE, **change).validate()
    assert told.value.field == field


def test_where_it_was_saved_is_not_told_to_others(tmp_path: Path) -> None:
    texts = metadata.texts(replace(APPLE, folder="/home/me/secret"), {}, {})
    assert "secret" not in "".join(texts.values())


def test_one_strange_file_does_not_spoil_the_rest(tmp_path: Path) -> None:
    picture(tmp_path / "later.png", time=1e9 + 5)
    picture(tmp_path / "a-first.png")
    strange = {
        "huge.png": claims(20_000, 20_000), "large.png": claims(12_000, 10_000), "none.png": claims(0, 5),
        "cut.png": claims(64, 64), "head.png": b"\x89PNG", "empty.png": b"", "text.png": b"hello" * 100,
    }  # fmt: skip
    for name, data in strange.items():
        (tmp_path / name).write_bytes(data)
    whole = (tmp_path / "later.png").read_bytes()
    for cut in range(0, len(whole), 40):
        (tmp_path / f"cut-{cut}.png").write_bytes(whole[:cut])
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    picture(tmp_path / "seed.png", seed=2**70)
    picture(tmp_path / "prompt.png", prompt=["no text"])
    picture(tmp_path / "nan.png", guidance_scale=float("nan"))
    picture(tmp_path / "deep.png", "[" * 100_000)
    picture(tmp_path / "digits.png", '{"request": ' + "9" * 5000 + "}")
    picture(
        tmp_path / "score.png", scores={"a": None, "b": float("nan"), "c": 10**400, "d": True, "e": 3}, time=1e9 + 1
    )
    found = metadata.found(tmp_path)
    whole_ones = [
        (Path(made.path).name, made.scores) for made, _ in found if not Path(made.path).name.startswith("cut")
    ]
    assert whole_ones == [("a-first.png", {"clip": 30.0}), ("score.png", {"e": 3.0}), ("later.png", {"clip": 30.0})]
    assert found[0][1] == 1e9 and found[0][0].width == 64 and found[0][0].height == 48 and found[0][0].thumbnail
    assert metadata.found(tmp_path / "nowhere") == metadata.found(tmp_path / "text.png") == []


def test_a_pipe_by_a_pictures_name_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    picture(tmp_path / "a.png")
    names: list[str] = []
    thread = threading.Thread(
        target=lambda: names.extend(made.path for made, _ in metadata.found(tmp_path)), daemon=True
    )
    thread.start()
    thread.join(10)
    assert names == [str(tmp_path / "a.png")]


@pytest.mark.parametrize(
    "said",
    [
        {"guidance_scale": float("nan")}, {"guidance_scale": "7"}, {"guidance_rescale": 2.0}, {"seed": 2**70},
        {"seed": 1.0}, {"seed": True}, {"width": 63}, {"width": 2**40}, {"num_inference_steps": 0}, {"prompt": None},
        {"prompt": "x" * 30_000}, {"model": 3}, {"model": "a\nb"}, {"loras": {}},
        {"loras": [{"name": "x", "weight": None}]}, {"guidance_scale": 10**400},
        {"loras": [{"name": "x", "weight": 1e9}]}, {"loras": ["x"]}, {"precision": "fp7"}, {"precision": []},
        {"timestep_spacing": "\x1b]0;x\x07"}, {"kind": "warm"}, {"kind": []}, {"request": []}, {"batch_size": 10**9},
        {"scheduler": ["euler"]}, {"clip_skip": "2"}, {"negative_prompt": 4}, {"preview_every": 1e300},
    ],
)  # fmt: skip
def test_a_request_that_could_not_be_asked_is_none(tmp_path: Path, said: dict[str, Any]) -> None:
    assert metadata.read(picture(tmp_path / "a.png", **said)) is None


def test_escape_sequences_do_not_survive_as_escapes(tmp_path: Path) -> None:
    evil = "a\x1b]0;x\x07 \u202eb\x9b"
    path = picture(
        tmp_path / "a.png", prompt=evil, negative_prompt=evil, scheduler="eu\x1bler", folder="/etc",
        made_with={evil: evil, "n": 3, "lines": "a\nb"}, scores={evil: 1.5},
    )  # fmt: skip
    with Image.open(path) as image:
        assert "\\u001b" in image.info["safelight"]
    told = metadata.read(path)
    assert told is not None
    request, ours = told
    assert request.prompt == "a]0;x b" and request.scheduler == "euler" and request.folder is None
    assert ours == {"made_with": {"a]0;x b": "a]0;x b", "lines": "a b"}, "scores": {"a]0;x b": 1.5}, "source": ""}


def test_every_field_of_a_stored_request_has_its_type() -> None:
    for request in (APPLE, Warm("mini"), Score(("a.png",), "x", "clip")):
        values = json.loads(to_json(request))
        for name in values.keys() - {"kind"}:
            for wrong in ({"a": 1}, [[]], [None], float("nan"), float("-inf"), True):
                if wrong is True and isinstance(values[name], bool):
                    continue
                with pytest.raises(InvalidRequest):
                    from_json(json.dumps({**values, name: wrong}))
    assert isinstance(from_json('{"kind": "warm", "model": "x", "unknown": 3}'), Warm)
    seven = from_json(to_json(replace(APPLE, guidance_scale=7)))
    assert isinstance(seven, Generate) and type(seven.guidance_scale) is float


def test_a_picture_is_always_valid_json() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    nan = float("nan")
    odd = Picture(
        1, "/a.png", replace(APPLE, guidance_scale=nan, loras=(Lora("x", -nan),)), 64, 64, Seconds(total=nan), 1e300,
        {"a": nan, "b": float("inf"), "c": 1.0},
    )  # fmt: skip
    told = json.loads(json.dumps(odd.to_json()), parse_constant=refuse)
    assert told["scores"] == {"c": 1.0} and told["guidance_scale"] is None and told["loras"][0]["weight"] is None
    assert told["seconds"]["total"] is None and told["created"].startswith("1970")


def test_what_is_found_enters_the_history(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", scores={"a": None})
    store = Store(tmp_path / "data" / "x.db")
    assert store.restore(metadata.found(tmp_path)) == 2
    assert store.restore(metadata.found(tmp_path)) == 0
    assert [p.scores for p in store.pictures()] == [{}, {"clip": 30.0}]


def test_what_was_begun_with_and_done_is_written_without_folders(tmp_path: Path) -> None:
    finished = replace(APPLE, init="/home/someone/secret/photo.jpg", strength=0.4, finish=(Upscale("mini-x4", 2.0),))
    texts = metadata.texts(finished, {}, {}, "/home/someone/secret/base.png")
    assert "secret" not in texts["safelight"] and "secret" not in texts["parameters"]
    told = metadata.read(picture(tmp_path / "a.png", texts["safelight"]))
    assert told is not None and told[0] == replace(finished, init="photo.jpg") and told[1]["source"] == "base.png"
    foreign = texts["safelight"].replace("photo.jpg", "/etc/passwd").replace("base.png", "../../base.png")
    told = metadata.read(picture(tmp_path / "b.png", foreign))
    assert told is not None and told[0].init == "passwd" and told[1]["source"] == ""
