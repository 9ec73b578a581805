"""The library of words, and prompts of earlier pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from driving import WIDE, Bench, text, toasts, until, write
from textual import events

from engines.prompt import parse
from tui import snippets
from tui.choice import ChoiceList


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


def test_every_shipped_snippet_can_be_read_as_a_prompt(tmp_path: Path) -> None:
    known, problems = snippets.load(tmp_path / "none.toml")
    assert problems == () and {one.kind for one in known} >= {"whole", "style", "light", "quality", "negative"}
    assert all(not parse(one.text).problems for one in known)


def test_the_users_own_add_and_replace_and_a_bad_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "snippets.toml"
    path.write_text(
        '[[snippet]]\nname = "sharp"\nkind = "quality"\ntext = "mine"\n'
        '[[snippet]]\nname = "new"\nkind = "style"\ntext = "an \x1b[31metching"\n'.replace("\x1b", "\\u001b")
        + '[[snippet]]\nname = "odd"\nkind = "magic"\ntext = "x"\n[[snippet]]\nkind = "style"\n'
        + f'[[snippet]]\nname = "long"\nkind = "style"\ntext = "{"x" * 3000}"\n'
    )
    known, problems = snippets.load(path)
    texts = {one.name: one.text for one in known}
    assert texts["sharp"] == "mine" and "\x1b" not in texts["new"] and "oil painting" in texts
    assert len(problems) == 3 and all("\n" not in line for line in problems)


@pytest.mark.parametrize("contents", [b"\xff\xfe", b"[[snippet", b'snippet = "x"'], ids=["noise", "cut", "no list"])
def test_a_damaged_library_leaves_the_shipped_one(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "snippets.toml"
    path.write_bytes(contents)
    known, problems = snippets.load(path)
    assert len(known) > 10 and len(problems) == 1


def test_a_library_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "snippets.toml")
    known, problems = snippets.load(tmp_path / "snippets.toml")
    assert known and "is no file" in problems[0]


async def choose(bench: Bench, pilot: object, words: str) -> None:
    await until(pilot, lambda: isinstance(bench.app.screen, ChoiceList))  # type: ignore[arg-type]
    await pilot.press(*words, "enter")  # type: ignore[attr-defined]
    await until(pilot, lambda: not isinstance(bench.app.screen, ChoiceList))  # type: ignore[arg-type]


async def test_words_go_to_the_cursor_and_negative_ones_into_their_field(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat, on a mat")
        bench.app.workbench.form.prompt.move_cursor((0, 5))
        await pilot.press("alt+k")
        await choose(bench, pilot, "golden")
        assert bench.app.workbench.draft.prompt == "a cat, golden hour, low sun, long shadows, on a mat"
        await pilot.press("alt+k")
        await choose(bench, pilot, "logo")
        assert bench.app.workbench.draft.negative_prompt == "text, letters, watermark, signature, logo"
        assert bench.app.workbench.focused is bench.app.workbench.form.negative
        await pilot.press("alt+k")
        await choose(bench, pilot, "anatomy")
        assert "logo, deformed hands" in bench.app.workbench.draft.negative_prompt


async def test_a_whole_one_takes_the_prompts_place_and_undo_brings_it_back(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press("alt+k")
        await choose(bench, pilot, "blended")
        assert bench.app.workbench.draft.prompt.endswith(".blend(0.6, 0.4)")
        await pilot.press("ctrl+z")
        assert bench.app.workbench.draft.prompt == "a cat"


async def test_a_prompt_of_an_earlier_picture_comes_back(bench: Bench) -> None:
    bench.fill(5)
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        await pilot.press("alt+h")
        await choose(bench, pilot, "number 3")
        assert bench.app.workbench.draft.prompt == "picture number 3"
        await pilot.press("ctrl+z")
        assert bench.app.workbench.draft.prompt == "a cat"


async def test_a_prompt_in_a1111s_dialect_is_told_and_translated_at_a_key(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a (red:1.3) apple, [fog] <lora:pixel:0.5>")
        await until(pilot, lambda: "looks like A1111" in text(bench.app, "#note"))
        assert "alt+t" in text(bench.app, "#note") and "--syntax" not in text(bench.app, "#note")
        await pilot.press("alt+t")
        translated = bench.app.workbench.draft.prompt
        assert "(red)1.3" in translated and "withLora(pixel, 0.5)" in translated and "lora:" not in translated
        assert not parse(translated).problems
        await pilot.press("ctrl+z")
        assert bench.app.workbench.draft.prompt == "a (red:1.3) apple, [fog] <lora:pixel:0.5>"
        for text_of_compel in ("a plain cat", "cat++ (dog)0.8", '("a", "b").blend(1, 2)', "(cat)1.3"):
            bench.app.workbench.form.prompt.take(text_of_compel)
            await pilot.press("alt+t")
            assert "nothing here" in toasts(bench.app)
            assert bench.app.workbench.draft.prompt == text_of_compel


async def test_a_syntax_that_was_chosen_holds_and_its_translation_is_seen(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        write(bench, "a (red:1.3) apple, [fog]")
        await pilot.press("alt+u")
        await choose(bench, pilot, "a1111")
        await until(pilot, lambda: "prompt, translation: a (red)1.3 apple, (fog)0.909" in text(bench.app, "#note"))
        assert "syntax a1111" in text(bench.app, "#model-departs")
        assert not bench.app.workbench.form.weights.display, "its weights are written otherwise"
        await pilot.press("ctrl+g")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].prompt.startswith("a (red)1.3 apple") and "red:1.3" in bench.app.workbench.draft.prompt
        await pilot.press("alt+u")
        await choose(bench, pilot, "compel")
        await until(pilot, lambda: "looks like A1111" in text(bench.app, "#note"))
        assert bench.app.workbench.draft.syntax == ""


async def test_without_any_picture_a_line_says_so(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await pilot.press("alt+h")
        await until(pilot, lambda: "no prompt was used yet" in toasts(bench.app))


async def test_what_is_typed_ahead_of_a_list_goes_into_it(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        write(bench, "a cat")
        for key in ("alt+k", *"golden", "enter"):  # all at once, as a slow line delivers them
            bench.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: "golden hour" in bench.app.workbench.draft.prompt)
        assert bench.app.workbench.draft.prompt == "a cat, golden hour, low sun, long shadows"
        for key in ("alt+k", "escape"):
            bench.app.post_message(events.Key(key, None))
        await until(pilot, lambda: bench.app.screen is bench.app.workbench)
        await pilot.press("z")
        await until(pilot, lambda: bench.app.workbench.draft.prompt.endswith("z"))
