"""The form as text, and what it means as requests."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import catalogue
from engines.entries import Local, Vae
from engines.errors import CatalogueError, InvalidRequest, LoadError, SafelightError
from engines.requests import MAX_SEED
from tui.draft import Draft, inactive, read
from tui.fields import aspect_size

KNOWN = catalogue.load()
APPLE = Draft(prompt="a red apple")


def test_an_empty_form_is_the_recipe() -> None:
    asked = read(APPLE, KNOWN)
    (request,) = asked.requests
    recipe = KNOWN.default_model().recipe
    assert asked.drawn and 0 <= request.seed < 2**32
    assert request.model == "mini"
    assert (request.width, request.height) == recipe.size
    assert request.num_inference_steps == recipe.num_inference_steps
    assert request.guidance_scale == recipe.guidance_scale
    assert (request.scheduler, request.timestep_spacing) == ("euler", "leading")
    assert request.negative_prompt is None and request.score is None
    assert read(replace(APPLE, model="mini-lightning-4step-unet"), KNOWN).requests[0].timestep_spacing == "trailing"


def test_count_and_batch_give_runs_with_the_seeds_in_order() -> None:
    asked = read(replace(APPLE, count="5", batch="2", seed="10"), KNOWN)
    assert [(r.seed, r.batch_size) for r in asked.requests] == [(10, 2), (12, 2), (14, 1)]
    assert not asked.drawn
    assert len(read(replace(APPLE, count="3"), KNOWN).requests) == 3


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("steps", "0", "steps must be 1 to 1000"),
        ("steps", "1000000", "steps must be"),
        ("steps", "ten", "whole number"),
        ("steps", "٣", "whole number"),
        ("guidance", "nan", "guidance must be"),
        ("guidance", "inf", "guidance must be"),
        ("guidance", "-1", "guidance must be"),
        ("guidance", "1000", "guidance must be"),
        ("guidance", "much", "must be a number"),
        ("rescale", "2", "rescale must be"),
        ("seed", "-1", "seed must be"),
        ("seed", str(2**63), "seed must be"),
        ("seed", "9" * 500, "whole number"),
        ("count", "0", "count must be"),
        ("batch", "1000", "batch must be"),
        ("size", "0x0", "width must be a multiple of 8"),
        ("size", "-8x128", "width must be"),
        ("size", "513x512", "width must be"),
        ("size", "128x7", "height must be"),
        ("size", "1000000x8", "width must be"),
        ("size", "8192x8192", "megapixels"),
        ("size", "abc", "size must be"),
        ("size", "0:3", "aspect must be"),
        ("size", "3:", "aspect must be"),
        ("scheduler", "euler_b", "no scheduler"),
        ("model", "mimi", "no model"),
        ("precision", "fp7", "no precision"),
        ("score", "nobody", "no scorer"),
        ("prompt", "x" * 1_000_000, "1,000,000 characters"),
        ("negative_prompt", "x" * 1_000_000, "1,000,000 characters"),
    ],
)
def test_a_bad_field_is_named_in_one_line(field: str, text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        read(replace(APPLE, **{field: text}), KNOWN)
    assert "\n" not in told.value.message and len(told.value.message) < 200
    assert told.value.exit_code == 2
    assert told.value.field == field


def test_near_names_are_offered() -> None:
    for field, text, near in (
        ("model", "mimi", "mini"),
        ("scheduler", "dpm++ 2n", "dpmpp"),
        ("scheduler", "eular", "euler"),
    ):
        with pytest.raises(InvalidRequest) as told:
            read(replace(APPLE, **{field: text}), KNOWN)
        assert near in told.value.hint


def test_aliases_of_other_apps_are_understood() -> None:
    assert read(replace(APPLE, scheduler="DPM++ 2M Karras"), KNOWN).requests[0].scheduler == "dpmpp_2m_karras"
    assert read(replace(APPLE, scheduler="Euler a"), KNOWN).requests[0].scheduler == "euler_a"


def test_the_last_seed_that_fits() -> None:
    assert read(replace(APPLE, seed=str(MAX_SEED)), KNOWN).requests[0].seed == MAX_SEED
    with pytest.raises(InvalidRequest, match="no room"):
        read(replace(APPLE, seed=str(MAX_SEED), count="2"), KNOWN)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [("1:1", (128, 128)), ("3:2", (152, 104)), ("2:3", (104, 152)), ("16:9", (168, 96)), ("9:1", (192, 80))],
)
def test_an_aspect_is_the_nearest_trained_size(aspect: str, size: tuple[int, int]) -> None:
    assert aspect_size(aspect, KNOWN.model("mini").recipe) == size


def test_what_has_no_effect_or_departs_from_the_recipe_is_told() -> None:
    fast = replace(APPLE, model="mini-lightning-4step-unet")
    assert read(fast, KNOWN).notes == ()
    assert any("inactive" in n for n in read(replace(fast, negative_prompt="blurry"), KNOWN).notes)
    assert any("not made for 64x64" in n for n in read(replace(fast, size="64x64"), KNOWN).notes)
    assert any("empty" in n for n in read(Draft(), KNOWN).notes)
    assert inactive(1.0, negative=True, rescale=0.5).startswith("negative prompt and guidance rescale")
    assert inactive(1.01, negative=True, rescale=0.5) == ""


def test_what_a_distilled_model_fixes_is_locked_unless_it_is_overridden_knowingly() -> None:
    fast = replace(APPLE, model="mini-lightning-4step-unet")
    with pytest.raises(InvalidRequest, match="distilled for exactly 4 steps: 9 would") as told:
        read(replace(fast, steps="9"), KNOWN)
    assert told.value.field == "steps" and "--override" in told.value.hint
    with pytest.raises(InvalidRequest, match="timesteps of euler: heun takes others") as told:
        read(replace(fast, scheduler="heun"), KNOWN)
    assert told.value.field == "scheduler"
    assert read(replace(fast, steps="4", scheduler="euler"), KNOWN).requests[0].overrides == ()
    asked = read(replace(fast, steps="9", scheduler="heun", override="yes"), KNOWN)
    assert asked.requests[0].overrides == ("num_inference_steps", "scheduler")
    assert any("as asked: 9 steps, heun" in n for n in asked.notes)
    assert read(Draft.from_request(asked.requests[0]), KNOWN).requests == asked.requests, "it can be made again"
    assert read(replace(APPLE, override="yes"), KNOWN).requests[0].overrides == ()


def test_what_leaves_the_range_that_its_makers_name_is_told() -> None:
    mini = KNOWN.model("mini")
    recipe = replace(mini.recipe, steps_range=(20, 30), guidance_range=(3.0, 7.0))
    known = replace(KNOWN, models={"mini": replace(mini, recipe=recipe)})
    notes = read(replace(APPLE, steps="50", guidance="9"), known).notes
    assert any("steps 20 to 30; 50 asked" in n for n in notes) and any("guidance 3 to 7; 9 asked" in n for n in notes)
    assert not any("makers" in n for n in read(APPLE, known).notes)


def test_a_vae_for_other_latents_is_refused_and_one_that_is_not_here_is_told(tmp_path: Path) -> None:
    vae = Vae("smooth", "Smooth", "mini", Local(tmp_path / "vae.safetensors"), "MIT")
    known = replace(KNOWN, vaes={"smooth": vae, "other": replace(vae, id="other", latents="sdxl")})
    with pytest.raises(CatalogueError, match="decodes the latents of sdxl; mini draws those of mini"):
        read(replace(APPLE, vae="other"), known)
    with pytest.raises(LoadError, match="VAE smooth is not on this machine"):
        read(replace(APPLE, vae="smooth"), known)
    (tmp_path / "vae.safetensors").touch()
    assert read(replace(APPLE, vae="smooth"), known).requests[0].vae == "smooth"
    with pytest.raises(CatalogueError, match="no VAE 'nothing'") as told:
        read(replace(APPLE, vae="nothing"), known)
    assert told.value.field == "vae"


def test_control_characters_do_not_reach_the_request() -> None:
    request = read(replace(APPLE, prompt="a\x1b]0;x\x07 red\x00 \u202eapple", negative_prompt="\x9bx"), KNOWN).requests[
        0
    ]
    assert request.prompt.isprintable() and request.negative_prompt == "x"


def test_a_lora_of_another_family_is_refused_with_both_named() -> None:
    assert read(replace(APPLE, loras=("mini-pixel:0.8",)), KNOWN).requests[0].loras[0].weight == 0.8
    other = replace(KNOWN.adapters["mini-pixel"], id="other", family="sdxl")
    with pytest.raises(SafelightError, match="sdxl family; mini is mini"):
        read(replace(APPLE, loras=("other",)), replace(KNOWN, adapters={"other": other}))


def test_a_lora_of_ones_own_that_is_gone_is_told_with_its_path(tmp_path: Path) -> None:
    gone = replace(KNOWN.adapters["mini-pixel"], id="mine", file=Local(tmp_path / "mine.safetensors"))
    with pytest.raises(LoadError, match=r"mine\.safetensors is missing") as told:
        read(replace(APPLE, loras=("mine",)), replace(KNOWN, adapters={"mine": gone}))
    assert "models.toml" in told.value.hint and "pull" not in told.value.hint


def test_an_empty_scheduler_in_the_form_is_the_recipes() -> None:
    assert read(replace(APPLE, scheduler=" "), KNOWN).requests[0].scheduler == "euler"


def test_a_requests_form_asks_for_the_same_request() -> None:
    draft = Draft(
        "a (red)1.3 apple", "blurry", "mini", "9", "3.25", "0.5", "heun", "104x152", "77", loras=("mini-pixel:0.5",)
    )
    (request,) = read(draft, KNOWN).requests
    assert read(Draft.from_request(request), KNOWN).requests == (request,)


@given(st.floats(0, 100), st.floats(0, 1), st.floats(-10, 10))
def test_the_numbers_of_a_requests_form_are_the_requests_own(guidance: float, rescale: float, weight: float) -> None:
    (request,) = read(replace(APPLE, seed="7", loras=("mini-pixel",)), KNOWN).requests
    lora = replace(request.loras[0], weight=weight)
    request = replace(request, guidance_scale=guidance, guidance_rescale=rescale, loras=(lora,))
    assert read(Draft.from_request(request), KNOWN).requests == (request,)


def test_numbers_in_a_requests_form_are_short() -> None:
    (request,) = read(replace(APPLE, guidance="7.0", loras=("mini-pixel:.5",)), KNOWN).requests
    draft = Draft.from_request(request)
    assert (draft.guidance, draft.rescale, draft.loras) == ("7", "0", ("mini-pixel:0.5",))


def test_steps_beyond_what_the_scheduler_can_take_are_refused() -> None:
    assert read(replace(APPLE, scheduler="lcm", steps="50"), KNOWN).requests[0].num_inference_steps == 50
    for scheduler, steps in (("lcm", "51"), ("ddim", "1000"), ("unipc", "769"), ("dpmpp_2m", "999")):
        with pytest.raises(InvalidRequest, match=f"with {scheduler}, not {steps}") as told:
            read(replace(APPLE, scheduler=scheduler, steps=steps), KNOWN)
        assert told.value.field == "steps" and told.value.exit_code == 2
    mini = KNOWN.model("mini")
    long = replace(mini, recipe=replace(mini.recipe, num_inference_steps=60))
    with pytest.raises(InvalidRequest, match="1 to 50"):  # also where the steps are the recipe's
        read(replace(APPLE, scheduler="lcm"), replace(KNOWN, models={"mini": long}))


def test_a_spacing_that_the_scheduler_does_not_take_is_told() -> None:
    fast = replace(APPLE, model="mini-lightning-4step-unet", override="yes")
    assert not any("spac" in note for note in read(replace(fast, scheduler="ddim"), KNOWN).notes)
    asked = read(replace(fast, scheduler="dpmpp_sde_karras"), KNOWN)
    assert any("recipe wants trailing spacing" in note for note in asked.notes)
    assert asked.requests[0].timestep_spacing is None


def test_a_form_can_be_read_without_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = replace(APPLE, model="mini-lightning-4step-unet", negative_prompt="x", score="yes", loras=("mini-pixel",))
    with_disk = read(draft, KNOWN)

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the disk was asked")

    for module, name in ((os, "stat"), (os, "lstat"), (os, "scandir"), (os, "open")):
        monkeypatch.setattr(module, name, touched)
    notes = read(draft, KNOWN, look=False).notes
    with pytest.raises(InvalidRequest):
        read(replace(draft, model=""), KNOWN, look=False)
    monkeypatch.undo()
    assert notes == with_disk.notes != ()


@given(st.builds(Draft, **{f.name: st.text(max_size=20) for f in fields(Draft) if f.name != "loras"}))
def test_any_form_survives_being_saved_and_is_read_or_refused(draft: Draft) -> None:
    assert Draft.from_json(draft.to_json()) == draft
    try:
        read(draft, KNOWN)
        message = ""
    except SafelightError as e:
        message = e.message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", '{"prompt": 3, "loras": 4}', '{"unknown": "x"}', "[" * 100_000]
)
def test_a_form_that_cannot_be_read_is_empty(text: str) -> None:
    assert Draft.from_json(text) == Draft()


def test_what_is_misread_in_a_prompt_is_told_and_summed_up() -> None:
    (note,) = read(replace(APPLE, prompt="a (red apple"), KNOWN).notes
    assert note.startswith("prompt, at character 3: ")
    notes = read(replace(APPLE, prompt="(" * 500, guidance="3", negative_prompt="b)"), KNOWN).notes
    assert len(notes) == 4 and "498 more" in notes[2] and notes[3].startswith("negative prompt")
