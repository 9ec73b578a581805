"""Text and sliders are two views of one thing: each change in one shows in the other, and the cursor stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import MEDIUM, WIDE, Bench, text, toasts, until, write
from fake_engine import catalogue, with_mixes
from textual import events

from engines.entries import Model
from engines.requests import Warm
from tui import draft as drafting
from tui import sliders
from tui.draft import Draft
from tui.panes.weights import MOST, WeightsPane, _bar
from tui.sliders import Slider

BLEND = '("a red apple", "a (green)0.8 pear").blend(0.7, 0.3)'


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


def pane(bench: Bench) -> WeightsPane:
    return bench.app.workbench.query_one(WeightsPane)


def values(bench: Bench) -> list[tuple[str, float]]:
    return [(row.label, row.value) for row in pane(bench)._rows]


# ── what a draft's sliders are ──────────────────────────────────────────────────────────────────────────────────────


def test_every_number_of_a_draft_is_a_slider() -> None:
    draft = Draft(
        '("a ((red)1.2 apple)1.1", "b++").blend(.7, .3) withLora(pixel, 0.5)', "(fog)1.3", guidance="6", rescale="0.5"
    )
    found = sliders.read(draft, None, settings=True)
    assert [(s.field, s.kind, s.label, round(s.value, 4), s.depth) for s in found] == [
        ("prompt", "weight", "red apple", 1.1, 0),
        ("prompt", "weight", "red", 1.2, 1),
        ("prompt", "weight", "b", 1.21, 0),
        ("prompt", "ratio", "a red apple", 0.7, 0),
        ("prompt", "ratio", "b", 0.3, 0),
        ("prompt", "lora", "pixel", 0.5, 0),
        ("negative_prompt", "weight", "fog", 1.3, 0),
        ("guidance", "setting", "guidance", 6.0, 0),
        ("rescale", "setting", "rescale", 0.5, 0),
    ]
    assert not any(s.idle for s in found)
    idle = sliders.read(Draft("(a)1.1", "(fog)1.3", guidance="1"), None, settings=True)
    assert [bool(s.idle) for s in idle] == [False, True, False, True]
    assert sliders.read(Draft("a cat"), None, settings=False) == ()


@pytest.mark.parametrize("draft", [Draft(BLEND, guidance="6"), Draft("((a)1.2 b)0.9, c++ withLora(x)", "(fog)--")])
def test_each_can_be_moved_and_shows_where_it_was_moved_to(draft: Draft) -> None:
    for slider in sliders.read(draft, None, settings=True):
        for value in (0.0, 0.35, 1.0, 1.85):
            wanted = min(slider.limit[1], max(slider.limit[0], value))
            changed = sliders.change(draft, slider, value)
            if changed is None:
                assert slider.kind == "weight" and value == slider.value == 0
                continue
            text = changed if isinstance(changed, str) else changed.apply(getattr(draft, slider.field))
            after = sliders.read(Draft(**{slider.field: text}), None, settings=True)
            moved = next(s for s in after if s.key == slider.key)
            neutral = wanted if changed else slider.neutral
            assert moved.value == pytest.approx(neutral, abs=0.006), (slider, value, text)


MIXES = with_mixes(catalogue(Path("/nowhere")))


def of_mix(model: Model, mix: str = "") -> list[tuple[str, float, float, float, float, tuple[float, float]]]:
    found = sliders.read(Draft(model=model.id, mix=mix), model, settings=True)
    return [
        (s.label, round(s.value, 9), s.low, s.high, round(s.neutral, 9), s.limit) for s in found if s.field == "mix"
    ]


def test_the_shares_of_a_mixed_model_are_sliders() -> None:
    known = MIXES.model
    assert of_mix(known("mini"), "0.5") == []
    assert of_mix(known("sum")) == [("quick", 0.4, 0.0, 1.0, 0.4, (0.0, 1.0))]
    assert of_mix(known("sum"), "0.7") == of_mix(known("sum"), "3,7") == [("quick", 0.7, 0.0, 1.0, 0.4, (0.0, 1.0))]
    assert of_mix(known("sum"), "bad") == of_mix(known("sum")), "the catalogue's until it can be read"
    assert of_mix(known("difference"), "-1.5") == [("quick − mini", -1.5, 0.0, 1.0, 0.5, (-2.0, 2.0))]
    assert of_mix(known("three")) == [
        ("quick", 0.3, 0.0, 0.8, 0.3, (0.0, 0.8)),
        ("mini", 0.2, 0.0, 0.7, 0.2, (0.0, 0.7)),
    ]
    blocked = replace(known("three"), source=replace(known("three").mix(), blocks=(("in4", 0.75),)))
    assert [row[3] for row in of_mix(blocked)] == [0.8, 0.25]
    found = sliders.read(Draft(model="sum"), known("sum"), settings=True)
    assert [s.label for s in found] == ["quick", "guidance", "rescale"]
    assert sliders.read(Draft(model="sum"), known("sum"), settings=False) == ()


@pytest.mark.parametrize(
    ("id", "mix", "place", "value", "text"),
    [
        ("sum", "", 0, 0.7, "0.7"),
        ("sum", "0.7", 0, 0.4, ""),
        ("sum", "0.7", 0, 3, "1"),
        ("difference", "", 0, -5, "-2"),
        ("difference", "1", 0, 0.5, ""),
        ("three", "", 0, 0.45, "0.35,0.45,0.2"),
        ("three", "0.35,0.45,0.2", 1, 0.6, "0,0.45,0.55"),
        ("three", "0.35,0.45,0.2", 0, 0.3, ""),
        ("three", "1,1,1", 0, 0, "0.6667,0,0.3333"),
    ],
)
def test_a_share_that_is_moved_leaves_the_rest_to_the_first(
    id: str, mix: str, place: int, value: float, text: str
) -> None:
    model = MIXES.model(id)
    draft = Draft(model=id, mix=mix)
    slider = next(s for s in sliders.read(draft, model, settings=True) if s.key == ("mix", "setting", place))
    assert sliders.change(draft, slider, value, model) == text
    asked = drafting.read(replace(draft, mix=text), MIXES, look=False).requests[0].mix
    if id != "difference" and asked:
        assert sum(asked) == pytest.approx(1)


def test_a_prompt_too_long_to_slide_has_none() -> None:
    assert sliders.read(Draft("(a)1.1 " * 5000), None, settings=False) == ()


# ── gestures ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_arrows_move_the_number_in_the_text_and_the_cursor_stays(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        editor = bench.app.workbench.form.prompt
        write(bench, "a (red)1.2 apple on a (blue)0.8 cloth")
        editor.move_cursor((0, 16))  # in front of " on a"
        await pilot.press("alt+w", "right", "right", "shift+right", "left")
        assert bench.app.workbench.draft.prompt == "a (red)1.5 apple on a (blue)0.8 cloth"
        assert editor.cursor_location == (0, 16)
        await pilot.press("down", "left", "shift+left")
        assert bench.app.workbench.draft.prompt == "a (red)1.5 apple on a (blue)0.5 cloth"
        assert values(bench)[:2] == [("red", 1.5), ("blue", 0.5)]


async def test_keys_that_come_faster_than_the_screen_all_count(bench: Bench) -> None:
    """Three keys in one read, as over a slow line: none may build on what the pane showed before them."""
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.2 apple, (blue)1.2 leaf")
        await pilot.press("alt+w")
        for _ in range(3):
            pane(bench).action_weight_more()
        await until(pilot, lambda: "(red)1.35" in bench.app.workbench.draft.prompt)
        pane(bench).action_weight_less()
        for letter in "1.35":
            await pane(bench)._on_key(events.Key(letter, letter))
        await pilot.pause(0.05)
        assert "(red)1.35" in bench.app.workbench.draft.prompt
        for _ in range(2):
            pane(bench).action_weight_mute()
        await pilot.pause(0.05)
        assert "(red)1.35" in bench.app.workbench.draft.prompt
        for _ in range(2):
            pane(bench).action_weight_remove()
        await pilot.pause(0.05)
        assert bench.app.workbench.draft.prompt == "a red apple, blue leaf"


async def test_two_weights_of_one_word_are_muted_and_back_each_by_itself(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (cat)1.2 and a (cat)0.8")
        await pilot.press("alt+w", "space", "down", "space")
        assert bench.app.workbench.draft.prompt == "a (cat)0.0 and a (cat)0.0"
        await pilot.press("up", "space", "down", "space")
        assert bench.app.workbench.draft.prompt == "a (cat)1.2 and a (cat)0.8"


async def test_a_weight_slides_through_one_and_stops_at_its_ends(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.05 apple")
        await pilot.press("alt+w", "left")
        assert bench.app.workbench.draft.prompt == "a (red)1.0 apple"
        await pilot.press("left")
        assert bench.app.workbench.draft.prompt == "a (red)0.95 apple"
        await pilot.press(*["shift+left"] * 6)
        assert bench.app.workbench.draft.prompt == "a (red)0.0 apple"
        await pilot.press(*["shift+right"] * 12)
        assert bench.app.workbench.draft.prompt == "a (red)2.0 apple"


async def test_space_mutes_and_brings_back(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a ((red)1.2 apple)1.35 here")
        await pilot.press("alt+w", "space")
        assert bench.app.workbench.draft.prompt == "a ((red)1.2 apple)0.0 here"
        await pilot.press("space")
        assert bench.app.workbench.draft.prompt == "a ((red)1.2 apple)1.35 here"


async def test_a_number_is_typed_and_zero_alone_resets(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.3 apple")
        await pilot.press("alt+w", "2", ".", "5")
        assert bench.app.workbench.draft.prompt == "a (red)2.5 apple"
        await pilot.press("enter", "0")
        assert bench.app.workbench.draft.prompt == "a (red)1.0 apple"
        await pilot.press(".", "4")
        assert bench.app.workbench.draft.prompt == "a (red)0.4 apple"
        await pilot.press("backspace", "backspace", "backspace", "9", "9")
        assert bench.app.workbench.draft.prompt == "a (red)10.0 apple"
        await pilot.press("enter", "enter")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].prompt == "a (red)10.0 apple"


async def test_a_weight_is_taken_away(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.3 apple, (green)0.5 pear")
        await pilot.press("alt+w", "x")
        assert bench.app.workbench.draft.prompt == "a red apple, (green)0.5 pear"
        await pilot.press("delete")
        assert bench.app.workbench.draft.prompt == "a red apple, green pear"


async def test_blend_and_negative_prompt_slide(bench: Bench) -> None:
    bench.draft(prompt=BLEND, negative_prompt="(fog)1.2", guidance="6")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+w", "down", "left", "down", "right")
        assert bench.app.workbench.draft.prompt == BLEND.replace("0.7, 0.3", "0.65, 0.35")
        await pilot.press("down", "shift+right")
        assert bench.app.workbench.draft.negative_prompt == "(fog)1.45"


async def test_guidance_and_rescale_are_there_with_the_focus(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        assert not pane(bench).display
        await pilot.press("alt+w")
        await pilot.pause()
        assert [label for label, _ in values(bench)] == ["guidance", "rescale"]
        await pilot.press("right", "shift+right", "down", "right")
        draft = bench.app.workbench.draft
        assert (draft.guidance, draft.rescale) == ("5.6", "0.05")
        await pilot.press("0", "up", "0")
        draft = bench.app.workbench.draft
        assert (draft.guidance, draft.rescale) == ("", ""), "the recipe's"
        await pilot.press("f2")
        await pilot.pause()
        assert not pane(bench).display


async def test_a_slider_without_effect_says_why(bench: Bench) -> None:
    bench.draft(prompt="(a)1.2", negative_prompt="(fog)1.2", guidance="1")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+w", "down")
        assert "no effect: guidance is 1" in str(pane(bench).border_title)
        await pilot.press("up")
        assert str(pane(bench).border_title) == "weights"


async def test_typing_moves_the_sliders(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.3 apple")
        await until(pilot, lambda: values(bench) == [("red", 1.3)])
        bench.app.workbench.form.prompt.show("a (red)0.7 apple, blue++")
        bench.app.workbench.form._show_consequences()
        assert values(bench) == [("red", 0.7), ("blue", pytest.approx(1.21))]


async def test_undo_takes_a_slide_back(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.3 apple")
        await pilot.press("alt+w", "right", "f2", "ctrl+z")
        assert bench.app.workbench.draft.prompt == "a (red)1.3 apple"
        await pilot.press("ctrl+y")
        assert bench.app.workbench.draft.prompt == "a (red)1.35 apple"


async def test_more_sliders_than_lines_are_scrolled_to(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        write(bench, " ".join(f"(word{i})1.{i}" for i in range(1, 10)))
        await pilot.press("alt+w", *["down"] * 8)
        assert "word9" in str(pane(bench).render()) and "word1" not in str(pane(bench).render())
        assert pane(bench).region.height == MOST + 1
        await pilot.press("right")
        assert "(word9)1.95" in bench.app.workbench.draft.prompt


async def test_a_click_on_a_bar_sets_it(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red)1.3 apple")
        await until(pilot, lambda: pane(bench).display)
        await pilot.click(WeightsPane, offset=(pane(bench).size.width - 2, 1))
        assert bench.app.workbench.draft.prompt == "a (red)2.0 apple"


async def test_the_ratio_of_a_mixed_model_slides_and_the_draft_follows(home: Path) -> None:
    bench = Bench(home, with_mixes(catalogue(home)))
    bench.draft(model="sum", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        workbench = bench.app.workbench

        def departs() -> str:
            return text(bench.app, "#model-departs")

        await pilot.press("alt+w")
        await until(pilot, lambda: [label for label, _ in values(bench)] == ["quick", "guidance", "rescale"])
        assert "◑ quick" in str(pane(bench).render())
        await pilot.press("right", "shift+right")
        assert workbench.draft.mix == "0.7" and values(bench)[0] == ("quick", 0.7)
        await until(pilot, lambda: "mix 0.7" in departs())
        await pilot.press(".", "8", "5")
        assert workbench.draft.mix == "0.85"
        await pilot.press("enter", "space")
        assert workbench.draft.mix == "0" and values(bench)[0] == ("quick", 0.0)
        await pilot.press("space")
        assert workbench.draft.mix == "0.85"
        await pilot.press("enter")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].mix == (0.15, 0.85)
        await pilot.press("0")
        assert workbench.draft.mix == "" and values(bench)[0] == ("quick", 0.4)
        await until(pilot, lambda: "mix" not in departs())


async def test_a_ratio_that_comes_with_a_draft_moves_the_slider_and_is_one_models(home: Path) -> None:
    bench = Bench(home, with_mixes(catalogue(home)))
    bench.draft(model="three", prompt="a cat", mix="0.2,0.3,0.5")
    async with bench.app.run_test(size=WIDE) as pilot:
        form = bench.app.workbench.form
        await until(pilot, lambda: Warm("three", mix=(0.2, 0.3, 0.5)) in bench.engine.submitted)
        await pilot.press("alt+w")
        await until(pilot, lambda: values(bench)[:2] == [("quick", 0.3), ("mini", 0.5)])
        await pilot.press("down", "left")
        assert form.draft.mix == "0.25,0.3,0.45"
        form.replace(replace(form.draft, mix="0.1,0.1,0.8"))
        await until(pilot, lambda: values(bench)[:2] == [("quick", 0.1), ("mini", 0.8)])
        form.replace(replace(form.draft, model="mini"))
        await until(pilot, lambda: [label for label, _ in values(bench)] == ["guidance", "rescale"])


async def test_another_model_has_none_of_a_ratio_and_the_way_back_finds_it(home: Path) -> None:
    bench = Bench(home, with_mixes(catalogue(home)))
    bench.draft(model="quick", prompt="a cat", steps="", mix="")
    async with bench.app.run_test(size=WIDE) as pilot:
        workbench = bench.app.workbench
        await until(pilot, lambda: workbench.stocks.models)
        workbench.form.replace(replace(workbench.form.draft, model="sum", mix="0.9"))
        await until(pilot, lambda: "mix 0.9" in text(bench.app, "#model-departs"))
        await pilot.press("f3", "up")
        assert workbench.draft.model != "sum" and workbench.draft.mix == ""
        await until(pilot, lambda: "mix" not in text(bench.app, "#model-departs"))
        await pilot.press("down")
        assert (workbench.draft.model, workbench.draft.mix) == ("sum", "0.9")


# ── keys in the editor ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("more", "less"), [("ctrl+up", "ctrl+down"), ("alt+up", "alt+down")])
async def test_keys_weigh_the_word_at_the_cursor(bench: Bench, more: str, less: str) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        editor = bench.app.workbench.form.prompt
        write(bench, "a red apple")
        editor.move_cursor((0, 4))
        await pilot.press(more, more)
        assert editor.text == "a (red)1.2 apple"
        await pilot.press(less, less, less)
        assert editor.text == "a (red)0.9 apple"
        await pilot.press(more, "ctrl+z")
        assert editor.text == "a (red)0.9 apple"


async def test_a_selection_stays_selected_and_is_weighed_as_one(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        editor = bench.app.workbench.form.prompt
        write(bench, "a red apple here")
        editor.move_cursor((0, 2))
        editor.move_cursor((0, 11), select=True)
        await pilot.press("ctrl+up", "ctrl+up")
        assert editor.text == "a (red apple)1.2 here"
        await pilot.press("ctrl+down", "ctrl+down")
        assert editor.text == "a red apple here"
        assert editor.selected_text == "red apple"


async def test_signs_are_written_for_those_who_want_them(home: Path) -> None:
    from tui.settings import Settings

    bench = Bench(home)
    bench.open(Settings(weights="signs"))
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a red apple")
        bench.app.workbench.form.prompt.move_cursor((0, 4))
        await pilot.press("ctrl+up", "ctrl+up")
        assert bench.app.workbench.draft.prompt == "a red++ apple"


async def test_where_there_is_no_word_a_line_says_so(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("ctrl+up")
        assert "put the cursor on a word" in toasts(bench.app)


@pytest.mark.parametrize(
    ("value", "bar"),
    [(0, "━━━━━━│······"), (0.5, "···━━━│······"), (1, "······│······"), (1.5, "······│━━━···"), (9, "······│━━━━━━")],
)
def test_the_bar_of_a_weight(value: float, bar: str) -> None:
    weight: dict[str, Any] = {"low": 0, "high": 2, "neutral": 1, "fine": 0.05, "coarse": 0.25}
    assert _bar(Slider("prompt", "weight", 0, "x", value, **weight)) == bar


async def test_undo_on_the_sliders_takes_back_what_was_slid_and_nothing_else(bench: Bench) -> None:
    bench.draft(prompt="", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press(*"a cat", "alt+w")
        await pilot.press("ctrl+z")
        await until(pilot, lambda: "nothing was slid here" in toasts(bench.app))
        await pilot.press("right", "right")
        await until(pilot, lambda: bench.app.workbench.draft.guidance == "4.7")
        await pilot.press("ctrl+z")
        await until(pilot, lambda: bench.app.workbench.draft.guidance == "")
        assert bench.app.workbench.draft.prompt == "a cat"
        bench.app.workbench.form.prompt.take("a (red)1.2 (cat)0.8")
        await pilot.press("up", "up", "right", "down", "left", "left")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a (red)1.25 (cat)0.7")
        await pilot.press("x")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a (red)1.25 cat")
        for then in ("a (red)1.25 (cat)0.7", "a (red)1.25 (cat)0.8", "a (red)1.2 (cat)0.8"):
            await pilot.press("ctrl+z")
            await until(pilot, lambda then=then: bench.app.workbench.draft.prompt == then)


async def test_a_pause_ends_a_number_for_good(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.digits.PAUSE", 0.05)
    bench.draft(prompt="a (cat)1.3", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+w", "up", "up", "up")
        monkeypatch.setattr("tui.digits.PAUSE", 600.0)
        await pilot.press("1", ".", "9", "escape")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a (cat)1.3")
        await pilot.press("1", ".", "9")
        monkeypatch.setattr("tui.digits.PAUSE", 0.0)
        await pilot.press("escape")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a (cat)1.9")


def test_a_label_is_the_words_without_their_syntax() -> None:
    text = "a (red (small)1.2 cat++, sits)1.5 " + "(" * 50 + "deep)1.1" + ")" * 49
    found = sliders.read(Draft(text), None, settings=False)
    assert [slider.label for slider in found] == ["red small cat , sits", "small", "cat", "deep"]


async def test_loras_that_do_nothing_are_told_so_by_their_sliders() -> None:
    found = sliders.read(Draft("withLora(a, 1) withLora(a, 2)", "withLora(b)"), None, settings=False)
    assert [(s.label, bool(s.idle)) for s in found] == [("a", True), ("a", False), ("b", True)]


async def test_without_guidance_the_negative_prompt_says_that_it_has_no_effect(bench: Bench) -> None:
    bench.draft(prompt="a cat", guidance="1")
    async with bench.app.run_test(size=WIDE) as pilot:
        negative = bench.app.workbench.form.negative
        await until(pilot, lambda: "no effect at guidance 1" in str(negative.border_title))
        assert bench.app.workbench.form.settings.field("rescale").has_class("-idle")
        bench.app.workbench.form.settings.field("guidance").input.value = "4"
        await until(pilot, lambda: "no effect" not in str(negative.border_title))
        assert not bench.app.workbench.form.settings.field("rescale").has_class("-idle")
