"""The embedded family in every role that a model file can have: the same weights give the same pixels whatever they
are kept in, and other weights give other ones, by as much as they are other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from safetensors.torch import load_file, save_file

from engines import catalogue
from engines.diffusion import origins
from engines.diffusion.darkroom import Darkroom
from engines.errors import InvalidRequest
from engines.events import Loading, Saved
from engines.options import Options
from engines.requests import Generate, Job, Lora, Merge, Request, Warm
from engines.store import Made

MINI = catalogue.SHIPPED.parent / "mini"
FAST = "mini-lightning-4step-unet"
PROMPT = "a red apple on a blue background"
REQUEST = Generate(PROMPT, "mini", 7, 64, 64, 4, 0.0, timestep_spacing="trailing", preview_every=0)
ENTRY = """
[[model]]
id = "{id}"
title = "{id}"
family = "mini"
licence = "x"
source = {{ {source} }}
[model.recipe]
num_inference_steps = 4
guidance_scale = 0.0
scheduler = "euler"
timestep_spacing = "trailing"
sizes = [[64, 64]]
"""


def mix(*parents: str, method: str = "weighted-sum") -> str:
    named = ", ".join(f'{{ model = "{p.split()[0]}", weight = {p.split()[1]} }}' for p in parents)
    return f'merge = [{named}], method = "{method}"'


SOURCES = {
    "one-file": 'file = "one.safetensors", like = "mini"',
    "fast-file": 'file = "fast.safetensors", like = "mini"',
    "all-mini": mix("mini 1.0", f"{FAST} 0.0"),
    "half": mix("mini 0.5", f"{FAST} 0.5"),
    "most-fast": mix("mini 0.1", f"{FAST} 0.9"),
    "all-fast": mix("mini 0.0", f"{FAST} 1.0"),
    "with-difference": mix("mini 1.0", f"{FAST} 1.0", "mini 1.0", method="add-difference"),
    "half-difference": mix("mini 1.0", f"{FAST} 0.5", "mini 1.0", method="add-difference"),
    "mixed-loras": mix("mini-lightning-2step-lora 0.5", "mini-lightning-8step-lora 0.5"),
    "half-file": 'file = "half.safetensors", like = "mini"',
}

Draw = Callable[..., np.ndarray[Any, Any]]


def checkpoint(path: Path, unet: Path) -> None:
    """The embedded model as one file in the original implementation's names; its text encoders are no SDXL's and stay
    where they are."""
    state = load_file(unet)
    bare = {i for i in range(3) if not any(name.startswith(f"up_blocks.{i}.attentions") for name in state)}
    whole = {f"model.diffusion_model.{tiny.original_name(name, bare, layers=1)}": x for name, x in state.items()}
    whole |= tiny.original("vae", load_file(MINI / "base" / "vae" / "diffusion_pytorch_model.safetensors"))
    assert any(name.startswith("model.diffusion_model.output_blocks.5.") for name in whole)
    save_file({name: x.contiguous() for name, x in whole.items()}, path)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Darkroom]:
    place = tmp_path_factory.mktemp("family")
    checkpoint(place / "one.safetensors", MINI / "base" / "unet" / "diffusion_pytorch_model.safetensors")
    checkpoint(place / "fast.safetensors", MINI / "lightning" / "mini_lightning_4step_unet.safetensors")
    (place / "models.toml").write_text("".join(ENTRY.format(id=id, source=source) for id, source in SOURCES.items()))
    known = catalogue.load(place / "models.toml")
    assert known.problems == ()
    yield Darkroom(known, Options(place / "pictures", device="cpu", threads=1), place / "cache", place / "data")
    shutil.rmtree(place)


def develop(room: Darkroom, request: Request) -> tuple[list[str], tuple[Made, ...]]:
    """(what was loaded, what was made)."""
    loaded: list[str] = []
    work = room.develop(Job(1, request, None, 0.0), lambda: False, 0.0)
    while True:
        try:
            if isinstance(event := next(work), Loading):
                loaded.append(event.what.partition(": ")[2])
        except StopIteration as end:
            return loaded, end.value


@pytest.fixture(scope="module")
def draw(room: Darkroom) -> Draw:
    """(64, 64, 3) pixels of a model's picture."""

    def picture(model: str, **changes: Any) -> np.ndarray[Any, Any]:
        _, (made,) = develop(room, replace(REQUEST, model=model, **changes))
        with Image.open(made.path) as image:
            return np.asarray(image).astype(float)

    return picture


