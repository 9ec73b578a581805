"""Names of LoRAs, embeddings and wildcards, offered while they are typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from driving import MEDIUM, WIDE, Bench, until
from fake_engine import COMMIT, catalogue
from textual import events
from textual.pilot import Pilot

from engines import folders, variants
from engines.catalogue import Catalogue
from engines.entries import Embedding, HubFile
from tui import completing
from tui.completing import Wish
from tui.draft import Draft
from tui.panes.fetching import FetchScreen
from tui.stock import NOTHING


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


@pytest.mark.parametrize(
    ("text", "kind", "typed", "start"),
    [
        ("a cat withLora(", "lora", "", 15),
        ("useLora( pix", "lora", "pix", 9),
        ("a <lora:pi", "a1111-lora", "pi", 8),
        ("a __ani", "wildcard", "ani", 4),
        ("__animals/big", "wildcard", "animals/big", 2),
        ("a <ni", "embedding", "ni", 2),
        ("in the ni", "embedding", "ni", 7),
        ("(ni", "embedding", "ni", 1),
    ],
)
def test_what_is_typed_at_the_end_of_a_text(text: str, kind: completing.Kind, typed: str, start: int) -> None:
    assert completing.wish(text, len(text)) == Wish(kind, typed, (start, len(text)), False)
    closed = {"lora": ")", "a1111-lora": ":0.8>", "wildcard": "__"}.get(kind, "")
    found = completing.wish(text + closed, len(text))
    assert found is not None and found.closed is bool(closed)


@pytest.mark.parametrize("text", ["", "a", "a cat, ", "a\nb", "(cat)1", "<lora:x:", "withLora(x) "])
def test_where_no_name_is_typed_none_is_wanted(text: str) -> None:
    assert completing.wish(text, len(text)) is None


@pytest.mark.parametrize("text", ["withLora(x, 0.8", "__animal__", "a__b", "<lora:x:0.5", "wit hLora"])
def test_a_bare_word_may_only_be_an_embeddings_name(text: str) -> None:
    found = completing.wish(text, len(text))
    assert found is not None and found.kind == "embedding"


def test_within_a_word_nothing_is_offered() -> None:
    assert completing.wish("night", 2) is None and completing.wish("night", 5) is not None


def test_a_long_text_is_not_read_from_its_beginning() -> None:
    text = "withLora(" + "x" * 1_000_000
    assert (
        completing.wish(text, len(text)) is not None
    )  # as a bare word's end; of the name's beginning it knows no more


def test_the_files_of_wildcards_by_their_names(tmp_path: Path) -> None:
    for name in ("animal.txt", "big/animal.txt", "notes.md", "__odd__.txt", ".hidden.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("cat\n")
    os.symlink(tmp_path, tmp_path / "circle")
    assert variants.available(tmp_path) == ("animal", "big/animal")
    assert all(variants.lines(tmp_path, name) == ("cat",) for name in variants.available(tmp_path))
    assert variants.available(tmp_path / "nowhere") == ()


# ── in the editor ───────────────────────────────────────────────────────────────────────────────────────────────────


async def type_in(bench: Bench, pilot: Pilot[None], words: str) -> None:
    bench.app.workbench.form.prompt.insert(words[:-1])
    await pilot.pause()
    key = {"_": "underscore", "(": "left_parenthesis", "<": "less_than_sign"}.get(words[-1], words[-1])
    await pilot.press(key)
    await until(pilot, lambda: bench.app.workbench.names.display)


def offered(bench: Bench) -> list[str]:
    return [offer.title for offer in bench.app.workbench.names.offers]


@pytest.mark.parametrize(
    ("typed", "names", "keys", "then"),
    [
        ("a cat withLora(p", ["pixel"], ["tab"], "a cat withLora(pixel)"),
        ("a cat withLora(", ["pixel", "glow"], ["down", "tab"], "a cat withLora(glow)"),
        ("a cat <lora:gl", ["glow"], ["tab"], "a cat <lora:glow:1>"),
        ("a cat at ni", ["night"], ["tab"], "a cat at night"),
        ("a cat at <ni", ["night"], ["down", "enter"], "a cat at night"),
        ("a __an", ["animal"], ["tab"], "a __animal__"),
        ("a __", ["animal", "places/far"], ["down", "down", "up", "tab"], "a __animal__"),
        ("a __far", ["places/far"], ["tab"], "a __places/far__"),
    ],
)
async def test_tab_writes_the_name_and_undo_takes_it_back(
    bench: Bench, typed: str, names: list[str], keys: list[str], then: str
) -> None:
    cards = folders.make(folders.find().wildcards / "places").parent
    (cards / "animal.txt").write_text("cat\n")
    (cards / "places" / "far.txt").write_text("the moon\n")
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        editor = bench.app.workbench.form.prompt
        await type_in(bench, pilot, typed)
        assert offered(bench) == names
        await pilot.press(*keys)
        await until(pilot, lambda: editor.text == then)
        assert editor.has_focus and not bench.app.workbench.names.display and not bench.made
        assert editor.place == len(then)
        await pilot.press("ctrl+z")
        await until(pilot, lambda: editor.text == typed)


async def test_escape_space_and_other_places_close_the_list(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        shown = bench.app.workbench.names
        for number, key in enumerate(("escape", "space", "left", "home", "f4")):
            bench.app.workbench.go("form", bench.app.workbench.form.prompt)
            bench.app.workbench.form.prompt.text = ""
            await type_in(bench, pilot, "at ni")
            await pilot.press(key)
            await until(pilot, lambda: not shown.display)
            assert "ni" in bench.app.workbench.form.prompt.text, number
        assert not bench.app.workbench._jobs.running


async def test_enter_makes_the_picture_though_a_list_is_open(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await type_in(bench, pilot, "at ni")
        await pilot.press("enter")
        await until(pilot, lambda: bench.made)
        assert bench.made[0].prompt == "at ni" and bench.app.workbench.form.prompt.text == "at ni"


async def test_what_is_whole_or_taken_over_by_the_form_opens_no_list(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        shown = bench.app.workbench.names
        await type_in(bench, pilot, "at nigh")
        await pilot.press("t")
        await until(pilot, lambda: not shown.display)
        bench.app.workbench.form.prompt.show("withLora(")
        await pilot.pause(0.1)
        assert not shown.display
        await type_in(bench, pilot, " withLora(")
        await pilot.press("alt+n")
        await until(pilot, lambda: not shown.display)


async def test_a_click_takes_the_name(bench: Bench) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await type_in(bench, pilot, "withLora(")
        await pilot.click("NameList", offset=(3, 2))
        await until(pilot, lambda: bench.app.workbench.form.prompt.text == "withLora(glow)")


async def test_the_list_stands_under_the_name_and_within_the_screen(bench: Bench) -> None:
    async with bench.app.run_test(size=MEDIUM) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await type_in(bench, pilot, "at the foot of it all, withLora(")
        shown, editor = bench.app.workbench.names.region, bench.app.workbench.form.prompt
        assert shown.y == editor.cursor_screen_offset.y + 1 and shown.x >= 0 and shown.right <= MEDIUM[0]
        assert shown.height == 4, "two names in a frame"


@pytest.mark.parametrize(
    ("typed", "keys", "then"),
    [
        ("at ni", ["g", "tab", "comma", "b"], "at night,b"),
        ("withLora(p", ["i", "tab", "comma", "space", "2"], "withLora(pixel),2"),
        ("withLora(p", ["i", "x"], "withLora(pix"),
        ("at ni", ["x", "tab"], "at nix"),
    ],
)
async def test_keys_that_come_together_are_taken_in_their_order(
    bench: Bench, typed: str, keys: list[str], then: str
) -> None:
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await type_in(bench, pilot, typed)
        letters = {"comma": ",", "space": " ", "tab": None}
        for key in keys:  # all before any of what they bring about is done
            bench.app.post_message(events.Key(key, letters.get(key, key)))
        editor = bench.app.workbench.form.prompt
        await until(pilot, lambda: editor.text.replace(" ", "") == then.replace(" ", ""))
        assert editor.place == len(editor.text)
        if keys[-1] == "x":
            assert offered(bench) == ["pixel"] and bench.app.workbench.names.display


async def test_an_embedding_that_is_not_here_is_asked_about(home: Path) -> None:
    known = catalogue(home)
    far = HubFile(f"fake/{home.name}", "far-away.safetensors", COMMIT, bytes=1000)
    known.embeddings["nightly"] = Embedding("nightly", "Nightly", "fake", far, "MIT")
    bench = Bench(home, known)
    async with bench.app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: bench.app.workbench.stocks.models)
        await type_in(bench, pilot, "at nightl")
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("escape", "ctrl+g")
        await until(pilot, lambda: isinstance(bench.app.screen, FetchScreen))
        await pilot.press("escape")
        assert bench.app.workbench.form.prompt.text == "at nightly" and not bench.made and not bench.pulled


def test_thousands_of_files_are_looked_through_once() -> None:
    known = tuple(f"file-{i}" for i in range(5_000))
    found = completing.offers(Wish("wildcard", "", (2, 2), False), Catalogue({}, {}, {}, {}), Draft(), NOTHING, known)
    assert [offer.title for offer in found] == list(known[: completing.MOST])
