"""Steps of finishing as text, and the two commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from engines import catalogue
from engines.entries import FaceDetector, FaceRestorer, Local, Model, Upscaler
from engines.errors import InvalidRequest, SafelightError
from engines.requests import Pull
from engines.steps import Hires, Restore, Step, Upscale
from engines.wire import HubError
from tui import commands, draft, finishes, generate_command
from tui.draft import Draft
from tui.session import Session

SHIPPED = catalogue.load()


@pytest.fixture
def known(tmp_path: Path) -> catalogue.Catalogue:
    (tmp_path / "net").touch()
    here, gone = Local(tmp_path / "net"), Local(tmp_path / "gone")
    return replace(
        SHIPPED,
        upscalers={
            "mini-x4": SHIPPED.upscaler("mini-x4"),
            "best": Upscaler("best", "Best", "net", gone, 4, "x", rank=9),
            "slow": Upscaler("slow", "Slow", "diffusion", here, 4, "x"),
        },
        face_restorers={
            "r": FaceRestorer("r", "R", here, "x"), "away": FaceRestorer("away", "A", gone, "x", rank=5)
        },
        face_detectors={"d": FaceDetector("d", "D", here, "x")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("upscale", (Upscale("mini-x4"),)),
        ("upscale x2", (Upscale("mini-x4", 2),)),
        ("upscale:mini-x4:2.5x:0.3", (Upscale("mini-x4", 2.5, 0.3),)),
        ("UPSCALE tile=256 shrink=0.5 noise=30 guidance=4 steps=9",
         (Upscale("mini-x4", tile=256, shrink=0.5, noise_level=30, guidance_scale=4, num_inference_steps=9),)),
        ("faces", (Restore("r"),)),
        ("faces .8 detector=d", (Restore("r", 0.8, "d"),)),
        ("restore-faces r strength=0", (Restore("r", 0.0),)),
        ("hires", (Hires(),)),
        ("hires x1.5 0.3 latent steps=12", (Hires(1.5, 0.3, "latent", 12),)),
        ("hires x3 tile=768", (Hires(3, tile=768),)),
        ("hires x2 0.4, faces, upscale x4", (Hires(2, 0.4), Restore("r"), Upscale("mini-x4", 4))),
    ],
)  # fmt: skip
def test_steps_are_read_and_written(known: catalogue.Catalogue, text: str, steps: tuple[Step, ...]) -> None:
    assert finishes.read(text, known) == steps
    assert finishes.read(finishes.text(steps), known) == steps


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("paint", "no step of finishing is called 'paint'"),
        ("upscale x99", "scale must be 0.1 to 16"),
        ("upscale nothing", "no upscaler 'nothing'"),
        ("upscale best", "upscaler best is not on this machine"),
        ("faces 2", "strength must be 0 to 1"),
        ("faces nobody", "no face restorer 'nobody'"),
        ("faces away", "face restorer away is not on this machine"),
        ("hires slow", "slow is a diffusion model itself"),
        ("hires noise=3", "hires has no 'noise'"),
        ("hires tile=32", "tile must be 64 to 2048"),
        ("upscale tile=many", "tile must be a whole number"),
        ("upscale tile=9", "tile must be 32 to"),
        (", ".join(["hires"] * 65), "65 steps of finishing; at most 64 are done"),
    ],
)
def test_what_can_not_be_done_is_one_line(known: catalogue.Catalogue, text: str, told: str) -> None:
    with pytest.raises(SafelightError) as failed:
        draft.read(Draft("x", finish=text), known)
    assert told in failed.value.message and "\n" not in failed.value.message


def test_what_does_nothing_and_what_a_model_was_not_made_for_is_told(known: catalogue.Catalogue) -> None:
    def idle(text: str, prompt: str = "") -> list[str]:
        steps = finishes.read(text, known)
        return finishes.idle(finishes.told(steps, prompt) if prompt else steps, known)

    assert idle("upscale mini-x4 x2 tile=64 shrink=0.5, hires, upscale mini-x4") == []
    assert idle("upscale mini-x4 0.5") == ["mini-x4 has no denoise: that does nothing"]
    (told,) = idle("upscale mini-x4 noise=30 steps=9", "a cat")
    assert told == "mini-x4 has no steps or noise or prompt: they do nothing"
    model = known.default_model()
    small, large = (replace(model, recipe=replace(model.recipe, sizes=((side, side),))) for side in (128, 1024))

    def beyond(text: str, model: Model, side: int) -> list[str]:
        return finishes.beyond(finishes.read(text, known), (side, side), model)

    (told,) = beyond("hires x2 0.4", small, 128)
    assert "over 256x256 it may draw things twice" in told and not beyond("hires x1 0.4", small, 128)
    assert not beyond("hires x2 0.4", large, 1024) and beyond("hires x2 0.6", large, 1024)
    assert beyond("upscale mini-x4 x2, hires x1 0.4", small, 128), "what was made larger before"
    asked = draft.read(Draft("a cat", strength="0.4"), known)
    assert "a strength does nothing without a picture to begin with" in asked.notes


def test_what_is_named_or_taken_can_be_fetched(known: catalogue.Catalogue) -> None:
    def ids(text: str) -> list[str]:
        return [entry.id for entry in finishes.needs(text, known)]

    assert ids("upscale best x2") == ["best"] and ids("upscale") == [] and ids("hires best") == ["best"]
    assert ids("faces") == ["away", "d"] and ids("faces r detector=d") == ["r", "d"]


def test_a_form_asks_for_what_it_says_and_comes_back(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    form = Draft("x", model="mini", init=str(tmp_path / "a.png"), strength="0.3", finish="hires x2, upscale")
    (request,) = draft.read(form, SHIPPED).requests
    assert (request.init, request.strength) == (str(tmp_path / "a.png"), 0.3)
    assert (request.width, request.height) == (152, 104), "the trained size that is nearest to the picture's shape"
    assert request.finish == (Hires(2), Upscale("mini-x4"))
    again = Draft.from_request(request)
    assert draft.read(again, SHIPPED).requests == (request,)
    for wrong in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InvalidRequest, match="is no file"):
            draft.read(replace(form, init=str(wrong)), SHIPPED)
    (tmp_path / "text.png").write_text("x")
    with pytest.raises(InvalidRequest, match="can't be read as a picture"):
        draft.read(replace(form, init=str(tmp_path / "text.png")), SHIPPED)
    faint = replace(form, strength="0.01", model="mini-lightning-4step-unet")
    assert "one step at least is run: of 4 steps, that is a strength of 0.25" in draft.read(faint, SHIPPED).notes


def test_options_without_value_are_steps_in_their_order() -> None:
    assert commands._with_values(["generate", "x", "--upscale", "--hires", "x2"]) == [
        "generate", "x", "--upscale=auto", "--hires", "x2",
    ]  # fmt: skip
    assert generate_command._steps("x2 0.4", None, "auto") == "hires x2 0.4, upscale "
    with pytest.raises(InvalidRequest, match="takes one step"):
        generate_command._steps(None, None, "x2, faces")


def test_a_step_that_can_not_be_fetched_costs_no_picture(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from types import SimpleNamespace

    from tui import stocking

    tried: list[str] = []

    def run(session: object, requests: list[Pull], as_json: bool) -> None:
        tried.extend(request.id for request in requests)
        raise HubError("the hub can't be reached", "later, perhaps")

    monkeypatch.setattr(stocking, "run", run)
    session = SimpleNamespace(catalogue=SHIPPED)
    form = Draft("x", finish="hires x1 0.3, faces , upscale x2")
    made, code = generate_command._fetch_missing(cast(Session, session), form, (), "", True)
    assert code == 1 and made == replace(form, finish="hires x1 0.3, upscale x2")
    assert tried == ["gfpgan-v1.4", "yunet"]
    assert "left out: faces: the hub can't be reached; the picture is made without it" in capfd.readouterr().err
    plain = replace(form, finish="upscale x2")
    assert generate_command._fetch_missing(cast(Session, session), plain, (), "", True) == (plain, 0)
    with pytest.raises(InvalidRequest):  # nobody can be asked here
        generate_command._fetch_missing(cast(Session, session), form, (), "", False)
