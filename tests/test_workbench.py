"""The workbench, driven as its users drive it, against the fake engine."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from driving import MEDIUM, NARROW, WIDE, Bench, text, toasts, until, write
from fake_engine import NOW, FakeEngine, FakeStore
from textual import events
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Static

from engines import catalogue as catalogues
from engines import folders
from engines.events import Gauged, Loading, Noted, Queued, Vitals
from engines.folders import Folders
from engines.local import LocalEngine
from engines.options import Options
from engines.requests import Generate, Job, Picture, Warm
from engines.store import Store
from tui.app import SafelightApp
from tui.choice import FilterInput
from tui.draft import Draft
from tui.form import Form
from tui.offers import OfferList
from tui.panes.header import Header
from tui.panes.help import HelpScreen
from tui.panes.prompt import MAX_PASTE, PromptEditor
from tui.panes.weights import WeightsPane
from tui.settings import Settings
from tui.tinting import marks, tints


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


@pytest.fixture
def held(home: Path) -> Bench:
    return Bench(home, held=True)


# ── making ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_bad_field_is_marked_at_once(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        settings = bench.app.workbench.form.settings
        for name, value in (("steps", "-1"), ("guidance", "abc"), ("size", "100x100"), ("count", "2")):
            settings.field(name).input.value = value
        await pilot.press("ctrl+g")
        await until(pilot, lambda: settings.field("steps").has_class("-bad"))
        marked = [name for name in ("steps", "guidance", "size", "count") if settings.field(name).has_class("-bad")]
        assert marked == ["steps", "guidance", "size"]
        assert bench.made == []


@pytest.mark.parametrize("key", ["enter", "ctrl+g"])
async def test_make(bench: Bench, key: str) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press(key)
        await until(pilot, lambda: "seed" in text(bench.app, "#caption"))
        (request,) = bench.made
        assert (request.prompt, request.model, request.num_inference_steps) == ("a cat", "mini", 4)
        assert request.score == "fake-clip" and request.negative_prompt is None
        assert f"seed {request.seed}" in text(bench.app, "#caption")
        assert "score" in text(bench.app, "#caption") and "picture-1.png" in text(bench.app, "#caption")
        assert not list(bench.app.workbench._jobs)
        assert bench.app.workbench.history.chosen is not None


async def test_progress_and_preview(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        write(held, "a cat")
        await pilot.press("enter")
        held.engine.advance(2)
        await until(pilot, lambda: "2/4" in text(held.app, "#caption"))
        assert "s left" in text(held.app, "#caption") and "a cat" in text(held.app, "#caption")
        view = held.app.workbench.picture.view
        await until(pilot, lambda: view._strips)
        assert "step 2/4" in str(held.app.workbench.query_one(Header).render())
        held.engine.advance(3)
        await until(pilot, lambda: "seed" in text(held.app, "#caption"))


async def test_the_model_is_warmed_after_the_first_paint_and_when_another_is_picked(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.engine.submitted == [Warm("mini")])
        await until(pilot, lambda: "fp32" in str(bench.app.workbench.query_one(Header).render()))
        await pilot.press("f3", "down")
        await until(pilot, lambda: bench.engine.submitted[-1] == Warm("quick"))
        assert bench.app.workbench.form.settings.field("steps").input.placeholder == "2 · locked"
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("down", "down")
        assert bench.app.workbench.draft.model == "mini"  # those that are not on this machine are passed over


async def test_count_and_a_seed(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("f4", "tab", "tab", "tab", "tab", *"3", "tab", "tab", "tab", *"7", "enter")
        await until(pilot, lambda: len(bench.store.made) == 3)
        assert [r.seed for r in bench.made] == [7, 8, 9]


async def test_again_with_another_seed_leaves_the_form_as_it_is(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        bench.app.workbench.form.settings.set_seed("7")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].seed != 7
        assert bench.app.workbench.draft.seed == "7"


async def test_new_line(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("a", "ctrl+j", "b", "alt+enter", "c")
        assert bench.app.workbench.draft.prompt == "a\nb\nc"
        assert not bench.made


# ── ending ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_escape_cancels_the_running_job(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        write(held, "one")
        await pilot.press("enter", *" two", "enter")
        await until(pilot, lambda: len(held.app.workbench._jobs) == 2 and held.app.workbench._jobs.running)
        await pilot.press("escape")
        await until(pilot, lambda: len(held.app.workbench._jobs) == 1)
        held.engine.advance(5)
        await until(pilot, lambda: held.store.made)
        assert [p.request.prompt for p in held.store.made] == ["one two"]


async def test_escape_closes_what_is_open_first(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        write(held, "one")
        await pilot.press("enter")
        await until(pilot, lambda: held.app.workbench._jobs.running)
        for key in ("f3", "f1"):
            await pilot.press(key, "enter" if key == "f3" else "f1", "escape")
            await pilot.pause()
            assert held.app.screen is held.app.workbench
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert held.app.workbench._jobs.running is not None


async def test_x_cancels_the_job_under_the_cursor(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        write(held, "one")
        await pilot.press("enter", *" two", "enter", "f6")
        await until(pilot, lambda: len(held.app.workbench._jobs) == 2)
        await pilot.press("down", "x")
        await until(pilot, lambda: held.engine._cancelled == {3})


async def test_cancel_all(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        write(held, "one")
        await pilot.press("enter", "enter", "enter")
        await until(pilot, lambda: len(held.app.workbench._jobs) == 3)
        await pilot.press("alt+x")
        await until(pilot, lambda: not len(held.app.workbench._jobs))
        assert not held.store.made


async def test_failed_job_stays_with_its_hint_until_it_is_dismissed(home: Path) -> None:
    bench = Bench(home, fail="out of memory: 8 GB are too few")
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press("enter")
        await until(pilot, lambda: "failed" in text(bench.app, "#caption"))
        for told in ("out of memory", "make the picture smaller"):
            assert bench.app.export_screenshot().replace("&#160;", " ").count(told) == 2  # in picture and queue
        assert "Traceback" not in bench.app.export_screenshot()
        (failed,) = bench.app.workbench._jobs
        assert (failed.message, failed.hint) == ("out of memory: 8 GB are too few", "make the picture smaller")
        await pilot.press("f6", "delete")
        await until(pilot, lambda: not len(bench.app.workbench._jobs))


# ── the form ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_bad_field_is_marked_and_nothing_is_lost(bench: Bench) -> None:
    async with bench.app.run_test(size=NARROW) as pilot:
        write(bench, "a cat")
        await pilot.press("f4", "tab", "tab")
        bench.app.workbench.form.settings.field("size").input.value = "100x3"
        await pilot.press("enter")
        field = bench.app.workbench.form.settings.field("size")
        await until(pilot, lambda: field.has_class("-bad"))
        assert field.input.has_focus and field.input.value == "100x3"
        assert "!" in str(field.query_one("Label", Static).render())
        assert "multiple of 8" in toasts(bench.app) and not bench.made
        await pilot.press("ctrl+u", *"96x128", "enter")
        await until(pilot, lambda: bench.made)
        assert not field.has_class("-bad") and bench.made[0].width == 96


async def test_arrows_change_values(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("f4", "up", "up", "tab", "down", "tab", "down", "down", "tab", "up")
        draft = bench.app.workbench.draft
        assert (draft.steps, draft.guidance, draft.size, draft.rescale) == ("6", "4", "112x144", "0.05")


async def test_a_long_seed_is_stepped_exactly(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        settings = bench.app.workbench.form.settings
        settings.set_seed("9223372036854775806")
        settings.field("seed").input.focus()
        await pilot.press("up", "up")
        assert bench.app.workbench.draft.seed == "9223372036854775807"


async def test_lock_and_unlock_the_seed(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("ctrl+l")
        assert "no picture yet" in toasts(bench.app)
        write(bench, "a cat")
        await pilot.press("enter")
        await until(pilot, lambda: "seed" in text(bench.app, "#caption"))
        await pilot.press("ctrl+l")
        assert bench.app.workbench.draft.seed == str(bench.made[0].seed)
        await until(pilot, lambda: text(bench.app, "#lock") == "locked")
        await pilot.press("ctrl+l")
        assert bench.app.workbench.draft.seed == ""


async def test_choosing_from_the_list(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await pilot.press("f3", "enter")
        await pilot.pause()
        offers = bench.app.screen.query_one(OfferList).offers
        assert [o.value for o in offers] == ["mini", "quick", "other", "far", "away"]
        assert offers[3].note == "6.9 GB to get" and offers[4].reason == "no: nowhere missing"
        await pilot.press("down", "enter")
        await pilot.pause()
        assert bench.app.workbench.draft.model == "quick"
        assert "guidance 0" in text(bench.app, "#model-recipe")


async def test_what_has_no_effect_is_told(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("f3", "down", "f2", "tab", *"fog")
        await until(pilot, lambda: "inactive" in text(bench.app, "#note"))


async def test_weights_are_tinted_and_listed(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        weights = bench.app.workbench.query_one(WeightsPane)
        assert not weights.display
        write(bench, "a (red)1.4 cat")
        await until(pilot, lambda: weights.display)
        assert "red" in str(weights.render()) and "1.40" in str(weights.render())
        editor = bench.app.workbench.form.prompt
        assert editor._highlights[0] == [(3, 6, "prompt--stronger")]


async def test_a_prompts_length_is_told_and_what_is_encoded_apart_is_marked(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        editor = bench.app.workbench.form.prompt
        write(bench, "a red apple")
        await until(pilot, lambda: str(editor.border_title) == "prompt · 3 of 75 tokens")
        editor.show("a red apple, " * 30)
        bench.app.workbench.form._show_consequences()
        await until(pilot, lambda: str(editor.border_title) == "prompt · 120 tokens, 2 chunks")
        (border,) = editor._borders
        assert editor.text[border:].startswith("a red") and 70 < len(editor.text[:border].split()) * 4 / 3 <= 76
        assert any(name == "prompt--later" for line in editor._highlights.values() for *_, name in line)
        editor.show("")
        bench.app.workbench.form._show_consequences()
        await until(pilot, lambda: str(editor.border_title) == "prompt" and not editor._borders)


def test_what_can_not_be_read_is_underlined() -> None:
    assert marks("a (red apple", ()) == [(0, 2, 3, "prompt--problem")]
    assert marks("fine", ()) == []
    later, first, second = (1, 0, 4, "prompt--later"), (1, 0, 3, "prompt--border"), (1, 4, 9, "prompt--border")
    assert marks("one\ntwo three", (4, 8)) == [later, first, second]


def test_tints_count_bytes_by_line() -> None:
    assert tints("ä (ö\nü)1.2 x") == [(0, 4, 6, "prompt--strong"), (1, 0, 2, "prompt--strong")]
    assert tints("plain") == []


@pytest.mark.parametrize("key", ["f2", "f4", "f7", "alt+w", "alt+i", "alt+k", "alt+c", "ctrl+g", "escape", "a"])
async def test_a_key_that_comes_before_the_panes_breaks_nothing(bench: Bench, key: str) -> None:
    compose = Form.compose

    def slowly(self: Form) -> Iterator[Widget]:
        bench.app.post_message(events.Key(key, key if len(key) == 1 else None))
        time.sleep(0.05)
        yield from compose(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Form, "compose", slowly)
        async with bench.app.run_test(size=WIDE) as pilot:
            await until(pilot, lambda: bench.app.workbench.form.prompt.has_focus)
            await pilot.press("f2", "x")
            await until(pilot, lambda: "x" in bench.app.workbench.draft.prompt)


async def test_keys_of_the_editor_keep_their_order(bench: Bench) -> None:
    bench.draft(prompt="apple", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+w")
        for key in ("f2", "home", "a", "space", "ctrl+right", "b", "backspace", "c", "alt+s"):
            bench.app.post_message(events.Key(key, {"space": " "}.get(key, key if len(key) == 1 else None)))
        await until(pilot, lambda: len(bench.made) == 5)
        assert {request.prompt for request in bench.made} == {"a applec"}


async def test_the_cursor_stays_in_sight_when_a_message_takes_room(bench: Bench) -> None:
    async with bench.app.run_test(size=(80, 24)) as pilot:
        editor = bench.app.workbench.form.prompt
        editor.insert("\n".join(f"line {i}" for i in range(12)))
        await pilot.pause()
        editor.insert(" (")
        await until(pilot, lambda: "no bracket closes" in text(bench.app, "#note"))
        await until(pilot, lambda: editor.scroll_y + editor.content_size.height > editor.cursor_location[0])


async def test_what_is_wrong_is_told_under_the_prompt_while_it_is_typed(bench: Bench) -> None:
    (cards := folders.make(folders.find().wildcards)).joinpath("animal.txt").write_text("cat\n")
    bench.draft(seed="7")
    async with bench.app.run_test(size=(80, 24)) as pilot:
        form = bench.app.workbench.form
        for typed, told in (
            ("a (cat)nan", "this is no weight"),
            ("+++", "no word here to weigh"),
            ("withLora(nosuch) a", "no LoRA 'nosuch'"),
            ("embedding:nope", "is called 'nope'"),
            ("{a|b", "no brace closes"),
            ("a __animal__", "prompt, variants: a cat"),
            ("a __nosuch__", "there is no wildcards/nosuch.txt"),
        ):
            form.prompt.take(typed)
            await until(pilot, lambda told=told: told in text(bench.app, "#note"))
            note = bench.app.workbench.query_one("#note")
            assert note.region.y == form.prompt.region.bottom and note.region.height > 0
        assert cards.is_dir()


async def test_an_empty_prompt_is_made_and_told(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: bench.made)
        assert "the prompt is empty" in toasts(bench.app)


async def test_a_new_draft_while_live_keeps_the_seed_that_live_draws(bench: Bench) -> None:
    bench.draft(prompt="a cat", seed="7")
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+i", "alt+n")
        await until(pilot, lambda: not bench.app.workbench.draft.prompt)
        assert bench.app.workbench.draft.seed == "7"


async def test_a_paste_is_capped_cleaned_and_one_step(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press(*"ab")
        bench.app.post_message(events.Paste("\x1b]0;title\x07" + "ä" * 30_000))
        await until(pilot, lambda: len(bench.app.workbench.draft.prompt) > 2)
        prompt = bench.app.workbench.draft.prompt
        assert len(prompt) == MAX_PASTE + 2 and "\x1b" not in prompt and "\x07" not in prompt
        assert "only the first 20,000 characters of 30,0" in toasts(bench.app)
        assert "2 control characters of what was pasted left out" in toasts(bench.app)
        await pilot.press("ctrl+z")
        assert bench.app.workbench.draft.prompt == "ab"


async def test_markup_in_a_prompt_is_text(bench: Bench) -> None:
    nasty = "[/x] [@click=app.quit]go[/] [bold"
    async with bench.app.run_test(size=WIDE) as pilot:
        bench.app.workbench.form.prompt.show(nasty)
        await pilot.press("enter")
        await until(pilot, lambda: "seed" in text(bench.app, "#caption"))
        assert bench.made[0].prompt == nasty
        bench.engine.tell(Noted("warning", "[/x] \x1b]0;no\x07"))
        await until(pilot, lambda: "[/x]" in toasts(bench.app))
        picture = bench.app.export_screenshot().replace("&#160;", " ")
        assert "[@click=app.quit]go[/]" in picture and "\x1b" not in picture


# ── the draft ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_draft_is_there_again(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "half a thou")
        await pilot.press("f4", *"12")
        saved = bench.home / "data" / "draft-1.json"
        await until(pilot, saved.exists)
        await until(pilot, lambda: json.loads(saved.read_text())["steps"] == "12")
    async with bench.open().run_test(size=WIDE):
        assert bench.app.workbench.draft.prompt == "half a thou"
        assert bench.app.workbench.draft.steps == "12"


async def test_settings_decide_what_an_empty_draft_is(bench: Bench) -> None:
    settings = Settings(
        model="quick", score=False, precision="fp32", theme="no such", keys=(("make", "f10"), ("x", "y"))
    )
    async with bench.open(settings, ("settings.toml: line 3",)).run_test(size=WIDE) as pilot:
        assert bench.app.workbench.draft == Draft(model="quick", score="no", precision="fp32")
        await until(pilot, lambda: "no such" in toasts(bench.app))
        assert "line 3" in toasts(bench.app) and "there is no action 'x'" in toasts(bench.app)
        await pilot.press("f10")
        await until(pilot, lambda: bench.made)


# ── the history ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_taking_settings_back(bench: Bench) -> None:
    bench.fill(5)
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "mine")
        await pilot.press("f7")
        await until(pilot, lambda: bench.app.workbench.history.chosen)
        await pilot.press("down")
        await until(pilot, lambda: "seed 3" in text(bench.app, "#caption"))
        await pilot.press("enter")
        draft = bench.app.workbench.draft
        assert (draft.prompt, draft.negative_prompt, draft.seed, draft.steps) == ("picture number 3", "fog", "3", "4")
        assert "settings taken" in toasts(bench.app)
        await pilot.press("alt+z")
        assert bench.app.workbench.draft.prompt == "mine"
        await pilot.press("s")
        assert replace(bench.app.workbench.draft, seed="") == Draft(prompt="mine", model="mini", score="yes")
        await pilot.press("down", "p")
        assert bench.app.workbench.draft.prompt == "picture number 2"
        await pilot.press("y")
        assert bench.app.clipboard.endswith("picture-3.png")


async def test_a_variation_is_taken_back_shown_and_let_go_with_the_seed(bench: Bench) -> None:
    varied = Generate("a cat", "mini", 7, 128, 128, 4, 4.5, variation_seed=9, variation_strength=0.25)
    bench.store.add(replace(varied, variation_seed=None, variation_strength=0.0))
    bench.store.add(varied)
    async with bench.app.run_test(size=WIDE) as pilot:
        form = bench.app.workbench.form
        await pilot.press("f7")
        await until(pilot, lambda: bench.app.workbench.history.chosen)
        await pilot.press("down", "up")
        await until(pilot, lambda: "variation 0.25" in text(bench.app, "#caption"))
        await pilot.press("enter")
        await until(pilot, lambda: "variation 0.25 to seed 9" in text(bench.app, "#model-departs"))
        assert (form.draft.seed, form.draft.variation_seed, form.draft.variation_strength) == ("7", "9", "0.25")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: bench.made)
        assert (bench.made[0].variation_seed, bench.made[0].variation_strength) == (9, 0.25)
        form.settings.set_seed("")
        await until(pilot, lambda: "variation" not in text(bench.app, "#model-departs"))
        assert (form.draft.variation_seed, form.draft.variation_strength) == ("", "")
        form.replace(replace(form.draft, seed="3", variation_seed="1", variation_strength="0.5"))
        await pilot.press("f7", "end")
        await until(pilot, lambda: (shown := bench.app.workbench.history.chosen) and not shown.request.variation_seed)
        await pilot.press("s")  # another picture's seed alone is another noise
        assert (form.draft.seed, form.draft.variation_seed, form.draft.variation_strength) == ("7", "", "")


@pytest.mark.parametrize("setting", ["zeros", "empty"])
async def test_a_blank_negative_is_what_the_setting_says_or_the_picture_was_made_with(
    bench: Bench, setting: str
) -> None:
    other = "empty" if setting == "zeros" else "zeros"
    means = {"zeros": None, "empty": ""}
    bench.store.add(Generate("a dog", "mini", 7, 128, 128, 4, 4.5, negative_prompt=means[other]))
    bench.draft(prompt="a cat")
    app = bench.open(Settings(blank_negative=setting))
    async with app.run_test(size=WIDE) as pilot:
        form = app.workbench.form
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(bench.made) == 1)
        assert bench.made[0].negative_prompt == means[setting]
        assert "blank" not in text(app, "#model-departs")
        await form.save()
        assert Draft.from_json((bench.home / "data" / "draft-1.json").read_text()).blank_negative == ""
        await pilot.press("f7", "end")
        await until(pilot, lambda: (shown := app.workbench.history.chosen) and shown.request.prompt == "a dog")
        await pilot.press("enter")
        told = "blank negative encoded" if other == "empty" else "blank negative zeros"
        await until(pilot, lambda: told in text(app, "#model-departs"))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(bench.made) == 2)
        assert (bench.made[1].prompt, bench.made[1].negative_prompt) == ("a dog", means[other])
        form.negative.insert("fog")
        await until(pilot, lambda: "blank" not in text(app, "#model-departs"))
        form.negative.show("")
        await pilot.pause()
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(bench.made) == 3)
        assert bench.made[2].negative_prompt == means[setting]


async def test_new_pictures_do_not_move_a_cursor_that_looks_around(bench: Bench) -> None:
    bench.fill(30)
    async with bench.app.run_test(size=WIDE) as pilot:
        history = bench.app.workbench.history
        await pilot.press("f7")
        await until(pilot, lambda: history.chosen)
        history.action_move(20)
        await until(pilot, lambda: "seed 9" in text(bench.app, "#caption"))
        top = history.scroll_y
        bench.engine.submit(Generate("new", "mini", 77, 128, 128, 4, 4.5))
        await until(pilot, lambda: history._pages.total == 31)
        assert history.chosen is not None and history.chosen.request.seed == 9
        assert history.scroll_y == top + 3
        assert "seed 9" in text(bench.app, "#caption")


async def test_a_hundred_thousand_pictures(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fill(1)
    (first,) = bench.store.made

    def pictures(before: int | None = None, limit: int = 50, search: str = "") -> list[Picture]:
        top = (before or 100_001) - 1
        return [replace(first, id=id) for id in range(top, max(0, top - limit), -1)]

    monkeypatch.setattr(bench.store, "count", lambda: 100_000)
    monkeypatch.setattr(bench.store, "pictures", pictures)
    monkeypatch.setattr(bench.store, "thumbnail", lambda id: None)
    async with bench.app.run_test(size=WIDE) as pilot:
        history = bench.app.workbench.history
        await pilot.press("f7")
        await until(pilot, lambda: history.chosen)
        await pilot.press("end")
        await until(pilot, lambda: history.chosen and history.chosen.id == 1)
        assert len(history._pages._kept) <= 600
        await pilot.press("home")
        await until(pilot, lambda: history.chosen and history.chosen.id == 100_000)


async def test_pictures_that_others_made_are_seen(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        bench.fill(1)
        await pilot.press("f7")
        await until(pilot, lambda: bench.app.workbench.history.chosen)


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pages_of_a_narrow_screen(bench: Bench) -> None:
    async with bench.app.run_test(size=NARROW) as pilot:
        seen = []
        for _ in range(4):
            shown = [name for name in ("form", "middle", "side") if bench.app.workbench.query_one(f"#{name}").display]
            seen += shown
            assert bench.app.workbench.focused is not None
            await pilot.press("ctrl+n")
            await pilot.pause()
        assert seen == ["form", "middle", "side", "form"]


async def test_two_columns_keep_the_picture(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        picture = bench.app.workbench.picture
        left = picture.region.x
        await pilot.press("ctrl+n")
        await until(pilot, lambda: bench.app.workbench.focused is bench.app.workbench.history)
        assert picture.region.x == left and picture.display
        await pilot.click("#tabs", offset=(2, 0))
        await until(pilot, lambda: bench.app.workbench.focused is bench.app.workbench.form.prompt)


async def test_making_on_a_narrow_screen_shows_the_picture(bench: Bench) -> None:
    async with bench.app.run_test(size=NARROW) as pilot:
        write(bench, "a cat")
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.workbench.focused is bench.app.workbench.picture)
        await pilot.press("f2", *"!")
        assert bench.app.workbench.draft.prompt == "a cat!"


async def test_the_focus_survives_every_size(bench: Bench) -> None:
    bench.fill(3)
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("f7")
        await until(pilot, lambda: bench.app.workbench.focused is bench.app.workbench.history)
        for size in ((80, 24), (50, 20), (10, 3), (1, 1), (500, 200), (39, 30), (200, 9), (60, 10), (160, 45)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            small = size[0] < 40 or size[1] < 10
            assert bench.app.workbench.query_one("#too-small").display is small
            assert small or bench.app.workbench.focused is not None
        assert bench.app.workbench.focused is bench.app.workbench.history


async def test_every_field_can_be_reached_at_80_by_24(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        write(bench, "(a)1.2 (b)1.3 (c)1.4")
        for field in bench.app.workbench.form.query(Input):
            field.focus()
            await pilot.pause()
            assert field.region.height == 1 and bench.app.workbench.form.region.contains_region(field.region)


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_header_says_what_the_engine_does(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        header = held.app.workbench.query_one(Header)
        await until(pilot, lambda: "ready" in str(header.render()))
        held.engine.tell(Queued(Job(99, Warm("mini"), None, NOW)))
        held.engine.tell(Loading(99, "text encoders", 0.4))
        await until(pilot, lambda: "warming up: loading text encoders 40%" in str(header.render()))
        held.engine.tell(Vitals("cuda:0 NVIDIA H100", "fp16", 10**9, 80 * 10**9, ()))
        await until(pilot, lambda: "cuda:0 NVIDIA H100 fp16 · 1.0 GB of 80 GB" in str(header.render()))
        held.engine.tell(Gauged(61, 95, 310, 12 * 10**9, 80 * 10**9))
        await until(pilot, lambda: "fp16 · 61 °C · 95 % · 12 GB of 80 GB" in str(header.render()))


async def test_what_is_measured_draws_nothing_but_the_header(held: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        bench = held.app.workbench
        header = bench.query_one(Header)
        await until(pilot, lambda: "ready" in str(header.render()))
        drawn: list[str] = []
        for name in ("_show_queue", "_show_state"):
            monkeypatch.setattr(bench, name, lambda name=name: drawn.append(name))
        held.engine.tell(Gauged(temperature=61))
        await until(pilot, lambda: bench.query_one(Header)._gauge == Gauged(temperature=61))
        await pilot.pause()
        assert drawn == []


async def test_help_and_palette_and_themes(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("f7", "question_mark")
        await pilot.pause()
        assert isinstance(bench.app.screen, HelpScreen)
        await pilot.press("question_mark")
        await pilot.pause()
        before = bench.app.theme
        await pilot.press("ctrl+t")
        assert bench.app.theme != before
        commands = {command.title for command in bench.app.get_system_commands(bench.app.screen)}
        assert "cancel all · alt+x" in commands and "theme paper" in commands
        await pilot.press("f2", *"??")
        assert bench.app.workbench.draft.prompt == "??"


async def test_the_row_of_a_picture_whose_file_was_deleted_says_so(bench: Bench) -> None:
    bench.fill(3)
    files = [Path(picture.path) for picture in bench.store.made]
    files[1].unlink()
    async with bench.app.run_test(size=WIDE) as pilot:
        history = bench.app.workbench.history
        rows = lambda: [history.render_line(3 * row + 1).text for row in range(3)]  # noqa: E731
        await until(pilot, lambda: "✗ file gone" in rows()[1])
        assert not any("gone" in rows()[at] for at in (0, 2))
        files[2].rename(files[1])  # one is back, another one gone
        await pilot.press("f7", "down")
        await until(pilot, lambda: "✗ file gone" in rows()[0] and "gone" not in rows()[1])


async def test_a_notice_is_shown_once_where_a_dialog_is_open(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE, notifications=True) as pilot:
        shown = lambda: [len(screen.query("Toast")) for screen in bench.app.screen_stack]  # noqa: E731
        bench.app.notify("told once", timeout=60)
        await until(pilot, lambda: shown() == [1])
        await pilot.press("f1")
        await until(pilot, lambda: shown() == [0, 1])
        await pilot.press("escape")
        await until(pilot, lambda: shown() == [1])


async def test_on_a_small_screen_the_focus_is_in_sight_whatever_page_it_comes_from(bench: Bench) -> None:
    async with bench.app.run_test(size=(40, 10)) as pilot:
        form = bench.app.workbench.form
        for way in (("f2", "f7", "f3"), ("f4", "f7", "f2"), ("f2", "ctrl+n", "ctrl+n", "f4"), ("f4", "f7", "f3")):
            await pilot.press(*way)
            await pilot.pause()
            focus = bench.app.focused
            assert focus is not None and form.region.contains_region(focus.region), (way, focus)


async def test_typing_finds_in_the_help_and_escape_clears_before_it_closes(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(bench.app.screen, HelpScreen) and bench.app.focused is not None)
        help = bench.app.screen
        everything = str(help.query_one(Static).render())
        await pilot.press("end", "pagedown")
        assert help.query_one(VerticalScroll).scroll_y > 0
        await pilot.press(*"/queue go")  # q is a letter of it
        found = str(help.query_one(Static).render()).splitlines()
        assert found == ["On the workbench", " F6                Go to the queue."]
        assert help.query_one(VerticalScroll).scroll_y == 0
        await pilot.press("escape", *"zzz")
        assert "no key has 'zzz'" in str(help.query_one(Static).render())
        await pilot.press("question_mark")
        assert help.query_one(FilterInput).value == "zzz?" and bench.app.screen is help
        await pilot.press("escape")
        assert bench.app.screen is help and str(help.query_one(Static).render()) == everything
        await pilot.press("escape")
        assert bench.app.screen is bench.app.workbench


async def test_quit_keeps_the_draft_and_says_what_is_left(held: Bench) -> None:
    async with held.app.run_test(size=WIDE) as pilot:
        write(held, "a cat")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: len(held.app.workbench._jobs) == 2)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not held.app.is_running)
    assert held.engine.closed
    assert "2 pictures still to make" in held.app.farewell
    assert json.loads((held.home / "data" / "draft-1.json").read_text())["prompt"] == "a cat"


async def test_a_signal_ends_the_app_in_order(held: Bench) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with held.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: held.app.workbench.stocks.models and held.engine.submitted)
        write(held, "a cat")
        signal.raise_signal(signal.SIGTERM)
        await until(pilot, lambda: not held.app.is_running)
    assert held.engine.closed
    assert json.loads((held.home / "data" / "draft-1.json").read_text())["prompt"] == "a cat"
    assert signal.getsignal(signal.SIGTERM) == before


async def test_an_unwritable_data_folder_is_told_and_nothing_else_suffers(bench: Bench) -> None:
    (bench.home / "data").write_text("in the way")
    async with bench.open().run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press("enter")
        await until(pilot, lambda: bench.store.made)
        assert "can't be made" in toasts(bench.app)


async def test_the_editor_has_no_blinking_cursor(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE):
        for editor in bench.app.workbench.query(PromptEditor):
            assert not editor.cursor_blink
        for field in bench.app.workbench.query(Input):
            assert not field.cursor_blink


async def test_with_the_real_engine(home: Path) -> None:
    """From an empty folder to a picture with a score, which is there again at the next start."""
    folders = Folders(home / "config", home / "data", home / "cache", home / "pictures")
    known = catalogues.load()
    store = Store(folders.store)
    engine = LocalEngine(known, folders, Options(folders.pictures, "cpu", 1), store, "workbench")
    app = SafelightApp(engine, store, known, folders, Settings(model="mini-lightning-4step-unet"), sweeps=store)
    async with app.run_test(size=MEDIUM) as pilot:
        app.workbench.form.prompt.insert("a red apple on a blue background")
        app.workbench.form.settings.set_seed("7")
        await pilot.press("enter")
        await until(pilot, lambda: "score" in text(app, "#caption"), tries=6000)
        await until(pilot, lambda: app.workbench.history.chosen)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running)
    (picture,) = store.pictures()
    assert picture.request.seed == 7 and Path(picture.path).is_file() and not app.farewell
    store.close()
    store = Store(folders.store)
    app = SafelightApp(FakeEngine(FakeStore(home)), store, known, folders, Settings(), sweeps=store)
    async with app.run_test(size=MEDIUM) as pilot:
        await pilot.press("f7")
        await until(pilot, lambda: app.workbench.history.chosen)
        assert app.workbench.history.chosen == picture
        await until(pilot, lambda: app.workbench.history._thumbnails)
    store.close()


def burst(bench: Bench, *keys: str) -> None:
    """Keys that a slow line delivers together."""
    for key in keys:
        bench.app.post_message(events.Key(key, {"space": " "}.get(key, key if len(key) == 1 else None)))


async def test_enter_takes_what_was_typed_before_it_and_nothing_of_what_comes_after(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        burst(bench, *"one", "enter", "alt+n", *"two", "enter", "alt+n", *"three", "ctrl+g", *"!", "ctrl+r")
        await until(pilot, lambda: len(bench.made) == 4)
        assert [request.prompt for request in bench.made] == ["one", "two", "three", "three!"]


async def test_keys_go_to_where_those_before_them_went(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        burst(bench, *"cat", "tab", *"dog", "shift+tab", *"s", "f4", "9")
        draft = bench.app.workbench.form
        await until(pilot, lambda: draft.draft.steps == "9")
        assert (draft.draft.prompt, draft.draft.negative_prompt) == ("cats", "dog")
        bench.app.post_message(events.Key("f2", None))
        bench.app.post_message(events.Paste(" pasted"))
        burst(bench, "!")
        await until(pilot, lambda: draft.draft.prompt == "cats pasted!")
