"""The stack of LoRAs in the workbench, and what else is chosen beside the model: embeddings, VAE, precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driving import MEDIUM, WIDE, Bench, text, toasts, until, write

from engines.requests import Lora, Warm
from tui import picking, stack
from tui.choice import ChoiceList
from tui.offers import OfferList
from tui.panes.loras import LoraPane, _bar


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


def pane(bench: Bench) -> LoraPane:
    return bench.app.workbench.query_one(LoraPane)


async def test_an_empty_stack_is_one_dim_line_that_tab_passes_over(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        assert str(pane(bench).render()) == "no LoRAs · alt+l adds one"
        assert pane(bench).region.height == 1
        await pilot.press("f3", "tab")
        assert bench.app.workbench.focused is bench.app.workbench.form.settings.field("steps").input


async def test_a_catalogue_without_loras_has_no_line_for_them(home: Path) -> None:
    bench = Bench(home)
    bench.catalogue.adapters.clear()
    async with bench.app.run_test(size=MEDIUM) as pilot:
        assert not pane(bench).display
        await pilot.press("alt+l")
        await until(pilot, lambda: "no LoRA" in toasts(bench.app))


async def test_adding_weighing_and_making(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await until(pilot, lambda: bench.app.workbench.stocks.adapters)
        await pilot.press("alt+l")
        await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))
        offers = bench.app.screen.query_one(OfferList).offers
        assert [(o.value, o.note, o.remark) for o in offers] == [
            ("pixel", "here", "words: pixel art"),
            ("glow", "394 MB to get", ""),
        ]
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.workbench.focused is pane(bench))
        await pilot.press("left", "left", "shift+left", "right")
        assert bench.app.workbench.draft.loras == ("pixel:0.7",)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].loras == (Lora("pixel", 0.7),)


async def test_arrows_stop_at_two_and_a_typed_number_may_go_further(bench: Bench) -> None:
    bench.draft(loras=("pixel:1.95",))
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+l", "right", "right", "right")
        assert bench.app.workbench.draft.loras == ("pixel:2",)
        await pilot.press("3", ".", "5")
        assert bench.app.workbench.draft.loras == ("pixel:3.5",)
        await pilot.press("enter", "-", ".", "2", "5", "backspace")
        assert bench.app.workbench.draft.loras == ("pixel:-0.2",)
        await pilot.press("down", "9", "9")
        assert bench.app.workbench.draft.loras == ("pixel:10",)


async def test_a_zero_by_itself_resets_and_with_a_point_it_is_zero(bench: Bench) -> None:
    bench.draft(loras=("pixel:0.7",))
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+l", "0")
        assert bench.app.workbench.draft.loras == ("pixel:1",)
        await pilot.press(".")
        assert bench.app.workbench.draft.loras == ("pixel:1",), "it is no number yet"
        await pilot.press("0")
        assert bench.app.workbench.draft.loras == ("pixel:0",)
        await pilot.press("5")
        assert bench.app.workbench.draft.loras == ("pixel:0.05",)


async def test_one_that_is_off_is_not_asked_for_and_keeps_its_weight_over_a_restart(bench: Bench) -> None:
    bench.draft(prompt="a cat", loras=("pixel:0.8",))
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+l", "space")
        saved = bench.home / "data" / "draft-1.json"
        await until(pilot, lambda: json.loads(saved.read_text())["loras"] == ["pixel:0.8:off"])
        await pilot.press("ctrl+g")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].loras == ()
    async with bench.open().run_test(size=WIDE) as pilot:
        assert "off" in str(pane(bench).render())
        await pilot.press("alt+l", "space")
        assert bench.app.workbench.draft.loras == ("pixel:0.8",)


async def test_removing_the_last_one_gives_the_focus_on(bench: Bench) -> None:
    bench.draft(loras=("pixel:0.8", "glow:1"))
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+l", "down", "x")
        assert bench.app.workbench.draft.loras == ("pixel:0.8",)
        await pilot.press("delete")
        await until(pilot, lambda: bench.app.workbench.focused is not pane(bench))
        assert bench.app.workbench.draft.loras == () and bench.app.workbench.focused is not None
        assert "adds one" in str(pane(bench).render())


async def test_one_that_does_not_fit_is_shown_with_its_reason_and_refused(bench: Bench) -> None:
    bench.draft(loras=("pixel:0.8", "gone:1"))
    async with bench.app.run_test(size=WIDE) as pilot:
        assert "not in the catalogue" in str(pane(bench).render())
        await pilot.press("alt+l", "down", "x", "f3", "down", "down")
        await until(pilot, lambda: bench.app.workbench.draft.model == "other")
        await until(pilot, lambda: "for fake; other is odd" in str(pane(bench).render()))
        assert bench.app.workbench.draft.loras == ("pixel:0.8",)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "LoRA pixel is for the fake family" in toasts(bench.app))
        assert bench.app.workbench.focused is pane(bench) and not bench.made


async def test_trigger_words_go_into_the_prompt(bench: Bench) -> None:
    bench.draft(prompt="a cat,", loras=("pixel:0.8", "glow:1"))
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+l", "w")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a cat, pixel art")
        await pilot.press("down", "w")
        await until(pilot, lambda: "needs no words" in toasts(bench.app))


async def test_a_long_stack_can_be_walked_at_80_by_24(bench: Bench) -> None:
    bench.draft(loras=tuple(f"gone-{i}:1" for i in range(14)))
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await pilot.press("alt+l", *["down"] * 13)
        await pilot.pause()
        assert pane(bench).chosen == stack.Item("gone-13")
        assert "gone-13" in bench.app.export_screenshot()


async def test_an_embedding_is_inserted_at_the_cursor_of_the_editor_that_has_the_focus(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press("alt+e", "enter")
        await until(pilot, lambda: bench.app.workbench.draft.prompt == "a cat night")
        await pilot.press("tab", "alt+e", "enter")
        await until(pilot, lambda: bench.app.workbench.draft.negative_prompt == "night")


@pytest.mark.parametrize(("name", "written"), [("mini-night", "mini-night"), ("bad-", "<bad->"), ("a--b", "<a--b>")])
def test_how_an_embedding_is_written(name: str, written: str) -> None:
    assert picking.word(name) == written


async def test_vae_and_precision_are_told_only_where_they_depart(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        assert not bench.app.workbench.query_one("#model-departs").display
        await pilot.press("alt+v", "down", "enter")
        await pilot.press("alt+p", *"fp8", "enter")
        await until(pilot, lambda: text(bench.app, "#model-departs") == "VAE soft-vae · precision fp8")
        await until(pilot, lambda: Warm("mini", "fp8") in bench.engine.submitted)
        await pilot.press("enter")
        await until(pilot, lambda: bench.made)
        assert (bench.made[0].vae, bench.made[0].precision) == ("soft-vae", "fp8")
        await pilot.press("alt+v", "up", "enter", "alt+p", *"auto", "enter")
        await until(pilot, lambda: not bench.app.workbench.query_one("#model-departs").display)


# ── steps and scheduler that a recipe fixes ─────────────────────────────────────────────────────────────────────────


async def test_locked_steps_say_why_at_once_and_can_be_overridden(bench: Bench) -> None:
    bench.draft(model="quick", prompt="a cat")
    async with bench.app.run_test(size=WIDE) as pilot:
        assert bench.app.workbench.form.settings.field("steps").input.placeholder == "2 · locked"
        await pilot.press("f4", "up")
        await until(pilot, lambda: "distilled for exactly 2 steps" in text(bench.app, "#note"))
        assert "alt+o overrides" in text(bench.app, "#note")
        await pilot.press("enter")
        await until(pilot, lambda: "(alt+o)" in toasts(bench.app))
        assert not bench.made
        await pilot.press("alt+o")
        await until(pilot, lambda: "override on" in text(bench.app, "#model-departs"))
        assert bench.app.workbench.form.settings.field("steps").input.placeholder == "2"
        await pilot.press("enter")
        await until(pilot, lambda: "against the recipe" in text(bench.app, "#caption"))
        assert bench.made[0].overrides == ("num_inference_steps",)
        await pilot.press("alt+o")
        await until(pilot, lambda: "distilled for exactly" in text(bench.app, "#note"))


async def test_a_half_typed_number_is_not_scolded(bench: Bench) -> None:
    bench.draft(model="quick")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("f4", "-")
        await pilot.pause()
        assert not bench.app.workbench.query_one("#note").display


# ── small things ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bar_has_zero_in_its_middle() -> None:
    assert [_bar(w) for w in (0, 1, -1, 2, 9, 0.05)] == [
        "······│······",
        "······│━━━···",
        "···━━━│······",
        "······│━━━━━━",
        "······│━━━━━━",
        "······│━·····",
    ]


def test_a_weight_that_is_no_number_is_kept_as_it_was_written() -> None:
    assert [item.text for item in stack.read(("a:x", "b", "c:0,5:off"))] == ["a:x", "b:1", "c:0.5:off"]
