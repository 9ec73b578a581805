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
from engines.requests import MAX_SEED, Lora, from_json, to_json
from tui.draft import Draft, inactive, lora_names, read
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
        ("variation_strength", "1.1", "variation strength must be 0 to 1"),
        ("variation_strength", "nan", "variation strength must be"),
        ("variation_strength", "a bit", "variation strength must be a number"),
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


def test_a_variation_counts_as_the_seeds_do() -> None:
    draft = replace(APPLE, seed="7", variation_seed="90", variation_strength="0.25", count="3", batch="2")
    asked = read(draft, KNOWN)
    assert [(r.seed, r.variation_seed, r.batch_size) for r in asked.requests] == [(7, 90, 2), (9, 92, 1)]
    assert all(r.variation_strength == 0.25 for r in asked.requests) and not asked.drawn_variation
    (one,) = read(replace(draft, count="", batch=""), KNOWN).requests
    assert read(Draft.from_request(one), KNOWN).requests == (one,)


def test_a_variation_seed_is_drawn_where_only_a_strength_is_given() -> None:
    asked = read(replace(APPLE, seed="7", variation_strength="0.25"), KNOWN)
    assert asked.drawn_variation and not asked.drawn
    assert 0 <= (asked.requests[0].variation_seed or -1) < 2**32
    for strength in ("", "0"):
        asked = read(replace(APPLE, seed="7", variation_strength=strength), KNOWN)
        assert (asked.requests[0].variation_seed, asked.drawn_variation) == (None, False)
    (none,) = read(replace(APPLE, seed="7", variation_seed="9", variation_strength="0"), KNOWN).requests
    assert (none.variation_seed, none.variation_strength) == (9, 0.0)
    assert read(Draft.from_request(none), KNOWN).requests == (none,)


