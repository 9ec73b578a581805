"""The catalogue's upscalers and faces: pulled by their true names from a hub on this machine, and used."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_x4
import torch
import upscalers
from doing import do
from hub import Hub
from people import YUNET, Person, crowd
from PIL import Image

from engines import catalogue, folders
from engines.catalogue import Catalogue
from engines.diffusion.gfpgan import Gfpgan, Shape
from engines.entries import HubFile
from engines.events import Done, Event, Failed, Finishing, Noted
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Finish, Pull, Request
from engines.steps import Restore, Upscale
from engines.store import Store

SHIPPED = catalogue.load()
FACES = Shape((8,) * 8, (16,) * 8, style=16, mapping=8, modulated=(8,) * 7)
"A net of 512 px."
NETS = [id for id, entry in SHIPPED.upscalers.items() if entry.kind == "net" and id != "mini-x4"]


class User:
    """An engine over the catalogue as it is shipped, but with the hashes of the files that this hub serves."""

    def __init__(self, known: Catalogue, hub: Hub) -> None:
        where = folders.find()
        self.catalogue = known
        self.hub = hub
        self.store = Store(where.store)
        self.engine = LocalEngine(known, where, Options(where.pictures, device="cpu", threads=1), self.store)

    def do(self, request: Request) -> list[Event]:
        return do(self.engine, request)


@pytest.fixture
def user(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """Small nets of the true shapes under the true names."""
    text = catalogue.SHIPPED.read_text()
    served: dict[str, dict[str, bytes]] = {}
    for number, id in enumerate(NETS):
        entry = SHIPPED.upscalers[id]
        for i, file in enumerate(file for file in (entry.source, entry.weak) if isinstance(file, HubFile)):
            place = tmp_path / f"{number}-{i}" / file.name
            place.parent.mkdir()
            general = "general" in id
            net: torch.nn.Module = upscalers.compact(10 * number + i) if general else upscalers.rrdb(
                number, fold=1 if entry.scale == 4 else 2
            )  # fmt: skip
            sha256 = upscalers.saved(net, place, "params" if general else "params_ema")
            served.setdefault(file.repo, {})[file.file] = place.read_bytes()
            text = text.replace(file.sha256, sha256)
    for id in ("gfpgan-v1.4", "codeformer"):
        mends = SHIPPED.face_restorers[id].file
        assert isinstance(mends, HubFile)
        torch.manual_seed(4)
        net = Gfpgan(FACES) if id == "gfpgan-v1.4" else upscalers.compact(9)
        sha256 = upscalers.saved(net, tmp_path / mends.name, "params_ema")
        served.setdefault(mends.repo, {})[mends.file] = (tmp_path / mends.name).read_bytes()
        text = text.replace(mends.sha256, sha256)
    finds = SHIPPED.face_detectors["yunet"].file
    assert isinstance(finds, HubFile)
    served[finds.repo] = {finds.file: YUNET.read_bytes()}  # the file itself, and its own hash
    (home / "config").mkdir()
    own = re.sub(r"bytes = \d+", "", text[text.index("# Upscalers and faces") :])
    (home / "config" / "models.toml").write_text(own)
    repos: dict[str, Any] = {**served, "stabilityai/stable-diffusion-x4-upscaler": tiny_x4.folder(tmp_path / "x4")}
    with Hub(repos) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        known = catalogue.load(home / "config" / "models.toml")
        assert not known.problems
        made = User(known, hub)
        yield made
        made.engine.close()
        made.store.close()


@pytest.mark.parametrize("id", NETS)
def test_an_upscaler_is_pulled_and_used(user: User, tmp_path: Path, id: str) -> None:
    Image.linear_gradient("L").convert("RGB").resize((24, 16)).save(tmp_path / "a.png")
    request = Finish(str(tmp_path / "a.png"), (Upscale(id),))
    *_, refused = user.do(request)
    assert isinstance(refused, Failed) and "is not on this machine" in refused.message
    assert refused.hint == f"safelight models pull {id} fetches it"
    assert isinstance(user.do(Pull(id))[-1], Done)
    entry = user.catalogue.require_upscaler(id)
    assert user.catalogue.default_upscaler() is entry, "better than the embedded one"
    *_, done = user.do(request)
    assert isinstance(done, Done), done
    (picture,) = done.pictures
    assert (picture.width, picture.height) == (24 * entry.scale, 16 * entry.scale)
    if entry.weak is not None:
        *_, half = user.do(Finish(str(tmp_path / "a.png"), (Upscale(id, denoise=0.5),)))
        assert isinstance(half, Done)
        assert Path(half.pictures[0].path).read_bytes() != Path(picture.path).read_bytes()


def test_the_diffusion_upscaler_is_pulled_and_draws_by_the_pictures_prompt(user: User, tmp_path: Path) -> None:
    picture = Image.linear_gradient("L").convert("RGB").resize((24, 16))
    picture.save(tmp_path / "a.png")
    step = Upscale("x4-upscaler", num_inference_steps=2, prompt="a cat++")
    *_, refused = user.do(Finish(str(tmp_path / "a.png"), (step,)))
    assert isinstance(refused, Failed) and refused.hint == "safelight models pull x4-upscaler fetches it"
    assert isinstance(user.do(Pull("x4-upscaler"))[-1], Done)
    assert not user.catalogue.missing(user.catalogue.upscalers["x4-upscaler"])
    here = {path.name for path in user.catalogue.upscalers["x4-upscaler"].source.path.iterdir()}
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "low_res_scheduler"} <= here
    events = user.do(Finish(str(tmp_path / "a.png"), (step,)))
    assert isinstance(events[-1], Done), events[-1]
    (made,) = events[-1].pictures
    assert (made.width, made.height) == (96, 64) and len(made.made_with["upscaler x4-upscaler sha256"]) == 16
    assert any(isinstance(e, Finishing) and e.what == "drawing 96x64" and e.fraction for e in events)
    *_, half = user.do(Finish(str(tmp_path / "a.png"), (Upscale("x4-upscaler", 2, shrink=0.5, num_inference_steps=1),)))
    assert isinstance(half, Done) and (half.pictures[0].width, half.pictures[0].height) == (48, 32)


def test_faces_are_pulled_found_and_drawn_anew(user: User, tmp_path: Path) -> None:
    """YuNet is the released file, GFPGAN one of its shape with a thirtieth of its channels."""
    people = Person(150, 200, 200), Person(60, 480, 300, 20)
    before = crowd((600, 400), *people)
    before.save(tmp_path / "a.png")
    request = Finish(str(tmp_path / "a.png"), (Restore("gfpgan-v1.4"),))
    *_, refused = user.do(request)
    assert isinstance(refused, Failed) and refused.hint == "safelight models pull gfpgan-v1.4 fetches it"
    assert isinstance(user.do(Pull("gfpgan-v1.4"))[-1], Done)
    *_, refused = user.do(request)
    assert isinstance(refused, Failed) and refused.hint == "safelight models pull yunet fetches one"
    assert isinstance(user.do(Pull("yunet"))[-1], Done)
    events = user.do(request)
    assert isinstance(events[-1], Done), events[-1]
    (made,) = events[-1].pictures
    assert list(dict.fromkeys(e.what for e in events if isinstance(e, Finishing)))[:3] == [
        "looking for faces", "face 1 of 2", "face 2 of 2",
    ]  # fmt: skip
    with Image.open(made.path) as after:
        changed = np.abs(np.asarray(after.convert("RGB")).astype(int) - np.asarray(before).astype(int)).max(axis=2) > 0
    for person in people:
        assert changed[person.y, person.x], "in the middle of every face"
        changed[person.y - person.size : person.y + person.size, person.x - person.size : person.x + person.size] = 0
    assert not changed.any(), "and nowhere else"
    assert len(made.made_with["face restorer gfpgan-v1.4 sha256"]) == 16
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "nobody.png")
    events = user.do(Finish(str(tmp_path / "nobody.png"), (Restore("gfpgan-v1.4"),)))
    assert isinstance(events[-1], Done) and not events[-1].pictures
    assert [e.text for e in events if isinstance(e, Noted)] == ["no face was found; the picture is left as it was"]


def test_what_needs_spandrel_says_so(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    crowd((300, 300), Person(150, 150, 150)).save(tmp_path / "a.png")
    for id in ("codeformer", "yunet"):
        assert isinstance(user.do(Pull(id))[-1], Done)
    *_, failed = user.do(Finish(str(tmp_path / "a.png"), (Restore("codeformer"),)))
    assert isinstance(failed, Failed) and failed.exit_code == 1
    assert "codeformer-v0.1.0.pth is of no face restorer's architecture that safelight has itself" in failed.message
    assert "spandrel, which knows others, " in failed.message and "\n" not in failed.message


def test_a_file_that_is_another_is_not_opened(user: User, tmp_path: Path) -> None:
    id = NETS[0]
    assert isinstance(user.do(Pull(id))[-1], Done)
    path = user.catalogue.upscalers[id].source.path
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"\0")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    *_, failed = user.do(Finish(str(tmp_path / "a.png"), (Upscale(id),)))
    assert isinstance(failed, Failed) and failed.exit_code == 1 and "\n" not in failed.message


@pytest.mark.parametrize("known", [lambda c: c.face_restorers, lambda c: c.face_detectors, lambda c: c.upscalers])
def test_every_pickled_file_has_a_pinned_hash(known: Callable[[Catalogue], dict[str, object]]) -> None:
    for entry in known(SHIPPED).values():
        for file in (getattr(entry, name, None) for name in ("file", "source", "weak")):
            if isinstance(file, HubFile):
                assert re.fullmatch(r"[0-9a-f]{64}", file.sha256), file