@pytest.fixture(scope="module")
def kept(draw: Draw) -> Draw:
    """The same, each picture drawn once; to compare with."""
    return cache(draw)


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The mean difference of two pictures, 0 … 255."""
    return float(np.abs(one - other).mean())


GOOD: dict[str, Any] = {"num_inference_steps": 25, "guidance_scale": 4.5, "timestep_spacing": "leading"}
"The base as it wants to be run."


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("one-file", "mini"),
        ("fast-file", FAST),
        ("all-mini", "mini"),
        ("all-fast", FAST),
        ("with-difference", FAST),
    ],
)
def test_the_same_weights_draw_the_same_picture(draw: Draw, kept: Draw, model: str, like: str) -> None:
    """A folder as one file; a mix of which all is one parent; what another has more than the first, added to it."""
    # a + (b - a) is b but for the last digit
    assert apart(draw(model), kept(like)) <= (0.1 if model == "with-difference" else 0)


def test_a_unet_over_the_base_draws_in_four_steps_what_takes_the_base_twenty_five(draw: Draw, kept: Draw) -> None:
    good, plain, fast = kept("mini", **GOOD), kept("mini"), draw(FAST)
    assert apart(fast, plain) > 5
    assert apart(fast, good) < 0.75 * apart(plain, good)
    assert apart(draw("mini"), plain) == 0, "the base is as it was"


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_a_lora_over_the_base_does_so_in_its_steps(draw: Draw, kept: Draw, steps: int) -> None:
    size = {"width": 128, "height": 128, "num_inference_steps": steps}
    good, plain = kept("mini", **size | GOOD), kept("mini", **size)
    fast = draw(f"mini-lightning-{steps}step-lora", **size)
    assert apart(fast, good) < 0.75 * apart(plain, good)
    assert apart(draw("mini", **size), plain) == 0, "the base is as it was"


def test_a_mix_lies_between_its_parents(draw: Draw, kept: Draw) -> None:
    one, other, half, most = kept("mini"), kept(FAST), kept("half"), draw("most-fast")
    whole = apart(one, other)
    assert 0.25 * whole < apart(half, one) < 0.75 * whole
    assert 0.25 * whole < apart(half, other) < 0.75 * whole
    assert 0 < apart(most, other) < apart(half, other)


@pytest.mark.parametrize(
    ("model", "ratio", "like"),
    [
        ("half", (0.1, 0.9), "most-fast"),
        ("half", (1.0, 9.0), "most-fast"),
        ("half", (0.0, 1.0), FAST),
        ("with-difference", (1.0, 0.5, 1.0), "half-difference"),
        ("with-difference", (7.0, 0.5, 0.0), "half-difference"),
    ],
)
def test_a_ratio_that_is_asked_for_is_the_mix_that_has_it(
    room: Darkroom, draw: Draw, kept: Draw, model: str, ratio: tuple[float, ...], like: str
) -> None:
    own, wanted = kept(model), kept(like)
    room.residency.forget()  # made anew, not found
    assert apart(draw(model, mix=ratio), wanted) == 0
    assert apart(own, wanted) > 0.5
    assert apart(draw(model), own) == 0, "the catalogue's is as it was"


def test_a_ratio_changes_only_what_differs_and_the_last_two_are_held(room: Darkroom) -> None:
    room.residency.forget()
    request = replace(REQUEST, model="half", sketch=True)
    develop(room, request)
    own, used = len(room.residency.held()), room.residency.used
    most = 0
    for share in range(1, 21):
        ratio = replace(request, mix=(1 - share / 25, share / 25))
        assert develop(room, ratio)[0] == ["denoiser"], "the parents' text encoders and VAE are the same"
        most = max(most, len(room.residency.held()))
    assert most == own + 2
    assert room.residency.used - used < 2.5 * max(part.numbers for part in parts(room)) * 4
    before = replace(request, mix=(1 - 19 / 25, 19 / 25))
    for again in (ratio, before, ratio, request):
        assert develop(room, again)[0] == []
    assert develop(room, replace(request, mix=(0.9, 0.1)))[0] == ["denoiser"]
    assert develop(room, before)[0] == ["denoiser"], "two others came after it"


def parts(room: Darkroom) -> tuple[origins.Origin, ...]:
    return origins.of(room.catalogue, room.catalogue.model("half")).parts


def test_a_mix_is_got_ready_at_its_ratio(room: Darkroom) -> None:
    room.residency.forget()
    assert "denoiser" in develop(room, Warm("half", mix=(0.2, 0.8)))[0]
    assert develop(room, replace(REQUEST, model="half", mix=(0.2, 0.8), sketch=True))[0] == []
    assert develop(room, replace(REQUEST, model="half", sketch=True))[0] == ["denoiser"]


def test_a_picture_says_what_it_was_mixed_of(room: Darkroom) -> None:
    _, (own,) = develop(room, replace(REQUEST, model="half"))
    _, (asked,) = develop(room, replace(REQUEST, model="half", mix=(0.25, 0.75)))
    assert own.made_with["mix"] == f"weighted-sum of 0.5 mini + 0.5 {FAST}"
    assert asked.made_with["mix"] == f"weighted-sum of 0.25 mini + 0.75 {FAST}"
    assert asked.request.mix == (0.25, 0.75) and own.request.mix == ()
    _, (plain,) = develop(room, REQUEST)
    assert "mix" not in plain.made_with


@pytest.mark.parametrize(
    ("model", "ratio", "says"),
    [
        ("mini", (0.5, 0.5), "mini is not mixed of models"),
        ("mini-lightning-2step-lora", (0.5, 0.5), "is not mixed of models"),
        ("half", (0.2, 0.3, 0.5), "half is mixed of 2 models, and the mix has 3 weights"),
        ("half", (0.0, 0.0), "the weights are all zero"),
        ("half", (-0.5, 1.5), "a weight is -0.5"),
        ("with-difference", (1.0, 2.5, 1.0), "the difference's share is 2.5"),
    ],
)
def test_a_ratio_that_makes_no_mix_is_refused(room: Darkroom, model: str, ratio: tuple[float, ...], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        develop(room, replace(REQUEST, model=model, mix=ratio))
    assert told.value.field == "mix" and told.value.hint
    with pytest.raises(InvalidRequest, match=says):
        develop(room, Warm(model, mix=ratio))


def test_a_mix_of_models_that_wear_loras_is_one_of_what_they_are(draw: Draw, kept: Draw) -> None:
    parents = [draw(f"mini-lightning-{steps}step-lora") for steps in (2, 8)]
    mixed = draw("mixed-loras")
    assert all(0 < apart(mixed, parent) < apart(*parents) for parent in parents)
    assert apart(mixed, kept("mini")) > 1


def test_a_mix_in_a_file_is_the_mix_in_memory(room: Darkroom, draw: Draw, kept: Draw) -> None:
    one, fast, half = (room.catalogue.model(id).source.file.path for id in ("one-file", "fast-file", "half-file"))
    request = Merge((str(one), str(fast)), (0.5, 0.5), str(half), dtype="fp32")
    events = list(room.develop(Job(1, request, None, 0.0), lambda: False, 0.0))
    assert [e.path for e in events if isinstance(e, Saved)] == [str(half)]
    assert apart(draw("half-file"), kept("half")) < 0.1


def test_a_lora_acts_by_its_weight_and_leaves_no_trace(draw: Draw, kept: Draw) -> None:
    plain = kept("mini")
    weights = (0.0, 0.5, 1.0, 2.0)
    distances = [apart(draw("mini", loras=(Lora("mini-pixel", weight),)), plain) for weight in weights]
    assert distances[0] == 0 and distances == sorted(set(distances))
    assert apart(draw("mini"), plain) == 0
    assert apart(draw(FAST, loras=(Lora("mini-pixel", 1.0),)), kept(FAST)) > 1, "over another UNet as well"


def test_an_embedding_acts_where_it_is_named_and_leaves_no_trace(draw: Draw, kept: Draw) -> None:
    plain = kept("mini")
    named = apart(draw("mini", prompt=f"{PROMPT}, mini-night"), plain)
    assert named > 5 * apart(draw("mini", prompt=f"{PROMPT}, night"), plain), "more than the word alone"
    assert 0 < apart(draw("mini", prompt=f"{PROMPT}, (mini-night)0.5"), plain) < named
    assert apart(draw("mini"), plain) == 0
    assert draw(FAST, prompt="mini-night").mean() < draw(FAST, prompt="noon").mean(), "nights are dark"
