"""Words whose weight is an axis: what is typed, and what becomes of a prompt."""

from __future__ import annotations

import pytest

from engines import variants
from engines.errors import InvalidRequest
from engines.prompt import parse
from tui import weighing
from tui.weighing import Part


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("freckles=0.8,1,1.2", Part("freckles", ("0.8", "1", "1.2"))),
        (" soft  light = 1.20, 1.2 ,,2.", Part("soft light", ("1.2", "2"))),
        ("a=b=0", Part("a=b", ("0",))),
        ("a=-0,1e-9,10", Part("a", ("0", "10"))),
        ("a=0.33333", Part("a", ("0.3333",))),
    ],
)
def test_a_part_is_words_and_numbers(text: str, part: Part) -> None:
    assert weighing.read(text) == part and part.axis == f"weight of {part.words}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no words"),
        (" =1", "has no words"),
        ("a", "'a' is given no weights"),
        ("a= , ", "'a' is given no weights"),
        ("a=1,x", "must be a number, not 'x'"),
        ("a=10.1", "must be 0 to 10, not 10.1"),
        ("a=-1", "must be 0 to 10"),
        ("a=nan", "must be 0 to 10"),
        ("\x1b[31ma=x", r"the weight of '\[31ma'"),
    ],
)
def test_what_is_no_part_is_told(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as told:
        weighing.read(text)
    assert told.value.hint and told.value.field == "part" and "\n" not in told.value.message


@pytest.mark.parametrize(
    ("prompt", "words", "weight", "after"),
    [
        ("portrait, freckles, soft light", "freckles", "1.2", "portrait, (freckles)1.2, soft light"),
        ("portrait, freckles, soft light", "Soft light", "2", "portrait, freckles, (soft light)2.0"),
        ("soft\n light", "soft light", "0.1234", "(soft\n light)0.1234"),
        ("a red apple", "red", "1", "a red apple"),
        ("a (red)1.3 apple", "red", "0.8", "a (red)0.8 apple"),
        ("a (red)1.3 apple", "red", "1", "a red apple"),
        ("a red++ apple", "red", "0", "a (red)0.0 apple"),
        ('a "red apple"1.2', "red apple", "1.5", 'a "red apple"1.5'),
        ("a (red apple)1.2", "apple", "1.5", "a (red (apple)1.5)1.2"),
        ("((red)1.2 apple)0.0", "red", "1.1", "((red)1.1 apple)0.0"),
        ("red red", "red", "1.2", "(red)1.2 red"),
        ("reddish infrared blue-red red's red", "red", "1.2", "reddish infrared blue-red red's (red)1.2"),
        ("a blend, withLora(a-b, 0.5)", "blend", "1.2", "a (blend)1.2, withLora(a-b, 0.5)"),
        ('("a cat", "a dog").blend(.7, .3)', "dog", "1.2", '("a cat", "a (dog)1.2").blend(.7, .3)'),
        ("it is the end.", "end", "1.5", "it is the (end)1.5."),
        ("a {2::red|blue} 2 apple", "2", "1.2", "a {2::red|blue} (2)1.2 apple"),
        ("a {2$$ and $$red|blue} and apple", "and", "1.2", "a {2$$ and $$red|blue} (and)1.2 apple"),
        ("a {red|blue} apple", "{red|blue}", "1.2", "a ({red|blue})1.2 apple"),
        ("__animal__ animal", "animal", "1.2", "__animal__ (animal)1.2"),
        ("__animal__ here", "__animal__", "1.2", "(__animal__)1.2 here"),
    ],
)
def test_the_first_whole_words_outside_syntax_are_weighed(prompt: str, words: str, weight: str, after: str) -> None:
    assert weighing.weighed(prompt, [(words, weight)]) == after
    assert parse(after).plain == parse(prompt).plain, "a scorer reads the same text"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "red"),
        ("infrared", "red"),
        ("a (red)1.2 apple", "red apple"),
        ("a (red)1.2 apple", "1.2"),
        ('("a", "b").blend(1, 2)', "blend"),
        ("a cat.swap(dog)", "dog"),
        ("withLora(pixel)", "pixel"),
        ("a {red|blue} apple", "red|blue"),
        ("a {red|blue} apple", "blue} apple"),
        ("a {3::red|blue} apple", "3"),
        ("__animal__", "animal"),
    ],
)
def test_words_that_are_not_there_are_told(prompt: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match="is not in the prompt") as told:
        weighing.weighed(prompt, [(words, "1.2")])
    assert told.value.hint and told.value.field == "part"


def test_parts_may_lie_within_one_another_but_not_overlap() -> None:
    chosen = [("red", "1.2"), ("red apple", "0.8"), ("pie", "2")]
    assert weighing.weighed("red apple pie", chosen) == "((red)1.2 apple)0.8 (pie)2.0"
    with pytest.raises(InvalidRequest, match="'apple pie' runs into another part"):
        weighing.weighed("a red apple pie", [("apple pie", "1.2"), ("a red apple", "0.8")])


@pytest.mark.parametrize(
    ("prompt", "weight"), [("(a red b)9.0", "10"), ("dark{red|blue}", "2"), ("{dark|light}red", "2")]
)
def test_words_that_can_not_be_weighed_are_told(prompt: str, weight: str) -> None:
    with pytest.raises(InvalidRequest, match="'red' can't be weighed where it stands") as told:
        weighing.weighed(prompt, [("red", weight)])
    assert "safelight prompt" in told.value.hint


def test_a_weight_in_an_option_leaves_what_is_drawn_as_it_was() -> None:
    typed = "a {2::red|{dark|light} blue|green} {1-2$$ and $$cat|dog|bird} here"
    for words in ("red", "blue", "dog", "bird", "{dark|light}", "here"):
        weighed = weighing.weighed(typed, [(words, "1.3")])
        for seed in range(40):
            one, other = (parse(variants.expand(text, seed).text).plain.split() for text in (typed, weighed))
            assert one == other, (words, seed)


def test_no_length_of_a_prompt_takes_long() -> None:
    assert weighing.weighed("{" + " " * 20_000 + "red", [("red", "1.2")]).endswith("(red)1.2")
    assert weighing.weighed("{1 " * 6_000 + "red", [("red", "1.2")]).endswith("(red)1.2")