@pytest.mark.parametrize(
    ("seed", "strength", "field", "says"),
    [
        ("9", "", "variation_strength", "variation seed without a variation strength"),
        ("nine", "0.5", "variation_seed", "variation seed must be a whole number"),
        ("-1", "0.5", "variation_seed", "variation seed must be 0 to"),
        (str(MAX_SEED), "0.5", "variation_seed", "no room for 2 pictures"),
    ],
)
def test_a_variation_that_cannot_be_had_is_told(seed: str, strength: str, field: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        read(replace(APPLE, count="2", variation_seed=seed, variation_strength=strength), KNOWN)
    assert told.value.field == field and "\n" not in told.value.message


@pytest.mark.parametrize("text", ["", "  ", "()", "withLora(x)", "\x07"])
def test_a_negative_without_words_is_what_was_chosen_for_it(text: str) -> None:
    for blank, means in (("", None), ("zeros", None), ("empty", "")):
        draft = replace(APPLE, negative_prompt=text, blank_negative=blank, seed="7")
        (request,) = read(draft, KNOWN).requests
        assert request.negative_prompt == means
        assert not any("inactive" in n for n in read(replace(draft, guidance="1"), KNOWN).notes)
        for keep in (Draft(), Draft(blank_negative="empty"), Draft(blank_negative="zeros")):
            assert read(Draft.from_request(request, keep), KNOWN).requests == (request,), "as it was made"


def test_a_negative_with_words_leaves_what_a_blank_one_is() -> None:
    (request,) = read(replace(APPLE, negative_prompt="fog", blank_negative="empty"), KNOWN).requests
    assert request.negative_prompt == "fog"
    assert Draft.from_request(request, Draft(blank_negative="empty")).blank_negative == "empty"


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


# ---------------------------------------------------------------------------------- LoRAs that the prompt names


def test_a_lora_that_the_prompt_names_is_added() -> None:
    asked = read(replace(APPLE, prompt="a withLora(mini-pixel, 0.8) pear", seed="7"), KNOWN)
    (request,) = asked.requests
    assert request.loras == (Lora("mini-pixel", 0.8),) and asked.notes == ()
    draft = Draft.from_request(request)
    assert draft.loras == () and draft.prompt == request.prompt
    assert read(draft, KNOWN).requests == (request,)
    assert lora_names(draft) == ("mini-pixel",)


def test_a_lora_of_stack_and_prompt_counts_once_with_the_prompts_weight() -> None:
    other = replace(KNOWN.adapters["mini-pixel"], id="other")
    known = replace(KNOWN, adapters={**KNOWN.adapters, "other": other})
    draft = replace(APPLE, seed="7", prompt="a useLora(mini-pixel,.25)", loras=("mini-pixel:0.5", "other:2"))
    asked = read(draft, known)
    (request,) = asked.requests
    assert request.loras == (Lora("other", 2.0), Lora("mini-pixel", 0.25))
    assert asked.notes == ("LoRA mini-pixel is in the prompt, too; the prompt's 0.25 counts",)
    assert Draft.from_request(request).loras == ("other:2",)
    assert read(Draft.from_request(request), known).requests == (request,)
    asked = read(replace(APPLE, prompt="withLora(mini-pixel) x withLora(mini-pixel, 3)"), known)
    assert asked.requests[0].loras == (Lora("mini-pixel", 3.0),)
    assert asked.notes == ("a LoRA is named twice in the prompt; what is said of it last counts",)


def test_a_lora_of_the_prompt_is_checked_as_one_of_the_stack(tmp_path: Path) -> None:
    pixel = KNOWN.adapters["mini-pixel"]
    gone = replace(pixel, id="gone", file=Local(tmp_path / "gone.safetensors"))
    known = replace(KNOWN, adapters={"mini-pixel": pixel, "sd": replace(pixel, id="sd", family="sdxl"), "gone": gone})
    for name, says in (("mini-pixle", "no LoRA 'mini-pixle'"), ("sd", "sdxl family; mini is mini")):
        with pytest.raises(CatalogueError, match=says) as told:
            read(replace(APPLE, prompt=f"a withLora({name})"), known)
        assert told.value.field == "prompt"
    with pytest.raises(LoadError, match="LoRA gone is not on this machine"):
        read(replace(APPLE, prompt="a withLora(gone)"), known)
    assert read(replace(APPLE, prompt="a withLora(gone)", model="mini"), known, look=False).notes == ()


def test_a_lora_in_the_negative_prompt_is_told_not_added() -> None:
    asked = read(replace(APPLE, negative_prompt="x withLora(mini-pixel)", guidance="5"), KNOWN)
    assert asked.requests[0].loras == ()
    assert asked.notes == ("negative prompt: withLora(mini-pixel) is not applied here, only in the prompt",)


# ------------------------------------------------------------------------------------------- A1111's syntax


def test_a1111s_syntax_is_translated_where_it_is_named() -> None:
    draft = replace(
        APPLE, prompt="a (red:1.3) [apple] <lora:mini-pixel:0.5>", negative_prompt="(blurry)", syntax="a1111"
    )
    asked = read(replace(draft, seed="7"), KNOWN)
    (request,) = asked.requests
    assert request.prompt == "a (red)1.3 (apple)0.9090909 withLora(mini-pixel, 0.5)"
    assert request.negative_prompt == "(blurry)1.1" and request.loras == (Lora("mini-pixel", 0.5),)
    assert asked.notes == (f"prompt, translation: {request.prompt}", "negative prompt, translation: (blurry)1.1")
    assert (request.template, request.syntax) == ("", "")
    assert read(replace(draft, prompt="a cat", negative_prompt=""), KNOWN).notes == (), "nothing was changed"
    assert read(Draft.from_request(request), KNOWN).requests == (request,)
    assert lora_names(draft) == ("mini-pixel",) and lora_names(replace(draft, syntax="")) == ()
    assert read(replace(draft, syntax=" A1111 ", seed="7"), KNOWN).requests == (request,)


def test_what_looks_like_a1111s_syntax_is_told_once() -> None:
    draft = replace(APPLE, prompt="one (two:1.3) [three]", negative_prompt="[x]", guidance="5")
    (note,) = read(draft, KNOWN).notes
    assert note == (
        "prompt, at character 5: '(two:1.3)' looks like A1111's syntax (a weight of 1.3): --syntax a1111 translates it"
    )
    assert read(replace(draft, syntax="compel"), KNOWN).notes == ()
    (note,) = read(replace(draft, prompt="a ((b))"), KNOWN).notes
    assert note.startswith("negative prompt, at character 1: '[x]'")


def test_what_cannot_be_translated_is_told() -> None:
    notes = read(replace(APPLE, prompt="a [b|c] AND d", syntax="a1111"), KNOWN).notes
    told = ["prompt, at character 3", "prompt, at character 9", "prompt, translation"]
    assert [note.partition(":")[0] for note in notes] == told
    notes = read(replace(APPLE, prompt="[a|b]" * 5, syntax="a1111"), KNOWN).notes
    assert len(notes) == 4 and notes[2] == "prompt: 3 more; safelight prompt shows all"


def test_an_unknown_syntax_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no syntax 'invoke'") as told:
        read(replace(APPLE, syntax="invoke"), KNOWN)
    assert told.value.field == "syntax" and "a1111" in told.value.hint


# -------------------------------------------------------------------------------------------------- variants


def test_every_picture_draws_its_own_text() -> None:
    draft = replace(APPLE, prompt="a {red|blue|green|black} {cat|dog}", seed="7", count="6", batch="4")
    asked = read(draft, KNOWN)
    prompts = [request.prompt for request in asked.requests]
    seeds = [request.seed + i for request in asked.requests for i in range(request.batch_size)]
    assert seeds == list(range(7, 13)) and len(set(prompts)) > 2
    assert all(request.template == draft.prompt for request in asked.requests)
    assert asked.notes == (f"prompt, variants: {prompts[0]}",)
    for request in asked.requests:
        again = Draft.from_request(request)
        assert again.prompt == draft.prompt
        (alone,) = read(again, KNOWN).requests
        assert alone == replace(request, batch_size=1)
        assert from_json(to_json(request)) == request
    assert [(r.seed, r.batch_size) for r in read(replace(draft, prompt="{a|a}"), KNOWN).requests] == [(7, 4), (11, 2)]


def test_loras_may_be_variants() -> None:
    draft = replace(APPLE, prompt="a {withLora(mini-pixel, 0.5)|withLora(mini-pixel, 2)|} b", seed="1", count="20")
    found = {request.prompt: request.loras for request in read(draft, KNOWN).requests}
    assert found == {
        "a withLora(mini-pixel, 0.5) b": (Lora("mini-pixel", 0.5),),
        "a withLora(mini-pixel, 2) b": (Lora("mini-pixel", 2.0),),
        "a  b": (),
    }
    assert lora_names(draft) == ("mini-pixel",)


def test_variants_in_a1111s_syntax_come_back_as_they_were_typed() -> None:
    draft = replace(
        APPLE, prompt="a {(red:1.3)|[blue]} apple", negative_prompt="(x)", guidance="5", syntax="a1111", seed="3"
    )
    asked = read(draft, KNOWN)
    (request,) = asked.requests
    assert request.prompt in ("a (red)1.3 apple", "a (blue)0.9090909 apple")
    assert (request.template, request.negative_template, request.syntax) == (draft.prompt, "(x)", "a1111")
    again = Draft.from_request(request)
    assert (again.prompt, again.negative_prompt, again.syntax) == (draft.prompt, "(x)", "a1111")
    assert read(again, KNOWN).requests == (request,)


def test_wildcards_are_read_from_the_config_folder(home: Path, tmp_path: Path) -> None:
    (home / "config" / "wildcards").mkdir(parents=True)
    (home / "config" / "wildcards" / "animal.txt").write_text("cat\ndog\n")
    draft = replace(APPLE, prompt="a __animal__", count="8", seed="1")
    assert {request.prompt for request in read(draft, KNOWN).requests} == {"a cat", "a dog"}
    asked = read(draft, KNOWN, wildcards=tmp_path)
    assert {request.prompt for request in asked.requests} == {"a __animal__"}
    assert asked.notes[0].startswith("prompt, at character 3: there is no wildcards/animal.txt")


def test_what_is_drawn_from_an_unknown_seed_is_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = replace(APPLE, prompt="{a|b} __animal__", model="mini")
    notes = read(draft, KNOWN, look=False).notes
    assert notes == read(draft, KNOWN, look=False).notes
    assert notes[0].startswith("prompt, variants, for instance: ") and "__animal__" in notes[0]


def test_variants_in_the_negative_prompt_are_text() -> None:
    asked = read(replace(APPLE, negative_prompt="{a|b}", guidance="5"), KNOWN)
    assert asked.requests[0].negative_prompt == "{a|b}"
    assert asked.notes == ("negative prompt: variants are drawn in the prompt only; here they are text",)


def test_a_long_drawn_text_is_a_short_note() -> None:
    (note,) = read(replace(APPLE, prompt="{x|x}" + "\nword" * 3000), KNOWN).notes
    assert len(note) < 250 and "\n" not in note
