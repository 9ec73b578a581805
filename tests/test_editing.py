"""Changes of weights in a text: every edit is read as it was meant."""

from __future__ import annotations

import random

import pytest

from engines import editing
from engines.prompt import MAX_WEIGHT, Emphasis, parse


def nudged(text: str, by: int = 1, signs: bool = False) -> str:
    """The text with a weight changed at the | or between two of them, which are taken out."""
    first = text.index("|")
    last = text.rindex("|")
    source = text.replace("|", "")
    start, end = first, (last - 1 if last > first else first)
    edit = editing.nudge(parse(source), start, end, by, signs)
    return edit.apply(source) if edit else source


@pytest.mark.parametrize(
    ("before", "by", "after"),
    [
        ("a |red apple", 1, "a (red)1.1 apple"),
        ("a red| apple", 1, "a (red)1.1 apple"),
        ("a r|ed apple", -1, "a (red)0.9 apple"),
        ("a |red apple| here", 1, "a (red apple)1.1 here"),
        ("a | red apple | here", 1, "a  (red apple)1.1  here"),
        ("a (re|d)1.1 apple", 1, "a (red)1.2 apple"),
        ("a (re|d)1.1 apple", -1, "a red apple"),
        ("a |(red)1.1| apple", -1, "a red apple"),
        ("a (red|)0.9 apple", 1, "a red apple"),
        ("a red++| apple", 1, "a (red)1.31 apple"),
        ('a "re|d apple"1.2 here', 1, 'a "red apple"1.3 here'),
        ("((a)1.2 |b)1.1", 1, "((a)1.2 b)1.2"),
        ("((|a)1.2 b)1.1", 1, "((a)1.3 b)1.1"),
        ("the cat|.", 1, "the (cat)1.1."),
        ("a blue-gr|een sea", 1, "a (blue-green)1.1 sea"),
        ("(x)10.0|", 1, "(x)10.0"),
        ("(x)0.0|", -1, "(x)0.0"),
        ("|", 1, ""),
        ("  |  ", 1, "    "),
        ("a, |, b", 1, "a, , b"),
        ("(a|.", 1, "( (a)1.1."),  # without the blank it would be one word of text
        ('("a c|at", "a dog").blend(0.5, 0.5)', 1, '("a (cat)1.1", "a dog").blend(0.5, 0.5)'),
        ("猫|が", 1, "(猫が)1.1"),
        ("an \\(od|d\\) thing", 1, "an (\\(odd\\))1.1 thing"),
    ],
)
def test_a_key_writes_numbers(before: str, by: int, after: str) -> None:
    assert nudged(before, by) == after


@pytest.mark.parametrize(
    ("before", "by", "after"),
    [
        ("a |red apple", 1, "a red+ apple"),
        ("a red+| apple", 1, "a red++ apple"),
        ("a red+| apple", -1, "a red apple"),
        ("a re|d apple", -1, "a red- apple"),
        ("a |red apple|", 1, "a (red apple)+"),
        ("a (red app|le)++", 1, "a (red apple)+++"),
        ("a (red)1.3| apple", 1, "a red++++ apple"),
        ("the cat|.", 1, "the cat+."),
    ],
)
def test_a_key_writes_signs(before: str, by: int, after: str) -> None:
    assert nudged(before, by, signs=True) == after


def test_a_slider_that_passes_one_keeps_its_brackets() -> None:
    prompt = parse("a (red)1.1 apple")
    edit = editing.weigh(prompt, prompt.emphases[0], 1.0)
    assert edit and edit.apply(prompt.text) == "a (red)1.0 apple"
    assert len(parse(edit.apply(prompt.text)).emphases) == 1


def test_a_word_with_signs_becomes_a_number_on_a_slider() -> None:
    prompt = parse("a red++ apple, blue")
    edit = editing.weigh(prompt, prompt.emphases[0], 0.35)
    assert edit and edit.apply(prompt.text) == "a (red)0.35 apple, blue"


@pytest.mark.parametrize("signs", ["+" * n for n in range(1, 13)] + ["-" * n for n in range(1, 13)] + ["1.255"])
def test_arrows_move_every_weight(signs: str) -> None:
    prompt = parse(f"a (cat){signs} b")
    for by in (0.05, -0.05, 0.25):
        wanted = max(0.0, prompt.emphases[0].weight + by)
        edit = editing.weigh(prompt, prompt.emphases[0], wanted)
        assert edit is not None
        assert parse(edit.apply(prompt.text)).emphases[0].weight == pytest.approx(wanted, abs=0.006)


def test_brackets_never_cross_the_bar_of_a_group() -> None:
    text = "{red car|blue} apple, {3::tall|small} tree"
    for place in range(len(text) + 1):
        edit = editing.nudge(parse(text), place, place, 1)
        if edit is not None:
            inside = text[slice(*edit.span)]
            assert not set("{}|:") & set(inside), inside
            assert edit.apply(text).count("(") == 1
    assert editing.nudge(parse(text), 1, 13, 1) is None, "a selection across the bar"


