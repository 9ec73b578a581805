"""Variants and wildcards: what is drawn, from which seed, and what stays text."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import variants
from engines.variants import MAX_LENGTH, Expansion, Wildcards, expand, find

SEEDS = range(300)


def drawn(text: str, wildcards: Wildcards | None = None) -> Counter[str]:
    """Every text that comes of it, and how often."""
    return Counter(expand(text, seed, wildcards).text for seed in SEEDS)


@pytest.fixture
def cards(tmp_path: Path) -> Wildcards:
    files = {
        "season": "# seasons\nsummer\n\n  {autumn|fall}  \nwinter\nspring\n",
        "flavour": "chocolate\nvanilla\nstrawberry",
        "animal/cat": "\ufefflion\r\ntiger\r\n",
        "animal": "__animal/cat__\ndog",
        "heavy": "9::oak\n1::ash",
        "one": "only",
        "loop": "a __loop__ b",
        "ping": "__pong__",
        "pong": "__ping__",
        "empty": "# nothing\n\n",
        "north_america": "Canadian",
        "odd": "a\x1b[31mb \u202ec",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
    return Wildcards(tmp_path)


# The cases that the dynamicprompts library documents, and what it says can come of each.
@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("{summer|autumn} is coming", {"summer is coming", "autumn is coming"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{2$$ and $$a|b|c}", {"a and b", "b and a", "a and c", "c and a", "b and c", "c and b"}),
        ("{1-2$$ and $$a|b}", {"a", "b", "a and b", "b and a"}),
        ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{1-$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{4$$a|b}", {"a, b", "b, a"}),
        ("{0$$a|b}", {""}),
        ("{0-1$$a|b}", {"", "a", "b"}),
        ("{1$$only}", {"only"}),
        ("{{a|b}|c} d", {"a d", "b d", "c d"}),
        ("{a|}x", {"ax", "x"}),
        ("{|a||b}", {"", "a", "b"}),
        ("{ red | light blue } x", {"red x", "light blue x"}),
        ("{\n red\n|blue\n}", {"red", "blue"}),
        ("{0::a|b}", {"b"}),
        ("{0::a|0::b}", {"a", "b"}),
        ("{2$$9::a|0::b|1::c}", {"a, c", "c, a"}),
        ("{2$$$$a|b}", {"ab", "ba"}),
        ("{2$$\\|$$a|b}", {"a|b", "b|a"}),
        ("({red|blue} apple)1.3", {"(red apple)1.3", "(blue apple)1.3"}),
        ("{a|{b}}", {"a", "{b}"}),
        ("{a {b|c}}", {"{a b}", "{a c}"}),
        ("__season__ is coming", {f"{x} is coming" for x in ("summer", "autumn", "fall", "winter", "spring")}),
        ("__animal__", {"lion", "tiger", "dog"}),
        ("__animal/cat__", {"lion", "tiger"}),
        ("{__animal/cat__|x}", {"lion", "tiger", "x"}),
        ("{2$$__animal/cat__}", {"lion, tiger", "tiger, lion"}),
        ("{3$$__one__}", {"only"}),
        ("{2$$__animal/cat__|__one__}", {"lion, only", "only, lion", "tiger, only", "only, tiger"}),
        ("__north_america__", {"Canadian"}),
        ("__one____one__", {"onlyonly"}),
    ],
)
def test_everything_that_can_be_drawn_is_drawn_and_nothing_else(
    text: str, possible: set[str], cards: Wildcards
) -> None:
    assert find(text)
    assert set(drawn(text, cards)) == possible
    assert expand(text, 1, cards).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "", "a cat", "{a}", "{}", "a } b { c", "{a|b", "a|b}", "a | b", "{a{b}c}", "$$", "{$$}", "{x$$a}", "__", "____",
        "__ a __", "a_b__c", "_a_", "{3::a}", "c\\(d\\)", "\\", "{{}}", "__é!__", "__../secret__", "__./season__",
        "__/etc/passwd__",
    ],
)  # fmt: skip
def test_what_has_no_variants_is_left_alone(text: str) -> None:
    assert not find(text)
    assert expand(text, 1) == Expansion(text, (), ())


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("\\{a\\|b\\}", "{a|b}"),
        ("{a\\|b|a\\|b}", "a|b"),
        ("\\{{c|c}\\}", "{c}"),
        ("\\\\{{c|c}", "\\{c"),
        ("{\\(|\\(}", "\\("),
        ("} {c|c}", "} c"),
        ("{a {c|c}", "{a c"),
        ("a | {c|c}", "a | c"),
        ("{$$a|$$a}", "$$a"),
    ],
)
def test_escapes_and_loose_braces(text: str, becomes: str) -> None:
    assert find(text) and expand(text, 1).text == becomes


def test_weights_are_relative() -> None:
    counts = drawn("{3::red|blue}")
    assert 190 <= counts["red"] <= 260
    counts = drawn("{0.5::a|0.5::b}")
    assert 110 <= counts["a"] <= 190
    firsts = Counter(text[0] for text in drawn("{2$$8::a|1::b|1::c}").elements())
    assert 200 <= firsts["a"] <= 280


def test_lines_may_have_weights(cards: Wildcards) -> None:
    assert drawn("__heavy__", cards)["oak"] > 240


def test_several_are_drawn_evenly() -> None:
    counts = drawn("{2$$a|b|c}")
    assert all(25 <= counts[text] <= 75 for text in counts)
    assert 110 <= sum(n for text, n in drawn("{1-2$$a|b|c}").items() if "," in text) <= 190


def test_a_seed_is_a_text_on_every_machine(cards: Wildcards) -> None:
    """In the order that the module tells: written out here with the generator alone."""
    text = "{a|b|c} {2$$1::x|1::y|1::z} {1-3$$p|q|r} {3::k|m} __flavour__"
    for seed in (0, 7, 2**63 - 1):
        rng = random.Random(seed)
        one = "abc"[int(rng.random() * 3)]
        keys = [rng.random() for _ in range(3)]
        two = ["xyz"[i] for i in sorted(range(3), key=lambda i: -keys[i])[:2]]
        count = 1 + int(rng.random() * 3)
        if count == 1:
            some = ["pqr"[int(rng.random() * 3)]]
        else:
            keys = [rng.random() for _ in range(3)]
            some = ["pqr"[i] for i in sorted(range(3), key=lambda i: -keys[i])[:count]]
        last = "k" if rng.random() * 4 < 3 else "m"
        line = ("chocolate", "vanilla", "strawberry")[int(rng.random() * 3)]
        assert expand(text, seed, cards).text == f"{one} {', '.join(two)} {', '.join(some)} {last} {line}"
    assert expand("a {red|blue|green} apple, {2$$x|y|z}", 7).text == "a red apple, y, x"


def test_places_are_kept(cards: Wildcards) -> None:
    text = "a {red|dark {blue|green}} __season__, {2$$x|y}"
    for seed in SEEDS:
        made = expand(text, seed, cards)
        for pick in made.picks:
            assert made.text[slice(*pick.output)] == pick.text
            assert text[pick.source[0]] in "{_" and text[pick.source[1] - 1] in "}_"
        sources = [pick.source for pick in made.picks]
        assert sources == sorted(sources) and len(sources) == (4 if "dark" in made.text else 3)
        assert made.picks[0].text in ("red", "dark blue", "dark green")


@pytest.mark.parametrize(
    ("text", "stays", "says"),
    [
        ("a __nothing__ b", "a __nothing__ b", "no wildcards/nothing.txt"),
        ("a {2$$__nothing__} b", "a __nothing__ b", "no wildcards/nothing.txt"),
        ("__empty__", "__empty__", "no wildcards/empty.txt"),
        ("__loop__", "a __loop__ b", "leads back to itself"),
        ("__ping__", "__ping__", "leads back to itself"),
        ("{1$$__ping__}", "__ping__", "leads back to itself"),
        ("__seas*__", "__seas*__", "no wildcards/seas*.txt"),
        ("__a//b__", "__a//b__", "no wildcards/"),
    ],
)
def test_what_cannot_be_drawn_stays_text_and_is_told(text: str, stays: str, says: str, cards: Wildcards) -> None:
    made = expand(text, 1, cards)
    assert made.text == stays
    (problem,) = made.problems
    assert says in problem.message and "\n" not in problem.message
    assert text[problem.span[0]] == "_" and text[problem.span[1] - 1] == "_"


def test_without_a_folder_wildcards_are_left_alone() -> None:
    assert expand("__season__ {a|a}", 1).text == "__season__ a"
    assert expand("__season__", 1).problems == ()
    assert variants.names("__a__ {__b/c__|x}") == ("a", "b/c")


def test_a_name_leads_to_no_file_outside_and_to_no_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "wildcards"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("x")
    os.mkfifo(folder / "pipe.txt")
    (folder / "folder.txt").mkdir()
    for name in ("../secret", "..", "/etc/passwd", "pipe", "folder", "a/../../secret", "x" * 5000):
        assert variants.lines(folder, name) == ()
    assert variants.lines(tmp_path / "none", "x") == ()


def test_control_characters_in_files_are_left_out(cards: Wildcards) -> None:
    assert expand("__odd__", 1, cards).text == "a[31mb c"


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(variants, "lines", lambda folder, name: asked.append(name) or ("x",))
    cards = Wildcards(tmp_path)
    for seed in range(5):
        assert expand("__a__ __a__", seed, cards).text == "x x"
    assert asked == ["a"]


def test_files_that_multiply_end(tmp_path: Path) -> None:
    for i in range(15):
        (tmp_path / f"w{i}.txt").write_text(f"__w{i + 1}__ __w{i + 1}__ __w{i + 1}__")
        (tmp_path / f"e{i}.txt").write_text(f"__e{i + 1}____e{i + 1}__")
        (tmp_path / f"d{i}.txt").write_text(f"__d{i + 1}__")
    (tmp_path / "w15.txt").write_text("word")
    (tmp_path / "e15.txt").write_text("{|}")
    for i in range(15, 20):
        (tmp_path / f"d{i}.txt").write_text(f"__d{i + 1}__")
    cards = Wildcards(tmp_path)
    made = expand("__w0__", 1, cards)
    assert len(made.text) <= MAX_LENGTH and any("left out" in problem.message for problem in made.problems)
    made = expand("__e0__", 1, cards)
    assert made.text == "" and any("10,000 choices" in problem.message for problem in made.problems)
    (problem,) = expand("__d0__", 1, cards).problems
    assert "16 files deep" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "{" * 10_000 + "a|b" + "}" * 10_000,
        "{a|" * 10_000 + "b" + "}" * 10_000,
        "{" * 10_000 + "a" + "|b}" * 10_000,
        "{" * 500_000,
        "{a|b}" * 30_000,
        "{|}" * 30_000,
        "{2$$" * 30_000 + "|}",
        "{" + "a|" * 60_000 + "}",
        "{9999$$" + "a|" * 30_000 + "}",
        "__a" * 30_000,
        "__" * 300_000,
        "{ " + " " * 500_000 + "|" + " " * 500_000 + "}",
        "{" + "1" * 500_000 + "::a|b}",
        "{2$$" + "$ " * 300_000 + "|}",
        "\\" * 500_000 + "{a|b}",
        "x" * 1_000_000 + "{a|b}",
        "\0\u202e{🐈|\ud800}e\u0301" * 1000,
    ],
    ids=lambda text: text[:10].encode("unicode_escape").decode(),
)
def test_deep_and_long_texts(text: str, cards: Wildcards) -> None:
    made = expand(text, 1, cards)
    assert len(made.text) <= MAX_LENGTH or not find(text)
    assert len(made.problems) < 5_000


BITS = st.sampled_from(
    [*"{}|\\$_:-., a1\n", "{", "}", "|", "$$", "2$$", "1-2$$", "::", "3::", "__season__", "__x__", "\\{", " and ", "🐈"]
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(BITS, max_size=25).map("".join), st.integers(0, 2**63 - 1))
def test_any_text_is_drawn(text: str, seed: int) -> None:
    made = expand(text, seed)
    assert made == expand(text, seed) and made.problems == ()
    assert (made.text == text) or find(text)
    for pick in made.picks:
        assert made.text[slice(*pick.output)] == pick.text and text[pick.source[0]] == "{"
    if made.picks:
        # what is not drawn stands there as it was typed, but for escapes
        head = re.sub(r"\\([{}|])", r"\1", text[: made.picks[0].source[0]])
        assert made.text.startswith(head)


@pytest.mark.parametrize(
    ("text", "places"),
    [("{a|b", [0]), ("x {a|{b|c} y", [2]), ("{a} {b|c}", []), ("{a", []), ("\\{a|b", []), ("{a|b}|c {d|", [8])],
)
def test_a_brace_that_nothing_closes_is_told(text: str, places: list[int]) -> None:
    assert [problem.span[0] for problem in variants.unclosed(text)] == places