def test_muted_and_back_keeps_what_is_inside() -> None:
    prompt = parse("a ((red)1.2 apple)1.1 here")
    muted = editing.weigh(prompt, prompt.emphases[0], 0.0)
    assert muted and muted.apply(prompt.text) == "a ((red)1.2 apple)0.0 here"
    off = parse(muted.apply(prompt.text))
    back = editing.weigh(off, off.emphases[0], 1.1)
    assert back and back.apply(off.text) == prompt.text


@pytest.mark.parametrize(
    ("text", "place", "weight", "after"),
    [
        ('("a", "b").blend(.7, .3)', 1, 0.45, '("a", "b").blend(.7, 0.45)'),
        ('("a", "b").blend()', 0, 0.8, '("a", "b").blend(0.8, 1.0)'),
        ('("a", "b").blend(no_normalize)', 0, 0.8, '("a", "b").blend(0.8, 1.0, no_normalize)'),
        ('("a", "b", "c").and(1, 1, 1)', 2, 0.5, '("a", "b", "c").and(1, 1, 0.5)'),
        ('("a", "b").blend(1, -.5)', 1, -0.4, '("a", "b").blend(1, -0.4)'),
    ],
)
def test_a_ratio_is_written(text: str, place: int, weight: float, after: str) -> None:
    edit = editing.combine(parse(text), place, weight)
    assert edit is not None and edit.apply(text) == after


def test_ratios_that_can_not_be_used_are_not_written() -> None:
    text = '("a", "b").blend(1, 0.5)'
    assert editing.combine(parse(text), 1, -1.0) is None, "they would sum to 0"
    assert editing.combine(parse(text), 2, 1.0) is None
    assert editing.combine(parse("a cat"), 0, 1.0) is None


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("a cat withLora(pixel, 0.5)", "a cat withLora(pixel, 0.75)"),
        ("a cat withLora(pixel)", "a cat withLora(pixel, 0.75)"),
    ],
)
def test_a_lora_in_the_prompt_is_weighed(text: str, after: str) -> None:
    assert editing.weigh_lora(parse(text).loras[0], 0.75).apply(text) == after


@pytest.mark.parametrize("value", [0, -0.0, 0.1, 1, 1.005, 2.5, 10, -3, 0.004])
def test_a_number_is_read_back(value: float) -> None:
    text = editing.number(value)
    assert "." in text and not text.endswith(".") and abs(float(text) - value) <= 0.0051


def test_a_cursor_stays_beside_its_words() -> None:
    edit = editing.Edit((2, 5), "(red)1.1")
    assert [edit.moved(i) for i in (0, 2, 3, 5, 9)] == [0, 2, 3, 10, 14]
    shorter = editing.Edit((2, 10), "red")
    assert [shorter.moved(i) for i in (2, 4, 9, 10)] == [2, 4, 5, 5]


PIECES = ("red", "apple", "a", "(", ")", '"', ",", ".", "+", "-", " ", " ", "1.2", "0.5", "++", "--", "\\(", "\n", "猫",
          ".blend(", ".and(", "x.y", "it's", "withLora(p, 1)", ".swap(", "\\", "1", "!")  # fmt: skip


def test_whatever_is_typed_every_edit_is_read_as_it_was_meant() -> None:
    dice = random.Random(11)
    made = 0
    for _ in range(6000):
        text = "".join(dice.choice(PIECES) for _ in range(dice.randrange(1, 14)))
        start = dice.randrange(len(text) + 1)
        end = dice.choice((start, dice.randrange(len(text) + 1)))
        start, end = min(start, end), max(start, end)
        prompt, signs, by = parse(text), dice.random() < 0.5, dice.choice((1, -1))
        found = editing.target(prompt, start, end)
        edit = editing.nudge(prompt, start, end, by, signs)
        if edit is None:
            continue
        made += 1
        after = parse(edit.apply(text))
        assert "".join("".join(p.text.split()) for p in after.parts) == "".join(
            "".join(p.text.split()) for p in prompt.parts
        ), (text, edit)
        body = found.body if isinstance(found, Emphasis) else found
        assert body is not None
        inside = [p for p in prompt.parts if p.span[0] < body[1] and p.span[1] > body[0]]
        new = [p for p in after.parts if p.span[0] < edit.span[0] + len(edit.text) and p.span[1] > edit.span[0]]
        before, now = max(p.weight for p in inside), max(p.weight for p in new)
        was = found.weight if isinstance(found, Emphasis) else 1.0
        if was > 0 and before < MAX_WEIGHT > now:
            assert now == before or (now > before) == (by > 0), (text, start, end, edit)
    assert made > 2000


def test_a_long_text_is_edited_too() -> None:
    text = "a (red)1.1 apple, " * 600
    edit = editing.nudge(parse(text), 5000, 5000, 1)
    assert edit is not None and len(parse(edit.apply(text)).emphases) >= 600
